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
from comfyclient.emulator import Emulator

from ..contract.prompts import image, picture, save, slow  # noqa: TID252
from .http_toxics import Answer, Lose, Stale
from .proxy import FaultProxy
from .submitting import following, held_up, tasks
from .toxics import Latency, ResetPeer

JSON = {"Content-Type": "application/json"}
OLD = json.dumps({"system": {"comfyui_version": "0.3.56", "python_version": "3", "os": "x"}, "devices": []})
QUEUE = ("POST", "/queue")
INTERRUPT = ("POST", "/interrupt")


@pytest.fixture
async def emulator():
    async with Emulator() as running:
        yield running


@pytest.fixture
async def proxied(emulator, fault_seed):
    """A `FaultProxy` before the emulator of this test."""
    async with FaultProxy(emulator.url, seed=fault_seed) as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def client(proxy, **options):
    """A client that leaves nothing behind."""
    async with ComfyClient(proxy.url, **{"poll_interval": 0.1, **options}) as comfy:
        yield comfy
        assert following(comfy) == []
    assert tasks() == []


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
        invert = {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}
        held = Prompt({"1": image(), "2": invert, "3": save("2")})
        jobs = [await comfy.submit(held if n == 3 else picture()) for n in range(10)]
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
