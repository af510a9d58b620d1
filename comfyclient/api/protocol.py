"""HTTP for uvicorn, with a limit on how long the head of a request may take to come.

It rests on h11, which refuses a head that grows too large; httptools would hold any number of headers in memory.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from comfyclient.api.replies import problem

if TYPE_CHECKING:
    import asyncio

    from uvicorn.config import Config
    from uvicorn.server import ServerState

__all__ = ["PatientProtocol", "protocol_for"]

_DEFAULT: Final = 10.0
_LINGER: Final = 1.0  # seconds


class PatientProtocol(H11Protocol):
    """Waits ``head_seconds`` for a head that has begun to come, and as long for the first of a connection.

    Who sent a part of one is answered 408, who sent nothing, nothing; then the connection is closed. A head that is too
    large is answered 431, and what is no HTTP 400.
    """

    head_seconds: ClassVar[float] = _DEFAULT

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_timer: asyncio.TimerHandle | None = None
        self._over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock runs from here."""
        super().connection_made(transport)
        _send_at_once(transport)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It stops here."""
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take it, unless the connection is only open still so that its other end can read our answer."""
        if not self._over:
            super().data_received(data)

    def handle_events(self) -> None:
        """Take what has come, and start or stop the clock by what is there then."""
        super().handle_events()
        if self.scope is not None:  # no answer can be broken off by ASGI's own means
            self.scope.setdefault("extensions", {})["comfyclient.abort"] = {"call": self._break_off}
        if self._over:
            return
        waits = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if self.transport.is_closing() or not waits:
            self._stop_watching()
        elif self._head_timer is None:
            self._watch_head()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Another protocol goes on from here."""
        self._stop_watching()
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read."""
        buffered = len(self.conn.trailing_data[0])
        if self.conn.their_state is h11.ERROR and buffered > self._head_cap():
            self._answer(431, "headers_too_large", "the head of the request is too large")
        else:
            self._answer(400, "request_invalid", msg)

    def _break_off(self) -> None:
        """Drop what is not sent yet, and reset the connection: no end of an answer looks like that."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            at_once = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.transport.abort()

    def _head_cap(self) -> int:
        cap = self.config.h11_max_incomplete_event_size
        return cap if cap is not None else 16 * 2**10  # the library's own

    def _watch_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def _stop_watching(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:
            self._answer(408, "head_slow", "the head of the request did not arrive in time")
        else:
            self.transport.close()

    def _answer(self, status: int, code: str, detail: str) -> None:
        """Answer a request that never became one, and close the connection."""
        self._stop_watching()
        if self.cycle is not None:  # an application that still reads the body is told that there is no more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:  # an answer is under way; it ends here
            self.transport.close()
            return
        answer = problem(status, code, detail, headers={"Connection": "close", "X-Content-Type-Options": "nosniff"})
        head = h11.Response(status_code=status, headers=answer.raw_headers, reason=STATUS_PHRASES[status])
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._over = True  # closed on what is still coming, a connection may take the answer with it
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._head_timer = self.loop.call_later(_LINGER, self.transport.close)


def _send_at_once(transport: asyncio.Transport) -> None:
    """Head and body of an answer are sent apart, and Nagle would have the second wait 40 ms for the first.

    asyncio sees to it only for sockets that name their protocol, which those accepted by a plain one do not.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def protocol_for(head_seconds: float) -> type[PatientProtocol]:
    """The class to give uvicorn: for the default, one that a process started anew can import (``--reload``)."""
    if head_seconds == _DEFAULT:
        return PatientProtocol
    return type("PatientProtocol", (PatientProtocol,), {"head_seconds": head_seconds})
