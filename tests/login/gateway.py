"""A reverse proxy with a door: what every stand-in for a login has in common."""

import asyncio
import contextlib
import io
import secrets
from http.cookies import CookieError, SimpleCookie

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from yarl import URL

from .site import Site

# Between two machines only; what remains is passed on as it is.
HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"})
ADDED_BY_AIOHTTP = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Gateway(Site):
    """Lets through to ``upstream`` who may pass: requests, downloads as they come, and websockets.

    Two of them, one before the other, are two logins in a row. Subclasses say who may pass (`admits`), what the others
    get (`refuse`) and which pages are the gateway's own (`own`).

    Args:
        upstream: The server behind it.
        cookie: The name of the session cookie.
        secure_cookie: Mark it ``Secure``, also over http, where no client sends such a cookie back.
        **options: See `Site`.

    Attributes:
        attempts: How many logins were tried.
        logins: How many of them were right.
        sessions: The values of the cookie that are good.
        revoked: Passwords, tokens and keys are no longer good.
        deaf: Logins are taken, and everything is refused all the same.
        login_gate: While it is cleared, logins wait.
    """

    def __init__(self, upstream, *, cookie="session", secure_cookie=False, **options):
        super().__init__(**options)
        self.upstream = upstream
        self.cookie = cookie
        self.secure_cookie = secure_cookie
        self.attempts = 0
        self.logins = 0
        self.sessions = set()
        self.revoked = False
        self.deaf = False
        self.login_gate = asyncio.Event()
        self.login_gate.set()
        self._sockets = set()
        self.sockets_seen = 0

    async def __aenter__(self):
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=ADDED_BY_AIOHTTP,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        try:
            return await super().__aenter__()
        except BaseException:
            await self._session.close()
            raise

    async def __aexit__(self, *_):
        self.drop_sockets()
        await super().__aexit__()
        await self._session.close()

    @property
    def passed(self):
        """The requests that reached the server behind."""
        return [seen for seen in self.requests if seen.passed]

    @property
    def refused(self):
        """The requests that the gateway answered itself."""
        return [seen for seen in self.requests if not seen.passed]

    def expire(self):
        """End all sessions. Open websockets stay open, as they do behind the originals."""
        self.sessions.clear()

    def drop_sockets(self):
        """Cut every websocket, without a close frame."""
        for transport in tuple(self._sockets):
            transport.abort()

    def admits(self, request):
        """Whether the request carries what it takes."""
        return self.session_of(request) in self.sessions

    def refuse(self, request):
        """The answer to one that does not."""
        return web.Response(status=401)

    async def own(self, request, body):
        """The answer of a page of the gateway's own; ``None`` for all others."""
        return

    def additions(self, request):
        """Headers to add to what comes from behind."""
        return ()

    def session_of(self, request):
        """The session cookie as it was sent, byte for byte; ``None`` without one."""
        return raw_cookies(request).get(self.cookie)

    async def logging_in(self, *, right):
        """Count a try, wait for the gate, and say whether it was right."""
        self.attempts += 1
        await self.tell()
        await self.login_gate.wait()
        self.logins += right
        await self.tell()
        return right

    def new_session(self):
        """A value for the cookie, with characters in it that some clients would quote."""
        value = f"{secrets.token_hex(16)}/+,=="
        self.sessions.add(value)
        return value

    def set_cookie(self, value):
        """The ``Set-Cookie`` header for it."""
        return "Set-Cookie", f"{self.cookie}={value}; Path=/; HttpOnly; SameSite=Lax{'; Secure' * self.secure_cookie}"

    async def respond(self, request, seen):
        """See `Site.respond`."""
        if (own := await self.own(request, seen.body)) is not None:
            return own
        if self.deaf or not self.admits(request):
            return self.refuse(request)
        seen.passed = True
        if is_websocket(request):
            return await self._socket(request)
        return await self._forward(request, seen.body)

    def _there(self, request):
        return URL(self.upstream.rstrip("/") + self.target(request), encoded=True)

    async def _forward(self, request, body):
        skipped = HOP | {"host", "content-length"}
        headers = CIMultiDict((n, v) for n, v in request.headers.items() if n.lower() not in skipped)
        data = io.BytesIO(body) if body else None
        asked = self._session.request(
            request.method, self._there(request), headers=headers, data=data, allow_redirects=False
        )
        try:
            async with asked as upstream:
                return await self._stream(request, upstream)
        except aiohttp.ClientConnectorError:
            return web.Response(status=502, text="<title>502 Bad Gateway</title>", content_type="text/html")
        except aiohttp.ClientError:
            return _cut(request)

    async def _stream(self, request, upstream):
        kept = [(name, value) for name, value in upstream.headers.items() if name.lower() not in HOP]
        response = web.StreamResponse(status=upstream.status, headers=CIMultiDict([*kept, *self.additions(request)]))
        await response.prepare(request)
        async for piece in upstream.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response

    async def _socket(self, request):
        uri = str(self._there(request).with_scheme("wss" if self.upstream.startswith("https") else "ws"))
        try:
            server = await _Direct(uri, **_socket_options(request))
        except InvalidStatus as refused:
            return _passed_on(refused.response)
        except OSError:
            return web.Response(status=502)
        async with server:
            return await self._pump_both(request, server)

    async def _pump_both(self, request, server):
        client = web.WebSocketResponse(max_msg_size=0)
        client.headers.extend(self.additions(request))
        await client.prepare(request)
        self._sockets.add(transport := request.transport)
        self.sockets_seen += 1
        await self.tell()
        pumps = [asyncio.create_task(_up(client, server)), asyncio.create_task(_down(server, client))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if server.close_code not in (None, 1006):
                await client.close(code=server.close_code)
        finally:
            self._sockets.discard(transport)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        if server.close_code == 1006:
            transport.abort()
        return client


class _Direct(connect):
    """A websocket that follows no redirect: the client is to see it."""

    def process_redirect(self, exc):
        return exc


def _socket_options(request):
    skipped = HOP | {"host", "user-agent"}
    headers = [
        (name, value)
        for name, value in request.headers.items()
        if name.lower() not in skipped and not name.lower().startswith("sec-websocket-")
    ]
    return {
        "additional_headers": headers,
        "user_agent_header": request.headers.get("User-Agent"),
        "compression": None,
        "max_size": None,
        "ping_interval": None,
        "proxy": None,
    }


def _passed_on(response):
    kept = CIMultiDict((n, v) for n, v in response.headers.raw_items() if n.lower() not in HOP | {"content-length"})
    return web.Response(status=response.status_code, headers=kept, body=response.body)


async def _up(client, server):
    with contextlib.suppress(ConnectionClosed):
        async for message in client:
            await server.send(message.data)


async def _down(server, client):
    with contextlib.suppress(ConnectionClosed, ConnectionError):
        async for message in server:
            await (client.send_str(message) if isinstance(message, str) else client.send_bytes(message))


def _cut(request):
    """What was begun behind was not finished: neither is this."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


def is_websocket(request):
    """Whether it asks for one."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


def wants_html(request):
    """Whether it says so, as a browser does."""
    return "text/html" in request.headers.get("Accept", "")


def raw_cookies(request):
    """Name to value of the ``Cookie`` header, values as they were sent."""
    pairs = [pair.strip().partition("=") for pair in ";".join(request.headers.getall("Cookie", [])).split(";")]
    return {name: value for name, _, value in pairs if name}


def read_cookies(request):
    """The same, as servers read them that take quotes off."""
    read = SimpleCookie()
    with contextlib.suppress(CookieError):
        read.load(";".join(request.headers.getall("Cookie", [])))
    return {name: morsel.value for name, morsel in read.items()}
