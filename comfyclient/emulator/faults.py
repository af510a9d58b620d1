"""What can go wrong with a server, to be switched on at will: `Faults`.

Every method and attribute may be used while the emulator runs, from its own event loop or from another thread.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from comfyclient.emulator.core import Core

__all__ = ["CannedAnswer", "Faults", "Hold", "PostFault"]

_T = TypeVar("_T")

PostFault = Literal["error", "drop", "drop_before"]
"""What happens to a POST /prompt: a 500 after it was queued, no answer after it was queued, or none and not queued."""


@dataclass(slots=True)
class CannedAnswer:
    """An HTTP answer given instead of the real one, ``times`` times (``None``: for ever)."""

    path: str
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int | None = 1


class Hold:
    """A node that runs until `release`. `reached` tells when it runs."""

    def __init__(self, class_type: str | None) -> None:
        self.class_type = class_type
        self._reached = threading.Event()
        self._released = threading.Event()
        self._waiters: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    async def reached(self) -> None:
        """Wait until the node runs."""
        await self._wait(self._reached)

    def wait_reached(self, timeout: float | None = None) -> bool:
        """The same for code without an event loop; ``False`` if ``timeout`` seconds passed."""
        return self._reached.wait(timeout)

    def release(self) -> None:
        """Let the node come to its end, and all others of its class from now on."""
        self._set(self._released)

    @property
    def is_released(self) -> bool:
        """Whether the worker may pass."""
        return self._released.is_set()

    async def stand(self) -> None:
        """What the worker does here."""
        if not self.is_released:
            self._set(self._reached)
            await self._wait(self._released)

    def _set(self, event: threading.Event) -> None:
        with self._lock:
            event.set()
            waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    async def _wait(self, event: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        while not event.is_set():
            woken = asyncio.Event()
            with self._lock:
                if event.is_set():
                    return
                self._waiters.append(functools.partial(_wake, loop, woken))
            await woken.wait()


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Event) -> None:
    loop.call_soon_threadsafe(woken.set)


class Faults:
    """Switches for misbehaviour. A new one has everything off: the server behaves.

    Attributes:
        node_delay: Seconds that each executed node takes longer.
        step_delay: Seconds that each step of a sampler takes longer.
        history_lag: Seconds between the event that ends a prompt and its history entry (and the events behind it), as
            when a real server collects garbage: meanwhile the prompt still counts as running.
        deafen: Whether the close of an old socket makes a newer one with the same clientId deaf, as upstream (issue
            #16010) does. On by default, since real servers do it.
        refuse_sockets: HTTP status for every new websocket, such as 403; ``None`` accepts them.
    """

    def __init__(self) -> None:
        self.node_delay = 0.0
        self.step_delay = 0.0
        self.history_lag = 0.0
        self.deafen = True
        self.refuse_sockets: int | None = None
        self._slow: dict[str, float] = {}
        self._failing: dict[str, BaseException] = {}
        self._blocked: dict[str, str | None] = {}
        self._holds: list[Hold] = []
        self._posts: list[PostFault] = []
        self._answers: list[CannedAnswer] = []
        self._core: Core | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # Nodes

    def slow(self, class_type: str, seconds: float) -> None:
        """Make each node of that class take so many seconds longer."""
        self._slow[class_type] = seconds

    def fail(self, class_type: str, error: BaseException | str = "simulated failure") -> None:
        """Make nodes of that class raise: the given exception, or a ``RuntimeError`` with that text."""
        self._failing[class_type] = RuntimeError(error) if isinstance(error, str) else error

    def block(self, class_type: str, message: str | None = None) -> None:
        """Make nodes of that class give a blocked value, which stops the nodes behind them: a warning, not an error."""
        self._blocked[class_type] = message

    def hold(self, class_type: str | None = None) -> Hold:
        """Let the next node of that class (of any, if ``None``) run until the hold is released.

        An interrupt that comes meanwhile is noticed by the node behind it, as with a node that reports no progress.
        """
        hold = Hold(class_type)
        self._holds.append(hold)
        return hold

    def clear_nodes(self) -> None:
        """Take back `slow`, `fail`, `block` and every `hold`."""
        self._slow.clear()
        self._failing.clear()
        self._blocked.clear()
        for hold in self._holds:
            hold.release()
        self._holds.clear()

    # HTTP

    def break_posts(self, fault: PostFault, times: int = 1) -> None:
        """Spoil the next ``times`` POSTs to /prompt: see `PostFault`."""
        self._posts.extend([fault] * times)

    def answer(
        self,
        path: str,
        status: int,
        *,
        body: str | bytes = b"",
        headers: Mapping[str, str] | None = None,
        times: int | None = 1,
    ) -> CannedAnswer:
        """Answer requests for that path (with or without /api) in this way, ``times`` times. ``"*"`` is every path."""
        data = body.encode() if isinstance(body, str) else body
        canned = CannedAnswer(path, status, data, dict(headers or {}), times)
        self._answers.append(canned)
        return canned

    def clear_answers(self) -> None:
        """Take back every `answer` and what is left of `break_posts`."""
        self._answers.clear()
        self._posts.clear()

    # Sockets

    def drop_sockets(self) -> int:
        """Cut every websocket now, without a close frame. Returns how many there were."""
        return self._at_once(lambda core: core.sockets.abort_all())

    def stall_publisher(self) -> None:
        """Send nothing more over websockets, as when one client stops reading; what is said meanwhile waits."""
        self._at_once(lambda core: core.sockets.stall())

    def resume_publisher(self) -> None:
        """Send again, beginning with what has waited."""
        self._at_once(lambda core: core.sockets.resume())

    # The server as a whole

    def wedge(self) -> None:
        """Stop the worker for good: prompts wait or run for ever, only `restart` helps."""
        self._at_once(lambda core: core.wedge())

    def restart(self) -> None:
        """Do what a restart does: queue, history, counter, cache and temporary files are gone, sockets are cut."""
        self._at_once(lambda core: core.restart())

    def evict_history(self, keep: int = 0) -> None:
        """Forget all but the newest ``keep`` entries of the history."""
        self._at_once(lambda core: core.evict_history(keep))

    # What the emulator asks

    def attach(self, core: Core, loop: asyncio.AbstractEventLoop) -> None:
        """Bind to the running emulator."""
        self._core, self._loop = core, loop

    def detach(self) -> None:
        """Let go of the emulator, and of a worker that is held."""
        self.clear_nodes()
        self._core = self._loop = None

    def _at_once(self, action: Callable[[Core], _T]) -> _T:
        """Run it on the emulator's event loop and wait for it; directly, when called there."""
        core, loop = self._core, self._loop
        if core is None or loop is None:
            raise RuntimeError("the emulator is not running")
        try:
            if asyncio.get_running_loop() is loop:
                return action(core)
        except RuntimeError:
            pass  # no event loop in this thread
        done: list[_T] = []
        finished = threading.Event()

        def run() -> None:
            try:
                done.append(action(core))
            finally:
                finished.set()

        loop.call_soon_threadsafe(run)
        finished.wait()
        return done[0]

    async def inside_node(self, class_type: str) -> None:
        """What happens while a node of that class runs: wait as told, then raise as told."""
        for hold in list(self._holds):
            if hold.class_type in {None, class_type}:
                await hold.stand()
        if delay := self._slow.get(class_type, self.node_delay):
            await asyncio.sleep(delay)
        if error := self._failing.get(class_type):
            raise error

    def blocked(self, class_type: str) -> tuple[bool, str | None]:
        """Whether nodes of that class give a blocked value, and its message."""
        return class_type in self._blocked, self._blocked.get(class_type)

    def next_post(self) -> PostFault | None:
        """What happens to this POST."""
        return self._posts.pop(0) if self._posts else None

    def canned(self, path: str) -> CannedAnswer | None:
        """The answer to give instead of the real one."""
        plain = path.removeprefix("/api")
        for canned in self._answers:
            if canned.path in {"*", path, plain} and canned.times != 0:
                if canned.times is not None:
                    canned.times -= 1
                return canned
        return None
