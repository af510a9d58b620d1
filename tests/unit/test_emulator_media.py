"""The emulator's own readers and writers of files, held against Pillow and the formats' own rules."""

import io
import json
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from comfyclient.emulator.media import exr, jpeg, models3d, picture, png, resample, sniff, sound, video, webp


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def some_picture(width, height, mode="RGB", seed=1):
    bands = len(mode)
    data = bytes(
        (x * 7 * (band + 1) + y * 13 + seed * x * y) % 256
        for y in range(height)
        for x in range(width)
        for band in range(bands)
    )
    return Image.frombytes(mode, (width, height), data)


class TestPng:
    @pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
    def test_pillow_reads_what_is_written(self, channels, mode):
        source = some_picture(31, 17, mode)
        data = png.encode(31, 17, channels, source.tobytes(), text={"prompt": "{}", "ü": "naïve", "other": "中文"})
        with opened(data) as found:
            assert (found.mode, found.tobytes()) == (mode, source.tobytes())
            assert found.text == {"prompt": "{}", "ü": "naïve", "other": "中文"}

    @pytest.mark.parametrize(
        ("mode", "as_mode"),
        [("RGB", "RGB"), ("RGBA", "RGBA"), ("L", "L"), ("P", "RGB"), ("LA", "RGBA"), ("1", "L"), ("I;16", "L")],
    )
    def test_what_pillow_writes_is_read(self, mode, as_mode):
        source = some_picture(37, 23).convert("L" if mode == "I;16" else mode)
        wanted = source.convert(as_mode)
        if mode == "I;16":
            source = Image.frombytes("I;16", (37, 23), b"".join(bytes((7, value)) for value in wanted.tobytes()))
        buffer = io.BytesIO()
        source.save(buffer, "PNG")
        found = png.decode(buffer.getvalue())
        assert (found.width, found.height) == (37, 23)
        assert found.pixels == wanted.tobytes()

    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(1, 9),
        st.integers(1, 9),
        st.sampled_from([1, 3, 4]),
        st.lists(st.integers(0, 4), min_size=9, max_size=9),
        st.randoms(),
    )
    def test_every_filter_is_undone(self, width, height, channels, filters, chance):
        rows = [bytes(chance.randrange(256) for _ in range(width * channels)) for _ in range(height)]
        raw, before = b"", bytes(width * channels)
        for kind, row in zip(filters, rows, strict=False):
            raw += bytes([kind]) + filtered(kind, row, before, channels)
            before = row
        colour = {1: 0, 3: 2, 4: 6}[channels]
        head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
        data = png.SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
        assert png.decode(data).pixels == b"".join(rows)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: b"",
            lambda data: b"GIF89a" + data,
            lambda data: data[:40],
            lambda data: data.replace(b"IDAT", b"IDOT"),
            lambda data: data[:28] + b"\1" + data[29:],  # interlaced
            lambda data: data[:16] + b"\xff\xff\xff\xff" + data[20:],  # four thousand million pixels wide
            lambda data: data[:45] + b"\0\0\0\0" + data[49:],
        ],
    )
    def test_damaged_files_are_refused(self, damage):
        with pytest.raises(png.PictureUnreadable):
            png.decode(damage(png.encode(8, 8, 3, bytes(192))))

    def test_a_small_file_cannot_become_a_large_picture(self):
        head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        data = png.SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10)))
        with pytest.raises(png.PictureUnreadable):
            png.decode(data)

    def test_an_animation(self):
        frames = [some_picture(8, 6, seed=n).tobytes() for n in range(3)]
        with opened(png.encode_animation(8, 6, 3, frames, delay_ms=120)) as found:
            assert found.n_frames == 3
            assert found.info["duration"] == 120
            found.seek(2)
            assert found.convert("RGB").tobytes() == frames[2]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def filtered(kind, row, before, step):
    """A row as a PNG writer filters it, straight from the specification."""

    def guess(index):
        left = row[index - step] if index >= step else 0
        up, corner = before[index], before[index - step] if index >= step else 0
        if kind == 4:
            middle = left + up - corner
            return min((left, up, corner), key=lambda value: abs(middle - value))
        return (0, left, up, (left + up) // 2)[kind]

    return bytes((value - guess(index)) % 256 for index, value in enumerate(row))


class TestOtherPictures:
    @pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
    def test_webp_keeps_every_pixel(self, channels, mode):
        source = some_picture(29, 11, mode)
        with opened(webp.encode(29, 11, channels, source.tobytes())) as found:
            assert found.convert(mode).tobytes() == source.tobytes()

    def test_webp_carries_prompt_and_workflow_as_comfyui_does(self):
        texts = {"prompt": {"1": {"class_type": "X"}}, "workflow": {"nodes": []}}
        for data in (
            webp.encode(4, 4, 3, bytes(48), text=texts),
            webp.encode_animation(4, 4, 3, [bytes(48)] * 2, delay_ms=50, text=texts),
        ):
            with opened(data) as found:
                exif = found.getexif()
            assert exif[0x0110] == 'prompt:{"1": {"class_type": "X"}}'
            assert exif[0x010F] == 'workflow:{"nodes": []}'

    def test_an_animated_webp(self):
        frames = [some_picture(8, 6, seed=n).tobytes() for n in range(4)]
        with opened(webp.encode_animation(8, 6, 3, frames, delay_ms=40)) as found:
            assert found.n_frames == 4
            found.seek(3)
            assert found.convert("RGB").tobytes() == frames[3]

    def test_webp_has_a_largest_size(self):
        with pytest.raises(ValueError, match="too large"):
            webp.encode(20000, 1, 3, bytes(60000))

    @pytest.mark.parametrize("size", [(64, 48), (17, 9), (8, 8), (1, 1)])
    def test_jpeg_is_coarse_and_has_the_right_colours(self, size):
        source = Image.new("RGB", size, (200, 90, 30))
        with opened(jpeg.encode(*size, 3, source.tobytes())) as found:
            assert (found.format, found.size) == ("JPEG", size)
            pixel = found.getpixel((0, 0))
        assert all(abs(got - wanted) < 6 for got, wanted in zip(pixel, (200, 90, 30), strict=True))

    def test_exr_has_a_line_table_that_points_at_its_lines(self):
        data = exr.encode(3, 2, bytes(range(18)))
        assert data[:4] == struct.pack("<I", 20000630)
        second = struct.unpack_from("<Q", data, len(data) - 2 * (8 + 36) - 8)[0]
        assert struct.unpack_from("<iI", data, second) == (1, 36)
        assert struct.unpack_from("<f", data, second + 8)[0] == pytest.approx(11 / 255)  # blue of its first pixel

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
    def test_sizes_are_read_from_headers(self, kind):
        buffer = io.BytesIO()
        some_picture(33, 21).save(buffer, kind)
        assert sniff.size_of(buffer.getvalue()) == (33, 21)
        assert sniff.media_type(buffer.getvalue()) == f"image/{kind.lower()}"

    def test_lossless_webp_sizes(self):
        assert sniff.size_of(webp.encode(300, 200, 3, bytes(180000))) == (300, 200)
        assert sniff.size_of(webp.encode(300, 200, 3, bytes(180000), text={"prompt": {}})) == (300, 200)

    @given(
        st.binary(max_size=64),
        st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"BM"]),
    )
    def test_any_bytes_have_a_size_or_none(self, tail, head):
        found = sniff.size_of(head + tail)
        assert found is None or min(found) > 0


class TestResample:
    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("method", list(resample.METHODS))
    def test_one_colour_stays_one_colour(self, method, channels):
        colour = bytes((250, 3, 128, 77)[:channels])
        found = resample.resize(colour * 35, (7, 5), channels, (11, 3), method)
        assert found == colour * 33

    @pytest.mark.parametrize("wanted", [(20, 14), (5, 3), (13, 40)])
    def test_lanczos_is_pillows(self, wanted):
        source = some_picture(13, 9)
        found = resample.resize(source.tobytes(), (13, 9), 3, wanted, "lanczos")
        reference = source.resize(wanted, Image.Resampling.LANCZOS).tobytes()
        assert max(abs(a - b) for a, b in zip(found, reference, strict=True)) <= 2

    def test_area_is_the_mean(self):
        found = resample.resize(bytes([0, 100, 50, 250]), (2, 2), 1, (1, 1), "area")
        assert found == bytes([100])

    @given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3, 4]), st.randoms())
    def test_turning_and_cutting(self, width, height, channels, chance):
        pixels = bytes(chance.randrange(256) for _ in range(width * height * channels))
        turned = pixels
        size = (width, height)
        for _ in range(4):
            turned = resample.rotate(turned, size, channels, 1)
            size = size[::-1]
        assert turned == pixels
        for vertically in (True, False):
            once = resample.flip(pixels, (width, height), channels, vertically=vertically)
            assert resample.flip(once, (width, height), channels, vertically=vertically) == pixels
        padded = resample.pad(pixels, (width, height), channels, (1, 2, 3, 4), 9)
        assert resample.crop(padded, (width + 4, height + 6), channels, 1, 2, width, height) == pixels


def checksum(data, width, polynomial):
    """A cyclic redundancy check, bit by bit."""
    value = 0
    for bit in "".join(f"{byte:08b}" for byte in data) + "0" * width:
        value = value << 1 | int(bit)
        if value >> width:
            value ^= 1 << width | polynomial
    return value


class TestSound:
    @pytest.mark.parametrize("frequency", [0, 440])
    def test_a_flac_file_says_what_it_holds(self, frequency):
        data = sound.flac(44100, 2, sound.tone(44100, 0.2, frequency))
        assert data[:4] == b"fLaC"
        packed = int.from_bytes(data[18:26], "big")
        assert (packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1) == (44100, 2, 8820)
        assert data[42:44] == b"\xff\xf8"  # the first frame

    def test_flac_frames_carry_valid_checksums(self):
        data = sound.flac(44100, 1, sound.tone(44100, 0.1, 300))[42:]
        frame = data[: 8 + 1 + 2 * 4096 + 2]
        assert checksum(frame[:7], 8, 0x07) == frame[7]
        assert checksum(frame[:-2], 16, 0x8005) == int.from_bytes(frame[-2:])
        assert data[len(frame) : len(frame) + 2] == b"\xff\xf8"  # where the next one begins

    @pytest.mark.parametrize("number", [0, 1, 127, 128, 2047, 2048, 65535, 65536, 1 << 20])
    def test_frame_numbers_are_coded_like_characters(self, number):
        assert sound._coded_number(number) == chr(number).encode("utf-8", "surrogatepass")

    def test_silence_as_mp3_and_opus(self):
        assert sound.mp3(1.0)[:4] == b"\xff\xfb\x90\x44"
        assert len(sound.mp3(1.0)) == 38 * 417
        data = sound.opus(2.0)
        assert data[:4] == b"OggS"
        assert data.count(b"OggS") == 4
        assert b"OpusHead" in data


def boxes(data):
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind.decode(), data[at + 8 : at + size]
        at += size


class TestVideo:
    FRAMES = tuple(png.encode(16, 12, 3, bytes([n * 50]) * 576) for n in range(3))

    def test_an_mp4_points_at_its_frames(self):
        data = video.mp4(16, 12, self.FRAMES, frame_ms=40, text={"prompt": '{"1": {}}', "workflow": "{}"})
        top = dict(boxes(data))
        assert list(top) == ["ftyp", "mdat", "moov"]
        offset = struct.unpack_from(">I", data, data.index(b"stco") + 12)[0]
        assert data[offset : offset + len(self.FRAMES[0])] == self.FRAMES[0]
        assert b'{"1": {}}' in top["moov"]
        assert b"mdtaprompt" in top["moov"]

    def test_a_webm_holds_its_frames(self):
        data = video.webm(16, 12, self.FRAMES, frame_ms=40, text={"prompt": "{}"})
        assert data[:4] == b"\x1a\x45\xdf\xa3"
        assert all(frame in data for frame in self.FRAMES)
        assert b"PROMPT" in data


class TestOtherFiles:
    def test_a_glb_is_whole(self):
        data = models3d.glb((255, 0, 10), {"notice": "x"})
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<I4s", data, 12)
        document = json.loads(data[20 : 20 + size])
        assert kind == b"JSON"
        assert document["asset"]["extras"] == {"notice": "x"}
        assert document["buffers"][0]["byteLength"] == len(data) - 20 - size - 8

    def test_safetensors_offsets_fit(self):
        data = models3d.safetensors([1, 4, 8, 8], {"prompt": "{}"})
        (size,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + size])
        assert header["latent_tensor"]["data_offsets"] == [0, len(data) - 8 - size]
        assert header["__metadata__"] == {"prompt": "{}"}

    def test_texts_of_3d_files(self):
        assert models3d.obj((1, 2, 3)).count(b"\nv ") == 3
        assert models3d.ply((1, 2, 3)).endswith(b"0 1 0 1 2 3\n")
        assert b"SIMULATED" in models3d.svg(10, 10, (1, 2, 3))


class TestPicture:
    @pytest.mark.parametrize("size", [(512, 512), (64, 48), (1, 1), (3, 200), (200, 3)])
    def test_every_size(self, size):
        assert len(picture.simulated_picture("a", *size)) == size[0] * size[1] * 3

    def test_it_depends_on_the_digest_and_nothing_else(self):
        first = picture.simulated_picture("a", 64, 64)
        picture.simulated_picture.cache_clear()
        assert picture.simulated_picture("a", 64, 64) == first
        assert picture.simulated_picture("b", 64, 64) != first

    def test_it_wears_a_hatched_frame(self):
        pixels = picture.simulated_picture("a", 128, 128)
        edge = {pixels[at : at + 3] for at in range(0, 128 * 3, 3)}
        assert edge == {b"\x20\x20\x20", b"\xff\xd0\x00"}
