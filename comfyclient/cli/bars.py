"""Progress on a terminal: a bar for all jobs, one for each job that runs, one for the node that it is at."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from comfyclient.cli.display import Display, waiting
from comfyclient.cli.text import duration, one_line
from comfyclient.cli.trouble import Trouble
from comfyclient.wire import events

if TYPE_CHECKING:
    from comfyclient.cli.app import App
    from comfyclient.cli.follow import Followed

__all__ = ["Bars"]


class _JobBars:
    """The bars of one job."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._job = progress.add_task(label, total=1.0, what="queued")
        self._node: TaskID | None = None

    def show(self, followed: Followed, event: events.JobEvent) -> None:
        """Show what an event changes."""
        if isinstance(event, events.Queued):
            if followed.stalled is None:
                self._progress.update(self._job, what=waiting(event.position))
        elif isinstance(event, events.Started):
            self._progress.update(self._job, what="running")
        elif isinstance(event, events.Stalled):
            self._progress.update(self._job, what=f"stalled, nothing has moved for {duration(event.since)}")
        elif isinstance(event, events.Resubmitted):
            self._drop_node()
            self._progress.update(self._job, completed=0, description=followed.label, what="lost, submitted once more")
        elif isinstance(event, events.NodeStarted):
            self._drop_node()
            self._progress.update(self._job, what=one_line(event.title, 40))
        elif isinstance(event, events.NodeProgress):
            self._show_steps(event)
        elif isinstance(event, events.NodeFinished):
            self._drop_node()
            self._progress.update(self._job, completed=event.overall)
        elif isinstance(event, events.Finished):
            self._drop_node()
            self._progress.update(self._job, what="fetching outputs")

    def remove(self) -> None:
        """Take them away."""
        self._drop_node()
        self._progress.remove_task(self._job)

    def _show_steps(self, event: events.NodeProgress) -> None:
        what = f"{one_line(event.title, 40)} {event.value:g}/{event.max:g}"
        if self._node is None:
            self._node = self._progress.add_task("", total=event.max, completed=int(event.value), what=what)
        else:
            self._progress.update(self._node, completed=event.value, total=event.max, what=what)
        self._progress.update(self._job, completed=event.overall)

    def _drop_node(self) -> None:
        if self._node is not None:
            self._progress.remove_task(self._node)
            self._node = None


class Bars(Display):
    """Bars that rich draws on stderr; they disappear at the end."""

    def __init__(self, app: App, total: int) -> None:
        self._app = app
        self._trouble = Trouble(app)
        self._console = Console(file=app.stderr, force_terminal=True, no_color=not app.color, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[what]}", markup=False),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._jobs: dict[int, _JobBars] = {}
        self._many = total > 1
        self._all = self._progress.add_task("all jobs", total=total, what=f"0/{total}") if self._many else None
        self._total, self._ended = total, 0
        self._progress.start()
        app.overlay = self

    def line(self, text: str) -> None:
        """Write a line above the bars."""
        self._console.print(Text(text), soft_wrap=True)

    def submitted(self, followed: Followed) -> None:
        """See `Display`."""
        if not self._many:
            self._bars(followed)

    def event(self, followed: Followed, event: events.JobEvent) -> None:
        """See `Display`."""
        self._trouble.hear(followed, event)
        # Of many jobs, those that wait have no bar of their own.
        if followed.number in self._jobs or not self._many or isinstance(event, events.Started | events.NodeStarted):
            self._bars(followed).show(followed, event)

    def ended(self, followed: Followed) -> None:
        """See `Display`."""
        bars = self._jobs.pop(followed.number, None)
        if bars is not None:
            bars.remove()
        self._ended += 1
        if self._all is not None:
            self._progress.update(self._all, completed=self._ended, what=f"{self._ended}/{self._total}")

    def close(self) -> None:
        """See `Display`."""
        self._app.overlay = None
        with contextlib.suppress(OSError):  # the terminal is gone, and nobody sees what stands there
            self._progress.stop()

    def _bars(self, followed: Followed) -> _JobBars:
        if followed.number not in self._jobs:
            self._jobs[followed.number] = _JobBars(self._progress, followed.label)
        return self._jobs[followed.number]
