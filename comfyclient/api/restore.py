"""What a server that begins finds in its journal: the jobs of the one before."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from comfyclient._redact import RedactingFilter, keep_apart
from comfyclient.api.errors import ApiError
from comfyclient.api.jobs import REFUSED, JobRecord
from comfyclient.api.sessions import SessionOrder
from comfyclient.api.work import NOTE, remembered
from comfyclient.errors import ComfyClientError
from comfyclient.journal import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from comfyclient.api.jobs import JobBook
    from comfyclient.api.sessions import Sessions
    from comfyclient.journal import Entry, Journal

__all__ = ["Found", "reopen", "restore"]

_KEPT: Final = 30 * 86400.0  # seconds that what has ended stays in the journal
_FIRST, _MOST = 1.0, 600.0  # seconds between attempts at an instance that does not answer
_LATER: Final = "it ended under an earlier run of this server; with a session at its url, the instance is asked why"
_REASONS: Final[dict[str, tuple[str, str]]] = {
    "failed": ("job_failed", _LATER),
    "cancelled": ("job_cancelled", "it was cancelled"),
    "lost": ("job_lost", "the instance no longer knew it"),
}

_log = logging.getLogger("comfyclient.api")
_log.addFilter(RedactingFilter())


@dataclass(slots=True)
class Found:
    """What is left to do.

    Attributes:
        orders: The sessions that jobs need which are not over, by owner and url, where that takes no secret.
        untold: The jobs that have ended, and whose webhook was not taken.
        once: The owner, mark and job of each request that must not be done twice.
    """

    orders: dict[tuple[str, str], SessionOrder] = field(default_factory=dict)
    untold: list[JobRecord] = field(default_factory=list)
    once: list[tuple[str, str, str]] = field(default_factory=list)


def restore(journal: Journal, book: JobBook, *, most: int, told: set[str]) -> Found:
    """Take over the jobs that the journal has. It blocks for a moment; call it before anything is served.

    Args:
        journal: The journal.
        book: Where they are remembered.
        most: How many at most, besides those that are not over.
        told: The jobs whose webhooks are done with.
    """
    now = time.time()
    journal.prune(now - _KEPT)
    found = Found()
    for first, last in _ours(journal, most):
        about: dict[str, Any] = last.plan[NOTE]
        record = _record(first, last, about)
        book.add(record)
        if isinstance(about.get("once"), str) and record.state != REFUSED:
            found.once.append((record.owner, about["once"], record.id))
        if not record.over:
            order = SessionOrder.from_json(record.url, about.get("again"))
            if order is not None:
                found.orders[record.owner, record.url] = order
        elif record.webhook is not None and record.id not in told:
            found.untold.append(record)
        else:
            record.told = None if record.webhook is None else "done with, under an earlier run of this server"
            if last.open:
                journal.saved(last.prompt_id)
    return found


def _ours(journal: Journal, most: int) -> Iterable[tuple[Entry, Entry]]:
    """The jobs that a server has queued and that no other looks after: as they were queued first, and last."""
    entries = {entry.prompt_id: entry for entry in [*reversed(journal.entries(most)), *journal.open_entries()]}
    ours = [entry for entry in entries.values() if isinstance(entry.plan.get(NOTE), dict)]
    held = journal.claim(entry.prompt_id for entry in ours if entry.open).held
    jobs: dict[str, tuple[Entry, Entry]] = {}
    for entry in sorted(ours, key=lambda entry: entry.created):
        if entry.prompt_id not in held:
            key = str(entry.plan[NOTE].get("key") or entry.prompt_id)  # the same for one that was queued again
            jobs[key] = jobs.get(key, (entry, entry))[0], entry
    return jobs.values()


def _record(first: Entry, last: Entry, about: dict[str, Any]) -> JobRecord:
    record = remembered(last.prompt_id, last.url, about, created=first.created)
    record.id = first.prompt_id
    seeds = last.plan.get("seeds")
    if isinstance(seeds, dict):
        record.seeds = {str(name): seed for name, seed in seeds.items() if isinstance(seed, int)}
    if last.phase in {Phase.ENDED, Phase.SAVED}:
        state = last.state or "unknown"
        code, message = _REASONS.get(state, ("", ""))
        record.finish(state, {"code": code, "message": message} if code else None, ended=last.updated)
        record.unexplained = state == "failed"
    elif last.phase in {Phase.REFUSED, Phase.GIVEN_UP}:
        reason = {"code": str(last.phase), "message": last.reason or "it was never queued"}
        record.finish(REFUSED if last.phase is Phase.REFUSED else "lost", reason, ended=last.updated)
    else:
        record.ambiguous = last.phase is Phase.SUBMITTING
        hint = "start a session at its url with the same key, and it is looked up"
        record.error = {"code": "outcome_unknown", "message": "the server was restarted", "hint": hint}
    return record


async def reopen(sessions: Sessions, owner: str, order: SessionOrder) -> None:
    """Begin a session, for the jobs that are left there, at an instance that asks for no credential."""
    keep_apart(owner)
    pause = _FIRST
    while sessions.find(owner, order.url) is None:
        try:
            await sessions.start(owner, order)
        except (ComfyClientError, ApiError) as error:
            _log.info("jobs at %s are not followed yet: %s", order.url, error)
        else:
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, _MOST)
