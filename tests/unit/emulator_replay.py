"""Replays scenarios recorded from a real server against the emulator (tests/data/emulator_scenarios.json.gz).

A scenario is a list of steps in the order in which a client took them, and what each of its sockets had received in the
end. Every node of the emulator waits for leave before it ends, so that the run stands where it stood when the recorded
client took its next step.
"""

import asyncio
import functools
import gzip
import inspect
import json
import re
import struct
from pathlib import Path

import aiohttp
from yarl import URL

from comfyclient.emulator import Emulator
from comfyclient.emulator.nodes import NODES, Implementation, simulate

from .emulator_client import until

DATA = Path(__file__).parents[1] / "data" / "emulator_scenarios.json.gz"
_TIMES = frozenset({"timestamp", "create_time", "execution_start_time", "execution_end_time"})
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@functools.cache
def scenarios():
    """Name → ``{"steps", "frames"}``."""
    return json.loads(gzip.decompress(DATA.read_bytes()))


def plain(value, names):
    """What is the same in every run: ids by their order, no times, no chance in file names, no tracebacks."""
    if isinstance(value, dict):
        found = {}
        for key, entry in value.items():
            if key in _TIMES:
                found[key] = "time"
            elif key == "traceback":
                found[key] = "lines"
            elif key == "current_inputs" or (key in {"executed", "current_outputs"} and isinstance(entry, list)):
                found[key] = sorted(entry)
            elif key == "priority":
                found[key] = "number"
            elif key == "prompt" and isinstance(entry, list) and len(entry) == 5:
                found[key] = ["number", *plain(entry[1:4], names), sorted(entry[4])]
            else:
                found[names.get(key, key)] = plain(entry, names)
        return found
    if isinstance(value, list):
        return [plain(entry, names) for entry in value]
    if isinstance(value, str):
        value = names.get(value, value)
        if value.startswith(("tensor(", "<image ")):
            return "a tensor"
        value = re.sub(r"_temp_[a-z]{5}_", "_temp_*_", value)
        value = re.sub(r"_[0-9a-f]{32}\.", "_*.", value)
        return re.sub(r"_\d{5}(?=_?\.)", "_#", value)
    return value


def plain_frame(frame, names):
    """A frame's type and data; for binary frames the event and what of it is no picture."""
    if isinstance(frame, bytes):
        (event,) = struct.unpack(">I", frame[:4])
        return [event, frame[4:].decode("latin-1") if event == 3 else None]
    data = plain(frame["data"], names)
    if frame["type"] == "status" and re.fullmatch("[0-9a-f]{32}", data.get("sid", "")):
        data["sid"] = "made by the server"
    return [frame["type"], data]


def plain_answer(body, names):
    """An answer of /prompt without its prose: error types, details, and which fields come along."""
    if not isinstance(body, dict) or "node_errors" not in body:
        return plain(body, names) if isinstance(body, dict | list) else body
    answer = {"error": body["error"]["type"]} if "error" in body else {"prompt_id": names.get(body["prompt_id"])}
    if "number" in body:
        answer["number"] = type(body["number"]).__name__
    answer["node_errors"] = {
        node_id: {
            "class_type": found["class_type"],
            "dependent_outputs": sorted(found["dependent_outputs"]),
            "errors": sorted([e["type"], e["details"], sorted(e["extra_info"])] for e in found["errors"]),
        }
        for node_id, found in body["node_errors"].items()
    }
    return answer


class Leave:
    """How many nodes may still come to their end."""

    def __init__(self):
        self.left = 0
        self._news = asyncio.Condition()

    async def give(self, count):
        async with self._news:
            self.left += count
            self._news.notify_all()

    async def take(self):
        async with self._news:
            await self._news.wait_for(lambda: self.left > 0)
            self.left -= 1


def held_nodes(leave):
    """The emulator's own nodes, each waiting for leave before it ends."""

    def hold(own):
        async def function(call):
            result = own.function(call)
            result = await result if inspect.isawaitable(result) else result
            await leave.take()
            return result

        return Implementation(function, own.lazy, own.fingerprint, own.check, own.checked_inputs)

    simulated = Implementation(simulate)
    return {name: hold(own) for name, own in NODES.items()} | {
        name: hold(simulated) for name in ("EmptyLatentImage", "EmptySD3LatentImage")
    }


class Replay:
    """One scenario against one emulator."""

    def __init__(self, emulator, session, leave):
        self.emulator = emulator
        self.session = session
        self.leave = leave
        self.sockets = {}
        self.frames = {}
        self.readers = []
        self.names = {}  # the emulator's ids → the recorded ones
        self.wrong = []

    async def run(self, scenario):
        """All steps; returns what differs."""
        self.without = scenario.get("without")
        for step in scenario["steps"]:
            await getattr(self, f"_{step[0]}")(*step[1:])
        for conn, expected in scenario["frames"].items():
            found = [plain_frame(frame, self.names) for frame in self.frames[conn]]
            for index, (wanted, got) in enumerate(zip(expected, found, strict=False)):
                if wanted != got:
                    self.wrong.append((conn, index, wanted, got))
                    break
            if len(expected) != len(found):
                self.wrong.append((conn, "frames", len(expected), len(found)))
        return self.wrong

    async def close(self):
        for socket in self.sockets.values():
            await socket.close()
        await asyncio.gather(*self.readers)

    async def _open(self, conn, path):
        socket = self.sockets[conn] = await self.session.ws_connect(f"{self.emulator.url}{path}", max_msg_size=0)
        self.frames[conn] = []
        self.readers.append(asyncio.create_task(self._read(socket, self.frames[conn])))

    async def _read(self, socket, frames):
        async for message in socket:
            frame = json.loads(message.data) if isinstance(message.data, str) else message.data
            if not self.without or isinstance(frame, bytes) or frame["type"] != self.without:
                frames.append(frame)

    async def _say(self, conn, text):
        await self.sockets[conn].send_str(text)

    async def _wait(self, counts):
        """Until each socket has as many frames as the recorded one had."""
        await until(lambda: all(len(self.frames[conn]) >= count for conn, count in counts.items()))

    async def _finish(self, count):
        await self.leave.give(count)

    async def _hold(self):
        """Let no node end from now on."""
        self.leave.left = 0

    async def _at(self, node_id):
        """Until that node runs, when nobody is there to hear of it."""
        await until(lambda: self.emulator.core.executor.teller.display_node == node_id)

    async def _idle(self):
        """Until nothing runs, for prompts that nobody hears of."""
        await until(lambda: not self.emulator.core.queue.remaining)

    async def _close(self, conn):
        await self._leave(self.sockets[conn].close())

    async def _abort(self, conn):
        async def cut():
            self.sockets[conn]._response.connection.transport.abort()

        await self._leave(cut())

    async def _leave(self, goodbye):
        """Say goodbye and wait until the server has noticed."""
        table = self.emulator.core.sockets
        before = table.open_count
        await goodbye
        await until(lambda: table.open_count < before)

    async def _upload(self, subfolder, name):
        form = aiohttp.FormData()
        form.add_field("subfolder", subfolder)
        form.add_field("image", b"v 0 0 0\n", filename=name)
        async with self.session.post(f"{self.emulator.url}/upload/image", data=form) as response:
            assert response.status == 200

    def _own(self, value):
        """The recorded ids in a request, replaced by the emulator's."""
        text = json.dumps(value)
        for own, recorded in self.names.items():
            text = text.replace(recorded, own)
        return json.loads(text)

    async def _http(self, method, path, body, status, answer):
        url = URL(self.emulator.url + self._own(path), encoded=True)
        async with self.session.request(method, url, json=self._own(body)) as response:
            data = await response.read()
            found_status = response.status
        try:
            found = json.loads(data)
        except ValueError:
            found = data.decode()
        if isinstance(found, dict) and isinstance(answer, dict) and "prompt_id" in found and "prompt_id" in answer:
            self.names[found["prompt_id"]] = answer["prompt_id"]
        found = plain_answer(found, self.names)
        found = by_id(found) if path == "/queue" else found
        if (found_status, found) != (status, answer):
            self.wrong.append((method, path, (status, answer), (found_status, found)))


def by_id(queue):
    """A queue's prompts by id: the numbers differ from server to server."""
    return {part: sorted(item[1] for item in items) for part, items in queue.items()} if queue else queue


def new_emulator(leave):
    """An emulator without models, as the recorded server was."""
    return Emulator(strict_models=True, nodes=held_nodes(leave))
