"""Following jobs over a bad network and on a bad server: each ends as the server's record says, once, or says why not.

The numbers are those of the fault tests that the project set itself; what an emulator shows, a real ComfyUI does too.
"""

import asyncio
import json
import random
import re
import tracemalloc
import uuid

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from comfyclient import (
    ComfyClient,
    ConfigError,
    Finished,
    JobCancelled,
    JobFailed,
    JobState,
    NodeFinished,
    NodeProgress,
    NodeStarted,
    OutcomeUnknown,
    OutputReady,
    Preview,
    Stalled,
    Started,
)
from comfyclient.socket import EventSocket, _Connect
from comfyclient.watch import Watcher
from comfyclient.wire.lifecycle import Cadence
from comfyclient.wire.messages import encode_preview, text_message

from ..contract.prompts import failing, picture, slow  # noqa: TID252
from .following import client, connected, connected_by_a_job, everything, first, heard, listening
from .frames import DelayFrame, Later, Repeat, Swallow
from .http_toxics import Answer, Lose
from .submitting import following, held_up, tasks
from .toxics import ResetPeer, Timeout
from .virtual import ModelHttp, in_no_time

FOREIGN = str(uuid.uuid4())


# 15: sockets that are open and say nothing


async def test_a_socket_that_the_server_forgot_is_found_by_the_record(faults):
    """The server drops the new socket of a client id when it learns that the old one is gone."""
    async with client(faults) as comfy:
        await (await comfy.submit(picture())).result(60)
        faults.drop_sockets(keep_upstream=True)
        await faults.book.until(lambda: faults.book.sockets == 2)
        await connected(comfy)
        await faults.close_kept()
        for _ in range(5):  # until the server has noticed
            await comfy.info()
        assert (await (await comfy.submit(picture())).result(60)).outputs
        await faults.book.until(lambda: faults.book.sockets == 3)
        await connected(comfy)
        assert comfy._watcher.deaf == 1
        seen = heard(faults)
        await (await comfy.submit(picture())).result(60)
        assert {"execution_start", "execution_success"} <= {message["type"] for message in seen if message}
        assert comfy._watcher.deaf == 1


async def test_so_it_is_when_the_job_runs_already(proxied, emulator):
    """Only that its end is not told shows it."""
    async with client(proxied) as comfy:
        hold = emulator.faults.hold("SaveImage")
        job = await comfy.submit(picture())
        await first(job, NodeStarted)
        await hold.reached()
        proxied.freeze("down")
        hold.release()
        while (followed := comfy._watcher.get(job.id)) is not None:
            comfy._watcher.look_soon(followed)  # that is what a quarter of a minute would do
            await asyncio.sleep(0.05)
        assert (await job.result(60)).outputs
        while not comfy._watcher.deaf:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        proxied.thaw("down")


# 17, 18: sockets that do not last, or never come


async def test_a_socket_that_is_cut_again_and_again(faults):
    steps = 40
    async with client(faults) as comfy:
        job = await comfy.submit(slow(steps=steps, size=256))
        told, cuts = [], 0
        async for event in job.events():
            told.append(event)
            if isinstance(event, NodeFinished) and cuts < 6:
                cuts += 1
                faults.drop_sockets()
        result = await job.result(60)
    assert [output.node_id for output in result.outputs] == ["end"]
    assert [event.state for event in told if isinstance(event, Finished)] == [JobState.SUCCEEDED]
    assert isinstance(told[-1], Finished)
    shares = [event.overall for event in told if isinstance(event, NodeFinished | NodeProgress)]
    assert shares == sorted(shares)
    done = [event.node_id for event in told if isinstance(event, NodeFinished)]
    assert len(done) == len(set(done))
    assert sum(isinstance(event, Started) for event in told) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 502])
async def test_without_any_websocket_jobs_are_polled(faults, status):
    faults.on("GET", "/ws", Answer(status, {}, "no"), times=None)
    async with client(faults) as comfy:
        jobs = [await comfy.submit(picture()) for _ in range(3)]
        assert [(await job.result(60)).outputs[0].node_id for job in jobs] == ["2", "2", "2"]
        with pytest.raises(JobFailed):
            await (await comfy.submit(failing())).result(60)
        assert not comfy.connected
    assert faults.book.sockets == 0
    assert faults.book.requests["GET", "/ws"] <= 3


class _Session:
    active = False
    generation = 0

    async def enter(self):
        return 0

    def socket_query(self, url):
        return {}

    def headers(self, url):
        return {}


class _Http:
    session, tls_context, trust_env = _Session(), None, False

    def url(self, path):
        from yarl import URL

        return URL("http://127.0.0.1:1") / path.lstrip("/")


@pytest.mark.parametrize("status", [400, 403, 404, 502])
def test_handshakes_that_are_refused_for_an_hour(monkeypatch, status):
    """A few a minute, and memory does not grow."""
    attempts = []

    async def refused(self):
        attempts.append(asyncio.get_running_loop().time())
        raise InvalidStatus(Response(status, "no", Headers()))

    monkeypatch.setattr(EventSocket, "_connect", refused)

    async def hour():
        sock = EventSocket(_Http(), "id", on_frame=lambda frame: None, on_connection=lambda up: None)
        await sock.start()
        await asyncio.sleep(600)
        tracemalloc.start()
        await asyncio.sleep(600)
        before = tracemalloc.get_traced_memory()[0]
        await asyncio.sleep(2400)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        await sock.close()
        assert sock.error == f"the websocket was refused with HTTP {status}"
        return grown

    assert in_no_time(hour()) < 100_000
    most = max(sum(start <= at < start + 60 for at in attempts) for start in attempts)
    assert most <= 12
    assert 120 <= len(attempts) <= 480


def test_sockets_that_are_cut_as_soon_as_they_are_open_for_an_hour(monkeypatch):
    """They are opened less and less often, and the server is asked no more often for that."""
    opened = []

    class Cut:
        async def __aenter__(self):
            opened.append(asyncio.get_running_loop().time())
            return self

        async def __aexit__(self, *_):
            pass

        async def send(self, frame):
            pass

        async def recv(self):
            return text_message("status", {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "id"})

        def __aiter__(self):
            return self

        async def __anext__(self):
            await asyncio.sleep(1)
            raise StopAsyncIteration

    async def connect(self):
        return Cut()

    monkeypatch.setattr(EventSocket, "_connect", connect)

    async def hour():
        http = ModelHttp()
        watcher = Watcher(http, cadence=Cadence(), patience=120, on_deaf=lambda: None)
        sock = EventSocket(_Http(), "id", on_frame=watcher.on_frame, on_connection=watcher.on_connection)
        await sock.start()
        http.pending.append("job")
        watcher.accepted(watcher.follow("job", (), str))
        await asyncio.sleep(3600)
        await sock.close()
        await watcher.close()
        return http

    http = in_no_time(hour())
    assert len(opened) <= 480
    assert len(http.asked) <= 3600


# 19, 20, 22, 23: messages that mislead


async def test_a_node_that_is_told_of_without_its_job(faults):
    """That is how a server greets who comes back: it belongs to one of the client's jobs, but to which?"""
    async with client(faults) as comfy:
        seen = heard(faults)
        job = await comfy.submit(slow(steps=40))
        waiting = await comfy.submit(picture())
        started = listening(waiting, Started)
        await first(job, NodeFinished)
        faults.drop_sockets()
        await faults.book.until(lambda: faults.book.sockets == 2)
        await connected(comfy)
        await first(job, NodeProgress | NodeFinished)
        greetings = [m for m in seen if m and m["type"] == "executing" and "prompt_id" not in m["data"]]
        assert len(greetings) == 1
        assert waiting.state is JobState.PENDING
        assert not started.done()
        await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(60)
        assert (await waiting.result(60)).outputs
        await started


def of_others(rng):
    """Messages about a job of somebody else, right and wrong ones."""
    made = [
        text_message("execution_start", {"prompt_id": FOREIGN}),
        text_message("execution_success", {"prompt_id": FOREIGN}),
        text_message("executing", {"node": None, "prompt_id": FOREIGN}),
        text_message("executing", {"node": "1"}),
        text_message("executing", {"node": None}),
        text_message("progress", {"value": 1, "max": 2, "node": "1"}),
        text_message("progress_state", {"prompt_id": FOREIGN, "nodes": {"2": {"state": "finished"}}}),
        text_message("execution_interrupted", {"prompt_id": FOREIGN, "node_id": "1"}),
        encode_preview(b"x", "image/png"),
        encode_preview(b"x", "image/png", {"prompt_id": FOREIGN, "node_id": "2"}),
    ]
    return rng.sample(made, len(made))


async def test_messages_doubled_late_lost_and_of_others(faults):
    """Seven in ten arrive as they should; each job ends as recorded all the same."""
    rng = random.Random(faults.seed)
    async with client(faults) as comfy:
        await connected_by_a_job(comfy)
        for toxic, chance in ((Repeat(), 0.1), (Later(3), 0.1), (Swallow(), 0.1), (DelayFrame(0.01), 0.05)):
            faults.on_message(toxic, times=None, probability=chance)
        async with held_up(comfy, slow(steps=200)) as running:
            jobs = [await comfy.submit(prompt) for prompt in (picture(), failing(), picture(), picture())]
            told = [asyncio.create_task(everything(job)) for job in jobs]
            for message in of_others(rng):
                await faults.inject(message)
            assert await jobs[2].cancel() is JobState.CANCELLED
            await running.cancel()
            states = [await job.wait() for job in jobs]
        assert states == [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.SUCCEEDED]
        for listener, state in zip(told, states, strict=True):
            events = await listener
            assert [event.state for event in events if isinstance(event, Finished)] == [state]
            assert isinstance(events[-1], Finished)
            assert {event.prompt_id for event in events} <= {job.id for job in jobs}


@pytest.mark.parametrize("size", [5 * 10**6, 100 * 10**6])
async def test_a_huge_message_is_read(proxied, emulator, size):
    async with client(proxied) as comfy:
        hold = emulator.faults.hold("SaveImage")
        job = await comfy.submit(picture())
        await first(job, NodeStarted)
        ready = listening(job, OutputReady)
        await hold.reached()
        output = {"text": ["x" * size], "images": [{"filename": "a.png", "subfolder": "", "type": "temp"}]}
        data = {"prompt_id": job.id, "node": "1", "display_node": "1", "output": output}
        await proxied.inject(text_message("executed", data))
        assert (await ready).outputs[0].filename == "a.png"
        hold.release()
        assert [output.node_id for output in (await job.result(60)).outputs] == ["2"]
    assert proxied.book.sockets == 1


async def test_a_message_beyond_the_limit_ends_a_socket_and_no_job(proxied, emulator, monkeypatch):
    monkeypatch.setattr("comfyclient.socket._MAX_FRAME", 2**20)
    async with client(proxied) as comfy:
        await connected_by_a_job(comfy)
        hold = emulator.faults.hold("SaveImage")
        job = await comfy.submit(picture())
        await hold.reached()
        await proxied.inject(b"\0\0\0\1" + bytes(2**21))
        await proxied.book.until(lambda: proxied.book.open_sockets == 0)
        hold.release()
        assert (await job.result(60)).outputs
        await proxied.book.until(lambda: proxied.book.sockets == 2)
        await connected_by_a_job(comfy)
    assert proxied.book.sockets == 2


GARBAGE = [
    b"", b"\0\0\0", b"\0\0\0\1", b"\0\0\0\4\xff\xff\xff\xff{}", b"\0\0\0\4\0\0\0\2[]x", b"\0\0\0\x63" + bytes(64),
    b"\0\0\0\3\xff\xff\xff\xffx", b"\xff" * 64, "", "null", "[]", "{}", '{"type": 5}', "{" * 5000,
    '{"type": "executing"}',
    '{"type": "executing", "data": []}', '{"type": "progress_state", "data": {"prompt_id": 5, "nodes": []}}', "\ufffd",
]  # fmt: skip


async def test_garbage_is_counted_and_changes_nothing(proxied, emulator):
    async with client(proxied) as comfy:
        await connected_by_a_job(comfy)
        hold = emulator.faults.hold("SaveImage")
        job = await comfy.submit(picture(), previews=True)
        told = asyncio.create_task(everything(job, previews=True))
        await hold.reached()
        await first(job, NodeStarted, node="2")
        progress = listening(job, NodeProgress)
        for frame in GARBAGE:
            await proxied.inject(frame)
        await proxied.inject(text_message("progress", {"prompt_id": job.id, "node": "2", "value": 3, "max": 4}))
        await progress
        assert comfy._watcher.strange >= len(GARBAGE) - 4
        hold.release()
        assert (await job.result(60)).outputs
        assert [type(event) for event in await told][-1] is Finished
    assert proxied.book.sockets == 1


# 21: the record comes late


@pytest.mark.parametrize("misses", [1, 8])
async def test_the_record_comes_long_after_the_end(faults, misses):
    async with client(faults) as comfy:
        await connected_by_a_job(comfy)
        rule = faults.on("GET", "/history", Answer(200, {"Content-Type": "application/json"}, "{}"), times=misses)
        job = await comfy.submit(picture())
        assert [output.node_id for output in (await job.result(60)).outputs] == ["2"]
    assert rule.hits == misses


@pytest.mark.parametrize("ends", [("execution_success",), ("execution_success", "executing"), ("executing",)])
def test_the_record_comes_five_seconds_after_the_end(ends):
    """The job is nowhere until then, and that is no loss; nor is it an end without outputs."""

    async def run():
        http = ModelHttp()
        watcher = Watcher(http, cadence=Cadence(), patience=120, on_deaf=lambda: None)
        watcher.on_connection(up=True)
        job = watcher.follow("job", ("1",), str)
        http.pending.append("job")
        watcher.accepted(job)
        http.start()
        watcher.on_frame(text_message("execution_start", {"prompt_id": "job"}))
        await asyncio.sleep(20)
        http.running.clear()
        for end in ends:
            watcher.on_frame(text_message(end, {"prompt_id": "job", "node": None}))

        def write():
            http.running.append("job")
            http.end(outputs={"1": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}})

        asyncio.get_running_loop().call_later(5, write)
        asked = len(http.asked)
        await job.wait()
        assert job.tracker.state is JobState.SUCCEEDED
        assert job.tracker.record.outputs
        assert len(http.asked) - asked <= 60
        await watcher.close()

    in_no_time(run())


# 24: a flood of pictures


async def test_pictures_that_nobody_has_time_for(proxied, emulator):
    """The socket is drained, the newest picture is kept, and what counts comes through."""
    size, number = 500_000, 300
    async with client(proxied) as comfy:
        await connected_by_a_job(comfy)
        hold = emulator.faults.hold("SaveImage")
        job = await comfy.submit(picture(), previews=True)
        seen, begun, go_on = [], asyncio.Event(), asyncio.Event()

        async def listen():
            async for event in job.events(previews=True):
                seen.append(event)
                if isinstance(event, Preview):
                    begun.set()
                    await go_on.wait()

        slow_one = asyncio.create_task(listen())
        await hold.reached()
        await first(job, NodeStarted, node="2")
        facts = {"prompt_id": job.id, "node_id": "2", "display_node_id": "2"}
        await proxied.inject(encode_preview(b"first", "image/jpeg", facts))
        await begun.wait()
        progress = listening(job, NodeProgress)
        tracemalloc.start()
        for n in range(number):
            await proxied.inject(encode_preview(n.to_bytes(4) + bytes(size), "image/jpeg", facts))
        await proxied.inject(text_message("progress", {"prompt_id": job.id, "node": "2", "value": 3, "max": 4}))
        await progress
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        hold.release()
        await job.result(60)  # while the slow one still looks at the first picture
        go_on.set()
        await slow_one
    pictures = [event.image for event in seen if isinstance(event, Preview)]
    assert len(pictures) == 2
    assert pictures[1][:4] == (number - 1).to_bytes(4)
    assert isinstance(seen[-1], Finished)
    assert peak < 64 * 2**20


# 26: a network that holds its breath


async def test_a_network_that_carries_nothing_any_more(proxied, emulator, monkeypatch):
    """No end, no answer: pings find it, and the job's fate is right."""
    monkeypatch.setattr(
        "comfyclient.socket._Connect",
        lambda *args, **options: _Connect(*args, **options | {"ping_interval": 0.1, "ping_timeout": 0.2}),
    )
    async with client(proxied, timeout=0.5) as comfy:
        hold = emulator.faults.hold("SaveImage")
        job = await comfy.submit(picture())
        await hold.reached()
        proxied.poison(Timeout(), sockets_only=False)
        await proxied.book.until(lambda: proxied.book.sockets == 2)
        hold.release()
        assert (await job.result(60)).outputs


# 28, 29: a server that is away, or stands still


async def test_resubmit_must_be_one_of_two(server_url):
    async with ComfyClient(server_url) as comfy:
        with pytest.raises(ConfigError, match="resubmit"):
            await comfy.submit(picture(), resubmit="always")


async def test_a_server_that_is_away_for_good(faults):
    """Nobody can say how it went, and nobody does."""
    async with client(faults, patience=0.5) as comfy:
        job = await comfy.submit(slow(), resubmit="lost")
        async with faults.down():
            with pytest.raises(OutcomeUnknown) as caught:
                await job.result(60)
            assert caught.value.prompt_id == job.id
            assert job.state is JobState.UNKNOWN
            assert "lost" not in str(caught.value)
        again = await comfy.job(job.id)
        await again.cancel()
        assert await again.wait() in {JobState.CANCELLED, JobState.SUCCEEDED}
    assert len(faults.book.posts) == 1


async def test_a_deadline_that_passes_while_the_server_is_away(faults):
    async with client(faults) as comfy:
        job = await comfy.submit(slow())
        async with faults.down():
            with pytest.raises(OutcomeUnknown) as caught:
                await job.result(0.3)
            assert caught.value.prompt_id == job.id
            assert not job.state.is_terminal
        await job.cancel()
        await job.wait()


async def test_what_moves_again_has_not_stalled(proxied, emulator):
    async with client(proxied, stall_timeout=0.3) as comfy:
        hold = emulator.faults.hold("SaveImage")
        job = await comfy.submit(picture())
        waiting = await comfy.submit(picture())
        told = asyncio.create_task(everything(job)), asyncio.create_task(everything(waiting))
        await asyncio.gather(first(job, Stalled), first(waiting, Stalled))
        assert (job.state, waiting.state) == (JobState.STALLED, JobState.STALLED)
        hold.release()
        assert (await job.result(60)).outputs
        assert (await waiting.result(60)).outputs
        for listener in told:
            kinds = [type(event) for event in await listener]
            assert kinds[-1] is Finished
            behind = kinds[kinds.index(Stalled) :]
            assert Started in behind or OutputReady in behind


async def test_one_that_waits_for_a_job_that_moves_has_not_stalled(proxied, emulator):
    """Its own place does not change for long; that of the one before it does not either, but it tells of itself."""
    async with client(proxied, stall_timeout=1.0) as comfy:
        emulator.faults.slow("ImageBlur", 0.15)
        running = await comfy.submit(slow(steps=20, size=16))
        waiting = await comfy.submit(picture())
        told = await everything(waiting)
        await running.wait()
    assert not [event for event in told if isinstance(event, Stalled)]


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
async def test_a_stall_timeout_is_more_than_nothing(seconds):
    with pytest.raises(ConfigError, match="stall_timeout"):
        ComfyClient(stall_timeout=seconds)


# 31, 33: races and clocks, in no time


@pytest.mark.parametrize("order", range(20))
def test_a_job_that_moves_while_it_is_looked_for(order):
    """Between the queue and the history it begins and ends, again and again; it is never taken for lost."""
    rng = random.Random(order)

    async def run():
        http = ModelHttp()
        watcher = Watcher(http, cadence=Cadence(first=0.1, most=0.5), patience=60, on_deaf=lambda: None)
        jobs = [watcher.follow(f"job-{n}", (), str) for n in range(30)]
        for job in jobs:
            http.pending.append(job.tracker.prompt_id)
            watcher.accepted(job)

        def move():
            for _ in range(rng.randrange(4)):
                if http.running:
                    http.end()
                elif http.pending:
                    http.start()

        http.behind = move
        for job in jobs:
            await job.wait()
        assert {job.tracker.state for job in jobs} == {JobState.SUCCEEDED}
        await watcher.close()

    in_no_time(run())


@pytest.mark.parametrize("shift", [0, 315_360_000_000, -315_360_000_000])
@pytest.mark.parametrize("kind", [int, float, str])
async def test_clocks_that_are_ten_years_off(faults, shift, kind):
    """Durations are the difference of two times of one clock; a time that is none is not shown."""
    async with client(faults) as comfy:
        job = await comfy.submit(picture())
        await job.wait()
        entry = (await comfy._http.get_json(f"/history/{job.id}"))[job.id]
        for _, data in entry["status"]["messages"]:
            data["timestamp"] = kind(data["timestamp"] + shift)
        faults.on(
            "GET", f"/history/{job.id}", Answer(200, {"Content-Type": "application/json"}, json.dumps({job.id: entry}))
        )
        result = await (await comfy.job(job.id)).result(60)
    if kind is str:
        assert (result.started, result.ended, result.duration) == (None, None, None)
    else:
        assert 0 <= result.duration < 60
        assert result.ended >= result.started


async def test_a_clock_that_is_set_while_a_job_runs(faults):
    async with client(faults) as comfy:
        job = await comfy.submit(picture())
        await job.wait()
        entry = (await comfy._http.get_json(f"/history/{job.id}"))[job.id]
        entry["status"]["messages"][-1][1]["timestamp"] -= 10**9
        faults.on(
            "GET", f"/history/{job.id}", Answer(200, {"Content-Type": "application/json"}, json.dumps({job.id: entry}))
        )
        assert (await (await comfy.job(job.id)).result(60)).duration == 0.0


# 32: one file for two jobs


async def test_a_rerun_from_the_cache_gives_each_job_its_own_file(faults, tmp_path):
    prompt = picture()
    async with client(faults) as comfy:
        jobs = [await comfy.submit(prompt) for _ in range(2)]
        results = [await job.result(60) for job in jobs]
        assert results[0].outputs[0].filename == results[1].outputs[0].filename
        saved = [path for result in results for path in await result.save(tmp_path)]
    assert len(set(saved)) == 2
    assert saved[0].read_bytes() == saved[1].read_bytes()
    assert saved[0].read_bytes().startswith(b"\x89PNG")


# 36, and what it costs


async def test_many_jobs_over_a_bad_network(faults):
    """One request in ten goes wrong, and sockets break: each job ends once, runs once, and nothing is left behind."""
    async with ComfyClient(faults.url, poll_interval=0.1, timeout=5) as comfy:
        faults.on("GET", re.compile("/queue|/history"), ResetPeer(), times=None, probability=0.1)
        faults.on("POST", "/prompt", Lose(), times=None, probability=0.1)
        faults.on_message(Swallow(), times=None, probability=0.1)
        told, ended = [], []
        async for job in comfy.run([picture() for _ in range(60)], queued=told.append):
            ended.append(job.id)
            if len(ended) % 10 == 0:
                faults.drop_sockets()
        assert sorted(ended) == sorted(job.id for job in told)
        assert {job.state for job in told} == {JobState.SUCCEEDED}
        assert len({(await job.result()).outputs[0].filename for job in told}) == 60
        assert following(comfy) == []
    assert tasks() == []
    assert sum(faults.book.requests.values()) <= 60 * 6


@pytest.mark.parametrize("hearing", [True, False])
def test_an_hour_of_waiting_is_cheap_however_many_wait(hearing):
    """One look for all: every two seconds where nothing is heard, four times a minute where something would be.

    Each that is new adds some of its own.
    """

    async def hour():
        http = ModelHttp()
        watcher = Watcher(http, cadence=Cadence(), patience=120, stall_timeout=None, on_deaf=lambda: None)
        if hearing:
            watcher.on_connection(up=True)
        jobs = [watcher.follow(f"job-{n}", (), str) for n in range(100)]
        for n, job in enumerate(jobs):
            http.pending.append(job.tracker.prompt_id)
            await asyncio.sleep(0.01 * n)
            watcher.accepted(job)
        await asyncio.sleep(3600)
        assert {job.tracker.state for job in jobs} == {JobState.PENDING}
        assert {path for _, path in http.asked} == {"/queue"}
        await watcher.close()
        return len(http.asked)

    asked = in_no_time(hour())
    assert asked <= (3600 / 15 if hearing else 3600 / 2) + 3 * 100


def test_a_server_that_is_away_is_asked_less_and_less_and_then_given_up():
    async def run():
        http = ModelHttp()
        watcher = Watcher(http, cadence=Cadence(), patience=120, on_deaf=lambda: None)
        job = watcher.follow("job", (), str)
        http.pending.append("job")
        watcher.accepted(job)
        await asyncio.sleep(10)
        http.down = True
        before, began = len(http.asked), asyncio.get_running_loop().time()
        await job.wait()
        assert job.tracker.state is JobState.UNKNOWN
        assert 115 <= asyncio.get_running_loop().time() - began <= 130
        await watcher.close()
        return len(http.asked) - before

    assert in_no_time(run()) <= 60
