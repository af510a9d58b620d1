"""Reading workflows: JSON in every shape that occurs, and the files in which ComfyUI embeds them."""

from __future__ import annotations

import contextlib
import io
import json
import math
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from comfyclient.errors import WorkflowUnreadable
from comfyclient.workflow import containers, document, media
from comfyclient.workflow.document import Workflow

UI = {"nodes": [{"id": 1, "type": "KSampler", "title": "Größe — 狐"}], "links": [], "version": 0.4}
API = {"1": {"class_type": "KSampler", "inputs": {"seed": 18446744073709551615}, "_meta": {"title": "狐"}}}
UI_TEXT, API_TEXT = json.dumps(UI), json.dumps(API)


# --- JSON -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        UI_TEXT,
        "\ufeff" + UI_TEXT,
        json.dumps(UI, ensure_ascii=False).encode(),
        b"\xef\xbb\xbf" + json.dumps(UI, ensure_ascii=False).encode(),
        json.dumps(UI, ensure_ascii=False).encode("utf-16"),
        b"\n\t " + UI_TEXT.encode() + b"\r\n",
    ],
    ids=["str", "str with BOM", "utf-8", "utf-8 with BOM", "utf-16", "white space"],
)
def test_ui_json_is_read_whatever_its_encoding(data):
    workflow = Workflow.parse(data)
    assert workflow.format == "ui"
    assert workflow.data == UI


def test_api_json_keeps_what_a_prompt_has_and_drops_the_rest():
    first = '{"inputs": {"seed": 18446744073709551615}, "class_type": "A", "is_changed": [NaN], "x": 1}'
    text = f'{{"1": {first}, "2": {{"class_type": "B"}}}}'
    workflow = Workflow.parse(text)
    assert workflow.format == "api"
    assert workflow.data == {
        "1": {"inputs": {"seed": 18446744073709551615}, "class_type": "A"},
        "2": {"inputs": {}, "class_type": "B"},
    }


def test_a_node_exported_without_its_class_is_kept_for_the_check_to_name():
    data = {**API, "2": {"inputs": {}, "_meta": {"title": "Lost"}}}
    assert Workflow.from_json(data).data["2"] == {"inputs": {}, "_meta": {"title": "Lost"}}


def test_nan_and_infinities_become_null_as_in_the_page():
    text = '{"nodes": [{"type": "A", "widgets_values": [NaN, -Infinity, 1e999, [Infinity], 1.5, 1e300]}], "links": []}'
    node = Workflow.parse(text).data["nodes"][0]
    assert node["widgets_values"] == [None, None, None, [None], 1.5, 1e300]


def test_a_caller_s_object_is_not_changed():
    obj = {"1": {"class_type": "A", "inputs": {"x": math.nan}, "is_changed": 1}}
    Workflow.from_json(obj)
    assert obj["1"]["is_changed"] == 1


@pytest.mark.parametrize(
    ("envelope", "format_"),
    [
        ({"prompt": API, "client_id": "x"}, "api"),
        ({"workflow": UI}, "ui"),
        ({"workflow": API}, "api"),
        ({"workflow": UI, "output": API}, "ui"),
        ({"prompt": API, "workflow": UI}, "ui"),
        ({"prompt": API_TEXT, "workflow": UI_TEXT}, "ui"),
        ({"input": {"workflow": API, "images": []}}, "api"),
        ({"version": "1.2", "comment": {"by": "me"}, **API}, "api"),
    ],
    ids=["post body", "workflow", "api as workflow", "graphToPrompt", "both", "both as texts", "job service", "notes"],
)
def test_envelopes_are_unwrapped(envelope, format_):
    workflow = Workflow.from_json(envelope)
    assert workflow.format == format_
    assert workflow.data == (UI if format_ == "ui" else API)


def test_a_post_body_gives_the_prompt_that_was_asked_for_and_keeps_the_workflow_beside_it():
    body = {"prompt": API, "extra_data": {"extra_pnginfo": {"workflow": UI}}}
    workflow = Workflow.from_json(body)
    assert (workflow.format, workflow.data, workflow.companion) == ("api", API, UI)


BAD_JSON = {
    "empty": ("", "empty"),
    "white space": (" \n", "empty"),
    "text": ("hello", "not JSON (Expecting value, line 1, column 1)"),
    "html": ("<!doctype html><p>Login</p>", "not JSON but HTML or XML"),
    "list": ("[1, 2]", "a list, not a workflow"),
    "string": ('"x"', "a text, not a workflow"),
    "number": ("3", "a number, not a workflow"),
    "null": ("null", "null, not a workflow"),
    "empty object": ("{}", "an empty JSON object"),
    "package.json": ('{"name": "x", "version": "1.0.0", "scripts": {"a": "b"}}', "it has 'name', 'version', 'scripts'"),
    "catalog": ('{"KSampler": {"input": {"required": {}}, "output": []}}', "node definitions (a catalog)"),
    "another program's graph": ('{"nodes": [{"type": "a"}], "connections": {}}', "not a workflow"),
    "glTF": ('{"asset": {"version": "2.0"}, "nodes": [{"mesh": 0}], "meshes": []}', "not a workflow"),
    "nodes without types": ('{"nodes": [{"id": 1}], "links": []}', "entry 0 of its nodes has no type"),
    "newer schema": ('{"nodes": [], "links": [], "version": 2}', "schema version 2"),
    "cut in a string": ('{"nodes": [{"type": "KSam', "breaks off (line 1, column 21)"),
    "cut after a comma": ('{"nodes": [\n{"type": "A"},', "breaks off (line 2, column 15)"),
    "node that is no object": ('{"1": {"class_type": "A"}, "2": 5}', "node 2 is a number"),
    "node without class": ('{"1": {"class_type": "A"}, "2": {}}', "node 2 has no class_type"),
    "class that is no text": ('{"1": {"class_type": ["A"]}}', "node 1 has no class_type"),
    "inputs that are a list": ('{"1": {"class_type": "A", "inputs": []}}', "inputs of node 1 (A) are a list"),
    "nested too deep": ("[" * 100_000, "nested too deep"),
    "number too long": ('{"1": ' + "9" * 5000 + "}", "cannot be read"),
    "wrapped for ever": ('{"prompt": ' * 20 + "{}" + "}" * 20, "no nodes"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_everything_else_is_one_clear_line(name):
    text, expected = BAD_JSON[name]
    for data in (text, text.encode()):
        with pytest.raises(WorkflowUnreadable) as caught:
            Workflow.parse(data, source="x.json")
        message = str(caught.value)
        assert message.startswith("x.json")
        assert expected in message
        assert "\n" not in message
        assert len(message) < 300
        assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"nodes": "\xff\xfe"}', "byte 11 is 0xff"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "a JPEG picture, which holds no workflow"),
        (b"GIF89a" + bytes(20), "a GIF picture"),
        (b"PK\x03\x04" + bytes(20), "a ZIP archive"),
        (bytes(64), "not JSON"),
        (bytes(range(256)), "neither JSON in UTF-8"),
    ],
)
def test_other_bytes_are_named_if_known(data, expected):
    with pytest.raises(WorkflowUnreadable, match=expected):
        Workflow.parse(data)


# --- files ------------------------------------------------------------------------------------------------------


def test_a_file_gives_its_name_and_its_path_as_source(tmp_path):
    path = tmp_path / "my flow.v2.json"
    path.write_text(UI_TEXT)
    workflow = Workflow.load(path)
    assert workflow.name == "my flow.v2"
    assert workflow.source == str(path)
    assert Workflow.load(str(path)) == workflow


def test_what_cannot_be_opened_is_unreadable(tmp_path):
    (tmp_path / "empty.json").touch()
    for path, expected in [
        (tmp_path / "none.json", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "empty.json", "empty"),
        (tmp_path / "empty.json" / "x", "cannot be read: Not a directory"),
        ("a\0b", "embedded null byte"),
        ("", "cannot be read"),
    ]:
        with pytest.raises(WorkflowUnreadable, match=expected):
            Workflow.load(path)


def test_a_file_larger_than_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(document, "MAX_BYTES", 100)
    path = tmp_path / "large.json"
    path.write_text(UI_TEXT + " " * 100)
    with pytest.raises(WorkflowUnreadable, match="larger than"):
        Workflow.load(path)
    with pytest.raises(WorkflowUnreadable, match="larger than"):
        Workflow.parse(b"[" * 101)


# --- PNG --------------------------------------------------------------------------------------------------------


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(b"\0\0\0\0"))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + data + png_chunk(b"IEND", b"")


def text_chunk(key: str, text: str) -> bytes:
    return png_chunk(b"tEXt", key.encode() + b"\0" + text.encode())


def test_a_picture_as_comfyui_saves_it():
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", API_TEXT)
    info.add_text("workflow", UI_TEXT)
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG", pnginfo=info)
    workflow = Workflow.parse(file.getvalue(), source="x.png")
    assert (workflow.format, workflow.data, workflow.source) == ("ui", UI, "x.png")


def test_an_animated_picture_has_its_texts_behind_the_pixels():
    info = PngImagePlugin.PngInfo()
    info.add(b"comf", b"prompt\0" + API_TEXT.encode(), after_idat=True)
    info.add(b"comf", b"workflow\0" + UI_TEXT.encode(), after_idat=True)
    file = io.BytesIO()
    frames = [Image.new("RGB", (2, 2), (shade, 0, 0)) for shade in (0, 100, 200)]
    frames[0].save(file, "PNG", pnginfo=info, save_all=True, append_images=frames[1:], duration=40)
    assert Workflow.parse(file.getvalue()).data == UI


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("international", [False, True], ids=["latin", "international"])
def test_every_kind_of_text_chunk(packed, international):
    info = PngImagePlugin.PngInfo()
    text = json.dumps(UI, ensure_ascii=not international)
    (info.add_itxt if international else info.add_text)("workflow", text, zip=packed)
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG", pnginfo=info)
    assert Workflow.parse(file.getvalue()).data == UI


def test_utf8_in_a_plain_text_chunk_and_a_key_in_capitals():
    assert Workflow.parse(png(text_chunk("Workflow", json.dumps(UI, ensure_ascii=False)))).data == UI


def test_latin1_in_a_plain_text_chunk():
    text = json.dumps({**UI, "nodes": [{"type": "A", "title": "Größe"}]}, ensure_ascii=False)
    data = png(png_chunk(b"tEXt", b"workflow\0" + text.encode("latin-1")))
    assert Workflow.parse(data).data["nodes"][0]["title"] == "Größe"


@pytest.mark.parametrize("workflow", ["null", "{}", "", '{"nodes": [], "links": []}', "{broken"])
def test_a_picture_whose_workflow_is_useless_gives_its_prompt(workflow):
    data = png(text_chunk("workflow", workflow), text_chunk("prompt", API_TEXT))
    assert Workflow.parse(data).data == API


def test_a_picture_with_a_broken_workflow_says_what_is_wrong_with_it():
    with pytest.raises(WorkflowUnreadable, match=r"x\.png, its 'workflow' text: not JSON"):
        Workflow.parse(png(text_chunk("workflow", "{broken}")), source="x.png")


def test_a_picture_without_a_workflow():
    with pytest.raises(WorkflowUnreadable, match="a PNG picture without a workflow") as caught:
        Workflow.parse(png(text_chunk("parameters", "a fox")))
    assert "--disable-metadata" in caught.value.hint


def test_a_truncated_picture():
    whole = png(text_chunk("workflow", UI_TEXT))
    for length in range(8, whole.index(b"IDAT") - 4):
        with pytest.raises(WorkflowUnreadable, match="a PNG picture, but damaged: it ends in the middle"):
            Workflow.parse(whole[:length])
    # What was read before the break is good.
    assert Workflow.parse(whole[:-20]).data == UI


def test_a_compressed_text_that_explodes_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(containers, "MAX_TEXT", 1000)
    bomb = png(png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b" " * 100_000)))
    with pytest.raises(WorkflowUnreadable, match="too long or breaks off"):
        Workflow.parse(bomb)


def test_a_broken_compressed_text():
    with pytest.raises(WorkflowUnreadable, match="compressed text in it is broken"):
        Workflow.parse(png(png_chunk(b"zTXt", b"workflow\0\0nonsense")))


# --- WebP -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("animated", [False, True])
def test_webp_as_comfyui_saves_it(animated):
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{API_TEXT}"
    exif[0x010F] = f"workflow:{UI_TEXT}"
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (0, 100, 200)]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", exif=exif, save_all=animated, append_images=frames[1:] if animated else [])
    assert Workflow.parse(file.getvalue()).data == UI


def test_webp_with_a_prompt_alone():
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{API_TEXT}"
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "WEBP", exif=exif)
    assert Workflow.parse(file.getvalue()).data == API


def tiff(order: str, *texts: tuple[int, int, str]) -> bytes:
    """EXIF data with these ``(tag, type, text)`` entries."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}IH", 8, len(texts))
    bodies, at = b"", 8 + 2 + 12 * len(texts) + 4
    for tag, kind, text in texts:
        body = text.encode() + b"\0"
        directory += struct.pack(f"{order}HHII", tag, kind, len(body), at + len(bodies))
        bodies += body
    return head + directory + bytes(4) + bodies


def webp(exif: bytes) -> bytes:
    chunks = (
        struct.pack("<4sI", b"VP8L", 3)
        + b"abc\0"
        + struct.pack("<4sI", b"EXIF", len(exif))
        + exif
        + b"\0" * (len(exif) & 1)
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"], ids=["bare", "prefixed"])
def test_exif_in_both_byte_orders_with_swapped_fields(order, prefix):
    exif = tiff(
        order, (0x010E, 2, "a fox: at dusk"), (0x010F, 2, f"Prompt:{API_TEXT}"), (0x0110, 7, f"Workflow:{UI_TEXT}")
    )
    assert Workflow.parse(webp(prefix + exif)).data == UI


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"XX*\0\x08\0\0\0\0\0",
        b"II*\0\x08\0\0\0\xff\xff",
        tiff("<", (0x010F, 2, f"workflow:{UI_TEXT}"))[:-40],
        tiff("<", (0x010F, 2, f"workflow:{UI_TEXT}")).replace(struct.pack("<I", 26), struct.pack("<I", 2**32 - 8)),
    ],
    ids=["empty", "no directory", "offset outside", "no byte order", "entries outside", "text cut", "text outside"],
)
def test_hostile_exif(exif):
    with pytest.raises(WorkflowUnreadable, match="a WebP picture, but damaged: its EXIF data is broken"):
        Workflow.parse(webp(exif))


def test_a_truncated_webp():
    whole = webp(tiff("<", (0x010F, 2, f"workflow:{UI_TEXT}")))
    for length in range(12, len(whole) - 1):
        with pytest.raises(WorkflowUnreadable, match="a WebP picture, but damaged"):
            Workflow.parse(whole[:length])


def test_json_that_has_the_letters_of_a_picture_in_the_same_place():
    assert Workflow.parse(b'{"id": "WEBP", "nodes": [], "links": []}').format == "ui"


# --- video and sound --------------------------------------------------------------------------------------------


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def data_box(text: str) -> bytes:
    return box(b"data", struct.pack(">II", 1, 0), text.encode())


def mp4(*, full_meta: bool = True, in_udta: bool = True, pairs: dict[str, str]) -> bytes:
    keys = box(b"keys", struct.pack(">II", 0, len(pairs)), *(box(b"mdta", key.encode()) for key in pairs))
    items = (box(struct.pack(">I", number), data_box(text)) for number, text in enumerate(pairs.values(), 1))
    meta = box(b"meta", bytes(4) if full_meta else b"", box(b"hdlr", bytes(25)), keys, box(b"ilst", *items))
    moov = box(b"moov", box(b"mvhd", bytes(100)), box(b"udta", meta) if in_udta else meta)
    return box(b"ftyp", b"isom", bytes(4)) + box(b"mdat", bytes(50)) + moov


@pytest.mark.parametrize("full_meta", [True, False], ids=["ISO", "QuickTime"])
@pytest.mark.parametrize("in_udta", [True, False])
def test_mp4_with_named_keys(full_meta, in_udta):
    pairs = {"encoder": "x", "prompt": API_TEXT, "workflow": UI_TEXT}
    assert Workflow.parse(mp4(full_meta=full_meta, in_udta=in_udta, pairs=pairs)).data == UI


def test_mp4_with_boxes_of_64_bits_and_to_the_end():
    pairs = {"workflow": UI_TEXT}
    whole = mp4(pairs=pairs)
    at = whole.index(b"mdat") - 4
    wide = whole[:at] + struct.pack(">I4sQ", 1, b"mdat", 16 + 50) + bytes(50) + whole[at + 58 :]
    assert Workflow.parse(wide).data == UI
    open_end = wide.replace(whole[at + 58 : at + 66], struct.pack(">I4s", 0, b"moov"))
    assert Workflow.parse(open_end).data == UI


def test_mp4_with_both_in_its_comment_as_video_nodes_write_it():
    comment = json.dumps({"prompt": API_TEXT, "workflow": UI, "CreationTime": "now"})
    meta = box(b"meta", bytes(4), box(b"hdlr", bytes(25)), box(b"ilst", box(b"\xa9cmt", data_box(comment))))
    data = box(b"ftyp", b"isom", bytes(4)) + box(b"moov", box(b"udta", meta))
    assert Workflow.parse(data).data == UI


def test_a_comment_of_a_person_is_no_workflow():
    meta = box(b"meta", bytes(4), box(b"ilst", box(b"\xa9cmt", data_box("Our holidays"))))
    data = box(b"ftyp", b"isom", bytes(4)) + box(b"moov", box(b"udta", meta))
    with pytest.raises(WorkflowUnreadable, match="a video without a workflow"):
        Workflow.parse(data)


def element(kind: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    name = kind.to_bytes((kind.bit_length() + 7) // 8, "big")
    return name + (len(body) | 1 << 56).to_bytes(8, "big") + body


def webm(*, segment_size: bytes | None = None) -> bytes:
    tags = element(
        0x1254C367,
        element(
            0x7373,
            element(0x63C0),
            element(0x67C8, element(0x45A3, b"ENCODER"), element(0x4487, b"x")),
            element(0x67C8, element(0x45A3, b"PROMPT"), element(0x4487, API_TEXT.encode())),
            element(0x67C8, element(0x45A3, b"WORKFLOW"), element(0x4487, UI_TEXT.encode())),
        ),
    )
    segment = element(0x18538067, element(0xEC, bytes(30)), tags, element(0x1F43B675, bytes(99)))
    if segment_size is not None:
        segment = segment[:4] + segment_size + segment[12:]
    return element(0x1A45DFA3, element(0x4282, b"webm")) + segment


def test_webm():
    assert Workflow.parse(webm()).data == UI
    assert Workflow.parse(webm(segment_size=b"\x01" + b"\xff" * 7)).data == UI, "of unknown size, as in a recording"
    assert Workflow.parse(webm()[:-50]).data == UI, "cut behind the tags"


def vorbis(*comments: str) -> bytes:
    def counted(text: str) -> bytes:
        return struct.pack("<I", len(text.encode())) + text.encode()

    return counted("Lavf") + struct.pack("<I", len(comments)) + b"".join(map(counted, comments))


def flac(comments: bytes) -> bytes:
    blocks = [(0, bytes(34)), (4, comments), (1, bytes(10))]
    last = len(blocks) - 1
    heads = [
        struct.pack(">I", (0x80 if i == last else 0) << 24 | kind << 24 | len(body)) + body
        for i, (kind, body) in enumerate(blocks)
    ]
    return b"fLaC" + b"".join(heads) + b"\xff\xf8sound"


def test_flac():
    assert Workflow.parse(flac(vorbis("encoder=x", f"prompt={API_TEXT}", f"WORKFLOW={UI_TEXT}"))).data == UI


def ogg_pages(stream: int, *packets: bytes) -> bytes:
    """Each packet on pages of its own, a page holding at most 255 segments."""
    pages = b""
    for packet in packets:
        sizes = [255] * (len(packet) // 255) + [len(packet) % 255]
        at = 0
        for start in range(0, len(sizes), 255):
            lacing = sizes[start : start + 255]
            pages += b"OggS" + bytes(10) + struct.pack("<I", stream) + bytes(8) + bytes([len(lacing)]) + bytes(lacing)
            pages += packet[at : at + sum(lacing)]
            at += sum(lacing)
    return pages


@pytest.mark.parametrize(("first", "second"), [(b"OpusHead", b"OpusTags"), (b"\x01vorbis", b"\x03vorbis")])
def test_ogg_with_tags_over_several_pages(first, second):
    comments = vorbis("title=" + "x" * 200_000, f"workflow={UI_TEXT}")
    data = ogg_pages(7, first) + ogg_pages(8, b"another stream", b"of another kind") + ogg_pages(7, second + comments)
    assert Workflow.parse(data + ogg_pages(7, b"sound")).data == UI


def id3(version: int, *frames: tuple[bytes, bytes]) -> bytes:
    def size(number: int, *, safe: bool) -> bytes:
        return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0)) if safe else struct.pack(">I", number)

    body = b"".join(kind + size(len(text), safe=version == 4) + bytes(2) + text for kind, text in frames) + bytes(20)
    return b"ID3" + bytes([version, 0, 0]) + size(len(body), safe=True) + body + b"\xff\xfbsound"


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(("mark", "encoding"), [(0, "latin-1"), (1, "utf-16"), (2, "utf-16-be"), (3, "utf-8")])
def test_mp3(version, mark, encoding):
    def txxx(key: str, text: str) -> tuple[bytes, bytes]:
        zero = "\0".encode("utf-16-be" if mark in (1, 2) else "latin-1")
        return b"TXXX", bytes([mark]) + key.encode(encoding) + zero + text.encode(encoding)

    data = id3(version, (b"TIT2", b"\0Song"), txxx("prompt", API_TEXT), txxx("workflow", UI_TEXT))
    assert Workflow.parse(data).data == UI


SAMPLES = {
    "png": png(text_chunk("prompt", API_TEXT), png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(UI_TEXT.encode()))),
    "itxt": png(png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(UI_TEXT.encode()))),
    "webp": webp(tiff("<", (0x0110, 2, f"prompt:{API_TEXT}"), (0x010F, 2, f"workflow:{UI_TEXT}"))),
    "mp4": mp4(pairs={"prompt": API_TEXT, "workflow": UI_TEXT}),
    "webm": webm(),
    "flac": flac(vorbis(f"prompt={API_TEXT}", f"workflow={UI_TEXT}")),
    "ogg": ogg_pages(7, b"OpusHead", b"OpusTags" + vorbis(f"prompt={API_TEXT}", f"workflow={UI_TEXT}")),
    "mp3": id3(4, (b"TXXX", b"\3prompt\0" + API_TEXT.encode()), (b"TXXX", b"\3workflow\0" + UI_TEXT.encode())),
    "json": UI_TEXT.encode(),
    "api": API_TEXT.encode(),
}


def read_or_refuse(data: bytes) -> None:
    """Any other exception is the failure."""
    with contextlib.suppress(WorkflowUnreadable):
        assert isinstance(Workflow.parse(data).data, dict)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_is_read_or_refused(name):
    for length in range(len(SAMPLES[name])):
        read_or_refuse(SAMPLES[name][:length])


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=8), st.booleans()), min_size=1, max_size=6),
)
@example("mp3", [(3, b"\x04\x00\x40", False)])
def test_damaged_files_are_read_or_refused(name, damages):
    data = bytearray(SAMPLES[name])
    for place, change, insert in damages:
        at = place % len(data)
        data[at : at if insert else at + len(change)] = change
    read_or_refuse(bytes(data))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        [
            b"\x89PNG\r\n\x1a\n",
            b"RIFF\xff\xff\xff\xffWEBP",
            b"\0\0\0\x08ftyp",
            b"\x1a\x45\xdf\xa3",
            b"fLaC",
            b"OggS",
            b"ID3\x04",
            b"",
        ]
    ),
    st.binary(max_size=200),
)
def test_noise_behind_any_magic_is_refused(magic, noise):
    read_or_refuse(magic + noise)


def test_long_tags_are_refused_rather_than_copied(monkeypatch):
    monkeypatch.setattr(media, "MAX_TEXT", 50)
    for name in ("mp4", "webm", "flac", "ogg", "mp3"):
        with pytest.raises(WorkflowUnreadable, match="too long"):
            Workflow.parse(SAMPLES[name])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["nodes", "links", "prompt", "workflow", "output", "1", "class_type", "inputs", "_meta", "type"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=500, deadline=None)
@given(json_values)
def test_any_json_is_read_or_refused(value):
    read_or_refuse(json.dumps(value).encode())


def test_a_file_read_by_path_object(tmp_path):
    class Place:
        def __fspath__(self) -> str:
            return str(tmp_path / "x.png")

    Path(tmp_path / "x.png").write_bytes(SAMPLES["png"])
    assert Workflow.load(Place()).name == "x"


def test_files_of_very_many_parts_are_given_up(monkeypatch):
    monkeypatch.setattr(media, "MAX_PARTS", 1)
    monkeypatch.setattr(containers, "MAX_PARTS", 1)
    for name in ("png", "mp4", "webm"):
        with pytest.raises(WorkflowUnreadable, match="too many parts"):
            Workflow.parse(SAMPLES[name])


def test_a_picture_with_nothing_but_an_empty_workflow_is_that_workflow():
    assert Workflow.parse(png(text_chunk("workflow", '{"nodes": [], "links": []}'))).data["nodes"] == []


def test_exif_in_a_png():
    exif = png_chunk(b"eXIf", tiff(">", (0x010F, 2, f"workflow:{UI_TEXT}")))
    assert Workflow.parse(png(exif)).data == UI


def test_a_text_too_long_for_a_workflow(monkeypatch):
    monkeypatch.setattr(containers, "MAX_TEXT", 50)
    with pytest.raises(WorkflowUnreadable, match="too long for a workflow"):
        Workflow.parse(UI_TEXT)
