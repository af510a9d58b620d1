"""Pictures, sound and video that ComfyUI saved: find the texts in which they carry their workflow and prompt.

`read` knows a file by its first bytes. It only finds texts; what they mean is the business of `document`.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from comfyclient.workflow.media import (
    MAX_PARTS,
    MAX_TEXT,
    WANTED,
    DamagedError,
    Tag,
    flac_tags,
    id3_tags,
    matroska_tags,
    mp4_tags,
    ogg_tags,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MAX_TEXT", "Container", "read", "unreadable_kind"]


@dataclass(frozen=True, slots=True)
class Container:
    """What `read` found: ``texts`` by key (``workflow``, ``prompt``, ``comment``).

    ``kind`` names the file ("a PNG picture"); ``damage`` says how it is broken, if it is.
    """

    kind: str
    texts: dict[str, str]
    damage: str | None = None


def read(data: bytes) -> Container | None:
    """Read the texts of a picture, sound or video; ``None`` if the file is none of those that can be read."""
    for kind, magic, reader in _READERS:
        if re.match(magic, data, re.DOTALL):
            return _collect(kind, reader(data))
    return None


def unreadable_kind(data: bytes) -> str | None:
    """What a file is that never holds a workflow, for messages; ``None`` if it is not known."""
    for magic, kind in _OTHERS:
        if data.startswith(magic):
            return kind
    return None


def _collect(kind: str, tags: Iterator[Tag]) -> Container:
    texts: dict[str, str] = {}
    damage = None
    try:
        for key, value in tags:
            texts.setdefault(key, _decode(value))
    except DamagedError as error:
        damage = str(error)
    return Container(kind, texts, damage)


def _decode(value: bytes) -> str:
    value = value.rstrip(b"\0")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        # What PNG's plain text chunks are by their standard, though most programs write UTF-8 there.
        return value.decode("latin-1")


def _png_tags(data: bytes) -> Iterator[Tag]:
    """Tags of a PNG: text chunks anywhere in the file, and the ``comf`` chunks of ComfyUI's animated PNGs."""
    pos = 8
    seen: set[bytes] = set()
    for _ in range(MAX_PARTS):
        if pos + 8 > len(data):
            raise DamagedError("it ends in the middle")
        size, kind = struct.unpack_from(">I4s", data, pos)
        start, stop = pos + 8, pos + 8 + size
        if kind == b"IEND":
            return
        if stop + 4 > len(data):
            raise DamagedError("it ends in the middle")
        if kind in _PNG_TEXTS:
            name = data[start : min(stop, start + 80)].partition(b"\0")[0].lower()
            # Only the first text of a name is unpacked, or a small file could make us unpack thousands.
            if name.decode("latin-1") in WANTED and name not in seen:
                seen.add(name)
                yield name.decode("latin-1"), _png_text(kind, data[start + len(name) + 1 : stop])
        elif kind == b"eXIf":
            yield from _exif_tags(data[start:stop])
        pos = stop + 4
    raise DamagedError("it has too many parts")


_PNG_TEXTS: Final = frozenset({b"tEXt", b"zTXt", b"iTXt", b"comf"})


def _png_text(kind: bytes, rest: bytes) -> bytes:
    """The text of a chunk; ``rest`` is what follows its name."""
    if kind == b"zTXt":
        return _inflate(rest[1:])
    if kind == b"iTXt":  # compressed?, method, language NUL, translated name NUL, text
        text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        return _inflate(text) if rest[:1] == b"\1" else text
    return rest


def _inflate(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, MAX_TEXT)
    except zlib.error:
        raise DamagedError("a compressed text in it is broken") from None
    if not unpacker.eof:
        raise DamagedError("a compressed text in it is too long or breaks off")
    return text


def _webp_tags(data: bytes) -> Iterator[Tag]:
    """Tags of a WebP, still or animated: the EXIF chunk."""
    pos = 12
    while pos + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, pos)
        start, stop = pos + 8, pos + 8 + size
        if stop > len(data):
            raise DamagedError("it ends in the middle")
        if kind == b"EXIF":
            yield from _exif_tags(data[start:stop].removeprefix(b"Exif\0\0"))
        pos = stop + (size & 1)
    if pos < 8 + int.from_bytes(data[4:8], "little"):
        raise DamagedError("it ends in the middle")


def _exif_tags(tiff: bytes) -> Iterator[Tag]:
    """Texts of the form ``key:text`` in the first directory of EXIF data.

    ComfyUI writes ``prompt:{…}`` into Model (0x0110), ``workflow:{…}`` into Make (0x010F) and further texts
    into the numbers below. Other savers swap them, so the key in the text counts.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        raise DamagedError("its EXIF data is broken")
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    if first + 2 > len(tiff):
        raise DamagedError("its EXIF data is broken")
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    seen: set[str] = set()
    for entry in range(first + 2, first + 2 + 12 * count, 12):
        if entry + 12 > len(tiff):
            raise DamagedError("its EXIF data is broken")
        _tag, kind, size, offset = struct.unpack_from(f"{order}HHII", tiff, entry)
        if kind in _EXIF_BYTES and size > 4:
            if offset + size > len(tiff):
                raise DamagedError("its EXIF data is broken")
            name, colon, _ = tiff[offset : offset + min(size, 16)].partition(b":")
            key = name.decode("latin-1").lower()
            if colon and key in WANTED and key not in seen:
                seen.add(key)
                yield key, tiff[offset + len(name) + 1 : offset + size]


_EXIF_BYTES: Final = frozenset({1, 2, 7})  # BYTE, ASCII, UNDEFINED

_READERS: Final[tuple[tuple[str, bytes, Callable[[bytes], Iterator[Tag]]], ...]] = (
    ("a PNG picture", rb"\x89PNG\r\n\x1a\n", _png_tags),
    ("a WebP picture", rb"RIFF....WEBP", _webp_tags),
    ("a video", rb"\0...ftyp", mp4_tags),
    ("a video", rb"\x1a\x45\xdf\xa3", matroska_tags),
    ("a FLAC sound file", rb"fLaC", flac_tags),
    ("an Ogg sound file", rb"OggS", ogg_tags),
    ("an MP3 sound file", rb"ID3[\2-\4]", id3_tags),
)

_OTHERS: Final = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"RIFF", "a RIFF file (WAV, AVI)"),
    (b"\xff\xfb", "an MP3 sound file without tags"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
