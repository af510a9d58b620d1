"""HTTP to one instance: the credential with every request, and one more login if it has expired.

Redirects are never followed: they may lead the credential to another host, and a POST that follows one becomes a GET.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from comfyclient import _json
from comfyclient._transport import (
    USER_AGENT,
    NeverSentError,
    Reply,
    Transport,
    explodes,
    idle_timeout,
    is_transfer,
    read_reply,
)
from comfyclient.auth.detect import Answer, classify, is_login_redirect, login_wanted
from comfyclient.auth.session import unusable
from comfyclient.errors import (
    AuthError,
    CertificateUntrusted,
    ComfyClientError,
    InstanceStarting,
    InstanceUnavailable,
    NotComfyUI,
    ProtocolError,
)
from comfyclient.wire.limits import answer_limit

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Mapping

    import aiohttp
    from yarl import URL

    from comfyclient.addresses import AddressPolicy
    from comfyclient.auth.session import Session

__all__ = ["USER_AGENT", "Http", "NeverSentError", "Reply", "explodes", "idle_timeout", "refusal"]

_GATEWAY_STATUSES: Final = frozenset({502, 503, 504, *range(520, 531)})
_CALLS: Final = 64  # at a time
_TRANSFERS: Final = 100
_PLACEHOLDER: Final = "X-Portal-Placeholder"  # vast.ai's portal answers so, also with 200, while ComfyUI is not up


class Http:
    """All requests to one instance, by one pool of connections and one login.

    Transfers have a share of the connections of their own: they may take hours, and no look at a job waits for them.
    """

    def __init__(self, transport: Transport, session: Session) -> None:
        self._transport = transport
        self.session = session
        self._calls = asyncio.Semaphore(_CALLS)
        self._transfers = asyncio.Semaphore(_TRANSFERS)

    @property
    def base(self) -> URL:
        """The instance's address."""
        return self.session.base

    @property
    def timeout(self) -> float:
        """Seconds that a call may take which is no transfer."""
        return self._transport.timeout

    @property
    def trust_env(self) -> bool:
        """Whether proxies named in the environment are used."""
        return self._transport.trust_env

    @property
    def addresses(self) -> AddressPolicy | None:
        """Which addresses may be connected to, for the websocket and transfers; ``None``: any."""
        return self._transport.addresses

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """Which certificates are trusted, for the websocket; ``None`` for the system's."""
        return self._transport.tls_context

    @property
    def origin(self) -> str:
        """``"http://host:port"``: what credentials belong to, and how messages call the instance."""
        return str(self.base.origin())

    def url(self, path: str, params: Mapping[str, str] | None = None) -> URL:
        """The full URL of ``path`` ("/queue") below the prefix. ``path`` is already encoded."""
        url = self.base.joinpath(path.lstrip("/"), encoded=True)
        return url.with_query(params) if params else url

    async def get_json(self, path: str, *, params: Mapping[str, str] | None = None) -> Any:
        """GET JSON; any status but 200 raises."""
        return await (await self.get(path, params=params)).parsed()

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
        data: bytes | Callable[[], Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - the library's, not a wait of ours
        cap: int | None = None,
        safe: bool = False,
    ) -> Reply:
        """Send a request and read the answer to its end, whatever its status.

        ``cap``: bytes that it may have, if they are not those of the endpoint.

        Raises:
            NeverSentError: No connection.
            InstanceUnavailable: It broke, or no answer came in time. The request may have been acted upon.
            ProtocolError: The answer is no HTTP, or larger than ``cap`` bytes. That of an error is cut instead: its
                status says what matters.
            AuthError: The instance does not let us in.
        """
        async with self.stream(
            method, path, params=params, data=data, headers=headers, timeout=timeout, safe=safe
        ) as response:
            most = answer_limit(method, path) if cap is None else cap
            return await read_reply(response, f"{method} {path}", self.url(path, params), most)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        data: bytes | Callable[[], Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - the library's, not a wait of ours
        safe: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and hand over the answer unread. Errors while it is read are translated as well.

        A request that only the login kept from ComfyUI is sent again after one more login. ``data`` that can be read
        only once is given as a function that makes it. ``safe``: doing it twice is harmless, as it is for every GET.
        """
        async with (
            self.transferring() if is_transfer(timeout) else self._calling(f"{method} {path}", timeout),
            self._sent(method, path, params, data, headers, timeout, safe=safe) as response,
        ):
            yield response

    @contextlib.asynccontextmanager
    async def transferring(self) -> AsyncIterator[None]:
        """For a transfer, which may have to wait for others."""
        async with self._transfers:
            yield

    @contextlib.asynccontextmanager
    async def _calling(self, request: str, timeout: aiohttp.ClientTimeout | None) -> AsyncIterator[None]:  # noqa: ASYNC109 - as above
        """For any other call.

        Raises:
            NeverSentError: Too many others are under way, and it was not sent.
        """
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout.total):
                await self._calls.acquire()
        except TimeoutError:
            raise NeverSentError(f"{request}: {_CALLS} other calls of ours wait for {self.origin}") from None
        try:
            yield
        finally:
            self._calls.release()

    @contextlib.asynccontextmanager
    async def _sent(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        data: bytes | Callable[[], Any] | None,
        headers: Mapping[str, str] | None,
        timeout: aiohttp.ClientTimeout | None,  # noqa: ASYNC109 - as above
        *,
        safe: bool,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        for again in (False, True):
            generation = await self._enter()
            url = self.url(path, params)
            sent = {**self.session.headers(url), **(headers or {})}
            body = data() if callable(data) else data
            async with self._transport.send(method, url, data=body, headers=sent, timeout=timeout) as response:
                self.session.absorb(url, response.headers, generation)
                if _PLACEHOLDER in response.headers:
                    raise InstanceStarting(f"{self.origin}: the proxy is there, ComfyUI behind it is not up")
                harmless = safe or method == "GET"
                if not await self._kept_out(url, response, generation, harmless=harmless):
                    yield response
                    return
                if again:
                    raise self.session.loop(url)
                if not await self._renewed(response, generation, harmless=harmless):
                    yield response
                    return

    async def close(self) -> None:
        """Close every connection. There will be no other."""
        try:
            await self.session.close()
        finally:
            await self._transport.close()

    async def _enter(self) -> int:
        """Log in if need be."""
        try:
            return await self.session.enter()
        except (InstanceStarting, CertificateUntrusted):
            raise
        except InstanceUnavailable as error:  # the request got no further than the login
            raise NeverSentError(error.message, hint=error.hint) from None

    async def _kept_out(self, url: URL, response: aiohttp.ClientResponse, generation: int, *, harmless: bool) -> bool:
        """Whether the answer looks like that of a login whose credential has expired.

        Raises:
            AuthError: There is no credential.
        """
        if not login_wanted(url, response.status, response.headers):
            self.session.worked |= response.status == 200
            return False
        if not self.session.active:
            if (response.status != 200 or harmless) and (error := await self.session.explain()) is not None:
                raise error
            return False
        # A web page in place of an answer may come from anywhere on the way back, and the request may have been acted
        # upon; if somebody else has logged in since, nobody can tell any more.
        return response.status != 200 or harmless or await self._enter() == generation

    async def _renewed(self, response: aiohttp.ClientResponse, generation: int, *, harmless: bool) -> bool:
        """Log in anew. ``False``: the login is good, and the answer, a web page, is not that of a login.

        Raises:
            AuthError: That is not possible; or the login is good, and the answer refuses this request all the same.
            NeverSentError: The instance cannot be asked, and the request was kept out.
            InstanceUnavailable: It cannot be asked.
        """
        try:
            if await self.session.renew(generation):
                return True
        except InstanceUnavailable as error:
            if response.status == 200 and not harmless:
                raise InstanceUnavailable(error.message, hint=error.hint) from None
            raise NeverSentError(error.message, hint=error.hint) from None
        if response.status == 200:
            return False
        raise AuthError(
            f"{self.origin} lets us in, and refuses this request all the same (HTTP {response.status})",
            hint=f"does something before it guard only a part of it? comfyclient doctor {self.base}",
        )


def refusal(reply: Reply) -> ComfyClientError:
    """The exception for an answer whose status is not the one that was hoped for."""
    where, status = reply.request, reply.status
    login = is_login_redirect(reply.url, reply.headers.get("Location", "")) if 300 <= status < 400 else False
    if login or status in {401, 403, 407}:
        verdict = classify(Answer(reply.url, status, reply.headers, reply.body))
        return unusable(verdict, reply.url.origin())
    if 300 <= status < 400:
        return _redirected(reply)
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
            hint="is ComfyUI still starting? --wait-ready SECONDS waits for it",
        )
    return ProtocolError(f"{where}: the server answered HTTP {status}")


def _redirected(reply: Reply) -> ComfyClientError:
    try:
        place = reply.url.join(type(reply.url)(reply.headers.get("Location", ""))).host or "itself"
    except ValueError:
        place = "an unreadable address"
    return ProtocolError(
        f"{reply.request}: the instance redirects to {place} (HTTP {reply.status}), which is not followed",
        hint="give the address that it redirects to; is it https instead of http?",
    )
