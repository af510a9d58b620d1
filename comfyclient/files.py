"""Files that appear whole or not at all, inside one folder, over nothing that was there.

All of it blocks; call it in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from comfyclient.errors import OutputExists, TransferError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["PartFile", "make_folders", "writing"]

# How systems say that a disk has no hard links, or none for us; Windows says EINVAL.
_NO_LINKS: Final = frozenset({
    errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS, errno.EINVAL,
})  # fmt: skip


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


class PartFile:
    """A file under a temporary name in the folder where it will stay, until `place` gives it its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f".comfyclient-{secrets.token_hex(8)}.part"
        with writing(self.path):
            self._file = self.path.open("xb", buffering=0)

    def write(self, data: bytes) -> None:
        """Add bytes."""
        with writing(self.path):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

    def place(self, names: Iterable[str], *, overwrite: bool) -> Path:
        """Close it and give it the first of ``names`` that is free, or simply the first with ``overwrite``.

        Raises:
            OutputExists: All are taken. Nothing was changed.
        """
        with writing(self.path):
            self._file.close()
        for name in names:
            target = self.path.with_name(name)
            with writing(target):
                if overwrite:
                    self.path.replace(target)  # a symlink there is replaced, not followed
                    return target
                if _move_new(self.path, target):
                    return target
        raise OutputExists(f"{target} is there already", hint="choose another name, or overwrite it")

    def discard(self) -> None:
        """Remove what is left of it; after `place`, nothing is."""
        self._file.close()
        with contextlib.suppress(OSError):  # the folder itself may be gone
            self.path.unlink(missing_ok=True)


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
