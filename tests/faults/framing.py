"""HTTP/1.1 framing without I/O: bytes in, events out. The bytes of all events, joined, are the bytes that came in.

What cannot be framed (another protocol, a broken length, what follows a 101) goes through as opaque pieces. What looks
like the beginning of a head waits until the head is whole, or for `eof`.
"""

from __future__ import annotations

import re
from collections import deque

from .events import Event, Head, Part, Piece

HEAD_LIMIT = 256 * 1024
LINE_LIMIT = 4096  # of a chunk's size with its extensions, or of a trailer


class Framer:
    """What requests and answers have in common. ``feed`` takes bytes as they come, in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._state = self._head
        self._left = 0
        self._searched = 0

    @property
    def held(self) -> int:
        """Bytes that came in and have not come out."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Event]:
        """What can be said after these bytes."""
        self._buffer += data
        events: list[Event] = []
        while self._buffer and self._state(events):
            pass
        return events

    def eof(self) -> list[Event]:
        """What is left when no more will come."""
        events: list[Event] = [Piece(Part.OPAQUE, self.tunnel())] if self._buffer else []
        if self._state == self._rest:
            events.append(Piece(Part.END))
        return events

    def tunnel(self) -> bytes:
        """Let everything from here on go through as it is. Returns what was held."""
        self._state = self._opaque
        return self._take(len(self._buffer))

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    # States: each takes what it can from the buffer and says whether another turn makes sense.

    def _head(self, events: list[Event]) -> bool:
        if not self._plausible():
            return self._give_up()
        end = self._buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        if end < 0:
            self._searched = len(self._buffer)
            return len(self._buffer) > HEAD_LIMIT and self._give_up()
        self._searched = 0
        try:
            head = self._parse(bytes(self._buffer[: end + 4]))
            after = self._after(head)
        except ValueError:
            return self._give_up()
        events.append(head)
        self._take(end + 4)
        self._state = after
        if after == self._head and not head.interim:
            events.append(Piece(Part.END))
        return True

    def _give_up(self) -> bool:
        self._state = self._opaque
        return True

    def _sized(self, length: int):
        self._left = length
        return self._body if length else self._head

    def _body(self, events: list[Event]) -> bool:
        data = self._take(self._left)
        self._left -= len(data)
        events.append(Piece(Part.BODY, data))
        if not self._left:
            events.append(Piece(Part.END))
            self._state = self._head
        return True

    def _size(self, events: list[Event]) -> bool:
        line = self._line()
        if line is None:
            return len(self._buffer) > LINE_LIMIT and self._give_up()
        match = re.match(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[^\r\n]*)?\r\n", line)
        if match is None:
            return self._give_up()
        events.append(Piece(Part.FRAMING, self._take(len(line))))
        self._left = int(match[1], 16)
        self._state = self._chunk if self._left else self._trailers
        return True

    def _chunk(self, events: list[Event]) -> bool:
        data = self._take(self._left)
        self._left -= len(data)
        events.append(Piece(Part.BODY, data))
        if not self._left:
            self._state = self._chunk_end
        return True

    def _chunk_end(self, events: list[Event]) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            return self._give_up()
        events.append(Piece(Part.FRAMING, self._take(2)))
        self._state = self._size
        return True

    def _trailers(self, events: list[Event]) -> bool:
        line = self._line()
        if line is None:
            return len(self._buffer) > LINE_LIMIT and self._give_up()
        last = line == b"\r\n"
        events.append(Piece(Part.END if last else Part.FRAMING, self._take(len(line))))
        if last:
            self._state = self._head
        return True

    def _rest(self, events: list[Event]) -> bool:
        events.append(Piece(Part.BODY, self._take(len(self._buffer))))
        return True

    def _opaque(self, events: list[Event]) -> bool:
        events.append(Piece(Part.OPAQUE, self._take(len(self._buffer))))
        return True

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", 0, LINE_LIMIT + 2)
        return None if end < 0 else bytes(self._buffer[: end + 2])

    def _plausible(self) -> bool:
        """Whether the buffer can still become a head."""
        line, newline, _ = bytes(self._buffer[:LINE_LIMIT]).partition(b"\n")
        if newline:
            return self._first_line.fullmatch(line.rstrip(b"\r")) is not None
        return self._beginning.fullmatch(line) is not None

    def _parse(self, raw: bytes) -> Head:
        first, *lines = raw[:-4].split(b"\r\n")
        headers = []
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise ValueError("header")
            headers.append((name.decode("latin-1").lower(), value.strip().decode("latin-1")))
        return Head(raw, tuple(headers), **self._facts(self._first_line.fullmatch(first)))


class RequestFramer(Framer):
    """What a client sends."""

    _first_line = re.compile(rb"([A-Z]{1,20}) (\S+) HTTP/1\.[01]")
    _beginning = re.compile(rb"[A-Z]{1,20}(?: .*)?", re.DOTALL)

    def _facts(self, match):
        return {"method": match[1].decode(), "target": match[2].decode("latin-1")}

    def _after(self, head: Head):
        length = head.length
        if head.all("transfer-encoding"):
            if not head.chunked:
                raise ValueError("Transfer-Encoding")
            return self._size
        return self._sized(length or 0)


class ResponseFramer(Framer):
    """What a server sends. It has to know which requests are answered: see `expect`."""

    _first_line = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: .*)?", re.DOTALL)
    _beginning = re.compile(rb"H(?:T(?:T(?:P(?:/(?:1(?:\..*)?)?)?)?)?)?", re.DOTALL)

    def __init__(self) -> None:
        super().__init__()
        self._methods: deque[str] = deque()

    def expect(self, method: str) -> None:
        """A request with this method was sent; its answer comes behind those expected before."""
        self._methods.append(method)

    def _facts(self, match):
        return {"status": int(match[1])}

    def _after(self, head: Head):
        length = head.length
        if head.interim:
            return self._head
        method = self._methods.popleft() if self._methods else "GET"
        if head.status == 101:
            return self._opaque
        if method == "HEAD" or head.status in {204, 304}:
            return self._head
        if head.all("transfer-encoding"):
            return self._size if head.chunked else self._rest
        return self._rest if length is None else self._sized(length)
