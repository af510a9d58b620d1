"""What ``comfyclient doctor`` finds, told as it is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from comfyclient._redact import redact

if TYPE_CHECKING:
    from comfyclient.cli.app import App
    from comfyclient.errors import ComfyClientError

__all__ = ["Check", "Findings"]


@dataclass(frozen=True, slots=True)
class Check:
    """One step on the way to an instance. ``hint`` says what to do."""

    name: str
    state: Literal["ok", "warning", "failed"]
    message: str
    hint: str | None = None

    def to_json(self) -> dict[str, str]:
        """For programs."""
        body = {"check": self.name, "state": self.state, "message": self.message}
        return body | ({"hint": self.hint} if self.hint else {})


class Findings:
    """All checks so far. People see each at once."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._login_failed = False
        self.checks: list[Check] = []

    def ok(self, name: str, message: str) -> None:
        """It is as it should be."""
        self._add(Check(name, "ok", redact(message)))

    def warning(self, name: str, message: str, hint: str | None = None) -> None:
        """It works, and may not be as it was meant."""
        self._add(Check(name, "warning", redact(message), hint and redact(hint)))

    def failed(self, name: str, message: str, hint: str | None = None) -> None:
        """It does not work."""
        self._add(Check(name, "failed", redact(message), hint and redact(hint)))

    def error(self, name: str, error: ComfyClientError) -> None:
        """It does not work, and the error says why."""
        self._login_failed = self._login_failed or error.exit_code == 4
        self.failed(name, str(error), error.hint)

    @property
    def exit_code(self) -> int:
        """0 if nothing failed, 4 if the login did, else 5."""
        if self._login_failed:
            return 4
        return 5 if any(check.state == "failed" for check in self.checks) else 0

    def to_json(self) -> list[dict[str, Any]]:
        """For programs."""
        return [check.to_json() for check in self.checks]

    def _add(self, check: Check) -> None:
        self.checks.append(check)
        if self._app.json:
            return
        self._app.show(f"{check.state:<8}  {check.name}: {check.message}")
        if check.hint:
            self._app.show(f"{'':<8}  {check.hint}")
        self._app.flush()
