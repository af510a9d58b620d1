"""``comfyclient jobs resume``, and what other commands write down for it. Runs on the emulator and a real ComfyUI."""

import asyncio
import contextlib
import json
import os
import sqlite3
import time
import uuid
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from comfyclient import ComfyClient
from comfyclient.cli.plans import Outputs, Plan
from comfyclient.emulator import Emulator
from comfyclient.errors import ConfigError
from comfyclient.journal import Journal, Phase
from comfyclient.ownfiles import part_mark

from ..cli_support import make_app, run  # noqa: TID252
from .prompts import failing, picture, slow
from .proxy import Proxy

HINT = "to finish what is left: comfyclient jobs resume"


@pytest.fixture
def cli(server_url, tmp_path):
    """Run a command in ``tmp_path`` with the server as its instance; beside the event loop that serves it."""

    async def call(*args, url=server_url, environ=None, **rest):
        app = make_app(tmp_path, environ={**({"COMFYCLIENT_URL": url} if url else {}), **(environ or {})}, **rest)
        return await asyncio.to_thread(run, app, *args)

    return call


@pytest.fixture
def journal(tmp_path):
    """Open the journal that commands in ``tmp_path`` keep."""
    return lambda: Journal.open(tmp_path / ".comfyclient-state")


def write(folder, prompt, name="wf.json"):
    path = Path(folder) / name
    path.write_text(json.dumps(prompt.nodes))
    return path


def entries(journal):
    with journal() as opened:
        return opened.entries()


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.exists() else {}


async def ended(url, *ids):
    async with ComfyClient(url) as comfy:
        for prompt_id in ids:
            await (await comfy.job(prompt_id)).wait()


def abandoned(journal, prompt_id, url, *, phase="submitting", plan=None, planned=1):
    """What a process leaves that was killed."""
    with journal() as opened:
        run_id = opened.begin(planned=planned, name="wf.json")
        opened.submitting(
            prompt_id, run_id=run_id, url=url, client_id="c", body_digest="0123456789abcdef" * 4,
            plan=(plan or Plan()).to_json(Path("/")) | {"seeds": {"3.seed": 42}}, name="wf.json",
        )  # fmt: skip
        if phase != "submitting":
            opened.accepted(prompt_id)
        if phase == "ended":
            opened.ended(prompt_id, "succeeded")


# What a run writes down.


async def test_a_run_that_ends_well_leaves_nothing_to_do(cli, tmp_path, journal, server_url):
    found = await cli("queue", write(tmp_path, picture()), "-n", "2", "-o", "out", "--metadata")
    assert found.code == 0
    done = entries(journal)
    assert [(entry.phase, entry.state, entry.url, entry.name) for entry in done] == [
        (Phase.SAVED, "succeeded", server_url, "wf.json")
    ] * 2
    assert {output.path for entry in done for output in entry.outputs} == set((tmp_path / "out").iterdir())
    assert (await cli("jobs", "resume")).err == "nothing is left to do\n"
    with journal() as opened:
        assert opened.interrupted() == []


async def test_the_plan_is_what_was_asked_for(cli, tmp_path, journal):
    (tmp_path / "key.txt").write_text("a-secret-key-0815")
    args = ["-o", "out", "--name-template", "{node}_{seed}", "--overwrite", "--metadata", "--api-key-file", "key.txt"]
    assert (await cli("queue", write(tmp_path, picture()), *args, "--no-wait")).code == 0
    [entry] = entries(journal)
    plan = Plan.from_json(entry.plan)
    assert plan.outputs == Outputs(tmp_path / "out", "{node}_{seed}", overwrite=True, metadata=True)
    assert plan.workflow == str(tmp_path / "wf.json")
    assert plan.login.api_key_file == str(tmp_path / "key.txt")
    assert b"a-secret" not in b"".join(files(tmp_path / ".comfyclient-state").values())


@pytest.mark.parametrize(("args", "environ"), [(["--no-journal"], {}), ([], {"COMFYCLIENT_JOURNAL": "0"})])
async def test_nothing_is_written_down_if_nobody_wants_it(cli, tmp_path, args, environ):
    found = await cli("queue", write(tmp_path, picture()), *args, environ=environ)
    assert found.code == 0
    assert not (tmp_path / ".comfyclient-state").exists()


def test_nothing_is_written_down_of_an_emulator_that_ends_with_the_run(tmp_path):
    assert run(make_app(tmp_path), "queue", write(tmp_path, picture()), "--emulator").code == 0
    assert not (tmp_path / ".comfyclient-state").exists()


async def test_the_environment_says_where_the_journal_is(cli, tmp_path):
    environ = {"COMFYCLIENT_STATE_DIR": "elsewhere"}
    await cli("queue", write(tmp_path, picture()), "--no-wait", environ=environ)
    assert not (tmp_path / ".comfyclient-state").exists()
    assert len((await cli("jobs", "resume", "--list", "--json", environ=environ)).json["jobs"]) == 1


async def test_a_journal_that_cannot_be_opened_is_no_reason_not_to_run(cli, tmp_path):
    (tmp_path / "file").write_text("")
    found = await cli("queue", write(tmp_path, picture()), "-q", environ={"COMFYCLIENT_STATE_DIR": "file"})
    assert (found.code, len(found.out.splitlines())) == (0, 1)
    warning, hint = found.err.splitlines()
    assert warning.startswith("warning: no journal is kept of this run: cannot use the journal ")
    assert hint.endswith("; --no-journal does without one")
    resumed = await cli("jobs", "resume", environ={"COMFYCLIENT_STATE_DIR": "file"})
    assert (resumed.code, resumed.err.split(":")[0]) == (2, "error")


async def test_a_journal_that_fails_in_the_middle_is_told_once_and_the_run_goes_on(cli, tmp_path, monkeypatch):
    def full(*_, **__):
        raise ConfigError("cannot use the journal: the disk is full", hint="make room on that disk")

    monkeypatch.setattr(Journal, "submitting", full)
    found = await cli("queue", write(tmp_path, picture()), "-n", "3", "-q")
    assert (found.code, len(found.out.splitlines())) == (0, 3)
    [line] = [line for line in found.err.splitlines() if "disk" in line]
    assert line.startswith("warning: cannot use the journal: the disk is full (make room on that disk); ")


async def test_a_prompt_that_is_refused_leaves_nothing_to_do(cli, tmp_path, journal):
    prompt = picture()
    prompt.nodes["1"]["inputs"]["width"] = 0
    assert (await cli("queue", write(tmp_path, prompt), "--no-check")).code == 3
    [entry] = entries(journal)
    assert (entry.phase, entry.open) == (Phase.REFUSED, False)
    assert "width" in entry.reason


async def test_jobs_that_fail_leave_nothing_to_do(cli, tmp_path, journal):
    assert (await cli("queue", write(tmp_path, failing()))).code == 1
    assert [(entry.phase, entry.state) for entry in entries(journal)] == [(Phase.ENDED, "failed")]


async def test_where_no_outputs_are_wanted_none_are_left_to_fetch(cli, tmp_path, journal):
    assert (await cli("queue", write(tmp_path, picture()), "--no-download")).code == 0
    assert [(entry.phase, entry.outputs) for entry in entries(journal)] == [(Phase.SAVED, ())]


# Resuming.


async def test_what_was_queued_without_waiting_is_fetched_as_it_was_to_be(cli, tmp_path, proxy):
    args = ["-o", "my out", "--name-template", "{node}/{title}.{ext}", "--metadata", "-n", "2", "--no-wait"]
    queued = await cli("queue", write(tmp_path, picture()), *args, url=proxy.url)
    ids = queued.out.split()
    assert queued.err.splitlines()[-1] == HINT
    posts = proxy.requests["POST", "/prompt"]
    found = await cli("jobs", "resume", url=None)
    assert found.code == 0
    assert {path.name for path in (tmp_path / "my out/2").iterdir()} == {"Save it.png", "Save it (1).png"}
    assert {path.stem for path in (tmp_path / "my out").glob("*.json")} == set(ids)
    assert set(map(Path, found.out.splitlines())) == {p for p in (tmp_path / "my out").rglob("*") if p.is_file()}
    assert found.err.splitlines()[-1] == "2 jobs: 2 finished now; 4 files"
    before = files(tmp_path / "my out/2")
    again = await cli("jobs", "resume", url=None)
    assert (again.code, again.out, again.err) == (0, "", "nothing is left to do\n")
    assert files(tmp_path / "my out/2") == before
    assert proxy.requests["POST", "/prompt"] == posts == 2


async def test_jobs_that_are_named_also_when_they_are_done(cli, tmp_path, server_url):
    queued = await cli("queue", write(tmp_path, picture()), "--no-wait", "-n", "3")
    first, second, third = queued.out.split()
    found = await cli("jobs", "resume", first[:13], second, "--json")
    assert [(job["prompt_id"], job["outcome"]) for job in found.json["jobs"]] == [
        (first, "finished"),
        (second, "finished"),
    ]
    again = await cli("jobs", "resume", first, third, "--json")
    done, other = again.json["jobs"]
    assert (done["outcome"], done["state"], done["files"]) == (
        "done_before",
        "finished",
        found.json["jobs"][0]["files"],
    )
    assert (other["outcome"], other["state"], other["instance"]) == ("finished", "succeeded", server_url)
    assert f"job 1/2 ({first}): was done before, 1 file" in again.err
    unknown = await cli("jobs", "resume", str(uuid.uuid4()))
    assert (unknown.code, "is not in the journal of this machine" in unknown.err) == (2, True)


async def test_it_waits_for_what_still_runs_and_says_how_it_goes(cli, tmp_path, server_url):
    queued = await cli("queue", write(tmp_path, slow(steps=5)), "--no-wait")
    found = await cli("jobs", "resume", "--events")
    names = [line["event"] for line in found.lines]
    assert (names[0], names[-3:]) == ("submitted", ["finished", "ended", "summary"])
    assert found.lines[-1]["jobs"][0]["prompt_id"] == queued.out.strip()


async def test_when_the_time_is_up_it_stays_to_be_done(cli, tmp_path, journal):
    queued = await cli("queue", write(tmp_path, slow()), "--no-wait")
    found = await cli("jobs", "resume", "--timeout", "0.3", "--json")
    [job] = found.json["jobs"]
    assert (found.code, job["outcome"], job["error"]["code"]) == (6, "unknown", "outcome_unknown")
    assert (await cli("jobs", "cancel", queued.out.strip())).code == 0
    later = await cli("jobs", "resume", "--json")  # how it ended, if that was not seen when it was cancelled
    assert [job["outcome"] for job in later.json["jobs"]] in ([], ["cancelled"])
    assert [entry.state for entry in entries(journal)] == ["cancelled"]
    assert (await cli("jobs", "resume", "--json")).json["jobs"] == []


async def test_what_was_taken_off_the_queue_by_hand_is_not_looked_for(cli, tmp_path, journal):
    queued = await cli("queue", write(tmp_path, slow()), "--no-wait", "-n", "2")
    first, second = queued.out.split()
    assert (await cli("jobs", "cancel", second)).code == 0
    assert {entry.prompt_id: entry.state for entry in entries(journal)} == {first: None, second: "cancelled"}
    assert (await cli("jobs", "cancel", first)).code == 0


async def test_one_that_failed_meanwhile(cli, tmp_path, server_url):
    queued = await cli("queue", write(tmp_path, failing()), "--no-wait")
    await ended(server_url, queued.out.strip())
    found = await cli("jobs", "resume", "--json")
    [job] = found.json["jobs"]
    # It may have failed while it was queued: then that was written, and nobody was told.
    assert (found.code, job["outcome"], job["state"]) in {(1, "failed", "failed"), (1, "done_before", "failed")}
    assert f"job {job['prompt_id']}: " in found.err
    assert (await cli("jobs", "resume", "--json")).json["jobs"] == []


async def test_one_that_the_instance_has_forgotten(cli, tmp_path, server_url):
    queued = await cli("queue", write(tmp_path, picture()), "--no-wait", "-o", "out")
    prompt_id = queued.out.strip()
    await ended(server_url, prompt_id)
    async with ClientSession() as session:
        await session.post(f"{server_url}/history", json={"delete": [prompt_id]})
    found = await cli("jobs", "resume", "--json")
    [job] = found.json["jobs"]
    assert (found.code, job["outcome"], job["error"]["code"]) == (6, "lost", "job_lost")
    hint = found.err.splitlines()[1]
    command = f"comfyclient queue {tmp_path}/wf.json --url {server_url} -o {tmp_path}/out"
    assert hint == f"hint: to queue it again: {command}"
    assert (await cli("jobs", "resume", "--json")).json["jobs"] == []


async def test_one_that_was_never_queued_is_told_and_not_queued_now(cli, tmp_path, journal, proxy):
    prompt_id = str(uuid.uuid4())
    abandoned(journal, prompt_id, proxy.url, plan=Plan("/flows/wf.json"), planned=3)
    found = await cli("jobs", "resume", "--json")
    [job] = found.json["jobs"]
    assert (found.code, job["outcome"], job["body_digest"]) == (6, "not_queued", "0123456789abcdef" * 4)
    assert found.json["runs"][0] | {"created": 0} == {"name": "wf.json", "created": 0, "planned": 3, "not_sent": 2}
    error, hint, summary, runs = found.err.splitlines()
    assert f"job {prompt_id}: it was never queued" in error
    assert "0123456789abcdef" * 4 in error
    assert hint == f"hint: to queue it again: comfyclient queue /flows/wf.json --url {proxy.url} --set 3.seed=42"
    assert summary == "1 job: 1 never queued"
    assert runs.startswith("2 jobs of the 3 of wf.json, ")
    assert proxy.requests["POST", "/prompt"] == 0
    again = await cli("jobs", "resume", "--json")
    assert (again.code, again.json) == (0, {"jobs": [], "runs": [], "exit_code": 0})


async def test_one_that_was_queued_though_nobody_saw_the_answer(cli, tmp_path, journal, server_url):
    async with ComfyClient(server_url) as comfy:
        job = await comfy.submit(picture())
    abandoned(journal, job.id, server_url, plan=Plan(outputs=Outputs(tmp_path / "out")))
    found = await cli("jobs", "resume", "--json")
    assert (found.code, found.json["jobs"][0]["outcome"], len(files(tmp_path / "out"))) == (0, "finished", 1)
    assert [entry.phase for entry in entries(journal)] == [Phase.SAVED]


async def test_an_instance_that_chooses_its_own_ids_may_have_it_under_another(cli, journal, proxy):
    old = {"system": {"comfyui_version": "0.3.50", "os": "x", "python_version": "3"}, "devices": []}
    proxy.answer("GET", "/system_stats", times=10, text=json.dumps(old), content_type="application/json")
    prompt_id = str(uuid.uuid4())
    abandoned(journal, prompt_id, proxy.url)
    found = await cli("jobs", "resume", "--json")
    [job] = found.json["jobs"]
    assert (found.code, job["outcome"]) == (6, "unknown")
    assert f"comfyclient jobs forget {prompt_id}" in found.err
    assert [entry.phase for entry in entries(journal)] == [Phase.SUBMITTING]


async def test_a_program_that_keeps_a_journal_says_itself_where_outputs_go(cli, tmp_path, journal, server_url):
    with journal() as opened:
        async with ComfyClient(server_url, journal=opened) as comfy:
            job = await comfy.submit(picture())
    found = await cli("jobs", "resume")
    command = f"comfyclient jobs download {job.id} --url {server_url}"
    assert found.code == 0
    assert f"job {job.id}: its outputs are on the instance: {command}" in found.err
    assert (await cli(*command.split()[1:], "-o", "out", url=None)).code == 0
    assert [(entry.phase, len(entry.outputs)) for entry in entries(journal)] == [(Phase.SAVED, 1)]


# Files.


def remove(path):
    path.unlink()


async def half_done(cli, tmp_path, **where):
    """A job with three files that was queued and fetched, but for one file, which is returned."""
    found = await cli("queue", write(tmp_path, picture(batch=3)), "-o", "out", **where)
    lost = Path(found.out.splitlines()[1])
    remove(lost)
    with changing(tmp_path) as database:
        database.execute("UPDATE jobs SET phase = 'ended'")
        database.execute("UPDATE outputs SET placed = 0")
    return lost


@contextlib.contextmanager
def changing(tmp_path):
    """Write into the journal what a process leaves that was killed."""
    with contextlib.closing(sqlite3.connect(tmp_path / ".comfyclient-state/journal.sqlite3")) as database, database:
        yield database


async def test_files_that_are_whole_are_not_fetched_again(cli, tmp_path, proxy):
    lost = await half_done(cli, tmp_path, url=proxy.url)
    before, fetched = files(tmp_path / "out"), proxy.requests["GET", "/view"]
    found = await cli("jobs", "resume")
    assert (found.code, len(found.out.splitlines())) == (0, 3)
    assert proxy.requests["GET", "/view"] == fetched + 1
    assert files(tmp_path / "out").keys() == before.keys() | {lost.name}
    assert before.items() <= files(tmp_path / "out").items()


async def test_a_file_that_was_changed_since_is_left_and_fetched_anew(cli, tmp_path):
    await half_done(cli, tmp_path)
    path = next((tmp_path / "out").iterdir())
    mine = bytes(byte ^ 255 for byte in path.read_bytes())  # as many bytes, and others
    path.write_bytes(mine)
    assert (await cli("jobs", "resume")).code == 0
    assert path.read_bytes() == mine
    assert len(files(tmp_path / "out")) == 4


async def test_files_elsewhere_do_not_count(cli, tmp_path, journal):
    await half_done(cli, tmp_path)
    [entry] = entries(journal)
    assert (await cli("jobs", "download", entry.prompt_id, "-o", "other")).code == 0
    assert len(files(tmp_path / "other")) == 3
    assert (await cli("jobs", "resume", "--json")).json["jobs"] == []


@pytest.mark.parametrize("template", [[], ["--name-template", "{node}/{filename}"]])
async def test_what_is_half_written_is_removed_if_it_is_of_such_a_job(cli, tmp_path, server_url, template):
    queued = await cli("queue", write(tmp_path, picture()), "--no-wait", "-o", "out", *template)
    folder = tmp_path / "out" / ("2" if template else "")
    folder.mkdir(parents=True)
    ours = folder / f".comfyclient-{part_mark(queued.out.strip())}{'0' * 16}.part"
    others = [folder / f".comfyclient-{'0' * 32}.part", folder / f".comfyclient-{'0' * 16}.part", folder / "x.part"]
    for path in (ours, *others):
        path.write_bytes(b"half")
    assert (await cli("jobs", "resume")).code == 0
    assert not ours.exists()
    assert all(path.exists() for path in others)


async def test_what_cannot_be_written_stays_to_be_done(cli, tmp_path):
    await cli("queue", write(tmp_path, picture()), "--no-wait", "-o", "out")
    (tmp_path / "out").write_text("in the way")
    found = await cli("jobs", "resume", "--json")
    assert (found.code, found.json["jobs"][0]["outcome"]) == (7, "not_fetched")
    (tmp_path / "out").unlink()
    assert (await cli("jobs", "resume")).code == 0


async def test_of_outputs_that_are_gone_it_is_said_how_to_be_done_with_them(cli, tmp_path, proxy):
    queued = await cli("queue", write(tmp_path, picture()), "--no-wait", "-o", "out", url=proxy.url)
    prompt_id = queued.out.strip()
    proxy.answer("GET", "/view", times=100, status=404)
    found = await cli("jobs", "resume")
    assert found.code == 7
    assert f"comfyclient jobs forget {prompt_id}" in found.err
    assert (await cli("jobs", "forget", prompt_id)).code == 0
    assert (await cli("jobs", "resume")).code == 0


async def test_one_that_was_given_up_is_finished_if_it_is_named(cli, tmp_path, journal):
    queued = await cli("queue", write(tmp_path, picture()), "--no-wait", "-o", "out")
    prompt_id = queued.out.strip()
    with journal() as opened:
        opened.claim([prompt_id])
        opened.give_up(prompt_id, "nobody asked for it in 90 days")
    found = await cli("jobs", "resume", "--json")
    assert [job["outcome"] for job in found.json["jobs"]] == ["done_before"]
    found = await cli("jobs", "resume", prompt_id, "--json")
    assert (found.code, found.json["jobs"][0]["outcome"]) == (0, "finished")
    assert len(files(tmp_path / "out")) == 1


# Who has a job.


async def test_what_another_process_looks_after_is_left_to_it(cli, tmp_path, journal):
    queued = await cli("queue", write(tmp_path, picture()), "--no-wait", "-n", "2")
    first, _ = queued.out.split()
    with journal() as other:
        other.claim([first])
        listed = await cli("jobs", "resume", "--list")
        assert f"process {os.getpid()} on " in listed.out
        found = await cli("jobs", "resume", "--json")
        assert sorted(job["outcome"] for job in found.json["jobs"]) == ["finished", "held"]
        assert f"process {os.getpid()} on " in found.err
        assert found.code == 0
        forgotten = await cli("jobs", "forget", first, "--json")
        assert forgotten.json == {"forgotten": [], "held": 1, "exit_code": 0}
    assert [job["prompt_id"] for job in (await cli("jobs", "resume", "--json")).json["jobs"]] == [first]


async def test_many_at_once_finish_each_job_once(cli, tmp_path, proxy, server_url):
    queued = await cli("queue", write(tmp_path, slow(steps=5)), "--no-wait", "-n", "6", "-o", "out", url=proxy.url)
    ids = queued.out.split()
    found = await asyncio.gather(*(cli("jobs", "resume", "--json") for _ in range(4)))
    outcomes = [(job["prompt_id"], job["outcome"]) for one in found for job in one.json["jobs"]]
    assert sorted(prompt_id for prompt_id, outcome in outcomes if outcome == "finished") == sorted(ids)
    assert {outcome for _, outcome in outcomes} <= {"finished", "held", "done_before"}
    assert proxy.requests["GET", "/view"] == len(files(tmp_path / "out")) == 6
    assert proxy.requests["POST", "/prompt"] == 6


async def test_beside_the_run_that_queues(cli, tmp_path, server_url):
    running = asyncio.create_task(cli("queue", write(tmp_path, slow(steps=10)), "-n", "2", "-o", "out"))
    while len((await cli("jobs", "resume", "--list", "--json")).json["jobs"]) < 2:
        assert not running.done()
    found = await cli("jobs", "resume", "--json")
    assert {job["outcome"] for job in found.json["jobs"]} == {"held"}
    assert found.json["runs"] == []
    assert (await running).code == 0
    assert len(files(tmp_path / "out")) == 2


# Instances.


async def test_jobs_of_several_instances(cli, tmp_path, server_url):
    async with Emulator() as other, Proxy(server_url) as proxy:
        for url in (proxy.url, other.url):
            await cli("queue", write(tmp_path, picture()), "--no-wait", "-o", "out", url=url)
        found = await cli("jobs", "resume", "--url", f"{other.url}/", "--json", url=None)
        assert [job["instance"] for job in found.json["jobs"]] == [other.url]
        await cli("queue", write(tmp_path, picture()), "--no-wait", "-o", "out", url=other.url)
        found = await cli("jobs", "resume", "--json", url=None)
        assert [job["instance"] for job in found.json["jobs"]] == [proxy.url, other.url]
        assert (found.code, len(files(tmp_path / "out"))) == (0, 3)


async def test_an_instance_that_is_gone_does_not_stop_the_others(cli, tmp_path, journal, server_url):
    for _ in range(2):
        abandoned(journal, str(uuid.uuid4()), "http://127.0.0.1:1", phase="accepted")
    await cli("queue", write(tmp_path, picture()), "--no-wait", "-o", "out")
    found = await cli("jobs", "resume", "--json")
    assert [job["outcome"] for job in found.json["jobs"]] == ["unknown", "unknown", "finished"]
    assert found.code == 5
    assert "error: 2 jobs at http://127.0.0.1:1: " in found.err
    assert "hint: if that instance is gone for good: comfyclient jobs forget --url http://127.0.0.1:1" in found.err
    assert (await cli("jobs", "forget", "--url", "http://127.0.0.1:1")).err == "2 jobs forgotten\n"
    assert (await cli("jobs", "resume", "--json")).json["jobs"] == []


class Gate(Proxy):
    """Lets in who has the key."""

    async def _handle(self, request):
        if request.headers.get("X-API-Key") != "open-sesame-4711":
            return web.Response(status=401, text="who are you?")
        return await super()._handle(request)


async def test_it_gets_in_as_the_run_did(cli, tmp_path, server_url):
    (tmp_path / "key.txt").write_text("open-sesame-4711")
    async with Gate(server_url) as gate:
        args = ["--url", gate.url, "--no-wait", "-o", "out"]
        assert (await cli("queue", write(tmp_path, picture()), *args, "--api-key-file", "key.txt", url=None)).code == 0
        found = await cli("jobs", "resume", url=None)
        assert (found.code, len(files(tmp_path / "out"))) == (0, 1)


async def test_without_the_key_it_says_so_and_with_it_goes_on(cli, tmp_path, server_url):
    (tmp_path / "key.txt").write_text("open-sesame-4711")
    async with Gate(server_url) as gate:
        environ = {"COMFYCLIENT_URL": gate.url, "COMFYCLIENT_API_KEY": "open-sesame-4711"}
        args = ["queue", write(tmp_path, picture()), "--no-wait", "-o", "out"]
        assert (await cli(*args, environ=environ, url=None)).code == 0
        found = await cli("jobs", "resume", "--json", url=None)
        assert (found.code, found.json["jobs"][0]["outcome"]) == (4, "unknown")
        found = await cli("jobs", "resume", "--url", gate.url, "--api-key-file", "key.txt", url=None)
        assert (found.code, len(files(tmp_path / "out"))) == (0, 1)


async def test_a_credential_for_no_instance_in_particular_is_not_shown_to_several(cli, tmp_path, server_url):
    key = {"COMFYCLIENT_API_KEY": "open-sesame-4711"}
    async with Gate(server_url) as one, Gate(server_url) as two:
        for gate in (one, two):
            queued = ["queue", write(tmp_path, picture()), "--no-wait", "-o", "out"]
            assert (await cli(*queued, url=None, environ=key | {"COMFYCLIENT_URL": gate.url})).code == 0
        let_in = one.requests.total() + two.requests.total()
        found = await cli("jobs", "resume", "--json", url=None, environ=key)
        assert (found.code, [job["outcome"] for job in found.json["jobs"]]) == (4, ["unknown", "unknown"])
        assert one.requests.total() + two.requests.total() == let_in
        found = await cli("jobs", "resume", "--json", url=None, environ=key | {"COMFYCLIENT_URL": one.url})
        assert (found.code, [job["outcome"] for job in found.json["jobs"]]) == (4, ["finished", "unknown"])
        assert (await cli("jobs", "resume", url=None, environ=key)).code == 0
        assert len(files(tmp_path / "out")) == 2


# Listing and forgetting.


async def test_what_there_is_to_do(cli, tmp_path, journal, server_url):
    assert (await cli("jobs", "resume", "--list")).err == "nothing is left to do\n"
    ids = [str(uuid.uuid4()) for _ in range(3)]
    outputs = Outputs(tmp_path / "out")
    for prompt_id, phase in zip(ids, ("submitting", "accepted", "ended"), strict=True):
        abandoned(journal, prompt_id, server_url, phase=phase, plan=Plan(outputs=outputs), planned=4)
    listed = await cli("jobs", "resume", "--list")
    assert [line.split("  ")[1].strip() for line in listed.out.splitlines()[1:]] == [
        "perhaps queued",
        "queued",
        "to be fetched",
    ]
    assert listed.err.count("3 jobs of the 4 of wf.json, ") == 3
    document = (await cli("jobs", "resume", "--list", "--json")).json
    assert [job["prompt_id"] for job in document["jobs"]] == ids
    assert {(job["instance"], job["folder"], job["holder"]) for job in document["jobs"]} == {
        (server_url, str(tmp_path / "out"), None)
    }
    assert [found["not_sent"] for found in document["runs"]] == [3, 3, 3]


async def test_forgetting(cli, tmp_path, journal, server_url):
    done = await cli("queue", write(tmp_path, picture()), "--json")
    ids = [str(uuid.uuid4()) for _ in range(2)]
    for prompt_id in ids:
        abandoned(journal, prompt_id, server_url, phase="accepted")
    forgotten = await cli("jobs", "forget", "--all-ended", "--json")
    assert forgotten.json["forgotten"] == [done.json["jobs"][0]["prompt_id"]]
    assert (await cli("jobs", "forget", ids[0][:8])).err == "1 job forgotten\n"
    assert [entry.prompt_id for entry in entries(journal)] == ids[1:]
    assert (await cli("jobs", "forget", ids[0])).code == 2
    assert (await cli("jobs", "forget", "--url", server_url, "--json")).json["forgotten"] == ids[1:]


async def test_the_journal_does_not_grow_without_end(cli, tmp_path, journal, server_url):
    day = 86400
    with journal() as opened:
        folder = opened.path.parent
    for age, prompt_id, phase in ((31, "old-done", "ended"), (29, "new-done", "ended"), (91, "old-open", "accepted")):
        with Journal.open(folder, clock=lambda age=age: time.time() - age * day) as opened:
            run_id = opened.begin()
            opened.submitting(prompt_id, run_id=run_id, url=server_url, client_id="c", body_digest="d")
            opened.accepted(prompt_id)
            if phase == "ended":
                opened.ended(prompt_id, "failed")
    await cli("jobs", "resume", "--list")
    assert {entry.prompt_id: entry.phase for entry in entries(journal)} == {
        "new-done": Phase.ENDED,
        "old-open": Phase.ACCEPTED,
    }
