"""Commands in processes of their own that are killed at a chosen moment, and a server that sees what they did to it."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from comfyclient import ComfyClient
from comfyclient.emulator import Emulator
from comfyclient.emulator.faults import Faults
from comfyclient.emulator.nodes import Outcome
from comfyclient.workflow.catalog import Catalog

from ..cli_support import ROOT  # noqa: TID252

DYING = Path(__file__).with_name("dying.py")
JOB_SECONDS = 0.03
PRINT = {
    "input": {
        "required": {
            "seed": ["INT", {"default": 0, "min": 0, "max": 2**53, "control_after_generate": True}],
            "size": ["INT", {"default": 1000, "min": 1, "max": 2**30}],
            "files": ["INT", {"default": 1, "min": 1, "max": 100}],
        }
    },
    "input_order": {"required": ["seed", "size", "files"]},
    "output": [],
    "output_is_list": [],
    "output_name": [],
    "name": "Print",
    "display_name": "Print",
    "description": "",
    "python_module": "custom_nodes.print",
    "category": "tests",
    "output_node": True,
}


def workflow(*, size, files=1):
    """A prompt whose jobs leave so many files of so many bytes, and a text."""
    return {"1": {"class_type": "Print", "inputs": {"seed": 0, "size": size, "files": files}}}


async def _print(call):
    """Files that only this seed gives, under names that every job of a folder could have."""
    await asyncio.sleep(JOB_SECONDS)
    chance = random.Random(call.inputs["seed"])
    place = call.run.folders.save_place("print")
    names = [place.name(index, "bin") for index in range(call.inputs["files"])]
    for name in names:
        (place.folder / name).write_bytes(chance.randbytes(call.inputs["size"]))
    return Outcome((), {"images": [place.entry(name) for name in names], "text": [f"seed {call.inputs['seed']}"]})


class Trap(Faults):
    """Kills a process at a request: see `Moment`. Otherwise everything works."""

    def __init__(self):
        super().__init__()
        self.pid = None
        self.moment = None
        self._seen = Counter()

    def set(self, pid, moment):
        self.pid, self.moment = pid, moment
        self._seen.clear()

    def canned(self, path):
        self._strike("asked", path)
        return super().canned(path)

    def next_post(self):
        return "drop_before" if self._strike("dropped", "/prompt") else super().next_post()

    def submitted(self):
        self._strike("queued", "/prompt")

    def _strike(self, stage, path):
        moment = self.moment
        if moment is None or moment.stage != stage or not path.removeprefix("/api").startswith(moment.path):
            return False
        self._seen[stage] += 1
        if self._seen[stage] != moment.nth:
            return False
        if moment.delay:
            asyncio.get_running_loop().call_later(moment.delay, self._kill, moment)
        else:
            kill(self.pid)
        return True

    def _kill(self, moment):
        if self.moment is moment:  # else its process has ended, and the number may be another's
            kill(self.pid)


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Moment:
    """When a process is killed: ``delay`` seconds after its stage.

    Stages: ``"begun"``; ``"asked"``: its ``nth`` request for something below ``path`` arrived; ``"dropped"``: so did
    its ``nth`` prompt, of which the server takes no notice; ``"queued"``: that was queued, and is not answered yet;
    ``"said"``: it printed the ``nth`` event of the name ``path``; ``"before"`` and ``"after"``: it does this itself,
    at its ``nth`` call of the function ``path`` (see `dying.py`). ``links``: whether its disk has hard links.
    """

    stage: str
    path: str = ""
    nth: int = 1
    delay: float = 0.0
    links: bool = True

    @property
    def program(self):
        """What runs instead of ``-m comfyclient``."""
        if self.stage not in {"before", "after"}:
            return ["-m", "comfyclient"]
        return [DYING, self.stage, self.path, self.nth, "links" if self.links else "no-links"]


@dataclass
class Server:
    """A server of its own, and what was queued there."""

    emulator: Emulator
    trap: Trap
    submissions: Counter = field(default_factory=Counter)

    @property
    def url(self):
        return self.emulator.url

    async def idle(self):
        """Wait until nothing of ours runs or waits there."""
        async with ComfyClient(self.url, poll_interval=JOB_SECONDS) as comfy:
            for prompt_id in self.submissions:
                await (await comfy.job(prompt_id)).wait()

    def outputs(self, prompt_id):
        """The digests of all that a job left, and of its text as it is saved."""
        entry = self.emulator.core.queue.history[prompt_id]
        assert entry["status"]["status_str"] == "success", entry["status"]
        folder = self.emulator.folders.output
        for node in entry["outputs"].values():
            for item in node["images"]:
                yield digest((folder / item["subfolder"] / item["filename"]).read_bytes())
            for text in node["text"]:
                yield digest(text.encode())


@contextlib.asynccontextmanager
async def serving(folder):
    """A server that knows one node."""
    trap = Trap()
    emulator = Emulator(
        catalog=Catalog.from_json({"Print": PRINT}), nodes={"Print": _print}, base_dir=folder, models={}, faults=trap
    )
    async with emulator:
        server = Server(emulator, trap)
        submit = emulator.core.submit

        def watched(number, prompt_id, *rest):
            server.submissions[prompt_id] += 1
            result = submit(number, prompt_id, *rest)
            trap.submitted()
            return result

        emulator.core.submit = watched
        yield server


async def run_and_kill(server, moment, args, *, cwd, state):
    """Run ``comfyclient ARGS --events`` in a process of its own until the moment comes.

    Returns:
        Whether it was killed; else it had ended before.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COMFYCLIENT_STATE_DIR": str(state)}
    command = [sys.executable, "-B", *map(str, (*moment.program, *args)), "--events", "-q"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, limit=2**24,
    )  # fmt: skip
    server.trap.set(process.pid, moment)
    try:
        _, err, _ = await asyncio.gather(_read(process, moment), process.stderr.read(), _kill_later(process, moment))
        code = await process.wait()
    finally:
        server.trap.set(None, None)
        if process.returncode is None:
            kill(process.pid)
            await process.wait()
    assert b"Traceback" not in err, err.decode()
    return code == -signal.SIGKILL


async def _kill_later(process, moment):
    if moment.stage == "begun":
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), moment.delay)
        if process.returncode is None:
            kill(process.pid)


async def _read(process, moment):
    seen = 0
    while line := await process.stdout.readline():
        if moment.stage != "said" or not line.endswith(b"\n"):
            continue
        seen += json.loads(line)["event"] == moment.path
        if seen == moment.nth:
            await asyncio.sleep(moment.delay)
            kill(process.pid)
            return


def digest(data):
    return hashlib.sha256(data).hexdigest()
