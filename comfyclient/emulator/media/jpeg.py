"""JPEG pictures of the coarsest kind: baseline, one colour for each block of 8 by 8 pixels (ITU-T T.81).

Enough for previews: small, quick to make, and every reader opens them.
"""

from __future__ import annotations

import struct

from comfyclient.emulator.media.resample import lanes, resize, to_channels

__all__ = ["encode"]

# Differences of neighbouring blocks need 0 to 11 bits: twelve codes of four bits. Nothing but "end of block" follows.
_DC_TABLE = bytes([0x00]) + bytes([0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) + bytes(range(12))
_AC_TABLE = bytes([0x10]) + bytes([1] + [0] * 15) + b"\0"
_QUANTUM = 8  # makes a block's number its mean value, less 128


def encode(width: int, height: int, channels: int, pixels: bytes) -> bytes:
    """Write one picture; an alpha channel is left out."""
    blocks = ((width + 7) // 8, (height + 7) // 8)
    small = resize(to_channels(pixels, channels, 3), (width, height), 3, blocks, "area")
    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    return b"".join([
        b"\xff\xd8",
        _segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
        _segment(0xDB, b"\0" + bytes([_QUANTUM] * 64)),
        _segment(0xC0, frame),
        _segment(0xC4, _DC_TABLE + _AC_TABLE),
        _segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0])),
        _scan(small),
        b"\xff\xd9",
    ])  # fmt: skip


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _scan(pixels: bytes) -> bytes:
    before = [0, 0, 0]
    codes: list[str] = []
    for red, green, blue in zip(*lanes(pixels, 3), strict=True):
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        values = (round(luma) - 128, round((blue - luma) * 0.564), round((red - luma) * 0.713))
        for index, value in enumerate(values):
            codes.append(_difference(value - before[index]))
            before[index] = value
    bits = "".join(codes)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


def _difference(value: int) -> str:
    """The code of a difference, and the end of the block."""
    size = abs(value).bit_length()
    if not size:
        return "00000"
    return f"{size:04b}{value if value > 0 else value + (1 << size) - 1:0{size}b}0"
