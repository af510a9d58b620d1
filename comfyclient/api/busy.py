"""Counting who is at work with something, to wait for the last of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Busy"]


class Busy:
    """Each is at work for the time of a ``with``. Nobody must wait for `over` inside one."""

    def __init__(self) -> None:
        self._count = 0
        self._over = asyncio.Event()
        self._over.set()

    def __bool__(self) -> bool:
        return self._count > 0

    def __enter__(self) -> None:
        self._count += 1
        self._over.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count -= 1
        if not self._count:
            self._over.set()

    async def over(self) -> None:
        """Wait until nobody is at work."""
        await self._over.wait()
