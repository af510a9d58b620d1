"""Read a workflow: UI or API format, as JSON or out of a picture, sound or video that ComfyUI saved.

What is read when a file holds more than one:

* A picture (sound, video) carries the UI workflow and the prompt that ran. The UI workflow is taken: it is
  what a person saved and can be converted for another instance. The prompt is the fallback.
* ``{"workflow": …, "output": …}`` (what the page's ``graphToPrompt`` gives) and
  ``{"workflow": …, "prompt": …}`` (the texts of a picture as JSON) are read like a picture.
* A body of ``POST /prompt`` (``{"prompt": …, "extra_data": …}``) asks for exactly that prompt, so the prompt
  is taken. The UI workflow in its ``extra_data`` is kept as `Workflow.companion`.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Final, Literal, Self

from comfyclient import _json
from comfyclient.errors import WorkflowUnreadable
from comfyclient.workflow import containers
from comfyclient.workflow.prompt import Prompt

__all__ = ["MAX_BYTES", "Workflow"]

MAX_BYTES: Final = 512 << 20
"""The largest file that is read."""

_HINT_ANY: Final = "save it in ComfyUI with Export, or give a picture or video that ComfyUI saved"
_HINT_MEDIA: Final = "ComfyUI stores none with --disable-metadata, and a file saved anew by another program loses it"


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow as it was read.

    Attributes:
        data: In UI format the object that the page saved (``nodes``, ``links``, …), unchanged. In API format
            ``{id: {"class_type", "inputs", "_meta"?}}`` with everything else dropped.
        format: ``"ui"`` or ``"api"``.
        name: The file's name without its ending, if it came from a file.
        source: Where it came from, for messages.
        companion: In API format, the UI workflow that was stored beside the prompt, if any.
    """

    data: dict[str, Any]
    format: Literal["ui", "api"]
    name: str | None = None
    source: str = "workflow"
    companion: dict[str, Any] | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file.

        Raises:
            WorkflowUnreadable: It cannot be read, or holds no workflow.
        """
        found = cls.parse(_read_file(path), source=os.fspath(path))
        return replace(found, name=Path(path).stem)

    @classmethod
    def parse(cls, data: bytes | str, *, source: str = "workflow") -> Self:
        """Read JSON text or the bytes of a picture, sound or video; which of them it is, the first bytes say.

        Args:
            data: The file's content; JSON as UTF-8 with or without BOM (UTF-16 with one), or as text.
            source: Where it came from, for messages.

        Raises:
            WorkflowUnreadable: There is no workflow in it.
        """
        if isinstance(data, bytes):
            if len(data) > MAX_BYTES:
                raise _too_large(source)
            container = containers.read(data)
            if container is not None:
                return cls._from_container(container, source)
            data = _decode(data, source)
        return cls.from_json(_parse_json(data, source), source=source)

    @classmethod
    def from_json(cls, obj: Any, *, source: str = "workflow") -> Self:
        """Take parsed JSON: a workflow in UI or API format, or one of the envelopes that the module names.

        Args:
            obj: It is not changed, and in UI format not copied.
            source: Where it came from, for messages.

        Raises:
            WorkflowUnreadable: It is something else.
        """
        found = cls._recognise(obj, source, depth=0)
        if found is None:
            raise WorkflowUnreadable(f"{source}: {_describe(obj)}", hint=_HINT_ANY)
        return found

    @classmethod
    def _recognise(cls, obj: Any, source: str, *, depth: int) -> Self | None:
        if not isinstance(obj, dict) or depth > _MAX_WRAPPING:
            return None
        if _looks_ui(obj):
            return cls(_check_ui(obj, source), "ui", source=source)
        if _looks_api(obj):
            return cls(Prompt.from_json(_without_metadata(obj), source=source).nodes, "api", source=source)
        companion = _companion(obj)
        for key in ("prompt",) if companion is not None else _WRAPPERS:
            inner = obj.get(key)
            if isinstance(inner, str) and inner.lstrip().startswith("{"):
                inner = _parse_json(inner, f"{source}, the text under {key!r}")
            found = cls._recognise(inner, source, depth=depth + 1)
            if found is not None:
                return replace(found, companion=companion) if found.format == "api" else found
        return None

    @classmethod
    def _from_container(cls, container: containers.Container, source: str) -> Self:
        problem: WorkflowUnreadable | None = None
        empty: Self | None = None
        for key in ("workflow", "prompt", "comment"):
            if key in container.texts:
                try:
                    where = f"{source}, its {key!r} text"
                    found = cls.from_json(_parse_json(container.texts[key], where), source=where)
                except WorkflowUnreadable as error:
                    # A comment is any text; what is wrong with a workflow or prompt is worth telling.
                    problem = problem if problem is not None or key == "comment" else error
                    continue
                found = replace(found, source=source)
                if found.format == "api" or found.data["nodes"]:
                    return found
                empty = empty or found
        if empty is not None:
            return empty
        raise problem or _nothing_in(container, source)


_MAX_WRAPPING: Final = 4
# "input" is how job services wrap a request: {"input": {"workflow": …}}.
_WRAPPERS: Final = ("workflow", "prompt", "output", "input")


def _read_file(path: str | os.PathLike[str]) -> bytes:
    name = os.fspath(path)
    try:
        if Path(path).is_dir() and name:
            raise WorkflowUnreadable(f"{name}: is a folder, not a file", hint=_HINT_ANY)
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise WorkflowUnreadable(f"{name}: no such file", hint="check the path") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise WorkflowUnreadable(f"{name!r}: cannot be read: {reason}", hint="check path and rights") from None
    if len(data) > MAX_BYTES:
        raise _too_large(name)
    return data


def _too_large(source: str) -> WorkflowUnreadable:
    return WorkflowUnreadable(f"{source}: larger than {MAX_BYTES >> 20} MiB, which no workflow is", hint=_HINT_ANY)


def _nothing_in(container: containers.Container, source: str) -> WorkflowUnreadable:
    if container.damage is not None:
        hint = "the file is cut off or damaged: copy or download it again"
        return WorkflowUnreadable(f"{source}: {container.kind}, but damaged: {container.damage}", hint=hint)
    return WorkflowUnreadable(f"{source}: {container.kind} without a workflow in it", hint=_HINT_MEDIA)


def _decode(data: bytes, source: str) -> str:
    # UTF-16 is what some Windows shells write when output is redirected to a file.
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    kind = containers.unreadable_kind(data)
    if kind is not None:
        raise WorkflowUnreadable(f"{source}: {kind}, which holds no workflow", hint=_HINT_ANY)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is {data[error.start]:#04x}"
        message = f"{source}: neither JSON in UTF-8 ({found}) nor a picture or video that can be read"
        raise WorkflowUnreadable(message, hint=_HINT_ANY) from None


# What JavaScript's JSON cannot hold and Python's writes, and numbers that may be beyond a double's range.
_NON_FINITE: Final = re.compile(r"NaN|Infinity|[eE]\+?\d{3}|(?<!\d)\d{309}")


def _parse_json(text: str, source: str) -> Any:
    """Read JSON text. NaN and infinities become null, as they do in the page."""
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise WorkflowUnreadable(f"{source}: empty", hint=_HINT_ANY)
    if len(text) > containers.MAX_TEXT:
        raise WorkflowUnreadable(f"{source}: {len(text) >> 20} MiB of text, too long for a workflow")
    if text.lstrip().startswith("<"):
        hint = "was a login or error page saved in its place?"
        raise WorkflowUnreadable(f"{source}: not JSON but HTML or XML", hint=hint)
    try:
        document = _json.loads(text)
    except _json.JSONError as error:
        raise _not_json(text, error, source) from None
    if _NON_FINITE.search(text):
        document = _finite(document)
    return document


def _not_json(text: str, error: ValueError, source: str) -> WorkflowUnreadable:
    if not isinstance(error, JSONDecodeError):
        return WorkflowUnreadable(f"{source}: JSON that cannot be read: {error}", hint=_HINT_ANY)
    where = f"line {error.lineno}, column {error.colno}"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        hint = "the file is cut off: save or download it again"
        return WorkflowUnreadable(f"{source}: the JSON breaks off ({where})", hint=hint)
    return WorkflowUnreadable(f"{source}: not JSON ({error.msg}, {where})", hint=_HINT_ANY)


def _finite(document: Any) -> Any:
    """The document with null for every number that is not finite; changed in place, without recursion."""
    root = [document]
    open_containers: list[Any] = [root]
    while open_containers:
        container = open_containers.pop()
        for key, value in list(container.items() if isinstance(container, dict) else enumerate(container)):
            if isinstance(value, float) and not math.isfinite(value):
                container[key] = None
            elif isinstance(value, dict | list):
                open_containers.append(value)
    return root[0]


def _looks_ui(obj: dict[str, Any]) -> bool:
    # Other programs' graphs have "nodes" as well, and connect them by another name.
    return isinstance(obj.get("nodes"), list) and not ("links" not in obj and _FOREIGN & obj.keys())


_FOREIGN: Final = frozenset({"edges", "connections", "meshes", "asset"})


def _check_ui(obj: dict[str, Any], source: str) -> dict[str, Any]:
    version = obj.get("version")
    if isinstance(version, int | float) and version > 1:
        hint = "save it with the ComfyUI release that this instance runs, or export it in API format"
        raise WorkflowUnreadable(f"{source}: workflow schema version {version}; 0.4 and 1 are known", hint=hint)
    for index, node in enumerate(obj["nodes"]):
        if not isinstance(node, dict) or not isinstance(node.get("type"), str):
            raise WorkflowUnreadable(
                f"{source}: not a ComfyUI workflow: entry {index} of its nodes has no type", hint=_HINT_ANY
            )
    return obj


def _looks_api(obj: dict[str, Any]) -> bool:
    return any(isinstance(node, dict) and "class_type" in node for node in obj.values())


def _without_metadata(obj: dict[str, Any]) -> dict[str, Any]:
    """The nodes alone. Tools put notes of their own beside them; those have no inputs and no numeric id."""
    return {
        key: node
        for key, node in obj.items()
        if key[:1].isdigit() or (isinstance(node, dict) and ("class_type" in node or "inputs" in node))
    }


def _companion(obj: dict[str, Any]) -> dict[str, Any] | None:
    """The UI workflow in a body of ``POST /prompt``."""
    found: Any = obj
    for key in ("extra_data", "extra_pnginfo", "workflow"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) and _looks_ui(found) else None


def _describe(obj: Any) -> str:
    if not isinstance(obj, dict):
        names: dict[type, str] = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
        return f"JSON, but {names.get(type(obj), 'a number')}, not a workflow"
    if not obj:
        return "an empty JSON object, not a workflow"
    if all(isinstance(node, dict) and "input" in node for node in obj.values()):
        return "node definitions (a catalog), not a workflow"
    names_ = ", ".join(repr(key) for key in list(obj)[:3])
    return f"JSON, but not a workflow: it has {names_[:80]} and no nodes"
