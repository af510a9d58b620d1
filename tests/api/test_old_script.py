"""The calls of the server that this one takes the place of, as programs have them: nothing but HTTP, in this order."""

import asyncio
import secrets
import subprocess

import pytest

from ..login.caddy import Caddy  # noqa: TID252
from .rig import ended, no, noise, ok, save_workflow, sent_prompts, serving

USER, PASSWORD = "painter", "pass-word-0815"
NOTHING_OPEN = "No active session. Start a session first with POST /session/start"


@pytest.fixture(params=["bare", "caddy"])
async def place(request, server_url):
    """An instance, and the credentials that a call gives for it."""
    if request.param == "bare":
        yield server_url, {"url": server_url}
        return
    hashed = await asyncio.to_thread(
        subprocess.run, ["caddy", "hash-password", "--plaintext", PASSWORD], capture_output=True, text=True, check=True
    )
    caddyfile = f"""{{
	admin off
	auto_https off
	log default {{
		format json
	}}
}}
:{{$PORT}} {{
	bind {{$HOST}}
	basicauth {{
		{USER} {hashed.stdout.strip()}
	}}
	reverse_proxy {server_url} {{
		header_up Host {{upstream_hostport}}
		header_up -Origin
	}}
}}
"""
    async with Caddy(caddyfile) as caddy:
        yield server_url, {"url": caddy.url, "username": USER, "password": PASSWORD}


async def test_an_existing_script_runs_as_it_is(place):
    server_url, credentials = place
    name = f"rest-{secrets.token_hex(4)}"
    await save_workflow(
        server_url, f"{name}.json", noise((7, "randomize"), (100, "increment"), (50, "decrement"), (3, "fixed"))
    )
    async with serving() as served, served.client() as http:
        index = ok(await http.get("/"))
        assert index["name"] == "comfyclient"
        assert "POST /workflow/queue" in index["endpoints"]
        assert ok(await http.get("/session/status"))["active"] is False
        order = {"credentials": credentials, "port": 9999, "headless": True, "auto_open_workflow": False}
        started = ok(await http.post("/session/start", json=order))
        assert started["success"] is True
        opened = ok(await http.post("/workflow/open", json={"workflow_path": f"workflows/{name}.json"}))
        assert opened["success"] is True
        queued = ok(await http.post("/workflow/queue", json={"iterations": 10}))
        assert (queued["success"], queued["details"]["iterations"]) == (True, 10)
        status = ok(await http.get("/session/status"))
        assert (status["active"], status["port"], status["url"]) == (True, 9999, credentials["url"])
        jobs = queued["details"]["job_ids"]
        assert [(await ended(http, job))["state"] for job in jobs] == ["succeeded"] * 10
        assert ok(await http.post("/session/stop"))["success"] is True
        assert ok(await http.get("/session/status"))["active"] is False
        texts = [started, opened, queued, status]
        assert PASSWORD not in str(texts)
    sent = list((await sent_prompts(server_url, jobs)).values())
    randomized, up, down, fixed = (
        [prompt[node]["inputs"]["seed"] for prompt in sent] for node in ("2", "5", "8", "11")
    )
    assert randomized[0] == 7
    assert len(set(randomized)) == 10
    assert up == list(range(100, 110))
    assert down == list(range(50, 40, -1))
    assert fixed == [3] * 10
    told = queued["details"]["seeds"]
    assert [seeds["5.seed"] for seeds in told] == up
    assert [seeds["2.seed"] for seeds in told] == randomized


async def test_a_second_call_goes_on_where_the_first_ended(server_url):
    name = f"rest-{secrets.token_hex(4)}"
    await save_workflow(server_url, f"{name}.json", noise((100, "increment"), (7, "randomize")))
    credentials = {"url": server_url, "workflow_path": name}
    async with serving() as served, served.client() as http:
        started = ok(await http.post("/session/start", json={"credentials": credentials}))
        assert started["details"]["workflow"] == f"{name}.json"
        calls = [ok(await http.post("/workflow/queue", json={"iterations": n}))["details"] for n in (3, 2, 1)]
        seeds = [one["2.seed"] for call in calls for one in call["seeds"]]
        assert seeds == [100, 101, 102, 103, 104, 105]
        assert len({one["5.seed"] for call in calls for one in call["seeds"]}) == 6
        ok(await http.post("/workflow/open", json={"workflow_path": name}))
        again = ok(await http.post("/workflow/queue", json={}))["details"]
        assert again["seeds"] == [{"2.seed": 100, "5.seed": 7}]
        for job in [job for call in (*calls, again) for job in call["job_ids"]]:
            assert (await ended(http, job))["state"] == "succeeded"


async def test_what_comes_in_the_wrong_order_is_told_what_to_do_first(server_url):
    async with serving() as served, served.client() as http:
        for path, body in (
            ("/workflow/open", {"workflow_path": "x"}),
            ("/workflow/queue", {"iterations": 1}),
            ("/session/stop", None),
        ):
            answer = await http.post(path, json=body) if body else await http.post(path)
            assert no(answer, 400, "no_session")["detail"] == NOTHING_OPEN
        ok(await http.post("/session/start", json={"credentials": {"url": server_url}}))
        body = no(await http.post("/workflow/queue", json={"iterations": 1}), 400, "no_workflow")
        assert body["detail"] == "No workflow is open. Open one first with POST /workflow/open"
        no(await http.post("/workflow/open", json={"workflow_path": "no-such-workflow"}), 404, "not_found")
        for iterations in (0, 101, -1, 1.5, "ten", None):
            no(await http.post("/workflow/queue", json={"iterations": iterations}), 422, "invalid_request")
        ok(await http.post("/session/stop"))
        assert no(await http.post("/session/stop"), 400, "no_session")["detail"] == NOTHING_OPEN


async def test_numbers_and_choices_are_taken_in_the_forms_that_programs_write_them(server_url):
    name = f"rest-{secrets.token_hex(4)}"
    await save_workflow(server_url, f"{name}.json", noise((7, "fixed")))
    good, port = {"url": server_url, "workflow_path": name}, "port"
    taken = [
        ({port: None}, {port: None}),
        ({port: 0}, {port: 0}),
        ({port: 65535}, {port: 65535}),
        ({port: "99999"}, {port: 99999}),
        ({port: 9999.0}, {port: 9999}),
        ({"headless": "true"}, {"headless": True}),
        ({"headless": 1}, {"headless": True}),
        ({"headless": "False"}, {"headless": False}),
        ({"auto_open_workflow": "no"}, {"workflow": None}),
        ({"auto_open_workflow": "yes"}, {"workflow": f"{name}.json"}),
    ]
    async with serving() as served, served.client() as http:
        for given, told in taken:
            details = ok(await http.post("/session/start", json={"credentials": good, **given}))["details"]
            assert details | told == details
            assert ok(await http.get("/session/status"))["port"] == details["port"]
        ports = [{port: wrong} for wrong in (-1, 65536, 10**400, "100000", 1.5, True, "")]
        for given in (*ports, {"headless": 2}, {"headless": "maybe"}, {"headless": None}):
            no(await http.post("/session/start", json={"credentials": good, **given}), 422, "invalid_request")
        for iterations in (2.0, "2"):
            queued = ok(await http.post("/workflow/queue", json={"iterations": iterations}))["details"]
            assert queued["iterations"] == 2
            for job in queued["job_ids"]:
                assert (await ended(http, job))["state"] == "succeeded"


async def test_wrong_bodies_are_refused_and_repeat_no_password(server_url):
    secret = "pass-word-that-nobody-sees"
    good = {"url": server_url, "username": USER, "password": secret}
    bodies = [
        ({}, "invalid_request"),
        ({"credentials": None}, "invalid_request"),
        ({"credentials": {"username": USER, "password": secret}}, "invalid_request"),
        ({"credentials": good | {"url": 7}}, "invalid_request"),
        ({"credentials": good | {"password": [secret]}}, "invalid_request"),
        ({"credentials": good | {"password": {"x": secret}}, "port": secret}, "invalid_request"),
        ({"credentials": good, "headless": secret}, "invalid_request"),
        ([secret], "invalid_request"),
        (secret, "invalid_request"),
    ]
    async with serving() as served, served.client() as http:
        for body, code in bodies:
            answer = await http.post("/session/start", json=body)
            no(answer, 422, code)
            assert secret not in answer.text
        for url in (
            "ftp://x",
            "not a url",
            "http://",
            f"http://user:{secret}@[::1",
            f"//x:{secret}@y",
            "file:///etc/passwd",
        ):
            answer = await http.post("/session/start", json={"credentials": good | {"url": url}})
            assert answer.status_code == 400, answer.text
            assert secret not in answer.text
        answer = await http.post(
            "/session/start",
            content=f'{{"credentials": {{"password": "{secret}",',
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 422
        assert secret not in answer.text
        assert ok(await http.get("/session/status")) == {
            "active": False, "port": None, "url": None, "session_id": None, "workflow": None,
        }  # fmt: skip


async def test_a_start_that_fails_leaves_the_session_before_it(server_url):
    async with serving() as served, served.client() as http:
        first = ok(await http.post("/session/start", json={"credentials": {"url": server_url}}))["details"]
        order = {"credentials": {"url": server_url, "workflow_path": "no-such-workflow"}}
        no(await http.post("/session/start", json=order), 404, "not_found")
        status = ok(await http.get("/session/status"))
        assert (status["active"], status["session_id"]) == (True, first["session_id"])
        second = ok(await http.post("/session/start", json={"credentials": {"url": server_url}}))["details"]
        assert second["replaced"] is True
        assert [one["id"] for one in ok(await http.get("/sessions"))["sessions"]] == [second["session_id"]]


async def test_two_starts_at_once_leave_one_session(server_url):
    async with serving() as served, served.client() as http:
        order = {"credentials": {"url": server_url}}
        answers = await asyncio.gather(*(http.post("/session/start", json=order) for _ in range(4)))
        ids = {ok(answer)["details"]["session_id"] for answer in answers}
        assert len(ids) == 4
        assert sorted(ok(answer)["details"]["replaced"] for answer in answers) == [False, True, True, True]
        [left] = ok(await http.get("/sessions"))["sessions"]
        assert left["id"] == ok(await http.get("/session/status"))["session_id"]
        assert left["default"] is True
