"""The queue and the history of an emulated server: a heap, one place for what runs, and a dictionary of what ended."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, Final, NamedTuple

__all__ = ["MAX_HISTORY", "PromptQueue", "QueueItem", "RunResult"]

MAX_HISTORY: Final = 10_000
"""How many entries ComfyUI's history keeps."""


class QueueItem(NamedTuple):
    """One prompt in the queue; the first five members are what clients see of it.

    The heap compares items as the tuples they are: equal numbers by id, and equal ids by their prompts, which are
    dictionaries and cannot be compared. ComfyUI stumbles over that, and so does the emulator.
    """

    number: float
    prompt_id: str
    prompt: dict[str, Any]
    extra_data: dict[str, Any]
    outputs: list[str]
    sensitive: dict[str, Any]

    def shown(self) -> list[Any]:
        """The item as ``/queue`` and the history show it."""
        return [self.number, self.prompt_id, self.prompt, self.extra_data, self.outputs]


class RunResult(NamedTuple):
    """How a prompt ended: what goes into its history entry."""

    outputs: dict[str, Any]
    meta: dict[str, Any]
    success: bool
    messages: list[tuple[str, dict[str, Any]]]


class PromptQueue:
    """What waits, what runs and what ended. ``changed`` is called at every change that ComfyUI announces."""

    def __init__(self, changed: Callable[[], None], *, max_history: int = MAX_HISTORY) -> None:
        self.pending: list[QueueItem] = []
        self.running: list[QueueItem] = []
        self.history: dict[str, dict[str, Any]] = {}
        self.max_history = max_history
        self._changed = changed
        self._filled = asyncio.Event()

    @property
    def remaining(self) -> int:
        """How many prompts wait or run."""
        return len(self.pending) + len(self.running)

    def put(self, item: QueueItem) -> None:
        """Add a prompt.

        Raises:
            TypeError: One with the same number and id is pending. The item is in the queue nevertheless.
        """
        heapq.heappush(self.pending, item)
        self._changed()
        self._filled.set()

    async def take(self) -> QueueItem:
        """The next prompt, which then counts as running; waits for one.

        Raises:
            TypeError: Two pending prompts with equal number and id had to be compared.
        """
        while not self.pending:
            self._filled.clear()
            await self._filled.wait()
        item = heapq.heappop(self.pending)
        self.running.append(item)
        self._changed()
        return item

    def finish(self, item: QueueItem, result: RunResult) -> None:
        """Move the running prompt to the history, whose oldest entry leaves if it is full."""
        self.running.remove(item)
        if len(self.history) > self.max_history:
            del self.history[next(iter(self.history))]
        self.history[item.prompt_id] = {
            "prompt": item.shown(),
            "outputs": result.outputs,
            "status": {
                "status_str": "success" if result.success else "error",
                "completed": result.success,
                "messages": [list(message) for message in result.messages],
            },
            "meta": result.meta,
        }
        self._changed()

    def is_running(self, prompt_id: Any) -> bool:
        """Whether the prompt runs now."""
        return any(item.prompt_id == prompt_id for item in self.running)

    def clear(self) -> None:
        """Drop all that waits."""
        self.pending.clear()
        self._changed()

    def delete(self, prompt_id: Any) -> bool:
        """Drop the first pending prompt with that id. Dropping the only one is announced twice, as ComfyUI does it."""
        for index, item in enumerate(self.pending):
            if item.prompt_id == prompt_id:
                if len(self.pending) == 1:
                    self.clear()
                else:
                    del self.pending[index]
                    heapq.heapify(self.pending)
                self._changed()
                return True
        return False

    def page(self, max_items: int | None = None, offset: int = -1) -> dict[str, Any]:
        """Entries of the history, oldest first: the last ``max_items``, or so many from ``offset``."""
        if offset < 0 and max_items is not None:
            offset = len(self.history) - max_items
        found: dict[str, Any] = {}
        for index, (prompt_id, entry) in enumerate(self.history.items()):
            if index >= offset:
                found[prompt_id] = entry
                if max_items is not None and len(found) >= max_items:
                    break
        return found

    def reset(self) -> None:
        """Forget everything, without a word to anybody: what a restart does."""
        self.pending.clear()
        self.running.clear()
        self.history.clear()
