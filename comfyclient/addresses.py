"""Which addresses a program may connect to on behalf of others.

Whoever names a url to a server has the server connect to it, from where the server is: to the cloud's metadata service,
which gives out credentials, or to the server itself. What counts is the address that a connection really goes to, so it
is that which is judged, each time, and not the name or whatever a url looks like.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import TYPE_CHECKING, Final, Protocol

from comfyclient.errors import AddressRefused, ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

__all__ = ["AddressPolicy", "Addresses", "refused"]

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What no instance is at, and much is that gives itself away.
_NEVER: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # this machine, under another name
            "169.254.0.0/16",  # link-local; the metadata service of most clouds
            "100.100.100.200/32",  # that of Alibaba
            "168.63.129.16/32",  # the same of Azure
            "192.0.0.192/32",  # Oracle's
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
            "fe80::/10",
            "fd00:ec2::/32",  # Amazon's
            "fd20:ce::254/128",  # Google's
        ),
    )
)
# All of IPv6 that is in use, RFC 4291: the rest is unspecified, multicast or reserved.
_USED: Final = tuple(map(ipaddress.IPv6Network, ("2000::/3", "fc00::/7", "::1/128")))
_SHARED: Final = ipaddress.ip_network("100.64.0.0/10")
# How an IPv4 address stands in an IPv6 one, and how many bits come behind it: RFC 4291 2.5.5, 6052, 3056.
_HOLDERS: Final = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)
_LOOPBACK: Final = ipaddress.IPv6Address("::1")
_TEREDO: Final = ipaddress.IPv6Network("2001::/32")


class AddressPolicy(Protocol):
    """Says of every address that is about to be connected to whether that may be."""

    def admit(self, host: str, port: int) -> None:
        """Let it be, or raise.

        Args:
            host: The address, as text.
            port: The port there.

        Raises:
            AddressRefused: There must be no connection.
        """


class Addresses:
    """The policy of a server: any address but those that hand out secrets, or are the server's own.

    Refused are link-local and unspecified addresses, multicast, what is reserved, the metadata services of clouds, and
    all of them in the clothes of IPv6. What was refused is never said, and why neither: a refusal must not be a map of
    the network.

    Args:
        allow: Addresses and networks (``"10.1.0.0/16"``) that may be connected to all the same.
        deny_private: Refuse this machine and private networks as well.
        own: Where the server itself listens, addresses and ports; refused in any case.

    Raises:
        ConfigError: ``allow`` holds what is no address and no network.
    """

    def __init__(
        self, *, allow: Iterable[str] = (), deny_private: bool = False, own: Collection[tuple[str, int]] = ()
    ) -> None:
        self._allow = tuple(map(_network, allow))
        self._deny_private = deny_private
        self._own = tuple((ipaddress.ip_address(host.partition("%")[0]), port) for host, port in own)

    def admit(self, host: str, port: int) -> None:
        """See `AddressPolicy.admit`."""
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:  # a name is no address, whatever it stands for
            raise refused() from None
        meant = tuple(_meant(address))
        if any(self._is_own(item, port) for item in (address, *meant)):
            raise refused()
        if any(item in network for network in self._allow for item in {address, *meant}):
            return
        if any(self._is_denied(item) for item in meant):
            raise refused()

    def _is_denied(self, address: _IP) -> bool:
        if any(address in network for network in _NEVER):
            return True
        if isinstance(address, ipaddress.IPv6Address) and not any(address in network for network in _USED):
            return True
        return self._deny_private and (not address.is_global or address in _SHARED)

    def _is_own(self, address: _IP, port: int) -> bool:
        """Whether a connection there would come in at this server."""
        for own, own_port in self._own:
            if port != own_port:
                continue
            if address == own or address.is_unspecified or (own.is_loopback and address.is_loopback):
                return True
            if own.is_unspecified and (address.is_loopback or _is_here(address)):
                return True
        return False


def refused() -> AddressRefused:
    """The same for every reason."""
    return AddressRefused(
        "the server does not connect to that address",
        hint="is it that of a ComfyUI? whoever runs the server can allow it with --allow-address NETWORK",
    )


def _meant(address: _IP) -> Iterator[_IP]:
    """The addresses where a connection may end."""
    if isinstance(address, ipaddress.IPv4Address) or address == _LOOPBACK:
        yield address
        return
    for network, behind in _HOLDERS:
        if address in network:
            yield ipaddress.IPv4Address(int(address) >> behind & 0xFFFFFFFF)
            return
    yield address
    if address in _TEREDO and address.teredo is not None:
        yield from address.teredo


def _is_here(address: _IP) -> bool:
    """Whether this machine has that address: only of its own can one be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
    return True


def _network(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text.strip().removeprefix("[").removesuffix("]"), strict=False)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no address and no network", hint='they look like "10.1.2.3", "10.1.0.0/16" or "fd00:1::/64"'
        ) from None
