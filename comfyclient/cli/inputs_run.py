"""What ``comfyclient inputs`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from comfyclient import _json
from comfyclient.cli.catalogs import load_definitions
from comfyclient.cli.sources import load_workflow
from comfyclient.cli.text import one_line, table
from comfyclient.workflow.convert import convert
from comfyclient.workflow.edit import list_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfyclient.cli.app import App
    from comfyclient.cli.inputs import InputsOptions
    from comfyclient.workflow.inputs import SettableInput

__all__ = ["allowed", "run"]

_SHOWN_CHOICES: Final = 6


def run(app: App, options: InputsOptions) -> int:
    """Show the inputs.

    Raises:
        WorkflowError: The file cannot be read or converted.
    """
    workflow = load_workflow(app, options.file)
    definitions = load_definitions(app, options.source)
    prompt = convert(workflow, definitions.catalog, frontend=options.frontend or definitions.frontend)
    for warning in prompt.warnings:
        app.warn(str(warning))
    inputs = list_inputs(prompt, definitions.catalog)
    if app.json:
        app.print_json([found.to_json() for found in inputs])
        return 0
    rows = [(found.address, found.title, _type(found), _value(found), _allowed(found)) for found in inputs]
    if not rows:
        app.note("nothing can be set in this workflow")
        return 0
    for line in table(("ADDRESS", "NODE", "TYPE", "VALUE", "ALLOWED"), rows):
        app.show(line)
    return 0


def _type(found: SettableInput) -> str:
    if found.upload:
        return f"{found.type} ({found.upload} file)"
    return f"{found.type} (seed)" if found.is_seed else found.type


def _value(found: SettableInput) -> str:
    if found.link is not None:
        return f"from node {found.link[0]}"
    return "" if found.value is None else one_line(_text(found.value), 48)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json.dumps(value)


def _allowed(found: SettableInput) -> str:
    return allowed(found.choices, found.min, found.max, found.step if found.type in {"INT", "FLOAT"} else None)


def allowed(choices: Sequence[Any] | None, least: float | None, most: float | None, step: float | None = None) -> str:
    """Choices or range in one line."""
    if choices is not None:
        shown = ", ".join(one_line(_text(choice), 40) for choice in choices[:_SHOWN_CHOICES])
        return shown if len(choices) <= _SHOWN_CHOICES else f"{shown}, … ({len(choices)} in all)"
    parts = []
    if least is not None or most is not None:
        parts.append(f"{_number(least)} to {_number(most)}".strip())
    if step is not None and step != 1:
        parts.append(f"step {step:g}")
    return ", ".join(parts)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.16g}"
