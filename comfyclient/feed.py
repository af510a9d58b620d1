"""A listener's queue of events: what must not be missed is kept, of what only shows progress the latest.

The one who fills it never waits, so that a slow listener cannot hold up the reader of the socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from comfyclient.wire.events import (
    Finished,
    JobEvent,
    OutputReady,
    Preview,
    Queued,
    Resubmitted,
    Stalled,
    Started,
    replaces,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Feed"]

# A listener that is so many events and files behind loses what is not a change of state; so few that no job's ordinary
# outputs come near. Names are a server's: they count by their length.
_MOST: Final = 20_000
_CHARACTERS: Final = 256
_STATES: Final = (Queued, Started, Stalled, Resubmitted, Finished)


class Feed:
    """The events of one job for one listener, in order. ``previews``: whether pictures are wanted."""

    __slots__ = ("_events", "_waiting", "_wake", "_weight", "previews")

    def __init__(self, *, previews: bool) -> None:
        self.previews = previews
        # Each event in a cell of its own, so that a later one can take its place in the queue.
        self._events: deque[list[JobEvent]] = deque()
        self._waiting: dict[tuple[str, str | None], list[JobEvent]] = {}
        self._weight = 0
        self._wake = asyncio.Event()

    def put(self, event: JobEvent) -> None:
        """Add an event; it takes the place of one that it makes worthless and that no change of state follows."""
        if isinstance(event, Preview) and not self.previews:
            return
        key = replaces(event)
        if key is not None and (cell := self._waiting.get(key)) is not None:
            cell[0] = event
            return
        if self._weight >= _MOST and not isinstance(event, _STATES):
            return
        if isinstance(event, _STATES) and not isinstance(event, Queued):
            self._waiting.clear()
        cell = [event]
        self._events.append(cell)
        self._weight += _weight(event)
        if key is not None:
            self._waiting[key] = cell
        self._wake.set()

    async def drain(self) -> AsyncIterator[JobEvent]:
        """The events in order, until the last."""
        while True:
            while not self._events:
                self._wake.clear()
                await self._wake.wait()
            cell = self._events.popleft()
            event = cell[0]
            key = replaces(event)
            if key is not None and self._waiting.get(key) is cell:
                del self._waiting[key]
            self._weight -= _weight(event)
            yield event
            if isinstance(event, Finished):
                return


def _weight(event: JobEvent) -> int:
    """How much it counts. What takes the place of another weighs the same."""
    if not isinstance(event, OutputReady):
        return 1
    return 1 + sum(1 + (len(output.filename) + len(output.subfolder)) // _CHARACTERS for output in event.outputs)
