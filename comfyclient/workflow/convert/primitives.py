"""PrimitiveNode: a node of the page that writes its value into the widgets it is linked to before a prompt is made."""

from __future__ import annotations

import math
from typing import Any, Final

from comfyclient.workflow.convert.javascript import js_round, to_fixed
from comfyclient.workflow.convert.live import set_value
from comfyclient.workflow.convert.load import Loaded
from comfyclient.workflow.convert.model import Graph, Link, Node, Widget
from comfyclient.workflow.convert.subgraphs import targets_of
from comfyclient.workflow.convert.text import Replacer
from comfyclient.workflow.convert.values import coerce
from comfyclient.workflow.convert.widgets import Declared, declare

__all__ = ["apply_primitives", "load_primitives"]

_REPLACE: Final = "Run widget replace on values"
_Target = tuple[Node, int]


def load_primitives(loaded: Loaded) -> None:
    """Make each primitive's widget: its stored value or its first target's, clamped to what all targets allow."""
    for graph in loaded.graphs():
        primitives = [node for node in graph.nodes if _is_primitive(node)]
        targets = targets_of(graph) if primitives else {}
        for node in primitives:
            _load(node, _fed(node, graph, targets, loaded), loaded)


def _is_primitive(node: Node) -> bool:
    return node.kind == "virtual" and node.type == "PrimitiveNode"


def _fed(node: Node, graph: Graph, targets: dict[str, _Target], loaded: Loaded) -> list[_Target]:
    """What the primitive's output is linked to, in the order in which the page knows the links."""
    fed: list[_Target] = []
    for link in _output_links(node, graph, loaded):
        found = targets.get(link.id)
        if found is None:
            other = graph.by_id.get(link.target)
            if other is None or not 0 <= link.target_slot < len(other.inputs):
                continue
            found = other, link.target_slot
        fed.append(found)
    return fed


def _output_links(node: Node, graph: Graph, loaded: Loaded) -> list[Link]:
    if loaded.rules.links_table:
        return [link for link in graph.links.values() if link.origin == node.id and link.origin_slot == 0]
    outputs = node.raw.get("outputs")
    first = outputs[0] if isinstance(outputs, list) and outputs else None
    ids = first.get("links") if isinstance(first, dict) else None
    keys = [str(value) for value in ids] if isinstance(ids, list) else []
    return [graph.links[key] for key in keys if key in graph.links]


def _declared_of(node: Node, index: int, loaded: Loaded) -> Declared | None:
    """The widget declaration behind a slot, or one made up from its type if the page has a widget for it."""
    slot = node.inputs[index]
    if slot.widget is not None:
        widget = node.widget(slot.widget)
        if widget is not None:
            return widget.spec.declared
        promoted = node.promoted.get(index)
        return promoted.widget.spec.declared if promoted is not None and promoted.widget is not None else None
    declared = declare("value", [str(slot.type)], optional=False, rules=loaded.rules)
    return declared if declared.has_widget else None


def _load(node: Node, fed: list[_Target], loaded: Loaded) -> None:
    if not fed:
        return
    target, index = fed[0]
    declared = _declared_of(target, index, loaded)
    if declared is None or not declared.specs:
        return
    widget = Widget(declared.specs[0], "value")
    own_name = target.inputs[index].widget
    theirs = target.widget(own_name) if own_name is not None else None
    promoted = target.promoted.get(index)
    if theirs is not None:
        widget.value = theirs.value
    elif promoted is not None:
        widget.value = promoted.value
    stored = node.raw.get("widgets_values")
    if isinstance(stored, list) and stored and _type_fits(node, declared, loaded):
        widget.value = coerce(widget, stored[0], loaded.rules)
        widget.stored = 0
        widget.holder = node
    if declared.type in {"INT", "FLOAT"}:
        limits = [d for other, at in fed if (d := _declared_of(other, at, loaded)) is not None]
        widget.value = _clamp(widget.value, declared, limits)
    node.widgets = [widget]


def _type_fits(node: Node, declared: Declared, loaded: Loaded) -> bool:
    if not loaded.rules.primitive_needs_type:
        return True
    return bool(node.outputs) and node.outputs[0] == declared.type


def _clamp(value: Any, declared: Declared, limits: list[Declared]) -> Any:
    if value is None:
        value = 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    lows = [low for d in limits if isinstance(low := d.options.get("min"), int | float)]
    highs = [high for d in limits if isinstance(high := d.options.get("max"), int | float)]
    clamped: float | int = value
    if lows and clamped < max(lows):
        clamped = max(lows)
    if highs and clamped > min(highs):
        clamped = min(highs)
    return rounded(clamped, declared) if clamped != value else value


def apply_primitives(loaded: Loaded, replacer: Replacer) -> None:
    """Write every primitive's value into its targets' widgets, as their callbacks round it."""
    for graph in loaded.graphs():
        primitives = [node for node in graph.nodes if _is_primitive(node) and node.widgets]
        targets = targets_of(graph) if primitives else {}
        for node in primitives:
            source = node.widgets[0]
            value = source.value
            if value and isinstance(value, str) and node.properties.get(_REPLACE):
                value = replacer.replace(value)
            for target, index in _fed(node, graph, targets, loaded):
                _write(target, index, value, source, loaded)


def _write(target: Node, index: int, value: Any, source: Widget, loaded: Loaded) -> None:
    name = target.inputs[index].widget
    if name is None:
        return
    widget = target.widget(name)
    if widget is not None:
        set_value(target, widget, coerce(widget, _after_callback(value, widget), loaded.rules))
        widget.holder, widget.stored = source.holder, source.stored
    elif loaded.rules.primitive_feeds_host and index in target.promoted:
        inner = target.promoted[index].widget
        if inner is not None:
            inner.value = _after_callback(value, inner)
            inner.holder, inner.stored = source.holder, source.stored


def _after_callback(value: Any, widget: Widget) -> Any:
    declared = widget.spec.declared
    if declared is None or widget.spec.kind not in {"INT", "FLOAT"}:
        return value
    return rounded(value, declared)


def rounded(value: Any, declared: Declared) -> Any:
    """A number as an INT or FLOAT widget's callback leaves it: on its step, and for FLOAT within its range."""
    if value is None or isinstance(value, bool):
        number = float(value or 0)
    elif isinstance(value, int | float):
        number = value
    else:
        return None  # not a number, which JSON has as null
    step = _number(declared.options.get("step"))
    if declared.type == "INT":
        step = step or 1
        if step == 1:
            return js_round(number)
        offset = math.fmod(_number(declared.options.get("min")) or 0, step)
        return js_round((number - offset) / step) * step + offset
    precision = max(0, -math.floor(math.log10(step if step and step > 0 else 0.5)))
    grid = _number(declared.options.get("round")) or (10.0**-precision if precision > 0 else None)
    if grid:
        number = js_round(number / grid) * grid
        number = to_fixed(number, precision)
    low = _number(declared.options.get("min"))
    high = _number(declared.options.get("max"))
    return min(max(number, 0 if low is None else low), 2048 if high is None else high)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
