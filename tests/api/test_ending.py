"""Told to end while requests are under way: nothing more is begun, and each is answered with what became of it."""

import asyncio
import contextlib
import signal

import pytest

from comfyclient.api.settings import Limits

from ..contract.prompts import picture  # noqa: TID252
from ..faults.proxy import FaultProxy  # noqa: TID252
from ..faults.toxics import Latency, Timeout  # noqa: TID252
from .rig import SECONDS, Process, ended, new_session, no, noise, ok, queue, runs, save_workflow, serving


async def all_jobs(http):
    return {job["id"]: job for job in ok(await http.get("/jobs?limit=1000"))["jobs"]}


@contextlib.asynccontextmanager
async def silent():
    """Something that takes connections, and never says anything. ``reached`` is set by the first."""
    reached, over = asyncio.Event(), asyncio.Event()

    async def wait(reader, writer):
        reached.set()
        await over.wait()
        writer.close()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", reached
    finally:
        over.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("way", ["inline", "open"])
async def test_what_is_being_queued_is_queued_no_further_and_the_caller_learns_what_was(emulator, tmp_path, way):
    async with FaultProxy(emulator.url) as proxy:
        proxy.on("POST", "/prompt", Latency(0.03), times=None)
        async with Process(tmp_path, "--drain", SECONDS) as server, server.client() as http:
            ok(await http.post("/session/start", json={"credentials": {"url": proxy.url}}))
            session = f"/sessions/{ok(await http.get('/session/status'))['session_id']}"
            path, body = f"{session}/jobs", {"workflow": noise((5, "increment")), "iterations": 100}
            if way == "open":
                await save_workflow(emulator.url, "long.json", body.pop("workflow"))
                ok(await http.post("/workflow/open", json={"workflow_path": "long"}))
                path = "/workflow/queue"
            queueing = asyncio.create_task(http.post(path, json=body))
            await proxy.book.until(lambda: len(proxy.book.posts) >= 3)
            server.signal(signal.SIGTERM)
            told = no(await queueing, 503, "partly_queued")
            assert told["error"]["code"] == "server_ending"
            assert await server.end() == 0
        assert 3 <= len(told["queued"]) < 100
        assert emulator.core.number == len(told["queued"])
        async with Process(tmp_path) as server, server.client() as http:
            jobs = await all_jobs(http)
            assert sorted(jobs) == sorted(told["queued"])
            for job in jobs:
                assert (await ended(http, job))["state"] == "succeeded"
            assert await server.end() == 0
    assert emulator.core.number == len(told["queued"])


async def test_an_instance_that_does_not_take_the_next_one_does_not_hide_what_was_queued(emulator, tmp_path):
    async with FaultProxy(emulator.url) as proxy:
        proxy.on("POST", "/prompt", Timeout(direction="up"), nth=3)
        async with Process(tmp_path, "--drain", "0") as server, server.client() as http:
            session = await new_session(http, proxy.url)
            body = {"workflow": noise((5, "increment")), "iterations": 5}
            queueing = asyncio.create_task(http.post(f"{session}/jobs", json=body))
            await proxy.book.until(lambda: proxy.book.hung and len(proxy.book.posts) == 3)
            server.signal(signal.SIGTERM)
            told = no(await queueing, 503, "partly_queued")
            assert len(told["queued"]) == 2
            assert "it may have queued one more" in told["detail"]
            assert await server.end() == 0
        async with Process(tmp_path) as server, server.client() as http:
            jobs = await all_jobs(http)
            assert len(jobs) == 3
            states = {job: (await ended(http, job))["state"] for job in jobs}
            assert sorted(states.values()) == ["refused", "succeeded", "succeeded"]
            assert {job for job, state in states.items() if state == "succeeded"} == set(told["queued"])
            assert await server.end() == 0
    assert len(await runs(emulator.url)) == 2


@pytest.mark.parametrize("path", ["/sessions", "/session/start"])
async def test_a_login_is_not_waited_for(tmp_path, path):
    async with silent() as (url, reached), Process(tmp_path) as server, server.client() as http:
        order = {"url": url}
        starting = asyncio.create_task(http.post(path, json=order if path == "/sessions" else {"credentials": order}))
        await reached.wait()
        server.signal(signal.SIGTERM)
        answer = await starting
        no(answer, 503, "server_ending")
        assert int(answer.headers["Retry-After"]) > 0
        assert await server.end() == 0


async def test_what_an_instance_does_not_answer_is_refused_in_the_form_of_all_refusals(emulator, tmp_path):
    async with (
        FaultProxy(emulator.url) as proxy,
        Process(tmp_path, "--drain", "0") as server,
        server.client() as http,
    ):
        session = await new_session(http, proxy.url)
        proxy.on("GET", None, Timeout(direction="up"), times=None)
        asking = asyncio.create_task(http.get(f"{session}/workflows"))
        await proxy.book.until(lambda: proxy.book.hung)
        server.signal(signal.SIGTERM)
        no(await asking, 503, "server_ending")
        assert await server.end() == 0
        assert "Traceback" not in server.said


async def test_a_job_that_was_to_be_queued_once_more_is_not_after_a_restart_and_says_so(emulator, tmp_path):
    async with Process(tmp_path) as server, server.client() as http:
        session = await new_session(http, emulator.url)
        hold = emulator.faults.hold("SaveImage")
        [again] = await queue(http, session, picture(), resubmit="lost")
        [never] = await queue(http, session, picture())
        await hold.reached()
        await server.kill()
    emulator.faults.restart()
    hold.release()
    async with Process(tmp_path) as server, server.client() as http:
        found, other = await ended(http, again["id"]), await ended(http, never["id"])
        assert (found["state"], found["error"]["code"]) == ("lost", "job_lost")
        assert "it was not queued again: `resubmit` does not outlast a restart of this server" in found["reason"]
        assert other["state"] == "lost"
        assert "resubmit" not in other["reason"]
        document = ok(await http.get("/openapi.json"))
        about = document["components"]["schemas"]["JobRequest"]["properties"]["resubmit"]["description"]
        assert "restart of the server" in about
        assert await server.end() == 0
    assert await runs(emulator.url) == []


async def test_who_leaves_while_it_logs_in_leaves_no_session(emulator):
    async with (
        silent() as (url, reached),
        serving(limits=Limits(sessions=1)) as served,
        served.client() as http,
        served.client() as other,
    ):
        starting = asyncio.create_task(http.post("/sessions", json={"url": url, "wait_ready": 900}))
        await reached.wait()
        no(await other.post("/sessions", json={"url": emulator.url}), 429, "too_many")
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        async with asyncio.timeout(SECONDS):
            while (answer := await other.post("/sessions", json={"url": emulator.url})).status_code == 429:
                pass
        mine = ok(answer, 201)["id"]
        assert [session["id"] for session in ok(await other.get("/sessions"))["sessions"]] == [mine]
