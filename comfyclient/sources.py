"""What is uploaded: a file or bytes, measured, told apart by content, and opened as often as need be.

All of it blocks but `Source.opened`; call it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from comfyclient.errors import TransferError
from comfyclient.names import safe_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Source"]


@dataclass(frozen=True, slots=True)
class Source:
    """Something to upload.

    Attributes:
        content: A file's path, or the bytes.
        size: In bytes.
        changed: When the file was changed last, in nanoseconds; 0 for bytes.
    """

    content: Path | bytes
    size: int
    changed: int = 0

    @classmethod
    def measure(cls, content: Path | bytes) -> Source:
        """Look at it, but not into it.

        Raises:
            TransferError: There is no such file, or it is none.
        """
        if isinstance(content, bytes):
            return cls(content, len(content))
        try:
            about = content.stat()
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise _unreadable(content, error) from None
        if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for, for ever
            raise TransferError(f"cannot read {content}: it is no file")
        return cls(content, about.st_size, about.st_mtime_ns)

    def digest(self) -> str:
        """The SHA-256 of the content.

        Raises:
            TransferError: It cannot be read, or is changed meanwhile.
        """
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        with self._file(self.content) as file, _reading(self.content):
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._check(file, self.content, file.tell())
        return digest

    @property
    def title(self) -> str:
        """What to call it in a message."""
        return str(self.content) if isinstance(self.content, Path) else "the data"

    def name(self, digest: str) -> str:
        """A name by content: an upload that is repeated finds its own file there."""
        path = self.content if isinstance(self.content, Path) else Path("upload")
        stem = safe_name(path.stem).encode()[:100].decode(errors="ignore")
        return safe_name(f"{stem}-{digest[:12]}{path.suffix}")

    @contextlib.contextmanager
    def opened(self, on_read: Callable[[], None]) -> Iterator[io.BufferedReader | io.BytesIO]:
        """Open it. ``on_read`` is called, in any thread, each time that a part of it is read.

        Raises:
            TransferError: It cannot be read, or is not what was measured any more, at the beginning or at the end.
        """
        if isinstance(self.content, bytes):
            yield _Bytes(self.content, on_read)
            return
        # Who reads it may close it, and it is looked at once more behind that.
        with self._file(self.content) as raw, _File(io.FileIO(raw.fileno(), closefd=False), on_read) as file:
            yield file
            self._check(raw, self.content, self.size)

    @contextlib.contextmanager
    def _file(self, path: Path) -> Iterator[io.FileIO]:
        with _reading(path):
            file = io.FileIO(path)
        with file:
            self._check(file, path, self.size)
            yield file

    def _check(self, file: io.FileIO, path: Path, size: int) -> None:
        about = os.fstat(file.fileno())
        if (about.st_size, about.st_mtime_ns, size) != (self.size, self.changed, self.size):
            raise TransferError(f"cannot upload {path}: it is being changed", hint="upload it once it is finished")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


class _File(io.BufferedReader):
    def __init__(self, raw: io.FileIO, on_read: Callable[[], None]) -> None:
        super().__init__(raw)
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        self._on_read()
        return super().read(size)


class _Bytes(io.BytesIO):
    def __init__(self, data: bytes, on_read: Callable[[], None]) -> None:
        super().__init__(data)
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        self._on_read()
        return super().read(size)


def _unreadable(path: Path, error: OSError | ValueError) -> TransferError:
    reason = (error.strerror if isinstance(error, OSError) else None) or "the system refuses"
    return TransferError(f"cannot read {path}: {reason.lower()}")
