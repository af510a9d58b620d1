"""Sessions: several at once, each its owner's, within limits, and gone without a trace."""

import asyncio
import contextlib
import json
import logging
import socket

import pytest
import websockets

from comfyclient.api.settings import Limits
from comfyclient.emulator import Emulator

from ..contract.prompts import picture  # noqa: TID252
from ..login.servers import Basic  # noqa: TID252
from .rig import KEY, KEYS, OTHER_KEY, SECONDS, ended, new_session, no, noise, ok, queue, serving

SECRET = "the-word-at-the-door"
DOOR = {"username": "painter", "password": SECRET}


@pytest.fixture
async def door(emulator):
    async with Basic(emulator.url, **DOOR) as running:
        yield running


def closing(session):
    """Set when the session's client has been closed."""
    closed = asyncio.Event()
    close = session.client.close

    async def closing():
        try:
            await close()
        finally:
            closed.set()

    session.client.close = closing
    return closed


async def test_several_at_once_each_at_its_own_instance():
    async with Emulator() as one, Emulator() as two, serving() as served, served.client() as http:
        first, second = await asyncio.gather(new_session(http, one.url), new_session(http, f"{two.url}/"))
        listed = ok(await http.get("/sessions"))["sessions"]
        assert sorted(session["url"] for session in listed) == sorted([one.url, two.url])
        assert {(session["scheme"], session["default"], session["unfinished"]) for session in listed} == {
            ("none", False, 0)
        }
        jobs = await asyncio.gather(*(queue(http, path, picture(), iterations=2) for path in (first, second)))
        for path, queued in zip((first, second), jobs, strict=True):
            for job in queued:
                assert (await ended(http, job["id"]))["state"] == "succeeded"
            found = ok(await http.get("/jobs", params={"session_id": path.rpartition("/")[2]}))["jobs"]
            assert {job["id"] for job in found} == {job["id"] for job in queued}
        assert (one.core.number, two.core.number) == (2, 2)
        ok(await http.delete(first))
        no(await http.get(first), 404, "not_found")
        no(await http.delete(first), 404, "not_found")
        assert ok(await http.get(second))["id"]
        assert len(ok(await http.get("/jobs"))["jobs"]) == 4
        no(await http.get(f"/jobs/{jobs[0][0]['id']}/outputs/0"), 409, "session_ended")
        assert len((await http.get(f"/jobs/{jobs[1][0]['id']}/outputs/0")).content) > 100


async def test_what_belongs_to_another_key_reads_like_what_is_not_there(emulator):
    workflow = {"workflow": picture().nodes}
    async with serving(keys=KEYS) as served, served.client(KEY) as alice, served.client(OTHER_KEY) as bob:
        session = await new_session(alice, emulator.url)
        uploaded = ok(await alice.post(f"{session}/workflows", json=picture().nodes), 201)["workflow_id"]
        [job] = await queue(alice, session, picture())
        await ended(alice, job["id"])
        ours, nobodys = session.rpartition("/")[2], "x" * 32
        theirs = await new_session(bob, emulator.url)
        calls = [
            ("GET", "/sessions/{s}", {}),
            ("DELETE", "/sessions/{s}", {}),
            ("DELETE", "/sessions/{s}?cancel_jobs=true", {}),
            ("GET", "/sessions/{s}/workflows", {}),
            ("POST", "/sessions/{s}/workflows", {"json": picture().nodes}),
            ("POST", "/sessions/{s}/files?name=x.png", {"content": b"x", "headers": {"Content-Type": "image/png"}}),
            ("POST", "/sessions/{s}/jobs", {"json": workflow}),
            ("GET", "/workflows?session_id={s}", {}),
            ("POST", "/convert", {"json": {**workflow, "session_id": "{s}"}}),
            ("POST", "/check", {"json": {**workflow, "session_id": "{s}"}}),
            ("GET", "/jobs/{j}", {}),
            ("DELETE", "/jobs/{j}", {}),
            ("GET", "/jobs/{j}/outputs", {}),
            ("GET", "/jobs/{j}/outputs/0", {}),
            ("GET", "/jobs/{j}/events", {}),
            ("GET", "/jobs?after={j}", {}),
            ("POST", f"{theirs}/jobs", {"json": {"workflow_id": "{u}"}}),
        ]
        for method, path, options in calls:
            answers = []
            for place in ({"s": ours, "j": job["id"], "u": uploaded}, dict.fromkeys("sju", nobodys)):
                filled = json.loads(json.dumps(options.get("json"))) if "json" in options else None
                for name in ("session_id", "workflow_id"):
                    if filled and name in filled:
                        filled[name] = filled[name].format(**place)
                rest = {**options, "json": filled} if filled else options
                answers.append(await bob.request(method, path.format(**place), **rest))
            no(answers[0], 404, "not_found")
            assert answers[0].content == answers[1].content, path
        for name in (job["id"], nobodys):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(
                    f"{served.url.replace('http', 'ws')}/jobs/{name}/events",
                    additional_headers={"X-API-Key": OTHER_KEY}, proxy=None,
                )  # fmt: skip
            assert refused.value.response.status_code == 404
        assert ok(await bob.get("/jobs"))["jobs"] == []
        assert [one["id"] for one in ok(await bob.get("/sessions"))["sessions"]] == [theirs.rpartition("/")[2]]
        assert ok(await bob.get("/session/status"))["active"] is False
        assert ok(await alice.get(session))["id"] == ours
        assert ok(await alice.get(f"/jobs/{job['id']}"))["state"] == "succeeded"
    assert emulator.core.number == 1


async def test_there_are_only_so_many_for_each_key(emulator):
    limits = Limits(sessions=2, jobs=3)
    async with (
        serving(keys=KEYS, limits=limits) as served,
        served.client(KEY) as http,
        served.client(OTHER_KEY) as other,
    ):
        order = {"json": {"url": emulator.url}}
        answers = await asyncio.gather(*(http.post("/sessions", **order) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [201, 201, 429, 429, 429]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert no(refused, 429, "too_many")["hint"]
        assert int(refused.headers["Retry-After"]) > 0
        no(await http.post("/session/start", json={"credentials": {"url": emulator.url}}), 429, "too_many")
        first, second = (f"/sessions/{one['id']}" for one in ok(await http.get("/sessions"))["sessions"])
        hold = emulator.faults.hold("SaveImage")
        answers = await asyncio.gather(
            *(
                http.post(f"{path}/jobs", json={"workflow": picture().nodes, "iterations": 2})
                for path in (first, second)
            )
        )
        assert sorted(answer.status_code for answer in answers) == [201, 429]
        await queue(http, first, picture())
        answer = await http.post(f"{first}/jobs", json={"workflow": picture().nodes})
        no(answer, 429, "too_many")
        assert int(answer.headers["Retry-After"]) > 0
        bobs = await new_session(other, emulator.url)
        await queue(other, bobs, picture(), iterations=3)
        hold.release()
        for job in ok(await http.get("/jobs"))["jobs"]:
            await ended(http, job["id"])
        hold = emulator.faults.hold("SaveImage")
        jobs = await queue(http, first, picture(), iterations=3)
        over = closing(next(session for session in served.hub.sessions if first.endswith(session.id)))
        ok(await http.delete(first))
        no(await http.post("/sessions", **order), 429, "too_many")  # its connection is still needed
        hold.release()
        for job in jobs:
            await ended(http, job["id"])
        async with asyncio.timeout(SECONDS):
            await over.wait()
            while served.hub.sessions._retiring:
                await asyncio.wait(served.hub.sessions._retiring)
        await new_session(http, emulator.url)


async def test_what_nobody_uses_ends_but_not_while_its_jobs_run(emulator):
    async with serving(limits=Limits(idle=0.2)) as served, served.client() as http:
        session = await new_session(http, emulator.url)
        hold = emulator.faults.hold("SaveImage")
        [job] = await queue(http, session, picture())
        await hold.reached()
        await new_session(http, emulator.url)
        busy, idle = served.hub.sessions
        gone, over = closing(idle), closing(busy)
        async with asyncio.timeout(SECONDS):
            await gone.wait()
            assert list(served.hub.sessions) == [busy]
            hold.release()
            assert (await ended(http, job["id"]))["state"] == "succeeded"
            await over.wait()
        assert ok(await http.get("/sessions"))["sessions"] == []
        no(await http.get(session), 404, "not_found")
        assert ok(await http.get(f"/jobs/{job['id']}"))["state"] == "succeeded"


async def test_its_jobs_go_on_after_its_end_or_are_cancelled_with_it(emulator):
    async with serving() as served, served.client() as http:
        hold = emulator.faults.hold("SaveImage")
        going, cancelled = [await new_session(http, emulator.url) for _ in range(2)]
        first = await queue(http, going, picture(), iterations=2)
        await hold.reached()
        second = await queue(http, cancelled, picture(), iterations=3)
        over = closing(next(iter(served.hub.sessions)))
        body = ok(await http.delete(cancelled, params={"cancel_jobs": "true"}))
        assert body["details"]["cancelled"] == {job["id"]: "cancelled" for job in second}
        ok(await http.delete(going))
        assert ok(await http.get("/sessions"))["sessions"] == []
        hold.release()
        for job in first:
            assert (await ended(http, job["id"]))["state"] == "succeeded"
        for job in second:
            assert (await ended(http, job["id"]))["state"] == "cancelled"
        async with asyncio.timeout(SECONDS):
            await over.wait()


async def test_what_is_being_queued_when_it_ends_is_queued_no_further(emulator):
    async with serving() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        [held] = list(served.hub.sessions)
        submit, third, go = held.client.submit, asyncio.Event(), asyncio.Event()

        async def submitting(*args, **options):
            if emulator.core.number == 2:
                third.set()
                await go.wait()
            return await submit(*args, **options)

        held.client.submit = submitting
        body = {"workflow": noise((5, "increment")), "iterations": 20}
        queueing = asyncio.create_task(http.post(f"{session}/jobs", json=body))
        await third.wait()
        ok(await http.delete(session))
        go.set()
        told = no(await queueing, 400, "partly_queued")
        assert len(told["queued"]) == 3
        for job in told["queued"]:
            assert (await ended(http, job))["state"] == "succeeded"
    assert emulator.core.number == 3


@contextlib.asynccontextmanager
async def answering(handler):
    """Something at an address that is no ComfyUI."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def test_why_it_cannot_begin_is_told_and_what_to_do(emulator, door):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    private = b"what only this machine can read"

    async def page(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(private), private))
        writer.close()

    async def noise(_, writer):
        writer.write(b"220 " + private + b"\r\n")
        writer.close()

    async with serving() as served, served.client() as http, answering(page) as web_page, answering(noise) as mail:
        wrong = {"url": door.url, "credentials": {**DOOR, "password": "wrong"}}
        cases = [
            ({"url": door.url}, 401, "auth_required"),
            (wrong, 401, "login_refused"),
            ({"url": closed}, 503, "instance_unavailable"),
            ({"url": "http://no-such-host.invalid"}, 503, "instance_unavailable"),
            ({"url": web_page}, 502, "not_comfyui"),
            ({"url": mail}, 502, "not_comfyui"),
        ]
        for order, status, code in cases:
            for path, body in (
                ("/sessions", order),
                ("/session/start", {"credentials": {"url": order["url"], **order.get("credentials", {})}}),
            ):
                answer = await http.post(path, json=body)
                told = no(answer, status, code)
                assert told["hint"], (order, told)
                assert private.decode() not in answer.text
                assert "wrong" not in answer.text.replace("wrong password", "")
        emulator.faults.answer("*", 502, times=None)
        told = no(await http.post("/sessions", json={"url": emulator.url}), 503, "instance_unavailable")
        assert told["hint"] == "is ComfyUI still starting? wait for it with `wait_ready` of POST /sessions"
        emulator.faults.clear_answers()
        emulator.faults.answer("*", 502, times=2)
        ok(await http.post("/sessions", json={"url": emulator.url, "wait_ready": SECONDS}), 201)
        assert len(ok(await http.get("/sessions"))["sessions"]) == 1


async def test_a_credential_is_in_no_answer_no_log_and_no_document(emulator, door, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    secrets = [SECRET, "a-token-0815-4711", "a-cookie-value-0815"]
    with_all = {**DOOR, "headers": {"X-Extra": secrets[1]}}
    texts = []
    async with serving(journal=tmp_path / "journal") as served, served.client() as http:
        order = {"url": door.url, "credentials": with_all}
        answers = [
            await http.post("/sessions", json=order),
            await http.post("/sessions", json={"url": door.url.replace("//", f"//painter:{SECRET}@")}),
            await http.post("/sessions", json={"url": f"{emulator.url}/?token={secrets[1]}"}),
            await http.post(
                "/sessions", json={**order, "credentials": {**DOOR, "cookies": f"a={secrets[2]}", "token": secrets[1]}}
            ),
            await http.post("/session/start", json={"credentials": {"url": door.url, **DOOR}}),
            await http.get("/sessions"),
            await http.get("/session/status"),
        ]
        assert [answer.status_code for answer in answers[:2]] == [201, 201], [answer.text for answer in answers]
        [job] = await queue(http, f"/sessions/{answers[0].json()['id']}", picture())
        await ended(http, job["id"])
        door.revoked = True
        answers.append(await http.get(f"/sessions/{answers[0].json()['id']}/workflows"))
        assert answers[-1].status_code == 401
        answers += [await http.get(path) for path in ("/jobs", f"/jobs/{job['id']}", "/openapi.json", "/metrics", "/")]
        texts = [answer.text + str(answer.headers) for answer in answers]
    ours = [record for record in caplog.records if not record.name.startswith(("websockets.client", "http"))]
    texts += [str([record.__dict__ for record in ours]), *map(logging.Formatter().format, ours)]
    texts += [path.read_bytes().decode("latin-1") for path in (tmp_path / "journal").rglob("*") if path.is_file()]
    for secret in secrets:
        shown = [text[text.index(secret) - 200 :][:300] for text in texts if secret in text]
        assert shown == []
