"""Whether a file is whole, told by its own bytes."""

import base64
import gzip
import io
import json
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from comfyclient.emulator.media import models3d, sound
from comfyclient.wire.trailers import Trailer, Verdict

CHANCE = random.Random(5)
SAMPLES = Path(__file__).parent.parent / "data" / "media_samples.json.gz"
ENDLESS = {"mp3.mp3", "live.webm"}  # which do not say where they end


def picture(kind, **options):
    file = io.BytesIO()
    noise = Image.frombytes("RGB", (40, 30), CHANCE.randbytes(3600))
    more = {"append_images": [noise.rotate(180), noise.rotate(90)]} if options.get("save_all") else {}
    noise.save(file, kind, **options, **more)
    return file.getvalue()


def thumbnail():
    """A JPEG with another one inside: a whole one, with an end of its own."""
    exif = Image.Exif()
    exif[0x0112] = 1
    inner = picture("JPEG")
    outer = picture("JPEG", exif=exif)
    segment = b"\xff\xed" + struct.pack(">H", len(inner) + 2) + inner
    return outer[:2] + segment + outer[2:]


def samples():
    packed = json.loads(gzip.decompress(SAMPLES.read_bytes()))
    yield from ((name, base64.b64decode(text)) for name, text in packed.items())
    yield "png", picture("PNG")
    yield "apng", picture("PNG", save_all=True)
    yield "jpeg", picture("JPEG")
    yield "progressive jpeg", picture("JPEG", progressive=True, quality=95)
    yield "jpeg with restarts", picture("JPEG", restart_marker_blocks=2)
    yield "jpeg in a jpeg", thumbnail()
    yield "gif", picture("GIF")
    yield "animated gif", picture("GIF", save_all=True)
    yield "webp", picture("WEBP")
    yield "lossless webp", picture("WEBP", lossless=True)
    yield "glb", models3d.glb((1, 2, 3))
    yield "safetensors", models3d.safetensors([1, 4, 8, 8], {"a": "b"})
    yield "emulated flac", sound.flac(44100, 2, sound.tone(44100, 0.4, 440))
    yield "emulated opus", sound.opus(0.3)


KINDS = dict(samples())


def verdict(data, step=None):
    """Feed it, in pieces of that size or of any."""
    trailer = Trailer()
    start = 0
    while start < len(data):
        size = step or CHANCE.choice([1, 2, 3, 7, 100, 4000])
        trailer.feed(data[start : start + size])
        start += size
    return trailer.verdict()


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_file(name):
    data = KINDS[name]
    wanted = Verdict.UNKNOWN if name in ENDLESS else Verdict.WHOLE
    assert [verdict(data, step) for step in (2**20, 1, 5, None)] == [wanted] * 4


@pytest.mark.parametrize("name", sorted(KINDS.keys() - ENDLESS - {"fragments.mp4"}))
def test_no_cut_file_is_taken_for_a_whole_one(name):
    data = KINDS[name]
    places = {*range(min(200, len(data))), *range(max(0, len(data) - 200), len(data))}
    places |= {CHANCE.randrange(len(data)) for _ in range(200)}
    wrong = [place for place in sorted(places) if verdict(data[:place], 2**20) is Verdict.WHOLE]
    assert wrong == []
    unsure = [place for place in places if verdict(data[:place], 2**20) is Verdict.UNKNOWN]
    assert all(place < 12 for place in unsure)  # too little to tell its kind


def test_fragments_may_end_behind_each_of_them():
    data = KINDS["fragments.mp4"]
    found = {verdict(data[:place], 2**20) for place in range(12, len(data))}
    assert found == {Verdict.CUT, Verdict.UNKNOWN}
    assert verdict(data) is Verdict.WHOLE
    unsure = [place for place in range(12, len(data)) if verdict(data[:place], 2**20) is Verdict.UNKNOWN]
    assert len(unsure) <= 3


@pytest.mark.parametrize("name", ["png", "jpeg", "gif", "webp", "glb", "pcm.wav", "vp9.webm"])
def test_what_follows_the_end_does_not_matter(name):
    assert verdict(KINDS[name] + b"more of something else") is Verdict.WHOLE


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PN", b"RIFF", b"GIF8", b"\0\0\0\x20ftyp", b"fLaC\0\0"],
)
def test_the_first_bytes_of_a_kind_that_is_known(data):
    assert verdict(data) is Verdict.CUT


@pytest.mark.parametrize("data", [b"text", b"v 1 2 3\n" * 100, b"\0" * 100, b"{" * 100, b"BM" + bytes(100), b"<svg/>"])
def test_what_is_of_no_known_kind(data):
    assert verdict(data) is Verdict.UNKNOWN


ODD = {
    "riff to a pipe": b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(100),
    "riff of nothing": b"RIFF\0\0\0\0WAVEfmt " + bytes(100),
    "png without chunks": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "jpeg without markers": b"\xff\xd8\xff\xe0\0\x04ab" + bytes(100),
    "jpeg of a negative size": b"\xff\xd8\xff\xe0\0\0" + bytes(100),
    "gif of strange blocks": b"GIF89a" + bytes(7) + b"\x99" * 100,
    "box up to the end": b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\0mdat" + bytes(100),
    "box of a small size": b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x02mdat" + bytes(100),
    "large box of a small size": b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x01mdat" + bytes(100),
    "ebml without a segment": b"\x1a\x45\xdf\xa3\x80" + b"\x42\x86\x81\x01" * 20,
    "ebml of no size": b"\x1a\x45\xdf\xa3\0" + bytes(100),
    "glb of a small size": b"glTF\x02\0\0\0\x05\0\0\0" + bytes(100),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_is_not_cut(name):
    assert verdict(ODD[name]) is Verdict.UNKNOWN


def test_large_boxes():
    moov, body = b"\0\0\0\x08moov", bytes(100)
    data = b"\0\0\0\x10ftypisom\0\0\0\0" + moov + b"\0\0\0\x01mdat" + struct.pack(">Q", 116) + body
    assert verdict(data) is Verdict.WHOLE
    assert verdict(data[:-1]) is Verdict.CUT


def test_an_avi_of_several_parts():
    def part(form, size):
        return b"RIFF" + struct.pack("<I", size + 4) + form + bytes(size)

    data = part(b"AVI ", 50) + part(b"AVIX", 70)
    assert verdict(data) is Verdict.WHOLE
    assert {verdict(data[:place]) for place in (40, 63, 70, len(data) - 1)} == {Verdict.CUT}


def test_a_flac_of_which_only_the_last_frame_is_missing():
    data = KINDS["emulated flac"]
    last = data.rindex(b"\xff\xf8")
    assert verdict(data[:last]) is Verdict.CUT
    assert verdict(data[:-1] + bytes([data[-1] ^ 1])) is Verdict.CUT


def test_a_flac_full_of_what_looks_like_frames_takes_no_time():
    head = KINDS["emulated flac"][:42]
    frame = b"\xff\xf9\xc9\x18\xf0\x8f\xbf\xbf"
    assert verdict(head + frame * 2**17, 2**20) is Verdict.CUT


def test_only_little_is_kept():
    trailer = Trailer()
    trailer.feed(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 2**31 - 1, b"IDAT"))
    for _ in range(100):
        trailer.feed(bytes(2**16))
        assert len(trailer._tape.data) < 100
    flac = Trailer()
    flac.feed(KINDS["emulated flac"][:42])
    for _ in range(100):
        flac.feed(bytes(2**16))
        assert len(flac._tape.data) <= 2**18


@settings(max_examples=300)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_no_bytes_break_it(name, data):
    broken = bytearray(KINDS[name][:3000])
    for _ in range(data.draw(st.integers(1, 20))):
        broken[data.draw(st.integers(0, min(len(broken), 200) - 1))] = data.draw(st.integers(0, 255))
    assert verdict(bytes(broken)) in Verdict


@given(st.binary(max_size=300), st.sampled_from([b"", *(data[:12] for data in KINDS.values())]))
def test_nor_do_any_others(data, start):
    assert verdict(start + data) is verdict(start + data, 1)
