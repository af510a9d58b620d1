"""What belongs to one key tells another nothing, and does it no harm; and what strangers answer is told to nobody."""

import ast
import asyncio
import json
import re
import socket

import httpx
import pytest
from aiohttp import web

from comfyclient.api import streams
from comfyclient.api.hints import for_callers
from comfyclient.api.settings import Limits
from comfyclient.emulator import Emulator
from comfyclient.emulator.nodes import Outcome

from ..cli_support import ROOT  # noqa: TID252
from ..contract.prompts import picture  # noqa: TID252
from ..faults.http_toxics import Answer  # noqa: TID252
from ..faults.proxy import FaultProxy  # noqa: TID252
from ..login.parrot import Parrot  # noqa: TID252
from ..login.servers import Basic  # noqa: TID252
from .rig import KEY, KEYS, OTHER_KEY, SECONDS, ended, new_session, no, ok, queue, serving, story

DOOR = {"username": "painter", "password": "Tr0ub4dor&3"}
SHOW = {"1": {"class_type": "PreviewAny", "inputs": {"source": "x"}}}


@pytest.fixture
async def both(emulator):
    async with (
        Basic(emulator.url, **DOOR) as door,
        serving(keys=KEYS) as served,
        served.client(KEY) as alice,
        served.client(OTHER_KEY) as bob,
    ):
        yield emulator, door, served, alice, bob


# Masks


async def test_no_guess_at_the_secret_of_another_key_is_told_from_any_other(both):
    emulator, door, _, alice, bob = both
    await new_session(bob, door.url, credentials=DOOR)
    own = await new_session(alice, emulator.url)
    for guess in (DOOR["password"], OTHER_KEY, KEY, "a wrong guess"):
        nodes = {"1": {"class_type": "PreviewAny", "inputs": {"source": guess}, "_meta": {"title": guess}}}
        assert ok(await alice.post("/convert", json={"workflow": nodes}))["prompt"]["1"]["inputs"]["source"] == guess
        nodes["1"]["class_type"] = f"Nobody knows {guess}"
        checked = await alice.post("/check", json={"workflow": nodes})
        refused = await alice.post(f"{own}/jobs", json={"workflow": nodes})
        unfit = await alice.post(f"{own}/jobs", json={"workflow": SHOW, "set": {f"{guess}.x": 1}})
        no(refused, 422, "check_failed")
        for answer in (checked, refused, unfit):
            assert ("***" in answer.text) == (guess == KEY and answer is not checked), (guess, answer.text)


async def test_a_secret_that_is_a_common_word_makes_no_answer_unreadable(both):
    emulator, _, _, alice, bob = both
    session = await new_session(bob, emulator.url)
    [job] = await queue(bob, session, picture())
    await ended(bob, job["id"])
    calls = [
        f"/jobs/{job['id']}",
        "/jobs",
        "/jobs/nothing",
        "/sessions",
        "/openapi.json",
        "/",
        f"/jobs/{job['id']}/outputs",
    ]
    before = [(await bob.get(path)).text for path in calls]
    for word in ("succeeded", "jobs", "detail", "state", "paths", "job_failed", "code", "not_found", "message"):
        await new_session(alice, emulator.url, credentials={"headers": {"X-Word": word}})
    assert [(await bob.get(path)).text for path in calls] == before
    assert ok(await alice.get("/jobs")) == {"jobs": [], "next": None}
    own = await new_session(alice, emulator.url, credentials={"headers": {"X-Word": "code"}})
    refused = no(
        await alice.post(f"{own}/jobs", json={"workflow": {"1": {"class_type": "Unknown", "inputs": {}}}}),
        422,
        "check_failed",
    )
    assert refused["problems"][0].keys() >= {"code", "message"}


async def test_an_instance_that_repeats_what_it_was_sent_gives_nothing_away(emulator):
    token = "a-token-that-only-alice-has"

    async def answers(http, server):
        session = await new_session(http, server.url, credentials={"token": token})
        yield await http.get(f"{session}/workflows")
        queued = await http.post(f"{session}/jobs", json={"workflow": SHOW, "check": False})
        yield queued
        for job in queued.json().get("jobs", ()):
            await story(http, job["id"])
            for path in ("", "/events", "/outputs"):
                yield await http.get(f"/jobs/{job['id']}{path}")
        yield await http.get("/jobs")

    async with httpx.AsyncClient(trust_env=False) as plain:
        nodes = ok(await plain.get(f"{emulator.url}/object_info/PreviewAny"))
    for fails in (True, False):
        async with Parrot() as server, serving(keys=KEYS) as served, served.client(KEY) as http:
            server.fails = fails
            server.plan["GET", "/object_info"] = lambda _: web.json_response(nodes)
            server.plan["GET", "/userdata"] = lambda words: web.json_response([{"path": f"{words}.json", "size": 1}])
            texts = [answer.text + str(answer.headers) async for answer in answers(http, server)]
            assert server.said > 2
            assert len(texts) > 4, texts
            assert [text for text in texts if token in text] == []
            assert "***" in "".join(texts)


async def test_what_a_job_made_of_the_secret_is_masked_where_it_is_shown(emulator):
    """In the texts alone, not in the names of fields."""
    token = "outputs"

    async def repeat(call):
        return Outcome((), {"images": [], "text": [f"these are my outputs: {token}"]})

    async with Emulator(nodes={"PreviewAny": repeat}) as running, serving() as served, served.client() as http:
        session = await new_session(http, running.url, credentials={"headers": {"X-Word": token}})
        [job] = await queue(http, session, SHOW)
        await ended(http, job["id"])
        made = ok(await http.get(f"/jobs/{job['id']}/outputs"))
        assert made["outputs"] == []
        assert [one["text"] for one in made["texts"]] == ["these are my ***: ***"]


@pytest.mark.parametrize("password", ["a&" * 2048, '\\"é日' * 512, "p" * 4096])
async def test_a_very_long_secret_does_not_stop_the_server(both, password):
    emulator, _, _, alice, _ = both
    order = {"credentials": {"username": "x", "password": password, "cookies": "c=" + "&" * 20_000}}
    session = await new_session(alice, emulator.url, **order)
    answer = await alice.post(f"{session}/jobs", json={"workflow": SHOW, "set": {f"{password}.{'&' * 60_000}": 1}})
    assert answer.status_code == 422
    assert json.dumps(password)[1:-1] not in answer.text


# Strangers

CANARY = "CANARY-of-a-stranger"
PAGE = f"<title>{CANARY}</title>"
STRANGERS = [
    Answer(200, {"Content-Type": "text/plain"}, CANARY),
    Answer(200, {"Content-Type": "application/json"}, json.dumps({"system": CANARY})),
    Answer(200, {"Content-Type": CANARY}, CANARY),
    Answer(302, {"Location": f"http://{CANARY}.example/login"}),
    Answer(307, {"Location": f"http://169.254.169.254/{CANARY}"}),
    Answer(401, {"Content-Type": "text/plain"}, CANARY),
    Answer(403, {"Content-Type": "application/json"}, json.dumps({"error": {"message": CANARY}})),
    Answer(404, {"Server": CANARY}, CANARY),
    Answer(418, {}, CANARY),
    Answer(429, {"Retry-After": "1"}, CANARY),
    Answer(500, {"Content-Type": "application/json"}, json.dumps({"error": CANARY})),
]


async def test_whatever_a_stranger_answers_the_caller_is_told_the_same(emulator):
    told = set()
    async with FaultProxy(emulator.url) as proxy, serving() as served, served.client() as http:
        for stranger in STRANGERS:
            rule = proxy.on(None, None, stranger, times=None)
            for credentials in (None, {"username": "u", "password": "password"}, {"token": "a-token"}):
                answer = await http.post("/sessions", json={"url": proxy.url, "credentials": credentials})
                no(answer, 502, "not_comfyui")
                told.add(answer.text)
            proxy.off(rule)
    assert len(told) == 1
    assert CANARY not in told.pop()


async def test_a_portal_that_is_known_is_told_without_what_it_answered(emulator):
    async with FaultProxy(emulator.url) as proxy, serving() as served, served.client() as http:
        order = {"url": proxy.url, "credentials": {"username": "u", "password": "password"}}
        for stranger, status, code in (
            (Answer(401, {"WWW-Authenticate": f'Basic realm="{CANARY}"'}, CANARY), 401, "login_refused"),
            (Answer(503, {}, CANARY), 503, "instance_unavailable"),
        ):
            rule = proxy.on(None, None, stranger, times=None)
            answer = await http.post("/sessions", json=order)
            assert no(answer, status, code)["hint"]
            assert CANARY not in answer.text
            assert "503" not in answer.text
            proxy.off(rule)


# Hints


def hints():
    """Every text of the package that may be a hint with words of the command line in it."""
    for path in sorted((ROOT / "comfyclient").rglob("*.py")):
        if path.relative_to(ROOT).parts[1] in {"cli", "api", "emulator"}:
            continue
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "abc" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
                text = node.value
            else:
                continue
            if "\n" not in text and "``" not in text and re.search(OURS, text):
                yield path.name, text


OURS = r"(?<![\w-])--[a-z][a-z-]+|comfyclient (login|doctor|jobs|inputs|nodes|run|set)\b"
THEIRS = {"--max-upload-size", "--listen", "--disable-metadata", "--enable-assets", "--allow-address"}
NO_HINTS = ("--user-data-dir", "--ignore-certificate", "--enable-assets", "will not know all")


def test_every_hint_has_words_for_callers_of_the_api():
    found = [(name, text) for name, text in hints() if not any(sign in text for sign in NO_HINTS)]
    assert len(found) > 30
    for name, text in found:
        told = for_callers(text)
        left = {match.group() for match in re.finditer(OURS, told)} - THEIRS
        assert not left, (name, text, told)
        assert told.strip() or text.startswith(";"), (name, text)
        assert told.count("`") % 2 == 0, (name, text, told)


async def test_hints_of_jobs_and_refusals_are_those_for_callers(emulator):
    async with serving() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        refused = await http.post(f"{session}/jobs", json={"workflow": {"1": {"class_type": "Unknown", "inputs": {}}}})
        assert no(refused, 422, "check_failed")["hint"].endswith('send it anyway with `"check": false`')
        [job] = await queue(http, session, picture())
        await ended(http, job["id"])
        record = served.hub.book.get("local", job["id"])
        record.error = {"code": "outcome_unknown", "message": "x", "hint": "ask again with `comfyclient jobs wait ID`"}
        assert "comfyclient" not in ok(await http.get(f"/jobs/{job['id']}"))["error"]["hint"]


# Files on their way


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
ENDLESS = HEAD + b"Content-Length: 100000000\r\n\r\n" + b"x" * 32 * 2**20


async def begin(served, path, version="1.1"):
    """A request for it, and the head of the answer, of which no more is read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", served.settings.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=2**12)
    writer.write(f"GET {path} HTTP/{version}\r\nHost: 127.0.0.1:{served.settings.port}\r\n\r\n".encode())
    return reader, writer, await reader.readuntil(b"\r\n\r\n")


async def whole(served, path, version):
    """The head and the body of an answer, up to the end of the connection."""
    reader, writer, head = await begin(served, path, version)
    try:
        return head, await reader.read(-1)
    finally:
        writer.close()


async def test_there_are_only_so_many_downloads_for_each_key_and_who_does_not_read_is_given_up(emulator, monkeypatch):
    monkeypatch.setattr(streams, "_STALLED", 0.5)
    async with (
        FaultProxy(emulator.url) as proxy,
        serving(limits=Limits(streams=2)) as served,
        served.client() as http,
        asyncio.timeout(SECONDS),
    ):
        [job] = await queue(http, await new_session(http, proxy.url), picture())
        await ended(http, job["id"])
        path = f"/jobs/{job['id']}/outputs/0"
        proxy.on("GET", "/view", Answer(raw=ENDLESS), times=2)
        stalled = [await begin(served, path) for _ in range(2)]
        assert [head.split(b"\r\n")[0] for _, _, head in stalled] == [b"HTTP/1.1 200 OK"] * 2
        no(await http.get(path), 429, "too_many")
        await served.hub._streaming.over()
        for reader, writer, _ in stalled:
            with pytest.raises(ConnectionError):
                await reader.read(-1)
            writer.close()
        assert len((await http.get(path)).content) > 100


async def test_by_http_1_0_no_part_of_a_file_looks_like_the_whole(emulator):
    async with (
        FaultProxy(emulator.url) as proxy,
        serving() as served,
        served.client() as http,
        asyncio.timeout(SECONDS),
    ):
        [job] = await queue(http, await new_session(http, proxy.url), picture())
        await ended(http, job["id"])
        path = f"/jobs/{job['id']}/outputs/0"
        proxy.on("GET", "/view", Answer(raw=HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\n\x89PNG\r\n", then="close"))
        head, body = await whole(served, path, "1.0")
        assert head.startswith(b"HTTP/1.1 505 ")
        assert json.loads(body)["code"] == "http_version"
        proxy.on("GET", "/view", Answer(raw=HEAD + b"Content-Length: 1000\r\n\r\n\x89PNG", then="close"))
        with pytest.raises(ConnectionError):
            await whole(served, path, "1.0")
        head, body = await whole(served, path, "1.0")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body.startswith(b"\x89PNG")
