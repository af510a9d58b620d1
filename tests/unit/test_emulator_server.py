"""The emulator as a server: its options, its limits, and the hazards that it shares with ComfyUI."""

import asyncio
import contextlib
import heapq
import io
import json
import logging
import os
import subprocess
import sys
import uuid
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from comfyclient.emulator import Emulator, pytest_plugin
from comfyclient.emulator.background import run_in_background
from comfyclient.emulator.folders import Folders, split_annotation
from comfyclient.emulator.graph import Order, signatures

from .emulator_client import emulated, node, picture, txt2img

comfy_emulator = pytest_plugin.comfy_emulator  # the fixture, also where the package is not installed


@pytest.fixture
async def comfy():
    async with emulated() as client:
        yield client


class TestHonesty:
    async def test_it_says_that_it_is_no_comfyui(self, comfy):
        stats = await comfy.get("/system_stats")
        assert stats["system"]["comfyclient_emulator"] is True
        assert stats["system"]["argv"][:2] == ["comfyclient", "emulator"]
        status, page = await comfy.call("GET", "/")
        assert status == 200
        assert b"simulated" in page

    async def test_it_says_so_in_its_log(self, caplog):
        with caplog.at_level(logging.INFO, logger="comfyclient.emulator"):
            async with emulated() as comfy:
                first = (await comfy.get("/internal/logs/raw"))["entries"][0]["m"]
        assert "pictures are simulated" in first
        assert "pictures are simulated" in caplog.messages[0]


class TestOptions:
    async def test_a_folder_of_its_own_is_removed(self):
        async with Emulator() as emulator:
            base = emulator.folders.base
            assert (emulator.folders.input / "example.png").is_file()
        assert not base.exists()

    async def test_a_folder_given_is_kept(self, tmp_path):
        async with emulated(base_dir=tmp_path) as comfy:
            await comfy.run(picture())
            await comfy.run({"1": picture()["1"], "2": node("PreviewImage", images=["1", 0])})
            assert len(list((tmp_path / "temp").iterdir())) == 1
        async with emulated(base_dir=tmp_path) as comfy:
            assert list((tmp_path / "temp").iterdir()) == []
            outputs = (await comfy.run(picture()))["outputs"]
        assert outputs["2"]["images"][0]["filename"] == "x_00002_.png"
        assert (tmp_path / "output" / "x_00001_.png").is_file()

    async def test_a_port_that_is_taken(self):
        async with Emulator() as first:
            with pytest.raises(OSError, match="address already in use"):
                await Emulator(port=first.port).start()

    async def test_models_are_offered_and_any_other_taken(self):
        async with emulated(models={"checkpoints": ["mine.safetensors"]}) as comfy:
            assert await comfy.get("/models/checkpoints") == ["mine.safetensors"]
            definition = (await comfy.get("/object_info/CheckpointLoaderSimple"))["CheckpointLoaderSimple"]
            assert definition["input"]["required"]["ckpt_name"][0] == ["mine.safetensors"]
            assert (await comfy.run(txt2img()))["status"]["completed"]

    async def test_strict_models_are_the_only_ones(self):
        async with emulated(models={"checkpoints": ["mine.safetensors"]}, strict_models=True) as comfy:
            status, answer = await comfy.call("POST", "/prompt", json={"prompt": txt2img()})
            assert status == 400
            (error,) = answer["node_errors"]["4"]["errors"]
            assert error["details"] == "ckpt_name: 'anything.safetensors' not in ['mine.safetensors']"
            prompt = txt2img() | {"4": node("CheckpointLoaderSimple", ckpt_name="mine.safetensors")}
            assert (await comfy.run(prompt))["status"]["completed"]
        async with emulated(strict_models=True) as comfy:
            assert await comfy.get("/models/checkpoints") == []

    async def test_a_choice_that_is_no_model_is_checked_all_the_same(self, comfy):
        prompt = txt2img()
        prompt["3"]["inputs"]["scheduler"] = "nope"
        _, answer = await comfy.call("POST", "/prompt", json={"prompt": prompt})
        assert [error["type"] for error in answer["node_errors"]["3"]["errors"]] == ["value_not_in_list"]

    async def test_bodies_have_a_limit(self):
        async with emulated(max_upload_size=100_000) as comfy:
            assert (await comfy.get("/features"))["max_upload_size"] == 100_000
            form = aiohttp.FormData()
            form.add_field("image", bytes(200_000), filename="x.png")
            for path, data in (("/upload/image", form), ("/prompt", bytes(200_000)), ("/userdata/x", bytes(200_000))):
                status, text = await comfy.call("POST", path, data=data)
                assert status == 413, path
                assert text == b"Maximum request body size 100000 exceeded."

    async def test_the_history_keeps_one_more_than_its_limit(self):
        async with emulated(max_history=3) as comfy:
            ids = [await comfy.submit(picture(number)) for number in range(6)]
            await comfy.ended(ids[-1])
            assert list(await comfy.get("/history")) == ids[-4:]

    async def test_users(self):
        async with emulated(multi_user=True) as comfy:
            assert await comfy.get("/users") == {"storage": "server", "users": {}}
            assert (await comfy.call("GET", "/settings"))[0] == 401
            assert (await comfy.call("GET", "/userdata?dir=workflows"))[0] == 500
            assert (await comfy.call("GET", "/v2/userdata")) == (403, b"Invalid user specified in request")
            status, user = await comfy.call("POST", "/users", json={"username": "Ada Lovelace!"})
            assert (status, user[:14]) == (200, "Ada-Lovelace-_")
            for name, error in (
                ("Ada Lovelace!", "Duplicate username."),
                ("  ", "username not provided"),
                ("__sys", "System User prefix not allowed"),
            ):
                assert await comfy.call("POST", "/users", json={"username": name}) == (400, {"error": error})
            hers = {"headers": {"Comfy-User": user}}
            assert (await comfy.call("POST", "/settings", json={"k": 1}, **hers))[0] == 200
            assert await comfy.call("GET", "/settings", **hers) == (200, {"k": 1})
            await comfy.call("POST", "/userdata/workflows%2Fa.json", data=b"{}", **hers)
            assert await comfy.call("GET", "/userdata?dir=workflows", **hers) == (200, ["a.json"])
            assert (await comfy.call("GET", "/queue", headers={"Comfy-User": "nobody"}))[0] == 200

    async def test_a_seed_makes_ids_and_names_repeat(self):
        async def names():
            async with emulated(seed=7) as comfy:
                prompt_id = await comfy.submit({"1": picture()["1"], "2": node("PreviewImage", images=["1", 0])})
                return prompt_id, (await comfy.ended(prompt_id))["outputs"]["2"]["images"][0]["filename"]

        assert await names() == await names()

    async def test_secrets_of_paid_nodes_are_not_shown(self, comfy):
        extra = {"auth_token_comfy_org": "secret-1", "api_key_comfy_org": "secret-2", "own": 1}
        hold = comfy.emulator.faults.hold()
        prompt_id = await comfy.submit(picture(), extra_data=extra)
        await hold.reached()
        shown = json.dumps([await comfy.get("/queue"), await comfy.get("/api/jobs")])
        hold.release()
        shown += json.dumps([await comfy.ended(prompt_id), await comfy.get(f"/api/jobs/{prompt_id}")])
        assert "secret" not in shown
        assert '"own": 1' in shown


class TestHazards:
    """What makes a real server stumble, from protocol.md section 9."""

    async def test_a_node_without_inputs_that_nothing_needs_kills_the_worker(self, comfy):
        prompt_id = await comfy.submit(picture() | {"9": {"class_type": "EmptyImage"}})
        waiting = await comfy.submit(picture(2))
        queue = await comfy.get("/queue")
        assert [item[1] for item in queue["queue_running"]] == [prompt_id]
        assert [item[1] for item in queue["queue_pending"]] == [waiting]
        log = await comfy.get("/internal/logs")
        assert "the worker died" in log
        comfy.emulator.faults.restart()
        assert await comfy.get("/queue") == {"queue_running": [], "queue_pending": []}
        assert (await comfy.run(picture(3)))["status"]["completed"]

    async def test_a_client_id_that_is_no_text_brings_the_server_down(self, comfy):
        await comfy.run(picture())
        async with comfy.socket("a") as socket:
            await comfy.submit(picture(2), client_id=["a"])
            await socket.until_closed()
        assert await comfy.get("/history") == {}
        assert (await comfy.run(picture(3)))["status"]["completed"]

    async def test_the_same_number_and_id_twice(self, comfy):
        hold = comfy.emulator.faults.hold()
        await comfy.submit(picture())
        await hold.reached()
        body = {"prompt": picture(2), "number": 5, "prompt_id": str(uuid.uuid4())}
        assert (await comfy.call("POST", "/prompt", json=body))[0] == 200
        assert (await comfy.call("POST", "/prompt", json=body | {"prompt": picture(3)}))[0] == 500
        assert len((await comfy.get("/queue"))["queue_pending"]) == 2
        await comfy.call("POST", "/queue", json={"delete": [body["prompt_id"]]})
        assert len((await comfy.get("/queue"))["queue_pending"]) == 1
        hold.release()
        assert (await comfy.ended(body["prompt_id"]))["status"]["completed"]

    async def test_an_id_used_again_overwrites_the_record(self, comfy):
        prompt_id = str(uuid.uuid4())
        first = await comfy.run(picture(), prompt_id=prompt_id)
        hold = comfy.emulator.faults.hold()
        await comfy.submit(picture(2), prompt_id=prompt_id)
        await hold.reached()
        assert (await comfy.get(f"/history/{prompt_id}"))[prompt_id] == first
        hold.release()
        await comfy.run(picture(3))
        assert (await comfy.get(f"/history/{prompt_id}"))[prompt_id]["prompt"][2] == picture(2)

    @pytest.mark.parametrize("extra", [{"extra_pnginfo": None}, {"extra_pnginfo": {"workflow": None}}])
    async def test_a_null_where_the_workflow_belongs_spoils_the_list_of_jobs(self, comfy, extra):
        entry = await comfy.run(picture(), extra_data=extra)
        assert entry["status"]["completed"]
        assert (await comfy.call("GET", "/api/jobs"))[0] == 500
        await comfy.call("POST", "/history", json={"clear": True})
        assert (await comfy.call("GET", "/api/jobs"))[0] == 200

    async def test_a_fingerprint_sent_along_freezes_the_file(self, comfy):
        prompt = {
            "1": node("LoadImage", image="example.png"),
            "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
        }
        entry = await comfy.run(prompt)
        with Image.open(io.BytesIO(await comfy.bytes_of(entry["outputs"]["2"]["images"][0]))) as image:
            leaked = json.loads(image.text["prompt"])
        assert leaked["1"]["is_changed"]
        (comfy.emulator.folders.input / "example.png").write_bytes(b"another")
        again = await comfy.run(leaked)
        assert again["outputs"] == entry["outputs"]  # from the cache: the old picture
        assert (await comfy.run(prompt))["status"]["status_str"] == "error"  # and this one looks at the file

    async def test_deleting_the_only_prompt_that_waits_is_announced_twice(self, comfy):
        hold = comfy.emulator.faults.hold()
        async with comfy.socket("a") as socket:
            await comfy.submit(picture(), client_id="a")
            await hold.reached()
            waiting = await comfy.submit(picture(2))
            await socket.until("status", status={"exec_info": {"queue_remaining": 2}})
            before = socket.types().count("status")
            await comfy.call("POST", "/queue", json={"delete": [waiting]})
            await comfy.call("POST", "/queue", json={"delete": ["nope"]})
            hold.release()
            await socket.until("execution_success")
        between = socket.types()[: socket.types().index("executed")]
        assert between.count("status") == before + 2

    async def test_a_socket_that_does_not_read_holds_up_the_others(self, comfy):
        buffer = io.BytesIO()
        Image.frombytes("RGB", (1200, 1200), os.urandom(1200 * 1200 * 3)).save(buffer, "PNG", compress_level=1)
        (comfy.emulator.folders.input / "noise.png").write_bytes(buffer.getvalue())
        big = {"1": node("LoadImage", image="noise.png"), "2": node("SaveImageWebsocket", images=["1", 0])}
        reader, writer = await asyncio.open_connection("127.0.0.1", comfy.emulator.port, limit=1024)
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        writer.write(
            f"GET /ws?clientId=stalled HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        async with comfy.socket("me") as socket:
            sent = 0
            while comfy.emulator.core.sockets._said.empty():  # until the publisher is stuck
                await comfy.run(big)
                sent += 1
            assert sent < 20
            prompt_id = await comfy.submit(picture(), client_id="me")
            assert (await comfy.ended(prompt_id))["status"]["completed"]
            assert not any(isinstance(f, dict) and f["data"].get("prompt_id") == prompt_id for f in socket.frames)
            writer.transport.abort()
            await socket.until_done(prompt_id)
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


class TestBackground:
    def test_the_fixture_gives_a_running_emulator(self, comfy_emulator):
        with run_in_background() as other:
            assert other.url != comfy_emulator.url

        async def ask():
            async with aiohttp.ClientSession() as session, session.get(f"{comfy_emulator.url}/prompt") as response:
                return await response.json()

        assert asyncio.run(ask()) == {"exec_info": {"queue_remaining": 0}}
        assert comfy_emulator.faults is comfy_emulator.emulator.faults

    async def test_the_fixture_in_a_test_with_a_loop(self, comfy_emulator):
        url, body = f"{comfy_emulator.url}/prompt", {"prompt": picture()}
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            assert response.status == 200

    def test_trouble_at_the_start_is_raised_here(self, comfy_emulator):
        with (
            pytest.raises(OSError, match="address already in use"),
            run_in_background(Emulator(port=comfy_emulator.emulator.port)),
        ):
            pass

    @pytest.mark.parametrize("module", ["comfyclient.emulator", "comfyclient.emulator.pytest_plugin"])
    def test_the_plugin_imports_nothing_heavy(self, module):
        code = f"import sys, {module}; print([name for name in ('aiohttp', 'yarl', 'asyncio') if name in sys.modules])"
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
        loaded = set(json.loads(done.stdout.replace("'", '"')))
        assert not loaded & {"aiohttp", "yarl"}

    def test_an_emulator_that_does_not_run_has_no_core(self):
        with pytest.raises(RuntimeError, match="not running"):
            Emulator().core  # noqa: B018


class TestFolders:
    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("x.png", ("x.png", None)),
            ("x.png [temp]", ("x.png", "temp")),
            ("a/x.png [output]", ("a/x.png", "output")),
            ("x.png[input]", ("x.pn", "input")),
            ("x [other]", ("x [other]", None)),
        ],
    )
    def test_annotations(self, name, found):
        assert split_annotation(name) == found

    def test_counters_follow_the_largest_there_is(self, tmp_path):
        folders = Folders(tmp_path)
        folders.create()
        for name in ("x_00001_.png", "x_00007.flac", "x_y_00009_.png", "xx_00020_.png", "x_0003a_.png", "x_.png"):
            (folders.output / name).touch()
        assert folders.save_place("x").counter == 8
        assert folders.save_place("x_y").counter == 10
        assert folders.save_place("sub/x").counter == 1
        assert folders.save_place("sub/x").subfolder == "sub"

    @pytest.mark.parametrize("prefix", ["../x", "/abs/x", "a/../../x"])
    def test_no_prefix_leads_out(self, tmp_path, prefix):
        folders = Folders(tmp_path)
        folders.create()
        with pytest.raises(ValueError, match="not allowed"):
            folders.save_place(prefix)

    @pytest.mark.parametrize("name", ["../x", "/etc/passwd", "../output/x"])
    def test_no_input_leads_out(self, tmp_path, name):
        folders = Folders(tmp_path)
        folders.create()
        with pytest.raises(ValueError, match="Invalid file path"):
            folders.annotated(name)


class TestGraph:
    def order(self, prompt, outputs, lazy=()):
        return Order(
            prompt,
            is_output=lambda n: n in outputs,
            is_lazy=lambda n, name: (n, name) in lazy,
            is_cached=lambda n: False,
        )

    def run(self, order):
        found = []
        while order:
            found.append(order.pick())
            order.complete(found[-1])
        return found

    def test_outputs_first_then_what_feeds_them(self):
        prompt = {
            "1": node("A"),
            "2": node("A"),
            "3": node("B", a=["1", 0], b=["2", 0]),
            "4": node("Out", x=["3", 0]),
            "5": node("A"),
            "6": node("Out", x=["5", 0]),
        }
        order = self.order(prompt, {"4", "6"})
        order.add("4")
        order.add("6")
        assert self.run(order) == ["5", "6", "2", "1", "3", "4"]

    def test_ten_thousand_in_a_row(self):
        prompt = {"0": node("A")} | {str(n): node("A", x=[str(n - 1), 0]) for n in range(1, 10_000)}
        order = self.order(prompt, {"9999"})
        order.add("9999")
        assert self.run(order) == [str(n) for n in range(10_000)]
        assert len(set(signatures(prompt, {}, lambda _: False).values())) == 10_000

    def test_signatures_tell_equal_nodes(self):
        prompt = {
            "1": node("A", v=1),
            "2": node("A", v=1),
            "3": node("A", v=2),
            "4": node("B", x=["1", 0]),
            "5": node("B", x=["2", 0]),
            "6": node("B", x=["1", 1]),
            "7": node("B", x=["gone", 0]),
            "8": node("C", x=["9", 0]),
            "9": node("C", x=["8", 0]),
        }
        found = signatures(prompt, {}, lambda _: False)
        assert found["1"] == found["2"] != found["3"]
        assert found["4"] == found["5"] != found["6"]
        assert found.keys() == prompt.keys()
        assert signatures(prompt, {}, lambda _: False)["7"] != found["7"]  # nothing equals a link to nowhere
        assert signatures(prompt, {"1": float("nan")}, lambda _: False)["1"] != found["1"]
        assert signatures(prompt, {}, lambda name: name == "A")["1"] != signatures(prompt, {}, lambda _: True)["2"]


async def test_ten_thousand_nodes(comfy):
    prompt = {"0": picture()["1"]} | {str(n): node("ImageInvert", image=[str(n - 1), 0]) for n in range(1, 10_000)}
    prompt["end"] = node("PreviewImage", images=["9999", 0])
    async with comfy.socket("me") as socket:
        prompt_id = await comfy.submit(prompt, client_id="me")
        assert (await comfy.ended(prompt_id))["status"]["completed"]
        await socket.until_done(prompt_id)


async def test_many_prompts(comfy):
    ids = [await comfy.submit(picture(number)) for number in range(300)]
    await comfy.ended(ids[-1])
    history = await comfy.get("/history")
    assert list(history) == ids
    names = [entry["outputs"]["2"]["images"][0]["filename"] for entry in history.values()]
    assert names == [f"x_{number:05}_.png" for number in range(1, 301)]


async def test_the_pending_list_is_the_heap(comfy):
    hold = comfy.emulator.faults.hold()
    await comfy.submit(picture())
    await hold.reached()
    numbers = [9, 3, 7, -1, 8, 2]
    for number in numbers:
        await comfy.submit(picture(), number=number)
    heap = []
    for number in numbers:
        heapq.heappush(heap, float(number))
    queue = await comfy.get("/queue")
    assert [item[0] for item in queue["queue_pending"]] == heap
    assert heap != sorted(heap)
