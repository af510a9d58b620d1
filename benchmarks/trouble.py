"""The bad way between a client and a server, for `soak`: a process with the fault proxy of the tests, and a server.

Each request meets a fault with the chance that is asked for, and each message of the websocket as well. Every few
seconds something happens to all of it: sockets are dropped, or freeze, or nobody is there for a while. What a fault is
depends on the seed, and on the order in which requests come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.faults.frames import DelayFrame, Later, Repeat, Replace, Swallow
from tests.faults.http_toxics import (
    Answer,
    AnswerAfter,
    CorruptBody,
    CutRequest,
    CutResponse,
    EditHead,
    Lose,
    Stale,
    gateway_error,
    login_page,
)
from tests.faults.proxy import FaultProxy
from tests.faults.toxics import Bandwidth, Corrupt, Latency, LimitData, ResetPeer, Slicer, Timeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from multiprocessing.connection import Connection

_PAGE = {"Content-Type": "text/html"}

# To the server a request is never spoiled nor doubled: no client can do anything about that.
WAY = [
    Latency(0.05, 0.05),
    Latency(0.05, 0.05, "up"),
    Bandwidth(20_000),
    Bandwidth(20_000, "up"),
    Slicer(40, 30, 0.001),
    Slicer(40, 30, 0.001, "up"),
    LimitData((0, 400)),
    LimitData((0, 400), "reset"),
    ResetPeer(),
    ResetPeer((0.001, 0.02)),
    Timeout(),
    Timeout((0.1, 2.0)),
]
ANSWERS = [
    Answer(429),
    Answer(429, {"Retry-After": "1"}),
    Answer(500),
    Answer(502, _PAGE, "<html>"),
    Answer(503, {"Retry-After": "1"}),
    Answer(200, _PAGE, "<html>Please log in.</html>"),
    Answer(raw=b"SSH-2.0-OpenSSH_9.2\r\n", then="close"),
    login_page(),
    gateway_error(504),
    gateway_error(524),
    AnswerAfter(500),
    EditHead(headers={"Content-Type": None}),
    Lose("reset"),
    Lose("close"),
    Lose("hang"),
    CutResponse(0.5),
    CutResponse(0.5, "reset"),
    CutResponse(0.5, unframed=True),
    Stale("reset"),
    Stale("close"),
]
POSTS = [CutRequest(0.5), CutRequest(0.9, "close"), CutRequest(0), CorruptBody(60)]
SOCKETS = [
    Answer(403),
    Answer(502),
    Lose(),
    ResetPeer((0.1, 5.0)),
    Timeout((0.5, 5.0)),
    LimitData((100, 20_000)),
    Corrupt(9_000),
]
MESSAGES = [
    Swallow(),
    Repeat(2),
    DelayFrame(0.3),
    Later(3),
    Replace(lambda _: "{"),
    Replace(lambda _: '{"type": "executing", "data": []}'),
    Replace(lambda _: b"\x00\x00\x00\x01\x00"),
]


def spoil(faults: FaultProxy, rate: float) -> None:
    """Make the rules."""
    for method, path, toxics in (
        ("POST", "/prompt", [*WAY, *ANSWERS, *POSTS]),
        ("GET", "/ws", SOCKETS),
        ("GET", "/prompt", [*WAY, *ANSWERS]),
        ("GET", "/queue", [*WAY, *ANSWERS]),
        ("GET", "/history", [*WAY, *ANSWERS]),
        ("GET", "/api/jobs", [*WAY, *ANSWERS]),
        ("GET", "/system_stats", [*WAY, *ANSWERS]),
    ):
        for toxic in toxics:
            faults.on(method, path, toxic, times=None, probability=rate / len(toxics))
    for toxic in MESSAGES:
        faults.on_message(toxic, times=None, probability=rate / len(MESSAGES))


async def make_trouble(faults: FaultProxy, chance: random.Random, done: Counter[str]) -> None:
    """What happens to all connections, until this is cancelled."""
    while True:
        await asyncio.sleep(chance.uniform(0.5, 5.0))
        what = chance.choice(["drop sockets", "drop all", "deafen", "freeze", "down"])
        done[what] += 1
        match what:
            case "drop sockets":
                faults.drop_sockets()
            case "drop all":
                faults.drop_all()
            case "deafen":  # the server learns of the old socket's end when there is a new one, and forgets that
                faults.drop_sockets(keep_upstream=True)
                await asyncio.sleep(chance.uniform(0.0, 2.0))
                await faults.close_kept()
            case "freeze":
                faults.freeze("down")
                await asyncio.sleep(chance.uniform(0.0, 3.0))
                faults.thaw("down")
            case "down":
                async with faults.down():
                    await asyncio.sleep(chance.uniform(0.0, 2.0))


@contextlib.asynccontextmanager
async def server(url: str | None) -> AsyncIterator[str]:
    """The url of the server: the one that is given, or an emulator."""
    if url is not None:
        yield url.rstrip("/")
        return
    from comfyclient.emulator import Emulator

    async with Emulator() as emulator:
        yield emulator.url


async def _between(pipe: Connection, url: str | None, seed: int, rate: float) -> None:
    done: Counter[str] = Counter()
    async with server(url) as upstream, FaultProxy(upstream, seed=seed) as faults:
        if rate:
            spoil(faults, rate)
        pipe.send({"server": upstream, "url": faults.url})
        troubles = asyncio.create_task(make_trouble(faults, random.Random(seed), done)) if rate else None
        await asyncio.to_thread(pipe.recv)
        if troubles is not None:
            troubles.cancel()
            await asyncio.wait({troubles})
        pipe.send(_report(faults, done))
        await asyncio.to_thread(pipe.recv)


def _report(faults: FaultProxy, done: Counter[str]) -> dict[str, Any]:
    kinds = Counter(fault.what.partition("(")[0] for fault in faults.log if "(" in fault.what) + done
    posts = Counter(post.prompt_id for post in faults.book.posts if post.forwarded)
    for post in faults.book.posts:
        posts[post.prompt_id] += max(0, post.forwarded - 1)
    return {
        "faults": dict(sorted(kinds.items())),
        "requests": sum(faults.book.requests.values()),
        "sockets": faults.book.sockets,
        "forwarded": dict(posts),
    }


def between(pipe: Connection, url: str | None, seed: int, rate: float) -> None:
    """What the process does: tell where the server and the proxy are; report when it is told to; end."""
    logging.disable()  # the server has a lot to say about what it gets
    asyncio.run(_between(pipe, url, seed, rate))
