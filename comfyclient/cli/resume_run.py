"""What ``comfyclient jobs resume`` does: find what was left undone, have it done, and say how it went."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from comfyclient.auth.address import read_address
from comfyclient.cli.credentials import given_login, stored_login
from comfyclient.cli.display import displaying
from comfyclient.cli.jobs_run import whole_id
from comfyclient.cli.journals import own_journal
from comfyclient.cli.resumed import (
    Outcome,
    Resumed,
    entry_to_json,
    holders,
    not_sent,
    run_to_json,
    summary,
)
from comfyclient.cli.resuming import Resuming, remove_unfinished
from comfyclient.cli.running import run_async
from comfyclient.cli.text import count, table
from comfyclient.errors import ComfyClientError, ConfigError
from comfyclient.journal import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from comfyclient.cli.app import App
    from comfyclient.cli.credentials import GivenLogin
    from comfyclient.cli.jobs import ResumeOptions
    from comfyclient.cli.login_options import LoginOptions
    from comfyclient.cli.running import Interrupts
    from comfyclient.journal import Entry, Journal, Run

__all__ = ["of_instance", "run", "select"]

_ALL: Final = 10**9
_NOT_SENT: Final = 6
_PHASES: Final = {"submitting": "perhaps queued", "accepted": "queued", "ended": "to be fetched"}
_STOPPED: Final = "stopped; the jobs go on, and `comfyclient jobs resume` goes on with them"


def run(app: App, options: ResumeOptions) -> int:
    """Finish what was left undone.

    Raises:
        ConfigError: The journal cannot be used, or a job is not in it.
    """
    with own_journal(app) as journal:
        runs = [] if options.ids else journal.interrupted()
        entries = select(app, journal, options.ids, options.url, runs)
        runs = [found for found in runs if options.url is None or found.run_id in {entry.run_id for entry in entries}]
        if options.only_list:
            _list(app, [entry for entry in entries if entry.open], runs)
            return 0
        jobs = _claimed(journal, entries, named=bool(options.ids))
        _close_unwanted(journal, jobs)
        mine = [job for job in jobs if job.given is None]
        remove_unfinished(mine)
        if mine:
            logins = _logins(app, options, mine)
            code = run_async(app, lambda interrupts: _resume(app, options, journal, logins, interrupts))
            if code:  # stopped
                return code
        return _finish(app, journal, jobs, runs, named=bool(options.ids))


def select(
    app: App, journal: Journal, ids: Sequence[str], url: str | None = None, runs: Sequence[Run] = ()
) -> list[Entry]:
    """The jobs that are named; or those of which something is left to do, and all others of these runs.

    Raises:
        ConfigError: A job is not in the journal.
    """
    if ids:
        every = {entry.prompt_id: entry for entry in journal.entries(_ALL)}
        known = list(every)
        found = [_named(journal, every, whole_id(given, known)) for given in ids]
    elif runs:
        theirs = {run.run_id for run in runs}
        found = [entry for entry in reversed(journal.entries(_ALL)) if entry.open or entry.run_id in theirs]
    else:
        found = journal.open_entries()
    return found if url is None else of_instance(app, found, url)


def of_instance(app: App, entries: Iterable[Entry], url: str) -> list[Entry]:
    """Those of one instance.

    Raises:
        ConfigError: That is no address.
    """
    base, _ = stored_login(app, read_address(url)[0])
    return [entry for entry in entries if read_address(entry.url)[0] == base]


def _named(journal: Journal, every: Mapping[str, Entry], prompt_id: str) -> Entry:
    if prompt_id not in every:
        raise ConfigError(
            f"job {prompt_id} is not in the journal of this machine ({journal.path})",
            hint="comfyclient jobs download ID --url URL fetches the outputs of any job of an instance",
        )
    return every[prompt_id]


def _list(app: App, entries: Sequence[Entry], runs: Sequence[Run]) -> None:
    if app.json or app.events:
        document = {"jobs": [entry_to_json(entry) for entry in entries], "runs": [run_to_json(found) for found in runs]}
        if app.json:
            app.print_json(document)
        else:
            app.print_event({"event": "summary", **document})
        return
    if not entries:
        app.note("nothing is left to do")
    else:
        for line in table(("ID", "STATE", "INSTANCE", "WORKFLOW", "QUEUED", "HELD BY"), map(_row, entries)):
            app.show(line)
    _tell_runs(app, runs)


def _row(entry: Entry) -> tuple[str, ...]:
    holder = str(entry.holder) if entry.holder is not None else ""
    return entry.prompt_id, _PHASES[entry.phase], entry.url, entry.name or "", _time(entry.created), holder


def _time(seconds: float) -> str:
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone():%Y-%m-%d %H:%M}"


def _claimed(journal: Journal, entries: Sequence[Entry], *, named: bool) -> list[Resumed]:
    """All of them; what is done, or another process has, is marked. What was given up has to be named."""
    left = [entry.prompt_id for entry in entries if entry.open or (named and entry.phase is Phase.GIVEN_UP)]
    claim = journal.claim(left, given_up=named)
    mine = {entry.prompt_id: entry for entry in claim.entries}
    jobs = []
    for number, entry in enumerate(entries, start=1):
        # What was open a moment ago and is nobody's now, somebody has finished since.
        current = mine.get(entry.prompt_id) or journal.entry(entry.prompt_id) or entry
        job = Resumed(current, number, len(entries))
        if current.prompt_id not in mine:
            job.given = Outcome.HELD if current.prompt_id in claim.held else Outcome.DONE_BEFORE
        jobs.append(job)
    return jobs


def _close_unwanted(journal: Journal, jobs: Iterable[Resumed]) -> None:
    """What has succeeded, and of which nobody wants outputs, is done, whether its instance is still there or not."""
    for job in jobs:
        if job.given is None and job.entry.phase is Phase.ENDED and job.plan.known and job.plan.outputs is None:
            journal.saved(job.id)
            job.given = Outcome.DONE_BEFORE


def _logins(
    app: App, options: ResumeOptions, jobs: Iterable[Resumed]
) -> list[tuple[list[Resumed], GivenLogin | ComfyClientError]]:
    """The jobs of each instance, and how to get in there."""
    by_url: dict[str, list[Resumed]] = {}
    for job in jobs:
        by_url.setdefault(job.entry.url, []).append(job)
    found: list[tuple[list[Resumed], GivenLogin | ComfyClientError]] = []
    for url, its in by_url.items():
        given = options.login if options.login.gets_in else _with_wait(its[-1], options)
        try:
            # A credential in the environment that is for no instance in particular is not shown to several.
            found.append((its, given_login(app, given, url=url, environment=len(by_url) == 1)))
        except ComfyClientError as error:
            found.append((its, error))
    return found


def _with_wait(job: Resumed, options: ResumeOptions) -> LoginOptions:
    """The login of the run that queued it."""
    return replace(job.plan.login, wait_ready=options.login.wait_ready)


async def _resume(
    app: App,
    options: ResumeOptions,
    journal: Journal,
    logins: Sequence[tuple[list[Resumed], GivenLogin | ComfyClientError]],
    interrupts: Interrupts,
) -> int:
    interrupts.stopped = _STOPPED
    deadline = None if options.timeout is None else asyncio.get_running_loop().time() + options.timeout
    with displaying(app, sum(len(jobs) for jobs, _ in logins)) as display:
        try:
            async with asyncio.TaskGroup() as tasks:
                for jobs, login in logins:
                    resuming = Resuming(app, display, journal, jobs, deadline, options.stall_timeout)
                    tasks.create_task(resuming.run(login))
        except BaseExceptionGroup as group:
            raise _first(group) from None
    return 0


def _first(error: BaseException) -> BaseException:
    """What went wrong, out of the groups that it is wrapped in: stdout that cannot be written, for one."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _finish(app: App, journal: Journal, jobs: Sequence[Resumed], runs: Sequence[Run], *, named: bool) -> int:
    """Say how it all went, and return the exit code: that of the worst."""
    missing = [found for found in runs if not_sent(found)]
    code = max((job.exit_code for job in jobs), default=0)
    code = max(code, _NOT_SENT if missing else 0)
    document: dict[str, Any] = {
        "jobs": [job.to_json() for job in jobs],
        "runs": [run_to_json(found) for found in missing],
        "exit_code": code,
    }
    if app.events:
        app.print_event({"event": "summary", **document})
    elif app.json:
        app.print_json(document)
    _tell(app, jobs, named=named)
    _tell_runs(app, runs)
    for found in runs:
        journal.finish(found.run_id)  # said once
    return code


def _tell(app: App, jobs: Sequence[Resumed], *, named: bool) -> None:
    """``named``: whether they were asked for one by one."""
    if not jobs:
        app.note("nothing is left to do")
        return
    for job in jobs:
        if job.outcome is Outcome.DONE_BEFORE and (named or job.before is not Outcome.FINISHED):
            app.note(f"{job.label}: {_before(job)}")
    for holder, number in holders(jobs).items():
        app.note(f"{holder} looks after {count(number, 'job')}")
    app.note(summary(jobs))


def _before(job: Resumed) -> str:
    entry = job.entry
    if job.before is Outcome.FINISHED:
        return f"was done before, {count(len(entry.outputs), 'file')}"
    reason = f" ({entry.reason})" if entry.reason else ""
    return f"was over before: {entry.state or str(entry.phase).replace('_', ' ')}{reason}"


def _tell_runs(app: App, runs: Sequence[Run]) -> None:
    for found in runs:
        if left := not_sent(found):
            of = f"the {found.planned} of {found.name or 'a workflow'}, {_time(found.created)},"
            app.tell(f"{count(left, 'job')} of {of} {'was' if left == 1 else 'were'} never sent")
