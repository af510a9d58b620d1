"""From a workflow to the prompt that is sent: converted, edited, seeded, its local files found."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from comfyclient.workflow.document import Workflow
from comfyclient.workflow.edit import apply_edits, apply_seed, random_seed
from comfyclient.workflow.inputs import seed_bounds, seed_specs
from comfyclient.workflow.origins import write_back
from comfyclient.workflow.prompt import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from comfyclient.errors import Problem
    from comfyclient.transfer import Transfers
    from comfyclient.workflow.catalog import Catalog, InputSpec

__all__ = [
    "ELSEWHERE",
    "LocalFile",
    "Prepared",
    "aside",
    "build",
    "find_local_files",
    "not_yet_there",
    "seeds_of",
    "upload_all",
]

_ANNOTATED: Final = re.compile(r" \[(input|output|temp)\]$")
_IMAGES: Final = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif",
    ".jxl", ".exr", ".hdr", ".tga",
})  # fmt: skip
_VIDEOS: Final = frozenset({
    ".mp4", ".m4v", ".webm", ".mov", ".mkv", ".avi", ".gif", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv",
})  # fmt: skip
_AUDIO: Final = frozenset({
    ".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma",
})  # fmt: skip
_MODELS: Final = frozenset({
    ".glb", ".gltf", ".obj", ".fbx", ".stl", ".ply", ".spz", ".splat", ".ksplat", ".usd", ".usda", ".usdc", ".usdz",
    ".dae",
})  # fmt: skip
# What the files of an input are called, by `InputSpec.upload`. Nodes for sound take that of videos too.
_SUFFIXES: Final = {"image": _IMAGES, "video": _VIDEOS, "audio": _AUDIO | _VIDEOS, "file": _MODELS}
_RNG: Final = random.SystemRandom()
_SMALL: Final = 300  # nodes of a prompt that are dealt with in less time than a trip to a thread is worth
_FEW: Final = 5000  # inputs, of the same

_T = TypeVar("_T")

ELSEWHERE: Final[ContextVar[Callable[[Callable[[], Any]], Awaitable[Any]] | None]] = ContextVar(
    "ELSEWHERE", default=None
)
"""Where `aside` has its work done for whoever does not trust the workflows; ``None``: in a thread of asyncio's."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt that is ready to be sent, and the seeds in it by address: ``{"3.seed": 42}``."""

    prompt: Prompt
    seeds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalFile:
    """An input whose value names a file here, which the instance must be given."""

    node_id: str
    input: str
    path: Path


async def aside(subject: Workflow | Prompt | Mapping[str, Any], work: Callable[[], _T]) -> _T:
    """Do pure work on a workflow or prompt in a thread, unless it is small: the event loop serves others meanwhile.

    A workflow may become a prompt of any size, whatever its own.
    """
    if isinstance(subject, Prompt) and _is_small(subject):
        return work()
    elsewhere = ELSEWHERE.get()
    if elsewhere is None:
        return await asyncio.to_thread(work)
    done: _T = await elsewhere(work)
    return done


def _is_small(prompt: Prompt) -> bool:
    return len(prompt.nodes) <= _SMALL and sum(len(node.get("inputs", ())) for node in prompt.nodes.values()) <= _FEW


def build(
    workflow: Workflow | Prompt | Mapping[str, Any],
    catalog: Catalog,
    *,
    edits: Mapping[str, Any] | None = None,
    seed: int | Literal["random"] | None = None,
    frontend: str | None = None,
) -> tuple[Prompt, Prompt]:
    """Convert, edit and seed.

    Returns:
        The prompt as it came, and as it is to be sent.

    Raises:
        WorkflowError: It cannot be converted, or an edit does not fit.
    """
    chance = random.Random(seed) if isinstance(seed, int) else _RNG  # noqa: S311 - a given seed repeats {a|b} too
    before = workflow if isinstance(workflow, Prompt) else _convert(workflow, catalog, frontend, chance)
    prompt = apply_edits(before, edits, catalog) if edits else before
    if seed is not None:
        number = random_seed(_RNG, seed_bounds(prompt, catalog)) if seed == "random" else seed
        prompt = apply_seed(prompt, catalog, number)
    return before, prompt


def _convert(
    workflow: Workflow | Mapping[str, Any], catalog: Catalog, frontend: str | None, chance: random.Random
) -> Prompt:
    from comfyclient.workflow.convert import convert

    return convert(workflow, catalog, frontend=frontend, rng=chance)


def seeds_of(prompt: Prompt, catalog: Catalog) -> dict[str, int]:
    """The seeds in a prompt, by address."""
    found = {}
    for node_id, name in seed_specs(prompt, catalog):
        value = prompt.nodes[node_id]["inputs"].get(name)
        if isinstance(value, int):
            found[f"{node_id}.{name}"] = value
    return found


def find_local_files(before: Prompt, prompt: Prompt, catalog: Catalog, upload_dir: Path | None) -> list[LocalFile]:
    """The upload inputs (LoadImage and its kin) whose value names a file here.

    A workflow from a stranger must not fetch what is none of its business. So a value that the workflow brought is
    looked up inside ``upload_dir`` only, in nothing hidden, and only if the file's suffix is one for that kind of
    input. A value that the user set may name any file, from the current folder or ``upload_dir``.
    """
    if upload_dir is None:
        return []
    found = []
    for node_id, spec, value in _uploads(prompt, catalog):
        was = before.nodes.get(node_id, {}).get("inputs", {}).get(spec.name)
        path = _anywhere(value, upload_dir) if value != was else _inside(value, upload_dir, spec.upload or "")
        if path is not None:
            found.append(LocalFile(node_id, spec.name, path))
    return found


def _uploads(prompt: Prompt, catalog: Catalog) -> Iterator[tuple[str, InputSpec, str]]:
    for node_id, node in prompt.nodes.items():
        spec, inputs = catalog.get(prompt.class_type(node_id)), node.get("inputs", {})
        for wanted in spec.live_inputs(inputs) if spec is not None else ():
            value = inputs.get(wanted.name)
            if wanted.upload and isinstance(value, str) and value and not _ANNOTATED.search(value):
                yield node_id, wanted, value


def _anywhere(value: str, upload_dir: Path) -> Path | None:
    for path in (Path(value).expanduser(), upload_dir / value):
        if _is_file(path):
            return path
    return None


def _inside(value: str, upload_dir: Path, kind: str) -> Path | None:
    path, root = upload_dir / value, upload_dir.resolve()
    if not _is_file(path):
        return None
    real = path.resolve()
    if not real.is_relative_to(root):
        return None
    # What a link in the folder leads to counts as much as what the workflow calls it.
    hidden = any(part.startswith(".") for part in (*Path(value).parts, *real.relative_to(root).parts))
    fitting = {path.suffix.lower(), real.suffix.lower()} <= _SUFFIXES.get(kind, frozenset())
    return path if fitting and not hidden else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def not_yet_there(problem: Problem, files: list[LocalFile]) -> bool:
    """Whether a problem is only that a file has not been uploaded yet."""
    places = {(file.node_id, file.input) for file in files}
    return problem.code == "value_not_in_list" and (problem.node_id, problem.input) in places


async def upload_all(prompt: Prompt, files: list[LocalFile], transfers: Transfers) -> Prompt:
    """Upload the files and put the names that the instance gave them into the prompt and its workflow."""
    paths = list(dict.fromkeys(file.path for file in files))
    sent = await asyncio.gather(*(transfers.upload(path) for path in paths))
    values = dict(zip(paths, (uploaded.value for uploaded in sent), strict=True))
    changes = {(file.node_id, file.input): values[file.path] for file in files}
    nodes = dict(prompt.nodes)
    for (node_id, name), value in changes.items():
        nodes[node_id] = {**nodes[node_id], "inputs": {**nodes[node_id]["inputs"], name: value}}
    return write_back(prompt, replace(prompt, nodes=nodes), changes, ())
