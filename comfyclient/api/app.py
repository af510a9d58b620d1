"""The REST API as an ASGI application."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, HTTPException, Request
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
from comfyclient.errors import ComfyClientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi.routing import APIRoute

    from comfyclient.api.settings import ApiSettings

__all__ = ["create_app"]

_ABOUT: Final = """\
Runs ComfyUI workflows on instances elsewhere: log in, open or give a workflow, queue it, follow it, fetch what it made.

Errors have one form: `{"detail": what happened, "code": for programs, "hint": what to do next}`.
"""
_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The API key."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, in another place."},
}
_BASIC: Final = {"basic": {"type": "http", "scheme": "basic", "description": "Any user, and the API key as password."}}

_log = logging.getLogger("comfyclient.api")
_log.addFilter(RedactingFilter())


def create_app(settings: ApiSettings) -> FastAPI:
    """The application. ``app.state.jobs.drain`` waits for jobs, ``app.state.draining`` says that it is about to end.

    Args:
        settings: How it is to be; ``port`` is the one that it is reached by.
    """
    hub = Hub(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await hub.begin()
            yield
        finally:
            await hub.end()

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
    app.state.hub, app.state.jobs, app.state.draining = hub, hub.book, False
    app.state.metrics = Metrics(sessions=lambda: len(hub.sessions), jobs=hub.book.states)
    for routes in (routes_default, routes_sessions, routes_jobs, routes_tools, routes_ops):
        app.include_router(routes.router)
    add_pages(app)
    _handle_errors(app)
    app.openapi = lambda: _document(app, settings)  # type: ignore[method-assign]
    app.add_middleware(Guard, settings=settings, port=settings.port, draining=lambda: app.state.draining)
    app.add_middleware(AccessLog, metrics=app.state.metrics)
    return app


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
        found = [{"loc": list(one["loc"]), "msg": one["msg"], "type": one["type"]} for one in error.errors()]
        return Json({"detail": found, "code": "invalid_request"}, status_code=422)

    @app.exception_handler(StarletteHTTPException)
    async def of_framework(request: Request, error: HTTPException) -> Json:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed(app, request))
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


def _operation(route: APIRoute) -> str:
    """The name of an operation, for programs that are made from the document: ``post_session_start``."""
    words = [*sorted(method.lower() for method in route.methods or ()), *route.path_format.split("/")]
    return "_".join(word.strip("{}") for word in words if word) or "index"


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods that a path takes, which are those of all its routes."""
    found: set[str] = set()
    for route in app.routes:
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
