"""The access log: one JSON object a line for each request, with nothing in it that is secret."""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from comfyclient._redact import RedactingFilter

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from comfyclient.api.metrics import Metrics

__all__ = ["LOGGER", "AccessLog"]

LOGGER: Final = "comfyclient.api.access"
"""The logger's name. A record's message is the line."""
_LONGEST: Final = 512  # characters of a path: what matters stands at its beginning
_EVENTS: Final = b"text/event-stream"

_log = logging.getLogger(LOGGER)
_log.addFilter(RedactingFilter())


class AccessLog:
    """The outermost of the application: logs and counts what the others answer.

    A line holds ``time`` (UTC), ``id`` (as in ``X-Request-Id``), ``method`` (``WEBSOCKET`` for those), ``path`` without
    its query, ``status`` (``null``: the caller left before an answer), ``ms``, ``bytes`` of the answer's body,
    ``owner`` (the name of the API key) and ``client`` (its address).

    Args:
        app: What answers. It puts ``owner`` and ``request_id`` into the state of the scope.
        metrics: What counts.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics | None = None) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and log it when it is over, however it ends."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        entry = _Entry(scope)
        if self._metrics is not None:
            self._metrics.begin()

        async def watched(message: Message) -> None:
            entry.see(message)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            entry.failed()
            raise
        finally:
            self._finish(entry)

    def _finish(self, entry: _Entry) -> None:
        seconds = entry.seconds()
        if self._metrics is not None:
            self._metrics.request(entry.method, entry.route, entry.status or 0, seconds, stream=entry.stream)
        if _log.isEnabledFor(logging.INFO):
            _log.info(json.dumps(entry.line(seconds), separators=(",", ":")))


class _Entry:
    """What is known of one request."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._begun = time.perf_counter()
        self._bytes = 0
        self.method: str = "WEBSOCKET" if scope["type"] == "websocket" else scope["method"]
        self.status: int | None = None
        self.stream = False

    def see(self, message: MutableMapping[str, Any]) -> None:
        """Take note of what is answered."""
        kind = message["type"]
        if kind in {"http.response.start", "websocket.http.response.start"}:
            self.status, self.stream = message["status"], _is_stream(message)
        elif kind in {"http.response.body", "websocket.http.response.body"}:
            self._bytes += len(message.get("body", b""))
        elif kind == "websocket.accept":
            self.status, self.stream = 101, True
        elif kind == "websocket.send":
            self._bytes += len(message.get("bytes") or (message.get("text") or "").encode())
        elif kind == "websocket.close" and self.status is None:
            self.status = 403  # what a server makes of a refusal before the handshake

    def failed(self) -> None:
        """It ended in an exception: the server answers 500 then, if nothing was answered."""
        self.status = self.status or 500

    @property
    def route(self) -> str | None:
        """The template of its path, once it is known where it goes."""
        template = getattr(self._scope.get("route"), "path", None)
        return template if isinstance(template, str) else None

    def seconds(self) -> float:
        """How long it has taken."""
        return time.perf_counter() - self._begun

    def line(self, seconds: float) -> dict[str, Any]:
        """The log's line."""
        client, state = self._scope.get("client"), self._scope.get("state", {})
        return {
            "time": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
            "id": state.get("request_id"),
            "method": self.method[:_LONGEST],
            "path": self._scope["path"][:_LONGEST],
            "status": self.status,
            "ms": round(seconds * 1000, 1),
            "bytes": self._bytes,
            "owner": state.get("owner"),
            "client": client[0] if client else None,
        }


def _is_stream(message: MutableMapping[str, Any]) -> bool:
    headers = message.get("headers", ())
    return any(name.lower() == b"content-type" and value.startswith(_EVENTS) for name, value in headers)
