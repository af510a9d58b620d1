"""Where files end, kind by kind: walks over a `Tape` that read headers and pass over the rest.

What makes no sense is `Verdict.UNKNOWN`: files may be odd, and odd is not cut.
"""

from __future__ import annotations

import re
from struct import unpack
from typing import TYPE_CHECKING, Final

from comfyclient.wire.tape import Tape, Verdict

if TYPE_CHECKING:
    from collections.abc import Generator

    from comfyclient.wire.tape import Walk

__all__ = ["boxes", "ebml", "gif", "glb", "is_safetensors", "jpeg", "ogg", "png", "riff", "safetensors"]

_MARKER: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.DOTALL)
_OFFSETS: Final = re.compile(rb'"data_offsets"\s*:\s*\[\s*[0-9]{1,18}\s*,\s*([0-9]{1,18})\s*\]')
_TENSOR_HEADER: Final = 16 * 2**20  # bytes of it that are read; the format allows 100 MB


def png(tape: Tape) -> Walk:
    """Chunks until IEND."""
    yield from tape.skip(8)
    while True:
        size, kind = unpack(">I4s", (yield from tape.take(8)))
        if not kind.isalpha():
            return Verdict.UNKNOWN
        yield from tape.skip(size + 4)
        if kind == b"IEND":
            return Verdict.WHOLE


def jpeg(tape: Tape) -> Walk:
    """Segments until EOI. What they hold, such as a thumbnail with an EOI of its own, is passed over."""
    yield from tape.skip(2)
    while True:
        first, code = yield from tape.take(2)
        if first != 0xFF:
            return Verdict.UNKNOWN
        while code == 0xFF:  # any number of them may stand before a marker
            code = (yield from tape.take(1))[0]
        if code == 0xD9:
            return Verdict.WHOLE
        if code == 0x01 or 0xD0 <= code <= 0xD7:
            continue
        (size,) = unpack(">H", (yield from tape.take(2)))
        if size < 2:
            return Verdict.UNKNOWN
        yield from tape.skip(size - 2)
        if code == 0xDA:  # the picture itself: it has no length
            yield from tape.seek(_MARKER)


def gif(tape: Tape) -> Walk:
    """Blocks until the trailer."""
    yield from tape.skip(10)
    (flags,) = yield from tape.take(1)
    yield from tape.skip(2 + _colours(flags))
    while True:
        (kind,) = yield from tape.take(1)
        if kind == 0x3B:
            return Verdict.WHOLE
        if kind == 0x21:
            yield from tape.skip(1)
        elif kind == 0x2C:
            flags = (yield from tape.take(9))[8]
            yield from tape.skip(_colours(flags) + 1)
        else:
            return Verdict.UNKNOWN
        while (size := (yield from tape.take(1))[0]) > 0:
            yield from tape.skip(size)


def _colours(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def riff(tape: Tape) -> Walk:
    """A length at the beginning: WebP, WAV; AVI, which has one for each gigabyte or so."""
    while True:
        size, form = unpack("<4xI4s", (yield from tape.take(12)))
        if size < 4 or size == 0xFFFFFFFF:  # written to a pipe
            return Verdict.UNKNOWN
        yield from tape.skip(size - 4)
        if form not in {b"AVI ", b"AVIX"}:
            return Verdict.WHOLE
        yield from _next_riff(tape)
        if not tape.data.startswith(b"RIFF"):
            return Verdict.WHOLE


def _next_riff(tape: Tape) -> Generator[None, None, None]:
    """Wait for four bytes, but do not take them."""
    tape.at_end = Verdict.WHOLE
    while len(tape.data) < 4:
        yield
    tape.at_end = Verdict.CUT


def boxes(tape: Tape) -> Walk:
    """Boxes with lengths (MP4, MOV, M4A, AVIF, HEIC), those for the description and for the data among them."""
    seen: set[bytes] = set()
    last = b""
    while True:
        size, last = unpack(">I4s", (yield from tape.take(8, _after_box(seen, last))))
        used = 8
        if size == 1:
            (size,) = unpack(">Q", (yield from tape.take(8)))
            used = 16
        if size < used:  # 0: up to the end of the file
            return Verdict.UNKNOWN
        seen |= {last} & {b"moov", b"meta", b"mdat", b"moof"}
        yield from tape.skip(size - used)


def _after_box(seen: set[bytes], last: bytes) -> Verdict:
    if b"moof" in seen and last != b"moof":  # in fragments, of which there may be any number
        return Verdict.WHOLE if last == b"mfra" else Verdict.UNKNOWN
    return Verdict.WHOLE if b"mdat" in seen and seen & {b"moov", b"meta"} and last != b"moof" else Verdict.CUT


def ebml(tape: Tape) -> Walk:
    """A header, then one segment with its length: WebM, MKV. A live recording has none."""
    yield from tape.skip(4)
    yield from tape.skip((yield from _ebml_size(tape)) or 0)
    kind = yield from tape.take(4)
    size = yield from _ebml_size(tape)
    if kind != b"\x18\x53\x80\x67" or size is None:
        return Verdict.UNKNOWN
    yield from tape.skip(size)
    return Verdict.WHOLE


def _ebml_size(tape: Tape) -> Generator[None, None, int | None]:
    """A length, of one to eight bytes; ``None`` if it says that it is not known."""
    (first,) = yield from tape.take(1)
    if not first:
        return None
    more = 8 - first.bit_length()
    limit = 2 ** (7 * (more + 1)) - 1
    value = int.from_bytes(bytes([first]) + (yield from tape.take(more))) & limit
    return None if value == limit else value


def ogg(tape: Tape) -> Walk:
    """Pages; the last one says that it is."""
    last = Verdict.CUT
    while True:
        head = yield from tape.take(27, last)
        if not head.startswith(b"OggS"):
            return Verdict.WHOLE if last is Verdict.WHOLE else Verdict.UNKNOWN
        last = Verdict.WHOLE if head[5] & 4 else Verdict.CUT
        yield from tape.skip(sum((yield from tape.take(head[26]))))


def glb(tape: Tape) -> Walk:
    """A length at the beginning."""
    (size,) = unpack("<8xI", (yield from tape.take(12)))
    if size < 12:
        return Verdict.UNKNOWN
    yield from tape.skip(size - 12)
    return Verdict.WHOLE


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins as safetensors do, which have no magic: a small length, then JSON."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _TENSOR_HEADER


def safetensors(tape: Tape) -> Walk:
    """A header that says where each tensor ends."""
    (size,) = unpack("<Q", (yield from tape.take(8)))
    header = yield from tape.take(size)
    yield from tape.skip(max((int(end) for end in _OFFSETS.findall(header)), default=0))
    return Verdict.WHOLE
