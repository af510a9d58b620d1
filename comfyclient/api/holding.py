"""What bodies of requests take up in memory before they are dealt with, all together and for each owner."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Held", "Holding"]


class Holding:
    """Counts bytes.

    Args:
        most: Bytes of all owners together.
        each: Bytes of one.
    """

    def __init__(self, most: int, each: int) -> None:
        self._most, self._each = most, each
        self._owners: Counter[str] = Counter()

    @contextlib.contextmanager
    def request(self, owner: str) -> Iterator[Held]:
        """One request; what it has taken is free again afterwards."""
        held = Held(self, owner)
        try:
            yield held
        finally:
            self._owners[owner] -= held.size
            if not self._owners[owner]:
                del self._owners[owner]

    @property
    def size(self) -> int:
        """Bytes of all."""
        return self._owners.total()

    def take(self, owner: str, size: int) -> bool:
        """Count them. Returns whether there is room for them."""
        self._owners[owner] += size
        return self._owners[owner] <= self._each and self._owners.total() <= self._most


class Held:
    """What one request holds: ``size`` bytes."""

    def __init__(self, holding: Holding, owner: str) -> None:
        self._holding, self._owner, self.size = holding, owner, 0

    def take(self, size: int) -> bool:
        """Hold so many more. Returns whether there is room for them."""
        self.size += size
        return self._holding.take(self._owner, size)
