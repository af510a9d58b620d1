"""One connection of a client through the proxy, and its counterpart to the server: how they carry bytes and end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .exchange import by_direction
from .relay import Relay
from .toxics import Cut, CutLater, Hang, Send, Step, Toxic
from .wire import Wire

if TYPE_CHECKING:
    from .proxy import FaultProxy

WAYS = ("up", "down")


class Severed(Exception):
    """A toxic ends the connection."""


class Hung(Exception):
    """A toxic lets nothing through any more in this direction."""


class Link:
    """Two wires and what goes wrong between them. `run` returns when both are closed.

    The server's wire is opened with the first byte that goes there: what a toxic answers by itself needs no server.
    """

    def __init__(self, proxy: FaultProxy, client: Wire, number: int) -> None:
        self.proxy, self.client, self.number = proxy, client, number
        self.server: Wire | None = None
        self.connected = asyncio.Event()
        self.relay = Relay(self)
        self._toxics: dict[str, list[Toxic]] = {way: [] for way in WAYS}
        self._timers: list[asyncio.TimerHandle] = []
        self._hung = False
        self._ended: set[str] = set()
        self._end_with = "close"
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._keep = False

    # From the beginning to the end

    async def run(self) -> None:
        """Carry bytes until the connection is over."""
        self.poison(self.proxy.rules.for_connection(self.number))
        pumps = [asyncio.create_task(self._guard(way), name=f"fault-proxy-{self.number}-{way}") for way in WAYS]
        try:
            how = await self._over
        finally:
            for handle in (*self._timers, *pumps):
                handle.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.relay.closed()
        await self._close(how)

    async def _close(self, how: str) -> None:
        wires = [self.client, self.relay.twin.wire]
        if self._keep and self.server is not None:
            self.proxy.kept.append(self.server)
        else:
            wires.append(self.server)
        await asyncio.gather(*(wire.end(how) for wire in wires if wire is not None))

    def sever(self, how: str, *, keep_upstream: bool = False) -> None:
        """End the connection, if it has not ended."""
        if not self._over.done():
            self._keep = keep_upstream
            self._over.set_result(how)

    def poison(self, toxics: list[Toxic]) -> None:
        """Let these work on all that follows."""
        for way, added in by_direction(toxics).items():
            self._toxics[way] += added
        for step in (step for toxic in toxics for step in toxic.start()):
            if isinstance(step, Cut):
                self.sever(step.how)
            elif isinstance(step, CutLater):
                self._cut_later(step)

    def _cut_later(self, step: CutLater) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(step.seconds, self.sever, step.how))

    async def _guard(self, way: str) -> None:
        """Run one direction, and decide what its end means for the whole."""
        try:
            await self._pump(way)
        except Severed as cut:
            self.sever(str(cut))
        except Hung:
            self._hung = True
            self.proxy.book.hung += 1
            self.proxy.book.changed()
            await self._swallow(way)
        except OSError:
            await self._broken(way)
        except Exception as error:  # noqa: BLE001 - the proxy raises it when it is closed
            self.proxy.errors.append(error)
            self.sever("reset")

    async def _pump(self, way: str) -> None:
        await (self.relay.up() if way == "up" else self.relay.down())
        if way == "up" and (self._hung or self.server is None):
            raise Severed("close")
        for toxic in (*self._toxics[way], *self.relay.toxics(way)):
            for step in toxic.end():
                await self._execute(way, step)
        self._target(way).write_eof()
        self._finished(way)

    def _target(self, way: str) -> Wire:
        wire = self.client if way == "down" else self.server
        assert wire is not None
        return wire

    def _finished(self, way: str) -> None:
        self._ended.add(way)
        if self._ended == set(WAYS):
            self.sever(self._end_with)

    async def _broken(self, way: str) -> None:
        """A wire was reset, or there is no server. What the server said before shall still reach the client."""
        if self._hung:
            await self._swallow(way)
        elif way == "up" and self.server is not None and not self.client.gone.is_set():
            self._end_with = "reset"
            self._finished(way)
        else:
            self.sever("reset")

    async def _swallow(self, way: str) -> None:
        """Read and forget. Only the client's end ends a connection that hangs: it must not learn of the server's."""
        source = self._target("down" if way == "up" else "up")
        try:
            while await source.read():
                pass
        except ConnectionError:
            self._end_with = "reset"
        if way == "up" or "up" in self._ended:
            self.sever(self._end_with)

    # Carrying

    async def read(self, way: str) -> bytes:
        """What comes next in this direction; nothing at the end."""
        await self._flow(way)
        return await self._target("down" if way == "up" else "up").read()

    async def connect(self) -> Wire:
        """The wire to the server.

        Raises:
            OSError: There is none.
        """
        if self.server is None:
            self.server = await self.proxy.connect()
            self.connected.set()
        return self.server

    async def transmit(self, way: str, step: Step, toxics: Iterable[Toxic] = ()) -> None:
        """Do what is left of a step behind the connection's toxics and these."""
        steps = [step]
        for toxic in (*self._toxics[way], *toxics):
            steps = [after for before in steps for after in toxic.pass_on(before)]
        for each in steps:
            await self._execute(way, each)

    async def _execute(self, way: str, step: Step) -> None:
        match step:
            case Send(data, delay):
                if delay:
                    await asyncio.sleep(delay)
                if data:
                    await self._write(way, data)
            case Cut(how):
                raise Severed(how)
            case CutLater():
                self._cut_later(step)
            case Hang():
                raise Hung

    async def _write(self, way: str, data: bytes) -> None:
        await self._flow(way)
        if way == "up":
            await self.connect()
        await self._target(way).write(data)
        # What came meanwhile, as if all of this piece had still been there: rather too much than too little.
        server = self.server.held if self.server is not None else 0
        held = self.client.held + server + self.relay.held + len(data)
        self.proxy.book.peak = max(self.proxy.book.peak, held)

    async def _flow(self, way: str) -> None:
        """Wait while websockets are frozen, if this is one."""
        if self.relay.socket is not None:
            await self.proxy.flowing[way].wait()
