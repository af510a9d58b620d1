"""What ``comfyclient jobs forget`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from comfyclient.cli.journals import own_journal
from comfyclient.cli.resume_run import of_instance, select
from comfyclient.cli.text import count

if TYPE_CHECKING:
    from comfyclient.cli.app import App
    from comfyclient.cli.jobs import ForgetOptions

__all__ = ["run"]

_ALL: Final = 10**9


def run(app: App, options: ForgetOptions) -> int:
    """Remove jobs from the journal.

    Raises:
        ConfigError: The journal cannot be used, or a job is not in it.
    """
    with own_journal(app) as journal:
        if options.all_ended:
            found = [entry for entry in journal.entries(_ALL) if not entry.open]
        elif options.url is not None:
            found = of_instance(app, journal.entries(_ALL), options.url)
        else:
            found = select(app, journal, options.ids, None)
        removed = journal.forget(entry.prompt_id for entry in found)
    held = len(found) - len(removed)
    if app.json:
        app.print_json({"forgotten": removed, "held": held, "exit_code": 0})
        return 0
    if held:
        app.note(f"left alone: {count(held, 'job')} that a running comfyclient looks after")
    app.note(f"{count(len(removed), 'job')} forgotten")
    return 0
