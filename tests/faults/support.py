"""Servers and clients of the plainest kind, to see what a proxy does to them."""

import asyncio
import contextlib

from aiohttp import web


class Side:
    """One end of a connection: what it received, and how that ended (``"eof"``, ``"reset"`` or not yet)."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.received = b""
        self.ended = None
        self.over = asyncio.Event()

    async def send(self, *pieces):
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def until(self, size):
        """Read until so many bytes were received."""
        while len(self.received) < size:
            self.received += await self._some()

    async def to_end(self):
        """Read all, and return it."""
        try:
            while data := await self._some():
                self.received += data
            self.ended = "eof"
        except ConnectionResetError:
            self.ended = "reset"
        self.over.set()
        return self.received

    async def _some(self):
        return await self.reader.read(2**16)

    async def close(self):
        self.writer.close()
        with contextlib.suppress(ConnectionError):  # how it ended is known
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def raw_server(talk):
    """A server that calls ``talk(side)`` for each connection. Gives its url and the sides so far."""
    sides, tasks = [], set()

    async def connection(side):
        try:
            await talk(side)
        except ConnectionError:
            side.ended = side.ended or "reset"
        finally:
            side.over.set()
            await side.close()

    def connected(reader, writer):
        sides.append(Side(reader, writer))
        task = asyncio.create_task(connection(sides[-1]))
        tasks.add(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", sides
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@contextlib.asynccontextmanager
async def raw_client(url):
    """A connection to a proxy or server."""
    _, _, address = url.partition("//")
    host, _, port = address.partition(":")
    side = Side(*await asyncio.open_connection(host, int(port.partition("/")[0])))
    try:
        yield side
    finally:
        await side.close()


def listener(answer=b""):
    """For `raw_server`: read to the end, then answer."""

    async def talk(side):
        await side.to_end()
        if answer:
            await side.send(answer)

    return talk


def answering(*answers):
    """For `raw_server`: one answer for each request, whose body, if any, ends with a full stop; then read on."""

    async def talk(side):
        for answer in answers:
            while not side.received.endswith(b"." if b"Content-Length" in side.received else b"\r\n\r\n"):
                data = await side.reader.read(2**16)
                if not data:
                    return
                side.received += data
            await side.send(answer)
            side.received += b"|"
        await side.to_end()

    return talk


class HttpServer:
    """A small aiohttp server: /echo, /size/N, /count and a websocket at /ws that says what it is told to.

    Attributes:
        requests: ``(method, path, body's size)`` of those that came whole.
        sockets: The websockets so far, open ones first to last.
    """

    def __init__(self):
        self.requests = []
        self.sockets = []
        self.heard = asyncio.Queue()

    async def __aenter__(self):
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    async def _handle(self, request):
        if request.path == "/ws":
            return await self._socket(request)
        size, kept = 0, bytearray()
        async for data in request.content.iter_chunked(2**16):
            size += len(data)
            if request.path.endswith(("/echo", "/prompt")):
                kept += data
        self.requests.append((request.method, request.path, size))
        if request.path.startswith("/size/"):
            return await self._stream(request, int(request.path.removeprefix("/size/")))
        if request.path.endswith("/prompt"):
            return web.json_response({"prompt_id": "of the server", "number": len(self.requests)})
        return web.Response(body=bytes(kept) if kept else f"answer {len(self.requests)}".encode())

    async def _stream(self, request, size):
        response = web.StreamResponse(headers={"Content-Length": str(size), "ETag": '"one"'})
        if "chunked" in request.query:
            del response.headers["Content-Length"]
            response.enable_chunked_encoding()
        await response.prepare(request)
        for start in range(0, size, 2**16):
            await response.write(bytes(min(2**16, size - start)))
        await response.write_eof()
        return response

    async def _socket(self, request):
        socket = web.WebSocketResponse(max_msg_size=0, compress=False)
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            self.heard.put_nowait(message.data)
        self.heard.put_nowait(("closed", socket.close_code))
        return socket


def request(method="GET", path="/", body=b"", **headers):
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def ok(body=b"", **headers):
    """The bytes of an answer."""
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
