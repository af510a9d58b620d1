"""``comfyclient jobs``: list, show, wait, cancel, download."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from comfyclient.cli.login_options import NO_LOGIN, LoginOptions, login_options
from comfyclient.cli.options import (
    STALL_TIMEOUT,
    common_options,
    events_option,
    execute,
    json_option,
    stall_option,
    url_option,
)
from comfyclient.cli.sections import SectionCommand

__all__ = [
    "CancelOptions",
    "FollowOptions",
    "ForgetOptions",
    "ListOptions",
    "ResumeOptions",
    "ShowOptions",
    "command",
]

_HELP: Final = {"help_option_names": ["-h", "--help"]}
# Ids become part of a URL. ComfyUI's are UUIDs; old releases took others.
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What ``jobs list`` is told."""

    url: str | None
    limit: int
    login: LoginOptions = NO_LOGIN


@dataclass(frozen=True, slots=True)
class ShowOptions:
    """What ``jobs show`` is told."""

    url: str | None
    id: str
    login: LoginOptions = NO_LOGIN


@dataclass(frozen=True, slots=True)
class CancelOptions:
    """What ``jobs cancel`` is told."""

    url: str | None
    ids: tuple[str, ...]
    login: LoginOptions = NO_LOGIN


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """What ``jobs wait`` and ``jobs download`` are told. Without ``output``, nothing is fetched.

    ``stall_timeout`` is in seconds, ``None`` for never.
    """

    url: str | None
    ids: tuple[str, ...]
    timeout: float | None
    output: Path | None = None
    template: str | None = None
    overwrite: bool = False
    metadata: bool = False
    login: LoginOptions = NO_LOGIN
    stall_timeout: float | None = STALL_TIMEOUT


@dataclass(frozen=True, slots=True)
class ResumeOptions:
    """What ``jobs resume`` is told. Without ``ids``, it is all of them; without ``url``, of every instance.

    ``stall_timeout`` is in seconds, ``None`` for never.
    """

    url: str | None
    ids: tuple[str, ...]
    only_list: bool = False
    timeout: float | None = None
    login: LoginOptions = NO_LOGIN
    stall_timeout: float | None = STALL_TIMEOUT


@dataclass(frozen=True, slots=True)
class ForgetOptions:
    """What ``jobs forget`` is told."""

    url: str | None
    ids: tuple[str, ...]
    all_ended: bool = False


def _check_id(_: click.Context, param: click.Parameter, value: Any) -> Any:
    for job in (value,) if isinstance(value, str) else value:
        if not _ID.fullmatch(job):
            raise click.BadParameter(f"{job!r} is no job id; `comfyclient jobs list` shows them", param=param)
    return tuple(dict.fromkeys(value)) if isinstance(value, tuple) else value


_one_id = click.argument("id", callback=_check_id)
_ids = click.argument("ids", metavar="ID...", nargs=-1, required=True, callback=_check_id)
_some_ids = click.argument("ids", metavar="[ID]...", nargs=-1, callback=_check_id)
_timeout = click.option(
    "--timeout", metavar="SECONDS", type=click.FloatRange(min=0, min_open=True),
    help="Give up waiting after this time. The jobs go on.",
)  # fmt: skip


@click.group(
    short_help="See, follow, cancel, fetch and resume jobs.",
    context_settings=_HELP,
    invoke_without_command=True,
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """See, follow, cancel and fetch the jobs of an instance, whoever queued them; finish what this machine left undone.

    The first characters of an id will do, six or more, where only one job's id begins with them.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command(
    "list", short_help="List what runs, what waits and what has ended.", context_settings=_HELP, cls=SectionCommand
)
@url_option
@login_options
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="How many ended jobs to list.")
@json_option
@common_options
def list_jobs(url: str | None, login: LoginOptions, limit: int) -> int:
    """List the jobs of an instance: what runs, what waits, then what has ended, the newest first."""
    return execute("jobs_run:list_jobs", ListOptions(url, limit, login))


@command.command("show", short_help="Show one job.", context_settings=_HELP, cls=SectionCommand)
@_one_id
@url_option
@login_options
@json_option
@common_options
def show(id: str, url: str | None, login: LoginOptions) -> int:
    """Show one job: its state, seeds, times, outputs, or why it failed."""
    return execute("jobs_run:show", ShowOptions(url, id, login))


@command.command("wait", short_help="Wait until jobs have ended.", context_settings=_HELP, cls=SectionCommand)
@_ids
@url_option
@login_options
@_timeout
@stall_option
@json_option
@events_option
@common_options
def wait(
    ids: tuple[str, ...], url: str | None, login: LoginOptions, timeout: float | None, stall_timeout: float | None
) -> int:
    """Wait until jobs have ended. The exit code tells how, as that of queue does."""
    return execute("jobs_run:follow_jobs", FollowOptions(url, ids, timeout, login=login, stall_timeout=stall_timeout))


@command.command(
    "cancel", short_help="Take jobs off the queue, or stop them.", context_settings=_HELP, cls=SectionCommand
)
@_ids
@url_option
@login_options
@json_option
@common_options
def cancel(ids: tuple[str, ...], url: str | None, login: LoginOptions) -> int:
    """Take jobs off the queue, or stop them if they run. No other job is touched."""
    return execute("jobs_run:cancel", CancelOptions(url, ids, login))


@command.command("download", short_help="Fetch the outputs of jobs.", context_settings=_HELP, cls=SectionCommand)
@_ids
@url_option
@login_options
@click.option(
    "-o", "--output", metavar="DIR", type=click.Path(path_type=Path), default=Path("output"),
    help="Folder for the outputs, made if need be. Default: ./output.",
)  # fmt: skip
@click.option(
    "--name-template", "template", metavar="T",
    help="How to name outputs, as in {prompt_id}/{node}_{index:03}.{ext}. Default: {filename}.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace files of the same name. Default: find a free name.")
@click.option("--metadata", is_flag=True, help="Also save a JSON file with prompt, seeds, times and instance.")
@_timeout
@stall_option
@json_option
@events_option
@common_options
def download(
    ids: tuple[str, ...],
    url: str | None,
    login: LoginOptions,
    output: Path,
    template: str | None,
    overwrite: bool,
    metadata: bool,
    timeout: float | None,
    stall_timeout: float | None,
) -> int:
    """Fetch the outputs of jobs, once they have ended."""
    options = FollowOptions(url, ids, timeout, output, template, overwrite, metadata, login, stall_timeout)
    return execute("jobs_run:follow_jobs", options)


@command.command(
    "resume", short_help="Finish what interrupted runs left undone.", context_settings=_HELP, cls=SectionCommand
)
@_some_ids
@click.option("--url", metavar="URL", help="Only jobs of this instance. Default: of every instance.")
@login_options
@click.option("--list", "only_list", is_flag=True, help="Only say what there is to do.")
@_timeout
@stall_option
@json_option
@events_option
@common_options
def resume(
    ids: tuple[str, ...],
    url: str | None,
    login: LoginOptions,
    only_list: bool,
    timeout: float | None,
    stall_timeout: float | None,
) -> int:
    """Finish what runs of `comfyclient queue` left undone, after a crash, a closed laptop or a lost network.

    Each job is looked up at its instance, followed if it still waits or runs, and its missing outputs are fetched into
    the folder that was given to queue. Nothing is ever queued: what did not get that far is reported.

    Jobs that another running comfyclient looks after are left to it. The exit code is that of queue.
    """
    if login.gets_in and url is None:
        raise click.UsageError("options of a login need --url: jobs may be on several instances")
    return execute("resume_run:run", ResumeOptions(url, ids, only_list, timeout, login, stall_timeout))


@command.command("forget", short_help="Remove jobs from the journal.", context_settings=_HELP)
@_some_ids
@click.option("--url", metavar="URL", help="All jobs of this instance, for one that is gone for good.")
@click.option("--all-ended", is_flag=True, help="All of which nothing is left to do.")
@json_option
@common_options
def forget(ids: tuple[str, ...], url: str | None, all_ended: bool) -> int:
    """Remove jobs from the journal on this machine, so that `jobs resume` no longer looks for them.

    Nothing changes at the instance, and no file is removed. Jobs that have ended are forgotten after 30 days; what is
    still to be done stays until it is done, or forgotten here.
    """
    if bool(ids) + (url is not None) + all_ended != 1:
        raise click.UsageError("say which: ID..., --url URL or --all-ended")
    return execute("forget_run:run", ForgetOptions(url, ids, all_ended))
