"""ComfyUI's protocol at its lowest level: files, uploads, user data, definitions, origins.

Run it against a real server with ``COMFYCLIENT_TEST_URL=http://127.0.0.1:8188``. Others may use that server meanwhile:
the tests look at their own prompts only.
"""

import io
import json

import aiohttp
import pytest
from PIL import Image

from . import protocol_support
from .protocol_support import FOLDER, TROUBLE, empty_image, errors_of, new_id, node, preview, save, tiny_png

server, socket = protocol_support.server, protocol_support.socket  # fixtures


class TestFiles:
    async def test_names_and_metadata_of_saved_pictures(self, server):
        workflow = {"nodes": [], "name": "übung"}
        prompt = {
            "1": empty_image(width=40, height=30, batch_size=2),
            "2": node("SaveImage", images=["1", 0], filename_prefix=f"{FOLDER}/%width%x%height%_%batch_num%"),
        }
        entry = await server.history(await server.submit(prompt, extra_data={"extra_pnginfo": {"workflow": workflow}}))
        items = entry["outputs"]["2"]["images"]
        assert [item["filename"] for item in items] == ["40x30_0_00001_.png", "40x30_1_00002_.png"]
        item = items[0]
        status, headers, body = await server.call("GET", f"/view?filename={item['filename']}&subfolder={FOLDER}")
        assert status == 200
        assert headers["Content-Type"] == "image/png"
        assert headers["Content-Disposition"] == 'filename="40x30_0_00001_.png"'
        assert headers["Accept-Ranges"] == "bytes"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["ETag"]
        with Image.open(io.BytesIO(body)) as picture:
            assert picture.size == (40, 30)
            assert json.loads(picture.text["prompt"]) == prompt
            assert json.loads(picture.text["workflow"]) == workflow

    async def test_the_counter_goes_on(self, server):
        names = []
        for _ in range(2):
            outputs = await server.outputs({"1": empty_image(), "2": save(prefix="count")})
            names.append(outputs["2"]["images"][0]["filename"])
        assert names == ["count_00001_.png", "count_00002_.png"]

    async def test_a_prefix_cannot_leave_the_folder(self, server):
        prompt = {"1": empty_image(), "2": node("SaveImage", images=["1", 0], filename_prefix="../x")}
        entry = await server.history(await server.submit(prompt))
        assert entry["status"]["status_str"] == "error"
        assert "not allowed" in entry["status"]["messages"][-1][1]["exception_message"]

    async def test_ranges_and_conditions(self, server):
        outputs = await server.outputs({"1": empty_image(), "2": save(prefix="range")})
        path = f"/view?filename={outputs['2']['images'][0]['filename']}&subfolder={FOLDER}&type=output"
        _, headers, whole = await server.call("GET", path)
        status, part_headers, part = await server.call("GET", path, headers={"Range": "bytes=1-9"})
        assert status == 206
        assert part == whole[1:10]
        assert part_headers["Content-Range"] == f"bytes 1-9/{len(whole)}"
        status, _, _ = await server.call("GET", path, headers={"If-None-Match": headers["ETag"]})
        assert status == 304
        status, _, _ = await server.call("GET", path, headers={"Range": "bytes=999999-"})
        assert status == 416

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ("", 404),
            ("filename=", 400),
            ("filename=../x", 400),
            ("filename=/etc/passwd", 400),
            ("filename=x&type=bogus", 400),
            ("filename=x&subfolder=../../..", 403),
            ("filename=nope.png", 404),
            ("filename=nope.png&type=input", 404),
        ],
    )
    async def test_files_that_are_not_served(self, server, query, status):
        found, _, body = await server.call("GET", f"/view?{query}")
        assert (found, body) == (status, b"")

    async def test_uploads_are_renamed_and_known_again(self, server):
        red, blue = tiny_png((255, 0, 0)), tiny_png((0, 0, 255))
        name = f"{new_id()}.png"
        stem = name[:-4]
        known = {"name": name, "subfolder": "", "type": "input"}
        other = known | {"name": f"{stem} (1).png"}
        assert await server.upload(red, name) == (200, known)
        assert await server.upload(red, name) == (200, known)
        assert await server.upload(blue, name) == (200, other)
        assert await server.upload(blue, name) == (200, other)
        assert await server.upload(blue, name, overwrite="True") == (200, other)
        assert await server.upload(blue, name, overwrite="true") == (200, known)
        assert await server.upload(red, name, overwrite="1") == (200, known)
        sub = known | {"subfolder": "comfyclient-tests/deep"}
        assert await server.upload(red, name, subfolder="comfyclient-tests/deep") == (200, sub)
        assert await server.upload(red, name, type="temp") == (200, known | {"type": "temp"})
        for value in (name, f"comfyclient-tests/deep/{name}", f"{name} [temp]", f"{name} [input]"):
            outputs = await server.outputs({"1": node("LoadImage", image=value), "2": preview()})
            assert outputs["2"]["images"]
        status, answer = await server.post(
            "/prompt", {"prompt": {"1": node("LoadImage", image=f"{name}[temp]"), "2": preview()}}
        )
        assert status == 400
        assert errors_of(answer)["1"] == {("custom_validation_failed", f"image - Invalid image file: {name}[temp]")}
        for query in (f"filename={name}&type=input", f"filename={name}%20[input]", f"filename=sub/{name}&type=input"):
            assert (await server.call("GET", f"/view?{query}"))[2] == red

    async def test_uploads_that_are_refused(self, server):
        red = tiny_png((255, 0, 0))
        assert await server.upload(red, "x.png", field="file") == (400, b"")
        assert await server.upload(red, "x.png", subfolder="../../etc") == (400, b"")
        assert await server.upload(red, "../up.png") == (400, b"")
        assert await server.upload(red, "x.png", type="bogus") == (500, TROUBLE)
        assert await server.post("/upload/image", {"image": "x"}) == (400, b"")

    async def test_a_changed_file_runs_again(self, server, socket):
        name = f"{new_id()}.png"
        prompt = {"1": node("LoadImage", image=name), "2": save(prefix="changed")}
        await server.upload(tiny_png((1, 2, 3)), name)
        first, _ = await server.run(prompt, socket)
        _, frames = await server.run(prompt, socket)
        assert sorted(frames[1]["data"]["nodes"]) == ["1", "2"]
        await server.upload(tiny_png((3, 2, 1)), name, overwrite="true")
        _, frames = await server.run(prompt, socket)
        assert frames[1]["data"]["nodes"] == []
        # The saved picture's prompt carries what the server knew of the file, and goes stale with it.
        item = (await server.history(first))["outputs"]["2"]["images"][0]
        _, _, body = await server.call("GET", f"/view?filename={item['filename']}&subfolder={item['subfolder']}")
        with Image.open(io.BytesIO(body)) as picture:
            leaked = json.loads(picture.text["prompt"])
        assert leaked["1"].keys() == {"class_type", "inputs", "is_changed"}
        assert "is_changed" not in (await server.history(first))["prompt"][2]["1"]

    async def test_a_mask_becomes_the_alpha_channel(self, server):
        name = f"{new_id()}.png"
        await server.upload(tiny_png((9, 8, 7)), name)
        form = aiohttp.FormData()
        form.add_field("original_ref", json.dumps({"filename": name, "type": "input"}))
        form.add_field("type", "input")
        form.add_field("subfolder", "comfyclient-tests")
        form.add_field("image", tiny_png((0, 0, 0, 100)), filename=f"mask-{name}", content_type="image/png")
        _, _, answer = await server.call("POST", "/upload/mask", data=form)
        assert answer == {"name": f"mask-{name}", "subfolder": "comfyclient-tests", "type": "input"}
        query = f"filename=mask-{name}&type=input&subfolder=comfyclient-tests"
        with Image.open(io.BytesIO((await server.call("GET", f"/view?{query}"))[2])) as picture:
            assert picture.mode == "RGBA"
            assert picture.getpixel((0, 0)) == (9, 8, 7, 100)
        for channel, mode, pixel in (("rgb", "RGB", (9, 8, 7)), ("a", "RGBA", (0, 0, 0, 100))):
            _, headers, body = await server.call("GET", f"/view?{query}&channel={channel}")
            assert headers["Content-Type"] == "image/png"
            with Image.open(io.BytesIO(body)) as picture:
                assert (picture.mode, picture.getpixel((0, 0))) == (mode, pixel)

    @pytest.mark.parametrize(("wish", "kind"), [("webp;90", "WEBP"), ("jpeg", "JPEG"), ("png", "WEBP")])
    async def test_previews_are_other_pictures(self, server, wish, kind):
        name = f"{new_id()}.png"
        await server.upload(tiny_png((200, 40, 40), size=(24, 16)), name)
        _, headers, body = await server.call("GET", f"/view?filename={name}&type=input&preview={wish}")
        assert headers["Content-Type"] == f"image/{kind.lower()}"
        with Image.open(io.BytesIO(body)) as picture:
            assert (picture.format, picture.size) == (kind, (24, 16))
            pixel = picture.convert("RGB").getpixel((8, 8))
        assert all(abs(found - wanted) < 12 for found, wanted in zip(pixel, (200, 40, 40), strict=True))

    async def test_files_of_the_user(self, server):
        folder = f"comfyclient-{new_id()}"
        path = f"/userdata/{folder}%2Fa%2Fone.json"
        status, info = await server.post(f"{path}?overwrite=false&full_info=true", {"version": 0.4})
        assert status == 200
        assert info.keys() == {"path", "size", "modified", "created"}
        assert info["path"] == f"{folder}/a/one.json"
        assert isinstance(info["modified"], int)
        assert await server.post(f"{path}?overwrite=false", {}) == (409, b"File already exists")
        assert await server.post(path, {"version": 1}) == (200, f"{folder}/a/one.json")
        status, headers, body = await server.call("GET", path)
        assert (status, body) == (200, {"version": 1})
        assert headers["Content-Disposition"] == "attachment"
        assert await server.get(f"/userdata?dir={folder}") == []
        assert await server.get(f"/userdata?dir={folder}&recurse=true") == ["a/one.json"]
        assert await server.get(f"/userdata?dir={folder}&recurse=true&split=true") == [["a/one.json", "a", "one.json"]]
        (listed,) = await server.get(f"/userdata?dir={folder}&recurse=true&full_info=true")
        assert listed["path"] == "a/one.json"
        tree = await server.get(f"/v2/userdata?path={folder}")
        assert [(entry["path"], entry["type"]) for entry in tree] == [
            (f"{folder}/a", "directory"),
            (f"{folder}/a/one.json", "file"),
        ]
        moved = f"{path}/move/{folder}%2Ftwo.json"
        assert await server.post(moved) == (200, f"{folder}/two.json")
        assert await server.post(moved) == (404, b"")
        assert (await server.call("GET", f"/userdata/{folder}/two.json"))[0] == 404
        assert (await server.call("PUT", path, data=b""))[0] == 405
        assert (await server.call("DELETE", f"/userdata/{folder}%2Ftwo.json"))[0] == 204
        assert (await server.call("DELETE", f"/userdata/{folder}%2Ftwo.json"))[0] == 404

    @pytest.mark.parametrize(
        ("path", "status", "body"),
        [
            ("/userdata", 400, b"Directory not provided"),
            ("/userdata?dir=nope", 404, b"Directory not found"),
            ("/userdata/..%2F..%2Fx", 403, b""),
            ("/userdata/nope", 404, b""),
            ("/v2/userdata?path=nope", 404, b"Requested path not found"),
            ("/v2/userdata?path=../..", 400, b"Invalid path requested"),
        ],
    )
    async def test_files_of_the_user_that_are_not_there(self, server, path, status, body):
        found, _, answer = await server.call("GET", path)
        assert (found, answer) == (status, body)

    async def test_settings(self, server):
        name = f"comfyclient.{new_id()}"
        assert await server.get(f"/settings/{name}") is None
        assert await server.post("/settings", {name: {"a": [1]}}) == (200, b"")
        assert await server.post(f"/settings/{name}-2", "text") == (200, b"")
        settings = await server.get("/settings")
        assert settings[name] == {"a": [1]}
        assert settings[f"{name}-2"] == "text"
        assert (await server.call("POST", "/settings", data=b"x"))[0] == 500


class TestCatalogue:
    async def test_one_definition_and_all(self, server):
        everything = await server.get("/object_info")
        assert len(everything) > 400
        one = await server.get("/object_info/EmptyImage")
        assert one == {"EmptyImage": everything["EmptyImage"]}
        assert one["EmptyImage"]["input"]["required"]["width"] == [
            "INT",
            {"default": 512, "min": 1, "max": 16384, "step": 1},
        ]
        assert one["EmptyImage"]["input_order"] == {"required": ["width", "height", "batch_size", "color"]}
        assert one["EmptyImage"]["output"] == ["IMAGE"]
        assert await server.get("/object_info/NoSuchNode") == {}

    async def test_uploads_are_offered_at_once(self, server):
        name = f"{new_id()}.png"
        await server.upload(tiny_png((1, 1, 1)), name)
        definition = (await server.get("/object_info/LoadImage"))["LoadImage"]
        choices = definition["input"]["required"]["image"][0]
        assert name in choices
        assert choices == sorted(choices)

    async def test_models_and_versions(self, server):
        folders = await server.get("/models")
        assert {"checkpoints", "loras", "vae", "text_encoders"} <= set(folders)
        assert isinstance(await server.get("/models/checkpoints"), list)
        assert (await server.call("GET", "/models/nope"))[0] == 404
        assert isinstance(await server.get("/embeddings"), list)
        stats = await server.get("/system_stats")
        assert stats["system"]["comfyui_version"].count(".") == 2
        assert {"os", "python_version", "argv", "ram_total"} <= stats["system"].keys()
        assert {"name", "type", "index", "vram_total", "vram_free"} <= stats["devices"][0].keys()
        assert (await server.get("/users"))["storage"] == "server"

    @pytest.mark.parametrize("path", ["/api/prompt", "/api/queue", "/api/features", "/api/jobs", "/api/api/jobs"])
    async def test_routes_with_a_prefix(self, server, path):
        assert (await server.call("GET", path))[0] == 200

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/jobs", 404),
            ("GET", "/api/internal/logs", 404),
            ("GET", "/no/such/path", 404),
            ("PUT", "/prompt", 405),
            ("DELETE", "/queue", 405),
            ("HEAD", "/queue", 200),
            ("OPTIONS", "/prompt", 200),
            ("GET", "/api/assets", 503),
            ("GET", "/internal/files/nope", 400),
            ("GET", "/internal/logs/raw", 200),
            ("GET", "/experiment/models/nope", 404),
            ("GET", "/view_metadata/checkpoints", 404),
            ("GET", "/", 200),
        ],
    )
    async def test_statuses(self, server, method, path, status):
        assert (await server.call(method, path))[0] == status

    async def test_pages_of_other_origins_are_kept_out(self, server):
        host = server.url.split("//")[1]
        port = host.split(":")[1]
        for headers, status in (
            ({"Origin": f"http://{host}"}, 200),
            ({"Origin": "http://127.0.0.1"}, 200),
            ({"Origin": "null"}, 200),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "http://127.0.0.1:1"}, 403),
            ({"Origin": f"http://localhost:{port}"}, 403),
            ({"Origin": "http://evil.example", "Host": "comfy.example.com"}, 200),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 200),
        ):
            assert (await server.call("GET", "/queue", headers=headers))[0] == status, headers
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await server.session.ws_connect(f"{server.url}/ws", origin="http://evil.example")
