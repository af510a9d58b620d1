"""A whole visit of the client to an instance, and what it said there, as a wire tap has it."""

import asyncio
import itertools
import random
from dataclasses import dataclass

import pytest
from multidict import CIMultiDict

from comfyclient import BasicAuth, BearerToken, Cookies, Credential, NodeStarted, Prompt, TokenLogin

SECONDS = 30
_COLOURS = itertools.count(random.randrange(1 << 23))
_CREDENTIALS = frozenset({"authorization", "cookie", "x-api-key"})

COOKIE = "C.12345678_auth_token"  # of the portal, if it has no other label

# The ways to give a secret to a client that calls on vast's portal: what `ComfyClient` takes for each.
WAYS = {
    "bearer": lambda secret: {"auth": BearerToken(secret)},
    "basic": lambda secret: {"auth": BasicAuth("vastai", secret)},
    "token login": lambda secret: {"auth": TokenLogin(secret)},
    "pasted cookies": lambda secret: {"auth": Cookies(f"theme=dark; {COOKIE}={secret}")},
    "user name and password": lambda secret: {"credential": Credential.of(username="vastai", password=secret)},
    "password": lambda secret: {"credential": Credential.of(password=secret)},
    "token": lambda secret: {"credential": Credential.of(token=secret)},
    "cookies": lambda secret: {"credential": Credential.of(cookies=f"Cookie: {COOKIE}={secret}")},
}


@dataclass(frozen=True)
class Request:
    """One request; texts are utf-8, and what is not comes as surrogates."""

    method: str
    target: str
    headers: CIMultiDict

    @property
    def path(self):
        """Without the query, still encoded."""
        return self.target.partition("?")[0]

    @property
    def is_socket(self):
        """Whether it asks for a websocket."""
        return self.headers.get("Upgrade", "").lower() == "websocket"

    @property
    def tries(self):
        """Whether it carries a credential."""
        return "token=" in self.target or not _CREDENTIALS.isdisjoint(name.lower() for name in self.headers)


def by_every_way(*others):
    """Run a test with each of `WAYS`, and ``others``, as its argument ``way``, a function."""
    ways = WAYS | dict(others)
    return pytest.mark.parametrize("way", ways.values(), ids=ways)


def picture():
    """A prompt that saves a picture of a colour of its own, so that nothing is cached."""
    image = {"width": 32, "height": 24, "batch_size": 1, "color": next(_COLOURS)}
    save = {"images": ["1", 0], "filename_prefix": "visit"}
    return Prompt(
        {
            "1": {"class_type": "EmptyImage", "inputs": image},
            "2": {"class_type": "SaveImage", "inputs": save},
        }
    )


async def visit(comfy, emulator):
    """Log in, run a job, be told by the websocket, and fetch what it made. Returns the session."""
    async with asyncio.timeout(SECONDS):
        session = await comfy.login()
        saving = emulator.faults.hold("SaveImage")
        job = await comfy.submit(picture())
        assert comfy.connected
        async for event in job.events():
            if isinstance(event, NodeStarted) and event.node_id == "2":  # only the websocket tells of nodes
                saving.release()
        (output,) = (await job.result()).outputs
        assert await output.read() == (emulator.folders.output / output.filename).read_bytes()
        return session


def requests(sniffer):
    """All requests that went over its wire in clear, one connection after the other."""
    return [request for talk in sniffer.conversations if not talk.encrypted for request in _read(bytes(talk.sent))]


def attempts(sniffer):
    """Those of them that carried a credential."""
    return [request for request in requests(sniffer) if request.tries]


def _read(wire):
    while b"\r\n\r\n" in wire:
        head, _, wire = wire.partition(b"\r\n\r\n")
        first, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        method, target, _ = first.split(" ")
        headers = CIMultiDict(line.split(": ", 1) for line in lines)
        yield (request := Request(method, target, headers))
        if request.is_socket:
            return  # frames follow
        if "chunked" in headers.get("Transfer-Encoding", ""):
            raise ValueError("bodies without a length are not read here")
        wire = wire[int(headers.get("Content-Length", 0)) :]
