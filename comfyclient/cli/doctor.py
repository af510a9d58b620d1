"""``comfyclient doctor``."""

from __future__ import annotations

from dataclasses import dataclass

import click

from comfyclient.cli.login_options import NO_LOGIN, LoginOptions, login_options
from comfyclient.cli.options import common_options, execute, json_option
from comfyclient.cli.sections import SectionCommand

__all__ = ["DoctorOptions", "command"]


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What the command line says."""

    url: str | None
    login: LoginOptions = NO_LOGIN


@click.command(
    cls=SectionCommand,
    short_help="Find out what is wrong between here and an instance.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("url", required=False)
@login_options
@json_option
@common_options
def command(url: str | None, login: LoginOptions) -> int:
    """Check the way to the instance URL step by step, and say at each what to do if it fails.

    Address, name, connection, certificate, scheme, whether ComfyUI is up, login, version, websocket, clock, limits,
    users. Exit code 0: nothing failed, though there may be warnings; 4: the login failed; 5: something else did.
    """
    return execute("doctor_run:run", DoctorOptions(url, login))
