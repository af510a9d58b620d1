"""A login at one instance: entered once, shared by all requests and the websocket, renewed when it expires.

Each request takes the `Session.generation` it is sent with; whoever finds that the login has expired asks for a new one
with that number, and only the first who does so causes one. The login itself is a task of its own: it goes on if the
request that caused it is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from comfyclient._redact import RedactingFilter
from comfyclient.auth.address import is_loopback
from comfyclient.auth.detect import Answer, Kind, classify
from comfyclient.auth.entrance import SPELLING, Entrance, ask_through, only_https, unusable, what_was_given
from comfyclient.auth.probe import probe
from comfyclient.auth.resolve import candidates, companions
from comfyclient.auth.schemes import together
from comfyclient.auth.way import Way
from comfyclient.errors import AuthError, ConfigError, CredentialsExpired, LoginRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL

    from comfyclient._transport import Reply, Transport
    from comfyclient.auth.cookies import Cookie, CookieJar
    from comfyclient.auth.credential import Credential
    from comfyclient.auth.schemes import Auth
    from comfyclient.errors import InstanceUnavailable, NotComfyUI

__all__ = ["Known", "Session", "unusable"]

_TRIES: Final = 4  # the first login and three renewals
_PAUSE: Final = 5.0  # seconds
_WINDOW: Final = 300.0  # seconds. A wrong password costs the server time, and may lock out

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
        generation: How often the login was renewed.
        kind: What was found there; ``None`` before anybody looked.
        worked: Whether a request was answered with 200; set by whoever sends them.

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
        self.generation = 0
        self.worked = False
        self.kind: Kind | None = known.kind if known is not None else None
        self._transport = transport
        self._given = auth
        self._credential = credential
        self._user = user
        self._claim = claim
        self._login: asyncio.Task[None] | None = None
        self._tries: deque[float] = deque()
        self._failure: AuthError | None = None
        self._failure_ends = math.inf
        self._remembered = known is not None and (bool(credential) or bool(known.cookies))
        self._way = Way(base, user=user)
        self._entered = not self.active
        if known is not None and self._remembered:
            self._restore(known, credential)

    @property
    def base(self) -> URL:
        """The instance's address. https may take the place of http when it is entered."""
        return self._way.base

    @property
    def active(self) -> bool:
        """Whether there is a credential, or the cookies of an earlier login."""
        return self._given is not None or bool(self._credential) or self._remembered

    @property
    def scheme(self) -> str | None:
        """What lets us in, for people; ``None`` if nothing has to."""
        if self._way.auth is None:
            return "cookies" if len(self.cookies) else None
        return self._way.auth.name

    @property
    def cookies(self) -> CookieJar:
        """The cookies of the instance."""
        return self._way.cookies

    def headers(self, url: URL) -> dict[str, str]:
        """What a request to ``url`` carries: nothing if that is another origin."""
        return self._way.headers(url)

    def socket_query(self, url: URL) -> Mapping[str, str]:
        """What the websocket's URL carries besides."""
        return self._way.auth.socket_query(url) if self._way.auth is not None else {}

    def absorb(self, url: URL, headers: Mapping[str, str], generation: int) -> None:
        """Keep the cookies of an answer to a request of this generation.

        A late answer to an earlier one may end the session that it belonged to, which is not ours any more.
        """
        if generation == self.generation:
            self._way.absorb(url, headers)

    async def enter(self) -> int:
        """Log in, if that has not been done, or wait for who does. Returns the generation.

        Raises:
            AuthError: The instance does not let us in.
            InstanceUnavailable: It cannot be asked, or is still starting.
        """
        self._raise_failure()
        if self._login is not None or not self._entered:
            await self._log_in_once()
        return self.generation

    async def renew(self, generation: int) -> bool:
        """Log in anew, unless somebody has since ``generation``.

        Returns:
            Whether there is a new login. If not, the one there is lets other requests in: it has not expired.

        Raises:
            AuthError: That is not possible, or was done too often.
            InstanceUnavailable: The instance cannot be asked.
        """
        if generation != self.generation:
            return True
        if self._login is None:
            self._raise_failure()
        await self._log_in_once()
        return generation != self.generation

    async def ask(self, path: str) -> Reply:
        """GET a path below the base, with what lets us in now."""
        url = self.base.joinpath(path.lstrip("/"), encoded=True)
        return await ask_through(self._transport, self._way, "GET", url)

    async def explain(self) -> AuthError | InstanceUnavailable | NotComfyUI | None:
        """The error for an instance that wants a login when there is none to give; ``None`` if it does not want one."""
        base, verdict = await probe(self._transport, self.base)
        return None if verdict.kind is Kind.OPEN else unusable(verdict, base)

    def loop(self, url: URL) -> AuthError:
        """The error for an answer that wants a login right after one."""
        withheld = self._way.withheld(url)
        if withheld:
            return only_https(self.base, withheld[0])
        return self._expired("was accepted, and the next request refused; it was not tried again")

    async def close(self) -> None:
        """End a login that is under way; who waits for it is told that the client was closed."""
        if self._login is not None:
            self._login.cancel()
            await asyncio.wait({self._login})

    def _restore(self, known: Known, credential: Credential | None) -> None:
        """Take up an earlier login where it ended: nothing is asked until the instance refuses something."""
        schemes = [*companions(credential), *candidates(known.kind, credential)[:1]] if credential is not None else []
        auth = together(schemes) if schemes else None
        self._way = Way(self.base, auth=auth, user=self._user, cookies=known.cookies)
        sure = self.base.scheme == "https" or is_loopback(self.base)  # else it may want https by now
        self._entered = sure and (bool(known.cookies) or not (auth is not None and auth.renewable))

    def _can_renew(self) -> bool:
        found_out_anew = self._remembered and bool(self._credential)
        return found_out_anew or (self._way.auth is not None and self._way.auth.renewable)

    async def _revisit(self) -> None:
        """Take up an earlier login over plain http, once it is sure that the instance does not want https.

        Raises:
            CredentialsExpired: It does, and there are only the cookies of http.
        """
        base, verdict = await probe(self._transport, self.base)
        if verdict.waits:
            raise unusable(verdict, base)
        if base != self.base and not self._credential:
            raise self._expired("is for http, and the instance wants https now")
        if base != self.base or (self._way.auth is not None and self._way.auth.renewable and not len(self.cookies)):
            await self._log_in_from(base)
        self._entered = True

    async def _still_in(self) -> bool:
        """Whether other requests are let in: then a refusal says nothing about the login."""
        reply = await self.ask("/prompt")
        return classify(Answer(reply.url, reply.status, reply.headers, reply.body)).kind is Kind.OPEN

    def _refuse(self) -> NoReturn:
        """The instance refused what cannot be renewed. If it let us in before, it may again, in a while."""
        if self.worked or self._remembered:
            self._failure = self._expired("is not accepted any more")
            self._failure_ends = asyncio.get_running_loop().time() + _PAUSE
        else:
            what = what_was_given(self._credential, self._way.auth) or f"the login ({self.scheme})"
            self._failure = LoginRefused(f"{self.base.origin()} did not accept {what}", hint=SPELLING)
        raise self._failure

    def _expired(self, what: str) -> CredentialsExpired:
        return CredentialsExpired(
            f"{self.base.origin()}: the login ({self.scheme or 'none'}) {what}",
            hint=f"log in again: comfyclient login {self.base}",
        )

    def _raise_failure(self) -> None:
        """A credential that was wrong is not sent again: that costs the server time, and may lock out."""
        if self._failure is not None and asyncio.get_running_loop().time() >= self._failure_ends:
            self._failure, self._failure_ends = None, math.inf
        if self._failure is not None:
            raise type(self._failure)(self._failure.message, hint=self._failure.hint)

    async def _log_in_once(self) -> None:
        """Log in, or wait for the login that is under way."""
        if self._login is None:
            self._login = asyncio.create_task(self._log_in(), name="comfyclient-login")
            self._login.add_done_callback(self._logged_in)
        login = self._login
        try:
            await asyncio.shield(login)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if login.cancelled() and not (task is not None and task.cancelling()):
                raise ConfigError("the client was closed", hint="close it when no call waits any more") from None
            raise

    def _logged_in(self, login: asyncio.Task[None]) -> None:
        self._login = None
        if not login.cancelled():
            _ = login.exception()  # noqa: LOG004 - a task; who waits for it hears of it, and perhaps nobody does

    async def _log_in(self) -> None:
        if self._entered:
            if await self._still_in():
                return
            if not self._can_renew():
                self._refuse()
            _log.info("%s: the login has expired; logging in anew", self.base.origin())
        elif self._remembered and self.base.scheme == "http" and not is_loopback(self.base):
            await self._revisit()
            return
        await self._log_in_from(self.base)

    async def _log_in_from(self, base: URL) -> None:
        renewal = self._entered
        self._refuse_too_many()
        entrance = Entrance(
            self._transport,
            base,
            given=self._given,
            credential=self._credential,
            user=self._user,
            claim=self._claim,
        )
        try:
            await entrance.pass_through()
        except AuthError as error:
            self._count()
            wrong = isinstance(error, LoginRefused)
            if wrong or entrance.tried:
                gone = renewal and self.worked and wrong
                self._failure = self._expired("is not accepted any more") if gone else error
                self._raise_failure()
            raise
        self._count()
        self._way, self.kind = entrance.way, entrance.kind
        self._entered, self._remembered = True, False
        self.generation += renewal

    def _count(self) -> None:
        self._tries.append(asyncio.get_running_loop().time())

    def _refuse_too_many(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._tries and now - self._tries[0] > _WINDOW:
            self._tries.popleft()
        if len(self._tries) >= _TRIES:
            raise self._expired(f"was tried {_TRIES} times within {_WINDOW / 60:.0f} minutes, and does not last")
