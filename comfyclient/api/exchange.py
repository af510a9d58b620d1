"""One HTTP request and its answer, under the limits of body and time, and with the headers that every answer has."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect

from comfyclient.api.replies import problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Exchange", "too_large"]

_SLOWEST: Final = 64 * 2**10  # bytes a second: a body may take the longer the more of it has come
_LINGER: Final = 1.0  # seconds. A connection that is closed on what is still coming may take the answer with it
_GONE: Final[Message] = {"type": "http.disconnect"}


class Exchange:
    """The two ends of a request, to be given to an application in place of the server's.

    Once `refuse` was called, or a limit was passed while the application read, the application hears that the caller
    has left, and what it still sends is dropped.

    Args:
        scope: The request.
        receive: The server's.
        send: The server's.
        body: Whether the request has a body.
        cap: Bytes that it may have.
        seconds: How long it may keep us waiting, and a second for every 64 KiB.
        headers: What every answer has, unless it brings its own.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        body: bool,
        cap: int,
        seconds: float,
        headers: Mapping[str, str],
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._coming = body
        self._cap = cap
        self._seconds = seconds
        self._headers = headers
        self._size = 0
        self._waited = 0.0
        self._closes = self._started = self._refused = False

    async def receive(self) -> Message:
        """The next piece of the body; after its end, that the caller has left."""
        if self._refused:
            return _GONE
        if not self._coming:
            return await self._receive()
        try:
            message = await self._next()
        except TimeoutError:
            await self.refuse(problem(408, "body_slow", "the body of the request did not arrive in time"))
            return _GONE
        self._coming = message["type"] == "http.request" and message.get("more_body", False)
        self._size += len(message.get("body", b""))
        if self._size > self._cap:
            await self.refuse(too_large(self._cap))
            return _GONE
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the application's answer."""
        if self._refused:
            return
        await self._pass(message)

    async def refuse(self, answer: Response) -> None:
        """Answer in place of the application. If that has begun to, nothing can be said any more."""
        if self._refused:
            return
        self._refused = True
        if not self._started:
            await answer(self._scope, self._receive, self._pass)

    async def run(self, app: ASGIApp) -> None:
        """Have the application answer."""
        try:
            await app(self._scope, self.receive, self.send)
        except ClientDisconnect:
            if not self._refused:  # else it is what we told it
                raise

    async def _next(self) -> Message:
        clock = asyncio.get_running_loop().time
        before = clock()
        async with asyncio.timeout(self._seconds + self._size / _SLOWEST - self._waited):
            message = await self._receive()
        self._waited += clock() - before
        return message

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (ends and self._closes):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._linger()
        await self._send({"type": "http.response.body"})

    def _begin(self, message: Message) -> None:
        self._started = True
        message.setdefault("headers", [])
        headers = MutableHeaders(scope=message)
        for name, value in self._headers.items():
            headers.setdefault(name, value)
        if self._coming:  # what is left of the body would be taken for the next request, or waited for without end
            self._closes = True
            headers["Connection"] = "close"

    async def _linger(self) -> None:
        """Take what is still coming, for a moment, and drop it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while (message := await self._receive())["type"] == "http.request" and message.get("more_body"):
                    pass


def too_large(cap: int) -> Response:
    """413."""
    return problem(413, "body_too_large", f"the body of the request is larger than {cap} bytes")
