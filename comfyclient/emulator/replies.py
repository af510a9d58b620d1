"""The kinds of answers that ComfyUI gives, and how it reads a body."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from comfyclient import _json
from comfyclient.emulator.core import Core
from comfyclient.emulator.jsontext import server_json
from comfyclient.emulator.validate import ServerTroubleError

__all__ = ["CORE", "TROUBLE", "RefusedError", "empty", "json_reply", "plain", "read_json", "trouble"]

CORE: web.AppKey[Core] = web.AppKey("core", Core)
"""Where an application keeps its `Core`."""

TROUBLE = "500 Internal Server Error\n\nServer got itself in trouble"
"""What aiohttp says when a handler raises, which ComfyUI's handlers do at most malformed bodies."""


class RefusedError(Exception):
    """The request is answered with a status and nothing else."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def json_reply(body: Any, status: int = 200) -> web.Response:
    """A JSON answer as ComfyUI writes it."""
    return web.Response(text=server_json(body), status=status, content_type="application/json")


def plain(status: int, text: str) -> web.Response:
    """A text answer."""
    return web.Response(status=status, text=text)


def empty(status: int = 200) -> web.Response:
    """An answer without a body, and without a content type."""
    return web.Response(status=status)


def trouble() -> web.Response:
    """HTTP 500 in plain text."""
    return plain(500, TROUBLE)


async def read_json(request: web.Request) -> Any:
    """The body as JSON, whatever its content type says.

    Raises:
        ServerTroubleError: It is not JSON.
    """
    try:
        return _json.loads(await request.text())
    except (_json.JSONError, LookupError):  # not JSON, or of an unknown charset
        raise ServerTroubleError from None
