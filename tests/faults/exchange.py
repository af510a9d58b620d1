"""One request and its answer, as the proxy keeps track of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from .book import BODY_LIMIT, Book, Post, below
from .events import Event, Head, Part
from .http_toxics import HttpToxic
from .rules import Rules
from .toxics import Step, Toxic


@dataclass(eq=False)
class Exchange:
    """A request under way.

    Attributes:
        special: The toxic that deals with its parts, if there is one.
        toxics: Those for its bytes, each for one direction.
        post: What is kept of a POST to /prompt.
        before: The request before it on the same connection, if that is not over.
        start: What happens as soon as it has come.
        sent: Whether the server gets it, or a part of it.
        done: Set when the client has the whole answer.
    """

    method: str
    path: str
    special: HttpToxic | None = None
    toxics: dict[str, list[Toxic]] = field(default_factory=dict)
    before: Exchange | None = None
    post: Post | None = None
    start: list[Step] = field(default_factory=list)
    sent: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def turn(self) -> None:
        """Wait until the answers before this one have been given."""
        if self.before is not None:
            await self.before.done.wait()
            self.before = None

    def read(self, event: Event) -> None:
        """Note a part of the request."""
        if self.post is None or isinstance(event, Head):
            return
        if event.part is Part.BODY and len(self.post.raw) < BODY_LIMIT:
            self.post.raw += event.raw
        elif event.part is Part.END:
            self.post.complete()

    def forwarded(self) -> None:
        """The server has the whole request."""
        if self.post is not None:
            self.post.forwarded += 1


def by_direction(toxics: list[Toxic]) -> dict[str, list[Toxic]]:
    """Toxics for each direction. Those for both have no state, so one will do."""
    return {way: [toxic for toxic in toxics if toxic.direction in {way, "both"}] for way in ("up", "down")}


def open_exchange(head: Head, connection: int, path: str, rules: Rules, book: Book, *, reused: bool) -> Exchange:
    """A request has come: note it, and find what shall go wrong with it."""
    book.requests[head.method, path] += 1
    book.headers[path] = dict(head.headers)
    special, plain = rules.for_request(connection, head.method, path, reused=reused)
    exchange = Exchange(head.method, path, special, by_direction(plain))
    exchange.start = [step for toxic in (*plain, *([special] if special else [])) for step in toxic.start()]
    if head.method == "POST" and below(path, "/prompt"):
        exchange.post = Post(connection)
        book.posts.append(exchange.post)
    book.changed()
    return exchange
