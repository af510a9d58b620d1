"""What kind of picture some bytes are and how large, from their headers, without decoding them."""

from __future__ import annotations

import struct

from comfyclient.emulator.media import png

__all__ = ["media_type", "size_of"]


def media_type(data: bytes) -> str | None:
    """``"image/png"`` and its like for PNG, JPEG, WebP, GIF and BMP, else ``None``."""
    if data.startswith(png.SIGNATURE):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[:6] in {b"GIF87a", b"GIF89a"}:
        return "image/gif"
    return "image/bmp" if data[:2] == b"BM" and len(data) > 26 else None


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height, or ``None`` if it is no picture of a known kind or its header is damaged."""
    kind = media_type(data)
    try:
        if kind == "image/png":
            found = struct.unpack_from(">II", data, 16)
        elif kind == "image/gif":
            found = struct.unpack_from("<HH", data, 6)
        elif kind == "image/bmp":
            width, height = struct.unpack_from("<ii", data, 18)
            found = (width, abs(height))
        elif kind == "image/jpeg":
            found = _jpeg_size(data)
        elif kind == "image/webp":
            found = _webp_size(data)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return (found[0], found[1]) if found[0] > 0 and found[1] > 0 else None


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """From the first frame header (SOF)."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    raise IndexError


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF
