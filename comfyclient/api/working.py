"""Work on workflows, which may take long: in threads of its own, one for each key, and for a limited time.

Other requests go on meanwhile, other keys have threads of their own, and what takes too long is stopped. The end of the
server waits for none of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import gc
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from comfyclient.errors import ComfyClientError, WorkflowError
from comfyclient.prepare import ELSEWHERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Aside", "Overloaded", "TooComplex", "Workers"]

_AT_ONCE: Final = 4  # threads. More of them make none faster: they share one interpreter
_WAITING: Final = 2000  # that one key may have: as many as it may send at once, and more
_TURN: Final = 3  # how many times as long as it may take, work may wait for its turn

_T = TypeVar("_T")


class TooComplex(WorkflowError):
    """Dealing with the workflow took too long."""

    code: ClassVar[str] = "too_complex"
    default_hint: ClassVar[str | None] = "give a smaller workflow, with fewer nodes, fewer {a|b} choices, or less set"


class Overloaded(ComfyClientError):
    """There is too much to do."""

    code: ClassVar[str] = "busy"
    http_status: ClassVar[int] = 503
    default_hint: ClassVar[str | None] = "try again in some seconds, with fewer requests at a time"


class _Stopped(BaseException):
    """Raised in a thread that is to end."""


class Workers:
    """Does work in threads.

    Args:
        seconds: How long each may take. It may have to wait three times as long until it can begin.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._all = asyncio.Semaphore(_AT_ONCE)
        self._gates: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}

    async def run(self, owner: str, work: Callable[[], _T]) -> _T:
        """Do it.

        Raises:
            TooComplex: It took too long, and was stopped.
            Overloaded: It could not begin in time.
        """
        waiting = self._waiting.get(owner, 0)
        if waiting >= _WAITING:
            raise Overloaded("too many workflows of this key are waiting to be dealt with")
        self._waiting[owner] = waiting + 1
        try:
            return await self._in_turn(self._gates.setdefault(owner, asyncio.Lock()), work)
        finally:
            self._waiting[owner] -= 1
            if not self._waiting[owner]:
                del self._waiting[owner], self._gates[owner]

    async def _in_turn(self, gate: asyncio.Lock, work: Callable[[], _T]) -> _T:
        try:
            async with asyncio.timeout(_TURN * self._seconds) as wait, gate, self._all:
                wait.reschedule(None)
                return await self._in_thread(work)
        except TimeoutError:
            if not wait.expired():
                raise
            raise Overloaded("other workflows are being dealt with, and this one could not begin in time") from None

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        thread = _Thread(work)
        thread.start()
        try:
            async with asyncio.timeout(self._seconds) as limit:
                outcome: _T = await thread.outcome
        except TimeoutError:
            if not limit.expired():
                raise
            raise TooComplex(f"dealing with the workflow took more than {self._seconds:g} seconds") from None
        finally:
            thread.stop()
        return outcome


class _Thread:
    """One piece of work in a thread of its own, which is gone when it is done or has been stopped."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._unwanted = self._inside = False
        self.outcome: asyncio.Future[Any] = self._loop.create_future()
        context = contextvars.copy_context()
        # The interpreter does not wait for daemons when it ends.
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="comfyclient-work", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop it, if it has not ended: at its next step in Python, of which all this work consists."""
        with self._lock:
            self._unwanted = True
            if self._inside:
                thread = ctypes.c_ulong(self._thread.ident or 0)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_Stopped))

    def _run(self) -> None:
        try:
            with self._lock:  # it is stopped only where that is caught
                self._inside = not self._unwanted
            if self._inside:
                outcome = self._done()
                with self._lock:
                    self._inside = False
                self._tell(*outcome)
        except _Stopped:  # nobody waits for what it has done
            gc.enable()  # a conversion may have been stopped before it could do that

    def _done(self) -> tuple[Any, BaseException | None]:
        try:
            return self._work(), None
        except Exception as error:  # noqa: BLE001 - it is the caller's
            return None, error

    def _tell(self, result: Any, error: BaseException | None) -> None:
        def tell() -> None:
            if self.outcome.done():
                return
            if error is not None:
                self.outcome.set_exception(error)
            else:
                self.outcome.set_result(result)

        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:  # the loop has ended meanwhile, and so has whoever asked
            del tell


class Aside:
    """ASGI middleware: what a request has to do with workflows is done by workers, in the name of its key.

    Args:
        app: What it wraps.
        workers: Who do it.
    """

    def __init__(self, app: ASGIApp, workers: Workers) -> None:
        self._app, self._workers = app, workers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it through."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        owner = scope["state"].get("owner", "")
        before = ELSEWHERE.set(lambda work: self._workers.run(owner, work))
        try:
            await self._app(scope, receive, send)
        finally:
            ELSEWHERE.reset(before)
