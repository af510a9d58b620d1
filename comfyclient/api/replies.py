"""Answers of the REST API: JSON that every parser reads, and refusals in one form.

Nothing is masked here. What an instance said is masked where it was taken in (`comfyclient.errors`, the events and
warnings of jobs) or is made into an answer (`comfyclient.api.views`), of the secrets of the one who is answered. An
answer that was masked as a whole would tell everybody which of their guesses is a secret.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from comfyclient.api.hints import for_callers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from comfyclient.errors import ComfyClientError

__all__ = ["Json", "problem", "refusal", "told"]


class Json(JSONResponse):
    """JSON in ASCII: servers send half characters, NaN and infinities, which must not break an answer of ours."""

    def render(self, content: Any) -> bytes:
        """The body; what is no number becomes ``null``."""
        return _dumps(content).encode()


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str | None = None,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Json:
    """A refusal: ``{"detail": what happened, "code": for programs, "hint": what to do next}``, and ``more``.

    The texts are ours, or those of a `ComfyClientError`, which are masked.
    """
    body = {**(more or {}), "detail": detail, "code": code}
    if hint:
        body["hint"] = hint
    return Json(body, status_code=status, headers=dict(headers or {}))


def refusal(error: ComfyClientError, *, headers: Mapping[str, str] | None = None) -> Json:
    """What an error of the client is over HTTP."""
    body = told(error.to_json())
    detail, code = body.pop("message"), body.pop("code")
    hint = body.pop("hint", None)
    status = error.http_status if error.http_status >= 400 else 502
    return problem(status, code, detail, hint=hint, headers=headers, more=body)


def told(error: Mapping[str, Any]) -> dict[str, Any]:
    """An error of the client as data, its hint in words of the REST API."""
    hint = error.get("hint")
    return {**error, **({"hint": for_callers(hint)} if isinstance(hint, str) else {})}


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
