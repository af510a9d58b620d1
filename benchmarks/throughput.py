"""How much `ComfyClient` costs: its jobs per second against those of the barest loop that could do the work.

Both post the same small prompts (EmptyImage, a new colour each, into SaveImage) with the same number in flight and
listen on one websocket. The bare loop believes the socket: a job is done when ``execution_success`` arrives. The
client checks each prompt against the catalog, follows the server's record, and gives a `Result` with outputs.

They take turns (bare, client, client, bare, …), so that what else the machine does hits both alike; what counts is
the median turn of each. On a machine that is busy otherwise the turns differ by more than what is measured.

    python benchmarks/throughput.py --url http://127.0.0.1:8188

Prints one JSON line and a sentence; exits with 1 if the client is below the floor.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from comfyclient import ComfyClient, Prompt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

_COLOURS = itertools.count(random.randrange(1 << 23))


def prompts(count: int, folder: str) -> list[dict[str, Any]]:
    """Prompts that share nothing that the server could have cached. Each round saves into a folder of its own."""
    return [
        {
            "1": {
                "class_type": "EmptyImage",
                "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": next(_COLOURS) % (1 << 24)},
            },
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": f"{folder}/t"}},
        }
        for _ in range(count)
    ]


async def in_flight(count: int, work: list[Any], do: Callable[[Any], Awaitable[None]]) -> None:
    """Do all the work, ``count`` pieces at a time."""
    left: Iterator[Any] = iter(work)

    async def worker() -> None:
        for item in left:
            await do(item)

    async with asyncio.TaskGroup() as workers:
        for _ in range(count):
            workers.create_task(worker())


async def bare(url: str, jobs: int, flight: int, folder: str) -> float:
    """The barest loop. Returns seconds."""
    base, client_id = URL(url), str(uuid.uuid4())
    waiting: dict[str, asyncio.Future[None]] = {}

    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect((base / "ws").with_query(clientId=client_id), max_msg_size=0)
        await socket.receive()

        async def listen() -> None:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                event = json.loads(message.data)
                if event["type"] in {"execution_success", "execution_error", "execution_interrupted"}:
                    waiting.pop(event["data"]["prompt_id"]).set_result(None)

        async def run(prompt: dict[str, Any]) -> None:
            prompt_id = str(uuid.uuid4())
            done = waiting[prompt_id] = asyncio.get_running_loop().create_future()
            body = {"prompt": prompt, "prompt_id": prompt_id, "client_id": client_id}
            async with session.post(base / "prompt", json=body) as response:
                response.raise_for_status()
                await response.json()
            await done

        listener = asyncio.create_task(listen())
        work = prompts(jobs, folder)
        start = time.perf_counter()
        await in_flight(flight, work, run)
        seconds = time.perf_counter() - start
        await socket.close()
        await listener
        return seconds


async def client(url: str, jobs: int, flight: int, folder: str) -> float:
    """The same through `ComfyClient`. Returns seconds."""
    async with ComfyClient(url) as comfy:
        await comfy.catalog()

        async def run(prompt: dict[str, Any]) -> None:
            job = await comfy.queue(Prompt(prompt))
            result = await job.result()
            if len(result.outputs) != 1:
                raise RuntimeError(f"{result} should have one output")

        work = prompts(jobs, folder)
        start = time.perf_counter()
        await in_flight(flight, work, run)
        return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--jobs", type=int, default=1000, help="jobs in each turn (default: 1000)")
    parser.add_argument("--turns", type=int, default=5, help="turns of each of the two (default: 5)")
    parser.add_argument("--flight", type=int, default=32, help="jobs in flight (default: 32)")
    parser.add_argument("--floor", type=float, default=0.95, help="least ratio of the medians (default: 0.95)")
    options = parser.parse_args()

    name = f"throughput/{uuid.uuid4().hex[:8]}"
    for run in (bare, client):
        asyncio.run(run(options.url, min(options.jobs, 50), options.flight, f"{name}-warm"))
    rates: dict[str, list[float]] = {"bare": [], "client": []}
    cpu: dict[str, list[float]] = {"bare": [], "client": []}
    order = (("bare", bare), ("client", client))
    for number in range(options.turns):
        for kind, run in order if number % 2 == 0 else reversed(order):
            before = time.process_time()
            seconds = asyncio.run(run(options.url, options.jobs, options.flight, f"{name}-{kind}{number}"))
            rates[kind].append(options.jobs / seconds)
            cpu[kind].append((time.process_time() - before) / options.jobs)

    medians = {kind: statistics.median(found) for kind, found in rates.items()}
    ratio = medians["client"] / medians["bare"]
    print(
        json.dumps(
            {
                "jobs": options.jobs,
                "flight": options.flight,
                "ratio": round(ratio, 4),
                "jobs_per_second": {kind: [round(rate, 1) for rate in found] for kind, found in rates.items()},
                "client_cpu_ms_per_job": {kind: round(statistics.median(c) * 1000, 3) for kind, c in cpu.items()},
            }
        )
    )
    print(
        f"{medians['client']:.0f} jobs/s through ComfyClient, {medians['bare']:.0f} in the bare loop: "
        f"{ratio:.1%} (floor {options.floor:.0%})"
    )
    return 0 if ratio >= options.floor else 1


if __name__ == "__main__":
    sys.exit(main())
