"""ComfyUI's protocol at its lowest level: the websocket, and what a run says over it.

Run it against a real server with ``COMFYCLIENT_TEST_URL=http://127.0.0.1:8188``. Others may use that server meanwhile:
the tests look at their own prompts only.
"""

import asyncio
import contextlib
import json

import pytest

from . import protocol_support
from .protocol_support import (
    FOLDER,
    PNG,
    chain,
    empty_image,
    is_end,
    kind_of,
    new_id,
    node,
    outline,
    preview,
    save,
    wait_for,
)

server, socket = protocol_support.server, protocol_support.socket  # fixtures


class TestHandshake:
    async def test_status_with_the_id_comes_first(self, server):
        socket = await server.socket("some id", flags=False)
        assert socket.frames[0]["type"] == "status"
        assert socket.frames[0]["data"]["sid"] == "some id"
        assert isinstance(socket.frames[0]["data"]["status"]["exec_info"]["queue_remaining"], int)

    @pytest.mark.parametrize("client_id", [None, ""])
    async def test_without_an_id_the_server_makes_one(self, server, client_id):
        socket = await server.socket(client_id, flags=False, path="/api/ws")
        sid = socket.frames[0]["data"]["sid"]
        assert len(sid) == 32
        assert int(sid, 16) >= 0

    async def test_flags_are_answered_with_the_servers(self, server, socket):
        answer = next(frame for frame in socket.frames if kind_of(frame) == "feature_flags")
        assert answer["data"] == await server.get("/features")
        assert answer["data"]["supports_preview_metadata"] is True
        assert answer["data"]["max_upload_size"] > 0

    @pytest.mark.parametrize("before", ["[]", "not json", "17"])
    async def test_what_is_no_object_does_not_count_as_the_first_message(self, server, before):
        socket = await server.socket(new_id(), flags=False)
        await socket.send(before)
        await socket.send({"type": "feature_flags", "data": {}})
        await wait_for(socket, "feature_flags")

    async def test_another_object_ends_the_handshake(self, server):
        socket = await server.socket(new_id(), flags=False)
        await socket.send({"type": "hello"})
        await socket.send({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        await server.run({"1": empty_image(), "2": node("SaveImageWebsocket", images=["1", 0])}, socket)
        assert "feature_flags" not in socket.types()
        assert 1 in socket.types()  # and previews come without ids
        assert 4 not in socket.types()

    async def test_a_message_over_four_megabytes_closes_the_socket(self, server):
        socket = await server.socket(new_id(), flags=False)
        with contextlib.suppress(ConnectionError):  # the server may hang up before it has read it all
            await socket.ws.send_str("x" * (5 << 20))
        assert await socket.until_closed() in {1009, 1006}

    async def test_a_plain_get_is_no_websocket(self, server):
        status, _, body = await server.call("GET", "/ws")
        assert status == 400
        assert body.startswith(b"No WebSocket UPGRADE hdr")


class TestRunning:
    async def test_every_frame_of_a_run(self, server, socket):
        prompt_id, frames = await server.run({"1": empty_image(), "2": save(prefix="run")}, socket)
        assert outline(frames) == [
            "execution_start",
            "execution_cached",
            ("progress_state", "1", "running", 0.0, 1.0),
            ("executing", "1"),
            ("progress_state", "1", "finished", 1.0, 1.0),
            ("progress_state", "2", "running", 0.0, 1.0),
            ("executing", "2"),
            ("executed", "2"),
            ("progress_state", "2", "finished", 1.0, 1.0),
            "execution_success",
            ("executing", None),
        ]
        assert frames[1]["data"]["nodes"] == []
        assert frames[5]["data"]["nodes"]["1"] == {
            "value": 1.0,
            "max": 1.0,
            "state": "finished",
            "node_id": "1",
            "prompt_id": prompt_id,
            "display_node_id": "1",
            "parent_node_id": None,
            "real_node_id": "1",
        }
        executed = frames[7]["data"]
        assert executed.keys() == {"node", "display_node", "output", "prompt_id"}
        (item,) = executed["output"]["images"]
        assert item["subfolder"] == FOLDER
        assert item["type"] == "output"
        assert item["filename"].startswith("run_")
        assert item["filename"].endswith("_.png")

    async def test_the_queue_is_announced_around_a_run(self, server, socket):
        prompt_id, _ = await server.run({"1": empty_image(), "2": preview()}, socket)
        kinds = socket.types()
        first, last = kinds.index("execution_start"), kinds.index("execution_success")
        assert kinds[:first].count("status") >= 3  # the greeting, put, taken
        end = next(index for index, frame in enumerate(socket.frames) if is_end(frame, prompt_id))
        assert "status" in kinds[last:end]

    async def test_the_record_of_a_run(self, server, socket):
        workflow = {"id": new_id(), "nodes": []}
        prompt = {"1": empty_image(), "2": save() | {"_meta": {"title": "Save it"}}}
        extra = {"extra_pnginfo": {"workflow": workflow}, "own": 1}
        prompt_id, _ = await server.run(prompt, socket, extra_data=extra)
        entry = await server.history(prompt_id)
        assert entry.keys() == {"prompt", "outputs", "status", "meta"}
        number, shown_id, nodes, shown_extra, outputs = entry["prompt"]
        assert isinstance(number, int)
        assert (shown_id, nodes, outputs) == (prompt_id, prompt, ["2"])
        assert shown_extra.pop("create_time") > 1_600_000_000_000
        assert shown_extra == extra | {"client_id": socket.frames[0]["data"]["sid"]}
        assert entry["meta"] == {"2": {"node_id": "2", "display_node": "2", "parent_node": None, "real_node_id": "2"}}
        assert entry["status"]["status_str"] == "success"
        assert entry["status"]["completed"] is True
        events = [event for event, _ in entry["status"]["messages"]]
        assert events == ["execution_start", "execution_cached", "execution_success"]
        job = await server.get(f"/api/jobs/{prompt_id}")
        assert (job["id"], job["status"], job["outputs_count"]) == (prompt_id, "completed", 1)
        assert job["workflow_id"] == workflow["id"]
        assert job["preview_output"] == entry["outputs"]["2"]["images"][0] | {"nodeId": "2", "mediaType": "images"}
        assert job["execution_status"] == entry["status"]
        assert job["workflow"] == {"prompt": nodes, "extra_data": shown_extra | {"create_time": job["create_time"]}}
        assert job["execution_start_time"] <= job["execution_end_time"]

    async def test_the_same_again_comes_from_the_cache(self, server, socket):
        prompt = {"1": empty_image(), "2": save(prefix="again")}
        first, _ = await server.run(prompt, socket)
        second, frames = await server.run(prompt, socket)
        assert outline(frames) == [
            "execution_start",
            "execution_cached",
            ("executed", "2"),
            ("progress_state", "2", "finished", 1, 1),
            "execution_success",
            ("executing", None),
        ]
        assert sorted(frames[1]["data"]["nodes"]) == ["1", "2"]
        assert (await server.history(second))["outputs"] == (await server.history(first))["outputs"]

    async def test_only_what_changed_runs_again(self, server, socket):
        prompt = {"1": empty_image(), "2": save(prefix="one")}
        await server.run(prompt, socket)
        _, frames = await server.run(prompt | {"2": save(prefix="two")}, socket)
        assert frames[1]["data"]["nodes"] == ["1"]
        assert [node_id for kind, node_id, *_ in filter(lambda e: e[0] == "executing", outline(frames))] == ["2", None]

    async def test_equal_nodes_run_once(self, server, socket):
        image = empty_image()
        prompt = {"1": image, "2": preview(), "3": dict(image), "4": preview("3")}
        _, frames = await server.run(prompt, socket)
        executing = [frame["data"]["node"] for frame in frames if frame["type"] == "executing"]
        assert len(executing) == 3  # an image, a preview, the end
        shown = [frame["data"]["output"] for frame in frames if frame["type"] == "executed"]
        assert shown.count(None) == 1  # the image that was there already: a node that shows nothing
        first, second = filter(None, shown)
        assert first == second

    async def test_after_free_nothing_is_cached(self, server, socket):
        prompt = {"1": empty_image(), "2": preview()}
        await server.run(prompt, socket)
        status, _ = await server.post("/free", {"unload_models": True, "free_memory": True})
        assert status == 200
        await server.run({"1": empty_image(), "2": preview()}, socket)  # the worker looks at the wish in between
        _, frames = await server.run(prompt, socket)
        assert frames[1]["data"]["nodes"] == []

    async def test_a_node_in_the_middle_that_shows_something(self, server, socket):
        region = node("PrimitiveBoundingBox", x=0, y=0, width=16, height=16)
        cropped = node("ImageCropV2", image=["1", 0], crop_region=["3", 0])
        prompt = {"1": empty_image(), "3": region, "4": cropped, "2": preview("4")}
        _, frames = await server.run(prompt, socket)
        assert [frame["data"]["node"] for frame in frames if frame["type"] == "executed"] == ["4", "2"]
        prompt_id, frames = await server.run(prompt, socket)
        assert [frame["data"]["node"] for frame in frames if frame["type"] == "executed"] == ["2", "4"]
        assert (await server.history(prompt_id))["outputs"]["4"]["animated"] == [False]

    async def test_a_lazy_node_runs_only_the_branch_it_needs(self, server, socket):
        prompt = {
            "1": empty_image(),
            "2": empty_image(),
            "3": node("PrimitiveBoolean", value=True),
            "4": node("ComfySwitchNode", switch=["3", 0], on_false=["1", 0], on_true=["2", 0]),
            "5": preview("4"),
        }
        _, frames = await server.run(prompt, socket)
        executing = [frame["data"]["node"] for frame in frames if frame["type"] == "executing"]
        assert executing == ["3", "4", "2", "4", "5", None]

    async def test_previews_carry_ids_for_those_who_ask(self, server, socket):
        prompt = {"1": empty_image(width=16, height=16, batch_size=2), "2": node("SaveImageWebsocket", images=["1", 0])}
        prompt_id, frames = await server.run(prompt, socket)
        own = [frame for frame in socket.frames if isinstance(frame, bytes) or frame in frames]
        last = [entry if isinstance(entry, int | str) else entry[:2] for entry in outline(own)][-9:]
        assert last == [
            ("progress_state", "2"),
            4,
            ("progress", "2"),
            ("progress_state", "2"),
            4,
            ("progress", "2"),
            ("progress_state", "2"),
            "execution_success",
            ("executing", None),
        ]
        frame = next(frame for frame in socket.frames if isinstance(frame, bytes))
        length = int.from_bytes(frame[4:8])
        assert json.loads(frame[8 : 8 + length]) == {
            "node_id": "2",
            "prompt_id": prompt_id,
            "display_node_id": "2",
            "parent_node_id": None,
            "real_node_id": "2",
            "image_type": "image/png",
        }
        assert frame[8 + length :].startswith(PNG)
        assert [frame["data"]["value"] for frame in frames if frame["type"] == "progress"] == [0, 1]
        assert (await server.history(prompt_id))["outputs"] == {}

    async def test_previews_without_ids_come_behind_the_progress(self, server):
        socket = await server.socket(new_id(), flags=False)
        await socket.send({"type": "feature_flags", "data": {"supports_preview_metadata": "yes"}})
        await wait_for(socket, "feature_flags")
        prompt = {"1": empty_image(width=16, height=16), "2": node("SaveImageWebsocket", images=["1", 0])}
        await server.run(prompt, socket)
        kinds = [kind for kind in socket.types() if kind != "status"]
        assert kinds[kinds.index("progress") : kinds.index("progress") + 2] == ["progress", 1]
        frame = next(frame for frame in socket.frames if isinstance(frame, bytes))
        assert int.from_bytes(frame[4:8]) == 2
        assert frame[8:].startswith(PNG)


BROKEN = {"string": "x", "regex_pattern": "(", "replace": ""}


class TestFailing:
    async def test_a_node_that_raises(self, server, socket):
        prompt = {"1": node("RegexReplace", **BROKEN), "2": node("PreviewAny", source=["1", 0])}
        prompt_id, frames = await server.run(prompt, socket)
        assert outline(frames)[2:] == [
            ("progress_state", "1", "running", 0.0, 1.0),
            ("executing", "1"),
            "execution_error",
            ("executing", None),
        ]
        error = frames[4]["data"]
        assert error.keys() == {
            "prompt_id",
            "node_id",
            "node_type",
            "executed",
            "exception_message",
            "exception_type",
            "traceback",
            "current_inputs",
            "current_outputs",
            "timestamp",
        }
        assert (error["node_id"], error["node_type"], error["executed"]) == ("1", "RegexReplace", [])
        assert error["exception_message"] == "missing ), unterminated subpattern at position 0\n"
        assert error["exception_type"].startswith("re.")
        assert all(isinstance(line, str) for line in error["traceback"])
        assert error["current_inputs"] == {name: [value] for name, value in BROKEN.items()}
        assert sorted(error["current_outputs"]) == ["1", "2"]
        entry = await server.history(prompt_id)
        assert entry["status"]["status_str"] == "error"
        assert entry["status"]["completed"] is False
        assert entry["status"]["messages"][-1] == ["execution_error", error]
        job = await server.get(f"/api/jobs/{prompt_id}")
        assert job["status"] == "failed"
        assert job["execution_error"] == error

    async def test_what_was_done_before_is_kept(self, server, socket):
        prompt = {
            "1": empty_image(),
            "2": preview(),
            "3": node("PrimitiveString", value="x"),
            "4": node("StringConcatenate", string_a=["3", 0], string_b="", delimiter=""),
            "5": node("RegexReplace", **BROKEN | {"string": ["4", 0]}),
            "6": node("PreviewAny", source=["5", 0]),
        }
        prompt_id, frames = await server.run(prompt, socket)
        entry = await server.history(prompt_id)
        assert list(entry["outputs"]) == ["2"]
        error = entry["status"]["messages"][-1][1]
        assert sorted(error["executed"]) == ["1", "2", "3", "4"]
        state = [frame for frame in frames if frame["type"] == "progress_state"][-1]
        assert state["data"]["nodes"]["5"]["state"] == "running"  # and it stays so


class TestWhoHearsWhat:
    async def test_owner_and_bystander(self, server, socket):
        other = await server.socket(new_id(), flags=False)
        prompt_id, _ = await server.run({"1": empty_image(), "2": preview()}, socket)
        mine, _ = await server.run({"1": empty_image(), "2": preview()}, other)
        assert other.of(prompt_id) == []
        assert socket.of(mine) == []
        assert "status" in other.types()

    async def test_without_a_client_only_progress_is_heard(self, server, socket):
        prompt = {"1": empty_image(), "2": preview(), "3": node("SaveImageWebsocket", images=["1", 0])}
        prompt_id = await server.submit(prompt)
        await server.history(prompt_id)
        await server.run({"1": empty_image(), "2": preview()}, socket)  # behind it in the line
        assert {frame["type"] for frame in socket.of(prompt_id)} == {"progress_state", "progress"}
        assert 1 in socket.types()
        assert 4 not in socket.types()

    async def test_text_of_nodes_goes_to_everybody(self, server, socket):
        other = await server.socket(new_id(), flags=False)
        prompt = {
            "1": empty_image(),
            "id": node("GetImageSize", image=["1", 0]),
            "4": node("PreviewAny", source=["id", 1]),
        }
        prompt_id, _ = await server.run(prompt, socket)
        expected = b"\0\0\0\3\0\0\0\2idwidth: 64, height: 48\n batch size: 1"
        await other.until(lambda frames: expected in frames)
        assert expected in socket.frames
        assert (await server.history(prompt_id))["outputs"] == {"4": {"text": ["48"]}}

    async def test_the_later_socket_with_an_id_takes_over_and_goes_deaf_with_the_first(self, server):
        sid = new_id()
        first = await server.socket(sid)
        second = await server.socket(sid, flags=False)
        prompt_id, _ = await server.run({"1": empty_image(), "2": preview()}, second)
        assert first.of(prompt_id) == []
        await first.close()
        heard = len(second.frames)
        prompt_id = await server.submit({"1": empty_image(), "2": preview()}, sid)
        await server.history(prompt_id)
        third = await server.socket(sid, flags=False)
        await server.run({"1": empty_image(), "2": preview()}, third)
        assert len(second.frames) == heard

    async def test_who_comes_back_hears_which_node_runs(self, server):
        sid = new_id()
        first = await server.socket(sid)
        prompt_id = await server.submit(chain(), sid)
        await wait_for(first, "executing", node="10", prompt_id=prompt_id)
        await first.close()
        second = await server.socket(sid)
        greeting = [frame for frame in second.frames if kind_of(frame) != "feature_flags"][:2]
        assert greeting[0]["data"]["sid"] == sid
        assert greeting[1]["type"] == "executing"
        assert greeting[1]["data"].keys() == {"node"}
        await server.post("/interrupt", {"prompt_id": prompt_id})
        await second.until_done(prompt_id)

    async def test_the_log_is_sent_to_followers(self, server, socket):
        sid = socket.frames[0]["data"]["sid"]
        path = "/internal/logs/subscribe"
        assert (await server.call("PATCH", path, json={"clientId": sid, "enabled": True}))[0] == 200
        await server.run({"1": empty_image(), "2": preview()}, socket)
        await wait_for(socket, "logs")
        entry = next(frame for frame in socket.frames if kind_of(frame) == "logs")["data"]["entries"][0]
        assert entry.keys() == {"t", "m"}
        assert entry["m"].endswith("got prompt\n")
        assert (await server.call("PATCH", path, json={"clientId": sid, "enabled": False}))[0] == 200
        assert (await server.call("PATCH", path, json={"clientId": sid}))[0] == 500


async def test_many_prompts_at_once(server, socket):
    """Everyone gets its own end, in the order of the queue."""
    sid = socket.frames[0]["data"]["sid"]
    ids = await asyncio.gather(*(server.submit({"1": empty_image(), "2": preview()}, sid) for _ in range(20)))
    for prompt_id in ids:
        await socket.until_done(prompt_id)
    entries = [await server.history(prompt_id) for prompt_id in ids]
    by_number = sorted(entries, key=lambda entry: entry["prompt"][0])
    ended = [entry["status"]["messages"][-1][1]["timestamp"] for entry in by_number]
    assert ended == sorted(ended)
