"""Putting one prompt into an instance's queue exactly once, as a state machine without a clock and without a socket.

``POST /prompt`` is not idempotent: the same id posted twice runs twice. An answer that gets lost says nothing. So:

* What was never sent is sent again, a few times.
* After any doubt the server's record decides. The prompt counts as not queued when two looks, `SETTLE` apart and both
  answered, miss it: a request may still sit in a proxy, or behind an event loop that is held up.
* Only then it is sent once more, with the same id, and only where that cannot cost anything: the server is known to
  keep a client's ids, and no node of the prompt is billed.
* If the record cannot be read until the deadline, the outcome is unknown, and stays so.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

__all__ = ["SETTLE", "Answer", "Do", "Step", "Submission"]

SETTLE: Final = 2.0
"""Seconds between two looks that must both miss a prompt before it counts as not queued."""

_RESENDS: Final = 1
_RETRIES: Final = 4  # of what was never sent
_RETRY_FIRST: Final = 0.5
_THROTTLED: Final = 5  # times that an instance may ask to wait
_WAIT_MOST: Final = 120.0  # seconds of a Retry-After that are obeyed
_WAIT_LEAST: Final = 0.1
_LOOK_AGAIN: Final = 1.0


class Answer(enum.Enum):
    """What became of a POST."""

    ACCEPTED = enum.auto()
    REFUSED = enum.auto()
    """The answer says that it was not queued, and sending it again would not help."""
    THROTTLED = enum.auto()
    """429."""
    NEVER_SENT = enum.auto()
    """There was no connection."""
    DOUBTFUL = enum.auto()
    """No answer, or one that leaves it open: 500 may follow on queueing, and a gateway may give up too early."""


class Do(enum.Enum):
    """What to do next."""

    POST = enum.auto()
    LOOK = enum.auto()
    ACCEPT = enum.auto()
    """The server said that it is queued."""
    ADOPT = enum.auto()
    """The record says that it is queued."""
    REFUSE = enum.auto()
    """The last answer is final."""
    NOT_QUEUED = enum.auto()
    """It is certain that it is not queued, and it is not sent again."""
    UNKNOWN = enum.auto()
    """It may be queued, and nobody can tell."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, after so many seconds."""

    do: Do
    delay: float = 0.0


class Submission:
    """One prompt on its way. Begin with a POST; tell what came of each step, and do what is returned.

    Args:
        now: The clock.
        patience: Seconds after the first doubt until which the record is asked for, and for which an instance that
            asks to wait is obeyed.
    """

    def __init__(self, now: float, *, patience: float) -> None:
        self._now = now
        self._patience = patience
        self._deadline = now + patience
        self._retries = self._throttled = self._resends = 0
        self._absent_at: float | None = None

    def answered(self, answer: Answer, now: float, *, retry_after: float | None = None) -> Step:
        """A POST came to an end. ``retry_after``: what a 429 asked for, in seconds."""
        if answer is Answer.ACCEPTED:
            return Step(Do.ACCEPT)
        if answer is Answer.REFUSED:
            return Step(Do.REFUSE)
        if answer is Answer.THROTTLED:
            return self._wait(now, retry_after)
        if answer is Answer.NEVER_SENT:
            return self._retry()
        self._absent_at = None
        self._deadline = now + self._patience
        return Step(Do.LOOK)

    def looked(self, found: bool | None, asked_at: float, now: float, *, keeps_ids: bool, billed: bool) -> Step:
        """The record was read, or could not be.

        Args:
            found: Whether the prompt is there; ``None`` if nobody answered.
            asked_at: The clock before the question was sent.
            now: The clock.
            keeps_ids: Whether the server is known to keep the ids that clients give. If not, the prompt may be there
                under another.
            billed: Whether each run of it costs money: then it is not sent again, in case the first comes to light.
        """
        if found:
            return Step(Do.ADOPT)
        if found is None:
            return Step(Do.LOOK, _LOOK_AGAIN) if now < self._deadline else Step(Do.UNKNOWN)
        if self._absent_at is None or asked_at < self._absent_at + SETTLE:
            self._absent_at = asked_at if self._absent_at is None else self._absent_at
            return Step(Do.LOOK, max(0.0, self._absent_at + SETTLE - now))
        if billed or not keeps_ids:
            return Step(Do.UNKNOWN)
        if self._resends >= _RESENDS:
            return Step(Do.NOT_QUEUED)
        self._resends += 1
        return Step(Do.POST)

    def _retry(self) -> Step:
        if self._retries >= _RETRIES:
            return Step(Do.NOT_QUEUED)
        self._retries += 1
        return Step(Do.POST, _RETRY_FIRST * 2 ** (self._retries - 1))

    def _wait(self, now: float, retry_after: float | None) -> Step:
        if retry_after is None or self._throttled >= _THROTTLED:
            return Step(Do.REFUSE)
        self._throttled += 1
        delay = min(max(retry_after, _WAIT_LEAST), _WAIT_MOST)
        return Step(Do.POST, delay) if now + delay <= self._deadline else Step(Do.REFUSE)
