"""Sound files: FLAC of a tone or silence; MP3 and Opus of silence only, since those need an encoder."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator
from typing import Final

__all__ = ["flac", "mp3", "opus", "tone"]

_BLOCK: Final = 4096
_AMPLITUDE: Final = 0.2


def tone(rate: int, seconds: float, frequency: float) -> bytes:
    """Samples of a sine wave: signed 16-bit little-endian, one channel. A frequency of 0 is silence."""
    count = max(1, round(rate * seconds))
    if frequency <= 0:
        return bytes(2 * count)
    # One period that fits whole samples, repeated: quick, and free of clicks.
    period = max(2, round(rate / frequency))
    wave = array("h", (round(_AMPLITUDE * 32767 * math.sin(2 * math.pi * i / period)) for i in range(period)))
    return (wave.tobytes() * (count // period + 1))[: 2 * count]


def flac(rate: int, channels: int, samples: bytes) -> bytes:
    """A FLAC file (RFC 9639) of verbatim blocks, constant ones where it is silent; all channels alike."""
    count = len(samples) // 2
    block = min(_BLOCK, max(16, count))
    packed = rate << 44 | (channels - 1) << 41 | 15 << 36 | count
    info = struct.pack(">HH", block, block) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    parts = [b"fLaC", b"\x80" + len(info).to_bytes(3, "big"), info]
    for number, at in enumerate(range(0, len(samples), 2 * block)):
        parts.append(_flac_frame(number, samples[at : at + 2 * block], channels))
    return b"".join(parts)


def _flac_frame(number: int, samples: bytes, channels: int) -> bytes:
    count = len(samples) // 2
    # Fixed block size, size as 16 bits behind the header, rate and depth as in the stream's own header.
    head = b"\xff\xf8" + bytes([0x70, (channels - 1) << 4]) + _coded_number(number) + struct.pack(">H", count - 1)
    head += bytes([_crc8(head)])
    if not any(samples):
        body = b"\0\0\0" * channels  # constant, the value 0
    else:
        swapped = array("h", samples)
        swapped.byteswap()
        body = (b"\x02" + swapped.tobytes()) * channels
    frame = head + body
    return frame + struct.pack(">H", _crc16(frame))


def _coded_number(number: int) -> bytes:
    """FLAC numbers its frames the way UTF-8 codes characters."""
    if number < 0x80:
        return bytes([number])
    tail: list[int] = []
    limit = 0x40
    while number >= limit >> (1 if tail else 0):
        tail.append(0x80 | number & 0x3F)
        number >>= 6
        limit = 0x40 >> len(tail)
        if number < limit:
            break
    lead = (0xFF << (7 - len(tail)) & 0xFF) | number
    return bytes([lead, *reversed(tail)])


def _table(width: int, polynomial: int) -> list[int]:
    top, mask = 1 << (width - 1), (1 << width) - 1
    table = []
    for byte in range(256):
        value = byte << (width - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
        table.append(value)
    return table


_CRC8: Final = _table(8, 0x07)
_CRC16: Final = _table(16, 0x8005)
_CRC32: Final = _table(32, 0x04C11DB7)


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    value, table = 0, _CRC16
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ table[value >> 8 ^ byte]
    return value


def _crc32(data: bytes) -> int:
    value, table = 0, _CRC32
    for byte in data:
        value = (value << 8 & 0xFFFFFFFF) ^ table[value >> 24 ^ byte]
    return value


def mp3(seconds: float) -> bytes:
    """An MP3 file of silence: 44.1 kHz, joint stereo, frames of 1152 samples whose side information is all zeros."""
    frame = b"\xff\xfb\x90\x44" + bytes(413)
    return frame * max(1, round(seconds * 44100 / 1152))


def opus(seconds: float) -> bytes:
    """An Ogg Opus file of silence (RFC 7845), in packets of 20 ms."""
    count = max(1, round(seconds * 50))
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 2, 312, 48000, 0, 0)
    vendor = b"comfyclient"
    tags = b"OpusTags" + struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", 0)
    pages = [_ogg_page(0, 0, [head], 2), _ogg_page(1, 0, [tags], 0)]
    packets = [b"\xfc\xff\xfe"] * count
    for number, (at, chunk) in enumerate(_batches(packets, 50), 2):
        last = at + len(chunk) == count
        pages.append(_ogg_page(number, (at + len(chunk)) * 960, chunk, 4 if last else 0))
    return b"".join(pages)


def _batches(items: list[bytes], size: int) -> Iterator[tuple[int, list[bytes]]]:
    for at in range(0, len(items), size):
        yield at, items[at : at + size]


def _ogg_page(number: int, position: int, packets: list[bytes], flags: int) -> bytes:
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    head = b"OggS" + struct.pack("<BBqII", 0, flags, position, 0x636F6D66, number)
    tail = bytes([len(lacing)]) + lacing + b"".join(packets)
    return head + struct.pack("<I", _crc32(head + bytes(4) + tail)) + tail
