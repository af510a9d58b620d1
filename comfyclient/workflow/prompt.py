"""The prompt: what ``POST /prompt`` takes under ``"prompt"``, and the workflow that travels along with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from comfyclient.errors import WorkflowUnreadable

__all__ = ["ConversionWarning", "Origins", "Prompt", "is_link"]

Origins = Mapping[str, Mapping[str, tuple[str | int, ...]]]
"""Prompt node id → input name → JSON path of the input's value in the UI workflow."""


@dataclass(frozen=True, slots=True)
class ConversionWarning:
    """Something that the conversion did and the writer of the workflow may not have meant.

    ``code`` is snake_case, for programs; ``node_id`` and ``input`` say where, if it is about one of them.
    """

    code: str
    message: str
    node_id: str | None = None
    input: str | None = None

    def __str__(self) -> str:
        if self.node_id is None:
            return self.message
        where = f"node {self.node_id}" + (f", input {self.input}" if self.input else "")
        return f"{where}: {self.message}"

    def to_json(self) -> dict[str, str]:
        """The fields that are set, for ``--json`` and the REST API."""
        fields = ("code", "message", "node_id", "input")
        return {name: value for name in fields if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, ready to be edited, checked and sent.

    Attributes:
        nodes: Exactly the JSON object that ``POST /prompt`` takes under ``"prompt"``:
            ``{id: {"class_type": str, "inputs": {...}, "_meta"?: {"title"?: str}}}``. An input is a literal,
            a link ``[node id, output slot]``, or ``{"__value__": x}`` for a literal list. A node whose class
            the page did not know has no ``class_type``; no server runs it.
        workflow: The UI workflow that travels as ``extra_data.extra_pnginfo.workflow``, so that saved
            pictures carry it; ``None`` if the prompt was read in API format.
        warnings: What the conversion had to say.
        origins: Where in ``workflow`` the values of inputs come from, so that an edit can be written back
            there. Inputs without an entry have no such place.
    """

    nodes: dict[str, dict[str, Any]]
    workflow: dict[str, Any] | None = None
    warnings: tuple[ConversionWarning, ...] = ()
    origins: Origins = field(default_factory=dict, compare=False, repr=False)

    def title(self, node_id: str) -> str:
        """The node's title as the page shows it, else its class; ``""`` for an id that the prompt lacks."""
        node = self.nodes.get(node_id, {})
        meta = node.get("_meta")
        title = meta.get("title") if isinstance(meta, dict) else None
        return title if isinstance(title, str) and title else self.class_type(node_id)

    def class_type(self, node_id: str) -> str:
        """The node's class; ``""`` if it has none."""
        found = self.nodes.get(node_id, {}).get("class_type")
        return found if isinstance(found, str) else ""

    @classmethod
    def from_json(cls, obj: Any, *, source: str = "prompt") -> Self:
        """Take an API-format prompt. Only ``class_type``, ``inputs`` and ``_meta`` of its nodes are kept.

        Args:
            obj: Parsed JSON, ``{id: {"class_type": str, "inputs": {...}}}``. It is not changed.
            source: Where it came from, for messages.

        Raises:
            WorkflowUnreadable: It does not have that shape.
        """
        if not isinstance(obj, dict):
            raise WorkflowUnreadable(f"{source}: a prompt is an object of nodes, not {_kind(obj)}", hint=_HINT)
        return cls({str(node_id): _read_node(str(node_id), node, source) for node_id, node in obj.items()})


_HINT: Final = 'a prompt is {id: {"class_type": "…", "inputs": {…}}}: in ComfyUI, use Export (API)'


def _read_node(node_id: str, node: Any, source: str) -> dict[str, Any]:
    if not isinstance(node, dict):
        raise WorkflowUnreadable(
            f"{source}: node {node_id} is {_kind(node)}, not an object", node_id=node_id, hint=_HINT
        )
    class_type, inputs = node.get("class_type"), node.get("inputs", {})
    # The page exports nodes that it does not know without a class; the check names them all.
    if not isinstance(class_type, str | None) or (class_type is None and "inputs" not in node):
        raise WorkflowUnreadable(f"{source}: node {node_id} has no class_type", node_id=node_id, hint=_HINT)
    if not isinstance(inputs, dict):
        message = f"{source}: the inputs of node {node_id} ({class_type}) are {_kind(inputs)}, not an object"
        raise WorkflowUnreadable(message, node_id=node_id, hint=_HINT)
    kept: dict[str, Any] = {"inputs": dict(inputs)}
    if class_type is not None:
        kept["class_type"] = class_type
    if isinstance(node.get("_meta"), dict):
        kept["_meta"] = dict(node["_meta"])
    return kept


def is_link(value: Any) -> bool:
    """Whether an input's value is a link ``[node id, output slot]``, as ComfyUI sees it: any number is a slot.

    So is a truth value, to which JSON's ``true`` and ``false`` are read there as here.
    """
    if not isinstance(value, list) or len(value) != 2:
        return False
    node_id, slot = value
    return isinstance(node_id, str) and isinstance(slot, int | float)


def _kind(value: Any) -> str:
    """A JSON value's kind, for messages."""
    if value is None:
        return "null"
    names: dict[type, str] = {
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
    }
    return names.get(type(value), "an object")
