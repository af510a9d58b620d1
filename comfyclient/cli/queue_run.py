"""What ``comfyclient queue`` does."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from comfyclient.cli.assign import Assignments
from comfyclient.cli.credentials import given_login
from comfyclient.cli.display import displaying
from comfyclient.cli.failures import STOPPED, show_error
from comfyclient.cli.follow import Fetch, Followed, follow, probe_folder, summary
from comfyclient.cli.journals import journal_if_possible
from comfyclient.cli.missing import hint_of_missing
from comfyclient.cli.plans import Outputs, Plan
from comfyclient.cli.running import connect, run_async, temporary_folder
from comfyclient.cli.sources import load_workflow
from comfyclient.cli.stopping import id_lines, stop_jobs
from comfyclient.cli.text import count
from comfyclient.errors import CheckFailed, ComfyClientError, ConfigError, OutcomeUnknown, Problem, TransferError
from comfyclient.names import DEFAULT_TEMPLATE, Template
from comfyclient.wire.records import JobState
from comfyclient.workflow.check import check as check_prompt
from comfyclient.workflow.convert import convert
from comfyclient.workflow.convert.releases import release_of, rules_for
from comfyclient.workflow.edit import apply_edits
from comfyclient.workflow.seeds import SeedPlan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from comfyclient.cli.app import App
    from comfyclient.cli.credentials import GivenLogin
    from comfyclient.cli.display import Display
    from comfyclient.cli.queue import QueueOptions
    from comfyclient.cli.running import Interrupts
    from comfyclient.client import ComfyClient
    from comfyclient.emulator import Emulator
    from comfyclient.job import Job
    from comfyclient.journal import Journal
    from comfyclient.prepare import Prepared
    from comfyclient.recording import Recording
    from comfyclient.workflow.catalog import Catalog
    from comfyclient.workflow.document import Workflow
    from comfyclient.workflow.prompt import Prompt

__all__ = ["run"]

_AHEAD: Final = 32  # jobs that are unfinished at a time: enough that the instance never waits for us
_STOPPED: Final = {"code": "stopped", "message": "stopped before the end"}
_RESUME: Final = "comfyclient jobs resume"
_A_LINE: Final = 8  # ids in a command for people: a line that is longer is cut
_LAST_WAIT: Final = 10.0  # seconds for the answer to a prompt that was being sent when the run was stopped


def run(app: App, options: QueueOptions) -> int:
    """Queue a workflow and follow it. What can be wrong without an instance is found before one is asked.

    Raises:
        ComfyClientError: Nothing was queued.
    """
    login = None if options.emulator else _login(app, options)
    name = options.workflow or (login.workflow if login is not None else None)
    if name is None:
        raise ConfigError(
            f"{options.login.credentials_file} names no workflow", hint="give WORKFLOW, or its third line"
        )
    workflow = load_workflow(app, name)
    assignments = Assignments(app, options.assignments)
    fetch = _fetch(app, options)
    rules_for(options.frontend)
    with journal_if_possible(app, wanted=options.journal) as journal:
        recording = _recording(app, options, name, journal) if journal is not None else None
        order = _Order(workflow, assignments, fetch, app.path(name).parent, login, recording)
        return run_async(app, lambda interrupts: _run(app, options, order, interrupts))


def _recording(app: App, options: QueueOptions, workflow: str, journal: Journal) -> Recording:
    """What goes into the journal.

    Raises:
        ConfigError: The template makes no sense.
    """
    from comfyclient.recording import Recording

    outputs = None
    if options.download or options.fetch_later:
        template = Template(options.template or DEFAULT_TEMPLATE).text
        outputs = Outputs(app.path(options.output), template, overwrite=options.overwrite, metadata=options.metadata)
    path = workflow if workflow == "-" else str(app.path(workflow).absolute())
    return Recording(
        journal,
        name=app.path(workflow).name,
        planned=options.iterations,
        plan=Plan(path, outputs, options.login).to_json(app.cwd),
        wanted=outputs is not None,
        required=False,
        told=options.wait,
    )


def _login(app: App, options: QueueOptions) -> GivenLogin:
    taken_by = "WORKFLOW" if options.workflow == "-" else None
    return given_login(app, options.login, url=options.url, stdin_taken_by=taken_by)


def _fetch(app: App, options: QueueOptions) -> Fetch | None:
    if not options.download:
        return None
    return Fetch(
        app.path(options.output),
        Template(options.template or DEFAULT_TEMPLATE),
        overwrite=options.overwrite,
        metadata=options.metadata,
    )


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be queued, and where: ``login`` is ``None`` for an emulator.

    ``folder`` is where the workflow's own files are looked for; ``recording`` is ``None`` if no journal is kept.
    """

    workflow: Workflow
    assignments: Assignments
    fetch: Fetch | None
    folder: Path
    login: GivenLogin | None
    recording: Recording | None


async def _run(app: App, options: QueueOptions, order: _Order, interrupts: Interrupts) -> int:
    interrupts.stopped = "stopped; nothing was queued"
    with contextlib.ExitStack() as stack:
        emulator = _emulator(stack.enter_context(temporary_folder(interrupts))) if options.emulator else None
        return await _run_on(app, options, order, interrupts, emulator)


async def _run_on(
    app: App, options: QueueOptions, order: _Order, interrupts: Interrupts, emulator: Emulator | None
) -> int:
    async with connect(
        app, order.login, emulator=emulator, recording=order.recording, stall_timeout=options.stall_timeout
    ) as client:
        order = _with_way_back(options, order, client)
        maker = await _Maker.ready(app, options, order, client, emulator)
        first = await maker.make(0)
        for warning in maker.warnings:  # only now: the check says most of it better
            app.warn(str(warning))
        _say_seeds(app, options, maker)
        if order.fetch is not None:
            await asyncio.to_thread(probe_folder, order.fetch.folder)
        with displaying(app, options.iterations) as display:
            queueing = _Queueing(app, options, order, client, display)
            interrupts.stopped, interrupts.last_words = None, queueing.last_words
            await queueing.run(maker, first)
        return queueing.finish()


def _with_way_back(options: QueueOptions, order: _Order, client: ComfyClient) -> _Order:
    """The order, with the options of the command that fetches outputs later; an emulator is gone by then."""
    if order.fetch is None or order.login is None:
        return order
    again = order.fetch.command_options(str(options.output), order.login.words(client.url))
    return replace(order, fetch=replace(order.fetch, options=again))


def _emulator(folder: Path) -> Emulator:
    from comfyclient.emulator import Emulator

    return Emulator(
        models={}, base_dir=folder
    )  # no names to choose from: those that the workflow and --set give will do


class _Maker:
    """Makes the prompt of each iteration: converted, set, seeded, its files uploaded, checked."""

    def __init__(
        self,
        options: QueueOptions,
        order: _Order,
        client: ComfyClient,
        catalog: Catalog,
        release: str | None,
        emulator: Emulator | None,
    ) -> None:
        self._options, self._order, self._client, self._emulator = options, order, client, emulator
        self._catalog, self._release = catalog, release
        rng = random.Random()  # noqa: S311 - chooses words, guards nothing
        state = rng.getstate()
        self._prompt = self._convert(rng)
        self.chooses = rng.getstate() != state  # whether texts say {a|b}, so that no two jobs need be the same
        edited = order.assignments.apply(self._prompt, catalog)
        pinned = order.assignments.places(edited, catalog)
        self.warnings = edited.warnings
        self.plan = SeedPlan(edited, catalog, options.seed, pinned=pinned)
        self.plan.check(options.iterations)

    @classmethod
    async def ready(
        cls, app: App, options: QueueOptions, order: _Order, client: ComfyClient, emulator: Emulator | None
    ) -> _Maker:
        """Ask the instance what it knows, and see that the order makes sense there."""
        release = options.frontend
        if release is None and order.workflow.format == "ui":
            release = release_of((await client.info()).frontend_version)
        catalog = await client.catalog()
        app.detail(f"instance {client.url}: ComfyUI {catalog.version}, {len(catalog)} node classes")
        return cls(options, order, client, catalog, release, emulator)

    async def make(self, iteration: int) -> Prepared:
        """The prompt of one iteration, from 0.

        Raises:
            WorkflowError: It would not run, or cannot be made.
            TransferError: A file could not be uploaded.
        """
        seeds = self.plan.edits(iteration)
        if iteration or seeds:
            # As on the page, {a|b} is chosen anew for each job. A given seed decides that too, so that it repeats.
            rng = random.Random(next(iter(seeds.values()), None))  # noqa: S311
            self._prompt = self._convert(rng)
        prompt = self._prompt
        edits: dict[str, Any] = {**self._order.assignments.edits(prompt, self._catalog), **seeds}
        check = self._options.check
        try:
            prepared = await self._client.prepare(
                prompt, edits, check=check and self._emulator is None, upload_dir=self._order.folder
            )
            if check and self._emulator is not None:
                self._check_emulated(prepared, self._emulator)
        except CheckFailed as error:
            raise self.explained(error, apply_edits(prompt, edits, self._catalog)) from None
        return prepared

    def explained(self, error: ComfyClientError, prompt: Prompt) -> ComfyClientError:
        """The error, with a better hint if it is about a file that was to be uploaded."""
        error.hint = hint_of_missing(error, prompt, self._catalog, self._order.folder) or error.hint
        return error

    def _check_emulated(self, prepared: Prepared, emulator: Emulator) -> None:
        """The check, apart from the names of models: the emulator takes any, since it loads none."""
        takes_any = emulator.core.catalog.takes_any
        problems = [
            problem
            for problem in check_prompt(prepared.prompt, self._catalog)
            if problem.code != "value_not_in_list" or not takes_any(problem.class_type or "", problem.input or "")
        ]
        if problems:
            raise CheckFailed(problems)

    def _convert(self, rng: random.Random) -> Prompt:
        return convert(self._order.workflow, self._catalog, frontend=self._release, rng=rng)


def _say_seeds(app: App, options: QueueOptions, maker: _Maker) -> None:
    plan, jobs = maker.plan, options.iterations
    if isinstance(options.seed, int) or options.seed == "random":
        if not plan.varies:
            why = "--set sets every seed" if plan.addresses else "the workflow has no seed"
            app.warn(f"{why}, so --seed changes nothing")
    elif jobs > 1 and plan.same_every_time and not maker.chooses:
        app.warn(_same(jobs, plan))
    elif jobs > 1 and plan.guessed:
        app.note("the workflow does not say how its seeds change: they are random from the second job on")


def _same(jobs: int, plan: SeedPlan) -> str:
    if not plan.addresses:
        return f"the workflow has no seed: all {jobs} jobs are the same, and the instance may answer from its cache"
    if not plan.varies:
        return f"--set sets every seed: all {jobs} jobs have the same seeds, and the same outputs"
    return f"all {jobs} jobs have the same seeds, and the same outputs; --seed random varies them"


class _Queueing:
    """The jobs of one run: submitted ahead of the instance, followed, fetched; cancelled if the run is stopped."""

    def __init__(self, app: App, options: QueueOptions, order: _Order, client: ComfyClient, display: Display) -> None:
        self._app, self._options, self._order = app, options, order
        self._client, self._display = client, display
        self._jobs: list[Followed] = []
        self._doubtful: str | None = None  # an id that was sent, with no answer yet
        self._failure: ComfyClientError | None = None
        self._not_queued = 0
        self._told: set[str] = set()

    async def run(self, maker: _Maker, first: Prepared) -> None:
        """Queue all iterations, and follow them unless told not to wait.

        Raises:
            ComfyClientError: Nothing was queued.
        """
        self._told.update(map(str, maker.warnings))
        try:
            async with asyncio.TaskGroup() as followers:
                await self._submit_all(maker, first, followers)
        except BaseExceptionGroup as group:
            await self._stop(_reason(group.exceptions[0]))
            raise group.exceptions[0] from None
        except asyncio.CancelledError:
            await self._stop()
            self._print(_STOPPED, STOPPED)
            raise
        if not self._jobs and self._failure is not None:
            raise self._failure

    def last_words(self) -> list[str]:
        """What to say if the run ends here. An emulator's jobs end with it."""
        if self._options.emulator:
            return []
        ids = self._unfinished()
        lines = [*self._to_be_fetched({}), *(id_lines("not cancelled", ids) if ids else [])]
        return [*lines, self._resumable()] if lines and self._order.recording is not None else lines

    def _resumable(self) -> str:
        return f"to finish what is left: {_RESUME}"

    def _to_be_fetched(self, answers: Mapping[str, JobState | str]) -> list[str]:
        """What to say of jobs that ended, and whose outputs are only on the instance. ``answers``: to cancelling."""
        fetch = self._order.fetch
        if fetch is None:
            return []
        ids = [
            followed.id
            for followed in self._jobs
            if followed.waits_to_be_fetched
            or (answers.get(followed.id) is JobState.SUCCEEDED and not followed.fetched and followed.error is None)
        ]
        if not ids:
            return []
        first, *more = (fetch.later(ids[start : start + _A_LINE]) for start in range(0, len(ids), _A_LINE))
        what = f"to fetch {'it' if len(ids) == 1 else 'them'}: {first}" if first else "the emulator is gone with them"
        return [
            f"{count(len(ids), 'job')} ended but not fetched; {what}",
            *(f"and: {later}" for later in more if later),
        ]

    def finish(self) -> int:
        """Say how it all went, and return the exit code: that of the worst."""
        code = max((followed.exit_code for followed in self._jobs), default=0)
        code = max(code, self._failure.exit_code if self._failure is not None else 0)
        self._print(self._failure.to_json() if self._failure is not None else None, code)
        if self._options.iterations > 1 and self._options.wait:
            self._app.note(summary(self._jobs, self._order.fetch.folder if self._order.fetch else None))
        if self._order.recording is not None and any(map(self._is_left, self._jobs)):
            self._app.note(self._resumable())
        return code

    def _is_left(self, followed: Followed) -> bool:
        """Whether something is to be done for it that another command can do."""
        if followed.job.state is JobState.SUCCEEDED:
            return (self._order.fetch is not None and not followed.fetched) or self._options.fetch_later
        return self._may_go_on(followed)

    @staticmethod
    def _may_go_on(followed: Followed) -> bool:
        return not followed.job.state.is_terminal or followed.job.state is JobState.UNKNOWN

    def _print(self, error: dict[str, Any] | None, code: int) -> None:
        """The whole run as JSON, if that was asked for."""
        if not (self._app.json or self._app.events):
            return
        document: dict[str, Any] = {"instance": str(self._client.url)}
        if self._options.emulator:
            document["simulated"] = True
        document["jobs"] = [followed.to_json() for followed in self._jobs]
        if self._not_queued:
            document["not_queued"] = self._not_queued
        if error is not None:
            document["error"] = error
        document["exit_code"] = code
        if self._app.events:
            self._app.print_event({"event": "summary", **document})
        else:
            self._app.print_json(document)

    async def _submit_all(self, maker: _Maker, first: Prepared, followers: asyncio.TaskGroup) -> None:
        """Submit one iteration after the other, as there is room; what fails ends the submitting, not the waiting."""
        room = asyncio.Semaphore(_AHEAD)
        timeout = self._options.timeout
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        for iteration in range(self._options.iterations):
            if self._options.wait:
                await room.acquire()
            if iteration and deadline is not None and asyncio.get_running_loop().time() >= deadline:
                self._not_queued = self._options.iterations - iteration
                self._app.tell(f"the time is up: {count(self._not_queued, 'job')} not queued")
                return
            try:
                prepared = first if iteration == 0 else await maker.make(iteration)
                followed = await self._submit(prepared, maker)
            except ComfyClientError as error:
                self._give_up(error, iteration)
                return
            if self._options.wait:
                work = follow(
                    self._app, self._display, followed,
                    fetch=self._order.fetch, deadline=deadline, ended=room.release,
                )  # fmt: skip
                followers.create_task(work)

    async def _submit(self, prepared: Prepared, maker: _Maker) -> Followed:
        prompt_id = str(uuid.uuid4())
        self._doubtful = prompt_id
        options = self._options
        task = asyncio.ensure_future(
            self._client.submit(prepared, front=options.front, prompt_id=prompt_id, resubmit=options.resubmit)
        )
        try:
            job = await asyncio.shield(task)
        except asyncio.CancelledError:
            # Half a request may be queued all the same: it is seen through, so that the job can be cancelled.
            with contextlib.suppress(ComfyClientError, TimeoutError):
                self._add(await asyncio.wait_for(task, _LAST_WAIT))
            raise
        except ComfyClientError as error:
            if not isinstance(error, OutcomeUnknown):
                self._doubtful = None
            maker.explained(error, prepared.prompt)
            raise
        return self._add(job)

    def _add(self, job: Job) -> Followed:
        self._doubtful = None
        followed = Followed(job, len(self._jobs) + 1, self._options.iterations)
        self._jobs.append(followed)
        for warning in job.warnings:
            text = f"the server dropped an output: {warning}" if isinstance(warning, Problem) else str(warning)
            if text not in self._told:
                self._told.add(text)
                self._app.warn(text)
        self._display.submitted(followed)
        if not self._options.wait and not (self._app.json or self._app.events):
            self._app.print(job.id)
            self._app.flush()
        return followed

    def _give_up(self, error: ComfyClientError, iteration: int) -> None:
        self._failure = error
        self._not_queued = self._options.iterations - iteration
        if self._jobs:
            show_error(self._app, error, prefix=f"job {iteration + 1}/{self._options.iterations} was not queued: ")

    def _unfinished(self) -> list[str]:
        ids = [followed.id for followed in self._jobs if self._may_go_on(followed)]
        return [*ids, self._doubtful] if self._doubtful is not None else ids

    def _states(self) -> dict[str, JobState]:
        return {followed.id: followed.job.state for followed in self._jobs}

    async def _stop(self, why: str | None = None) -> None:
        """Cancel what has not ended, and say what becomes of the rest. ``why``: unless by a signal."""
        self._display.close()
        unfinished = self._unfinished()
        try:
            answers = await stop_jobs(self._app, self._client, unfinished, states=self._states, why=why)
        except asyncio.CancelledError:  # Ctrl-C while this was done for another reason
            for line in self.last_words():
                self._app.tell(line)
            raise
        await self._write_down(answers)
        left = self._to_be_fetched(answers)
        for line in left:
            self._app.tell(line)
        going_on = any(answer is JobState.PENDING or not isinstance(answer, JobState) for answer in answers.values())
        if self._order.recording is not None and (left or going_on):
            self._app.tell(self._resumable())
        if why is None and not unfinished and not left:
            self._app.tell("stopped" if self._jobs else "stopped; nothing was queued")

    async def _write_down(self, answers: Mapping[str, JobState | str]) -> None:
        """What came of cancelling, for the journal: nobody goes on with what was told to stop."""
        for prompt_id, answer in answers.items():
            recording = self._order.recording.job(prompt_id) if self._order.recording is not None else None
            if recording is not None and answer is JobState.CANCELLED:
                await recording.ended(str(answer))
            elif recording is not None and answer is JobState.RUNNING:
                await recording.given_up("it was told to stop")


def _reason(error: BaseException) -> str:
    """Why a run stops that nobody stopped. Only of what cannot be written do errors get that far."""
    return "cannot write to stdout" if isinstance(error, BrokenPipeError | TransferError) else "something went wrong"
