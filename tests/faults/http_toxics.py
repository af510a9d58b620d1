"""What can go wrong with one request and its answer. No I/O: each event of either is answered with steps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

from .events import Event, Head, Part
from .toxics import Copy, Corrupt, Cut, Hang, How, Reply, Send, Settle, Step, Toxic


def answer_bytes(status: int, headers: Mapping[str, str], body: bytes, *, bodiless: bool = False) -> bytes:
    """A whole answer. Its length is added, unless the headers say how the body is framed."""
    phrase = next((known.phrase for known in HTTPStatus if known == status), "Unknown")
    given = {name.lower() for name in headers}
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    if not given & {"content-length", "transfer-encoding", "connection"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if bodiless else body)


def edit_head(raw: bytes, *, status: int | None = None, headers: Mapping[str, str | None]) -> bytes:
    """An answer's head with another status and other headers; those that are ``None`` are left out."""
    first, *lines = raw[:-4].decode("latin-1").split("\r\n")
    if status is not None:
        first = re.sub(r"^(HTTP/1\.[01]) .*", rf"\1 {status} Edited", first)
    gone = {name.lower() for name in headers}
    kept = [line for line in lines if line.partition(":")[0].lower() not in gone]
    new = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([first, *kept, *new, "", ""]).encode("latin-1")


class HttpToxic(Toxic):
    """The base: passes a request on, and its answer back."""

    def request(self, event: Event) -> Iterable[Step]:
        """What becomes of a part of the request."""
        return [Send(event.raw)]

    def response(self, event: Event) -> Iterable[Step]:
        """What becomes of a part of the server's answer (interim answers, such as a 100, are not asked for)."""
        return [Send(event.raw)]


def _is_last(event: Event) -> bool:
    """Whether an answer is over; one that switches protocols is over with its head."""
    return event.status == 101 if isinstance(event, Head) else event.part is Part.END


@dataclass
class Lose(HttpToxic):
    """The server got the whole request and gave its whole answer, which the client does not get."""

    how: How | Literal["hang"] = "reset"

    def response(self, event):
        if not _is_last(event):
            return []
        return [Hang() if self.how == "hang" else Cut(self.how)]


@dataclass
class Answer(HttpToxic):
    """An answer without asking the server.

    ``after`` so many bytes of the request's body (otherwise behind the whole request), ``then`` keeping the connection
    or ending it. ``raw`` is sent as it is in place of the rest.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str = field(default=b"", repr=False)
    raw: bytes | None = field(default=None, repr=False)
    after: int | None = None
    then: How | Literal["keep"] = "keep"

    def begin(self):
        self.method = ""
        self.seen = 0
        self.given = False

    def request(self, event):
        if isinstance(event, Head):
            self.method = event.method
        elif event.part is Part.BODY:
            self.seen += len(event.raw)
        over = not isinstance(event, Head) and event.part is Part.END
        if self.given or not (over or (self.after is not None and self.seen >= self.after)):
            return []
        return self.give()

    def give(self) -> list[Step]:
        """The answer, once."""
        self.given = True
        body = self.body.encode() if isinstance(self.body, str) else self.body
        data = self.raw
        if data is None:
            data = answer_bytes(self.status, self.headers, body, bodiless=self.method == "HEAD")
        return [Reply(data)] if self.then == "keep" else [Reply(data), Cut(self.then)]


@dataclass
class AnswerAfter(Answer):
    """Another answer in place of the server's, which got the whole request and gave its whole answer."""

    def request(self, event):
        if isinstance(event, Head):
            self.method = event.method
        return [Send(event.raw)]

    def response(self, event):
        if not _is_last(event):
            return []
        reply, *rest = self.give()
        ends = rest or ([Cut("close")] if isinstance(event, Head) else [])  # the server speaks another protocol now
        return [Send(reply.data), *ends]


def login_page(location: str = "/login") -> Answer:
    """What a login in front of the server says to those it does not know."""
    return Answer(302, {"Location": location, "Content-Type": "text/html"}, "<html>Please log in.</html>")


def gateway_error(status: int) -> AnswerAfter:
    """What a gateway says when the server, which got the request, was too slow for it: a page."""
    page = f"<!DOCTYPE html><html><title>{status}</title><h1>Error {status}</h1></html>"
    return AnswerAfter(status, {"Content-Type": "text/html"}, page)


@dataclass
class _CutBody(HttpToxic):
    """``at`` counts bytes, or is a part of the length (of the body's first piece, if the length is not told)."""

    at: int | float = 0.5
    how: How = "reset"

    def begin(self):
        self.left = self.at if isinstance(self.at, int) else None

    def cut(self, event: Event) -> list[Step]:
        if isinstance(event, Head):
            if self.left is None and event.length is not None:
                self.left = int(event.length * self.at)
            return [Send(event.raw)]
        if event.part is not Part.BODY:
            return [Cut(self.how)] if event.part is Part.END else [Send(event.raw)]
        if self.left is None:
            self.left = int(len(event.raw) * self.at)
        sent = event.raw[: self.left]
        self.left -= len(sent)
        return [Send(sent), Cut(self.how)] if self.left == 0 else [Send(sent)]


@dataclass
class CutRequest(_CutBody):
    """The connection ends, on both sides, in the middle of the request's body."""

    def request(self, event):
        return self.cut(event)


@dataclass
class CutResponse(_CutBody):
    """The connection ends in the middle of the answer's body; ``unframed``: the answer does not tell its length."""

    how: How = "close"
    unframed: bool = False

    def response(self, event):
        steps = self.cut(event)
        if isinstance(event, Head) and self.unframed:
            return [Send(edit_head(event.raw, headers={"Content-Length": None, "Connection": "close"}))]
        return steps


@dataclass
class Duplicate(HttpToxic):
    """The server gets the request a second time, on another connection, once it has answered the first.

    The client gets the first answer, after the second was given.
    """

    def request(self, event):
        return [Send(event.raw), Copy(event.raw)]

    def response(self, event):
        return [Settle(), Send(event.raw)] if isinstance(event, Head) else [Send(event.raw)]


@dataclass
class Stale(HttpToxic):
    """The connection, idle since an earlier request, is closed as this one comes. The server gets nothing of it."""

    how: How = "reset"
    only_reused = True

    def request(self, event):
        return [Cut(self.how)]


@dataclass
class EditHead(HttpToxic):
    """The answer has another status, or other headers; those that are ``None`` are left out."""

    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)

    def response(self, event):
        if isinstance(event, Head):
            return [Send(edit_head(event.raw, status=self.status, headers=self.headers))]
        return [Send(event.raw)]


@dataclass
class CorruptBody(HttpToxic, Corrupt):
    """Bits of a body are wrong (see `Corrupt`); its framing is right."""

    def request(self, event):
        return [Send(self._spoiled(event, "up"))]

    def response(self, event):
        return [Send(self._spoiled(event, "down"))]

    def _spoiled(self, event, direction):
        wrong = direction == self.direction and not isinstance(event, Head) and event.part is Part.BODY
        return self.flip(event.raw) if wrong else event.raw
