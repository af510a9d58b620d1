"""Files for one pair of eyes: written whole or not at all, and refused when somebody else could read or swap them.

On Windows the user's profile keeps others out; there, modes and owners are not looked at. All of it blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shlex
import stat
from typing import TYPE_CHECKING, Final

from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["check_folder", "make_folder", "read_private", "remove_private", "write_private"]

_POSIX: Final = os.name == "posix"
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_FLAGS: Final = _NO_FOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NONBLOCK: Final = getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for a writer
_IS_LINK: Final = frozenset({errno.ELOOP, errno.EMLINK})  # what systems say to O_NOFOLLOW
_IS_SOCKET: Final = frozenset({errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP})  # and to opening what no file is
_NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_REMOVE: Final = "remove it, then log in again"


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, mode 0700 whatever the umask.

    Raises:
        ConfigError: It cannot be made.
    """
    with _naming("make", path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process was faster; `check_folder` judges it
                folder.mkdir(mode=0o700)
                if _POSIX:
                    folder.chmod(0o700)


def check_folder(path: Path, *, readable: bool = False) -> bool:
    """Whether the folder is there.

    Args:
        path: The folder.
        readable: Others may read in it, and it may be a symlink. They may not write, in any case: they could put
            another file in the place of one.

    Raises:
        ConfigError: It is not the user's alone.
    """
    try:
        with _naming("read", path):
            found = path.stat(follow_symlinks=readable)
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path} is {_kind(found.st_mode)} and must be a folder", hint=_REMOVE)
    _check_owner(path, found, _OTHERS_WRITE if readable else _OTHERS, "700")
    return True


def read_private(path: Path, cap: int, *, kept: str = "logins", fix: str = _REMOVE) -> bytes | None:
    """The content of a file that only the user can read; ``None`` if there is none.

    Args:
        path: The file.
        cap: Bytes that it may have.
        kept: What is kept there, for messages.
        fix: What to do about a file that is refused, for messages.

    Raises:
        ConfigError: Others can read it, it is somebody else's, no file, a symlink, or larger than ``cap`` bytes.
    """
    try:
        with _naming("read", path, fix):
            descriptor = os.open(path, os.O_RDONLY | _FLAGS | _NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or (not _NO_FOLLOW and path.is_symlink()):
            raise ConfigError(f"{path} is {_kind(found.st_mode)} and must be a plain file", hint=fix)
        _check_owner(path, found, _OTHERS, "600", kept=kept, fix=fix)
        with _naming("read", path, fix), os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(cap + 1)
    finally:
        os.close(descriptor)
    if len(data) > cap:
        raise ConfigError(f"{path} is too large to be a file of {kept}", hint=fix)
    return data


def write_private(path: Path, data: bytes) -> None:
    """Write a file, mode 0600 whatever the umask; until it is whole and on the disk, the old one stays.

    Raises:
        ConfigError: It cannot be written. Nothing was changed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    with _naming("write", path):
        try:
            _create(temporary, data)
            temporary.replace(path)  # a symlink there is replaced, not followed
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def remove_private(path: Path) -> bool:
    """Remove a file, whatever it is, and what a crash during `write_private` left. Whether there was anything.

    Raises:
        ConfigError: It cannot be removed.
    """
    with _naming("remove", path):
        found = [path] if os.path.lexists(path) else []
        found += [part for part in path.parent.glob(".*.tmp") if part.name.startswith(f".{path.name}.")]
        for part in found:
            part.unlink(missing_ok=True)
        if found:
            _sync_folder(path.parent)
    return bool(found)


def _create(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if _POSIX:
            os.fchmod(descriptor, 0o600)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where folders can be synced."""
    if not _POSIX:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def _check_owner(
    path: Path, found: os.stat_result, forbidden: int, mode: str, *, kept: str = "logins", fix: str = _REMOVE
) -> None:
    if not _POSIX:
        return
    if found.st_uid != os.geteuid():
        raise ConfigError(f"{path} belongs to another user", hint=fix)
    if found.st_mode & forbidden:
        what = "read" if found.st_mode & forbidden & ~_OTHERS_WRITE else "change"
        raise ConfigError(
            f"others can {what} {path}, where {kept} are stored", hint=f"chmod {mode} {shlex.quote(str(path))}"
        )


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode) or stat.S_ISREG(mode):  # where symlinks are followed, a file is seen behind one
        return "a symlink" if stat.S_ISLNK(mode) or not _NO_FOLLOW else "a file"
    return "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"


@contextlib.contextmanager
def _naming(what: str, path: Path, fix: str = _REMOVE) -> Iterator[None]:
    """Say which file an error is about. One that is not there is left to the caller when reading."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT and what == "read":
            raise
        if error.errno in _IS_LINK:
            raise ConfigError(f"{path} is a symlink, which may lead elsewhere", hint=fix) from None
        if error.errno in _IS_SOCKET:
            raise ConfigError(f"{path} must be a plain file", hint=fix) from None
        reason = os.strerror(error.errno).lower() if error.errno else "the system refuses"
        hint = fix if isinstance(error, PermissionError) and what == "read" else None  # it may be another user's
        raise ConfigError(f"cannot {what} {path}: {reason}", hint=hint) from None
