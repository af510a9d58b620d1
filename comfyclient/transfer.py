"""Uploads and downloads, streamed: memory does not grow with the file."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp

from comfyclient._http import Http, Reply, idle_timeout, refusal
from comfyclient.errors import AuthError, ComfyClientError, TransferError
from comfyclient.files import PartFile, make_folders
from comfyclient.names import alternatives, safe_name
from comfyclient.wire.answers import Uploaded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
    from io import BufferedReader

    from comfyclient.wire.outputs import OutputRef

__all__ = ["Transfers"]

_T = TypeVar("_T")
_IDLE: Final = 60.0  # seconds of silence that end a transfer
_CHUNK: Final = 1 * 2**20
_READ_CAP: Final = 1 * 2**30


class Transfers:
    """Moves files to and from one instance. Uploads are named by their content, so that none is sent twice."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._sent: dict[tuple[str, str, str], Uploaded] = {}

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
            TransferError: The file cannot be read, or the instance did not take it.
        """
        digest = await asyncio.to_thread(_digest, source)
        target = safe_name(name) if name is not None else _content_name(source, digest)
        key = (digest, f"{kind}/{subfolder}", target if name is not None else Path(target).suffix)
        if key not in self._sent or overwrite:
            fields = {"type": kind, "subfolder": subfolder, "overwrite": "true" if overwrite else "false"}
            self._sent[key] = await self._send(source, target, fields)
        return self._sent[key]

    async def _send(self, source: Path | bytes, name: str, fields: dict[str, str]) -> Uploaded:
        with _opened(source) as content:
            # Not quoted: the server would keep the percent signs as part of the name.
            form = aiohttp.FormData(quote_fields=False)
            form.add_field("image", content, filename=name, content_type="application/octet-stream")
            for field, value in fields.items():
                form.add_field(field, value)
            try:
                reply = await self._http.request("POST", "/upload/image", data=form, timeout=idle_timeout(_IDLE))
                return _uploaded(reply, name)
            except AuthError:
                raise
            except ComfyClientError as error:
                raise TransferError(f"cannot upload {name}: {error}", hint=error.hint) from None

    async def read(self, ref: OutputRef) -> bytes:
        """Fetch an output into memory.

        Raises:
            TransferError: It cannot be fetched.
        """
        parts, size = [], 0
        async with self._chunks(ref) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > _READ_CAP:
                    raise TransferError(f"{ref.filename} is larger than {_READ_CAP // 2**20} MiB: save it to a file")
                parts.append(chunk)
        return b"".join(parts)

    async def save(self, ref: OutputRef, root: Path, parts: Sequence[str], *, overwrite: bool, rename: bool) -> Path:
        """Fetch an output into ``root``, to the path that ``parts`` give: folders, then the name.

        Args:
            ref: What to fetch.
            root: The folder that nothing leads out of; made if need be.
            parts: Safe names.
            overwrite: Replace a file of that name.
            rename: Take ``"name (1)"`` if the name is taken, rather than fail.

        Returns:
            Where it is.

        Raises:
            OutputExists: The name is taken.
            TransferError: It cannot be fetched or written. No part of it is left behind.
        """
        *folders, name = parts
        names: Iterable[str] = alternatives(name) if rename else (name,)
        folder = await asyncio.to_thread(make_folders, root, folders)
        part = PartFile(folder)  # at once: in a thread, a cancelled await would leave it behind
        try:
            async with self._chunks(ref) as chunks:
                async for chunk in chunks:
                    await _in_thread(partial(part.write, chunk))
            return await _in_thread(partial(part.place, names, overwrite=overwrite))
        finally:
            part.discard()

    @contextlib.asynccontextmanager
    async def _chunks(self, ref: OutputRef) -> AsyncIterator[AsyncIterator[bytes]]:
        params = {"filename": ref.filename, "subfolder": ref.subfolder, "type": ref.type}
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        try:
            async with self._http.stream(
                "GET", "/view", params=params, headers=headers, timeout=idle_timeout(_IDLE)
            ) as response:
                if response.status != 200:
                    raise _missing(ref, response)
                if "text/html" in response.headers.get("Content-Type", ""):  # ComfyUI never serves even pages as such
                    raise TransferError(
                        f"cannot fetch {ref.filename!r}: the answer is a web page, not the file",
                        hint="a login page in front of ComfyUI looks like this; the file is still on the instance",
                    )
                async with contextlib.aclosing(_gathered(response)) as chunks:
                    yield chunks
        except (AuthError, TransferError):
            raise
        except ComfyClientError as error:
            raise TransferError(f"cannot fetch {ref.filename!r}: {error}", hint=error.hint) from None


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Run it in a thread, to its end even if the caller is cancelled: else its file would be closed under it."""
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):  # once is enough, and it is passed on below
                await asyncio.wait((running,))
        if not running.cancelled():
            running.exception()  # seen
        raise


async def _gathered(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """The body in chunks that are worth a trip to the disk."""
    buffer = bytearray()
    async for data in response.content.iter_any():
        buffer += data
        if len(buffer) >= _CHUNK:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def _missing(ref: OutputRef, response: aiohttp.ClientResponse) -> ComfyClientError:
    if response.status == 404:
        hint = "temporary files are gone when the instance restarts" if ref.type == "temp" else None
        return TransferError(f"the instance no longer has {ref.filename!r}", hint=hint)
    return refusal(Reply("GET /view", response.status, response.headers, b""))


def _uploaded(reply: Reply, name: str) -> Uploaded:
    if reply.status == 413:
        raise TransferError(
            f"cannot upload {name}: it is larger than the instance, or a proxy before it, allows",
            hint="ComfyUI's limit is --max-upload-size (MB)",
        )
    if reply.status == 400:
        raise TransferError(f"cannot upload {name}: the instance refused it (HTTP 400)")
    if reply.status != 200:
        raise refusal(reply)
    return Uploaded.from_json(reply.json())


def _content_name(source: Path | bytes, digest: str) -> str:
    """A name by content: an upload that is repeated finds its own file there."""
    path = source if isinstance(source, Path) else Path("upload")
    stem = safe_name(path.stem).encode()[:100].decode(errors="ignore")
    return safe_name(f"{stem}-{digest[:12]}{path.suffix}")


def _digest(source: Path | bytes) -> str:
    with _opened(source) as content:
        if isinstance(content, bytes):
            return hashlib.sha256(content).hexdigest()
        try:
            return hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(source, error) from None


@contextlib.contextmanager
def _opened(source: Path | bytes) -> Iterator[bytes | BufferedReader]:
    if isinstance(source, bytes):
        yield source
        return
    try:
        file = source.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise _unreadable(source, error) from None
    with file:
        yield file


def _unreadable(source: Path | bytes, error: OSError | ValueError) -> TransferError:
    name = source if isinstance(source, Path) else "the data"
    reason = (error.strerror if isinstance(error, OSError) else None) or "the system refuses"
    return TransferError(f"cannot read {name}: {reason.lower()}")
