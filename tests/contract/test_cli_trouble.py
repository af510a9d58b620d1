"""Jobs that stall, and jobs that the instance loses: what the command line says of them, and does."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from comfyclient import ComfyClient
from comfyclient.emulator import Emulator

from ..cli_support import ROOT, make_app, run  # noqa: TID252
from .processes import Process, no_process_stays, write  # noqa: F401 - a fixture for all tests here
from .prompts import picture


@pytest.fixture
async def emulator():
    """One whose worker has died: it says of every job that it runs or waits, and nothing moves."""
    async with Emulator() as emulator:
        emulator.faults.wedge()
        yield emulator


async def start(emulator, folder, *args):
    """A run that finds out soon that nothing moves."""
    wf = write(folder, picture())
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COMFYCLIENT_STATE_DIR": str(folder / "state")}
    args = ["queue", wf, "--url", emulator.url, "-o", "o", "--stall-timeout", "0.3", *args]
    return await Process.start(*args, cwd=folder, env=env)


async def test_a_job_that_stalls_is_told_and_one_that_is_lost_ends_so(emulator, tmp_path):
    process = await start(emulator, tmp_path, "--json")
    line = await process.says("stalled")
    assert "nothing has moved there for" in line
    assert "restart ComfyUI" in line
    assert "Ctrl-C cancels it" in await process.says("hint: ")
    emulator.faults.restart()
    code, out = await process.end()
    [job] = json.loads(out)["jobs"]
    assert (code, job["state"], job["error"]["code"]) == (6, "lost", "job_lost")
    assert "lost_id" not in job


async def test_one_that_is_lost_is_submitted_once_more_for_who_wishes_so(emulator, tmp_path):
    process = await start(emulator, tmp_path, "--resubmit", "lost", "--json")
    before = (await process.says("queued as")).split()[-1]
    await process.says("stalled")
    emulator.faults.restart()
    line = await process.says("submitted once more")
    assert f"lost it as {before}" in line
    code, out = await process.end()
    [job] = json.loads(out)["jobs"]
    assert (code, job["state"], job["lost_id"]) == (0, "succeeded", before)
    assert job["prompt_id"] != before
    assert f"job {job['prompt_id']}" in line
    assert [file.name for file in (tmp_path / "o").iterdir()] == [Path(file).name for file in job["files"]]
    left = run(make_app(tmp_path, environ={"COMFYCLIENT_STATE_DIR": "state"}), "jobs", "resume", "--list")
    assert left.err == "nothing is left to do\n"
    async with ComfyClient(emulator.url) as comfy:
        assert [found.id for found in await comfy.jobs()] == [job["prompt_id"]]


async def test_the_second_time_it_ends_as_lost(emulator, tmp_path):
    process = await start(emulator, tmp_path, "--resubmit", "lost", "--json")
    await process.says("stalled")
    emulator.faults.restart()
    emulator.faults.wedge()
    await process.says("submitted once more")
    await process.says("stalled")
    emulator.faults.restart()
    code, out = await process.end()
    [job] = json.loads(out)["jobs"]
    assert (code, job["state"]) == (6, "lost")


async def test_programs_are_told_as_it_happens(emulator, tmp_path):
    process = await start(emulator, tmp_path, "--resubmit", "lost", "--events")
    seen = []
    while line := await process.process.stdout.readline():
        seen.append(json.loads(line))
        if seen[-1]["event"] == "stalled":
            emulator.faults.restart()
    kinds = [event["event"] for event in seen]
    assert kinds.index("submitted") < kinds.index("stalled") < kinds.index("resubmitted") < kinds.index("finished")


async def test_jobs_that_are_taken_up_later_are_told_of_too(emulator, tmp_path):
    queued = await asyncio.to_thread(
        run,
        make_app(tmp_path, environ={"COMFYCLIENT_URL": emulator.url}),
        *("queue", write(tmp_path, picture()), "--no-wait", "-q"),
    )
    prompt_id = queued.out.strip()
    for command in (["wait", prompt_id, "--url", emulator.url], ["resume"]):
        app = make_app(tmp_path)
        found = await asyncio.to_thread(run, app, "jobs", *command, "--stall-timeout", "0.3", "--timeout", "2")
        assert found.code == 6
        assert f"warning: job {prompt_id}: stalled: " in found.err
        assert f"Ctrl-C stops the waiting, `comfyclient jobs cancel {prompt_id}` cancels it" in found.err
        assert "is still stalled (it waits, and nothing has moved there for" in found.err


async def test_who_does_not_want_to_hear_of_it_does_not(emulator, tmp_path):
    found = await asyncio.to_thread(
        run,
        make_app(tmp_path, environ={"COMFYCLIENT_URL": emulator.url}),
        *("queue", write(tmp_path, picture()), "--stall-timeout", "0", "--timeout", "1.5"),
    )
    assert found.code == 6
    assert "stalled" not in found.err
