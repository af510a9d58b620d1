"""``comfyclient logout``."""

from __future__ import annotations

import click

from comfyclient.cli.options import common_options, execute, json_option

__all__ = ["command"]


@click.command(short_help="Forget the login at an instance.", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("url")
@json_option
@common_options
def command(url: str) -> int:
    """Forget the login at the instance URL: what login kept of it goes, from the keyring too.

    The instance is not told: a session that it has given ends there in its own time.
    """
    return execute("instances_run:logout", url)
