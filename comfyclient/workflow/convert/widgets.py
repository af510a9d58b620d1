"""The widgets that the page makes for a declared input: defaults, extra fields, and what is saved and sent of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from comfyclient.workflow.catalog import DYNAMIC_COMBO, DYNAMIC_GROUP
from comfyclient.workflow.convert.javascript import UNDEFINED, js_key_order
from comfyclient.workflow.convert.releases import Rules

__all__ = [
    "CONTROL_MODES",
    "Declared",
    "WidgetSpec",
    "combo_options",
    "declare",
    "declared_inputs",
    "options_of",
    "with_buttons",
]

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


def declared_inputs(section: Any) -> dict[str, Any]:
    """The specs of a ``required`` or ``optional`` section, by name; what is no spec is left out."""
    if not isinstance(section, dict):
        return {}
    return {str(key): spec for key, spec in section.items() if isinstance(spec, list | tuple) and spec}


def options_of(spec: Any) -> dict[str, Any]:
    """A copy of a spec's options."""
    return dict(spec[1]) if len(spec) > 1 and isinstance(spec[1], dict) else {}


def declare(name: str, spec: Any, optional: bool, rules: Rules) -> Declared:
    """One input's declaration with the widgets that the page would make for it."""
    options = options_of(spec)
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
    keys = js_key_order(combo_options(declared))
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


def with_buttons(declared: Declared, siblings: Mapping[str, Declared], rules: Rules) -> tuple[WidgetSpec, ...]:
    """An input's widgets, with the upload buttons that the page puts before a 3D viewer."""
    if declared.type == "LOAD_3D" and (rules.load_3d_buttons == "always" or "model_file" in siblings):
        return (*_LOAD_3D_BUTTONS, *declared.specs)
    return declared.specs


def combo_options(declared: Declared) -> dict[str, Mapping[str, Any]]:
    """The options of a dynamic combo: key → the inputs that it brings."""
    found: dict[str, Mapping[str, Any]] = {}
    offered = declared.options.get("options")
    for option in offered if isinstance(offered, list) else ():
        if isinstance(option, dict) and "key" in option:
            inputs = option.get("inputs")
            found[str(option["key"])] = inputs if isinstance(inputs, dict) else {}
    return found
