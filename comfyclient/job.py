"""A job as its user holds it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from comfyclient.errors import JobCancelled, JobFailed, JobLost, OutcomeUnknown, OutOfMemory
from comfyclient.result import Result
from comfyclient.wire.records import HistoryRecord, JobState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from comfyclient.cancelling import Canceller
    from comfyclient.errors import Problem
    from comfyclient.following import Following
    from comfyclient.recording import JobRecording
    from comfyclient.transfer import Transfers
    from comfyclient.wire.events import JobEvent
    from comfyclient.wire.progress import JobProgress
    from comfyclient.workflow.prompt import ConversionWarning, Prompt

__all__ = ["Instance", "Job"]

_NO_MEMORY: Final = frozenset({"OutOfMemoryError", "OOMError"})  # torch's, and Comfy Cloud's


@dataclass(frozen=True, slots=True)
class Instance:
    """What a job needs of the client that queued it."""

    canceller: Canceller
    transfers: Transfers


class Job:
    """A prompt that is queued. It is followed until it ends, whether anybody waits for it or not.

    Attributes:
        prompt: What was sent.
        seeds: The seeds it was sent with, by address: ``{"3.seed": 42}``.
        warnings: What the conversion had to say, and outputs that the server dropped because they cannot run: a job
            with such problems runs, but not all of it.
        recording: What is written of it in the client's journal, if that has one and the job is in it.
    """

    def __init__(
        self,
        instance: Instance,
        following: Following,
        prompt: Prompt,
        *,
        seeds: Mapping[str, int] | None = None,
        warnings: Iterable[Problem | ConversionWarning] = (),
        recording: JobRecording | None = None,
    ) -> None:
        self._instance = instance
        self._following = following
        self.recording = recording
        self.prompt = prompt
        self.seeds = dict(seeds or {})
        self.warnings = tuple(warnings)

    @property
    def id(self) -> str:
        """The prompt_id. It changes if the job is submitted once more: see ``resubmit`` of `ComfyClient.submit`."""
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

        Who begins late is told where it is first. A slow reader misses no change of state; of progress and pictures it
        gets the latest only, and once it is 20 000 events and files behind, no more of those that follow. The job's
        result names all files in any case.

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
            JobFailed: A node raised (OutOfMemory: because the instance has too little).
            JobCancelled: It was interrupted, or taken off the queue by this client.
            JobLost: The server no longer knows it.
            OutcomeUnknown: ``timeout`` passed, or the server could not be asked for too long.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._following.wait()
        except TimeoutError:
            where = f"job {self.id} is still {self.state} after {timeout:g} s"
            stalled = self._following.tracker.stalled
            raise OutcomeUnknown(
                f"{where}: {stalled.reason}" if stalled is not None else where, prompt_id=self.id
            ) from None
        record = self._following.tracker.record
        if record is None or record.state is not JobState.SUCCEEDED:
            raise self._error(record)
        return Result(self._instance.transfers, record, self.prompt, self.seeds, self.recording)

    async def cancel(self) -> JobState:
        """Take it off the queue, or interrupt it if it runs; `result` then tells how it ended.

        Returns:
            CANCELLED if it had not begun, RUNNING if it was told to stop (it may yet succeed), PENDING if it waits
            still because the command had no effect, its state if it had ended.
        """
        if self._following.over:
            return self.state
        return await self._instance.canceller.cancel(self.id)

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
        kind = OutOfMemory if error.exception_type.rpartition(".")[2] in _NO_MEMORY else JobFailed
        return kind(
            f"node {error.node_id} ({title}) raised {error.exception_type}: {error.exception_message}",
            prompt_id=self.id,
            node_id=error.node_id,
            class_type=error.node_type,
            exception_type=error.exception_type,
            traceback=error.traceback,
        )
