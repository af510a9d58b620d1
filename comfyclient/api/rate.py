"""How many requests an owner may make: token buckets, as many as there are owners and no more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Bucket", "Rates", "retry_after"]


@dataclass(slots=True)
class Bucket:
    """Tokens that run in at ``rate`` a second, and of which ``burst`` find room. Times are seconds of any clock."""

    rate: float
    burst: float
    tokens: float
    at: float

    def take(self, now: float) -> float:
        """Take one. Returns 0, or the seconds until there will be one; then nothing was taken."""
        elapsed = max(0.0, now - self.at)
        self.tokens = min(self.burst, self.tokens + elapsed * self.rate)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / self.rate


class Rates:
    """A bucket for each owner, and one for all who fail to be one: strangers cannot make more of them.

    Args:
        owners: Their names.
        rate: Requests a second in the long run.
        burst: Requests at once.
        clock: Seconds.
    """

    def __init__(self, owners: Iterable[str], *, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        now, room = clock(), float(max(1, burst))
        self._buckets = {name: Bucket(rate, room, room, now) for name in owners}
        self._strangers = Bucket(rate, room, room, now)

    def take(self, owner: str | None) -> float:
        """One request of that owner, or of a stranger. Returns 0, or the seconds that it is too early."""
        bucket = self._strangers if owner is None else self._buckets[owner]
        return bucket.take(self._clock())


def retry_after(seconds: float) -> str:
    """The value of ``Retry-After``: whole seconds, rounded up."""
    return str(max(1, math.ceil(seconds)))
