"""Between the journal's rows and what its users see: queries, and texts that are fit to be kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from comfyclient import _json
from comfyclient.errors import ConfigError
from comfyclient.journal.database import UnsoundRow
from comfyclient.journal.entries import SUCCEEDED, Entry, Holder, Phase, SavedOutput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping

__all__ = [
    "OPEN",
    "REOPEN",
    "Standing",
    "base_address",
    "checked_id",
    "kept",
    "plan_text",
    "read_entries",
    "read_standing",
]

OPEN: Final = f"(phase IN ('submitting', 'accepted') OR (phase = 'ended' AND state = '{SUCCEEDED}'))"
"""`Entry.open`, in SQL."""

REOPEN: Final = """
    UPDATE jobs SET reason = NULL, phase = CASE WHEN state IS NOT NULL THEN 'ended'
        WHEN sent_id != prompt_id THEN 'accepted' ELSE 'submitting' END
    WHERE prompt_id = :id AND phase = 'given_up' AND owner IS NULL"""
"""One that was given up is again as little as is known of it for sure: perhaps it was never queued."""

_MAX_ID: Final = 256  # characters; servers that choose ids choose UUIDs
_MAX_TEXT: Final = 1000  # characters
_MAX_PLAN: Final = 1 << 20  # bytes; the seeds of a big workflow take a few KB

_ENTRY: Final = """
    SELECT jobs.number, prompt_id, url, client_id, run_id, body_digest, plan, name, phase, state, reason, sent_id,
           created, updated, token, pid, host, since
    FROM jobs LEFT JOIN owners ON owners.id = jobs.owner """
_STANDING: Final = """
    SELECT jobs.number, phase, state, body_digest, token, pid, host, since
    FROM jobs LEFT JOIN owners ON owners.id = jobs.owner WHERE prompt_id = ?"""


@dataclass(frozen=True, slots=True)
class Standing:
    """What has to be known of a job to write about it. ``token`` is its owner's, ``number`` its row's."""

    number: int
    phase: Phase
    state: str | None
    body_digest: str
    token: str | None
    holder: Holder | None


def read_standing(database: sqlite3.Connection, prompt_id: str) -> Standing | None:
    """Where a job stands; ``None`` if there is none.

    Raises:
        ConfigError: That is no id.
        UnsoundRow: A row does not hold what it should.
    """
    row = database.execute(_STANDING, (checked_id(prompt_id),)).fetchone()
    if row is None:
        return None
    number, phase, state, digest, token, *holder = row
    return Standing(number, _phase(phase), state, digest, token, Holder(*holder) if token is not None else None)


def read_entries(
    database: sqlite3.Connection, clauses: str, values: Mapping[str, Any], own: str | None
) -> Iterator[Entry]:
    """The jobs that a query finds, with their outputs.

    Args:
        database: The journal.
        clauses: ``WHERE`` and what follows.
        values: Of the names in it.
        own: The token of the reader, whose own jobs have no `Holder`.

    Raises:
        UnsoundRow: A row does not hold what it should.
    """
    for number, *row in database.execute(_ENTRY + clauses, values).fetchall():
        yield _entry(row, own, tuple(_outputs(database, number)))


def _entry(row: list[Any], own: str | None, outputs: tuple[SavedOutput, ...]) -> Entry:
    prompt_id, url, client_id, run_id, digest, plan, name, phase, state, reason, sent_id, *rest = row
    created, updated, token, *holder = rest
    return Entry(
        prompt_id=prompt_id,
        url=url,
        client_id=client_id,
        run_id=run_id,
        body_digest=digest,
        plan=_plan(plan),
        name=name,
        phase=_phase(phase),
        state=state,
        reason=reason,
        sent_id=sent_id,
        created=created,
        updated=updated,
        outputs=outputs,
        holder=None if token in {None, own} else Holder(*holder),
    )


def _outputs(database: sqlite3.Connection, number: int) -> Iterator[SavedOutput]:
    rows = database.execute("SELECT key, path, size, sha256, placed FROM outputs WHERE job = ? ORDER BY key", (number,))
    for key, path, size, sha256, placed in rows:
        yield SavedOutput(key, Path(os.fsdecode(path)), size, sha256, bool(placed))


def _phase(value: Any) -> Phase:
    try:
        return Phase(value)
    except ValueError:
        raise UnsoundRow("a job is in no known phase") from None


def _plan(value: Any) -> dict[str, Any]:
    try:
        plan = _json.loads(value)
    except (TypeError, _json.JSONError):
        plan = None
    if not isinstance(plan, dict):
        raise UnsoundRow("a job's plan cannot be read")
    return plan


def base_address(url: str) -> str:
    """An address without what may be secret in it: user, password, query and fragment.

    Raises:
        ConfigError: It is none.
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2].lower()
        return _encodable(urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")))
    except ValueError:
        raise ConfigError("the instance's address cannot be read") from None  # it may hold a secret: not repeated


def checked_id(prompt_id: str) -> str:
    """Refuse what can be no id.

    Raises:
        ConfigError: It is empty, long, or not printable.
    """
    if not prompt_id or len(prompt_id) > _MAX_ID or not prompt_id.isprintable():
        raise ConfigError(f"{prompt_id[:_MAX_ID]!r} is no job's id")
    return prompt_id


def kept(text: str | None) -> str | None:
    """A text for people, as the journal keeps it: not too long, and without half characters."""
    return None if text is None else _encodable(text[:_MAX_TEXT])


def plan_text(plan: Mapping[str, Any]) -> str:
    """A plan as JSON.

    Raises:
        ConfigError: It is none, or too long.
    """
    try:
        text = _json.dumps(dict(plan))
    except _json.JSONError as error:
        raise ConfigError(f"the job's plan cannot be written into the journal: {error}") from None
    if len(text) > _MAX_PLAN:
        raise ConfigError(f"the job's plan is too long for the journal: {len(text)} characters")
    return text


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
