"""The command ``comfyclient``: which commands there are, and how a run begins and ends.

Importing this must stay cheap: help and version cost little more than click itself. Each command's module is
imported when that command is called, and what a command needs to run, when it runs.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from comfyclient import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfyclient.cli.app import App

__all__ = ["COMMANDS", "Process", "cli", "main"]


class _Entry(NamedTuple):
    module: str
    help: str


COMMANDS: Final = {
    "queue": _Entry("queue", "Run a workflow on an instance and bring its outputs home."),
    "convert": _Entry("convert", "Turn saved workflows into prompts (API format)."),
    "inputs": _Entry("inputs", "Show what can be set in a workflow."),
    "jobs": _Entry("jobs", "See, follow, cancel, fetch and resume jobs."),
    "nodes": _Entry("nodes", "Look up node classes, or take a snapshot of an instance's."),
    "info": _Entry("info", "Ask an instance what it is and what it is doing."),
    "login": _Entry("login", "Log in at an instance, and keep the login."),
    "logout": _Entry("logout", "Forget the login at an instance."),
    "instances": _Entry("instances", "List the instances that you are logged in to."),
    "doctor": _Entry("doctor", "Find out what is wrong between here and an instance."),
    "emulator": _Entry("emulator", "Serve an emulated ComfyUI that runs anywhere."),
    "serve": _Entry("serve", "Serve a REST API for other programs."),
    "completion": _Entry("completion", "Print the script that completes commands in a shell."),
}
"""Command → its module and its short help, the same as the command's own, so that help imports no command."""


class _LazyGroup(click.Group):
    """The commands of `COMMANDS`, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = importlib.import_module(f"comfyclient.cli.{entry.module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"there is no command {args[0]!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


class Process:
    """One run of the command; what it may touch of the world is made when a command asks for it."""

    def __init__(self, app: App | None) -> None:
        self._app = app

    @property
    def app(self) -> App:
        """The application."""
        if self._app is None:
            from comfyclient.cli.app import App

            self._app = App.of_process()
        return self._app

    def flush(self) -> None:
        """Send what was written, if anything could have been."""
        if self._app is not None:
            self._app.flush()


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.obj, Process):
        ctx.obj.app.debug = True


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"comfyclient {__version__}")
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version."
)
@click.option("--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show tracebacks of errors.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run ComfyUI workflows on machines elsewhere, without a browser.

    Try it without any server: comfyclient queue WORKFLOW --emulator
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None, app: App | None = None) -> int:
    """Run one command.

    Args:
        args: What follows the command's name; by default the process's own arguments.
        app: What the command may touch of the world; by default the process's own.

    Returns:
        The exit code; see `comfyclient.cli.failures`.
    """
    arguments = sys.argv[1:] if args is None else list(args)
    process = Process(app)
    try:
        code: Any = cli.main(arguments, prog_name="comfyclient", standalone_mode=False, obj=process)
        process.flush()
    except SystemExit:  # click's own, after it served a shell's completion
        raise
    except BaseException as error:  # noqa: BLE001 - the border: every end becomes a message and a code
        from comfyclient.cli.failures import report

        return report(process.app, error, arguments)
    return code if isinstance(code, int) else 0
