"""For tests of following: a client that leaves nothing behind, and what its jobs tell."""

import asyncio
import contextlib

from comfyclient import ComfyClient

from ..contract.prompts import picture  # noqa: TID252
from .frames import Swallow
from .submitting import following, tasks


@contextlib.asynccontextmanager
async def client(proxy, **options):
    """A client that polls often, and leaves nothing behind."""
    async with ComfyClient(proxy.url, **{"poll_interval": 0.1, **options}) as comfy:
        yield comfy
        assert following(comfy) == []
    assert tasks() == []


async def connected(comfy):
    """Wait until its events arrive."""
    while not comfy.connected:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)


async def first(job, kind, node=None):
    """Wait for an event, of that node."""
    async with contextlib.aclosing(job.events()) as events:
        async for event in events:
            if isinstance(event, kind) and node in {None, getattr(event, "node_id", None)}:
                return event
    raise AssertionError(f"{job} ended without {kind}")


def listening(job, kind):
    """Wait for an event from now on, meanwhile."""
    feed = job._following.subscribe(previews=False)  # at once, not when the task begins

    async def wait():
        try:
            async for event in feed.drain():
                if isinstance(event, kind):
                    return event
        finally:
            job._following.unsubscribe(feed)
        raise AssertionError(f"{job} ended without {kind}")

    return asyncio.create_task(wait())


def heard(proxy):
    """The messages of websockets, as they pass through a proxy from now on."""
    seen = []
    proxy.on_message(Swallow(), lambda message: seen.append(message.json) and False, times=None)
    return seen


async def connected_by_a_job(comfy):
    """Let one come to its end, and its messages arrive."""
    await (await comfy.submit(picture())).result(60)
    await connected(comfy)


async def everything(job, **options):
    """All of its events."""
    return [event async for event in job.events(**options)]
