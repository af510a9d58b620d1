"""What ``comfyclient login`` does."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from comfyclient._http import Http
from comfyclient._transport import Transport
from comfyclient.auth.credential import Credential
from comfyclient.auth.detect.verdicts import Kind
from comfyclient.auth.probe import probe
from comfyclient.auth.remember import remember
from comfyclient.auth.resolve import companions
from comfyclient.auth.schemes import together
from comfyclient.auth.session import Session, unusable
from comfyclient.auth.store import StoredLogin
from comfyclient.auth.tls import TLS
from comfyclient.cli import trust
from comfyclient.cli.asking import ask_password, complete
from comfyclient.cli.credentials import given_login
from comfyclient.cli.instances_run import in_words, name_of
from comfyclient.cli.running import kind_of, run_async, run_for, waiting_for
from comfyclient.errors import CertificateUntrusted, ConfigError, InstanceUnavailable, NotComfyUI

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yarl import URL

    from comfyclient.auth.detect import Verdict
    from comfyclient.auth.schemes import Auth
    from comfyclient.cli.app import App
    from comfyclient.cli.credentials import GivenLogin
    from comfyclient.cli.login import LogInOptions

__all__ = ["run"]

_TIMEOUT: Final = 30.0
_LAYERS: Final = 2  # Cloudflare Access, and the login behind it


def run(app: App, options: LogInOptions) -> int:
    """Log in, and keep the login.

    Raises:
        AuthError: It fails.
        CertificateUntrusted: The certificate is not trusted, and nobody says that it should be.
        InstanceUnavailable: The instance cannot be reached.
        NotComfyUI: Something else answers there.
    """
    given = given_login(app, options.login, url=options.url, anew=True)
    if given.url_from == "default":
        raise ConfigError("which instance?", hint="comfyclient login URL, or COMFYCLIENT_URL")
    place = _find(app, given)
    if place.found.kind is Kind.OPEN:
        return _open(app, given, place)
    credential = given.credential or Credential()
    if options.browser:
        credential = _for_browser(app, credential, place.found.kind)
    else:
        credential = _completed(app, given, place, credential, claim=options.claim)
    app.secrets.append(credential)
    return run_async(app, lambda _: _log_in(app, options, given, place, credential))


@dataclass(frozen=True, slots=True)
class _Place:
    """What is at the address. ``tls``: how its certificate is trusted."""

    base: URL
    found: Verdict
    tls: TLS | None

    @property
    def pin(self) -> str | None:
        """The one certificate to trust from now on."""
        return self.tls.fingerprint if self.tls is not None else None


@contextlib.asynccontextmanager
async def _transport(tls: TLS | None) -> AsyncIterator[Transport]:
    transport = Transport(timeout=_TIMEOUT, tls=tls)
    try:
        yield transport
    finally:
        await transport.close()


def _find(app: App, given: GivenLogin) -> _Place:
    """Find out what is there, without any credential; ask about its certificate if need be."""
    kept = given.stored.fingerprint if given.stored is not None else None
    tls = given.tls or (TLS(fingerprint=kept) if kept is not None else None)
    base = given.url
    try:
        return run_for(app, lambda: _look(app, base, tls, given.wait_ready))
    except CertificateUntrusted:
        if given.tls is not None:
            raise
    if base.scheme == "http":  # the instance wants https
        base = base.with_scheme("https").with_port(443 if base.port == 80 else base.port)
    decided = trust.decide(app, base, pinned=kept)
    return run_for(app, lambda: _look(app, base, decided, given.wait_ready))


async def _look(app: App, base: URL, tls: TLS | None, wait: float | None, first: Auth | None = None) -> _Place:
    """One look; several, if it is not up and may be soon. ``first``: a login that is passed already."""

    async def look() -> _Place:
        async with _transport(tls) as transport:
            there, found = await probe(transport, base, first.headers(base) if first is not None else None)
        if found.waits:
            raise unusable(found, there)
        return _Place(there, found, tls)

    place = await waiting_for(app, wait, look)
    if place.base != base:
        app.note(f"{base.origin()} speaks https only: using {place.base}")
    return place


def _open(app: App, given: GivenLogin, place: _Place) -> int:
    """There is no login: only how to trust it, and who to be there, is worth keeping."""
    where = None
    if place.pin is not None or given.comfy_user is not None:
        stored = StoredLogin(
            url=str(place.base),
            kind=Kind.OPEN.value,
            credential={},
            cookies=[],
            fingerprint=place.pin,
            comfy_user=given.comfy_user,
            username=None,
            saved_at=time.time(),
        )
        where = app.login_store().save(stored)
    if app.json:
        app.print_json(_report(place, where, kind=Kind.OPEN))
        return 0
    app.show(
        f"{place.base} needs no login" + ("" if where is None else f"; how to reach it is kept in {_place(where)}")
    )
    if given.credential:
        app.note("the credential was not sent")
    return 0


def _for_browser(app: App, credential: Credential, kind: Kind) -> Credential:
    """What the browser fills in; a user name alone is not enough for that."""
    if credential.username is None or credential.password is not None or not app.stdin_is_terminal:
        return credential
    return ask_password(app, credential, kind)


def _completed(app: App, given: GivenLogin, place: _Place, credential: Credential, *, claim: bool) -> Credential:
    """The credential with what is missing, layer by layer."""
    for _ in range(_LAYERS):
        first, found = companions(credential), place.found
        if first:
            found = _behind(app, given, place, together(first))
        if found.kind is Kind.OPEN or any(
            (credential.password, credential.token, credential.api_key, credential.cookies)
        ):
            return credential
        if not found.wants_login or (first and found.kind is Kind.CLOUDFLARE_ACCESS):
            raise unusable(found, place.base, given=bool(first))
        credential = complete(app, credential, found, place.base, claim=claim)
    return credential


def _behind(app: App, given: GivenLogin, place: _Place, first: Auth) -> Verdict:
    """What is there for somebody who is past the first login."""
    return run_for(app, lambda: _look(app, place.base, place.tls, given.wait_ready, first)).found


async def _log_in(app: App, options: LogInOptions, given: GivenLogin, place: _Place, credential: Credential) -> int:
    async with _transport(place.tls) as transport:
        session = Session(
            transport,
            place.base,
            auth=_browser(app, options, place, credential) if options.browser else None,
            credential=None if options.browser else credential,
            user=given.comfy_user,
            claim=options.claim,
        )
        await waiting_for(app, given.wait_ready, session.enter)
        is_up = await _is_up(app, Http(transport, session), given.wait_ready)
    kept = _kept(options, session, credential)
    stored = remember(session, kept, fingerprint=place.pin, comfy_user=given.comfy_user)
    kind = kind_of(session, place.found.kind)
    stored = dataclasses.replace(stored, kind=kind.value, username=credential.username)
    where = await asyncio.to_thread(_save, app, stored, given.url)
    facts = {"scheme": session.scheme, "session_only": options.session_only, "is_up": is_up}
    _say(app, dataclasses.replace(place, base=session.base), kind, where, facts)
    return 0


def _save(app: App, stored: StoredLogin, asked: URL) -> str:
    """Keep it. One for http is of no use any more if the instance wants https."""
    store = app.login_store()
    where = store.save(stored)
    if asked.scheme == "http" and stored.url.startswith("https:"):
        store.delete(asked)
    return where


async def _is_up(app: App, http: Http, wait: float | None) -> bool:
    """Whether ComfyUI answers behind the login. If it is only starting, the login is right all the same.

    Raises:
        NotComfyUI: Something else is behind it.
    """

    async def ask() -> Any:
        return await http.get_json("/prompt")

    try:
        body = await waiting_for(app, wait, ask)
    except InstanceUnavailable as error:
        app.warn(f"logged in, but {error}")
        return False
    if not isinstance(body, dict) or "exec_info" not in body:
        raise NotComfyUI(f"{http.origin}: the login lets us in, and what is behind it is not ComfyUI")
    return True


def _browser(app: App, options: LogInOptions, place: _Place, credential: Credential) -> Auth:
    from comfyclient.auth.browser import BrowserLogin

    password = credential.password.reveal() if credential.password is not None else None
    if password is None:
        app.note("log in in the browser's window; it closes by itself")
    login = BrowserLogin(
        credential.username if password is not None else None,
        password,
        headless=True if options.headless else None,
        executable_path=options.browser_path or app.environ.get("COMFYCLIENT_BROWSER") or None,
        tls_insecure=place.tls is not None and place.tls.insecure,
        fingerprint=place.pin,
        allow_hosts=options.allowed_hosts,
    )
    return together([*companions(credential), login])


def _kept(options: LogInOptions, session: Session, credential: Credential) -> Credential:
    """What is kept of the credential. A browser's is of no use without the browser.

    Raises:
        ConfigError: Cookies are all that may be kept, and there are none.
    """
    if options.session_only:
        if not len(session.cookies):
            raise ConfigError(
                f"--session-only: there is no session to keep; this login ({session.scheme}) goes with every request",
                hint="leave it out; or keep nothing, and give the credential to each command",
            )
        return Credential()
    if options.browser:
        access = (credential.access_id, credential.access_secret)
        return Credential(access_id=access[0], access_secret=access[1], headers=credential.headers)
    return credential


def _say(app: App, place: _Place, kind: Kind, where: str, facts: dict[str, Any]) -> None:
    if app.json:
        app.print_json(_report(place, where, kind=kind) | facts)
    else:
        app.show(f"logged in to {place.base} ({in_words(kind, facts['scheme'])}); kept in {_place(where)}")
    if place.tls is not None and place.tls.insecure:
        app.note("certificates are not checked in this command only: others need --insecure as well")
    if place.tls is not None and place.tls.ca_file is not None:
        app.note("other commands need --ca-file too, or COMFYCLIENT_CA_FILE")


def _report(place: _Place, where: str | None, *, kind: Kind) -> dict[str, Any]:
    body: dict[str, Any] = {"url": str(place.base), "kind": kind.value, "login": name_of(kind), "kept_in": where}
    return body | ({"tls_fingerprint": place.pin} if place.pin is not None else {})


def _place(where: str) -> str:
    return "the keyring" if where == "keyring" else where
