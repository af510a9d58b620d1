"""Catalogs as instances send them. Many instances send the same, which is large: it is read and kept once."""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from functools import partial
from typing import TYPE_CHECKING, Final

from comfyclient.errors import CatalogError, ProtocolError
from comfyclient.workflow.catalog import Catalog

if TYPE_CHECKING:
    from comfyclient._transport import Reply

__all__ = ["read_catalog"]

_known: Final[weakref.WeakValueDictionary[tuple[bytes, str], Catalog]] = weakref.WeakValueDictionary()


async def read_catalog(reply: Reply, *, version: str, source: str) -> Catalog:
    """The catalog in an answer to ``GET /object_info``.

    Args:
        reply: The answer.
        version: Of the instance's ComfyUI.
        source: Where it came from, for messages.

    Raises:
        ProtocolError: It is no catalog.
    """
    key = hashlib.sha256(reply.body).digest(), version
    known = _known.get(key)
    if known is None:
        try:
            read = partial(Catalog.from_json, await reply.parsed(), version=version, source="catalog")
            known = await asyncio.to_thread(read)
        except CatalogError as error:
            raise ProtocolError(f"GET /object_info: the answer is not ComfyUI's ({error})") from None
        known = _known.setdefault(key, known)  # another client may have been faster
    return known.named(source)
