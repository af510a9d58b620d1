"""What the REST API costs: a job's way through it against the same through `ComfyClient`, and many at once.

Starts ``comfyclient serve`` and emulators in processes of their own.

1. One job after the other, in turn through the client and through the server: from the request to queue it until its
   end is known (the server's, from its events). What counts is the difference of the medians: at most 10 ms.
2. 200 sessions and 1 000 jobs at once, several rounds: no error, each job succeeds, and after the second round the
   server's memory grows by no more than 10 MB, and 6 kB for each job: the last 10 000 of a key are remembered.

    python benchmarks/rest.py

Prints one JSON line and a sentence; exits with 1 if something is not as it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from comfyclient import ComfyClient, Prompt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_COLOURS = itertools.count(1)
_MOST_MS, _MOST_MB = 10.0, 10.0
_REMEMBERED_MB = 6 / 1024  # for each job


def prompt() -> dict[str, Any]:
    """A small one that no server has in its cache."""
    inputs = {"width": 16, "height": 16, "batch_size": 1, "color": next(_COLOURS)}
    save = {"images": ["1", 0], "filename_prefix": "rest/x"}
    return {
        "1": {"class_type": "EmptyImage", "inputs": inputs},
        "2": {"class_type": "SaveImage", "inputs": save},
    }


@contextlib.asynccontextmanager
async def process(*args: str, **environment: str) -> AsyncIterator[tuple[str, int]]:
    """A command of comfyclient that serves; its url and its process id."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "comfyclient", *args,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env={**os.environ, **environment},
    )  # fmt: skip
    try:
        assert child.stdout is not None
        yield (await child.stdout.readline()).decode().strip(), child.pid
    finally:
        child.terminate()
        await child.wait()


def memory(pid: int) -> float:
    """What a process has in memory, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Api:
    """The server, over plain HTTP."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call, which must be answered with success."""
        async with self._http.request(method, self._url + path, json=body) as answer:
            said = await answer.json()
            if answer.status >= 300:
                raise SystemExit(f"{method} {path}: {answer.status} {said}")
            return said

    async def until_ended(self, job_id: str) -> str:
        """The state in which a job ends, from its events."""
        async with self._http.get(f"{self._url}/jobs/{job_id}/events") as events:
            async for line in events.content:
                if line.startswith(b"data: ") and (said := json.loads(line[6:]))["event"] == "finished":
                    return str(said["state"])
        raise SystemExit(f"job {job_id}: its events ended before it did")


async def one_by_one(api: Api, instance: str, count: int) -> dict[str, float]:
    """Medians in ms of the two ways, in turn."""
    session = (await api.call("POST", "/sessions", {"url": instance}))["id"]
    direct, through = [], []
    async with ComfyClient(instance) as comfy:
        for number in range(count + 10):
            begun = time.perf_counter()
            prepared = await comfy.prepare(Prompt(prompt()))
            await (await comfy.submit(prepared)).result()
            middle = time.perf_counter()
            jobs = (await api.call("POST", f"/sessions/{session}/jobs", {"workflow": prompt()}))["jobs"]
            assert await api.until_ended(jobs[0]["id"]) == "succeeded"
            if number >= 10:  # the first ones read catalogs and open sockets
                direct.append(middle - begun)
                through.append(time.perf_counter() - middle)
    await api.call("DELETE", f"/sessions/{session}")
    return {"direct": 1000 * statistics.median(direct), "through": 1000 * statistics.median(through)}


async def all_at_once(api: Api, instances: list[str], sessions: int, jobs: int) -> None:
    """Many sessions, each with a few jobs, all at once."""

    async def one(number: int) -> None:
        url = instances[number % len(instances)]
        session = (await api.call("POST", "/sessions", {"url": url}))["id"]
        path = f"/sessions/{session}/jobs"
        asked = [api.call("POST", path, {"workflow": prompt(), "check": False}) for _ in range(jobs // sessions)]
        queued = [job["id"] for answer in await asyncio.gather(*asked) for job in answer["jobs"]]
        states = await asyncio.gather(*map(api.until_ended, queued))
        assert states == ["succeeded"] * len(queued), states
        await api.call("DELETE", f"/sessions/{session}")

    await asyncio.gather(*map(one, range(sessions)))


async def run(options: argparse.Namespace) -> int:
    """Both parts."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        made = [await stack.enter_async_context(process("emulator", "--port", "0")) for _ in range(options.instances)]
        instances = [url for url, _ in made]
        server = process(
            "serve", "--port", "0", "--rate", "100000", "--no-access-log", *options.serve, COMFYCLIENT_STATE_DIR=folder
        )
        url, pid = await stack.enter_async_context(server)
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=600)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=timeout))
        api = Api(http, url)
        ways = await one_by_one(api, instances[0], options.single)
        sizes, seconds = [], []
        for _ in range(options.rounds):
            begun = time.perf_counter()
            await all_at_once(api, instances, options.sessions, options.jobs)
            seconds.append(round(time.perf_counter() - begun, 1))
            sizes.append(round(memory(pid), 1))
    added = ways["through"] - ways["direct"]
    grown = sizes[-1] - sizes[1] - _REMEMBERED_MB * options.jobs * (options.rounds - 2)
    found = {"ms": {name: round(value, 2) for name, value in ways.items()}, "added_ms": round(added, 2)}
    found |= {"sessions": options.sessions, "jobs": options.jobs, "seconds": seconds, "memory_mb": sizes}
    print(json.dumps(found))
    print(f"{added:.1f} ms added to a job's way (at most {_MOST_MS:.0f}); {grown:+.1f} MB beyond what is remembered")
    return 0 if added <= _MOST_MS and grown <= _MOST_MB else 1


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--single", type=int, default=200, help="jobs one by one")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--instances", type=int, default=4, help="emulators")
    parser.add_argument("--serve", nargs="*", default=[], metavar="OPTION", help="further options of the server")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
