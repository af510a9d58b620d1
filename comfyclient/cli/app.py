"""What a command may touch of the world outside: one object, every part of it replaceable in tests."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import io
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TextIO

from comfyclient._redact import redact
from comfyclient.cli.text import message, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from comfyclient.auth.store import LoginStore
    from comfyclient.settings import Settings

__all__ = ["App", "Overlay"]


class Overlay(Protocol):
    """Something on the terminal that moves, above which lines can be written."""

    def line(self, text: str) -> None:
        """Write a line above it."""


def _run(function: Callable[[App, Any], int], app: App, options: Any) -> int:
    return function(app, options)


@dataclass
class App:
    """Streams, whether they are terminals, environment, folders, clocks; and how much to say.

    Data goes to ``stdout``; everything else goes to ``stderr``, through `note`, `warn` and `fail`.
    ``prompt`` asks the person at the terminal: a text, and whether the answer must not be seen; it raises
    `click.Abort` if there is none. ``use_keyring`` is that of `LoginStore`. ``secrets`` holds what is masked in
    messages until the end. ``execute`` is called with a command's run function, this object and the parsed options;
    tests replace it to see how a command line is parsed. ``owns_process``: nothing else runs in it, so signals may
    stay ours to the end.
    """

    stdin: BinaryIO
    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]
    cwd: Path
    stdin_is_terminal: bool = False
    stdout_is_terminal: bool = False
    stderr_is_terminal: bool = False
    owns_process: bool = False
    config_folder: Callable[[], Path] = field(default=lambda: _config_folder(), repr=False)  # noqa: PLW0108 - it is defined below
    state_folder: Callable[[], Path] = field(default=lambda: _state_folder(), repr=False)  # noqa: PLW0108
    use_keyring: bool | None = None
    prompt: Callable[[str, bool], str] = field(default=lambda text, hidden: _prompt(text, hidden), repr=False)  # noqa: PLW0108
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], dt.datetime] = field(default=lambda: dt.datetime.now().astimezone(), repr=False)
    leave: Callable[[int], Any] = os._exit
    execute: Callable[[Callable[[App, Any], int], App, Any], int] = _run
    json: bool = False
    events: bool = False
    quiet: bool = False
    verbosity: int = 0
    debug: bool = False
    overlay: Overlay | None = field(default=None, repr=False)
    secrets: list[Any] = field(default_factory=list, repr=False)

    @classmethod
    def of_process(cls) -> App:
        """The real thing."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # What the terminal cannot show must not end a run; a lone surrogate becomes JSON's own escape.
                # It flushes: what a full disk refuses now is refused again, and reported, when the run ends.
                with contextlib.suppress(OSError):
                    stream.reconfigure(errors="backslashreplace")
        stdin = sys.stdin.buffer if sys.stdin is not None else io.BytesIO()
        stdout, stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()
        return cls(
            stdin,
            stdout,
            stderr,
            os.environ,
            Path(),
            stdin_is_terminal=sys.stdin is not None and sys.stdin.isatty(),
            stdout_is_terminal=stdout.isatty(),
            stderr_is_terminal=stderr.isatty(),
            owns_process=True,
        )

    def settings(self, *, url: str | None = None) -> Settings:
        """The settings, with what the command line gave."""
        from comfyclient.settings import Settings

        return Settings.resolve(self.environ, url=url)

    def login_store(self) -> LoginStore:
        """Where logins are kept."""
        from comfyclient.auth.store import LoginStore

        return LoginStore(self.config_folder(), use_keyring=self.use_keyring)

    def journal_folder(self) -> Path:
        """Where the journal is: ``COMFYCLIENT_STATE_DIR``, else the user's state folder."""
        given = self.environ.get("COMFYCLIENT_STATE_DIR")
        return self.path(given) if given else self.state_folder()

    def ask(self, text: str, default: str = "") -> str:
        """Ask the person at the terminal. Call it only if there is one."""
        shown = f"{text} [{default}]" if default else text
        return self.prompt(printable(shown), False).strip() or default

    def ask_secret(self, text: str) -> str:
        """Ask for something that must not be seen."""
        return self.prompt(printable(text), True)

    def confirm(self, text: str) -> bool:
        """Ask a question whose answer is no unless it is yes."""
        return self.ask(f"{text} [y/N]").lower() in {"y", "yes"}

    @property
    def color(self) -> bool:
        """Whether colours are welcome on stderr (https://no-color.org)."""
        return self.stderr_is_terminal and not self.environ.get("NO_COLOR")

    @property
    def live(self) -> bool:
        """Whether stderr can show something that moves."""
        return self.stderr_is_terminal and self.environ.get("TERM") != "dumb"

    def path(self, name: str | os.PathLike[str]) -> Path:
        """A path that the user gave, relative to the working folder."""
        return self.cwd / name

    def print(self, text: str) -> None:
        """Write a line of data, as it is."""
        self.write(text + "\n")

    def show(self, text: str) -> None:
        """Write a line of data that is for people: what a server said in it cannot steer the terminal."""
        self.write(printable(text).replace("\n", " ") + "\n")

    def print_path(self, path: Path) -> None:
        """Write a path on a line of its own: the very bytes of the file's name, where stdout takes UTF-8."""
        name = str(path)
        buffer = getattr(self.stdout, "buffer", None)
        if (
            buffer is None
            or (self.overlay is not None and self.stdout_is_terminal)
            or not _has_bytes(name, self.stdout)
        ):
            self.print(name)
            return
        self.flush()
        try:
            buffer.write(os.fsencode(name) + b"\n")
        except OSError as error:
            raise _unwritable(error) from None

    def print_json(self, document: Any) -> None:
        """Write one JSON document: readable on a terminal, else compact."""
        self.print(_to_json(document, indent=2 if self.stdout_is_terminal else None))

    def print_event(self, event: Mapping[str, Any]) -> None:
        """Write one JSON object on a line of its own, at once."""
        self.print(_to_json(event, indent=None))
        self.flush()

    def write(self, text: str) -> None:
        """Write data to stdout.

        Raises:
            TransferError: It cannot be written, for example because the disk is full.
            BrokenPipeError: Nobody reads it any more.
        """
        if self.overlay is not None and self.stdout_is_terminal:
            self.overlay.line(text.removesuffix("\n"))  # on the same screen, and not in the middle of a bar
            return
        try:
            self.stdout.write(text)
        except OSError as error:
            raise _unwritable(error) from None

    def flush(self) -> None:
        """Send what was written.

        Raises:
            TransferError: It cannot be written, for example because the disk is full.
            BrokenPipeError: Nobody reads it any more.
        """
        try:
            self.stdout.flush()
        except OSError as error:
            raise _unwritable(error) from None

    def note(self, text: str) -> None:
        """Say something on stderr, unless told to be quiet."""
        if not self.quiet:
            self.tell(text)

    def detail(self, text: str) -> None:
        """Say something on stderr that is of interest only with ``--verbose``."""
        if self.verbosity and not self.quiet:
            self.tell(text)

    def warn(self, text: str) -> None:
        """Warn on stderr; also when told to be quiet, because something may not be as it was meant."""
        self.tell(f"warning: {text}")

    def tell(self, text: str, lines: int = 40) -> None:
        """Write a message to stderr, secrets masked; of many lines, the first ``lines``, all but the first indented.

        That nobody reads it, or that it cannot be written, changes nothing.
        """
        shown = message(redact(text), lines)
        try:
            if self.overlay is not None:
                self.overlay.line(shown)
                return
            self.stderr.write(shown + "\n")
            self.stderr.flush()
        except (OSError, ValueError):
            # There is no place left to say so.
            self.stderr = io.StringIO()

    def read_stdin(self) -> bytes:
        """All of stdin."""
        if self.stdin_is_terminal:
            self.note("reading from the terminal; Ctrl-D ends it")
        return self.stdin.read()


def _to_json(document: Any, *, indent: int | None) -> str:
    from comfyclient import _json

    return _json.dumps(document, indent=indent)


def _has_bytes(name: str, stream: TextIO) -> bool:
    """Whether a name holds bytes that are no UTF-8, and the stream could write them nevertheless."""
    if not (stream.encoding or "").lower().replace("-", "").startswith("utf8"):
        return False
    return any("\udc80" <= char <= "\udcff" for char in name)


def _unwritable(error: OSError) -> Exception:
    # Windows reports a pipe that nobody reads as an invalid argument.
    if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
        return BrokenPipeError()
    from comfyclient.errors import TransferError

    return TransferError(f"cannot write to stdout: {os.strerror(error.errno or 0).lower()}")


def _config_folder() -> Path:
    import platformdirs

    return platformdirs.user_config_path("comfyclient", appauthor=False)


def _state_folder() -> Path:
    import platformdirs

    return platformdirs.user_state_path("comfyclient", appauthor=False)


def _prompt(text: str, hidden: bool) -> str:
    import click

    answer: str = click.prompt(text, default="", hide_input=hidden, show_default=False, err=True)
    return answer
