"""The messages of one websocket on their way to the client."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from .frames import FrameSplitter, FrameToxic, Message
from .toxics import Send

if TYPE_CHECKING:
    from .link import Link
    from .rules import Rule


class SocketFrames:
    """Applies the rules for messages, and lets tests put in messages of their own."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._splitter = FrameSplitter()
        self._toxics: dict[Rule, FrameToxic] = {}
        self._lock = asyncio.Lock()
        self._own: deque[Message] = deque()

    @property
    def held(self) -> int:
        """Bytes of messages that are not whole."""
        return self._splitter.held

    async def feed(self, data: bytes) -> None:
        """Carry what came from the server."""
        async with self._lock:
            for piece in self._splitter.feed(data, whole=bool(self._link.proxy.rules.frames)):
                for out in self._ruled(piece) if isinstance(piece, Message) else [Message(0, b"", piece)]:
                    await self._link.transmit("down", Send(out.raw, out.delay), self._link.relay.toxics("down"))
                await self._flush()

    async def inject(self, message: Message) -> None:
        """Send the client a message that the server did not send, as soon as no other one is half sent.

        Raises:
            ConnectionError: The client is gone.
        """
        self._own.append(message)
        async with self._lock:
            await self._flush()

    async def _flush(self) -> None:
        while self._own and self._splitter.at_boundary:
            await self._link.client.write(self._own.popleft().raw)

    def _ruled(self, message: Message) -> list[Message]:
        messages = [message]
        for rule in self._link.proxy.rules.frames:
            messages = [after for before in messages for after in self._apply(rule, before)]
        return messages

    def _apply(self, rule: Rule, message: Message):
        number = self._link.number
        hit = rule.is_for_message(number, message) and rule.strikes()
        if hit:
            where = f"websocket on connection {number}, message {message.kind!r}"
            self._link.proxy.book.note(where, rule.toxic)
        if rule not in self._toxics:
            self._toxics[rule] = rule.fresh()
        return self._toxics[rule].change(message, hit=hit)
