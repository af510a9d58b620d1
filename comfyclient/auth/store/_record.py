"""A stored login as it lies on the disk or in the keyring. Imported only when there is one: pydantic is not cheap."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from comfyclient import _json

__all__ = ["Record", "Secrets"]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class Secrets(_Strict):
    """What lets in."""

    credential: dict[str, Any] = Field(repr=False)
    cookies: list[dict[str, Any]] = Field(repr=False)


class Record(_Strict):
    """One login. ``secrets`` is ``None`` in a file whose secrets are in the keyring."""

    version: Literal[1] = 1
    url: str = Field(min_length=1)
    kind: str = Field(min_length=1)
    username: str | None
    comfy_user: str | None
    fingerprint: str | None
    saved_at: float = Field(allow_inf_nan=False)
    secrets: Secrets | None

    @classmethod
    def read(cls, data: str | bytes) -> Self:
        """Read what `text` made.

        Raises:
            ValueError: It is something else. The message holds nothing of it.
        """
        try:
            return cls.model_validate(_json.loads(data))
        except (_json.JSONError, ValidationError):
            raise ValueError("no record of a login") from None

    def text(self) -> str:
        """As JSON, secrets in clear.

        Raises:
            ValueError: It is no JSON.
        """
        return _json.dumps(self.model_dump())
