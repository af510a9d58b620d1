"""Reading what the command line names for secrets: files, and stdin."""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING, Final

from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from comfyclient.cli.app import App

__all__ = ["SecretFiles"]

_CAP: Final = 64 * 2**10
_OTHERS_READ: Final = stat.S_IRGRP | stat.S_IROTH


class SecretFiles:
    """Reads them, stdin at most once, and warns of those that others can read.

    Args:
        app: The application.
        stdin_taken_by: What else reads stdin in this run, if anything does.
    """

    def __init__(self, app: App, *, stdin_taken_by: str | None = None) -> None:
        self._app = app
        self._stdin_taken_by = stdin_taken_by

    def read(self, name: str, option: str, *, cap: int = _CAP) -> str:
        """The text of a file without the line break at its end; ``-`` is stdin.

        Args:
            name: The file, as the user gave it.
            option: Who names it, for messages.
            cap: Bytes that it may have.

        Raises:
            ConfigError: It cannot be read, is empty, too large, or no text. The message holds nothing of it.
        """
        where = f"{option}: " + ("stdin" if name == "-" else name)
        data = self._stdin(option, cap) if name == "-" else self._file(name, where, cap)
        if len(data) > cap:
            raise ConfigError(f"{where} is larger than {cap >> 10} KiB", hint="is it the right file?")
        try:
            text = data.decode("utf-8-sig")  # some editors begin with a mark of their own
        except UnicodeDecodeError:
            raise ConfigError(f"{where} is no text in UTF-8", hint="is it the right file? save it as UTF-8") from None
        text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            raise ConfigError(f"{where} is empty")
        return text

    def _stdin(self, option: str, cap: int) -> bytes:
        if self._stdin_taken_by is not None:
            raise ConfigError(
                f"{self._stdin_taken_by} and {option} both read stdin", hint="put one of the two into a file"
            )
        self._stdin_taken_by = option
        if self._app.stdin_is_terminal:
            self._app.note(f"{option}: reading from the terminal, which shows what you type; Ctrl-D ends it")
        return self._app.stdin.read(cap + 1)

    def _file(self, name: str, where: str, cap: int) -> bytes:
        try:
            with self._app.path(name).open("rb") as file:
                self._check_mode(os.fstat(file.fileno()), name, where)
                return file.read(cap + 1)
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "that is no file"
            raise ConfigError(f"{where} cannot be read: {reason.lower()}") from None

    def _check_mode(self, found: os.stat_result, name: str, where: str) -> None:
        if os.name == "posix" and stat.S_ISREG(found.st_mode) and found.st_mode & _OTHERS_READ:
            self._app.warn(f"{where} can be read by others on this machine; chmod 600 {shlex.quote(name)}")
