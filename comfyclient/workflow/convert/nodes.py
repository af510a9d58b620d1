"""A node class as the page registers it: its inputs in the page's order, its widgets, its output types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from comfyclient.workflow.catalog import AUTOGROW, DYNAMIC_COMBO, DYNAMIC_GROUP
from comfyclient.workflow.convert.javascript import js_key_order
from comfyclient.workflow.convert.releases import Rules
from comfyclient.workflow.convert.widgets import (
    Declared,
    WidgetSpec,
    declare,
    declared_inputs,
    options_of,
    with_buttons,
)

__all__ = ["NodeModel", "compile_node", "socket_type"]

MATCH_TYPE: Final = "COMFY_MATCHTYPE_V3"


@dataclass(frozen=True, slots=True, eq=False)
class NodeModel:
    """One compiled class: inputs in the page's order, output types, and the flags of `migrate` in map order."""

    name: str
    inputs: tuple[Declared, ...]
    map_order: tuple[Declared, ...]
    outputs: tuple[Any, ...]
    raw: Mapping[str, Any]
    dynamic: bool
    sockets: tuple[tuple[str, Any], ...] = ()
    slots: tuple[tuple[str, Any, str], ...] = ()
    widgets: tuple[WidgetSpec, ...] = field(default=())


def compile_node(name: str, raw: Mapping[str, Any], rules: Rules) -> NodeModel:
    """Compile one definition of the catalog under a release's rules."""
    section = raw.get("input")
    section = section if isinstance(section, dict) else {}
    required = _patched(name, declared_inputs(section.get("required")), rules)
    optional = declared_inputs(section.get("optional"))
    merged: dict[str, tuple[Any, bool]] = {key: (required[key], False) for key in js_key_order(required)}
    for key in js_key_order(optional):
        merged[key] = (optional[key], True)
    map_order = [declare(key, *merged[key], rules) for key in js_key_order(merged)]
    by_name = {declared.name: declared for declared in map_order}
    ordered = [by_name[key] for key in _page_order(raw.get("input_order"), required, optional, by_name)]
    outputs = raw.get("output")
    types = tuple(_output_type(kind) for kind in outputs) if isinstance(outputs, list) else ()
    dynamic = any(_is_dynamic(declared, rules) for declared in ordered)
    with_widget = [d for d in ordered if d.has_widget]
    return NodeModel(
        name=name,
        inputs=tuple(ordered),
        map_order=tuple(map_order),
        outputs=types,
        raw=raw,
        dynamic=dynamic,
        sockets=tuple((d.name, socket_type(d, rules)) for d in ordered if not d.has_widget),
        slots=tuple((d.name, d.type, d.name) for d in with_widget if not d.options.get("socketless")),
        widgets=tuple(spec for d in with_widget for spec in with_buttons(d, by_name, rules)),
    )


def _patched(name: str, required: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """What the page's own extensions add to a definition before they register it."""
    patched = dict(required)
    for key, spec in required.items():
        options = options_of(spec)
        is_combo = isinstance(spec[0], list | tuple) or spec[0] == "COMBO"
        wants = any(options.get(flag) is True for flag in ("image_upload", "video_upload", "animated_image_upload"))
        if is_combo and wants:
            patched["upload"] = ["IMAGEUPLOAD", {**options, "imageInputName": key}]
            break
    if name in rules.audio_classes:
        patched["audioUI"] = ["AUDIO_UI", {}]
    if "audio" in required and options_of(required["audio"]).get("audio_upload") is True:
        patched["upload"] = ["AUDIOUPLOAD", {}]
    if name in {"Preview3D", "SaveGLB"}:
        patched["image"] = ["PREVIEW_3D"]
    if name == "Load3DAdvanced" and rules.modern_widgets:
        patched["viewport_state"] = ["LOAD_3D_ADVANCED", {}]
    return patched


def _page_order(
    order: Any, required: Mapping[str, Any], optional: Mapping[str, Any], all_names: Iterable[str]
) -> list[str]:
    """The declared order first (what the extensions added comes last), else the map's."""
    names: dict[str, None] = {}
    if isinstance(order, dict):
        for kind, section in (("required", required), ("optional", optional)):
            listed = order.get(kind)
            for name in listed if isinstance(listed, list) else ():
                if isinstance(name, str) and name in section:
                    names[name] = None
    for name in all_names:
        names.setdefault(name, None)
    return list(names)


def _output_type(kind: Any) -> str:
    # A match type's output is a wildcard until the page narrows it, which no prompt depends on.
    if kind == MATCH_TYPE:
        return "*"
    return kind if isinstance(kind, str) else "COMBO"


def _is_dynamic(declared: Declared, rules: Rules) -> bool:
    return rules.dynamic_inputs and declared.type in {DYNAMIC_COMBO, AUTOGROW, DYNAMIC_GROUP}


def socket_type(declared: Declared, rules: Rules) -> Any:
    """The type of an input's socket: that of a match type is what its template allows."""
    if rules.dynamic_inputs and declared.type == MATCH_TYPE:
        template = declared.options.get("template")
        return template.get("allowed_types", "*") if isinstance(template, dict) else "*"
    return declared.type
