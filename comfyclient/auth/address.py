"""The address of an instance as people type or paste it, taken apart: where it is, and what lets in."""

from __future__ import annotations

import re
from typing import Final

from yarl import URL

from comfyclient._redact import Secret
from comfyclient.auth.credential import Credential
from comfyclient.errors import ConfigError

__all__ = ["is_loopback", "read_address", "same_origin"]

_EXAMPLE: Final = "e.g. http://127.0.0.1:8188"
_LABEL: Final = re.compile(r"[\w-]{1,63}", re.ASCII)  # underscores are common in names inside containers


def read_address(text: str) -> tuple[URL, Credential]:
    """Read the url of an instance, as a person types it.

    Returns:
        The base (scheme, host, port and a path prefix without its last slash), and the credential that the url
        held: ``user:password@``, or the ``?token=`` of the link behind vast.ai's Open button. The base never holds it.

    Raises:
        ConfigError: It is no such url. The message holds nothing of it but its scheme.
    """
    if "://" not in text:
        raise ConfigError(f"the url needs a scheme, {_EXAMPLE}")
    try:
        url = URL(text.strip())
        host, port = url.host, url.port
        _check_host(url)
    except (ValueError, IndexError):  # IndexError: yarl's, of a url that ends behind its '@'
        raise ConfigError(
            f"the url cannot be read; it should look like http://host:port, {_EXAMPLE}",
            hint="a password in it must be percent-encoded (/ is %2F, # is %23, ? is %3F); or use --username",
        ) from None
    if url.scheme not in {"http", "https"}:
        raise ConfigError(f"the url's scheme is not http or https, {_EXAMPLE}")
    if not host or port is None:
        raise ConfigError(f"the url names no host, {_EXAMPLE}")
    _check_rest(url)
    explicit = None if url.is_default_port() else port
    base = URL.build(scheme=url.scheme, host=host, port=explicit, path=url.path.rstrip("/"))
    return base, Credential(
        username=url.user or None, password=_secret(url.password), token=_secret(url.query.get("token"))
    )


def is_loopback(url: URL) -> bool:
    """Whether what is sent there stays on this machine."""
    host = (url.host or "").rstrip(".").lower()
    return host in {"localhost", "::1"} or host.endswith(".localhost") or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


def same_origin(one: URL, other: URL) -> bool:
    """Whether scheme, host and port are the same, whether or not the port is written out."""
    return (one.scheme, one.raw_host, one.port) == (other.scheme, other.raw_host, other.port)


def _check_rest(url: URL) -> None:
    """What comes after the host: a prefix, and a token at most."""
    if "@" in url.path:  # the part before it may be a password with a slash in it, and the host a piece of it
        raise ConfigError(
            "the url has an '@' behind its host",
            hint="a password in it must be percent-encoded (/ is %2F, # is %23, ? is %3F, @ is %40); or use --username",
        )
    if url.fragment or any(key != "token" for key in url.query) or len(url.query) > 1:
        raise ConfigError(
            "the url must end before its '?' or '#'",
            hint="give the address of ComfyUI alone; only ?token=… may follow it",
        )
    if url.query_string and not url.query.get("token"):
        raise ConfigError("the url's token is empty", hint="copy the whole link")


def _secret(value: str | None) -> Secret | None:
    return Secret(value) if value else None


def _check_host(url: URL) -> None:
    """Refuse a host that no name server can be asked for: asking would end in errors of many kinds.

    Raises:
        ValueError: It is no host.
    """
    host = url.raw_host or ""
    if not host or ":" in host:  # none is told apart later; an IPv6 address was checked by yarl
        return
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("no host")
