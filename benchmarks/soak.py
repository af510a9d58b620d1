"""Whether anything gets lost or runs twice: many jobs on one session while every tenth request meets a fault.

The way is spoiled in a process of its own (see `trouble`), together with the emulator, unless a server is given. So
what is counted here, tasks, sockets and memory, is the client's. What the client says of each job is compared with
what the server has in its history, what it has numbered, and what the proxy has passed on.

    python benchmarks/soak.py --url http://127.0.0.1:8188 --seed 7

A job whose submission the client says has failed is submitted once more, under another id, and the server must not
have it. Prints one JSON line and a sentence; exits with 1, and says why, if a job was lost or ran twice, if something
was left, or if more outcomes stayed unknown or memory grew more than is allowed.
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
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from trouble import between

from comfyclient import (
    AuthError,
    ComfyClient,
    InstanceUnavailable,
    JobLost,
    OutcomeUnknown,
    Prompt,
    ProtocolError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

_NOT_QUEUED = (InstanceUnavailable, ProtocolError, AuthError)
_SUBMISSIONS = 50  # of one job, before it is given up


@dataclass
class Tally:
    """What the client says of its jobs, by id."""

    succeeded: list[str] = field(default_factory=list)
    not_queued: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    given_up: int = 0


def prompts(count: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Prompts that share nothing that the server could have cached."""
    first, folder = chance.randrange(1 << 23), f"soak/{chance.randrange(16**8):08x}"
    for number in range(count):
        size = {"width": 64, "height": 64, "batch_size": 1}
        yield {
            "1": {"class_type": "EmptyImage", "inputs": {**size, "color": first + number}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": f"{folder}/s"}},
        }


async def run(comfy: ComfyClient, prompt: dict[str, Any], chance: random.Random, tally: Tally) -> None:
    """One job, to its end."""
    for _ in range(_SUBMISSIONS):
        job_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        try:
            job = await comfy.submit(Prompt(prompt), prompt_id=job_id)
        except _NOT_QUEUED:
            tally.not_queued.append(job_id)
            await asyncio.sleep(chance.uniform(0.1, 1.0))
            continue
        except OutcomeUnknown:
            tally.unknown.append(job_id)
        else:
            await finish(job, tally)
        return
    tally.given_up += 1


async def finish(job: Any, tally: Tally) -> None:
    """Wait for its end, and note it."""
    try:
        result = await job.result()
    except JobLost:
        tally.lost.append(job.id)
    except OutcomeUnknown:
        tally.unknown.append(job.id)
    else:
        (tally.succeeded if len(result.outputs) == 1 else tally.lost).append(job.id)


async def work(url: str, options: argparse.Namespace, tally: Tally) -> dict[str, int]:
    """Run all jobs on one session. Returns the memory after the first fifth and at the end, in bytes."""
    chance = random.Random(options.seed)
    left = prompts(options.jobs, chance)
    memory: dict[str, int] = {}
    async with ComfyClient(url, timeout=options.timeout) as comfy:

        async def worker() -> None:
            for prompt in left:
                await run(comfy, prompt, chance, tally)
                if len(tally.succeeded) >= options.jobs // 5:
                    memory.setdefault("early", resident())

        async with asyncio.TaskGroup() as workers:
            for _ in range(options.flight):
                workers.create_task(worker())
        memory["late"] = resident()
    return memory


def resident() -> int:
    """Bytes of memory that this process has; 0 where the system does not say."""
    gc.collect()
    with contextlib.suppress(FileNotFoundError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def open_sockets() -> int:
    """How many this process has; 0 where the system does not say."""
    found = 0
    with contextlib.suppress(FileNotFoundError):
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += str(entry.readlink()).startswith("socket:")
    return found


class Server:
    """The server itself, asked without the proxy."""

    def __init__(self, session: aiohttp.ClientSession, chance: random.Random) -> None:
        self._session = session
        self._probe = next(prompts(1, chance))

    async def number(self) -> int:
        """The number of the next POST to /prompt: it counts all that it reads."""
        async with self._session.post("/prompt", json={"prompt": self._probe}) as response:
            return int((await response.json())["number"])

    async def history(self) -> dict[str, Any]:
        """All that ended, when nothing waits or runs any more."""
        while any((await self._get("/queue")).values()):  # noqa: ASYNC110 - it tells nobody else
            await asyncio.sleep(0.5)
        found: dict[str, Any] = await self._get("/history")
        return found

    async def _get(self, path: str) -> Any:
        async with self._session.get(path) as response:
            return await response.json()


async def soak(pipe: Connection, options: argparse.Namespace) -> dict[str, Any]:
    """Run it, and compare what all of them say."""
    where = await asyncio.to_thread(pipe.recv)
    tally, before = Tally(), open_sockets()
    direct = aiohttp.TCPConnector(force_close=True)  # its sockets are not those that are counted
    async with aiohttp.ClientSession(where["server"], connector=direct) as session:
        server = Server(session, random.Random(options.seed + 1))
        first = await server.number()
        started = time.perf_counter()
        memory = await work(where["url"], options, tally)
        seconds = time.perf_counter() - started
        tasks = [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]
        sockets = open_sockets() - before
        pipe.send("report")
        way = await asyncio.to_thread(pipe.recv)
        received = await server.number() - first - 1
        ran = set(await server.history())
    return {
        "seed": options.seed,
        "rate": options.rate,
        **judge(tally, way["forwarded"], ran, received),
        "seconds": round(seconds, 1),
        "requests": way["requests"],
        "sockets_opened": way["sockets"],
        "faults": sum(way["faults"].values()),
        "faults_by_kind": way["faults"],
        "tasks_left": tasks,
        "sockets_left": sockets,
        "memory_mb": {name: round(size / 2**20, 1) for name, size in memory.items()},
        "grown_mb": round((memory["late"] - memory.get("early", memory["late"])) / 2**20, 1),
    }


def judge(tally: Tally, forwarded: dict[str, int], ran: set[str], received: int) -> dict[str, Any]:
    """What became of the jobs."""
    reported = [*tally.succeeded, *tally.lost, *tally.unknown]
    lied = set(tally.not_queued) & ran
    lost = {*tally.lost, *(set(tally.succeeded) - ran), *lied}
    twice = sum(count - 1 for count in forwarded.values() if count > 1)
    mine = ran & {*reported, *tally.not_queued}
    return {
        "jobs": len(reported),
        "succeeded": len(tally.succeeded),
        "lost": len(lost) + tally.given_up,
        "doubled": max(twice, received - len(mine), sum(n - 1 for n in Counter(reported).values())),
        "unknown": len(tally.unknown),
        "unknown_that_ran": len(set(tally.unknown) & ran),
        "said_not_queued": len(tally.not_queued),
    }


def failings(found: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """What is not as it has to be."""
    bounds = {
        "lost": 0,
        "doubled": 0,
        "unknown": options.unknown,
        "tasks_left": 0,
        "sockets_left": 0,
        "grown_mb": options.growth,
    }
    values = {**found, "tasks_left": len(found["tasks_left"])}
    bad = [f"{name}: {values[name]}, not {most}" for name, most in bounds.items() if values[name] > most]
    return bad if found["jobs"] == options.jobs else [*bad, f"jobs: {found['jobs']}, not {options.jobs}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", help="a server; by default an emulator is started")
    parser.add_argument("--jobs", type=int, default=1000, help="default: 1000")
    parser.add_argument("--flight", type=int, default=32, help="jobs in flight (default: 32)")
    parser.add_argument("--rate", type=float, default=0.1, help="chance of a fault (default: 0.1)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="default: another one each time")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds that a request may take (default: 5)")
    parser.add_argument("--unknown", type=int, default=0, help="outcomes that may stay unknown (default: 0)")
    parser.add_argument("--growth", type=float, default=8, help="MB by which memory may grow (default: 8)")
    options = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    way = context.Process(target=between, args=(theirs, options.url, options.seed, options.rate))
    way.start()
    try:
        found = asyncio.run(soak(pipe, options))
        pipe.send("end")
        way.join()
    finally:
        way.terminate()
        way.join()
    print(json.dumps(found))
    print(
        f"{found['jobs']} jobs, {found['faults']} faults in {found['requests']} requests and their sockets: "
        f"{found['lost']} lost, {found['doubled']} doubled, {found['unknown']} unknown; left: "
        f"{len(found['tasks_left'])} tasks, {found['sockets_left']} sockets, {found['grown_mb']} MB"
    )
    bad = failings(found, options)
    if bad:
        print("; ".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
