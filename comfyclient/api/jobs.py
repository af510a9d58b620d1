"""The jobs that the REST API has queued: remembered, followed to their end, and found again after a restart."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from comfyclient._redact import RedactingFilter
from comfyclient.api.errors import not_found
from comfyclient.api.events import EventLog
from comfyclient.errors import ComfyClientError
from comfyclient.wire.records import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from comfyclient.job import Job
    from comfyclient.result import Result
    from comfyclient.wire.outputs import OutputRef, TextOutput
    from comfyclient.wire.progress import JobProgress

__all__ = ["REFUSED", "JobBook", "JobRecord", "Made", "Output"]

REFUSED: Final = "refused"
"""The state of a job that was never queued, though it had been promised."""
_ENDS: Final = frozenset({"succeeded", "failed", "cancelled", "lost", REFUSED})

_log = logging.getLogger("comfyclient.api")
_log.addFilter(RedactingFilter())


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a job produced, and the node that made it."""

    ref: OutputRef
    title: str
    class_type: str


@dataclass(frozen=True, slots=True)
class Made:
    """What a job has produced."""

    files: tuple[Output, ...]
    texts: tuple[TextOutput, ...]

    @property
    def is_small(self) -> bool:
        """Whether it can be kept for thousands of jobs; an instance may say anything."""
        return len(self.files) <= 1000 and len(self.texts) <= 1000 and sum(len(one.text) for one in self.texts) < 2**18


class JobRecord:
    """A job as the server remembers it.

    Attributes:
        id: Its name here, which stays; ``prompt_id`` is that on the instance now.
        owner: The name of the key that queued it.
        session_id: The session that queued it; ``follower``: the one that follows it, which may be a later one.
        url: The instance.
        workflow: The workflow's name.
        created: In seconds since 1970; ``ended`` likewise.
        job: What follows it; ``None`` while nobody can ask.
        error: Why it has not succeeded, as data.
        made: What it has produced; ``None`` while that is not known here, or if it is too much to be kept.
        progress: How far it was when it was looked at last.
        webhook: Where its end is posted.
        told: What became of that.
        ambiguous: Whether nobody can say if it was queued.
        unexplained: Whether the instance knows better why it has failed.
        resubmit: Whether whoever follows it from its start queues it once more if the instance loses it.
        log: Its events.
    """

    def __init__(
        self,
        prompt_id: str,
        *,
        owner: str,
        session_id: str,
        url: str,
        workflow: str | None = None,
        webhook: str | None = None,
        created: float | None = None,
    ) -> None:
        self.id = prompt_id
        self.owner, self.session_id, self.url, self.workflow = owner, session_id, url, workflow
        self.follower = session_id
        self.webhook, self.told = webhook, None if webhook is None else "waits for the end of the job"
        self.created = time.time() if created is None else created
        self.ended: float | None = None
        self.job: Job | None = None
        self.made: Made | None = None
        self.progress: JobProgress | None = None
        self.error: dict[str, Any] | None = None
        self.ambiguous = self.unexplained = self.resubmit = False
        self.seeds: dict[str, int] = {}
        self.warnings: list[str] = []
        self.log = EventLog()
        self._prompt_id = prompt_id
        self._state: str = JobState.UNKNOWN
        self.task: asyncio.Task[None] | None = None

    @property
    def prompt_id(self) -> str:
        """Its id on the instance."""
        return self.job.id if self.job is not None else self._prompt_id

    @property
    def state(self) -> str:
        """One of `JobState`, or ``"refused"``."""
        return str(self.job.state) if self.job is not None else self._state

    @property
    def over(self) -> bool:
        """Whether it has ended, by the instance's record, and what it made is known as far as it ever will be."""
        return self.ended is not None

    def look(self) -> JobProgress | None:
        """How far it is."""
        if self.job is not None:
            self.progress = self.job.progress
        return self.progress

    def keep(self, result: Result) -> Made:
        """Remember what it has produced, unless that is much, and nothing of how: prompts and workflows are large."""
        made = Made(tuple(Output(o.ref, o.title, o.class_type) for o in result.outputs), result.texts)
        self.made = made if made.is_small else None
        return made

    def finish(self, state: str, error: dict[str, Any] | None = None, *, ended: float | None = None) -> None:
        """It has ended, and nobody follows it."""
        self.detach(state)
        self.error = error
        self.ended = time.time() if ended is None else ended
        self.log.add({"event": "finished", "prompt_id": self._prompt_id, "state": state})
        self.log.end()

    def detach(self, state: str = JobState.UNKNOWN) -> None:
        """Nobody follows it any more."""
        if self.job is not None:
            self.look()
            self._prompt_id, self.job = self.job.id, None
        self._state = state
        self.task = None


class JobBook:
    """All jobs of a server.

    Args:
        kept: How many that have ended are remembered, for each owner.
        on_end: Called with each that has ended.
        on_doubt: Called with each that nobody could be asked about any more.
    """

    def __init__(
        self,
        *,
        kept: int,
        on_end: Callable[[JobRecord], None],
        on_doubt: Callable[[JobRecord], None],
    ) -> None:
        self._kept = kept
        self._on_end, self._on_doubt = on_end, on_doubt
        self._jobs: dict[str, dict[str, JobRecord]] = {}  # by owner, in order
        self._open: dict[str, dict[str, JobRecord]] = {}  # those of them that have not ended
        self._ended: dict[str, dict[str, None]] = {}  # those that have, in that order

    def __iter__(self) -> Iterator[JobRecord]:
        return iter([record for records in self._jobs.values() for record in records.values()])

    def get(self, owner: str, job_id: str) -> JobRecord:
        """One of the owner's.

        Raises:
            ApiError: There is none of that id, or it is another's.
        """
        record = self._jobs.get(owner, {}).get(job_id)
        if record is None:
            raise not_found("job")
        return record

    def of(self, owner: str, *, session_id: str | None = None) -> list[JobRecord]:
        """The owner's, the newest first; those that a session has queued."""
        records = reversed(self._jobs.get(owner, {}).values())
        return [record for record in records if session_id is None or record.session_id == session_id]

    def unfinished(self, owner: str, *, follower: str | None = None) -> list[JobRecord]:
        """The owner's that have not ended; those that a session follows, or is to follow."""
        records = self._open.get(owner, {}).values()
        return [record for record in records if follower is None or record.follower == follower]

    def left(self, owner: str, url: str) -> list[JobRecord]:
        """The owner's at an instance that have not ended, and that nobody follows."""
        return [record for record in self.unfinished(owner) if record.url == url and record.job is None]

    def states(self) -> dict[str, int]:
        """How many there are in each state."""
        return dict(Counter(record.state for record in self))

    def add(self, record: JobRecord, job: Job | None = None) -> None:
        """Remember it, and follow it if there is something to follow."""
        self._jobs.setdefault(record.owner, {})[record.id] = record
        if record.over:
            self._file(record)
            return
        self._open.setdefault(record.owner, {})[record.id] = record
        if job is not None:
            self.attach(record, job, record.follower)

    def attach(self, record: JobRecord, job: Job, follower: str) -> None:
        """Have a session follow it."""
        record.job, record.follower = job, follower
        record.ambiguous, record.error = False, None
        record.seeds = record.seeds or dict(job.seeds)
        record.warnings = record.warnings or [str(warning) for warning in job.warnings]
        record.log.resume()
        record.task = asyncio.create_task(self._follow(record, job), name=f"comfyclient-api-job-{record.id}")
        record.task.add_done_callback(lambda task: self._stopped(record, job, task))

    def gone(self, record: JobRecord, state: str, error: dict[str, Any]) -> None:
        """It has ended, and the instance cannot say how."""
        if record.over or record.job is not None:  # somebody else knows better
            return
        record.finish(state, error)
        self._close(record)

    async def over(self) -> None:
        """Wait until all that are followed have ended."""
        while tasks := self._tasks():
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Stop following. The jobs go on."""
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for record in self:
            record.log.end()

    def _tasks(self) -> list[asyncio.Task[None]]:
        records = [record for open_ones in self._open.values() for record in open_ones.values()]
        return [record.task for record in records if record.task is not None and not record.task.done()]

    async def _follow(self, record: JobRecord, job: Job) -> None:
        async for event in job.events():
            body = event.to_json()
            if body["event"] != "finished" or body["state"] in _ENDS:
                record.log.add(body)
        try:
            record.keep(await job.result())
        except ComfyClientError as error:
            record.error = error.to_json()
        else:
            record.error = None
        state = str(job.state)
        record.detach(state)
        if state not in _ENDS:  # the instance could not be asked, or the client was closed
            self._on_doubt(record)
            return
        record.ended = time.time()
        record.log.end()
        self._close(record)

    def _stopped(self, record: JobRecord, job: Job, task: asyncio.Task[None]) -> None:
        """If following it broke off by a mistake of ours, nobody may believe that it goes on."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        _log.error("job %s is not followed any more", record.id, exc_info=error)
        if record.job is job:
            record.detach()
            record.error = {"code": "internal_error", "message": "following it broke off; the server's log says why"}

    def _close(self, record: JobRecord) -> None:
        self._open[record.owner].pop(record.id, None)
        self._file(record)
        self._on_end(record)

    def _file(self, record: JobRecord) -> None:
        """Of those that have ended, the oldest are forgotten."""
        ended = self._ended.setdefault(record.owner, {})
        ended[record.id] = None
        while len(ended) > self._kept:
            oldest = next(iter(ended))
            del ended[oldest]
            self._jobs[record.owner].pop(oldest, None)
