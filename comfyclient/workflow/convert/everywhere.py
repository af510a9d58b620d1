"""Use Everywhere (cg-use-everywhere): links that the page makes when it queues, and saves in ``extra.ue_links``.

Each entry says which output (``upstream``, ``upstream_slot``) feeds which unconnected input (``downstream``,
``downstream_slot``: its index among the node's live inputs).
"""

from __future__ import annotations

from typing import Any

from comfyclient.workflow.convert.model import Graph, Link
from comfyclient.workflow.convert.normalise import Warn, link_key
from comfyclient.workflow.convert.types import compatible

__all__ = ["apply_saved_links"]


def apply_saved_links(graph: Graph, warn: Warn) -> None:
    """Connect the inputs that Use Everywhere would connect; what has a link keeps it."""
    extra = graph.raw.get("extra")
    saved = extra.get("ue_links") if isinstance(extra, dict) else None
    for number, entry in enumerate(saved if isinstance(saved, list) else ()):
        if isinstance(entry, dict):
            _connect(graph, f"use everywhere {number}", entry, warn)


def _connect(graph: Graph, identity: str, entry: dict[str, Any], warn: Warn) -> None:
    origin, target = link_key(entry.get("upstream")), link_key(entry.get("downstream"))
    origin_slot, index = entry.get("upstream_slot"), entry.get("downstream_slot")
    node = graph.by_id.get(target) if target is not None else None
    if origin is None or origin not in graph.by_id or node is None or type(origin_slot) is not int:
        return
    if type(index) is not int or not 0 <= index < len(node.inputs):
        return
    slot = node.inputs[index]
    if slot.link is not None:
        return
    if not compatible(slot.type, entry.get("type")):
        warn("stale_link", "a link that Use Everywhere saved no longer fits this input", node.id, slot.name)
        return
    slot.link = graph.links[identity] = Link(identity, origin, origin_slot, node.id, index, entry.get("type"))
