"""Records, ids and names that no ComfyUI would give: they concern the job that has them, and no other."""

import asyncio
import json
import uuid

import pytest

from comfyclient import JobLost, JobState, ProtocolError, WorkflowError

from ..contract.prompts import picture  # noqa: TID252
from .following import client
from .http_toxics import Answer, Lose

HALF = "evil\ud800"  # half a character: JSON can hold it, no request can
JSON = {"Content-Type": "application/json"}


def answer(value):
    return Answer(200, JSON, json.dumps(value))


async def test_a_job_whose_record_makes_no_sense_is_there_all_the_same(proxied):
    """The answer to its submission got lost."""
    prompt_id = str(uuid.uuid4())
    proxied.on("GET", "/ws", Answer(403, {}, ""), times=None)
    async with client(proxied, timeout=2) as comfy:
        await (await comfy.submit(picture())).result(60)
        proxied.on("POST", "/prompt", Lose())
        proxied.on("GET", "/queue", answer({"queue_running": [], "queue_pending": []}), times=None)
        proxied.on("GET", "/history", answer({prompt_id: {"prompt": {"odd": 1}}}), times=None)
        job = await comfy.submit(picture(), prompt_id=prompt_id)
        assert job.id == prompt_id
        with pytest.raises(ProtocolError, match="an entry's prompt"):
            await job.result(60)
    assert len(proxied.book.posts) == 2


@pytest.mark.parametrize("path", ["/queue", "/history"])
async def test_an_id_that_cannot_be_sent_is_not_listed(proxied, path):
    odd = [1, HALF, {}, {}, []]
    lists = {"/queue": {"queue_running": [], "queue_pending": [odd]}, "/history": {HALF: {"prompt": odd}}}
    async with client(proxied) as comfy:
        good = await comfy.submit(picture())
        await good.result(60)
        proxied.on("GET", path, answer(lists[path]), times=None)
        assert HALF not in [found.id for found in await comfy.jobs()]


@pytest.mark.parametrize("prompt_id", [HALF, ""])
async def test_a_job_of_such_an_id_cannot_be_taken_up(proxied, prompt_id):
    async with client(proxied) as comfy:
        with pytest.raises(JobLost) as caught:
            await comfy.job(prompt_id)
        assert str(caught.value).isprintable()
    assert not proxied.book.requests


async def test_a_saved_workflow_of_such_a_name_is_not_listed_and_not_there(proxied):
    listed = [{"path": name, "size": 1, "modified": 1} for name in (f"{HALF}.json", "good.json")]
    proxied.on("GET", "/userdata", answer(listed))
    async with client(proxied) as comfy:
        assert [saved.path for saved in await comfy.saved_workflows()] == ["good.json"]
        with pytest.raises(WorkflowError) as caught:
            await comfy.saved_workflow(f"{HALF}.json")
        assert str(caught.value).isprintable()


async def test_a_proxy_that_has_nothing_at_a_path_loses_no_job(proxied, emulator):
    """Its 404 looks like that of a server that knows all of its jobs."""
    async with client(proxied, patience=1.0) as comfy:
        hold = emulator.faults.hold()
        job = await comfy.submit(picture(), resubmit="lost")
        await hold.reached()
        proxied.on("GET", "/queue", Answer(500, {}, ""), times=None)
        proxied.on("GET", "/api/jobs", Answer(404, JSON, '{"error": "no such path"}'), times=None)
        proxied.drop_sockets()
        proxied.on("GET", "/ws", Answer(403, {}, ""), times=None)
        assert await asyncio.wait_for(job.wait(), 60) is JobState.UNKNOWN
        hold.release()
    assert len(proxied.book.posts) == 1
