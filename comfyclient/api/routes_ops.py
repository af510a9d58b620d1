"""For those who look after the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import Response

from comfyclient.api import models
from comfyclient.api.metrics import CONTENT_TYPE
from comfyclient.api.plumbing import answer, refusals

if TYPE_CHECKING:
    from comfyclient.api.replies import Json

__all__ = ["router"]

router = APIRouter(tags=["operation"])


@router.get("/healthz", response_model=models.Ready, summary="Whether the process answers")
async def healthz(request: Request) -> Json:
    """It does."""
    return answer(models.Ready(status="draining" if request.app.state.draining else "ok"))


@router.get(
    "/readyz",
    response_model=models.Ready,
    responses={503: {"model": models.Ready, "description": "It is about to end."}},
    summary="Whether it takes work",
)
async def readyz(request: Request) -> Json:
    """503 while it is about to end."""
    draining: bool = request.app.state.draining
    return answer(models.Ready(status="draining" if draining else "ok"), 503 if draining else 200)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **refusals(401, 403, 429)},
)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(request.app.state.metrics.render(), media_type=CONTENT_TYPE)
