"""The journal of the command line: where it is, and what a command does that cannot have it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfyclient.cli.app import App
    from comfyclient.journal import Journal

__all__ = ["journal_if_possible", "journal_if_there", "own_journal"]

_DAY: Final = 86400.0
_KEPT: Final = 30 * _DAY  # what has ended, in seconds
_OFF: Final = frozenset({"0", "no", "off", "false"})


@contextlib.contextmanager
def own_journal(app: App) -> Iterator[Journal]:
    """The journal, for a command that is about it.

    Raises:
        ConfigError: It cannot be used.
    """
    with _opened(app) as journal:
        yield journal


@contextlib.contextmanager
def journal_if_possible(app: App, *, wanted: bool = True) -> Iterator[Journal | None]:
    """The journal, for a command that can do without. That it cannot be opened is told.

    Args:
        app: The application; ``COMFYCLIENT_JOURNAL=0`` in its environment means that none is kept.
        wanted: Whether the command line says otherwise.
    """
    with contextlib.ExitStack() as stack:
        journal = None
        if wanted and is_on(app):
            try:
                journal = stack.enter_context(_opened(app))
            except ConfigError as error:
                app.warn(f"no journal is kept of this run: {error}")
                app.tell(f"hint: {error.hint or 'mend that'}; --no-journal does without one")
        yield journal


@contextlib.contextmanager
def journal_if_there(app: App, *, wanted: bool = True) -> Iterator[Journal | None]:
    """The journal, if there is one, for a command that has little to write."""
    from comfyclient.journal import FILE_NAME

    with contextlib.ExitStack() as stack:
        journal = None
        if wanted and is_on(app) and (app.journal_folder() / FILE_NAME).exists():
            try:
                journal = stack.enter_context(_opened(app))
            except ConfigError as error:
                app.detail(f"the journal is left as it is: {error}")
        yield journal


def is_on(app: App) -> bool:
    """Whether the environment wants a journal."""
    return app.environ.get("COMFYCLIENT_JOURNAL", "").strip().lower() not in _OFF


@contextlib.contextmanager
def _opened(app: App) -> Iterator[Journal]:
    from comfyclient.journal import Journal

    with Journal.open(app.journal_folder()) as journal:
        # Of what is still to be done nothing is ever dropped by the clock: that may be wrong.
        journal.prune(time.time() - _KEPT)
        yield journal
