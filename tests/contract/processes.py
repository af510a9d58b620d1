"""The command line in processes of its own, for what only a process can show: signals, pipes, exit codes."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from ..cli_support import ROOT  # noqa: TID252
from .proxy import Proxy


def write(folder, prompt, name="wf.json"):
    """A prompt as a file."""
    path = Path(folder) / name
    path.write_text(json.dumps(prompt.nodes))
    return path


def hear_the_end_of_a_terminal():
    """Whoever runs the tests with nohup has SIGHUP ignored, and processes inherit that."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Process:
    """The command in a process of its own; none outlives its test, also if that fails."""

    started: ClassVar[list] = []

    def __init__(self, process):
        self.process = process
        self.err = ""
        self.started.append(process)

    @classmethod
    async def start(cls, *args, env=None, **rest):
        command = [sys.executable, "-B", "-m", "comfyclient", *map(str, args)]
        env = env or {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes = {
            "stdin": asyncio.subprocess.DEVNULL,
            "stdout": asyncio.subprocess.PIPE,
            "stderr": asyncio.subprocess.PIPE,
        }
        rest.setdefault("preexec_fn", hear_the_end_of_a_terminal)
        return cls(await asyncio.create_subprocess_exec(*command, env=env, **pipes, **rest))

    async def says(self, text):
        """Wait for a line on stderr with that text, and give it."""
        while line := (await self.process.stderr.readline()).decode():
            self.err += line
            if text in line:
                return line
        raise AssertionError(f"ended without saying {text!r}:\n{self.err}")

    def signal(self, number):
        self.process.send_signal(number)

    async def end(self):
        """Wait for its end: exit code and stdout."""
        out, err = await self.process.communicate()
        self.err += err.decode()
        return self.process.returncode, out.decode()


@pytest.fixture(autouse=True)
async def no_process_stays():
    """Waiting for one that a failed test left would go on for ever."""
    yield
    while Process.started:
        process = Process.started.pop()
        if process.returncode is None:
            process.kill()
            await process.communicate()


class StuckProxy(Proxy):
    """Never answers a wish to interrupt, or what else it is told."""

    def __init__(self, upstream, path="/interrupt"):
        super().__init__(upstream)
        self.path = path
        self.asked = asyncio.Event()

    async def _handle(self, request):
        if request.path == self.path:
            self.asked.set()
            await asyncio.Event().wait()
        return await super()._handle(request)
