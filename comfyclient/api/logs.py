"""What the server writes into its log: the access log, and what goes wrong. Secrets are masked in all of it."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final, TextIO

from comfyclient._redact import RedactingFilter
from comfyclient.api.accesslog import LOGGER

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["logging_to"]

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)


@contextlib.contextmanager
def logging_to(stream: TextIO, *, verbosity: int = 0, access: bool = True) -> Iterator[None]:
    """Write what is logged in this process, tracebacks included, as long as the context lasts.

    Args:
        stream: Where to.
        verbosity: 0 for warnings of all libraries; 1 for information, 2 for everything, of comfyclient alone: others
            log headers then.
        access: Whether the access log is written.
    """
    access_log = logging.getLogger(LOGGER)
    loggers = (logging.getLogger(), logging.getLogger("comfyclient"), access_log)
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    plain, lines = _handler(stream, _FORMAT), _handler(stream, "%(message)s")
    loggers[0].addHandler(plain)
    loggers[1].setLevel(_LEVELS[min(verbosity, 2)])
    access_log.addHandler(lines)
    access_log.setLevel(logging.INFO if access else logging.CRITICAL)
    access_log.propagate = False
    try:
        yield
    finally:
        loggers[0].removeHandler(plain)
        access_log.removeHandler(lines)
        for logger, level, propagate in before:
            logger.setLevel(level)
            logger.propagate = propagate


def _handler(stream: TextIO, form: str) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(form))
    handler.addFilter(RedactingFilter())
    return handler
