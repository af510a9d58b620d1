"""Tags of sound and video files, as ffmpeg writes them for ComfyUI: MP4/MOV, Matroska/WebM, FLAC, Ogg, MP3.

Every reader takes the whole file and yields ``(key, value)`` in file order, the key in lower case. Files come
from anywhere: each offset is checked before it is followed, and no reader passes over the file twice.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MAX_PARTS",
    "MAX_TEXT",
    "WANTED",
    "DamagedError",
    "Tag",
    "flac_tags",
    "id3_tags",
    "matroska_tags",
    "mp4_tags",
    "ogg_tags",
]

Tag = tuple[str, bytes]

MAX_TEXT: Final = 128 << 20
"""The longest text (bytes) that is taken for a workflow."""

MAX_PARTS: Final = 500_000
"""The most parts (chunks, boxes, elements) of one level that are looked at; real files have some thousands."""

WANTED: Final = frozenset({"workflow", "prompt", "comment"})
"""Keys of texts that may hold a workflow: ComfyUI's own two, and the comment where video nodes put both."""


class DamagedError(Exception):
    """The file breaks off or contradicts itself; the text says how: "it ends in the middle of a box"."""


def mp4_tags(data: bytes) -> Iterator[Tag]:
    """Tags of an ISO media file: ``moov/udta/meta`` (or ``moov/meta``) with named keys or iTunes' own atoms.

    ComfyUI writes with ffmpeg's ``use_metadata_tags``: a list of ``keys``, and items numbered after it.
    """
    for kind, start, stop in _boxes(data, 0, len(data)):
        if kind == b"moov":
            yield from _moov_tags(data, start, stop)


def _moov_tags(data: bytes, start: int, stop: int) -> Iterator[Tag]:
    for kind, inner, end in _boxes(data, start, stop):
        if kind == b"meta":
            yield from _meta_tags(data, inner, end)
        elif kind == b"udta":
            for below, first, last in _boxes(data, inner, end):
                if below == b"meta":
                    yield from _meta_tags(data, first, last)


def _meta_tags(data: bytes, start: int, stop: int) -> Iterator[Tag]:
    # ISO files put version and flags (four zero bytes) before the boxes, QuickTime's do not.
    if data[start : start + 4] == b"\0\0\0\0":
        start += 4
    names: list[str] = []
    for kind, inner, end in _boxes(data, start, stop):
        if kind == b"keys":
            names = [_key(data[a:b]) for _, a, b in _boxes(data, inner + 8, end)]
        elif kind == b"ilst":
            yield from _ilst_tags(data, inner, end, names)


def _ilst_tags(data: bytes, start: int, stop: int, names: list[str]) -> Iterator[Tag]:
    for item, inner, end in _boxes(data, start, stop):
        number = int.from_bytes(item, "big")
        key = names[number - 1] if 0 < number <= len(names) else "comment" if item == b"\xa9cmt" else ""
        if key in WANTED:
            for kind, first, last in _boxes(data, inner, end):
                if kind == b"data":  # four bytes of type and four of locale come before the value
                    yield key, _text(data, first + 8, last)


def _boxes(data: bytes, pos: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """``(kind, start, stop)`` of each box's content in ``data[pos:end]``."""
    for _ in range(MAX_PARTS):
        if pos + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, pos)
        head = 8
        if size == 1 and pos + 16 <= end:
            size, head = struct.unpack_from(">Q", data, pos + 8)[0], 16
        elif size == 0:
            size = end - pos
        if size < head or pos + size > end:
            raise DamagedError("it ends in the middle of a box")
        yield kind, pos + head, pos + size
        pos += size
    raise DamagedError("it has too many parts")


_SEGMENT, _TAGS, _TAG, _SIMPLE_TAG = 0x18538067, 0x1254C367, 0x7373, 0x67C8
_TAG_NAME, _TAG_STRING = 0x45A3, 0x4487


def matroska_tags(data: bytes) -> Iterator[Tag]:
    """Tags of a Matroska or WebM file: ``Segment/Tags/Tag/SimpleTag`` with ``TagName`` and ``TagString``."""
    for segment, start, stop in _elements(data, 0, len(data)):
        if segment == _SEGMENT:
            for tags, first, last in _elements(data, start, stop):
                if tags == _TAGS:
                    for tag, inner, end in _elements(data, first, last):
                        if tag == _TAG:
                            yield from _simple_tags(data, inner, end)


def _simple_tags(data: bytes, start: int, stop: int) -> Iterator[Tag]:
    for kind, inner, end in _elements(data, start, stop):
        if kind == _SIMPLE_TAG:
            parts = {below: (first, last) for below, first, last in _elements(data, inner, end)}
            if _TAG_NAME in parts and _TAG_STRING in parts:
                first, last = parts[_TAG_NAME]
                key = _key(data[first:last])
                if key in WANTED:
                    yield key, _text(data, *parts[_TAG_STRING])


def _elements(data: bytes, pos: int, end: int) -> Iterator[tuple[int, int, int]]:
    """``(id, start, stop)`` of each EBML element's content in ``data[pos:end]``."""
    for _ in range(MAX_PARTS):
        if pos >= end:
            return
        kind, pos = _vint(data, pos, end, keep_marker=True)
        size, start = _vint(data, pos, end, keep_marker=False)
        # -1: unknown size, as in a live recording. The segment of a cut-off file is read as far as it goes.
        stop = end if size < 0 or (kind == _SEGMENT and start + size > end) else start + size
        if stop > end:
            raise DamagedError("it ends in the middle of an element")
        yield kind, start, stop
        pos = stop
    raise DamagedError("it has too many parts")


def _vint(data: bytes, pos: int, end: int, *, keep_marker: bool) -> tuple[int, int]:
    """An EBML number and where it ends; -1 for a size of only ones, which means unknown."""
    length = 9 - data[pos].bit_length() if pos < end else 9
    if length > 8 or pos + length > end:
        raise DamagedError("it ends in the middle of an element")
    number = int.from_bytes(data[pos : pos + length], "big")
    if not keep_marker:
        mask = (1 << (7 * length)) - 1
        number = -1 if number & mask == mask else number & mask
    return number, pos + length


def flac_tags(data: bytes) -> Iterator[Tag]:
    """Tags of a FLAC file: its Vorbis comment block."""
    pos, last = 4, False
    while not last:
        if pos + 4 > len(data):
            raise DamagedError("it ends in the middle of a block")
        head = int.from_bytes(data[pos : pos + 4], "big")
        last, kind, size = bool(head >> 31), (head >> 24) & 0x7F, head & 0xFFFFFF
        pos += 4
        if pos + size > len(data):
            raise DamagedError("it ends in the middle of a block")
        if kind == 4:
            yield from _vorbis_comments(data, pos, pos + size)
        pos += size


_COMMENT_HEADS: Final = (b"OpusTags", b"\x03vorbis")


def ogg_tags(data: bytes) -> Iterator[Tag]:
    """Tags of an Ogg file (Opus, Vorbis): the second packet of its first stream."""
    packet = bytearray()
    finished, pos, stream = 0, 0, data[14:18]
    while finished < 2:
        if data[pos : pos + 4] != b"OggS" or pos + 27 > len(data):
            raise DamagedError("it ends in the middle of a page")
        lacing = data[pos + 27 : pos + 27 + data[pos + 26]]
        body = pos + 27 + len(lacing)
        if data[pos + 14 : pos + 18] == stream:
            at = body
            for size in lacing:
                if finished == 1:
                    packet += data[at : at + size]
                at += size
                # A segment below 255 bytes ends a packet.
                finished += size < 255
                if finished == 2:
                    break
        if len(packet) > MAX_TEXT:
            raise DamagedError("its tags are too long")
        pos = body + sum(lacing)
    tags = bytes(packet)
    for head in _COMMENT_HEADS:
        if tags.startswith(head):
            yield from _vorbis_comments(tags, len(head), len(tags))


def _vorbis_comments(data: bytes, pos: int, end: int) -> Iterator[Tag]:
    pos = _counted(data, pos, end)[1]  # the writer's name
    count = int.from_bytes(data[pos : pos + 4], "little")
    pos += 4
    for _ in range(count):
        start, pos = _counted(data, pos, end)
        name, sign, _value = data[start : min(pos, start + 64)].partition(b"=")
        if sign and _key(name) in WANTED:
            yield _key(name), _text(data, start + len(name) + 1, pos)


def _counted(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Start and stop of a string that has its length (32 bits, little-endian) before it."""
    stop = pos + 4 + int.from_bytes(data[pos : pos + 4], "little")
    if pos + 4 > end or stop > end:
        raise DamagedError("its tags contradict themselves")
    return pos + 4, stop


_ID3_TEXTS: Final = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}


def id3_tags(data: bytes) -> Iterator[Tag]:
    """Tags of an MP3 file: the ``TXXX`` frames of its ID3v2.3 or 2.4 tag."""
    pos, end = 10, 10 + _synchsafe(data[6:10])
    if end > len(data):
        raise DamagedError("it ends in the middle of its tags")
    version, flags = data[3], data[5]
    if flags & 0x40:  # an extended header; its own length counts itself from version 2.4 on only
        pos += _synchsafe(data[10:14]) if version >= 4 else 4 + int.from_bytes(data[10:14], "big")
    while pos + 10 <= end and data[pos] != 0:
        kind, raw = data[pos : pos + 4], data[pos + 4 : pos + 8]
        size = _synchsafe(raw) if version >= 4 else int.from_bytes(raw, "big")
        start, pos = pos + 10, pos + 10 + size
        if pos > end:
            raise DamagedError("its tags contradict themselves")
        if kind == b"TXXX" and size > 1:
            yield from _txxx(_text(data, start, pos))


def _txxx(frame: bytes) -> Iterator[Tag]:
    text = frame[1:].decode(_ID3_TEXTS.get(frame[0], "latin-1"), "replace")
    name, _, value = text.partition("\0")
    key = _key(name.encode())
    if key in WANTED:
        yield key, value.lstrip("\ufeff").encode()


def _synchsafe(raw: bytes) -> int:
    """A 28-bit number in four bytes of seven bits."""
    number = 0
    for byte in raw:
        number = number << 7 | (byte & 0x7F)
    return number


def _key(raw: bytes) -> str:
    return raw[:64].decode("latin-1").strip("\0 ").lower()


def _text(data: bytes, start: int, stop: int) -> bytes:
    if stop - start > MAX_TEXT:
        raise DamagedError("its tags are too long")
    return data[start:stop]
