"""``comfyclient instances``."""

from __future__ import annotations

import click

from comfyclient.cli.options import common_options, execute, json_option

__all__ = ["command"]


@click.command(
    short_help="List the instances that you are logged in to.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@json_option
@common_options
def command() -> int:
    """List the instances whose logins are kept, and where. Passwords and tokens are never shown."""
    return execute("instances_run:list_instances", None)
