"""Fills in the login form that a browser shows, once, and tells what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from comfyclient.auth.browser.forms import fill, find, page_text, send, web_url
from comfyclient.auth.browser.guard import Guard, Traffic
from comfyclient.auth.forms import is_comfyui_login, is_unclaimed
from comfyclient.errors import AuthError, LoginRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.async_api import BrowserContext, Page
    from yarl import URL

    from comfyclient._redact import Secret
    from comfyclient.auth.browser.forms import Form

__all__ = ["Failure", "Typist"]

_BY_HAND: Final = "log in by hand: `comfyclient login URL --browser`"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a login cannot go on by itself. ``final``: nor by a person."""

    error: AuthError
    final: bool = False


class Typist:
    """See the module. Nothing is typed or sent a second time, whatever the page shows.

    Args:
        context: The browser.
        username: What to type where a user name is asked for.
        password: What to type where a password is.
        belongs: Whether the password may go to a url.
        origin: Of the instance, for messages.
    """

    def __init__(
        self,
        context: BrowserContext,
        username: str | None,
        password: Secret,
        belongs: Callable[[URL], bool],
        origin: str,
    ) -> None:
        self._context = context
        self._username = username
        self._password = password
        self._belongs = belongs
        self._origin = origin
        self._traffic = Traffic(context, belongs)
        self._guard = Guard(password, belongs)
        self._sent: set[str] = set()

    @property
    def unheard(self) -> bool:
        """Whether the password was sent, and the page stayed."""
        return "password" in self._sent and not (self._traffic.navigated or self._traffic.fault)

    async def watch(self, page: Page) -> None:
        """Guard a page, before it loads anything."""
        await self._guard.watch(page)

    async def close(self) -> None:
        """End what is under way."""
        await self._guard.close()

    async def act(self) -> Failure | None:
        """Do what is to be done now, if anything; a failure counts if the instance refuses all the same."""
        if self._guard.stopped is not None:
            return Failure(self._elsewhere("sends the password on to", self._guard.stopped, "sent"), final=True)
        form = await self._find()
        if form is None:
            return self._nothing_to_fill()
        if form.step in self._sent or (form.step == "username" and "password" in self._sent):
            return self._asked_again(form)
        if form.step == "username" and self._username is None:
            return None
        return await self._enter(form)

    async def _find(self) -> Form | None:
        """The first login form on pages of hosts that the password belongs to, in frames of such hosts."""
        from playwright.async_api import Error

        for page in self._context.pages:
            if not self._is_ours(page.url):
                continue
            try:
                await self._guard.watch(page)
            except Error:  # it was closed
                continue
            for frame in page.frames:
                form = await find(frame) if self._is_ours(frame.url) else None
                if form is not None and self._belongs(form.origin):
                    return form
        return None

    async def _enter(self, form: Form) -> Failure | None:
        if form.action is not None and not (form.action.host and self._belongs(form.action)):
            return Failure(self._elsewhere("has a login form for", form.action, "typed"))
        whole = form.step == "password"
        page = await page_text(form)
        if page is None:  # it changes; the next look sees what is there then
            return None
        if whole and is_comfyui_login(page) and is_unclaimed(page):
            return Failure(_unclaimed(self._origin))
        if not await fill(form, self._username, self._password.reveal() if whole else None):
            return None
        self._traffic.mark()
        outcome = await send(form)
        if outcome == "changed":
            return None
        self._sent.add(form.step)
        return None if outcome == "sent" else Failure(self._unsendable())

    def _asked_again(self, form: Form) -> Failure | None:
        if not self._traffic.at_rest or form.step not in self._sent:
            return None
        if not self._traffic.sent:
            return Failure(self._unsendable())
        if self._traffic.fault is not None:
            return Failure(self._faulty())
        if "password" not in self._sent:
            return Failure(AuthError(f"{self._origin}: the login page does not go on to a password", hint=_BY_HAND))
        return Failure(
            LoginRefused(
                f"{self._origin}: the login page asks for the password again: it, or the user name, is wrong",
                hint=f"is it spelled right? if the page wants more than that, {_BY_HAND}",
            )
        )

    def _nothing_to_fill(self) -> Failure | None:
        if not self._traffic.at_rest:
            return None
        if self._sent and self._traffic.fault is not None:
            return Failure(self._faulty())
        if "password" in self._sent and self._traffic.rejected is not None:
            kind = LoginRefused if self._traffic.rejected == 401 else AuthError
            what = f"the login page does not take the login (HTTP {self._traffic.rejected})"
            return Failure(kind(f"{self._origin}: {what}", hint=f"is it spelled right? else {_BY_HAND}"))
        return self._abroad()

    def _abroad(self) -> Failure | None:
        """Whether all that the browser shows belongs to somebody else."""
        places = [url for page in self._context.pages if (url := web_url(page.url))]
        if not places or any(self._belongs(url) for url in places):
            return None
        return Failure(self._elsewhere("leads to a login page at", places[-1], "typed"))

    def _faulty(self) -> AuthError:
        return AuthError(f"{self._origin}: the login page cannot log in now ({self._traffic.fault})")

    def _elsewhere(self, what: str, where: URL, done: str) -> AuthError:
        host = where.raw_host or "an address that cannot be read"
        return AuthError(
            f"{self._origin} {what} {host}; nothing was {done} there",
            hint=f"if the password is for that host too, say so with --allow-host HOST; else {_BY_HAND}",
        )

    def _unsendable(self) -> AuthError:
        return AuthError(
            f"{self._origin}: the login page does not send its form with user name and password alone", hint=_BY_HAND
        )

    def _is_ours(self, text: str) -> bool:
        url = web_url(text)
        return url is not None and self._belongs(url)


def _unclaimed(origin: str) -> AuthError:
    return AuthError(
        f"{origin}: this ComfyUI-Login has no password yet; the first one that is sent becomes it",
        hint="if the server is yours, `comfyclient login URL --claim` sets it",
    )
