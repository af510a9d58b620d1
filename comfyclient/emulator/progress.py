"""What a running prompt tells the clients: its events, in ComfyUI's order and to the same receivers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from comfyclient.emulator.faults import Faults
from comfyclient.emulator.sockets import PreviewFrame, Sockets, TextFrame

__all__ = ["Interrupted", "NodeReporter", "Teller"]

_THROTTLE_SECONDS: Final = 0.1
_THROTTLE_SHARE: Final = 0.005
_LARGE: Final = 500  # nodes in a prompt beyond which the map of all of them is not sent for each step of each…
_LARGE_PAUSE: Final = 0.5  # … but after so many seconds


class Interrupted(Exception):  # not an error: somebody wished it
    """The run was interrupted."""


class Teller:
    """The voice of one run: who hears what (protocol: owner only, everybody, or nobody)."""

    def __init__(self, sockets: Sockets, prompt_id: str, client_id: str | None, size: int) -> None:
        self.prompt_id = prompt_id
        self.client_id = client_id
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.display_node: str | None = None
        self._sockets = sockets
        self._states: dict[str, dict[str, Any]] = {}
        self._pause = _LARGE_PAUSE if size > _LARGE else 0.0
        self._last_map = 0.0

    def record(self, event: str, data: dict[str, Any], *, everybody: bool = False) -> None:
        """An event that goes into the history as well."""
        data = {**data, "timestamp": int(time.time() * 1000)}
        self.messages.append((event, data))
        if self.client_id is not None or everybody:
            self._sockets.say(event, data, self.client_id)

    def warn_blocked(self, data: dict[str, Any]) -> None:
        """A blocked node with a message: said, not recorded."""
        self._sockets.say("execution_error", data, self.client_id)

    def executing(self, node_id: str | None) -> None:
        """A node starts; ``None`` ends the prompt."""
        self.display_node = node_id
        if self.client_id is None:
            return
        data: dict[str, Any] = {"node": node_id}
        if node_id is not None:
            data["display_node"] = node_id
        self._sockets.say("executing", data | {"prompt_id": self.prompt_id}, self.client_id)

    def executed(self, node_id: str, output: Any) -> None:
        """A node shows something."""
        if self.client_id is not None:
            data = {"node": node_id, "display_node": node_id, "output": output, "prompt_id": self.prompt_id}
            self._sockets.say("executed", data, self.client_id)

    def started(self, node_id: str) -> None:
        """A node begins to run."""
        self._state(node_id, "running", 0.0, 1.0)

    def stepped(self, node_id: str, value: int, maximum: int, preview: tuple[bytes, str] | None) -> None:
        """A node's progress bar moved."""
        self._state(node_id, "running", value, maximum)
        with_ids = self._sockets.supports_preview_metadata(self.client_id)
        if preview is not None and with_ids:
            ids = {"node_id": node_id, "prompt_id": self.prompt_id, "display_node_id": node_id}
            metadata = ids | {"parent_node_id": None, "real_node_id": node_id}
            self._sockets.say("preview", PreviewFrame(*preview, metadata), self.client_id)
        data = {"value": value, "max": maximum, "prompt_id": self.prompt_id, "node": node_id}
        self._sockets.say("progress", data, self.client_id)
        if preview is not None and not with_ids:
            self._sockets.say("preview", PreviewFrame(*preview), self.client_id)

    def finished(self, node_id: str) -> None:
        """A node is done; one that never started (cached) counts one of one, as integers."""
        state = self._states.get(node_id)
        maximum = state["max"] if state else 1
        self._state(node_id, "finished", maximum, maximum)

    def text(self, node_id: str, text: str) -> None:
        """A line of text, for everybody."""
        self._sockets.say("text", TextFrame(node_id, text))

    def _state(self, node_id: str, state: str, value: float, maximum: float) -> None:
        self._states[node_id] = {
            "value": value, "max": maximum, "state": state, "node_id": node_id, "prompt_id": self.prompt_id,
            "display_node_id": node_id, "parent_node_id": None, "real_node_id": node_id,
        }  # fmt: skip
        if self._pause:
            now = time.monotonic()
            if now - self._last_map < self._pause:
                return
            self._last_map = now
        if self._sockets.has_listener(self.client_id):
            data = {"prompt_id": self.prompt_id, "nodes": dict(self._states)}
            self._sockets.say("progress_state", data, self.client_id)


class NodeReporter:
    """What one node may tell: its progress, throttled as ComfyUI's progress bars are, and lines of text."""

    def __init__(
        self, teller: Teller, node_id: str, faults: Faults, check: Callable[[], None], step_delay: float
    ) -> None:
        self._teller = teller
        self._node_id = node_id
        self._faults = faults
        self._check = check
        self._step_delay = step_delay
        self._last_time = 0.0
        self._last_value = -1

    async def progress(self, value: int, maximum: int, preview: tuple[bytes, str] | None = None) -> None:
        """One step. Raises `Interrupted` if somebody wishes so."""
        await asyncio.sleep(self._faults.step_delay or self._step_delay)
        self._check()
        now = time.monotonic()
        edge = self._last_value < 0 or value >= maximum or preview is not None
        share = (value - max(0, self._last_value)) / maximum if maximum else 1.0
        if not edge and (now - self._last_time < _THROTTLE_SECONDS or share < _THROTTLE_SHARE):
            return
        self._last_time, self._last_value = now, value
        self._teller.stepped(self._node_id, value, maximum, preview)

    def text(self, text: str) -> None:
        """A line of text for everybody."""
        self._teller.text(self._node_id, text)
