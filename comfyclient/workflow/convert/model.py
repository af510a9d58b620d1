"""The page's graph as it stands in memory after loading a file: what every stage of the conversion works on."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from comfyclient.workflow.convert.live import LiveNode
    from comfyclient.workflow.convert.nodes import NodeModel
    from comfyclient.workflow.convert.widgets import WidgetSpec

__all__ = ["BYPASSED", "INPUT_NODE", "MUTED", "OUTPUT_NODE", "Graph", "Kind", "Link", "Node", "Path", "Slot", "Widget"]

INPUT_NODE = "-10"
"""Id of a definition's own input side: links from it carry what the host's inputs get."""
OUTPUT_NODE = "-20"
"""Id of a definition's own output side."""

MUTED = 2
BYPASSED = 4

Path = tuple[str | int, ...]
"""Where something stands in the file's JSON."""

Kind = Literal["catalog", "unknown", "host", "virtual"]


class Link:
    """One connection. Node ids are strings; slots are numbers as saved, unchecked."""

    __slots__ = ("id", "origin", "origin_slot", "target", "target_slot", "type")

    def __init__(self, id: str, origin: str, origin_slot: Any, target: str, target_slot: Any, type: Any) -> None:
        self.id = id
        self.origin = origin
        self.origin_slot = origin_slot
        self.target = target
        self.target_slot = target_slot
        self.type = type


class Slot:
    """One input of a node. ``widget`` names the widget whose value a link replaces, if it is a widget's slot."""

    __slots__ = ("label", "link", "name", "saved_link", "type", "widget")

    def __init__(self, name: str, type: Any, widget: str | None = None) -> None:
        self.name = name
        self.type = type
        self.widget = widget
        self.label: str | None = None
        self.saved_link: str | None = None
        self.link: Link | None = None


class Widget:
    """One field of a node with its current value.

    ``stored`` is the position in (or key of) the ``widgets_values`` of node ``holder`` that the value came from, both
    ``None`` for a default.
    """

    __slots__ = ("holder", "name", "spec", "stored", "value")

    def __init__(self, spec: WidgetSpec, name: str | None = None) -> None:
        self.spec = spec
        self.name = spec.name if name is None else name
        self.value = spec.default
        self.stored: int | str | None = None
        self.holder: Node | None = None

    @property
    def source(self) -> Path | None:
        """Where the value stands in the file, ``None`` for a default."""
        return None if self.holder is None or self.stored is None else self.holder.value_path(self.stored)


class Promoted:
    """A host's input that stands for an inner widget: its value feeds that widget's node."""

    __slots__ = ("source", "value", "widget")

    def __init__(self, widget: Widget | None, value: Any) -> None:
        self.widget = widget
        self.value = value
        self.source: Path | None = None


_NOTHING_PROMOTED: dict[int, Promoted] = {}


class Node:
    """One node of a graph. ``outputs`` are the types of its output slots."""

    __slots__ = (
        "definition", "graph", "id", "index", "inputs", "kind", "live", "mode", "outputs", "promoted", "properties",
        "raw", "spec", "title", "type", "widgets",
    )  # fmt: skip

    def __init__(self, graph: Graph, raw: Mapping[str, Any], id: str, index: int) -> None:
        self.graph = graph
        self.raw = raw
        self.id = id
        self.index = index
        self.type = ""
        self.kind: Kind = "unknown"
        self.spec: NodeModel | None = None
        self.live: LiveNode | None = None
        self.definition: Graph | None = None
        mode = raw.get("mode")
        self.mode: Any = 0 if mode is None else mode
        title = raw.get("title")
        self.title: str | None = title if isinstance(title, str) and title else None
        properties = raw.get("properties")
        self.properties: Mapping[str, Any] = properties if isinstance(properties, dict) else {}
        self.inputs: list[Slot] = []
        self.outputs: list[Any] = []
        self.widgets: list[Widget] = []
        self.promoted = _NOTHING_PROMOTED  # hosts get a dict of their own

    def value_path(self, where: int | str) -> Path | None:
        """The JSON path of one of the node's saved values, ``None`` if the file has no such place."""
        path = self.graph.path
        return None if path is None else (*path, "nodes", self.index, "widgets_values", where)

    def widget(self, name: str) -> Widget | None:
        """The first widget of that name."""
        for widget in self.widgets:
            if widget.name == name:
                return widget
        return None

    def slot_index(self, name: str) -> int:
        """The index of the first input of that name, or -1."""
        for index, slot in enumerate(self.inputs):
            if slot.name == name:
                return index
        return -1


class Boundary:
    """One input or output of a definition: its name and the links on the inside."""

    __slots__ = ("label", "link_ids", "name", "type")

    def __init__(self, name: str, type: Any, link_ids: list[str], label: str | None = None) -> None:
        self.name = name
        self.type = type
        self.link_ids = link_ids
        self.label = label


class Graph:
    """The root graph or a subgraph definition (then with ``inputs`` and ``outputs``).

    ``path`` is where it stands in the file, ``None`` if it was made up from a group node.
    """

    __slots__ = ("_incoming", "by_id", "id", "inputs", "links", "nodes", "outputs", "path", "raw")

    def __init__(self, raw: Mapping[str, Any], path: Path | None, id: str | None = None) -> None:
        self.raw = raw
        self.path = path
        self.id = id
        self.nodes: list[Node] = []
        self.by_id: dict[str, Node] = {}
        self.links: dict[str, Link] = {}
        self._incoming: dict[str, list[Link]] | None = None
        self.inputs: list[Boundary] = []
        self.outputs: list[Boundary] = []

    def incoming(self, node_id: str) -> list[Link]:
        """The links that the table says end at a node, in file order."""
        if self._incoming is None:
            self._incoming = {}
            for link in self.links.values():
                self._incoming.setdefault(link.target, []).append(link)
        return self._incoming.get(node_id, [])


def unused_name(name: str, taken: Container[str], mark: str) -> str:
    """The name, or if it is taken the first free one of ``name#1``, ``name#2``, … (with ``mark`` for ``#``)."""
    unused, number = name, 0
    while unused in taken:
        number += 1
        unused = f"{name}{mark}{number}"
    return unused
