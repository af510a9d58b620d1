"""`FaultProxy`: stands between a client and a server, carries every byte, and misbehaves where rules say so."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Self
from urllib.parse import urlsplit

from .book import Book, Injected
from .frames import FrameToxic, Message
from .link import WAYS, Link
from .rules import Rule, Rules
from .toxics import Direction, Toxic
from .wire import Wire


class FaultProxy:
    """A TCP proxy that understands HTTP/1.1 and websockets as far as its rules need, as ``async with``.

    The faults follow from ``seed``: the same for the same order of requests. `report` says what happened.

    Args:
        upstream: The url of the server; a path in it is kept in `url`, and left out of the paths of rules and counters.
        seed: Decides chances, ranges and places.
        ssl_context: For a server with https; by default the usual checks.

    Attributes:
        url: What to give the client.
        book: Counters and log: see `Book`.
        rules: All rules.
        flowing: Cleared for a direction while its websockets are frozen.
        kept: Connections to the server whose client was dropped.
        errors: What went wrong in the proxy itself; raised at the end.
    """

    def __init__(self, upstream: str, *, seed: int | None = None, ssl_context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(upstream)
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._ssl = (ssl_context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._prefix = parts.path.rstrip("/")
        self._own_port = 0
        self._listener: asyncio.Server | None = None
        self._links: dict[Link, asyncio.Task[None]] = {}
        self.upstream = upstream.rstrip("/")
        self.seed = random.randrange(2**32) if seed is None else seed
        self.book = Book()
        self.rules = Rules(self.seed, self.book)
        self.flowing = {way: asyncio.Event() for way in WAYS}
        self.kept: list[Wire] = []
        self.errors: list[Exception] = []

    async def __aenter__(self) -> Self:
        for flowing in self.flowing.values():
            flowing.set()
        await self._listen()
        return self

    async def __aexit__(self, *_) -> None:
        await self._stop()
        await self.close_kept()
        if self.errors:
            raise ExceptionGroup("the fault proxy itself failed", self.errors)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._own_port}{self._prefix}"

    @property
    def log(self) -> list[Injected]:
        """The faults so far, in order."""
        return self.book.log

    def report(self) -> str:
        """The seed and the faults, to replay a failure."""
        lines = [f"seed {self.seed}; the same again with COMFYCLIENT_FAULT_SEED={self.seed}", *map(str, self.log)]
        return "\n".join(lines)

    # Rules

    def on(
        self,
        method: str | None,
        path: str | re.Pattern[str] | None,
        toxic: Toxic,
        *,
        nth: int = 1,
        times: int | None = 1,
        probability: float = 1.0,
        connection: int | None = None,
    ) -> Rule:
        """What is wrong with requests for a path or one below it, or that a pattern finds (``None``: any).

        Each request meets at most one HTTP toxic, of the first rule that strikes, and any number of toxics for bytes.
        The rule strikes from the ``nth`` request that it is for on, ``times`` times (``None``: for ever).
        """
        facts = {"nth": nth, "times": times, "probability": probability, "connection": connection}
        return self.rules.add(self.rules.requests, toxic, method=method, path=path, **facts)

    def on_connection(self, toxic: Toxic, number: int | None = None, **facts) -> Rule:
        """What is wrong with the connection of that number, from 1, or with any; ``facts`` as for `on`."""
        return self.rules.add(self.rules.connections, toxic, connection=number, **facts)

    def on_message(self, toxic: FrameToxic, message: str | int | Callable[[Message], bool] | None = None, **facts):
        """What is wrong with websocket messages for the client: of a `Message.kind`, for which a function is true, any.

        Works on open sockets too. ``facts`` as for `on`.
        """
        return self.rules.add(self.rules.frames, toxic, message=message, **facts)

    def off(self, rule: Rule) -> None:
        """Take a rule back."""
        self.rules.remove(rule)

    # At once

    def freeze(self, way: Direction) -> None:
        """Carry nothing in this direction of websockets until `thaw`; what is said meanwhile waits."""
        self.flowing[way].clear()

    def thaw(self, way: Direction) -> None:
        """Undo `freeze`."""
        self.flowing[way].set()

    def poison(self, toxic: Toxic, *, sockets_only: bool = True) -> int:
        """Let a toxic work on the connections that are open. Returns how many there are."""
        links = self._open(sockets_only=sockets_only)
        for link in links:
            self.book.note(f"connection {link.number}, open", toxic)
            link.poison([toxic.fresh(random.Random(f"{self.seed}/open/{len(self.log)}"))])
        return len(links)

    def drop_sockets(self, *, keep_upstream: bool = False) -> int:
        """Reset every websocket. Returns how many there were.

        With ``keep_upstream`` the server does not learn of it before `close_kept`.
        """
        return self._drop(sockets_only=True, keep_upstream=keep_upstream)

    def drop_all(self) -> int:
        """Reset every connection. Returns how many there were."""
        return self._drop(sockets_only=False)

    async def close_kept(self) -> None:
        """Reset the connections to the server whose clients were dropped."""
        kept, self.kept = self.kept, []
        await asyncio.gather(*(wire.end("reset") for wire in kept))

    async def inject(self, message: str | bytes | Message) -> None:
        """Send a message of one's own to every websocket client."""
        made = message if isinstance(message, Message) else Message.make(message)
        for link in self._open(sockets_only=True):
            await link.relay.frames.inject(made)

    @contextlib.asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Refuse connections for the time of the ``async with``; those that are open are reset."""
        self.book.note("everything", "down")
        await self._stop()
        try:
            yield
        finally:
            await self._listen()

    # What links ask

    async def connect(self) -> Wire:
        """A new connection to the server.

        Raises:
            OSError: There is none.
        """
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(Wire, self._host, self._port, ssl=self._ssl)
        self.book.upstreams += 1
        return wire

    def path_of(self, target: str) -> str:
        """The path of a request's target, as rules and counters have it."""
        return target.partition("?")[0].removeprefix(self._prefix)

    # Inside

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._stopping = False
        self._listener = await loop.create_server(lambda: Wire(self._accept), "127.0.0.1", self._own_port, backlog=1024)
        self._own_port = self._listener.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._listener is not None
        self._stopping = True
        self._listener.close()
        for link in self._links:
            link.sever("reset")
        await asyncio.gather(*self._links.values())
        await self._listener.wait_closed()

    def _accept(self, wire: Wire) -> None:
        if self._stopping:  # it came at the last moment
            wire.transport.abort()
            return
        self.book.connections += 1
        link = Link(self, wire, self.book.connections)
        task = asyncio.create_task(link.run(), name=f"fault-proxy-{link.number}")
        self._links[link] = task
        task.add_done_callback(lambda _: self._links.pop(link))
        self.book.changed()

    def _open(self, *, sockets_only: bool) -> list[Link]:
        return [link for link in self._links if link.relay.frames is not None or not sockets_only]

    def _drop(self, *, sockets_only: bool, keep_upstream: bool = False) -> int:
        links = self._open(sockets_only=sockets_only)
        for link in links:
            self.book.note(f"connection {link.number}, open", "dropped")
            link.sever("reset", keep_upstream=keep_upstream)
        return len(links)
