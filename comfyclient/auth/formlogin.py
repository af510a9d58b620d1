"""Logging in by an HTML form, as a browser without scripts would: ComfyUI-Login, and any plain login page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from yarl import URL

from comfyclient._redact import Secret
from comfyclient.auth.address import same_origin
from comfyclient.auth.forms import find_login_form, is_comfyui_login, is_unclaimed
from comfyclient.auth.schemes import Auth, check_text
from comfyclient.errors import AuthError, InstanceUnavailable, LoginRefused

if TYPE_CHECKING:
    from comfyclient._transport import Reply
    from comfyclient.auth.detect import Verdict
    from comfyclient.auth.forms import LoginForm
    from comfyclient.auth.schemes import Door

__all__ = ["FormLogin"]

_HOPS: Final = 5
_BCRYPT: Final = 72  # bytes that it looks at; ComfyUI-Login answers 500 to more
_HTML: Final = {"Accept": "text/html,application/xhtml+xml"}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class FormLogin(Auth):
    """User name and password in a login page's form; the session is a cookie.

    Args:
        username: Left out where the form has no such field.
        password: The password.
        page: The path of the login page; by default the one that the instance leads to.
        claim: Whether a ComfyUI-Login that has no password yet gets this one. Whoever sends the first owns the server.
    """

    name = "login form"
    renewable = True

    def __init__(self, username: str | None, password: str, *, page: str | None = None, claim: bool = False) -> None:
        check_text((username or "") + password)
        self._username = username or ""
        self._password = Secret(password)
        self._page = page
        self._claim = claim

    def adapted(self, verdict: Verdict) -> Auth:
        """See `Auth.adapted`."""
        where = verdict.location
        if self._page is not None or where is None:
            return self
        return FormLogin(self._username, self._password.reveal(), page=str(where), claim=self._claim)

    async def login(self, door: Door) -> None:
        """See `Auth.login`."""
        url, reply = await _follow(door, door.base.joinpath("") if self._page is None else self._page)
        if is_comfyui_login(reply.body):
            await self._comfyui_login(door, url, reply)
            return
        form = find_login_form(reply.body, url)
        if form is None:
            raise AuthError(
                f"no login form was found at {door.base.origin()}{url.path}",
                hint="a page that needs scripts needs --browser",
            )
        await self._submit(door, url, form)

    async def _submit(self, door: Door, url: URL, form: LoginForm) -> None:
        if not same_origin(form.action, door.base):
            raise AuthError(
                f"the login form at {door.base.origin()} sends the password to {form.action.raw_host}; it was not sent",
                hint="log in there by hand: --browser",
            )
        if form.method != "post":
            raise AuthError(f"the login form at {door.base.origin()} puts the password into its url; it was not sent")
        fields = dict(form.fields)
        if form.username is not None:
            fields[form.username] = self._username
        fields[form.password] = self._password.reveal()
        await _follow(door, form.action, fields, referer=url)

    async def _comfyui_login(self, door: Door, url: URL, reply: Reply) -> None:
        origin = door.base.origin()
        if is_unclaimed(reply.body) and not self._claim:
            raise AuthError(
                f"{origin}: this ComfyUI-Login has no password yet; the first one that is sent becomes it",
                hint="if the server is yours, `comfyclient login URL --claim` sets it",
            )
        if len(self._password.reveal().encode()) > _BCRYPT:
            raise LoginRefused(f"{origin}: ComfyUI-Login takes no password of more than {_BCRYPT} bytes")
        body = urlencode({"username": self._username, "password": self._password.reveal()}).encode()
        headers = {**_HTML, "Content-Type": "application/x-www-form-urlencoded"}
        reply = await door.send("POST", url.with_query(None), headers=headers, data=body)
        if "wrong_password" in reply.headers.get("Location", ""):
            raise LoginRefused(f"{origin}: ComfyUI-Login says that the password is wrong", hint="is it spelled right?")
        _refuse_trouble(door, reply)
        if reply.status not in _REDIRECTS | {200}:
            raise AuthError(f"{origin}: the login page answered HTTP {reply.status}")
        self.sure = reply.status in _REDIRECTS


async def _follow(
    door: Door, start: URL | str, fields: dict[str, str] | None = None, *, referer: URL | None = None
) -> tuple[URL, Reply]:
    """Ask for a page, or send a form, and follow the redirects that stay within the origin.

    Raises:
        AuthError: They lead elsewhere, or never end.
    """
    url = start if isinstance(start, URL) else door.base.join(URL(start))
    headers, data = dict(_HTML), None
    if fields is not None:
        data = urlencode(fields).encode()
        headers |= {"Content-Type": "application/x-www-form-urlencoded"}
    if referer is not None:  # some frameworks compare it before they take a form
        headers["Referer"] = str(referer.with_query(None).with_fragment(None))
    for _ in range(_HOPS):
        reply = await door.send("GET" if data is None else "POST", url, headers=headers, data=data)
        if fields is None or data is not None:  # what comes after the form is ComfyUI's
            _refuse_trouble(door, reply)
        if reply.status not in _REDIRECTS:
            return url, reply
        if data is not None and reply.status in {307, 308}:
            raise AuthError(f"the login at {door.base.origin()} redirects the password; it was not sent on")
        try:
            url = _target(door, url, reply.headers.get("Location", ""))
        except AuthError:
            if fields is None:
                raise
            return url, reply  # the form was sent; what lies behind it may be anywhere
        data = None
        headers = dict(_HTML)
    raise AuthError(f"the login page at {door.base.origin()} redirects without end")


def _refuse_trouble(door: Door, reply: Reply) -> None:
    """A login that fails for a moment says nothing about the password."""
    if reply.status == 429 or reply.status >= 500:
        raise InstanceUnavailable(
            f"{door.base.origin()}: the login answered HTTP {reply.status}", hint="try again in a moment"
        )


def _target(door: Door, url: URL, location: str) -> URL:
    try:
        target = url.join(URL(location))
        here = same_origin(target, door.base)
        if target.scheme not in {"http", "https"} or not target.raw_host:
            raise ValueError("no page")
    except ValueError:
        raise AuthError(f"the login page at {door.base.origin()} redirects to an unreadable address") from None
    if not here:
        raise AuthError(
            f"{door.base.origin()} leads to a login page at {target.raw_host}; nothing was sent there",
            hint="log in there by hand: `comfyclient login URL --browser`",
        )
    return target.with_user(None)
