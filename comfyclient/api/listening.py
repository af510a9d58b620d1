"""Where the REST API listens, and where it must not."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Final

from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfyclient.api.keys import ApiKeys

__all__ = ["listen", "port_of", "url_of"]

_TRIES: Final = 10


def listen(host: str, port: int, keys: ApiKeys) -> list[socket.socket]:
    """Listen on every address of the host.

    Args:
        host: An address, or a name.
        port: 0 for any that is free.
        keys: Who may use it.

    Raises:
        ConfigError: Others than this machine could reach it and it has no API key, or it cannot listen there.
    """
    addresses = _addresses(host)
    if not keys and not all(ipaddress.ip_address(address).is_loopback for _, address in addresses):
        raise ConfigError(
            f"{host} can be reached from other machines, and there is no API key",
            hint="give --api-key-file FILE, or listen on 127.0.0.1",
        )
    for _ in range(_TRIES):
        try:
            return _listen(addresses, port)
        except OSError as error:
            # A port that is free on one address may be taken on the next.
            if port or error.errno != errno.EADDRINUSE:
                raise _cannot_listen(host, port, error) from None
    raise ConfigError(f"no port is free on all addresses of {host}", hint="choose one with --port")


def port_of(sockets: Sequence[socket.socket]) -> int:
    """The port of all of them."""
    port: int = sockets[0].getsockname()[1]
    return port


def url_of(host: str, sockets: Sequence[socket.socket]) -> str:
    """The url of a server that listens on these."""
    return f"http://[{host}]:{port_of(sockets)}" if ":" in host else f"http://{host}:{port_of(sockets)}"


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigError(
            f"{host} is no address", hint="listen on 127.0.0.1, or on an address of this machine"
        ) from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _listen(addresses: Sequence[tuple[socket.AddressFamily, str]], port: int) -> list[socket.socket]:
    """Listen on all addresses, on the same port. Those that this machine has not are left out, but for the last."""
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = []
        for index, (family, address) in enumerate(addresses):
            try:
                sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                _bind(sock, address, port)
            except OSError as error:
                missing = error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
                if not missing or (not sockets and index == len(addresses) - 1):
                    raise
                continue
            sockets.append(sock)
            port = port or port_of(sockets)
        stack.pop_all()
    return sockets


def _bind(sock: socket.socket, address: str, port: int) -> None:
    if os.name == "posix":  # elsewhere it would let two servers have one port
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address, port))
    sock.listen()
    sock.setblocking(False)


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    where = f"{host}, port {port}"
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"{where} is taken: another program listens there", hint="--port 0 takes a free one")
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    hint = "ports below 1024 need rights of their own; choose another" if error.errno == errno.EACCES else None
    return ConfigError(f"cannot listen on {where}: {reason}", hint=hint)
