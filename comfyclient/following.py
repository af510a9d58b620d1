"""One job that is followed: its state machine, those who listen to it, and its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfyclient.feed import Feed
from comfyclient.wire.messages import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from comfyclient.reach import OutOfReach
    from comfyclient.wire.events import JobEvent
    from comfyclient.wire.lifecycle import JobTracker
    from comfyclient.wire.progress import JobProgress

    Again = Callable[["Following"], Coroutine[None, None, object]]
    """Gives a lost job another id at once, and submits it under that when it is awaited."""

__all__ = ["Audience", "Following"]


@dataclass(slots=True)
class Audience:
    """How many listen to the jobs of a client, so that the reader knows what it need not read."""

    listeners: int = 0
    preview_listeners: int = 0


class Following:
    """What a client knows of one job.

    Attributes:
        tracker: Its state.
        own: Whether its messages come to this client's socket.
        again: What submits it once more if it gets lost.
        submission: The second submission, while it is under way.
        over: Whether following it has ended.
        failure: What `wait` raises.
        out_of_reach: What is known of that, while the server cannot be asked about it.
    """

    __slots__ = (
        "_at_end", "_audience", "_ended", "_feeds", "_unread", "again", "failure", "out_of_reach", "over", "own",
        "submission", "tracker",
    )  # fmt: skip

    def __init__(self, tracker: JobTracker, audience: Audience, *, own: bool, again: Again | None = None) -> None:
        self.tracker = tracker
        self.own = own
        self.again = again
        self.submission: asyncio.Task[None] | None = None
        self.failure: Exception | None = None
        self.out_of_reach: OutOfReach | None = None
        self._audience = audience
        self._feeds: list[Feed] = []
        self.over = False
        self._ended: asyncio.Event | None = None
        self._at_end: Callable[[Following], None] | None = None
        self._unread: str | None = None

    @property
    def listened(self) -> bool:
        """Whether anybody wants its events."""
        return bool(self._feeds)

    @property
    def ended(self) -> asyncio.Event:
        """Set at its end. Made for who waits for it: it is as large as all the rest, and of many jobs nobody does."""
        if self._ended is None:
            self._ended = asyncio.Event()
            if self.over:
                self._ended.set()
        return self._ended

    @property
    def progress(self) -> JobProgress:
        """How far it is."""
        self._catch_up()
        return self.tracker.progress

    async def wait(self) -> None:
        """Wait for the end.

        Raises:
            ComfyClientError: The server's record of this job cannot be understood.
        """
        await self.ended.wait()
        if self.failure is not None:
            raise self.failure

    def at_end(self, call: Callable[[Following], None]) -> None:
        """Have this called when it has ended: at once if it has. There is one such call, which it keeps alive."""
        self._at_end = call
        if self.over:
            call(self)

    def subscribe(self, *, previews: bool) -> Feed:
        """Add a listener. What it missed is told in short: where the job is now."""
        self._catch_up()
        feed = Feed(previews=previews)
        for event in self.tracker.situation():
            feed.put(event)
        if not self.over:
            self._feeds.append(feed)
            self._count(feed, 1)
        return feed

    def unsubscribe(self, feed: Feed) -> None:
        """Remove a listener."""
        if feed in self._feeds:
            self._feeds.remove(feed)
            self._count(feed, -1)

    def put_aside(self, frame: str) -> None:
        """Keep the latest progress_state unread: it is large, and few ask."""
        self._unread = frame

    def restart(self, events: Iterable[JobEvent]) -> None:
        """It begins anew: forget what was heard of it."""
        self._unread = self.out_of_reach = None
        self.tell(events)

    def tell(self, events: Iterable[JobEvent]) -> None:
        """Pass events on to the listeners, and notice the end."""
        for event in events:
            for feed in self._feeds:
                feed.put(event)
        if self.tracker.state.is_terminal and not self.over:
            for feed in tuple(self._feeds):
                self.unsubscribe(feed)
            self._unread, self.over = None, True
            if self._ended is not None:
                self._ended.set()
            if self._at_end is not None:
                self._at_end(self)

    def fail(self, error: Exception) -> None:
        """End it with an error that is not the job's: `wait` raises it."""
        self.failure = error
        self.tell(self.tracker.give_up(str(error)))

    def _catch_up(self) -> None:
        frame, self._unread = self._unread, None
        if frame is not None:
            self.tell(self.tracker.on_progress(decode(frame)))

    def _count(self, feed: Feed, change: int) -> None:
        self._audience.listeners += change
        self._audience.preview_listeners += change * feed.previews
