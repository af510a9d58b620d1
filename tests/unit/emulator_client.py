"""A small client for tests of the emulator: its own loop, raw HTTP, frames as they come."""

import asyncio
import contextlib
import json
import logging

import aiohttp

from comfyclient.emulator import Emulator


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def picture(colour=1, **more):
    """A prompt that saves a picture of one colour."""
    inputs = {"width": 8, "height": 8, "batch_size": 1, "color": colour} | more
    return {"1": node("EmptyImage", **inputs), "2": node("SaveImage", images=["1", 0], filename_prefix="x")}


def txt2img(seed=1, text="a fox", size=(64, 48), steps=4, **more):
    """The usual text to image prompt, with models that nobody has."""
    return {
        "4": node("CheckpointLoaderSimple", ckpt_name="anything.safetensors"),
        "5": node("EmptyLatentImage", width=size[0], height=size[1], batch_size=1) | more.pop("latent", {}),
        "6": node("CLIPTextEncode", text=text, clip=["4", 1]),
        "7": node("CLIPTextEncode", text="", clip=["4", 1]),
        "3": node(
            "KSampler",
            model=["4", 0],
            seed=seed,
            steps=steps,
            cfg=8.0,
            sampler_name="euler",
            scheduler="normal",
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
            denoise=1.0,
        ),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="t2i"),
    } | more


class Client:
    def __init__(self, emulator, session):
        self.emulator = emulator
        self.session = session

    async def call(self, method, path, **options):
        async with self.session.request(method, f"{self.emulator.url}{path}", **options) as response:
            data = await response.read()
            try:
                return response.status, json.loads(data)
            except ValueError:
                return response.status, data

    async def get(self, path):
        return (await self.call("GET", path))[1]

    async def submit(self, prompt, **more):
        status, answer = await self.call("POST", "/prompt", json={"prompt": prompt} | more)
        assert status == 200, answer
        return answer["prompt_id"]

    async def ended(self, prompt_id):
        """The history entry, as soon as there is one."""
        async with asyncio.timeout(20):
            while not (found := await self.get(f"/history/{prompt_id}")):
                pass
        return found[prompt_id]

    async def run(self, prompt, **more):
        return await self.ended(await self.submit(prompt, **more))

    async def bytes_of(self, item):
        query = {"filename": item["filename"], "subfolder": item["subfolder"], "type": item["type"]}
        async with self.session.get(f"{self.emulator.url}/view", params=query) as response:
            assert response.status == 200
            return await response.read()

    @contextlib.asynccontextmanager
    async def socket(self, client_id, *, flags=True):
        """A websocket and the list that its frames go to."""
        url = f"{self.emulator.url}/ws?clientId={client_id}"
        async with self.session.ws_connect(url, max_msg_size=0) as ws:
            listener = Listener(ws)
            if flags:
                await ws.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
                await listener.until("feature_flags")
            yield listener
            await ws.close()
            await listener.reader


class Listener:
    def __init__(self, ws):
        self.ws = ws
        self.frames = []
        self.news = asyncio.Condition()
        self.reader = asyncio.create_task(self._read())
        self.closed = False

    async def _read(self):
        async for message in self.ws:
            frame = json.loads(message.data) if isinstance(message.data, str) else message.data
            async with self.news:
                self.frames.append(frame)
                self.news.notify_all()
        async with self.news:
            self.closed = True
            self.news.notify_all()

    def types(self):
        return [frame["type"] if isinstance(frame, dict) else int.from_bytes(frame[:4]) for frame in self.frames]

    async def until(self, wanted, **data):
        """Wait for a message of that type with these data."""

        def there():
            return any(
                isinstance(frame, dict) and frame["type"] == wanted and data.items() <= frame["data"].items()
                for frame in self.frames
            )

        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(there)

    async def until_done(self, prompt_id):
        await self.until("executing", node=None, prompt_id=prompt_id)

    async def until_closed(self):
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: self.closed)


async def until(there, seconds=30):
    """Let the emulator, which runs in the same event loop, go on turn by turn until something is so."""
    async with asyncio.timeout(seconds):
        while not there():  # noqa: ASYNC110 - nothing there sets an event
            await asyncio.sleep(0)


class Crashes(logging.Handler):
    """Collects what aiohttp logs when a handler of the emulator raises by mistake."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.found = []

    def emit(self, record):
        self.found.append(self.format(record))


@contextlib.asynccontextmanager
async def emulated(**options):
    """A running emulator and a client for it. No handler of the emulator may crash meanwhile, nor its worker."""
    crashes, logs = Crashes(), [logging.getLogger(name) for name in ("aiohttp.server", "comfyclient.emulator.core")]
    for log in logs:
        log.addHandler(crashes)
    try:
        async with Emulator(**options) as emulator, aiohttp.ClientSession() as session:
            yield Client(emulator, session)
    finally:
        for log in logs:
            log.removeHandler(crashes)
    assert crashes.found == []
