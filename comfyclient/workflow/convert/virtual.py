"""Nodes that exist in the page only: the server never sees them. One rule each, in one table.

The built-in ones (``PrimitiveNode``, ``Reroute``, ``Note``, ``MarkdownNote``) are the frontend's own. The rest belong
to custom packs whose JavaScript resolves them in the page; their rules apply unless the catalog has a class of that
name. To support another such node, add a line to `VIRTUAL_NODES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from comfyclient.workflow.convert.model import Graph, Node

__all__ = ["VIRTUAL_NODES", "VirtualRule", "find_setter", "variable_name"]


@dataclass(frozen=True, slots=True)
class VirtualRule:
    """How a link that comes out of such a node is followed.

    * ``dropped``: it never gives anything (notes, panels of switches).
    * ``pass``: output N gives what input N gets.
    * ``primitive``: it writes its value into the widgets it is linked to.
    * ``set``: like ``pass``, and its first input can be read elsewhere by name.
    * ``get``: it gives what the ``set`` node of the same name gets.
    """

    action: Literal["dropped", "pass", "primitive", "set", "get"]
    pack: str = "frontend"


VIRTUAL_NODES: Final[dict[str, VirtualRule]] = {
    "PrimitiveNode": VirtualRule("primitive"),
    "Reroute": VirtualRule("pass"),
    "Note": VirtualRule("dropped"),
    "MarkdownNote": VirtualRule("dropped"),
    # KJNodes
    "SetNode": VirtualRule("set", "comfyui-kjnodes"),
    "GetNode": VirtualRule("get", "comfyui-kjnodes"),
    # easy-use has the same pair under its own names
    "easy setNode": VirtualRule("set", "comfyui-easy-use"),
    "easy getNode": VirtualRule("get", "comfyui-easy-use"),
    # rgthree
    "Reroute (rgthree)": VirtualRule("pass", "rgthree-comfy"),
    "Label (rgthree)": VirtualRule("dropped", "rgthree-comfy"),
    "Bookmark (rgthree)": VirtualRule("dropped", "rgthree-comfy"),
    "Fast Muter (rgthree)": VirtualRule("dropped", "rgthree-comfy"),
    "Fast Bypasser (rgthree)": VirtualRule("dropped", "rgthree-comfy"),
    "Fast Groups Muter (rgthree)": VirtualRule("dropped", "rgthree-comfy"),
    "Fast Groups Bypasser (rgthree)": VirtualRule("dropped", "rgthree-comfy"),
    "Fast Actions Button (rgthree)": VirtualRule("dropped", "rgthree-comfy"),
    "Mute / Bypass Repeater (rgthree)": VirtualRule("dropped", "rgthree-comfy"),
    "Mute / Bypass Relay (rgthree)": VirtualRule("dropped", "rgthree-comfy"),
    "Random Unmuter (rgthree)": VirtualRule("dropped", "rgthree-comfy"),
    "Node Collector (rgthree)": VirtualRule("dropped", "rgthree-comfy"),
    "Node Combiner (rgthree)": VirtualRule("dropped", "rgthree-comfy"),
    "Note Plus (mtb)": VirtualRule("dropped", "comfy-mtb"),
}


def variable_name(node: Node) -> str | None:
    """The name under which a Set or Get node stores or reads: its first widget value."""
    values = node.raw.get("widgets_values")
    if isinstance(values, list) and values and isinstance(values[0], str):
        return values[0]
    if isinstance(values, dict):
        first = next(iter(values.values()), None)
        return first if isinstance(first, str) else None
    return None


def find_setter(graph: Graph, name: str) -> Node | None:
    """The Set node of that name in a graph."""
    for node in graph.nodes:
        rule = VIRTUAL_NODES.get(node.type)
        if node.kind == "virtual" and rule is not None and rule.action == "set" and variable_name(node) == name:
            return node
    return None
