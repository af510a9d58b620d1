"""A catalog reduced to its facts: what a conversion, a check and an emulator need, without the prose.

The bundled catalog is made this way, by ``comfyclient nodes snapshot``.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any, Final

from comfyclient import _json
from comfyclient.workflow.catalog import Catalog

__all__ = ["snapshot", "snapshot_bytes"]

# Texts for people and for search. Everything else is a name, a type, a number or a choice.
_PROSE: Final = frozenset(
    {"tooltip", "description", "output_tooltips", "search_aliases", "price_badge", "essentials_category"}
)
_FALSY_BY_DEFAULT: Final = frozenset({"deprecated", "experimental", "dev_only", "api_node", "output_matchtypes"})


def snapshot(catalog: Catalog) -> dict[str, Any]:
    """The catalog as ``{"comfyui_version": str, "nodes": {class: definition}}``, which `Catalog.parse` reads back.

    Order, names, types, defaults, ranges and choices are kept; descriptions, tooltips and search words are left out.
    """
    return {
        "comfyui_version": catalog.version or "unknown",
        "nodes": {name: _definition(raw) for name, raw in catalog.to_json().items()},
    }


def snapshot_bytes(catalog: Catalog) -> bytes:
    """`snapshot` as gzip-compressed JSON; equal catalogs give equal bytes."""
    return gzip.compress(_json.dumps(snapshot(catalog)).encode(), compresslevel=9, mtime=0)


def _definition(raw: Mapping[str, Any]) -> dict[str, Any]:
    facts = {key: value for key, value in raw.items() if key not in _PROSE and (value or key not in _FALSY_BY_DEFAULT)}
    if isinstance(section := facts.get("input"), Mapping):
        facts["input"] = _inputs(section)
    return facts


def _inputs(section: Mapping[str, Any]) -> dict[str, Any]:
    """``{"required": {name: spec}, …}`` with the prose taken out of each spec."""
    found: dict[str, Any] = {}
    for kind, declared in section.items():
        if isinstance(declared, Mapping):
            found[kind] = {name: _spec(spec) for name, spec in declared.items()}
        else:
            found[kind] = declared
    return found


def _spec(spec: Any) -> Any:
    if not isinstance(spec, list) or len(spec) < 2 or not isinstance(spec[1], Mapping):
        return spec
    options = {key: value for key, value in spec[1].items() if key not in _PROSE}
    if isinstance(template := options.get("template"), Mapping):  # autogrow and dynamic groups nest their inputs here
        nested = {"input": _inputs(template["input"])} if isinstance(template.get("input"), Mapping) else {}
        options["template"] = (_inputs(template) if "required" in template else dict(template)) | nested
    if isinstance(choices := options.get("options"), list):
        options["options"] = [_choice(choice) for choice in choices]
    return [spec[0], options, *spec[2:]]


def _choice(choice: Any) -> Any:
    if isinstance(choice, Mapping) and isinstance(choice.get("inputs"), Mapping):  # an option of a dynamic combo
        return {**choice, "inputs": _inputs(choice["inputs"])}
    return choice
