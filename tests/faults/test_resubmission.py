"""A lost job that is submitted once more, and what comes of it if that goes wrong."""

import asyncio

import pytest

from comfyclient import ComfyClient, JobLost, NodeStarted, OutcomeUnknown, Resubmitted
from comfyclient.errors import InstanceUnavailable, PromptRejected
from comfyclient.watch import Watcher
from comfyclient.wire.lifecycle import Cadence
from comfyclient.wire.messages import text_message
from comfyclient.wire.records import JobState

from ..contract.prompts import failing, picture  # noqa: TID252
from .following import client, first
from .submitting import tasks
from .toxics import Timeout
from .virtual import ModelHttp, in_no_time

# In no time

ERRORS = [
    OutcomeUnknown("the answer got lost", prompt_id="second"),
    InstanceUnavailable("nobody answers"),
    PromptRejected("no outputs"),
]


class Scene:
    """A job that is lost as soon as it is looked for, and what is sent in its place.

    Attributes:
        http: The server.
        sent: How often it was submitted once more.
    """

    def __init__(self, submit):
        self.http = ModelHttp()
        self.watcher = Watcher(self.http, cadence=Cadence(), patience=120, on_deaf=lambda: None)
        self.sent = 0
        self._submit = submit

    async def run(self):
        """Follow it to its end, and on: nothing more may be sent. Returns what followed it."""
        self.watcher.on_connection(up=True)
        job = self.watcher.follow("first", (), str, again=self._again)
        self.watcher.accepted(job)
        await job.wait()
        await asyncio.sleep(600)
        assert self.watcher.get("first") is self.watcher.get("second") is None
        await self.watcher.close()
        return job

    def _again(self, following):
        self.sent += 1
        self.watcher.begin_again(following, "second")
        return self._submit(self)

    def tell(self, kind):
        """The socket tells of it."""
        self.watcher.on_frame(text_message(kind, {"prompt_id": "second"}))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("hears_of_its_end", [True, False])
def test_what_the_socket_has_told_of_is_followed_whatever_became_of_the_answer(error, hears_of_its_end):
    async def submit(scene):
        scene.http.running.append("second")
        scene.tell("execution_start")
        await asyncio.sleep(1)
        asyncio.get_running_loop().call_later(5, finish, scene)
        raise error

    def finish(scene):
        scene.http.end()
        if hears_of_its_end:
            scene.tell("execution_success")

    scene = Scene(submit)
    job = in_no_time(scene.run())
    assert job.tracker.state is JobState.SUCCEEDED
    assert (job.tracker.prompt_id, scene.sent) == ("second", 1)


def test_what_was_told_of_and_then_lost_again_is_lost():
    async def submit(scene):
        scene.tell("execution_start")
        raise ERRORS[0]

    scene = Scene(submit)
    assert in_no_time(scene.run()).tracker.state is JobState.LOST
    assert scene.sent == 1


def test_what_may_be_there_is_of_unknown_outcome_and_submitted_no_third_time():
    async def submit(scene):
        await asyncio.sleep(60)
        raise ERRORS[0]

    scene = Scene(submit)
    job = in_no_time(scene.run())
    assert (job.tracker.state, job.tracker.reason) == (JobState.UNKNOWN, "the answer got lost")
    assert scene.sent == 1


@pytest.mark.parametrize("error", ERRORS[1:], ids=lambda error: type(error).__name__)
def test_what_is_not_there_is_lost_and_says_why_it_was_not_queued_again(error):
    async def submit(scene):
        await asyncio.sleep(1)
        raise error

    scene = Scene(submit)
    job = in_no_time(scene.run())
    assert job.tracker.state is JobState.LOST
    assert job.tracker.reason.endswith(f"it was not queued again: {error}")
    assert scene.sent == 1


def test_an_error_that_is_none_of_ours_reaches_who_waits():
    async def submit(scene):
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        in_no_time(Scene(submit).run())


def test_if_it_cannot_even_be_made_it_is_lost_and_no_other_job_is_concerned():
    async def run():
        scene = Scene(None)

        def again(following):
            raise ZeroDivisionError("a defect")

        job = scene.watcher.follow("first", (), str, again=again)
        other = scene.watcher.follow("other", (), str)
        scene.http.pending.append("other")
        for followed in (job, other):
            scene.watcher.accepted(followed)
        await job.wait()
        assert job.tracker.state is JobState.LOST
        assert job.tracker.reason.endswith("it was not queued again: a defect")
        assert scene.watcher.get("first") is None
        scene.http.start()
        scene.http.end()
        await other.wait()
        assert other.tracker.state is JobState.SUCCEEDED
        await scene.watcher.close()

    in_no_time(run())


def test_closing_meanwhile_leaves_its_outcome_unknown():
    async def submit(scene):
        await asyncio.sleep(3600)

    async def run():
        scene = Scene(submit)
        job = scene.watcher.follow("first", (), str, again=scene._again)
        scene.watcher.accepted(job)
        while not scene.sent:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(1)
        await scene.watcher.close()
        assert [task.get_name() for task in asyncio.all_tasks() if "comfyclient" in task.get_name()] == []
        return job

    job = in_no_time(run())
    assert (job.tracker.state, job.submission) == (JobState.UNKNOWN, None)


# On an emulator


async def test_what_is_lost_a_second_time_is_lost(proxied, emulator):
    async with client(proxied) as comfy:
        holds = [emulator.faults.hold("SaveImage")]
        job = await comfy.submit(picture(), resubmit="lost")
        for _ in range(2):
            await holds[-1].reached()
            emulator.faults.restart()
            holds.append(emulator.faults.hold("SaveImage"))
            holds[-2].release()
        with pytest.raises(JobLost):
            await job.result(60)
        holds[-1].release()
    assert len(proxied.book.posts) == 2


def ruined(nodes):
    """It can be sent no more."""
    nodes["1"]["inputs"]["width"] = float("nan")
    del nodes["2"]["class_type"]


def changed(nodes):
    nodes["1"]["inputs"]["width"] = 512
    nodes["3"] = dict(nodes["2"])


@pytest.mark.parametrize("change", [changed, ruined])
async def test_what_is_submitted_once_more_is_what_was_sent(proxied, emulator, change):
    """Whatever the caller, who makes the next prompt of it, has done to it meanwhile."""
    async with client(proxied) as comfy:
        hold = emulator.faults.hold("SaveImage")
        prompt, extra = picture(), {"mine": {"is": "sent"}}
        job = await comfy.submit(prompt, resubmit="lost", extra_data=extra)
        change(prompt.nodes)
        extra["mine"]["is"] = "changed"
        await hold.reached()
        emulator.faults.restart()
        hold.release()
        assert (await job.result(60)).outputs
    first_body, second_body = (post.body for post in proxied.book.posts)
    assert first_body.pop("prompt_id") != second_body.pop("prompt_id") == job.id
    assert first_body == second_body


async def test_what_failed_or_was_cancelled_is_not_submitted_again(proxied, emulator):
    async with client(proxied) as comfy:
        failed = await comfy.submit(failing(), resubmit="lost")
        assert await failed.wait() is JobState.FAILED
        hold = emulator.faults.hold()
        running = await comfy.submit(picture(), resubmit="lost")
        waiting = await comfy.submit(picture(), resubmit="lost")
        await hold.reached()
        await first(running, NodeStarted)
        assert await waiting.cancel() is JobState.CANCELLED
        assert await running.cancel() is JobState.RUNNING
        emulator.faults.restart()  # before the interrupt has any effect
        hold.release()
        assert await running.wait() is JobState.LOST
        assert await waiting.wait() is JobState.CANCELLED
    assert len(proxied.book.posts) == 3


async def test_closing_while_it_is_submitted_once_more(proxied, emulator):
    async with ComfyClient(proxied.url, poll_interval=0.1) as comfy:
        hold = emulator.faults.hold()
        job = await comfy.submit(picture(), resubmit="lost")
        await hold.reached()
        proxied.on("POST", "/prompt", Timeout(direction="down"), times=None)
        emulator.faults.restart()
        hold.release()
        await first(job, Resubmitted)
        await proxied.book.until(lambda: len(proxied.book.posts) == 2)
    with pytest.raises(OutcomeUnknown):
        await job.result(60)
    assert tasks() == []
