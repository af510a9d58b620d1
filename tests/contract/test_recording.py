"""What a client writes into its journal, and when. Runs on the emulator and on a real ComfyUI."""

import asyncio
import gc
import json
import subprocess
import sys
import threading

import pytest

from comfyclient import ComfyClient, JobState, OutcomeUnknown, PromptRejected
from comfyclient import blocking as sync
from comfyclient.emulator import Emulator
from comfyclient.errors import ConfigError, InstanceUnavailable
from comfyclient.journal import Journal, Phase
from comfyclient.recording import Recording

from .prompts import failing, picture, slow
from .proxy import Proxy


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path / "journal") as opened:
        yield opened


def phases(journal):
    return [(entry.phase, entry.state) for entry in reversed(journal.entries())]


class Witness(Proxy):
    """Looks into the journal when a prompt arrives."""

    def __init__(self, upstream, journal):
        super().__init__(upstream)
        self.journal = journal
        self.seen = []
        self.stuck = False
        self.asked = asyncio.Event()

    async def _handle(self, request):
        if (request.method, request.path) == ("POST", "/prompt"):
            self.seen += self.journal.entries(1)
            if self.stuck:
                self.asked.set()
                await asyncio.Event().wait()
        return await super()._handle(request)


@pytest.fixture
async def witness(server_url, journal):
    async with Witness(server_url, journal) as running:
        yield running


# Submission.


async def test_a_job_is_written_down_before_it_is_sent(witness, journal):
    async with ComfyClient(witness.url, journal=journal) as comfy:
        job = await comfy.submit(picture())
        [entry] = witness.seen
        assert (entry.prompt_id, entry.phase, entry.url) == (job.id, Phase.SUBMITTING, witness.url)
        assert entry.client_id == comfy.client_id
        assert journal.entry(job.id).phase in {Phase.ACCEPTED, Phase.ENDED}
        await job.wait()
    assert phases(journal) == [(Phase.ENDED, "succeeded")]
    assert [found.prompt_id for found in journal.open_entries()] == [job.id]
    assert journal.interrupted() == []


async def test_what_cannot_be_written_down_is_not_sent(witness, journal):
    journal.close()
    async with ComfyClient(witness.url, journal=journal) as comfy:
        with pytest.raises(ConfigError, match="the journal is closed"):
            await comfy.submit(picture())
    assert witness.seen == []


async def test_what_is_refused_is_over(server_url, journal):
    prompt = picture()
    prompt.nodes["1"]["inputs"]["width"] = 0
    async with ComfyClient(server_url, journal=journal) as comfy:
        with pytest.raises(PromptRejected):
            await comfy.submit(prompt)
    [entry] = journal.entries()
    assert (entry.phase, "width" in entry.reason) == (Phase.REFUSED, True)


async def test_what_was_never_sent_is_over(witness, journal):
    async with ComfyClient(witness.url, journal=journal, timeout=1) as comfy:
        await comfy.submit(picture())
        witness.answer("POST", "/prompt", times=20, status=429)
        with pytest.raises(InstanceUnavailable):
            await comfy.submit(picture())
    assert [phase for phase, _ in phases(journal)][1] is Phase.REFUSED


async def test_an_answer_that_gets_lost_is_looked_up(witness, journal):
    witness.lose("POST", "/prompt")
    async with ComfyClient(witness.url, journal=journal) as comfy:
        job = await comfy.submit(picture())
        await job.wait()
    assert phases(journal) == [(Phase.ENDED, "succeeded")]


async def test_where_nobody_can_tell_it_stays_open(witness, journal):
    witness.lose("POST", "/prompt")
    witness.answer("GET", "/queue", times=100, status=503)
    witness.refuse_sockets = 403
    async with ComfyClient(witness.url, journal=journal, timeout=0.5) as comfy:
        with pytest.raises(OutcomeUnknown):
            await comfy.submit(picture())
    [entry] = journal.open_entries()
    assert entry.phase is Phase.SUBMITTING


async def test_stopped_before_it_was_sent_it_is_over(witness, journal, monkeypatch):
    reached, go_on = threading.Event(), threading.Event()
    submitting = journal.submitting

    def held(*args, **rest):
        reached.set()
        go_on.wait()
        return submitting(*args, **rest)

    monkeypatch.setattr(journal, "submitting", held)
    async with ComfyClient(witness.url, journal=journal) as comfy:
        task = asyncio.create_task(comfy.submit(picture()))
        await asyncio.to_thread(reached.wait)
        task.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert phases(journal) == [(Phase.REFUSED, None)]
    assert witness.seen == []


async def test_stopped_while_it_was_sent_it_stays_open(witness, journal):
    witness.stuck = True
    async with ComfyClient(witness.url, journal=journal) as comfy:
        task = asyncio.create_task(comfy.submit(picture()))
        await witness.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert phases(journal) == [(Phase.SUBMITTING, None)]


async def test_an_instance_that_chooses_the_id(witness, journal, server_url):
    async with ComfyClient(server_url) as other:
        real = await other.submit(picture())
    answer = json.dumps({"prompt_id": real.id, "number": 1, "node_errors": {}})
    witness.answer("POST", "/prompt", text=answer, content_type="application/json")
    async with ComfyClient(witness.url, journal=journal) as comfy:
        job = await comfy.submit(picture())
        await job.wait()
    [entry] = journal.entries()
    assert (entry.prompt_id, entry.state) == (real.id, "succeeded")
    assert entry.sent_id not in {"", real.id}


async def test_an_instance_that_is_restarted_and_the_job_submitted_once_more(tmp_path, journal):
    async with Emulator() as emulator, ComfyClient(emulator.url, journal=journal, poll_interval=0.05) as comfy:
        hold = emulator.faults.hold("EmptyImage")
        job = await comfy.submit(picture(), resubmit="lost")
        first = job.id
        await hold.reached()
        emulator.faults.restart()
        hold.release()
        await (await job.result()).save(tmp_path / "out")
    assert job.id != first
    assert {entry.prompt_id: (entry.phase, entry.state) for entry in journal.entries()} == {
        first: (Phase.ENDED, "lost"),
        job.id: (Phase.SAVED, "succeeded"),
    }
    assert journal.interrupted() == []


# Ends.


async def test_how_it_ends_is_written_whether_anybody_waits_or_not(server_url, journal):
    async with ComfyClient(server_url, journal=journal) as comfy:
        jobs = [await comfy.submit(prompt) for prompt in (failing(), slow())]
        await jobs[1].cancel()
        await asyncio.gather(*(job.wait() for job in jobs))
    assert [state for _, state in phases(journal)] == ["failed", str(jobs[1].state)]


async def test_what_is_not_over_when_the_client_is_closed_stays_open(server_url, journal):
    async with ComfyClient(server_url, journal=journal) as comfy:
        job = await comfy.submit(slow())
    assert phases(journal) == [(Phase.ACCEPTED, None)]
    async with ComfyClient(server_url) as comfy:
        await comfy.cancel(job.id)


async def test_to_wait_for_the_end_of_a_job_takes_no_task(journal):
    async with Emulator() as emulator, ComfyClient(emulator.url, journal=journal) as comfy:
        hold = emulator.faults.hold("EmptyImage")
        first = await comfy.submit(picture())
        await hold.reached()
        before = len(asyncio.all_tasks())
        jobs = [first, *[await comfy.submit(picture()) for _ in range(20)]]
        assert len(asyncio.all_tasks()) < before + 20
        hold.release()
        await asyncio.gather(*(job.wait() for job in jobs))
    assert phases(journal) == [(Phase.ENDED, "succeeded")] * 21


async def test_of_a_job_that_succeeded_nothing_is_kept_when_nobody_has_it(server_url, journal, tmp_path):
    recording = Recording(journal)
    async with ComfyClient(server_url, journal=recording) as comfy:
        kept = await (await comfy.submit(picture())).result()
        dropped = await comfy.submit(picture())
        dropped_id = dropped.id
        await dropped.wait()
        del dropped
        gc.collect()
        assert recording.job(dropped_id) is None
        assert recording.job(kept.prompt_id) is not None
        await kept.save(tmp_path / "out")
        assert recording.job(kept.prompt_id) is None
        assert [entry.prompt_id for entry in journal.open_entries()] == [dropped_id]


# Outputs.


async def test_files_saved_one_by_one(server_url, journal, tmp_path):
    async with ComfyClient(server_url, journal=journal) as comfy:
        job = await comfy.submit(picture(batch=2))
        one, two = (await job.result()).files
        await one.save(tmp_path / "one.png")
        assert journal.entry(job.id).phase is Phase.ENDED
        await comfy.download(two.ref, tmp_path / "two.png", job=job)
        entry = journal.entry(job.id)
    assert entry.phase is Phase.SAVED
    assert {output.path.name for output in entry.outputs} == {"one.png", "two.png"}
    assert all(output.placed and output.size == output.path.stat().st_size for output in entry.outputs)


async def test_saving_again_in_the_same_process_makes_another_copy(server_url, journal, tmp_path):
    async with ComfyClient(server_url, journal=journal) as comfy:
        result = await (await comfy.submit(picture())).result()
        first = await result.save(tmp_path / "out", metadata=True)
        second = await result.save(tmp_path / "out", metadata=True)
    assert len({*first, *second}) == 4


async def test_a_claimed_job_goes_on(server_url, tmp_path):
    with Journal.open(tmp_path / "journal") as before:
        async with ComfyClient(server_url, journal=before) as comfy:
            job = await comfy.submit(picture(batch=2))
            [one, _] = (await job.result()).files
            await one.save(tmp_path / "out" / one.filename)
    with Journal.open(tmp_path / "journal") as journal:
        recording = Recording(journal)
        for entry in journal.claim([job.id]).entries:
            recording.adopt(entry)
        async with ComfyClient(server_url, journal=recording) as comfy:
            again = await comfy.job(job.id)
            saved = await (await again.result()).save(tmp_path / "out")
        assert saved[0] == tmp_path / "out" / one.filename
        assert len(set(saved)) == len(list((tmp_path / "out").iterdir())) == 2
        assert phases(journal) == [(Phase.SAVED, "succeeded")]


async def test_jobs_of_others_are_none_of_the_journals_business(server_url, journal):
    async with ComfyClient(server_url) as other, ComfyClient(server_url, journal=journal) as comfy:
        job = await other.submit(picture())
        assert await (await comfy.job(job.id)).wait() is JobState.SUCCEEDED
    assert journal.entries() == []


def test_the_same_without_an_event_loop(tmp_path, journal):
    from comfyclient.emulator.background import run_in_background

    with run_in_background() as emulator, sync.ComfyClient(emulator.url, journal=journal) as comfy:
        job = comfy.submit(picture())
        [output] = job.result().files
        comfy.download(output.ref, tmp_path / "x.png", job=job)
        assert comfy.keeps_ids()
    assert phases(journal) == [(Phase.SAVED, "succeeded")]


def test_who_keeps_no_journal_does_not_pay_for_it():
    code = "import comfyclient.client, sys; print({'sqlite3', 'comfyclient.journal'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
