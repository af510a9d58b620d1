"""What a job produced, found in a history entry by its shape, whatever the nodes call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_OUTPUTS", "OutputRef", "TextOutput", "find_outputs"]

MAX_OUTPUTS: Final = 100_000
"""Files and texts that one job may have. A record may name more in a few bytes each, and all would be fetched."""

_TYPES: Final = frozenset({"output", "temp", "input"})
_TEXT_KINDS: Final = frozenset({"text", "texts", "string", "strings"})
# Nodes with a 3D view answer {"result": [file name, camera, …]}: the bare name of a file in the output
# folder, or, for these classes, in the temp folder.
_TEMP_3D_CLASSES: Final = frozenset({"Preview3DAdvanced", "PreviewGaussianSplat", "PreviewPointCloud"})
_BARE_FILE_SUFFIXES: Final = (
    ".glb", ".gltf", ".obj", ".fbx", ".stl", ".ply", ".splat", ".ksplat", ".spz", ".usdz", ".mp4", ".webm",
)  # fmt: skip
_MAX_DEPTH: Final = 6


@dataclass(frozen=True, slots=True)
class OutputRef:
    """A file on the instance. Names are the server's: not safe as local names.

    Attributes:
        node_id: The node that made it; for nodes that expand at run time an id that the prompt lacks.
        kind: The key it stood under: ``"images"``, ``"gifs"``, ``"audio"``, ``"3d"``, ``"result"``, …
        filename: Its name in ``subfolder``.
        subfolder: Folder below that of ``type``, ``"a/b"`` or ``""``.
        type: ``"output"``, ``"temp"`` (gone when the instance restarts) or ``"input"``.
        index: Its place among the files of its node, from 0.
        display_node_id: The submitted node that stands for it on the page.
        format: The media type, if the node says it.
    """

    node_id: str
    kind: str
    filename: str
    subfolder: str = ""
    type: str = "output"
    index: int = 0
    display_node_id: str = ""
    format: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields, for ``--json`` and metadata files."""
        return {
            "node_id": self.display_node_id or self.node_id,
            "kind": self.kind,
            "filename": self.filename,
            "subfolder": self.subfolder,
            "type": self.type,
            "index": self.index,
        }


@dataclass(frozen=True, slots=True)
class TextOutput:
    """A text that a node showed. ``index`` is its place among the texts of its node, from 0."""

    node_id: str
    kind: str
    text: str
    index: int = 0

    def to_json(self) -> dict[str, Any]:
        """The fields, for ``--json`` and metadata files."""
        return {"node_id": self.node_id, "kind": self.kind, "text": self.text, "index": self.index}


def find_outputs(
    outputs: Any, *, meta: Any = None, classes: Mapping[str, str] | None = None
) -> tuple[OutputRef | TextOutput, ...]:
    """Find files and texts: any object with a ``filename`` in it, under any key; texts under the usual keys.

    Args:
        outputs: ``{node_id: {kind: [items]}}`` as a history entry has it, unchecked.
        meta: The entry's ``meta``, which says where expanded nodes belong.
        classes: Class by node id, to tell in which folder a 3D preview lies.

    Returns:
        In the order of the entry, which is that of execution.
        At most one more than `MAX_OUTPUTS`.
    """
    found: list[OutputRef | TextOutput] = []
    for node_id, kinds in outputs.items() if isinstance(outputs, Mapping) else ():
        if isinstance(kinds, Mapping):
            shown = _display_node(meta, node_id)
            more = _of_node(str(node_id), shown, kinds, (classes or {}).get(shown, ""))
            found += islice(more, MAX_OUTPUTS - len(found) + 1)
    return tuple(found)


def _of_node(node_id: str, shown: str, kinds: Mapping[str, Any], class_type: str) -> Iterator[OutputRef | TextOutput]:
    files = texts = 0
    for kind, items in kinds.items():
        if kind in _TEXT_KINDS:
            for text in items if isinstance(items, list) else [items]:
                if isinstance(text, str):
                    yield TextOutput(shown, kind, text, texts)
                    texts += 1
        bare = _bare_files(items, class_type) if kind == "result" else ()
        for item in chain(_items(items), bare):
            subfolder, kind_of_folder, media_type = (item.get(key) for key in ("subfolder", "type", "format"))
            yield OutputRef(
                node_id,
                str(kind),
                item["filename"],
                subfolder if isinstance(subfolder, str) else "",
                kind_of_folder if isinstance(kind_of_folder, str) and kind_of_folder in _TYPES else "output",
                files,
                shown,
                media_type if isinstance(media_type, str) else None,
            )
            files += 1


def _items(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        name = value.get("filename")
        if isinstance(name, str) and name:
            yield value
            return
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        if isinstance(item, Mapping | list):
            yield from _items(item, depth + 1)


def _bare_files(value: Any, class_type: str) -> Iterator[Mapping[str, Any]]:
    name = value[0] if isinstance(value, list) and value else None
    if isinstance(name, str) and name.lower().endswith(_BARE_FILE_SUFFIXES):
        subfolder, _, filename = name.replace("\\", "/").rpartition("/")
        folder = "temp" if class_type in _TEMP_3D_CLASSES else "output"
        yield {"filename": filename, "subfolder": subfolder, "type": folder}


def _display_node(meta: Any, node_id: str) -> str:
    about = meta.get(node_id) if isinstance(meta, Mapping) else None
    shown = about.get("display_node") if isinstance(about, Mapping) else None
    return shown if isinstance(shown, str) else str(node_id)
