"""The second connection to the server, for a request that it gets twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .events import Head, Part
from .framing import ResponseFramer

if TYPE_CHECKING:
    from .proxy import FaultProxy
    from .wire import Wire


class Twin:
    """Sends what it is given, but keeps the last piece until `settle`: the server has the second request later."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self._last = b""
        self._method = ""
        self.wire: Wire | None = None

    @property
    def held(self) -> int:
        """Bytes that wait."""
        return len(self._last)

    async def write(self, data: bytes, method: str) -> None:
        """Take a piece of the request."""
        if self.wire is None:
            self.wire = await self._proxy.connect()
        self._method = method
        if not data:
            return
        if self._last:
            await self.wire.write(self._last)
        self._last = data

    async def settle(self) -> None:
        """Send the rest, and wait for the whole answer."""
        assert self.wire is not None
        wire, last = self.wire, self._last
        self._last = b""
        await wire.write(last)
        framer = ResponseFramer()
        framer.expect(self._method)
        while data := await wire.read():
            if any(_is_over(event) for event in framer.feed(data)):
                break
        await wire.end("close")
        self.wire = None


def _is_over(event) -> bool:
    return event.status == 101 if isinstance(event, Head) else event.part is Part.END
