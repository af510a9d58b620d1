"""Bringing one file home: asked for again from where it broke off, and known to be whole at the end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp

from comfyclient._http import Reply, explodes, idle_timeout, refusal
from comfyclient._redact import redact
from comfyclient.errors import (
    AuthError,
    CertificateUntrusted,
    ComfyClientError,
    InstanceUnavailable,
    ProtocolError,
    TransferError,
)
from comfyclient.storage import at_storage, stored_at
from comfyclient.wire.ranges import AnswerHead, Fetch, Take
from comfyclient.wire.trailers import Trailer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp.client_proto import ResponseHandler

    from comfyclient._http import Http
    from comfyclient.patience import Patience
    from comfyclient.wire.outputs import OutputRef

__all__ = ["Sink", "ask", "download", "next_part", "refuse_bomb", "refuse_page", "refused"]

_CHUNK: Final = 1 * 2**20  # bytes that are worth a trip to the disk
_GLANCE: Final = 1.0  # seconds


class Sink(Protocol):
    """Where the bytes go."""

    async def restart(self, *, encoded: bool) -> None:
        """Forget what came: the file begins. ``encoded``: it comes compressed, so it may grow."""

    async def write(self, data: bytes) -> None:
        """Keep the next bytes."""


async def download(http: Http, ref: OutputRef, sink: Sink, patience: Patience) -> None:
    """Fetch a file of the instance.

    Raises:
        TransferError: It cannot be fetched, or not whole. What the sink has then is of no use.
        AuthError: The instance does not let us in.
    """
    await _Download(http, ref, sink, patience).run()


@contextlib.asynccontextmanager
async def ask(
    http: Http, ref: OutputRef, headers: Mapping[str, str], *, idle: float
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer of whoever keeps a file, unread.

    A signed URL of a storage lives for minutes only, so each time a new one is asked for.
    """
    params = {"filename": ref.filename, "subfolder": ref.subfolder, "type": ref.type}
    sent = {"Accept": "*/*", "Accept-Encoding": "identity", **headers}
    async with http.stream("GET", "/view", params=params, headers=sent, timeout=idle_timeout(idle)) as response:
        url = stored_at(response)
        if url is None:
            yield response
            return
    async with at_storage(http, url, sent, idle=idle) as response:
        yield response


class _Download:
    def __init__(self, http: Http, ref: OutputRef, sink: Sink, patience: Patience) -> None:
        self._http = http
        self._ref = ref
        self._sink = sink
        self._patience = patience
        self._fetch = Fetch(retries=patience.retries)
        self._trailer = Trailer()

    async def run(self) -> None:
        while True:
            trouble = await self._attempt()
            if trouble is None:
                return
            if not self._fetch.failed():
                raise self._given_up(trouble)
            await self._patience.pause(self._fetch.failures)

    async def _attempt(self) -> ComfyClientError | None:
        """Ask once. Returns what has gone wrong, if it may go right the next time."""
        try:
            while True:
                async with self._answer() as response:
                    take = self._fetch.judge(AnswerHead.read(response.status, response.headers))
                    if take is Take.NOTHING or (take is not Take.AGAIN and await self._receive(response, take)):
                        return None
                if self._fetch.is_hopeless or not (take is Take.AGAIN or self._fetch.in_doubt):
                    break
        except (AuthError, TransferError):
            raise
        except CertificateUntrusted as error:
            raise self._given_up(error) from None
        except InstanceUnavailable as error:
            return error
        except ComfyClientError as error:
            raise self._given_up(error) from None
        if self._fetch.is_hopeless:
            return InstanceUnavailable("GET /view: the file changes all the time, or cannot be had in parts")
        return InstanceUnavailable("GET /view: the answer ended before the file did")

    def _answer(self) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return ask(self._http, self._ref, self._fetch.headers(), idle=self._patience.idle)

    async def _receive(self, response: aiohttp.ClientResponse, take: Take) -> bool:
        """Take the body. Returns whether the file is whole now."""
        if take is Take.REFUSED:
            raise refused(self._http, self._ref, response)
        refuse_page(self._ref, response)
        head = AnswerHead.read(response.status, response.headers)
        if take is Take.ALL:
            self._trailer = Trailer()
            await self._sink.restart(encoded=head.encoded)
        protocol = response.connection.protocol if response.connection is not None else None
        await self._pour(response, protocol)
        framed = head.status == 200 and (head.length is not None or "Transfer-Encoding" in response.headers)
        # Without a protocol the end came together with the last bytes; a reset comes alone.
        broken = protocol is not None and isinstance(protocol.exception(), OSError)
        return self._fetch.ended(self._trailer.verdict(), framed=framed, broken=broken)

    async def _pour(self, response: aiohttp.ClientResponse, protocol: ResponseHandler | None) -> None:
        buffer = bytearray()
        try:
            while data := await next_part(response.content, protocol, idle=self._patience.idle):
                buffer += data
                refuse_bomb(self._ref, response, self._fetch.at + len(buffer))
                if len(buffer) >= _CHUNK:
                    await self._keep(buffer)
        except (aiohttp.ClientError, OSError):  # what came is not asked for again
            await self._keep(buffer)
            raise
        await self._keep(buffer)

    async def _keep(self, buffer: bytearray) -> None:
        data = bytes(buffer)
        buffer.clear()
        total = self._fetch.total
        if total is not None and self._fetch.at + len(data) > total:
            raise ProtocolError("GET /view: more came than the answer announced")
        if data:
            await self._sink.write(data)
            self._fetch.received(len(data))
        if total is None:
            self._trailer.feed(data)

    def _given_up(self, error: ComfyClientError) -> TransferError:
        return TransferError(f"cannot fetch {redact(self._ref.filename)!r}: {error}", hint=error.hint)


async def next_part(body: aiohttp.StreamReader, protocol: ResponseHandler | None, *, idle: float) -> bytes:
    """The next bytes of a file; none at the end.

    Chunks that make no sense end the connection, but whoever reads the body is not told, and the library's own clock
    stands still then.

    Args:
        body: What is read.
        protocol: Of its connection, if that is open still.
        idle: Seconds of silence after which it counts as broken off.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + idle
    while True:
        try:
            async with asyncio.timeout_at(min(deadline, clock() + _GLANCE)):
                return await body.readany()
        except TimeoutError:
            if clock() >= deadline or body.exception() is not None:
                raise
        if protocol is not None and protocol.exception() is not None and not body.is_eof():
            raise aiohttp.ClientPayloadError("no HTTP")


def refuse_page(ref: OutputRef, response: aiohttp.ClientResponse) -> None:
    """Refuse a web page in place of a file.

    Raises:
        TransferError: It is one.
    """
    if "text/html" in response.headers.get("Content-Type", ""):  # ComfyUI never serves even pages as such
        raise TransferError(
            f"cannot fetch {redact(ref.filename)!r}: the answer is a web page, not the file",
            hint="a login page in front of ComfyUI looks like this; the file is still on the instance",
        )


def refuse_bomb(ref: OutputRef, response: aiohttp.ClientResponse, size: int) -> None:
    """Refuse a file that grows without end when it is unpacked. ``size``: bytes of it so far.

    Raises:
        TransferError: It does. Files are asked for as they are; who packs them all the same has a reason to.
    """
    if "Content-Encoding" in response.headers and explodes(response, size):
        text = f"cannot fetch {redact(ref.filename)!r}: the answer is a small one that grows without end"
        raise TransferError(f"{text} when it is unpacked")


def refused(http: Http, ref: OutputRef, response: aiohttp.ClientResponse) -> ComfyClientError:
    """Why a file was not given."""
    name, status = redact(ref.filename), response.status
    if status == 404:
        hint = "temporary files are gone when the instance restarts" if ref.type == "temp" else None
        return TransferError(f"the instance no longer has {name!r}", hint=hint)
    if response.url.origin() != http.base.origin():
        text = f"{response.url.host}, where the instance keeps it, answered HTTP {status}"
        if status == 429 or status >= 500:
            return InstanceUnavailable(text)
        return TransferError(f"cannot fetch {name!r}: {text}")
    if status in {400, 403} and http.session.worked:  # we are let in; the name leads out of its folder
        return TransferError(f"the instance refuses to give {name!r} (HTTP {status})")
    return refusal(Reply("GET /view", response.url, status, response.headers, b""))
