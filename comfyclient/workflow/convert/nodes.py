"""A node as the page builds it from the catalog: ordered sockets and widgets, and how both change while it lives.

A definition is compiled once per conversion into a `NodeModel`; `build` puts its sockets and widgets on a node.
Dynamic combos, autogrow lists and dynamic groups change the node's live lists when a value is set or a link is met,
in the order in which the page does it, because ``widgets_values`` is positional over the live list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from comfyclient.workflow.catalog import AUTOGROW, DYNAMIC_COMBO, DYNAMIC_GROUP
from comfyclient.workflow.convert.javascript import UNDEFINED, js_key_order
from comfyclient.workflow.convert.model import Link, Node, Slot, Widget
from comfyclient.workflow.convert.releases import Rules

__all__ = [
    "Declared",
    "NodeModel",
    "WidgetSpec",
    "build",
    "compile_node",
    "connect_existing",
    "declare",
    "set_value",
]

_Item = TypeVar("_Item")

MATCH_TYPE: Final = "COMFY_MATCHTYPE_V3"
CONTROL_MODES: Final = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})


@dataclass(frozen=True, slots=True, eq=False)
class WidgetSpec:
    """One widget as its constructor makes it.

    ``stored``: it takes a position in the file's ``widgets_values``. ``emitted``: it has a key in the prompt. The two
    are independent. ``declared`` is the input it was made for (``None`` for helpers such as seed controls).
    """

    name: str
    kind: str
    default: Any
    stored: bool = True
    emitted: bool = True
    declared: Declared | None = None
    multiline: bool = False
    dynamic_prompts: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Declared:
    """One input as declared in the catalog, in the form in which the page keeps it."""

    name: str
    type: str
    options: Mapping[str, Any]
    optional: bool
    has_widget: bool
    specs: tuple[WidgetSpec, ...] = ()


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


# --- compiling -------------------------------------------------------------------------------------------------------


def compile_node(name: str, raw: Mapping[str, Any], rules: Rules) -> NodeModel:
    """Compile one definition of the catalog under a release's rules."""
    section = raw.get("input")
    section = section if isinstance(section, dict) else {}
    required = _patched(name, _declared_dict(section.get("required")), rules)
    optional = _declared_dict(section.get("optional"))
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
        sockets=tuple((d.name, _socket_type(d, rules)) for d in ordered if not d.has_widget),
        slots=tuple((d.name, d.type, d.name) for d in with_widget if not d.options.get("socketless")),
        widgets=tuple(spec for d in with_widget for spec in _with_buttons(d, by_name, rules)),
    )


def _declared_dict(section: Any) -> dict[str, Any]:
    if not isinstance(section, dict):
        return {}
    return {str(key): spec for key, spec in section.items() if isinstance(spec, list | tuple) and spec}


def _patched(name: str, required: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """What the page's own extensions add to a definition before they register it."""
    patched = dict(required)
    for key, spec in required.items():
        options = _options(spec)
        is_combo = isinstance(spec[0], list | tuple) or spec[0] == "COMBO"
        wants = any(options.get(flag) is True for flag in ("image_upload", "video_upload", "animated_image_upload"))
        if is_combo and wants:
            patched["upload"] = ["IMAGEUPLOAD", {**options, "imageInputName": key}]
            break
    if name in rules.audio_classes:
        patched["audioUI"] = ["AUDIO_UI", {}]
    if "audio" in required and _options(required["audio"]).get("audio_upload") is True:
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


def _options(spec: Any) -> dict[str, Any]:
    return dict(spec[1]) if len(spec) > 1 and isinstance(spec[1], dict) else {}


def declare(name: str, spec: Any, optional: bool, rules: Rules) -> Declared:
    """One input's declaration with the widgets that the page would make for it."""
    options = _options(spec)
    kind = spec[0]
    if isinstance(kind, list | tuple):
        options["options"] = list(kind)
        kind = "COMBO"
    kind = str(kind)
    if optional and options.get("defaultInput"):
        options["forceInput"] = True
    widget_type = str(options.get("widgetType") or kind)
    has_widget = not options.get("forceInput") and _has_constructor(widget_type, rules)
    declared = Declared(name, kind, options, optional, has_widget)
    if not has_widget:
        return declared
    # The specs name the declaration they were made for, so the two can only be tied together afterwards.
    object.__setattr__(declared, "specs", tuple(_make_widgets(declared, widget_type, rules)))
    return declared


def _output_type(kind: Any) -> str:
    # A match type's output is a wildcard until the page narrows it, which no prompt depends on.
    if kind == MATCH_TYPE:
        return "*"
    return kind if isinstance(kind, str) else "COMBO"


def _is_dynamic(declared: Declared, rules: Rules) -> bool:
    return rules.dynamic_inputs and declared.type in {DYNAMIC_COMBO, AUTOGROW, DYNAMIC_GROUP}


def _socket_type(declared: Declared, rules: Rules) -> Any:
    if rules.dynamic_inputs and declared.type == MATCH_TYPE:
        template = declared.options.get("template")
        return template.get("allowed_types", "*") if isinstance(template, dict) else "*"
    return declared.type


# --- widget constructors ---------------------------------------------------------------------------------------------

_BASIC: Final = frozenset(
    {"INT", "FLOAT", "BOOLEAN", "STRING", "COMBO", "MARKDOWN", "IMAGEUPLOAD", "AUDIOUPLOAD", "AUDIO_UI"}
)
_ALWAYS: Final = _BASIC | {
    "COLOR", "TEXTAREA", "CHART", "GALLERIA", "IMAGECOMPARE", "LOAD_3D", "PREVIEW_3D", "WEBCAM", "AUDIO_RECORD",
}  # fmt: skip
_LEGACY: Final = frozenset({"FILEUPLOAD", "TREESELECT", "MULTISELECT", "SELECTBUTTON"})
_MODERN: Final = frozenset({
    "BOUNDING_BOX", "RANGE", "COLORS", "BOUNDING_BOXES", "VIDEO_EDIT", "PAINTER", "COMPOSITOR", "LOAD_3D_ADVANCED",
})  # fmt: skip
_NEWEST: Final = frozenset({"LIGHT_INFO_PREVIEW", "RESOLUTION_PREVIEW", "CAMERA_INFO_STATE", "CAMERA_ANGLE_VIEW"})
# Types whose widget has just a default and emits its value as it is.
_PLAIN_DEFAULTS: Final[dict[str, Any]] = {
    "BOOLEAN": False,
    "BOUNDING_BOX": {"x": 0, "y": 0, "width": 512, "height": 512},
    "CURVE": {"points": [[0, 0], [1, 1]], "interpolation": "monotone_cubic"},
    "RANGE": {"min": 0, "max": 1},
    "COLORS": [],
    "BOUNDING_BOXES": [],
}


def _has_constructor(kind: str, rules: Rules) -> bool:
    if kind in _ALWAYS:
        return True
    if kind == "CURVE":
        return rules.curve != "socket"
    if kind == DYNAMIC_COMBO:
        return rules.dynamic_inputs
    if kind == DYNAMIC_GROUP:
        return rules.dynamic_groups
    if kind in _MODERN:
        return rules.modern_widgets
    return (kind in _NEWEST and rules.newest_widgets) or (kind in _LEGACY and rules.legacy_widgets)


def _make_widgets(declared: Declared, kind: str, rules: Rules) -> Iterable[WidgetSpec]:
    maker = _MAKERS.get(kind)
    if maker is not None:
        return maker(declared, rules)
    if kind in _PLAIN_DEFAULTS:
        main = _main(declared, kind, _default(declared, _PLAIN_DEFAULTS[kind]))
        return [main, *_box_fields(main)] if kind == "BOUNDING_BOX" else [main]
    return [_main(declared, kind, _OTHER_DEFAULTS.get(kind, UNDEFINED))]


_OTHER_DEFAULTS: Final[dict[str, Any]] = {
    "WEBCAM": "",
    "LOAD_3D_ADVANCED": "",
    "COMPOSITOR": {},
    "FILEUPLOAD": "",
    "TREESELECT": "",
    "MULTISELECT": [],
}


def _main(declared: Declared, kind: str, default: Any, **flags: bool) -> WidgetSpec:
    return WidgetSpec(declared.name, kind, default, declared=declared, **flags)


def _default(declared: Declared, fallback: Any) -> Any:
    value = declared.options.get("default")
    return fallback if value is None else value


def _helper(name: str, default: Any, *, emitted: bool = False) -> WidgetSpec:
    return WidgetSpec(name, "helper", default, emitted=emitted)


def _control(mode: Any, fallback: str) -> WidgetSpec:
    return _helper("control_after_generate", mode if isinstance(mode, str) and mode in CONTROL_MODES else fallback)


_FILTER: Final = _helper("control_filter_list", "")


def _make_int(declared: Declared, rules: Rules) -> list[WidgetSpec]:  # noqa: ARG001
    widgets = [_main(declared, "INT", _default(declared, 0))]
    control = declared.options.get("control_after_generate", declared.name in {"seed", "noise_seed"})
    return [*widgets, _control(control, "randomize")] if control else widgets


def _make_float(declared: Declared, rules: Rules) -> list[WidgetSpec]:
    widgets = [_main(declared, "FLOAT", _default(declared, 0))]
    if rules.float_control and declared.options.get("control_after_generate"):
        widgets.append(_control(None, "fixed"))
    return widgets


def _make_string(declared: Declared, rules: Rules) -> list[WidgetSpec]:  # noqa: ARG001
    options = declared.options
    return [
        _main(
            declared,
            "STRING",
            _default(declared, ""),
            multiline=bool(options.get("multiline")),
            dynamic_prompts=options.get("dynamicPrompts") is True,
        )
    ]


def _make_combo(declared: Declared, rules: Rules) -> list[WidgetSpec]:
    options = declared.options
    if options.get("multi_select"):
        widgets = [_main(declared, "COMBO_MULTI", [])]
        if rules.float_control and options.get("control_after_generate"):
            widgets += [_control(None, "fixed"), _FILTER]
        return widgets
    offered = options.get("options")
    remote = options.get("remote")
    default: Any = options.get("default")
    if not default:
        if isinstance(offered, list) and offered:
            default = offered[0]
        else:
            default = "Loading..." if isinstance(remote, dict) else UNDEFINED
    widgets = [_main(declared, "COMBO", default)]
    if isinstance(remote, dict):
        widgets.append(_helper("Auto-refresh after generation", default=False))
        if remote.get("refresh_button"):
            widgets.append(_helper("refresh", "refresh", emitted=True))
    if control := options.get("control_after_generate"):
        widgets += [_control(control, "randomize"), _FILTER]
    return widgets


def _make_color(declared: Declared, rules: Rules) -> list[WidgetSpec]:
    nested = declared.options.get("options")
    inner = nested.get("default") if isinstance(nested, dict) else None
    own = declared.options.get("default") if rules.color_default else None
    value = own if own is not None else inner
    return [_main(declared, "COLOR", "#000000" if value is None else value)]


def _make_textarea(declared: Declared, rules: Rules) -> list[WidgetSpec]:
    nested = declared.options.get("options")
    inner = nested.get("default") if isinstance(nested, dict) else None
    own = declared.options.get("default") if rules.textarea_default else None
    value = own if own is not None else inner
    return [_main(declared, "TEXTAREA", "" if value is None else value)]


def _make_chart(declared: Declared, rules: Rules) -> list[WidgetSpec]:  # noqa: ARG001
    nested = declared.options.get("options")
    value = nested.get("data") if isinstance(nested, dict) else declared.options.get("data")
    return [_main(declared, "CHART", {} if value is None else value)]


def _make_galleria(declared: Declared, rules: Rules) -> list[WidgetSpec]:  # noqa: ARG001
    images = declared.options.get("images")
    return [_main(declared, "GALLERIA", images if isinstance(images, list) else [])]


def _make_image_compare(declared: Declared, rules: Rules) -> list[WidgetSpec]:
    return [_main(declared, "IMAGECOMPARE", ["", ""], stored=rules.image_compare_stored)]


def _box_fields(main: WidgetSpec) -> list[WidgetSpec]:
    box = main.default if isinstance(main.default, dict) else {}
    return [WidgetSpec(name, "box field", box.get(name, 0), emitted=False) for name in ("x", "y", "width", "height")]


def _make_audio_ui(declared: Declared, rules: Rules) -> list[WidgetSpec]:
    return [_main(declared, "AUDIO_UI", "", stored=False, emitted=rules.audio_ui_emitted)]


def _make_audio_record(declared: Declared, rules: Rules) -> list[WidgetSpec]:  # noqa: ARG001
    return [_main(declared, "AUDIO_RECORD", ""), _helper(declared.name, "")]


def _make_video_edit(declared: Declared, rules: Rules) -> list[WidgetSpec]:  # noqa: ARG001
    parts: dict[str, Any] = {
        "trim": {"start_time": 0, "duration": 0},
        "crop": {"x": 0, "y": 0, "width": 0, "height": 0},
    }
    features = declared.options.get("features")
    if isinstance(features, list):
        parts = {key: value for key, value in parts.items() if key in features}
    return [_main(declared, "VIDEO_EDIT", _default(declared, parts))]


def _make_painter(declared: Declared, rules: Rules) -> list[WidgetSpec]:
    return [_main(declared, "PAINTER", _default(declared, UNDEFINED if rules.newest_widgets else ""))]


def _make_dynamic_combo(declared: Declared, rules: Rules) -> list[WidgetSpec]:  # noqa: ARG001
    keys = js_key_order(_combo_options(declared))
    return [_main(declared, DYNAMIC_COMBO, keys[0] if keys else UNDEFINED)]


def _make_select_button(declared: Declared, rules: Rules) -> list[WidgetSpec]:  # noqa: ARG001
    nested = declared.options.get("options")
    values = nested.get("values") if isinstance(nested, dict) else nested
    return [_main(declared, "SELECTBUTTON", values[0] if isinstance(values, list) and values else "")]


def _silent(kind: str, default: Any, *, stored: bool, emitted: bool) -> Callable[[Declared, Rules], list[WidgetSpec]]:
    def make(declared: Declared, rules: Rules) -> list[WidgetSpec]:  # noqa: ARG001
        return [_main(declared, kind, default, stored=stored, emitted=emitted)]

    return make


_MAKERS: Final[dict[str, Callable[[Declared, Rules], list[WidgetSpec]]]] = {
    "INT": _make_int,
    "FLOAT": _make_float,
    "STRING": _make_string,
    "COMBO": _make_combo,
    "MARKDOWN": lambda declared, rules: [_main(declared, "MARKDOWN", "", multiline=True)],  # noqa: ARG005
    "COLOR": _make_color,
    "TEXTAREA": _make_textarea,
    "CHART": _make_chart,
    "GALLERIA": _make_galleria,
    "IMAGECOMPARE": _make_image_compare,
    "IMAGEUPLOAD": _silent("IMAGEUPLOAD", "image", stored=True, emitted=False),
    "AUDIOUPLOAD": _silent("AUDIOUPLOAD", "", stored=True, emitted=False),
    "AUDIO_UI": _make_audio_ui,
    "AUDIO_RECORD": _make_audio_record,
    "VIDEO_EDIT": _make_video_edit,
    "PAINTER": _make_painter,
    "PREVIEW_3D": _silent("PREVIEW_3D", "", stored=True, emitted=True),
    "LOAD_3D": _silent("LOAD_3D", "", stored=True, emitted=True),
    "LIGHT_INFO_PREVIEW": _silent("LIGHT_INFO_PREVIEW", [], stored=True, emitted=True),
    "RESOLUTION_PREVIEW": _silent("RESOLUTION_PREVIEW", UNDEFINED, stored=False, emitted=False),
    "CAMERA_INFO_STATE": _silent("CAMERA_INFO_STATE", UNDEFINED, stored=False, emitted=False),
    "CAMERA_ANGLE_VIEW": _silent("CAMERA_ANGLE_VIEW", "camera", stored=True, emitted=False),
    "SELECTBUTTON": _make_select_button,
    DYNAMIC_GROUP: _silent(DYNAMIC_GROUP, 0, stored=True, emitted=False),
    DYNAMIC_COMBO: _make_dynamic_combo,
}

_LOAD_3D_BUTTONS: Final = (
    _helper("upload 3d model", "upload3dmodel", emitted=True),
    _helper("upload extra resources", "uploadExtraResources", emitted=True),
    _helper("clear", "clear", emitted=True),
)


def _with_buttons(declared: Declared, siblings: Mapping[str, Declared], rules: Rules) -> tuple[WidgetSpec, ...]:
    if declared.type == "LOAD_3D" and (rules.load_3d_buttons == "always" or "model_file" in siblings):
        return (*_LOAD_3D_BUTTONS, *declared.specs)
    return declared.specs


# --- building and changing a live node -------------------------------------------------------------------------------


class _Autogrow:
    __slots__ = ("inputs", "max", "min", "names", "prefix")

    def __init__(self, declared: Declared) -> None:
        template = declared.options.get("template")
        template = template if isinstance(template, dict) else {}
        section = template.get("input")
        section = section if isinstance(section, dict) else {}
        names = template.get("names")
        least, most = template.get("min", 1), template.get("max", 100)
        self.names = [str(name) for name in names] if isinstance(names, list) else None
        self.min = least if isinstance(least, int) else 1
        self.max = len(self.names) if self.names is not None else (most if isinstance(most, int) else 100)
        self.prefix = str(template.get("prefix") or "")
        self.inputs = [
            (key, spec, kind == "optional")
            for kind in ("required", "optional")
            for key, spec in _declared_dict(section.get(kind)).items()
        ]

    def slot_name(self, ordinal: int, key: str) -> str:
        if self.names is not None:
            return self.names[ordinal]
        return f"{self.prefix if len(self.inputs) == 1 else key}{ordinal}"

    def ordinal(self, name: str) -> int | None:
        if self.names is not None:
            return self.names.index(name) if name in self.names else None
        digits = len(name) - len(name.rstrip("0123456789"))
        return int(name[-digits:]) if 0 < digits < 6 else None


class LiveNode:
    """The dynamic side of one node: its autogrow lists and what a change of value does to its slots and widgets."""

    __slots__ = ("autogrow", "node", "rules")

    def __init__(self, node: Node, rules: Rules) -> None:
        self.node = node
        self.rules = rules
        self.autogrow: dict[str, _Autogrow] = {}

    # The page adds all sockets first, then all widgets, each in declared order.
    def add_all(self, declared: Iterable[Declared]) -> None:
        inputs = list(declared)
        for one in inputs:
            self.add_socket(one)
        for one in inputs:
            self.add_widget(one)

    def add_socket(self, declared: Declared) -> None:
        if declared.has_widget:
            return
        if declared.type == AUTOGROW and self.rules.dynamic_inputs:
            group = self.autogrow[declared.name] = _Autogrow(declared)
            for ordinal in range(max(group.min, 0) + 1):
                self.grow(declared.name, ordinal)
            return
        self.node.inputs.append(Slot(declared.name, _socket_type(declared, self.rules)))

    def add_widget(self, declared: Declared) -> None:
        if not declared.has_widget:
            return
        first: Widget | None = None
        for spec in declared.specs:
            widget = self.append_widget(spec)
            if spec.declared is not None and first is None:
                first = widget
        if not declared.options.get("socketless"):
            self.node.inputs.append(Slot(declared.name, declared.type, declared.name))
        if first is not None and declared.type in {DYNAMIC_COMBO, DYNAMIC_GROUP}:
            set_value(self.node, first, first.value)

    def append_widget(self, spec: WidgetSpec) -> Widget:
        widget = Widget(spec)
        if self.rules.duplicate_names == "renamed":
            widget.name = unused_name(self.node, spec.name)
        self.node.widgets.append(widget)
        return widget

    def grow(self, group_name: str, ordinal: int) -> None:
        """Add one group of an autogrow list, right after the one before it; existing slots of its names move there."""
        group = self.autogrow[group_name]
        if ordinal >= group.max or not group.inputs:
            return
        node = self.node
        added: list[Slot] = []
        for key, spec, optional in group.inputs:
            name = f"{group_name}.{group.slot_name(ordinal, key)}"
            before = len(node.inputs)
            declared = declare(name, spec, optional, self.rules)
            self.add_socket(declared)
            self.add_widget(declared)
            created = node.inputs[before:]
            del node.inputs[before:]
            for slot in created[-1:]:
                if len(group.inputs) != 1:
                    self.reserve(slot)
                added.append(slot)
        for slot in added:
            for existing in [other for other in node.inputs if other.name == slot.name]:
                node.inputs.remove(existing)
                if slot.saved_link is None:
                    slot.saved_link = existing.saved_link
                slot.label = existing.label or slot.label
        last = group.inputs[-1][0]
        previous = f"{group_name}.{group.slot_name(ordinal - 1, last)}" if ordinal else f"{group_name}.{last}"
        at = len(node.inputs)
        for index in range(len(node.inputs) - 1, -1, -1):
            if node.inputs[index].name.startswith(previous):
                at = index + 1
                break
        node.inputs[at:at] = added

    def reserve(self, slot: Slot) -> None:
        """Keep a socket's place among the widget keys of the prompt."""
        if slot.widget is not None and any(w.name == slot.widget for w in self.node.widgets):
            return
        self.node.widgets.append(Widget(_PLACEHOLDER, slot.name))
        slot.widget = slot.name

    def connected(self, index: int) -> None:
        """A link was met on this slot while loading: the list it belongs to grows by one group."""
        slot = self.node.inputs[index]
        group_name = slot.name.rpartition(".")[0]
        group = self.autogrow.get(group_name)
        if group is None:
            return
        if slot.widget is not None:
            self.reserve(slot)
        if slot.saved_link is None:
            return
        ordinal = group.ordinal(slot.name[len(group_name) + 1 :])
        if ordinal is not None:
            self.grow(group_name, ordinal + 1)

    def rebuild(self, widget: Widget, children: list[Declared]) -> None:
        """Replace the slots and widgets below a dynamic widget; links survive on slots of the same name."""
        node = self.node
        prefix = f"{widget.spec.name}."
        removed = [slot for slot in node.inputs if slot.name.startswith(prefix)]
        if removed:
            node.inputs = [slot for slot in node.inputs if not slot.name.startswith(prefix)]
        node.widgets[:] = [other for other in node.widgets if not other.name.startswith(prefix)]
        for name in [name for name in self.autogrow if name.startswith(prefix)]:
            del self.autogrow[name]
        if not children:
            return
        at = node.widgets.index(widget) + 1
        first_widget, first_input = len(node.widgets), len(node.inputs)
        for child in children:
            self.add_socket(child)
            self.add_widget(child)
        node.widgets[at:at] = _cut(node.widgets, first_widget)
        inputs_at = node.slot_index(widget.spec.name) + 1
        if inputs_at > 0:
            node.inputs[inputs_at:inputs_at] = _cut(node.inputs, first_input)
        for old in removed:
            index = node.slot_index(old.name)
            if index >= 0 and old.saved_link is not None:
                node.inputs[index].saved_link = old.saved_link
                self.connected(index)


_PLACEHOLDER: Final = WidgetSpec("", "placeholder", UNDEFINED, stored=False)


def _cut(items: list[_Item], start: int) -> list[_Item]:
    tail = items[start:]
    del items[start:]
    return tail


def unused_name(node: Node, name: str) -> str:
    """The name, or with ``#1``, ``#2``, … if the node has a widget of that name."""
    taken = {widget.name for widget in node.widgets}
    if name not in taken:
        return name
    number = 1
    while f"{name}#{number}" in taken:
        number += 1
    return f"{name}#{number}"


def _combo_options(declared: Declared) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    offered = declared.options.get("options")
    for option in offered if isinstance(offered, list) else ():
        if isinstance(option, dict) and "key" in option:
            inputs = option.get("inputs")
            found[str(option["key"])] = inputs if isinstance(inputs, dict) else {}
    return found


def _children(section: Mapping[str, Any], prefix: str, rules: Rules) -> list[Declared]:
    return [
        declare(f"{prefix}.{key}", spec, kind == "optional", rules)
        for kind in ("required", "optional")
        for declared in (_declared_dict(section.get(kind)),)
        for key in js_key_order(declared)
        for spec in (declared[key],)
    ]


def build(node: Node, model: NodeModel, rules: Rules) -> None:
    """Put a class's sockets and widgets with their defaults on a new node."""
    node.spec = model
    node.outputs = list(model.outputs)
    if not model.dynamic:
        node.inputs = [Slot(name, kind) for name, kind in model.sockets]
        node.inputs += [Slot(name, kind, widget) for name, kind, widget in model.slots]
        node.widgets = [Widget(spec) for spec in model.widgets]
        return
    live = node.live = LiveNode(node, rules)
    live.add_all(model.inputs)


def set_value(node: Node, widget: Widget, value: Any) -> None:
    """Set a widget's value as the page does: a dynamic one rebuilds what hangs below it."""
    widget.value = value
    live = node.live
    if live is None:
        return
    kind = widget.spec.kind
    declared = widget.spec.declared
    if kind == DYNAMIC_COMBO and declared is not None:
        section = _combo_options(declared).get(value) if isinstance(value, str) else None
        children = _children(section, declared.name, live.rules) if section else []
        live.rebuild(widget, children)
    elif kind == DYNAMIC_GROUP and declared is not None:
        live.rebuild(widget, _group_rows(declared, value, live.rules))


def _group_rows(declared: Declared, count: Any, rules: Rules) -> list[Declared]:
    template = declared.options.get("template")
    if not isinstance(template, dict):
        return []
    least, most = declared.options.get("min", 0), declared.options.get("max", 100)
    rows = int(count) if isinstance(count, int | float) and not isinstance(count, bool) else 0
    rows = max(least if isinstance(least, int) else 0, rows)
    rows = min(rows, most if isinstance(most, int) else 100)
    return [child for row in range(rows) for child in _children(template, f"{declared.name}.{row}", rules)]


def connect_existing(node: Node, links: Mapping[str, Link]) -> None:
    """Tell a dynamic node of the links that its saved inputs name, in slot order, while the list may grow."""
    live = node.live
    if live is None or not live.autogrow:
        return
    index = 0
    while index < len(node.inputs):
        saved = node.inputs[index].saved_link
        if saved is not None and saved in links:
            live.connected(index)
        index += 1
