"""Where an input's value really comes from: through bypassed and muted nodes, virtual nodes and subgraph borders."""

from __future__ import annotations

from typing import Any, Final

from comfyclient.workflow.convert.load import Loaded
from comfyclient.workflow.convert.model import BYPASSED, INPUT_NODE, MUTED, OUTPUT_NODE, Node, Promoted, Slot
from comfyclient.workflow.convert.types import compatible
from comfyclient.workflow.convert.virtual import VIRTUAL_NODES, find_setter, variable_name

__all__ = ["Resolver", "execution_id", "is_inactive"]

_EXECUTED: Final = frozenset({"catalog", "unknown"})

Place = tuple[Node, ...]
"""The hosts around a node, outermost first."""


def is_inactive(node: Node) -> bool:
    """Whether the page leaves the node out of the prompt."""
    return node.mode in (MUTED, BYPASSED)


def execution_id(place: Place, node: Node) -> str:
    """``"57:12"``: the ids of the hosts around a node and its own."""
    return ":".join([*(host.id for host in place), node.id]) if place else node.id


class Resolver:
    """Follows links. An answer is ``(id, slot)``, a `Promoted` value, or ``None`` for nothing."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._rules = loaded.rules

    def resolve(self, place: Place, node: Node, index: int) -> tuple[str, int] | Promoted | None:
        """What feeds a node's input slot."""
        link = node.inputs[index].link
        if link is None:
            return None
        outside = place and link.origin == INPUT_NODE
        origin = None if outside else node.graph.by_id.get(link.origin)
        if origin is not None and origin.kind in _EXECUTED and not is_inactive(origin):
            return execution_id(place, origin), link.origin_slot
        answer: tuple[str, int] | Promoted | None = _Walk(place, node, index, self._loaded).run()
        return answer


class _Walk:
    """One walk from an input slot to where its value comes from. Loops in the graph end it."""

    def __init__(self, place: Place, node: Node, index: int, loaded: Loaded) -> None:
        self.place = place
        self.node = node
        self.index = index
        self.start = node, index
        self.start_place = place
        self.type: Any = None
        self.loaded = loaded
        self.rules = loaded.rules
        self.seen: set[tuple[int, int, Place]] = set()

    def run(self) -> Any:
        """The answer, as `Resolver.resolve` gives it."""
        while True:
            slot = self.node.inputs[self.index]
            link = slot.link
            if link is None:
                return None
            key = (id(self.node), self.index, self.place)
            if key in self.seen:
                return self._give_up("the connection runs in a circle through nodes that are not executed")
            self.seen.add(key)
            if self.place and link.origin == INPUT_NODE:
                found = self._leave_subgraph(link.origin_slot)
                if found is not _CONTINUE:
                    return found
                continue
            if self.type is None:
                self.type = slot.type
            origin = self.node.graph.by_id.get(link.origin)
            if origin is None:
                return self._give_up(f"its link comes from node {link.origin}, which is not in the file")
            found = self._output(origin, link.origin_slot)
            if found is not _CONTINUE:
                return found

    def _leave_subgraph(self, host_slot: int) -> Any:
        host = self.place[-1]
        if not 0 <= host_slot < len(host.inputs):
            return None
        if host.inputs[host_slot].link is None:
            return host.promoted.get(host_slot)
        self.place, self.node, self.index, self.type = self.place[:-1], host, host_slot, None
        return _CONTINUE

    def _output(self, node: Node, slot: int) -> Any:
        """What an output gives: an executed node's output, or the input to go on with."""
        while True:
            if node.mode == MUTED and self.rules.muted_blocks:
                return None
            if node.mode == BYPASSED:
                return self._go_on(node, self._bypass(node, slot))
            if node.kind == "host":
                inner = self._enter_subgraph(node, slot)
                if inner is None:
                    return None
                node, slot = inner
                if node is self.place[-1]:  # the definition hands its own input through
                    return self._leave_subgraph(slot)
                continue
            if node.kind == "virtual":
                return self._virtual(node, slot)
            return execution_id(self.place, node), slot

    def _enter_subgraph(self, host: Node, slot: int) -> tuple[Node, int] | None:
        graph = host.definition
        assert graph is not None
        if len(self.place) > 200 or not 0 <= slot < len(graph.outputs):
            return None
        ids = graph.outputs[slot].link_ids
        if not ids:
            return None
        link = graph.links.get(ids[0])
        if self.rules.links_table:
            ending = (one for one in graph.links.values() if one.target == OUTPUT_NODE)
            link = next((one for one in ending if one.target_slot == slot), None)
        if link is None:
            return None
        self.place = (*self.place, host)
        if link.origin == INPUT_NODE:
            return host, link.origin_slot
        origin = graph.by_id.get(link.origin)
        return None if origin is None else (origin, link.origin_slot)

    def _go_on(self, node: Node, index: int | None, kind: Any = None) -> Any:
        if index is None:
            return None
        self.node, self.index, self.type = node, index, kind
        return _CONTINUE

    def _bypass(self, node: Node, slot: int) -> int | None:
        """The input of a bypassed node that stands in for one of its outputs."""
        if not 0 <= slot < len(node.outputs):
            self._give_up(f"bypassed node {node.id} has no output {slot}")
            return None
        return bypass_slot(node.inputs, node.outputs[slot], slot, self.type)

    def _virtual(self, node: Node, slot: int) -> Any:
        rule = VIRTUAL_NODES[node.type]
        if rule.action in {"pass", "set"}:
            return self._go_on(node, slot if 0 <= slot < len(node.inputs) else None, self.type)
        if rule.action == "get":
            return self._get(node)
        return None

    def _get(self, node: Node) -> Any:
        """A Get node reads the Set node of its name, in its own graph or one around it."""
        name = variable_name(node)
        if name is None:
            return None
        place = self.place
        graphs = [node.graph, *(host.graph for host in reversed(place))]
        for depth, graph in enumerate(graphs):
            setter = find_setter(graph, name)
            if setter is not None:
                if not setter.inputs:
                    return None
                self.place = place[: len(place) - depth]
                return self._go_on(setter, 0, self.type)
        return self._give_up(f"Get node {node.id} reads {name!r}, which no Set node stores")

    def _give_up(self, why: str) -> Any:
        """Warn that the input stays unconnected; the answer is nothing."""
        node, index = self.start
        self.loaded.warn(
            "unresolved_link",
            f"treated as unconnected: {why}",
            execution_id(self.start_place, node),
            node.inputs[index].name,
        )
        return None


_CONTINUE: Final[Any] = object()


def bypass_slot(inputs: list[Slot], output_type: Any, slot: int, wanted: Any) -> int | None:
    """The page's choice among a bypassed node's inputs: same index first, then the exact type, then any that fits."""
    if wanted in {"*", ""} or wanted is None:
        index = slot if slot < len(inputs) else 0
        return index if inputs else None

    def fits(index: int) -> bool:
        kind = inputs[index].type
        return compatible(kind, output_type) and compatible(kind, wanted)

    if slot < len(inputs) and fits(slot):
        return slot
    for index, candidate in enumerate(inputs):
        if candidate.type == wanted:
            return index
    return next((index for index in range(len(inputs)) if fits(index)), None)
