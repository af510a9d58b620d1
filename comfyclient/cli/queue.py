"""``comfyclient queue``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from comfyclient.cli.login_options import NO_LOGIN, LoginOptions, login_options
from comfyclient.cli.options import (
    SEED,
    STALL_TIMEOUT,
    common_options,
    events_option,
    execute,
    frontend_option,
    json_option,
    set_option,
    stall_option,
    url_option,
)
from comfyclient.cli.sections import SectionCommand

__all__ = ["QueueOptions", "command"]


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """What the command line says. ``timeout`` is in seconds; ``seed`` is ``None`` without ``--seed``.

    ``workflow`` is ``None`` if the credentials file of ``login`` must name it. ``fetch_later``: another command is to
    fetch the outputs. ``stall_timeout`` is in seconds, ``None`` for never.
    """

    workflow: str | None
    url: str | None
    emulator: bool
    output: Path
    assignments: tuple[str, ...]
    seed: int | Literal["random", "keep"] | None
    iterations: int
    wait: bool
    download: bool
    check: bool
    front: bool
    timeout: float | None
    metadata: bool
    template: str | None
    overwrite: bool
    frontend: str | None
    fetch_later: bool = False
    journal: bool = True
    resubmit: Literal["never", "lost"] = "never"
    stall_timeout: float | None = STALL_TIMEOUT
    login: LoginOptions = NO_LOGIN


@click.command(
    cls=SectionCommand,
    short_help="Run a workflow on an instance and bring its outputs home.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("workflow", required=False)
@url_option
@login_options
@click.option("--emulator", is_flag=True, help="Run it on an emulator made for this run: no server needed.")
@click.option(
    "-o", "--output", metavar="DIR", type=click.Path(path_type=Path), default=Path("output"),
    help="Folder for the outputs, made if need be. Default: ./output.",
)  # fmt: skip
@set_option
@click.option(
    "--seed", type=SEED, metavar="N|random|keep",
    help="Set every seed. With -n, N counts up and random draws anew. Default: what the workflow says, then what its "
    "'control after generate' says.",
)  # fmt: skip
@click.option("-n", "--iterations", type=click.IntRange(min=1), default=1, help="How many times to run it.")
@click.option(
    "--no-wait", is_flag=True, help="Queue it, print the job ids, and leave; `jobs resume` fetches the outputs."
)
@click.option("--no-download", is_flag=True, help="Wait for the end, but leave the outputs on the instance.")
@click.option("--no-check", is_flag=True, help="Send it without looking for mistakes first.")
@click.option("--front", is_flag=True, help="Queue it before all waiting jobs.")
@click.option(
    "--timeout", metavar="SECONDS", type=click.FloatRange(min=0, min_open=True),
    help="Give up waiting for the jobs after this time. They go on.",
)  # fmt: skip
@stall_option
@click.option(
    "--resubmit", type=click.Choice(["never", "lost"]), default="never",
    help="lost: if the instance no longer knows a job (it restarted, or somebody deleted the job), submit it once "
    "more, under another id. It may have run, and cost money, before. Only while this command waits. Default: never.",
)  # fmt: skip
@click.option("--metadata", is_flag=True, help="Also save a JSON file with prompt, seeds, times and instance.")
@click.option(
    "--name-template", "template", metavar="T",
    help="How to name outputs, as in {prompt_id}/{node}_{index:03}.{ext}. Default: {filename}.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace files of the same name. Default: find a free name.")
@click.option(
    "--no-journal", is_flag=True,
    help="Write down nothing of this run: `comfyclient jobs resume` cannot finish it then. So does "
    "COMFYCLIENT_JOURNAL=0.",
)  # fmt: skip
@frontend_option
@json_option
@events_option
@common_options
def command(
    workflow: str | None,
    url: str | None,
    login: LoginOptions,
    emulator: bool,
    output: Path,
    assignments: tuple[str, ...],
    seed: int | Literal["random", "keep"] | None,
    iterations: int,
    no_wait: bool,
    no_download: bool,
    no_check: bool,
    front: bool,
    timeout: float | None,
    stall_timeout: float | None,
    resubmit: Literal["never", "lost"],
    metadata: bool,
    template: str | None,
    overwrite: bool,
    no_journal: bool,
    frontend: str | None,
) -> int:
    """Run WORKFLOW on an instance and bring its outputs home.

    WORKFLOW is a file that ComfyUI saved: a workflow or a prompt as JSON, or a picture, sound or video that carries
    one; - is stdin. Files that it loads are uploaded from its own folder.

    \b
      comfyclient queue workflows/quickstart.json --emulator
      comfyclient queue wf.json --url http://127.0.0.1:8188 -o out
      comfyclient queue wf.json --set 6.text="a red fox" --seed random -n 4

    The paths of the saved files go to stdout, progress goes to stderr. Ctrl-C cancels what was queued; a second one
    leaves at once. What a run leaves unfinished, `comfyclient jobs resume` finishes.
    """  # noqa: D301 - \b is how click is told not to wrap
    if workflow is None and login.credentials_file is None:
        raise click.MissingParameter(param_hint="'WORKFLOW'", param_type="argument")
    if emulator and login:
        raise click.UsageError("--emulator needs no login: nothing stands before it")
    if emulator and url is not None:
        raise click.UsageError("--emulator and --url exclude each other")
    if emulator and no_wait:
        raise click.UsageError("--emulator and --no-wait exclude each other: the emulator ends with this command")
    if no_wait and resubmit == "lost":
        raise click.UsageError("--no-wait and --resubmit lost exclude each other: nobody would see that a job is lost")
    options = QueueOptions(
        workflow=workflow,
        url=url,
        emulator=emulator,
        output=output,
        assignments=assignments,
        seed=seed,
        iterations=iterations,
        wait=not no_wait,
        download=not (no_download or no_wait),
        fetch_later=no_wait and not no_download,
        check=not no_check,
        front=front,
        timeout=timeout,
        metadata=metadata,
        template=template,
        overwrite=overwrite,
        frontend=frontend,
        journal=not (no_journal or emulator),
        resubmit=resubmit,
        stall_timeout=stall_timeout,
        login=login,
    )
    return execute("queue_run:run", options)
