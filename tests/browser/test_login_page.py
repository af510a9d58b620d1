"""Logging in with a real Chromium, on pages that need one."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import pytest
from yarl import URL

from comfyclient import ComfyClient
from comfyclient._transport import Transport
from comfyclient.auth.browser import BrowserLogin
from comfyclient.auth.browser.chromium import Chromium
from comfyclient.auth.browser.publickey import key_of
from comfyclient.auth.entrance import Entrance
from comfyclient.auth.tls import TLS, fetch_certificate
from comfyclient.emulator import Emulator
from comfyclient.errors import AuthError, CertificateUntrusted, ConfigError, LoginRefused

from ..contract.prompts import picture  # noqa: TID252
from ..login.certificates import self_signed  # noqa: TID252
from ..login.comfyui_login import ComfyUILogin  # noqa: TID252
from ..login.formpages import JSLogin, LoginForm  # noqa: TID252
from .frontend import chromium, missing
from .loginpages import (
    CODE,
    COMPONENT,
    PASSWORD,
    PERSON,
    TERMS,
    TWO_STEPS,
    USERNAME,
    PlainLogin,
    ScriptedLogin,
    SignOn,
)

PNG = b"\x89PNG\r\n\x1a\n"
ELSEWHERE = "127.0.0.2"


@pytest.fixture(autouse=True)
def browser(monkeypatch):
    """The installed Chromium is the one that is used."""
    if (lacking := missing()) is not None:
        pytest.skip(lacking)
    monkeypatch.setenv("COMFYCLIENT_BROWSER", chromium())


@pytest.fixture(autouse=True)
def leaves_nothing(monkeypatch):
    """Whatever a test does: no process of its browser and no file of it is there afterwards."""
    with tempfile.TemporaryDirectory(prefix="browser-") as name:  # short: Chromium has sockets in it
        folder = Path(name)
        monkeypatch.setenv("TMPDIR", name)
        yield folder
        assert list(folder.iterdir()) == []
        assert processes(folder) == []


@pytest.fixture
async def serve():
    """Enter a server for the time of the test."""
    async with contextlib.AsyncExitStack() as stack:
        yield stack.enter_async_context


@pytest.fixture
async def upstream(serve):
    """The url of a ComfyUI without a login."""
    return (await serve(Emulator())).url


def processes(folder, kind=b""):
    """The ids of those that were started with a path in the folder: a browser and what it consists of."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes() if process.name.isdecimal() else b""
            if os.fsencode(folder) in command and kind in command:
                found.append(int(process.name))
    return found


@contextlib.asynccontextmanager
async def door_of(url, tls=None):
    """What a scheme logs in through, without a client around it."""
    transport = Transport(timeout=30, tls=tls)
    try:
        yield Entrance(transport, URL(url), given=None, credential=None, user=None, claim=False)
    finally:
        await transport.close()


def by_form(**options):
    return BrowserLogin(USERNAME, PASSWORD, **{"timeout": 60, **options})


async def use(url, auth, **options):
    """Queue a job, follow it over the websocket, download what it makes."""
    async with ComfyClient(url, auth=auth, **options) as comfy:
        result = await (await comfy.queue(picture())).result()
        assert (await result.outputs[0].read()).startswith(PNG)
        assert comfy.connected


async def fail(url, auth, kind=AuthError, **options):
    """The error of a login that must fail. It and all that it was made of are free of the password."""
    async with ComfyClient(url, auth=auth, **options) as comfy:
        with pytest.raises(kind) as caught:
            await comfy.info()
        if kind is LoginRefused:
            with pytest.raises(LoginRefused):  # nor is it sent for the next request
                await comfy.info()
    assert type(caught.value) is kind
    assert PASSWORD not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.hint)
    return caught.value


# The form is filled in


async def test_a_form_that_a_script_builds_and_sends(serve, upstream, caplog):
    gateway = await serve(JSLogin(upstream, username=USERNAME, password=PASSWORD))
    caplog.set_level(logging.DEBUG)
    await use(gateway.url, by_form())
    assert gateway.attempts == gateway.logins == 1
    assert PASSWORD not in caplog.text
    ours = "".join(record.getMessage() for record in caplog.records if record.name.startswith("comfyclient"))
    assert not any(session in ours for session in gateway.sessions)


@pytest.mark.parametrize("script", [TWO_STEPS, COMPONENT], ids=["first the name, then the password", "a web component"])
async def test_forms_of_other_kinds(serve, upstream, script):
    gateway = await serve(ScriptedLogin(upstream, script))
    await use(gateway.url, by_form())
    assert gateway.attempts == gateway.logins == 1


async def test_an_instance_below_a_path(serve, upstream):
    gateway = await serve(ScriptedLogin(upstream, TWO_STEPS, prefix="/comfy", answers="unauthorized"))
    await use(gateway.url, by_form(page="/login"))
    assert gateway.logins == 1


async def test_the_page_of_comfyui_login(serve, upstream):
    gateway = await serve(ComfyUILogin(upstream, password=PASSWORD))
    await use(gateway.url, BrowserLogin(None, PASSWORD, timeout=60))
    assert gateway.attempts == gateway.logins == 1


async def test_a_comfyui_login_without_a_password_is_not_claimed(serve, upstream):
    gateway = await serve(ComfyUILogin(upstream, password=None))
    error = await fail(gateway.url, by_form())
    assert "no password yet" in str(error)
    assert gateway.claimed is None


async def test_an_instance_that_is_open_needs_no_browser(upstream, leaves_nothing, monkeypatch):
    monkeypatch.setenv("COMFYCLIENT_BROWSER", "/nowhere/chromium")
    await use(upstream, by_form())


# Cookies


@pytest.mark.parametrize("value", ['"quo/ted=="', "a b, c", "{%22x%22:[1]}", "$2b$12$./x", "naïve-ü"])
async def test_the_cookie_arrives_as_it_was_set(serve, upstream, value):
    gateway = await serve(ScriptedLogin(upstream, TWO_STEPS))
    gateway.value = value
    await use(gateway.url, by_form())
    assert gateway.logins == 1


# It is refused


async def test_a_wrong_password_is_sent_once(serve, upstream):
    gateway = await serve(JSLogin(upstream, username=USERNAME, password="another"))
    await fail(gateway.url, by_form(), LoginRefused)
    assert (gateway.attempts, gateway.logins) == (1, 0)


async def test_a_wrong_password_in_a_form_that_comes_again(serve, upstream):
    gateway = await serve(LoginForm(upstream, username=USERNAME, password="another"))
    gateway.answer("GET", "/favicon.ico", times=9, status=404)
    await fail(gateway.url, by_form(), LoginRefused)
    assert (gateway.attempts, gateway.logins) == (1, 0)


def scripted(upstream):
    return ScriptedLogin(upstream, TWO_STEPS)


@pytest.mark.parametrize("page", [PlainLogin, scripted])
async def test_a_login_that_takes_its_time_is_not_taken_for_refused(serve, upstream, monkeypatch, page):
    monkeypatch.setattr("comfyclient.auth.browser.guard._SILENCE", 0.05)
    monkeypatch.setattr("comfyclient.auth.browser.login._CHECKS", 0.05)
    gateway = await serve(page(upstream))
    gateway.login_gate.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(use(gateway.url, by_form()))
        await gateway.until(lambda: gateway.attempts == 1)
        asked = len(gateway.asked("GET", "/prompt"))
        await gateway.until(lambda: len(gateway.asked("GET", "/prompt")) > asked + 2)
        gateway.login_gate.set()
    assert gateway.attempts == 1


async def test_a_server_in_trouble_has_not_refused_the_password(serve, upstream):
    gateway = await serve(ScriptedLogin(upstream, TWO_STEPS))
    gateway.answer("POST", "/auth/session", status=503, body=b"{}")
    error = await fail(gateway.url, by_form())
    assert "HTTP 503" in str(error)


@pytest.mark.parametrize(("status", "kind"), [(401, LoginRefused), (403, AuthError), (500, AuthError)])
async def test_a_page_that_answers_the_form_with_an_error(serve, upstream, status, kind):
    gateway = await serve(PlainLogin(upstream))
    gateway.answer("POST", "/login", status=status, content_type="text/html", body=b"<h1>No")
    error = await fail(gateway.url, by_form(), kind)
    assert f"HTTP {status}" in str(error)


async def test_a_form_that_wants_more_than_a_password_is_not_sent(serve, upstream):
    gateway = await serve(ScriptedLogin(upstream, TERMS))
    error = await fail(gateway.url, by_form())
    assert "does not send its form" in str(error)
    assert gateway.asked("POST", "/") == []


async def test_a_page_that_wants_a_code_ends_in_time_and_says_where(serve, upstream):
    gateway = await serve(ScriptedLogin(upstream, CODE))
    error = await fail(gateway.url, by_form(timeout=6), LoginRefused)
    assert "127.0.0.1/login" in str(error)
    assert gateway.asked("POST", "/auth/code") == []


async def test_a_login_that_changes_nothing_ends_in_time(serve, upstream):
    gateway = await serve(JSLogin(upstream, username=USERNAME, password=PASSWORD))
    gateway.deaf = True
    error = await fail(gateway.url, by_form(timeout=6), LoginRefused)
    assert "next=" not in str(error)
    assert gateway.attempts == 1


# The password belongs to the instance


async def test_nothing_is_typed_at_another_host(serve, upstream):
    other = await serve(SignOn(host=ELSEWHERE))
    gateway = await serve(PlainLogin(upstream, page_at=f"{other.url}/sign-on"))
    error = await fail(gateway.url, by_form())
    assert ELSEWHERE in str(error)
    assert_unheard(other)
    assert other.asked("GET", "/sign-on")


async def test_a_form_for_another_host_is_not_filled_in(serve, upstream):
    other = await serve(SignOn(host=ELSEWHERE))
    gateway = await serve(PlainLogin(upstream, action=f"{other.url}/sign-on"))
    error = await fail(gateway.url, by_form())
    assert ELSEWHERE in str(error)
    assert_unheard(other)


async def test_a_login_that_is_sent_on_to_another_host_does_not_arrive(serve, upstream):
    other = await serve(SignOn(host=ELSEWHERE))
    gateway = await serve(PlainLogin(upstream, onward=f"{other.url}/sign-on"))
    error = await fail(gateway.url, by_form())
    assert ELSEWHERE in str(error)
    assert len(gateway.asked("POST", "/login")) == 1
    assert_unheard(other)


async def test_a_host_that_is_named_gets_it_and_keeps_its_cookies(serve, upstream):
    other = await serve(SignOn(host=ELSEWHERE))
    gateway = await serve(PlainLogin(upstream, page_at=f"{other.url}/sign-on"))
    other.gateway = gateway
    await use(gateway.url, by_form(allow_hosts=[ELSEWHERE]))
    (sent,) = other.asked("POST", "/sign-on")
    assert "signed_on=" in sent.headers["Cookie"]
    assert gateway.passed
    assert not any("signed_on=" in seen.headers.get("Cookie", "") for seen in gateway.requests)


def assert_unheard(site):
    assert site.asked("POST", "/") == []
    assert not any(USERNAME in seen.target for seen in site.requests)


# Expiry


async def test_an_expired_session_is_renewed_once_in_the_middle_of_a_job(serve, upstream):
    gateway = await serve(JSLogin(upstream, username=USERNAME, password=PASSWORD))
    async with ComfyClient(gateway.url, auth=by_form()) as comfy:
        job = await comfy.queue(picture())
        gateway.expire()
        gateway.drop_sockets()
        result = await job.result()
        assert (await result.outputs[0].read()).startswith(PNG)
        await asyncio.gather(*[comfy.info() for _ in range(20)])
    assert gateway.attempts == gateway.logins == 2


# A person


async def test_a_person_logs_in(serve, upstream):
    gateway = await serve(ScriptedLogin(upstream, PERSON))
    login = BrowserLogin(headless=True, timeout=60)
    async with asyncio.TaskGroup() as group:
        group.create_task(use(gateway.url, login))
        await gateway.until(lambda: gateway.asked("POST", "/auth/click"))
        assert gateway.attempts == 0
        await gateway.click()
    assert gateway.logins == 1
    assert not login.renewable


async def test_nobody_logs_in(serve, upstream):
    gateway = await serve(ScriptedLogin(upstream, PERSON))
    error = await fail(gateway.url, BrowserLogin(headless=True, timeout=3))
    assert "127.0.0.1/login" in str(error)
    assert "next=" not in str(error)


async def test_a_window_needs_a_screen(serve, upstream, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    gateway = await serve(ScriptedLogin(upstream, PERSON))
    error = await fail(gateway.url, BrowserLogin(), ConfigError)
    assert "--cookies-file" in error.hint


async def test_a_window_that_is_closed(serve, upstream, monkeypatch):
    contexts, enter = [], Chromium.__aenter__

    async def entered(self):
        contexts.append(await enter(self))
        return contexts[0]

    monkeypatch.setattr(Chromium, "__aenter__", entered)
    gateway = await serve(ScriptedLogin(upstream, PERSON))
    async with asyncio.TaskGroup() as group:
        failing = group.create_task(fail(gateway.url, BrowserLogin(headless=True, timeout=60)))
        await gateway.until(lambda: gateway.asked("POST", "/auth/click"))
        await contexts[0].pages[0].close()
    assert "closed" in str(failing.result())


# Ends of other kinds


async def test_a_browser_that_dies(serve, upstream, leaves_nothing):
    gateway = await serve(ScriptedLogin(upstream, PERSON))
    async with asyncio.TaskGroup() as group:
        group.create_task(fail(gateway.url, BrowserLogin(headless=True, timeout=60)))
        await gateway.until(lambda: gateway.asked("POST", "/auth/click"))
        os.kill(min(processes(leaves_nothing)), signal.SIGKILL)
    for left in leaves_nothing.glob("org.chromium.*"):  # a socket of its own; nobody else knows of it
        shutil.rmtree(left)


async def test_a_page_that_crashes(serve, upstream, leaves_nothing):
    gateway = await serve(ScriptedLogin(upstream, PERSON))
    async with asyncio.TaskGroup() as group:
        failing = group.create_task(fail(gateway.url, BrowserLogin(headless=True, timeout=60)))
        await gateway.until(lambda: gateway.asked("POST", "/auth/click"))
        for process in processes(leaves_nothing, b"--type=renderer"):
            os.kill(process, signal.SIGKILL)
    assert "crashed" in str(failing.result())


async def test_a_system_without_a_sandbox_for_it(serve, upstream, monkeypatch):
    monkeypatch.setattr("comfyclient.auth.browser.chromium._is_root", lambda: False)
    gateway = await serve(ScriptedLogin(upstream, TWO_STEPS))
    await use(gateway.url, by_form())
    assert gateway.logins == 1


async def test_a_cancelled_login_leaves_nothing(serve, upstream, leaves_nothing):
    gateway = await serve(ScriptedLogin(upstream, PERSON))
    async with door_of(gateway.url) as door:
        login = asyncio.create_task(BrowserLogin(headless=True).login(door))
        await gateway.until(lambda: gateway.asked("POST", "/auth/click"))
        assert processes(leaves_nothing)
        login.cancel()
        with pytest.raises(asyncio.CancelledError):
            await login
        assert processes(leaves_nothing) == []


async def test_a_client_that_is_closed_in_the_middle_of_a_login_leaves_nothing(serve, upstream, leaves_nothing):
    gateway = await serve(ScriptedLogin(upstream, PERSON))
    async with ComfyClient(gateway.url, auth=BrowserLogin(headless=True)) as comfy:
        asking = asyncio.create_task(comfy.info())
        await gateway.until(lambda: gateway.asked("POST", "/auth/click"))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert processes(leaves_nothing) == []


async def test_ctrl_c_leaves_nothing(serve, upstream, leaves_nothing):
    gateway = await serve(ScriptedLogin(upstream, PERSON))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WAITING, gateway.url, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    await gateway.until(lambda: gateway.asked("POST", "/auth/click"))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: Playwright's process gets it as well
    _, errors = await process.communicate()
    assert errors.decode().splitlines()[-1] == "KeyboardInterrupt"


WAITING = """
import asyncio, sys
from comfyclient import ComfyClient
from comfyclient._transport import Transport
from comfyclient.auth.browser import BrowserLogin

async def main():
    async with ComfyClient(sys.argv[1], auth=BrowserLogin(headless=True)) as comfy:
        await comfy.info()

asyncio.run(main())
"""


async def test_a_login_that_is_cancelled_while_the_browser_starts_leaves_nothing(
    serve, upstream, leaves_nothing, monkeypatch
):
    starting, launch = asyncio.Event(), Chromium._launch

    def launched(*arguments):
        starting.set()
        return launch(*arguments)

    monkeypatch.setattr(Chromium, "_launch", launched)
    gateway = await serve(ScriptedLogin(upstream, PERSON))
    async with door_of(gateway.url) as door:
        login = asyncio.create_task(by_form().login(door))
        await starting.wait()
        login.cancel()
        await asyncio.sleep(0)
        login.cancel()  # an impatient person
        with pytest.raises(asyncio.CancelledError):
            await login
        assert processes(leaves_nothing) == []


# Certificates


async def test_a_self_signed_certificate_is_accepted_by_its_fingerprint(serve, upstream, tmp_path):
    certificate = await self_signed(tmp_path)
    gateway = await serve(ScriptedLogin(upstream, TWO_STEPS, ssl_context=certificate.context()))
    seen = await fetch_certificate("127.0.0.1", gateway.port, timeout=10)
    pin = TLS(fingerprint=seen.fingerprint)
    error = await fail(gateway.url, by_form(), tls=pin)
    assert "CERT" in str(error)
    assert gateway.attempts == 0
    await use(gateway.url, by_form(fingerprint=seen.fingerprint), tls=pin)
    assert gateway.logins == 1


async def test_the_key_of_half_a_certificate_is_none(tmp_path):
    certificate = await self_signed(tmp_path)
    der = ssl.PEM_cert_to_DER_cert(certificate.certificate.read_text())
    assert len(key_of(der)) == 44
    for length in range(len(der)):
        with pytest.raises(ValueError, match="ends early"):
            key_of(der[:length])


async def test_another_certificate_than_the_pinned_one_gets_nothing(serve, upstream, tmp_path):
    certificate = await self_signed(tmp_path)
    gateway = await serve(ScriptedLogin(upstream, TWO_STEPS, ssl_context=certificate.context()))
    login = by_form(fingerprint="sha256:" + "0" * 64)
    async with door_of(gateway.url, TLS(insecure=True)) as door:
        with pytest.raises(CertificateUntrusted, match="not the pinned one"):
            await login.login(door)
    assert gateway.asked("GET", "/login") == []


async def test_any_certificate_is_accepted_if_one_says_so(serve, upstream, tmp_path):
    certificate = await self_signed(tmp_path)
    gateway = await serve(ScriptedLogin(upstream, TWO_STEPS, ssl_context=certificate.context()))
    await use(gateway.url, by_form(tls_insecure=True), tls=TLS(insecure=True))
    assert gateway.logins == 1


# What is missing


async def test_without_playwright_it_says_how_to_get_it(serve, upstream, monkeypatch):
    monkeypatch.setitem(sys.modules, "playwright.async_api", None)
    gateway = await serve(ScriptedLogin(upstream, TWO_STEPS))
    error = await fail(gateway.url, by_form(), ConfigError)
    assert "pip install 'comfyclient[browser]'" in error.hint
    assert "playwright install chromium" in error.hint


async def test_a_program_that_is_not_there(serve, upstream):
    gateway = await serve(ScriptedLogin(upstream, TWO_STEPS))
    error = await fail(gateway.url, by_form(executable_path="/nowhere/chromium"), ConfigError)
    assert "/nowhere/chromium" in str(error)
    assert "--browser-path" in error.hint


async def test_a_program_that_is_no_browser(serve, upstream):
    gateway = await serve(ScriptedLogin(upstream, TWO_STEPS))
    error = await fail(gateway.url, by_form(executable_path=sys.executable))
    assert "does not start" in str(error)


@pytest.mark.parametrize("arguments", [{"username": "ada"}, {"password": ""}])
def test_arguments_that_do_not_fit(arguments):
    with pytest.raises(ConfigError):
        BrowserLogin(**arguments)


def test_its_repr_tells_nothing():
    assert PASSWORD not in repr(by_form())
    assert USERNAME not in repr(by_form())


def test_nothing_is_imported_before_it_is_needed():
    code = "import sys, comfyclient.auth.browser; sys.exit('playwright' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
