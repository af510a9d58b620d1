"""HTTP to one instance: deadlines, bounded bodies, no redirects, and one border where errors are translated.

Nothing above this module sees an exception of aiohttp, and no message holds a URL's user info or query.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from yarl import URL

from comfyclient import _json
from comfyclient._version import __version__
from comfyclient.auth import Auth, BasicAuth
from comfyclient.errors import (
    AuthRequired,
    ComfyClientError,
    ConfigError,
    InstanceUnavailable,
    NotComfyUI,
    ProtocolError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

__all__ = [
    "JSON_CAP",
    "USER_AGENT",
    "Http",
    "NeverSentError",
    "Reply",
    "idle_timeout",
    "parse_url",
    "refusal",
]

USER_AGENT: Final = f"comfyclient/{__version__}"
JSON_CAP: Final = 256 * 2**20
"""Bytes that a JSON answer may have when decoded. Whole queues with their workflows are large."""

_CONNECT_TIMEOUT: Final = 10.0
NO_LOGIN_YET: Final = "for basic auth write http://USER:PASSWORD@HOST; other logins are not supported yet"
_ERROR_CAP: Final = 1 * 2**20
_GATEWAY_STATUSES: Final = frozenset({502, 503, 504, *range(520, 531)})
_LABEL: Final = re.compile(r"[\w-]{1,63}", re.ASCII)  # underscores are common in names inside containers
_LOGIN_WORDS: Final = ("login", "signin", "sign_in", "sign-in", "auth", "sso", "cloudflareaccess")


class NeverSentError(InstanceUnavailable):
    """There was no connection, so the request never left: it is safe to send it again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read to its end. ``request`` names it in messages: ``"GET /queue"``."""

    request: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            NotComfyUI: It is a web page.
            ProtocolError: It is not JSON.
        """
        try:
            return _json.loads(self.body)
        except _json.JSONError:
            pass
        if "html" in self.headers.get("Content-Type", "") or self.body.lstrip()[:1] == b"<":
            raise NotComfyUI(
                f"{self.request}: the answer is a web page, not ComfyUI's JSON",
                hint="is the url that of ComfyUI itself? a login page in front of it looks like this too",
            )
        raise ProtocolError(f"{self.request}: the answer is not JSON")

    def json_or_none(self) -> Any:
        """The body as JSON, or ``None``; for bodies of errors."""
        try:
            return _json.loads(self.body)
        except _json.JSONError:
            return None


def parse_url(text: str) -> tuple[URL, Auth | None]:
    """Read the url of an instance, as a person types it.

    Returns:
        The base (scheme, host, port and a path prefix without its last slash), and the credential if the url
        held one.

    Raises:
        ConfigError: It is no such url.
    """
    example = "e.g. http://127.0.0.1:8188"
    if "://" not in text:
        raise ConfigError(f"the url needs a scheme, {example}")
    try:
        url = URL(text.strip())
        host, port = url.host, url.port
        _check_host(url)
    except ValueError:  # its subclass UnicodeError too
        raise ConfigError(f"the url cannot be read; it should look like http://host:port, {example}") from None
    if url.scheme not in {"http", "https"}:
        raise ConfigError(f"the url's scheme is {url.scheme!r}; it must be http or https, {example}")
    if not host or port is None:
        raise ConfigError(f"the url names no host, {example}")
    if url.query_string or url.fragment:
        raise ConfigError("the url must end before its '?' or '#'", hint="give the address of ComfyUI alone")
    auth = BasicAuth(url.user or "", url.password or "") if url.raw_user or url.raw_password else None
    base = URL.build(scheme=url.scheme, host=host, port=url.explicit_port, path=url.path.rstrip("/"))
    return base, auth


def _check_host(url: URL) -> None:
    """Refuse a host that no name server can be asked for: asking would end in errors of many kinds.

    Raises:
        ValueError: It is no host.
    """
    host = url.raw_host or ""
    if not host or ":" in host:  # none is told apart later; an IPv6 address was checked by yarl
        return
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("no host")


def refusal(reply: Reply) -> ComfyClientError:
    """The exception for an answer whose status is not the one that was hoped for."""
    where, status = reply.request, reply.status
    if 300 <= status < 400:
        return _redirected(reply)
    if status in {401, 403, 407}:
        return AuthRequired(f"{where}: the instance wants a login (HTTP {status})", hint=NO_LOGIN_YET)
    if status == 404:
        return NotComfyUI(
            f"{where}: something answers, but not as ComfyUI does (HTTP 404)",
            hint="is this ComfyUI's address? is it served under another path?",
        )
    if status == 413:
        return ProtocolError(f"{where}: the request is too large for the instance or a proxy before it (HTTP 413)")
    if status == 429:
        return InstanceUnavailable(f"{where}: too many requests (HTTP 429)", hint="wait, then try again")
    if status in _GATEWAY_STATUSES:
        return InstanceUnavailable(
            f"{where}: a proxy answers, ComfyUI behind it does not (HTTP {status})",
            hint="is ComfyUI still starting?",
        )
    return ProtocolError(f"{where}: the server answered HTTP {status}")


def _redirected(reply: Reply) -> ComfyClientError:
    try:
        target = URL(reply.headers.get("Location", ""))
        place = target.host or "itself"
        words = f"{target.host or ''}{target.path}".lower()
    except ValueError:
        place, words = "an unreadable address", ""
    if any(word in words for word in _LOGIN_WORDS):
        return AuthRequired(
            f"{reply.request}: the instance redirects to a login page at {place}",
            hint=NO_LOGIN_YET,
        )
    return ProtocolError(
        f"{reply.request}: the instance redirects to {place} (HTTP {reply.status}), which is not followed",
        hint="give the address that it redirects to; is it https instead of http?",
    )


class Http:
    """One session for all requests to one instance. Create and close it inside the same event loop.

    ``timeout`` bounds every call that is not a transfer, in seconds.
    """

    def __init__(self, base: URL, *, auth: Auth | None, timeout: float, trust_env: bool) -> None:
        self.base = base
        self.auth = auth
        self.timeout = timeout
        self.trust_env = trust_env
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def origin(self) -> str:
        """``"http://host:port"``: what credentials belong to, and how messages call the instance."""
        return str(self.base.origin())

    def url(self, path: str) -> URL:
        """The full URL of ``path`` ("/queue") below the prefix. ``path`` is already encoded."""
        return self.base.joinpath(path.lstrip("/"), encoded=True)

    async def headers(self) -> dict[str, str]:
        """What every request carries, the websocket's too."""
        return dict(await self.auth.headers(self.origin)) if self.auth is not None else {}

    async def get_json(self, path: str, *, params: Mapping[str, str] | None = None) -> Any:
        """GET JSON; any status but 200 raises."""
        return (await self.get(path, params=params)).json()

    async def get(self, path: str, *, params: Mapping[str, str] | None = None) -> Reply:
        """GET; any status but 200 raises."""
        reply = await self.request("GET", path, params=params)
        if reply.status != 200:
            raise refusal(reply)
        return reply

    async def command(self, path: str, body: Any) -> None:
        """POST a command that is answered without a body."""
        reply = await self.post(path, _json.dumps(body).encode())
        if reply.status != 200:
            raise refusal(reply)

    async def post(self, path: str, body: bytes) -> Reply:
        """POST JSON text; the caller judges the status."""
        return await self.request("POST", path, data=body, headers={"Content-Type": "application/json"})

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - the library's, not a wait of ours
        cap: int = JSON_CAP,
    ) -> Reply:
        """Send a request and read the answer to its end, whatever its status.

        Raises:
            NeverSentError: No connection.
            InstanceUnavailable: It broke, or no answer came in time. The request may have been acted upon.
            ProtocolError: The answer is no HTTP, or larger than ``cap`` bytes. That of an error is cut instead: its
                status says what matters.
        """
        async with self.stream(method, path, params=params, data=data, headers=headers, timeout=timeout) as response:
            if response.status < 400:
                body = await self._read(response, cap, f"{method} {path}")
            else:  # a refused prompt is answered with all choices of every wrong input
                body = await self._read_some(response, cap if response.status == 400 else _ERROR_CAP)
            return Reply(f"{method} {path}", response.status, response.headers, body)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - the library's, not a wait of ours
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and hand over the answer unread. Errors while it is read are translated as well."""
        url = self.url(path)
        if params:
            url = url.with_query(params)
        try:
            async with self._open().request(
                method,
                url,
                data=data,
                headers={**await self.headers(), **(headers or {})},
                timeout=timeout or aiohttp.ClientTimeout(total=self.timeout, sock_connect=_CONNECT_TIMEOUT),
                allow_redirects=False,
            ) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:
            raise _translated(error, self.origin, f"{method} {path}") from None

    async def close(self) -> None:
        """Close every connection. There will be no other."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ConfigError("the client is closed", hint="make a new ComfyClient, or do this before it is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip, deflate",
                },
                cookie_jar=aiohttp.DummyCookieJar(),  # cookies belong to logins, which send their own
                trust_env=self.trust_env,
            )
        return self._session

    @staticmethod
    async def _read(response: aiohttp.ClientResponse, cap: int, request: str) -> bytes:
        """The decoded body. A small compressed body may be a huge one: count while reading."""
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > cap:
                raise ProtocolError(f"{request}: the answer is larger than {cap // 2**20} MiB")
            parts.append(part)
        return b"".join(parts)

    @staticmethod
    async def _read_some(response: aiohttp.ClientResponse, cap: int) -> bytes:
        """The decoded body up to ``cap`` bytes, or as far as it came."""
        body = bytearray()
        with contextlib.suppress(aiohttp.ClientPayloadError):
            async for part in response.content.iter_any():
                body += part
                if len(body) >= cap:
                    break
        return bytes(body[:cap])


def _translated(error: Exception, origin: str, request: str) -> ComfyClientError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return NeverSentError(f"cannot connect to {origin}: its certificate cannot be verified")
    if isinstance(error, aiohttp.ClientConnectorSSLError | aiohttp.ServerFingerprintMismatch):
        return NeverSentError(f"cannot connect to {origin}: no TLS there", hint="does the url need http, not https?")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NeverSentError(f"cannot connect to {origin}: no such host", hint="is the host's name right?")
    if isinstance(error, aiohttp.ClientConnectorError):
        return NeverSentError(
            f"cannot connect to {origin}: {_reason(error.os_error)}",
            hint="is ComfyUI running there? is the port right? does it listen on that address (--listen)?",
        )
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return NeverSentError(f"cannot connect to {origin}: no answer", hint="is the address right, and reachable?")
    if isinstance(error, TimeoutError):
        return InstanceUnavailable(f"{request}: {origin} did not answer in time", hint="is the instance overloaded?")
    if isinstance(error, aiohttp.ClientResponseError):
        return NotComfyUI(f"{request}: {origin} does not speak HTTP", hint="is the port that of ComfyUI?")
    if isinstance(error, aiohttp.InvalidURL | UnicodeError):
        return ConfigError("the url cannot be requested", hint="is the host's name right?")
    return InstanceUnavailable(f"{request}: the connection to {origin} broke")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else "no connection"


def idle_timeout(seconds: float) -> aiohttp.ClientTimeout:
    """For transfers: no bound on the whole, but on every silence."""
    return aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=seconds)
