"""Subgraph instances (hosts): promoted widgets in all three generations of the format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from comfyclient import _json
from comfyclient.workflow.convert.javascript import UNDEFINED
from comfyclient.workflow.convert.model import (
    INPUT_NODE,
    Boundary,
    Graph,
    Link,
    Node,
    Promoted,
    Slot,
    Widget,
    unused_name,
)
from comfyclient.workflow.convert.releases import Rules

__all__ = ["configure_host", "migrate_proxies", "targets_of"]

_PREFIXED: Final = re.compile(r"^(\d+):\s*(.*)$", re.DOTALL)


def targets_of(graph: Graph) -> dict[str, tuple[Node, int]]:
    """Where each link of a graph ends: the slot that holds it, by link id."""
    return {
        slot.link.id: (node, index)
        for node in graph.nodes
        for index, slot in enumerate(node.inputs)
        if slot.link is not None
    }


def promoted_source(node: Node, index: int) -> Widget | Promoted | None:
    """The widget that a slot stands for: the node's own, or the one that a nested host promotes."""
    if node.kind == "host":
        return node.promoted.get(index)
    name = node.inputs[index].widget
    return node.widget(name) if name is not None else None


def _write_through(host: Node, graph: Graph) -> None:
    """Write the host's values into the widgets whose slots hold the links."""
    targets = targets_of(graph)
    for index, promoted in host.promoted.items():
        widget = _first_widget(graph, graph.inputs[index], targets)
        if isinstance(widget, Widget) and promoted.source is not None:
            widget.value = promoted.value


def _by_number(graph: Graph) -> dict[str, tuple[Node, int]]:
    """Where each link ends by the slot number that the file gives it, which may count another order of slots."""
    found = {link.id: (graph.by_id.get(link.target), link.target_slot) for link in graph.links.values()}
    return {key: (node, at) for key, (node, at) in found.items() if node is not None and 0 <= at < len(node.inputs)}


def configure_host(host: Node, rules: Rules) -> None:
    """Find the promoted inputs of a host and restore their values."""
    graph = host.definition
    assert graph is not None
    targets = _by_number(graph) if rules.promote_by_number else targets_of(graph)
    for index, boundary in enumerate(graph.inputs[: len(host.inputs)]):
        source = _first_widget(graph, boundary, targets)
        if source is not None:
            _promote(host, index, source)
    _restore(host)
    _restore_quarantined(host, rules)
    if rules.host_value_overwrites:
        _write_through(host, graph)


def _first_widget(
    graph: Graph, boundary: Boundary, targets: Mapping[str, tuple[Node, int]]
) -> Widget | Promoted | None:
    for link_id in boundary.link_ids:
        link = graph.links.get(link_id)
        found = targets.get(link.id) if link is not None else None
        source = promoted_source(*found) if found is not None else None
        if source is not None:
            return source
    return None


def _promote(host: Node, index: int, source: Widget | Promoted) -> Promoted:
    widget = source.widget if isinstance(source, Promoted) else source
    promoted = Promoted(widget, source.value)
    promoted.source = source.source
    host.promoted[index] = promoted
    slot = host.inputs[index]
    slot.widget = slot.name
    return promoted


def _restore(host: Node) -> None:
    values = host.raw.get("widgets_values")
    if not isinstance(values, list):
        return
    for position, index in enumerate(sorted(host.promoted)):
        if position >= len(values):
            break
        promoted = host.promoted[index]
        promoted.value = values[position]
        promoted.source = host.value_path(position)


def _restore_quarantined(host: Node, rules: Rules) -> None:
    """Values that a migration could not place, kept by the page under the host input's name."""
    entries = host.properties.get("proxyWidgetErrorQuarantine")
    if not rules.proxy_widgets or not isinstance(entries, list):
        return
    seen: set[str] = set()
    for entry in entries:
        original = entry.get("originalEntry") if isinstance(entry, dict) else None
        if not isinstance(original, list) or len(original) < 2 or original[0] != "-1" or "hostValue" not in entry:
            continue
        name = original[1]
        if isinstance(name, str) and name not in seen:
            seen.add(name)
            promoted = host.promoted.get(host.slot_index(name))
            if promoted is not None:
                promoted.value = entry["hostValue"]
                promoted.source = None


# --- properties.proxyWidgets, the format between 1.28 and 1.4x -------------------------------------------------------


def migrate_proxies(hosts: Iterable[Node], rules: Rules) -> None:
    """Turn each host's ``proxyWidgets`` into promoted inputs of its definition, with this host's values.

    A new input of the definition appears on every host of it in the graph, with the inner widget's value.
    """
    everyone = list(hosts)
    for host in everyone:
        entries = _proxy_entries(host)
        if entries:
            _Migration(host, everyone, rules).run(entries)


def _proxy_entries(host: Node) -> list[list[str]]:
    entries = host.properties.get("proxyWidgets")
    if isinstance(entries, str):
        try:
            entries = _json.loads(entries)
        except _json.JSONError:
            return []
    if not isinstance(entries, list):
        return []
    for entry in entries:
        if not isinstance(entry, list) or len(entry) not in {2, 3} or not all(isinstance(part, str) for part in entry):
            return []
    return entries


class _Migration:
    def __init__(self, host: Node, hosts: list[Node], rules: Rules) -> None:
        assert host.definition is not None
        self.host = host
        self.hosts = [other for other in hosts if other.definition is host.definition]
        self.graph = host.definition
        self.rules = rules
        values = host.raw.get("widgets_values")
        self.values: list[Any] = values if isinstance(values, list) else []

    def run(self, entries: list[list[str]]) -> None:
        later: list[tuple[int, Node]] = []
        by_name: list[tuple[int, str]] = []
        for position, entry in enumerate(entries):
            node_id, name = entry[0], entry[1]
            if node_id == "-1":
                by_name.append((position, name))
                continue
            node = self.graph.by_id.get(node_id)
            if node is None:
                continue
            if node.type == "PrimitiveNode" and node.kind == "virtual":
                later.append((position, node))
                continue
            index = self._slot(node, name, entry[2] if len(entry) == 3 else None)
            if index is None or name.startswith("$$"):
                continue
            self._bind(node, index, position)
        for position, node in later:
            self._bind_primitive(node, position)
        for position, name in by_name:
            self._assign(self.host.slot_index(name), position)

    def _value(self, position: int) -> Any:
        value = self.values[position] if position < len(self.values) else UNDEFINED
        return UNDEFINED if value is None and not self.rules.proxy_null else value

    def _assign(self, index: int, position: int) -> None:
        promoted = self.host.promoted.get(index)
        value = self._value(position)
        if promoted is not None and value is not UNDEFINED:
            promoted.value = value
            promoted.source = self.host.value_path(position)

    def _slot(self, node: Node, name: str, disambiguator: str | None) -> int | None:
        """The input slot of the inner widget (or of the nested host's promoted input) that an entry means."""
        while True:
            index = self._slot_named(node, name, disambiguator)
            if index is not None:
                return index
            prefixed = _PREFIXED.match(name)
            if prefixed is None:
                return None
            disambiguator, name = prefixed[1], prefixed[2]

    def _slot_named(self, node: Node, name: str, disambiguator: str | None) -> int | None:
        candidates = [
            index
            for index, slot in enumerate(node.inputs)
            if slot.name == name and promoted_source(node, index) is not None
        ]
        if node.kind == "host" and disambiguator is not None and node.definition is not None:
            leading = _inputs_leading_to(node, disambiguator, name)
            if leading:
                return leading[0]
        return candidates[0] if candidates else None

    def _bind(self, node: Node, slot_index: int, position: int) -> None:
        boundary = self._existing_input(node, slot_index)
        if boundary is None:
            boundary = self._new_input(node, slot_index)
        self._assign(boundary, position)

    def _existing_input(self, node: Node, slot_index: int) -> int | None:
        """The host input that already leads to this widget first."""
        targets = targets_of(self.graph)
        for index, boundary in enumerate(self.graph.inputs):
            for link_id in boundary.link_ids:
                link = self.graph.links.get(link_id)
                found = targets.get(link.id) if link is not None else None
                if found is None:
                    continue
                if found == (node, slot_index):
                    return index
                break
        return None

    def _new_input(self, node: Node, slot_index: int) -> int:
        slot = node.inputs[slot_index]
        name = unused_name(slot.name, {boundary.name for boundary in self.graph.inputs}, "_")
        link_id = unused_name(f"proxy:{node.id}:{slot.name}", self.graph.links, "_")
        index = len(self.graph.inputs)
        link = Link(link_id, INPUT_NODE, index, node.id, slot_index, slot.type)
        self.graph.links[link_id] = link
        source = promoted_source(node, slot_index)
        self.graph.inputs.append(Boundary(name, slot.type, [link_id]))
        slot.link = link
        for host in self.hosts:
            host.inputs.insert(index, Slot(name, slot.type))
            if source is not None:
                _promote(host, index, source)
        return index

    def _bind_primitive(self, primitive: Node, position: int) -> None:
        """The widgets that a primitive feeds are fed by a new host input instead; the primitive's own value is lost.

        The first target gives the input its value and type; a target of another type stays unconnected.
        """
        links = [link for link in self.graph.links.values() if link.origin == primitive.id]
        targets = targets_of(self.graph)
        fed = [found for link in links if (found := self._fed(link, targets)) is not None]
        for link in links:
            if link.id in targets:
                node, index = targets[link.id]
                node.inputs[index].link = None
            del self.graph.links[link.id]
        if not fed:
            return
        node, slot_index = fed[0]
        index = self._new_input(node, slot_index)
        boundary = self.graph.inputs[index]
        for number, (other, other_index) in enumerate(fed[1:]):
            slot = other.inputs[other_index]
            if slot.type != boundary.type:
                continue
            identity = f"{boundary.link_ids[0]}:{number}"
            slot.link = self.graph.links[identity] = Link(identity, INPUT_NODE, index, other.id, other_index, slot.type)
            boundary.link_ids.append(identity)
        self._assign(index, position)

    def _fed(self, link: Link, targets: Mapping[str, tuple[Node, int]]) -> tuple[Node, int] | None:
        """The widget slot at a link's end, as this stage of loading sees it.

        Releases before the links table still have the file's slot numbers here, except on nodes whose slots have
        moved while they loaded: a file that numbers its slots in an old order feeds another widget.
        """
        found = targets.get(link.id)
        if found is not None and not self.rules.links_table and found[0].live is None:
            found = found[0], link.target_slot
        if found is None or not 0 <= found[1] < len(found[0].inputs) or promoted_source(*found) is None:
            return None
        return found


def _inputs_leading_to(host: Node, node_id: str, name: str) -> list[int]:
    """Inputs of a nested host whose promoted widget belongs to that inner node and has that name."""
    graph = host.definition
    assert graph is not None
    targets = targets_of(graph)
    found = []
    for index, boundary in enumerate(graph.inputs[: len(host.inputs)]):
        for link_id in boundary.link_ids:
            link = graph.links.get(link_id)
            target = targets.get(link.id) if link is not None else None
            if target is None:
                continue
            node, slot_index = target
            if (node.id == node_id and node.inputs[slot_index].name == name and index in host.promoted) or (
                node.kind == "host" and index in host.promoted and _inputs_leading_to(node, node_id, name)
            ):
                found.append(index)
            break
    return found
