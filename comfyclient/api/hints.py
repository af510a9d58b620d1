"""The client's hints are for those at a command line; callers of the REST API have other words for the same."""

from __future__ import annotations

from typing import Final

__all__ = ["for_callers"]

_WORDS: Final = (
    ("--wait-ready SECONDS", "`wait_ready` of POST /sessions"),
    ("`comfyclient login URL` shows its fingerprint and can trust it; or give --tls-fingerprint or --ca-file",
     "if it is yours, give its fingerprint as `tls_fingerprint` of POST /sessions"),
    ("--header NAME=VALUE", "`credentials.headers` of POST /sessions"),
    ("--username", "`credentials.username`"),
)  # fmt: skip
_BY_HAND: Final = ("--browser", "--claim")
_TOKEN: Final = "this server has no browser: give a token, a key or cookies instead of a password"  # noqa: S105 - words


def for_callers(hint: str) -> str:
    """A hint of the client, in words of the REST API."""
    for ours, theirs in _WORDS:
        hint = hint.replace(ours, theirs)
    return _TOKEN if any(option in hint for option in _BY_HAND) else hint
