"""Sending files to an instance: named by their content, so that what is sent twice is there once."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from comfyclient.errors import ComfyClientError, TransferError
from comfyclient.names import safe_name
from comfyclient.posting import ANSWER_CAP, SMALL, post_file
from comfyclient.sources import Source
from comfyclient.storage import stored_at
from comfyclient.wire.limits import megabytes, upload_limit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from comfyclient._http import Http
    from comfyclient.patience import Patience
    from comfyclient.wire.answers import Uploaded
    from comfyclient.wire.limits import Limit

__all__ = ["Uploads"]

_ANNOTATION: Final = re.compile(r"\[(input|output|temp)\]$")


class Uploads:
    """Sends files to one instance, each content once."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._sent: dict[tuple[str, ...], Uploaded] = {}
        self._gates: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()
        self._limit: Limit | None = None
        self._asked = False

    async def upload(
        self, content: Path | bytes, *, name: str | None, subfolder: str, kind: str, overwrite: bool, patience: Patience
    ) -> Uploaded:
        """Send it, unless it is there: see `Transfers.upload`."""
        source = await asyncio.to_thread(Source.measure, content)
        await self._refuse_too_large(source)
        fields = {"type": kind, "subfolder": subfolder, "overwrite": "true" if overwrite else "false"}
        if name is not None:
            return await self._send(source, _remote_name(name), fields, patience)
        digest = await asyncio.to_thread(source.digest)
        target = _remote_name(source.name(digest))
        key = kind, subfolder, digest, target.rpartition(".")[2]
        before = self._sent.get(key)
        if before is not None and not overwrite and await self._is_there(before, source.size):
            return before
        async with self._gate(key):
            now = self._sent.get(key)
            if overwrite or now is None or now is before:  # else somebody else has sent it meanwhile
                now = self._sent[key] = await self._send(source, target, fields, patience)
            return now

    async def _send(self, source: Source, target: str, fields: Mapping[str, str], patience: Patience) -> Uploaded:
        # Servers look for a free name and write the file in two steps: one at a time for each name.
        async with self._gate((fields["type"], fields["subfolder"], target)):
            if fields["overwrite"] == "true":  # even if it comes to nothing: what was there may be gone
                self._forget(target)
            return await post_file(self._http, source, target, fields, patience)

    def _forget(self, name: str) -> None:
        """Whatever is called so, in any folder: one may have several names."""
        for key, sent in tuple(self._sent.items()):
            if sent.name.casefold() == name.casefold():
                del self._sent[key]

    async def _is_there(self, sent: Uploaded, size: int) -> bool:
        """Whether a file that was sent is there still: an instance may have been set up anew, or been tidied."""
        params = {"filename": sent.name, "subfolder": sent.subfolder, "type": sent.type}
        headers = {"Accept-Encoding": "identity"}
        try:
            async with self._http.stream("HEAD", "/view", params=params, headers=headers, safe=True) as response:
                told = response.headers.get("Content-Length")
                whole = told is None or "Content-Encoding" in response.headers or told == str(size)
                return stored_at(response) is not None or (response.status == 200 and whole)
        except ComfyClientError:  # what is wrong there, the upload itself will meet and say
            return False

    def _gate(self, key: tuple[str, ...]) -> asyncio.Lock:
        return self._gates.setdefault(key, asyncio.Lock())

    async def _refuse_too_large(self, source: Source) -> None:
        if source.size <= SMALL:
            return
        limit = await self._ask_limit()
        if limit is not None and source.size > limit.size:
            raise TransferError(
                f"cannot upload {source.title}: it has {megabytes(source.size)}, and {limit.whose} takes at most "
                f"{megabytes(limit.size)}",
                hint=limit.hint,
            )

    async def _ask_limit(self) -> Limit | None:
        async with self._gate(("limit",)):
            if not self._asked:
                try:
                    reply = await self._http.request("GET", "/features", cap=ANSWER_CAP)
                except ComfyClientError:  # what is wrong there, the upload itself will meet and say
                    return None
                features = reply.json_or_none() if reply.status == 200 else None
                self._limit = upload_limit(self._http.base.host or "", reply.headers, features)
                self._asked = True
        return self._limit


def _remote_name(name: str) -> str:
    """A name that ComfyUI takes in every place: without "..", and without the end that would name another folder."""
    return _ANNOTATION.sub(r"(\1)", re.sub(r"\.{2,}", "_", safe_name(name)))
