"""A listener's queue of events: what must not be missed is kept, of what only shows progress the latest.

The one who fills it never waits, so that a slow listener cannot hold up the reader of the socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from comfyclient.wire.events import Finished, JobEvent, Preview, replaces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Feed"]

_MOST: Final = 20_000  # a listener that far behind loses what is not the end


class Feed:
    """The events of one job for one listener. ``previews``: whether pictures are wanted."""

    __slots__ = ("_events", "_waiting", "_wake", "previews")

    def __init__(self, *, previews: bool) -> None:
        self.previews = previews
        # Each event in a cell of its own, so that a later one can take its place in the queue.
        self._events: deque[list[JobEvent]] = deque()
        self._waiting: dict[tuple[str, str | None], list[JobEvent]] = {}
        self._wake = asyncio.Event()

    def put(self, event: JobEvent) -> None:
        """Add an event; it takes the place of a waiting one that it makes worthless."""
        if isinstance(event, Preview) and not self.previews:
            return
        key = replaces(event)
        if key is not None and (cell := self._waiting.get(key)) is not None:
            cell[0] = event
            return
        if len(self._events) >= _MOST and not isinstance(event, Finished):
            return
        cell = [event]
        self._events.append(cell)
        if key is not None:
            self._waiting[key] = cell
        self._wake.set()

    async def drain(self) -> AsyncIterator[JobEvent]:
        """The events in order, until the last."""
        while True:
            while not self._events:
                self._wake.clear()
                await self._wake.wait()
            event = self._events.popleft()[0]
            key = replaces(event)
            if key is not None:
                self._waiting.pop(key, None)
            yield event
            if isinstance(event, Finished):
                return
