"""A small application behind the guard, on a real server: what comes through is written down."""

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from comfyclient.api.guard import Guard
from comfyclient.api.keys import ApiKeys
from comfyclient.api.protocol import protocol_for
from comfyclient.api.settings import ApiSettings, Limits

KEY = "a-key-of-alice-0123456789"
OTHER_KEY = "a-key-of-bob-0123456789"
KEYS = {"alice": KEY, "bob": OTHER_KEY}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@dataclass
class Guarded:
    """Attributes: ``reached``: what came through, as (method, path, owner, bytes of its body)."""

    port: int
    settings: ApiSettings
    reached: list = field(default_factory=list)
    cut_off: asyncio.Event = field(default_factory=asyncio.Event)
    draining: bool = False
    guard: Guard | None = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options):
        return httpx.AsyncClient(base_url=self.url, trust_env=False, **options)

    def app(self):
        async def answer(request):
            size = 0
            try:
                async for part in request.stream():
                    size += len(part)
            except ClientDisconnect:
                self.cut_off.set()
                raise
            owner = request.state.owner if hasattr(request.state, "owner") else None
            self.reached.append((request.method, request.url.path, owner, size))
            return JSONResponse({"owner": owner, "size": size})

        async def unread(request):
            self.reached.append((request.method, request.url.path, request.state.owner, None))
            return JSONResponse({"read": False})

        async def stream(websocket):
            await websocket.accept()
            self.reached.append(("WEBSOCKET", websocket.url.path, websocket.state.owner, 0))
            await websocket.send_text(websocket.state.owner)
            await websocket.close()

        return Starlette(
            routes=[
                Route("/unread/files", unread, methods=["POST"]),
                WebSocketRoute("/{path:path}", stream),
                Route("/{path:path}", answer, methods=METHODS),
            ]
        )


class _Server(uvicorn.Server):
    def __init__(self, config):
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self):
        """They are for whoever runs the tests."""
        yield

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.up.set()


@contextlib.asynccontextmanager
async def guarded(*, keys=None, limits=None, **settings):
    """The application, for the time of an ``async with``."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = ApiSettings(keys=ApiKeys.of(keys or {}), limits=limits or Limits(), **settings)
        rig = Guarded(listening.getsockname()[1], made)
        rig.guard = Guard(rig.app(), made, port=lambda: rig.port, draining=lambda: rig.draining)
        config = uvicorn.Config(
            rig.guard, http=protocol_for(made.limits.head_seconds), log_config=None, lifespan="off", access_log=False
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await server.up.wait()
            yield rig
        finally:
            server.should_exit = True
            await task


@dataclass
class Answered:
    """An answer as it came over the wire."""

    status: int
    headers: dict
    body: bytes

    @property
    def code(self):
        return json.loads(self.body)["code"]


async def raw(rig, *pieces, endless=None, drip=None):
    """Send bytes as they are, and read the answer.

    Args:
        rig: The server.
        pieces: What to send.
        endless: What to send after that over and over, until the server answers.
        drip: The same, with a pause after each.
    """
    async with _connection(rig) as (reader, writer):
        answered = asyncio.create_task(_answer(reader))
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            while (endless or drip) and not answered.done():
                writer.write(endless or drip)
                await writer.drain()
                await asyncio.wait([answered], timeout=0.02 if drip else 0)
        return await answered


async def pipelined(rig, data, *, count):
    """Send several requests at once, and read the answers to them."""
    async with _connection(rig) as (reader, writer):
        writer.write(data)
        return [await _answer(reader) for _ in range(count)]


@contextlib.asynccontextmanager
async def _connection(rig):
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    try:
        async with asyncio.timeout(30):  # a server that never answers must not hold up all tests
            yield reader, writer
    finally:
        writer.transport.abort()


async def _answer(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    lines = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in lines}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answered(int(head[0].split()[1]), headers, body)


def request(rig, method="GET", path="/session/status", *, host=None, headers=()):
    """The head of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{rig.port}'}", *headers, "", ""]
    return "\r\n".join(lines).encode()
