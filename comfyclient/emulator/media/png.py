"""PNG pictures, written and read with `zlib` and `struct` (W3C PNG specification, third edition).

Pixels are rows of 8-bit samples, interleaved, without padding: ``width * height * channels`` bytes with 1 (grey),
3 (RGB) or 4 (RGBA) channels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

__all__ = ["SIGNATURE", "Picture", "PictureUnreadable", "decode", "encode", "encode_animation"]

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE: Final = {1: 0, 3: 2, 4: 6}
_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MAX_PIXELS: Final = 64_000_000
_BYTE: Final = 0xFF


class PictureUnreadable(ValueError):
    """These bytes are no picture that can be decoded here."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: ``channels`` is 1, 3 or 4, ``pixels`` are its rows of samples."""

    width: int
    height: int
    channels: int
    pixels: bytes


def encode(
    width: int,
    height: int,
    channels: int,
    pixels: bytes,
    *,
    text: Mapping[str, str] | None = None,
    level: int = 4,
) -> bytes:
    """Write one picture. ``text`` becomes tEXt chunks (iTXt beyond Latin-1), in order; ``level`` is zlib's."""
    parts = [SIGNATURE, _header(width, height, channels), *_text_chunks(text or {})]
    parts.append(_chunk(b"IDAT", zlib.compress(_scanlines(width, height, channels, pixels), level)))
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def encode_animation(
    width: int,
    height: int,
    channels: int,
    frames: Sequence[bytes],
    *,
    delay_ms: int,
    text: Mapping[str, str] | None = None,
    level: int = 4,
) -> bytes:
    """Write an animated PNG that repeats for ever; each frame is shown for ``delay_ms`` (at most 65 535)."""
    parts = [SIGNATURE, _header(width, height, channels), *_text_chunks(text or {})]
    parts.append(_chunk(b"acTL", struct.pack(">II", len(frames), 0)))
    sequence = 0
    for index, pixels in enumerate(frames):
        control = struct.pack(">IIIIIHHBB", sequence, width, height, 0, 0, min(delay_ms, 65535), 1000, 0, 0)
        parts.append(_chunk(b"fcTL", control))
        sequence += 1
        data = zlib.compress(_scanlines(width, height, channels, pixels), level)
        if index == 0:
            parts.append(_chunk(b"IDAT", data))
        else:
            parts.append(_chunk(b"fdAT", struct.pack(">I", sequence) + data))
            sequence += 1
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def decode(data: bytes) -> Picture:
    """Read the (first) picture of a PNG: every colour type and depth, not interlaced.

    16-bit samples lose their low byte, palettes become RGB or RGBA, grey with alpha becomes RGBA.

    Raises:
        PictureUnreadable: Not a PNG, damaged, interlaced or above 64 million pixels.
    """
    head: tuple[int, ...] | None = None
    packed: list[bytes] = []
    palette = alpha = b""
    for kind, body in _chunks(data):
        if kind == b"IHDR":
            head = _read_header(body)
        elif kind == b"PLTE":
            palette = body
        elif kind == b"tRNS":
            alpha = body
        elif kind == b"IDAT":
            packed.append(body)
    if head is None or not packed:
        raise PictureUnreadable("a PNG without picture data")
    width, height, depth, colour = head
    rows = _unpack(b"".join(packed), width, height, depth, _SAMPLES[colour])
    if colour == 0 and depth < 8:
        scale = bytes(min(value * 255 // ((1 << depth) - 1), 255) for value in range(256))
        rows = [row.translate(scale) for row in rows]
    return _to_picture(width, height, colour, rows, palette, alpha)


def _header(width: int, height: int, channels: int) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPE[channels], 0, 0, 0))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))))


def _text_chunks(text: Mapping[str, str]) -> Iterator[bytes]:
    for key, value in text.items():
        name = key.encode("latin-1", "replace")[:79]
        try:
            yield _chunk(b"tEXt", name + b"\0" + value.encode("latin-1"))
        except UnicodeEncodeError:
            yield _chunk(b"iTXt", name + b"\0\0\0\0\0" + value.encode("utf-8"))


def _scanlines(width: int, height: int, channels: int, pixels: bytes) -> bytes:
    """The rows, each behind a filter byte 0 (none)."""
    stride = width * channels
    if len(pixels) != stride * height:
        raise ValueError(f"{len(pixels)} bytes are no {width}x{height} picture of {channels} channels")
    return b"".join(part for y in range(height) for part in (b"\0", pixels[y * stride : (y + 1) * stride]))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(SIGNATURE):
        raise PictureUnreadable("not a PNG")
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if len(body) < length:
            raise PictureUnreadable("a PNG cut short")
        yield kind, body
        if kind == b"IEND":
            return
        at += 12 + length


def _read_header(body: bytes) -> tuple[int, int, int, int]:
    if len(body) != 13:
        raise PictureUnreadable("a PNG with a damaged header")
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    if not width or not height or width * height > _MAX_PIXELS:
        raise PictureUnreadable(f"a PNG of {width}x{height} pixels")
    if colour not in _SAMPLES or depth not in {1, 2, 4, 8, 16} or compression or filtering:
        raise PictureUnreadable("a PNG of an unknown kind")
    if interlace:
        raise PictureUnreadable("an interlaced PNG")
    return width, height, depth, colour


def _unpack(packed: bytes, width: int, height: int, depth: int, samples: int) -> list[bytes]:
    """Unfiltered rows of one byte a sample."""
    stride = (width * samples * depth + 7) // 8
    wanted = (stride + 1) * height
    try:
        raw = zlib.decompressobj().decompress(packed, wanted)
    except zlib.error as error:
        raise PictureUnreadable(f"a PNG with damaged data ({error})") from None
    if len(raw) < wanted:
        raise PictureUnreadable("a PNG cut short")
    rows = _unfilter(raw, height, stride, max(1, samples * depth // 8))
    if depth == 16:
        return [row[::2] for row in rows]
    if depth == 8:
        return rows
    table = [
        bytes((byte >> shift) & ((1 << depth) - 1) for shift in range(8 - depth, -1, -depth)) for byte in range(256)
    ]
    if samples == 1 and depth < 8:
        return [b"".join(map(table.__getitem__, row))[:width] for row in rows]
    raise PictureUnreadable("a PNG of an unknown kind")


def _unfilter(raw: bytes, height: int, stride: int, step: int) -> list[bytes]:
    rows: list[bytes] = []
    before = bytes(stride)
    for y in range(height):
        at = y * (stride + 1)
        kind, row = raw[at], raw[at + 1 : at + 1 + stride]
        if kind == 1:
            row = _undo_sub(row, step)
        elif kind == 2:
            row = _add_bytes(row, before)
        elif kind == 3:
            row = _undo_average(row, before, step)
        elif kind == 4:
            row = _undo_paeth(row, before, step)
        elif kind:
            raise PictureUnreadable("a PNG with an unknown filter")
        rows.append(row)
        before = row
    return rows


def _undo_sub(row: bytes, step: int) -> bytes:
    found = bytearray(len(row))
    for lane in range(step):
        found[lane::step] = bytes(total & _BYTE for total in accumulate(row[lane::step]))
    return bytes(found)


def _add_bytes(left: bytes, right: bytes) -> bytes:
    """Byte-wise sum modulo 256: two big integers whose even and odd bytes are added apart, so nothing carries over."""
    size = len(left)
    mask = int.from_bytes((b"\xff\0" * (size // 2 + 1))[:size], "little")
    odd = mask ^ ((1 << (8 * size)) - 1)
    a, b = int.from_bytes(left, "little"), int.from_bytes(right, "little")
    total = (((a & mask) + (b & mask)) & mask) | (((a & odd) + (b & odd)) & odd)
    return total.to_bytes(size, "little")


def _undo_average(row: bytes, before: bytes, step: int) -> bytes:
    found = bytearray(row)
    for index in range(len(found)):
        left = found[index - step] if index >= step else 0
        found[index] = (row[index] + (left + before[index]) // 2) & _BYTE
    return bytes(found)


def _undo_paeth(row: bytes, before: bytes, step: int) -> bytes:
    found = bytearray(len(row))
    for lane in range(step):
        left = corner = 0
        lane_found = []
        for value, up in zip(row[lane::step], before[lane::step], strict=True):
            to_left, to_up = up - corner, left - corner
            distance_left, distance_up, distance_corner = abs(to_left), abs(to_up), abs(to_left + to_up)
            if distance_left <= distance_up and distance_left <= distance_corner:
                guess = left
            elif distance_up <= distance_corner:
                guess = up
            else:
                guess = corner
            left = (value + guess) & _BYTE
            corner = up
            lane_found.append(left)
        found[lane::step] = bytes(lane_found)
    return bytes(found)


def _to_picture(width: int, height: int, colour: int, rows: Iterable[bytes], palette: bytes, alpha: bytes) -> Picture:
    pixels = b"".join(rows)
    if colour == 3:
        return _from_palette(width, height, pixels, palette, alpha)
    if colour == 4:
        grey = pixels[::2]
        return Picture(width, height, 4, _interleave(grey, grey, grey, pixels[1::2]))
    return Picture(width, height, _SAMPLES[colour], pixels)


def _from_palette(width: int, height: int, pixels: bytes, palette: bytes, alpha: bytes) -> Picture:
    lanes = [palette[lane::3][:256].ljust(256, b"\0") for lane in range(3)]
    if alpha:
        lanes.append(alpha[:256].ljust(256, b"\xff"))
    return Picture(width, height, len(lanes), _interleave(*(pixels.translate(lane) for lane in lanes)))


def _interleave(*lanes: bytes) -> bytes:
    found = bytearray(len(lanes) * len(lanes[0]))
    for index, lane in enumerate(lanes):
        found[index :: len(lanes)] = lane
    return bytes(found)
