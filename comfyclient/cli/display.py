"""What a command shows while jobs run: warnings, lines, bars, or one JSON object for each thing that happens."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from comfyclient.cli.text import count
from comfyclient.cli.trouble import Trouble
from comfyclient.wire import events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfyclient.cli.app import App
    from comfyclient.cli.follow import Followed

__all__ = ["Display", "EventLines", "Lines", "Warnings", "displaying", "waiting"]

_MANY_NODES: Final = 200


class Display:
    """Shows nothing; the others say more."""

    def submitted(self, followed: Followed) -> None:
        """A job was queued, or taken up."""

    def event(self, followed: Followed, event: events.JobEvent) -> None:
        """Something happened to it."""

    def ended(self, followed: Followed) -> None:
        """It has ended, its outputs are fetched (or could not be)."""

    def close(self) -> None:
        """There is nothing more to show."""


class Warnings(Display):
    """Only what is wrong, as lines on stderr."""

    def __init__(self, app: App) -> None:
        self._trouble = Trouble(app)

    def event(self, followed: Followed, event: events.JobEvent) -> None:
        """See `Display`."""
        self._trouble.hear(followed, event)


class Lines(Display):
    """Plain lines on stderr. With many jobs or very many nodes, only ``--verbose`` tells of the nodes."""

    def __init__(self, app: App, total: int) -> None:
        self._app = app
        self._trouble = Trouble(app)
        self._brief = total > 1 and not app.verbosity
        self._before: dict[int, int | None] = {}

    def submitted(self, followed: Followed) -> None:
        """See `Display`."""
        if followed.ours and not self._brief:
            self._app.note(f"{followed.label}: queued as {followed.id}")

    def event(self, followed: Followed, event: events.JobEvent) -> None:
        """See `Display`."""
        self._trouble.hear(followed, event)
        if self._brief:
            return
        text = self._text(followed, event)
        if text:
            self._app.note(f"{followed.label}: {text}")

    def _text(self, followed: Followed, event: events.JobEvent) -> str | None:
        if isinstance(event, events.Queued):
            seen = self._before.get(followed.number)
            self._before[followed.number] = event.position
            return waiting(event.position) if event.position and event.position != seen else None
        if isinstance(event, events.Started):
            return "running"
        if isinstance(event, events.NodeStarted):
            if len(followed.job.prompt.nodes) > _MANY_NODES and not self._app.verbosity:
                return None
            return f"node {event.node_id} ({event.title})"
        if self._app.verbosity and isinstance(event, events.NodeProgress):
            return f"node {event.node_id} ({event.title}), step {event.value:g} of {event.max:g}"
        if self._app.verbosity and isinstance(event, events.NodeFinished) and event.cached:
            return f"node {event.node_id} ({event.title}) is cached"
        return None


class EventLines(Display):
    """One JSON object a line on stdout, for programs."""

    def __init__(self, app: App) -> None:
        self._app = app

    def submitted(self, followed: Followed) -> None:
        """See `Display`."""
        self._app.print_event({"event": "submitted", **followed.identity()})

    def event(self, followed: Followed, event: events.JobEvent) -> None:  # noqa: ARG002 - an event names its job
        """See `Display`."""
        self._app.print_event(event.to_json())

    def ended(self, followed: Followed) -> None:
        """See `Display`."""
        self._app.print_event({"event": "ended", **followed.to_json()})


@contextlib.contextmanager
def displaying(app: App, total: int) -> Iterator[Display]:
    """The display that fits the application; while it is shown, notes appear above it.

    Args:
        app: The application.
        total: How many jobs there will be.
    """
    display = _choose(app, total)
    try:
        yield display
    finally:
        display.close()


def _choose(app: App, total: int) -> Display:
    if app.events:
        return EventLines(app)
    if app.quiet:
        return Warnings(app)
    if app.live:
        from comfyclient.cli.bars import Bars

        return Bars(app, total)
    return Lines(app, total)


def waiting(position: int | None) -> str:
    """Where a job is in the queue, for people."""
    return f"waiting, {count(position, 'job')} before it" if position else "waiting"
