"""One job's life as a state machine without a clock and without a socket.

Messages, looks at the server's record and readings of a clock go in; events come out, and the wish when to
look next. The rules:

* Messages show that a job runs; how it ends, only the record says. A message that it ended asks for a look.
* The record is written after the message, up to seconds later: until then "not there" means "not yet".
* A job goes from the queue to the history and never back. So a look asks the queue first, then the history;
  what is in neither was deleted, or the server restarted. That must be seen twice, `CONFIRM_AFTER` apart.
* A server whose worker has died goes on to say that the job runs. If nothing has moved for too long it counts as
  stalled, which is no end: it runs again as soon as something moves.
* What is lost is submitted once more, under another id, if the user wished so beforehand. Nothing else ever is.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from comfyclient.wire.events import Finished, JobEvent, Queued, Resubmitted, Stalled, Started
from comfyclient.wire.messages import (
    Executed,
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    Message,
    Progress,
    ProgressState,
)
from comfyclient.wire.progress import JobProgress, ProgressTracker
from comfyclient.wire.records import JobState
from comfyclient.wire.silence import Silence, symptom

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from comfyclient.wire.records import HistoryRecord

__all__ = ["CONFIRM_AFTER", "RECORD_LAG", "Cadence", "JobTracker", "Look", "Where", "Wish"]

CONFIRM_AFTER: Final = 0.5
"""Seconds between two looks that must both miss a job before it counts as lost."""

RECORD_LAG: Final = 10.0
"""Seconds for which a record may be missing after the message that the job ended."""

_GRACE: Final = 0.3  # after "it ended" and before a look, for the message that says that the record is written
_RETRY: Final = (0.05, 0.1, 0.2)  # between looks for a record that must come


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often to look, in seconds.

    While messages arrive: ``early`` after the job was accepted (for its place in the queue), then every
    ``hearing``. Else after ``first``, growing by ``growth`` up to ``most``.
    """

    early: float = 1.0
    hearing: float = 15.0
    first: float = 0.1
    growth: float = 1.5
    most: float = 2.0


class Where(enum.Enum):
    """What a look found."""

    PENDING = enum.auto()
    RUNNING = enum.auto()
    ENDED = enum.auto()
    """It is in the history."""
    NO_RECORD = enum.auto()
    """It is not in the history; the queue was not asked."""
    ABSENT = enum.auto()
    """It was not in the queue, and then not in the history."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the server's record said of a job. ``asked_at`` is the clock before the first question was sent.

    ``position`` goes with PENDING, ``record`` with ENDED. ``running`` are the ids of the jobs that run, if that was
    seen, and ``moved_at`` the clock when the server last told of any job.
    """

    where: Where
    asked_at: float
    position: int | None = None
    record: HistoryRecord | None = None
    running: tuple[str, ...] = ()
    moved_at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Wish:
    """When to look next. ``record_only``: it ended, so the history alone will do."""

    at: float
    record_only: bool = False


class JobTracker:
    """Follows one job.

    Feed it with `accepted`, `on_message`, `on_look`, `on_connection` and `give_up`, and pass on the events
    that they return. Between them, ``wish`` says when to look next; ``None`` means: not at all.
    ``started`` tells whether a message has shown that it runs. ``prompt_id`` may be set when the server gives it
    another. When ``lost`` is set, submit it again: see `resubmitted`.

    Args:
        prompt_id: The job.
        nodes: The ids of the prompt's nodes.
        title: Gives a node's title.
        hearing: Whether messages about this job arrive now.
        cadence: How often to look.
        stall_timeout: Seconds in which nothing moves, after which it counts as stalled; ``None``: it never does.
        resubmit: Whether it is to be submitted once more if it gets lost.
    """

    __slots__ = (
        "_absent_at", "_accepted_at", "_cadence", "_connected_at", "_dequeued_at", "_ended_at", "_hearing", "_interval",
        "_progress", "_resubmit", "_retries", "_silence", "_stall_timeout", "_state", "_would_hear", "lost", "position",
        "reason", "record", "stalled", "started", "wish",
    )  # fmt: skip

    def __init__(
        self,
        prompt_id: str,
        nodes: Collection[str],
        title: Callable[[str], str],
        *,
        hearing: bool = False,
        cadence: Cadence | None = None,
        stall_timeout: float | None = None,
        resubmit: bool = False,
    ) -> None:
        self.record: HistoryRecord | None = None
        self._progress = ProgressTracker(prompt_id, nodes, title)
        self._cadence = cadence or Cadence()
        self._hearing = hearing
        self._stall_timeout = stall_timeout
        self._resubmit = resubmit
        self._connected_at = -math.inf
        self._begin()

    def _begin(self) -> None:
        """It is on its way to the server, and nothing is known of it there."""
        self._state = JobState.SUBMITTING
        self.reason: str | None = None
        self.position: int | None = None
        self.wish: Wish | None = None
        self.started = self.lost = False
        self.stalled: Stalled | None = None
        self._interval = self._cadence.first
        self._accepted_at: float | None = None
        self._absent_at: float | None = None
        self._ended_at: float | None = None
        self._retries = 0
        self._dequeued_at: float | None = None
        self._silence = Silence(self._stall_timeout)
        self._would_hear = self._hearing  # messages about it come: one has, or could since it was known to wait

    @property
    def state(self) -> JobState:
        """Where it is."""
        return self._state if self.stalled is None else JobState.STALLED

    @property
    def prompt_id(self) -> str:
        """The job's id, which its events carry."""
        return self._progress.prompt_id

    @prompt_id.setter
    def prompt_id(self, prompt_id: str) -> None:
        self._progress.prompt_id = prompt_id

    @property
    def claimed(self) -> JobState:
        """Where it is, by what the server said; that nothing moves there does not count."""
        return self._state

    @property
    def known(self) -> bool:
        """Whether the server is known to have taken it: by a message, a look, or its answer."""
        return self.started or self.record is not None or self._state in {JobState.PENDING, JobState.RUNNING}

    @property
    def error(self) -> ExecutionError | None:
        """The server's error, if a node raised."""
        return self.record.error if self.record is not None else None

    @property
    def progress(self) -> JobProgress:
        """How far it is."""
        progress = self._progress.snapshot()
        if self._state is JobState.SUCCEEDED:
            return JobProgress(1.0, progress.nodes_total, progress.nodes_total)
        if self._state.is_terminal:
            return replace(progress, node_id=None, title=None, node_value=0.0, node_max=0.0)
        return replace(progress, queue_position=self.position)

    def accepted(self, now: float) -> list[JobEvent]:
        """The server has it: its answer said so, or a look found it."""
        if self._accepted_at is not None or self._state.is_terminal:
            return []
        self._accepted_at = now
        self._silence.begin(now)
        if self.wish is None:
            self._plan(now)
            if self._hearing:
                self._wish(now + self._cadence.early, now)
        return self._enter(JobState.PENDING)

    def dequeued(self, now: float) -> None:
        """This client had it taken off the queue: if it is gone now, it was cancelled, not lost.

        Unless it ran by then: the server says the same to who deletes what no longer waits.
        """
        if self._state is not JobState.RUNNING and self._ended_at is None:
            self._dequeued_at = now
        self.look_soon(now)

    def unwanted(self) -> None:
        """Somebody wants it cancelled: however that ends, it is not submitted again."""
        self._resubmit = False

    def look_soon(self, now: float) -> None:
        """Wish a look at once; after a reconnect, or when somebody acted on the job."""
        if self._accepted_at is not None and not self._state.is_terminal:
            self.wish = Wish(now)

    def on_connection(self, now: float, *, hearing: bool) -> None:
        """Messages arrive from now on, or no longer. What was said in between is gone: look."""
        self._hearing = hearing
        self._connected_at = now
        self._would_hear = False
        self._interval = self._cadence.first
        self._progress.restart()
        self.look_soon(now)

    def on_message(self, message: Message, now: float) -> list[JobEvent]:
        """A message about this job."""
        if self._state.is_terminal:
            return []
        ends = isinstance(message, _ENDS)
        if ends:
            self._dequeued_at = None  # it was too late for that
        events = self.heard(now) if isinstance(message, _SHOWS_RUNNING) else self._moved(now)
        if isinstance(message, Executing) and message.node is None:
            self._ended(now, Wish(now, record_only=True))
        elif ends and not (isinstance(message, ExecutionError) and not message.is_terminal):
            self._ended(now, Wish(now + _GRACE, record_only=True))
        events += self._progress.on_message(message)
        return events

    def heard(self, now: float) -> list[JobEvent]:
        """A message shows that it runs, whatever else it says."""
        if self._state.is_terminal:
            return []
        self.started = self._would_hear = True
        self._dequeued_at = None
        return self._enter(JobState.RUNNING) + self._moved(now)

    def on_progress(self, message: Message) -> list[JobEvent]:
        """A message that came earlier and is read only now: it tells how far the job was, not where it is."""
        return [] if self._state.is_terminal else list(self._progress.on_message(message))

    def situation(self) -> list[JobEvent]:
        """Where the job is, in events, for those who begin to listen."""
        if self._state.is_terminal:
            return [Finished(self.prompt_id, self._state, self.error, self.reason)]
        stalled = [] if self.stalled is None else [self.stalled]
        if self._state is JobState.RUNNING:
            return [Started(self.prompt_id), *self._progress.situation(), *stalled]
        return [Queued(self.prompt_id, self.position), *stalled] if self._state is JobState.PENDING else []

    def untold(self, look: Look) -> bool:
        """Whether a look shows that it moved, and the message that must have said so has not come (yet)."""
        if self._state not in {JobState.PENDING, JobState.RUNNING} or not self._would_hear:
            return False
        if look.where is Where.ENDED:  # that it ended is told before it is recorded
            return self._ended_at is None
        return look.where is Where.RUNNING and not self.started and self._ended_at is None

    def on_look(self, look: Look, now: float) -> list[JobEvent]:
        """The server's record was read."""
        if self._state.is_terminal:
            return []
        if look.where is Where.ENDED and look.record is not None:
            return self._close(look.record.state, look.record)
        if look.where is Where.ABSENT:
            return self._absent(look, now)
        if look.where is Where.NO_RECORD:
            self._retry(now)
            return []
        self._absent_at = None
        return self._runs(look, now) if look.where is Where.RUNNING else self._waits(look, now)

    def give_up(self, reason: str) -> list[JobEvent]:
        """The server could not be asked for too long."""
        if self._state.is_terminal:
            return []
        self.reason = reason
        return self._close(JobState.UNKNOWN, None)

    def resubmitted(self, prompt_id: str) -> list[JobEvent]:
        """It is lost and on its way to the server once more, under this id. It is the last time."""
        before, self.prompt_id = self.prompt_id, prompt_id
        self._resubmit = False
        self._progress.forget()
        self._begin()
        return [Resubmitted(prompt_id, before)]

    def not_resubmitted(self, reason: str) -> list[JobEvent]:
        """The server did not take it once more: so it is lost."""
        if self._state.is_terminal:
            return []
        self.reason = f"the server lost the job, and it was not queued again: {reason}"
        return self._close(JobState.LOST, None)

    def _waits(self, look: Look, now: float) -> list[JobEvent]:
        if self._dequeued_at is not None and look.asked_at >= self._dequeued_at:
            self._dequeued_at = None  # that had no effect
        self._would_hear |= self._hearing and look.asked_at >= self._connected_at
        if self._state is JobState.RUNNING:  # a look that was asked before it started: what runs does not wait again
            events = self._stalls(look)
            self._plan(now)
            return events if self._accepted_at is not None else [*events, *self.accepted(now)]
        if self._silence.waits(look.position, look.running, look.moved_at, look.asked_at):
            self.stalled = None
        self.position = look.position
        # To say that it waits is to say that it is no longer stalled.
        waits = [Queued(self.prompt_id, look.position)] if self.stalled is None else []
        events = [*waits, *self._stalls(look)]
        self._plan(now)
        if self._accepted_at is None:
            self.accepted(now)
        return events

    def _runs(self, look: Look, now: float) -> list[JobEvent]:
        self._dequeued_at = None  # it was too late for that
        self.position = None
        unheard = self.untold(look)
        if self._accepted_at is None and not self.started:
            self._would_hear = False  # it may have been told before anybody here followed it
        events = [] if self._accepted_at is not None else self.accepted(now)
        if self._state is not JobState.RUNNING:
            events += self._enter(JobState.RUNNING)
            self._moved(now)
        events += self._stalls(look)
        if self._ended_at is not None and now - self._ended_at < RECORD_LAG:
            self._retry(now)  # until its record is written it counts as running
        elif unheard:
            self._wish(now + self._cadence.early, now)  # is it only late, or does the socket not tell?
        else:
            self._plan(now)
        return events

    def _moved(self, now: float) -> list[JobEvent]:
        """Something shows that the server works on it."""
        self._silence.moved(now)
        if self.stalled is None:
            return []
        self.stalled = None
        return [Started(self.prompt_id) if self._state is JobState.RUNNING else Queued(self.prompt_id, self.position)]

    def _stalls(self, look: Look) -> list[JobEvent]:
        """Whether nothing has moved for too long, while the server goes on to say that it runs or waits."""
        silent = self._silence.lasts(look.asked_at)
        if silent is None or self.stalled is not None:
            return []
        runs = self._state is JobState.RUNNING
        reason = symptom(silent, runs=runs, behind=bool(look.running), hearing=self._hearing)
        self.stalled = Stalled(self.prompt_id, silent, reason)
        return [self.stalled]

    def _ended(self, now: float, wish: Wish) -> None:
        if self._ended_at is None:
            self._ended_at = now
            self._retries = 0
        # Before any routine look: the queue may be large, and is not asked at any time.
        if self.wish is None or not self.wish.record_only or wish.at < self.wish.at:
            self.wish = wish

    def _retry(self, now: float) -> None:
        """The record must come: ask again soon, and after a few times ask the queue as well."""
        delay = _RETRY[min(self._retries, len(_RETRY) - 1)]
        self._retries += 1
        self.wish = Wish(now + delay, record_only=self._retries < len(_RETRY))

    def _absent(self, look: Look, now: float) -> list[JobEvent]:
        if self._accepted_at is None or look.asked_at <= self._accepted_at:  # it was not there yet
            self._plan(now)
        elif self._dequeued_at is not None:
            self.reason = "taken off the queue by this client"
            return self._close(JobState.CANCELLED, None)
        elif self._ended_at is not None and now - self._ended_at < RECORD_LAG:
            self._retry(now)
        elif self._absent_at is None or look.asked_at < self._absent_at + CONFIRM_AFTER:
            self._absent_at = look.asked_at if self._absent_at is None else self._absent_at
            self.wish = Wish(max(now, self._absent_at + CONFIRM_AFTER))
        else:
            what = (
                "it ran and its record is gone" if self._ended_at is not None else "it is neither queued nor recorded"
            )
            self.reason = f"the server no longer knows the job: {what}"
            if not self._resubmit:
                return self._close(JobState.LOST, None)
            self.lost, self.wish = True, None
        return []

    def _plan(self, now: float) -> None:
        """The next routine look. What is said to arrive must have been heard, or have had nothing to say."""
        if self._hearing and self._would_hear:
            at = now + self._cadence.hearing
        else:
            at = now + self._interval
            self._interval = min(self._interval * self._cadence.growth, self._cadence.most)
        self._wish(at, now)

    def _wish(self, at: float, now: float) -> None:
        """Look at that time, or when nothing will have moved for too long: then only a look can tell."""
        too_long_at = self._silence.too_long_at if self.stalled is None else math.inf
        self.wish = Wish(max(now, min(at, too_long_at)))

    def _enter(self, state: JobState) -> list[JobEvent]:
        if self._state is state or (state is JobState.PENDING and self._state is not JobState.SUBMITTING):
            return []
        self._state, self.stalled = state, None
        if state is JobState.RUNNING:
            self.position = None
            return [Started(self.prompt_id)]
        return [Queued(self.prompt_id, self.position)]

    def _close(self, state: JobState, record: HistoryRecord | None) -> list[JobEvent]:
        self._state, self.record, self.wish = state, record, None
        self.stalled, self.lost = None, False
        return self.situation()


_SHOWS_RUNNING: Final = (ExecutionStart, ExecutionCached, Executing, Progress, ProgressState, Executed)
_ENDS: Final = (ExecutionSuccess, ExecutionError, ExecutionInterrupted)
