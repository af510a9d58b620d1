"""The whole server, over real HTTP: in the event loop of a test, or as a process of its own."""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from signal import SIGKILL, SIGTERM
from urllib.parse import quote

import httpx

from comfyclient.api import server as servers
from comfyclient.api.app import create_app
from comfyclient.api.keys import ApiKeys
from comfyclient.api.listening import listen, port_of
from comfyclient.api.settings import ApiSettings

from ..cli_support import ROOT  # noqa: TID252

KEY = "a-key-of-alice-0123456789"
OTHER_KEY = "a-key-of-bob-0123456789"
KEYS = {"alice": KEY, "bob": OTHER_KEY}
ENDS = {"succeeded", "failed", "cancelled", "lost", "refused"}
SECONDS = 60  # within which everything must have happened; not what is measured


class Caller:
    """Calls a server as its users do."""

    url: str

    def client(self, key=None, **options):
        headers = {"X-API-Key": key} if key else {}
        return httpx.AsyncClient(base_url=self.url, trust_env=False, headers=headers, timeout=SECONDS, **options)


@dataclass
class Served(Caller):
    """A server in this event loop. ``hub`` is what it holds."""

    url: str
    settings: ApiSettings
    app: object

    @property
    def hub(self):
        return self.app.state.hub


@contextlib.asynccontextmanager
async def serving(*, keys=None, before=lambda hub: None, **settings):
    """A server for the time of an ``async with``; it ends as with SIGTERM, and must leave no task of its own."""
    made = ApiSettings(keys=ApiKeys.of(keys or {}), **{"drain": 0.0, **settings})
    sockets = listen("127.0.0.1", 0, made.keys)
    made = replace(made, port=port_of(sockets))
    app = create_app(made)
    before(app.state.hub)
    application = servers._Application(app)
    up = asyncio.Event()
    server = servers._Server(servers._config(application, made, None), app.state, made.drain, up.set, sys.exit)
    others = asyncio.all_tasks()
    task = asyncio.create_task(server.run_to_end(sockets, application))
    try:
        waiting = asyncio.create_task(up.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            waiting.cancel()
        else:
            yield Served(f"http://127.0.0.1:{made.port}", made, app)
    finally:
        server.handle_exit(SIGTERM, None)
        await task
        for sock in sockets:
            sock.close()
    left = {one.get_name() for one in asyncio.all_tasks() - others if one.get_name().startswith("comfyclient")}
    assert left == set()


class Process(Caller):
    """``comfyclient serve`` for the time of an ``async with``. Whatever happens, it does not outlive that."""

    def __init__(self, state, *args, env=None):
        self.args = ("--port", "0", *map(str, args))
        self.env = {**os.environ, "PYTHONPATH": str(ROOT), "COMFYCLIENT_STATE_DIR": str(state), **(env or {})}
        self.code = None

    async def __aenter__(self):
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-B", "-m", "comfyclient", "serve", *self.args),
            env=self.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
        )
        self.url = (await self._process.stdout.readline()).decode().strip()
        if not self.url:
            await self._process.wait()
            said = self.said
            self._log.close()
            raise AssertionError(f"it did not start: {said}")
        return self

    async def __aexit__(self, *_):
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()
        self._log.close()

    @property
    def said(self):
        """What it wrote to stderr."""
        self._log.seek(0)
        return self._log.read().decode()

    def signal(self, number):
        self._process.send_signal(number)

    async def end(self, number=SIGTERM):
        """End it, and give its exit code."""
        self.signal(number)
        await self._process.communicate()
        return self._process.returncode

    async def kill(self):
        """As a power cut does."""
        return await self.end(SIGKILL)


# What users do


def ok(answer, status=200):
    """The JSON of an answer that must be as it should be."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    return answer.json()


def no(answer, status, code):
    """The same of a refusal."""
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), (answer.status_code, body)
    assert body["detail"]
    return body


async def new_session(http, url, **order):
    """Begin a session, and give its path."""
    session = ok(await http.post("/sessions", json={"url": url, **order}), 201)
    return f"/sessions/{session['id']}"


async def queue(http, session, prompt, **order):
    """Queue a prompt, and give the jobs."""
    nodes = getattr(prompt, "nodes", prompt)
    return ok(await http.post(f"{session}/jobs", json={"workflow": nodes, **order}), 201)["jobs"]


async def stories(lines):
    """The events of a stream: ``(id, data)``."""
    number = None
    async for line in lines:
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            yield number, json.loads(line[6:])


async def story(http, job_id, after=None):
    """All events of a job to its end."""
    headers = {"Last-Event-ID": str(after)} if after is not None else {}
    async with http.stream("GET", f"/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.status_code == 200, (answer.status_code, await answer.aread())
        return [entry async for entry in stories(answer.aiter_lines())]


async def ended(http, job_id):
    """The job, once it has ended."""
    async with asyncio.timeout(SECONDS):
        await story(http, job_id)
        return ok(await http.get(f"/jobs/{job_id}"))


async def save_workflow(url, path, workflow, auth=None):
    """Save a workflow on an instance, as its page does."""
    async with httpx.AsyncClient(trust_env=False, auth=auth) as http:
        name = quote(f"workflows/{path}", safe="")
        data = workflow if isinstance(workflow, bytes | str) else json.dumps(workflow)
        answer = await http.post(f"{url}/userdata/{name}", content=data)
        assert answer.status_code == 200, answer.text


async def sent_prompts(url, ids, auth=None):
    """What the instance has run, by id."""
    async with httpx.AsyncClient(trust_env=False, auth=auth) as http:
        return {job_id: (await http.get(f"{url}/history/{job_id}")).json()[job_id]["prompt"][2] for job_id in ids}


async def runs(url):
    """How many prompts the instance has got, in its queue and its history, by id."""
    async with httpx.AsyncClient(trust_env=False) as http:
        waiting = (await http.get(f"{url}/queue")).json()
        over = (await http.get(f"{url}/history")).json()
    ids = [item[1] for item in waiting["queue_running"] + waiting["queue_pending"]]
    return [*ids, *over]


# Workflows of the page


def noise(*seeds, folder="rest"):
    """A workflow in UI format that saves a picture for each ``(seed, control)``, and runs without a model."""
    nodes, links = [], []

    def node(type_, inputs=(), outputs=(), values=()):
        nodes.append({
            "id": len(nodes) + 1, "type": type_, "pos": [0, 0], "size": [200, 100], "flags": {}, "order": len(nodes),
            "mode": 0, "inputs": list(inputs), "outputs": list(outputs), "properties": {},
            "widgets_values": list(values),
        })  # fmt: skip
        return nodes[-1]

    def link(source, target, kind="IMAGE"):
        number = len(links) + 1
        links.append([number, source["id"], 0, target["id"], 0, kind])
        source["outputs"][0]["links"].append(number)
        target["inputs"][0]["link"] = number

    def image_out():
        return {"name": "IMAGE", "type": "IMAGE", "links": []}

    for seed, control in seeds:
        empty = node("EmptyImage", outputs=[image_out()], values=[32, 24, 1, 0])
        noisy = node(
            "ImageAddNoise", inputs=[{"name": "image", "type": "IMAGE", "link": None}], outputs=[image_out()],
            values=[seed, control, 0.5],
        )  # fmt: skip
        save = node("SaveImage", inputs=[{"name": "images", "type": "IMAGE", "link": None}], values=[f"{folder}/noise"])
        link(empty, noisy)
        link(noisy, save)
    return {
        "last_node_id": len(nodes), "last_link_id": len(links), "nodes": nodes, "links": links, "groups": [],
        "config": {}, "extra": {}, "version": 0.4,
    }  # fmt: skip
