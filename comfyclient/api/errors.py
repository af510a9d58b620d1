"""What the REST API refuses by itself, before an instance is asked."""

from __future__ import annotations

from typing import Any

__all__ = ["ApiError", "no_session", "not_found", "server_ending", "session_gone", "too_many"]


class ApiError(Exception):
    """A refusal.

    Attributes:
        status: Of HTTP.
        code: For programs.
        detail: What happened.
        hint: What to do next.
        headers: To be sent with it.
        more: Other fields of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str | None = None,
        headers: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.hint = status, code, detail, hint
        self.headers, self.more = headers or {}, more or {}


def not_found(what: str, *, hint: str | None = None) -> ApiError:
    """There is no such thing, or it is another key's: nobody learns which."""
    return ApiError(404, "not_found", f"no such {what}", hint=hint)


def session_gone() -> ApiError:
    """The same, for a session."""
    return not_found("session", hint="it has ended, or the server was restarted: start another")


def no_session() -> ApiError:
    """The calls for the default session need one."""
    return ApiError(400, "no_session", "No active session. Start a session first with POST /session/start")


def server_ending() -> ApiError:
    """Nothing new is begun, and what is under way is not waited for any longer."""
    return ApiError(
        503, "server_ending", "the server is about to end and takes no new work", headers={"Retry-After": "1"}
    )


def too_many(what: str, seconds: int = 5) -> ApiError:
    """A limit is reached."""
    return ApiError(
        429, "too_many", f"too many {what} at a time", hint="wait until some have ended",
        headers={"Retry-After": str(seconds)},
    )  # fmt: skip
