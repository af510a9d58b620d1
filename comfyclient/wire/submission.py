"""Putting one prompt into an instance's queue exactly once, as a state machine without a clock and without a socket.

``POST /prompt`` is not idempotent: the same id posted twice runs twice. An answer that gets lost says nothing. So:

* What was never sent is sent again, a few times, while the `Outage` is young.
* After any doubt the server's record decides. The prompt counts as not queued when two looks, `SETTLE` apart and both
  answered, miss it: a request may still sit in a proxy, or behind an event loop that is held up.
* Only then it is sent once more, with the same id, and only where that cannot cost anything: the server is known to
  keep a client's ids, and no node of the prompt is billed.
* If the record cannot be read until the deadline, the outcome is unknown, and stays so.

So a prompt runs at most once if a request about which there is doubt reaches the server within `SETTLE` seconds after
the first look that missed it, or never; and at most twice, however late it comes.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final

__all__ = ["SETTLE", "Answer", "Do", "Outage", "Step", "Submission"]

SETTLE: Final = 2.0
"""Seconds between two looks that must both miss a prompt before it counts as not queued."""

_RESENDS: Final = 1
_RETRIES: Final = 4  # of what was never sent
_RETRY_FIRST: Final = 0.5
_OUTAGE: Final = 10.0  # seconds of an outage in which anything is retried
_FORGOTTEN: Final = 30.0  # seconds without a failure after which the next one begins another outage
_THROTTLED: Final = 5  # times that an instance may ask to wait
_WAIT_MOST: Final = 120.0  # seconds that an instance may ask to wait
_WAIT_LEAST: Final = 0.1
_WAIT_SPREAD: Final = 0.2  # of that, added at most
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


class Outage:
    """How long an instance has been out of reach, for all that one session sends to it.

    That is the session's budget of retries: in the first `_OUTAGE` seconds whatever is not sent is tried again; behind
    them each submission has one try, and fails at once.
    """

    def __init__(self) -> None:
        self._since = self._last = -math.inf

    def failed(self, now: float) -> float:
        """There was no connection. Returns the seconds since that was so first."""
        if now - self._last > _FORGOTTEN:
            self._since = now
        self._last = now
        return now - self._since

    def ended(self) -> None:
        """There was one."""
        self._since = self._last = -math.inf


class Submission:
    """One prompt on its way. Begin with a POST; tell what came of each step, and do what is returned.

    Args:
        now: The clock.
        patience: Seconds after the first doubt until which the record is asked for, and for which an instance that
            asks to wait is obeyed.
        outage: What all submissions to the instance share.
    """

    def __init__(self, now: float, *, patience: float, outage: Outage) -> None:
        self._patience = patience
        self._deadline = now + patience
        self._outage = outage
        self._retries = self._throttled = self._resends = 0
        self._absent_at: float | None = None

    def answered(self, answer: Answer, now: float, *, retry_after: float | None = None, spread: float = 0.0) -> Step:
        """A POST came to an end.

        Args:
            answer: How.
            now: The clock.
            retry_after: What a 429 asked for, in seconds.
            spread: From 0 to 1, drawn anew each time, so that those who fail together do not come back together.
        """
        if answer is Answer.NEVER_SENT:
            return self._retry(now, spread)
        self._outage.ended()
        if answer is Answer.ACCEPTED:
            return Step(Do.ACCEPT)
        if answer is Answer.REFUSED:
            return Step(Do.REFUSE)
        if answer is Answer.THROTTLED:
            return self._wait(now, retry_after, spread)
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

    def _retry(self, now: float, spread: float) -> Step:
        delay = _RETRY_FIRST * 2**self._retries * (1 + spread) / 2
        if self._outage.failed(now) + delay > _OUTAGE or self._retries >= _RETRIES:
            return Step(Do.NOT_QUEUED)
        self._retries += 1
        return Step(Do.POST, delay)

    def _wait(self, now: float, asked: float | None, spread: float) -> Step:
        """Come back when it was asked for, or not at all: earlier would be in vain, and no better than not to ask."""
        most = min(_WAIT_MOST, self._deadline - now)
        if asked is None or asked > most or self._throttled >= _THROTTLED:
            return Step(Do.REFUSE)
        self._throttled += 1
        return Step(Do.POST, min(max(asked, _WAIT_LEAST) * (1 + _WAIT_SPREAD * spread), most))
