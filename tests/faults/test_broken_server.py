"""Servers that restart, stand still, lose their worker, or are held up: what becomes of the jobs there.

They run on an emulator, and on a real ComfyUI that may be broken: see `stand.py`.
"""

import asyncio
import json
import os

import pytest

from comfyclient import (
    ComfyClient,
    JobCancelled,
    JobFailed,
    JobLost,
    JobState,
    NodeStarted,
    OutcomeUnknown,
    OutOfMemory,
    OutputReady,
    Prompt,
    Resubmitted,
    Stalled,
)
from comfyclient.wire.events import Finished

from ..contract.prompts import image, picture, save  # noqa: TID252
from .following import client, connected, connected_by_a_job, everything, first
from .http_toxics import Answer
from .proxy import FaultProxy
from .stand import EmulatorStand, RealStand


@pytest.fixture
async def stand():
    url = os.environ.get("COMFYCLIENT_TEST_URL")
    async with RealStand(url.rstrip("/")) if url else EmulatorStand() as server:
        yield server


@pytest.fixture
async def faults(stand, fault_seed):
    """A `FaultProxy` before the server that may be broken."""
    async with FaultProxy(stand.url, seed=fault_seed) as proxy:
        yield proxy


# 16: all sockets of the server are silent


async def test_somebody_else_who_does_not_read_holds_up_no_job(faults, stand):
    """A server sends to one after the other and waits for each: all its sockets are silent until that one reads."""
    async with client(faults) as comfy:
        await connected_by_a_job(comfy)
        await stand.stall_publisher()
        for _ in range(2):
            assert (await (await comfy.submit(picture())).result(60)).outputs
        while not comfy._watcher.deaf:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        await stand.resume_publisher()
        await faults.book.until(lambda: faults.book.sockets > 1)
        await connected(comfy)
        job = await comfy.submit(picture())
        assert await first(job, OutputReady)
        await job.wait()


# 25: nothing answers for a while


async def test_a_server_that_is_held_up_for_long(faults, stand):
    """Nothing answers, and nothing is broken: the job runs, and nobody reconnects."""
    async with client(faults, timeout=0.2, patience=3600) as comfy:
        await connected_by_a_job(comfy)
        hold = await stand.hold("SaveImage")
        job = await comfy.submit(picture())
        await hold.reached()
        await first(job, NodeStarted)
        blocked = asyncio.create_task(stand.block(3))
        for _ in range(4):
            comfy._watcher.look_soon(comfy._watcher.get(job.id))
            before = faults.book.count("GET", "/queue")
            await faults.book.until(lambda before=before: faults.book.count("GET", "/queue") > before)
        assert not blocked.done()
        assert job.state is JobState.RUNNING
        await blocked
        await hold.release()
        assert (await job.result(60)).outputs
    assert faults.book.sockets == 1


# 27: the server has forgotten


async def test_a_server_that_restarts_has_lost_its_jobs(faults, stand):
    async with client(faults) as comfy:
        hold = await stand.hold("SaveImage")
        jobs = [await comfy.submit(picture()) for _ in range(3)]
        await hold.reached()
        await stand.restart()
        for job in jobs:
            with pytest.raises(JobLost) as caught:
                await job.result(60)
            assert caught.value.prompt_id == job.id
            assert job.state is JobState.LOST
    assert len(faults.book.posts) == 3


async def test_what_is_lost_is_submitted_once_more_if_so_wished(faults, stand):
    async with client(faults) as comfy:
        hold = await stand.hold("SaveImage")
        job = await comfy.queue(picture(), check=False, resubmit="lost")
        told = asyncio.create_task(everything(job))
        before = job.id
        await hold.reached()
        await first(job, NodeStarted)
        await stand.restart()
        result = await job.result(60)
        assert job.id != before
        assert result.prompt_id == job.id
        assert await result.outputs[0].read()
        kinds = [type(event) for event in await told]
        assert kinds.count(Resubmitted) == kinds.count(Finished) == 1
        after = (await told)[kinds.index(Resubmitted) :]
        assert after[0] == Resubmitted(job.id, before)
        assert {event.prompt_id for event in after} == {job.id}
        assert job.progress.value == 1.0
        assert [found.id for found in await comfy.jobs()] == [job.id]
    assert [post.prompt_id for post in faults.book.posts] == [before, job.id]
    assert [post.forwarded for post in faults.book.posts] == [1, 1]


async def test_what_is_refused_the_second_time_is_lost(faults, stand):
    async with client(faults) as comfy:
        hold = await stand.hold("SaveImage")
        job = await comfy.submit(picture(), resubmit="lost")
        await hold.reached()
        refusal = {"error": {"type": "prompt_no_outputs", "message": "no outputs"}, "node_errors": {}}
        faults.on("POST", "/prompt", Answer(400, {"Content-Type": "application/json"}, json.dumps(refusal)))
        await stand.restart()
        with pytest.raises(JobLost, match="no outputs"):
            await job.result(60)
    assert len(faults.book.posts) == 2


async def test_of_many_that_are_lost_each_is_submitted_once(faults, stand):
    async with client(faults) as comfy:
        hold = await stand.hold("EmptyImage")
        jobs = [await comfy.submit(picture(), resubmit="lost") for _ in range(20)]
        before = [job.id for job in jobs]
        await hold.reached()
        await stand.restart()
        names = {(await job.result(60)).outputs[0].filename for job in jobs}
        assert len(names) == 20
        assert not {job.id for job in jobs} & set(before)
    assert len(faults.book.posts) == 40


# 29: a worker that has died


@pytest.mark.parametrize("waits", [False, True])
async def test_a_worker_that_is_dead(faults, stand, waits):
    """The server answers as if it ran."""
    async with client(faults, stall_timeout=0.4) as comfy:
        hold = await stand.hold("SaveImage")
        running = await comfy.submit(picture())
        job = await comfy.submit(picture()) if waits else running
        await hold.reached()
        await stand.wedge()
        told = await first(job, Stalled)
        assert "restart ComfyUI" in told.reason
        assert told.since >= 0.4
        assert job.state is JobState.STALLED
        with pytest.raises(OutcomeUnknown, match="restart ComfyUI"):
            await job.result(0.01)
        assert [type(event) for event in job._following.tracker.situation()][-1] is Stalled
        await stand.restart()
        assert await job.wait() is JobState.LOST
        await running.wait()


# 30: four ends


def through(class_type, *inputs):
    """A picture that goes through a node of that class."""
    node = {"class_type": class_type, "inputs": {name: ["1", 0] for name in inputs}}
    return Prompt({"1": image(), "2": node, "3": save("2")})


async def test_four_bad_ends(faults, stand):
    """Deleted by another, interrupted, out of memory, an error: four different things."""
    async with client(faults) as comfy, ComfyClient(stand.url) as other:
        await stand.fail("ImageInvert", "memory")
        await stand.fail("ImageBatch", "value")
        hold = await stand.hold("EmptyImage")
        interrupted = await comfy.submit(picture())
        deleted = await comfy.submit(picture())
        memory = await comfy.submit(through("ImageInvert", "image"))
        error = await comfy.submit(through("ImageBatch", "image1", "image2"))
        await hold.reached()
        assert await other.cancel(deleted.id) is JobState.CANCELLED
        assert await other.cancel(interrupted.id) is JobState.RUNNING
        await hold.release()
        with pytest.raises(JobCancelled):
            await interrupted.result(60)
        with pytest.raises(OutOfMemory) as caught:
            await memory.result(60)
        assert (caught.value.node_id, caught.value.exception_type) == ("2", "torch.OutOfMemoryError")
        with pytest.raises(JobFailed) as caught:
            await error.result(60)
        assert not isinstance(caught.value, OutOfMemory)
        assert (caught.value.node_id, caught.value.exception_type) == ("2", "ValueError")
        with pytest.raises(JobLost):
            await deleted.result(60)
