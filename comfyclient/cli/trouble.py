"""What is said of jobs that stall, and of those that are submitted once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from comfyclient.wire import events

if TYPE_CHECKING:
    from comfyclient.cli.app import App
    from comfyclient.cli.follow import Followed

__all__ = ["Trouble"]

_OURS: Final = (
    "it is still followed; Ctrl-C cancels it, --timeout bounds the waiting, --stall-timeout 0 says no more of it"
)
_OTHERS: Final = "it is still followed; Ctrl-C stops the waiting, `comfyclient jobs cancel {id}` cancels it"


class Trouble:
    """Tells of trouble with jobs, each time once.

    Behind a job that stands still, all others wait: of those that wait only the first is told, the others with
    ``--verbose``.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._stalled: dict[int, bool] = {}  # the jobs that stall, by number, and whether that was told

    def hear(self, followed: Followed, event: events.JobEvent) -> None:
        """Something happened to a job, which has heard it."""
        if isinstance(event, events.Stalled):
            self._stalls(followed, event)
        elif isinstance(event, events.Resubmitted):
            self._stalled.pop(followed.number, None)
            self._resubmitted(followed, event)
        elif followed.stalled is None:
            told = self._stalled.pop(followed.number, False)
            if told and not isinstance(event, events.Finished):
                self._app.note(f"{followed.label}: moves again")

    def _stalls(self, followed: Followed, event: events.Stalled) -> None:
        told = followed.runs or not self._stalled
        self._stalled[followed.number] = told
        if not told:
            self._app.detail(f"{followed.label}: stalled: {event.reason}")
            return
        self._app.warn(f"{followed.full_label}: stalled: {event.reason}")
        if not self._app.quiet:
            self._app.tell(f"hint: {(_OURS if followed.ours else _OTHERS).format(id=followed.id)}")

    def _resubmitted(self, followed: Followed, event: events.Resubmitted) -> None:
        self._app.warn(
            f"{followed.full_label}: the instance had lost it as {event.old_id} (it restarted, or somebody deleted the "
            "job), and it is submitted once more, as you wished; if that is lost too, it ends as lost"
        )
