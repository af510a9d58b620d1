"""A small proxy between a client and a server, HTTP and websocket, that misbehaves where a test wants it to."""

import asyncio
import contextlib
from collections import Counter

import aiohttp
from aiohttp import web


class Proxy:
    """Forwards everything to ``upstream`` until told otherwise.

    Attributes:
        requests: How often each ``(method, path)`` was asked for.
        headers: The headers of the last request for each path.
        refuse_sockets: HTTP status for websocket handshakes, or ``None``.
        swallow: Called with each text frame for a client; ``True`` drops it.
        flowing: While it is cleared, frames for clients are held back.
    """

    def __init__(self, upstream, *, prefix=""):
        self.upstream = upstream
        self.prefix = prefix
        self.requests = Counter()
        self.headers = {}
        self.refuse_sockets = None
        self.swallow = lambda frame: False
        self._rules = []
        self._sockets = set()
        self._sockets_seen = 0
        self._opened = asyncio.Condition()
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def __aenter__(self):
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}{self.prefix}"
        self._session = aiohttp.ClientSession(auto_decompress=False)
        return self

    async def __aexit__(self, *_):
        self.drop_sockets()
        await self._runner.cleanup()
        await self._session.close()

    def answer(self, method, path, *, times=1, **response):
        """Answer the next requests so, without asking the server: ``status=``, ``body=``, ``headers=``, …"""
        self._rules.append([method, path, times, lambda: web.Response(**response)])

    def lose(self, method, path, *, times=1):
        """Pass the next requests on, and cut the connection in place of an answer."""
        self._rules.append([method, path, times, None])

    def drop_sockets(self):
        """Cut every websocket, without a close frame."""
        for transport in tuple(self._sockets):
            transport.abort()

    async def socket_opened(self, number):
        """Wait for the ``number``-th websocket."""
        async with self._opened:
            await self._opened.wait_for(lambda: self._sockets_seen >= number)

    def count(self, method, prefix):
        """Requests whose path begins so."""
        return sum(n for (verb, path), n in self.requests.items() if verb == method and path.startswith(prefix))

    async def _handle(self, request):
        path = "/" + request.match_info["path"]
        if not path.startswith(self.prefix):
            return web.Response(status=404, text="outside the prefix")
        path = path.removeprefix(self.prefix)
        self.requests[request.method, path] += 1
        self.headers[path] = request.headers.copy()
        rule = self._rule(request.method, path)
        if rule is not None and rule[3] is not None:
            return rule[3]()
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request, path)
        return await self._forward(request, path, lose=rule is not None)

    def _rule(self, method, path):
        for rule in self._rules:
            if rule[:2] == [method, path] and rule[2] > 0:
                rule[2] -= 1
                return rule
        return None

    async def _forward(self, request, path, *, lose):
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with self._session.request(
            request.method,
            f"{self.upstream}{path}",
            params=request.query,
            headers=headers,
            data=await request.read() if request.can_read_body else None,
            allow_redirects=False,
        ) as upstream:
            body = await upstream.read()
            if lose:
                request.transport.abort()
            skipped = {"transfer-encoding", "content-length", "connection"}
            kept = {name: value for name, value in upstream.headers.items() if name.lower() not in skipped}
            return web.Response(status=upstream.status, body=body, headers=kept)

    async def _socket(self, request, path):
        if self.refuse_sockets is not None:
            return web.Response(status=self.refuse_sockets)
        server = await self._session.ws_connect(f"{self.upstream}{path}", params=request.query, max_msg_size=0)
        client = web.WebSocketResponse(max_msg_size=0)
        await client.prepare(request)
        self._sockets.add(transport := request.transport)
        async with self._opened:
            self._sockets_seen += 1
            self._opened.notify_all()
        pumps = [asyncio.create_task(self._pump(client, server)), asyncio.create_task(self._pump(server, client))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._sockets.discard(transport)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            await server.close()
        return client

    async def _pump(self, source, target):
        to_client = isinstance(target, web.WebSocketResponse)
        with contextlib.suppress(ConnectionError):
            async for message in source:
                if to_client:
                    await self.flowing.wait()
                if message.type is aiohttp.WSMsgType.TEXT:
                    if not (to_client and self.swallow(message.data)):
                        await target.send_str(message.data)
                elif message.type is aiohttp.WSMsgType.BINARY:
                    await target.send_bytes(message.data)
