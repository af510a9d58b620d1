"""What a job produced: its outputs, and bringing them home."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from comfyclient import _json
from comfyclient._redact import redact_json
from comfyclient._version import __version__
from comfyclient.errors import TransferError
from comfyclient.files import PartFile, make_folders
from comfyclient.names import DEFAULT_TEMPLATE, Template, alternatives, safe_name
from comfyclient.threads import in_thread
from comfyclient.wire.outputs import OutputRef, TextOutput

if TYPE_CHECKING:
    import os
    from collections.abc import Coroutine, Mapping, Sequence

    from comfyclient.recording import JobRecording
    from comfyclient.transfer import Transfers
    from comfyclient.wire.records import HistoryRecord
    from comfyclient.workflow.prompt import Prompt

__all__ = ["Output", "Result"]

_PARALLEL: Final = 4  # downloads at a time, for one job


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a job produced, still on the instance.

    ``title`` and ``class_type`` are those of the node that made it; for the other fields see `OutputRef`.
    """

    ref: OutputRef
    title: str
    class_type: str
    _transfers: Transfers = field(repr=False)
    _recording: JobRecording | None = field(default=None, repr=False, compare=False)

    @property
    def node_id(self) -> str:
        """The node of the prompt that made it."""
        return self.ref.display_node_id or self.ref.node_id

    @property
    def kind(self) -> str:
        """``"images"``, ``"audio"``, ``"gifs"``, …: the server's word."""
        return self.ref.kind

    @property
    def filename(self) -> str:
        """Its name on the instance. Not safe as a local name."""
        return self.ref.filename

    @property
    def subfolder(self) -> str:
        """Its folder on the instance."""
        return self.ref.subfolder

    @property
    def type(self) -> str:
        """``"output"``, or ``"temp"`` for previews, which are gone when the instance restarts."""
        return self.ref.type

    @property
    def index(self) -> int:
        """Its place among the files of its node, from 0."""
        return self.ref.index

    async def read(self) -> bytes:
        """Fetch it into memory.

        Raises:
            TransferError: It cannot be fetched.
        """
        return await self._transfers.read(self.ref)

    async def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Fetch it into a file, which appears whole or not at all.

        Raises:
            OutputExists: The file is there already, and ``overwrite`` is not set.
            TransferError: It cannot be fetched or written.
        """
        path, recording = Path(path), self._recording
        witness = recording.witness(self.ref.to_json()) if recording is not None else None
        saved = await self._transfers.save(
            self.ref, path.parent, (path.name,), overwrite=overwrite, rename=False, witness=witness
        )
        if recording is not None:
            await recording.saved_one()
        return saved

    def to_json(self) -> dict[str, Any]:
        """The fields, for ``--json`` and metadata files."""
        return {**self.ref.to_json(), "title": self.title, "class_type": self.class_type}


class Result:
    """What a job that succeeded has produced.

    Attributes:
        prompt_id: The job.
        outputs: Its files, in the order in which they were made, previews included.
        texts: Texts that nodes showed.
        seeds: The seeds it was sent with, by address.
        started: When it began to run and ``ended``, by the server's clock; ``None`` if the server does not say.
        cached_nodes: Nodes that were not run because their result was known.
    """

    def __init__(
        self,
        transfers: Transfers,
        record: HistoryRecord,
        prompt: Prompt,
        seeds: Mapping[str, int],
        recording: JobRecording | None = None,
    ) -> None:
        self._transfers = transfers
        self._recording = recording
        self._prompt = prompt
        self._record = record
        self.prompt_id = record.prompt_id
        self.seeds = dict(seeds)
        self.outputs = tuple(self._output(ref) for ref in record.outputs if isinstance(ref, OutputRef))
        self.texts = tuple(text for text in record.outputs if isinstance(text, TextOutput))
        self.started = _moment(record.started_ms)
        self.ended = _moment(record.ended_ms)
        self.cached_nodes = record.cached_nodes
        if recording is not None:
            recording.files = tuple(output.ref.to_json() for output in self.files)

    @property
    def duration(self) -> float | None:
        """Seconds that it ran, by the server's clock."""
        if self.started is None or self.ended is None:
            return None
        return max(0.0, (self.ended - self.started).total_seconds())

    @property
    def files(self) -> tuple[Output, ...]:
        """The outputs worth keeping: those of type ``output``; if there are none, the previews."""
        return tuple(o for o in self.outputs if o.type == "output") or self.outputs

    def __repr__(self) -> str:
        return f"<Result of {self.prompt_id}: {len(self.outputs)} files, {len(self.texts)} texts>"

    async def save(
        self,
        folder: str | os.PathLike[str],
        *,
        template: str | Template = DEFAULT_TEMPLATE,
        overwrite: bool = False,
        texts: bool = False,
        metadata: bool = False,
    ) -> list[Path]:
        """Fetch its `files` into a folder, which is made if need be. Each file appears whole or not at all.

        Args:
            folder: Where to. Nothing that the server says leads out of it.
            template: How to name them: see `Template`.
            overwrite: Replace files of the same name; else ``"name (1).png"`` is taken.
            texts: Write the texts too, as ``NODE_INDEX.txt``.
            metadata: Write ``PROMPT_ID.json`` too: prompt, workflow, seeds, times, instance, local names.

        Returns:
            The files, in the order of `files`; then the texts, then the metadata.

        Raises:
            ConfigError: The template makes no sense.
            TransferError: A file cannot be fetched or written. Those that were are kept.
        """
        root = Path(folder)
        pattern = template if isinstance(template, Template) else Template(template)
        saved = await self._save_files(root, pattern, overwrite=overwrite)
        paths = list(saved)
        for text in self.texts if texts else ():
            name = safe_name(f"{text.node_id}_{text.index}.txt")
            paths.append(await self._write(text.to_json(), root, name, text.text, overwrite=overwrite))
        if metadata:
            about, name = _metadata_text(redact_json(self._metadata(root, saved))), f"{safe_name(self.prompt_id)}.json"
            paths.append(await self._write({"kind": "metadata"}, root, name, about, overwrite=overwrite))
        if self._recording is not None:
            await self._recording.saved()
        return paths

    def to_json(self) -> dict[str, Any]:
        """What it is, for ``--json``."""
        return {
            "prompt_id": self.prompt_id,
            "started": self.started.isoformat() if self.started else None,
            "ended": self.ended.isoformat() if self.ended else None,
            "duration": self.duration,
            "seeds": self.seeds,
            "outputs": [output.to_json() for output in self.outputs],
            "texts": [text.to_json() for text in self.texts],
        }

    async def _save_files(self, root: Path, pattern: Template, *, overwrite: bool) -> list[Path]:
        files, names = self.files, _Names()
        saved: dict[int, Path] = {}
        todo = iter(enumerate(files))

        async def work() -> None:
            for index, output in todo:  # shared: each worker takes the next one
                parts = names.claim(pattern.render(self._values(output, index + 1)))
                saved[index] = await self._save_file(output.ref, root, parts, overwrite=overwrite)

        await _all([work() for _ in range(min(_PARALLEL, len(files)))])
        return [saved[index] for index in range(len(files))]

    async def _save_file(self, ref: OutputRef, root: Path, parts: tuple[str, ...], *, overwrite: bool) -> Path:
        save, recording = self._transfers.save, self._recording
        if recording is None:
            return await save(ref, root, parts, overwrite=overwrite, rename=not overwrite)
        about = ref.to_json()
        there = await asyncio.to_thread(recording.whole, about, root.joinpath(*parts[:-1]), parts[-1])
        if there is not None:
            return there
        witness = recording.witness(about)
        return await save(ref, root, parts, overwrite=overwrite, rename=not overwrite, witness=witness)

    async def _write(self, about: Mapping[str, Any], root: Path, name: str, text: str, *, overwrite: bool) -> Path:
        """Write a text. ``about`` says which, for the journal."""
        recording = self._recording

        def write() -> Path:
            there = recording.whole(about, root, name) if recording is not None else None
            if there is not None:
                return there
            part = PartFile(make_folders(root, ()), recording.witness(about) if recording is not None else None)
            try:
                part.write(text.encode("utf-8", "replace"))
                return part.place((name,) if overwrite else alternatives(name), overwrite=overwrite)
            finally:
                part.discard()

        return await in_thread(write)

    def _values(self, output: Output, number: int) -> dict[str, str | int]:
        """What the fields of a template stand for."""
        name = safe_name(output.filename)
        stem, dot, extension = name.rpartition(".")
        when = _local(self.started or dt.datetime.now(dt.UTC))
        return {
            "filename": name,
            "stem": stem if dot else name,
            "ext": extension if dot else "",
            "subfolder": output.subfolder,
            "prompt_id": self.prompt_id,
            "node": output.node_id,
            "title": output.title,
            "class": output.class_type,
            "kind": output.kind,
            "type": output.type,
            "index": output.index,
            "number": number,
            "seed": next(iter(self.seeds.values()), "none"),
            "date": f"{when:%Y-%m-%d}",
            "time": f"{when:%H-%M-%S}",
        }

    def _metadata(self, root: Path, saved: Sequence[Path]) -> dict[str, Any]:
        places = {id(output): path for output, path in zip(self.files, saved, strict=True)}
        outputs = [
            output.to_json()
            | {"file": places[id(output)].relative_to(root).as_posix() if id(output) in places else None}
            for output in self.outputs
        ]
        return {
            **self.to_json(),
            "comfyclient": __version__,
            "instance": self._transfers.instance,
            "outputs": outputs,
            "prompt": self._prompt.nodes,
            "workflow": self._prompt.workflow,
        }

    def _output(self, ref: OutputRef) -> Output:
        node_id = ref.display_node_id or ref.node_id
        class_type = self._prompt.nodes.get(node_id, {}).get("class_type", "")
        return Output(ref, self._prompt.title(node_id), str(class_type), self._transfers, self._recording)


class _Names:
    """The local names that the files of one job have taken."""

    def __init__(self) -> None:
        self._claimed: set[str] = set()
        self._last: dict[str, int] = {}  # the number of the alternative that was taken last, by name

    def claim(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        """A name that no other file of the same job gets, on systems that ignore case either."""
        *folders, name = parts
        key = "/".join(parts).casefold()
        # Thousands of files may have one name: do not try their numbers again.
        last = self._last.get(key, -1)
        for number, candidate in enumerate(alternatives(name, after=last), last + 1):
            taken = "/".join((*folders, candidate)).casefold()
            if taken not in self._claimed:
                self._claimed.add(taken)
                self._last[key] = number
                return (*folders, candidate)
        raise AssertionError("alternatives never end")


async def _all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do it all at once; if one fails or the caller is cancelled, leave nothing running."""
    tasks = [asyncio.create_task(item) for item in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _moment(milliseconds: int | None) -> dt.datetime | None:
    return None if milliseconds is None else dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)


def _local(moment: dt.datetime) -> dt.datetime:
    """In the time zone of this machine, where that can tell it: some systems know only times after 1970."""
    try:
        return moment.astimezone()
    except (OverflowError, ValueError, OSError):
        return moment


def _metadata_text(about: dict[str, Any]) -> str:
    try:
        return _json.dumps(_finite(about), indent=2)
    except (RecursionError, _json.JSONError):
        raise TransferError(
            "cannot write the metadata: the prompt or the workflow of the job is nested too deep",
            hint="save without the metadata",
        ) from None


def _finite(value: Any) -> Any:
    """JSON has no NaN, and prompts that come from a server may hold one."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
