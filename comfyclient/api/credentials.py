"""What a request presents as its key, and what it is told if that is none."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["challenge", "presented_key"]

_LONGEST: Final = 4096  # characters; what is longer is no key
_REALM: Final = 'realm="comfyclient"'


def presented_key(headers: Mapping[str, str], *, basic: bool) -> str | None:
    """The key of ``X-API-Key``, else of ``Authorization``: ``Bearer``, or the password of ``Basic`` if that is on.

    Returns:
        ``None`` if there is none. What is there and cannot be read is a key that nobody has: the empty text.
    """
    key = headers.get("x-api-key")
    if key is None:
        scheme, _, value = headers.get("authorization", "").strip().partition(" ")
        if scheme.lower() == "bearer":
            key = value
        elif scheme.lower() == "basic" and basic:
            key = _password(value)
    if key is None or len(key) > _LONGEST:
        return None if key is None else ""
    return key.strip()


def challenge(*, basic: bool, refused: bool) -> str:
    """The value of ``WWW-Authenticate``."""
    bearer = f"Bearer {_REALM}" + (', error="invalid_token"' if refused else "")
    return f'Basic {_REALM}, charset="UTF-8", {bearer}' if basic else bearer


def _password(value: str) -> str:
    try:
        pair = base64.b64decode(value.strip()[:_LONGEST], validate=True).decode()
    except (binascii.Error, ValueError):  # UnicodeDecodeError is one
        return ""
    return pair.partition(":")[2]
