"""Routes of files: /view and the uploads."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from aiohttp import web

from comfyclient import _json
from comfyclient.emulator.folders import Folders, is_file, split_annotation
from comfyclient.emulator.forms import File, read_form
from comfyclient.emulator.media import jpeg, png, resample, webp
from comfyclient.emulator.nodes.loads import read_picture
from comfyclient.emulator.replies import CORE, RefusedError, empty, json_reply
from comfyclient.emulator.validate import ServerTroubleError
from comfyclient.emulator.values import Image

__all__ = ["attachment_type", "routes"]

routes = web.RouteTableDef()

# What a browser might run as a page's own content is sent as a download.
_ACTIVE: Final = frozenset({
    "text/html", "text/html-sandboxed", "application/xhtml+xml", "text/javascript", "application/javascript",
    "application/x-javascript", "application/ecmascript", "text/css", "message/rfc822",
})  # fmt: skip


def attachment_type(media_type: str) -> bool:
    """Whether files of this type are sent as a download of unknown type: HTML, scripts, styles and all XML."""
    kind = media_type.partition(";")[0].strip().lower()
    return kind in _ACTIVE or kind.endswith(("+xml", "/xml"))


def _inside(root: Path, *parts: str) -> Path | None:
    """The path under the root, or ``None`` if it leads out."""
    path = Path(os.path.normpath(root.joinpath(*parts)))
    return path if path.is_relative_to(root) else None


@routes.get("/view")
async def get_view(request: web.Request) -> web.StreamResponse:
    """A file of the input, output or temp folder; as a picture of another kind with ``preview`` or ``channel``."""
    folders, query = request.app[CORE].folders, request.query
    if "filename" not in query:
        return empty(404)
    name, annotated = split_annotation(query["filename"])
    if not name or name.startswith("/") or ".." in name:
        return empty(400)
    root = folders.by_type(annotated or query.get("type", "output"))
    if root is None:
        return empty(400)
    folder = _inside(root, query.get("subfolder", ""))
    if folder is None:
        return empty(403)
    name = name.rpartition("/")[2]
    path = folder / name
    if not name or not is_file(path):
        return empty(404)
    if "preview" in query:
        return await asyncio.to_thread(_converted, path, _preview, query["preview"], query.get("channel", ""))
    if query.get("channel") in {"rgb", "a"}:
        return await asyncio.to_thread(_converted, path, _channel, query["channel"], "")
    return _whole(request, path)


def _whole(request: web.Request, path: Path) -> web.StreamResponse:
    kind = request.app[CORE].folders.media_type(path.name) or "application/octet-stream"
    safe = path.name.replace("\\", "\\\\").replace('"', '\\"')
    disposition = f'filename="{safe}"'
    headers = {"X-Content-Type-Options": "nosniff"}
    if attachment_type(kind):
        headers |= {"Vary": "Sec-Fetch-Dest", "Cache-Control": "no-store"}
        if not (kind == "image/svg+xml" and request.headers.get("Sec-Fetch-Dest") == "image"):
            kind, disposition = "application/octet-stream", f"attachment; {disposition}"
    headers |= {"Content-Disposition": disposition, "Content-Type": kind}
    return web.FileResponse(path, headers=headers)


def _converted(path: Path, convert: Any, wish: str, channel: str) -> web.Response:
    try:
        image = read_picture(path.read_bytes())
        body, kind = convert(image, wish, channel)
    except ValueError:
        raise ServerTroubleError from None
    headers = {"Content-Disposition": f'filename="{path.name}"'}
    return web.Response(body=body, content_type=kind, headers=headers)


def _preview(image: Image, wish: str, channel: str) -> tuple[bytes, str]:
    """A WebP (lossless), or a JPEG of the coarsest quality: there is no codec here for more."""
    kind = wish.partition(";")[0]
    if kind == "jpeg" and "a" not in channel:
        return jpeg.encode(*image.size, image.channels, image.frames[0]), "image/jpeg"
    channels = 3 if channel == "rgb" else image.channels
    pixels = resample.to_channels(image.frames[0], image.channels, channels)
    return webp.encode(*image.size, channels, pixels), "image/webp"


def _channel(image: Image, wish: str, _channel: str) -> tuple[bytes, str]:
    if wish == "rgb":
        pixels = resample.to_channels(image.frames[0], image.channels, 3)
        return png.encode(*image.size, 3, pixels), "image/png"
    size = image.width * image.height
    alpha = image.frames[0][3::4] if image.channels == 4 else b"\xff" * size
    black = bytes(size)
    return png.encode(*image.size, 4, resample.merge([black, black, black, alpha])), "image/png"


class _Upload:
    """The multipart fields of an upload."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.file = fields.get("image")
        self.type = fields.get("type", "input")
        self.subfolder = fields.get("subfolder", "")
        self.overwrite = fields.get("overwrite") in {"true", "1"}
        self.original = fields.get("original_ref")


async def _receive(request: web.Request, *, mask: bool) -> web.Response:
    upload = _Upload(await read_form(request))
    root = request.app[CORE].folders.by_type(upload.type) if isinstance(upload.type, str) else None
    if root is None:
        raise ServerTroubleError
    if not isinstance(upload.file, File):
        return empty(400)
    name = await asyncio.to_thread(_store, request.app[CORE].folders, root, upload, upload.file, mask=mask)
    return json_reply({"name": name, "subfolder": upload.subfolder, "type": upload.type})


def _store(folders: Folders, root: Path, upload: _Upload, file: File, *, mask: bool) -> str:
    """Write the file and return the name that it got.

    Raises:
        RefusedError: The name leads out of the folder.
        ServerTroubleError: It cannot be written there.
    """
    name, data = file.name.lstrip("/"), file.data
    folder = _inside(root, upload.subfolder)
    path = _inside(root, upload.subfolder, name)
    if folder is None or path is None:
        raise RefusedError(400)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name, is_known = _free_name(folder, name, data, overwrite=upload.overwrite)
        if not is_known and mask:
            _save_mask(folders, upload.original, data, folder / name)
        elif not is_known:
            (folder / name).write_bytes(data)
    except (OSError, ValueError):  # a folder that is not there, a name too long or with a zero byte
        raise ServerTroubleError from None
    return name


def _free_name(folder: Path, name: str, data: bytes, *, overwrite: bool) -> tuple[str, bool]:
    """The name to write to, and whether a file of that name has these very bytes already."""
    first = PurePosixPath(name)
    index = 1
    while not overwrite and (folder / name).exists():
        if hashlib.sha256((folder / name).read_bytes()).digest() == hashlib.sha256(data).digest():
            return name, True
        name = str(first.with_name(f"{first.stem} ({index}){first.suffix}"))
        index += 1
    return name, False


@routes.post("/upload/image")
async def upload_image(request: web.Request) -> web.Response:
    """Store a file."""
    return await _receive(request, mask=False)


@routes.post("/upload/mask")
async def upload_mask(request: web.Request) -> web.Response:
    """Store a picture that is there already with the alpha channel of the uploaded one."""
    return await _receive(request, mask=True)


def _save_mask(folders: Folders, reference: Any, data: bytes, target: Path) -> None:
    """Nothing is written if the original is not there: ComfyUI's answer is the same."""
    try:
        wanted = _json.loads(reference) if isinstance(reference, str) else None
    except _json.JSONError:
        wanted = None
    if not isinstance(wanted, dict) or not isinstance(wanted.get("filename"), str):
        raise ServerTroubleError
    name, annotated = split_annotation(wanted["filename"])
    root = folders.by_type(annotated or str(wanted.get("type", "output")))
    source = _inside(root, str(wanted.get("subfolder", "")), name) if root is not None else None
    if source is None or not is_file(source):
        return
    try:
        original, mask = read_picture(source.read_bytes()), read_picture(data)
    except ValueError:
        raise ServerTroubleError from None
    colours = resample.lanes(resample.to_channels(original.frames[0], original.channels, 3), 3)
    alpha = mask.frames[0][3::4] if mask.channels == 4 else b"\xff" * (mask.width * mask.height)
    if mask.size != original.size:
        raise ServerTroubleError
    target.write_bytes(png.encode(*original.size, 4, resample.merge([*colours, alpha])))
