"""Saved values put onto a node's widgets: by position over the live list, as the page restores them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from comfyclient.workflow.catalog import DYNAMIC_GROUP
from comfyclient.workflow.convert.javascript import UNDEFINED, js_key_order, js_string, unix_lines
from comfyclient.workflow.convert.live import set_value
from comfyclient.workflow.convert.model import Node, Widget
from comfyclient.workflow.convert.nodes import NodeModel
from comfyclient.workflow.convert.releases import Rules
from comfyclient.workflow.convert.widgets import Declared

__all__ = ["coerce", "custom_combo_index", "emitted_combo", "restore", "saved_values"]

Stored = tuple[Any, int | str]
"""A saved value and its position (or key) in the file's ``widgets_values``."""

Saved = dict[str, Stored] | list[Stored] | None

_NAMED_PREFIXES: Final = ("VHS_",)
"""Classes whose pack saves ``widgets_values`` as an object and restores it by name (VideoHelperSuite)."""

_ANNOTATED: Final = re.compile(r"\[(input|output|temp)\]$")


def saved_values(node: Node, rules: Rules) -> Saved:
    """What the file holds for a node that was just built: values by name or by position, ``None`` for nothing.

    To be read before links make the node grow, as the page does.
    """
    saved = node.raw.get("widgets_values")
    named = _by_name(node, saved, rules)
    if named is not None:
        return named
    values = _positional(node, saved, rules)
    if values is not None and node.spec is not None:
        return _drop_dummies(node.spec, node.widgets, values, rules)
    return values


def restore(node: Node, values: Saved, rules: Rules) -> None:
    """Put the saved values onto a node's live list of widgets."""
    if isinstance(values, dict):
        for widget in list(node.widgets):
            if widget.spec.stored and widget.name in values:
                _put(node, widget, values[widget.name], rules)
    elif values is not None and node.type == "CustomCombo" and rules.custom_combo:
        _restore_custom_combo(node, values)
    elif values is not None:
        _restore_in_order(node, values, rules)


def _restore_in_order(node: Node, values: Sequence[Stored], rules: Rules) -> None:
    index = position = 0
    while index < len(node.widgets) and position < len(values):
        widget = node.widgets[index]
        index += 1
        if widget.spec.stored:
            _put(node, widget, values[position], rules)
            position += 1


def _put(node: Node, widget: Widget, stored: Stored, rules: Rules) -> None:
    value, where = stored
    set_value(node, widget, coerce(widget, value, rules))
    widget.stored = where
    widget.holder = node


def _by_name(node: Node, saved: Any, rules: Rules) -> dict[str, Stored] | None:
    if isinstance(saved, dict) and node.type.startswith(_NAMED_PREFIXES):
        return {str(key): (value, str(key)) for key, value in saved.items()}
    model = node.spec
    fallback = model.raw.get("fallbackWidgetsValuesNames") if model is not None and rules.fallback_names else None
    if not isinstance(fallback, list):
        return None
    named = node.raw.get("widgets_values_named")
    if isinstance(named, dict):
        return {str(key): (value, str(key)) for key, value in named.items()}
    if not isinstance(saved, list):
        return None
    return {str(name): (saved[index], index) for index, name in enumerate(fallback[: len(saved)]) if name}


def _positional(node: Node, saved: Any, rules: Rules) -> list[Stored] | None:
    if isinstance(saved, list):
        return [(value, index) for index, value in enumerate(saved)]
    if not isinstance(saved, dict) or rules.object_values == "ignored":
        return None
    keys = js_key_order(saved)
    if rules.object_values == "undefined":
        # `values[0]`, `values[1]`, … of an object: undefined unless a key is that number.
        return [(saved.get(str(index), UNDEFINED), str(index)) for index in range(len(node.widgets))]
    expected = sum(widget.spec.stored for widget in node.widgets)
    return [(saved[key], key) for key in keys] if len(keys) == expected else None


# --- dummy values of files saved before frontend 1.16 ----------------------------------------------------------------


def _drop_dummies(model: NodeModel, widgets: Sequence[Widget], values: list[Stored], rules: Rules) -> list[Stored]:
    """Such files hold a value for socket-only inputs too; it is dropped when the counts say that they are there."""
    names = {widget.name for widget in widgets}
    relevant = [d for d in model.map_order if d.name in names or d.options.get("forceInput")]
    if rules.legacy_migration == "1.27":
        extra = sum(1 for d in relevant if d.options.get("control_after_generate") or d.name in {"seed", "noise_seed"})
        if len(relevant) + extra != len(values):
            return values
        forced = [bool(d.options.get("forceInput")) for d in relevant]
        return [v for index, v in enumerate(values) if index >= len(forced) or not forced[index]]
    if rules.legacy_migration == "1.49":
        flags = _flags(relevant, frozenset())
        return _without(values, flags) if len(flags) == len(values) else values
    if any(DYNAMIC_GROUP in _types_below(d) for d in model.map_order):
        return values
    flags = _flags(relevant, frozenset(widget.name for widget in widgets if not widget.spec.stored))
    if True not in flags and len(values) == sum(widget.spec.stored for widget in widgets):
        return values
    compact = [v for index, v in enumerate(values) if index >= len(widgets) or widgets[index].spec.stored]
    for candidate in (compact, values):
        if len(candidate) == len(flags):
            return _without(candidate, flags)
    return values


def _flags(relevant: Sequence[Declared], skipped: frozenset[str]) -> list[bool]:
    flags: list[bool] = []
    for declared in relevant:
        if declared.name in skipped:
            continue
        flags.append(bool(declared.options.get("forceInput")))
        if declared.options.get("control_after_generate"):
            flags.append(False)
    return flags


def _without(values: Sequence[Stored], flags: Sequence[bool]) -> list[Stored]:
    return [value for value, flag in zip(values, flags, strict=True) if not flag]


def _types_below(declared: Declared) -> set[str]:
    """All input types named anywhere in a declaration."""
    found = {declared.type}
    pending: list[Any] = [declared.options]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            if value and isinstance(value[0], str):
                found.add(value[0])
            pending.extend(entry for entry in value if isinstance(entry, Mapping | list))
    return found


# --- what a widget makes of a value ----------------------------------------------------------------------------------


def coerce(widget: Widget, value: Any, rules: Rules) -> Any:
    """A value as the widget keeps it: text areas and a few combos change what they are given, the rest does not."""
    spec = widget.spec
    if spec.multiline:
        return _text(value, rules)
    if value is None and spec.kind == "COMBO_MULTI":
        return ""
    return value


def _text(value: Any, rules: Rules) -> Any:
    if value is None:
        return ""
    if value is UNDEFINED:
        return "undefined"
    if rules.multiline == "raw":
        return value
    if isinstance(value, str):
        return unix_lines(value) if rules.multiline == "string_lf" else value
    return js_string(value)


def emitted_combo(widget: Widget, rules: Rules) -> Any:
    """What reading an image-upload combo gives: old releases mark the folder when it is not the input folder."""
    value, spec = widget.value, widget.spec
    if not rules.image_folder_suffix or spec.declared is None:
        return value
    options = spec.declared.options
    if not any(options.get(flag) is True for flag in ("image_upload", "video_upload", "animated_image_upload")):
        return value
    if not value:
        value = spec.default
    if isinstance(value, list):
        if options.get("allow_batch"):
            return value
        value = value[0] if value else spec.default
    folder = options.get("image_folder", "input")
    if isinstance(value, str) and folder != "input" and not _ANNOTATED.search(value):
        return f"{value} [{folder}]"
    return value


# --- CustomCombo: a combo whose options are widgets of the node ------------------------------------------------------


def _restore_custom_combo(node: Node, values: Sequence[Stored]) -> None:
    """Widgets are choice, index and option1, …; an option that is set to something adds the next one."""
    choice, _index, *options = node.widgets
    for position, (value, where) in enumerate(values):
        if position == 1:
            continue
        if position == 0:
            widget = choice
        elif position - 2 < len(options):
            widget = options[position - 2]
            if value and widget is options[-1]:
                options.append(Widget(widget.spec, f"option{len(options) + 1}"))
        else:
            break
        widget.value, widget.stored = value, where
        widget.holder = node
    node.widgets[2:] = options


def custom_combo_index(node: Node) -> int:
    """The position of the choice among the options, -1 if it is none of them."""
    choice = node.widgets[0].value
    for position, widget in enumerate(node.widgets[2:]):
        if type(widget.value) is type(choice) and widget.value == choice:
            return position
    return -1
