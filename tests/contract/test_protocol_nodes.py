"""What nodes that need no model make: the same on the emulator and on a real server.

Run it against a real server with ``COMFYCLIENT_TEST_URL=http://127.0.0.1:8188``. Others may use that server meanwhile:
the tests look at their own prompts only.
"""

import io
import json
import re

import pytest
from PIL import Image

from . import protocol_support
from .protocol_support import FOLDER, empty_image, new_id, node, pixels_of, save, tiny_png

server = protocol_support.server  # a fixture


ONE_TEXT = '[\n    "{}"\n]'  # the dataset nodes answer with a list of one text

TEXT_NODES = [
    (node("PrimitiveInt", value=7), ["7"]),
    (node("PrimitiveFloat", value=1.5), ["1.5"]),
    (node("PrimitiveBoolean", value=False), ["False"]),
    (node("PrimitiveStringMultiline", value="a\nb"), ["a\nb"]),
    (node("StringConcatenate", string_a="a", string_b="b", delimiter="-"), ["a-b"]),
    (node("StringSubstring", string="abcdef", start=1, end=-1), ["bcde"]),
    (node("StringLength", string="abc"), ["3"]),
    (node("CaseConverter", string="ab cD", mode="Title Case"), ["Ab Cd"]),
    (node("CaseConverter", string="ab cD", mode="Capitalize"), ["Ab cd"]),
    (node("StringTrim", string="  x ", mode="Left"), ["x "]),
    (node("StringReplace", string="aXbX", find="X", replace="_"), ["a_b_"]),
    (node("StringContains", string="Hello", substring="hell", case_sensitive=True), ["False"]),
    (node("StringCompare", string_a="Hello", string_b="HELL", mode="Starts With", case_sensitive=False), ["True"]),
    (
        node("RegexMatch", string="ab1", regex_pattern=r"\d", case_insensitive=True, multiline=False, dotall=False),
        ["True"],
    ),
    (
        node("RegexMatch", string="ab1", regex_pattern="(", case_insensitive=True, multiline=False, dotall=False),
        ["False"],
    ),
    (node("RegexReplace", string="a1b22", regex_pattern=r"\d+", replace="#", count=1), ["a#b22"]),
    (node("JsonExtractString", json_string='{"a": [1, 2]}', key="a"), ["[1, 2]"]),
    (node("StringFormat", **{"f_string": "{a}/{b:.2f}", "values.a": "x", "values.b": 1.0}), ["x/1.00"]),
    (node("ComfyNumberConvert", value="12.5"), ["12.5"]),
    (node("ComfyNotNode", value=0), ["True"]),
    (node("ComfyAndNode", **{"values.value0": 1, "values.value1": ""}), ["False"]),
    (node("ComfyOrNode", **{"values.value0": 1, "values.value1": ""}), ["True"]),
    (node("ComfyMathExpression", **{"expression": "(a + b) * 2 ** 3 // 5", "values.a": 3, "values.b": 4}), ["11.0"]),
    (
        node("ComfyMathExpression", **{"expression": "max(a, 2) if a > 1 else sqrt(b)", "values.a": 0, "values.b": 9}),
        ["3.0"],
    ),
    (node("ComfyMathExpression", **{"expression": "sum(values) % 5", "values.a": 6, "values.b": 2}), ["3.0"]),
    (
        node("PrimitiveBoundingBox", x=1, y=2, width=3, height=4),
        [json.dumps({"x": 1, "y": 2, "width": 3, "height": 4}, indent=4)],
    ),
    (node("TruncateText", texts="abcdef", max_length=3), [ONE_TEXT.format("abc")]),
    (node("AddTextPrefix", texts="abc", prefix="x"), [ONE_TEXT.format("xabc")]),
    (node("StripWhitespace", texts=" abc "), [ONE_TEXT.format("abc")]),
    (node("TextToUppercase", texts="abc"), [ONE_TEXT.format("ABC")]),
    (node("ReplaceText", texts="abab", find="b", replace=""), [ONE_TEXT.format("aa")]),
    (node("CustomCombo", choice="second", index=1), ["second"]),
    *[
        (
            node(
                "RegexExtract",
                string="a1=x, b2=y",
                regex_pattern=r"([a-z])(\d)=",
                mode=mode,
                case_insensitive=True,
                multiline=False,
                dotall=False,
                group_index=2,
            ),
            [expected],
        )
        for mode, expected in (
            ("First Match", "a1="),
            ("All Matches", "a\nb"),
            ("First Group", "1"),
            ("All Groups", "1\n2"),
        )
    ],
]

FAILING_NODES = [
    (node("ComfyMathExpression", **{"expression": "a / 0", "values.a": 1}), "ZeroDivisionError"),
    (node("ComfyMathExpression", **{"expression": " ", "values.a": 1}), "ValueError"),
    (node("ComfyNumberConvert", value="abc"), "ValueError"),
    (node("RegexReplace", string="a", regex_pattern="a", replace="\\9"), "re."),
]


class TestNodes:
    @pytest.mark.parametrize(("made", "text"), TEXT_NODES, ids=[made["class_type"] for made, _ in TEXT_NODES])
    async def test_text_and_numbers(self, server, made, text):
        outputs = await server.outputs({"1": made, "2": node("PreviewAny", source=["1", 0])})
        assert outputs == {"2": {"text": text}}

    @pytest.mark.parametrize(("made", "kind"), FAILING_NODES)
    async def test_nodes_that_raise(self, server, made, kind):
        prompt = {"1": made, "2": node("PreviewAny", source=["1", 0])}
        entry = await server.history(await server.submit(prompt))
        assert entry["status"]["messages"][-1][1]["exception_type"].startswith(kind)

    async def test_lists_run_a_node_for_each_item(self, server):
        prompt = {
            "1": node("CreateList", **{"inputs.input0": "a", "inputs.input1": "b"}),
            "2": node("StringConcatenate", string_a=["1", 0], string_b="!", delimiter=""),
            "3": node("PreviewAny", source=["2", 0]),
        }
        assert await server.outputs(prompt) == {"3": {"text": ["a!", "b!"]}}

    async def picture(self, server, *nodes, folder=FOLDER):
        """The pixels of what the last of these nodes makes; each is fed by the one before."""
        prompt = {str(index): made for index, made in enumerate(nodes, 1)}
        prompt["save"] = save(str(len(nodes)), prefix="pixels")
        items = (await server.outputs(prompt))["save"]["images"]
        found = []
        for item in items:
            _, _, body = await server.call("GET", f"/view?filename={item['filename']}&subfolder={item['subfolder']}")
            with Image.open(io.BytesIO(body)) as picture:
                found.append(picture.convert("RGB"))
        return found

    async def striped(self, server):
        """A small picture in the input folder, each pixel of another colour."""
        picture = Image.new("RGB", (5, 4))
        picture.putdata([(20 * x, 60 * y, 10 * (x + y)) for y in range(4) for x in range(5)])
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        _, answer = await server.upload(buffer.getvalue(), f"{new_id()}.png")
        return picture, node("LoadImage", image=answer["name"])

    async def test_a_colour(self, server):
        (found,) = await self.picture(server, empty_image(width=3, height=2, color=0x0A64FF))
        assert found.size == (3, 2)
        assert set(pixels_of(found)) == {(10, 100, 255)}

    @pytest.mark.parametrize(
        ("made", "change"),
        [
            (
                node("ImageFlip", flip_method="x-axis: vertically"),
                lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
            ),
            (
                node("ImageFlip", flip_method="y-axis: horizontally"),
                lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            ),
            (node("ImageRotate", rotation="90 degrees"), lambda p: p.transpose(Image.Transpose.ROTATE_270)),
            (node("ImageRotate", rotation="180 degrees"), lambda p: p.transpose(Image.Transpose.ROTATE_180)),
            (node("ImageRotate", rotation="270 degrees"), lambda p: p.transpose(Image.Transpose.ROTATE_90)),
            (node("ImageCrop", x=1, y=2, width=3, height=99), lambda p: p.crop((1, 2, 4, 4))),
            (
                node("ImageScale", upscale_method="nearest-exact", width=10, height=0, crop="disabled"),
                lambda p: p.resize((10, 8), Image.Resampling.NEAREST),
            ),
            (node("ImageScale", upscale_method="nearest-exact", width=4, height=4, crop="center"), None),
            (
                node("ImageScale", upscale_method="lanczos", width=11, height=7, crop="disabled"),
                lambda p: p.resize((11, 7), Image.Resampling.LANCZOS),
            ),
            (
                node("ImageScaleBy", upscale_method="nearest-exact", scale_by=2.0),
                lambda p: p.resize((10, 8), Image.Resampling.NEAREST),
            ),
            (node("ImageInvert"), lambda p: p.point(lambda value: 255 - value)),
        ],
    )
    async def test_pictures_changed(self, server, made, change):
        picture, load = await self.striped(server)
        (found,) = await self.picture(server, load, made | {"inputs": made["inputs"] | {"image": ["1", 0]}})
        wanted = change(picture) if change else picture.crop((0, 0, 4, 4)).resize((4, 4))
        assert found.size == wanted.size
        # The server computes in floats and cuts off what is behind the point; the emulator in whole numbers.
        tolerance = 0 if change else 20
        pairs = zip(pixels_of(found), pixels_of(wanted), strict=True)
        assert all(abs(a - b) <= max(2, tolerance) for left, right in pairs for a, b in zip(left, right, strict=True))

    @pytest.mark.parametrize("method", ["bilinear", "bicubic", "area"])
    @pytest.mark.parametrize("size", [(10, 8), (3, 2), (7, 9)])
    async def test_scaled_pictures_keep_their_mean(self, server, method, size):
        picture, load = await self.striped(server)
        made = node("ImageScale", image=["1", 0], upscale_method=method, width=size[0], height=size[1], crop="disabled")
        (found,) = await self.picture(server, load, made)
        assert found.size == size
        for channel in range(3):
            means = [sum(pixel[channel] for pixel in pixels_of(p)) / (p.width * p.height) for p in (found, picture)]
            assert abs(means[0] - means[1]) < 4

    async def test_batches_take_the_size_of_the_first(self, server):
        prompt = {
            "1": empty_image(width=6, height=4, color=0xFF0000, batch_size=2),
            "2": empty_image(width=9, height=9, color=0x0000FF),
            "3": node("ImageBatch", image1=["1", 0], image2=["2", 0]),
            "4": node("GetImageSize", image=["3", 0]),
            "5": node("PreviewAny", source=["4", 2]),
            "6": node("ImageFromBatch", image=["3", 0], batch_index=-1, length=1),
            "7": save("6", prefix="batch"),
        }
        outputs = await server.outputs(prompt)
        assert outputs["5"] == {"text": ["3"]}
        (item,) = outputs["7"]["images"]
        _, _, body = await server.call("GET", f"/view?filename={item['filename']}&subfolder={item['subfolder']}")
        with Image.open(io.BytesIO(body)) as picture:
            assert (picture.size, set(pixels_of(picture))) == ((6, 4), {(0, 0, 255)})

    async def test_masks(self, server):
        prompt = {
            "1": node("SolidMask", value=1.0, width=8, height=6),
            "2": node("InvertMask", mask=["1", 0]),
            "3": node("SolidMask", value=1.0, width=2, height=2),
            "4": node("MaskComposite", destination=["2", 0], source=["3", 0], x=1, y=1, operation="add"),
            "5": node("MaskToImage", mask=["4", 0]),
            "6": save("5", prefix="mask"),
        }
        (item,) = (await server.outputs(prompt))["6"]["images"]
        _, _, body = await server.call("GET", f"/view?filename={item['filename']}&subfolder={item['subfolder']}")
        with Image.open(io.BytesIO(body)) as picture:
            white = [(x, y) for x in range(8) for y in range(6) if picture.getpixel((x, y)) == (255, 255, 255)]
        assert white == [(1, 1), (1, 2), (2, 1), (2, 2)]

    async def test_transparency_becomes_a_mask(self, server):
        _, answer = await server.upload(tiny_png((9, 8, 7, 55)), f"{new_id()}.png")
        load = node("LoadImage", image=answer["name"])
        (colours,) = await self.picture(server, load)
        assert set(pixels_of(colours)) == {(9, 8, 7)}
        (mask,) = await self.picture(server, load, node("MaskToImage", mask=["1", 1]))
        assert set(pixels_of(mask)) == {(200, 200, 200)}

    @pytest.mark.parametrize(
        ("nodes", "kind", "pattern"),
        [
            ({"2": node("PreviewImage", images=["1", 0])}, "images", r"ComfyUI_temp_[a-z]{5}_\d{5}_\.png"),
            (
                {"2": node("SaveAnimatedPNG", images=["1", 0], filename_prefix="P", fps=6.0, compress_level=4)},
                "images",
                r"P_\d{5}_\.png",
            ),
            (
                {
                    "2": node(
                        "SaveAnimatedWEBP",
                        images=["1", 0],
                        filename_prefix="P",
                        fps=6.0,
                        lossless=True,
                        quality=80,
                        method="default",
                    )
                },
                "images",
                r"P_\d{5}_\.webp",
            ),
            (
                {"2": node("SaveWEBM", images=["1", 0], filename_prefix="P", codec="vp9", fps=24.0, crf=32.0)},
                "images",
                r"P_\d{5}_\.webm",
            ),
            (
                {
                    "3": node("CreateVideo", images=["1", 0], fps=24.0),
                    "2": node("SaveVideo", video=["3", 0], filename_prefix="P", format="auto", codec="auto"),
                },
                "images",
                r"P_\d{5}_\.mp4",
            ),
            (
                {
                    "3": node("EmptyAudio", duration=0.2, sample_rate=44100, channels=2),
                    "2": node("SaveAudio", audio=["3", 0], filename_prefix="P"),
                },
                "audio",
                r"P_\d{5}\.flac",
            ),
            (
                {
                    "3": node("EmptyAudio", duration=0.2, sample_rate=44100, channels=2),
                    "2": node("PreviewAudio", audio=["3", 0]),
                },
                "audio",
                r"ComfyUI_temp_[a-z]{5}_\d{5}\.flac",
            ),
            (
                {
                    "3": node("EmptyLatentImage", width=64, height=64, batch_size=1),
                    "2": node("SaveLatent", samples=["3", 0], filename_prefix="P"),
                },
                "latents",
                r"P_\d{5}_\.latent",
            ),
            ({"2": node("SaveText", text="hello", filename_prefix="P", format="txt")}, "files", r"P_\d{5}\.txt"),
            (
                {
                    "2": node(
                        "SaveImageAdvanced",
                        images=["1", 0],
                        filename_prefix="P",
                        **{"format": "png", "format.bit_depth": "8-bit", "format.input_color_space": "sRGB"},
                    )
                },
                "images",
                r"P_\d{5}\.png",
            ),
        ],
    )
    async def test_saving_nodes(self, server, nodes, kind, pattern):
        nodes = json.loads(json.dumps(nodes).replace('"P"', json.dumps(f"{FOLDER}/kinds")))
        outputs = await server.outputs({"1": empty_image(width=64, height=64, batch_size=4)} | nodes)
        item = outputs["2"][kind][0]
        assert item.keys() == {"filename", "subfolder", "type"}
        assert re.fullmatch(
            pattern.replace("P_", "kinds_", 1) if pattern.startswith("P_") else pattern, item["filename"]
        )
        query = f"filename={item['filename']}&subfolder={item['subfolder']}&type={item['type']}"
        status, _, body = await server.call("GET", f"/view?{query}")
        assert status == 200
        assert body
        assert outputs["2"].get("animated", [True]) == [True]
