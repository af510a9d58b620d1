"""The picture that stands for what a model would have painted: the same for the same inputs, and marked as simulated.

A digest of everything upstream picks colours, waves and discs; a hatched frame and the word SIMULATED say what it is.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Final

__all__ = ["NOTICE", "colour_of", "simulated_picture"]

NOTICE: Final = "simulated by the comfyclient emulator: no model painted this"
"""Written into the files (the tEXt chunk ``comfyclient``) that hold simulated content."""

# Five by seven dots a character: a row is five bits, the highest to the left.
_FONT: Final[dict[str, tuple[int, ...]]] = {
    "A": (14, 17, 17, 31, 17, 17, 17), "B": (30, 17, 17, 30, 17, 17, 30), "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (30, 17, 17, 17, 17, 17, 30), "E": (31, 16, 16, 30, 16, 16, 31), "F": (31, 16, 16, 30, 16, 16, 16),
    "I": (14, 4, 4, 4, 4, 4, 14), "L": (16, 16, 16, 16, 16, 16, 31), "M": (17, 27, 21, 21, 17, 17, 17),
    "S": (15, 16, 16, 14, 1, 1, 30), "T": (31, 4, 4, 4, 4, 4, 4), "U": (17, 17, 17, 17, 17, 17, 14),
    "0": (14, 17, 19, 21, 25, 17, 14), "1": (4, 12, 4, 4, 4, 4, 14), "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (31, 2, 4, 2, 1, 17, 14), "4": (2, 6, 10, 18, 31, 2, 2), "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14), "7": (31, 1, 2, 4, 8, 8, 8), "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
}  # fmt: skip
_COLUMNS, _ROWS = 6, 7  # of a character, with the gap behind it


def colour_of(digest: str, index: int = 0) -> tuple[int, int, int]:
    """A colour that depends on the digest."""
    seed = hashlib.sha256(f"{digest}/{index}".encode()).digest()
    return seed[0], seed[1], seed[2]


@lru_cache(maxsize=4)
def simulated_picture(digest: str, width: int, height: int) -> bytes:
    """RGB pixels of the picture for that digest and size."""
    seed = hashlib.sha256(f"{digest}/{width}x{height}".encode()).digest()
    pixels = bytearray(_waves(seed, width, height))
    for index in range(3 + seed[20] % 4):
        _disc(pixels, width, height, hashlib.sha256(seed + bytes([index])).digest())
    _hatched_frame(pixels, width, height)
    _label(pixels, width, height, "SIMULATED", seed.hex()[:8].upper())
    return bytes(pixels)


def _waves(seed: bytes, width: int, height: int) -> bytes:
    """A strip of changing colours, shifted row by row along two waves."""
    swing = max(4, width // 4)
    strip = _strip(seed, width + 4 * swing)
    first, second = 1 + seed[6] % 3, 2 + seed[7] % 5
    phase = seed[8] / 40
    rows = []
    for y in range(height):
        angle = 2 * math.pi * y / height
        shift = int(swing * (2 + math.sin(first * angle + phase) + 0.5 * math.sin(second * angle)))
        rows.append(strip[3 * shift : 3 * (shift + width)])
    return b"".join(rows)


def _strip(seed: bytes, length: int) -> bytes:
    strip = bytearray(3 * length)
    for channel in range(3):
        cycles = 1 + seed[channel] % 3
        phase = seed[3 + channel] / 40
        step = 2 * math.pi * cycles / length
        strip[channel::3] = bytes(int(128 + 90 * math.sin(step * x + phase)) for x in range(length))
    return bytes(strip)


def _disc(pixels: bytearray, width: int, height: int, seed: bytes) -> None:
    radius = max(2, min(width, height) * (4 + seed[0] % 12) // 64)
    middle_x, middle_y = seed[1] * width // 256, seed[2] * height // 256
    colour = bytes(seed[3:6])
    for y in range(max(0, middle_y - radius), min(height, middle_y + radius + 1)):
        half = math.isqrt(max(0, radius * radius - (y - middle_y) ** 2))
        first, last = max(0, middle_x - half), min(width, middle_x + half + 1)
        if first < last:
            pixels[3 * (y * width + first) : 3 * (y * width + last)] = colour * (last - first)


def _hatched_frame(pixels: bytearray, width: int, height: int) -> None:
    thickness = max(1, min(width, height) // 32)
    stripe = max(2, thickness)
    pattern = (b"\x20\x20\x20" * stripe + b"\xff\xd0\x00" * stripe) * (width // (2 * stripe) + 3)
    for y in range(height):
        shift = 3 * (y % (2 * stripe))
        row = 3 * y * width
        if y < thickness or y >= height - thickness:
            pixels[row : row + 3 * width] = pattern[shift : shift + 3 * width]
        else:
            edge = pattern[shift : shift + 3 * width]
            pixels[row : row + 3 * thickness] = edge[: 3 * thickness]
            pixels[row + 3 * (width - thickness) : row + 3 * width] = edge[-3 * thickness :]


def _label(pixels: bytearray, width: int, height: int, *lines: str) -> None:
    """White letters on a dark band, as large as fits; nothing where not even one dot a pixel fits."""
    longest = max(len(line) for line in lines)
    scale = min(width * 3 // 4 // (longest * _COLUMNS), height // 2 // ((_ROWS + 2) * len(lines)))
    if scale < 1:
        lines, scale = lines[:1], min(width // (longest * _COLUMNS), height // (_ROWS + 2))
        if scale < 1:
            return
    band_height = scale * (_ROWS + 2) * len(lines)
    top = height - band_height - max(1, height // 16) if height > 2 * band_height else (height - band_height) // 2
    for y in range(top, top + band_height):
        pixels[3 * y * width : 3 * (y + 1) * width] = bytes(
            value >> 2 for value in pixels[3 * y * width : 3 * (y + 1) * width]
        )
    for number, line in enumerate(lines):
        _write(
            pixels,
            width,
            (width - scale * _COLUMNS * len(line)) // 2,
            top + scale * (number * (_ROWS + 2) + 1),
            line,
            scale,
        )


def _write(pixels: bytearray, width: int, left: int, top: int, line: str, scale: int) -> None:
    dot = b"\xff" * (3 * scale)
    for position, character in enumerate(line):
        for row, bits in enumerate(_FONT[character]):
            for column in range(5):
                if bits >> (4 - column) & 1:
                    x = left + scale * (position * _COLUMNS + column)
                    for y in range(top + scale * row, top + scale * (row + 1)):
                        at = 3 * (y * width + x)
                        pixels[at : at + len(dot)] = dot
