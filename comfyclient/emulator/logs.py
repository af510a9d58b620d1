"""The log of an emulated server: the last 300 lines, and the clients who follow it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

__all__ = ["LogBuffer"]

_log = logging.getLogger("comfyclient.emulator")
_log.addHandler(logging.NullHandler())  # silent unless the program that runs it wants to listen
_COLOURS = {"INFO": "\x1b[32m", "WARNING": "\x1b[1m\x1b[33m", "ERROR": "\x1b[1m\x1b[31m"}


class LogBuffer:
    """Lines as ComfyUI keeps them: ``{"t": ISO time, "m": text with colour codes}``.

    Args:
        say: Sends a message to one client.
        is_connected: Whether a client has a socket; those who left are no longer followed.
    """

    def __init__(self, say: Callable[[str, Any, str], None], is_connected: Callable[[str], bool]) -> None:
        self.entries: deque[dict[str, str]] = deque(maxlen=300)
        self.followers: set[str] = set()
        self._say = say
        self._is_connected = is_connected

    def write(self, level: str, text: str, *, colour: str = "") -> None:
        """Add a line, at ``INFO``, ``WARNING`` or ``ERROR``; ``colour`` is a terminal's code for the text."""
        _log.log(logging.getLevelNamesMapping()[level], "%s", text)
        # ComfyUI's log has local times without a zone.
        moment = datetime.now().isoformat()  # noqa: DTZ005
        shown = f"{colour}{text}\x1b[0m" if colour else text
        entry = {"t": moment, "m": f"{_COLOURS[level]}[{level}]\x1b[0m {shown}\n"}
        self.entries.append(entry)
        self.followers = {client for client in self.followers if self._is_connected(client)}
        for client in self.followers:
            self._say("logs", {"entries": [entry], "size": None}, client)
