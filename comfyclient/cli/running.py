"""Running what is asynchronous, and what Ctrl-C does to it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

from comfyclient.cli.failures import STOPPED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from comfyclient.cli.app import App
    from comfyclient.client import ComfyClient
    from comfyclient.emulator import Emulator

__all__ = ["Interrupts", "connect", "run_async"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """What the person at the keyboard (or whoever sends SIGTERM) has asked for so far.

    The first signal cancels the run, which may then clean up. The second leaves at once; ``last_words`` gives what
    is to be said then.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[int] | None = None
        self.count = 0
        self.last_words: Callable[[], str | None] = lambda: None

    def watch(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[int]) -> None:
        """Cancel this task at the first signal."""
        self._loop, self._task = loop, task

    def handle(self, number: int, frame: Any) -> None:  # noqa: ARG002 - what signal handlers are given
        """A signal came."""
        self.count += 1
        if self.count == 1 and self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
            return
        words = self.last_words()
        if words:
            self._app.tell(words)
        self._app.leave(STOPPED)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Have signals come here. Only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = [(number, signal.signal(number, self.handle)) for number in _SIGNALS]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)


def run_async(app: App, run: Callable[[Interrupts], Coroutine[Any, Any, int]]) -> int:
    """Run a command's asynchronous part.

    Args:
        app: The application.
        run: Cancelled at the first Ctrl-C; it has then the time that it needs to clean up.

    Returns:
        What it returned; 130 if it was stopped.
    """
    interrupts = Interrupts(app)

    async def watched() -> int:
        task = asyncio.current_task()
        assert task is not None
        interrupts.watch(asyncio.get_running_loop(), task)
        return await run(interrupts)

    with interrupts.installed(), asyncio.Runner() as runner:
        try:
            return runner.run(watched())
        except asyncio.CancelledError:
            if not interrupts.count:
                raise
            return STOPPED


@contextlib.asynccontextmanager
async def connect(app: App, *, url: str | None = None, emulator: Emulator | None = None) -> AsyncIterator[ComfyClient]:
    """A client of the instance that the settings name, or of an emulator, which is started for it.

    Raises:
        ConfigError: The url makes no sense.
    """
    from comfyclient.client import ComfyClient

    async with contextlib.AsyncExitStack() as stack:
        if emulator is not None:
            await stack.enter_async_context(emulator)
            app.note("the emulator runs this: pictures that need a model are simulated")
        address = app.settings(url=url).url if emulator is None else emulator.url
        yield await stack.enter_async_context(ComfyClient(address))
