"""For tests of submissions: a clock that only waits move, a server's own count, a server that chooses the ids."""

import asyncio
import contextlib
import json
from types import SimpleNamespace

import aiohttp

from ..contract.prompts import picture  # noqa: TID252
from .events import Head, Part
from .http_toxics import HttpToxic, Lose, edit_head
from .toxics import Send


class Clock:
    """The clock of submissions. Nothing is waited for: each wait moves it on.

    Attributes:
        now: What it shows.
        waits: The waits so far.
        meanwhile: What happens during a wait, by its number from 0: a function without arguments.
    """

    def __init__(self):
        self.now = 1000.0
        self.waits = []
        self.meanwhile = {}

    def install(self, monkeypatch):
        """Take the place of the real one."""
        monkeypatch.setattr("comfyclient.queueing._now", lambda: self.now)
        monkeypatch.setattr("comfyclient.queueing._pause", self._pause)
        monkeypatch.setattr("comfyclient.queueing.time", SimpleNamespace(time=lambda: self.now))

    async def _pause(self, following, seconds):
        if seconds > 0:
            self.waits.append(seconds)
            self.now += seconds
            if happens := self.meanwhile.get(len(self.waits) - 1):
                await happens()


class Tally:
    """What a server itself has to say, asked without any proxy between."""

    def __init__(self, url):
        self._url = url

    async def __aenter__(self):
        self._session = aiohttp.ClientSession(self._url)
        self._first = await self._number()
        return self

    async def __aexit__(self, *_):
        await self._session.close()

    async def received(self):
        """How many POSTs to /prompt it has read, whatever became of them: it numbers them."""
        number = await self._number()
        received, self._first = number - self._first - 1, number
        return received

    async def entries(self, prompt_id):
        """How often it lists a job: waiting, running or ended."""
        queue = await self._json("/queue")
        waiting = sum(item[1] == prompt_id for items in queue.values() for item in items)
        return waiting + len(await self._json(f"/history/{prompt_id}"))

    async def send(self, body):
        """Post a prompt, as a proxy that held it back."""
        async with self._session.post("/prompt", json=body) as response:
            assert response.status == 200

    async def _number(self):
        async with self._session.post("/prompt", json={"prompt": picture().nodes}) as response:
            return (await response.json())["number"]

    async def _json(self, path):
        async with self._session.get(path) as response:
            return await response.json()


class WithoutId(HttpToxic):
    """The server gets the prompt without our id, and chooses one, as old servers do."""

    def begin(self):
        self.head, self.body = None, b""

    def request(self, event):
        if isinstance(event, Head):
            self.head = event
        elif event.part is Part.BODY:
            self.body += event.raw
        elif event.part is Part.END:
            body = json.loads(self.body)
            del body["prompt_id"]
            data = json.dumps(body).encode()
            return [Send(edit_head(self.head.raw, headers={"Content-Length": str(len(data))}) + data)]
        return []


class WithoutIdAndLost(WithoutId, Lose):
    """The same, and the answer gets lost."""

    how = "reset"


def following(client):
    """The ids of the jobs that a client follows."""
    return list(client._watcher._open)


def tasks():
    """The names of the client's tasks that run."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("comfyclient")]


@contextlib.asynccontextmanager
async def held_up(client, prompt):
    """Something that runs for a while, so that what comes behind it waits."""
    job = await client.submit(prompt)
    try:
        yield job
    finally:
        await job.cancel()
        await job.wait()
