"""The emulator's aiohttp application: its middlewares, and every route as /x and as /api/x."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from comfyclient.emulator import (
    routes_catalog,
    routes_files,
    routes_internal,
    routes_jobs,
    routes_prompt,
    routes_userdata,
)
from comfyclient.emulator.core import Core
from comfyclient.emulator.folders import is_file
from comfyclient.emulator.replies import CORE, RefusedError, empty, plain, trouble
from comfyclient.emulator.routes_userdata import USERS, Users
from comfyclient.emulator.validate import ServerTroubleError

__all__ = ["build_app"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

FRONTEND: Final = web.AppKey("frontend", Path)

_PAGE: Final = (
    "<!doctype html><title>comfyclient emulator</title><h1>comfyclient emulator</h1>"
    "<p>This server speaks ComfyUI's protocol. There are no models behind it: pictures are simulated.</p>"
)


def build_app(core: Core, *, multi_user: bool, frontend: Path | None = None) -> web.Application:
    """An application that serves one core, and the web page's files from a folder if one is given."""
    app = web.Application(client_max_size=core.max_upload_size, middlewares=[_guard_origin, _translate_trouble])
    app[CORE] = core
    app[USERS] = Users(core.folders.user, multi_user=multi_user)
    shared = [
        web.get("/ws", core.sockets.handle),
        *routes_prompt.routes,
        *routes_jobs.routes,
        *routes_files.routes,
        *routes_catalog.routes,
        *routes_userdata.routes,
    ]
    app.add_routes(_with_prefix(shared))
    app.add_routes(shared)
    app.add_routes(routes_internal.routes)
    if frontend is not None:
        app[FRONTEND] = frontend.resolve()
    app.router.add_get("/{tail:.*}", _static)
    return app


def _with_prefix(routes: list[web.AbstractRouteDef]) -> Iterator[web.RouteDef]:
    for route in routes:
        if isinstance(route, web.RouteDef):
            yield web.RouteDef(route.method, f"/api{route.path}", route.handler, route.kwargs)


async def _static(request: web.Request) -> web.StreamResponse:
    """The web page's files. Without them there is only a note; everything else is not found."""
    root = request.app.get(FRONTEND)
    if root is not None:
        path = (root / (request.path.lstrip("/") or "index.html")).resolve()
        if path.is_relative_to(root) and is_file(path):
            return web.FileResponse(path)
    if request.path == "/":
        return web.Response(text=_PAGE, content_type="text/html")
    if request.path == "/assets":
        return plain(403, "403: Forbidden")
    return web.Response(status=404, content_type="application/octet-stream")


@web.middleware
async def _translate_trouble(request: web.Request, handler: Handler) -> web.StreamResponse:
    canned = request.app[CORE].faults.canned(request.path)
    if canned is not None:
        response = web.Response(status=canned.status, body=canned.body, headers=canned.headers)
        if "Content-Type" not in canned.headers:
            response.content_type = "text/plain"
        return response
    try:
        return await handler(request)
    except ServerTroubleError:
        return trouble()
    except RefusedError as refused:
        return empty(refused.status)


@web.middleware
async def _guard_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A page of another origin must not drive a server on this machine."""
    if request.headers.get("Sec-Fetch-Site") == "cross-site" or _is_foreign(request):
        return empty(403)
    if request.method == "OPTIONS":
        return empty()
    return await handler(request)


def _is_foreign(request: web.Request) -> bool:
    """Whether Origin and Host differ, for hosts on this machine; ports count only if both name one."""
    host_header, origin_header = request.headers.get("Host"), request.headers.get("Origin")
    if not host_header or not origin_header:
        return False
    try:
        host, origin = urlsplit(f"//{host_header.lower()}"), urlsplit(origin_header.lower())
        host_name, origin_name = host.netloc, origin.netloc
        if origin.port is None:
            host_name = host.hostname or ""
        if host.port is None:
            origin_name = origin.hostname or ""
    except ValueError:
        return True
    return _is_loopback(host.hostname) and bool(host_name and origin_name) and host_name != origin_name


def _is_loopback(name: str | None) -> bool:
    if name is None or name == "localhost":
        return name == "localhost"
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
