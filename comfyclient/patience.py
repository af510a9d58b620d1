"""How long a transfer waits, and how often it is tried again."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

__all__ = ["Patience"]


@dataclass(frozen=True, slots=True)
class Patience:
    """For one transfer.

    Attributes:
        idle: Seconds of silence that end a connection. There is no bound on the whole.
        retries: How often in a row a download may fail without getting any further.
        repeats: How often an upload is sent again.
        first: Seconds of the first pause; each that follows is twice as long,
        longest: but not longer than this.
    """

    idle: float = 60.0
    retries: int = 5
    repeats: int = 2
    first: float = 0.5
    longest: float = 8.0

    async def pause(self, failures: int) -> None:
        """Wait before the next attempt, after so many that failed."""
        most = min(self.longest, self.first * 2 ** (failures - 1))
        await asyncio.sleep(random.uniform(most / 2, most))  # noqa: S311 - spreads attempts, hides nothing
