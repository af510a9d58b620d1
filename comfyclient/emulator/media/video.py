"""Video files whose frames are PNG pictures: MP4 (ISO 14496-12; object type 0x6D is PNG) and Matroska/WebM.

Players built on FFmpeg show them; browsers, which know only their own codecs, do not.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

__all__ = ["mp4", "webm"]

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def _full(kind: bytes, version_flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version_flags), *parts)


def mp4(
    width: int, height: int, frames: Sequence[bytes], *, frame_ms: int, text: Mapping[str, str] | None = None
) -> bytes:
    """Write PNG frames, each shown for ``frame_ms``, as an MP4. ``text`` goes where ComfyUI's keeps the prompt."""
    head = _box(b"ftyp", b"isom", struct.pack(">I", 0x200), b"isomiso2mp41")
    data = _box(b"mdat", *frames)
    moov = _moov(width, height, frames, frame_ms, len(head) + 8, text or {})
    return head + data + moov


def _moov(
    width: int, height: int, frames: Sequence[bytes], frame_ms: int, offset: int, text: Mapping[str, str]
) -> bytes:
    duration = frame_ms * len(frames)
    mvhd = struct.pack(">IIIIIHHII", 0, 0, 1000, duration, 0x10000, 0x100, 0, 0, 0) + _MATRIX + bytes(24)
    tkhd = struct.pack(">IIIIIIIHHHH", 0, 0, 1, 0, duration, 0, 0, 0, 0, 0, 0) + _MATRIX
    tkhd += struct.pack(">II", width << 16, height << 16)
    mdhd = struct.pack(">IIIIHH", 0, 0, 1000, duration, 0x55C4, 0)
    media = _box(
        b"mdia",
        _full(b"mdhd", 0, mdhd),
        _full(b"hdlr", 0, bytes(4), b"vide", bytes(12), b"VideoHandler\0"),
        _box(
            b"minf",
            _full(b"vmhd", 1, bytes(8)),
            _box(b"dinf", _full(b"dref", 0, struct.pack(">I", 1), _full(b"url ", 1))),
            _samples(width, height, frames, frame_ms, offset),
        ),
    )
    track = _box(b"trak", _full(b"tkhd", 3, tkhd), media)
    return _box(b"moov", _full(b"mvhd", 0, mvhd), track, _metadata(text))


def _samples(width: int, height: int, frames: Sequence[bytes], frame_ms: int, offset: int) -> bytes:
    config = _descriptor(4, bytes([0x6D, 0x11]) + bytes(11))
    esds = _descriptor(3, struct.pack(">HB", 1, 0) + config + _descriptor(6, b"\x02"))
    entry = bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HHIII", width, height, 0x480000, 0x480000, 0)
    entry += struct.pack(">H", 1) + bytes(32) + struct.pack(">Hh", 24, -1)
    sizes = struct.pack(f">II{len(frames)}I", 0, len(frames), *(len(frame) for frame in frames))
    return _box(
        b"stbl",
        _full(b"stsd", 0, struct.pack(">I", 1), _box(b"mp4v", entry, _full(b"esds", 0, esds))),
        _full(b"stts", 0, struct.pack(">III", 1, len(frames), frame_ms)),
        _full(b"stsc", 0, struct.pack(">IIII", 1, 1, len(frames), 1)),
        _full(b"stsz", 0, sizes),
        _full(b"stco", 0, struct.pack(">II", 1, offset)),
    )


def _descriptor(tag: int, body: bytes) -> bytes:
    return bytes([tag, len(body)]) + body


def _metadata(text: Mapping[str, str]) -> bytes:
    if not text:
        return b""
    keys = b"".join(struct.pack(">I", len(key.encode()) + 8) + b"mdta" + key.encode() for key in text)
    items = b"".join(
        _box(struct.pack(">I", index), _box(b"data", struct.pack(">II", 1, 0), value.encode()))
        for index, value in enumerate(text.values(), 1)
    )
    handler = _full(b"hdlr", 0, bytes(4), b"mdta", bytes(13))
    meta = _full(b"meta", 0, handler, _full(b"keys", 0, struct.pack(">I", len(text)), keys), _box(b"ilst", items))
    return _box(b"udta", meta)


def _element(identifier: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return name + (1 << 56 | len(body)).to_bytes(8, "big") + body


def _number(identifier: int, value: int) -> bytes:
    return _element(identifier, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def webm(
    width: int, height: int, frames: Sequence[bytes], *, frame_ms: int, text: Mapping[str, str] | None = None
) -> bytes:
    """Write PNG frames, each shown for ``frame_ms``, as Matroska under WebM's name. ``text`` becomes tags."""
    head = _element(
        0x1A45DFA3,
        _number(0x4286, 1), _number(0x42F7, 1), _number(0x42F2, 4), _number(0x42F3, 8),
        _element(0x4282, b"webm"), _number(0x4287, 2), _number(0x4285, 2),
    )  # fmt: skip
    info = _element(
        0x1549A966,
        _number(0x2AD7B1, 1_000_000),
        _element(0x4489, struct.pack(">d", float(frame_ms * len(frames)))),
        _element(0x4D80, b"comfyclient"),
        _element(0x5741, b"comfyclient"),
    )
    bitmap = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MPNG", width * height * 3, 0, 0, 0, 0)
    track = _element(
        0xAE,
        _number(0xD7, 1), _number(0x73C5, 1), _number(0x83, 1), _number(0x23E383, frame_ms * 1_000_000),
        _element(0x86, b"V_MS/VFW/FOURCC"), _element(0x63A2, bitmap),
        _element(0xE0, _number(0xB0, width), _number(0xBA, height)),
    )  # fmt: skip
    clusters = [
        _element(0x1F43B675, _number(0xE7, index * frame_ms), _element(0xA3, b"\x81\0\0\x80", frame))
        for index, frame in enumerate(frames)
    ]
    return head + _element(0x18538067, info, _element(0x1654AE6B, track), _tags(text or {}), *clusters)


def _tags(text: Mapping[str, str]) -> bytes:
    if not text:
        return b""
    simple = [
        _element(0x67C8, _element(0x45A3, key.upper().encode()), _element(0x4487, value.encode()))
        for key, value in text.items()
    ]
    return _element(0x1254C367, _element(0x7373, _element(0x63C0), *simple))
