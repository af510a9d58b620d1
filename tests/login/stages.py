"""The client behind a login: what the tests of it share."""

import asyncio
import json

from aiohttp import web

from comfyclient import Prompt

from .gateway import Gateway
from .raw import exchange

SECONDS = 60  # for what would never come to an end if it were broken
POST_PROMPT = ("POST", "/prompt")
PAGE = "<html><head><title>Hello</title></head><body>A page of somebody's</body></html>"


async def build(serve, upstream, stack):
    """Servers one before the other, the innermost first; the last is the one that is asked."""
    servers = []
    for make in stack:
        servers.append(await serve(make(servers[-1].url if servers else upstream.url)))
    return servers


async def until(server, condition):
    """`Site.until`, which does not wait for ever."""
    async with asyncio.timeout(SECONDS):
        await server.until(condition)


async def all_of(*awaitables):
    """The results and errors of all, which do not wait for ever."""
    async with asyncio.timeout(SECONDS):
        return await asyncio.gather(*awaitables, return_exceptions=True)


async def meanwhile(server):
    """Give everybody the time in which some requests of somebody else are answered."""
    for _ in range(10):
        await exchange(server.url, "/somebody-else")


async def round_trip(comfy, emulator, folder):
    """What people do behind a login: upload, queue, listen, download."""
    uploaded = await comfy.upload((emulator.folders.input / "example.png").read_bytes(), name="mine.png")
    job = await comfy.queue(_remix(uploaded.value))
    assert comfy.connected
    (output,) = (await job.result(SECONDS)).outputs
    there = emulator.folders.output / output.subfolder / output.filename
    here = await output.save(folder / "got.png")
    assert here.read_bytes() == there.read_bytes() != b""


def _remix(name):
    return Prompt({
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "remix"}},
    })  # fmt: skip


def carrying(server, *names):
    """How many requests for something of ComfyUI had one of these headers. (Others only ask whose the login is.)"""
    asked = [seen for seen in server.requests if seen.path not in {"/login", "/ping", "/portal-resolver"}]
    return sum(any(name in seen.headers for name in names) for seen in asked)


def answered(server, method, path):
    """How many such requests have been answered."""
    return sum((seen.method, seen.path) == (method, path) and seen.status is not None for seen in server.requests)


def queued(server):
    """The ids of the prompts that got through, in their order: ComfyUI runs each as often as it gets it."""
    return [json.loads(seen.body)["prompt_id"] for seen in server.passed if (seen.method, seen.path) == POST_PROMPT]


class Stage:
    """Where requests wait until a test lets them go on.

    Attributes:
        waiting: How many have come here.
        go: Set it, and they go on; all later ones as well.
    """

    def __init__(self, matches, *, late):
        self.matches = matches
        self.late = late
        self.waiting = 0
        self.go = asyncio.Event()


class Staged(Gateway):
    """A mixin: what a test has to happen in a certain order waits for its turn.

    Attributes:
        instead: Requests, ``(method, path)``, that get through and are answered with a web page, with 200.
    """

    def __init__(self, upstream, **options):
        super().__init__(upstream, **options)
        self.instead = set()
        self._stages = []

    def hold(self, matches, *, late=False):
        """Hold requests back for which ``matches(seen)``: before it is decided what becomes of them, or refusals
        (``late``) that are not sent yet.
        """
        self._stages.append(stage := Stage(matches, late=late))
        return stage

    async def respond(self, request, seen):
        """See `Site.respond`."""
        await self._stand(seen, late=False)
        answer = await super().respond(request, seen)
        if not seen.passed:
            await self._stand(seen, late=True)
        return answer

    async def _stand(self, seen, *, late):
        for stage in self._stages:
            if stage.late is late and not stage.go.is_set() and stage.matches(seen):
                stage.waiting += 1
                await self.tell()
                await stage.go.wait()

    async def _stream(self, request, upstream):
        if (request.method, request.path) in self.instead:
            await upstream.read()
            return web.Response(text=PAGE, content_type="text/html")
        return await super()._stream(request, upstream)
