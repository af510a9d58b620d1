"""What the commands of ``comfyclient jobs`` do."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Final

from comfyclient.cli.credentials import given_login
from comfyclient.cli.display import displaying, waiting
from comfyclient.cli.failures import show_error
from comfyclient.cli.follow import Fetch, Followed, follow, probe_folder, summary
from comfyclient.cli.journals import journal_if_there
from comfyclient.cli.running import connect, run_async
from comfyclient.cli.text import count, duration, one_line, table
from comfyclient.errors import ComfyClientError, ConfigError, JobLost
from comfyclient.names import DEFAULT_TEMPLATE, Template
from comfyclient.wire.records import JobState

if TYPE_CHECKING:
    from comfyclient.cli.app import App
    from comfyclient.cli.credentials import GivenLogin
    from comfyclient.cli.jobs import CancelOptions, FollowOptions, ListOptions, ShowOptions
    from comfyclient.cli.running import Interrupts
    from comfyclient.client import ComfyClient
    from comfyclient.job import Job
    from comfyclient.journal import Journal
    from comfyclient.recording import Recording
    from comfyclient.result import Result
    from comfyclient.wire.summary import JobSummary

__all__ = ["cancel", "follow_jobs", "list_jobs", "show", "whole_id"]

_WHOLE: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PREFIX: Final = 6  # characters of an id that are enough, if only one job begins so
_ENDED: Final = 200  # jobs that have ended among which a prefix is looked for
_CANCELLED: Final = {
    JobState.CANCELLED: "cancelled",
    JobState.RUNNING: "was running and stops at its next step",
    JobState.PENDING: "still waits: the instance did not take it off its queue",
}


def list_jobs(app: App, options: ListOptions) -> int:
    """List jobs."""
    login = given_login(app, options.login, url=options.url)

    async def run(_: Any) -> int:
        async with connect(app, login) as client:
            jobs = await client.jobs(limit=options.limit)
        if app.json:
            app.print_json([job.to_json() for job in jobs])
            return 0
        if not jobs:
            app.note("no jobs")
            return 0
        for line in table(("ID", "STATE", "QUEUED", "TOOK", "NODES", "FILES", "ERROR"), map(_row, jobs)):
            app.show(line)
        return 0

    return run_async(app, run)


def _row(job: JobSummary) -> tuple[str, ...]:
    took = None if job.started is None or job.ended is None else (job.ended - job.started) / 1000
    files = str(job.outputs) if job.ended is not None else ""
    error = one_line(job.error or "", 60)
    return job.id, str(job.state), _time(job.created), duration(took), str(job.nodes), files, error


def _time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    return f"{dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def show(app: App, options: ShowOptions) -> int:
    """Show one job.

    Raises:
        JobLost: The instance does not know it.
    """
    login = given_login(app, options.login, url=options.url)

    async def run(_: Any) -> int:
        async with connect(app, login) as client:
            await client.catalog()  # which inputs are seeds, only the catalog tells
            [prompt_id] = await _whole_ids(client, (options.id,))
            job = await client.job(prompt_id)
            result, error = await _ending(job)
            if app.json:
                app.print_json(_about(job, result, error))
                return 0
            for line in table(("JOB", job.id), _facts(job, result, error)):
                app.show(line)
        return 0

    return run_async(app, run)


async def _whole_ids(client: ComfyClient, ids: tuple[str, ...]) -> tuple[str, ...]:
    """The ids, those that were cut completed. One that fits no job is left as it is.

    Raises:
        ConfigError: One fits several jobs, or is too short to tell.
    """
    if all(_WHOLE.fullmatch(given) for given in ids):
        return ids
    known = [job.id for job in await client.jobs(limit=_ENDED)]
    return tuple(dict.fromkeys(whole_id(given, known) for given in ids))


def whole_id(given: str, known: list[str]) -> str:
    """The id of the known job that begins so; if there is none, what was given.

    Raises:
        ConfigError: It fits several jobs, or is too short to tell.
    """
    fitting = [prompt_id for prompt_id in known if prompt_id.startswith(given)]
    if given in known or not fitting:
        return given
    if len(given) < _PREFIX:
        raise ConfigError(f"{given} is too short for a job's id", hint=f"give the whole id, or {_PREFIX} characters")
    if len(fitting) > 1:
        raise ConfigError(f"{given} fits {len(fitting)} jobs", hint="give the whole id")
    return fitting[0]


async def _ending(job: Job) -> tuple[Result | None, ComfyClientError | None]:
    if not job.state.is_terminal:
        return None, None
    try:
        return await job.result(), None
    except ComfyClientError as error:
        return None, error


def _about(job: Job, result: Result | None, error: ComfyClientError | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt_id": job.id,
        "state": str(job.state),
        "queue_position": job.progress.queue_position,
        "seeds": job.seeds,
    }
    if result is not None:
        body |= result.to_json()
    if error is not None:
        body["error"] = error.to_json()
    return body | {"prompt": job.prompt.nodes}


def _facts(job: Job, result: Result | None, error: ComfyClientError | None) -> list[tuple[str, str]]:
    facts = [("state", str(job.state))]
    if job.state is JobState.PENDING:
        facts.append(("queue", waiting(job.progress.queue_position)))
    facts.append(("nodes", str(len(job.prompt.nodes))))
    facts += [("seed", f"{address} = {seed}") for address, seed in job.seeds.items()]
    if result is not None:
        if result.started is not None:
            facts.append(("started", f"{result.started.astimezone():%Y-%m-%d %H:%M:%S}"))
        facts.append(("took", duration(result.duration)))
        facts += [
            ("file", f"{file.type}: {'/'.join(filter(None, (file.subfolder, file.filename)))}")
            for file in result.outputs
        ]
        facts += [("text", f"node {text.node_id}: {one_line(text.text, 100)}") for text in result.texts]
    if error is not None:
        facts.append(("error", one_line(str(error), 300)))
    return facts


def follow_jobs(app: App, options: FollowOptions) -> int:
    """Wait for jobs, and fetch their outputs if there is a folder for them."""
    login = given_login(app, options.login, url=options.url)
    fetch = None
    if options.output is not None:
        template = Template(options.template or DEFAULT_TEMPLATE)
        fetch = Fetch(app.path(options.output), template, overwrite=options.overwrite, metadata=options.metadata)
        probe_folder(fetch.folder)

    with journal_if_there(app, wanted=fetch is not None) as journal:
        return run_async(app, lambda interrupts: _follow_jobs(app, options, login, fetch, journal, interrupts))


async def _follow_jobs(
    app: App,
    options: FollowOptions,
    login: GivenLogin,
    fetch: Fetch | None,
    journal: Journal | None,
    interrupts: Interrupts,
) -> int:
    interrupts.stopped = "stopped waiting; " + ("the job goes on" if len(options.ids) == 1 else "the jobs go on")
    recording = _recording(journal) if journal is not None else None
    async with connect(app, login, recording=recording, stall_timeout=options.stall_timeout) as client:
        way = _with_options(options, fetch, login.words(client.url)) if fetch is not None else None
        await _learn_seeds(app, client, options)
        ids = await _whole_ids(client, options.ids)
        if recording is not None:
            await _claim(app, recording, ids)
        found, lost = await _find(app, client, ids)
        try:
            await _follow_all(app, options, found, way)
        except asyncio.CancelledError:
            interrupts.stopped = _stopped(found, way)
            raise
    code = max((6 if lost else 0, *(followed.exit_code for followed in found)))
    _finish(app, found, lost, code)
    if len(found) > 1:
        app.note(summary(found, fetch.folder if fetch else None))
    return code


def _recording(journal: Journal) -> Recording:
    from comfyclient.recording import Recording

    return Recording(journal, required=False)


async def _claim(app: App, recording: Recording, ids: tuple[str, ...]) -> None:
    """Have the journal know what is fetched of the jobs in it that nobody looks after."""
    try:
        claim = await asyncio.to_thread(recording.journal.claim, ids)
    except ComfyClientError as error:
        app.detail(f"the journal is left as it is: {error}")
        return
    for entry in claim.entries:
        recording.adopt(entry)


def _with_options(options: FollowOptions, fetch: Fetch, instance: list[str]) -> Fetch:
    return dataclasses.replace(fetch, options=fetch.command_options(str(options.output), instance))


async def _learn_seeds(app: App, client: ComfyClient, options: FollowOptions) -> None:
    """Fetch the catalog, without which nobody knows which inputs are seeds, if they are to be told."""
    if not (options.metadata or options.template or app.json or app.events):
        return
    try:
        await client.catalog()
    except ComfyClientError as error:
        app.warn(f"the jobs' seeds are unknown: {error}")


def _stopped(jobs: list[Followed], fetch: Fetch | None) -> str:
    """What to say when the waiting was stopped."""
    going_on = sum(not followed.job.state.is_terminal for followed in jobs)
    missing = [followed.id for followed in jobs if followed.waits_to_be_fetched] if fetch is not None else []
    parts = []
    if going_on:
        parts.append("stopped waiting; " + ("the job goes on" if going_on == 1 else f"{going_on} jobs go on"))
    if fetch is not None and missing:
        parts.append(f"{count(len(missing), 'job')} ended but not fetched: {fetch.later(missing)}")
    return "; ".join(parts) or "stopped"


async def _find(app: App, client: ComfyClient, ids: tuple[str, ...]) -> tuple[list[Followed], list[JobLost]]:
    """Take up the jobs. One that the instance does not know does not stop the others."""
    answers = await asyncio.gather(*(_take_up(client, prompt_id) for prompt_id in ids))
    found: list[Followed] = []
    lost: list[JobLost] = []
    for number, answer in enumerate(answers, start=1):
        if isinstance(answer, JobLost):
            show_error(app, answer)
            lost.append(answer)
        else:
            found.append(Followed(answer, number, len(ids), ours=False))
    return found, lost


async def _take_up(client: ComfyClient, prompt_id: str) -> Job | JobLost:
    try:
        return await client.job(prompt_id)
    except JobLost as error:
        return error


async def _follow_all(app: App, options: FollowOptions, jobs: list[Followed], fetch: Fetch | None) -> None:
    deadline = None if options.timeout is None else asyncio.get_running_loop().time() + options.timeout
    with displaying(app, len(jobs)) as display:
        async with asyncio.TaskGroup() as tasks:
            for followed in jobs:
                display.submitted(followed)
                tasks.create_task(follow(app, display, followed, fetch=fetch, deadline=deadline))


def _finish(app: App, found: list[Followed], lost: list[JobLost], code: int) -> None:
    jobs = [followed.to_json() for followed in found]
    jobs += [{"prompt_id": error.prompt_id, "state": "lost", "error": error.to_json()} for error in lost]
    if app.events:
        app.print_event({"event": "summary", "jobs": jobs, "exit_code": code})
    elif app.json:
        app.print_json({"jobs": jobs, "exit_code": code})


def cancel(app: App, options: CancelOptions) -> int:
    """Cancel jobs."""
    login = given_login(app, options.login, url=options.url)

    async def run(_: Any) -> int:
        async with connect(app, login) as client:
            ids = await _whole_ids(client, options.ids)
            states = await client.cancel_all(ids)
        _write_cancelled(app, [prompt_id for prompt_id, state in states.items() if state is JobState.CANCELLED])
        code = 6 if any(state in {JobState.LOST, JobState.PENDING} for state in states.values()) else 0
        if app.json:
            jobs = [{"prompt_id": prompt_id, "state": str(state)} for prompt_id, state in states.items()]
            app.print_json({"jobs": jobs, "exit_code": code})
            return code
        for prompt_id, state in states.items():
            if state is JobState.LOST:
                app.tell(f"error: job {prompt_id}: the instance does not know it")
            else:
                app.show(f"{prompt_id}  {_CANCELLED.get(state, f'had ended: {state}')}")
        return code

    return run_async(app, run)


def _write_cancelled(app: App, ids: list[str]) -> None:
    """What was taken off a queue leaves no record at the instance; so the journal must know."""
    with journal_if_there(app, wanted=bool(ids)) as journal:
        if journal is None:
            return
        try:
            for entry in journal.claim(ids).entries:
                journal.ended(entry.prompt_id, str(JobState.CANCELLED))
        except ComfyClientError as error:
            app.detail(f"the journal is left as it is: {error}")
