"""``comfyclient inputs``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from comfyclient.cli.login_options import LoginOptions, login_options
from comfyclient.cli.options import (
    CatalogSource,
    catalog_options,
    common_options,
    execute,
    frontend_option,
    json_option,
)
from comfyclient.cli.sections import SectionCommand

__all__ = ["InputsOptions", "command"]


@dataclass(frozen=True, slots=True)
class InputsOptions:
    """What the command line says."""

    file: str
    source: CatalogSource
    frontend: str | None


@click.command(
    cls=SectionCommand,
    short_help="Show what can be set in a workflow.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("file")
@catalog_options
@login_options
@frontend_option
@json_option
@common_options
def command(
    file: str, url: str | None, catalog: Path | None, offline: bool, login: LoginOptions, frontend: str | None
) -> int:
    """Show what --set can set in FILE: the address of each input, its type, value, and choices or range.

    FILE is JSON, or a picture, sound or video that carries a workflow; - is stdin.
    """
    return execute("inputs_run:run", InputsOptions(file, CatalogSource.of(url, catalog, offline, login), frontend))
