"""What a connection carries: requests and answers one behind the other, then perhaps a websocket."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .events import Event, Head, Part, Piece
from .exchange import Exchange, open_exchange
from .framing import RequestFramer, ResponseFramer
from .socket_frames import SocketFrames
from .toxics import Copy, Reply, Send, Settle, Step, Toxic
from .twin import Twin

if TYPE_CHECKING:
    from .link import Link


class Relay:
    """Both directions of a `Link`, understood.

    Attributes:
        socket: The request that made it a tunnel, once the server agreed.
        frames: Its messages, if it is a websocket.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._requests, self._responses = RequestFramer(), ResponseFramer()
        self._current: Exchange | None = None
        self._awaited: deque[Exchange] = deque()
        self._used = False
        self._upgrade = ""
        self.socket: Exchange | None = None
        self.frames: SocketFrames | None = None
        self.twin = Twin(link.proxy)

    @property
    def held(self) -> int:
        """Bytes that wait for others to make sense."""
        frames = self.frames.held if self.frames is not None else 0
        return self._requests.held + self._responses.held + frames + self.twin.held

    def toxics(self, way: str) -> list[Toxic]:
        """Those of the request under way."""
        exchange = self.socket or self._current
        return exchange.toxics[way] if exchange is not None else []

    async def up(self) -> None:
        """Carry what the client says, to its end."""
        while data := await self._link.read("up"):
            for event in self._requests.feed(data):
                await self._request(event)
        for event in self._requests.eof():
            await self._request(event)

    async def down(self) -> None:
        """Carry what the server says, to its end."""
        await self._link.connected.wait()
        while data := await self._link.read("down"):
            for event in self._responses.feed(data):
                await self._response(event)
        for event in self._responses.eof():
            await self._response(event)

    def closed(self) -> None:
        """The connection is over."""
        if self.frames is not None:
            self._link.proxy.book.open_sockets -= 1
            self._link.proxy.book.changed()

    # Requests

    async def _request(self, event: Event) -> None:
        if isinstance(event, Head):
            await self._open(event)
        elif event.part is Part.OPAQUE:
            await self._opaque_up(event.raw)
            return
        exchange = self._current
        assert exchange is not None
        exchange.read(event)
        special = exchange.special
        await self._perform("up", exchange, special.request(event) if special else [Send(event.raw)])
        if isinstance(event, Piece) and event.part is Part.END:
            self._sent(exchange)

    async def _open(self, head: Head) -> None:
        proxy = self._link.proxy
        before, path = self._current, proxy.path_of(head.target)
        exchange = open_exchange(head, self._link.number, path, proxy.rules, proxy.book, reused=self._used)
        exchange.before = before if before is not None and not before.done.is_set() else None
        self._current = exchange
        self._upgrade = ",".join(head.all("upgrade")).lower()
        for step in exchange.start:
            await self._link.transmit("up", step)

    def _sent(self, exchange: Exchange) -> None:
        if exchange.sent:
            exchange.forwarded()
        else:
            exchange.done.set()
            self._used = True
        self._link.proxy.book.changed()

    async def _opaque_up(self, raw: bytes) -> None:
        """No HTTP: then what the server says is none either."""
        if self.socket is None and (held := self._responses.tunnel()):
            await self._link.transmit("down", Send(held))
        await self._link.transmit("up", Send(raw), self.toxics("up"))

    # Answers

    async def _response(self, event: Event) -> None:
        if isinstance(event, Piece) and event.part is Part.OPAQUE:
            await self._opaque_down(event.raw)
        elif not self._awaited or (isinstance(event, Head) and event.interim):
            await self._link.transmit("down", Send(event.raw), self.toxics("down"))
        else:
            await self._answer(self._awaited[0], event)

    async def _answer(self, exchange: Exchange, event: Event) -> None:
        if isinstance(event, Head):
            if exchange.post is not None:
                exchange.post.status = event.status
            if event.status == 101:
                await self._switch(exchange)
        special = exchange.special
        await self._perform("down", exchange, special.response(event) if special else [Send(event.raw)])
        if isinstance(event, Piece) and event.part is Part.END:
            self._awaited.popleft()
            exchange.done.set()
            self._used = True
        elif self.socket is not None and "websocket" in self._upgrade:
            self._opened()

    async def _switch(self, exchange: Exchange) -> None:
        self.socket = exchange
        if held := self._requests.tunnel():
            await self._link.transmit("up", Send(held), exchange.toxics["up"])

    def _opened(self) -> None:
        book = self._link.proxy.book
        self.frames = SocketFrames(self._link)
        book.sockets += 1
        book.open_sockets += 1
        book.changed()

    async def _opaque_down(self, raw: bytes) -> None:
        if self.frames is not None:
            await self.frames.feed(raw)
        else:
            await self._link.transmit("down", Send(raw), self.toxics("down"))

    # Both

    async def _perform(self, way: str, exchange: Exchange, steps: Iterable[Step]) -> None:
        for step in steps:
            match step:
                case Reply(data):
                    await exchange.turn()
                    await self._link.transmit("down", Send(data), exchange.toxics["down"])
                case Copy(data):
                    await self.twin.write(data, exchange.method)
                case Settle():
                    await self.twin.settle()
                    exchange.forwarded()
                case _:
                    if way == "up" and isinstance(step, Send) and step.data:
                        self._expect(exchange)
                    await self._link.transmit(way, step, exchange.toxics[way])

    def _expect(self, exchange: Exchange) -> None:
        if not exchange.sent:
            exchange.sent = True
            self._responses.expect(exchange.method)
            self._awaited.append(exchange)
