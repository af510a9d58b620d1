"""What docs/rest.md shows is true."""

import asyncio
import os
import re
import signal
import subprocess
import sys

import pytest

from comfyclient.emulator import Emulator

from ..cli_support import ROOT, WORKFLOWS  # noqa: TID252
from ..contract.processes import Process, no_process_stays  # noqa: F401, TID252

TEXT = (ROOT / "docs" / "rest.md").read_text()
KEY = "a-key-that-nobody-guesses"


async def test_the_python_example_runs(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COMFYCLIENT_STATE_DIR": str(tmp_path / "state")}
    environment["COMFYCLIENT_SERVE_API_KEY"] = KEY
    server = await Process.start("serve", "--port", "0", "--workflows", WORKFLOWS, env=environment)
    url = (await server.process.stdout.readline()).decode().strip()
    async with Emulator() as instance:
        environment |= {"API": url, "API_KEY": KEY, "COMFYUI": instance.url}
        found = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", example], cwd=tmp_path, env=environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    assert found.returncode == 0, found.stderr
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == 2
    assert {picture.read_bytes()[:8] for picture in pictures} == {b"\x89PNG\r\n\x1a\n"}
    server.signal(signal.SIGTERM)
    assert (await server.end())[0] == 0


@pytest.fixture(scope="module")
def document():
    from comfyclient.api.app import create_app
    from comfyclient.api.keys import ApiKeys
    from comfyclient.api.settings import ApiSettings

    return create_app(ApiSettings(keys=ApiKeys())).openapi()


def test_every_call_that_it_names_is_one(document):
    named = set(re.findall(r"`(?:GET|POST|DELETE) (/[^`?]*)", TEXT)) | set(re.findall(r"localhost:8000(/\S+)", TEXT))
    known = {re.sub(r"\{\w+\}", "{}", path) for path in document["paths"]}
    assert {re.sub(r"\{\w+\}", "{}", path) for path in named} <= known
    assert len(named) > 10


def test_every_option_that_it_names_is_one():
    from comfyclient.cli.serve import command

    ours = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    named = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert named - {"--add-host"} <= ours
    assert len(named) > 10
