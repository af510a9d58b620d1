"""Routes of users: their files, settings and names. One user named ``default``, or several with ``Comfy-User``."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from comfyclient import _json
from comfyclient.emulator.folders import is_file, is_there
from comfyclient.emulator.jsontext import server_json
from comfyclient.emulator.replies import CORE, RefusedError, empty, json_reply, plain, read_json
from comfyclient.emulator.routes_files import attachment_type
from comfyclient.emulator.validate import ServerTroubleError

__all__ = ["USERS", "Users", "routes"]

routes = web.RouteTableDef()

_SETTINGS: Final = "comfy.settings.json"
_SYSTEM_PREFIX: Final = "__"


class UnknownUserError(Exception):
    """The request names a user that does not exist."""


class Users:
    """Who there is. Every user has a folder of files."""

    def __init__(self, root: Path, *, multi_user: bool) -> None:
        self.root = root
        self.multi_user = multi_user
        self.names: dict[str, str] = {} if multi_user else {"default": "default"}

    def folder(self, request: web.Request) -> Path:
        """The folder of the request's user.

        Raises:
            UnknownUserError: There is no such user.
        """
        user = request.headers.get("Comfy-User", "default") if self.multi_user else "default"
        if user not in self.names or user.startswith(_SYSTEM_PREFIX):
            raise UnknownUserError(user)
        return self.root / user

    def add(self, name: str) -> str:
        """Make a user and return the id.

        Raises:
            ValueError: Without a name, or with one that is taken or reserved.
        """
        if name in self.names.values():
            raise ValueError("Duplicate username.")
        name = name.strip()
        if not name:
            raise ValueError("username not provided")
        if name.startswith(_SYSTEM_PREFIX):
            raise ValueError("System User prefix not allowed")
        user = f"{re.sub('[^a-zA-Z0-9-_]+', '-', name)}_{uuid.uuid4()}"
        self.names[user] = name
        return user


USERS: web.AppKey[Users] = web.AppKey("users", Users)
"""Where an application keeps its `Users`."""


def _folder(request: web.Request) -> Path:
    try:
        return request.app[USERS].folder(request)
    except UnknownUserError:
        raise ServerTroubleError from None


def _inside(root: Path, name: str) -> Path | None:
    """The path of a user's file, or ``None`` if it leads out of the user's folder."""
    path = Path(os.path.normpath(root / (unquote(name) if "%" in name else name)))
    return path if path.is_relative_to(root) else None


def _info(path: Path, root: Path) -> dict[str, Any]:
    status = path.stat()
    modified, created = int(status.st_mtime * 1000), int(status.st_ctime * 1000)
    return {"path": path.relative_to(root).as_posix(), "size": status.st_size, "modified": modified, "created": created}


@routes.get("/userdata")
async def list_files(request: web.Request) -> web.Response:
    """The files in one of the user's folders, with paths relative to it."""
    root, query = _folder(request), request.query
    if not query.get("dir"):
        return plain(400, "Directory not provided")
    folder = _inside(root, query["dir"])
    if folder is None:
        return plain(403, "Invalid directory")
    if not is_there(folder):
        return plain(404, "Directory not found")
    recurse, full, split = (query.get(name, "").lower() == "true" for name in ("recurse", "full_info", "split"))
    files = [path for path in sorted(folder.rglob("*") if recurse else folder.glob("*")) if path.is_file()]
    if full:
        return json_reply([_info(path, folder) for path in files])
    names = [path.relative_to(folder).as_posix() for path in files]
    return json_reply([[name, *name.split("/")] for name in names] if split else names)


@routes.get("/v2/userdata")
async def list_tree(request: web.Request) -> web.Response:
    """Everything under one of the user's folders, directories first, with paths relative to the user's root."""
    try:
        root = request.app[USERS].folder(request)
    except UnknownUserError:
        return plain(403, "Invalid user specified in request")
    folder = _inside(root, request.query.get("path", ""))
    if folder is None:
        return plain(400, "Invalid path requested")
    if not is_there(folder):
        return json_reply([]) if folder == root else plain(404, "Requested path not found")
    if not folder.is_dir():
        return plain(400, "Requested path is not a directory")
    found = sorted(_tree(folder, root), key=lambda entry: (entry["type"] != "directory", entry["name"].lower()))
    return json_reply(found)


def _tree(folder: Path, root: Path) -> Iterator[dict[str, Any]]:
    for path in folder.rglob("*"):
        entry: dict[str, Any] = {"name": path.name, "path": path.relative_to(root).as_posix(), "type": "directory"}
        if path.is_file():
            entry |= {"type": "file", "size": path.stat().st_size, "modified": path.stat().st_mtime}
        yield entry


def _named(request: web.Request, part: str = "file") -> Path:
    """The file that the path names.

    Raises:
        RefusedError: It leads out of the user's folder.
    """
    path = _inside(_folder(request), request.match_info[part])
    if path is None:
        raise RefusedError(403)
    return path


@routes.get("/userdata/{file}")
async def get_file(request: web.Request) -> web.StreamResponse:
    """One file, as a download."""
    path = _named(request)
    if not is_file(path):
        return empty(404)
    kind = request.app[CORE].folders.media_type(path.name) or "application/octet-stream"
    disposition = "attachment"
    if path == _folder(request) / "user.css":
        kind, disposition = "text/css", "inline"
    elif attachment_type(kind):
        kind = "application/octet-stream"
    headers = {"Content-Type": kind, "X-Content-Type-Options": "nosniff", "Content-Disposition": disposition}
    return web.FileResponse(path, headers=headers)


def _told(request: web.Request, path: Path) -> web.Response:
    root = _folder(request)
    full = request.query.get("full_info", "false").lower() == "true"
    return json_reply(_info(path, root) if full else path.relative_to(root).as_posix())


def _is_kept(request: web.Request, path: Path) -> bool:
    return request.query.get("overwrite", "true") == "false" and is_there(path)


@routes.post("/userdata/{file}")
async def post_file(request: web.Request) -> web.Response:
    """Write one file."""
    path = _named(request)
    if _is_kept(request, path):
        return plain(409, "File already exists")
    data = await request.read()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except (OSError, ValueError):
        return web.Response(status=400, reason='Invalid filename. Please avoid special characters like :\\/*?"<>|')
    return _told(request, path)


@routes.delete("/userdata/{file}")
async def delete_file(request: web.Request) -> web.Response:
    """Delete one file."""
    path = _named(request)
    if not is_file(path):
        return empty(404)
    path.unlink()
    return empty(204)


@routes.post("/userdata/{file}/move/{dest}")
async def move_file(request: web.Request) -> web.Response:
    """Move one file."""
    source, target = _named(request), _named(request, "dest")
    if not is_there(source):
        return empty(404)
    if _is_kept(request, target):
        return plain(409, "File already exists")
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    return _told(request, target)


def _settings(request: web.Request) -> tuple[Path, dict[str, Any]]:
    try:
        path = request.app[USERS].folder(request) / _SETTINGS
    except UnknownUserError:
        raise web.HTTPUnauthorized from None
    try:
        found = _json.loads(path.read_bytes()) if path.is_file() else {}
    except _json.JSONError:
        found = {}
    return path, found if isinstance(found, dict) else {}


def _store(path: Path, settings: dict[str, Any]) -> web.Response:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(server_json(settings))
    return empty()


@routes.get("/settings")
async def get_settings(request: web.Request) -> web.Response:
    """All settings."""
    return json_reply(_settings(request)[1])


@routes.get("/settings/{id}")
async def get_setting(request: web.Request) -> web.Response:
    """One setting, or null."""
    return json_reply(_settings(request)[1].get(request.match_info["id"]))


@routes.post("/settings")
async def post_settings(request: web.Request) -> web.Response:
    """Add to the settings."""
    path, settings = _settings(request)
    added = await read_json(request)
    if not isinstance(added, dict):
        raise ServerTroubleError
    return _store(path, settings | added)


@routes.post("/settings/{id}")
async def post_setting(request: web.Request) -> web.Response:
    """Set one setting."""
    path, settings = _settings(request)
    return _store(path, settings | {request.match_info["id"]: await read_json(request)})


@routes.get("/users")
async def get_users(request: web.Request) -> web.Response:
    """Who there is."""
    users = request.app[USERS]
    if users.multi_user:
        return json_reply({"storage": "server", "users": users.names})
    return json_reply({"storage": "server", "migrated": users.folder(request).exists()})


@routes.post("/users")
async def post_user(request: web.Request) -> web.Response:
    """Make a user."""
    body = await read_json(request)
    if not isinstance(body, dict) or not isinstance(body.get("username"), str):
        raise ServerTroubleError
    try:
        return json_reply(request.app[USERS].add(body["username"]))
    except ValueError as error:
        return json_reply({"error": str(error)}, 400)
