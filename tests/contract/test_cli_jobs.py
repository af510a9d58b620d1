"""The jobs of an instance, which go on while they are listed."""

import asyncio

import pytest

from comfyclient import ComfyClient, JobState
from comfyclient.emulator import Emulator

from ..cli_support import make_app, run  # noqa: TID252
from .prompts import failing, picture
from .proxy import Proxy


class Slow(Proxy):
    """Between the queue, which was read, and the history, something happens."""

    meanwhile = None

    async def _handle(self, request):
        if request.path == "/history" and self.meanwhile is not None:
            await self.meanwhile()
        return await super()._handle(request)


@pytest.mark.parametrize(
    ("prompt", "state"), [(picture, JobState.SUCCEEDED), (failing, JobState.FAILED)], ids=["succeeds", "fails"]
)
@pytest.mark.parametrize("waits", [True, False])
async def test_a_job_that_ends_while_they_are_listed_is_there_once_as_it_ended(tmp_path, prompt, state, waits):
    async with Emulator() as emulator, Slow(emulator.url) as proxy, ComfyClient(emulator.url) as comfy:
        hold = emulator.faults.hold()
        jobs = [await comfy.submit(prompt()) for _ in range(3 if waits else 1)]

        async def end():
            hold.release()
            await asyncio.gather(*(job.wait() for job in jobs))

        proxy.meanwhile = end
        async with ComfyClient(proxy.url) as other:
            found = await other.jobs()
        assert [(job.id, job.state) for job in found] == [(job.id, state) for job in reversed(jobs)]


async def test_the_command_lists_it_once(tmp_path):
    async with Emulator() as emulator, Slow(emulator.url) as proxy, ComfyClient(emulator.url) as comfy:
        hold = emulator.faults.hold()
        job = await comfy.submit(picture())

        async def end():
            hold.release()
            await job.wait()

        proxy.meanwhile = end
        found = await asyncio.to_thread(run, make_app(tmp_path), "jobs", "list", "--json", "--url", proxy.url)
        assert [(listed["id"], listed["state"]) for listed in found.json] == [(job.id, "succeeded")]
        assert found.json[0]["ended"] is not None
