"""Finishing the jobs of one instance that were left undone. Nothing is ever queued here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from comfyclient.cli.failures import show_error
from comfyclient.cli.follow import Fetch, Followed, follow
from comfyclient.cli.resumed import Outcome
from comfyclient.cli.running import connect
from comfyclient.cli.text import count
from comfyclient.errors import ComfyClientError, JobLost, OutcomeUnknown
from comfyclient.files import remove_parts
from comfyclient.journal import Phase
from comfyclient.names import Template
from comfyclient.ownfiles import part_mark
from comfyclient.recording import Recording
from comfyclient.wire.submission import SETTLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfyclient.cli.app import App
    from comfyclient.cli.credentials import GivenLogin
    from comfyclient.cli.display import Display
    from comfyclient.cli.resumed import Resumed
    from comfyclient.client import ComfyClient
    from comfyclient.job import Job
    from comfyclient.journal import Journal
    from comfyclient.recording import JobRecording

__all__ = ["Resuming", "remove_unfinished"]

_PARALLEL: Final = 8  # jobs that are looked up at a time
_FETCHES: Final = 4  # jobs whose outputs are fetched at a time


class Resuming:
    """The jobs of one instance, which the journal has claimed.

    Args:
        app: The application.
        display: What shows them.
        journal: The journal.
        jobs: The jobs; what becomes of them is stored there.
        deadline: When to give up waiting, on the event loop's clock.
        stall_timeout: That of the client, in seconds.
    """

    def __init__(
        self,
        app: App,
        display: Display,
        journal: Journal,
        jobs: Sequence[Resumed],
        deadline: float | None,
        stall_timeout: float | None = None,
    ) -> None:
        self._app, self._display = app, display
        self._stall_timeout = stall_timeout
        self._jobs, self._deadline = jobs, deadline
        self._recording = Recording(journal, required=False)
        self._lookups = asyncio.Semaphore(_PARALLEL)
        self._fetches = asyncio.Semaphore(_FETCHES)

    async def run(self, login: GivenLogin | ComfyClientError) -> None:
        """Finish them, as far as that can be done now. ``login``: to the instance, or why there is none."""
        try:
            if isinstance(login, ComfyClientError):
                raise login
            connecting = connect(self._app, login, recording=self._recording, stall_timeout=self._stall_timeout)
            async with connecting as client:
                await client.login()
                async with asyncio.TaskGroup() as tasks:
                    for resumed in self._jobs:
                        tasks.create_task(self._finish(client, resumed))
        except ComfyClientError as error:
            self._unreachable(error)

    def _unreachable(self, error: ComfyClientError) -> None:
        """Nothing can be done for those that are not over."""
        left = [resumed for resumed in self._jobs if resumed.followed is None and resumed.given is None]
        for resumed in left:
            resumed.given, resumed.error = Outcome.UNKNOWN, error
        url = self._jobs[0].entry.url
        show_error(self._app, error, prefix=f"{count(len(left), 'job')} at {url}: ")
        self._app.tell(f"hint: if that instance is gone for good: comfyclient jobs forget --url {url}")

    async def _finish(self, client: ComfyClient, resumed: Resumed) -> None:
        entry, outputs = resumed.entry, resumed.plan.outputs
        # What a program has queued, it may want: only a run that said so wants nothing.
        recording = self._recording.adopt(entry, wanted=outputs is not None or not resumed.plan.known)
        try:
            fetch = self._fetch(resumed)
            job = await self._take_up(client, resumed, recording)
        except JobLost:
            await self._gone(client, resumed, recording)
            return
        except ComfyClientError as error:
            self._end(resumed, Outcome.UNKNOWN, error)
            return
        job.seeds = dict(resumed.plan.seeds) or job.seeds
        followed = resumed.followed = Followed(job, resumed.number, resumed.total, ours=False)
        self._display.submitted(followed)
        await follow(self._app, self._display, followed, fetch=fetch, deadline=self._deadline)
        if followed.result is not None and not resumed.plan.known:
            command = f"comfyclient jobs download {resumed.id} --url {client.url}"
            self._app.note(f"{resumed.label}: its outputs are on the instance: {command}")
            self._app.note(f"hint: if nobody wants them: comfyclient jobs forget {resumed.id}")
        elif resumed.outcome is Outcome.NOT_FETCHED:
            self._app.tell(f"hint: if they cannot be had any more: comfyclient jobs forget {resumed.id}")

    def _fetch(self, resumed: Resumed) -> Fetch | None:
        outputs = resumed.plan.outputs
        if outputs is None:
            return None
        return Fetch(
            outputs.folder,
            Template(outputs.template),
            overwrite=outputs.overwrite,
            metadata=outputs.metadata,
            gate=self._fetches,
        )

    async def _take_up(self, client: ComfyClient, resumed: Resumed, recording: JobRecording) -> Job:
        """Find it at the instance.

        Raises:
            JobLost: It is not there.
        """
        ambiguous = resumed.entry.phase is Phase.SUBMITTING
        try:
            async with self._lookups:
                job = await client.job(resumed.id)
        except JobLost:
            if not ambiguous:
                raise
            # It may be on its way: what was sent when its process died need not have arrived yet.
            await asyncio.sleep(SETTLE)
            async with self._lookups:
                job = await client.job(resumed.id)
        if ambiguous:
            await recording.accepted()
        return job

    async def _gone(self, client: ComfyClient, resumed: Resumed, recording: JobRecording) -> None:
        """The instance does not know it: what that means depends on whether it ever did."""
        if resumed.entry.phase is not Phase.SUBMITTING:
            await recording.ended("lost")
            text = f"{resumed.entry.url} no longer knows it: it restarted, or somebody deleted the job"
            here = sum(output.placed for output in resumed.entry.outputs)
            text += f"; {count(here, 'file')} of it had been saved" if here else ""
            self._end(resumed, Outcome.LOST, JobLost(text, prompt_id=resumed.id, hint=_again(resumed)))
            return
        try:
            kept = await client.keeps_ids()
        except ComfyClientError as error:
            self._end(resumed, Outcome.UNKNOWN, error)
            return
        if not kept:
            text = f"{resumed.entry.url} does not know it, but may have it under another id"
            hint = f"look at `comfyclient jobs list`; then comfyclient jobs forget {resumed.id}"
            self._end(resumed, Outcome.UNKNOWN, OutcomeUnknown(text, prompt_id=resumed.id, hint=hint))
            return
        await recording.refused("the instance does not know it")
        text = f"it was never queued, or {resumed.entry.url} has restarted since (sha256 {resumed.entry.body_digest})"
        self._end(resumed, Outcome.NOT_QUEUED, JobLost(text, prompt_id=resumed.id, hint=_again(resumed)))

    def _end(self, resumed: Resumed, outcome: Outcome, error: ComfyClientError) -> None:
        resumed.given, resumed.error = outcome, error
        show_error(self._app, error, prefix=f"{resumed.label}: ")
        if self._app.events:
            self._app.print_event({"event": "ended", **resumed.to_json()})


def _again(resumed: Resumed) -> str:
    return f"to queue it again: {resumed.plan.command(resumed.entry.url)}"


def remove_unfinished(jobs: Sequence[Resumed]) -> None:
    """Remove what the processes that had these jobs have left half written."""
    folders: dict[tuple[str, bool], set[str]] = {}
    for resumed in jobs:
        outputs = resumed.plan.outputs
        if outputs is not None:
            deep = "/" in outputs.template.replace("\\", "/") or "{subfolder" in outputs.template
            folders.setdefault((str(outputs.folder), deep), set()).add(part_mark(resumed.entry.sent_id))
    for (folder, deep), marks in folders.items():
        remove_parts(Path(folder), marks, deep=deep)
