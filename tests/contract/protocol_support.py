"""A client of the plainest kind, for tests of the protocol itself: raw HTTP and raw websocket frames."""

import asyncio
import itertools
import json
import random
import struct
import uuid
import zlib

import aiohttp
import pytest
from yarl import URL

COLOURS = itertools.count(random.randrange(1 << 23))
FOLDER = f"comfyclient-tests/{random.randrange(16**8):08x}"
PNG = b"\x89PNG\r\n\x1a\n"
TROUBLE = b"500 Internal Server Error\n\nServer got itself in trouble"


def empty_image(**inputs):
    """EmptyImage in a colour that nobody used before."""
    return {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": next(COLOURS) % (1 << 24)} | inputs,
    }


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def save(source="1", prefix="x"):
    return node("SaveImage", images=[source, 0], filename_prefix=f"{FOLDER}/{prefix}")


def preview(source="1"):
    return node("PreviewImage", images=[source, 0])


def chain(length=6, size=768):
    """A prompt that takes a while and reports no progress: one blur behind the other."""
    prompt = {"1": empty_image(width=size, height=size)}
    for n in range(10, 10 + length):
        source = "1" if n == 10 else str(n - 1)
        prompt[str(n)] = node("ImageBlur", image=[source, 0], blur_radius=31, sigma=1.0 + n / 2)
    return prompt | {"99": preview(str(9 + length))}


class Socket:
    """A websocket whose frames are collected as they come: text parsed, binary as it is."""

    def __init__(self, ws):
        self.ws = ws
        self.frames = []
        self.closed_with = None
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self):
        async for message in self.ws:
            if message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
                async with self._news:
                    self.frames.append(json.loads(message.data) if isinstance(message.data, str) else message.data)
                    self._news.notify_all()
        async with self._news:
            self.closed_with = self.ws.close_code
            self._news.notify_all()

    async def until(self, wanted, seconds=60):
        """Wait until ``wanted(frames)`` is true."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: wanted(self.frames))

    async def until_done(self, prompt_id):
        """Wait for the prompt's end marker, and return its own frames (those without a prompt id left out)."""
        await self.until(lambda frames: any(is_end(frame, prompt_id) for frame in frames))
        return self.of(prompt_id)

    def of(self, prompt_id):
        return [
            frame for frame in self.frames if isinstance(frame, dict) and frame["data"].get("prompt_id") == prompt_id
        ]

    def types(self):
        return [kind_of(frame) for frame in self.frames]

    async def until_closed(self):
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(lambda: self.closed_with is not None)
        return self.closed_with

    async def send(self, data):
        await self.ws.send_str(data if isinstance(data, str) else json.dumps(data))

    async def close(self):
        await self.ws.close()
        await self._reader


def is_end(frame, prompt_id):
    return isinstance(frame, dict) and frame == {"type": "executing", "data": {"node": None, "prompt_id": prompt_id}}


def kind_of(frame):
    """A frame's type: the text message's, or the number of the binary event."""
    return frame["type"] if isinstance(frame, dict) else struct.unpack(">I", frame[:4])[0]


def outline(frames):
    """What happened, in short: the types, with the node where there is one."""
    found = []
    for frame in frames:
        kind = kind_of(frame)
        data = frame["data"] if isinstance(frame, dict) else {}
        if kind == "progress_state":
            last = list(data["nodes"].values())[-1]
            found.append(("progress_state", last["node_id"], last["state"], last["value"], last["max"]))
        elif kind in {"executing", "executed", "progress"}:
            found.append((kind, data["node"]))
        else:
            found.append(kind)
    return found


class Server:
    """One server, spoken to without any help."""

    def __init__(self, url, session):
        self.url = url
        self.session = session
        self.sockets = []
        self._own = None

    async def socket(self, client_id=None, *, flags=True, path="/ws"):
        query = "" if client_id is None else f"?clientId={client_id}"
        socket = Socket(await self.session.ws_connect(f"{self.url}{path}{query}", max_msg_size=0))
        self.sockets.append(socket)
        await socket.until(lambda frames: frames)
        if flags:
            await socket.send({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
            await socket.until(lambda frames: any(kind_of(frame) == "feature_flags" for frame in frames))
        return socket

    async def call(self, method, path, **options):
        """Status, headers and body (as JSON if it is JSON, else bytes)."""
        async with self.session.request(method, URL(self.url + path, encoded=True), **options) as response:
            data = await response.read()
            try:
                body = json.loads(data)
            except ValueError:
                body = data
            return response.status, response.headers, body

    async def get(self, path, **options):
        return (await self.call("GET", path, **options))[2]

    async def post(self, path, body=None, **options):
        status, _, answer = await self.call("POST", path, json=body, **options)
        return status, answer

    async def submit(self, prompt, client_id=None, **more):
        """Queue a prompt that must be accepted; returns its id."""
        body = {"prompt": prompt} | ({"client_id": client_id} if client_id is not None else {}) | more
        status, answer = await self.post("/prompt", body)
        assert status == 200, answer
        return answer["prompt_id"]

    async def run(self, prompt, socket, **more):
        """Queue a prompt for the socket's client and wait for its end; its id and its frames."""
        sid = socket.frames[0]["data"]["sid"]
        prompt_id = await self.submit(prompt, sid, **more)
        return prompt_id, await socket.until_done(prompt_id)

    async def history(self, prompt_id):
        """The entry of a prompt that ended; waits for it."""
        async with asyncio.timeout(60):
            while not (found := await self.get(f"/history/{prompt_id}")):
                pass
        return found[prompt_id]

    async def outputs(self, prompt):
        """Run a prompt that must succeed; the outputs of its history entry."""
        if self._own is None:
            self._own = await self.socket(new_id())
        entry = await self.history((await self.run(prompt, self._own))[0])
        assert entry["status"]["status_str"] == "success", entry["status"]
        return entry["outputs"]

    async def upload(self, data, name, *, field="image", **fields):
        form = aiohttp.FormData(quote_fields=False)
        for key, value in fields.items():
            form.add_field(key, value)
        form.add_field(field, data, filename=name, content_type="image/png")
        status, _, body = await self.call("POST", "/upload/image", data=form)
        return status, body

    async def close(self):
        for socket in self.sockets:
            await socket.close()


def new_id():
    return str(uuid.uuid4())


def tiny_png(colour, size=(4, 3)):
    """A PNG of one colour, RGB or RGBA."""
    width, height = size
    kind = {3: 2, 4: 6}[len(colour)]

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = (b"\0" + bytes(colour) * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return PNG + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pixels_of(picture):
    """A Pillow picture's pixels, row by row, as tuples."""
    data, count = picture.tobytes(), len(picture.getbands())
    return [tuple(data[at : at + count]) for at in range(0, len(data), count)]


async def wait_for(socket, kind, **data):
    """Until a message of that type with these data has come."""
    await socket.until(
        lambda frames: any(
            kind_of(frame) == kind and isinstance(frame, dict) and data.items() <= frame["data"].items()
            for frame in frames
        )
    )


def errors_of(answer):
    """``{node: {(type, details), …}}`` of a refusal."""
    return {
        node_id: {(error["type"], error["details"]) for error in found["errors"]}
        for node_id, found in answer["node_errors"].items()
    }


@pytest.fixture
async def server(server_url):
    async with aiohttp.ClientSession() as session:
        found = Server(server_url, session)
        yield found
        await found.close()


@pytest.fixture
async def socket(server):
    return await server.socket(new_id())
