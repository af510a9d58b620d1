"""Running what is asynchronous, and what Ctrl-C does to it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from comfyclient.cli.failures import STOPPED, show_stopped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator

    from comfyclient.cli.app import App
    from comfyclient.client import ComfyClient
    from comfyclient.emulator import Emulator

__all__ = ["Interrupts", "address_to_repeat", "connect", "run_async", "temporary_folder"]

# The last is what a terminal sends when it is closed; Windows has none.
_SIGNALS: Final = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__
)


_TRIES: Final = 3


class Interrupts:
    """What the person at the keyboard (or whoever sends SIGTERM) has asked for so far.

    The first signal cancels the run, which may then clean up. The second leaves at once: ``last_words`` gives what
    is to be said then, and ``leaving`` holds what is to be done, at once and without any waiting. ``stopped`` is what
    to say if the run ends by the first; ``None`` if it has said so itself.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[int] | None = None
        self.count = 0
        self.stopped: str | None = "stopped"
        self.last_words: Callable[[], Iterable[str]] = tuple
        self.leaving: list[Callable[[], None]] = []

    def watch(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[int]) -> None:
        """Cancel this task at the first signal."""
        self._loop, self._task = loop, task

    def handle(self, number: int, frame: Any) -> None:  # noqa: ARG002 - what signal handlers are given
        """A signal came."""
        self.count += 1
        if self.count == 1 and self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
            return
        if self.count == 1:  # nothing is under way: the run has not begun, or is over
            self._app.tell("stopped")
        for line in self.last_words():
            self._app.tell(line)
        for clean in self.leaving:
            clean()
        self._app.leave(STOPPED)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Have signals come here. Only the main thread can.

        In a process of our own they do so until it ends, so that its exit code is ours also when one comes late.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = [number for number in _SIGNALS if not _by_nohup(number)]
        before = [(number, signal.signal(number, self.handle)) for number in handled]
        if self._app.owns_process:
            atexit.register(_ignore, handled)
        try:
            yield
        finally:
            self._loop, self.last_words = None, tuple
            for number, handler in before if not self._app.owns_process else ():
                signal.signal(number, handler)


def _by_nohup(number: signal.Signals) -> bool:
    return number.name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN


def _ignore(numbers: Iterable[signal.Signals]) -> None:
    """The interpreter ends: it drops handlers of ours, and then a signal would be how the process ended."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


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
            if interrupts.stopped is not None:
                show_stopped(app, interrupts.stopped)
            return STOPPED


@contextlib.contextmanager
def temporary_folder(interrupts: Interrupts) -> Iterator[Path]:
    """A folder for an emulator, which is gone afterwards: also when a second signal leaves nobody time for it.

    Raises:
        OSError: It cannot be made.
    """
    folder = Path(tempfile.mkdtemp(prefix="comfyclient-emulator-"))

    def remove() -> None:
        for _ in range(_TRIES):  # a thread may be writing there
            if folder.exists():
                shutil.rmtree(folder, ignore_errors=True)

    interrupts.leaving.append(remove)
    try:
        yield folder
    finally:
        remove()


def address_to_repeat(app: App, client: ComfyClient, url: str | None) -> str | None:
    """What ``--url`` must say in another command for the same instance; ``None`` if it is the default."""
    return None if app.settings(url=url).url_from == "default" else str(client.url)


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
