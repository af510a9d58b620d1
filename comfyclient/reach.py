"""A job of which the server cannot be asked: since when, and when to try again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from comfyclient.errors import AuthError

if TYPE_CHECKING:
    from comfyclient.errors import ComfyClientError

__all__ = ["OutOfReach", "backoff"]

_BACKOFF: Final = (0.25, 0.5, 1.0, 2.0, 5.0)


def backoff(failures: int) -> float:
    """Seconds before the next attempt, after so many others that failed."""
    return _BACKOFF[min(failures, len(_BACKOFF) - 1)]


class OutOfReach:
    """What is kept of a job whose looks fail. An answer about it ends that; a message about it begins it anew.

    It is kept for each job, as one may be out of reach and the others not: its record may be too large to be read.

    Attributes:
        failures: How many requests for it have failed in a row.
        not_before: When to try again.
        refusals: How many looks in a row were refused because we are not let in.
    """

    __slots__ = ("_refused_since", "_since", "failures", "not_before", "refusals")

    def __init__(self) -> None:
        self.failures = self.refusals = 0
        self.not_before = -math.inf
        self._since: float | None = None
        self._refused_since: float | None = None

    def failed(self, error: ComfyClientError, now: float, *, asked: bool) -> None:
        """A look failed. ``asked``: it was for this job; else for one before it, and nobody was there to be asked."""
        self._since = now if self._since is None else self._since
        self.not_before = now + backoff(self.failures)
        self.failures += asked
        if isinstance(error, AuthError):
            self._refused_since = now if self._refused_since is None else self._refused_since
            self.refusals += 1
        else:
            self._refused_since, self.refusals = None, 0

    def heard(self) -> None:
        """The socket told of the job."""
        self._since, self._refused_since, self.refusals = None, None, 0

    def lasts(self, now: float) -> float:
        """Seconds since the first failure in a row."""
        return 0.0 if self._since is None else now - self._since

    def refused_for(self, now: float) -> float:
        """Seconds since the first refusal in a row."""
        return 0.0 if self._refused_since is None else now - self._refused_since
