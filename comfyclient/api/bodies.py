"""What a request's body may be, judged before anything reads it: its media type, and how deep its JSON goes."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Flaw", "JsonScan", "announced", "brings_workflow", "is_upload", "media_type", "wrong_media"]

JSON: Final = "application/json"
_WRITES: Final = frozenset({"POST", "PUT", "PATCH"})
# Those that a page of another site can send without the browser's asking us first. None at all is one of them.
_SIMPLE: Final = frozenset({"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})
_UPLOADS: Final = ("/workflows", "/files")
_WORKFLOWS: Final = re.compile(r"/convert|/check|/sessions/[^/]+/jobs")
_BRACKETS: Final = bytes.maketrans(b"[]{}:", b"\x01\x00\x01\x00\x02")
_OTHERS: Final = bytes(set(range(256)) - set(b"[]{}:"))
_STEP: Final = (-1, 1, 0).__getitem__
_TOP: Final = 256  # fields, twice. What validates a body tells of each that it does not know, one by one

Flaw = Literal["too_deep", "too_many_fields", "json_constant", "not_utf8"]


def media_type(content_types: list[str]) -> str:
    """The type alone, in lower case; empty if there is none, or several."""
    return content_types[0].partition(";")[0].strip().lower() if len(content_types) == 1 else ""


def is_upload(method: str, path: str) -> bool:
    """Whether the body is a file, which is not JSON to be read at once."""
    return method in _WRITES and path.rstrip("/").endswith(_UPLOADS)


def brings_workflow(method: str, path: str) -> bool:
    """Whether a workflow may be in the body, which is what large bodies are for."""
    return method in _WRITES and _WORKFLOWS.fullmatch(path.rstrip("/")) is not None


def wrong_media(method: str, path: str, kind: str, *, body: bool) -> bool:
    """Whether a body of that type is refused. A form of another site is, even if it is empty."""
    if method not in _WRITES or not (body or kind):
        return False
    if is_upload(method, path):
        return kind in _SIMPLE
    return kind != JSON if body else kind in _SIMPLE


def announced(headers: Mapping[str, str]) -> int | None:
    """How many bytes a request says that it brings; ``None``: it says nothing of their number.

    Raises:
        ValueError: What it says is no number.
    """
    if "transfer-encoding" in headers:
        return None
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ValueError("Content-Length is no number")
    return int(text)


class JsonScan:
    """Looks at JSON text piece by piece, as it comes, without building anything of it.

    It looks outside strings only, and is exact for JSON. What is none may pass; whoever reads it will say so.

    Args:
        depth: How deep lists and objects may be nested.
        fields: How many fields all objects in it may have together; ``None``: any number below the outermost.
    """

    def __init__(self, depth: int, fields: int | None = None) -> None:
        self._most, self._most_fields = depth, fields
        self._depth = self._top = self._fields = 0
        self._inside = False  # a string
        self._rest = b""

    def feed(self, piece: bytes) -> Flaw | None:
        """The next piece. Returns what is wrong with it."""
        if b"\0" in piece:  # UTF-16 or UTF-32, which readers of JSON detect, and whose quotes are others
            return "not_utf8"
        outside = self._outside(piece)
        if b"N" in outside or b"I" in outside:  # no word of JSON has them: NaN, Infinity
            return "json_constant"
        self._fields += outside.count(b":")
        deepest = self._deepest(outside)
        if self._top > _TOP or (self._most_fields is not None and self._fields > self._most_fields):
            return "too_many_fields"
        return "too_deep" if deepest > self._most else None

    def _outside(self, piece: bytes) -> bytes:
        """What of it is in no string."""
        piece = self._rest + piece
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        self._rest = piece[-1:] if backslashes % 2 else b""  # what it escapes has not come yet
        piece = piece[: len(piece) - len(self._rest)]
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b"".join(parts[self._inside :: 2])
        self._inside ^= len(parts) % 2 == 0
        return outside

    def _deepest(self, outside: bytes) -> int:
        """How deep it goes; how often it is in the outermost object is counted: at each field, and after its value."""
        marks = outside.translate(_BRACKETS, _OTHERS)
        depths = list(accumulate(map(_STEP, marks), initial=self._depth))
        self._top += depths.count(1) - (self._depth == 1)
        self._depth = depths[-1]
        return max(depths)
