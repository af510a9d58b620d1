"""Files that an instance keeps elsewhere: Comfy Cloud answers ``/view`` with the signed URL of an object storage."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from comfyclient._transport import Transport, idle_timeout
from comfyclient.auth.detect import is_login_redirect, redirects
from comfyclient.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import aiohttp
    from yarl import URL

    from comfyclient._http import Http

__all__ = ["at_storage", "stored_at"]

_HOPS: Final = 3


def stored_at(response: aiohttp.ClientResponse) -> URL | None:
    """Where the file is instead, if the answer says so: https only, another host only, and no login."""
    if response.status not in redirects.REDIRECTS:
        return None
    location = response.headers.get("Location", "")
    found = redirects.target(response.url, location)
    if found is None or found.scheme != "https" or found.origin() == response.url.origin():
        return None
    return None if is_login_redirect(response.url, location) else found


@contextlib.asynccontextmanager
async def at_storage(
    http: Http, url: URL, headers: Mapping[str, str], *, idle: float
) -> AsyncIterator[aiohttp.ClientResponse]:
    """GET it there, with the system's trust alone: a signed URL needs no credential, and gets none of ours.

    Raises:
        TransferError: One storage names the next, without end.
        ComfyClientError: As of `Transport.send`.
    """
    async with http.transferring(), _bare(http) as bare:
        for _ in range(_HOPS):
            async with bare.send("GET", url, headers=headers, timeout=idle_timeout(idle)) as response:
                target = stored_at(response)
                if target is None:
                    yield response
                    return
                url = target
    raise TransferError("the storage of the instance redirects without end")


@contextlib.asynccontextmanager
async def _bare(http: Http) -> AsyncIterator[Transport]:
    bare = Transport(timeout=http.timeout, trust_env=http.trust_env, addresses=http.addresses)
    try:
        yield bare
    finally:
        await bare.close()
