"""Uploads and downloads, streamed: memory does not grow with the file."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from comfyclient.downloads import download
from comfyclient.errors import TransferError
from comfyclient.files import PartFile, make_folders
from comfyclient.names import alternatives
from comfyclient.patience import Patience
from comfyclient.threads import in_thread
from comfyclient.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from comfyclient._http import Http
    from comfyclient.files import Witness
    from comfyclient.wire.answers import Uploaded
    from comfyclient.wire.outputs import OutputRef

__all__ = ["SAVE_CAP", "Transfers"]

SAVE_CAP: Final = 64 * 2**30
"""Bytes that a file which is saved may have, if nobody says otherwise: an answer that never ends fills no disk."""

_READ_CAP: Final = 1 * 2**30
_ENCODED_CAP: Final = 32 * 2**20


class Transfers:
    """Moves files to and from one instance. Uploads are named by their content, so that none is sent twice.

    Args:
        http: The instance.
        patience: How long to wait, and how often to try again.
        read_cap: Bytes that `read` takes into memory at most.
        save_cap: Bytes that `save` writes for one file at most; ``None`` for what the disk takes.
    """

    def __init__(
        self,
        http: Http,
        *,
        patience: Patience | None = None,
        read_cap: int = _READ_CAP,
        save_cap: int | None = SAVE_CAP,
    ) -> None:
        self._http = http
        self._uploads = Uploads(http)
        self.patience = patience or Patience()
        self.read_cap = read_cap
        self.save_cap = save_cap

    @property
    def instance(self) -> str:
        """The url of the instance, without any secret."""
        return str(self._http.base)

    async def upload(
        self, source: Path | bytes, *, name: str | None = None, subfolder: str = "", kind: str = "input",
        overwrite: bool = False,
    ) -> Uploaded:  # fmt: skip
        """Send a file to the instance.

        Args:
            source: A file's path, or the bytes.
            name: Its name there; by default made of its own name and its content.
            subfolder: Folder there, made if need be.
            kind: ``"input"``, ``"temp"`` or ``"output"``.
            overwrite: Replace a file of that name; else the instance finds a free one, or the equal file.

        Raises:
            TransferError: The file cannot be read, is larger than the instance or a proxy before it takes, or they did
                not take it.
        """
        return await self._uploads.upload(
            source, name=name, subfolder=subfolder, kind=kind, overwrite=overwrite, patience=self.patience
        )

    async def read(self, ref: OutputRef) -> bytes:
        """Fetch an output into memory.

        Raises:
            TransferError: It cannot be fetched, or is too large for that.
        """
        sink = _Memory(ref.filename, self.read_cap)
        await download(self._http, ref, sink, self.patience)
        return b"".join(sink.parts)

    async def save(
        self, ref: OutputRef, root: Path, parts: Sequence[str], *, overwrite: bool, rename: bool,
        witness: Witness | None = None,
    ) -> Path:  # fmt: skip
        """Fetch an output into ``root``, to the path that ``parts`` give: folders, then the name.

        Args:
            ref: What to fetch.
            root: The folder that nothing leads out of; made if need be.
            parts: Safe names.
            overwrite: Replace a file of that name.
            rename: Take ``"name (1)"`` if the name is taken, rather than fail.
            witness: Who is told where it goes.

        Returns:
            Where it is.

        Raises:
            OutputExists: The name is taken.
            TransferError: It cannot be fetched or written. No part of it is left behind.
        """
        *folders, name = parts
        names: Iterable[str] = alternatives(name) if rename else (name,)
        folder = await asyncio.to_thread(make_folders, root, folders)
        part = PartFile(folder, witness)  # at once: in a thread, a cancelled await would leave it behind
        try:
            sink = _File(ref.filename, part, self.save_cap)
            await download(self._http, ref, sink, self.patience)
            return await sink.place(names, overwrite=overwrite)
        finally:
            part.discard()


class _Memory:
    """Keeps a file in memory, up to ``cap`` bytes; much fewer if it comes compressed, for then it may be a bomb."""

    def __init__(self, name: str, cap: int) -> None:
        self._name = name
        self._cap = self._most = cap
        self._size = 0
        self.parts: list[bytes] = []

    async def restart(self, *, encoded: bool) -> None:
        self._size = 0
        self.parts.clear()
        self._most = min(self._cap, _ENCODED_CAP) if encoded else self._cap

    async def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._most:
            raise _too_large(self._name, self._most, "save it to a file")
        self.parts.append(data)


class _File:
    """Writes a file to the disk, up to ``cap`` bytes."""

    def __init__(self, name: str, part: PartFile, cap: int | None) -> None:
        self._name = name
        self._part = part
        self._cap = cap
        self._size = 0
        self._stale = False

    async def restart(self, *, encoded: bool) -> None:  # noqa: ARG002 - the disk is not the memory
        # Done with the next write: what arrives while nobody reads is lost if the connection breaks.
        self._stale = True
        self._size = 0

    async def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._cap is not None and self._size > self._cap:
            hint = "it is still on the instance; ComfyClient(max_download=…) takes larger ones"
            raise _too_large(self._name, self._cap, hint)
        await in_thread(partial(self._write, data))

    async def place(self, names: Iterable[str], *, overwrite: bool) -> Path:
        """Give it its name: see `PartFile.place`."""
        return await in_thread(partial(self._place, names, overwrite=overwrite))

    def _write(self, data: bytes) -> None:
        self._begin()
        self._part.write(data)

    def _place(self, names: Iterable[str], *, overwrite: bool) -> Path:
        self._begin()
        return self._part.place(names, overwrite=overwrite)

    def _begin(self) -> None:
        if self._stale:
            self._part.restart()
            self._stale = False


def _too_large(name: str, cap: int, hint: str) -> TransferError:
    return TransferError(f"{name!r} is larger than {cap / 2**20:g} MiB", hint=hint)
