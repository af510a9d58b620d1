"""The REST API as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, HTTPException, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match, Route

from comfyclient._redact import RedactingFilter
from comfyclient._version import __version__
from comfyclient.api import routes_default, routes_jobs, routes_ops, routes_sessions, routes_tools
from comfyclient.api.accesslog import AccessLog
from comfyclient.api.errors import ApiError
from comfyclient.api.guard import PUBLIC, Guard
from comfyclient.api.hub import Hub
from comfyclient.api.metrics import Metrics
from comfyclient.api.pages import add_pages
from comfyclient.api.replies import Json, problem, refusal
from comfyclient.api.spool import Spool
from comfyclient.api.working import Aside, Workers
from comfyclient.errors import ComfyClientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from fastapi.routing import APIRoute

    from comfyclient.api.settings import ApiSettings

__all__ = ["create_app"]

_ROUTES: Final = (routes_default, routes_sessions, routes_jobs, routes_tools, routes_ops)
_ABOUT: Final = """\
Runs ComfyUI workflows on instances elsewhere: log in, open or give a workflow, queue it, follow it, fetch what it made.

Errors have one form: `{"detail": what happened, "code": for programs, "hint": what to do next}`.
"""
_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The API key."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, in another place."},
}
_BASIC: Final = {"basic": {"type": "http", "scheme": "basic", "description": "Any user, and the API key as password."}}

_TOLD: Final = 20  # mistakes in one body
_SHOWN: Final = 200  # characters of each
_PARTS: Final = 10  # of its place

_UNREADABLE: Final = "There was an error parsing the body"  # the framework's words for what json.loads raises
_READABLE: Final = f"numbers may have {sys.get_int_max_str_digits()} digits, and texts must be UTF-8"

_log = logging.getLogger("comfyclient.api")
_log.addFilter(RedactingFilter())


def create_app(settings: ApiSettings) -> FastAPI:
    """The application. ``app.state.hub.drain`` waits for jobs, ``app.state.draining`` says that it is about to end.

    Args:
        settings: How it is to be; ``port`` is the one that it is reached by.
    """
    hub, spool = Hub(settings), Spool(settings.journal)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await hub.begin()
            await asyncio.to_thread(spool.begin)
            yield
        finally:
            await hub.end()
            await asyncio.to_thread(spool.end)

    app = FastAPI(
        title="comfyclient",
        version=__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        default_response_class=Json,
        redirect_slashes=False,
        generate_unique_id_function=_operation,
        separate_input_output_schemas=False,
        telemetry={"auto_configure": False},  # not because some variable is set in the environment
    )
    app.state.hub, app.state.draining = hub, False
    app.state.spool = spool
    app.state.metrics = Metrics(sessions=lambda: len(hub.sessions), jobs=hub.book.states)
    for routes in _ROUTES:
        app.include_router(routes.router)
    add_pages(app)
    _take_the_rest(app)
    _handle_errors(app)
    app.openapi = lambda: _document(app, settings)  # type: ignore[method-assign]
    app.add_middleware(Aside, workers=Workers(settings.limits.work_seconds))
    app.add_middleware(Guard, settings=settings, port=settings.port, draining=lambda: app.state.draining)
    app.add_middleware(AccessLog, metrics=app.state.metrics)
    return app


def _take_the_rest(app: FastAPI) -> None:
    """``HEAD`` where probes ask; and websockets to where there is nothing, which would be refused as forbidden."""
    probed: dict[str, Callable[..., Any]] = {
        "/": routes_default.index,
        "/healthz": routes_ops.healthz,
        "/readyz": routes_ops.readyz,
    }
    for path, endpoint in probed.items():
        app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)

    async def nowhere(websocket: WebSocket) -> None:
        await websocket.send_denial_response(problem(404, "not_found", "Not Found"))

    app.add_api_websocket_route("/{path:path}", nowhere)


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(ComfyClientError)
    async def of_client(_: Request, error: ComfyClientError) -> Json:
        return refusal(error)

    @app.exception_handler(ApiError)
    async def of_api(_: Request, error: ApiError) -> Json:
        return problem(error.status, error.code, error.detail, hint=error.hint, headers=error.headers, more=error.more)

    @app.exception_handler(RequestValidationError)
    async def of_validation(_: Request, error: RequestValidationError) -> Json:
        # Without what was given: it may be a password.
        found = [_wrong(one) for one in islice(error.errors(), _TOLD)]
        return Json({"detail": found, "code": "invalid_request"}, status_code=422)

    @app.exception_handler(StarletteHTTPException)
    async def of_framework(request: Request, error: HTTPException) -> Json:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed(app, request))
        if error.status_code == 400 and error.detail == _UNREADABLE:
            return problem(400, "json_invalid", "the JSON of the body cannot be read", hint=_READABLE)
        code = {404: "not_found", 405: "method_not_allowed", 400: "bad_request"}.get(error.status_code, "error")
        return problem(error.status_code, code, str(error.detail), headers=headers)

    @app.exception_handler(Exception)
    async def of_nobody(request: Request, error: Exception) -> Json:
        # Its text may hold anything. The log has it, masked; the caller learns where to look.
        request_id = request.scope.get("state", {}).get("request_id")
        _log.error("request %s: an error that nobody thought of", request_id, exc_info=error)
        return problem(
            500, "internal_error", "an error that nobody thought of", hint=f"the server's log has it: {request_id}"
        )


def _wrong(one: Mapping[str, Any]) -> dict[str, Any]:
    """One thing that is wrong. What the caller has named is in it, of any length."""
    place = [part[:_SHOWN] if isinstance(part, str) else part for part in one["loc"][:_PARTS]]
    return {"loc": place, "msg": one["msg"][:_SHOWN], "type": one["type"]}


def _operation(route: APIRoute) -> str:
    """The name of an operation, for programs that are made from the document: ``post_session_start``."""
    words = [*sorted(method.lower() for method in route.methods or ()), *route.path_format.split("/")]
    return "_".join(word.strip("{}") for word in words if word) or "index"


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods that a path takes, which are those of all its routes."""
    found: set[str] = set()
    for route in (*app.routes, *(route for routes in _ROUTES for route in routes.router.routes)):
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found)


def _document(app: FastAPI, settings: ApiSettings) -> dict[str, Any]:
    """The OpenAPI document; made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        parts = document.setdefault("components", {})
        parts["securitySchemes"] = {**_SCHEMES, **(_BASIC if settings.basic else {})}
        if settings.keys:
            document["security"] = [{name: []} for name in parts["securitySchemes"]]
            for path in PUBLIC & document["paths"].keys():
                for operation in document["paths"][path].values():
                    operation["security"] = []
        for unused in ("HTTPValidationError", "ValidationError"):
            parts.get("schemas", {}).pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
