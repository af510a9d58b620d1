"""Where workflows come from: the request itself, the instance, the server's folder, an upload; and nowhere else."""

import asyncio
import base64
import json
import os

import pytest

from comfyclient.api.settings import Limits

from ..contract.prompts import image, picture, save  # noqa: TID252
from .rig import SECONDS, ended, new_session, no, noise, ok, queue, save_workflow, sent_prompts, serving

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
UPLOADED = {"Content-Type": "application/octet-stream"}


def marked(width):
    """A prompt that can be known again by the width of its picture."""
    return {"1": image(width=width, colour=1), "2": save()}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "workflows"
    (place / "deep" / "er").mkdir(parents=True)
    (place / "mine.json").write_text(json.dumps(marked(11)))
    (place / "both.json").write_text(json.dumps(marked(12)))
    (place / "deep" / "er" / "nested.json").write_text(json.dumps(marked(13)))
    (place / "workflows").mkdir()
    (place / "workflows" / "twice.json").write_text(json.dumps(marked(14)))
    (place / "broken.json").write_text("{")
    (place / "note.txt").write_text("{}")
    return place


async def width_of(http, server_url, session, **order):
    """The width of what was queued."""
    [job] = ok(await http.post(f"{session}/jobs", json=order), 201)["jobs"]
    assert (await ended(http, job["id"]))["state"] == "succeeded"
    [prompt] = (await sent_prompts(server_url, [job["id"]])).values()
    return prompt["1"]["inputs"]["width"]


async def test_by_path_on_the_instance_first_then_in_the_servers_folder(emulator, folder):
    await save_workflow(emulator.url, "both.json", marked(21))
    await save_workflow(emulator.url, "a/b c/fünf: 100%.json", marked(22))
    await save_workflow(emulator.url, "workflows/odd.json", marked(23))
    async with serving(workflows=folder) as served, served.client() as http:
        session = await new_session(http, emulator.url)
        expected = {
            "both": 21, "workflows/both.json": 21, "workflows/both": 21,
            "a/b c/fünf: 100%": 22, "workflows/a/b c/fünf: 100%.json": 22,
            "workflows/odd": 23, "workflows/workflows/odd.json": 23,
            "mine": 11, "mine.json": 11, "workflows/mine.json": 11,
            "deep/er/nested": 13, "workflows/deep/er/nested.json": 13, "workflows/twice": 14,
        }  # fmt: skip
        for path, width in expected.items():
            assert await width_of(http, emulator.url, session, workflow_path=path) == width, path
        listed = ok(await http.get(f"{session}/workflows"))["workflows"]
        assert [(one["path"], one["where"]) for one in listed] == [
            ("a/b c/fünf: 100%.json", "instance"), ("both.json", "instance"), ("workflows/odd.json", "instance"),
            ("both.json", "server"), ("broken.json", "server"), ("mine.json", "server"),
            ("deep/er/nested.json", "server"), ("workflows/twice.json", "server"),
        ]  # fmt: skip
        answer = await http.post(f"{session}/jobs", json={"workflow_path": "broken"})
        no(answer, 422, "workflow_unreadable")
        ok(await http.post("/session/start", json={"credentials": {"url": emulator.url, "workflow_path": "mine"}}))
        assert ok(await http.get("/workflows"))["workflows"] == listed


@pytest.mark.parametrize("steps", [True, False], ids=["in steps", "by path, as on Windows"])
async def test_nothing_but_plain_files_of_the_folder_is_read_and_all_else_looks_the_same(
    emulator, folder, tmp_path, monkeypatch, steps
):
    """Attack 63: no content, no existence, no waiting."""
    if not steps:
        monkeypatch.setattr("os.supports_dir_fd", set())
    (tmp_path / "outside.json").write_text(json.dumps(marked(1)))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "in.json").write_text(json.dumps(marked(1)))
    (folder / ".hidden.json").write_text(json.dumps(marked(1)))
    (folder / "link.json").symlink_to(tmp_path / "outside.json")
    (folder / "inner.json").symlink_to(folder / "mine.json")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "folder.json").mkdir()
    (folder / "zero.json").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.json")
    with (folder / "huge.json").open("wb") as huge:
        huge.truncate(10 * 2**30)
    (folder / "locked.json").symlink_to("/proc/self/environ")
    paths = [
        "../../etc/passwd", "../outside", "../outside.json", "workflows/../../outside", "deep/../../outside",
        "deep/../mine", "./mine", "deep//er/nested", "/etc/passwd", "/dev/zero", str(tmp_path / "outside.json"),
        str(folder / "mine.json"), "~/x", "link", "inner", "linked/in", "folder", "zero", "pipe", "huge", "locked",
        ".hidden", "\\\\host\\share\\x", "//host/share/x", "C:\\x", "C:/x", "file:///etc/passwd", "mine.json\0",
        "mine\0.json", "mine.json/", "mine.json:stream", "mine ", " mine", "", " ", ".", "..", "/", "workflows/",
        "%2e%2e/outside", "deep\\er\\nested", "note.txt", "x" * 1000, "a/" * 500, "\ud800", "\u202emine",
    ]  # fmt: skip
    async with serving(workflows=folder) as served, served.client() as http:
        session = await new_session(http, emulator.url)
        ok(await http.post("/session/start", json={"credentials": {"url": emulator.url}}))
        ok(await http.post("/workflow/open", json={"workflow_path": "deep/er/nested"}))
        missing = (await http.post(f"{session}/jobs", json={"workflow_path": "no-such-workflow"})).json()
        assert missing["code"] == "not_found"
        async with asyncio.timeout(SECONDS):
            for path in paths:
                body = json.dumps({"workflow_path": path})
                headers = {"Content-Type": "application/json"}
                for call in (f"{session}/jobs", "/workflow/open"):
                    answer = await http.post(call, content=body, headers=headers)
                    if path in {"", "\ud800"}:
                        assert answer.status_code in {404, 422}, path
                        continue
                    assert (answer.status_code, answer.json()) == (404, missing), path
        listed = {one["path"] for one in ok(await http.get(f"{session}/workflows"))["workflows"]}
        assert listed.isdisjoint(
            {".hidden.json", "link.json", "inner.json", "linked/in.json", "zero.json", "pipe.json"}
        )
    assert emulator.core.number == 0


async def test_inline_uploaded_and_from_a_picture(server_url):
    async with serving() as served, served.client() as http:
        session = await new_session(http, server_url)
        [job] = await queue(http, session, noise((5, "fixed")))
        assert (await ended(http, job["id"]))["state"] == "succeeded"
        [found] = ok(await http.get(f"/jobs/{job['id']}/outputs"))["outputs"]
        drawn = (await http.get(found["url"])).content
        for data, kind, form in (
            (drawn, "image/png", "ui"),
            (json.dumps(noise((5, "fixed"))).encode(), "application/json", "ui"),
            (json.dumps(picture().nodes).encode(), "application/octet-stream", "api"),
        ):
            answer = await http.post(
                f"{session}/workflows", params={"name": "given"}, content=data, headers={"Content-Type": kind}
            )
            given = ok(answer, 201)
            assert (given["format"], given["name"]) == (form, "given")
            [job] = ok(await http.post(f"{session}/jobs", json={"workflow_id": given["workflow_id"]}), 201)["jobs"]
            assert job["workflow"] == "given"
            assert (await ended(http, job["id"]))["state"] == "succeeded"
        for data, kind in ((PNG, "image/png"), (b"", "application/octet-stream"), (b"no workflow", "text/csv")):
            answer = await http.post(f"{session}/workflows", content=data, headers={"Content-Type": kind})
            no(answer, 422, "workflow_unreadable")
        two = {"workflow": picture().nodes, "workflow_id": given["workflow_id"]}
        no(await http.post(f"{session}/jobs", json=two), 422, "two_workflows")
        no(await http.post(f"{session}/jobs", json={"workflow_id": "x" * 16}), 404, "not_found")
        no(await http.post(f"{session}/jobs", json={}), 400, "no_workflow")
        no(await http.post(f"{session}/jobs", json={"workflow": {}}), 422, "workflow_unreadable")


async def test_what_is_set_and_seeded_and_how_often(server_url):
    async with serving() as served, served.client() as http:
        session = await new_session(http, server_url)
        jobs = await queue(
            http, session, noise((5, "fixed")), set={"1.width": 48, "2.strength": 0.25}, seed=70, iterations=3
        )
        assert [job["seeds"] for job in jobs] == [{"2.seed": 70}, {"2.seed": 71}, {"2.seed": 72}]
        for job in jobs:
            assert (await ended(http, job["id"]))["state"] == "succeeded"
        prompts = list((await sent_prompts(server_url, [job["id"] for job in jobs])).values())
        assert [prompt["2"]["inputs"]["seed"] for prompt in prompts] == [70, 71, 72]
        assert {(prompt["1"]["inputs"]["width"], prompt["2"]["inputs"]["strength"]) for prompt in prompts} == {
            (48, 0.25)
        }
        kept = await queue(http, session, noise((5, "increment")), seed="keep", iterations=2)
        assert [job["seeds"] for job in kept] == [{"2.seed": 5}] * 2
        free = await queue(http, session, noise((5, "fixed")), seed="random", iterations=2)
        assert len({5, *(job["seeds"]["2.seed"] for job in free)}) == 3
        pinned = await queue(http, session, noise((5, "randomize")), set={"2.seed": 9}, iterations=2)
        assert next(job["seeds"]["2.seed"] for job in pinned) == 9
        for edits, code in (
            ({"99.x": 1}, "edit_invalid"),
            ({"1.nothing": 1}, "edit_invalid"),
            ({"": 1}, "edit_invalid"),
        ):
            no(await http.post(f"{session}/jobs", json={"workflow": noise((5, "fixed")), "set": edits}), 422, code)
        too_far = {"workflow": noise((5, "fixed")), "seed": 2**64 - 2, "iterations": 3}
        no(await http.post(f"{session}/jobs", json=too_far), 422, "edit_invalid")
        for one in (*kept, *free, *pinned):
            await ended(http, one["id"])


async def test_front_goes_before_all_that_wait(emulator):
    async with serving() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        hold = emulator.faults.hold("SaveImage")
        jobs = await queue(http, session, picture(), iterations=2)
        await hold.reached()
        jobs += await queue(http, session, picture(), front=True)
        hold.release()
        done = [await ended(http, job["id"]) for job in jobs]
        assert done[2]["ended_at"] <= done[1]["ended_at"]
        assert {job["state"] for job in done} == {"succeeded"}
        assert list(emulator.core.queue.history)[-2:] == [jobs[2]["id"], jobs[1]["id"]]


async def test_what_would_not_run_is_told_before_and_by_the_instance(server_url):
    bad = {"1": image(), "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}}
    bad["1"]["inputs"]["width"] = -5
    async with serving() as served, served.client() as http:
        session = await new_session(http, server_url)
        told = no(await http.post(f"{session}/jobs", json={"workflow": bad}), 422, "check_failed")
        assert {(one["node_id"], one["code"]) for one in told["problems"]} >= {
            ("1", "value_smaller_than_min"), ("2", "required_input_missing"),
        }  # fmt: skip
        told = no(await http.post(f"{session}/jobs", json={"workflow": bad, "check": False}), 422, "prompt_rejected")
        assert {one["node_id"] for one in told["problems"]} >= {"1", "2"}
        unknown = {"1": {"class_type": "NoSuchNode", "inputs": {}}, "2": save()}
        told = no(await http.post(f"{session}/jobs", json={"workflow": unknown}), 422, "check_failed")
        assert "NoSuchNode" in json.dumps(told)
        assert ok(await http.get("/jobs"))["jobs"] == []
        checked = ok(await http.post("/check", json={"workflow": bad, "session_id": session.rpartition("/")[2]}))
        assert (checked["ok"], bool(checked["problems"])) == (False, True)
        assert ok(await http.post("/check", json={"workflow": picture().nodes}))["ok"] is True
        made = ok(
            await http.post("/convert", json={"workflow": noise((5, "fixed")), "seed": 9, "set": {"1.width": 40}})
        )
        assert (made["seeds"], made["prompt"]["1"]["inputs"]["width"]) == ({"2.seed": 9}, 40)


async def test_a_file_that_was_uploaded_is_loaded_by_a_job(server_url):
    async with serving() as served, served.client() as http:
        session = await new_session(http, server_url)
        answer = await http.post(f"{session}/files", params={"name": "../../my fox.png"}, content=PNG, headers=UPLOADED)
        placed = ok(answer, 201)
        assert "/" not in placed["name"]
        again = ok(
            await http.post(f"{session}/files", params={"name": "my fox.png"}, content=PNG, headers=UPLOADED), 201
        )
        assert again["name"].endswith(".png")
        load = {"1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}}, "2": save()}
        [job] = await queue(http, session, load, set={"1.image": placed["value"]})
        assert (await ended(http, job["id"]))["state"] == "succeeded"
        [prompt] = (await sent_prompts(server_url, [job["id"]])).values()
        assert prompt["1"]["inputs"]["image"] == placed["value"]
        no(
            await http.post(f"{session}/files", params={"name": "x.png"}, content=b"", headers=UPLOADED),
            400,
            "empty_file",
        )


async def test_a_name_on_this_server_is_no_file_for_the_instance(emulator, tmp_path):
    """What a value names is looked for on the instance, and never sent there from here."""
    private = tmp_path / "private.png"
    private.write_bytes(PNG)
    load = {"1": {"class_type": "LoadImage", "inputs": {"image": str(private)}}, "2": save()}
    async with serving(workflows=tmp_path) as served, served.client() as http:
        session = await new_session(http, emulator.url)
        for edits in ({}, {"1.image": str(private)}, {"1.image": "private.png"}):
            answer = await http.post(f"{session}/jobs", json={"workflow": load, "set": edits})
            assert answer.status_code == 422, answer.text
    assert not list(emulator.folders.input.rglob("private*"))


async def test_the_oldest_uploads_go_first(emulator):
    async with serving(limits=Limits(uploads=2)) as served, served.client() as http:
        session = await new_session(http, emulator.url)
        ids = [ok(await http.post(f"{session}/workflows", json=picture().nodes), 201)["workflow_id"] for _ in range(3)]
        no(await http.post(f"{session}/jobs", json={"workflow_id": ids[0]}), 404, "not_found")
        for workflow_id in ids[1:]:
            [job] = ok(await http.post(f"{session}/jobs", json={"workflow_id": workflow_id}), 201)["jobs"]
            await ended(http, job["id"])
