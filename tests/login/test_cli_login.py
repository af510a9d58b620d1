"""The command line before each kind of login: logging in, staying in, being told what is wrong."""

import asyncio
import contextlib
import json
import os
import socket
import stat
import sys
from pathlib import Path

import pytest
from aiohttp import web

from comfyclient.auth.store import StoredLogin
from comfyclient.cli.doctor_way import is_public
from comfyclient.emulator import Emulator

from ..cli_support import ROOT, WORKFLOWS, make_app, run  # noqa: TID252
from .certificates import self_signed
from .servers import Basic, Bearer, CloudflareAccess, ComfyUILogin, Gateway, LoginForm, OAuth2Proxy, Site
from .vast import vast_portal

PASSWORD, TOKEN = "web-password-0123", "open-button-token-4567"
SECRETS = [PASSWORD, TOKEN, "secret-word", "bearer-token-0123", "comfy-password", "form-password", "access-secret-4567"]
SECONDS = 60


class Prompts:
    """A person who answers, and what was asked: ``(text, whether the answer is hidden)``."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, text, hidden):
        self.asked.append((text, hidden))
        return self.answers.pop(0)


@pytest.fixture
def cli(tmp_path):
    """Run a command in ``tmp_path``; with ``answers``, on a terminal. Nothing that it says holds a secret."""

    async def call(*args, answers=None, environ=None, stdin=b"", app=None):
        app = app or make_app(tmp_path, environ=environ, stdin=stdin)
        prompts = Prompts(answers or ())
        app.prompt, app.stdin_is_terminal = prompts, answers is not None
        found = await asyncio.to_thread(run, app, *args)
        assert prompts.answers == [], found.err
        found.asked = prompts.asked
        assert not [secret for secret in SECRETS if secret in found.out + found.err]
        return found

    return call


@pytest.fixture
def kept(tmp_path):
    """What is kept: the files' contents."""

    def look():
        folder = tmp_path / ".comfyclient" / "instances"
        return [json.loads(path.read_text()) for path in sorted(folder.glob("*"))] if folder.exists() else []

    return look


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def is_png(path):
    return Path(path).read_bytes().startswith(b"\x89PNG")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Each kind of login: what it asks for, and that it lets in from then on


KINDS = [
    (Basic, ["user", "secret-word"], [("user name", False), ("password", True)], "basic auth", "user"),
    (Bearer, ["bearer-token-0123"], [("token", True)], "bearer token", None),
    (ComfyUILogin, ["comfy-password"], [("password", True)], "login form", None),
    (LoginForm, ["ada", "form-password"], [("user name", False), ("password", True)], "login form", "ada"),
    (
        CloudflareAccess,
        ["0123abcd.access", "access-secret-4567"],
        [("Client ID", False), ("Client Secret", True)],
        "Cloudflare Access",
        None,
    ),
]


@pytest.mark.parametrize(
    ("kind", "answers", "asked", "scheme", "user"), KINDS, ids=lambda value: getattr(value, "__name__", "")
)
async def test_login_asks_for_what_is_needed_and_keeps_it(
    serve, emulator, cli, kept, kind, answers, asked, scheme, user
):
    gateway = await serve(kind(emulator.url))
    login = await cli("login", gateway.url, answers=answers)
    assert (login.code, login.asked) == (0, asked), login.err
    assert login.out.startswith(f"logged in to {gateway.url} (")
    assert f"{scheme}); kept in " in login.out
    listed = (await cli("instances", "--json")).json
    assert [(entry["url"], entry["username"]) for entry in listed] == [(gateway.url, user)]
    assert (await cli("info", "--url", gateway.url)).code == 0
    assert (await cli("logout", gateway.url)).code == 0
    assert kept() == []
    out = await cli("info", "--url", gateway.url, "--json")
    assert (out.code, out.json["error"]["code"]) == (4, "auth_required")


async def test_a_whole_job_behind_a_login_that_is_kept(serve, emulator, cli, tmp_path):
    gateway = await serve(LoginForm(emulator.url))
    assert (await cli("login", gateway.url, answers=["ada", "form-password"])).code == 0
    found = await cli("queue", WORKFLOWS / "quickstart.json", "--url", gateway.url)
    assert found.code == 0, found.err
    assert is_png(found.out.strip())
    assert gateway.logins == 1
    assert gateway.sockets_seen == 1


async def test_a_file_of_three_lines_is_all_that_a_job_needs(serve, emulator, cli, tmp_path, kept):
    gateway = await serve(Basic(emulator.url))
    write(tmp_path, "job.txt", f"user:secret-word\n{gateway.url}\n{WORKFLOWS / 'quickstart.json'}\n")
    found = await cli("queue", "--credentials-file", "job.txt")
    assert found.code == 0, found.err
    assert kept() == []


@pytest.mark.parametrize(
    "given",
    [
        {"args": ["--username", "user", "--password-file", "pw"]},
        {"args": ["--username", "user", "--password-file", "-"], "stdin": b"secret-word\n"},
        {"args": ["--username", "user"], "environ": {"COMFYCLIENT_PASSWORD": "secret-word"}},
        {"environ": {"COMFYCLIENT_USERNAME": "user", "COMFYCLIENT_PASSWORD_FILE": "pw"}},
    ],
    ids=["files", "stdin", "half of it from the environment", "environment"],
)
async def test_a_login_without_a_terminal(serve, emulator, cli, kept, tmp_path, given):
    gateway = await serve(Basic(emulator.url))
    write(tmp_path, "pw", "secret-word\n")
    args = given.pop("args", [])
    assert (await cli("info", "--url", gateway.url, *args, **given)).code == 0
    assert kept() == []  # it was given, not kept
    login = await cli("login", gateway.url, *args, "--json", **given)
    assert login.code == 0, login.err
    assert login.json["kind"] == "basic"
    assert (login.json["scheme"], login.json["is_up"], login.json["session_only"]) == ("basic auth", True, False)
    assert kept()[0]["secrets"]["credential"] == {"username": "user", "password": "secret-word"}


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (Basic, "--password-file"), (Bearer, "--token-file"), (ComfyUILogin, "--password-file"),
        (CloudflareAccess, "--access-secret-file"), (OAuth2Proxy, "--token-file"),
    ],
)  # fmt: skip
async def test_without_a_terminal_it_says_what_to_give(serve, emulator, cli, kept, kind, option):
    gateway = await serve(kind(emulator.url))
    found = await cli("login", gateway.url, "--json")
    assert (found.code, found.json["error"]["code"]) == (4, "auth_required")
    assert option in found.json["error"]["hint"]
    assert kept() == []
    assert not gateway.passed


async def test_what_is_wrong_is_not_kept(serve, emulator, cli, kept):
    gateway = await serve(ComfyUILogin(emulator.url))
    assert (await cli("login", gateway.url, answers=["wrong-password"])).code == 4
    assert (await cli("login", gateway.url, answers=[""])).code == 2
    assert (gateway.attempts, kept()) == (1, [])


async def test_no_login_is_needed(emulator, cli, kept):
    found = await cli("login", emulator.url, environ={"COMFYCLIENT_TOKEN": TOKEN})
    assert (found.code, found.out, found.err) == (
        0,
        f"{emulator.url} needs no login\n",
        "the credential was not sent\n",
    )
    assert (await cli("login", emulator.url, "--json")).json["kind"] == "open"
    assert kept() == []


async def test_something_else_is_no_instance(serve, cli):
    site = await serve(Site())
    assert (await cli("login", site.url)).code == 5
    assert (await cli("login", f"http://127.0.0.1:{free_port()}")).code == 5
    found = await cli("login")
    assert (found.code, "which instance?" in found.err) == (2, True)


async def test_one_login_behind_another(serve, emulator, cli):
    inner = await serve(Bearer(emulator.url))
    outer = await serve(CloudflareAccess(inner.url))
    answers = ["0123abcd.access", "access-secret-4567", "bearer-token-0123"]
    login = await cli("login", outer.url, answers=answers)
    assert login.code == 0, login.err
    assert "Cloudflare Access and bearer token" in login.out
    assert (await cli("info", "--url", outer.url)).code == 0


async def test_a_server_is_claimed_only_if_told_to(serve, emulator, cli, kept):
    gateway = await serve(ComfyUILogin(emulator.url, password=None))
    assert (await cli("login", gateway.url, answers=["comfy-password"])).code == 4
    assert gateway.claimed is None
    twice = await cli("login", gateway.url, "--claim", answers=["ada", "comfy-password", "another"])
    assert (twice.code, gateway.claimed, kept()) == (2, None, [])
    login = await cli("login", gateway.url, "--claim", answers=["ada", "comfy-password", "comfy-password"])
    assert login.code == 0, login.err
    assert gateway.claimed == ("ada", "comfy-password")


# Staying in


async def test_a_session_that_ends_is_renewed_and_kept_again(serve, emulator, cli, kept):
    gateway = await serve(ComfyUILogin(emulator.url))
    await cli("login", gateway.url, answers=["comfy-password"])
    first = kept()[0]["secrets"]["cookies"]
    gateway.expire()
    found = await cli("info", "--url", gateway.url, "-v")
    assert found.code == 0
    assert "the login has expired; logging in anew" in found.err
    assert kept()[0]["secrets"]["cookies"] != first
    assert (await cli("info", "--url", gateway.url)).err == ""
    assert gateway.logins == 2


async def test_a_login_that_is_given_takes_nothing_from_the_one_that_is_kept(serve, emulator, cli, kept):
    gateway = await serve(ComfyUILogin(emulator.url))
    await cli("login", gateway.url, answers=["comfy-password"])
    before = kept()
    environ = {"COMFYCLIENT_PASSWORD": "wrong-password"}
    assert (await cli("info", "--url", gateway.url, environ=environ)).code == 4
    assert (await cli("info", "--url", gateway.url, environ={"COMFYCLIENT_TOKEN": gateway.token})).code == 0
    assert kept() == before


async def test_a_password_that_has_changed_ends_the_login_and_not_what_is_kept(serve, emulator, cli, kept):
    gateway = await serve(ComfyUILogin(emulator.url))
    await cli("login", gateway.url, answers=["comfy-password"])
    before = kept()
    gateway.expire()
    gateway.password = "another-password"
    assert (await cli("info", "--url", gateway.url)).code == 4
    assert kept() == before


async def test_only_the_session_is_kept(serve, emulator, cli, kept):
    gateway = await serve(ComfyUILogin(emulator.url))
    assert (await cli("login", gateway.url, "--session-only", answers=["comfy-password"])).code == 0
    assert kept()[0]["secrets"]["credential"] == {}
    assert (await cli("info", "--url", gateway.url)).code == 0
    gateway.expire()
    assert (await cli("info", "--url", gateway.url)).code == 4


async def test_a_login_without_a_session_cannot_keep_only_that(serve, emulator, cli, kept):
    gateway = await serve(Bearer(emulator.url))
    found = await cli("login", gateway.url, "--session-only", answers=["bearer-token-0123"])
    assert (found.code, "there is no session to keep" in found.err, kept()) == (2, True, [])


async def test_the_login_of_an_instance_is_no_other_instances(serve, emulator, cli):
    mine, theirs = await serve(Bearer(emulator.url)), await serve(Bearer(emulator.url))
    await cli("login", mine.url, answers=["bearer-token-0123"])
    assert (await cli("info", "--url", theirs.url)).code == 4
    assert not any("Authorization" in seen.headers for seen in theirs.requests)


async def test_an_emulator_gets_no_credential(cli, kept):
    environ = {"COMFYCLIENT_TOKEN": TOKEN, "COMFYCLIENT_TOKEN_FILE": "missing"}
    found = await cli("queue", WORKFLOWS / "quickstart.json", "--emulator", environ=environ)
    assert found.code == 0, found.err


@pytest.mark.skipif(os.name == "nt", reason="no such permissions there")
async def test_what_is_kept_is_the_users_alone(serve, emulator, cli, tmp_path):
    gateway = await serve(Bearer(emulator.url))
    await cli("login", gateway.url, answers=["bearer-token-0123"])
    [path] = (tmp_path / ".comfyclient" / "instances").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    found = await cli("info", "--url", gateway.url)
    assert (found.code, "hint: chmod 600 " in found.err) == (2, True)
    assert "chmod 600" in (await cli("instances")).out


# vast.ai's portal: real Caddy, self-signed TLS


@pytest.fixture
async def portal(serve, emulator):
    return await serve(vast_portal(emulator.url, web_password=PASSWORD, open_button_token=TOKEN, https=True))


async def test_a_certificate_is_shown_and_trusted_if_the_person_says_so(cli, kept, portal):
    login = await cli("login", portal.url, answers=["y", "", PASSWORD])
    assert login.code == 0, login.err
    assert login.asked == [
        ("trust this certificate from now on? [y/N]", False), ("user name [vastai]", False), ("password or token", True)
    ]  # fmt: skip
    pin = kept()[0]["fingerprint"]
    assert f"fingerprint  {pin}" in login.err
    assert "signed by itself" in login.err
    assert (await cli("info", "--url", portal.url)).code == 0
    assert (await cli("login", portal.url, answers=["", TOKEN])).code == 0  # trusted by now


async def test_nobody_says_that_a_certificate_is_right(cli, kept, portal):
    found = await cli("login", portal.url, "--json")
    error = found.json["error"]
    assert (found.code, error["code"]) == (5, "certificate_untrusted")
    assert f"--tls-fingerprint {error['fingerprint']}" in error["hint"]
    assert (await cli("login", portal.url, answers=["n"])).code == 5
    assert (await cli("login", portal.url, answers=[""])).code == 5
    assert kept() == []
    environ = {"COMFYCLIENT_TOKEN": TOKEN}
    login = await cli("login", portal.url, "--tls-fingerprint", error["fingerprint"], environ=environ)
    assert login.code == 0, login.err
    wrong = "sha256:" + "0" * 64
    assert (await cli("login", portal.url, "--tls-fingerprint", wrong, answers=[])).code == 5


async def test_another_certificate_than_before(cli, kept, portal, tmp_path):
    await cli("login", portal.url, answers=["y", "", PASSWORD])
    before = kept()[0]["fingerprint"]
    (tmp_path / "new").mkdir()
    portal.certificate = await self_signed(tmp_path / "new")
    await portal.restart()
    assert (await cli("info", "--url", portal.url)).code == 5
    assert (await cli("login", portal.url, answers=["n"])).code == 5
    assert kept()[0]["fingerprint"] == before
    login = await cli("login", portal.url, answers=["y", "", PASSWORD])
    assert "has another certificate than before" in login.err
    assert (await cli("info", "--url", portal.url)).code == 0


async def test_the_link_behind_the_open_button(cli, portal):
    login = await cli("login", f"{portal.url}/?token={TOKEN}", answers=["y"])
    assert login.code == 0, login.err
    assert "(a vast.ai portal, by bearer token)" in login.out
    assert (await cli("info", "--url", portal.url)).code == 0


async def test_http_where_https_is_spoken(cli, portal):
    plain = portal.url.replace("https", "http")
    login = await cli("login", plain, answers=["y", "", PASSWORD])
    assert login.code == 0, login.err
    assert login.out.startswith(f"logged in to {portal.url} ")
    assert (await cli("info", "--url", plain, "--json")).json["url"] == portal.url
    assert (await cli("logout", plain)).out.startswith(f"logged out of {portal.url}")


async def test_insecure_warns_and_is_not_kept(cli, kept, portal):
    login = await cli("login", portal.url, "--insecure", answers=["", PASSWORD])
    assert login.code == 0, login.err
    assert "warning: --insecure" in login.err
    assert "others need --insecure as well" in login.err
    assert kept()[0]["fingerprint"] is None
    assert (await cli("info", "--url", portal.url)).code == 5
    assert (await cli("info", "--url", portal.url, "--insecure")).code == 0


async def test_a_ca_file(cli, portal):
    args = ["--ca-file", portal.certificate.certificate]
    assert (await cli("info", "--url", portal.url, *args, environ={"COMFYCLIENT_TOKEN": TOKEN})).code == 5
    args.append("--no-check-hostname")
    assert (await cli("info", "--url", portal.url, *args, environ={"COMFYCLIENT_TOKEN": TOKEN})).code == 0


async def test_an_instance_without_a_login_keeps_its_certificate(serve, cli, kept, tmp_path):
    certificate = await self_signed(tmp_path)
    emulator = await serve(Emulator(ssl_context=certificate.context()))
    login = await cli("login", emulator.url, answers=["y"])
    assert (login.code, "needs no login; how to reach it is kept in" in login.out) == (0, True)
    assert kept()[0]["secrets"] == {"credential": {}, "cookies": []}
    assert (await cli("info", "--url", emulator.url)).code == 0


async def test_comfyui_is_not_up_yet(serve, cli, kept):
    port = free_port()
    portal = await serve(vast_portal(f"http://127.0.0.1:{port}", web_password=PASSWORD))
    login = await cli("login", portal.url, answers=["", PASSWORD])
    assert (login.code, "warning: logged in, but " in login.err, len(kept())) == (0, True, 1)
    found = await cli("info", "--url", portal.url, "--json")
    assert (found.code, found.json["error"]["code"]) == (5, "instance_starting")
    doctor = await cli("doctor", portal.url, "--json")
    assert [(check["check"], check["state"]) for check in doctor.json][-2:] == [("login", "ok"), ("ComfyUI", "failed")]
    assert doctor.code == 5


@pytest.mark.parametrize("command", ["login", "info", "doctor"])
async def test_waiting_until_it_is_up(serve, cli, tmp_path, command):
    port = free_port()
    portal = await serve(vast_portal(f"http://127.0.0.1:{port}", web_password=PASSWORD))
    app = make_app(tmp_path, environ={"COMFYCLIENT_PASSWORD": PASSWORD})
    waits, loop = asyncio.Event(), asyncio.get_running_loop()
    tell = app.tell
    app.tell = lambda text, *rest: (tell(text, *rest), "waiting: " in text and loop.call_soon_threadsafe(waits.set))
    address = ["--url", portal.url] if command == "info" else [portal.url]
    running = asyncio.create_task(cli(command, *address, "--wait-ready", SECONDS, app=app))
    async with asyncio.timeout(SECONDS):
        await waits.wait()
    await serve(Emulator(port=port))
    found = await running
    assert found.code == 0, found.err
    assert found.err.count("waiting: ") == 1
    assert "not up" not in found.out


# Secrets that a server sends back


class Echo(Bearer):
    """Tells everybody what it was sent, in place of queueing it."""

    async def respond(self, request, seen):
        if (seen.method, seen.path) != ("POST", "/prompt"):
            return await super().respond(request, seen)
        self.said = f"no access for {seen.headers['Authorization']}"
        error = {"type": "odd", "message": self.said, "details": self.said, "extra_info": {}}
        return web.json_response({"error": error, "node_errors": {"1": {"errors": [error]}}}, status=400)


@pytest.mark.parametrize("flags", [["--json"], ["--events"], ["-vv", "--debug"]], ids=" ".join)
async def test_what_a_server_repeats_is_masked(serve, emulator, cli, tmp_path, flags):
    gateway = await serve(Echo(emulator.url))
    write(tmp_path, "wf.json", '{"1": {"class_type": "PreviewAny", "inputs": {"source": "x"}}}')
    environ = {"COMFYCLIENT_URL": gateway.url, "COMFYCLIENT_TOKEN": "bearer-token-0123"}
    found = await cli("queue", "wf.json", "--no-check", *flags, environ=environ)
    assert found.code == 3
    assert "bearer-token-0123" in gateway.said
    assert "no access for ***" in found.err
    assert found.out == "" or "no access for ***" in found.out


# What is kept


async def test_instances_tells_everything_but_the_secrets(cli, tmp_path):
    assert (await cli("instances")).err == "no login is kept; comfyclient login URL\n"
    store = make_app(tmp_path).login_store()
    login = StoredLogin("https://b:1", "vast", {"password": PASSWORD}, [], None, None, "vastai", 1_800_000_000.0)
    where = store.save(login)
    Path(where).with_name("damaged.json").write_text(PASSWORD)
    Path(where).with_name("damaged.json").chmod(0o600)
    found = await cli("instances")
    header, _, line = found.out.splitlines()
    assert header.split() == ["URL", "LOGIN", "USER", "KEPT", "IN", "SINCE", "PROBLEM"]
    assert line.startswith("https://b:1  a vast.ai portal  vastai  ")
    first, second = (await cli("instances", "--json")).json
    assert first["problem"].startswith("the stored login in ")
    assert second == {
        "url": "https://b:1", "kind": "vast", "username": "vastai", "kept_in": where,
        "since": "2027-01-15T08:00:00+00:00",
    }  # fmt: skip


async def test_logout_says_when_there_was_nothing(cli):
    found = await cli("logout", "http://h:1")
    assert (found.code, found.out) == (0, "no login was kept for http://h:1\n")
    assert (await cli("logout", "http://u:secret-word@h:1", "--json")).json == {"url": "http://h:1", "removed": False}
    assert (await cli("logout", "h:1")).code == 2


# The doctor


def states(found):
    return {check["check"]: check["state"] for check in found.json}


def message(found, name):
    [check] = [check for check in found.json if check["check"] == name]
    return check["message"] + (f" | {check['hint']}" if "hint" in check else "")


async def test_the_doctor_finds_nothing_wrong(serve, emulator, cli):
    gateway = await serve(Basic(emulator.url))
    await cli("login", gateway.url, answers=["user", "secret-word"])
    found = await cli("doctor", gateway.url, "--json")
    assert found.code == 0, found.out
    assert states(found) == dict.fromkeys(
        ["url", "connection", "ComfyUI", "login", "version", "clock", "websocket", "limits"], "ok"
    )
    shown = await cli("doctor", gateway.url)
    assert [line[:10].rstrip() for line in shown.out.splitlines()] == ["ok"] * 8
    assert "feature flags" in message(found, "websocket")


async def test_the_doctor_takes_what_is_given_and_the_environments_url(serve, emulator, cli):
    gateway = await serve(Bearer(emulator.url))
    environ = {"COMFYCLIENT_URL": gateway.url, "COMFYCLIENT_TOKEN": "bearer-token-0123"}
    assert "given now" in message(await cli("doctor", "--json", environ=environ), "login")


async def test_the_doctor_finds_no_login_and_a_wrong_one(serve, emulator, cli):
    gateway = await serve(Basic(emulator.url))
    found = await cli("doctor", gateway.url, "--json")
    assert (found.code, states(found)["login"], "comfyclient login" in message(found, "login")) == (4, "failed", True)
    wrong = {"COMFYCLIENT_USERNAME": "user", "COMFYCLIENT_PASSWORD": "wrong-word"}
    found = await cli("doctor", gateway.url, "--json", environ=wrong)
    assert (found.code, list(states(found))[-1]) == (4, "login")


@pytest.mark.parametrize(
    ("url", "check", "says"),
    [
        ("nowhere", "url", "needs a scheme"),
        ("http://no-such-host.invalid:1", "name", "there is no host no-such-host.invalid"),
        ("http://127.0.0.1:{free}", "connection", "nobody listens there"),
        ("https://127.0.0.1:{plain}", "certificate", "does not speak TLS"),
    ],
)
async def test_the_doctor_stops_where_there_is_nothing_more_to_see(emulator, cli, url, check, says):
    found = await cli("doctor", url.format(free=free_port(), plain=emulator.port), "--json")
    assert found.code == 5
    assert list(states(found).items())[-1] == (check, "failed")
    assert says in message(found, check)


async def test_the_doctor_about_options_that_make_no_sense(emulator, cli):
    found = await cli("doctor", emulator.url, "--token-file", "missing", "--json")
    assert (found.code, states(found)["options"], states(found)["websocket"]) == (5, "failed", "ok")


async def test_the_doctor_about_certificates(cli, portal):
    found = await cli("doctor", portal.url, "--json")
    assert (found.code, list(states(found))[-1]) == (5, "certificate")
    pin = message(found, "certificate").split()[-1]
    token = {"COMFYCLIENT_TOKEN": TOKEN}
    found = await cli("doctor", portal.url, "--json", "--tls-fingerprint", pin, environ=token)
    assert (found.code, states(found)["certificate"]) == (0, "ok")
    found = await cli("doctor", portal.url, "--json", "--tls-fingerprint", "sha256:" + "0" * 64, environ=token)
    assert (found.code, states(found)["certificate"]) == (5, "failed")
    found = await cli("doctor", portal.url, "--json", "--insecure", environ=token)
    assert (found.code, states(found)["certificate"]) == (0, "warning")
    ca = ["--ca-file", str(portal.certificate.certificate)]
    assert states(await cli("doctor", portal.url, "--json", *ca, environ=token))["certificate"] == "failed"
    ca.append("--no-check-hostname")
    assert states(await cli("doctor", portal.url, "--json", *ca, environ=token))["certificate"] == "ok"
    plain = portal.url.replace("https", "http")
    found = await cli("doctor", plain, "--json", "--tls-fingerprint", pin, environ=token)
    assert (found.code, states(found)["scheme"], states(found)["login"]) == (0, "warning", "ok")
    found = await cli("doctor", plain, "--json", environ=token)
    assert (found.code, list(states(found))[-2:]) == (5, ["scheme", "certificate"])


class Open(Gateway):
    """No login, but a server in between, which answers what it is told to."""

    def admits(self, request):
        return True


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (400, "Upgrade and Connection"),
        (401, "lets requests in, but not the websocket"),
        (404, "but not /ws"),
        (418, "swallow"),
    ],
)
async def test_the_doctor_about_websockets_that_do_not_open(serve, emulator, cli, status, says):
    gateway = await serve(Open(emulator.url))
    gateway.answer("GET", "/ws", times=99, status=status)
    found = await cli("doctor", gateway.url, "--json")
    assert (found.code, states(found)["websocket"]) == (0, "warning")
    assert says in message(found, "websocket")


async def test_the_doctor_about_an_old_comfyui_with_a_wrong_clock(serve, emulator, cli):
    gateway = await serve(Open(emulator.url))
    body = json.dumps({"system": {"comfyui_version": "0.3.10", "os": "posix", "python_version": "3"}, "devices": []})
    headers = {"Date": "Mon, 01 Jan 2001 00:00:00 GMT", "Content-Type": "application/json"}
    gateway.answer("GET", "/system_stats", body=body, headers=headers)
    gateway.answer("GET", "/features", status=404)
    found = await cli("doctor", gateway.url, "--json")
    assert found.code == 0
    assert (states(found)["version"], states(found)["clock"], states(found)["limits"]) == ("warning", "warning", "ok")
    assert "behind that of this machine" in message(found, "clock")


@pytest.mark.parametrize("date", ["", "soon", "Mon, 01 Jan 2001 00:00:00 -0000", "Mon, 99 Jan 99999 00:00:00 GMT"])
async def test_a_date_that_is_none_is_no_clock(serve, emulator, cli, date):
    gateway = await serve(Open(emulator.url))
    body = json.dumps({"system": {"comfyui_version": "next", "os": "posix", "python_version": "3"}, "devices": []})
    gateway.answer("GET", "/system_stats", body=body, headers={"Date": date, "Content-Type": "application/json"})
    found = await cli("doctor", gateway.url, "--json")
    assert (found.code, "clock" in states(found)) == (0, False)


async def test_the_doctor_about_cloudflare(serve, emulator, cli):
    gateway = await serve(CloudflareAccess(emulator.url))
    environ = {"COMFYCLIENT_ACCESS_ID": "0123abcd.access", "COMFYCLIENT_ACCESS_SECRET": "access-secret-4567"}
    found = await cli("doctor", gateway.url, "--json", environ=environ)
    assert (found.code, states(found)["limits"]) == (0, "warning")
    assert "100 MB for an upload" in message(found, "limits")


async def test_the_doctor_about_users(serve, cli):
    emulator = await serve(Emulator(multi_user=True))
    found = await cli("doctor", emulator.url, "--json")
    assert (found.code, states(found)["users"]) == (0, "warning")
    assert "make a user" in message(found, "users")
    assert "no user nobody" in message(await cli("doctor", emulator.url, "--json", "--comfy-user", "nobody"), "users")


async def test_the_doctor_about_the_only_user(emulator, cli):
    found = await cli("doctor", emulator.url, "--json", "--comfy-user", "ada")
    assert "there is only one" in message(found, "users")


async def test_the_doctor_about_a_credential_in_the_clear(serve, emulator, cli):
    """0.0.0.0 is this machine too, and not known as such."""
    gateway = await serve(Bearer(emulator.url, host="0.0.0.0"))
    url = f"http://0.0.0.0:{gateway.port}"
    found = await cli("doctor", url, "--json", environ={"COMFYCLIENT_TOKEN": "bearer-token-0123"})
    assert (found.code, states(found)["secrecy"]) == (0, "warning")
    assert "secrecy" not in states(await cli("doctor", url, "--json"))


def test_which_addresses_everybody_can_reach():
    assert is_public(["10.0.0.1", "8.8.8.8"])
    assert is_public(["2606:4700::1111"])
    assert not is_public(["127.0.0.1", "192.168.1.2", "10.0.0.1", "fe80::1%eth0", "::1", "fd00::1"])


async def test_the_doctor_about_something_else(serve, cli):
    site = await serve(Site())
    found = await cli("doctor", site.url, "--json")
    assert (found.code, list(states(found).items())[-1]) == (5, ("ComfyUI", "failed"))


async def test_the_doctor_renews_what_is_kept(serve, emulator, cli, kept):
    gateway = await serve(ComfyUILogin(emulator.url))
    await cli("login", gateway.url, answers=["comfy-password"])
    gateway.expire()
    before = kept()
    assert (await cli("doctor", gateway.url)).code == 0
    assert kept() != before


async def test_a_command_that_is_interrupted_at_a_question(serve, emulator, tmp_path, kept):
    gateway = await serve(Basic(emulator.url))

    def prompt(text, hidden):
        import click

        raise click.Abort

    app = make_app(tmp_path)
    app.prompt, app.stdin_is_terminal = prompt, True
    found = await asyncio.to_thread(run, app, "login", gateway.url)
    assert (found.code, found.err.splitlines()[-1], kept()) == (130, "stopped", [])


async def test_a_real_terminal_shows_no_password(serve, emulator, tmp_path):
    """The command itself, at a pseudo terminal."""
    pty = pytest.importorskip("pty")
    gateway = await serve(Basic(emulator.url))
    ours, theirs = pty.openpty()
    home = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "comfyclient", "login", gateway.url),
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, **home, "PYTHONPATH": str(ROOT), "TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    loop, shown, seen = asyncio.get_running_loop(), bytearray(), asyncio.Condition()

    def read():
        with contextlib.suppress(OSError):
            shown.extend(os.read(ours, 4096))
        loop.create_task(tell())

    async def tell():
        async with seen:
            seen.notify_all()

    loop.add_reader(ours, read)
    try:
        async with asyncio.timeout(SECONDS), seen:
            await seen.wait_for(lambda: b"user name: " in shown)
            os.write(ours, b"user\n")
            await seen.wait_for(lambda: b"password: " in shown)
            os.write(ours, b"secret-word\n")
        assert await process.wait() == 0, shown.decode()
    finally:
        loop.remove_reader(ours)
        os.close(ours)
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b"secret-word" not in shown


async def test_headers_are_a_login_too(serve, emulator, cli, tmp_path):
    class Modal(Gateway):
        def admits(self, request):
            return request.headers.get("Modal-Key") == "modal-key-0123"

        def refuse(self, request):
            return web.Response(status=401)

    gateway = await serve(Modal(emulator.url))
    write(tmp_path, "key", "modal-key-0123\n")
    assert (await cli("login", gateway.url, "--header", "Modal-Key=@key")).code == 0
    found = await cli("info", "--url", gateway.url)
    assert found.code == 0, found.err
