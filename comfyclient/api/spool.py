"""Where files lie that are on their way to an instance: below the server's own folder, if it has one."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from typing import TYPE_CHECKING, Final

from comfyclient.journal.owners import OwnerLock, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Spool"]

_NAME: Final = "uploads"
_PREFIX: Final = "comfyclient-"


class Spool:
    """The folder of one server, which holds it from `begin` to `end`. Both block.

    Args:
        home: The server's own folder; ``None``: files lie where all temporary ones do.
    """

    def __init__(self, home: Path | None) -> None:
        self._root = home / _NAME if home is not None else None
        self._lock: OwnerLock | None = None
        self._place: Path | None = None

    def begin(self) -> None:
        """Make it, and remove those that servers have left which were killed.

        Raises:
            ConfigError: The folder cannot be written to.
        """
        if self._root is None:
            return
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._root.iterdir():
            if left.is_dir() and not is_alive(self._root, left.name):
                shutil.rmtree(left, ignore_errors=True)
        self._lock = OwnerLock(self._root)
        self._place = self._root / self._lock.token
        self._place.mkdir(mode=0o700)

    def end(self) -> None:
        """Remove it."""
        if self._place is not None and self._lock is not None:
            shutil.rmtree(self._place, ignore_errors=True)
            self._lock.close()

    @contextlib.contextmanager
    def folder(self) -> Iterator[str]:
        """An empty folder for one file, which is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self._place) as folder:
            yield folder
