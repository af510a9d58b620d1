"""Files both ways: uploads that are sent once, outputs that come whole or not at all."""

import asyncio
import datetime as dt
import hashlib
import io
import json
import os
import stat

import pytest
from PIL import Image

from comfyclient import (
    AuthRequired,
    ComfyClient,
    ConfigError,
    OutputExists,
    OutputRef,
    Prompt,
    PromptRejected,
    TransferError,
)
from comfyclient.patience import Patience

from .prompts import FOLDER, image, picture, save


@pytest.fixture
async def comfy(server_url):
    async with ComfyClient(server_url) as client:
        yield client


def png(colour):
    """The bytes of a small picture."""
    file = io.BytesIO()
    Image.new("RGB", (16, 8), colour).save(file, "PNG")
    return file.getvalue()


def names(folder):
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def loading(value):
    """A prompt that loads a picture and saves it again."""
    return Prompt({"1": {"class_type": "LoadImage", "inputs": {"image": value}}, "2": save()})


def unique():
    """A colour that no run before had, so that the instance does not know the file."""
    return tuple(os.urandom(3))


class TestSaving:
    async def test_the_picture_arrives_whole(self, comfy, tmp_path):
        job = await comfy.queue(picture(width=40, height=24, colour=0x3366CC))
        result = await job.result()
        (path,) = await result.save(tmp_path / "new" / "folder")
        assert path.parent == tmp_path / "new" / "folder"
        with Image.open(path) as found:
            assert found.size == (40, 24)
            assert found.getpixel((5, 5)) == (0x33, 0x66, 0xCC)
        assert path.read_bytes() == await result.outputs[0].read()
        assert names(path.parent) == [path.name]

    async def test_nothing_is_overwritten_unless_asked(self, comfy, tmp_path):
        result = await (await comfy.queue(picture())).result()
        (first,) = await result.save(tmp_path)
        first.write_bytes(b"precious")
        (second,) = await result.save(tmp_path)
        assert second.name == f"{first.stem} (1).png"
        assert first.read_bytes() == b"precious"
        (third,) = await result.save(tmp_path, overwrite=True)
        assert third == first
        assert first.read_bytes() == second.read_bytes()
        with pytest.raises(OutputExists):
            await result.outputs[0].save(first)
        assert await result.outputs[0].save(first, overwrite=True) == first

    async def test_names_by_template(self, comfy, tmp_path):
        prompt = picture(batch=3)
        job = await comfy.queue(prompt)
        result = await job.result()
        paths = await result.save(tmp_path, template="{date}/{prompt_id}/{title}-{index:02}-of-{number}.{ext}")
        day = f"{result.started.astimezone():%Y-%m-%d}"
        assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
            f"{day}/{job.id}/Save it-0{n}-of-{n + 1}.png" for n in range(3)
        ]

    async def test_files_of_one_job_never_replace_each_other(self, comfy, tmp_path):
        result = await (await comfy.queue(picture(batch=3))).result()
        for overwrite in (False, True):
            paths = await result.save(tmp_path / str(overwrite), template="same", overwrite=overwrite)
            assert [path.name for path in paths] == ["same.png", "same (1).png", "same (2).png"]

    async def test_previews_are_saved_if_there_is_nothing_else(self, comfy, tmp_path):
        show = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
        only = await (await comfy.queue(Prompt({"1": image(), "2": show}))).result()
        assert [output.type for output in only.outputs] == ["temp"]
        assert len(await only.save(tmp_path / "only")) == 1
        both = await (await comfy.queue(Prompt({"1": image(), "2": show, "3": save()}))).result()
        assert sorted(output.type for output in both.outputs) == ["output", "temp"]
        (path,) = await both.save(tmp_path / "both")
        assert path.name.startswith("x_")

    async def test_texts_and_metadata(self, comfy, tmp_path):
        text = {"class_type": "PrimitiveString", "inputs": {"value": "grüße"}}
        show = {"class_type": "PreviewAny", "inputs": {"source": ["8", 0]}}
        nodes = {
            **picture().nodes,
            "8": text,
            "9": show,
            "7": {"class_type": "RandomNoise", "inputs": {"noise_seed": 6}},
        }
        job = await comfy.queue(Prompt(nodes), seed=11)
        result = await job.result()
        files = await result.save(tmp_path, texts=True, metadata=True, template="a/{filename}")
        assert [path.name for path in files[1:]] == ["9_0.txt", f"{job.id}.json"]
        assert files[1].read_text(encoding="utf-8") == "grüße"
        about = json.loads(files[2].read_text(encoding="utf-8"))
        assert about["prompt"]["7"]["inputs"]["noise_seed"] == 11
        assert about["seeds"] == {"7.noise_seed": 11}
        assert about["instance"] == str(comfy.url)
        assert about["outputs"][0]["file"] == f"a/{files[0].name}"
        assert about["texts"][0]["text"] == "grüße"
        assert dt.datetime.fromisoformat(about["started"]) <= dt.datetime.fromisoformat(about["ended"])

    async def test_a_template_that_makes_no_sense(self, comfy, tmp_path):
        result = await (await comfy.queue(picture())).result()
        with pytest.raises(ConfigError, match=r"\{nope\}"):
            await result.save(tmp_path, template="{nope}")
        assert names(tmp_path) == []


class TestWhatCanGoWrongWhenSaving:
    async def test_a_folder_that_is_a_file(self, comfy, tmp_path):
        result = await (await comfy.queue(picture())).result()
        (tmp_path / "file").write_text("x")
        with pytest.raises(TransferError, match="cannot write") as caught:
            await result.save(tmp_path / "file")
        assert "\n" not in str(caught.value)

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX")
    async def test_a_full_disk(self, comfy, tmp_path):
        # A limit of the size of files is the nearest that a test may do to a disk.
        import resource
        import signal

        result = await (await comfy.queue(picture(width=256, height=256, batch=4))).result()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            with pytest.raises(TransferError, match="file too large"):
                await result.save(tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert names(tmp_path) == []

    async def test_a_symlink_inside_the_folder_is_not_followed(self, comfy, tmp_path):
        result = await (await comfy.queue(picture())).result()
        outside, root = tmp_path / "outside", tmp_path / "root"
        outside.mkdir()
        root.mkdir()
        (root / "sub").symlink_to(outside, target_is_directory=True)
        with pytest.raises(TransferError, match="symlink"):
            await result.save(root, template="sub/{filename}")
        name = result.outputs[0].filename
        (outside / "kept").write_text("kept")
        (root / name).symlink_to(outside / "kept")
        (path,) = await result.save(root, overwrite=True)
        assert not path.is_symlink()
        assert (outside / "kept").read_text() == "kept"

    async def test_a_download_that_breaks_leaves_nothing(self, proxy, tmp_path):
        async with ComfyClient(proxy.url) as comfy:
            result = await (await comfy.queue(picture())).result()
            comfy._transfers.patience = Patience(retries=2, first=0)
            proxy.lose("GET", "/view", times=6)  # aiohttp itself tries again once, each time
            with pytest.raises(TransferError, match="cannot fetch"):
                await result.save(tmp_path)
            assert names(tmp_path) == []
            assert await result.save(tmp_path)

    async def test_a_file_that_is_gone(self, comfy, tmp_path):
        for kind in ("output", "temp"):
            ref = OutputRef("1", "images", f"no-such-{os.urandom(4).hex()}.png", type=kind)
            with pytest.raises(TransferError, match="no longer has"):
                await comfy.download(ref, tmp_path / "x.png")
        assert names(tmp_path) == []

    async def test_a_login_that_ran_out(self, proxy, tmp_path):
        async with ComfyClient(proxy.url) as comfy:
            result = await (await comfy.queue(picture())).result()
            proxy.answer("GET", "/view", status=401)
            with pytest.raises(AuthRequired):
                await result.save(tmp_path)

    async def test_a_cancelled_download_leaves_nothing(self, comfy, tmp_path):
        result = await (await comfy.queue(picture(batch=4))).result()
        for steps in range(0, 120, 3):
            task = asyncio.create_task(result.save(tmp_path))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert [name for name in names(tmp_path) if name.endswith(".part")] == []
        assert len(await result.save(tmp_path / "again")) == 4


class TestUploads:
    async def test_by_name_and_content(self, comfy, tmp_path):
        data = png(unique())
        path = tmp_path / "my pic.png"
        path.write_bytes(data)
        uploaded = await comfy.upload(path, subfolder=FOLDER)
        assert uploaded.name == f"my pic-{hashlib.sha256(data).hexdigest()[:12]}.png"
        assert uploaded.value == f"{FOLDER}/{uploaded.name}"
        assert await comfy.upload(data, subfolder=FOLDER, name="x.png") != uploaded
        stored = await comfy.read(OutputRef("", "", uploaded.name, FOLDER, "input"))
        assert stored == data

    @pytest.mark.parametrize("name", ["ü ñ 日本.png", 'quo"te.png', "a;b=c.png", "../up.png", "x\r\ny.png", "%41.png"])
    async def test_awkward_names(self, comfy, name):
        data = png(unique())
        uploaded = await comfy.upload(data, name=name, subfolder=FOLDER)
        assert "/" not in uploaded.name
        assert await comfy.read(OutputRef("", "", uploaded.name, uploaded.subfolder, "input")) == data

    async def test_another_file_of_that_name_is_not_replaced_unless_asked(self, comfy):
        name = f"{os.urandom(6).hex()}.png"
        first = await comfy.upload(png(unique()), name=name, subfolder=FOLDER)
        second = await comfy.upload(data := png(unique()), name=name, subfolder=FOLDER)
        assert first.name == name != second.name
        third = await comfy.upload(data, name=name, subfolder=FOLDER, overwrite=True)
        assert third.name == name

    async def test_the_same_bytes_are_sent_once(self, proxy):
        data = png(unique())
        async with ComfyClient(proxy.url) as comfy:
            assert await comfy.upload(data) == await comfy.upload(bytes(data))
        assert proxy.requests["POST", "/upload/image"] == 1

    async def test_what_the_instance_does_not_take(self, proxy, tmp_path):
        async with ComfyClient(proxy.url) as comfy:
            proxy.answer("POST", "/upload/image", status=413, text="Maximum request body size exceeded")
            with pytest.raises(TransferError, match="larger than"):
                await comfy.upload(b"x")
            with pytest.raises(TransferError, match="cannot read"):
                await comfy.upload(tmp_path / "missing.png")
            proxy.answer("POST", "/upload/image", text="{}", content_type="application/json")
            with pytest.raises(TransferError, match="names no file"):
                await comfy.upload(b"x")


class TestLocalInputFiles:
    async def test_a_file_beside_the_workflow_is_uploaded(self, proxy, tmp_path):
        colour = unique()
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "mine.png").write_bytes(png(colour))
        async with ComfyClient(proxy.url) as comfy:
            job = await comfy.queue(loading("in/mine.png"), upload_dir=tmp_path)
            assert job.prompt.nodes["1"]["inputs"]["image"].startswith("mine-")
            data = await (await job.result()).outputs[0].read()
            again = await comfy.queue(loading("in/mine.png"), upload_dir=tmp_path)
            assert again.prompt == job.prompt
        assert proxy.requests["POST", "/upload/image"] == 1
        with Image.open(io.BytesIO(data)) as found:
            assert found.getpixel((3, 3)) == colour

    async def test_only_if_a_folder_is_given(self, comfy, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.png").write_bytes(png(unique()))
        with pytest.raises(PromptRejected):
            await comfy.queue(loading("mine.png"))

    @pytest.mark.parametrize("way", ["../secret.png", "link.png", "{absolute}"])
    async def test_a_workflow_cannot_send_files_from_elsewhere(self, proxy, tmp_path, way):
        folder = tmp_path / "workflows"
        folder.mkdir()
        (tmp_path / "secret.png").write_bytes(png(unique()))
        (folder / "link.png").symlink_to(tmp_path / "secret.png")
        async with ComfyClient(proxy.url) as comfy:
            with pytest.raises(PromptRejected):
                await comfy.queue(loading(way.format(absolute=tmp_path / "secret.png")), upload_dir=folder)
        assert proxy.requests["POST", "/upload/image"] == 0

    async def test_the_user_can(self, comfy, tmp_path):
        (tmp_path / "mine.png").write_bytes(png(unique()))
        job = await comfy.queue(
            loading("other.png"), {"1.image": str(tmp_path / "mine.png")}, upload_dir=tmp_path / "x"
        )
        assert (await job.result()).outputs

    async def test_a_file_of_the_instance_is_left_alone(self, proxy, tmp_path):
        async with ComfyClient(proxy.url) as comfy:
            there = await comfy.upload(png(unique()))
            saved = (await (await comfy.queue(picture())).result()).outputs[0]
            (tmp_path / saved.filename).write_bytes(b"not this one")
            annotated = f"{saved.subfolder}/{saved.filename} [output]"
            for value in (there.value, annotated):
                job = await comfy.queue(loading(value), upload_dir=tmp_path)
                assert job.prompt.nodes["1"]["inputs"]["image"] == value
                await job.result()
        assert proxy.requests["POST", "/upload/image"] == 1

    async def test_nothing_is_uploaded_for_a_prompt_that_would_not_run(self, proxy, tmp_path):
        (tmp_path / "mine.png").write_bytes(png(unique()))
        prompt = loading("mine.png")
        prompt.nodes["5"] = {"class_type": "NoSuchNode", "inputs": {}}
        async with ComfyClient(proxy.url) as comfy:
            with pytest.raises(Exception, match="NoSuchNode"):
                await comfy.queue(prompt, upload_dir=tmp_path)
        assert proxy.requests["POST", "/upload/image"] == 0

    async def test_what_is_no_regular_file_is_left_alone(self, proxy, tmp_path):
        os.mkfifo(tmp_path / "pipe.png")
        (tmp_path / "folder.png").mkdir()
        assert stat.S_ISFIFO((tmp_path / "pipe.png").stat().st_mode)
        async with ComfyClient(proxy.url) as comfy:
            for name in ("pipe.png", "folder.png"):
                with pytest.raises(PromptRejected):
                    await comfy.queue(loading(name), upload_dir=tmp_path, check=False)
        assert proxy.requests["POST", "/upload/image"] == 0
