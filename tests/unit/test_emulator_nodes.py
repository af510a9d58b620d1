"""What the emulator's nodes do: real work where no model is needed, honest simulation elsewhere."""

import io
import json
import struct

import pytest
from PIL import Image

from comfyclient.emulator.nodes import NODES, Outcome
from comfyclient.emulator.nodes.maths import evaluate
from comfyclient.emulator.values import Frames, Latent, Token
from comfyclient.workflow.catalog import Catalog

from .emulator_client import emulated, node, picture, txt2img

VALUES = {"INT": 1, "FLOAT": 1.0, "STRING": "text", "BOOLEAN": False, "COLOR": "#102030"}


@pytest.fixture
async def comfy():
    async with emulated() as client:
        yield client


async def opened(comfy, item):
    image = Image.open(io.BytesIO(await comfy.bytes_of(item)))
    image.load()
    return image


class TestSimulation:
    async def test_text_to_image_with_models_that_nobody_has(self, comfy):
        entry = await comfy.run(txt2img())
        assert entry["status"]["completed"]
        (item,) = entry["outputs"]["9"]["images"]
        with await opened(comfy, item) as image:
            assert image.size == (64, 48)
            assert image.text["comfyclient"].startswith("simulated")
            assert json.loads(image.text["prompt"]).keys() == txt2img().keys()

    async def test_the_picture_depends_on_every_input(self, comfy):
        async def pixels(**changes):
            entry = await comfy.run(txt2img(**changes))
            with await opened(comfy, entry["outputs"]["9"]["images"][0]) as image:
                return image.tobytes()

        first = await pixels()
        assert await pixels() == first
        others = [
            await pixels(**change) for change in ({"seed": 2}, {"text": "a cat"}, {"steps": 5}, {"size": (48, 64)})
        ]
        assert len({first, *others}) == 5

    async def test_pictures_of_nodes_that_are_executed_carry_no_notice(self, comfy):
        entry = await comfy.run(picture())
        with await opened(comfy, entry["outputs"]["2"]["images"][0]) as image:
            assert "comfyclient" not in image.text

    async def test_a_sampler_reports_its_steps(self, comfy):
        async with comfy.socket("me") as socket:
            await socket.until_done(await comfy.submit(txt2img(steps=1), client_id="me"))
            steps = [
                frame["data"] for frame in socket.frames if isinstance(frame, dict) and frame["type"] == "progress"
            ]
            assert [(data["value"], data["max"], data["node"]) for data in steps] == [(1, 1, "3")]
            assert 4 not in socket.types()

    async def test_many_quick_steps_are_throttled_to_the_first_and_last(self, comfy):
        async with comfy.socket("me") as socket:
            await socket.until_done(await comfy.submit(txt2img(steps=200), client_id="me"))
            values = [
                frame["data"]["value"]
                for frame in socket.frames
                if isinstance(frame, dict) and frame["type"] == "progress"
            ]
        assert values[0] == 1
        assert values[-1] == 200
        assert len(values) < 150

    @pytest.mark.parametrize(("method", "count"), [("latent2rgb", 3), ("none", 0), ("default", 0)])
    async def test_previews_for_those_who_ask(self, comfy, method, count):
        async with comfy.socket("me") as socket:
            prompt_id = await comfy.submit(txt2img(steps=3), client_id="me", extra_data={"preview_method": method})
            await socket.until_done(prompt_id)
        frames = [frame for frame in socket.frames if isinstance(frame, bytes)]
        assert len(frames) == count
        for frame in frames:
            length = int.from_bytes(frame[4:8])
            assert json.loads(frame[8 : 8 + length])["image_type"] == "image/jpeg"
            with Image.open(io.BytesIO(frame[8 + length :])) as image:
                assert (image.format, max(image.size)) == ("JPEG", 64)

    async def test_previews_can_be_the_default(self):
        async with emulated(preview_method="latent2rgb") as comfy, comfy.socket("me") as socket:
            await socket.until_done(await comfy.submit(txt2img(steps=2), client_id="me"))
            assert socket.types().count(4) == 2

    async def test_custom_samplers_count_the_steps_of_their_schedule(self, comfy):
        prompt = txt2img() | {
            "3": node(
                "SamplerCustomAdvanced",
                noise=["10", 0],
                guider=["11", 0],
                sampler=["12", 0],
                sigmas=["13", 0],
                latent_image=["5", 0],
            ),
            "10": node("RandomNoise", noise_seed=1),
            "11": node("BasicGuider", model=["4", 0], conditioning=["6", 0]),
            "12": node("KSamplerSelect", sampler_name="euler"),
            "13": node("BasicScheduler", model=["4", 0], scheduler="simple", steps=6, denoise=1.0),
        }
        async with comfy.socket("me") as socket:
            await socket.until_done(await comfy.submit(prompt, client_id="me"))
            steps = [
                frame["data"] for frame in socket.frames if isinstance(frame, dict) and frame["type"] == "progress"
            ]
        assert {(data["node"], data["max"]) for data in steps} == {("3", 6)}

    async def test_sizes_travel_along(self, comfy):
        prompt = txt2img(size=(64, 32)) | {
            "20": node("LatentUpscaleBy", samples=["3", 0], upscale_method="bilinear", scale_by=2.0),
            "21": node("VAEDecode", samples=["20", 0], vae=["4", 2]),
            "22": node("UpscaleModelLoader", model_name="x.pth"),
            "23": node("ImageUpscaleWithModel", upscale_model=["22", 0], image=["21", 0]),
            "24": node("GetImageSize", image=["23", 0]),
            "25": node("PreviewAny", source=["24", 0]),
            "26": node("PreviewAny", source=["24", 1]),
        }
        outputs = (await comfy.run(prompt))["outputs"]
        assert (outputs["25"]["text"], outputs["26"]["text"]) == (["512"], ["256"])

    async def test_a_simulated_video_is_small_and_keeps_its_length(self, comfy):
        prompt = {
            "1": node("UNETLoader", unet_name="x", weight_dtype="default"),
            "2": node("EmptyHunyuanLatentVideo", width=640, height=352, length=81, batch_size=1),
            "3": node("VAELoader", vae_name="x"),
            "4": node("VAEDecode", samples=["2", 0], vae=["3", 0]),
            "5": node("CreateVideo", images=["4", 0], fps=16.0),
            "6": node("SaveVideo", video=["5", 0], filename_prefix="v", format="auto", codec="auto"),
            "7": node("GetImageSize", image=["4", 0]),
            "8": node("PreviewAny", source=["7", 2]),
        }
        outputs = (await comfy.run(prompt))["outputs"]
        assert outputs["8"]["text"] == ["81"]
        data = await comfy.bytes_of(outputs["6"]["images"][0])
        assert len(data) < 2_000_000
        (duration,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 20)
        assert abs(duration - 81 / 16 * 1000) < 250
        assert data.count(b"\x89PNG") <= 24

    async def test_a_simulated_sound_has_the_length_asked_for(self, comfy):
        prompt = {
            "1": node("CheckpointLoaderSimple", ckpt_name="x"),
            "2": node("EmptyAceStepLatentAudio", seconds=90.0, batch_size=1),
            "3": node("VAEDecodeAudio", samples=["2", 0], vae=["1", 2]),
            "4": node("SaveAudio", audio=["3", 0], filename_prefix="a"),
        }
        data = await comfy.bytes_of((await comfy.run(prompt))["outputs"]["4"]["audio"][0])
        assert int.from_bytes(data[18:26], "big") & (1 << 36) - 1 == 90 * 44100
        assert len(data) < 1_000_000

    async def test_a_simulated_model_is_a_glb(self, comfy):
        prompt = {
            "1": node("EmptyLatentHunyuan3Dv2", resolution=3072, batch_size=1),
            "2": node("VAELoader", vae_name="x"),
            "3": node("VAEDecodeHunyuan3D", samples=["1", 0], vae=["2", 0], num_chunks=8000, octree_resolution=256),
            "4": node("VoxelToMeshBasic", voxel=["3", 0], threshold=0.6),
            "5": node("SaveGLB", mesh=["4", 0], filename_prefix="mesh/x"),
        }
        (item,) = (await comfy.run(prompt))["outputs"]["5"]["3d"]
        assert item["filename"] == "x_00001_.glb"
        assert (await comfy.bytes_of(item))[:4] == b"glTF"


class TestEveryClass:
    async def test_each_of_the_catalogue_runs(self):
        """Built from its definition alone, with inputs from nodes that give each type."""
        catalog = Catalog.bundled()
        kinds = {output.type for name in catalog for output in catalog[name].outputs}
        kinds |= {kind for name in catalog for spec in catalog[name].inputs for kind in spec.type.split(",")}
        makers = {
            f"Make {kind}": {"input": {}, "output": [kind], "output_is_list": [False], "output_name": [kind]}
            for kind in kinds
        }
        needs_a_file = {
            "LoadImageOutput",
            "LoadLatent",
            "LoadAudio",
            "LoadVideo",
            "GeminiInputFiles",
            "OpenAIInputFiles",
        }
        wrong = {}
        async with emulated(catalog=Catalog(catalog.to_json() | makers)) as comfy:
            prompts = {
                name: build(catalog[name], makers)
                for name in catalog
                if name not in needs_a_file and catalog[name].outputs
            }
            ids = {name: await comfy.submit(prompt) for name, prompt in prompts.items()}
            for name, prompt_id in ids.items():
                status = (await comfy.ended(prompt_id))["status"]
                if not status["completed"]:
                    wrong[name] = status["messages"][-1][1]["exception_message"]
        # These two want values that fit the default of their text.
        assert wrong.keys() == {"StringFormat", "ComfyMathExpression"}
        assert len(prompts) > 800


def build(spec, makers):
    """A prompt around one node: required inputs at their defaults, links to nodes that give the type."""
    prompt, values = {}, {}
    for _ in range(5):  # as deep as dynamic inputs go
        for declared in spec.live_inputs(values):
            if declared.required and declared.name not in values:
                values[declared.name] = value_for(declared, prompt, makers)
    prompt["0"] = node(spec.name, **values)
    if not spec.is_output:
        prompt["1"] = node("PreviewAny", source=["0", 0])
    return prompt


def value_for(declared, prompt, makers):
    if declared.choices is not None:
        return next(iter(declared.choices), "any name")
    if declared.type in VALUES:
        least = declared.options.get("min", VALUES[declared.type])
        default = declared.options.get("default", VALUES[declared.type])
        return (
            max(default, least)
            if declared.type in {"INT", "FLOAT"} and least > -(1 << 60)
            else default or VALUES[declared.type]
        )
    kind = declared.type.split(",")[0]
    kind = "IMAGE" if kind in {"*", "COMFY_MATCHTYPE_V3"} else kind
    if f"Make {kind}" not in makers or kind.startswith("COMFY_"):
        return {}
    prompt[f"make {kind}"] = node(f"Make {kind}")
    return [f"make {kind}", 0]


class TestPictures:
    async def test_a_file_that_needs_a_codec_becomes_a_simulated_picture_of_its_size(self, comfy):
        buffer = io.BytesIO()
        Image.new("RGB", (50, 30), "red").save(buffer, "JPEG")
        (comfy.emulator.folders.input / "photo.jpg").write_bytes(buffer.getvalue())
        prompt = {
            "1": node("LoadImage", image="photo.jpg"),
            "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
        }
        entry = await comfy.run(prompt)
        with await opened(comfy, entry["outputs"]["2"]["images"][0]) as image:
            assert image.size == (50, 30)
            assert image.text["comfyclient"].startswith("simulated")

    async def test_a_file_that_is_no_picture_fails_when_it_runs(self, comfy):
        (comfy.emulator.folders.input / "notes.png").write_bytes(b"not a picture")
        prompt = {"1": node("LoadImage", image="notes.png"), "2": node("PreviewImage", images=["1", 0])}
        error = (await comfy.run(prompt))["status"]["messages"][-1][1]
        assert error["exception_message"] == "cannot identify image file\n"

    async def test_feathered_masks_and_blurs(self, comfy):
        prompt = {
            "1": node("EmptyImage", width=32, height=32, batch_size=1, color=0xFFFFFF),
            "2": node("ImagePadForOutpaint", image=["1", 0], left=8, top=0, right=0, bottom=0, feathering=10),
            "3": node("MaskToImage", mask=["2", 1]),
            "4": node("SaveImage", images=["3", 0], filename_prefix="x"),
            "5": node("ImageBlur", image=["3", 0], blur_radius=3, sigma=1.0),
            "6": node("SaveImage", images=["5", 0], filename_prefix="x"),
        }
        outputs = (await comfy.run(prompt))["outputs"]
        with (
            await opened(comfy, outputs["4"]["images"][0]) as mask,
            await opened(comfy, outputs["6"]["images"][0]) as soft,
        ):
            line = [mask.getpixel((x, 16))[0] for x in range(40)]
            assert line[:9] == [255] * 9
            assert line[8:19] == sorted(line[8:19], reverse=True)
            assert set(line[18:]) == {0}
            assert 0 < soft.getpixel((17, 16))[0] < line[9]

    async def test_a_picture_with_alpha_keeps_it(self, comfy):
        prompt = {
            "1": node("EmptyImage", width=8, height=8, batch_size=1, color=0x0A141E),
            "2": node("SolidMask", value=0.25, width=8, height=8),
            "3": node("JoinImageWithAlpha", image=["1", 0], alpha=["2", 0]),
            "4": node("SaveImage", images=["3", 0], filename_prefix="x"),
            "5": node("SplitImageWithAlpha", image=["3", 0]),
            "6": node("MaskToImage", mask=["5", 1]),
            "7": node("SaveImage", images=["6", 0], filename_prefix="x"),
        }
        outputs = (await comfy.run(prompt))["outputs"]
        with (
            await opened(comfy, outputs["4"]["images"][0]) as image,
            await opened(comfy, outputs["7"]["images"][0]) as mask,
        ):
            assert image.getpixel((0, 0)) == (10, 20, 30, 192)
            assert mask.getpixel((0, 0)) == (63, 63, 63)

    async def test_large_pictures_are_made_in_a_thread(self, comfy):
        """HTTP goes on answering meanwhile; what comes out is the same."""
        prompt = {
            "1": node("EmptyImage", width=700, height=500, batch_size=1, color=0x336699),
            "2": node("ImageScale", image=["1", 0], upscale_method="bicubic", width=350, height=250, crop="disabled"),
            "3": node("SaveImage", images=["2", 0], filename_prefix="x"),
        }
        entry = await comfy.run(prompt)
        with await opened(comfy, entry["outputs"]["3"]["images"][0]) as image:
            assert (image.size, image.getpixel((100, 100))) == ((350, 250), (0x33, 0x66, 0x99))


class TestMaths:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1 + 2 * 3", 7),
            ("-a // 2", -2),
            ("2 ** 10 % 1000", 24),
            ("a if a > 2 else b", 3),
            ("min(a, b, 1)", 1),
            ("not a", False),
            ("a and b", True),
            ("0 or False", False),
            ("1 < a < 4 <= 4", True),
            ("a ^ 1 | 8 & 12", 10),
            ("1 << 4 >> 1", 8),
            ("sum(values)", 8),
            ("values[1]", 5),
            ("round(10 / 3, 2)", 3.33),
            ("sqrt(16)", 4.0),
            ("~a", -4),
        ],
    )
    def test_what_can_be_computed(self, text, value):
        assert evaluate(text, {"a": 3, "b": 5, "values": [3, 5]}) == value

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "a +",
            "__import__('os')",
            "a.__class__",
            "'x' * 10**9",
            "[1] * 10**9",
            "9 ** 9 ** 9",
            "1 << 10**9",
            "lambda: 1",
            "zz",
            "open('x')",
            "[x for x in values]",
            "1e308 * 10",
            "'x'",
            "f'{a}'",
            "(" * 500 + ")" * 500,
            "max(1, key=a)",
        ],
    )
    def test_what_cannot(self, text):
        with pytest.raises(ValueError, match=r"."):
            evaluate(text, {"a": 3, "values": [3]})


class TestOwnNodes:
    """Nodes that a test brings along."""

    CATALOG = Catalog(
        Catalog.bundled().to_json()
        | {
            "Show": {"input": {"required": {"kind": ["STRING", {}]}}, "output": [], "output_node": True},
            "Need": {
                "input": {"optional": {"value": ["*", {"lazy": True}]}, "hidden": {"id": "UNIQUE_ID"}},
                "output": ["*"],
                "output_is_list": [False],
                "output_name": ["x"],
            },
        }
    )

    async def test_their_ui_goes_out_as_it_is(self):
        shown = {
            "nan": float("nan"),
            "none": None,
            "object": object,
            "number": 3,
            "file": {"filename": "x", "format": "video/x"},
        }

        def show(call):
            return Outcome((), {"gifs": [shown[call.inputs["kind"]]]})

        async with emulated(catalog=self.CATALOG, nodes={"Show": show}) as comfy:
            for kind, value in shown.items():
                entry = await comfy.run({"1": node("Show", kind=kind)})
                (found,) = entry["outputs"]["1"]["gifs"]
                if kind == "nan":
                    assert found != found
                else:
                    assert found == (str(value) if kind == "object" else value)
            jobs = await comfy.get("/api/jobs")
            assert [job["previewable_outputs_count"] for job in jobs["jobs"]].count(1) == 1

    async def test_a_node_that_knows_its_id_is_not_shared(self):
        calls = []

        def need(call):
            calls.append(call.node_id)
            return (call.node_id,)

        prompt = {
            "1": node("Need"),
            "2": node("Need"),
            "3": node("PreviewAny", source=["1", 0]),
            "4": node("PreviewAny", source=["2", 0]),
        }
        async with emulated(catalog=self.CATALOG, nodes={"Need": need}) as comfy:
            outputs = (await comfy.run(prompt))["outputs"]
        assert sorted(calls) == ["1", "2"]
        assert (outputs["3"]["text"], outputs["4"]["text"]) == (["1"], ["2"])

    async def test_coroutines_may_report_progress_and_be_interrupted(self):
        async def work(call):
            for step in range(1, 4):
                await call.report.progress(step, 3)
                if step == 2:
                    comfy.emulator.core.interrupt()
            return ("done",)

        async with emulated(catalog=self.CATALOG, nodes={"Need": work}) as comfy:
            entry = await comfy.run({"1": node("Need"), "2": node("PreviewAny", source=["1", 0])})
        kind, data = entry["status"]["messages"][-1]
        assert (kind, data["node_id"]) == ("execution_interrupted", "1")


def test_frames_are_made_when_looked_at():
    made = []

    def make(index):
        made.append(index)
        return bytes([index])

    frames = Frames(100, make)
    assert len(frames) == 100
    assert frames[-1] == bytes([99])
    assert list(frames[10:20:5]) == [bytes([10]), bytes([15])]
    assert made == [99, 10, 15]
    with pytest.raises(IndexError):
        frames[100]


def test_tokens_print_as_what_they_are():
    assert str(Token("MODEL", "abcdef0123456789")) == "<model, simulated abcdef012345>"
    assert "64x48" in str(Latent(64, 48, 1, "abc"))


def test_the_real_nodes_are_all_in_the_catalogue():
    assert NODES.keys() <= set(Catalog.bundled()) | {"LoraSave"}
