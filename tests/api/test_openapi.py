"""The OpenAPI document is true: schemathesis finds no crash, and no answer that the document does not announce."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from comfyclient.emulator import Emulator

from ..cli_support import ROOT  # noqa: TID252
from ..contract.processes import Process, no_process_stays  # noqa: F401, TID252 - a fixture for all tests here

KEY = "a-key-for-schemathesis-only"
WORKFLOWS = ROOT / "workflows"
HERE = Path(__file__).parent
# 502 and 503 say that an instance does not answer, and most addresses that schemathesis makes up have none. That valid
# requests are refused is right where there is no session, and most of what it makes up is no workflow.
CONFIG = """
[checks]
positive_data_acceptance.enabled = false
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 502, 503]
[phases.stateful]
enabled = false
"""


@pytest.mark.parametrize("key", [None, KEY], ids=["without a key", "with a key"])
async def test_no_answer_is_a_crash_or_not_as_the_document_says(tmp_path, key):
    found = await explore(tmp_path, key, "--max-examples", "40")
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-2000:]
    assert re.search(r"Tested: 2[5-9]\b", found.stdout), found.stdout


async def explore(folder, key, *more):
    """Run schemathesis over a server in a process of its own, with an emulator for its instance."""
    environment = {**os.environ, "COMFYCLIENT_STATE_DIR": str(folder / "state"), "PYTHONPATH": str(ROOT)}
    environment |= {"COMFYCLIENT_SERVE_API_KEY": key} if key else {}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with Emulator() as emulator:
        server = await Process.start(
            "serve", "--port", "0", "--workflows", WORKFLOWS, "--rate", "1000000", "--no-access-log", env=environment
        )
        url = (await server.process.stdout.readline()).decode().strip()
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as api:
            session = (await api.post("/sessions", json={"url": emulator.url})).raise_for_status().json()["id"]
            asked = {"workflow_path": "api.json"}
            jobs = (await api.post(f"/sessions/{session}/jobs", json=asked)).raise_for_status().json()["jobs"]
            async with api.stream("GET", f"/jobs/{jobs[0]['id']}/events") as events:
                assert [line async for line in events.aiter_lines() if line == "event: finished"]
        (folder / "schemathesis.toml").write_text(CONFIG)
        environment |= {"ST_INSTANCE": emulator.url, "ST_SESSION": session, "ST_JOB": jobs[0]["id"]}
        environment |= {"ST_WORKFLOW": "api", "SCHEMATHESIS_HOOKS": "tests.api.openapi_hooks"}
        program = Path(sys.executable).with_name("schemathesis")
        command = [str(program if program.exists() else shutil.which("schemathesis"))]
        command += ["--config-file", str(folder / "schemathesis.toml"), "run", f"{url}/openapi.json", *more]
        command += ["--seed", "1", "--no-color", "--request-timeout", "60"]
        for name, value in headers.items():
            command += ["--header", f"{name}: {value}"]
        return await asyncio.to_thread(
            subprocess.run, command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
