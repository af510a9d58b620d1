"""A node's inputs as the server sees them while it validates and runs a prompt.

The emulator expands dynamic inputs by itself, from the raw definitions: what the server names in an error is the
definition as it stands there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from comfyclient.workflow.catalog import AUTOGROW, DYNAMIC_COMBO, NodeSpec

__all__ = ["LiveInput", "live_inputs", "output_types"]

_DYNAMIC_SLOT: Final = "COMFY_DYNAMICSLOT_V3"


@dataclass(frozen=True, slots=True)
class LiveInput:
    """One input that exists for the values at hand: ``type`` is a name, or a list of choices (old combos)."""

    name: str
    type: Any
    options: Mapping[str, Any]
    required: bool

    @property
    def config(self) -> list[Any]:
        """``[type, options]``, as errors quote it."""
        return [self.type, self.options]


def live_inputs(spec: NodeSpec, values: Mapping[str, Any]) -> dict[str, LiveInput]:
    """The inputs that exist for these values, by full dotted name. Hidden ones are left out."""
    section = spec.raw.get("input")
    return {found.name: found for found in _expand(section, values, "")}


def output_types(spec: NodeSpec) -> tuple[Any, ...]:
    """The declared output types, unchecked."""
    declared = spec.raw.get("output")
    return tuple(declared) if isinstance(declared, list) else ()


def _expand(section: Any, values: Mapping[str, Any], prefix: str) -> Iterator[LiveInput]:
    if not isinstance(section, Mapping):
        return
    for kind in ("required", "optional"):
        declared = section.get(kind)
        for name, raw in declared.items() if isinstance(declared, Mapping) else ():
            if isinstance(raw, list) and raw:
                options = raw[1] if len(raw) > 1 and isinstance(raw[1], Mapping) else {}
                yield from _expand_one(LiveInput(f"{prefix}{name}", raw[0], options, kind == "required"), values)


def _expand_one(declared: LiveInput, values: Mapping[str, Any]) -> Iterator[LiveInput]:
    if declared.type == AUTOGROW:
        yield from _expand_autogrow(declared, values)
    elif declared.type == DYNAMIC_COMBO:
        yield from _expand_combo(declared, values)
    elif declared.type == _DYNAMIC_SLOT:
        if declared.name in values:
            yield from _expand(declared.options.get("inputs"), values, f"{declared.name}.")
            yield declared
    else:
        yield declared


def _expand_combo(declared: LiveInput, values: Mapping[str, Any]) -> Iterator[LiveInput]:
    """A dynamic combo exists with the children of its chosen option; with no valid choice it does not exist."""
    options = declared.options.get("options")
    for option in options if isinstance(options, list) else ():
        if isinstance(option, Mapping) and declared.name in values and option.get("key") == values[declared.name]:
            yield from _expand(option.get("inputs"), values, f"{declared.name}.")
            yield declared
            return


def _expand_autogrow(declared: LiveInput, values: Mapping[str, Any]) -> Iterator[LiveInput]:
    """The members that are there, and those that must be; the list itself is no input."""
    template = declared.options.get("template")
    if not isinstance(template, Mapping) or not isinstance(section := template.get("input"), Mapping):
        return
    members = [(kind, raw) for kind, group in section.items() if isinstance(group, Mapping) for raw in group.values()]
    if not members:
        return
    kind, raw = members[0]
    names = template.get("names")
    if not isinstance(names, list):
        names = [f"{template.get('prefix', '')}{index}" for index in range(template.get("max", 100))]
    least = template.get("min", 1) if kind == "required" else 0
    options = raw[1] if len(raw) > 1 and isinstance(raw[1], Mapping) else {}
    for index, name in enumerate(names):
        full = f"{declared.name}.{name}"
        if index < least or full in values:
            yield from _expand_one(LiveInput(full, raw[0], options, index < least), values)
