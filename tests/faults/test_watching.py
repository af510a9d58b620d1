"""One who looks for many jobs: what goes wrong with one request ends no job that the request was not for."""

import asyncio

import pytest

from comfyclient._http import NeverSentError
from comfyclient.errors import AuthError, InstanceUnavailable, ProtocolError
from comfyclient.watch import Watcher
from comfyclient.wire.lifecycle import Cadence, JobTracker, Look, Where
from comfyclient.wire.messages import text_message
from comfyclient.wire.records import JobState

from .virtual import ModelHttp, in_no_time

TOO_LARGE = ProtocolError("GET /queue: the answer is larger than 256 MiB")
TOO_SLOW = InstanceUnavailable("GET /queue: no answer in time")
REFUSED = AuthError("the instance refuses us")


class Scene:
    """A server and one who looks for its jobs."""

    def __init__(self, *, hearing=False, stall_timeout=None):
        self.http = ModelHttp()
        self.watcher = Watcher(
            self.http, cadence=Cadence(), patience=120, stall_timeout=stall_timeout, on_deaf=lambda: None
        )
        if hearing:
            self.watcher.on_connection(up=True)

    def add(self, *ids):
        """Jobs that wait at the server, and are followed."""
        jobs = [self.watcher.follow(prompt_id, (), str) for prompt_id in ids]
        for job in jobs:
            self.http.pending.append(job.tracker.prompt_id)
            self.watcher.accepted(job)
        return jobs

    def end(self, job):
        """It comes to its end, whenever it would have been its turn."""
        self.http.pending.remove(job.tracker.prompt_id)
        self.http.running.insert(0, job.tracker.prompt_id)
        self.http.end()

    def tell(self, job, kind):
        """The socket tells of it."""
        self.watcher.on_frame(text_message(kind, {"prompt_id": job.tracker.prompt_id, "value": 1, "max": 9}))


def played(play, **options):
    """Run a scene to its end."""

    async def run():
        scene = Scene(**options)
        await play(scene)
        await scene.watcher.close()

    in_no_time(run())


def states(jobs):
    return [job.tracker.state for job in jobs]


# Patience is each job's own


@pytest.mark.parametrize("error", [TOO_SLOW, REFUSED, NeverSentError("no connection")])
def test_an_outage_of_yesterday_ends_no_job_of_today(error):
    async def play(scene):
        (old,) = scene.add("old")
        scene.http.faults["/queue"] = scene.http.faults["/api/jobs/"] = error
        await old.wait()
        assert old.tracker.state is JobState.UNKNOWN
        await asyncio.sleep(86_400)
        (new,) = scene.add("new")
        await asyncio.sleep(5)
        assert new.tracker.state is JobState.PENDING
        scene.http.faults.clear()
        scene.end(new)
        await new.wait()
        assert new.tracker.state is JobState.SUCCEEDED

    played(play)


def test_a_look_that_failed_before_the_last_job_was_cancelled_is_forgotten():
    async def play(scene):
        (old,) = scene.add("old")
        scene.http.down = True
        await asyncio.sleep(5)
        scene.watcher.dequeued(old)
        scene.watcher.learn(old, Look(Where.ABSENT, asyncio.get_running_loop().time()))  # who cancelled it looked
        assert old.tracker.state is JobState.CANCELLED
        await asyncio.sleep(600)
        (new,) = scene.add("new")
        await asyncio.sleep(100)
        assert new.tracker.state is JobState.PENDING

    played(play)


def test_a_proxy_that_reloads_its_logins_for_a_while_ends_no_job():
    async def play(scene):
        (job,) = scene.add("job")
        scene.http.faults["/queue"] = REFUSED
        await asyncio.sleep(20)
        assert job.tracker.state is JobState.PENDING
        scene.http.faults.clear()
        await asyncio.sleep(5)
        scene.http.faults["/queue"] = REFUSED  # and that does not add up
        await asyncio.sleep(20)
        assert job.tracker.state is JobState.PENDING
        await asyncio.sleep(20)
        assert (job.tracker.state, job.tracker.reason) == (JobState.UNKNOWN, str(REFUSED))

    played(play)


def test_of_what_the_socket_tells_is_not_of_unknown_outcome():
    async def play(scene):
        told, untold = scene.add("told", "untold")
        scene.tell(told, "execution_start")
        scene.http.faults["/queue"] = scene.http.faults["/api/jobs/"] = TOO_SLOW
        for _ in range(600):
            await asyncio.sleep(1)
            scene.tell(told, "progress")
        assert states([told, untold]) == [JobState.RUNNING, JobState.UNKNOWN]
        scene.end(told)
        scene.tell(told, "execution_success")
        await told.wait()
        assert told.tracker.state is JobState.SUCCEEDED

    played(play, hearing=True)


# What cannot be had concerns those only that it was for


@pytest.mark.parametrize("error", [ProtocolError("HTTP 500"), InstanceUnavailable("no answer in time")])
@pytest.mark.parametrize("good", [1, 40])
def test_a_record_that_cannot_be_had_ends_that_job_only(error, good):
    async def play(scene):
        bad, waits, *others = scene.add("bad", "waits", *(f"good-{n}" for n in range(good)))
        # Neither by itself, nor among others: the list breaks as well.
        scene.http.faults |= {"/history/bad": error, "/history": error}
        for job in (bad, *others):
            scene.end(job)
        began = asyncio.get_running_loop().time()
        for job in others:
            await job.wait()
        assert {job.tracker.state for job in others} == {JobState.SUCCEEDED}
        assert asyncio.get_running_loop().time() - began < 60
        assert states([bad, waits]) == [JobState.PENDING, JobState.PENDING]
        before = len(scene.http.asked)
        await bad.wait()
        assert (bad.tracker.state, bad.tracker.reason) == (JobState.UNKNOWN, str(error))
        assert len(scene.http.asked) - before < 200
        await asyncio.sleep(600)
        assert waits.tracker.state is JobState.PENDING
        scene.end(waits)
        await waits.wait()
        assert waits.tracker.state is JobState.SUCCEEDED

    played(play)


@pytest.mark.parametrize("error", [TOO_LARGE, TOO_SLOW])
def test_a_queue_that_cannot_be_read_is_done_without(error):
    async def play(scene):
        runs, ends, lost, waits = scene.add("runs", "ends", "lost", "waits")
        scene.http.lists_jobs = True
        scene.http.start()
        scene.http.faults["/queue"] = error
        await asyncio.sleep(1000)
        # Nothing moves for those who wait, as far as is known: no more than that is known.
        assert states([runs, ends, lost, waits]) == [JobState.STALLED, *3 * [JobState.PENDING]]
        scene.end(ends)
        scene.http.pending.remove("lost")
        await ends.wait()
        await lost.wait()
        assert states([ends, lost]) == [JobState.SUCCEEDED, JobState.LOST]
        before = len(scene.http.asked)
        await asyncio.sleep(1000)
        assert states([runs, waits]) == [JobState.STALLED, JobState.PENDING]
        assert len(scene.http.asked) - before < 1000

    played(play, stall_timeout=600)


@pytest.mark.parametrize("lists_jobs", [True, False])
def test_so_it_is_with_more_jobs_than_are_asked_for_at_a_time(lists_jobs):
    async def play(scene):
        jobs = scene.add(*(f"job-{n}" for n in range(200)))
        scene.http.lists_jobs = lists_jobs
        scene.http.faults["/queue"] = TOO_LARGE
        await asyncio.sleep(100)
        assert set(states(jobs)) == {JobState.PENDING}
        for job in jobs:
            scene.end(job)
        for job in jobs:
            await job.wait()
        assert set(states(jobs)) == {JobState.SUCCEEDED}

    played(play)


def test_an_old_server_whose_queue_cannot_be_read_says_nothing_of_what_has_not_ended():
    """Nothing is called lost that may wait there."""

    async def play(scene):
        ends, waits = scene.add("ends", "waits")
        scene.http.faults["/queue"] = TOO_LARGE
        await asyncio.sleep(60)
        scene.end(ends)
        await ends.wait()
        await waits.wait()
        assert states([ends, waits]) == [JobState.SUCCEEDED, JobState.UNKNOWN]
        assert waits.tracker.reason == str(TOO_LARGE)

    played(play)


def test_while_nobody_answers_few_requests_are_made_however_many_jobs_have_ended():
    async def play(scene):
        jobs = scene.add(*(f"job-{n}" for n in range(500)))
        for job in jobs:
            scene.tell(job, "execution_start")
        scene.http.down = True
        for job in jobs:
            scene.tell(job, "execution_success")
        for job in jobs:
            await job.wait()
        assert set(states(jobs)) == {JobState.UNKNOWN}
        assert len(scene.http.asked) < 200

    played(play, hearing=True)


def test_a_defect_that_one_job_shows_ends_no_other(monkeypatch):
    async def play(scene):
        odd, good = scene.add("odd", "good")
        monkeypatch.setattr(type(odd.tracker), "on_look", broken)
        await asyncio.sleep(5)
        with pytest.raises(ZeroDivisionError):
            await odd.wait()
        scene.end(good)
        await good.wait()
        assert good.tracker.state is JobState.SUCCEEDED

    on_look = JobTracker.on_look

    def broken(tracker, look, now):
        if tracker.prompt_id == "odd":
            raise ZeroDivisionError
        return on_look(tracker, look, now)

    played(play)
