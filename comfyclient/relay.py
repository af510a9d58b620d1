"""Handing an output on as it comes, to somebody who asks for it over HTTP himself."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from comfyclient.downloads import ask, next_part, refuse_bomb, refuse_page, refused
from comfyclient.errors import InstanceUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import aiohttp

    from comfyclient._http import Http
    from comfyclient.wire.outputs import OutputRef

__all__ = ["Relayed", "relay"]

_PASSED_ON: Final = ("Content-Length", "Content-Range", "Content-Type", "ETag", "Last-Modified", "Accept-Ranges")
_ASKED: Final = frozenset({"Range", "If-Range", "If-None-Match", "If-Modified-Since"})
_ANSWERS: Final = frozenset({200, 206, 304, 416})
_IDLE: Final = 60.0  # seconds of silence


@dataclass(frozen=True, slots=True)
class Relayed:
    """An answer to a request for an output: 200, 206, 304 or 416.

    ``headers`` are those that describe the file. Take ``body`` to its end; it raises if the file breaks off.
    """

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]


@contextlib.asynccontextmanager
async def relay(http: Http, ref: OutputRef, asked: Mapping[str, str]) -> AsyncIterator[Relayed]:
    """Ask for an output.

    Args:
        http: The session of the instance.
        ref: The output.
        asked: ``Range``, ``If-Range``, ``If-None-Match`` and ``If-Modified-Since``, as far as they are given.

    Raises:
        TransferError: It cannot be had.
        InstanceUnavailable: Nobody answers, now or later.
    """
    headers = {name: value for name, value in asked.items() if name in _ASKED}
    async with ask(http, ref, headers, idle=_IDLE) as response:
        if response.status not in _ANSWERS:
            raise refused(http, ref, response)
        refuse_page(ref, response)
        about = {name: response.headers[name] for name in _PASSED_ON if name in response.headers}
        if "Content-Encoding" in response.headers:  # it is unpacked here, so its size is another
            about.pop("Content-Length", None)
        yield Relayed(response.status, about, _body(http, ref, response))


async def _body(http: Http, ref: OutputRef, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The file.

    Raises:
        TransferError: It grows without end when it is unpacked.
        InstanceUnavailable: It broke off. A body whose length nobody said ends like a whole one even if it is reset.
    """
    protocol = response.connection.protocol if response.connection is not None else None
    size = 0
    while part := await next_part(response.content, protocol, idle=_IDLE):
        size += len(part)
        refuse_bomb(ref, response, size)
        yield part
    if protocol is not None and isinstance(protocol.exception(), OSError):
        raise InstanceUnavailable(f"{http.origin}: the connection broke while {ref.filename!r} was fetched")
