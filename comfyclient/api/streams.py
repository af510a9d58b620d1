"""Answers that go on for a while: a job's events, and the bytes of an output."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from comfyclient._redact import RedactingFilter
from comfyclient.api.replies import problem, refusal
from comfyclient.errors import ComfyClientError
from comfyclient.names import safe_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    from starlette.types import Message, Receive, Scope, Send

    from comfyclient.api.events import EventLog
    from comfyclient.api.hub import Hub
    from comfyclient.api.sessions import ApiSession
    from comfyclient.relay import Relayed
    from comfyclient.wire.outputs import OutputRef

__all__ = ["EventStream", "OutputBytes", "events_of", "line_of"]

_HEARTBEAT: Final = 15.0  # seconds of silence after which something is said, or proxies hang up
_STALLED: Final = 60.0  # seconds for which a caller may take nothing of a file
_HARMLESS: Final = ("image/", "video/", "audio/", "model/")
_MARKUP: Final = ("image/svg",)
_BYTES: Final = "application/octet-stream"

_log = logging.getLogger("comfyclient.api")
_log.addFilter(RedactingFilter())


async def events_of(
    log: EventLog, after: int, closing: asyncio.Event
) -> AsyncGenerator[tuple[int, Mapping[str, Any]] | None, None]:
    """The events of a job after number ``after``; ``None`` when nothing was heard for a while.

    It ends with the job, or when ``closing`` is set.
    """
    source = log.follow(after)
    end = asyncio.ensure_future(closing.wait())
    coming: asyncio.Future[Any] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(source))
            await asyncio.wait({coming, end}, timeout=_HEARTBEAT, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                if end.done():
                    return
                yield None
                continue
            try:
                event, coming = coming.result(), None
            except StopAsyncIteration:
                return
            yield event
    finally:
        waiting = [task for task in (end, coming) if task is not None]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await source.aclose()


def line_of(number: int, event: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return f"id: {number}\nevent: {event['event']}\ndata: {json.dumps(event)}\n\n".encode()


class EventStream(Response):
    """A job's events as server-sent events."""

    def __init__(self, hub: Hub, owner: str, log: EventLog, after: int) -> None:
        super().__init__()
        self._hub, self._owner, self._log, self._after = hub, owner, log, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        with self._hub.stream(self._owner):
            headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            answer = StreamingResponse(self._lines(), media_type="text/event-stream", headers=headers)
            await answer(scope, receive, send)

    async def _lines(self) -> AsyncIterator[bytes]:
        async with contextlib.aclosing(events_of(self._log, self._after, self._hub.closing)) as events:
            async for event in events:
                yield b": still here\n\n" if event is None else line_of(*event)


class OutputBytes(Response):
    """A file of an instance, handed on as it comes. A browser is told to save it, never to show it as a page."""

    def __init__(self, hub: Hub, owner: str, session: ApiSession, ref: OutputRef, asked: dict[str, str]) -> None:
        super().__init__()
        self._hub, self._owner = hub, owner
        self._session, self._ref, self._asked = session, ref, asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._hub.stream(self._owner), self._session.at_work():
            sending = _Sending(scope, send)
            try:
                await self._relay(self._asked, scope, receive, sending)
            except ComfyClientError as error:
                if not sending.begun:
                    await refusal(error)(scope, receive, send)
                    return
                # The answer stays without its end, so that nobody takes what came for the whole.
                _log.warning("an output broke off on its way: %s", error)
                if scope["http_version"] == "1.0":  # where the end of the connection is that of the answer
                    sending.abort()

    async def _relay(self, asked: dict[str, str], scope: Scope, receive: Receive, send: _Sending) -> None:
        async with self._session.client.relay(self._ref, asked) as found:
            if not _is_of_another(found, asked):
                await self._answer(found, scope)(scope, receive, send)
                return
        await self._relay({name: asked[name] for name in asked.keys() - {"Range", "If-Range"}}, scope, receive, send)

    def _answer(self, found: Relayed, scope: Scope) -> Response:
        if scope["http_version"] == "1.0" and found.status in {200, 206} and "Content-Length" not in found.headers:
            return problem(
                505, "http_version", "its length is not known, and HTTP/1.0 cannot tell a part of it from the whole",
                hint="ask by HTTP/1.1; nginx does with `proxy_http_version 1.1`",
            )  # fmt: skip
        return StreamingResponse(found.body, found.status, self._about(found))

    def _about(self, found: Relayed) -> dict[str, str]:
        headers = {name: value for name, value in found.headers.items() if value.isascii() and value.isprintable()}
        kind = headers.get("Content-Type", _BYTES)
        harmless = kind.startswith(_HARMLESS) and not kind.startswith(_MARKUP)
        name = quote(safe_name(self._ref.filename), safe="")
        return headers | {
            "Content-Type": kind if harmless else _BYTES,
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "Content-Security-Policy": "sandbox; default-src 'none'",
        }


class _Sending:
    """Sends, knows whether anything was sent, and gives up a caller who does not read."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send, self.begun = send, False
        self._abort: Callable[[], None] | None = scope.get("extensions", {}).get("comfyclient.abort", {}).get("call")

    async def __call__(self, message: Message) -> None:
        self.begun = True
        stalled = asyncio.get_running_loop().call_later(_STALLED, self.abort)
        try:
            await self._send(message)
        finally:
            stalled.cancel()

    def abort(self) -> None:
        """Break the connection off: what is sent is dropped, and the caller learns that it was not all."""
        if self._abort is not None:
            self._abort()


def _is_of_another(found: Relayed, asked: Mapping[str, str]) -> bool:
    """Whether a part is not of the file that the caller has the rest of: ComfyUI ignores an ETag in ``If-Range``."""
    mark = asked.get("If-Range", "")
    return found.status == 206 and mark.endswith('"') and mark != found.headers.get("ETag")
