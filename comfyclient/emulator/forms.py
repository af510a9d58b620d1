"""Forms with files, read into memory: the library's own reader leaves files open where a request breaks off."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import BodyPartReader, web

from comfyclient.emulator.validate import ServerTroubleError

__all__ = ["File", "read_form"]


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded file, under the name that it was given."""

    name: str
    data: bytes


async def read_form(request: web.Request) -> dict[str, str | bytes | File]:
    """The fields of a form, the first of each name.

    Raises:
        ServerTroubleError: It is no form, or breaks off.
        web.HTTPRequestEntityTooLarge: It is larger than the server takes.
    """
    if request.content_type != "multipart/form-data":
        return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    fields: dict[str, str | bytes | File] = {}
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise ServerTroubleError
            fields.setdefault(part.name, _value(part, await _read(request, part)))
    except ValueError:  # also of text that is none
        raise ServerTroubleError from None
    return fields


async def _read(request: web.Request, part: BodyPartReader) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk(2**16):
        if request.content.total_bytes > request.client_max_size:
            raise web.HTTPRequestEntityTooLarge(request.client_max_size)
        async for decoded in part.decode_iter(chunk):
            data += decoded
    return bytes(data)


def _value(part: BodyPartReader, data: bytes) -> str | bytes | File:
    if part.filename:
        return File(part.filename, data)
    if part.headers.get("Content-Type", "text/").startswith("text/"):
        return data.decode(part.get_charset(default="utf-8"))
    return data
