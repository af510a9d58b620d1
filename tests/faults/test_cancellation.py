"""Whatever is cancelled, at whatever moment: the client works on, and nothing is left behind; the job goes on there."""

import asyncio
import contextlib
import logging

import pytest

from comfyclient import ComfyClient, FormLogin, JobState, Workflow

from ..contract.prompts import image, picture, save  # noqa: TID252
from ..login.servers import LoginForm  # noqa: TID252
from .proxy import FaultProxy
from .submitting import following, tasks
from .sweeping import interrupted, sweep


def strangers(before):
    """Tasks that are there since, apart from those of servers and proxies."""
    known = ("web_protocol", "_accept_connection", "fault-proxy", "Wire.end", "emulator")
    found = asyncio.all_tasks() - before - {asyncio.current_task()}
    return [repr(task) for task in found if not any(word in repr(task) for word in known)]


@contextlib.asynccontextmanager
async def scene(proxied, **options):
    """A client for one cancellation. Afterwards it must work, and leave nothing when it is closed."""
    before = asyncio.all_tasks()
    async with ComfyClient(proxied.url, **{"poll_interval": 0.05, **options}) as comfy:
        yield comfy
        after = await comfy.submit(picture())
        assert (await after.result(60)).outputs
        while following(comfy):  # noqa: ASYNC110 - a job whose submission was cancelled may have got there
            await asyncio.sleep(0.01)
        unknown = [task for task in strangers(before) if "comfyclient-" not in task and "keepalive" not in task]
        assert unknown == []
    assert strangers(before) == []
    assert tasks() == []
    while proxied._links:  # noqa: ASYNC110 - the proxy takes a moment to see that they are closed
        await asyncio.sleep(0)


def entries(emulator):
    """How often the instance has each job, by id: waiting, running, ended."""
    queue = emulator.core.queue
    return [item.prompt_id for item in (*queue.pending, *queue.running)] + list(queue.history)


def states(emulator):
    """How the jobs ended."""
    return {entry["status"]["status_str"] for entry in emulator.core.queue.history.values()}


@pytest.mark.parametrize("warm", [False, True])
async def test_submitting(proxied, emulator, warm):
    """It may have got there; if so, it runs once, to its end."""

    async def once(at):
        posts = len(proxied.book.posts)
        async with scene(proxied) as comfy:
            if warm:
                await (await comfy.submit(picture())).wait()
                posts += 1
            done = await interrupted(comfy.submit(picture()), at)
        sent = proxied.book.posts[posts:-1]
        assert len(sent) <= 1
        assert all(post.forwarded <= 1 for post in sent)
        assert len(entries(emulator)) == len(set(entries(emulator)))
        return done

    assert await sweep(once) >= (1 if warm else 2)
    assert states(emulator) == {"success"}


async def test_preparing_and_queueing(proxied, emulator):
    workflow = Workflow.from_json(picture().nodes)

    async def once(at):
        async with scene(proxied) as comfy:
            return await interrupted(comfy.queue(workflow, {"1.width": 32}), at)

    assert await sweep(once) >= 5
    assert states(emulator) == {"success"}


async def consume(events):
    return [event async for event in events]


async def ahead(comfy):
    return [job.id async for job in comfy.run([picture() for _ in range(3)], ahead=2)]


@pytest.mark.parametrize(
    "wait",
    [
        lambda comfy, job: job.result(),
        lambda comfy, job: job.result(60),
        lambda comfy, job: job.wait(),
        lambda comfy, job: consume(job.events(previews=True)),
        lambda comfy, job: comfy.job(job.id),
        lambda comfy, job: comfy.jobs(),
        lambda comfy, job: comfy.info(),
        lambda comfy, job: comfy.login(),
        lambda comfy, job: comfy.wait_ready(60),
        lambda comfy, job: ahead(comfy),
    ],
    ids=["result", "result in time", "wait", "events", "job", "jobs", "info", "login", "ready", "run"],
)
async def test_waiting_and_asking(proxied, emulator, wait):
    """The job goes on."""

    async def once(at):
        async with scene(proxied) as comfy:
            job = await comfy.submit(picture(), previews=True)
            done = await interrupted(wait(comfy, job), at)
            assert await job.wait() is JobState.SUCCEEDED
            return done

    assert await sweep(once) >= 1
    assert states(emulator) == {"success"}


@pytest.mark.parametrize("runs", [False, True])
async def test_cancelling_itself(proxied, emulator, runs):
    """Whoever stops asking for it may ask again; what the instance was told, it was told."""

    async def once(at):
        async with scene(proxied) as comfy:
            hold = emulator.faults.hold("EmptyImage")
            running, waiting = await comfy.submit(picture()), await comfy.submit(picture())
            await hold.reached()
            chosen = running if runs else waiting
            done = await interrupted(chosen.cancel() if at % 2 else comfy.cancel_all([chosen.id]), at)
            again = await chosen.cancel()
            assert again in ({JobState.RUNNING} if runs else {JobState.CANCELLED})
            hold.release()
            assert await chosen.wait() is JobState.CANCELLED
            assert await (waiting if runs else running).wait() is JobState.SUCCEEDED
            return done

    assert await sweep(once) >= 3


async def test_uploading(proxied, emulator, tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger("aiohttp.server"), "disabled", True)  # pytest would keep what it logs
    source = tmp_path / "source.png"
    source.write_bytes(b"\x89PNG" + bytes(300_000))

    async def once(at):
        async with scene(proxied) as comfy:
            done = await interrupted(comfy.upload(source), at)
            uploaded = await comfy.upload(source)
            assert (emulator.folders.input / uploaded.name).read_bytes() == source.read_bytes()
            return done

    assert await sweep(once) >= 2
    assert len([path for path in emulator.folders.input.iterdir() if path.name.startswith("source")]) == 1


@pytest.mark.parametrize("how", ["read", "save", "all"])
async def test_fetching(proxied, emulator, tmp_path, how):
    """A file is there whole, or not at all."""

    async def once(at):
        folder = tmp_path / str(at)
        folder.mkdir()
        async with scene(proxied) as comfy:
            result = await (await comfy.submit(picture(width=512, height=512))).result(60)
            whole = await result.outputs[0].read()
            output = result.outputs[0]
            work = {"read": (output.read,), "save": (output.save, folder / "x.png"), "all": (result.save, folder)}[how]
            done = await interrupted(work[0](*work[1:]), at)
            left = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
            assert left in ([], [whole])
            await result.save(folder, overwrite=True)
            return done

    assert await sweep(once) >= 1


async def test_logging_in(emulator):
    """Half a login is none: the next one is whole."""

    async def once(at):
        async with LoginForm(emulator.url) as gateway, FaultProxy(gateway.url) as proxied:
            before = asyncio.all_tasks()
            auth = FormLogin(username=gateway.username, password=gateway.password)
            async with ComfyClient(proxied.url, auth=auth, poll_interval=0.05) as comfy:
                done = await interrupted(comfy.login(), at)
                assert (await (await comfy.submit(picture())).result(60)).outputs
            assert strangers(before) == []
            return done

    assert await sweep(once) >= 2


@pytest.mark.parametrize("busy", [False, True])
async def test_closing(proxied, emulator, busy):
    """It is closed all the same; who closes again waits for what is left of it."""

    async def once(at):
        before = asyncio.all_tasks()
        comfy = ComfyClient(proxied.url, poll_interval=0.05)
        await (await comfy.submit(picture())).wait()
        hold = emulator.faults.hold()
        job = await comfy.submit(picture()) if busy else None
        waiting = asyncio.create_task(job.wait()) if job is not None else None
        done = await interrupted(comfy.close(), at)
        await comfy.close()
        assert tasks() == []
        hold.release()
        if waiting is not None:
            assert await waiting is JobState.UNKNOWN
        assert strangers(before) == []
        while proxied._links:  # noqa: ASYNC110 - the proxy takes a moment to see that they are closed
            await asyncio.sleep(0)
        while emulator.core.queue.remaining:  # noqa: ASYNC110 - the job goes on there
            await asyncio.sleep(0.01)
        return done

    assert await sweep(once) >= 1
    assert states(emulator) == {"success"}


async def test_a_second_submission(proxied, emulator):
    """Whoever waits for the job may stop to; it is submitted once more all the same, since its user wished so."""
    for at in range(1, 4):
        async with scene(proxied) as comfy:
            hold = emulator.faults.hold("SaveImage")
            job = await comfy.submit(picture(), resubmit="lost")
            before = job.id
            await hold.reached()
            emulator.faults.restart()
            hold.release()
            await interrupted(job.result(), at)
            assert await job.wait() is JobState.SUCCEEDED
            assert job.id != before


async def test_who_listens_may_leave_at_any_event(proxied, emulator):
    prompt = {"1": image(), "2": save("1"), "3": save("1", prefix="y")}
    number = 0
    while True:
        number += 1
        async with scene(proxied) as comfy:
            job = await comfy.submit(type(picture())(prompt))
            seen = 0
            async with contextlib.aclosing(job.events()) as events:
                async for _ in events:
                    seen += 1
                    if seen == number:
                        break
            assert not job._following.listened
            assert await job.wait() is JobState.SUCCEEDED
        if seen < number:
            break
    assert number > 4
