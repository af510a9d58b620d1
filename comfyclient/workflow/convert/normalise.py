"""The file's JSON as graphs: definitions flattened, ids made unique, links read.

Nothing is built from the catalog yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from comfyclient.errors import WorkflowError
from comfyclient.workflow.convert.javascript import node_key
from comfyclient.workflow.convert.model import Boundary, Graph, Link, Node, Path
from comfyclient.workflow.convert.releases import Rules

__all__ = ["Warn", "last_node_id", "link_key", "read_graphs"]

Warn = Callable[..., None]
"""``warn(code, message, node_id=None, input=None)``."""

_LARGEST_DEFINITION_DEPTH: Final = 200


def read_graphs(data: Mapping[str, Any], rules: Rules, warn: Warn) -> tuple[Graph, dict[str, Graph]]:
    """Read the root graph and all its subgraph definitions, with ids as the page gives them.

    Raises:
        WorkflowError: ``nodes`` is no list, or definitions are nested too deep.
    """
    root = _read_graph(data, (), None, warn, strict_links=rules.links_table)
    definitions: dict[str, Graph] = {}
    for raw, path in _flatten(data, (), 0):
        identity = raw.get("id")
        if not isinstance(identity, str) or identity in definitions:
            warn(
                "definition_ignored",
                f"a subgraph definition without an id of its own was left out ({identity!r})",
            )
            continue
        definitions[identity] = _read_graph(raw, path, identity, warn, strict_links=False)
    if rules.renumber:
        _renumber(root, definitions, rules, last_node_id(data))
    return root, definitions


def _flatten(owner: Mapping[str, Any], path: Path, depth: int) -> Iterator[tuple[Mapping[str, Any], Path]]:
    """Definitions in file order, a parent before those nested in it."""
    if depth > _LARGEST_DEFINITION_DEPTH:
        raise WorkflowError("subgraph definitions are nested too deep")
    section = owner.get("definitions")
    listed = section.get("subgraphs") if isinstance(section, dict) else None
    for index, raw in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(raw, dict):
            here = (*path, "definitions", "subgraphs", index)
            yield raw, here
            yield from _flatten(raw, here, depth + 1)


def _read_graph(raw: Mapping[str, Any], path: Path, identity: str | None, warn: Warn, *, strict_links: bool) -> Graph:
    nodes = raw.get("nodes")
    if not isinstance(nodes, list):
        if identity is None:
            raise WorkflowError("the workflow has no list of nodes")
        nodes = []
    graph = Graph(raw, path, identity)
    for index, entry in enumerate(nodes):
        node_id = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or isinstance(node_id, bool) or not isinstance(node_id, int | float | str):
            warn("node_ignored", f"entry {index} of the nodes is no node and was left out")
            continue
        node = Node(graph, entry, node_key(node_id), index)
        kind = entry.get("type")
        node.type = kind if isinstance(kind, str) else node_key(kind) if isinstance(kind, int | float) else ""
        graph.nodes.append(node)
        graph.by_id[node.id] = node
    arrays = strict_links and identity is None and raw.get("version") == 0.4
    objects = strict_links and identity is None and not arrays
    links = raw.get("links")
    for link in map(_read_link, links if isinstance(links, list) else (), _shapes(arrays=arrays, objects=objects)):
        if link is not None:
            graph.links.setdefault(link.id, link)
    graph.inputs = [_boundary(entry) for entry in _mappings(raw.get("inputs"))] if identity is not None else []
    graph.outputs = [_boundary(entry) for entry in _mappings(raw.get("outputs"))] if identity is not None else []
    return graph


def _shapes(*, arrays: bool, objects: bool) -> Iterator[type | tuple[type, ...]]:
    shape: type | tuple[type, ...] = (list, dict)
    if arrays:
        shape = list
    elif objects:
        shape = dict
    while True:
        yield shape


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def link_key(value: Any) -> str | None:
    """A link's or node's id as a key, ``None`` for what is no id."""
    kind = type(value)
    return node_key(value) if kind is int or kind is str or kind is float else None


def _read_link(raw: Any, shape: type | tuple[type, ...]) -> Link | None:
    if not isinstance(raw, shape):
        return None
    if isinstance(raw, list):
        fields = [*raw[:6], *[None] * (6 - len(raw))]
    elif isinstance(raw, dict):
        fields = [raw.get(name) for name in ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")]
    else:
        return None
    identity, origin, target = link_key(fields[0]), link_key(fields[1]), link_key(fields[3])
    if identity is None or origin is None or target is None:
        return None
    return Link(identity, origin, _slot_number(fields[2]), target, _slot_number(fields[4]), fields[5])


def _slot_number(value: Any) -> int:
    """A slot as saved; anything that is no number is no slot (-1)."""
    if type(value) is int and -(2**31) < value < 2**31:
        return value
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**31:
        return int(value)
    return -1


def _boundary(raw: Mapping[str, Any]) -> Boundary:
    ids = raw.get("linkIds")
    keys = [key for value in (ids if isinstance(ids, list) else ()) if (key := link_key(value)) is not None]
    name, label = raw.get("name"), raw.get("label")
    return Boundary(
        name if isinstance(name, str) else "",
        raw.get("type"),
        keys,
        label if isinstance(label, str) else None,
    )


def last_node_id(data: Mapping[str, Any]) -> int:
    """The file's node counter, 0 if it has none."""
    state = data.get("state")
    value = data.get("last_node_id") if data.get("version") == 0.4 else None
    if value is None and isinstance(state, dict):
        value = state.get("lastNodeId")
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53 else 0


def _renumber(root: Graph, definitions: Mapping[str, Graph], rules: Rules, last: int) -> None:
    """Give nodes of definitions (and, by the newest rules, duplicate root nodes) ids that no other graph uses."""
    used: set[str] = set()
    for node in root.nodes:
        if not rules.renumber_root:
            if _is_number(node.id):
                used.add(node.id)
        elif node.id in used:
            last = _next_free(last, used)
            node.id = str(last)
            used.add(node.id)
            root.by_id[node.id] = node
        else:
            used.add(node.id)
            root.by_id[node.id] = node
            if _is_number(node.id):
                last = max(last, int(node.id))
    remapped: dict[str, dict[str, str]] = {}
    for identity, graph in definitions.items():
        mapping: dict[str, str] = {}
        for node in graph.nodes:
            if node.id in used:
                last = _next_free(last, used)
                mapping.setdefault(node.id, str(last))
                node.id = str(last)
            elif _is_number(node.id):
                last = max(last, int(node.id))
            used.add(node.id)
        if mapping:
            remapped[identity] = mapping
            graph.by_id = {node.id: node for node in graph.nodes}
            for link in graph.links.values():
                link.origin = mapping.get(link.origin, link.origin)
                link.target = mapping.get(link.target, link.target)
    for graph in (root, *definitions.values()) if remapped else ():
        for node in graph.nodes:
            if node.type in remapped:
                _rewrite_proxies(node, remapped[node.type])


def _next_free(last: int, used: set[str]) -> int:
    last += 1
    while str(last) in used:
        last += 1
    return last


def _is_number(node_id: str) -> bool:
    return node_id.lstrip("-").isdecimal() and len(node_id) < 17


def _rewrite_proxies(node: Node, mapping: Mapping[str, str]) -> None:
    proxies = node.properties.get("proxyWidgets")
    if not isinstance(proxies, list):
        return
    rewritten = [
        [mapping.get(entry[0], entry[0]) if isinstance(entry[0], str) else entry[0], *entry[1:]]
        if isinstance(entry, list) and entry
        else entry
        for entry in proxies
    ]
    node.properties = {**node.properties, "proxyWidgets": rewritten}
