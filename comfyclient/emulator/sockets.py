"""The websockets of an emulated server: who is connected, and one publisher that serves them in turn.

Everything said goes through one queue and one task, which waits for each write: the order is total for a socket, and
one that does not read holds up all the others. Both are so in ComfyUI.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import ClientError, WSMsgType, web

from comfyclient import _json
from comfyclient.emulator.faults import Faults
from comfyclient.emulator.jsontext import server_json
from comfyclient.wire.messages import encode_preview, encode_progress_text

__all__ = ["PreviewFrame", "Sockets", "TextFrame"]

_log = logging.getLogger("comfyclient.emulator")
_GOODBYE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class PreviewFrame:
    """A preview; with ``metadata`` as event 4, without as event 1."""

    image: bytes
    media_type: str
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TextFrame:
    """A node's line of text (event 3)."""

    node_id: str
    text: str


@dataclass(frozen=True, slots=True)
class _Said:
    event: str
    data: Any
    sid: str | None


class Sockets:
    """The table of sockets by clientId, with each connection's feature flags, and the publisher.

    Args:
        faults: What goes wrong.
        greeting: The messages that a new socket gets, given its id: pairs of type and data.
        features: The server's feature flags.
    """

    def __init__(
        self,
        faults: Faults,
        *,
        greeting: Callable[[str], list[tuple[str, Any]]],
        features: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.table: dict[str, web.WebSocketResponse] = {}
        self.flags: dict[str, Any] = {}
        self._all: dict[web.WebSocketResponse, asyncio.Transport | None] = {}
        self._faults = faults
        self._greeting = greeting
        self._features = features
        self._said: asyncio.Queue[_Said] = asyncio.Queue()
        self._open = asyncio.Event()
        self._open.set()

    def say(self, event: str, data: Any, sid: str | None = None) -> None:
        """Queue a message for one client (dropped if it is not connected), or for everybody."""
        self._said.put_nowait(_Said(event, data, sid))

    def supports_preview_metadata(self, sid: str | None) -> bool:
        """Whether previews for that client carry their ids. Only a literal ``true`` counts."""
        flags = self.flags.get(sid) if sid is not None else None
        return isinstance(flags, dict) and flags.get("supports_preview_metadata") is True

    def has_listener(self, sid: str | None) -> bool:
        """Whether anybody would get a message for that client now, or may later because the publisher is stalled."""
        return not self._open.is_set() or (bool(self.table) if sid is None else sid in self.table)

    @property
    def open_count(self) -> int:
        """How many connections are open, deaf ones included."""
        return len(self._all)

    async def publish(self) -> None:
        """Send what is said, for ever."""
        while True:
            said = await self._said.get()
            await self._open.wait()
            await self._deliver(said)

    async def _deliver(self, said: _Said) -> None:
        if said.sid is None:
            receivers = list(self.table.values())
        else:
            receivers = [self.table[said.sid]] if said.sid in self.table else []
        if not receivers:
            return
        frame = _encode(said)
        for receiver in receivers:
            try:
                if isinstance(frame, str):
                    await receiver.send_str(frame)
                else:
                    await receiver.send_bytes(frame)
            except (ClientError, ConnectionError) as error:
                _log.debug("a websocket could not be written to: %s", error)

    def stall(self) -> None:
        """Stop sending."""
        self._open.clear()

    def resume(self) -> None:
        """Send again."""
        self._open.set()

    def forget(self) -> None:
        """Drop what is not sent yet: a restart."""
        while not self._said.empty():
            self._said.get_nowait()

    def abort_all(self) -> int:
        """Cut every connection without a close frame."""
        transports = [transport for transport in self._all.values() if transport is not None]
        self.table.clear()
        self.flags.clear()
        for transport in transports:
            transport.abort()
        return len(transports)

    async def close_all(self) -> None:
        """Close every connection in an orderly way, for the end of the emulator."""
        goodbyes = [socket.close(code=1001) for socket in list(self._all)]
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await asyncio.gather(*goodbyes)
        except TimeoutError:
            self.abort_all()  # somebody does not answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """``GET /ws``: register the socket, greet it, and listen for its feature flags."""
        if self._faults.refuse_sockets is not None:
            return web.Response(status=self._faults.refuse_sockets)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sid = request.query.get("clientId", "") or uuid.uuid4().hex
        self.table[sid] = socket
        self.flags[sid] = {}
        self._all[socket] = request.transport
        try:
            for event, data in self._greeting(sid):
                await self._deliver(_Said(event, data, sid))
            await self._listen(socket, sid)
        finally:
            del self._all[socket]
            if self._faults.deafen or self.table.get(sid) is socket:
                self.table.pop(sid, None)
                self.flags.pop(sid, None)
        return socket

    async def _listen(self, socket: web.WebSocketResponse, sid: str) -> None:
        """Only the first JSON object counts, and only if it is the feature flags; the rest is read and ignored."""
        first = True
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            try:
                data = _json.loads(message.data)
            except _json.JSONError:
                continue
            if not isinstance(data, dict):
                continue
            if first and data.get("type") == "feature_flags":
                if sid in self.flags:
                    self.flags[sid] = data.get("data", {})
                await self._deliver(_Said("feature_flags", self._features(), sid))
            first = False


def _encode(said: _Said) -> str | bytes:
    if isinstance(said.data, PreviewFrame):
        return encode_preview(said.data.image, said.data.media_type, said.data.metadata)
    if isinstance(said.data, TextFrame):
        return encode_progress_text(said.data.node_id, said.data.text)
    return server_json({"type": said.event, "data": said.data})
