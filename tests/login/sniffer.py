"""A wire tap: a TCP relay that keeps every byte, and finds secrets in it whatever they are dressed in."""

import asyncio
import base64
import contextlib
import json
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from yarl import URL

SHORTEST = 6  # bytes; a shorter secret is found in any traffic


@dataclass
class Conversation:
    """One connection, as it went over the wire. Frames of a client's websocket are masked in it, as they are there."""

    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)

    @property
    def encrypted(self):
        """Whether the client began a TLS handshake."""
        return self.sent[:1] == b"\x16"


class Sniffer:
    """Relays to the server of ``upstream`` for the time of an ``async with``.

    Attributes:
        url: Where it listens, with the scheme of ``upstream``.
        conversations: All connections, in their order.
    """

    def __init__(self, upstream, *, host="127.0.0.1"):
        self.upstream = URL(upstream)
        self.host = host
        self.conversations = []
        self._tasks = set()

    def at(self, scheme):
        """Its url, for another scheme."""
        return f"{scheme}://{self.host}:{self.port}"

    @property
    def url(self):
        """Where it listens, without a trailing slash."""
        return self.at(self.upstream.scheme)

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def contains(self, secret, *, user=None, sent=True, received=False):
        """Whether the secret went over the wire: by default, from the client.

        It is found as it is, percent-encoded, in base64 (alone, after ``user:`` or after anything) and escaped as in
        JSON and quoted cookies, in utf-8 and latin-1.

        Raises:
            ValueError: The secret is so short that it would be found in anything.
        """
        wires = [bytes(c.sent) for c in self.conversations if sent]
        wires += [bytes(c.received) for c in self.conversations if received]
        return any(found(wire, secret, user=user) for wire in wires)

    def _accept(self, reader, writer):
        self.conversations.append(conversation := Conversation())
        task = asyncio.create_task(self._relay(reader, writer, conversation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader, writer, conversation):
        try:
            with contextlib.suppress(OSError):
                await self._join(reader, writer, conversation)
        finally:
            writer.transport.abort()

    async def _join(self, reader, writer, conversation):
        there, out = await asyncio.open_connection(self.upstream.host, self.upstream.port)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, out, conversation.sent))
                pumps.create_task(_pump(there, writer, conversation.received))
        except* OSError:
            pass  # either side hung up: so does the other
        finally:
            out.transport.abort()


async def _pump(reader, writer, kept):
    while data := await reader.read(65536):
        kept.extend(data)
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def found(wire, secret, *, user=None):
    """Whether the bytes hold the secret; see `Sniffer.contains`."""
    if len(secret.encode()) < SHORTEST:
        raise ValueError(f"a secret of fewer than {SHORTEST} bytes is found in anything")
    views = {wire, wire.replace(b"+", b" ")}
    for _ in range(2):  # encoded once, encoded twice
        views |= {unquote_to_bytes(view) for view in views}
    views |= {_unslashed(view) for view in views}
    return any(form in view for form in _forms(secret, user) for view in views)


def _forms(secret, user):
    texts = [secret] if user is None else [secret, f"{user}:{secret}"]
    encoded = {form for text in texts for form in _encoded(text)}
    forms = {form for data in encoded for form in _base64_forms(data)}
    return forms | encoded | {json.dumps(secret)[1:-1].encode()}


def _encoded(text):
    """In utf-8, in latin-1, and in what Python's cookies make of a text of both."""
    yield text.encode()
    yield b"".join(c.encode("latin-1" if ord(c) < 256 else "utf-8") for c in text)


def _base64_forms(data):
    """What any base64 text that has ``data`` somewhere in it must contain, in both alphabets."""
    forms = set()
    for before in range(3):
        whole = base64.b64encode(bytes(before) + data).rstrip(b"=")
        first, last = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        forms |= {whole[first:last], whole[first:last].replace(b"+", b"-").replace(b"/", b"_")}
    return forms


def _unslashed(wire):
    """Without the backslashes of JSON and of quoted cookies, which write some bytes as octal numbers."""
    return re.sub(rb"\\([0-3][0-7]{2}|.)", lambda found: _unescape(found[1]), wire, flags=re.DOTALL)


def _unescape(escaped):
    return bytes([int(escaped, 8)]) if len(escaped) == 3 else escaped
