"""What the library logs, for the person at the terminal."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfyclient.cli.app import App

__all__ = ["logging_to"]


class _Handler(logging.Handler):
    """Warnings always, information with ``-v``, the rest with ``-vv``. What it says is masked by `App.tell`."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self.addFilter(_is_ours)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.levelno >= logging.WARNING:
                self._app.warn(text)
            else:
                self._app.detail(text)
        except Exception:  # noqa: BLE001 - a log call must not fail because of what it logs
            self.handleError(record)


def _is_ours(record: logging.LogRecord) -> bool:
    """An emulator logs what a server would; that is no message of this program."""
    return not f"{record.name}.".startswith("comfyclient.emulator.")


@contextlib.contextmanager
def logging_to(app: App) -> Iterator[None]:
    """Show what is logged under ``comfyclient`` through the application."""
    logger = logging.getLogger("comfyclient")
    handler, level = _Handler(app), logger.level
    wanted = (logging.WARNING, logging.INFO, logging.DEBUG)[min(app.verbosity, 2)]
    logger.addHandler(handler)
    logger.setLevel(min(wanted, level) if level else wanted)
    handler.setLevel(wanted)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
