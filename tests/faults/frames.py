"""Websocket frames from a server, without I/O: taken apart into messages, and what can be done to those."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def encode(opcode: int, payload: bytes) -> bytes:
    """One whole frame as a server sends it: not masked."""
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", 0x80 | opcode, size)
    elif size < 2**16:
        head = struct.pack(">BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 127, size)
    return head + payload


@dataclass(frozen=True, slots=True)
class Message:
    """A message or a control frame. If it is ``compressed``, so is its payload."""

    opcode: int
    payload: bytes = field(repr=False)
    raw: bytes = field(repr=False)
    compressed: bool = False
    delay: float = 0.0  # seconds before it is sent, and all that is behind it

    @classmethod
    def make(cls, data: str | bytes, opcode: int | None = None) -> Message:
        """A message of text or bytes."""
        payload = data.encode() if isinstance(data, str) else data
        code = opcode if opcode is not None else TEXT if isinstance(data, str) else BINARY
        return cls(code, payload, encode(code, payload))

    @property
    def json(self):
        """A text message's JSON; ``None`` for all that is none."""
        try:
            return json.loads(self.payload) if self.opcode == TEXT and not self.compressed else None
        except ValueError:
            return None

    @property
    def kind(self) -> str | int | None:
        """ComfyUI's name for it: the ``type`` of a text message, the number at the start of a binary one."""
        if self.opcode == BINARY and len(self.payload) >= 4 and not self.compressed:
            return int.from_bytes(self.payload[:4])
        value = self.json
        kind = value.get("type") if isinstance(value, dict) else None
        return kind if isinstance(kind, str) else None


class FrameSplitter:
    """Finds the messages in a stream. While nobody wants them ``whole``, nothing is held back."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0  # bytes of a frame whose beginning has come out already
        self._open = False  # a fragmented message has come out in part
        self._parts: list[bytes] = []
        self._payload = bytearray()
        self._first = 0

    @property
    def held(self) -> int:
        """Bytes that came in and have not come out."""
        return len(self._buffer) + sum(map(len, self._parts))

    @property
    def at_boundary(self) -> bool:
        """Whether a message of one's own may follow on what has come out."""
        return not self._left and not self._open

    def feed(self, data: bytes, *, whole: bool) -> Iterable[Message | bytes]:
        """Messages, and bytes that are none or only a part of one, in the order of the stream."""
        self._buffer += data
        while self._buffer:
            if self._left:
                yield self._through(self._left)
            elif (sizes := self._header()) is None:
                return
            elif whole or self._parts:
                if len(self._buffer) < sum(sizes):
                    return
                yield from self._frame(*sizes)
            else:
                self._note(self._buffer[0])
                self._left = sum(sizes)

    def _through(self, size: int) -> bytes:
        piece = self._take(size)
        self._left -= len(piece)
        return piece

    def _take(self, size: int) -> bytes:
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece

    def _header(self) -> tuple[int, int] | None:
        """How long the next frame's header and payload are, once that can be told."""
        if len(self._buffer) < 2:
            return None
        short = self._buffer[1] & 0x7F
        more = {126: 2, 127: 8}.get(short, 0)
        if len(self._buffer) < 2 + more:
            return None
        size = int.from_bytes(self._buffer[2 : 2 + more]) if more else short
        return 2 + more + (4 if self._buffer[1] & 0x80 else 0), size

    def _note(self, first: int) -> None:
        if not first & 0x08:  # control frames may stand between the parts of a message
            self._open = not first & 0x80

    def _frame(self, header: int, size: int) -> Iterable[Message | bytes]:
        raw = self._take(header + size)
        first, opcode = raw[0], raw[0] & 0x0F
        if opcode >= CLOSE:
            yield Message(opcode, raw[header:], raw)
        elif opcode == CONTINUATION and not self._parts:
            self._note(first)
            yield raw
        else:
            self._first = self._first if self._parts else first
            self._parts.append(raw)
            self._payload += raw[header:]
            if first & 0x80:
                yield self._message()

    def _message(self) -> Message:
        message = Message(
            self._first & 0x0F, bytes(self._payload), b"".join(self._parts), compressed=bool(self._first & 0x40)
        )
        self._parts.clear()
        self._payload.clear()
        return message


class FrameToxic:
    """What happens to the messages of one socket. Every message is shown to it; ``hit`` are those that are meant."""

    def fresh(self, chance):
        """The same for another socket."""
        twin = copy.copy(self)
        twin.chance = chance
        twin.held = []
        return twin

    def change(self, message: Message, *, hit: bool) -> Iterable[Message]:
        """What is sent in place of the message."""
        return self.changed(message) if hit else [message]


@dataclass
class Swallow(FrameToxic):
    """The message is never seen."""

    def changed(self, message):
        return []


@dataclass
class Repeat(FrameToxic):
    """The message comes so many times."""

    times: int = 2

    def changed(self, message):
        return [message] * self.times


@dataclass
class DelayFrame(FrameToxic):
    """The message, and all behind it, comes so many seconds later."""

    seconds: float

    def changed(self, message):
        return [replace(message, delay=self.seconds)]


@dataclass
class Later(FrameToxic):
    """The message comes behind the ``by`` next ones that were not meant."""

    by: int = 1

    def change(self, message, *, hit):
        if hit:
            self.held.append([self.by, message])
            return []
        for entry in self.held:
            entry[0] -= 1
        due = [late for left, late in self.held if left <= 0]
        self.held = [entry for entry in self.held if entry[0] > 0]
        return [message, *due]


@dataclass
class Replace(FrameToxic):
    """Another message in its place: what the function makes of it, a `Message`, text or bytes."""

    function: Callable[[Message], Message | str | bytes]

    def changed(self, message):
        made = self.function(message)
        return [made if isinstance(made, Message) else Message.make(made)]
