"""Running what is asynchronous, and what Ctrl-C does to it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from comfyclient.cli.failures import STOPPED, show_stopped
from comfyclient.cli.logs import logging_to
from comfyclient.errors import CertificateUntrusted, ConfigError, InstanceUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator

    from comfyclient.auth.detect import Kind
    from comfyclient.auth.session import Session
    from comfyclient.auth.store import StoredLogin
    from comfyclient.cli.app import App
    from comfyclient.cli.credentials import GivenLogin
    from comfyclient.client import ComfyClient
    from comfyclient.emulator import Emulator
    from comfyclient.recording import Recording

__all__ = [
    "Interrupts",
    "connect",
    "keep_renewed",
    "kind_of",
    "run_async",
    "run_for",
    "temporary_folder",
    "waiting_for",
]

# The last is what a terminal sends when it is closed; Windows has none.
_SIGNALS: Final = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__
)


_TRIES: Final = 3
_PAUSE: Final = 2.0  # seconds between two questions to an instance that is not up
_T = TypeVar("_T")


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

    with interrupts.installed(), logging_to(app), asyncio.Runner() as runner:
        try:
            return runner.run(watched())
        except asyncio.CancelledError:
            if not interrupts.count:
                raise
            if interrupts.stopped is not None:
                show_stopped(app, interrupts.stopped)
            return STOPPED


def run_for(app: App, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run an asynchronous part of a command for what it returns.

    Raises:
        KeyboardInterrupt: It was stopped; nothing was said of that.
    """
    found: list[_T] = []

    async def run(interrupts: Interrupts) -> int:
        interrupts.stopped = None
        found.append(await work())
        return 0

    if run_async(app, run):
        raise KeyboardInterrupt
    return found[0]


async def waiting_for(app: App, seconds: float | None, ask: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Ask again and again until there is an answer, and say why there is none yet.

    Args:
        app: The application.
        seconds: For how long; ``None`` asks once.
        ask: Raises InstanceUnavailable as long as there is none.
    """
    clock = asyncio.get_running_loop().time
    deadline, reason = clock() + (seconds or 0), ""
    while True:
        try:
            async with asyncio.timeout_at(deadline if seconds else None):
                return await ask()
        except TimeoutError:
            raise InstanceUnavailable(reason or "the instance did not answer in time") from None
        except CertificateUntrusted:
            raise
        except InstanceUnavailable as error:
            left = deadline - clock()
            if left <= 0:
                raise
            if str(error) != reason:
                reason = str(error)
                app.note(f"waiting: {reason}")
        await asyncio.sleep(min(_PAUSE, left))


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


@contextlib.asynccontextmanager
async def connect(
    app: App,
    login: GivenLogin | None = None,
    *,
    emulator: Emulator | None = None,
    recording: Recording | None = None,
    stall_timeout: float | None = None,
) -> AsyncIterator[ComfyClient]:
    """A client of the instance that is given, or of an emulator, which is started for it.

    A stored login is stored again if the instance has renewed it. With ``recording``, the client keeps a journal.
    ``stall_timeout`` is that of the client, in seconds.

    Raises:
        AuthError: The stored login does not let us in any more.
        InstanceUnavailable: It is not up in the time that it is given.
    """
    from comfyclient.client import ComfyClient

    async with contextlib.AsyncExitStack() as stack:
        if emulator is not None:
            await stack.enter_async_context(emulator)
            app.note("the emulator runs this: pictures that need a model are simulated")
            yield await stack.enter_async_context(ComfyClient(emulator.url, stall_timeout=stall_timeout))
            return
        assert login is not None
        client = await stack.enter_async_context(
            ComfyClient(
                str(login.url),
                credential=login.credential,
                stored=login.stored,
                tls=login.tls,
                comfy_user=login.comfy_user,
                journal=recording,
                stall_timeout=stall_timeout,
            )
        )
        if login.wait_ready is not None:
            await client.wait_ready(login.wait_ready, waiting=lambda reason: app.note(f"waiting: {reason}"))
        if login.stored is None or login.credential is not None:
            yield client
            return
        session = await client.login()
        try:
            yield client
        finally:
            await keep_renewed(app, session, login.stored)


async def keep_renewed(app: App, session: Session, stored: StoredLogin) -> None:
    """Store a login again, if the instance has given it new cookies. What was refused changes nothing."""
    from comfyclient.auth.detect.verdicts import Kind
    from comfyclient.auth.remember import recall, remember

    cookies = session.cookies.to_json()
    renewed = session.generation > 0 or str(session.base) != stored.url
    if not renewed and (cookies == stored.cookies or not cookies):
        return
    kept = remember(session, recall(stored).credential, fingerprint=stored.fingerprint, comfy_user=stored.comfy_user)
    kept = dataclasses.replace(kept, kind=kind_of(session, Kind(stored.kind)).value, username=stored.username)
    try:
        where = await asyncio.to_thread(app.login_store().save, kept)
    except ConfigError as error:
        app.warn(f"the renewed login could not be kept: {error}")
    else:
        app.detail(f"the renewed login is kept in {where}")


def kind_of(session: Session, outermost: Kind) -> Kind:
    """Which login it is: the innermost, and the outermost if there is nothing else."""
    kind = session.kind
    return outermost if kind is None or kind == "open" else kind
