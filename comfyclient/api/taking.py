"""Taking files out of the bodies of requests. How large they may be, the door sees to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from comfyclient.api.errors import ApiError
from comfyclient.api.kept import Kept
from comfyclient.prepare import aside
from comfyclient.wire.limits import is_dense
from comfyclient.workflow.document import Workflow

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

__all__ = ["FILE_BODY", "WORKFLOW_BODY", "read_upload", "spool"]

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
WORKFLOW_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "image/png": _BINARY,
            "image/webp": _BINARY,
            "application/octet-stream": _BINARY,
        },
    }
}
"""For the OpenAPI document: the body is a workflow's file."""
FILE_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/octet-stream": _BINARY, "image/png": _BINARY}}
}
"""The same: any file."""


async def read_upload(request: Request, name: str | None, most: int) -> tuple[Workflow, Kept]:
    """A workflow, and what is kept of it.

    Raises:
        ApiError: It is too large, or of nothing but brackets.
        WorkflowError: It is no workflow.
    """
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most:
            raise ApiError(413, "body_too_large", f"a workflow may have {most} bytes")
    whole = bytes(data)
    del data
    if is_dense(whole):
        raise ApiError(400, "too_dense", "the file is nothing but brackets, which no workflow is")

    def read() -> tuple[Workflow, Kept]:
        workflow = Workflow.parse(whole, source=name or "the uploaded workflow")
        return replace(workflow, name=name), Kept.of(whole, name)

    return await aside({}, read)


async def spool(request: Request, path: Path) -> None:
    """Write the body into a file.

    Raises:
        ApiError: It is empty.
    """
    size = 0
    with await asyncio.to_thread(path.open, "wb") as file:
        async for part in request.stream():
            size += len(part)
            await asyncio.to_thread(file.write, part)
    if not size:
        raise ApiError(400, "empty_file", "the body is empty: it must be the file")
