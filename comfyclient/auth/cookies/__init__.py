"""The cookies of one instance, kept and sent back as they came.

RFC 6265 says what a ``Set-Cookie`` line means. Three things differ, because logins in front of ComfyUI need it:

* A jar belongs to one origin, port included. On a shared machine the next port is somebody else's instance, and
  the RFC would hand it our session. ``Domain`` can only refuse a cookie here, never widen it.
* A value is kept verbatim: quotes, commas, spaces and bytes that are no ASCII. Portals compare it as a string.
* As in its successor (rfc6265bis), control characters refuse a line, and names that start with ``__Host-`` or
  ``__Secure-`` promise what they say.

What no encoding takes: aiohttp reads headers as UTF-8 and makes a lone surrogate of each byte that is none. Such texts
stay as they are here. The bytes to send are ``header.encode("utf-8", "surrogateescape")``, which never fails here.

* websockets writes headers as Latin-1. It sends exactly these bytes when it is given
  ``header.encode("utf-8", "surrogateescape").decode("latin-1")``; given the header itself, it sends wrong bytes, or
  raises an error that holds the header, for what Latin-1 has not.
* aiohttp sends UTF-8 as it is, and has no way for other bytes: its compiled writer leaves the surrogates out without
  a word, and its Python writer raises an error that holds the whole header. So what ``header.encode()`` refuses
  must not be given to it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from comfyclient.auth.cookies.cookie import Cookie, is_alive, is_plain, path_matches, wants_https
from comfyclient.auth.cookies.cookietext import read_netscape, read_pasted
from comfyclient.auth.cookies.setcookie import parse_set_cookie

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from yarl import URL

__all__ = ["Cookie", "CookieJar", "parse_set_cookie", "read_netscape", "read_pasted"]

_MAX_COOKIES: Final = 100
_WEB: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class CookieJar:
    """The cookies of one origin: scheme, host and port. ``ws`` counts as ``http``, and ``wss`` as ``https``.

    Cookies of one name and path replace each other: all belong to one host, so no third part tells them apart.
    It holds 100; more push the oldest out.

    Args:
        origin: Any url of the origin.
        cookies: What it holds at first.

    Raises:
        ValueError: The url has another scheme, or no host.
    """

    def __init__(self, origin: URL, cookies: Iterable[Cookie] = ()) -> None:
        key = _key(origin)
        if key is None:
            raise ValueError("cookies belong to an http or https url with a host")
        self._key = key
        bare = origin.origin().with_scheme(key[0])
        self._origin = bare.with_port(None) if bare.is_default_port() else bare
        self._cookies: dict[tuple[str, str], Cookie] = {}
        for cookie in cookies:
            self.add(cookie)

    @property
    def origin(self) -> URL:
        """Where the cookies belong: scheme (http or https), host and port."""
        return self._origin

    @property
    def names(self) -> list[str]:
        """The names of the cookies, the oldest first; one that is there for two paths comes twice."""
        return [cookie.name for cookie in self]

    def absorb(self, set_cookie: Iterable[str], *, url: URL, now: float) -> bool:
        """Take the ``Set-Cookie`` lines of an answer; those that are wrong, or not for this host, change nothing.

        Args:
            set_cookie: The values of the headers, one line each, as the server sent them.
            url: What answered. What another origin sends is left alone.
            now: Unix seconds.

        Returns:
            Whether the jar holds anything else than before; a new expiry counts.
        """
        if _key(url) != self._key:
            return False
        before = self._cookies
        self._cookies = {key: cookie for key, cookie in before.items() if is_alive(cookie, now)}
        for text in set_cookie:
            cookie = parse_set_cookie(text, url=url, now=now)
            if cookie and is_alive(cookie, now):
                self.add(cookie)
            elif cookie:
                self._cookies.pop((cookie.name, cookie.path), None)
        return self._cookies != before

    def header(self, url: URL, *, now: float) -> str | None:
        """The value of the ``Cookie`` header for a request; None where there is nothing to send.

        Longest path first, then oldest first (RFC 6265 5.4). The module's docstring says how what is no UTF-8 is sent.
        """
        cookies = [cookie for cookie in self._matching(url, now) if not (wants_https(cookie) and is_plain(url))]
        cookies.sort(key=lambda cookie: -len(cookie.path))
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies) or None

    def withheld(self, url: URL, *, now: float) -> list[str]:
        """The names of cookies that would go there, were it not plain http: why a login does not hold."""
        return [cookie.name for cookie in self._matching(url, now) if wants_https(cookie) and is_plain(url)]

    def add(self, cookie: Cookie) -> None:
        """Put a cookie in, in place of the one with its name and path."""
        self._cookies[cookie.name, cookie.path] = cookie
        if len(self._cookies) > _MAX_COOKIES:
            del self._cookies[next(iter(self._cookies))]

    def clear(self) -> None:
        """Forget them all."""
        self._cookies.clear()

    def to_json(self) -> list[dict[str, Any]]:
        """What `from_json` reads. It holds the secrets."""
        return [dataclasses.asdict(cookie) for cookie in self]

    @classmethod
    def from_json(cls, origin: URL, data: object) -> CookieJar:
        """A jar with what `to_json` gave.

        Raises:
            ValueError: The data is no such thing. The message does not hold any of it.
        """
        if not isinstance(data, list):
            raise ValueError("stored cookies are a list")  # noqa: TRY004 - what was read is wrong
        return cls(origin, map(_from_json, data))

    def __len__(self) -> int:
        return len(self._cookies)

    def __iter__(self) -> Iterator[Cookie]:
        return iter(list(self._cookies.values()))

    def __repr__(self) -> str:
        return f"CookieJar({str(self._origin)!r}, {len(self)} cookies)"

    def _matching(self, url: URL, now: float) -> list[Cookie]:
        if _key(url) != self._key:
            return []
        return [cookie for cookie in self if is_alive(cookie, now) and path_matches(url.raw_path, cookie.path)]


def _key(url: URL) -> tuple[str, str, int] | None:
    """What tells origins apart; None for a url that has none."""
    if url.scheme not in _WEB or not url.raw_host or url.port is None:
        return None
    return _WEB[url.scheme], url.raw_host.lower(), url.port


def _from_json(item: object) -> Cookie:
    if not isinstance(item, dict):
        raise ValueError("a stored cookie is an object")  # noqa: TRY004 - what was read is wrong
    name, value, path = item.get("name"), item.get("value"), item.get("path", "/")
    expires, secure = item.get("expires"), item.get("secure", False)
    if not (isinstance(name, str) and isinstance(value, str) and isinstance(path, str) and isinstance(secure, bool)):
        raise ValueError("a stored cookie lacks a part, or holds something else there")  # noqa: TRY004 - as above
    if expires is not None and (isinstance(expires, bool) or not isinstance(expires, int | float)):
        raise ValueError("a stored cookie's expiry is no number")
    return Cookie(name, value, path, expires, secure)
