"""``comfyclient emulator``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from comfyclient.cli.options import common_options, execute

__all__ = ["EmulatorOptions", "command"]


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """What the command line says. ``step_delay`` is in seconds."""

    host: str
    port: int
    base_dir: Path | None
    step_delay: float


@click.command(
    short_help="Serve an emulated ComfyUI that runs anywhere.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8188,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--base-dir", metavar="DIR", type=click.Path(path_type=Path),
    help="Keep input, output, temp and user folders there. Default: a temporary folder, removed at the end.",
)  # fmt: skip
@click.option(
    "--step-delay", metavar="SECONDS", type=click.FloatRange(min=0), default=0.0,
    help="How long each step of a sampler takes. Default: 0.",
)  # fmt: skip
@common_options
def command(host: str, port: int, base_dir: Path | None, step_delay: float) -> int:
    """Serve an emulated ComfyUI until Ctrl-C: the protocol for real, pictures that need a model simulated.

    Its URL goes to stdout as soon as it listens.
    """
    return execute("emulator_run:run", EmulatorOptions(host, port, base_dir, step_delay))
