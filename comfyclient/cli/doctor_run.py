"""What ``comfyclient doctor`` does: one check after the other, as far as each makes sense."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from comfyclient._http import Http
from comfyclient._transport import Transport
from comfyclient.auth.address import is_loopback, read_address
from comfyclient.auth.detect.verdicts import Kind
from comfyclient.auth.remember import recall
from comfyclient.auth.session import Session, unusable
from comfyclient.cli import doctor_inside as inside
from comfyclient.cli import doctor_way as way
from comfyclient.cli.checks import Findings
from comfyclient.cli.credentials import GivenLogin, given_login
from comfyclient.cli.instances_run import in_words
from comfyclient.cli.running import keep_renewed, kind_of, run_async, waiting_for
from comfyclient.errors import AuthError, ComfyClientError, ConfigError, InstanceStarting, NotComfyUI

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from comfyclient.auth.detect import Verdict
    from comfyclient.auth.remember import Recalled
    from comfyclient.cli.app import App
    from comfyclient.cli.doctor import DoctorOptions

__all__ = ["run"]

_TIMEOUT: Final = 30.0


def run(app: App, options: DoctorOptions) -> int:
    """Check everything; what fails is told, not raised."""
    findings = Findings(app)
    given = _given(app, options, findings)
    code = 0
    if given is not None:
        code = run_async(app, lambda _: _examine(app, given, findings))
    if app.json and not code:
        app.print_json(findings.to_json())
    return code or findings.exit_code


def _given(app: App, options: DoctorOptions, findings: Findings) -> GivenLogin | None:
    """What to go there with. If that cannot be had, the address alone."""
    settings = app.settings(url=options.url)
    try:
        given = given_login(app, options.login, url=options.url)
    except ConfigError as error:
        try:
            base, _ = read_address(settings.url)
        except ConfigError as unreadable:
            findings.error("url", unreadable)
            return None
        findings.error("options", error)
        given = GivenLogin(base, settings.url_from, None, None, None, None, None, None, options.login)
    findings.ok("url", f"{given.url}")
    return given


async def _examine(app: App, given: GivenLogin, findings: Findings) -> int:
    recalled = recall(given.stored) if given.stored is not None else None
    tls = given.tls or (recalled.tls if recalled is not None else None)
    if given.wait_ready is not None:
        await way.wait(app, given.url, tls, given.wait_ready)
    addresses = await way.check_name(findings, given.url)
    if not addresses or not await way.check_connection(app, findings, given.url):
        return 0
    found = await way.check_there(app, findings, given.url, tls)
    if found is None:
        return 0
    base, verdict = found
    given = replace(given, url=base, tls=tls)
    _check_exposure(findings, given, verdict, addresses)
    async with _http(given, recalled) as http:
        if await _check_login(app, findings, given, verdict, http):
            await inside.check_all(app, findings, http, given.comfy_user or (recalled.comfy_user if recalled else None))
        if given.stored is not None and given.credential is None:
            await keep_renewed(app, http.session, given.stored)
    return 0


@contextlib.asynccontextmanager
async def _http(given: GivenLogin, recalled: Recalled | None) -> AsyncIterator[Http]:
    """A session as a client has it, with what is inside within reach."""
    credential, known = given.credential, None
    if credential is None and recalled is not None:
        credential, known = recalled.credential, recalled.known
    user = given.comfy_user or (recalled.comfy_user if recalled is not None else None)
    transport = Transport(timeout=_TIMEOUT, tls=given.tls)
    http = Http(transport, Session(transport, given.url, credential=credential, known=known, user=user))
    try:
        yield http
    finally:
        await http.close()


def _check_exposure(findings: Findings, given: GivenLogin, verdict: Verdict, addresses: list[str]) -> None:
    """What others on the way can read, and who else can come in."""
    if given.url.scheme == "http" and not is_loopback(given.url) and _has_credential(given):
        findings.warning(
            "secrecy",
            "the credential goes over plain http, readable for everybody on the way",
            "is there an https url? else use an SSH tunnel",
        )
    if verdict.kind is Kind.OPEN and way.is_public(addresses):
        findings.warning(
            "exposure",
            "it is on a public address, without any login: everybody can use it, and run programs there",
            "put a login before it, or let it listen on 127.0.0.1 and use an SSH tunnel",
        )


def _has_credential(given: GivenLogin) -> bool:
    stored = given.stored
    return bool(given.credential) or (stored is not None and bool(stored.credential or stored.cookies))


async def _check_login(app: App, findings: Findings, given: GivenLogin, verdict: Verdict, http: Http) -> bool:
    """Whether it lets us in, and ComfyUI is behind it."""
    if verdict.wants_login and not _has_credential(given):
        findings.error("login", unusable(verdict, given.url))
        return False

    async def ask() -> Any:
        await http.session.enter()
        return await http.get_json("/prompt")

    try:
        body = await waiting_for(app, given.wait_ready, ask)
        if not isinstance(body, dict) or "exec_info" not in body:
            raise NotComfyUI(f"{http.origin}: something answers, but not as ComfyUI does")
    except ComfyClientError as error:
        if isinstance(error, InstanceStarting):
            findings.ok("login", f"lets us in ({_what(given, verdict, http)})")
        findings.error("login" if isinstance(error, AuthError) else "ComfyUI", error)
        return False
    needed = verdict.kind is not Kind.OPEN
    findings.ok("login", f"lets us in ({_what(given, verdict, http)})" if needed else "none is needed")
    return True


def _what(given: GivenLogin, verdict: Verdict, http: Http) -> str:
    whose = "given now" if given.credential is not None else "kept"
    return f"{in_words(kind_of(http.session, verdict.kind), http.session.scheme)}, {whose}"
