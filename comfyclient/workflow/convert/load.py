"""The graphs as they stand after the page has loaded the file: every node built, its links and values restored."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from comfyclient.errors import WorkflowError
from comfyclient.workflow.catalog import DYNAMIC_COMBO, Catalog
from comfyclient.workflow.convert.everywhere import apply_saved_links
from comfyclient.workflow.convert.groupnodes import unpack_group_nodes
from comfyclient.workflow.convert.javascript import UNDEFINED
from comfyclient.workflow.convert.live import LiveNode, build, connect_existing, set_value
from comfyclient.workflow.convert.model import BYPASSED, MUTED, Graph, Node, Promoted, Slot, Widget, unused_name
from comfyclient.workflow.convert.nodes import NodeModel, compile_node
from comfyclient.workflow.convert.normalise import Warn, link_key, read_graphs
from comfyclient.workflow.convert.releases import Rules
from comfyclient.workflow.convert.subgraphs import configure_host, migrate_proxies
from comfyclient.workflow.convert.values import Saved, restore, saved_values
from comfyclient.workflow.convert.virtual import VIRTUAL_NODES
from comfyclient.workflow.convert.widgets import WidgetSpec

__all__ = ["Loaded", "load"]

_UNSAFE: Final = re.compile("[&<>\"'`=]")


class Loaded:
    """The loaded workflow: its root graph and its definitions by id, in file order."""

    __slots__ = ("catalog", "definitions", "root", "rules", "warn")

    def __init__(self, root: Graph, definitions: dict[str, Graph], catalog: Catalog, rules: Rules, warn: Warn) -> None:
        self.root = root
        self.definitions = definitions
        self.catalog = catalog
        self.rules = rules
        self.warn = warn

    def clear(self) -> None:
        """Let go of the nodes: they and their graphs hold each other."""
        for graph in self.graphs():
            graph.nodes.clear()
            graph.by_id.clear()

    def graphs(self) -> Iterator[Graph]:
        """All graphs, the root first."""
        yield self.root
        yield from self.definitions.values()


def load(data: Mapping[str, Any], catalog: Catalog, rules: Rules, warn: Warn) -> Loaded:
    """Do what the page does when it opens a file.

    Raises:
        WorkflowError: The file is no workflow, or a definition contains itself.
    """
    root, definitions = read_graphs(data, rules, warn)
    loaded = Loaded(root, definitions, catalog, rules, warn)
    unpack_group_nodes(
        data, root, definitions, rules, lambda name: model_of(name, loaded) if name in catalog else None, warn
    )
    for graph in loaded.graphs():
        for node in graph.nodes:
            _classify(node, loaded)
    for graph in (*_leaf_first(definitions), root):
        _configure_graph(graph, loaded)
    for graph in loaded.graphs():
        for node in graph.nodes:
            _after_load(node, loaded, nested=graph is not root)
    return loaded


def _classify(node: Node, loaded: Loaded) -> None:
    renamed = dict(loaded.rules.type_renames).get(node.type)
    if renamed is not None:
        node.type = renamed
    if node.type in loaded.definitions:
        node.kind = "host"
        node.definition = loaded.definitions[node.type]
        node.promoted = {}
    elif node.type in loaded.catalog:
        node.kind = "catalog"
    elif node.type in VIRTUAL_NODES:
        node.kind = "virtual"
    else:
        cleaned = _UNSAFE.sub("", node.type)
        node.type = cleaned
        node.kind = "catalog" if cleaned in loaded.catalog else "virtual" if cleaned in VIRTUAL_NODES else "unknown"
    if node.kind == "unknown" and node.mode not in (MUTED, BYPASSED):
        where = f" (in subgraph {_name(node.graph)})" if node.graph.id is not None else ""
        loaded.warn("unknown_class", f"class {node.type!r}{where} is not in the {loaded.catalog.source}", node.id)


def _leaf_first(definitions: Mapping[str, Graph]) -> list[Graph]:
    """Definitions so that each comes after those it uses.

    Raises:
        WorkflowError: A definition contains itself, directly or through others.
    """
    ordered: list[Graph] = []
    state: dict[str, int] = {}
    for start in definitions:
        if start in state:
            continue
        stack: list[tuple[str, Iterator[str]]] = [(start, _used_by(definitions[start]))]
        state[start] = 1
        while stack:
            identity, used = stack[-1]
            following = next(used, None)
            if following is None:
                stack.pop()
                state[identity] = 2
                ordered.append(definitions[identity])
            elif state.get(following) == 1:
                raise WorkflowError(f"subgraph {_name(definitions[following])} contains itself")
            elif following not in state:
                state[following] = 1
                stack.append((following, _used_by(definitions[following])))
    return ordered


def _used_by(graph: Graph) -> Iterator[str]:
    return iter(list(dict.fromkeys(node.type for node in graph.nodes if node.kind == "host")))


def _name(graph: Graph) -> str:
    name = graph.raw.get("name")
    return repr(name) if isinstance(name, str) and name else str(graph.id)


# --- one graph -------------------------------------------------------------------------------------------------------


def _configure_graph(graph: Graph, loaded: Loaded) -> None:
    hosts = [node for node in graph.nodes if node.kind == "host"]
    for node in graph.nodes:
        if node.kind == "catalog":
            _configure_catalog_node(node, loaded)
        elif node.kind == "host":
            _host_slots(node, loaded.rules)
        else:
            _configure_as_saved(node, loaded.rules)
    connect(graph, loaded.rules, loaded.warn)
    apply_saved_links(graph, loaded.warn)
    for node in hosts:
        configure_host(node, loaded.rules)
    if loaded.rules.proxy_widgets:
        migrate_proxies(hosts, loaded.rules)


def model_of(class_type: str, loaded: Loaded) -> NodeModel:
    """The compiled class, made once for a catalog and release."""
    key = ("node model", loaded.rules.release, class_type)
    model: NodeModel | None = loaded.catalog.derived.get(key)
    if model is None:
        model = compile_node(class_type, loaded.catalog[class_type].raw, loaded.rules)
        loaded.catalog.derived[key] = model
    return model


_INDEX_SPEC: Final = WidgetSpec("index", "index", -1)
_OPTION_SPEC: Final = WidgetSpec("option1", "option", "")
_PREVIEW_SPEC: Final = WidgetSpec("preview", "preview", "", stored=False)


def _configure_catalog_node(node: Node, loaded: Loaded) -> None:
    rules = loaded.rules
    model = model_of(node.type, loaded)
    build(node, model, rules)
    if node.type == "CustomCombo" and rules.custom_combo and len(node.widgets) == 1:
        node.widgets += [Widget(_INDEX_SPEC), Widget(_OPTION_SPEC)]
    if node.type == "PreviewAny" and rules.preview_any_emitted:
        node.widgets.append(Widget(_PREVIEW_SPEC))
    if rules.duplicate_names == "renamed" and not model.dynamic:
        _rename_duplicates(node)
    _merge_inputs(node, rules)
    outputs = node.raw.get("outputs")
    if isinstance(outputs, list) and len(outputs) > len(node.outputs):
        node.outputs += [_type_of(entry) for entry in outputs[len(node.outputs) :]]
    values = saved_values(node, rules)
    if node.live is not None and rules.links_table:
        _load_by_table(node, node.live, values, rules)
        return
    connect_existing(node, node.graph.links)
    restore(node, values, rules)


def _load_by_table(node: Node, live: LiveNode, values: Saved, rules: Rules) -> None:
    """A node whose slots move, where links sit on slot numbers until all is restored."""
    incoming = node.graph.incoming(node.id)
    arriving = {link.id for link in incoming}
    named: dict[str, list[str]] = {}
    for entry in _saved_inputs(node):
        link = link_key(entry.get("link"))
        if link in arriving and link is not None:
            named.setdefault(link, []).append(_name_of(entry))
    inputs = [slot.name for slot in node.inputs]
    live.open_table(incoming, named)
    connect_existing(node, node.graph.links)
    live.realign_children(named, inputs)
    restore(node, values, rules)
    live.close_table(named)


def _rename_duplicates(node: Node) -> None:
    if len({widget.name for widget in node.widgets}) == len(node.widgets):
        return
    taken: set[str] = set()
    for widget in node.widgets:
        widget.name = unused_name(widget.name, taken, "#")
        taken.add(widget.name)


def _saved_inputs(node: Node) -> list[Mapping[str, Any]]:
    saved = node.raw.get("inputs")
    return [entry for entry in saved if isinstance(entry, dict)] if isinstance(saved, list) else []


def _merge_inputs(node: Node, rules: Rules, *, keep_extra: bool = True) -> None:
    """Saved inputs meet the defined ones by name; the rest follows in file order, as saved."""
    saved = _saved_inputs(node)
    if not saved:
        return
    by_name = {_name_of(entry): entry for entry in (reversed(saved) if rules.links_table else saved)}
    defined = {slot.name for slot in node.inputs}
    for slot in node.inputs:
        entry = by_name.get(slot.name)
        if entry is not None:
            _take_saved(slot, entry)
    if keep_extra:
        node.inputs += [_saved_slot(entry) for entry in saved if _name_of(entry) not in defined]
    _place_links(node, rules)


def _place_links(node: Node, rules: Rules) -> None:
    """Where the links table decides: a slot that names a link of this node has it, the rest goes by slot number."""
    if not rules.links_table or node.live is not None:
        return
    incoming = node.graph.incoming(node.id)
    if not incoming:
        return
    named = {slot.saved_link for slot in node.inputs}
    valid = {link.id for link in incoming}
    for link in incoming:
        if link.id not in named and 0 <= link.target_slot < len(node.inputs):
            slot = node.inputs[link.target_slot]
            if slot.saved_link not in valid:
                slot.saved_link = link.id


def _take_saved(slot: Slot, entry: Mapping[str, Any]) -> None:
    slot.saved_link = link_key(entry.get("link"))
    label = entry.get("label")
    slot.label = label if isinstance(label, str) else None


def _saved_slot(entry: Mapping[str, Any]) -> Slot:
    widget = entry.get("widget")
    widget_name = widget.get("name") if isinstance(widget, dict) else None
    slot = Slot(
        _name_of(entry),
        _type_of(entry),
        widget_name if isinstance(widget_name, str) else None,
    )
    _take_saved(slot, entry)
    return slot


def _name_of(entry: Mapping[str, Any]) -> str:
    name = entry.get("name")
    return name if isinstance(name, str) else ""


def _type_of(entry: Any) -> Any:
    kind = entry.get("type") if isinstance(entry, dict) else None
    return kind if isinstance(kind, str | int) else "*"


def _configure_as_saved(node: Node, rules: Rules) -> None:
    """Virtual and unknown nodes have the slots of the file; an unknown one keeps its values under made-up names."""
    node.inputs = [_saved_slot(entry) for entry in _saved_inputs(node)]
    _place_links(node, rules)
    outputs = node.raw.get("outputs")
    node.outputs = [_type_of(entry) for entry in outputs] if isinstance(outputs, list) else []
    values = node.raw.get("widgets_values")
    if node.kind != "unknown" or not isinstance(values, list):
        return
    for index, value in enumerate(values):
        name = f"UNKNOWN_{index}" if index and rules.unknown_numbered else "UNKNOWN"
        widget = Widget(WidgetSpec(name, "unknown", value), name)
        widget.stored = index
        widget.holder = node
        node.widgets.append(widget)


def _host_slots(node: Node, rules: Rules) -> None:
    assert node.definition is not None
    node.inputs = [Slot(entry.name, entry.type) for entry in node.definition.inputs]
    node.outputs = [entry.type for entry in node.definition.outputs]
    _merge_inputs(node, rules, keep_extra=rules.stale_host_inputs)


# --- links -----------------------------------------------------------------------------------------------------------


def connect(graph: Graph, rules: Rules, warn: Warn) -> None:
    """Give each slot its link, by the release's idea of what says so."""
    if rules.links_table:
        _connect_by_table(graph, warn)
        return
    for node in graph.nodes:
        for slot in node.inputs:
            if slot.saved_link is None:
                continue
            slot.link = graph.links.get(slot.saved_link)
            if slot.link is None:
                _dangling(node, slot, warn, f"it names link {slot.saved_link}, which is not in the file")


def _dangling(node: Node, slot: Slot, warn: Warn, why: str) -> None:
    warn("dangling_link", f"treated as unconnected: {why}", node.id, slot.name)


def _connect_by_table(graph: Graph, warn: Warn) -> None:
    """The links table decides; `_place_links` has told the slots which of its links they hold."""
    for node in graph.nodes:
        for slot in node.inputs:
            if slot.saved_link is None:
                continue
            link = graph.links.get(slot.saved_link)
            if link is None:
                _dangling(node, slot, warn, f"it names link {slot.saved_link}, which is not in the file")
            elif link.target == node.id:
                slot.link = link


# --- after loading ---------------------------------------------------------------------------------------------------


def _after_load(node: Node, loaded: Loaded, *, nested: bool) -> None:
    rules = loaded.rules
    if node.kind == "catalog":
        _remove_stale_widget_slots(node)
    if nested and not rules.fix_nested:
        return
    if rules.null_combo_first:
        for widget in list(node.widgets):
            if widget.spec.kind == DYNAMIC_COMBO and widget.value is None:
                set_value(node, widget, widget.spec.default)
            else:
                _first_option(widget, widget.spec)
        for promoted in node.promoted.values():
            if promoted.widget is not None:
                _first_option(promoted, promoted.widget.spec)
    if node.type in {"KSampler", "KSamplerAdvanced"}:
        sampler = node.widget("sampler_name")
        if sampler is not None and isinstance(sampler.value, str) and sampler.value.startswith("sample_"):
            sampler.value = sampler.value[len("sample_") :]


def _first_option(holder: Widget | Promoted, spec: WidgetSpec) -> None:
    """A combo without a value takes its first option."""
    if holder.value is not None and holder.value is not UNDEFINED:
        return
    if spec.kind == "COMBO" and spec.declared is not None:
        offered = spec.declared.options.get("options")
        if isinstance(offered, list) and offered:
            holder.value = offered[0]


def _remove_stale_widget_slots(node: Node) -> None:
    """Slots of widgets that no longer exist go, every other one of a row: the page removes while it iterates."""
    names = {widget.name for widget in node.widgets}
    if all(slot.widget is None or slot.widget in names for slot in node.inputs):
        return
    index = 0
    while index < len(node.inputs):
        slot = node.inputs[index]
        if slot.widget is not None and slot.widget not in names:
            del node.inputs[index]
        index += 1
