"""What a request's body may be, judged before anything reads it: its media type, and how deep its JSON goes."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Flaw", "JsonScan", "announced", "is_upload", "media_type", "wrong_media"]

JSON: Final = "application/json"
_WRITES: Final = frozenset({"POST", "PUT", "PATCH"})
# Those that a page of another site can send without the browser's asking us first. None at all is one of them.
_SIMPLE: Final = frozenset({"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})
_UPLOADS: Final = ("/workflows", "/files")
_BRACKETS: Final = bytes.maketrans(b"[]{}", b"\x01\x00\x01\x00")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEP: Final = (-1, 1).__getitem__

Flaw = Literal["too_deep", "json_constant", "not_utf8"]


def media_type(content_types: list[str]) -> str:
    """The type alone, in lower case; empty if there is none, or several."""
    return content_types[0].partition(";")[0].strip().lower() if len(content_types) == 1 else ""


def is_upload(method: str, path: str) -> bool:
    """Whether the body is a file, which is not JSON to be read at once."""
    return method in _WRITES and path.rstrip("/").endswith(_UPLOADS)


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
    """

    def __init__(self, depth: int) -> None:
        self._most = depth
        self._depth = 0
        self._inside = False  # a string
        self._rest = b""

    def feed(self, piece: bytes) -> Flaw | None:
        """The next piece. Returns what is wrong with it."""
        if b"\0" in piece:  # UTF-16 or UTF-32, which readers of JSON detect, and whose quotes are others
            return "not_utf8"
        outside = self._outside(piece)
        if b"N" in outside or b"I" in outside:  # no word of JSON has them: NaN, Infinity
            return "json_constant"
        return "too_deep" if self._deepest(outside) > self._most else None

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
        brackets = outside.translate(_BRACKETS, _NO_BRACKETS)
        depths = list(accumulate(map(_STEP, brackets), initial=self._depth))
        self._depth = depths[-1]
        return max(depths)
