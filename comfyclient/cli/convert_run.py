"""What ``comfyclient convert`` does."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from comfyclient import _json
from comfyclient.cli.assign import Assignments
from comfyclient.cli.catalogs import load_definitions
from comfyclient.cli.failures import show_error
from comfyclient.cli.sources import load_workflow
from comfyclient.errors import ComfyClientError, OutputExists, TransferError
from comfyclient.files import PartFile, make_folders
from comfyclient.workflow.convert import convert
from comfyclient.workflow.convert.releases import rules_for
from comfyclient.workflow.edit import apply_edits
from comfyclient.workflow.seeds import SeedPlan

if TYPE_CHECKING:
    from comfyclient.cli.app import App
    from comfyclient.cli.catalogs import Definitions
    from comfyclient.cli.convert import ConvertOptions
    from comfyclient.workflow.document import Workflow
    from comfyclient.workflow.prompt import Prompt

__all__ = ["run", "write_file"]


def run(app: App, options: ConvertOptions) -> int:
    """Convert one file, or many of which a bad one does not stop the others.

    Raises:
        ComfyClientError: The only file cannot be converted.
    """
    converter = _Converter(app, options)
    if options.folder is not None:
        return converter.convert_many(options.files, options.folder)
    text = converter.convert(options.files[0])
    if options.output is None:
        app.write(text)
        return 0
    target = app.path(options.output)
    converter.protect_sources(target)
    write_file(target, text.encode("utf-8", "backslashreplace"), overwrite=True)
    app.detail(f"wrote {options.output}")
    return 0


class _Converter:
    def __init__(self, app: App, options: ConvertOptions) -> None:
        self._app, self._options = app, options
        rules_for(options.frontend)
        self._assignments = Assignments(app, options.assignments)
        self._definitions: Definitions | None = None

    def convert_many(self, files: tuple[str, ...], folder: Path) -> int:
        """Convert every file into a folder. Returns the exit code: that of the worst."""
        make_folders(self._app.path(folder), ())
        _ = self.definitions  # what is wrong with these is wrong for all
        written: dict[Path, str] = {}
        code = failed = 0
        for name in files:
            target = self._app.path(folder) / f"{Path(name).stem if name != '-' else 'stdin'}.json"
            try:
                if target in written:
                    raise OutputExists(f"{target} was made of {written[target]} already", hint="rename one of the two")
                text = self.convert(name)
                self.protect_sources(target)
                write_file(target, text.encode("utf-8", "backslashreplace"), overwrite=self._options.overwrite)
            except ComfyClientError as error:
                show_error(self._app, error, prefix="" if str(error).startswith(name) else f"{name}: ")
                code, failed = max(code, error.exit_code), failed + 1
            else:
                written[target] = name
                self._app.detail(f"{name}: wrote {target}")
        if failed:
            self._app.note(f"{failed} of {len(files)} files could not be converted")
        return code

    @property
    def definitions(self) -> Definitions:
        """The node definitions, read when they are first needed."""
        if self._definitions is None:
            self._definitions = load_definitions(self._app, self._options.source)
        return self._definitions

    def convert(self, name: str) -> str:
        """The prompt of a file, as text; its warnings go to stderr.

        Raises:
            WorkflowError: The file cannot be read or converted, or an edit does not fit.
        """
        workflow = load_workflow(self._app, name)
        prompt = self._prompt(workflow)
        for warning in prompt.warnings:
            self._app.warn(f"{name}: {warning}")
        return _json.dumps(prompt.nodes, indent=2) + "\n"

    def _prompt(self, workflow: Workflow) -> Prompt:
        definitions, seed = self.definitions, self._options.seed
        catalog = definitions.catalog
        # A seed that is given also decides what {a|b} becomes.
        rng = random.Random(seed) if isinstance(seed, int) else random.Random()  # noqa: S311
        prompt = convert(workflow, catalog, frontend=self._options.frontend or definitions.frontend, rng=rng)
        edited = self._assignments.apply(prompt, catalog)
        if seed is None:
            return edited
        plan = SeedPlan(edited, catalog, seed, pinned=self._assignments.places(edited, catalog))
        return apply_edits(edited, plan.edits(0), catalog)

    def protect_sources(self, target: Path) -> None:
        """Refuse to write over a file that is to be converted.

        Raises:
            OutputExists: The target is one.
        """
        for name in self._options.files:
            source = self._app.path(name)
            if name != "-" and source.exists() and target.exists() and source.samefile(target):
                raise OutputExists(f"{target} is the workflow itself", hint="write the prompt elsewhere")


def write_file(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        OutputExists: It is there already.
        TransferError: It cannot be written.
    """
    if path.is_dir():
        raise TransferError(f"cannot write {path}: is a folder")
    if path.exists() and not path.is_file():  # a device or a pipe: nothing to replace
        _write_through(path, data)
        return
    if not overwrite and path.exists():
        raise OutputExists(f"{path} is there already", hint="--overwrite replaces it")
    make_folders(path.parent, ())
    part = PartFile(path.parent)
    try:
        part.write(data)
        part.place((path.name,), overwrite=overwrite)
    except OutputExists:
        raise
    except TransferError as error:
        raise TransferError(str(error).replace(str(part.path), str(path))) from None
    finally:
        part.discard()


def _write_through(path: Path, data: bytes) -> None:
    from comfyclient.files import writing

    try:
        with writing(path), path.open("wb") as file:
            file.write(data)
    except TransferError as error:
        raise TransferError(str(error)) from None
