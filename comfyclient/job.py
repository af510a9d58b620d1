"""A job as its user holds it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfyclient.errors import JobCancelled, JobFailed, JobLost, OutcomeUnknown
from comfyclient.queueing import cancel
from comfyclient.result import Result
from comfyclient.wire.records import HistoryRecord, JobState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from comfyclient._http import Http
    from comfyclient.errors import Problem
    from comfyclient.following import Following
    from comfyclient.transfer import Transfers
    from comfyclient.watch import Watcher
    from comfyclient.wire.events import JobEvent
    from comfyclient.wire.progress import JobProgress
    from comfyclient.workflow.prompt import ConversionWarning, Prompt

__all__ = ["Instance", "Job"]


@dataclass(frozen=True, slots=True)
class Instance:
    """What a job needs of the client that queued it."""

    http: Http
    watcher: Watcher
    transfers: Transfers


class Job:
    """A prompt that is queued. It is followed until it ends, whether anybody waits for it or not.

    Attributes:
        prompt: What was sent.
        seeds: The seeds it was sent with, by address: ``{"3.seed": 42}``.
        warnings: What the conversion had to say, and outputs that the server dropped because they cannot run: a job
            with such problems runs, but not all of it.
    """

    def __init__(
        self,
        instance: Instance,
        following: Following,
        prompt: Prompt,
        *,
        seeds: Mapping[str, int] | None = None,
        warnings: Iterable[Problem | ConversionWarning] = (),
    ) -> None:
        self._instance = instance
        self._following = following
        self.prompt = prompt
        self.seeds = dict(seeds or {})
        self.warnings = tuple(warnings)

    @property
    def id(self) -> str:
        """The prompt_id."""
        return self._following.tracker.prompt_id

    @property
    def state(self) -> JobState:
        """Where it is, as far as this client knows."""
        return self._following.tracker.state

    @property
    def progress(self) -> JobProgress:
        """How far it is. Cheap; ask as often as you like."""
        return self._following.progress

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.state}>"

    async def events(self, *, previews: bool = False) -> AsyncIterator[JobEvent]:
        """What happens to it, until its end; then the last event is `Finished`.

        Who begins late is told where it is first. A slow reader misses no change of state and no output, but of
        progress and pictures gets the latest only.

        Args:
            previews: Also pictures of what is unfinished. The job must have been queued with ``previews=True``.
        """
        feed = self._following.subscribe(previews=previews)
        try:
            async for event in feed.drain():
                yield event
        finally:
            self._following.unsubscribe(feed)

    async def wait(self) -> JobState:
        """Wait for its end, however it ends, and say how. See `result` for the outcome itself."""
        await self._following.ended.wait()
        return self.state

    async def result(self, timeout: float | None = None) -> Result:  # noqa: ASYNC109 - part of the public API
        """Wait for its end, as the server's record tells it.

        Args:
            timeout: Seconds to wait. When they have passed, the job goes on, and so does this client's following.

        Raises:
            JobFailed: A node raised.
            JobCancelled: It was interrupted, or taken off the queue by this client.
            JobLost: The server no longer knows it.
            OutcomeUnknown: ``timeout`` passed, or the server could not be asked for too long.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._following.wait()
        except TimeoutError:
            where = f"job {self.id} is still {self.state} after {timeout:g} s"
            raise OutcomeUnknown(where, prompt_id=self.id) from None
        record = self._following.tracker.record
        if record is None or record.state is not JobState.SUCCEEDED:
            raise self._error(record)
        return Result(self._instance.transfers, record, self.prompt, self.seeds)

    async def cancel(self) -> JobState:
        """Take it off the queue, or interrupt it if it runs; `result` then tells how it ended.

        Returns:
            CANCELLED if it had not begun, RUNNING if it was told to stop (it may yet succeed), PENDING if it waits
            still because the command had no effect, its state if it had ended.
        """
        if self._following.over:
            return self.state
        return await cancel(self._instance.http, self._instance.watcher, self.id)

    def _error(self, record: HistoryRecord | None) -> Exception:
        state, reason = self.state, self._following.tracker.reason
        if state is JobState.CANCELLED:
            return JobCancelled(f"job {self.id} was cancelled" + (f": {reason}" if reason else ""), prompt_id=self.id)
        if state is JobState.LOST:
            return JobLost(f"job {self.id}: {reason}", prompt_id=self.id)
        if state is JobState.UNKNOWN:
            return OutcomeUnknown(f"job {self.id}: {reason}", prompt_id=self.id)
        return self._failure(record)

    def _failure(self, record: HistoryRecord | None) -> JobFailed:
        error = record.error if record is not None else None
        if error is None:
            return JobFailed(f"job {self.id} failed, and the server does not say why", prompt_id=self.id)
        title = self.prompt.title(error.node_id or "") or error.node_type or "?"
        return JobFailed(
            f"node {error.node_id} ({title}) raised {error.exception_type}: {error.exception_message}",
            prompt_id=self.id,
            node_id=error.node_id,
            class_type=error.node_type,
            exception_type=error.exception_type,
            traceback=error.traceback,
        )
