"""By which names the server may be called, and by which web pages.

A page on another site can make the browser of whoever reads it send requests here, and by a name that it points at this
machine (DNS rebinding) even read the answers. What gives it away are the headers ``Host`` and ``Origin``, which pages
cannot forge. All of it is pure.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final, Literal

from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["accepted_hosts", "cors_headers", "judge_origin", "normal_origin", "preflight_headers"]

_HTTP_PORT: Final = 80
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@*?#,]+")
_USUAL: Final = {"http": ":80", "https": ":443"}
_OWN_SITE: Final = frozenset({None, "none", "same-origin"})  # of Sec-Fetch-Site; none: the user typed the address
_SCHEMES: Final = {"http": ("http", "https"), "ws": ("http", "https"), "https": ("https",), "wss": ("https",)}

Verdict = Literal["own", "listed", "refused"]


def accepted_hosts(listening: Iterable[str], port: int, configured: Iterable[str] = ()) -> frozenset[str]:
    """All values of ``Host`` that name this server, in lower case.

    Args:
        listening: The addresses or names that it listens at. Unspecified ones name nothing.
        port: Its port.
        configured: What else it is called: ``"name"``, with its port or the default one, or ``"name:port"``.
    """
    own = {"localhost", "127.0.0.1", "[::1]"} | {name for text in listening if (name := _as_host(text))}
    names = {_as_host(name) or name.lower() for name in configured}
    free = {name for name in names if not _has_port(name)}
    bare = own | free if port == _HTTP_PORT else free  # clients leave out the default port
    return frozenset({f"{name}:{port}" for name in own | free} | bare | (names - free))


def normal_origin(text: str) -> str:
    """An origin as browsers write it: lower case, no slash at its end, no port that goes without saying.

    Raises:
        ConfigError: It is none.
    """
    origin = text.strip().removesuffix("/").lower()
    if not _ORIGIN.fullmatch(origin):
        raise ConfigError(
            f"{text!r} is not the origin of a web page", hint="it looks like https://page.example or http://host:3000"
        )
    scheme = origin.partition(":")[0]
    return origin.removesuffix(_USUAL.get(scheme, "/"))


def judge_origin(
    origins: list[str], *, fetch_site: str | None, host: str, scheme: str, listed: frozenset[str]
) -> Verdict:
    """Whether a page of our own, or one that is listed, sends the request, or a program that is no browser.

    Args:
        origins: The values of ``Origin``.
        fetch_site: That of ``Sec-Fetch-Site``, which browsers send also where they send no ``Origin``.
        host: That of ``Host``, which was accepted.
        scheme: That of the request. A proxy may have taken TLS off, so the page's may be https where ours is http.
        listed: Origins that may call, `normal_origin` of each.
    """
    if not origins:
        return "own" if fetch_site in _OWN_SITE else "refused"
    if len(origins) > 1:
        return "refused"
    origin = origins[0].lower()
    if origin in listed and origin != "null":
        return "listed"
    own = {f"{known}://{host.lower()}" for known in _SCHEMES.get(scheme, ())}
    return "own" if origin in own else "refused"


def cors_headers(origin: str) -> dict[str, str]:
    """What lets a listed page read an answer."""
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "Content-Range, ETag, Location, Retry-After, X-Request-Id",
        "Vary": "Origin",
    }


def preflight_headers(origin: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The answer to a browser that asks, for a listed page, what it may send."""
    answer = cors_headers(origin) | {
        "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
        "Access-Control-Allow-Headers": (
            "Authorization, Content-Type, Idempotency-Key, If-Range, Last-Event-ID, Range, X-API-Key"
        ),
        "Access-Control-Max-Age": "600",
    }
    if headers.get("access-control-request-private-network") == "true":
        answer["Access-Control-Allow-Private-Network"] = "true"
    return answer


def _as_host(text: str) -> str | None:
    """An address or a name as ``Host`` writes it; ``None`` for an unspecified address."""
    text = text.strip().lower()
    try:
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return text or None
    if address.is_unspecified:
        return None
    return f"[{address}]" if address.version == 6 else str(address)


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]
