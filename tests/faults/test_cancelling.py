"""Cancelling: one's own jobs, whatever they are doing, over whatever network; and the truth about what came of it."""

import asyncio
import contextlib
import json
import uuid

import pytest

from comfyclient import (
    ComfyClient,
    InstanceUnavailable,
    JobCancelled,
    JobState,
    NodeFinished,
    NodeStarted,
    Prompt,
    ProtocolError,
    Resubmitted,
    blocking,
)

from ..contract.prompts import image, picture, save, slow  # noqa: TID252
from .following import client
from .http_toxics import Answer, Lose, Stale
from .submitting import WithoutId, held_up
from .toxics import Latency, ResetPeer

JSON = {"Content-Type": "application/json"}
OLD = json.dumps({"system": {"comfyui_version": "0.3.56", "python_version": "3", "os": "x"}, "devices": []})
QUEUE = ("POST", "/queue")
INTERRUPT = ("POST", "/interrupt")


async def runs(job):
    """Wait until one of its nodes does."""
    async with contextlib.aclosing(job.events()) as events:
        async for event in events:
            if isinstance(event, NodeStarted | NodeFinished):
                return
    raise AssertionError(f"{job} has ended")


# On the emulator and on a real server


async def test_whatever_a_job_is_doing_and_twice(faults):
    async with client(faults) as comfy, ComfyClient(faults.upstream) as other:
        ended = await comfy.submit(picture())
        await ended.wait()
        running = await comfy.submit(slow())
        theirs = await other.submit(picture())
        waiting = await comfy.submit(picture())
        await runs(running)
        unknown = str(uuid.uuid4())
        for _ in range(2):
            assert await comfy.cancel(ended.id) is JobState.SUCCEEDED
            assert await comfy.cancel(waiting.id) is JobState.CANCELLED
            assert await comfy.cancel(unknown) is JobState.LOST
            assert await ended.cancel() is JobState.SUCCEEDED
            assert await waiting.cancel() is JobState.CANCELLED
        assert await running.cancel() is JobState.RUNNING
        assert await running.cancel() in {JobState.RUNNING, JobState.CANCELLED}
        assert await running.wait() is JobState.CANCELLED
        assert await comfy.cancel(running.id) is JobState.CANCELLED
        with pytest.raises(JobCancelled, match="by this client"):
            await waiting.result(60)
        assert (await theirs.result(60)).outputs


async def test_a_job_of_somebody_else_runs_on(faults):
    async with client(faults) as comfy, ComfyClient(faults.upstream) as other:
        theirs = await other.submit(slow(steps=20, size=256))
        await runs(theirs)
        ours = [await comfy.submit(picture()) for _ in range(3)]
        states = await comfy.cancel_all([job.id for job in ours])
        assert set(states.values()) == {JobState.CANCELLED}
        assert (await theirs.result(60)).outputs
    assert faults.book.requests[INTERRUPT] == 0


async def test_many_at_once_in_a_few_requests(faults):
    """What runs, what waits, what has ended and what nobody knows, all in one."""
    async with client(faults) as comfy:
        ended = await comfy.submit(picture())
        await ended.wait()
        running = await comfy.submit(slow(steps=400))
        waiting = await asyncio.gather(*(comfy.submit(picture()) for _ in range(200)))
        await runs(running)
        unknown = str(uuid.uuid4())
        before = sum(faults.book.requests.values())
        states = await comfy.cancel_all([ended.id, running.id, *(job.id for job in waiting), unknown])
        asked = sum(faults.book.requests.values()) - before
        assert list(states) == [ended.id, running.id, *(job.id for job in waiting), unknown]
        assert states.pop(ended.id) is JobState.SUCCEEDED
        assert states.pop(running.id) is JobState.RUNNING
        assert states.pop(unknown) is JobState.LOST
        assert set(states.values()) == {JobState.CANCELLED}
        assert {job.state for job in waiting} == {JobState.CANCELLED}
        assert asked <= 16
        assert await running.wait() is JobState.CANCELLED
        assert (await (await comfy.submit(picture())).result(60)).outputs


async def test_those_of_another_client_by_their_ids(faults):
    async with client(faults) as comfy, ComfyClient(faults.upstream) as other:
        async with held_up(other, slow()):
            jobs = [await other.submit(picture()) for _ in range(5)]
            states = await comfy.cancel_all(job.id for job in jobs)
            assert set(states.values()) == {JobState.CANCELLED}
            assert {await job.wait() for job in jobs} == {JobState.LOST}
        assert await comfy.cancel_all([]) == {}


@pytest.mark.parametrize("toxic", [Lose(), Lose("close"), ResetPeer(), Answer(502, {}, "bad gateway")])
async def test_a_command_whose_answer_is_lost_is_given_again(faults, toxic):
    async with client(faults) as comfy, held_up(comfy, slow(steps=200)) as running:
        await runs(running)
        waiting = await comfy.submit(picture())
        faults.on(*QUEUE, toxic)
        assert await waiting.cancel() is JobState.CANCELLED
        assert faults.book.requests[QUEUE] == 2
        faults.on(*INTERRUPT, toxic)
        assert await running.cancel() is JobState.RUNNING
        assert await running.wait() is JobState.CANCELLED


async def test_connections_that_have_gone_stale(faults):
    async with client(faults) as comfy, held_up(comfy, slow(steps=200)):
        waiting = await comfy.submit(picture())
        faults.on("POST", None, Stale(), times=2)
        faults.on("GET", None, Stale(), times=2)
        assert await waiting.cancel() is JobState.CANCELLED


# With a server that does as it is told


async def test_a_server_that_cannot_be_reached(proxied, emulator):
    """Nothing is claimed, and nothing is broken."""
    async with client(proxied) as comfy:
        hold = emulator.faults.hold()
        running, waiting = await comfy.submit(picture()), await comfy.submit(picture())
        await hold.reached()
        async with proxied.down():
            with pytest.raises(InstanceUnavailable):
                await comfy.cancel_all([running.id, waiting.id])
        assert not waiting.state.is_terminal
        hold.release()
        assert await waiting.wait() is JobState.SUCCEEDED


async def test_a_command_that_may_have_been_acted_upon(proxied, emulator):
    """All its answers get lost: so the job is gone, and it is known why."""
    async with client(proxied) as comfy:
        hold = emulator.faults.hold()
        running, waiting = await comfy.submit(picture()), await comfy.submit(picture(), resubmit="lost")
        await hold.reached()
        proxied.on(*QUEUE, Lose(), times=None)
        with pytest.raises(InstanceUnavailable):
            await waiting.cancel()
        assert await waiting.wait() is JobState.CANCELLED
        hold.release()
        await running.wait()
    assert len(proxied.book.posts) == 2


async def test_jobs_that_begin_before_the_command_arrives(proxied, emulator, monkeypatch):
    async with client(proxied) as comfy:
        first, fourth = emulator.faults.hold("EmptyImage"), emulator.faults.hold("ImageInvert")
        jobs = [await comfy.submit(held_at_invert() if n == 3 else picture()) for n in range(10)]
        await first.reached()
        command = comfy._canceller._command

        async def late(path, body):
            """Three have run by then, and the fourth does."""
            if path == "/queue":
                assert body == {"delete": [job.id for job in reversed(jobs[1:])]}
                first.release()
                await fourth.reached()
            await command(path, body)

        monkeypatch.setattr(comfy._canceller, "_command", late)
        states = list((await comfy.cancel_all([job.id for job in jobs])).values())
        assert states == [JobState.SUCCEEDED] * 3 + [JobState.RUNNING] + [JobState.CANCELLED] * 6
        fourth.release()
        ends = [await job.wait() for job in jobs]
        assert ends == [JobState.SUCCEEDED] * 3 + [JobState.CANCELLED] * 7


async def test_a_command_that_comes_when_the_last_node_runs(proxied, emulator):
    """An interrupt is noticed by the node behind: there is none, so that the job succeeds, and we say so."""
    async with client(proxied) as comfy:
        hold = emulator.faults.hold("SaveImage")
        job = await comfy.submit(picture())
        await hold.reached()
        assert await job.cancel() is JobState.RUNNING
        hold.release()
        assert (await job.result(60)).outputs


async def test_a_record_that_makes_no_sense(proxied):
    async with client(proxied) as comfy:
        job = await comfy.submit(picture())
        await job.wait()
        other = await comfy.submit(picture())
        await other.wait()
        proxied.on("GET", f"/history/{job.id}", Answer(200, JSON, json.dumps({job.id: 5})), times=None)
        states = await comfy.cancel_all([job.id, other.id])
        assert states == {job.id: JobState.UNKNOWN, other.id: JobState.SUCCEEDED}


@pytest.mark.parametrize("many", [0, 1])
async def test_one_that_ended_while_others_were_queued_behind_it(proxied, emulator, many):
    """The client has last heard that it waits behind those of others; all its own behind it are cancelled."""
    async with client(proxied, poll_interval=600) as comfy, ComfyClient(emulator.url) as other:
        proxied.on("GET", "/ws", Answer(404), times=None)  # it hears of nothing
        hold = emulator.faults.hold()
        theirs = [await other.submit(picture()) for _ in range(5)]
        ended = await comfy.submit(picture())
        await hold.reached()
        await comfy._canceller._look([ended.id])
        assert ended.progress.queue_position == 5
        long = emulator.faults.hold("ImageInvert")
        hold.release()
        theirs.append(await other.submit(held_at_invert()))
        await long.reached()
        behind = [await comfy.submit(picture()) for _ in range(3 + 10 * many)]
        states = await comfy.cancel_all([ended.id, *(job.id for job in behind)])
        assert states.pop(ended.id) is JobState.SUCCEEDED
        assert set(states.values()) == {JobState.CANCELLED}
        assert (await ended.result(60)).outputs
        long.release()
        assert {await job.wait() for job in theirs} == {JobState.SUCCEEDED}


@pytest.mark.parametrize("others", [0, 40])
async def test_of_each_that_is_gone_the_history_is_asked(proxied, emulator, monkeypatch, others):
    """Between the look and the command all of them run, the last as well; and many of others."""
    async with client(proxied) as comfy, ComfyClient(emulator.url) as other:
        await (await comfy.submit(picture())).wait()
        first = emulator.faults.hold("EmptyImage")
        theirs = [await other.submit(picture()) for _ in range(others + 1)]
        await first.reached()
        jobs = [await comfy.submit(picture()) for _ in range(8)]
        command = comfy._canceller._command

        async def late(path, body):
            first.release()
            await emulator_idle(emulator)
            await command(path, body)

        monkeypatch.setattr(comfy._canceller, "_command", late)
        states = await comfy.cancel_all([job.id for job in jobs])
        assert set(states.values()) == {JobState.SUCCEEDED}
        assert {await job.wait() for job in [*jobs, *theirs]} == {JobState.SUCCEEDED}


async def test_so_many_that_ended_that_each_is_asked_for(proxied, emulator, monkeypatch):
    monkeypatch.setattr("comfyclient.recent._MOST", 8)
    async with client(proxied) as comfy:
        await (await comfy.submit(picture())).wait()
        hold = emulator.faults.hold()
        jobs = [await comfy.submit(picture()) for _ in range(6)]
        await hold.reached()
        states = await comfy.cancel_all([job.id for job in jobs[1:]])
        assert set(states.values()) == {JobState.CANCELLED}
        hold.release()
        assert await jobs[0].wait() is JobState.SUCCEEDED


@pytest.mark.parametrize("which", [{"nth": 1}, {"nth": 2}, {"times": None}], ids=str)
async def test_a_history_that_cannot_be_understood_keeps_nothing_on_the_queue(proxied, emulator, which):
    async with client(proxied) as comfy, ComfyClient(emulator.url) as other:
        hold = emulator.faults.hold()
        jobs = [await other.submit(picture()) for _ in range(7)]
        await hold.reached()
        proxied.on("GET", "/history", Answer(200, JSON, "[]"), **which)
        if "nth" in which:
            states = await comfy.cancel_all([job.id for job in jobs[1:]])
            assert set(states.values()) == {JobState.CANCELLED}
        else:
            with pytest.raises(ProtocolError, match="the answer is no object"):
                await comfy.cancel_all([job.id for job in jobs[1:]])
        assert emulator.core.queue.remaining == 1
        hold.release()
        assert await jobs[0].wait() is JobState.SUCCEEDED


async def test_more_than_are_remembered(proxied, emulator, monkeypatch):
    monkeypatch.setattr("comfyclient.cancelling._REMEMBERED", 5)
    async with client(proxied) as comfy, ComfyClient(emulator.url) as other:
        async with held_up(other, slow()):
            jobs = [await other.submit(picture()) for _ in range(12)]
            states = await comfy.cancel_all(job.id for job in jobs)
        assert set(states.values()) == {JobState.CANCELLED}


async def test_one_that_is_just_being_submitted(proxied, emulator, monkeypatch):
    """Its id is known to who gave it. It is cancelled behind its submission, even if that comes to nothing."""
    async with client(proxied) as comfy:
        hold = emulator.faults.hold()
        running = await comfy.submit(picture())
        await hold.reached()
        ids = [str(uuid.uuid4()) for _ in range(2)]
        posts = HeldBack(comfy, monkeypatch)
        jobs = [asyncio.create_task(comfy.submit(picture(), prompt_id=prompt_id)) for prompt_id in ids]
        await posts.reached(2)
        cancellation = asyncio.create_task(comfy.cancel_all(ids))
        await waits(cancellation, comfy, ids)
        jobs[1].cancel()
        posts.release()
        assert await cancellation == {ids[0]: JobState.CANCELLED, ids[1]: JobState.LOST}
        assert await (await jobs[0]).wait() is JobState.CANCELLED
        hold.release()
        assert await running.wait() is JobState.SUCCEEDED
        assert not set(ids) & set(emulator.core.queue.history)
        with pytest.raises(asyncio.CancelledError):
            await jobs[1]


async def test_one_that_is_being_submitted_once_more_where_ids_are_chosen(proxied, emulator, monkeypatch):
    """Its id is another one when that is done."""
    proxied.on("GET", "/system_stats", Answer(200, JSON, OLD), times=None)
    proxied.on("POST", "/prompt", WithoutId(), times=None)
    async with client(proxied) as comfy, ComfyClient(emulator.url) as other:
        hold = emulator.faults.hold()
        job = await comfy.submit(picture(), resubmit="lost")
        await hold.reached()
        posts = HeldBack(comfy, monkeypatch)
        emulator.faults.restart()
        blocker = await other.submit(picture())
        await posts.reached(1)
        cancellation = asyncio.create_task(job.cancel())
        await waits(cancellation, comfy, [job.id])
        posts.release()
        assert await cancellation is JobState.CANCELLED
        assert await job.wait() is JobState.CANCELLED
        hold.release()
        assert await blocker.wait() is JobState.SUCCEEDED
        assert job.id not in emulator.core.queue.history


async def test_an_old_server_interrupts_no_other_of_our_own(proxied, emulator):
    proxied.on("GET", "/system_stats", Answer(200, JSON, OLD), times=None)
    async with client(proxied) as comfy:
        hold = emulator.faults.hold()
        running, waiting = await comfy.submit(picture()), await comfy.submit(picture())
        await hold.reached()
        with pytest.raises(ProtocolError, match="not to be cancelled wait behind it"):
            await running.cancel()
        hold.release()
        assert {await running.wait(), await waiting.wait()} == {JobState.SUCCEEDED}
    assert proxied.book.requests[INTERRUPT] == 0


async def test_an_old_server_interrupts_none_that_took_the_place(proxied, emulator, monkeypatch):
    """The job has ended when the command would be given, and one of somebody else runs."""
    proxied.on("GET", "/system_stats", Answer(200, JSON, OLD), times=None)
    async with client(proxied) as comfy, ComfyClient(emulator.url) as other:
        hold, long = emulator.faults.hold("SaveImage"), emulator.faults.hold("ImageInvert")
        job = await comfy.submit(picture())
        await hold.reached()
        theirs = []
        interrupt = comfy._canceller._interrupt

        async def late(*about):
            theirs.append(await other.submit(held_at_invert()))
            hold.release()
            await long.reached()
            return await interrupt(*about)

        monkeypatch.setattr(comfy._canceller, "_interrupt", late)
        assert await job.cancel() is JobState.SUCCEEDED
        long.release()
        assert await theirs[0].wait() is JobState.SUCCEEDED
    assert proxied.book.requests[INTERRUPT] == 0


def held_at_invert():
    """A prompt that a hold on ImageInvert stops."""
    invert = {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}
    return Prompt({"1": image(), "2": invert, "3": save("2")})


class HeldBack:
    """Keeps back the prompts that a client sends from now on."""

    def __init__(self, comfy, monkeypatch):
        self._post, self._sent, self._gate = comfy._http.post, asyncio.Semaphore(0), asyncio.Event()
        monkeypatch.setattr(comfy._http, "post", self._late)

    async def reached(self, count):
        """Wait for so many."""
        for _ in range(count):
            await self._sent.acquire()

    def release(self):
        self._gate.set()

    async def _late(self, path, body):
        if path == "/prompt":
            self._sent.release()
            await self._gate.wait()
        return await self._post(path, body)


async def waits(cancellation, comfy, ids):
    """Wait until a cancellation waits for these submissions, or has come to its end."""
    async with asyncio.timeout(30):
        while not (cancellation.done() or all(comfy._watcher.get(one).listened for one in ids)):  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.mark.parametrize("version", [OLD, OLD.replace("0.3.56", "unknown")])
async def test_a_server_that_can_only_interrupt_whatever_runs(proxied, emulator, version):
    """It is told to only where that cannot be somebody else's."""
    proxied.on("GET", "/system_stats", Answer(200, JSON, version), times=None)
    async with client(proxied) as comfy, ComfyClient(emulator.url) as other:
        hold = emulator.faults.hold()
        running, waiting = await comfy.submit(slow(steps=2, size=16)), await comfy.submit(picture())
        theirs = await other.submit(picture())
        await hold.reached()
        with pytest.raises(ProtocolError, match="whatever runs") as caught:
            await comfy.cancel_all([running.id, waiting.id])
        assert "0.3.57" in caught.value.hint
        assert proxied.book.requests[INTERRUPT] == 0
        assert await waiting.wait() is JobState.CANCELLED
        await theirs.cancel()
        assert await comfy.cancel(running.id) is JobState.RUNNING
        hold.release()
        assert await running.wait() is JobState.CANCELLED


async def test_one_that_is_just_being_submitted_once_more(proxied, emulator):
    """It is cancelled behind that, and does not run."""
    async with client(proxied) as comfy:
        hold = emulator.faults.hold()
        job = await comfy.submit(picture(), resubmit="lost")
        await hold.reached()
        proxied.on("POST", "/prompt", Latency(0.3, direction="up"))
        emulator.faults.restart()
        blocker = await other_running(emulator)
        async with contextlib.aclosing(job.events()) as events:
            async for event in events:
                if isinstance(event, Resubmitted):
                    break
        assert await job.cancel() is JobState.CANCELLED
        assert await job.wait() is JobState.CANCELLED
        hold.release()
        await emulator_idle(emulator)
        assert job.id not in emulator.core.queue.history
        assert blocker in emulator.core.queue.history
    assert len(proxied.book.posts) == 2


async def other_running(emulator):
    """A job of somebody else that the hold stops."""
    async with ComfyClient(emulator.url) as other:
        return (await other.submit(picture())).id


async def emulator_idle(emulator):
    while emulator.core.queue.remaining:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)


async def test_without_an_event_loop(emulator):
    def run():
        with blocking.ComfyClient(emulator.url) as comfy:
            hold = emulator.faults.hold()
            jobs = [comfy.submit(picture(), resubmit="lost") for _ in range(3)]
            assert hold.wait_reached(10)
            states = comfy.cancel_all(job.id for job in jobs)
            assert list(states.values()) == [JobState.RUNNING, JobState.CANCELLED, JobState.CANCELLED]
            hold.release()
            assert [job.wait() for job in jobs] == [JobState.CANCELLED] * 3

    await asyncio.to_thread(run)
