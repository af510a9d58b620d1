"""The events of one job, numbered and kept, so that a listener that was cut off goes on where it was."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

__all__ = ["EventLog"]

_MOST: Final = 2000
_STORY: Final = 200  # events that are kept of a job that is over
_PASSING: Final = frozenset({"queued", "node_progress", "node_started", "node_finished"})


class EventLog:
    """What happened to a job, each with a number. It never waits for those who listen.

    Numbers begin with the time (in milliseconds since 1970), so that those of a server that was restarted are higher
    than any that its listeners have seen.

    Of events that only show progress the latest is kept, if they follow upon each other; of more than 2 000 events
    those that are about single nodes go, or the oldest.
    """

    def __init__(self) -> None:
        self._events: deque[tuple[int, Mapping[str, Any]]] = deque()
        self._last = int(time.time() * 1000)
        self._passing = 0  # how many of them are about single nodes
        self._over = False
        self._news = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether there will be no more."""
        return self._over

    @property
    def last(self) -> int:
        """The number of the latest."""
        return self._last

    def add(self, event: Mapping[str, Any]) -> None:
        """Something happened."""
        if self._events and _supersedes(event, self._events[-1][1]):
            self._drop(self._events.pop())
        elif len(self._events) >= _MOST:
            self._thin_out()
        self._last += 1
        self._passing += event["event"] in _PASSING
        self._events.append((self._last, event))
        self._tell()

    def end(self) -> None:
        """Nothing more will happen. Of a long story only what counts is kept."""
        self._over = True
        if len(self._events) > _STORY:
            self._forget_passing()
        self._tell()

    def resume(self) -> None:
        """It goes on after all."""
        self._over = False

    async def follow(self, after: int = 0) -> AsyncGenerator[tuple[int, Mapping[str, Any]], None]:
        """The events after number ``after``, until the last. A number from the future is taken for 0."""
        seen = after if 0 <= after <= self._last else 0
        while True:
            last = self._last
            # A copy: while the caller deals with one, others may come and take places.
            for number, event in [entry for entry in self._events if entry[0] > seen]:
                seen = number
                yield number, event
            seen = max(seen, last)  # the last ones may have been thinned out
            if seen < self._last:
                continue
            if self._over:
                return
            await self._news.wait()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _thin_out(self) -> None:
        if self._passing * 4 >= len(self._events):
            self._forget_passing()
        else:
            self._drop(self._events.popleft())

    def _forget_passing(self) -> None:
        self._events = deque(entry for entry in self._events if entry[1]["event"] not in _PASSING)
        self._passing = 0

    def _drop(self, entry: tuple[int, Mapping[str, Any]]) -> None:
        self._passing -= entry[1]["event"] in _PASSING


def _supersedes(event: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    kind = event["event"]
    if kind != before["event"] or kind not in {"queued", "node_progress"}:
        return False
    return kind == "queued" or event.get("node_id") == before.get("node_id")
