"""HTTP itself: one connection pool, deadlines, bounded bodies, no redirects, TLS; no credentials.

This is the border where errors are translated. Nothing above it sees an exception of aiohttp, and no message holds a
URL's user info or query.
"""

from __future__ import annotations

import base64
import contextlib
import os
import ssl
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from comfyclient import _bigjson, _json
from comfyclient._sockets import factory
from comfyclient._version import __version__
from comfyclient.addresses import refused
from comfyclient.auth.tls import FingerprintMismatch
from comfyclient.errors import (
    AddressRefused,
    CertificateUntrusted,
    ComfyClientError,
    ConfigError,
    InstanceUnavailable,
    NotComfyUI,
    ProtocolError,
)
from comfyclient.wire.limits import ANSWER_MOST, is_dense

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from multidict import CIMultiDictProxy
    from yarl import URL

    from comfyclient.addresses import AddressPolicy
    from comfyclient.auth.tls import TLS

__all__ = ["USER_AGENT", "NeverSentError", "Reply", "Transport", "explodes", "idle_timeout", "is_transfer"]

USER_AGENT: Final = f"comfyclient/{__version__}"

_CONNECT_TIMEOUT: Final = 10.0
_ERROR_CAP: Final = 1 * 2**20
_SURE: Final = 8 * 2**20
_RATIO: Final = 300


class NeverSentError(InstanceUnavailable):
    """There was no connection, so the request never left: it is safe to send it again."""


class _RefusedCertificateError(CertificateUntrusted, NeverSentError):
    pass


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read to its end. ``request`` names it in messages: ``"GET /queue"``."""

    request: str
    url: URL
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            NotComfyUI: It is a web page.
            ProtocolError: It is not JSON, or JSON that takes too much memory.
        """
        self._refuse_dense()
        try:
            return _json.loads(self.body)
        except _json.JSONError:
            raise self._no_json() from None

    async def parsed(self) -> Any:
        """The same, for what may be large: everything else goes on meanwhile."""
        self._refuse_dense()
        try:
            return await _bigjson.loads(self.body)
        except _json.JSONError:
            raise self._no_json() from None

    def json_or_none(self) -> Any:
        """The body as JSON, or ``None``; for bodies of errors."""
        if is_dense(self.body):
            return None
        try:
            return _json.loads(self.body)
        except _json.JSONError:
            return None

    def _refuse_dense(self) -> None:
        if is_dense(self.body):
            raise ProtocolError(f"{self.request}: the answer is of brackets only, and would take too much memory")

    def _no_json(self) -> ComfyClientError:
        if "html" in self.headers.get("Content-Type", "") or self.body.lstrip()[:1] == b"<":
            return NotComfyUI(
                f"{self.request}: the answer is a web page, not ComfyUI's JSON",
                hint="is the url that of ComfyUI itself? a login page in front of it looks like this too",
            )
        return ProtocolError(f"{self.request}: the answer is not JSON")


class Transport:
    """A pool of connections. Create and close it inside the same event loop.

    Args:
        timeout: Bounds every request that brings no other, in seconds.
        trust_env: Whether proxies that the environment names are used. ``.netrc`` never is.
        tls: Which certificates are trusted; ``None`` for those that the system trusts.
        addresses: Which addresses may be connected to; ``None``: any.

    Raises:
        ConfigError: Proxies are used, and addresses judged: a proxy connects to what it likes.
    """

    def __init__(
        self,
        *,
        timeout: float,
        trust_env: bool = False,
        tls: TLS | None = None,
        addresses: AddressPolicy | None = None,
    ) -> None:
        if trust_env and addresses is not None:
            raise ConfigError("addresses cannot be judged behind the environment's proxies: trust_env excludes it")
        self.timeout = timeout
        self.trust_env = trust_env
        self.addresses = addresses
        self._context = tls.context() if tls is not None else None
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """What the websocket must use as well; ``None`` for the system's."""
        return self._context

    @contextlib.asynccontextmanager
    async def send(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str],
        data: Any = None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - the library's, not a wait of ours
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and hand over the answer unread. Errors while it is read are translated as well.

        Raises:
            NeverSentError: No connection.
            AddressRefused: There must be none.
            InstanceUnavailable: It broke, or no answer came in time. The request may have been acted upon.
            ProtocolError: The answer is no HTTP.
        """
        try:
            async with self._open().request(
                method,
                url,
                data=data,
                headers=headers,
                timeout=timeout or aiohttp.ClientTimeout(total=self.timeout, sock_connect=_CONNECT_TIMEOUT),
                allow_redirects=False,
                **self._proxy(url),
            ) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:
            if self.addresses is not None and isinstance(error, aiohttp.InvalidURL):
                raise refused() from None  # an address in other words: 0xa9fea9fe, 2852039166
            raise _translated(error, str(url.origin()), f"{method} {url.path}") from None

    async def close(self) -> None:
        """Close every connection. There will be no other."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _proxy(self, url: URL) -> dict[str, Any]:
        """The proxy that the environment names; no login of ``.netrc``, which aiohttp would add."""
        if not self.trust_env or urllib.request.proxy_bypass(url.host or ""):
            return {}
        found = urllib.request.getproxies().get(url.scheme)
        if not found:
            return {}
        try:
            proxy = type(url)(found if "://" in found else f"http://{found}")
            bare = proxy.with_user(None)
        except (ValueError, IndexError):
            raise ConfigError(f"the environment's proxy for {url.scheme} cannot be read") from None
        if bare.scheme not in {"http", "https"} or not bare.raw_host:
            raise ConfigError(f"the environment's proxy for {url.scheme} is none that speaks HTTP")
        if not proxy.user:
            return {"proxy": bare}
        login = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
        return {"proxy": bare, "proxy_headers": {"Proxy-Authorization": f"Basic {login}"}}

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ConfigError("the client is closed", hint="make a new ComfyClient, or do this before it is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # `Http` counts: what waits in here cannot be told from what was sent
                    ssl=self._context if self._context is not None else True,
                    socket_factory=factory(self.addresses) if self.addresses is not None else None,
                ),
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip, deflate",
                },
                cookie_jar=aiohttp.DummyCookieJar(),  # cookies belong to logins, which send their own
            )
        return self._session


async def read_reply(response: aiohttp.ClientResponse, request: str, url: URL, cap: int = ANSWER_MOST) -> Reply:
    """Read an answer to its end.

    Raises:
        ProtocolError: It is larger than ``cap`` bytes. That of an error is cut instead: its status says what matters.
    """
    if response.status < 400:
        body = await _read(response, cap, request)
    else:  # a refused prompt is answered with all choices of every wrong input
        body = await _read_some(response, cap if response.status == 400 else _ERROR_CAP)
    return Reply(request, url, response.status, response.headers, body)


async def _read(response: aiohttp.ClientResponse, cap: int, request: str) -> bytes:
    """The decoded body. A small compressed body may be a huge one: count while reading."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > cap:
            raise ProtocolError(f"{request}: the answer is larger than {cap // 2**20} MiB")
        if explodes(response, size):
            raise ProtocolError(f"{request}: the answer is a small one that grows without end when it is unpacked")
        parts.append(part)
    return b"".join(parts)


async def _read_some(response: aiohttp.ClientResponse, cap: int) -> bytes:
    """The decoded body up to ``cap`` bytes, or as far as it came."""
    body = bytearray()
    with contextlib.suppress(aiohttp.ClientPayloadError):
        async for part in response.content.iter_any():
            body += part
            if len(body) >= cap or explodes(response, len(body)):
                break
    return bytes(body[:cap])


def explodes(response: aiohttp.ClientResponse, size: int) -> bool:
    """Whether a compressed body grew to ``size`` as nothing useful does: a queue of equal prompts shrinks to a 70th."""
    return size > _SURE and size > _RATIO * response.content.total_raw_bytes


def _translated(error: Exception, origin: str, request: str) -> ComfyClientError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return _untrusted(getattr(error, "certificate_error", error), origin)
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return NeverSentError(f"cannot connect to {origin}: no TLS there", hint="does the url need http, not https?")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NeverSentError(f"cannot connect to {origin}: no such host", hint="is the host's name right?")
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, AddressRefused):
            return AddressRefused(error.os_error.message, hint=error.os_error.hint)
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


def _untrusted(error: BaseException, origin: str) -> CertificateUntrusted:
    if isinstance(error, FingerprintMismatch):
        return _RefusedCertificateError(
            f"cannot connect to {origin}: its certificate is not the pinned one; it has {error.seen}",
            fingerprint=error.seen,
            hint="if the instance was set up anew, log in to it again; if not, somebody may be in between",
        )
    reason = getattr(error, "verify_message", "") or "it cannot be verified"
    return _RefusedCertificateError(
        f"cannot connect to {origin}: its certificate is not trusted ({reason})",
        hint="`comfyclient login URL` shows its fingerprint and can trust it; or give --tls-fingerprint or --ca-file",
    )


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else "no connection"


def idle_timeout(seconds: float) -> aiohttp.ClientTimeout:
    """For transfers: no bound on the whole, but on every silence."""
    return aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=seconds)


def is_transfer(timeout: aiohttp.ClientTimeout | None) -> bool:
    """Whether what is bounded so is a transfer: it may take hours."""
    return timeout is not None and timeout.total is None
