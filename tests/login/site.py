"""A small real web server that remembers who asked it for what."""

import asyncio
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDict


@dataclass
class Seen:
    """One request.

    ``target`` is the path and query, undecoded; ``status`` is ``None`` until the answer ends; ``passed`` says that a
    gateway let it through.
    """

    method: str
    target: str
    headers: CIMultiDict
    body: bytes = b""
    status: int | None = None
    passed: bool = False

    @property
    def path(self):
        """Without the query, still encoded."""
        return self.target.partition("?")[0]


class Site:
    """Answers for the time of an ``async with``; on its own, with ``{}`` to everything.

    Args:
        host: The address to listen on.
        ssl_context: Serve https with it.
        prefix: The path under which all of it is; elsewhere is 404.
        server: The ``Server`` header of all answers; by default that of aiohttp.

    Attributes:
        url: Where it listens, prefix included, without a trailing slash.
        requests: All requests, as `Seen`, in their order, prefix not included.
    """

    def __init__(self, *, host="127.0.0.1", ssl_context=None, prefix="", server=None):
        self.host = host
        self.prefix = prefix
        self.server = server
        self.requests = []
        self._ssl_context = ssl_context
        self._rules = []
        self._changed = asyncio.Condition()

    async def __aenter__(self):
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(self._sign)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, 0, ssl_context=self._ssl_context).start()
        self.port = self._runner.addresses[0][1]
        self.url = f"{'https' if self._ssl_context else 'http'}://{self.host}:{self.port}{self.prefix}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    def answer(self, method, path, *, times=1, **response):
        """Answer the next requests for the path so, whoever asks: ``status=``, ``body=``, ``headers=``, …"""
        self._rules.append([method, path, times, response])

    def asked(self, method, prefix):
        """The requests whose path begins so."""
        return [seen for seen in self.requests if seen.method == method and seen.path.startswith(prefix)]

    async def until(self, condition):
        """Wait until ``condition()`` holds. It is asked again at every request and answer."""
        async with self._changed:
            await self._changed.wait_for(condition)

    def target(self, request):
        """The path and query, undecoded, without the prefix."""
        return request.raw_path.removeprefix(self.prefix)

    async def respond(self, request, seen):
        """What to answer; for subclasses."""
        return web.json_response({})

    async def tell(self):
        """Have `until` look again."""
        async with self._changed:
            self._changed.notify_all()

    async def _handle(self, request):
        if not request.raw_path.startswith(f"{self.prefix}/"):
            return web.Response(status=404, text="outside the prefix")
        body = await request.read() if request.can_read_body else b""
        seen = Seen(request.method, self.target(request), CIMultiDict(request.headers), body)
        self.requests.append(seen)
        await self.tell()
        response = self._ruled(seen) or await self.respond(request, seen)
        seen.status = response.status
        await self.tell()
        return response

    def _ruled(self, seen):
        for rule in self._rules:
            if rule[:2] == [seen.method, seen.path] and rule[2] > 0:
                rule[2] -= 1
                return web.Response(**rule[3])
        return None

    async def _sign(self, request, response):
        if self.server is not None:
            response.headers["Server"] = self.server
