"""How long sessions last, and what is kept of whom, and where."""

import asyncio
import contextlib
import os
import stat

import pytest
from starlette.requests import Request

from comfyclient._redact import Secret
from comfyclient.api import told as told_of
from comfyclient.api.leaving import while_awaited
from comfyclient.api.settings import Limits

from ..contract.prompts import picture  # noqa: TID252
from .rig import SECONDS, ended, new_session, no, ok, queue, serving


async def test_who_asks_for_the_default_session_again_and_again_keeps_it(emulator):
    async with serving(limits=Limits(idle=1.0)) as served, served.client() as http:
        ok(await http.post("/session/start", json={"credentials": {"url": emulator.url}}))
        await new_session(http, emulator.url)
        async with asyncio.timeout(SECONDS):
            while len(served.hub.sessions) == 2:
                assert ok(await http.get("/session/status"))["active"] is True
        [left] = served.hub.sessions
        assert left.default
        assert ok(await http.get("/session/status"))["session_id"] == left.id


async def test_sessions_can_be_told_never_to_end_by_themselves(emulator):
    async with serving(limits=Limits(idle=0)) as served, served.client() as http:
        session = await new_session(http, emulator.url)
        async with asyncio.timeout(SECONDS):
            await served.hub.sessions.sweep()  # which otherwise goes on for ever
        assert ok(await http.get(session))["id"]


async def test_what_was_done_at_the_moment_at_which_its_caller_left_is_taken_back():
    undone = []

    async def receive():
        return {"type": "http.disconnect"}

    async def work():
        return "a session"

    request = Request({"type": "http"}, receive)
    assert await while_awaited(request, asyncio.Event(), work(), undone.append) == "a session"
    assert undone == ["a session"]


@contextlib.contextmanager
def creating_for_all():
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


async def test_nobody_else_on_the_machine_can_read_what_the_journal_keeps(emulator, tmp_path, monkeypatch):
    """It has the urls of webhooks, with the tokens that they carry."""
    monkeypatch.setattr(told_of, "_LARGE", 0)  # so that each start writes the list of webhooks anew
    journal, url = tmp_path / "journal", f"{emulator.url}/no-such-receiver?token=of-the-receiver"
    with creating_for_all():
        for _ in range(2):
            async with serving(journal=journal, webhook_secret=Secret("x" * 20)) as served, served.client() as http:
                session = await new_session(http, emulator.url)
                [job] = await queue(http, session, picture(), webhook=url)
                await ended(http, job["id"])
                async with asyncio.timeout(SECONDS):
                    while tasks := tuple(served.hub.webhooks._tasks):
                        await asyncio.wait(tasks)
    files = [path for path in journal.rglob("*") if path.is_file()]
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in files} == {path.name: 0o600 for path in files}
    assert (journal / "webhooks.txt").stat().st_size > 0
    assert stat.S_IMODE(journal.stat().st_mode) == 0o700
    assert b"of-the-receiver" in b"".join(path.read_bytes() for path in files)


@pytest.mark.parametrize(
    "parts",
    [
        {"cookies": "c" * 65536, "username": "u"},
        {"headers": {f"X-{number}": "h" * 16384 for number in range(4)}},
        {"headers": {"X-" + "n" * 65536: "h"}},
        {"cookies": "\u20ac" * 30000},
    ],
    ids=["two", "headers", "name", "bytes"],
)
async def test_a_credential_has_a_size_in_all(emulator, parts):
    async with serving() as served, served.client() as http:
        answer = await http.post("/sessions", json={"url": emulator.url, "credentials": parts})
        no(answer, 422, "invalid_request")
        assert "64 KiB" in answer.text
        assert len(answer.content) < 1000
