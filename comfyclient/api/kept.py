"""Uploaded workflows, as the bytes that they came in: what a program makes of these takes many times the room."""

from __future__ import annotations

import secrets
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from comfyclient.prepare import aside
from comfyclient.workflow.document import Workflow

if TYPE_CHECKING:
    from comfyclient.api.settings import Limits

__all__ = ["Kept", "KeptWorkflows"]


@dataclass(frozen=True, slots=True)
class Kept:
    """One. ``data``: its file, compressed; ``name``: what its sender calls it."""

    data: bytes
    name: str | None

    @classmethod
    def of(cls, data: bytes, name: str | None) -> Self:
        """From a file's content."""
        return cls(zlib.compress(data, 1), name)

    async def workflow(self) -> Workflow:
        """Read it, as it was read when it came."""
        return await aside({}, self._read)

    def _read(self) -> Workflow:
        found = Workflow.parse(zlib.decompress(self.data), source=self.name or "the uploaded workflow")
        return replace(found, name=self.name)


class KeptWorkflows:
    """Those of all sessions. What is too much for a session or a key makes the oldest of it go.

    Args:
        limits: ``uploads`` for each session, ``kept_bytes`` for each key.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._owners: dict[str, dict[tuple[str, str], Kept]] = {}  # by session and id

    def keep(self, owner: str, session_id: str, kept: Kept) -> str:
        """Keep one. Returns its id."""
        workflow_id = secrets.token_urlsafe(12)
        mine = self._owners.setdefault(owner, {})
        mine[session_id, workflow_id] = kept
        of_session = [key for key in mine if key[0] == session_id]
        for key in of_session[: -self._limits.uploads]:
            del mine[key]
        while len(mine) > 1 and sum(len(one.data) for one in mine.values()) > self._limits.kept_bytes:
            del mine[next(iter(mine))]
        return workflow_id

    def find(self, owner: str, session_id: str, workflow_id: str) -> Kept | None:
        """One of a session."""
        return self._owners.get(owner, {}).get((session_id, workflow_id))

    def forget(self, owner: str, session_id: str) -> None:
        """Drop those of a session that has ended."""
        left = {key: kept for key, kept in self._owners.pop(owner, {}).items() if key[0] != session_id}
        if left:
            self._owners[owner] = left
