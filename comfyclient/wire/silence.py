"""How long nothing has moved on a server: what tells a job that runs from one whose server has lost its worker.

A server whose worker has died answers as before: the job runs, for ever. Only that nothing moves gives it away.
"""

from __future__ import annotations

import math

__all__ = ["Silence", "symptom"]


class Silence:
    """The time since a job, or what is before it, moved last.

    Args:
        limit: Seconds of silence that are too many; ``None``: any number is well.
    """

    __slots__ = ("_ahead", "_limit", "_looked_at", "_moved_at")

    def __init__(self, limit: float | None) -> None:
        self._limit = math.inf if limit is None else limit
        self._moved_at = self._looked_at = -math.inf
        self._ahead: tuple[int | None, tuple[str, ...]] = None, ()

    def begin(self, now: float) -> None:
        """The server has the job."""
        self._looked_at = now
        self.moved(now)

    def moved(self, now: float) -> None:
        """Something moved."""
        self._moved_at = max(self._moved_at, now)

    def waits(self, position: int | None, running: tuple[str, ...], told_at: float, asked_at: float) -> bool:
        """A look found the job waiting. Returns whether anything has moved since the one before it.

        Args:
            position: How many are before it; ``None``: the look could not tell, so they may have moved.
            running: Those that run.
            told_at: When the server told of any job last.
            asked_at: When the look was sent.
        """
        before, self._ahead = self._ahead, (position, running)
        if position is not None and before == self._ahead and told_at <= self._moved_at:
            return False
        self.moved(max(told_at, asked_at) if position is None or before != self._ahead else told_at)
        return True

    def lasts(self, asked_at: float) -> float | None:
        """A look has shown that the job is still there: how long nothing has moved, if that is too long."""
        if asked_at - self._looked_at > 2 * self._limit:  # nobody looked for so long: it may have moved
            self.moved(asked_at)
        self._looked_at = max(self._looked_at, asked_at)
        return asked_at - self._moved_at if asked_at >= self.too_long_at else None

    @property
    def too_long_at(self) -> float:
        """When it will have lasted too long, if nothing moves until then. What has not begun lasts for ever."""
        return self._moved_at + self._limit if self._moved_at > -math.inf else math.inf


def symptom(seconds: float, *, runs: bool, behind: bool, hearing: bool) -> str:
    """What it looks like when nothing moves, and what helps.

    Args:
        seconds: For how long.
        runs: Whether the server says that the job runs; else it waits.
        behind: Whether it waits for another that runs.
        hearing: Whether the server's messages about it arrive.
    """
    said = "the instance says that it runs" if runs else "it waits"
    cause = "its worker may have died (a node can do that): see the instance's log, restart ComfyUI"
    if behind and not runs:
        cause = f"the job before it takes long, or {cause}"
    elif runs and not hearing:
        cause = f"a long node looks the same without a websocket, or {cause}"
    return f"{said}, and nothing has moved there for {seconds:.0f} s: {cause}"
