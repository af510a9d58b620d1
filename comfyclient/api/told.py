"""Which webhooks were taken or given up, so that a server that begins anew sends the others, and those no more."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = ["Told"]

_NAME: Final = "webhooks.txt"
_LARGE: Final = 2**20  # bytes after which what is of no use any more is left out


class Told:
    """A file of job ids, a line each. It blocks; call it in a thread.

    Args:
        folder: That of the journal.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._gate = threading.Lock()

    def read(self) -> set[str]:
        """The jobs of which nobody needs to be told any more.

        Raises:
            ConfigError: It cannot be read.
        """
        try:
            return set(self._path.read_text(encoding="ascii", errors="replace").split())
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise _trouble(self._path, error) from None

    def add(self, job_id: str) -> None:
        """One more.

        Raises:
            ConfigError: It cannot be written.
        """
        try:
            with self._gate:
                _append(self._path, f"{job_id}\n")
        except OSError as error:
            raise _trouble(self._path, error) from None

    def shrink(self, known: Collection[str]) -> None:
        """Leave out the jobs that the journal does not know any more, if the file has become large.

        Raises:
            ConfigError: It cannot be written.
        """
        try:
            if self._path.stat().st_size < _LARGE:
                return
        except FileNotFoundError:
            return
        kept = sorted(self.read().intersection(known))
        new = self._path.with_suffix(".new")
        try:
            with self._gate:
                new.unlink(missing_ok=True)
                _append(new, "".join(f"{job_id}\n" for job_id in kept))
                new.replace(self._path)
        except OSError as error:
            raise _trouble(self._path, error) from None


def _append(path: Path, text: str) -> None:
    """Write at the end of a file that nobody else can read."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0) as file:
        file.write(text.encode("ascii", "replace"))


def _trouble(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path} cannot be used: {error.strerror or error}")
