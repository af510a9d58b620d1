"""Files that appear whole or not at all, inside one folder, over nothing that was there.

All of it blocks; call it in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from comfyclient.errors import OutputExists, TransferError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from io import FileIO

__all__ = ["PartFile", "Witness", "make_folders", "remove_parts", "writing"]

# How systems say that a disk has no hard links, or none for us; Windows says EINVAL.
_NO_LINKS: Final = frozenset({
    errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS, errno.EINVAL,
})  # fmt: skip

_PART: Final = re.compile(r"\.comfyclient-([0-9a-f]{16})[0-9a-f]{16}\.part")
_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate the errors of writing ``path`` into one line each."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "the system refuses"
        hint = {
            errno.ENOSPC: "make room on that disk, then fetch the outputs again",
            errno.EACCES: "choose a folder that you may write to",
        }.get(error.errno or 0)
        raise TransferError(f"cannot write {path}: {reason}", hint=hint) from None


def make_folders(root: Path, parts: Iterable[str]) -> Path:
    """Make the folders ``parts`` below ``root``, which may be a symlink; what lies below it may not.

    Raises:
        TransferError: A part is there and no folder, or cannot be made.
    """
    folder = root
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        folder /= part
        with writing(folder):
            folder.mkdir(exist_ok=True)
        if folder.is_symlink():
            raise TransferError(f"cannot write into {folder}: it is a symlink and may lead elsewhere")
    return folder


class Witness(Protocol):
    """Who is told, before and after, that a file gets its name."""

    @property
    def mark(self) -> str:
        """What begins the token in the temporary name: 16 hex digits."""

    def placing(self, part: Path, target: Path) -> None:
        """``part`` is whole and is about to appear as ``target``, unless somebody else takes that name."""

    def placed(self, target: Path) -> None:
        """It is there."""


class PartFile:
    """A file under a temporary name in the folder where it will stay, until `place` gives it its own."""

    def __init__(self, folder: Path, witness: Witness | None = None) -> None:
        self._witness = witness
        mark = witness.mark if witness is not None else ""
        self.path = folder / f".comfyclient-{mark}{secrets.token_hex(8)}.part"
        with writing(self.path):
            self._file = self.path.open("xb", buffering=0)

    def write(self, data: bytes) -> None:
        """Add bytes."""
        with writing(self.path):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

    def restart(self) -> None:
        """Forget what was written."""
        with writing(self.path):
            self._file.seek(0)
            self._file.truncate()

    def place(self, names: Iterable[str], *, overwrite: bool) -> Path:
        """Close it and give it the first of ``names`` that is free, or simply the first with ``overwrite``.

        Raises:
            OutputExists: All are taken. Nothing was changed.
        """
        with writing(self.path):
            _to_disk(self._file)
            self._file.close()
        for name in names:
            target = self.path.with_name(name)
            if self._name(target, overwrite=overwrite):
                if self._witness is not None:
                    self._witness.placed(target)
                return target
        raise OutputExists(f"{target} is there already", hint="choose another name, or overwrite it")

    def _name(self, target: Path, *, overwrite: bool) -> bool:
        with writing(target):
            if self._witness is not None:
                if not overwrite and os.path.lexists(target):
                    return False
                self._witness.placing(self.path, target)
            if overwrite:
                self.path.replace(target)  # a symlink there is replaced, not followed
                return True
            return _move_new(self.path, target)

    def discard(self) -> None:
        """Remove what is left of it; after `place`, nothing is."""
        self._file.close()
        with contextlib.suppress(OSError):  # the folder itself may be gone
            self.path.unlink(missing_ok=True)


def remove_parts(root: Path, marks: Collection[str], *, deep: bool) -> int:
    """Remove the unfinished files of processes that have ended.

    Args:
        root: Where they are looked for.
        marks: Those of their witnesses.
        deep: Whether to look in the folders below it too.

    Returns:
        How many there were.
    """
    removed = 0
    for folder, below, names in os.walk(root):
        for name in names:
            found = _PART.fullmatch(name)
            if found is not None and found[1] in marks:
                with contextlib.suppress(OSError):  # what cannot be removed does no harm
                    Path(folder, name).unlink()
                    removed += 1
        if not deep:
            below.clear()
    return removed


def _to_disk(file: FileIO) -> None:
    """Have the bytes there before the name: else a power cut leaves a file that is named and empty."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def _move_new(source: Path, target: Path) -> bool:
    """Rename, but never over anything. Returns ``False`` if the name is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _fill_new(source, target)
    source.unlink(missing_ok=True)
    return True


def _fill_new(source: Path, target: Path) -> bool:
    """Take the name with an empty file, then put the whole one in its place."""
    try:
        target.open("xb").close()
    except FileExistsError:
        return False
    try:
        source.replace(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return True
