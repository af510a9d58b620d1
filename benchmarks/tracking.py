"""What following jobs costs: memory for many that are open, and the delay of events behind a flood of pictures.

The first part queues jobs behind one that does not end, and counts what the client keeps for all of them: the blocks
that Python has allocated, by ``tracemalloc``. That is what the program itself keeps. By how much the process grows
without that is shown as well: it has what was needed for a moment, while answers with all those prompts were read. A
tenth of them is queued once more with a journal, in which each job is written down.

The second part sends previews of a job, and between them messages that something is ready, each with the moment at
which it was due. One listener looks at each picture for half a second; another takes the time of the messages: how
long after they were due they arrive. The server is an emulator in a process of its own.

    python benchmarks/tracking.py

Prints one JSON line and a sentence; exits with 1 if a bar does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from comfyclient import ComfyClient, NodeStarted, OutputReady, Preview, Prompt
from comfyclient.emulator import Emulator
from comfyclient.journal import Journal
from comfyclient.wire.messages import encode_preview, text_message

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from multiprocessing.connection import Connection

    from comfyclient import Job

_T = TypeVar("_T")

_TICKS = 100  # messages a second that something is ready
_LOOK = 0.5  # seconds that the slow listener looks at a picture
_FLIGHT = 16
_MOMENTS, _BETWEEN = 8, 0.25  # at which memory is counted, and the seconds between them
_MB = 2**20


def prompt(number: int) -> Prompt:
    """One of the jobs: none is like another."""
    size = {"width": 64, "height": 64, "batch_size": 1}
    return Prompt(
        {
            "1": {"class_type": "EmptyImage", "inputs": {**size, "color": number}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "tracking/t"}},
        }
    )


# The server's process


def serve(pipe: Connection) -> None:
    """An emulator whose first job does not end, until it is told to."""
    asyncio.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    async with Emulator() as emulator:
        hold = emulator.faults.hold("SaveImage")
        pipe.send(emulator.url)
        while (order := await asyncio.to_thread(pipe.recv)) is not None:
            pipe.send(await _flood(emulator, **order))
            hold.release()


async def _flood(emulator: Emulator, *, sid: str, prompt_id: str, rate: int, size: int, seconds: float) -> float:
    """Send pictures and messages, each when it is due or as soon after that as it can be. Returns the seconds."""
    socket = emulator.core.sockets.table[sid]
    about = {"prompt_id": prompt_id, "node_id": "2", "display_node_id": "2"}
    frame = encode_preview(random.randbytes(size), "image/jpeg", about)
    begin = time.monotonic()
    every = max(1, rate // _TICKS)
    for number in range(int(rate * seconds)):
        due = begin + number / rate
        if (early := due - time.monotonic()) > 0.002:
            await asyncio.sleep(early)
        await socket.send_bytes(frame)
        if number % every == 0:
            output = {"images": [{"filename": repr(due), "subfolder": "", "type": "temp"}]}
            data = {"prompt_id": prompt_id, "node": "2", "display_node": "2", "output": output}
            await socket.send_str(text_message("executed", data))
    return time.monotonic() - begin


# What is measured


@dataclass
class Open:
    """Many open jobs.

    Attributes:
        kept: Bytes that Python has allocated for them.
        most: Bytes at the worst moment: while the server's queue is read.
        grown: By how many bytes the process grew, if that was not counted.
    """

    jobs: int
    kept: int = 0
    most: int = 0
    grown: int = 0


async def many(url: str, count: int, *, traced: bool, written: bool = False) -> Open:
    """Queue that many, and see what they cost. ``written``: into a journal as well."""
    found = Open(count)
    async with contextlib.AsyncExitStack() as stack:
        journal = None
        if written:
            journal = stack.enter_context(Journal.open(stack.enter_context(tempfile.TemporaryDirectory())))
        comfy = await stack.enter_async_context(ComfyClient(url, journal=journal))
        await comfy.submit(prompt(0))  # runs, and with it what is needed once: a connection, a socket
        prompts = [prompt(number) for number in range(1, count + 1)]  # the user's
        jobs: list[Job] = []
        left = iter(prompts)

        async def worker() -> None:
            for one in left:
                job = await comfy.submit(one)
                jobs.append(job)

        before = resident()
        if traced:
            tracemalloc.start()
        async with asyncio.TaskGroup() as workers:
            for _ in range(_FLIGHT):
                workers.create_task(worker())
        await comfy.jobs(limit=0)
        gc.collect()
        found.grown = resident() - before
        if traced:
            found.kept = await least()
            found.most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        await comfy.cancel_all([job.id for job in jobs])
    return found


async def least() -> int:
    """Bytes that are allocated at rest: not while the client reads the queue, as it does again and again."""
    seen = []
    for _ in range(_MOMENTS):
        gc.collect()
        seen.append(tracemalloc.get_traced_memory()[0])
        await asyncio.sleep(_BETWEEN)
    return min(seen)


@dataclass
class Flood:
    """What came of a flood of pictures.

    Attributes:
        rate: Pictures a second that were sent.
        delays: Seconds from the moment when a message was due to that when a listener had it.
        pictures: How many the slow listener looked at.
        grown: By how many bytes the process had grown at the worst moment.
    """

    rate: float = 0.0
    delays: list[float] = field(default_factory=list)
    pictures: int = 0
    grown: int = 0


async def flood(url: str, pipe: Connection, options: argparse.Namespace) -> Flood:
    """Listen to a job of which too many pictures are sent."""
    found = Flood()
    async with ComfyClient(url) as comfy:
        job = await comfy.submit(prompt(0), previews=True)
        async with contextlib.aclosing(job.events()) as events:
            async for event in events:
                if isinstance(event, NodeStarted) and event.node_id == "2":
                    break
        before = resident()
        async with asyncio.TaskGroup() as listeners:
            listeners.create_task(look(job, found))
            listeners.create_task(take_time(job, found))
            weighing = listeners.create_task(weigh(before, found))
            await asyncio.sleep(0)
            order = {"sid": comfy.client_id, "prompt_id": job.id, "rate": options.rate, "size": options.size}
            pipe.send({**order, "seconds": options.seconds})
            seconds = await asyncio.to_thread(pipe.recv)
            found.rate = int(options.rate * options.seconds) / seconds
            await job.result()
            weighing.cancel()
    return found


async def look(job: Job, found: Flood) -> None:
    """Look at the pictures, too long at each."""
    async for event in job.events(previews=True):
        if isinstance(event, Preview):
            found.pictures += 1
            await asyncio.sleep(_LOOK)


async def take_time(job: Job, found: Flood) -> None:
    """See how late the messages are."""
    async for event in job.events():
        if isinstance(event, OutputReady) and event.outputs[0].type == "temp":
            found.delays.append(time.monotonic() - float(event.outputs[0].filename))


async def weigh(before: int, found: Flood) -> None:
    """See how large this process gets."""
    while True:
        found.grown = max(found.grown, resident() - before)
        await asyncio.sleep(0.05)


def resident() -> int:
    """Bytes of memory that this process has; 0 where the system does not say."""
    with contextlib.suppress(FileNotFoundError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def with_server(measure: Callable[[str, Connection], Coroutine[None, None, _T]]) -> _T:
    """Do it with a server of its own."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,))
    server.start()
    try:
        found = asyncio.run(measure(pipe.recv(), pipe))
        pipe.send(None)
        server.join()
    finally:
        server.terminate()
        server.join()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000, help="open jobs (default: 10000)")
    parser.add_argument("--most", type=float, default=30.0, help="MB that they may cost (default: 30)")
    parser.add_argument("--rate", type=int, default=1000, help="previews a second (default: 1000)")
    parser.add_argument("--size", type=int, default=500_000, help="bytes of each (default: 500000)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for so long (default: 5)")
    parser.add_argument("--delay", type=float, default=1.0, help="seconds that an event may be late (default: 1)")
    parser.add_argument("--growth", type=float, default=64.0, help="MB that previews may take (default: 64)")
    options = parser.parse_args()

    flooded = with_server(lambda url, pipe: flood(url, pipe, options))
    opened = with_server(lambda url, _: many(url, options.jobs, traced=True))
    grown = with_server(lambda url, _: many(url, options.jobs, traced=False)).grown
    written = with_server(lambda url, _: many(url, max(1, options.jobs // 10), traced=True, written=True))
    worst, sent = max(flooded.delays), int(options.rate * options.seconds)
    messages = len(range(0, sent, max(1, options.rate // _TICKS)))
    print(
        json.dumps(
            {
                "jobs": opened.jobs,
                "kept_mb": round(opened.kept / _MB, 2),
                "kept_bytes_per_job": opened.kept // opened.jobs,
                "kept_bytes_per_job_with_a_journal": written.kept // written.jobs,
                "most_mb": round(opened.most / _MB, 2),
                "process_grown_mb": round(grown / _MB, 2),
                "previews_per_second": round(flooded.rate, 1),
                "preview_bytes": options.size,
                "previews_looked_at": flooded.pictures,
                "messages": len(flooded.delays),
                "messages_missed": messages - len(flooded.delays),
                "delay_ms": {
                    "median": round(statistics.median(flooded.delays) * 1000, 1),
                    "most": round(worst * 1000, 1),
                },
                "flood_grown_mb": round(flooded.grown / _MB, 2),
            }
        )
    )
    print(
        f"{opened.jobs} open jobs cost {opened.kept / _MB:.1f} MB (bar {options.most:g}), and "
        f"{written.kept * opened.jobs / written.jobs / _MB:.1f} MB with a journal (the same bar); behind "
        f"{flooded.rate:.0f} previews/s of {options.size / 1000:.0f} kB messages were at most {worst:.2f} s late "
        f"(bar {options.delay:g}), and took {flooded.grown / _MB:.0f} MB (bar {options.growth:g})"
    )
    kept = opened.kept <= options.most * _MB and written.kept / written.jobs <= options.most * _MB / options.jobs
    in_time = worst <= options.delay and len(flooded.delays) == messages and flooded.rate >= 0.95 * options.rate
    return 0 if kept and in_time and flooded.grown <= options.growth * _MB else 1


if __name__ == "__main__":
    sys.exit(main())
