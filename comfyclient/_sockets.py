"""Sockets that are only opened to addresses which a policy admits."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from comfyclient.errors import AddressRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfyclient.addresses import AddressPolicy

__all__ = ["connected", "factory"]

# (family, type, proto, canonical name, address), as getaddrinfo gives them.
_Info = tuple[Any, Any, int, str, tuple[Any, ...]]


class _RefusedError(AddressRefused, OSError):
    """What a library that tries several addresses takes for one of them that cannot be connected to."""


def factory(policy: AddressPolicy) -> Callable[[_Info], socket.socket]:
    """For aiohttp: makes the socket that is connected to that address next, and to no other."""

    def make(info: _Info) -> socket.socket:
        family, kind, proto, _, address = info
        try:
            policy.admit(str(address[0]), int(address[1]))
        except AddressRefused as error:
            raise _RefusedError(error.message, hint=error.hint) from None
        return socket.socket(family, kind, proto)

    return make


async def connected(host: str, port: int, policy: AddressPolicy) -> socket.socket:
    """A socket that is connected to one of the host's addresses, each of which is judged before it is tried.

    Raises:
        AddressRefused: None of them is admitted.
        OSError: None of the others answers, or there are none.
    """
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    make = factory(policy)
    failure: Exception = OSError("no address")
    for info in infos:
        try:
            sock = make(info)
        except AddressRefused as error:
            failure = error
            continue
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, info[4])
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure
