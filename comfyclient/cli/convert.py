"""``comfyclient convert``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from comfyclient.cli.login_options import LoginOptions, login_options
from comfyclient.cli.options import (
    SEED,
    CatalogSource,
    catalog_options,
    common_options,
    execute,
    frontend_option,
    set_option,
)
from comfyclient.cli.sections import SectionCommand

__all__ = ["ConvertOptions", "command"]


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """What the command line says. ``output`` is a file, ``folder`` a folder; with neither, stdout."""

    files: tuple[str, ...]
    output: Path | None
    folder: Path | None
    overwrite: bool
    source: CatalogSource
    frontend: str | None
    assignments: tuple[str, ...]
    seed: int | Literal["random", "keep"] | None


@click.command(
    cls=SectionCommand,
    short_help="Turn saved workflows into prompts (API format).",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the prompt to this file.")
@click.option(
    "--output-dir", "folder", metavar="DIR", type=click.Path(path_type=Path),
    help="Write each prompt to a file of the workflow's name in this folder. A bad file does not stop the others.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="With --output-dir: replace files that are there.")
@catalog_options
@login_options
@frontend_option
@set_option
@click.option("--seed", type=SEED, metavar="N|random|keep", help="Set every seed. Default: keep them.")
@common_options
def command(
    files: tuple[str, ...],
    output: Path | None,
    folder: Path | None,
    overwrite: bool,
    url: str | None,
    catalog: Path | None,
    offline: bool,
    login: LoginOptions,
    frontend: str | None,
    assignments: tuple[str, ...],
    seed: int | Literal["random", "keep"] | None,
) -> int:
    """Turn each FILE, a workflow as the web page saves it, into the prompt that the page would send.

    A FILE is JSON, or a picture, sound or video that carries a workflow; - is stdin. The prompt goes to stdout,
    warnings go to stderr.
    """
    if output is not None and folder is not None:
        raise click.UsageError("--output and --output-dir exclude each other")
    if len(files) > 1 and folder is None:
        raise click.UsageError("several files need --output-dir")
    source = CatalogSource.of(url, catalog, offline, login)
    options = ConvertOptions(files, output, folder, overwrite, source, frontend, assignments, seed)
    return execute("convert_run:run", options)
