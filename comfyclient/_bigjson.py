"""Large JSON, read while other things go on.

The standard library's parser reads a text in one go, and in that time no other thread of the process runs: a queue of
100 MB would stop every job for seconds, even if it were read in a thread. Here the outermost object or list is taken
apart, and what lists it holds, so that the parser is called for one small piece after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import threading
from typing import TYPE_CHECKING, Any, Final

from comfyclient import _json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["in_pieces", "loads"]

_LARGE: Final = 1 * 2**20
_DEPTH: Final = 2  # of ComfyUI's answers: an object by id or by kind, and a list of jobs in that
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()

_gate: Final = threading.Lock()
_reading: Final[list[bool]] = []  # for each text that is being read: whether garbage was collected before the first


async def loads(data: bytes) -> Any:
    """Read JSON text; in a thread if it is large.

    Raises:
        JSONError: As of `_json.loads`.
    """
    return _json.loads(data) if len(data) < _LARGE else await asyncio.to_thread(in_pieces, data)


def in_pieces(data: bytes) -> Any:
    """The same, right here. It blocks, and lets other threads run."""
    text = data.decode(json.detect_encoding(data), "surrogatepass")
    try:
        with _no_collection():
            value, at = _value(text, _skip(text, 0), _DEPTH)
    except RecursionError:
        raise _json.JSONError("nested too deep") from None
    if _skip(text, at) != len(text):
        raise _json.JSONError("there is more behind it")
    return value


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """No search for garbage meanwhile: JSON has none, and the search takes most of the time, and lets nobody in."""
    with _gate:
        _reading.append(_reading[0] if _reading else gc.isenabled())
        gc.disable()
    try:
        yield
    finally:
        with _gate:
            if _reading.pop() and not _reading:
                if not gc.get_freeze_count():  # else it is the program's
                    gc.freeze()  # together these two make all that is new old: else the next search would look at it
                    gc.unfreeze()
                gc.enable()


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    """The value that begins there, and where it ends."""
    first = text[at : at + 1] if depth else ""
    if first == "{":
        return _object(text, at + 1, depth - 1)
    if first == "[":
        return _list(text, at + 1, depth - 1)
    return _DECODER.raw_decode(text, at)


def _object(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}

    def member(at: int) -> int:
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        if not isinstance(key, str) or text[at : at + 1] != ":":
            raise _json.JSONError("an object is none")
        found[key], at = _value(text, _skip(text, at + 1), depth)
        return at

    return found, _members(text, at, "}", member)


def _list(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []

    def member(at: int) -> int:
        value, at = _value(text, at, depth)
        found.append(value)
        return at

    return found, _members(text, at, "]", member)


def _members(text: str, at: int, end: str, member: Callable[[int], int]) -> int:
    """Read them one by one. Returns the place behind ``end``."""
    at = _skip(text, at)
    if text[at : at + 1] == end:
        return at + 1
    while True:
        at = _skip(text, member(at))
        if text[at : at + 1] == end:
            return at + 1
        if text[at : at + 1] != ",":
            raise _json.JSONError("neither a comma nor an end")
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space is not None else at
