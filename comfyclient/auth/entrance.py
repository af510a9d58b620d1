"""One attempt to get in: what is there, which scheme fits, log in by it, and see whether that lets us in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import aiohttp

from comfyclient._redact import RedactingFilter
from comfyclient._transport import read_reply
from comfyclient.auth.address import is_loopback, same_origin
from comfyclient.auth.detect import Answer, Kind, classify
from comfyclient.auth.probe import probe
from comfyclient.auth.resolve import candidates, companions
from comfyclient.auth.schemes import CloudflareAccess, together
from comfyclient.auth.way import Way
from comfyclient.errors import (
    AuthError,
    AuthRequired,
    InstanceStarting,
    InstanceUnavailable,
    LoginRefused,
    NotComfyUI,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL

    from comfyclient._transport import Reply, Transport
    from comfyclient.auth.cookies import CookieJar
    from comfyclient.auth.credential import Credential
    from comfyclient.auth.detect import Verdict
    from comfyclient.auth.schemes import Auth

__all__ = ["SPELLING", "Entrance", "ask_through", "only_https", "unusable", "what_was_given"]

SPELLING: Final = "is it spelled right? is it current?"
_MAY_OPEN: Final = frozenset({Kind.FORBIDDEN, Kind.NOT_COMFYUI})  # to somebody with a token or a cookie
_TIMEOUT: Final = aiohttp.ClientTimeout(total=60, sock_connect=10)  # bcrypt on a busy machine takes its time
_PAGE_CAP: Final = 4 * 2**20

_log = logging.getLogger("comfyclient.auth")
_log.addFilter(RedactingFilter())


class Entrance:
    """An attempt; it is the `Door` of the schemes that it tries.

    Attributes:
        way: What lets us in, when it has passed.
        kind: What was found there.
        tried: Whether a credential was sent: it cost the server time, and may count as a wrong one.

    Args:
        transport: What sends.
        base: The instance's address.
        given: A scheme; or ``None``, then ``credential`` is for the scheme that is found.
        credential: See ``given``.
        user: See `Way`.
        claim: See `comfyclient.auth.FormLogin`.
    """

    def __init__(
        self,
        transport: Transport,
        base: URL,
        *,
        given: Auth | None,
        credential: Credential | None,
        user: str | None,
        claim: bool,
    ) -> None:
        self.way = Way(base, user=user)
        self.kind: Kind | None = None
        self.tried = False
        self._transport = transport
        self._given = given
        self._credential = credential
        self._user = user
        self._claim = claim

    @property
    def base(self) -> URL:
        """The instance's address."""
        return self.way.base

    @property
    def cookies(self) -> CookieJar:
        """The cookies of the instance."""
        return self.way.cookies

    async def pass_through(self) -> None:
        """Find out what is there, and log in.

        Raises:
            AuthError: The instance does not let us in.
            InstanceUnavailable: It cannot be asked, or is still starting.
            NotComfyUI: Something else is there.
        """
        base, verdict = await probe(self._transport, self.base)
        if base != self.base:
            _log.info("%s speaks TLS: using https", self.base.origin())
        self._begin(base, None)
        self.kind = verdict.kind
        if base.scheme == "http" and not is_loopback(base):
            _log.warning(
                "%s: the credential goes over plain http, readable for everybody on the way; is there an https url?",
                base.origin(),
            )
        if verdict.waits:
            raise unusable(verdict, base)
        if self._given is not None:
            await self._enter_by(self._given, verdict)
        elif self._credential is not None:
            await self._detect(self._credential, verdict)

    async def send(
        self, method: str, url: URL | str, *, headers: Mapping[str, str] | None = None, data: bytes | None = None
    ) -> Reply:
        """See `Door.send`."""
        target = self.base.joinpath(url.lstrip("/"), encoded=True) if isinstance(url, str) else url
        self.tried |= data is not None
        return await ask_through(self._transport, self.way, method, target, headers=headers, data=data)

    async def _enter_by(self, auth: Auth, verdict: Verdict) -> None:
        """Log in by a scheme that was given."""
        if verdict.kind is Kind.OPEN and auth.renewable:  # there is nothing to log in to
            self._begin(self.base, None)
            return
        beforehand = auth.headers(self.base)
        if auth.renewable and beforehand and verdict.wants_login:  # a login behind a login: what is behind it?
            self.tried = True
            _, verdict = await probe(self._transport, self.base, beforehand)
        await self._enter_with(auth.adapted(verdict), verdict)

    async def _detect(self, credential: Credential, verdict: Verdict) -> None:
        """Find the scheme that the credential is for, and log in by it."""
        first = companions(credential)
        if first and verdict.kind is not Kind.OPEN:
            verdict = await self._behind(together(first), verdict)
        if verdict.kind is Kind.OPEN:
            if self.kind is Kind.OPEN:  # nobody asks for it: only headers that have a name of their own go along
                first = [scheme for scheme in first if not isinstance(scheme, CloudflareAccess)]
            self._begin(self.base, together(first) if first else None)
            return
        if not verdict.wants_login and verdict.kind not in _MAY_OPEN:
            raise unusable(verdict, self.base)
        refused: LoginRefused | None = None
        for scheme in candidates(verdict.kind, credential, claim=self._claim):
            try:
                await self._enter_with(together([*first, scheme.adapted(verdict)]), verdict)
            except LoginRefused as error:
                refused = refused or error
            else:
                return
        if refused is None and first:
            refused = self._refusal(verdict, verdict)
        raise refused or unusable(verdict, self.base, given=True)

    async def _behind(self, first: Auth, outside: Verdict) -> Verdict:
        """What is there for somebody who is past the first login."""
        self._begin(self.base, first)
        headers = self.way.headers(self.base)
        self.tried = True
        _, verdict = await probe(self._transport, self.base, headers)
        if verdict.kind is Kind.UNAVAILABLE and outside.kind is Kind.COMFYUI_LOGIN and "Authorization" in headers:
            raise self._refusal(outside, outside)  # its answer to a header that it cannot read is 500
        if verdict.kind is not Kind.OPEN:
            self.kind = verdict.kind
        return verdict

    async def _enter_with(self, auth: Auth, verdict: Verdict) -> None:
        self._begin(self.base, auth)
        self.tried |= bool(auth.headers(self.base))
        await auth.login(self)
        self.way.mask()
        if verdict.kind is not Kind.OPEN and (
            verdict.wants_login or verdict.kind in _MAY_OPEN or auth.renewable or len(self.cookies)
        ):
            self.tried = True
            await self._check(verdict)

    async def _check(self, found: Verdict) -> None:
        """Whether the login lets us in to what was ``found``. A ComfyUI that is not up says nothing against it.

        Raises:
            LoginRefused: It does not.
            AuthError: It does not, though it was accepted.
        """
        url = self.base.joinpath("prompt")
        reply = await self.send("GET", url)
        verdict = classify(Answer(url, reply.status, reply.headers, reply.body))
        # ComfyUI-Login's answer to a header that it cannot read:
        unread = found.kind is Kind.COMFYUI_LOGIN and reply.status == 500 and "Authorization" in self.way.headers(url)
        if not unread and (verdict.kind is Kind.OPEN or verdict.waits):
            return
        if not unread and not verdict.wants_login and verdict.kind not in _MAY_OPEN:
            raise unusable(verdict, self.base)
        if withheld := self.way.withheld(url):
            raise only_https(self.base, withheld[0])
        if self.way.auth is not None and self.way.auth.sure:
            raise AuthError(
                f"{self.base.origin()}: {found.name} accepted the login, and refuses the next request",
                hint=f"does a browser get in there? `comfyclient doctor {self.base}` shows how far it goes",
            )
        raise self._refusal(verdict, found)

    def _refusal(self, verdict: Verdict, found: Verdict) -> LoginRefused:
        access = verdict.kind is Kind.CLOUDFLARE_ACCESS
        what = what_was_given(self._credential, self.way.auth) if self._given is None else None
        what = what or f"the login ({self._given.name if self._given is not None else 'none'})"
        return LoginRefused(
            f"{self.base.origin()}: {verdict.name if access else found.name} did not accept {what}",
            hint=verdict.hint if access else SPELLING,
        )

    def _begin(self, base: URL, auth: Auth | None) -> None:
        self.way = Way(base, auth=auth, user=self._user)


async def ask_through(
    transport: Transport,
    way: Way,
    method: str,
    url: URL,
    *,
    headers: Mapping[str, str] | None = None,
    data: bytes | None = None,
) -> Reply:
    """Send a request with what lets us in, read the answer, and keep its cookies.

    Raises:
        AuthError: The URL is of another origin: nothing is sent there.
        InstanceUnavailable: No answer.
    """
    if not same_origin(url, way.base):
        raise AuthError(
            f"the login leads to {url.raw_host}; nothing was sent there",
            hint=f"log in there by hand: comfyclient login {way.base} --browser",
        )
    sent = {**way.headers(url), **(headers or {})}
    async with transport.send(method, url, headers=sent, data=data, timeout=_TIMEOUT) as response:
        way.absorb(url, response.headers)
        return await read_reply(response, f"{method} {url.path}", url, _PAGE_CAP)


def only_https(base: URL, cookie: str) -> AuthError:
    """The error for a login whose cookie plain http keeps back."""
    return AuthError(
        f"{base.origin()}: the login succeeds, but its cookie ({cookie}) is only for https",
        hint="use the https url of the instance",
    )


def what_was_given(given: Credential | None, auth: Auth | None) -> str | None:
    """A credential in words: which parts of it there are; ``None`` if there is none."""
    if not given:
        return None
    names = {"cookies": "the cookies", "token": "the token", "api_key": "the API key", "password": "the password"}
    parts = [name for field, name in names.items() if getattr(given, field)]
    if given.password and given.username:
        parts[-1] = "the user name and password"
    return " or ".join(parts) or (f"what was given ({auth.name})" if auth is not None else None)


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
