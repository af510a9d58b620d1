"""``comfyclient info``."""

from __future__ import annotations

from dataclasses import dataclass

import click

from comfyclient.cli.login_options import NO_LOGIN, LoginOptions, login_options
from comfyclient.cli.options import common_options, execute, json_option, url_option
from comfyclient.cli.sections import SectionCommand

__all__ = ["InfoOptions", "command"]


@dataclass(frozen=True, slots=True)
class InfoOptions:
    """What the command line says."""

    url: str | None
    login: LoginOptions = NO_LOGIN


@click.command(
    cls=SectionCommand,
    short_help="Ask an instance what it is and what it is doing.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@url_option
@login_options
@json_option
@common_options
def command(url: str | None, login: LoginOptions) -> int:
    """Ask an instance what it is and what it is doing: version, devices, queue. Exit code 5: it is not ComfyUI."""
    return execute("info_run:run", InfoOptions(url, login))
