"""Who lets us in: what a request to an instance carries so that the login in front of it lets it pass.

Credentials belong to one origin (scheme, host, port). They are asked for anew for each request, so that they
may change while a session lives.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Auth", "BasicAuth"]


class Auth(Protocol):
    """A way to be let in."""

    async def headers(self, origin: str) -> Mapping[str, str]:
        """What a request to ``origin`` (``"https://host:port"``) must carry; nothing for a foreign one."""


class BasicAuth:
    """HTTP Basic: user name and password, UTF-8, with every request."""

    def __init__(self, username: str, password: str) -> None:
        self._header = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    async def headers(self, origin: str) -> Mapping[str, str]:  # noqa: ARG002 - a client asks for its own origin only
        """See `Auth.headers`."""
        return {"Authorization": self._header}

    def __repr__(self) -> str:
        return "BasicAuth(***)"
