"""Many prompts one after the other, so that the instance always has the next in its queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable

    from comfyclient.job import Job

__all__ = ["run_ahead"]

_T = TypeVar("_T")


async def run_ahead(
    items: Iterable[_T] | AsyncIterable[_T],
    submit: Callable[[_T], Awaitable[Job]],
    *,
    ahead: int,
    queued: Callable[[Job], None] | None,
) -> AsyncGenerator[Job, None]:
    """Submit the items in order, at most ``ahead`` unfinished at a time, and yield each job when it has ended.

    Raises:
        Exception: What `submit`, ``queued`` or ``items`` raised. What was queued before has ended and was yielded by
            then.
    """
    over: asyncio.Queue[Job | None] = asyncio.Queue()
    room = asyncio.Semaphore(max(1, ahead))

    async def follow(job: Job) -> None:
        await job.wait()
        room.release()
        over.put_nowait(job)

    async def pump() -> Exception | None:
        async with asyncio.TaskGroup() as followers:
            try:
                async for item in _each(items):
                    await room.acquire()
                    job = await submit(item)
                    followers.create_task(follow(job))
                    if queued is not None:
                        queued(job)
            except Exception as error:  # noqa: BLE001 - raised below, when the jobs before it are over
                return error
        return None

    task = asyncio.create_task(pump(), name="comfyclient-ahead")
    task.add_done_callback(lambda _: over.put_nowait(None))
    try:
        while (job := await over.get()) is not None:
            yield job
        if (error := await task) is not None:
            raise error
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _each(items: Iterable[_T] | AsyncIterable[_T]) -> AsyncIterator[_T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
