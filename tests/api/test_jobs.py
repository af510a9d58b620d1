"""Jobs: what becomes of them, what they made, and how that is told."""

import asyncio
import json

import httpx
import pytest
import websockets

from comfyclient.api.events import EventLog
from comfyclient.api.settings import Limits
from comfyclient.emulator import Emulator
from comfyclient.emulator.nodes import Outcome

from ..contract.prompts import failing, picture, slow  # noqa: TID252
from ..faults.http_toxics import Answer, CutResponse  # noqa: TID252
from ..faults.proxy import FaultProxy  # noqa: TID252
from .rig import SECONDS, ended, new_session, no, noise, ok, queue, save_workflow, serving, stories, story

BIG = 3 * 2**20 + 17


async def test_a_job_from_its_queueing_to_its_outputs(server_url):
    async with serving() as served, served.client() as http:
        session = await new_session(http, server_url)
        answer = await http.post(f"{session}/jobs", json={"workflow": noise((5, "fixed")), "seed": 3})
        [job] = ok(answer, 201)["jobs"]
        assert job["session_id"] == session.rpartition("/")[2]
        assert (job["url"], job["seeds"], job["error"]) == (server_url, {"2.seed": 3}, None)
        told = await story(http, job["id"])
        numbers = [number for number, _ in told]
        assert numbers == sorted(set(numbers))
        assert {event["prompt_id"] for _, event in told} == {job["id"]}
        assert told[-1][1] == {"event": "finished", "prompt_id": job["id"], "state": "succeeded"}
        done = ok(await http.get(f"/jobs/{job['id']}"))
        assert (done["state"], done["progress"]["value"], done["progress"]["nodes_total"]) == ("succeeded", 1.0, 3)
        assert done["ended_at"] >= done["created_at"]
        [output] = ok(await http.get(f"/jobs/{job['id']}/outputs"))["outputs"]
        assert (output["node_id"], output["class_type"], output["kind"]) == ("3", "SaveImage", "images")
        data = await http.get(output["url"])
        assert data.content.startswith(b"\x89PNG")
        assert data.headers["Content-Type"] == "image/png"
        assert data.headers["Content-Disposition"].startswith("attachment;")


async def test_a_node_that_raises_is_told_as_data(server_url):
    async with serving() as served, served.client() as http:
        session = await new_session(http, server_url)
        [job] = await queue(http, session, failing())
        done = await ended(http, job["id"])
        assert done["state"] == "failed"
        error = done["error"]
        assert (error["code"], error["node_id"], error["class_type"]) == ("job_failed", "3", "RegexReplace")
        assert done["reason"] == error["message"]
        no(await http.get(f"/jobs/{job['id']}/outputs"), 409, "no_outputs")


async def test_pages_and_states(emulator):
    async with serving() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        jobs = [job["id"] for job in await queue(http, session, picture(), iterations=5)]
        for job in jobs:
            await ended(http, job)
        seen, after = [], None
        while True:
            page = ok(await http.get("/jobs", params={"limit": 2, **({"after": after} if after else {})}))
            seen += [job["id"] for job in page["jobs"]]
            if (after := page["next"]) is None:
                break
        assert seen == jobs[::-1]
        assert len(ok(await http.get("/jobs?state=succeeded"))["jobs"]) == 5
        assert ok(await http.get("/jobs?state=failed"))["jobs"] == []
        for params in ({"limit": 0}, {"limit": 1001}, {"state": "happy"}, {"limit": "x"}):
            no(await http.get("/jobs", params=params), 422, "invalid_request")
        no(await http.get("/jobs?after=nothing"), 404, "not_found")


async def test_cancelling_one_touches_no_other(server_url):
    async with serving() as served, served.client() as http:
        session = await new_session(http, server_url)
        [running] = await queue(http, session, slow())
        waiting, other = [(await queue(http, session, picture()))[0] for _ in range(2)]
        async with http.stream("GET", f"/jobs/{running['id']}/events") as stream:
            async for _, event in stories(stream.aiter_lines()):
                if event["event"] in {"started", "node_started", "node_progress"}:
                    break
        assert ok(await http.delete(f"/jobs/{waiting['id']}"))["details"]["state"] == "cancelled"
        assert ok(await http.delete(f"/jobs/{running['id']}"))["details"]["state"] in {"running", "cancelled"}
        assert (await ended(http, running["id"]))["state"] == "cancelled"
        assert (await ended(http, waiting["id"]))["state"] == "cancelled"
        assert (await ended(http, other["id"]))["state"] == "succeeded"
        for job in (running, waiting):
            assert ok(await http.delete(f"/jobs/{job['id']}"))["details"]["state"] == "cancelled"
        assert ok(await http.delete(f"/jobs/{other['id']}"))["details"]["state"] == "succeeded"


async def test_the_oldest_that_have_ended_are_forgotten(emulator):
    async with serving(limits=Limits(kept_jobs=3)) as served, served.client() as http:
        session = await new_session(http, emulator.url)
        jobs = [job["id"] for job in await queue(http, session, picture(), iterations=3)]
        for job in jobs:
            await ended(http, job)
        jobs += [job["id"] for job in await queue(http, session, picture())]
        await ended(http, jobs[3])
        assert [job["id"] for job in ok(await http.get("/jobs"))["jobs"]] == jobs[:0:-1]
        no(await http.get(f"/jobs/{jobs[0]}"), 404, "not_found")


# Bytes


@pytest.fixture
async def big():
    """An instance whose ``PreviewAny`` leaves a file of some size, and one that the test names."""
    names = {}

    async def write(call):
        place = call.run.folders.save_place("big")
        name = place.name(0, "bin")
        (place.folder / name).write_bytes(bytes(range(256)) * (BIG // 256) + b"x" * (BIG % 256))
        return Outcome((), {"images": [place.entry(name)], **names})

    async with Emulator(nodes={"PreviewAny": write}) as emulator:
        emulator.names = names
        yield emulator


SHOW = {"1": {"class_type": "PreviewAny", "inputs": {"source": "x"}}}


async def test_parts_of_a_file_are_passed_through(big):
    async with serving() as served, served.client() as http:
        session = await new_session(http, big.url)
        [job] = await queue(http, session, SHOW)
        await ended(http, job["id"])
        url = f"/jobs/{job['id']}/outputs/0"
        whole = await http.get(url)
        assert (whole.status_code, len(whole.content)) == (200, BIG)
        assert whole.headers["Content-Length"] == str(BIG)
        mark = {name: whole.headers[name] for name in ("ETag", "Last-Modified") if name in whole.headers}
        assert mark
        part = await http.get(url, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, whole.content[100:200])
        assert part.headers["Content-Range"] == f"bytes 100-199/{BIG}"
        rest = await http.get(url, headers={"Range": f"bytes={BIG - 5}-", "If-Range": next(iter(mark.values()))})
        assert (rest.status_code, rest.content) == (206, whole.content[-5:])
        changed = await http.get(url, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
        assert (changed.status_code, len(changed.content)) == (200, BIG)
        beyond = await http.get(url, headers={"Range": f"bytes={BIG}-"})
        assert beyond.status_code == 416
        for name, header in (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")):
            if name in mark:
                same = await http.get(url, headers={header: mark[name]})
                assert (same.status_code, same.content) == (304, b"")
        for number in ("1", "-1", "99999999999999999999", "x"):
            assert (await http.get(f"/jobs/{job['id']}/outputs/{number}")).status_code in {404, 422}


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
BREAKS = {
    "length": CutResponse(at=2**20),
    "chunks": Answer(raw=HEAD + b"Transfer-Encoding: chunked\r\n\r\n8\r\n\x89PNG\r\n\x1a\n\r\n", then="close"),
    "no chunks": Answer(raw=HEAD + b"Transfer-Encoding: chunked\r\n\r\n8\r\n\x89PNG\r\n\x1a\nxx\r\nno size\r\n"),
    "until it closes": Answer(raw=HEAD + b"Connection: close\r\n\r\n\x89PNG\r\n\x1a\n", then="reset"),
}


@pytest.mark.parametrize("framed", BREAKS)
async def test_an_instance_that_dies_in_the_middle_makes_a_broken_transfer_and_no_short_file(big, framed):
    async with FaultProxy(big.url) as proxy, serving() as served, served.client() as http:
        session = await new_session(http, proxy.url)
        [job] = await queue(http, session, SHOW)
        await ended(http, job["id"])
        url = f"/jobs/{job['id']}/outputs/0"
        proxy.on("GET", "/view", BREAKS[framed])
        if framed == "no chunks":  # all of it is there before anything is passed on
            no(await http.get(url), 502, "not_comfyui")
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(url)
        assert len((await http.get(url)).content) == BIG
        proxy.on("GET", "/view", Answer(404))
        no(await http.get(url), 502, "transfer_failed")
        async with proxy.down():
            no(await http.get(url), 503, "instance_unavailable")


async def test_hostile_names_of_outputs_go_nowhere(big):
    """Attack 64: the names are data; nothing is opened by them here, and a browser is told a harmless one."""
    names = [
        "../../.ssh/authorized_keys", "C:\\x", "..\\x", "a/b", "NUL", "x:ads", "n" * 5000,
        "a\r\nSet-Cookie: x=1", "\x00",
        '"; filename="evil.html', "\u202egnp.exe", "", ".", "..", "-rf", {"a": 1}, ["x"], 7, None, True,
    ]  # fmt: skip
    big.names["images"] = [{"filename": name, "subfolder": "../..", "type": "output"} for name in names]
    big.names["images"] += [{"filename": "x.png", "subfolder": place, "type": kind} for place, kind in (
        ("/etc", "output"), ("", "../../etc"), ({}, []), ("x" * 9999, "input"),
    )]  # fmt: skip
    big.names["gifs"] = {"filename": "x"}
    big.names["text"] = ["\ud800 half", "\x1b[31m", "t" * 100_000]
    async with serving() as served, served.client() as http:
        session = await new_session(http, big.url)
        [job] = await queue(http, session, SHOW)
        done = await ended(http, job["id"])
        assert done["state"] == "succeeded"
        found = ok(await http.get(f"/jobs/{job['id']}/outputs"))
        assert all(isinstance(one["filename"], str) for one in found["outputs"])
        for one in found["outputs"]:
            answer = await http.get(one["url"])
            assert answer.status_code in {401, 404, 502}, (one, answer.status_code)
            assert "Set-Cookie" not in answer.headers
            told = answer.headers.get("Content-Disposition", "")
            assert "/" not in told.replace("UTF-8''", "")


async def test_very_many_outputs_are_listed_and_not_kept(big):
    big.names["images"] = [{"filename": f"{n}.png", "subfolder": "", "type": "output"} for n in range(5000)]
    async with serving() as served, served.client() as http:
        session = await new_session(http, big.url)
        [job] = await queue(http, session, SHOW)
        assert (await ended(http, job["id"]))["state"] == "succeeded"
        assert served.hub.book.get("local", job["id"]).made is None
        assert len(ok(await http.get(f"/jobs/{job['id']}/outputs"))["outputs"]) == 5000
        no(await http.get(f"/jobs/{job['id']}/outputs/5000"), 404, "not_found")


async def test_a_mistake_of_ours_in_following_is_told_and_no_job_seems_to_run_for_ever(emulator, monkeypatch, caplog):
    async def broken(*_):
        raise RuntimeError("a mistake")

    monkeypatch.setattr("comfyclient.job.Job.result", broken)
    async with serving() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        [job] = await queue(http, session, picture())
        record = served.hub.book.get("local", job["id"])
        while record.task is not None:
            await asyncio.wait({record.task})
        told = ok(await http.get(f"/jobs/{job['id']}"))
        assert (told["state"], told["error"]["code"]) == ("unknown", "internal_error")
        monkeypatch.undo()
        served.hub.session_for(record).attacher.wake()
        assert (await ended(http, job["id"]))["state"] == "succeeded"
    assert "a mistake" in caplog.text


async def test_what_could_run_as_a_page_is_handed_over_as_a_file(emulator):
    page = b"<script>alert(1)</script>"
    async with serving() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        [job] = await queue(http, session, picture())
        await ended(http, job["id"])
        for kind in ("text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "image/png\r\nX: y"):
            emulator.faults.answer("/view", 200, body=page, headers={"Content-Type": kind.partition("\r")[0]})
            answer = await http.get(f"/jobs/{job['id']}/outputs/0")
            if answer.status_code == 200:
                assert answer.headers["Content-Type"] in {"application/octet-stream", "image/png"}
                assert answer.headers["Content-Disposition"].startswith("attachment;")
                assert "sandbox" in answer.headers["Content-Security-Policy"]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
            else:
                no(answer, 502, "transfer_failed")


# Events


async def test_who_was_cut_off_goes_on_where_it_was(emulator):
    async with serving() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        hold = emulator.faults.hold("SaveImage")
        [job] = await queue(http, session, picture())
        await hold.reached()
        address = f"{served.url.replace('http', 'ws')}/jobs/{job['id']}/events"
        async with http.stream("GET", f"/jobs/{job['id']}/events") as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            first = await anext(stories(stream.aiter_lines()))
        async with websockets.connect(address, proxy=None) as socket:
            begun = json.loads(await socket.recv())
            assert begun["id"] == first[0]
            hold.release()
            events = [begun, *[json.loads(message) async for message in socket]]
            assert socket.close_code == 1000
        assert [number for number, _ in await story(http, job["id"])] == [event["id"] for event in events]
        middle = events[len(events) // 2]["id"]
        rest = [event["id"] for event in events if event["id"] > middle]
        assert [number for number, _ in await story(http, job["id"], after=middle)] == rest
        async with websockets.connect(f"{address}?last_event_id={middle}", proxy=None) as socket:
            assert [json.loads(message)["id"] async for message in socket] == rest
        last = events[-1]["id"]
        assert (await http.get(f"/jobs/{job['id']}/events?last_event_id={last}")).status_code == 204
        for odd in ("", "x", "-1", "1e9", str(last + 5), "9" * 30):
            assert len(await story(http, job["id"], after=odd)) == len(events), odd
        no(await http.get("/jobs/nothing/events"), 404, "not_found")
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(address.replace(job["id"], "nothing"), proxy=None)
        assert refused.value.response.status_code == 404


async def test_there_are_only_so_many_listeners_and_their_places_come_free(emulator):
    async with serving(limits=Limits(streams=2)) as served, served.client() as http:
        session = await new_session(http, emulator.url)
        hold = emulator.faults.hold("SaveImage")
        [job] = await queue(http, session, picture())
        await hold.reached()
        path = f"/jobs/{job['id']}/events"
        address = f"{served.url.replace('http', 'ws')}{path}"
        async with http.stream("GET", path) as stream, websockets.connect(address, proxy=None) as socket:
            events = stories(stream.aiter_lines())
            await anext(events)
            await socket.recv()
            answer = await http.get(path)
            no(answer, 429, "too_many")
            assert int(answer.headers["Retry-After"]) > 0
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(address, proxy=None)
            assert refused.value.response.status_code == 429
            hold.release()
            await socket.wait_closed()
        assert (await story(http, job["id"]))[-1][1]["event"] == "finished"
        async with asyncio.timeout(SECONDS):
            await served.hub._streaming.over()
        assert +served.hub._streams == {}


async def test_a_listener_that_does_not_read_holds_nobody_up(emulator):
    """And is still told how it ended, once it reads on."""
    async with serving() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        hold = emulator.faults.hold("EmptyImage")
        [job] = await queue(http, session, picture())
        await hold.reached()
        record = served.hub.book.get("local", job["id"])
        port = served.settings.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**12)
        writer.write(f"GET /jobs/{job['id']}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        for number in range(20_000):
            record.log.add({"event": "output", "prompt_id": job["id"], "text": "x" * 500, "number": number})
        assert len(record.log._events) <= 2000
        hold.release()
        assert ok(await http.get(f"/jobs/{job['id']}"))["id"] == job["id"]
        async with asyncio.timeout(SECONDS):
            while record.task is not None:
                await asyncio.wait({record.task})
            said = b""
            while not said.endswith(b"0\r\n\r\n"):
                said += await reader.read(2**16)
        assert b"event: finished" in said
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "kinds", [["node_progress"], ["node_progress", "node_started"], ["output"], ["output", "queued"]]
)
async def test_whatever_is_left_out_of_a_long_story_it_comes_to_an_end(kinds):
    log = EventLog()
    heard = []

    async def listen():
        async for number, event in log.follow():
            heard.append((number, event["event"]))

    listening = asyncio.create_task(listen())
    late = asyncio.create_task(anext(log.follow(log.last + 10**6)))
    for number in range(5000):
        log.add({"event": kinds[number % len(kinds)], "prompt_id": "x", "node_id": str(number)})
        if number % 1000 == 0:
            await asyncio.sleep(0)
    log.end()
    async with asyncio.timeout(SECONDS):
        await listening
        await late
        assert [entry async for entry in log.follow(log.last)] == []
        again = [number for number, _ in [entry async for entry in log.follow(-1)]]
    assert again == sorted(set(again))
    assert [number for number, _ in heard] == sorted({number for number, _ in heard})


# The same request twice


async def test_the_same_request_is_done_once(emulator):
    async with serving() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        body = {"workflow": noise((5, "increment")), "iterations": 2}
        key = {"Idempotency-Key": "order-17"}
        answers = await asyncio.gather(*(http.post(f"{session}/jobs", json=body, headers=key) for _ in range(5)))
        jobs = ok(answers[0], 201)["jobs"]
        assert {answer.content for answer in answers} == {answers[0].content}
        assert [job["id"] for job in ok(await http.get("/jobs"))["jobs"]] == [job["id"] for job in jobs][::-1]
        no(await http.post(f"{session}/jobs", json={**body, "iterations": 3}, headers=key), 422, "key_reused")
        other = await new_session(http, emulator.url)
        no(await http.post(f"{other}/jobs", json=body, headers=key), 422, "key_reused")
        for bad in ("", "x" * 256):
            answer = await http.post(f"{session}/jobs", json=body, headers={"Idempotency-Key": bad})
            assert answer.status_code in {400, 422}, bad
        # Who left before the answer came asks again, and gets it.
        hold = asyncio.Event()
        held = next(iter(served.hub.sessions))
        submit = held.client.submit

        async def waits(*args, **options):
            await hold.wait()
            return await submit(*args, **options)

        held.client.submit = waits
        later = {"Idempotency-Key": "order-18"}
        with pytest.raises(httpx.ReadTimeout):
            await http.post(f"{session}/jobs", json=body, headers=later, timeout=httpx.Timeout(SECONDS, read=0.3))
        hold.set()
        again = ok(await http.post(f"{session}/jobs", json=body, headers=later), 201)["jobs"]
        assert len(ok(await http.get("/jobs"))["jobs"]) == 4
        for job in (*jobs, *again):
            await ended(http, job["id"])
    assert emulator.core.number == 4


async def test_what_failed_may_be_tried_again_under_the_same_key(emulator):
    async with serving() as served, served.client() as http:
        ok(await http.post("/session/start", json={"credentials": {"url": emulator.url}}))
        key = {"Idempotency-Key": "order-17"}
        no(await http.post("/workflow/queue", json={"iterations": 1}, headers=key), 400, "no_workflow")
        await save_workflow(emulator.url, "x.json", noise((5, "increment")))
        ok(await http.post("/workflow/open", json={"workflow_path": "x"}))
        first = ok(await http.post("/workflow/queue", json={"iterations": 1}, headers=key))
        assert ok(await http.post("/workflow/queue", json={"iterations": 1}, headers=key)) == first
        second = ok(await http.post("/workflow/queue", json={"iterations": 1}))
        assert (first["details"]["seeds"], second["details"]["seeds"]) == ([{"2.seed": 5}], [{"2.seed": 6}])
        for done in (first, second):
            await ended(http, done["details"]["job_ids"][0])
