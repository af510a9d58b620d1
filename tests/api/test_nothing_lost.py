"""Whatever ends - the server, the instance, the way between them - a job that was promised runs once and is told of."""

import asyncio
import json
import signal

import httpx
import pytest
import websockets

from comfyclient.emulator import Emulator

from ..contract.prompts import picture  # noqa: TID252
from ..faults.http_toxics import Answer, Lose  # noqa: TID252
from ..faults.proxy import FaultProxy  # noqa: TID252
from ..faults.submitting import Clock  # noqa: TID252
from ..faults.toxics import ResetPeer, Timeout  # noqa: TID252
from ..login.servers import Basic  # noqa: TID252
from .rig import (
    ENDS,
    KEY,
    OTHER_KEY,
    SECONDS,
    Process,
    ended,
    new_session,
    no,
    noise,
    ok,
    queue,
    runs,
    save_workflow,
    serving,
    stories,
    story,
)

SECRET = "the-word-at-the-door"


@pytest.fixture
def keys(tmp_path):
    """Options for a server with the keys of two."""
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    path.write_text(f"alice:{KEY}\nbob:{OTHER_KEY}\n")
    return "--api-key-file", path


async def all_jobs(http):
    return {job["id"]: job for job in ok(await http.get("/jobs?limit=1000"))["jobs"]}


async def all_ended(http, count):
    """All jobs, once they have ended; there must be so many."""
    jobs = await all_jobs(http)
    assert len(jobs) == count
    await asyncio.gather(*(ended(http, job) for job in jobs))
    return await all_jobs(http)


async def test_a_server_that_is_killed_finds_its_jobs_again_by_itself(emulator, tmp_path):
    """Killed while 12 have been queued and run; some have ended before, some run, most wait."""
    hold = emulator.faults.hold("SaveImage")
    async with Process(tmp_path) as server, server.client() as http:
        session = await new_session(http, emulator.url)
        quick = await queue(http, session, {"1": {"class_type": "PreviewAny", "inputs": {"source": "x"}}}, iterations=2)
        for job in quick:
            assert (await ended(http, job["id"]))["state"] == "succeeded"
        slow = await queue(http, session, noise((5, "increment")), iterations=18)
        await hold.reached()
        await server.kill()
    hold.release()
    async with Process(tmp_path) as server, server.client() as http:
        jobs = await all_ended(http, 20)
        assert list(jobs) == [job["id"] for job in reversed([*quick, *slow])]
        assert {job["state"] for job in jobs.values()} == {"succeeded"}
        assert [jobs[job["id"]]["seeds"] for job in slow] == [{"2.seed": seed} for seed in range(5, 23)]
        found = ok(await http.get(f"/jobs/{slow[0]['id']}/outputs"))["outputs"]
        assert (await http.get(found[0]["url"])).content.startswith(b"\x89PNG")
        early = ok(await http.get(f"/jobs/{quick[0]['id']}/outputs"))
        assert early["texts"][0]["text"] == "x"
        assert await server.end() == 0
    assert sorted(await runs(emulator.url)) == sorted(jobs)
    assert emulator.core.number == 20


@pytest.mark.parametrize(
    ("toxic", "state"),
    [(Lose("hang"), "succeeded"), (Timeout(direction="up"), "refused")],
    ids=["it came", "it did not"],
)
async def test_killed_while_it_queues_it_asks_what_became_of_the_one_in_doubt(emulator, tmp_path, toxic, state):
    async with FaultProxy(emulator.url) as proxy:
        proxy.on("POST", "/prompt", toxic, nth=8)
        async with Process(tmp_path) as server, server.client() as http:
            session = await new_session(http, proxy.url)
            queueing = asyncio.create_task(
                http.post(f"{session}/jobs", json={"workflow": noise((5, "increment")), "iterations": 20})
            )
            await proxy.book.until(lambda: proxy.book.hung and len(proxy.book.posts) == 8)
            await server.kill()
            with pytest.raises(httpx.TransportError):
                await queueing
        async with Process(tmp_path) as server, server.client() as http:
            jobs = await all_ended(http, 8)
            assert [job["state"] for job in jobs.values()] == [state, *["succeeded"] * 7]
            assert await server.end() == 0
    assert emulator.core.number == (8 if state == "succeeded" else 7)
    assert len(await runs(emulator.url)) == emulator.core.number


async def test_where_a_credential_is_needed_the_next_session_of_the_same_key_finds_them(emulator, tmp_path, keys):
    hold = emulator.faults.hold("SaveImage")
    async with Basic(emulator.url, username="painter", password=SECRET) as door:
        order = {"credentials": {"username": "painter", "password": SECRET}}
        async with Process(tmp_path, *keys) as server, server.client(KEY) as http:
            session = await new_session(http, door.url, **order)
            await queue(http, session, noise((5, "increment")), iterations=5)
            await hold.reached()
            await server.kill()
        before = len(door.requests)
        async with Process(tmp_path, *keys) as server, server.client(KEY) as http, server.client(OTHER_KEY) as other:
            jobs = await all_jobs(http)
            assert {job["state"] for job in jobs.values()} == {"unknown"}
            assert {job["error"]["hint"] for job in jobs.values()} == {
                "start a session at its url with the same key, and it is looked up"
            }
            hold.release()
            await new_session(other, door.url, **order)
            assert ok(await other.get("/jobs"))["jobs"] == []
            assert {job["state"] for job in (await all_jobs(http)).values()} == {"unknown"}
            await new_session(http, door.url, **order)
            jobs = await all_ended(http, 5)
            assert {job["state"] for job in jobs.values()} == {"succeeded"}
            assert await server.end() == 0
            assert SECRET not in server.said
        assert len(door.requests) > before
    journal = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in journal
    assert emulator.core.number == 5


async def test_what_an_instance_forgets_while_the_server_is_away_is_lost_and_why_a_job_failed_is_asked(
    emulator, tmp_path
):
    failing = {"1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
               "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}}  # fmt: skip
    async with Process(tmp_path) as server, server.client() as http:
        session = await new_session(http, emulator.url)
        emulator.faults.fail("EmptyImage", "no paint")
        [failed] = await queue(http, session, failing)
        was = await ended(http, failed["id"])
        assert (was["state"], was["error"]["exception_type"]) == ("failed", "RuntimeError")
        await server.kill()
    async with Process(tmp_path) as server, server.client() as http:
        job = await ended(http, failed["id"])  # its end may not have been written down yet
        assert (job["state"], job["error"]["code"]) == ("failed", "job_failed")
        session = await new_session(http, emulator.url)
        assert ok(await http.get(f"/jobs/{failed['id']}"))["error"] == was["error"]
        emulator.faults.clear_nodes()
        hold = emulator.faults.hold("SaveImage")
        waiting = await queue(http, session, picture(), iterations=3)
        await hold.reached()
        await server.kill()
    emulator.faults.restart()
    hold.release()
    async with Process(tmp_path) as server, server.client() as http:
        jobs = await all_ended(http, 4)
        assert {jobs[job["id"]]["state"] for job in waiting} == {"lost"}
        assert jobs[waiting[0]["id"]]["error"]["code"] == "job_lost"
        assert await server.end() == 0


async def test_an_instance_that_restarts_has_lost_its_jobs_or_they_are_queued_once_more(emulator, tmp_path):
    async with serving(journal=tmp_path / "journal") as served, served.client() as http:
        session = await new_session(http, emulator.url)
        hold = emulator.faults.hold("SaveImage")
        lost = await queue(http, session, picture(), iterations=2)
        [again] = await queue(http, session, picture(), resubmit="lost")
        await hold.reached()
        emulator.faults.restart()
        hold.release()
        for job in lost:
            assert (await ended(http, job["id"]))["state"] == "lost"
        job = await ended(http, again["id"])
        assert job["state"] == "succeeded"
        assert job["prompt_id"] != job["id"]
        outputs = ok(await http.get(f"/jobs/{again['id']}/outputs"))["outputs"]
        assert len(outputs) == 1
    async with serving(journal=tmp_path / "journal") as served, served.client() as http:
        jobs = await all_jobs(http)
        assert [jobs[job["id"]]["state"] for job in (*lost, again)] == ["lost", "lost", "succeeded"]
        assert len(jobs) == 3
        assert jobs[again["id"]]["prompt_id"] == job["prompt_id"]


@pytest.mark.parametrize("way", ["open", "inline"])
async def test_a_lost_answer_while_nobody_can_be_asked_is_told_with_its_id_and_found_later(
    emulator, tmp_path, monkeypatch, way
):
    Clock().install(monkeypatch)
    async with (
        FaultProxy(emulator.url) as proxy,
        serving(journal=tmp_path / "journal") as served,
        served.client() as http,
    ):
        ok(await http.post("/session/start", json={"credentials": {"url": proxy.url}}))
        session = f"/sessions/{ok(await http.get('/session/status'))['session_id']}"
        proxy.on("GET", "/ws", Answer(403), times=None)
        proxy.on("POST", "/prompt", Lose(), nth=3)
        silent = proxy.on("GET", "/queue", ResetPeer(), nth=1, times=None)
        body = {"workflow": noise((5, "increment")), "iterations": 5}
        if way == "open":
            await save_workflow(emulator.url, "doubtful.json", noise((5, "increment")))
            ok(await http.post("/workflow/open", json={"workflow_path": "doubtful"}))
            answer = await http.post("/workflow/queue", json={"iterations": 5})
        else:
            answer = await http.post(f"{session}/jobs", json=body)
        told = no(answer, 502, "partly_queued")
        assert len(told["queued"]) == 2
        assert told["error"]["code"] == "outcome_unknown"
        doubtful = told["unknown"]
        job = ok(await http.get(f"/jobs/{doubtful}"))
        assert (job["state"], job["error"]["code"]) == ("unknown", "outcome_unknown")
        proxy.off(silent)
        jobs = await all_ended(http, 3)
        assert {job["state"] for job in jobs.values()} == {"succeeded"}
        assert jobs[doubtful]["error"] is None
        assert jobs[doubtful]["seeds"] == {"2.seed": 7}
    assert emulator.core.number == 3


async def test_told_to_end_it_takes_no_more_ends_streams_in_order_and_leaves_jobs_to_the_next(emulator, tmp_path):
    hold = emulator.faults.hold("SaveImage")
    async with Process(tmp_path, "--drain", "0") as server, server.client() as http:
        session = await new_session(http, emulator.url)
        jobs = await queue(http, session, picture(), iterations=3)
        await hold.reached()
        address = f"{server.url.replace('http', 'ws')}/jobs/{jobs[0]['id']}/events"
        async with (
            websockets.connect(address, proxy=None) as socket,
            http.stream("GET", f"/jobs/{jobs[0]['id']}/events") as stream,
        ):
            lines = stream.aiter_lines()
            heard = [json.loads(await socket.recv())]
            server.signal(signal.SIGTERM)
            heard += [json.loads(message) async for message in socket]
            assert socket.close_code == 1001
            seen = [entry async for entry in stories(lines)]
        assert all(event["event"] != "finished" for event in (*heard, *(event for _, event in seen)))
        assert seen
        assert await server.end() == 0
    hold.release()
    async with Process(tmp_path) as server, server.client() as http:
        # Whoever listened goes on where the stream ended, though another server tells it now.
        rest = await story(http, jobs[0]["id"], after=seen[-1][0])
        assert rest[-1][1]["event"] == "finished"
        assert rest[0][0] > seen[-1][0]
        assert {job["state"] for job in (await all_ended(http, 3)).values()} == {"succeeded"}
    assert emulator.core.number == 3


async def test_it_waits_for_jobs_as_long_as_it_may(emulator, tmp_path):
    hold = emulator.faults.hold("SaveImage")
    async with Process(tmp_path, "--drain", SECONDS) as server, server.client() as http:
        session = await new_session(http, emulator.url)
        [job] = await queue(http, session, picture())
        await hold.reached()
        async with http.stream("GET", f"/jobs/{job['id']}/events") as stream:
            events = stories(stream.aiter_lines())
            await anext(events)
            server.signal(signal.SIGTERM)
            while (await http.get("/readyz")).status_code != 503:
                pass
            no(await http.post(f"{session}/jobs", json={"workflow": picture().nodes}), 503, "server_ending")
            assert ok(await http.get(f"/jobs/{job['id']}"))["state"] not in ENDS
            hold.release()
            seen = [event async for _, event in events]
        assert seen[-1]["state"] == "succeeded"
        assert await server.end() == 0
    async with Process(tmp_path) as server, server.client() as http:
        assert ok(await http.get(f"/jobs/{job['id']}"))["state"] == "succeeded"


async def test_two_servers_with_one_journal_leave_each_other_alone(emulator, tmp_path):
    hold = emulator.faults.hold("SaveImage")
    async with Process(tmp_path) as first, first.client() as http:
        session = await new_session(http, emulator.url)
        [job] = await queue(http, session, picture())
        await hold.reached()
        async with Process(tmp_path) as second, second.client() as there:
            assert ok(await there.get("/jobs"))["jobs"] == []
            assert ok(await there.get("/sessions"))["sessions"] == []
            hold.release()
            assert (await ended(http, job["id"]))["state"] == "succeeded"
            assert await second.end() == 0
        assert await first.end() == 0


async def test_an_outage_that_outlasts_all_patience_ends_with_the_truth(tmp_path):
    async with Emulator() as emulator, FaultProxy(emulator.url) as proxy:
        hold = emulator.faults.hold("SaveImage")
        async with serving(journal=tmp_path / "journal") as served, served.client() as http:
            session = await new_session(http, proxy.url)
            [held] = list(served.hub.sessions)
            held.client._watcher._looker._patience = 0.2
            [job] = await queue(http, session, picture())
            await hold.reached()
            record = served.hub.book.get("local", job["id"])
            async with proxy.down():
                following = record.task
                async with asyncio.timeout(SECONDS):
                    await asyncio.wait({following})
                unknown = ok(await http.get(f"/jobs/{job['id']}"))
                assert (unknown["state"], unknown["error"]["code"]) == ("unknown", "outcome_unknown")
            hold.release()
            assert (await ended(http, job["id"]))["state"] == "succeeded"


async def test_what_was_queued_under_a_key_is_not_queued_again_by_the_next_server(emulator, tmp_path):
    key = {"Idempotency-Key": "order-17"}
    body = {"workflow": noise((5, "increment")), "iterations": 2}
    async with Process(tmp_path) as server, server.client() as http:
        session = await new_session(http, emulator.url)
        jobs = ok(await http.post(f"{session}/jobs", json=body, headers=key), 201)["jobs"]
        await server.kill()
    async with Process(tmp_path) as server, server.client() as http:
        session = await new_session(http, emulator.url)
        answer = await http.post(f"{session}/jobs", json=body, headers=key)
        no(answer, 409, "key_used")
        assert answer.json()["queued"] == [job["id"] for job in jobs]
        await all_ended(http, 2)
        other = ok(await http.post(f"{session}/jobs", json=body, headers={"Idempotency-Key": "order-18"}), 201)["jobs"]
        for job in other:
            await ended(http, job["id"])
        assert await server.end() == 0
    assert emulator.core.number == 4
