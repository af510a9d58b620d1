"""Following jobs to their end, and bringing their outputs home."""

from __future__ import annotations

import asyncio
import os
import shlex
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from comfyclient.cli.failures import show_error
from comfyclient.cli.text import count, duration, one_line
from comfyclient.errors import ComfyClientError, OutcomeUnknown, TransferError
from comfyclient.names import DEFAULT_TEMPLATE
from comfyclient.wire import events
from comfyclient.wire.records import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from comfyclient.cli.app import App
    from comfyclient.cli.display import Display
    from comfyclient.job import Job
    from comfyclient.names import Template
    from comfyclient.result import Result

__all__ = ["Fetch", "Followed", "follow", "probe_folder", "summary"]

_PARALLEL: Final = 4  # jobs whose outputs are fetched at a time
_BLOCK: Final = 4096


@dataclass(frozen=True, slots=True)
class Fetch:
    """Where outputs go and how they are named.

    ``options`` are those with which ``jobs download`` does the same; ``None`` where there is nothing to fetch from
    later, as with an emulator that ends with the command.
    """

    folder: Path
    template: Template
    overwrite: bool = False
    metadata: bool = False
    options: str | None = None
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_PARALLEL))

    def later(self, ids: Iterable[str]) -> str | None:
        """The command that fetches the outputs of these jobs."""
        return None if self.options is None else f"comfyclient jobs download {' '.join(ids)} {self.options}"

    def command_options(self, folder: str, instance: Sequence[str]) -> str:
        """What ``jobs download`` must be told to fetch in the same way. ``instance``: the options that lead to it."""
        words = ["-o", folder]
        if self.template.text != DEFAULT_TEMPLATE:
            words += ["--name-template", self.template.text]
        words += [name for name, given in (("--overwrite", self.overwrite), ("--metadata", self.metadata)) if given]
        return shlex.join([*words, *instance])


@dataclass(slots=True)
class Followed:
    """A job that a command follows: ``number`` of ``total``, by which it is known though its id may change.

    ``ours``: this run queued it. ``runs`` and ``stalled`` (why, for people) are as its events say, ``lost_id`` is the
    id under which it was lost, if it was submitted once more.
    """

    job: Job
    number: int = 1
    total: int = 1
    ours: bool = True
    result: Result | None = None
    error: ComfyClientError | None = None
    files: list[Path] = field(default_factory=list)
    fetched: bool = False
    runs: bool = False
    stalled: str | None = None
    lost_id: str | None = None

    @property
    def id(self) -> str:
        """The prompt_id."""
        return self.job.id

    @property
    def label(self) -> str:
        """What people call it."""
        return f"job {self.number}/{self.total}" if self.total > 1 else f"job {self.id[:8]}"

    @property
    def full_label(self) -> str:
        """The same with all of its id, which other commands take."""
        return f"{self.label} ({self.id})" if self.total > 1 else f"job {self.id}"

    @property
    def state(self) -> str:
        """Where it is."""
        return str(self.job.state)

    @property
    def waits_to_be_fetched(self) -> bool:
        """Whether it has succeeded, and its outputs are still only on the instance."""
        return self.job.state is JobState.SUCCEEDED and not self.fetched and self.error is None

    @property
    def exit_code(self) -> int:
        """What it makes of the run."""
        return self.error.exit_code if self.error is not None else 0

    def hear(self, event: events.JobEvent) -> None:
        """Keep what an event says of where it is."""
        if isinstance(event, events.Stalled):
            self.stalled = event.reason
        elif self.job.state is not JobState.STALLED:  # one that waits is told to do so also while nothing moves
            self.stalled = None
        if isinstance(event, events.Queued | events.Started):
            self.runs = isinstance(event, events.Started)
        elif isinstance(event, events.Resubmitted):
            self.runs, self.lost_id = False, event.old_id

    def identity(self) -> dict[str, Any]:
        """Which job it is, as JSON."""
        return {"prompt_id": self.id, "number": self.number, "seeds": dict(self.job.seeds)}

    def to_json(self) -> dict[str, Any]:
        """How it went, as JSON."""
        body: dict[str, Any] = {**self.identity(), "state": self.state}
        if self.lost_id is not None:
            body["lost_id"] = self.lost_id
        if self.job.warnings:
            body["warnings"] = [warning.to_json() for warning in self.job.warnings]
        if self.result is not None:
            result = self.result.to_json()
            body |= {name: result[name] for name in ("started", "ended", "duration", "outputs", "texts")}
        if self.fetched:
            body["files"] = [str(path) for path in self.files]
        if self.error is not None:
            body["error"] = self.error.to_json()
        return body


async def follow(
    app: App,
    display: Display,
    followed: Followed,
    *,
    fetch: Fetch | None = None,
    deadline: float | None = None,
    ended: Callable[[], None] | None = None,
) -> None:
    """Follow a job to its end, fetch its outputs, and say how it went.

    Args:
        app: The application.
        display: What shows it.
        followed: The job; what became of it is stored there.
        fetch: Where to save the outputs; ``None`` leaves them on the instance.
        deadline: When to give up, on the event loop's clock.
        ended: Called when it has ended, before its outputs are fetched.
    """
    try:
        try:
            followed.result = await _outcome(display, followed, deadline)
        finally:
            if ended is not None:
                ended()
        if fetch is not None:
            async with fetch.gate:
                followed.files = await followed.result.save(
                    fetch.folder,
                    template=fetch.template,
                    overwrite=fetch.overwrite,
                    texts=True,
                    metadata=fetch.metadata,
                )
            followed.fetched = True
    except ComfyClientError as error:
        followed.error = error
    display.ended(followed)
    _tell(app, followed, fetch)


async def _outcome(display: Display, followed: Followed, deadline: float | None) -> Result:
    job = followed.job
    try:
        async with asyncio.timeout_at(deadline):
            async for event in job.events():
                followed.hear(event)
                display.event(followed, event)
            return await job.result()
    except TimeoutError:
        why = f" ({followed.stalled})" if followed.stalled is not None else ""
        message = f"the time is up and job {job.id} is still {job.state}{why}"
        raise OutcomeUnknown(message, prompt_id=job.id) from None


def _tell(app: App, followed: Followed, fetch: Fetch | None) -> None:
    """Files on stdout, what else there is to say on stderr."""
    if not (app.json or app.events):
        for path in followed.files:
            app.print_path(path)
        app.flush()
    if followed.result is not None:
        for text in followed.result.texts:
            app.note(f"{followed.label}: node {text.node_id} says: {one_line(text.text, 200)}")
    if followed.error is not None:
        named = followed.total == 1 and followed.id in str(followed.error)
        show_error(app, followed.error, prefix="" if named else f"{followed.full_label}: ")
        later = fetch.later([followed.id]) if fetch is not None and followed.result is not None else None
        if later is not None:
            app.tell(f"hint: the outputs are still on the instance: {later}")
        for line in getattr(followed.error, "traceback", ()):
            app.detail(f"  {line.rstrip()}")
    elif followed.result is not None:
        app.note(f"{followed.full_label}: {_success(followed)}")


def _success(followed: Followed) -> str:
    parts = ["succeeded"]
    if followed.result is not None and followed.result.duration is not None:
        parts[0] += f" in {duration(followed.result.duration)}"
    seeds = list(dict.fromkeys(followed.job.seeds.values()))
    if seeds:
        parts.append(f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds[:4]))}")
    if followed.fetched:
        parts.append(count(len(followed.files), "file"))
    return ", ".join(parts)


def summary(jobs: Sequence[Followed], folder: Path | None) -> str:
    """How several jobs went, in one line."""
    states: dict[str, int] = {}
    for followed in jobs:
        states[followed.state] = states.get(followed.state, 0) + 1
    text = f"{count(len(jobs), 'job')}: " + ", ".join(f"{number} {state}" for state, number in states.items())
    files = sum(len(followed.files) for followed in jobs)
    return f"{text}; {count(files, 'file')} in {folder}" if folder is not None else text


def probe_folder(folder: Path) -> None:
    """See that files can be written there, before anything is queued whose outputs would be lost.

    Raises:
        TransferError: They cannot: no folder, no right, no room.
    """
    hint = "nothing was queued; --output names another folder"
    if folder.exists() and not folder.is_dir():
        raise TransferError(f"cannot write into {folder}: it is a file, not a folder", hint=hint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix=".comfyclient-") as file:
            file.write(b"\0" * _BLOCK)
            file.flush()
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise TransferError(f"cannot write into {folder}: {reason}", hint=hint) from None
