"""Routes of the web page's own (/internal): logs and folders. Without /api in front."""

from __future__ import annotations

import os

from aiohttp import web

from comfyclient.emulator.catalog_view import MODEL_FOLDERS
from comfyclient.emulator.replies import CORE, empty, json_reply, read_json
from comfyclient.emulator.validate import ServerTroubleError

__all__ = ["routes"]

routes = web.RouteTableDef()


@routes.get("/internal/logs")
async def get_logs(request: web.Request) -> web.Response:
    """The log as one text."""
    entries = request.app[CORE].logs.entries
    return json_reply("".join(f"{entry['t']} - {entry['m']}" for entry in entries))


@routes.get("/internal/logs/raw")
async def get_raw_logs(request: web.Request) -> web.Response:
    """The log line by line."""
    return json_reply({"entries": list(request.app[CORE].logs.entries), "size": {"cols": 80, "rows": 24}})


@routes.patch("/internal/logs/subscribe")
async def subscribe(request: web.Request) -> web.Response:
    """Follow the log over the websocket, or stop following."""
    body, followers = await read_json(request), request.app[CORE].logs.followers
    if (
        not isinstance(body, dict)
        or not {"clientId", "enabled"} <= body.keys()
        or not isinstance(body["clientId"], str)
    ):
        raise ServerTroubleError
    if body["enabled"]:
        followers.add(body["clientId"])
    else:
        followers.discard(body["clientId"])
    return empty()


@routes.get("/internal/folder_paths")
async def get_folder_paths(request: web.Request) -> web.Response:
    """Where models would be."""
    base = request.app[CORE].folders.base
    return json_reply({name: [str(base / "models" / name)] for name in MODEL_FOLDERS})


@routes.get("/internal/files/{kind}")
async def get_files(request: web.Request) -> web.Response:
    """The files at the top of a folder, newest first."""
    kind = request.match_info["kind"]
    folder = request.app[CORE].folders.by_type(kind)
    if folder is None:
        return json_reply({"error": "Invalid directory type"}, 400)
    files = [entry for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith(".")]
    files.sort(key=lambda entry: -entry.stat().st_mtime)
    return json_reply([f"{entry.name} [{kind}]" for entry in files])
