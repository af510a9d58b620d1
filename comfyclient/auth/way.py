"""What lets requests in to one instance: its address, the headers of a scheme, and cookies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from comfyclient._redact import Secret
from comfyclient.auth.address import same_origin
from comfyclient.auth.cookies import CookieJar
from comfyclient.auth.detect import tunnel_headers
from comfyclient.auth.schemes import check_header
from comfyclient.errors import AuthError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from yarl import URL

    from comfyclient.auth.cookies import Cookie
    from comfyclient.auth.schemes import Auth

__all__ = ["Way"]

_REPLACED: Final = 16  # cookies that are masked though they are not in use any more


class Way:
    """The way in to one origin.

    Args:
        base: The instance's address.
        auth: The scheme, if there is one.
        user: The user of a server with several (``Comfy-User``); no secret.
        cookies: Those of an earlier login.
    """

    def __init__(
        self, base: URL, *, auth: Auth | None = None, user: str | None = None, cookies: Iterable[Cookie] = ()
    ) -> None:
        if user is not None:
            check_header(user)
        self.base = base
        self.auth = auth
        self._user = user
        self.cookies = CookieJar(base.origin(), cookies)
        self._masked: dict[str, Secret] = {}
        self._shown: dict[str, Secret] = {}
        self.mask()

    def headers(self, url: URL) -> dict[str, str]:
        """What a request to ``url`` carries: nothing if that is another origin."""
        if not same_origin(url, self.base):
            return {}
        headers = tunnel_headers(url.raw_host or "")
        if self._user is not None:
            headers["Comfy-User"] = self._user
        if self.auth is not None:
            own = self.auth.headers(url)
            headers |= own
            for value in own.values():  # a scheme of somebody's own may not have thought of it
                if value not in self._shown:
                    self._shown[value] = Secret(value)
        cookies = self.cookies.header(url, now=time.time())
        if cookies is not None:
            headers["Cookie"] = _sendable(cookies, self.base)
        return headers

    def absorb(self, url: URL, headers: Mapping[str, str]) -> None:
        """Keep the cookies of an answer."""
        if "Set-Cookie" not in headers:
            return
        values = headers.getall("Set-Cookie")  # type: ignore[attr-defined]
        if self.cookies.absorb(values, url=url, now=time.time()):
            self.mask()

    def withheld(self, url: URL) -> list[str]:
        """The cookies that are not sent because the url is plain http."""
        return self.cookies.withheld(url, now=time.time())

    def mask(self) -> None:
        """Cookies are secrets: those in use are masked in texts, and the last of those that others have replaced.

        A server may still repeat them, or take them.
        """
        for value in dict.fromkeys(cookie.value for cookie in self.cookies):
            self._masked[value] = self._masked.pop(value) if value in self._masked else Secret(value)
        for value in list(self._masked)[: -len(self.cookies) - _REPLACED]:
            del self._masked[value]


def _sendable(cookies: str, base: URL) -> str:
    """Refuse bytes that are no UTF-8: aiohttp leaves them out without a word, and the cookie would be another."""
    try:
        cookies.encode()
    except UnicodeEncodeError:
        raise AuthError(f"{base.origin()}: its cookie holds bytes that cannot be sent back") from None
    return cookies
