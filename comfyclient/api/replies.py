"""Answers of the REST API: JSON that every parser reads, and refusals in one form."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from comfyclient._redact import redact, redact_json
from comfyclient.api.hints import for_callers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from comfyclient.errors import ComfyClientError

__all__ = ["Json", "problem", "refusal"]


class Json(JSONResponse):
    """JSON in ASCII: servers send half characters, NaN and infinities, which must not break an answer of ours."""

    def render(self, content: Any) -> bytes:
        """The body; what is no number becomes ``null``, and no secret in use gets out."""
        text = _dumps(content)
        if redact(text) != text:  # rare, and to look at each text by itself takes long where there are many secrets
            text = _dumps(redact_json(content))
        return text.encode()


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str | None = None,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Json:
    """A refusal: ``{"detail": what happened, "code": for programs, "hint": what to do next}``, and ``more``."""
    body = {**(more or {}), "detail": redact(detail), "code": code}
    if hint:
        body["hint"] = redact(hint)
    return Json(body, status_code=status, headers=dict(headers or {}))


def refusal(error: ComfyClientError, *, headers: Mapping[str, str] | None = None) -> Json:
    """What an error of the client is over HTTP."""
    body = error.to_json()
    detail, code = body.pop("message"), body.pop("code")
    hint = body.pop("hint", None)
    status = error.http_status if error.http_status >= 400 else 502
    return problem(status, code, detail, hint=for_callers(hint) if hint else None, headers=headers, more=body)


def _dumps(content: Any) -> str:
    try:
        return json.dumps(content, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(content), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
