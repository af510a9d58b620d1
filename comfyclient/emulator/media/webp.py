"""WebP pictures, lossless and uncompressed in effect (RFC 9649: a VP8L stream whose codes are all 8 bits long)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from comfyclient.emulator.jsontext import server_json
from comfyclient.emulator.media.resample import lanes, merge

__all__ = ["encode", "encode_animation"]

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_MAX_SIDE = 16384


class _Bits:
    """Bits, the lowest of a byte first."""

    def __init__(self) -> None:
        self.value = 0
        self.count = 0

    def put(self, value: int, count: int) -> None:
        self.value |= value << self.count
        self.count += count


def encode(width: int, height: int, channels: int, pixels: bytes, *, text: Mapping[str, object] | None = None) -> bytes:
    """Write one picture of 1, 3 or 4 channels. ``text`` (prompt and workflow as JSON values) goes into EXIF tags.

    Raises:
        ValueError: A side is longer than WebP allows (16 384).
    """
    stream = _stream(width, height, channels, pixels)
    if not text:
        return _riff(_chunk(b"VP8L", stream))
    flags = 0x08 | (0x10 if channels == 4 else 0)
    return _riff(_extended(flags, width, height) + _chunk(b"VP8L", stream) + _chunk(b"EXIF", _exif(text)))


def encode_animation(
    width: int,
    height: int,
    channels: int,
    frames: Sequence[bytes],
    *,
    delay_ms: int,
    text: Mapping[str, object] | None = None,
) -> bytes:
    """Write an animation that repeats for ever. ``text`` goes into EXIF tags, as ComfyUI does it."""
    flags = 0x02 | (0x08 if text else 0) | (0x10 if channels == 4 else 0)
    parts = [_extended(flags, width, height), _chunk(b"ANIM", struct.pack("<IH", 0, 0))]
    for pixels in frames:
        head = b"\0" * 6 + _u24(width - 1) + _u24(height - 1) + _u24(min(delay_ms, 0xFFFFFF)) + b"\x02"
        parts.append(_chunk(b"ANMF", head + _chunk(b"VP8L", _stream(width, height, channels, pixels))))
    if text:
        parts.append(_chunk(b"EXIF", _exif(text)))
    return _riff(b"".join(parts))


def _u24(value: int) -> bytes:
    return value.to_bytes(3, "little")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


def _riff(body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _extended(flags: int, width: int, height: int) -> bytes:
    return _chunk(b"VP8X", bytes([flags, 0, 0, 0]) + _u24(width - 1) + _u24(height - 1))


def _stream(width: int, height: int, channels: int, pixels: bytes) -> bytes:
    if max(width, height) > _MAX_SIDE:
        raise ValueError(f"{width}x{height} is too large for WebP")
    bits = _Bits()
    bits.put(0x2F, 8)
    bits.put(width - 1, 14)
    bits.put(height - 1, 14)
    bits.put(1 if channels == 4 else 0, 1)
    bits.put(0, 3)  # version
    bits.put(0, 1)  # no transform
    bits.put(0, 1)  # no colour cache
    bits.put(0, 1)  # one set of codes for the whole picture
    _byte_code(bits, green=True)
    _byte_code(bits, green=False)  # red
    _byte_code(bits, green=False)  # blue
    if channels == 4:
        _byte_code(bits, green=False)
    else:
        _single(bits, 255)
    _single(bits, 0)  # distances: never used
    planes = [plane.translate(_REVERSED) for plane in lanes(pixels, channels)]
    if channels == 1:
        planes = planes * 3
    data = merge([planes[1], planes[0], planes[2], *planes[3:]])
    total = bits.value | int.from_bytes(data, "little") << bits.count
    return total.to_bytes((bits.count + 8 * len(data) + 7) // 8, "little")


def _byte_code(bits: _Bits, *, green: bool) -> None:
    """Say that the 256 values have codes of 8 bits; what else the green alphabet holds has none."""
    bits.put(0, 1)  # a code given by its lengths
    bits.put(8, 4)  # 12 lengths of the code for lengths follow; only the twelfth, for length 8, is used
    bits.put(0, 3 * 11)
    bits.put(1, 3)
    if green:
        bits.put(1, 1)  # only the first 2 + 254 symbols have a length
        bits.put(3, 3)
        bits.put(254, 8)
    else:
        bits.put(0, 1)


def _single(bits: _Bits, value: int) -> None:
    """A code with one symbol, which then takes no bits at all."""
    bits.put(1, 1)
    bits.put(0, 1)
    bits.put(1, 1)
    bits.put(value, 8)


def _exif(text: Mapping[str, object]) -> bytes:
    """ComfyUI's way: ``prompt:{…}`` in tag 0x0110 and every other key in the tags below it."""
    values = {}
    tag = 0x010F
    for key, value in text.items():
        entry = f"{key}:{server_json(value)}".encode() + b"\0"
        if key == "prompt":
            values[0x0110] = entry
        else:
            values[tag] = entry
            tag -= 1
    offset = 8 + 2 + 12 * len(values) + 4
    entries, tail = b"", b""
    for tag, entry in sorted(values.items()):
        entries += struct.pack("<HHII", tag, 2, len(entry), offset + len(tail))
        tail += entry + b"\0" * (len(entry) & 1)
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + entries + b"\0" * 4 + tail
