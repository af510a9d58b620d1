"""A job that was left undone, and what became of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from comfyclient.cli.plans import Plan
from comfyclient.cli.text import count
from comfyclient.errors import TransferError
from comfyclient.journal import Phase
from comfyclient.wire.records import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from comfyclient.cli.follow import Followed
    from comfyclient.errors import ComfyClientError
    from comfyclient.journal import Entry, Run

__all__ = ["Outcome", "Resumed", "entry_to_json", "run_to_json", "summary"]

_LOST: Final = 6


class Outcome(enum.StrEnum):
    """What became of it."""

    DONE_BEFORE = "done_before"
    """Nothing was left to do."""
    FINISHED = "finished"
    NOT_FETCHED = "not_fetched"
    """It succeeded, and its outputs could not be fetched or written."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    NOT_QUEUED = "not_queued"
    UNKNOWN = "unknown"
    """Its instance cannot be asked, or the time was up: it is still to be done."""
    HELD = "held"
    """Another living process looks after it."""


_WORDS: Final = {
    Outcome.DONE_BEFORE: "done before",
    Outcome.FINISHED: "finished now",
    Outcome.NOT_FETCHED: "not fetched",
    Outcome.NOT_QUEUED: "never queued",
    Outcome.HELD: "left to another process",
}
_OF_STATE: Final = {
    JobState.SUCCEEDED: Outcome.FINISHED,
    JobState.FAILED: Outcome.FAILED,
    JobState.CANCELLED: Outcome.CANCELLED,
    JobState.LOST: Outcome.LOST,
}
_CODES: Final = {
    Outcome.FAILED: 1,
    Outcome.CANCELLED: 1,
    Outcome.LOST: _LOST,
    Outcome.NOT_QUEUED: _LOST,
    Outcome.UNKNOWN: _LOST,
}


@dataclass(slots=True)
class Resumed:
    """One job: ``number`` of ``total``. ``followed`` once it was found at its instance."""

    entry: Entry
    number: int = 1
    total: int = 1
    followed: Followed | None = None
    error: ComfyClientError | None = None
    given: Outcome | None = None
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        self.plan = Plan.from_json(self.entry.plan)

    @property
    def label(self) -> str:
        """What people call it."""
        return f"job {self.number}/{self.total} ({self.entry.prompt_id})" if self.total > 1 else f"job {self.id}"

    @property
    def id(self) -> str:
        """Its prompt_id."""
        return self.entry.prompt_id

    @property
    def outcome(self) -> Outcome:
        """What became of it so far."""
        if self.given is not None or self.followed is None:
            return self.given or Outcome.UNKNOWN
        found = _OF_STATE.get(self.followed.job.state, Outcome.UNKNOWN)
        if found is Outcome.FINISHED and self.followed.error is not None:
            return Outcome.NOT_FETCHED if isinstance(self.followed.error, TransferError) else Outcome.UNKNOWN
        return found

    @property
    def exit_code(self) -> int:
        """What it makes of the run."""
        if self.outcome is Outcome.DONE_BEFORE:
            return _CODES.get(self.before, 0)
        error = self.error or (self.followed.error if self.followed is not None else None)
        if error is not None:
            return error.exit_code
        return _CODES.get(self.outcome, 0)

    @property
    def before(self) -> Outcome:
        """How it ended, by the journal, if that was before."""
        entry = self.entry
        if entry.phase is Phase.REFUSED:
            return Outcome.NOT_QUEUED
        if entry.phase is Phase.GIVEN_UP:
            return Outcome.UNKNOWN
        return _OF_STATE.get(JobState(entry.state or "unknown"), Outcome.UNKNOWN)

    def to_json(self) -> dict[str, Any]:
        """How it went, as JSON."""
        body: dict[str, Any] = {"prompt_id": self.id, "number": self.number, "seeds": dict(self.plan.seeds)}
        if self.followed is not None:
            body |= self.followed.to_json()
        body |= {"instance": self.entry.url, "name": self.entry.name, "outcome": str(self.outcome)}
        if self.outcome in {Outcome.NOT_QUEUED, Outcome.LOST}:
            body["body_digest"] = self.entry.body_digest
        if self.outcome is Outcome.DONE_BEFORE:
            body |= {"state": str(self.before), "files": [str(output.path) for output in self.entry.outputs]}
        if self.outcome is Outcome.HELD and self.entry.holder is not None:
            body["holder"] = {"pid": self.entry.holder.pid, "host": self.entry.holder.host}
        if self.error is not None:
            body["error"] = self.error.to_json()
        return body


def summary(jobs: Sequence[Resumed]) -> str:
    """How it all went, in one line."""
    outcomes: dict[Outcome, int] = {}
    for job in jobs:
        outcomes[job.outcome] = outcomes.get(job.outcome, 0) + 1
    said = ", ".join(f"{number} {_WORDS.get(outcome, str(outcome))}" for outcome, number in outcomes.items())
    files = sum(len(job.followed.files) for job in jobs if job.followed is not None)
    return f"{count(len(jobs), 'job')}: {said}" + (f"; {count(files, 'file')}" if files else "")


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """What is left to do, as JSON."""
    outputs = Plan.from_json(entry.plan).outputs
    return {
        "prompt_id": entry.prompt_id,
        "instance": entry.url,
        "name": entry.name,
        "phase": str(entry.phase),
        "state": entry.state,
        "created": entry.created,
        "folder": str(outputs.folder) if outputs is not None else None,
        "files": [str(output.path) for output in entry.outputs if output.placed],
        "holder": {"pid": entry.holder.pid, "host": entry.holder.host} if entry.holder is not None else None,
    }


def run_to_json(run: Run) -> dict[str, Any]:
    """A run that was interrupted, as JSON."""
    return {"name": run.name, "created": run.created, "planned": run.planned, "not_sent": not_sent(run)}


def not_sent(run: Run) -> int:
    """How many of its jobs were never sent."""
    return max(0, (run.planned or 0) - run.recorded)


def holders(jobs: Iterable[Resumed]) -> dict[str, int]:
    """Who has the jobs that were left to others, and how many."""
    found: dict[str, int] = {}
    for job in jobs:
        if job.outcome is Outcome.HELD and job.entry.holder is not None:
            name = str(job.entry.holder)
            found[name] = found.get(name, 0) + 1
    return found
