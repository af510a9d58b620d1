"""What the commands of ``comfyclient nodes`` do."""

from __future__ import annotations

import difflib
import fnmatch
from typing import TYPE_CHECKING, Any

from comfyclient import _json
from comfyclient.cli.catalogs import load_definitions
from comfyclient.cli.convert_run import write_file
from comfyclient.cli.inputs_run import allowed
from comfyclient.cli.text import one_line, table
from comfyclient.errors import ConfigError
from comfyclient.workflow import snapshot as snapshots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfyclient.cli.app import App
    from comfyclient.cli.nodes import ListOptions, ShowOptions, SnapshotOptions
    from comfyclient.workflow.catalog import InputSpec, NodeSpec

__all__ = ["list_nodes", "show", "snapshot"]


def list_nodes(app: App, options: ListOptions) -> int:
    """List node classes."""
    catalog = load_definitions(app, options.source).catalog
    found = [spec for spec in catalog.values() if options.pattern is None or _fits(spec, options.pattern)]
    if app.json:
        app.print_json(
            [{"name": spec.name, "display_name": spec.display_name, "category": spec.category} for spec in found]
        )
        return 0
    if not found:
        app.note(f"no node class fits {options.pattern!r}")
        return 0
    rows = sorted((spec.name, spec.display_name, spec.category) for spec in found)
    for line in table(("CLASS", "NAME", "CATEGORY"), rows):
        app.show(line)
    return 0


def _fits(spec: NodeSpec, pattern: str) -> bool:
    wanted = pattern.casefold()
    names = [name.casefold() for name in (spec.name, spec.display_name, spec.category)]
    if any(sign in wanted for sign in "*?["):
        return any(fnmatch.fnmatchcase(name, wanted) for name in names)
    return any(wanted in name for name in names)


def show(app: App, options: ShowOptions) -> int:
    """Show a node class.

    Raises:
        ConfigError: There is none of that name.
    """
    catalog = load_definitions(app, options.source).catalog
    if options.name not in catalog:
        close = difflib.get_close_matches(options.name, catalog, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "`comfyclient nodes list` shows what there is"
        raise ConfigError(f"there is no node class {options.name!r} ({catalog.source})", hint=hint)
    spec = catalog[options.name]
    if app.json:
        app.print_json(_to_json(spec))
        return 0
    app.show(spec.name if spec.name == spec.display_name else f"{spec.name}: {spec.display_name}")
    app.show("  " + ", ".join(_traits(spec)))
    _show_table(app, ("INPUT", "TYPE", "NEEDED", "DEFAULT", "ALLOWED"), [_input_row(found) for found in spec.inputs])
    outputs = [(found.name, found.type + (" (list)" if found.is_list else "")) for found in spec.outputs]
    _show_table(app, ("OUTPUT", "TYPE"), outputs)
    return 0


def _show_table(app: App, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    if rows:
        app.print("")
        for line in table(header, rows):
            app.show(f"  {line}")


def _traits(spec: NodeSpec) -> list[str]:
    traits = [spec.category or "no category"]
    if spec.is_output:
        traits.append("produces outputs")
    if spec.is_api_node:
        traits.append("calls a paid service")
    return traits


def _input_row(found: InputSpec) -> tuple[str, ...]:
    kind = found.type
    if found.upload:
        kind += f" ({found.upload} file)"
    elif found.is_seed:
        kind += " (seed)"
    default = "" if found.default is None else one_line(_text(found.default), 40)
    needed = "yes" if found.required else "no"
    return found.name, kind, needed, default, allowed(found.choices, found.min, found.max, found.step)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json.dumps(value)


def _to_json(spec: NodeSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "display_name": spec.display_name,
        "category": spec.category,
        "output_node": spec.is_output,
        "api_node": spec.is_api_node,
        "inputs": [_input_json(found) for found in spec.inputs],
        "outputs": [{"name": found.name, "type": found.type, "is_list": found.is_list} for found in spec.outputs],
    }


def _input_json(found: InputSpec) -> dict[str, Any]:
    body: dict[str, Any] = {"name": found.name, "type": found.type, "required": found.required}
    for name in ("default", "min", "max", "step", "upload"):
        value = getattr(found, name)
        if value is not None:
            body[name] = value
    if found.choices is not None:
        body["choices"] = list(found.choices)
    if found.is_seed:
        body["is_seed"] = True
    return body


def snapshot(app: App, options: SnapshotOptions) -> int:
    """Save the node definitions of an instance (or of a file)."""
    catalog = load_definitions(app, options.source, bundled=False).catalog
    if options.output is None:
        app.write(_json.dumps(snapshots.snapshot(catalog)) + "\n")
        return 0
    compress = options.output.suffix == ".gz"
    data = snapshots.snapshot_bytes(catalog) if compress else _json.dumps(snapshots.snapshot(catalog)).encode()
    write_file(app.path(options.output), data, overwrite=True)
    app.note(f"wrote {options.output}: {len(catalog)} node classes of ComfyUI {catalog.version or 'unknown'}")
    return 0
