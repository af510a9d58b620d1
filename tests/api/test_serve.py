"""``comfyclient serve`` as a process: how it starts, what it refuses, how it ends."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest
import websockets

import comfyclient
from comfyclient.emulator import Emulator

from ..cli_support import ROOT, make_app, run  # noqa: TID252
from ..contract.processes import Process, no_process_stays  # noqa: F401, TID252

KEY = "a-key-that-nobody-guesses"


def environment(folder, **more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "COMFYCLIENT_STATE_DIR": str(folder / "state"), **more}


async def start(folder, *args, key=None, cwd=None, **more):
    """The process, and its url as soon as it has said it."""
    more |= {"COMFYCLIENT_SERVE_API_KEY": key} if key else {}
    server = await Process.start("serve", "--port", "0", *args, env=environment(folder, **more), cwd=cwd)
    if not (url := (await server.process.stdout.readline()).decode().strip()):
        raise AssertionError(await server.end(), server.err)
    return server, url


async def refused(folder, *args, **more):
    """Exit code and messages of one that must not start."""
    server = await Process.start("serve", *args, env=environment(folder, **more))
    code, out = await server.end()
    assert out == ""
    return code, server.err


@pytest.fixture
async def instance():
    """An instance whose jobs run until ``go`` is set."""
    go = asyncio.Event()

    async def held(call):
        await go.wait()
        return ("done",)

    async with Emulator(nodes={"StringConcatenate": held}) as emulator:
        emulator.go = go
        yield emulator
        go.set()


HELD = {
    "1": {"class_type": "StringConcatenate", "inputs": {"string_a": "a", "string_b": "b", "delimiter": ""}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}


@contextlib.asynccontextmanager
async def running(url, instance):
    """A client of the server, and the id of a job that runs there."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as api:
        session = (await api.post("/sessions", json={"url": instance.url})).raise_for_status().json()["id"]
        queued = await api.post(f"/sessions/{session}/jobs", json={"workflow": HELD})
        yield api, queued.raise_for_status().json()["jobs"][0]["id"]


async def test_it_says_where_it_is_and_answers_there(tmp_path):
    server, url = await start(tmp_path)
    async with httpx.AsyncClient(base_url=url) as api:
        found = await api.get("/healthz")
    assert (found.status_code, found.json()) == (200, {"status": "ok"})
    assert "server" not in found.headers
    assert "date" in found.headers
    server.signal(signal.SIGTERM)
    code, out = await server.end()
    assert (code, out) == (0, "")
    assert f"{url}/docs" in server.err
    assert "there is no API key" in server.err


async def test_the_access_log_goes_to_stderr_without_queries_and_keys(tmp_path):
    server, url = await start(tmp_path, key=KEY)
    async with httpx.AsyncClient(base_url=url) as api:
        await api.get(f"/jobs/{KEY}?token=sesame", headers={"Authorization": f"Bearer {KEY}"})
    line = json.loads(await server.says('"path"'))
    assert (line["method"], line["path"], line["status"], line["owner"]) == ("GET", "/jobs/***", 404, "default")
    server.signal(signal.SIGTERM)
    await server.end()
    assert KEY not in server.err
    assert "sesame" not in server.err


async def test_metrics_are_by_route(tmp_path):
    server, url = await start(tmp_path)
    async with httpx.AsyncClient(base_url=url) as api:
        await api.get("/jobs/no-such-job")
        found = (await api.get("/metrics")).text
    assert 'comfyclient_requests_total{method="GET",route="/jobs/{job_id}",status="404"} 1.0' in found
    assert "comfyclient_sessions 0.0" in found
    server.signal(signal.SIGTERM)
    await server.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_jobs_end_first(tmp_path, instance, number):
    server, url = await start(tmp_path, "-v", "--drain", "600")
    async with running(url, instance) as (api, job):
        server.signal(number)
        await server.says("told to end")
        ready = await api.get("/readyz")
        more = await api.post("/sessions", json={"url": instance.url})
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        assert (more.status_code, "retry-after" in more.headers) == (503, True)
        async with api.stream("GET", f"/jobs/{job}/events") as events:
            instance.go.set()
            told = [line async for line in events.aiter_lines()]
        assert "event: finished" in told
    assert (await server.end())[0] == 0


async def test_jobs_that_take_longer_are_left_to_the_instance(tmp_path, instance):
    server, url = await start(tmp_path, "--drain", "0")
    async with running(url, instance) as (_, job):
        server.signal(signal.SIGTERM)
        assert (await server.end())[0] == 0
    instance.go.set()
    assert "Traceback" not in server.err
    async with comfyclient.ComfyClient(instance.url) as comfy:
        assert (await (await comfy.job(job)).result()).prompt_id == job


async def test_those_who_listen_are_told_that_it_goes_away(tmp_path, instance):
    server, url = await start(tmp_path, "--drain", "0")
    address = url.replace("http://", "ws://")
    async with running(url, instance) as (api, job):
        events = f"/jobs/{job}/events"
        async with api.stream("GET", events) as stream, websockets.connect(f"{address}{events}") as socket:
            lines = stream.aiter_lines()
            await anext(lines)
            await socket.recv()
            server.signal(signal.SIGTERM)
            async for _ in lines:  # to a proper end of the answer
                pass
            async for _ in socket:
                pass
            assert socket.close_code == 1001
    assert (await server.end())[0] == 0
    assert "Traceback" not in server.err


async def test_ctrl_c_twice_ends_it_at_once(tmp_path, instance):
    server, url = await start(tmp_path, "-v", "--drain", "600")
    async with running(url, instance):
        server.signal(signal.SIGINT)
        await server.says("told to end")
        server.signal(signal.SIGINT)
        assert (await server.end())[0] == 130


async def test_sigterm_twice_still_ends_it_in_order(tmp_path, instance):
    server, url = await start(tmp_path, "-v", "--drain", "600")
    async with running(url, instance):
        server.signal(signal.SIGTERM)
        await server.says("told to end")
        server.signal(signal.SIGTERM)
        instance.go.set()
        assert (await server.end())[0] == 0


async def test_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, said = await refused(tmp_path, "--port", port)
    assert code == 2
    assert f"127.0.0.1, port {port} is taken" in said
    assert "hint: --port 0 takes a free one" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_others_may_not_reach_it_without_a_key(tmp_path, host):
    code, said = await refused(tmp_path, "--port", "0", "--host", host)
    assert code == 2
    assert f"{host} can be reached from other machines, and there is no API key" in said
    assert "hint: give --api-key-file FILE" in said


async def test_with_a_key_they_may(tmp_path):
    server, url = await start(tmp_path, "--host", "0.0.0.0", key=KEY)
    async with httpx.AsyncClient(base_url=url.replace("0.0.0.0", "127.0.0.1")) as api:
        without = await api.get("/session/status")
        with_key = await api.get("/session/status", headers={"X-API-Key": KEY})
    assert (without.status_code, with_key.status_code) == (401, 200)
    server.signal(signal.SIGTERM)
    await server.end()
    assert "no API key" not in server.err


async def test_a_name_that_is_no_address(tmp_path):
    code, said = await refused(tmp_path, "--host", "no-such-host.invalid")
    assert code == 2
    assert "no-such-host.invalid is no address" in said


async def test_a_journal_that_cannot_be_used_is_one_clear_error(tmp_path):
    (tmp_path / "state").write_text("a file")
    code, said = await refused(tmp_path, "--port", "0")
    assert code == 2
    assert "error: " in said
    assert "Traceback" not in said


async def test_all_addresses_of_a_name_have_one_port(tmp_path):
    server, url = await start(tmp_path, "--host", "localhost")
    port = int(url.rpartition(":")[2])
    for family, *_, address in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM):
        with socket.socket(family) as ours:
            ours.connect(address)
    server.signal(signal.SIGTERM)
    assert (await server.end())[0] == 0


async def test_reload_starts_it_anew_when_a_file_changes(tmp_path):
    package = Path(comfyclient.__file__).parent
    shutil.copytree(package, tmp_path / "comfyclient", ignore=shutil.ignore_patterns("__pycache__"))
    server, url = await start(tmp_path, "--reload", "--no-journal", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    async with httpx.AsyncClient(base_url=url) as api:
        assert (await api.get("/healthz")).status_code == 200
    changed = tmp_path / "comfyclient" / "names.py"
    os.utime(changed, (time.time() + 60, time.time() + 60))
    assert (await server.process.stdout.readline()).decode().strip() == url
    async with httpx.AsyncClient(base_url=url) as api:
        assert (await api.get("/healthz")).status_code == 200
    server.signal(signal.SIGTERM)
    assert (await server.end())[0] == 0
    assert "Reloading" in server.err


@pytest.mark.parametrize("name", ["fastapi", "uvicorn", "prometheus_client", "fastapi_offline"])
def test_without_the_extra_it_says_how_to_get_it(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    found = run(make_app(tmp_path), "serve")
    assert found.code == 2
    assert "the REST API is not installed" in found.err
    assert "hint: pip install 'comfyclient[api]'" in found.err


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """What a command line makes of the settings."""
    seen = []

    def serve(found, **options):
        seen.append((found, options))
        return 0

    monkeypatch.setattr("comfyclient.api.server.serve", serve)

    def parse(*args, **environ):
        result = run(make_app(tmp_path, environ=environ), "serve", "--port", "0", *args)
        assert result.code == 0, result.err
        (found,) = seen
        return found

    return parse


def test_without_options_it_keeps_to_itself(settings, tmp_path):
    found, options = settings()
    assert (found.host, bool(found.keys), found.hosts, found.origins) == ("127.0.0.1", False, frozenset(), frozenset())
    assert found.webhook_secret is None
    assert found.limits.idle == 3600
    assert found.workflows is None
    assert found.journal == tmp_path / ".comfyclient-state" / "serve"
    assert options["forwarded_allow_ips"] is None


def test_options_become_settings(settings, tmp_path):
    keys, secret, folder = tmp_path / "keys", tmp_path / "secret", tmp_path / "workflows"
    keys.write_text(f"alice:{KEY}\n")
    secret.write_text("signed with this\n")
    keys.chmod(0o600)
    secret.chmod(0o600)
    folder.mkdir()
    found, options = settings(
        *("--api-key-file", keys, "--basic", "--allow-host", "comfy.example", "--allow-origin", "https://page.example"),
        *("--workflows", folder, "--no-journal", "--drain", "3", "--webhook-secret-file", secret),
        *("--max-sessions", "7", "--rate", "2.5", "--idle", "0", "--forwarded-allow-ips", "127.0.0.1"),
    )
    assert (found.keys.identify(KEY), found.basic) == ("alice", True)
    assert (found.hosts, found.origins) == ({"comfy.example"}, {"https://page.example"})
    assert (found.workflows, found.journal, found.drain) == (folder, None, 3.0)
    assert found.webhook_secret.reveal() == "signed with this"
    assert (found.limits.sessions, found.limits.rate, found.limits.idle) == (7, 2.5, 0)
    assert options["forwarded_allow_ips"] == "127.0.0.1"


def test_the_environment_may_hold_the_secrets(settings):
    found, _ = settings(
        COMFYCLIENT_SERVE_API_KEY=KEY, COMFYCLIENT_WEBHOOK_SECRET="signed with this", COMFYCLIENT_JOURNAL="0"
    )
    assert found.keys.identify(KEY) == "default"
    assert found.webhook_secret.reveal() == "signed with this"
    assert found.journal is None


def test_the_environment_may_name_their_files(settings, tmp_path):
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "secret").write_text("signed with this\n")
    found, _ = settings(COMFYCLIENT_SERVE_API_KEY_FILE="key", COMFYCLIENT_WEBHOOK_SECRET_FILE="secret")
    assert found.keys.identify(KEY) == "default"
    assert found.webhook_secret.reveal() == "signed with this"


def test_a_key_and_the_file_of_one_exclude_each_other(tmp_path):
    environ = {"COMFYCLIENT_SERVE_API_KEY": KEY, "COMFYCLIENT_SERVE_API_KEY_FILE": "key"}
    found = run(make_app(tmp_path, environ=environ), "serve", "--port", "0")
    assert found.code == 2
    assert "COMFYCLIENT_SERVE_API_KEY and COMFYCLIENT_SERVE_API_KEY_FILE are both set" in found.err


def test_the_key_for_instances_is_not_the_one_for_callers(settings):
    found, _ = settings(COMFYCLIENT_API_KEY="that-of-an-instance")
    assert not found.keys


def test_its_own_port_is_no_instance(settings):
    found, _ = settings("--allow-address", "10.0.0.0/8")
    with pytest.raises(comfyclient.ComfyClientError):
        found.addresses.admit("127.0.0.1", found.port)
    found.addresses.admit("127.0.0.1", found.port - 1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--basic"], "--basic needs a key"),
        (["--workflows", "missing"], "missing is no folder"),
        (["--api-key-file", "missing"], "there is no key file"),
        (["--webhook-secret-file", "missing"], "missing cannot be read"),
        (["--allow-address", "nowhere"], "nowhere"),
        (["--allow-host", "https://comfy.example/"], "is no name of a host"),
        (["--allow-origin", "page.example"], "is not the origin of a web page"),
    ],
)
def test_options_that_make_no_sense(tmp_path, args, message):
    found = run(make_app(tmp_path), "serve", "--port", "0", *args)
    assert found.code == 2
    assert message in found.err


def test_the_key_is_in_no_message(tmp_path):
    found = run(make_app(tmp_path, environ={"COMFYCLIENT_SERVE_API_KEY": "short-key"}), "serve", "--port", "0")
    assert found.code == 2
    assert "short-key" not in found.err
