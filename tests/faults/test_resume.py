"""A run is killed at any moment, and ``comfyclient jobs resume`` finishes it: nothing lost, nothing twice."""

import asyncio
import json
import random
from collections import Counter

import pytest

from comfyclient.journal import Journal, Phase

from ..cli_support import make_app, run  # noqa: TID252
from .kills import Moment, digest, run_and_kill, serving, workflow

JOBS = 20
ROUNDS = 50
PARTS = 5
LANES = 4


def draw(chance):
    """A moment in a run of ``queue``."""
    nth = chance.randint(1, JOBS)
    soon = chance.choice([0.0, chance.uniform(0, 0.02)])
    return chance.choice([
        Moment("begun", delay=chance.uniform(0.3, 1.5)),
        Moment("asked", chance.choice(["/object_info", "/system_stats"])),
        Moment("asked", "/prompt", nth, soon),
        Moment("dropped", "/prompt", nth),
        Moment("queued", "/prompt", nth, soon),
        Moment("asked", "/view", nth, chance.uniform(0, 0.02)),
        Moment("asked", "/history", chance.randint(1, 3), soon),
        Moment("said", chance.choice(["submitted", "started", "finished", "ended"]), nth, soon),
        Moment("said", "ended", JOBS, soon),
        Moment("said", chance.choice(["node_started", "output_ready"]), nth, chance.uniform(0, 0.1)),
    ])  # fmt: skip


def draw_again(chance):
    """A moment in a run of ``jobs resume``."""
    nth = chance.randint(1, 4)
    return chance.choice([
        Moment("begun", delay=chance.uniform(0.2, 0.8)),
        Moment("asked", "/view", nth, chance.uniform(0, 0.02)),
        Moment("asked", "/queue", nth, chance.uniform(0, 0.02)),
        Moment("said", "ended", nth, chance.uniform(0, 0.02)),
    ])  # fmt: skip


def draw_shape(chance):
    """What each job leaves: a large file, or small ones."""
    if chance.random() < 0.3:
        return {"size": chance.randint(2**20, 2**21)}
    return {"size": 5000, "files": chance.choice([1, 3])}


class Round:
    """One run of ``queue`` that is killed, and what finishes it."""

    def __init__(self, folder):
        self.folder = folder
        self.log = []

    async def __call__(self, moment, *others, jobs=JOBS, options=(), **shape):
        """Kill the run at a moment, and those that finish it at others."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "wf.json").write_text(json.dumps(workflow(**shape)))
        async with serving(self.folder / "server") as server:
            where = ["--url", server.url, "-o", "out"]
            await self._kill(
                server, moment, "queue", "wf.json", *where, "-n", jobs, "--seed", "random", "--metadata", *options
            )
            for other in others:
                await self._kill(server, other, "jobs", "resume")
            found = await self._resume()
            await server.idle()
            self._check(server, found)
            assert (await self._resume()).json["jobs"] == []

    async def _kill(self, server, moment, *args):
        killed = await run_and_kill(server, moment, args, cwd=self.folder, state=self.folder / "state")
        self.log.append((args[0], moment, "killed" if killed else "ended before"))

    @property
    def killed(self):
        """Whether the run itself was killed."""
        return self.log[0][-1] == "killed"

    async def _resume(self):
        environ = {"COMFYCLIENT_STATE_DIR": str(self.folder / "state")}
        app = make_app(self.folder, environ=environ)
        found = await asyncio.to_thread(run, app, "jobs", "resume", "--json")
        self.log.append(("jobs", found.code, Counter(job["outcome"] for job in found.json["jobs"])))
        return found

    def _check(self, server, found):
        assert found.code in {0, 6}, found.err
        with Journal.open(self.folder / "state") as journal:
            entries = {entry.prompt_id: entry for entry in journal.entries(1000)}
            assert journal.open_entries() == []
            assert journal.interrupted() == []
        assert set(server.submissions.values()) <= {1}
        assert set(server.submissions) <= set(entries)
        phases = {prompt_id: entry.phase for prompt_id, entry in entries.items()}
        assert {i for i, phase in phases.items() if phase is Phase.SAVED} == set(server.submissions)
        assert {phase for i, phase in phases.items() if i not in server.submissions} <= {Phase.REFUSED}
        self._check_files(server, entries)

    def _check_files(self, server, entries):
        out = self.folder / "out"
        here = {path: digest(path.read_bytes()) for path in out.iterdir()} if out.exists() else {}
        about = {path for path in here if path.suffix == ".json"}
        assert {path.stem for path in about} == set(server.submissions)
        wanted = Counter(item for prompt_id in server.submissions for item in server.outputs(prompt_id))
        assert Counter(there for path, there in here.items() if path not in about) == wanted
        written = {output.path: output.sha256 for entry in entries.values() for output in entry.outputs}
        assert written == here

    def report(self):
        return f"{self.folder.name}: " + "; ".join(" ".join(map(str, line)) for line in self.log)


@pytest.mark.parametrize("part", range(PARTS))
async def test_killed_at_any_moment_each_job_runs_once_and_each_output_is_whole(tmp_path, fault_seed, part):
    seed = random.randrange(2**32) if fault_seed is None else fault_seed
    print(f"seed {seed}; the same moments again with COMFYCLIENT_FAULT_SEED={seed}")
    lanes = asyncio.Semaphore(LANES)
    killed = []

    async def one(number):
        async with lanes:
            for attempt in range(10):  # a moment that never came is no round
                chance = random.Random(f"{seed}/{part}/{number}/{attempt}")
                done = Round(tmp_path / f"{number}-{attempt}")
                again = [draw_again(chance) for _ in range(chance.choice([0, 0, 0, 1, 2]))]
                try:
                    await done(draw(chance), *again, **draw_shape(chance))
                finally:
                    print(done.report())
                if done.killed:
                    killed.append(done)
                    return

    async with asyncio.TaskGroup() as tasks:
        for number in range(ROUNDS // PARTS):
            tasks.create_task(one(number))
    assert len(killed) == ROUNDS // PARTS


CALLS = ("begin", "submitting", "accepted", "ended", "output_placing", "output_saved", "saved", "finish")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_between_any_two_steps(tmp_path, when):
    moments = [Moment(when, call) for call in CALLS]
    moments += [Moment(when, "link"), Moment(when, "_fill_new", links=False), Moment(when, "replace", links=False)]
    lanes = asyncio.Semaphore(LANES)

    async def one(number, moment):
        async with lanes:
            done = Round(tmp_path / str(number))
            try:
                await done(moment, jobs=2, size=5000, files=2)
            finally:
                print(done.report())
            assert done.killed

    async with asyncio.TaskGroup() as tasks:
        for number, moment in enumerate(moments):
            tasks.create_task(one(number, moment))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_while_a_file_is_replaced(tmp_path, when):
    (tmp_path / "round/out").mkdir(parents=True)
    (tmp_path / "round/out/print_00001.bin").write_bytes(b"of another run")
    done = Round(tmp_path / "round")
    await done(Moment(when, "replace"), jobs=1, options=["--overwrite"], size=5000)
    assert done.killed
