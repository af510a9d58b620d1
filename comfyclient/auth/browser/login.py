"""Logging in with a browser, where a page needs one: single sign-on, scripts, whatever a person has to do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from comfyclient._redact import Secret
from comfyclient.auth.address import is_loopback, same_origin
from comfyclient.auth.browser.chromium import Chromium, Settings, network_error, translated
from comfyclient.auth.browser.forms import web_url
from comfyclient.auth.browser.publickey import public_key
from comfyclient.auth.browser.typist import Typist
from comfyclient.auth.cookies import Cookie
from comfyclient.auth.cookies.cookie import covers
from comfyclient.auth.detect import Answer, Kind, classify, tunnel_headers
from comfyclient.auth.schemes import Auth
from comfyclient.errors import AuthError, ConfigError, InstanceUnavailable, LoginRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from playwright.async_api import BrowserContext, Page

    from comfyclient.auth.schemes import Door

__all__ = ["BrowserLogin"]

_PACE: Final = 0.2  # seconds between looks at the browser
_CHECKS: Final = 2.0  # seconds between questions to the instance while the cookies stay the same
_LONGEST: Final = 200

_log = logging.getLogger("comfyclient.auth")


class BrowserLogin(Auth):
    """Log in with a Chromium of its own, and take its cookies. Needs ``comfyclient[browser]``.

    Without a password, a window opens in which a person logs in. With one, the browser has no window, and the form is
    filled in that the page shows, also in two steps or by scripts. It ends as soon as the instance lets its cookies in.
    It starts without history or cookies, keeps everything in memory, and leaves nothing behind.

    The password belongs to the instance: it is not typed into pages of other hosts, nor sent on to them, unless they
    are in ``allow_hosts``. A page that demands more than a password (a code, a captcha) needs a person.

    Chromium checks certificates by itself. A self-signed one needs ``fingerprint``, which makes it accept the key of
    that certificate (next to those that the system trusts), or, for a person, a click on its warning page.

    Args:
        username: Together with a password; left out where the form has no such field.
        password: Left out for a person to log in.
        headless: Without a window; by default if there is a password.
        executable_path: A Chromium, Chrome or Edge; by default that of ``$COMFYCLIENT_BROWSER``, then Playwright's own,
            then one on the path.
        timeout: Seconds until the login must be done.
        tls_insecure: Accept every certificate of every host. Whoever sits in between can read the password.
        fingerprint: ``"sha256:…"`` of the instance's certificate.
        allow_hosts: Names of other hosts that the password is for, with https; for example that of your single sign-on.
        page: The path of the login page, if the instance's first page does not lead there.

    Raises:
        ConfigError: The arguments do not fit together.
    """

    name = "browser"

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        *,
        headless: bool | None = None,
        executable_path: str | None = None,
        timeout: float = 300.0,
        tls_insecure: bool = False,
        fingerprint: str | None = None,
        allow_hosts: Iterable[str] = (),
        page: str | None = None,
    ) -> None:
        if username is not None and password is None:
            raise ConfigError("the browser login has a user name and no password", hint="give both, or neither")
        if password == "":
            raise ConfigError("the password is empty")
        if tls_insecure and fingerprint is not None:
            raise ConfigError("a TLS fingerprint and accepting any certificate exclude each other")
        self.renewable = password is not None
        self._plan = _Plan(
            username=username,
            password=Secret(password) if password is not None else None,
            headless=password is not None if headless is None else headless,
            timeout=timeout,
            hosts=frozenset(host.lower() for host in allow_hosts),
            page=page,
        )
        self._executable_path = executable_path
        self._tls_insecure = tls_insecure
        self._fingerprint = fingerprint
        self._refused: LoginRefused | None = None

    async def login(self, door: Door) -> None:
        """See `Auth.login`."""
        self.sure = False
        if self._refused is not None:  # it is not sent again: that may lock out
            raise LoginRefused(self._refused.message, hint=self._refused.hint)
        kept = list(door.cookies)
        try:
            if not await _lets_in(door):
                await self._browse(door, kept)
        except BaseException as error:
            _put(door, kept)
            if isinstance(error, LoginRefused):
                self._refused = LoginRefused(error.message, hint=error.hint)
            raise
        self.sure = True

    async def _browse(self, door: Door, kept: list[Cookie]) -> None:
        async with Chromium(await self._settings(door.base)) as context:
            with translated(f"{door.base.origin()}: the browser broke off the login"):
                await self._visit(door, context, kept)

    async def _visit(self, door: Door, context: BrowserContext, kept: list[Cookie]) -> None:
        visit = _Visit(door, context, kept, self._plan)
        try:
            async with asyncio.timeout(self._plan.timeout) as limit:
                await visit.run()
        except TimeoutError:
            if limit.expired():
                raise visit.too_late() from None
            raise
        finally:
            await visit.close()

    async def _settings(self, base: URL) -> Settings:
        key = None
        if self._fingerprint is not None and base.scheme == "https":
            key = await public_key(base, self._fingerprint)
        return Settings(
            headless=self._plan.headless,
            executable_path=self._executable_path,
            any_certificate=self._tls_insecure,
            public_key=key,
            service_workers=self._plan.password is None,  # what they send is not seen by the page's guard
            headers=tunnel_headers(base.host or ""),
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    username: str | None
    password: Secret | None
    headless: bool
    timeout: float
    hosts: frozenset[str]
    page: str | None


class _Visit:
    """The browser at the login page, until the instance lets its cookies in."""

    def __init__(self, door: Door, context: BrowserContext, kept: list[Cookie], plan: _Plan) -> None:
        self._door = door
        self._context = context
        self._kept = kept
        self._plan = plan
        self._typist = None
        if plan.password is not None:
            self._typist = Typist(context, plan.username, plan.password, self._belongs, str(door.base.origin()))
        self._tried: list[Cookie] = []
        self._check_at = 0.0
        self._trouble: InstanceUnavailable | None = None
        self._place = "an empty page"
        self._crashed = False

    async def run(self) -> None:
        """Open the page, and see the login to its end.

        Raises:
            AuthError: It comes to another one.
        """
        self._context.on("page", lambda page: page.on("crash", self._on_crash))
        await self._open()
        while True:
            gone = self._gone()
            if await self._admitted():
                return
            if gone is not None:
                raise AuthError(f"{self._origin}: {gone} before the instance let it in")
            failure = await self._typist.act() if self._typist is not None else None
            if failure is not None and (self._plan.headless or failure.final):
                if await self._admitted(now=True):  # it may have been a moment ago
                    return
                raise failure.error
            await asyncio.sleep(_PACE)

    async def close(self) -> None:
        """End what is under way."""
        if self._typist is not None:
            await self._typist.close()

    def too_late(self) -> AuthError | InstanceUnavailable:
        """The error for a login that takes too long."""
        if self._trouble is not None:
            return self._trouble
        within = f"within {self._plan.timeout:g} s; the browser was last at {self._place}"
        if self._typist is not None and self._typist.unheard:  # refused, as far as that can be told
            return LoginRefused(
                f"{self._origin}: the login page took the password, and nothing came of it {within}",
                hint="is it spelled right? if the page wants more, log in by hand: `comfyclient login URL --browser`",
            )
        return AuthError(
            f"{self._origin}: the login was not done {within}",
            hint="if that page says that you are in, it keeps the login elsewhere than in cookies"
            if self._typist is None
            else "log in by hand to see what the page wants: `comfyclient login URL --browser`",
        )

    async def _open(self) -> None:
        from playwright.async_api import Error

        page = await self._context.new_page()
        if self._typist is not None:
            await self._typist.watch(page)
        else:
            _log.info("%s: log in in the browser's window; it closes by itself", self._origin)
        path = (self._plan.page or "").lstrip("/")
        try:
            await page.goto(str(self._door.base.joinpath(path, encoded=True)), wait_until="commit", timeout=0)
        except Error as error:
            reason = network_error(error)
            if reason is None or reason == "ERR_ABORTED" or not self._plan.headless:
                return  # a page that leads on at once; and a person sees what it is
            raise AuthError(
                f"the browser cannot open {self._origin} ({reason})",
                hint="for a self-signed certificate, give its TLS fingerprint" if "CERT" in reason else None,
            ) from None

    async def _admitted(self, *, now: bool = False) -> bool:
        """Whether the instance lets the browser's cookies in. It is asked when they change, and now and then."""
        cookies = [one for found in await self._context.cookies() if (one := _cookie(found, self._door.base))]
        clock = asyncio.get_running_loop().time()
        if not cookies or (cookies == self._tried and clock < self._check_at and not now):
            return False
        self._tried, self._check_at = cookies, clock + _CHECKS
        _put(self._door, [*self._kept, *cookies])
        try:
            admitted = await _lets_in(self._door)
        except InstanceUnavailable as error:  # a moment without network ends no login that somebody is in the middle of
            self._trouble = error
            return False
        self._trouble = None
        return admitted

    def _gone(self) -> str | None:
        """Why there is nothing more to come; and remember where the browser is."""
        pages = self._context.pages
        if self._crashed:
            return "the browser's page crashed"
        if not pages:
            return "the browser's window was closed"
        self._place = _place(pages[-1])
        return None

    def _on_crash(self, _: Page) -> None:
        self._crashed = True

    def _belongs(self, url: URL) -> bool:
        """Whether the password may go there."""
        if same_origin(url, self._door.base):
            return True
        return (url.raw_host or "").lower() in self._plan.hosts and (url.scheme == "https" or is_loopback(url))

    @property
    def _origin(self) -> URL:
        return self._door.base.origin()


async def _lets_in(door: Door) -> bool:
    reply = await door.send("GET", "/prompt")
    verdict = classify(Answer(reply.url, reply.status, reply.headers, reply.body))
    return verdict.kind in {Kind.OPEN, Kind.STARTING}


def _put(door: Door, cookies: Iterable[Cookie]) -> None:
    door.cookies.clear()
    for cookie in cookies:
        door.cookies.add(cookie)


def _cookie(found: Mapping[str, Any], base: URL) -> Cookie | None:
    """A cookie of the browser as the instance's; ``None`` if it is of another host.

    Its path and ``Secure`` stay as they are: the jar minds them for each request.
    """
    domain = str(found["domain"])
    own = domain.strip("[]").lower() == (base.raw_host or "").lower()
    if not own and not (domain.startswith(".") and covers(domain, base)):
        return None
    expires = found["expires"]
    with contextlib.suppress(ValueError):  # browsers know cookies that no header can hold: without a name
        return Cookie(
            found["name"], found["value"], found["path"], expires if expires > 0 else None, bool(found["secure"])
        )
    return None


def _place(page: Page) -> str:
    """Host and path of a page: its query may hold secrets."""
    url = web_url(page.url)
    return f"{url.host}{url.raw_path}"[:_LONGEST] if url is not None else "an empty page"
