"""An hour in a moment: an event loop whose clock jumps to what is due next, and a server that needs no network."""

import asyncio
import json
import selectors

from comfyclient.errors import InstanceUnavailable


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: where there would be a wait, the clock has moved on by as much."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0

    def select(self, timeout=None):
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout:
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now


def in_no_time(main):
    """Run a coroutine that waits for clocks only, never for sockets or threads."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


class Reply:
    """What the client's HTTP gives for a GET."""

    def __init__(self, value, status=200):
        self.body = json.dumps(value).encode()
        self.status = status

    def json(self):
        return json.loads(self.body)

    async def parsed(self):
        return self.json()

    def json_or_none(self):
        return self.json()


class ModelHttp:
    """A server with a queue and a history, in place of the client's HTTP.

    Attributes:
        running: Ids.
        pending: Ids, the next first.
        history: Entries by id, in the order of their ends.
        asked: ``(time, path)`` of the GETs so far.
        latency: Seconds for an answer.
        down: Whether nobody answers.
        faults: What is raised by path (``"/queue"``), or by the first part of it (``"/history/"``).
        lists_jobs: Whether it is one that says where a job is by its id.
        behind: Called when the queue has been read, before its answer is given.
    """

    timeout = 30.0

    def __init__(self):
        self.running, self.pending, self.history = [], [], {}
        self.asked = []
        self.latency = 0.05
        self.down = False
        self.faults = {}
        self.lists_jobs = False
        self.behind = lambda: None

    async def request(self, method, path):
        await self._answers(path)
        job = path.removeprefix("/api/jobs/")
        if not self.lists_jobs:
            return Reply("404: Not Found", 404)
        states = {"in_progress": self.running, "pending": self.pending, "completed": self.history}
        found = [{"id": job, "status": state} for state, ids in states.items() if job in ids]
        return Reply(found[0]) if found else Reply({"error": "Job not found"}, 404)

    async def _answers(self, path):
        self.asked.append((asyncio.get_running_loop().time(), path))
        await asyncio.sleep(self.latency)
        if self.down:
            raise InstanceUnavailable(f"GET {path}: nobody answers")
        for known in (path, path[: path.rindex("/") + 1]):
            if known in self.faults:
                raise self.faults[known]

    async def get(self, path, *, params=None):
        await self._answers(path)
        if path == "/queue":
            entry = {name: [[0, job, {}, {}, []] for job in getattr(self, name)] for name in ("running", "pending")}
            reply = Reply({f"queue_{name}": jobs for name, jobs in entry.items()})
            self.behind()
            return reply
        if path == "/history":
            newest = list(self.history)[-int(params["max_items"]) :]
            return Reply({job: self.history[job] for job in newest})
        job = path.removeprefix("/history/")
        return Reply({job: self.history[job]} if job in self.history else {})

    def start(self):
        """The next job begins."""
        self.running.append(self.pending.pop(0))

    def end(self, *, state="success", outputs=None):
        """The job that runs comes to its end."""
        job = self.running.pop(0)
        messages = [["execution_start", {"timestamp": 1}], [f"execution_{state}", {"timestamp": 2}]]
        status = {"status_str": "success" if state == "success" else "error", "completed": state == "success"}
        self.history[job] = {
            "prompt": [0, job, {}, {}, []],
            "outputs": outputs or {},
            "status": {**status, "messages": messages},
        }

    def restart(self):
        """Everything is forgotten."""
        self.running, self.pending, self.history = [], [], {}
