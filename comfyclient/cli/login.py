"""``comfyclient login``."""

from __future__ import annotations

from dataclasses import dataclass

import click

from comfyclient.cli.login_options import LoginOptions, login_options
from comfyclient.cli.options import common_options, execute, json_option
from comfyclient.cli.sections import SectionCommand, SectionOption

__all__ = ["LogInOptions", "command"]

_BROWSER = "Browser"


@dataclass(frozen=True, slots=True)
class LogInOptions:
    """What the command line says. ``allowed_hosts``, ``headless`` and ``browser_path`` are for ``browser``."""

    url: str | None
    login: LoginOptions
    claim: bool = False
    session_only: bool = False
    browser: bool = False
    headless: bool = False
    browser_path: str | None = None
    allowed_hosts: tuple[str, ...] = ()


@click.command(
    cls=SectionCommand,
    short_help="Log in at an instance, and keep the login.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("url", required=False)
@login_options
@click.option(
    "--claim", is_flag=True, help="Set the first password of a ComfyUI-Login that has none: yours from then on."
)
@click.option("--session-only", is_flag=True, help="Keep the cookies, not the password or token.")
@click.option(
    "--browser", is_flag=True, cls=SectionOption, section=_BROWSER,
    help="Log in with a browser, and take its cookies. Without a password, you do it in its window. Needs "
    "comfyclient[browser].",
)  # fmt: skip
@click.option(
    "--headless", is_flag=True, cls=SectionOption, section=_BROWSER,
    help="Without a window. Default: if there is a password, which then is filled in.",
)  # fmt: skip
@click.option(
    "--browser-path", metavar="FILE", cls=SectionOption, section=_BROWSER,
    help="The Chromium, Chrome or Edge to use ($COMFYCLIENT_BROWSER).",
)  # fmt: skip
@click.option(
    "--allow-host", "allowed_hosts", metavar="HOST", multiple=True, cls=SectionOption, section=_BROWSER,
    help="The password is also for the login page at this host, as in single sign-on. Repeatable.",
)  # fmt: skip
@json_option
@common_options
def command(
    url: str | None,
    login: LoginOptions,
    claim: bool,
    session_only: bool,
    browser: bool,
    headless: bool,
    browser_path: str | None,
    allowed_hosts: tuple[str, ...],
) -> int:
    """Log in at the instance URL, find out how by itself, and keep the login for all other commands.

    URL may be the link with ?token= that a portal gives. What is needed is asked for, unless it is given.

    \b
      comfyclient login https://1.2.3.4:8188
      comfyclient login https://1.2.3.4:8188 --username ada --password-file pw.txt
      comfyclient login https://comfy.example.org --browser

    The login is kept in the system's keyring (with comfyclient[keyring]), else in a file that only you can read.
    """  # noqa: D301 - \b is how click is told not to wrap
    if not browser:
        given = {"--headless": headless, "--browser-path": browser_path is not None, "--allow-host": allowed_hosts}
        for name, is_given in given.items():
            if is_given:
                raise click.UsageError(f"{name} goes with --browser")
    options = LogInOptions(url, login, claim, session_only, browser, headless, browser_path, allowed_hosts)
    return execute("login_run:run", options)
