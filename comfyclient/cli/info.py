"""``comfyclient info``."""

from __future__ import annotations

from dataclasses import dataclass

import click

from comfyclient.cli.options import common_options, execute, json_option, url_option

__all__ = ["InfoOptions", "command"]


@dataclass(frozen=True, slots=True)
class InfoOptions:
    """What the command line says."""

    url: str | None


@click.command(
    short_help="Ask an instance what it is and what it is doing.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@url_option
@json_option
@common_options
def command(url: str | None) -> int:
    """Ask an instance what it is and what it is doing: version, devices, queue. Exit code 5: it is not ComfyUI."""
    return execute("info_run:run", InfoOptions(url))
