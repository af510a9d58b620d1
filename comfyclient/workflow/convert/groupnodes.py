"""Legacy group nodes (``extra.groupNodes``), unpacked into subgraphs as the page does it after loading.

A group node's type is ``workflow>NAME`` (or ``workflow/NAME`` in old files). Its inputs are the inner sockets that
nothing inside feeds, its outputs the inner ones that nothing inside takes, its values those of all inner widgets in a
row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from comfyclient.workflow.convert.model import INPUT_NODE, OUTPUT_NODE, Boundary, Graph, Link, Node
from comfyclient.workflow.convert.nodes import NodeModel
from comfyclient.workflow.convert.normalise import Warn, last_node_id
from comfyclient.workflow.convert.releases import Rules

__all__ = ["unpack_group_nodes"]

_TYPE: Final = re.compile(r"^workflow[>/](.+)$", re.DOTALL)
_ModelOf = Callable[[str], NodeModel | None]


def unpack_group_nodes(
    data: Mapping[str, Any],
    root: Graph,
    definitions: dict[str, Graph],
    rules: Rules,
    model_of: _ModelOf,
    warn: Warn,
) -> None:
    """Turn each root group node into a host of a definition of its own."""
    extra = data.get("extra")
    groups = extra.get("groupNodes") if isinstance(extra, dict) else None
    if not isinstance(groups, dict):
        return
    last = max(
        [
            last_node_id(data),
            *(int(node.id) for node in root.nodes if node.id.isdecimal() and len(node.id) < 16),
        ]
    )
    for node in root.nodes:
        found = _TYPE.match(node.type)
        group = groups.get(found[1]) if found else None
        if not isinstance(group, dict):
            continue
        inner = [entry if isinstance(entry, dict) else {} for entry in _list(group.get("nodes"))]
        if rules.group_nodes == "expanded":
            ids = [str(index) for index in range(len(inner))]
        else:
            ids = [str(last + 1 + index) for index in range(len(inner))]
            last += len(inner) + 1
        identity = f"group node {node.id}"
        unpacking = _Unpacking(node, group, inner, ids, identity, model_of)
        definitions[identity] = unpacking.definition()
        node.type = identity
        if rules.group_nodes == "subgraph":
            _rename(node, str(last))
        warn(
            "group_node",
            "a legacy group node was unpacked; convert it to a subgraph in the page to keep its ids",
            node.id,
        )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _rename(node: Node, new_id: str) -> None:
    graph = node.graph
    for link in graph.links.values():
        link.origin = new_id if link.origin == node.id else link.origin
        link.target = new_id if link.target == node.id else link.target
    graph.by_id.pop(node.id, None)
    node.id = new_id
    graph.by_id[new_id] = node


class _Unpacking:
    def __init__(
        self,
        host: Node,
        group: Mapping[str, Any],
        inner: Sequence[Mapping[str, Any]],
        ids: list[str],
        identity: str,
        model_of: _ModelOf,
    ) -> None:
        self.host = host
        self.ids = ids
        self.graph = Graph({"name": host.type}, None, identity)
        self.models = [model_of(str(entry.get("type"))) for entry in inner]
        self.links = [link for link in _list(group.get("links")) if _is_inner_link(link, len(inner))]
        self.external = {
            (entry[0], entry[1]) for entry in _list(group.get("external")) if isinstance(entry, list) and len(entry) > 1
        }
        self.raws = [self._raw(index, entry) for index, entry in enumerate(inner)]

    def definition(self) -> Graph:
        self._share_values()
        for index, raw in enumerate(self.raws):
            node = Node(self.graph, raw, self.ids[index], index)
            node.type = str(raw.get("type"))
            self.graph.nodes.append(node)
            self.graph.by_id[node.id] = node
        for number, link in enumerate(self.links):
            self._inner_link(f"inner {number}", link)
        self._outer_inputs()
        self._outer_outputs()
        return self.graph

    def _raw(self, index: int, entry: Mapping[str, Any]) -> dict[str, Any]:
        """An inner node as a node of a definition: with every socket of its class, so that links can name them."""
        saved = [dict(slot) for slot in _list(entry.get("inputs")) if isinstance(slot, dict)]
        model = self.models[index]
        names = {slot.get("name") for slot in saved}
        if model is not None:
            saved += [{"name": name, "type": kind} for name, kind in model.sockets if name not in names]
        for slot in saved:
            slot["link"] = None
        return {**entry, "inputs": saved, "mode": 0}

    def _share_values(self) -> None:
        """Hand the group's values out to the inner widgets, in order; converted widgets keep their own."""
        values = self.host.raw.get("widgets_values")
        if not isinstance(values, list):
            return
        position = 0
        for raw, model in zip(self.raws, self.models, strict=True):
            if model is None:
                continue
            own = _list(raw.get("widgets_values"))
            converted = {slot.get("name") for slot in raw["inputs"] if isinstance(slot.get("widget"), dict)}
            shared: list[Any] = []
            for index, spec in enumerate(spec for spec in model.widgets if spec.stored):
                mine = own[index] if index < len(own) else spec.default
                if spec.name in converted or position >= len(values):
                    shared.append(mine)
                else:
                    shared.append(values[position])
                    position += 1
            raw["widgets_values"] = shared

    def _inner_link(self, identity: str, link: list[Any]) -> None:
        origin, origin_slot, target, target_slot = link[:4]
        inputs = self.raws[target]["inputs"]
        if not 0 <= target_slot < len(inputs):
            return
        inputs[target_slot]["link"] = identity
        self.graph.links[identity] = Link(
            identity,
            self.ids[origin],
            origin_slot,
            self.ids[target],
            target_slot,
            inputs[target_slot].get("type"),
        )

    def _outer_inputs(self) -> None:
        sockets: list[tuple[int, int, dict[str, Any]]] = []
        converted: list[tuple[int, int, dict[str, Any]]] = []
        for index, raw in enumerate(self.raws):
            for number, slot in enumerate(raw["inputs"]):
                if slot["link"] is None:
                    (converted if isinstance(slot.get("widget"), dict) else sockets).append((index, number, slot))
        seen: dict[str, int] = {}
        for index, number, slot in (*sockets, *converted):
            raw = self.raws[index]
            name = str(slot.get("label") or slot.get("name"))
            if name in seen:
                name = f"{raw.get('title') or raw.get('type')} {name}"
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                name = f"{name} {seen[name]}"
            identity = f"outer {len(self.graph.inputs)}"
            slot["link"] = identity
            link = Link(identity, INPUT_NODE, len(self.graph.inputs), self.ids[index], number, slot.get("type"))
            self.graph.links[identity] = link
            self.graph.inputs.append(Boundary(name, slot.get("type"), [identity]))

    def _outer_outputs(self) -> None:
        taken = {(link[0], link[1]) for link in self.links}
        for index, raw in enumerate(self.raws):
            model = self.models[index]
            saved = [slot.get("type") for slot in _list(raw.get("outputs")) if isinstance(slot, dict)]
            kinds = list(model.outputs) if model is not None else saved
            for number, kind in enumerate(kinds):
                if (index, number) in taken and (index, number) not in self.external:
                    continue
                identity = f"out {len(self.graph.outputs)}"
                link = Link(identity, self.ids[index], number, OUTPUT_NODE, len(self.graph.outputs), kind)
                self.graph.links[identity] = link
                self.graph.outputs.append(Boundary(str(kind), kind, [identity]))


def _is_inner_link(link: Any, count: int) -> bool:
    if not isinstance(link, list) or len(link) < 4 or not all(type(part) is int for part in link[:4]):
        return False
    return bool(0 <= link[0] < count and 0 <= link[2] < count)
