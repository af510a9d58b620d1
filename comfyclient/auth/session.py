"""A login at one instance: its credential and cookies, entered once, renewed when it expires.

Any number of requests and the websocket share it. Each takes the `Session.generation` it was sent with; whoever finds
that the login has expired asks for a new one with that number, and only the first who does so logs in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp

from comfyclient._redact import RedactingFilter, Secret
from comfyclient._transport import read_reply
from comfyclient.auth.address import is_loopback, same_origin
from comfyclient.auth.cookies import CookieJar
from comfyclient.auth.detect import Answer, Kind, classify, tunnel_headers
from comfyclient.auth.probe import probe
from comfyclient.auth.resolve import candidates, companions
from comfyclient.auth.schemes import together
from comfyclient.errors import (
    AuthError,
    AuthRequired,
    CredentialsExpired,
    InstanceStarting,
    InstanceUnavailable,
    LoginRefused,
    NotComfyUI,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL

    from comfyclient._transport import Reply, Transport
    from comfyclient.auth.cookies import Cookie
    from comfyclient.auth.credential import Credential
    from comfyclient.auth.detect import Verdict
    from comfyclient.auth.schemes import Auth

__all__ = ["Known", "Session", "unusable"]

_RENEWALS, _RENEWAL_WINDOW = 3, 300.0  # a wrong password costs the server time, and may lock out
_LOGIN_TIMEOUT: Final = aiohttp.ClientTimeout(total=60, sock_connect=10)  # bcrypt on a busy machine takes its time
_PAGE_CAP: Final = 4 * 2**20
_SPELLING: Final = "is it spelled right? is it current?"

_log = logging.getLogger("comfyclient.auth")
_log.addFilter(RedactingFilter())


@dataclass(frozen=True, slots=True, repr=False)
class Known:
    """What an earlier login has found out: the kind of the instance, and the cookies that it gave."""

    kind: Kind
    cookies: tuple[Cookie, ...] = ()


class Session:
    """See the module.

    Attributes:
        base: The instance's address. https may take the place of http when it is entered.
        generation: How often the login was renewed.
        kind: What was found there; ``None`` before anybody looked.
        worked: Whether the credential has let a request through; set by whoever sends them.

    Args:
        transport: What sends.
        base: The instance's address.
        auth: A scheme; or ``None``, then ``credential`` is for the scheme that is found.
        credential: See ``auth``.
        user: The user of a server with several (``Comfy-User``); no secret.
        known: From an earlier login.
        claim: See `comfyclient.auth.FormLogin`.
    """

    def __init__(
        self,
        transport: Transport,
        base: URL,
        *,
        auth: Auth | None = None,
        credential: Credential | None = None,
        user: str | None = None,
        known: Known | None = None,
        claim: bool = False,
    ) -> None:
        self.base = base
        self.generation = 0
        self.worked = False
        self.kind: Kind | None = known.kind if known is not None else None
        self._transport = transport
        self._given = auth
        self._credential = credential
        self._user = user
        self._claim = claim
        self._auth: Auth | None = None
        self._jar = CookieJar(base.origin())
        self._masked: dict[str, Secret] = {}
        self._gate = asyncio.Lock()
        self._renewals: deque[float] = deque()
        self._failure: AuthError | None = None
        self._remembered = self._entered = False
        if known is not None:
            self._restore(known, credential)
        self._entered = self._entered if self._remembered else not self.active

    @property
    def active(self) -> bool:
        """Whether there is a credential, or the cookies of an earlier login."""
        return self._given is not None or bool(self._credential) or self._remembered

    @property
    def scheme(self) -> str | None:
        """What lets us in, for people; ``None`` if nothing has to."""
        if self._auth is None:
            return "cookies" if len(self._jar) else None
        return self._auth.name

    @property
    def cookies(self) -> CookieJar:
        """The cookies of the instance."""
        return self._jar

    def headers(self, url: URL) -> dict[str, str]:
        """What a request to ``url`` carries: nothing if that is another origin."""
        if not same_origin(url, self.base):
            return {}
        headers = tunnel_headers(url.host or "")
        if self._user is not None:
            headers["Comfy-User"] = self._user
        if self._auth is not None:
            headers |= self._auth.headers(url)
        cookies = self._jar.header(url, now=time.time())
        if cookies is not None:
            headers["Cookie"] = _sendable(cookies, self.base)
        return headers

    def socket_query(self, url: URL) -> Mapping[str, str]:
        """What the websocket's URL carries besides."""
        return self._auth.socket_query(url) if self._auth is not None else {}

    def absorb(self, url: URL, headers: Mapping[str, str], generation: int) -> None:
        """Keep the cookies of an answer to a request of this generation.

        A late answer to an earlier one may end the session that it belonged to, which is not ours any more.
        """
        if generation == self.generation and not self._gate.locked():
            self._absorb(url, headers)

    def _absorb(self, url: URL, headers: Mapping[str, str]) -> None:
        if "Set-Cookie" not in headers:
            return
        values = headers.getall("Set-Cookie")  # type: ignore[attr-defined]
        if self._jar.absorb(values, url=url, now=time.time()):
            self._mask()

    async def enter(self) -> int:
        """Log in, if that has not been done, or wait for who does. Returns the generation.

        Raises:
            AuthError: The instance does not let us in.
            InstanceUnavailable: It cannot be asked, or is still starting.
        """
        if not self._entered or self._gate.locked():
            async with self._gate:
                if not self._entered:
                    self._raise_failure()
                    await self._attempt()
                    self._entered = True
        return self.generation

    async def renew(self, generation: int) -> None:
        """Log in anew, unless somebody has since ``generation``.

        Raises:
            AuthError: That is not possible, or was done too often.
            InstanceUnavailable: The instance cannot be asked.
        """
        async with self._gate:
            if generation != self.generation:
                return
            self._raise_failure()
            if not self._can_renew():
                if not self.worked and not self._remembered:
                    raise LoginRefused(f"{self.base.origin()} did not accept {self._what()}", hint=_SPELLING)
                raise self._expired("is not accepted any more")
            self._refuse_too_many()
            _log.info("%s: the login has expired; logging in anew", self.base.origin())
            await self._attempt_anew()
            self._remembered = False
            self.generation += 1

    async def explain(self) -> AuthError | InstanceUnavailable | NotComfyUI | None:
        """The error for an instance that wants a login when there is none to give; ``None`` if it does not want one."""
        base, verdict = await probe(self._transport, self.base)
        return None if verdict.kind is Kind.OPEN else unusable(verdict, base)

    def loop(self, url: URL) -> AuthError:
        """The error for an answer that wants a login right after one."""
        withheld = self._jar.withheld(url, now=time.time())
        if withheld:
            return AuthError(
                f"{self.base.origin()}: the login succeeds, but its cookie ({withheld[0]}) is only for https",
                hint="use the https url of the instance",
            )
        return self._expired("was accepted, and the next request refused; it was not tried again")

    async def send(
        self, method: str, url: URL | str, *, headers: Mapping[str, str] | None = None, data: bytes | None = None
    ) -> Reply:
        """The `Door` through which schemes log in."""
        target = self.base.joinpath(url.lstrip("/"), encoded=True) if isinstance(url, str) else url
        if not same_origin(target, self.base):
            raise AuthError(f"the login leads to {target.raw_host}; nothing was sent there")
        sent = {**self.headers(target), **(headers or {})}
        async with self._transport.send(method, target, headers=sent, data=data, timeout=_LOGIN_TIMEOUT) as response:
            self._absorb(target, response.headers)
            return await read_reply(response, f"{method} {target.path}", target, _PAGE_CAP)

    def _restore(self, known: Known, credential: Credential | None) -> None:
        """Take up an earlier login where it ended: nothing is asked until the instance refuses something."""
        schemes = [*companions(credential), *candidates(known.kind, credential)[:1]] if credential is not None else []
        self._auth = together(schemes) if schemes else None
        for cookie in known.cookies:
            self._jar.add(cookie)
        self._mask()
        self._remembered = bool(credential) or bool(known.cookies)
        self._entered = bool(known.cookies) or not (self._auth is not None and self._auth.renewable)

    def _can_renew(self) -> bool:
        found_out_anew = self._remembered and bool(self._credential)
        return found_out_anew or (self._auth is not None and self._auth.renewable)

    def _refuse_too_many(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._renewals and now - self._renewals[0] > _RENEWAL_WINDOW:
            self._renewals.popleft()
        if len(self._renewals) >= _RENEWALS:
            raise self._expired(f"expired {_RENEWALS} times within {_RENEWAL_WINDOW / 60:.0f} minutes")

    def _expired(self, what: str) -> CredentialsExpired:
        return CredentialsExpired(
            f"{self.base.origin()}: the login ({self.scheme or 'none'}) {what}",
            hint=f"log in again: comfyclient login {self.base}",
        )

    def _what(self) -> str:
        """What was given, for people."""
        given = self._credential
        if self._given is not None or given is None:
            return f"the login ({self.scheme})"
        names = {"cookies": "the cookies", "token": "the token", "api_key": "the API key", "password": "the password"}
        parts = [name for field, name in names.items() if getattr(given, field)]
        if given.password and given.username:
            parts[-1] = "the user name and password"
        return " or ".join(parts) or "the headers that were given"

    def _raise_failure(self) -> None:
        """A credential that was wrong is not sent again: that costs the server time, and may lock out."""
        if self._failure is not None:
            raise type(self._failure)(self._failure.message, hint=self._failure.hint)

    async def _attempt(self) -> None:
        """Log in. What fails leaves everything as it was, so that it can be tried again."""
        before = self.base, self.kind, self._auth, self._jar, self._remembered
        try:
            await self._log_in()
        except BaseException as error:
            self.base, self.kind, self._auth, self._jar, self._remembered = before
            self._mask()
            if isinstance(error, LoginRefused):
                self._failure = error
            raise

    async def _log_in(self) -> None:
        base, verdict = await probe(self._transport, self.base)
        if base != self.base:
            _log.info("%s speaks TLS: using https", self.base.origin())
        self.base, self.kind = base, verdict.kind
        self._reset()
        if base.scheme == "http" and not is_loopback(base):
            _log.warning(
                "%s: the credential goes over plain http, readable for everybody on the way; is there an https url?",
                base.origin(),
            )
        if verdict.waits:
            raise unusable(verdict, base)
        if self._given is not None:
            await self._enter_with(self._given.adapted(verdict), verdict, check=verdict.wants_login)
        elif self._credential is not None:
            await self._detect(self._credential, verdict)

    async def _detect(self, credential: Credential, verdict: Verdict) -> None:
        """Find the scheme that the credential is for, and log in by it."""
        first = companions(credential)
        if first and verdict.kind is not Kind.OPEN:
            self._auth = together(first)
            _, verdict = await probe(self._transport, self.base, self.headers(self.base))
            if verdict.kind is not Kind.OPEN:
                self.kind = verdict.kind
        if verdict.kind is Kind.OPEN:
            self._auth = together(first) if first else None
            return
        if not verdict.wants_login:
            raise unusable(verdict, self.base)
        refused: AuthError | None = None
        for scheme in candidates(verdict.kind, credential, claim=self._claim):
            self._reset()
            try:
                await self._enter_with(together([*first, scheme.adapted(verdict)]), verdict, check=True)
            except LoginRefused as error:
                refused = refused or error
            else:
                return
        self._reset()
        raise refused or unusable(verdict, self.base, given=True)

    async def _enter_with(self, auth: Auth, verdict: Verdict, *, check: bool = False) -> None:
        self._auth = auth
        await auth.login(self)
        self._mask()
        if (check or auth.renewable or len(self._jar)) and verdict.kind is not Kind.OPEN:
            await self._check(verdict)

    async def _check(self, found: Verdict) -> None:
        """Whether the login lets us in to what was ``found``.

        Raises:
            LoginRefused: It does not.
            InstanceUnavailable: A proxy lets us in, and ComfyUI behind it does not answer. (If it is only starting,
                the login was right, and the next request finds out.)
        """
        url = self.base.joinpath("prompt")
        reply = await self.send("GET", url)
        verdict = classify(Answer(url, reply.status, reply.headers, reply.body))
        if verdict.kind in {Kind.OPEN, Kind.STARTING}:
            return
        withheld = self._jar.withheld(url, now=time.time())
        if withheld and verdict.wants_login:
            raise self.loop(url)
        if verdict.wants_login or reply.status == 500:  # ComfyUI-Login's answer to a token that it cannot read
            name = verdict.name if verdict.kind is Kind.CLOUDFLARE_ACCESS else found.name
            raise LoginRefused(f"{self.base.origin()}: {name} did not accept {self._what()}", hint=_SPELLING)
        raise unusable(verdict, self.base)

    async def _attempt_anew(self) -> None:
        """Log in once more. It counts, unless the credential was not even tried."""
        now = asyncio.get_running_loop().time()
        try:
            await self._attempt()
        except InstanceUnavailable:
            raise
        except LoginRefused:
            if self.worked:
                self._failure = self._expired("is not accepted any more")
            self._renewals.append(now)
            self._raise_failure()
        except BaseException:
            self._renewals.append(now)
            raise
        self._renewals.append(now)

    def _reset(self) -> None:
        self._auth = None
        self._jar = CookieJar(self.base.origin())

    def _mask(self) -> None:
        """Cookies are secrets: those in use are masked in texts."""
        values = {cookie.value for cookie in self._jar}
        self._masked = {value: self._masked.get(value) or Secret(value) for value in values}


def _sendable(cookies: str, base: URL) -> str:
    """Refuse bytes that are no UTF-8: aiohttp leaves them out without a word, and the cookie would be another."""
    try:
        cookies.encode()
    except UnicodeEncodeError:
        raise AuthError(f"{base.origin()}: its cookie holds bytes that cannot be sent back") from None
    return cookies


def unusable(verdict: Verdict, base: URL, *, given: bool = False) -> AuthError | InstanceUnavailable | NotComfyUI:
    """The error for what was found at an address, if it does not let us in. ``given``: there was a credential."""
    origin, there = base.origin(), verdict.name
    hint = verdict.hint and verdict.hint.replace("login URL", f"login {base}")
    if verdict.kind is Kind.STARTING:
        return InstanceStarting(f"{origin}: there is {there}; ComfyUI behind it is not up yet")
    if verdict.waits or verdict.kind in {Kind.TUNNEL_DOWN, Kind.POD_GONE}:
        return InstanceUnavailable(f"{origin}: there is {there}", hint=hint)
    if verdict.kind is Kind.FORBIDDEN:
        return AuthError(f"{origin}: there is {there}", hint=hint)
    if verdict.wants_login:
        kind, fits = (AuthError, ", and what was given does not fit it") if given else (AuthRequired, "")
        return kind(f"{origin} wants a login: it is behind {there}{fits}", hint=hint)
    return NotComfyUI(f"{origin}: there is {there}", hint=hint)
