"""The prompt itself: execution ids, values, links, titles, in the page's order."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from comfyclient import _json
from comfyclient.errors import WorkflowError
from comfyclient.workflow.convert.javascript import UNDEFINED, is_index_key, js_key_order, js_value
from comfyclient.workflow.convert.load import Loaded
from comfyclient.workflow.convert.model import Graph, Link, Node, Path, Promoted, Widget
from comfyclient.workflow.convert.normalise import link_key
from comfyclient.workflow.convert.resolve import Place, Resolver, execution_id, is_inactive
from comfyclient.workflow.convert.text import Replacer, dynamic_prompt
from comfyclient.workflow.convert.titles import class_title
from comfyclient.workflow.convert.values import custom_combo_index, emitted_combo

__all__ = ["Emitter"]

Inputs = dict[str, Any]

_MOST_NODES: Final = 200_000
"""Subgraphs in subgraphs multiply: a small hostile file could ask for more nodes than fit into memory."""


class Emitter:
    """Writes the prompt of a loaded workflow. ``origins`` says where in the file each value stands."""

    def __init__(self, loaded: Loaded, replacer: Replacer, rng: random.Random) -> None:
        self._loaded = loaded
        self._rules = loaded.rules
        self._replacer = replacer
        self._rng = rng
        self._resolver = Resolver(loaded)
        self.origins: dict[str, dict[str, Path]] = {}

    def prompt(self) -> dict[str, dict[str, Any]]:
        """All entries, numeric ids first and ascending."""
        entries: dict[str, dict[str, Any]] = {}
        for place, node in self._execution_nodes():
            if len(entries) >= _MOST_NODES:
                raise WorkflowError(f"the workflow expands to more than {_MOST_NODES} nodes")
            identity = execution_id(place, node)
            entries[identity] = self._entry(identity, place, node)
        _prune(entries)
        return {key: entries[key] for key in js_key_order(entries)}

    def _execution_nodes(self) -> Iterator[tuple[Place, Node]]:
        root = self._loaded.root
        # The order shows only where keys are no numbers: an object lists those ascending anyway.
        numbered = all(is_index_key(node.id) and node.kind != "host" for node in root.nodes)
        for node in root.nodes if numbered else _execution_order(root):
            if node.kind == "host" and is_inactive(node) and self._rules.skip_inactive_root_host:
                continue
            yield from self._flatten(node)

    def _flatten(self, node: Node) -> Iterator[tuple[Place, Node]]:
        """A root node, or what a host stands for, in the definitions' order."""
        stack: list[tuple[Place, Iterator[Node]]] = [((), iter((node,)))]
        while stack:
            place, siblings = stack[-1]
            following = next(siblings, None)
            if following is None:
                stack.pop()
            elif following.definition is not None:
                stack.append(((*place, following), iter(following.definition.nodes)))
            elif following.kind != "virtual" and not is_inactive(following):
                yield place, following

    # --- one node ---

    def _entry(self, identity: str, place: Place, node: Node) -> dict[str, Any]:
        origins: dict[str, Path] = {}
        inputs = self._values(node, origins)
        for index, slot in enumerate(node.inputs):
            if slot.link is None:
                continue
            source = self._resolver.resolve(place, node, index)
            if source is None:
                continue
            if isinstance(source, Promoted):
                inputs[slot.name] = _wrapped(source.value)
                _note(origins, slot.name, source.source)
            else:
                inputs[slot.name] = list(source)
                origins.pop(slot.name, None)
        if origins:
            self.origins[identity] = origins
        ordered = {name: js_value(inputs[name]) for name in js_key_order(inputs) if inputs[name] is not UNDEFINED}
        return {"inputs": ordered, "class_type": node.type, "_meta": self._meta(node)}

    def _values(self, node: Node, origins: dict[str, Path]) -> Inputs:
        inputs: Inputs = {}
        shared = self._rules.duplicate_names == "shared"
        for widget in node.widgets:
            if not widget.spec.emitted or not widget.name:
                continue
            holder = _shared_holder(node, widget) if shared else widget
            inputs[widget.name] = self._value(node, holder)
            _note(origins, widget.name, holder.source)
        return inputs

    def _value(self, node: Node, widget: Widget) -> Any:
        spec, value = widget.spec, widget.value
        if isinstance(value, str):
            if spec.dynamic_prompts:
                return dynamic_prompt(value, self._rng)
            if widget.name == "filename_prefix" and node.type in self._rules.save_classes:
                return self._replacer.replace(value)
        if spec.kind == "index":
            return custom_combo_index(node)
        if spec.kind == "PREVIEW_3D":
            return ""  # what the viewer shows is never sent
        if spec.kind == "CURVE":
            return self._curve(value)
        if spec.kind == "COMBO":
            value = emitted_combo(widget, self._rules)
        if spec.kind == "unknown":
            return _unknown_value(value)
        return _wrapped(value)

    def _curve(self, value: Any) -> Any:
        if value is not None and (self._rules.curve == "typed" or isinstance(value, list)):
            return {"__type__": "CURVE", "__value__": value}
        return value

    def _meta(self, node: Node) -> dict[str, Any]:
        title = node.title
        if title is None and node.kind == "unknown":
            title = self._rules.unknown_title
        elif title is None:
            title = class_title(node.type, node.spec, self._rules)
        meta: dict[str, Any] = {} if title is None else {"title": title}
        if self._rules.pack_meta:
            meta.update(_pack(node.properties))
        return meta


def _note(origins: dict[str, Path], name: str, source: Path | None) -> None:
    if source is None:
        origins.pop(name, None)
    else:
        origins[name] = source


def _shared_holder(node: Node, widget: Widget) -> Widget:
    """Of widgets of one name, the one whose value all of them show: the last one restored, else the first."""
    same = [other for other in node.widgets if other.name == widget.name]
    if len(same) == 1:
        return widget
    return next((other for other in reversed(same) if other.stored is not None), same[0])


def _wrapped(value: Any) -> Any:
    return {"__value__": value} if isinstance(value, list) else value


def _unknown_value(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else _json.dumps(js_value(value))


_CNR: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_AUX: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|-(?=[A-Za-z0-9])){0,38}/[\w.-]+", re.ASCII)
_SEMVER: Final = re.compile(
    r"(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_HASH: Final = re.compile(r"[0-9a-f]{4,40}", re.IGNORECASE)


def _pack(properties: Mapping[str, Any]) -> dict[str, str]:
    """The node pack's identity, as far as it is valid."""
    found: dict[str, str] = {}
    for name, pattern in (("cnr_id", _CNR), ("aux_id", _AUX)):
        value = properties.get(name)
        if isinstance(value, str) and pattern.fullmatch(value):
            found[name] = value
    version = properties.get("ver")
    if isinstance(version, str):
        version = version.removeprefix("v")
        if version == "unknown" or _SEMVER.fullmatch(version) or _HASH.fullmatch(version):
            found["ver"] = version
    return found


def _prune(entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Inputs linked to nodes that are not in the prompt go."""
    for entry in entries.values():
        inputs = entry["inputs"]
        gone = [
            name
            for name, value in inputs.items()
            if isinstance(value, list) and len(value) == 2 and value[0] not in entries
        ]
        for name in gone:
            del inputs[name]


def _execution_order(graph: Graph) -> Iterator[Node]:
    """The page's order: unlinked nodes first, then what they feed, output by output; nodes in circles last."""
    waiting: dict[int, int] = {}
    feeds: dict[str, list[tuple[Link, Node]]] = {}
    ready: list[Node] = []
    for node in graph.nodes:
        links = [slot.link for slot in node.inputs if slot.link is not None]
        if not links:
            ready.append(node)
        else:
            waiting[id(node)] = len(links)
        for link in links:
            feeds.setdefault(link.origin, []).append((link, node))
    position = 0
    while position < len(ready):
        node = ready[position]
        position += 1
        yield node
        for target in _fed_nodes(node, feeds.get(node.id, [])):
            if id(target) not in waiting:  # a second node of that id
                continue
            waiting[id(target)] -= 1
            if waiting[id(target)] == 0:
                del waiting[id(target)]
                ready.append(target)
    yield from (node for node in graph.nodes if id(node) in waiting)


def _fed_nodes(node: Node, feeds: list[tuple[Link, Node]]) -> list[Node]:
    """What a node feeds, in the order of its outputs and of the links that the file lists there."""
    if len(feeds) < 2:
        return [target for _, target in feeds]
    listed: dict[str, int] = {}
    outputs = node.raw.get("outputs")
    for output in outputs if isinstance(outputs, list) else ():
        ids = output.get("links") if isinstance(output, dict) else None
        for value in ids if isinstance(ids, list) else ():
            if (key := link_key(value)) is not None:
                listed.setdefault(key, len(listed))
    last = len(listed)
    return [
        target for link, target in sorted(feeds, key=lambda pair: (pair[0].origin_slot, listed.get(pair[0].id, last)))
    ]
