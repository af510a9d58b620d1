"""Ctrl-C with very many jobs in the queue: what it costs the instance, and what is said of each job."""

import asyncio
import signal

import pytest

from comfyclient import ComfyClient, InstanceUnavailable, JobState, ProtocolError
from comfyclient.cli.stopping import stop_jobs
from comfyclient.emulator import Emulator

from ..cli_support import make_app  # noqa: TID252
from .processes import Process, no_process_stays, write  # noqa: F401 - a fixture for all tests here
from .prompts import picture
from .proxy import Proxy

MANY = 300
COMMANDS = [
    ("POST", "/queue"),
    ("POST", "/interrupt"),
    ("GET", "/queue"),
    ("GET", "/history"),
    ("GET", "/system_stats"),
]


async def queue_very_many(url, folder):
    """A run of more jobs than it will ever queue, once ``MANY`` of them are queued, and the ids of those."""
    args = ["queue", write(folder, picture()), "--url", url, "--no-wait", "-n", "100000"]
    process = await Process.start(*args, cwd=folder)
    return process, [(await process.process.stdout.readline()).decode().strip() for _ in range(MANY)]


def asked(proxy):
    return {command: proxy.count(*command) for command in COMMANDS}


async def test_hundreds_of_waiting_jobs_are_cancelled_in_a_few_requests(tmp_path):
    async with Emulator() as emulator, Proxy(emulator.url) as proxy:
        hold = emulator.faults.hold()
        process, ids = await queue_very_many(proxy.url, tmp_path)
        process.signal(signal.SIGINT)
        await process.says("stopping: cancelling")
        before = asked(proxy)
        code, out = await process.end()
        after = asked(proxy)
        ids += out.split()
        assert (code, len(set(ids))) == (130, len(ids))
        assert f"cancelled {len(ids)} jobs; what runs stops at its next step" in process.err
        assert "not cancelled" not in process.err
        costs = {command: after[command] - before[command] for command in COMMANDS}
        assert costs["POST", "/queue"] == 1
        assert costs["POST", "/interrupt"] <= 2
        assert sum(costs.values()) <= 20, costs
        hold.release()
        async with ComfyClient(emulator.url) as comfy:
            running = await comfy.job(ids[0])
            assert await running.wait() is JobState.CANCELLED
            assert [job.id for job in await comfy.jobs(limit=len(ids))] == [ids[0]]  # no other ever ran


async def test_an_instance_that_answers_nothing_any_more_leaves_all_of_them_in_doubt(tmp_path):
    async with Emulator() as emulator, Proxy(emulator.url) as proxy:
        emulator.faults.hold()
        process, ids = await queue_very_many(proxy.url, tmp_path)
        for path in ("/queue", "/interrupt"):
            proxy.answer("POST", path, times=1000, status=502)
        proxy.answer("GET", "/queue", times=1000, status=502)
        process.signal(signal.SIGINT)
        code, out = await process.end()
        ids += out.split()
        assert code == 130
        assert f"perhaps not cancelled: {len(ids)} jobs: " in process.err
        assert set(ids) <= set(process.err.split())
        assert process.err.splitlines()[-1] == "to finish what is left: comfyclient jobs resume"


class Client:
    """One that says what it is told to say."""

    def __init__(self, answer):
        self.answer = answer

    async def cancel_all(self, ids):
        if isinstance(self.answer, Exception):
            raise self.answer
        return dict(zip(ids, self.answer, strict=True))


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        ([JobState.CANCELLED, JobState.CANCELLED, JobState.RUNNING],
         ["cancelled 3 jobs; what runs stops at its next step"]),
        ([JobState.CANCELLED, JobState.PENDING, JobState.PENDING],
         ["not cancelled: b c: the instance keeps it in its queue", "cancelled 1 job"]),
        ([JobState.SUCCEEDED, JobState.FAILED, JobState.SUCCEEDED],
         ["2 jobs had ended before: succeeded", "1 job had ended before: failed"]),
        ([JobState.LOST, JobState.CANCELLED, JobState.UNKNOWN],
         ["not known to the instance: a: it was never queued, or somebody deleted it, or the instance restarted",
          "ended, but how is unknown: c: the instance's record of it makes no sense", "cancelled 1 job"]),
        (ProtocolError("too old"),
         ["not cancelled: a: too old", "perhaps not cancelled: c: too old", "cancelled 1 job"]),
        (InstanceUnavailable("gone"), ["perhaps not cancelled: a c: gone", "cancelled 1 job"]),
    ],
)  # fmt: skip
def test_each_job_is_told_as_it_is(tmp_path, answer, lines):
    """``a`` runs, ``b`` was taken off the queue, as far as the client knows, and of ``c`` it knows nothing."""
    app = make_app(tmp_path)
    known = {"a": JobState.RUNNING, "b": JobState.CANCELLED}
    answers = asyncio.run(stop_jobs(app, Client(answer), ["a", "b", "c"], states=lambda: known))
    assert list(answers) == ["a", "b", "c"]
    assert app.stderr.getvalue().splitlines() == ["stopping: cancelling 3 jobs; Ctrl-C again leaves at once", *lines]
