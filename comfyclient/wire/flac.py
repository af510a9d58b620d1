"""Where a FLAC file ends: nothing says it but its last frame, whose checksum closes it and whose place is known.

See RFC 9639, sections 8 and 9.
"""

from __future__ import annotations

import re
from functools import partial
from itertools import islice
from struct import unpack
from typing import TYPE_CHECKING, Final

from comfyclient.wire.tape import Tape, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfyclient.wire.tape import Walk

__all__ = ["flac"]

_SYNC: Final = re.compile(rb"\xff[\xf8\xf9]", re.DOTALL)
_TAIL: Final = 2**17  # bytes that are kept: more than a frame has
_TRIES: Final = 8  # places in them that look like the last frame's beginning; there is one, unless somebody made more


def flac(tape: Tape) -> Walk:
    """Blocks of metadata, then frames."""
    yield from tape.skip(4)
    block, total = 0, 0
    is_last = False
    while not is_last:
        head = yield from tape.take(4)
        size, is_last = int.from_bytes(head[1:]), bool(head[0] & 0x80)
        if head[0] & 0x7F == 0 and size == 34:
            block, _, packed = unpack(">HH6xQ16x", (yield from tape.take(34)))
            total = packed & (2**36 - 1)
        else:
            yield from tape.skip(size)
    tape.judge = partial(_judge, block=block, total=total)
    while True:
        del tape.data[:-_TAIL]
        yield


def _judge(tail: bytes, *, block: int, total: int) -> Verdict:
    places = (found.start() for found in reversed(list(_SYNC.finditer(tail))))
    frames = (memoryview(tail)[start:] for start in places)
    last = islice((frame for frame in frames if _is_last(frame, block, total)), _TRIES)
    return Verdict.CUT if all(map(_crc16, last)) else Verdict.WHOLE


def _is_last(frame: memoryview, block: int, total: int) -> bool:
    end = _end_of_frame(frame, block)
    return end is not None and end >= total


def _end_of_frame(frame: memoryview, block: int) -> int | None:
    """The number of samples up to its end; ``None`` if it is no frame."""
    try:
        number, rest = _coded_number(frame[4:11])
        code = frame[2] >> 4
        extra = frame[4 + rest : 6 + rest]
        size = _block_size(code, extra)
    except (IndexError, ValueError):
        return None
    return number + size if frame[1] & 1 else number * block + size


def _block_size(code: int, extra: memoryview) -> int:
    if code == 0:
        raise ValueError("reserved")
    if code == 1:
        return 192
    if code < 6:
        return int(576 << (code - 2))
    if code < 8:
        return int.from_bytes(extra[: code - 5]) + 1
    return int(256 << (code - 8))


def _coded_number(data: memoryview) -> tuple[int, int]:
    """A number written as UTF-8 writes characters, of up to 36 bits; and how many bytes it takes."""
    first = data[0]
    if first < 0x80:
        return first, 1
    size = 8 - (first ^ 0xFF).bit_length()
    if not 2 <= size <= 7 or len(data) < size:
        raise ValueError("no number")
    value = first & (0x7F >> size)
    for byte in data[1:size]:
        if byte & 0xC0 != 0x80:
            raise ValueError("no number")
        value = value << 6 | byte & 0x3F
    return value, size


def _table() -> Iterator[int]:
    for index in range(256):
        value = index << 8
        for _ in range(8):
            value = (value << 1) ^ (0x8005 if value & 0x8000 else 0)
            value &= 0xFFFF
        yield value


_CRC: Final = tuple(_table())


def _crc16(data: memoryview) -> int:
    value = 0
    for byte in data:
        value = (value << 8 & 0xFF00) ^ _CRC[value >> 8 ^ byte]
    return value
