"""Pictures scaled, cut and turned, fast enough without numpy.

Two tricks do the work. A row of samples becomes one big integer with a 32-bit lane a sample, so that a weighted sum of
rows is a few multiplications of big integers; and columns are made rows by slicing with a step, so that the same
code scales in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

__all__ = ["METHODS", "blur", "crop", "flip", "lanes", "merge", "pad", "resize", "rotate", "to_channels"]

_ONE = 1 << 16  # weights are fixed-point numbers; a lane holds value * _ONE, plus a bias that keeps it positive
_BIAS = 256 * _ONE

Plan = list[tuple[int, list[int]]]
"""For each new row: the first old row that counts, and the weights of it and those after it."""


def lanes(pixels: bytes, channels: int) -> list[bytes]:
    """The channels apart: one plane of samples each."""
    return [pixels[index::channels] for index in range(channels)] if channels > 1 else [pixels]


def merge(planes: Sequence[bytes]) -> bytes:
    """Planes woven into interleaved samples."""
    if len(planes) == 1:
        return planes[0]
    found = bytearray(len(planes) * len(planes[0]))
    for index, plane in enumerate(planes):
        found[index :: len(planes)] = plane
    return bytes(found)


def to_channels(pixels: bytes, channels: int, wanted: int) -> bytes:
    """The same picture with 1 (the first channel), 3 or 4 (opaque) channels."""
    if channels == wanted:
        return pixels
    planes = lanes(pixels, channels)
    if channels == 1:
        planes = planes * 3
    if wanted == 1:
        return planes[0]
    planes = planes[:wanted]
    return merge(planes + [b"\xff" * len(planes[0])] * (wanted - len(planes)))


def crop(pixels: bytes, size: tuple[int, int], channels: int, x: int, y: int, width: int, height: int) -> bytes:
    """The rectangle at ``x``, ``y``; it must lie within the picture."""
    stride = size[0] * channels
    if x == 0 and width == size[0]:
        return pixels[y * stride : (y + height) * stride]
    first, last = x * channels, (x + width) * channels
    return b"".join(pixels[row * stride + first : row * stride + last] for row in range(y, y + height))


def flip(pixels: bytes, size: tuple[int, int], channels: int, *, vertically: bool) -> bytes:
    """Upside down, or left to right."""
    width, height = size
    if vertically:
        stride = width * channels
        return b"".join(pixels[row * stride : (row + 1) * stride] for row in range(height - 1, -1, -1))
    turned = []
    for plane in lanes(pixels, channels):
        mirrored = plane[::-1]
        turned.append(b"".join(mirrored[row * width : (row + 1) * width] for row in range(height - 1, -1, -1)))
    return merge(turned)


def rotate(pixels: bytes, size: tuple[int, int], channels: int, quarters: int) -> bytes:
    """Clockwise by quarter turns; odd numbers swap width and height."""
    width, height = size
    planes = lanes(pixels, channels)
    if quarters % 4 == 2:
        return merge([plane[::-1] for plane in planes])
    if quarters % 4 == 0:
        return pixels
    turned = []
    for plane in planes:
        columns = [plane[x::width] for x in range(width)]
        if quarters % 4 == 1:
            turned.append(b"".join(column[::-1] for column in columns))
        else:
            turned.append(b"".join(reversed(columns)))
    return merge(turned) if height else pixels


def resize(pixels: bytes, size: tuple[int, int], channels: int, wanted: tuple[int, int], method: str) -> bytes:
    """Scale to ``wanted`` with one of `METHODS`, in 8 bits.

    They follow the definitions of ``torch.nn.functional.interpolate``, and Pillow's for lanczos.

    Raises:
        KeyError: An unknown method.
    """
    plan = METHODS[method]
    width, height = size
    if width != wanted[0]:
        columns = _columns(pixels, width, channels)
        columns = _apply(columns, plan(width, wanted[0]), exact=method == "nearest-exact")
        pixels = _from_columns(columns, height, channels)
    if height != wanted[1]:
        stride = wanted[0] * channels
        rows = [pixels[row * stride : (row + 1) * stride] for row in range(height)]
        pixels = b"".join(_apply(rows, plan(height, wanted[1]), exact=method == "nearest-exact"))
    return pixels


def _columns(pixels: bytes, width: int, channels: int) -> list[bytes]:
    """One row a column: its samples from top to bottom, channel after channel."""
    planes = lanes(pixels, channels)
    return [b"".join(plane[x::width] for plane in planes) for x in range(width)]


def _from_columns(columns: Sequence[bytes], height: int, channels: int) -> bytes:
    planes = []
    for channel in range(channels):
        first, last = channel * height, (channel + 1) * height
        joined = b"".join(column[first:last] for column in columns)
        planes.append(b"".join(joined[y::height] for y in range(height)))
    return merge(planes)


def _apply(rows: Sequence[bytes], plan: Plan, *, exact: bool) -> list[bytes]:
    if exact:
        return [rows[first] for first, _ in plan]
    wide: dict[int, int] = {}
    size = len(rows[0])
    bias = int.from_bytes(_BIAS.to_bytes(4, "little") * size, "little")
    found = []
    for first, weights in plan:
        total = bias
        for index, weight in enumerate(weights, first):
            if weight:
                if index not in wide:
                    wide[index] = _widen(rows[index])
                total += wide[index] * weight
        found.append(_narrow(total, size))
        for index in [index for index in wide if index < first]:
            del wide[index]
    return found


def _widen(row: bytes) -> int:
    spread = bytearray(4 * len(row))
    spread[::4] = row
    return int.from_bytes(spread, "little")


_TOO_BIG = bytes(255 if high > 1 else 0 for high in range(256))
_IN_RANGE = bytes(255 if high == 1 else 0 for high in range(256))


def _narrow(total: int, size: int) -> bytes:
    """The integer parts of the lanes, clamped to a byte. The bias makes the second byte 1 for values within range."""
    spread = total.to_bytes(4 * size, "little")
    low, high = spread[2::4], spread[3::4]
    if high.count(1) == size:
        return low
    kept = int.from_bytes(low, "little") & int.from_bytes(high.translate(_IN_RANGE), "little")
    return (kept | int.from_bytes(high.translate(_TOO_BIG), "little")).to_bytes(size, "little")


def _normal(first: int, weights: list[float], limit: int) -> tuple[int, list[int]]:
    """Fixed-point weights that sum to one; those beyond an edge go to the edge row."""
    merged: dict[int, float] = {}
    for offset, weight in enumerate(weights):
        row = min(max(first + offset, 0), limit - 1)
        merged[row] = merged.get(row, 0.0) + weight
    start, total = min(merged), sum(merged.values())
    fixed = [round(merged.get(row, 0.0) / total * _ONE) for row in range(start, max(merged) + 1)]
    fixed[fixed.index(max(fixed))] += _ONE - sum(fixed)
    return start, fixed


def _nearest(old: int, new: int) -> Plan:
    return [(min(int((index + 0.5) * old / new), old - 1), [_ONE]) for index in range(new)]


def _bilinear(old: int, new: int) -> Plan:
    plan = []
    for index in range(new):
        centre = max((index + 0.5) * old / new - 0.5, 0.0)
        first = int(centre)
        plan.append(_normal(first, [1 - (centre - first), centre - first], old))
    return plan


def _cubic(distance: float) -> float:
    x, a = abs(distance), -0.75
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def _bicubic(old: int, new: int) -> Plan:
    plan = []
    for index in range(new):
        centre = (index + 0.5) * old / new - 0.5
        first = math.floor(centre) - 1
        plan.append(_normal(first, [_cubic(centre - row) for row in range(first, first + 4)], old))
    return plan


def _area(old: int, new: int) -> Plan:
    plan = []
    for index in range(new):
        first, last = index * old // new, -((index + 1) * old // -new)
        plan.append(_normal(first, [1.0] * (last - first), old))
    return plan


def _sinc3(distance: float) -> float:
    if distance == 0:
        return 1.0
    if abs(distance) >= 3:
        return 0.0
    x = math.pi * distance
    return 3 * math.sin(x) * math.sin(x / 3) / (x * x)


def _lanczos(old: int, new: int) -> Plan:
    """Pillow's: the window grows with the reduction, and rows outside the picture do not count."""
    scale = max(old / new, 1.0)
    plan = []
    for index in range(new):
        centre = (index + 0.5) * old / new
        first, last = max(int(centre - 3 * scale + 0.5), 0), min(int(centre + 3 * scale + 0.5), old)
        plan.append(_normal(first, [_sinc3((row - centre + 0.5) / scale) for row in range(first, last)], old))
    return plan


METHODS: dict[str, Callable[[int, int], Plan]] = {
    "nearest-exact": _nearest,
    "bilinear": _bilinear,
    "area": _area,
    "bicubic": _bicubic,
    "lanczos": _lanczos,
    "bislerp": _bilinear,
}


def pad(pixels: bytes, size: tuple[int, int], channels: int, sides: tuple[int, int, int, int], value: int) -> bytes:
    """The picture with ``left, top, right, bottom`` pixels of ``value`` round it."""
    width, height = size
    left, top, right, bottom = sides
    stride, full = width * channels, (left + width + right) * channels
    before, behind = bytes([value]) * (left * channels), bytes([value]) * (right * channels)
    rows = (before + pixels[row * stride : (row + 1) * stride] + behind for row in range(height))
    return bytes([value]) * (full * top) + b"".join(rows) + bytes([value]) * (full * bottom)


def blur(pixels: bytes, size: tuple[int, int], channels: int, radius: int, sigma: float) -> bytes:
    """A Gaussian blur over ``2 * radius + 1`` pixels each way; the edge is mirrored. ``sigma`` counts in radii."""
    distances = (offset / radius for offset in range(-radius, radius + 1))
    weights = [math.exp(-(distance * distance) / (2 * sigma * sigma)) for distance in distances]
    width, height = size
    columns = _apply(_columns(pixels, width, channels), _blur_plan(width, radius, weights), exact=False)
    pixels = _from_columns(columns, height, channels)
    stride = width * channels
    rows = [pixels[row * stride : (row + 1) * stride] for row in range(height)]
    return b"".join(_apply(rows, _blur_plan(height, radius, weights), exact=False))


def _blur_plan(limit: int, radius: int, weights: list[float]) -> Plan:
    plan = []
    for index in range(limit):
        merged: dict[int, float] = {}
        for offset, weight in enumerate(weights, index - radius):
            row = _mirrored(offset, limit)
            merged[row] = merged.get(row, 0.0) + weight
        first = min(merged)
        plan.append(_normal(first, [merged.get(row, 0.0) for row in range(first, max(merged) + 1)], limit))
    return plan


def _mirrored(index: int, limit: int) -> int:
    """Reflected at the first and last row, as often as needed."""
    if limit == 1:
        return 0
    index %= 2 * (limit - 1)
    return index if index < limit else 2 * (limit - 1) - index
