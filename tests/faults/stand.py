"""A server that a test may break: an emulator of its own, or a real ComfyUI that has `server_nodes.py`."""

import asyncio
import contextlib
import io
import json
import socket
import threading
import time
import uuid

import aiohttp
import pytest
from yarl import URL

from comfyclient.emulator import Emulator


class EmulatorStand:
    """An emulator with an event loop of its own, so that it can be held up.

    Attributes:
        url: Where it listens.
    """

    def __init__(self):
        self._emulator = Emulator()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    async def __aenter__(self):
        self._thread.start()
        await self._there(self._emulator.start())
        self.url = self._emulator.url
        return self

    async def __aexit__(self, *_):
        await self._there(self._emulator.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def _there(self, work):
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def hold(self, class_type):
        """Let the next node of that class run until the hold is released."""
        return _Hold(self._emulator.faults.hold(class_type))

    async def fail(self, class_type, kind):
        """Make nodes of that class raise, for lack of ``"memory"`` or for a ``"value"``."""
        no_memory = type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})
        self._emulator.faults.fail(class_type, no_memory("out of memory") if kind == "memory" else ValueError("bad"))

    async def wedge(self):
        """Let the worker die in the node that is held."""
        self._emulator.faults.wedge()

    async def restart(self):
        """Kill it and start it again."""
        self._emulator.faults.restart()
        self._emulator.faults.clear_nodes()

    async def block(self, seconds):
        """Let it answer nothing, and send nothing."""

        async def hold_up():
            time.sleep(seconds)  # noqa: ASYNC251 - that is the point

        await self._there(hold_up())

    async def stall_publisher(self):
        """Let a client that does not read hold up what is said to all others."""
        self._emulator.faults.stall_publisher()

    async def resume_publisher(self):
        """It is gone."""
        self._emulator.faults.resume_publisher()


class _Hold:
    def __init__(self, hold):
        self.reached = hold.reached
        self._release = hold.release

    async def release(self):
        """Let the node come to its end."""
        self._release()


class RealStand:
    """The same with a real ComfyUI."""

    def __init__(self, url):
        self.url = url
        self._dumb = None
        self._used = False

    async def __aenter__(self):
        self._session = aiohttp.ClientSession()
        if await self._boot() is None:
            await self._session.close()
            pytest.skip(f"the ComfyUI at {self.url} cannot be broken: tests/faults/server_nodes.py tells how")
        return self

    async def __aexit__(self, *_):
        await self.resume_publisher()
        await self._post("clear")
        if self._used:
            await self.restart()
        await self._session.close()

    async def hold(self, class_type):
        return _RealHold(self, (await self._post(f"hold/{class_type}"))["number"])

    async def fail(self, class_type, kind):
        await self._post(f"fail/{class_type}/{kind}")

    async def wedge(self):
        self._used = True
        await self._post("wedge")

    async def restart(self):
        self._used = False
        before = await self._boot()
        with contextlib.suppress(aiohttp.ClientError):
            await self._post("restart")
        while await self._boot() in {None, before}:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.1)

    async def block(self, seconds):
        await self._post(f"block/{seconds}")

    async def stall_publisher(self):
        client_id = str(uuid.uuid4())
        await self._open_dumb(client_id)
        show = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
        text = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": client_id * 2**19}}
        body = {"prompt": {"1": text, "2": show}, "client_id": client_id}
        data = io.BytesIO(json.dumps(body).encode())
        async with self._session.post(f"{self.url}/prompt", data=data) as response:
            prompt_id = (await response.json())["prompt_id"]
        while not await self._ended(prompt_id):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)

    async def resume_publisher(self):
        if self._dumb is not None:
            self._dumb.close()
            self._dumb = None

    async def _open_dumb(self, client_id):
        """A websocket that nobody ever reads."""
        url = URL(self.url)
        self._dumb = socket.socket()
        self._dumb.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.to_thread(self._dumb.connect, (url.host, url.port))
        head = f"GET /ws?clientId={client_id} HTTP/1.1\r\nHost: {url.authority}\r\nUpgrade: websocket\r\n"
        head += (
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await asyncio.to_thread(self._dumb.sendall, head.encode())
        assert (await asyncio.to_thread(self._dumb.recv, 12)).endswith(b" 101")

    async def _ended(self, prompt_id):
        async with self._session.get(f"{self.url}/history/{prompt_id}") as response:
            return bool(await response.json())

    async def _boot(self):
        """Which start of the server this is; ``None`` if it does not say so."""
        try:
            async with self._session.get(f"{self.url}/comfyclient-tests") as response:
                return (await response.json())["boot"] if response.status == 200 else None
        except aiohttp.ClientError:
            return None

    async def _post(self, path):
        async with self._session.post(f"{self.url}/comfyclient-tests/{path}") as response:
            response.raise_for_status()
            return await response.json()


class _RealHold:
    def __init__(self, stand, number):
        self._stand = stand
        self._number = number

    async def reached(self):
        url = f"{self._stand.url}/comfyclient-tests/hold/{self._number}"
        async with self._stand._session.get(url) as response:
            response.raise_for_status()

    async def release(self):
        await self._stand._post(f"release/{self._number}")
