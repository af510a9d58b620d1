"""Who looks after a job, and whether they are still alive.

Each `Journal` that holds jobs keeps a file of its own locked. The system drops the lock when the process ends, however
it ends, and only then: no heartbeat can be late, no process number can be taken for another's, and a process that was
stopped, or slept with the machine, keeps what it has.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
from typing import TYPE_CHECKING, Final

from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["OwnerLock", "is_alive", "tokens"]

_PREFIX: Final = "journal-"
_SUFFIX: Final = ".lock"


class OwnerLock:
    """The locked file of one owner, until `close` or the end of the process.

    Raises:
        ConfigError: The folder cannot be written to, or its file system has no locks.
    """

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_hex(8)
        self._path = _path(folder, self.token)
        with _explaining(folder):
            self._file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b")
            try:
                _lock(self._file.fileno())
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Let go. What this owner held is free for others."""
        self._file.close()  # first: Windows removes no open file
        _remove(self._path)


def is_alive(folder: Path, token: str) -> bool:
    """Whether the owner's process lives. To be asked by one process at a time: asking takes the lock for a moment.

    A dead owner's file is removed. One that may not be opened is another user's, and counts as alive.

    Raises:
        ConfigError: The file cannot be opened for other reasons.
    """
    path = _path(folder, token)
    with _explaining(folder):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        except PermissionError:
            return True
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):  # Windows says the latter
            return True
        finally:
            os.close(descriptor)
        _remove(path)
    return False


def tokens(folder: Path) -> list[str]:
    """All owners of whom there is a file."""
    with _explaining(folder):
        return [path.name[len(_PREFIX) : -len(_SUFFIX)] for path in folder.glob(f"{_PREFIX}*{_SUFFIX}")]


def _path(folder: Path, token: str) -> Path:
    return folder / f"{_PREFIX}{token}{_SUFFIX}"


def _lock(descriptor: int) -> None:
    """Lock a file, or raise at once. By descriptor, not by process: two journals in one process are two owners."""
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove(path: Path) -> None:
    # An empty file that stays does no harm: unlocked, it is a dead owner's, and the next process tries again.
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "the system refuses"
        hint = "make room on that disk" if error.errno == errno.ENOSPC else "the journal needs a folder on a local disk"
        raise ConfigError(f"cannot lock a file in {folder}: {reason}", hint=hint) from None
