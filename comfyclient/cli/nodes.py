"""``comfyclient nodes``: list, show, snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from comfyclient.cli.login_options import LoginOptions, login_options
from comfyclient.cli.options import CatalogSource, catalog_options, common_options, execute, json_option, url_option
from comfyclient.cli.sections import SectionCommand

__all__ = ["ListOptions", "ShowOptions", "SnapshotOptions", "command"]

_HELP: Final = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What ``nodes list`` is told."""

    source: CatalogSource
    pattern: str | None


@dataclass(frozen=True, slots=True)
class ShowOptions:
    """What ``nodes show`` is told."""

    source: CatalogSource
    name: str


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """What ``nodes snapshot`` is told."""

    source: CatalogSource
    output: Path | None


@click.group(
    short_help="Look up node classes, or take a snapshot of an instance's.",
    context_settings=_HELP,
    invoke_without_command=True,
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Look up node classes, or take a snapshot of an instance's."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("list", short_help="List node classes.", context_settings=_HELP, cls=SectionCommand)
@click.argument("pattern", required=False)
@catalog_options
@login_options
@json_option
@common_options
def list_nodes(pattern: str | None, url: str | None, catalog: Path | None, offline: bool, login: LoginOptions) -> int:
    """List node classes; with PATTERN those whose class, name or category contains it, or fits it (Load*)."""
    return execute("nodes_run:list_nodes", ListOptions(CatalogSource.of(url, catalog, offline, login), pattern))


@command.command(
    "show", short_help="Show a node class: its inputs and outputs.", context_settings=_HELP, cls=SectionCommand
)
@click.argument("name", metavar="CLASS")
@catalog_options
@login_options
@json_option
@common_options
def show(name: str, url: str | None, catalog: Path | None, offline: bool, login: LoginOptions) -> int:
    """Show a node class: its inputs with types, defaults, ranges and choices, and its outputs."""
    return execute("nodes_run:show", ShowOptions(CatalogSource.of(url, catalog, offline, login), name))


@command.command(
    "snapshot", short_help="Save an instance's node definitions.", context_settings=_HELP, cls=SectionCommand
)
@url_option
@login_options
@click.option(
    "--catalog", metavar="FILE", type=click.Path(path_type=Path), help="Make it from this file: object_info.json."
)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path),
    help="Write it to this file; .gz compresses it. Default: stdout.",
)  # fmt: skip
@common_options
def snapshot(url: str | None, login: LoginOptions, catalog: Path | None, output: Path | None) -> int:
    """Save an instance's node definitions, so that workflows can be converted without it: convert --catalog FILE.

    Names, types, defaults, ranges and choices are kept; descriptions are not.
    """
    source = CatalogSource.of(url, catalog, offline=False, login=login)
    return execute("nodes_run:snapshot", SnapshotOptions(source, output))
