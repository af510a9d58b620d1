"""What every route needs: who asks, what the server holds, and how an answer is made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Depends, Path, Request

from comfyclient._redact import keep_apart
from comfyclient.api.models import Problem
from comfyclient.api.replies import Json

if TYPE_CHECKING:
    from pydantic import BaseModel
    from starlette.requests import HTTPConnection

    from comfyclient.api.hub import Hub

__all__ = ["REFUSALS", "Id", "Owner", "Server", "answer", "clean", "hub_of", "owner_of", "refusals"]

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_WHY: Final = {
    400: "It cannot be done as things are; `detail` says why.",
    401: "The API key is missing or wrong (`key_required`, `key_refused`); or the instance does not let us in.",
    403: "The Host, the Origin, or the address of the instance is refused.",
    404: "There is no such thing, or it is another key's.",
    408: "The request came too slowly.",
    409: "It cannot be done yet, or no more.",
    413: "The body is too large.",
    415: "The body is of a type that is not taken.",
    422: "The request does not validate, or the workflow cannot be converted or would not run.",
    429: "Too many requests, sessions or jobs; `Retry-After` says when to come again.",
    431: "The head of the request is too large.",
    502: "The instance, or what answers in its place, gives no answer that makes sense.",
    503: "The instance cannot be reached or is still starting; or this server is about to end.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may refuse with, for the OpenAPI document, apart from what any may."""
    return {status: {"model": Problem, "description": _WHY[status]} for status in sorted(statuses)}


REFUSALS: Final = refusals(400, 401, 403, 408, 413, 415, 422, 429, 431, 503)
"""Of every route that takes a body, or asks for a key."""


def hub_of(connection: HTTPConnection) -> Hub:
    """What the server holds."""
    hub: Hub = connection.app.state.hub
    return hub


def owner_of(connection: HTTPConnection) -> str:
    """The name of the key that came with a request; the door has seen to that."""
    owner: str = connection.scope["state"]["owner"]
    return owner


def _hub(request: Request) -> Any:
    return hub_of(request)


async def _owner(request: Request) -> str:  # in the task of the request: it works for this owner from here on
    owner = owner_of(request)
    keep_apart(owner)
    return owner


Server = Annotated[Any, Depends(_hub)]
Owner = Annotated[str, Depends(_owner)]
Id = Annotated[str, Path(min_length=1, max_length=64)]


def answer(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Json:
    """A model as an answer."""
    return Json(model.model_dump(mode="python"), status_code=status, headers=headers)


def clean(value: Any) -> Any:
    """JSON from an instance, without the half characters that no model takes."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value
