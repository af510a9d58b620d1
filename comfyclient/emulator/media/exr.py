"""OpenEXR pictures: one part, uncompressed scan lines of 32-bit floats."""

from __future__ import annotations

import struct

__all__ = ["encode"]

_FLOATS = [struct.pack("<f", value / 255) for value in range(256)]


def encode(width: int, height: int, pixels: bytes) -> bytes:
    """Write RGB pixels; 255 becomes 1.0."""
    channels = b"".join(name + b"\0" + struct.pack("<IB3xII", 2, 0, 1, 1) for name in (b"B", b"G", b"R")) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = (
        (b"channels", b"chlist", channels), (b"compression", b"compression", b"\0"), (b"dataWindow", b"box2i", window),
        (b"displayWindow", b"box2i", window), (b"lineOrder", b"lineOrder", b"\0"),
        (b"pixelAspectRatio", b"float", struct.pack("<f", 1)),
        (b"screenWindowCenter", b"v2f", struct.pack("<2f", 0, 0)),
        (b"screenWindowWidth", b"float", struct.pack("<f", 1)),
    )  # fmt: skip
    head = struct.pack("<II", 20000630, 2)
    head += b"".join(
        name + b"\0" + kind + b"\0" + struct.pack("<I", len(value)) + value for name, kind, value in attributes
    )
    head += b"\0"
    size = 8 + 12 * width
    first = len(head) + 8 * height
    table = struct.pack(f"<{height}Q", *(first + row * size for row in range(height)))
    return head + table + b"".join(_line(width, pixels, row) for row in range(height))


def _line(width: int, pixels: bytes, row: int) -> bytes:
    line = pixels[3 * row * width : 3 * (row + 1) * width]
    planes = (b"".join(map(_FLOATS.__getitem__, line[channel::3])) for channel in (2, 1, 0))
    return struct.pack("<iI", row, 12 * width) + b"".join(planes)
