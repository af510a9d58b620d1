"""One cookie, and RFC 6265's rules of where it goes."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Final

from comfyclient._redact import redact

if TYPE_CHECKING:
    from yarl import URL

__all__ = [
    "FAR", "MAX_SIZE", "SPACE", "Cookie", "covers", "fault",
    "is_alive", "is_plain", "is_sendable", "path_matches", "wants_https",
]  # fmt: skip

MAX_SIZE: Final = 16 * 1024
"""Bytes of a cookie's name, value and path. The RFC asks for 4096 at least."""
FAR: Final = 1e12
"""No time is further off, in seconds: some 30 000 years."""
SPACE: Final = " \t"
"""What the RFC trims. Any other space is part of a value."""

# Control characters, and surrogates that stand for no byte: nothing could send them.
_UNSENDABLE: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udc7f\udd00-\udfff]")


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Cookie:
    """One cookie. What exists can be sent.

    Attributes:
        name: Not empty; no ``=`` and no ``;``.
        value: As it came, without ``;``. It is a secret: ``repr`` leaves it out.
        path: Sent to this path and below it.
        expires: Unix seconds; None for as long as the session lasts.
        secure: Not for plain http.

    Raises:
        ValueError: No ``Cookie`` header can hold it. The message does not hold the value.
    """

    name: str
    value: str
    path: str = "/"
    expires: float | None = None
    secure: bool = False

    def __post_init__(self) -> None:
        if reason := fault(self.name, self.value, self.path):
            raise ValueError(reason)
        if self.expires is not None and not abs(self.expires) <= FAR:  # not "> FAR": NaN is no time either
            raise ValueError("the cookie's expiry is no time")

    def __repr__(self) -> str:
        return redact(f"Cookie({self.name!r})")  # a server may have made a name of a secret that it was sent


def fault(name: str, value: str, path: str) -> str | None:
    """Why a ``Cookie`` header cannot hold this; None if it can."""
    if not name or name != name.strip(SPACE):
        return "the cookie has no name, or spaces around it"
    if "=" in name or ";" in name or ";" in value:
        return "the cookie's name or value holds a ';', or its name a '='"
    if not is_sendable(f"{name}{value}{path}"):
        return "the cookie holds a character that no header can hold"
    if not path.startswith("/"):
        return "the cookie's path does not start with '/'"
    if len(f"{name}{value}{path}".encode("utf-8", "surrogateescape")) > MAX_SIZE:
        return f"the cookie is longer than {MAX_SIZE} bytes"
    return None


def is_sendable(text: str) -> bool:
    """Whether a header can hold the text: no control characters but the tab, and nothing that stands for no bytes."""
    return _UNSENDABLE.search(text) is None


def is_alive(cookie: Cookie, now: float) -> bool:
    """Whether it has not expired yet."""
    return cookie.expires is None or cookie.expires > now


def wants_https(cookie: Cookie) -> bool:
    """Whether plain http must not carry it. A prefix says so too: a pasted cookie has nothing else to say it with."""
    return cookie.secure or cookie.name.lower().startswith(("__secure-", "__host-"))


def is_plain(url: URL) -> bool:
    """Whether the network can read what is sent there; browsers trust loopback hosts as they trust https."""
    host = (url.raw_host or "").lower().rstrip(".")
    here = host in {"localhost", "::1"} or host.endswith(".localhost") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host)
    return url.scheme in {"http", "ws"} and not here


def path_matches(path: str, prefix: str) -> bool:
    """Whether a cookie of the path ``prefix`` goes to ``path`` (RFC 6265 5.1.4)."""
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else f"{prefix}/")


def covers(domain: str, url: URL) -> bool:
    """Whether a ``Domain`` holds the host (RFC 6265 5.1.3); an address is held by itself alone."""
    host = (url.raw_host or "").lower()
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:  # no host has such a name
            return False
    name = domain.lower().removeprefix("[").removesuffix("]")
    is_address = ":" in host or re.fullmatch(r"[0-9.]+", host)
    return name == host or bool(name and not is_address and host.endswith(f".{name}"))
