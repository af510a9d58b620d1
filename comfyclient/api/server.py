"""The process that serves the REST API: what signals do to it, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from comfyclient.api.errors import server_ending
from comfyclient.api.listening import listen, port_of, url_of
from comfyclient.api.protocol import protocol_for
from comfyclient.api.replies import problem

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from comfyclient.api.settings import ApiSettings

__all__ = ["serve"]

_STOPPED: Final = 130
_KEEP_ALIVE: Final = 75  # seconds: longer than proxies keep their idle connections, or they send into closed ones
_GRACE: Final = 5  # seconds for requests under way, after the jobs had theirs
_FROM_CALLERS: Final = 2**16  # bytes of a websocket message: callers have nothing to say there
_FILES: Final = 2**16
_SIGNALS: Final = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if name in signal.Signals.__members__
)


_log = logging.getLogger("comfyclient.api.server")


def serve(
    settings: ApiSettings,
    *,
    sockets: Sequence[socket.socket] | None = None,
    forwarded_allow_ips: str | None = None,
    listening: Callable[[str], None] = print,
    leave: Callable[[int], Any] = os._exit,
) -> int:
    """Serve the REST API until a signal ends it.

    SIGTERM, or Ctrl-C, ends it in order: it takes no more work, gives unfinished jobs ``settings.drain`` seconds, ends
    the streams of events, and answers what is under way. Ctrl-C while it does so ends the process at once.

    Args:
        settings: How it is to be.
        sockets: Those it listens on already; by default it does so by itself.
        forwarded_allow_ips: The proxies, with commas between, whose ``X-Forwarded-…`` headers count; ``"*"`` for any.
        listening: Told its url as soon as it answers.
        leave: Ends the process at once, with this exit code.

    Returns:
        The exit code.

    Raises:
        ConfigError: It cannot listen there, or must not; see `comfyclient.api.listening`.
        Exception: Whatever the application raised when it started or ended.
    """
    from comfyclient.api.app import create_app

    ours = list(sockets) if sockets is not None else listen(settings.host, settings.port, settings.keys)
    try:
        _allow_many_files()
        app = create_app(dataclasses.replace(settings, port=port_of(ours)))
        application = _Application(app)
        config = _config(application, settings, forwarded_allow_ips)
        server = _Server(config, app.state, settings.drain, lambda: listening(url_of(settings.host, ours)), leave)
        with server.signals():
            return asyncio.run(server.run_to_end(ours, application))
    finally:
        for sock in ours:
            sock.close()


class _Application:
    """The application, whose errors at the start and the end are kept: uvicorn logs them, and exits with a code.

    A request that is stopped at the end is answered like any that is refused; uvicorn would say 500, in plain text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.error: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
            return
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def keep_quiet(message: Any) -> None:
            await send({**message, "message": ""} if "message" in message else message)

        try:
            await self._app(scope, receive, keep_quiet)
        except BaseException as error:
            self.error = error
            raise

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            if begun:
                raise
            why = server_ending()
            await problem(why.status, why.code, why.detail, headers=why.headers)(scope, receive, send)


class _Server(uvicorn.Server):
    """uvicorn's server, with an end of our own.

    Args:
        config: Of uvicorn.
        state: The application's: ``draining`` is set when the end begins, then ``hub.drain`` waits, and ends streams.
        drain: Seconds that unfinished jobs are waited for.
        listening: Called when it answers.
        leave: Ends the process.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: Any,
        drain: float,
        listening: Callable[[], None],
        leave: Callable[[int], Any],
    ) -> None:
        super().__init__(config)
        self._state, self._seconds = state, drain
        self._listening, self._leave = listening, leave
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None
        self._stopping = False

    async def run_to_end(self, sockets: list[socket.socket], application: _Application) -> int:
        """Serve, and return the exit code."""
        self._loop = asyncio.get_running_loop()
        try:
            await self.serve(sockets)
        except SystemExit:
            if application.error is None:
                raise
        if self._ending is not None:
            await self._ending
        if application.error is not None:
            raise application.error
        return 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if not self.should_exit:
            self._listening()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Have signals come here. Only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = [number for number in _SIGNALS if not _by_nohup(number)]
        before = [(number, signal.signal(number, self.handle_exit)) for number in handled]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them there: uvicorn would raise those that came once more when everything is over."""
        yield

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002 - what signal handlers are given
        """A signal came."""
        if self._stopping and sig == signal.SIGINT:
            self._leave(_STOPPED)
        if self._stopping:
            return
        self._stopping = True
        if self._loop is None or not self.started:  # there is nothing to wait for yet
            self.should_exit = True
            return
        self._loop.call_soon_threadsafe(self._begin_end)

    def _begin_end(self) -> None:
        self._ending = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        self._state.draining = True
        _log.info("told to end: no more work is taken, unfinished jobs have %g seconds", self._seconds)
        try:
            await self._state.hub.drain(self._seconds)
        finally:
            self.should_exit = True


def _by_nohup(number: signal.Signals) -> bool:
    return number.name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN


def _config(app: ASGIApp, settings: ApiSettings, forwarded_allow_ips: str | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol_for(settings.limits.head_seconds),
        ws="websockets-sansio",
        ws_max_size=_FROM_CALLERS,
        ws_per_message_deflate=False,
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=forwarded_allow_ips is not None,
        forwarded_allow_ips=forwarded_allow_ips,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )


def _allow_many_files() -> None:
    """A connection is a file, and what a shell allows is few."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # some systems have a lower limit that they do not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
