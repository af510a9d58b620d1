"""The catalog: an instance's node definitions (``GET /object_info``) as typed specs.

A catalog is read once as JSON and looked into lazily: a node's definition becomes a `NodeSpec` when somebody asks
for it, because a real catalog has hundreds of nodes and a workflow uses a dozen.
"""

from __future__ import annotations

import gzip
import importlib.resources
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Self

from comfyclient import _json
from comfyclient.errors import CatalogError

__all__ = [
    "AUTOGROW",
    "BUNDLED_VERSION",
    "DYNAMIC_COMBO",
    "DYNAMIC_GROUP",
    "MOST_GROUPS",
    "Catalog",
    "InputSpec",
    "NodeSpec",
    "OutputSpec",
]

BUNDLED_VERSION: Final = "0.33.0"
"""The ComfyUI release whose core nodes are bundled for offline use."""

DYNAMIC_COMBO: Final = "COMFY_DYNAMICCOMBO_V3"
DYNAMIC_GROUP: Final = "COMFY_DYNAMICGROUP_V3"
AUTOGROW: Final = "COMFY_AUTOGROW_V3"
MOST_GROUPS: Final = 1000
"""How far a list of inputs may grow, whatever a definition says: definitions come from servers."""

_UPLOAD_KINDS: Final = {
    "image_upload": "image",
    "animated_image_upload": "image",
    "video_upload": "video",
    "audio_upload": "audio",
    "file_upload": "file",
}
# Types whose values a person sets on the page; every other type is a socket.
_VALUE_TYPES: Final = frozenset({
    "INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", "MARKDOWN", "TEXTAREA", "BOUNDING_BOX", "CURVE", "RANGE",
    "COLORS", "BOUNDING_BOXES", "VIDEO_EDIT", "PAINTER", "COMPOSITOR", "LOAD_3D", "WEBCAM", "AUDIO_RECORD",
    DYNAMIC_COMBO,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One declared input of a node.

    ``name`` is the full (dotted, for children of dynamic inputs) name; ``type`` the declared type, with ``"COMBO"`` for
    old-style lists; ``options`` the declared options as the server sent them, unchecked.
    """

    name: str
    type: str
    options: Mapping[str, Any]
    required: bool

    @property
    def choices(self) -> tuple[Any, ...] | None:
        """What a combo offers, in order; ``None`` for other types and for combos filled at run time."""
        if self.type == DYNAMIC_COMBO:
            return tuple(self.dynamic_options)
        if self.type != "COMBO" or isinstance(self.options.get("remote"), Mapping):
            return None
        offered = self.options.get("options")
        return tuple(offered) if isinstance(offered, list | tuple) else None

    @property
    def dynamic_options(self) -> dict[str, Mapping[str, Any]]:
        """Of a dynamic combo: option key → its own ``{"required": …, "optional": …}`` inputs."""
        offered = self.options.get("options")
        found: dict[str, Mapping[str, Any]] = {}
        for option in offered if isinstance(offered, list) else ():
            if isinstance(option, Mapping) and isinstance(option.get("key"), str):
                inputs = option.get("inputs")
                found[option["key"]] = inputs if isinstance(inputs, Mapping) else {}
        return found

    @property
    def default(self) -> Any:
        """The declared default, or ``None``."""
        return self.options.get("default")

    @property
    def min(self) -> float | int | None:
        """The smallest number allowed, if declared."""
        return _number(self.options.get("min"))

    @property
    def max(self) -> float | int | None:
        """The largest number allowed, if declared."""
        return _number(self.options.get("max"))

    @property
    def step(self) -> float | int | None:
        """The step of the page's number field, if declared."""
        return _number(self.options.get("step"))

    @property
    def multi_select(self) -> bool:
        """Whether a combo takes a list of its choices."""
        return bool(self.options.get("multi_select")) or bool(self.options.get("multiselect"))

    @property
    def is_value(self) -> bool:
        """Whether the page shows a field for it (a widget), rather than only a socket for a link."""
        if self.options.get("forceInput") or (self.options.get("defaultInput") and not self.required):
            return False
        return str(self.options.get("widgetType", self.type)) in _VALUE_TYPES

    @property
    def is_seed(self) -> bool:
        """Whether the page changes it after each run (``control_after_generate``), as it does with seeds.

        Without the option, the page does so for integers named exactly ``seed`` or ``noise_seed``.
        """
        if self.type != "INT" or not self.is_value:
            return False
        if "control_after_generate" in self.options:
            return bool(self.options["control_after_generate"])
        return self.name in {"seed", "noise_seed"}

    @property
    def upload(self) -> str | None:
        """``"image"``, ``"video"``, ``"audio"`` or ``"file"`` if its value names an uploaded file, else ``None``."""
        for option, kind in _UPLOAD_KINDS.items():
            if self.options.get(option) is True:
                return kind
        return None


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One declared output of a node."""

    name: str
    type: str
    is_list: bool


@dataclass(frozen=True)
class NodeSpec:
    """One node class. ``raw`` is its definition as the server sent it, unchecked."""

    name: str
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def display_name(self) -> str:
        """The name that the page shows, the class name if the server gives none."""
        shown = self.raw.get("display_name")
        return shown if isinstance(shown, str) and shown else self.name

    @property
    def category(self) -> str:
        """Where the page's menu lists it, ``"a/b"``."""
        return str(self.raw.get("category") or "")

    @property
    def is_output(self) -> bool:
        """Whether it produces outputs: a prompt needs at least one such node."""
        return self.raw.get("output_node") is True

    @property
    def is_api_node(self) -> bool:
        """Whether it calls a paid service outside the instance."""
        return self.raw.get("api_node") is True

    @property
    def is_input_list(self) -> bool:
        """Whether it takes whole lists at once."""
        return self.raw.get("is_input_list") is True

    @cached_property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The declared inputs, required before optional, in declaration order; dynamic ones not expanded."""
        return tuple(_read_inputs(self.raw.get("input"), ""))

    @cached_property
    def hidden(self) -> tuple[str, ...]:
        """Names of the inputs that the server fills in itself."""
        section = self.raw.get("input")
        hidden = section.get("hidden") if isinstance(section, Mapping) else None
        return tuple(hidden) if isinstance(hidden, Mapping) else ()

    @cached_property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """The declared outputs, in slot order. A list as type (an old combo output) reads as ``"COMBO"``."""
        types = self.raw.get("output")
        names, lists = self.raw.get("output_name"), self.raw.get("output_is_list")
        found = []
        for index, kind in enumerate(types if isinstance(types, list | tuple) else ()):
            shown = kind if isinstance(kind, str) else "COMBO"
            name = names[index] if isinstance(names, list) and index < len(names) else shown
            is_list = isinstance(lists, list) and index < len(lists) and lists[index] is True
            found.append(OutputSpec(str(name), shown, is_list))
        return tuple(found)

    def live_inputs(self, values: Mapping[str, Any]) -> Iterator[InputSpec]:
        """The inputs that exist for these values: dynamic combos, groups and autogrow lists expanded, recursively.

        Args:
            values: A prompt node's ``inputs``. The dynamic combos' values in it choose their children; the names in it
                decide how far an autogrow list reaches (never below its minimum).

        Yields:
            Specs with their full dotted names. A dynamic combo is followed by the children of its chosen option.
        """
        for spec in self.inputs:
            yield from _expand(spec, values)


class Catalog(Mapping[str, NodeSpec]):
    """Node definitions by class name.

    ``catalog["KSampler"]`` gives a `NodeSpec` and raises `KeyError` for a class that the catalog lacks.
    ``version`` is the ComfyUI release it came from, if known; ``source`` says where it came from, for messages.
    """

    def __init__(self, definitions: Mapping[str, Any], *, version: str | None = None, source: str = "catalog") -> None:
        self._definitions = definitions
        self._specs: dict[str, NodeSpec] = {}
        self.derived: dict[Any, Any] = {}
        """What others worked out from these definitions, kept as long as the catalog: definitions never change."""
        self.version = version
        self.source = source
        self._origin: Catalog | None = None

    def named(self, source: str) -> Catalog:
        """The same definitions under another ``source``, and all that is worked out from them, without a copy."""
        same = Catalog(self._definitions, version=self.version, source=source)
        same._specs, same.derived, same._origin = self._specs, self.derived, self
        return same

    @classmethod
    def parse(cls, data: str | bytes, *, version: str | None = None, source: str = "catalog") -> Self:
        """Read the JSON text of ``GET /object_info``, gzip-compressed or not; also what ``nodes snapshot`` writes.

        Raises:
            CatalogError: It is not JSON, or not an object of node definitions.
        """
        if isinstance(data, bytes) and data[:2] == b"\x1f\x8b":
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError, ValueError) as error:
                raise CatalogError(f"{source}: damaged gzip data: {error}") from None
        try:
            document = _json.loads(data)
        except _json.JSONError as error:
            raise CatalogError(f"{source}: not a catalog: not JSON ({error})") from None
        if isinstance(document, dict) and isinstance(document.get("nodes"), dict) and "comfyui_version" in document:
            version = version or str(document["comfyui_version"])
            document = document["nodes"]
        return cls.from_json(document, version=version, source=source)

    @classmethod
    def from_json(cls, document: Any, *, version: str | None = None, source: str = "catalog") -> Self:
        """Take the parsed JSON of ``GET /object_info``.

        Raises:
            CatalogError: It is not an object of node definitions.
        """
        hint = (
            'a catalog is what GET /object_info answers, {class: {"input": …}}: `comfyclient nodes snapshot` makes one'
        )
        if not isinstance(document, dict) or not document:
            raise CatalogError(f"{source}: not a catalog", hint=hint)
        for name, definition in document.items():
            if not isinstance(definition, dict) or "input" not in definition:
                raise CatalogError(f"{source}: not a catalog: {name!r} is no node definition", hint=hint)
        return cls(document, version=version, source=source)

    @classmethod
    def bundled(cls) -> Self:
        """The core nodes of ComfyUI `BUNDLED_VERSION`, for work without an instance."""
        resource = importlib.resources.files("comfyclient") / "data" / f"catalog-{BUNDLED_VERSION}.json.gz"
        return cls.parse(resource.read_bytes(), source=f"bundled catalog of ComfyUI {BUNDLED_VERSION}")

    def __getitem__(self, class_type: str) -> NodeSpec:
        spec = self._specs.get(class_type)
        if spec is None:
            raw = self._definitions[class_type]
            spec = self._specs[class_type] = NodeSpec(class_type, raw if isinstance(raw, Mapping) else {})
        return spec

    def __contains__(self, class_type: object) -> bool:
        return class_type in self._definitions

    def __iter__(self) -> Iterator[str]:
        return iter(self._definitions)

    def __len__(self) -> int:
        return len(self._definitions)

    def __repr__(self) -> str:
        version = f" of ComfyUI {self.version}" if self.version else ""
        return f"<Catalog{version}: {len(self)} nodes>"

    def to_json(self) -> dict[str, Any]:
        """The definitions as the server sent them, by class name."""
        return dict(self._definitions)


def _number(value: Any) -> float | int | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _read_inputs(section: Any, prefix: str) -> Iterator[InputSpec]:
    if not isinstance(section, Mapping):
        return
    for kind in ("required", "optional"):
        declared = section.get(kind)
        for name, spec in declared.items() if isinstance(declared, Mapping) else ():
            found = _read_input(prefix + str(name), spec, required=kind == "required")
            if found is not None:
                yield found


def _read_input(name: str, spec: Any, *, required: bool) -> InputSpec | None:
    if not isinstance(spec, list | tuple) or not spec:
        return None
    kind = spec[0]
    options = dict(spec[1]) if len(spec) > 1 and isinstance(spec[1], Mapping) else {}
    if isinstance(kind, list | tuple):
        options["options"] = list(kind)
        kind = "COMBO"
    return InputSpec(name, str(kind), options, required)


def _expand(spec: InputSpec, values: Mapping[str, Any]) -> Iterator[InputSpec]:
    if spec.type == AUTOGROW:
        yield from _expand_autogrow(spec, values)
        return
    if spec.type == DYNAMIC_GROUP:
        yield from _expand_group(spec, values)
        return
    yield spec
    if spec.type == DYNAMIC_COMBO:
        chosen = values.get(spec.name)
        children = spec.dynamic_options.get(chosen) if isinstance(chosen, str) else None
        for child in _read_inputs(children, f"{spec.name}."):
            yield from _expand(child, values)


def _expand_autogrow(spec: InputSpec, values: Mapping[str, Any]) -> Iterator[InputSpec]:
    template = spec.options.get("template")
    if not isinstance(template, Mapping):
        return
    declared = list(_read_inputs(template.get("input"), ""))
    names = template.get("names")
    least = template.get("min", 1)
    least = least if isinstance(least, int) else 1
    for child in declared:
        if isinstance(names, list):
            slots = [str(name) for name in names]
        else:
            prefix = str(template.get("prefix", "")) if len(declared) == 1 else child.name
            most = template.get("max", 100)
            count = min(most, MOST_GROUPS) if isinstance(most, int) else 100
            slots = [f"{prefix}{index}" for index in range(count)]
        for index, slot in enumerate(slots):
            name = f"{spec.name}.{slot}"
            if index < least or name in values:
                required = spec.required and child.required and index < least
                yield from _expand(InputSpec(name, child.type, child.options, required), values)


def _expand_group(spec: InputSpec, values: Mapping[str, Any]) -> Iterator[InputSpec]:
    template = spec.options.get("template")
    section = template if isinstance(template, Mapping) else spec.options
    rows = {key[len(spec.name) + 1 :].split(".", 1)[0] for key in values if key.startswith(f"{spec.name}.")}
    for row in sorted((row for row in rows if row.isdecimal()), key=int):
        for child in _read_inputs(section.get("input", section), f"{spec.name}.{row}."):
            yield from _expand(child, values)
