"""One TCP connection, as little as a proxy needs of it: at most one read and one write are held in memory."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, for no seconds: what is unsent is dropped, and RST sent


class Wire(asyncio.Protocol):
    """Reads when asked, writes through, and ends as told.

    Attributes:
        gone: Set when the connection is closed and its socket freed.
    """

    def __init__(self, on_made: Callable[[Wire], None] | None = None) -> None:
        self._on_made = on_made
        self._chunk = b""
        self._eof = False
        self._ended = False
        self._error: Exception | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.gone = asyncio.Event()

    # What asyncio calls

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=0)
        if self._on_made is not None:
            self._on_made(self)

    def data_received(self, data: bytes) -> None:
        self._chunk += data
        self.transport.pause_reading()
        self._readable.set()

    def eof_received(self) -> bool:
        self._eof = True
        self._readable.set()
        return not self._tls  # keep the other direction open

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc) -> None:
        self._error = exc
        self.gone.set()
        self._readable.set()
        self._writable.set()

    # What the proxy calls

    @property
    def _tls(self) -> bool:
        return self.transport.get_extra_info("ssl_object") is not None

    @property
    def held(self) -> int:
        """Bytes read and not taken, or written and not sent."""
        return len(self._chunk) + (0 if self.gone.is_set() else self.transport.get_write_buffer_size())

    async def read(self) -> bytes:
        """The next bytes; none at the end of the stream.

        Raises:
            ConnectionError: The other side reset the connection.
        """
        await self._readable.wait()
        data, self._chunk = self._chunk, b""
        if data:
            if not self._eof and not self.gone.is_set():
                self._readable.clear()
                self.transport.resume_reading()
            return data
        if self._error is not None:
            raise ConnectionResetError("reset by the other side") from self._error
        return b""

    async def write(self, data: bytes) -> None:
        """Send it, and wait until the system has taken all of it.

        Raises:
            ConnectionError: The connection is closed.
        """
        if not self.gone.is_set() and not self._ended:
            self.transport.write(data)
            await self._writable.wait()
        if self.gone.is_set() or self._ended:
            raise ConnectionResetError("closed by the other side") from self._error

    def write_eof(self) -> None:
        """Send nothing more."""
        if self._ended or self.gone.is_set() or self.transport.is_closing():
            return
        self._ended = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    async def end(self, how: str) -> None:
        """Close it in this way, and wait until it is."""
        if not self.gone.is_set():
            if how == "reset":
                sock = self.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
            if how == "close" and not self.transport.get_write_buffer_size() and not self._tls:
                self.transport.close()
            else:
                self.transport.abort()
        await self.gone.wait()
