"""What the journal says about a job: plain data, and the order of its phases."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from comfyclient import _json
from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["ENDS", "SUCCEEDED", "Claim", "Entry", "Holder", "Phase", "Run", "SavedOutput", "is_news", "output_key"]

SUCCEEDED: Final = "succeeded"

ENDS: Final = frozenset({SUCCEEDED, "failed", "cancelled", "lost"})
"""How a job can end. A job that nobody could be asked about has not ended: it stays open."""


class Phase(enum.StrEnum):
    """How far a job is, as this client has seen it."""

    SUBMITTING = "submitting"
    """Written before the ``POST``. Found after a crash: ambiguous."""
    ACCEPTED = "accepted"
    """The instance has it."""
    ENDED = "ended"
    """By the instance's record; `Entry.state` says how."""
    SAVED = "saved"
    """It succeeded, and all its outputs that were wanted are on disk."""
    REFUSED = "refused"
    """It was never queued: the instance said so, or it was never sent."""
    GIVEN_UP = "given_up"
    """Nobody will look for it again, unless they claim it by its name; `Entry.reason` says why."""


_BEFORE: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.ACCEPTED: frozenset({Phase.SUBMITTING}),
    Phase.ENDED: frozenset({Phase.SUBMITTING, Phase.ACCEPTED, Phase.ENDED}),  # a job that seemed lost may turn up
    Phase.SAVED: frozenset({Phase.ENDED}),
    Phase.REFUSED: frozenset({Phase.SUBMITTING}),
    Phase.GIVEN_UP: frozenset({Phase.SUBMITTING, Phase.ACCEPTED, Phase.ENDED}),
}
# Threads may overtake each other, and what was interrupted is done again: this is said late or twice, not wrongly.
_AFTER: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.ACCEPTED: frozenset({Phase.ACCEPTED, Phase.ENDED, Phase.SAVED}),
    Phase.ENDED: frozenset(),
    Phase.SAVED: frozenset({Phase.SAVED}),
    Phase.REFUSED: frozenset({Phase.REFUSED}),
    Phase.GIVEN_UP: frozenset({Phase.GIVEN_UP}),
}


def is_news(prompt_id: str, now: Phase, state: str | None, phase: Phase, new_state: str | None) -> bool:
    """Whether a job that is in phase ``now`` goes on to ``phase``; ``False``: it is there already, or further.

    Raises:
        ConfigError: It cannot go there.
    """
    if now in _AFTER[phase] or (phase is Phase.ENDED and now is Phase.SAVED and new_state == state):
        return False
    possible = now in _BEFORE[phase] and (phase is not Phase.SAVED or state == SUCCEEDED)
    if not possible:
        where = f"{now} ({state})" if state else str(now)
        raise ConfigError(f"job {prompt_id} is {where} in the journal and cannot become {phase}")
    return phase is not now or state != new_state


@dataclass(frozen=True, slots=True)
class SavedOutput:
    """A file of a job on this machine.

    Attributes:
        key: Which output: see `output_key`.
        path: Where it is, or is about to appear.
        size: In bytes.
        sha256: Of its content, in hex, if the caller took it.
        placed: Whether it was seen at ``path``. If not, the process died between announcing it and saying so: the file
            is ours if it has this size and digest, and is still to be fetched if not.
    """

    key: str
    path: Path
    size: int
    sha256: str | None = None
    placed: bool = True


@dataclass(frozen=True, slots=True)
class Holder:
    """A living process, other than this one or in another part of it, that looks after a job.

    ``since`` is in seconds since 1970.
    """

    pid: int
    host: str
    since: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A job.

    Attributes:
        prompt_id: Its id at the instance.
        url: The instance's base address, without credentials.
        client_id: Whose events it sends.
        run_id: The command that it belongs to.
        body_digest: SHA-256 of the body of its ``POST``, in hex.
        plan: How its outputs are to be saved: whatever JSON the caller needs to go on.
        name: What people call it, such as the workflow's file name.
        phase: How far it is.
        state: How it ended: one of `ENDS`.
        reason: Why it was refused or given up.
        sent_id: The id that it was posted with; another than ``prompt_id`` if the instance chose its own.
        created: When it was written first and ``updated`` last, in seconds since 1970.
        outputs: Its files on this machine.
        holder: The living process that looks after it, if it is not this one.
    """

    prompt_id: str
    url: str
    client_id: str
    run_id: str
    body_digest: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    phase: Phase = Phase.SUBMITTING
    state: str | None = None
    reason: str | None = None
    sent_id: str = ""
    created: float = 0.0
    updated: float = 0.0
    outputs: tuple[SavedOutput, ...] = ()
    holder: Holder | None = None

    @property
    def open(self) -> bool:
        """Whether something is left to do: to look it up, to follow it, or to fetch its outputs."""
        return self.phase in {Phase.SUBMITTING, Phase.ACCEPTED} or (
            self.phase is Phase.ENDED and self.state == SUCCEEDED
        )

    @property
    def ambiguous(self) -> bool:
        """Whether nobody can say if it was queued; other than who is just submitting it."""
        return self.phase is Phase.SUBMITTING and self.holder is None


@dataclass(frozen=True, slots=True)
class Run:
    """A command that queued jobs.

    Attributes:
        run_id: Its id.
        planned: How many jobs it was to queue; ``None`` if it did not say.
        recorded: How many are in the journal. Those that lack were never sent.
        name: What people call it.
        created: When it began, in seconds since 1970.
    """

    run_id: str
    planned: int | None
    recorded: int
    name: str | None
    created: float


@dataclass(frozen=True, slots=True)
class Claim:
    """What asking for jobs got: those that are this process's now, as they are; and who has the others.

    A job that is in neither was done, or forgotten, in the meantime.
    """

    entries: tuple[Entry, ...]
    held: Mapping[str, Holder]


def output_key(ref: Mapping[str, Any]) -> str:
    """Which output of a job it is: a digest of ``OutputRef.to_json()``, whatever the server wrote into that.

    Raises:
        ConfigError: It is no JSON.
    """
    try:
        return hashlib.sha256(_json.dumps(dict(sorted(ref.items()))).encode()).hexdigest()
    except _json.JSONError as error:
        raise ConfigError(f"an output cannot be named in the journal: {error}") from None
