"""What the proxy saw and did: counters, the prompts that were sent, and the faults that were injected."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

BODY_LIMIT = 16 * 2**20  # of a prompt that is kept


@dataclass(slots=True)
class Post:
    """A POST to /prompt.

    Attributes:
        body: Its JSON, once it was read whole; ``None`` before, and for anything that is no JSON object.
        forwarded: How often the server got it whole through this proxy.
        status: What the server answered; 0 without an answer.
    """

    connection: int
    body: dict | None = None
    forwarded: int = 0
    status: int = 0
    raw: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def prompt_id(self):
        """The id that the client chose, if it did."""
        return self.body.get("prompt_id") if self.body is not None else None

    def complete(self) -> None:
        """The body came to its end."""
        try:
            value = json.loads(self.raw)
        except ValueError:
            value = None
        self.body = value if isinstance(value, dict) else None
        self.raw.clear()


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault: where, and which."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Book:
    """Counters of one proxy.

    Attributes:
        requests: How often each ``(method, path)`` was asked for, paths without the upstream's prefix and the query.
        headers: The headers of the last request for each path.
        posts: The POSTs to /prompt.
        connections: How many connections clients opened.
        upstreams: How many were opened to the server.
        sockets: How many websockets were opened.
        open_sockets: How many of them are open.
        hung: How many directions of connections came to let nothing through.
        log: The faults, in order.
        peak: The most bytes that were held for one connection.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.headers: dict[str, dict[str, str]] = {}
        self.posts: list[Post] = []
        self.connections = 0
        self.upstreams = 0
        self.sockets = 0
        self.open_sockets = 0
        self.hung = 0
        self.log: list[Injected] = []
        self.peak = 0
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def count(self, method: str, path: str) -> int:
        """Requests for this path or one below it."""
        return sum(n for (verb, asked), n in self.requests.items() if verb == method and below(asked, path))

    def forwarded(self, prompt_id: str) -> int:
        """How often the server got a prompt of this id whole."""
        return sum(post.forwarded for post in self.posts if post.prompt_id == prompt_id)

    def note(self, where: str, toxic: object) -> None:
        """A fault is injected."""
        self.log.append(Injected(where, repr(toxic)))
        self.changed()

    def changed(self) -> None:
        """Wake those whose condition is met."""
        for condition, future in self._waiting:
            if not future.done() and condition():
                future.set_result(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that this book counts makes the condition true."""
        if condition():
            return
        entry = condition, asyncio.get_running_loop().create_future()
        self._waiting.append(entry)
        try:
            await entry[1]
        finally:
            self._waiting.remove(entry)


def below(path: str, root: str) -> bool:
    """Whether a path is this one, or below it; with or without /api in front."""
    return any(own == root or own.startswith(root.rstrip("/") + "/") for own in (path, path.removeprefix("/api")))
