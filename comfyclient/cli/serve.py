"""``comfyclient serve``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from comfyclient.cli.options import common_options, execute

__all__ = ["ServeOptions", "command"]


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says. ``drain`` and ``idle`` are in seconds, ``rate`` in requests a second. No secrets."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_key_file: Path | None = None
    basic: bool = False
    allow_host: tuple[str, ...] = ()
    allow_origin: tuple[str, ...] = ()
    workflows: Path | None = None
    deny_private: bool = False
    allow_address: tuple[str, ...] = ()
    journal: bool = True
    drain: float = 10.0
    webhook_secret_file: Path | None = None
    max_sessions: int | None = None
    idle: float = 3600.0
    rate: float | None = None
    forwarded_allow_ips: str | None = None
    access_log: bool = True
    reload: bool = False


@click.command(
    short_help="Serve a REST API for other programs.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", show_default=True,
    help="Address to listen on. One that other machines can reach needs an API key.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True,
    help="Port to listen on; 0 takes a free one.",
)  # fmt: skip
@click.option(
    "--api-key-file", metavar="FILE", type=click.Path(path_type=Path),
    help="Who may use it: a key a line, or name:key. Default: $COMFYCLIENT_SERVE_API_KEY(_FILE), else none is needed.",
)  # fmt: skip
@click.option("--basic", is_flag=True, help="Take a key as the password of HTTP Basic as well.")
@click.option(
    "--allow-host", metavar="NAME", multiple=True,
    help="A name that callers know it by, as in https://NAME/. Repeatable.",
)  # fmt: skip
@click.option(
    "--allow-origin", metavar="ORIGIN", multiple=True,
    help="A web page that may call it: https://page.example. Repeatable. Default: none but its own.",
)  # fmt: skip
@click.option(
    "--workflows", metavar="DIR", type=click.Path(path_type=Path),
    help="Workflows of its own, for callers to name by their path in this folder.",
)  # fmt: skip
@click.option(
    "--deny-private",
    is_flag=True,
    help="Connect to no instance on this machine or in its network, but for those allowed.",
)
@click.option(
    "--allow-address", metavar="NET", multiple=True,
    help="An address or network (10.0.0.0/8) that it may connect to all the same. Repeatable.",
)  # fmt: skip
@click.option(
    "--journal/--no-journal", default=True, show_default=True,
    help="Remember jobs on disk, so that they survive a restart.",
)  # fmt: skip
@click.option(
    "--drain", metavar="SECONDS", type=click.FloatRange(min=0), default=10.0, show_default=True,
    help="How long unfinished jobs are waited for when it is told to end.",
)  # fmt: skip
@click.option(
    "--webhook-secret-file", metavar="FILE", type=click.Path(path_type=Path),
    help="What webhooks are signed with. Default: $COMFYCLIENT_WEBHOOK_SECRET(_FILE), else none are sent.",
)  # fmt: skip
@click.option("--max-sessions", metavar="N", type=click.IntRange(min=1), help="Sessions at a time, for each key.")
@click.option(
    "--idle", metavar="SECONDS", type=click.FloatRange(min=0), default=3600.0, show_default=True,
    help="End sessions that were not used for so long and have no unfinished jobs; 0: never.",
)  # fmt: skip
@click.option(
    "--rate", metavar="N", type=click.FloatRange(min=0, min_open=True),
    help="Requests a second in the long run, for each key.",
)  # fmt: skip
@click.option(
    "--forwarded-allow-ips", metavar="IPS",
    help="Believe the X-Forwarded-For of these proxies (with commas between) when it logs callers.",
)  # fmt: skip
@click.option(
    "--access-log/--no-access-log", default=True, show_default=True,
    help="Write a line of JSON to stderr for each request.",
)  # fmt: skip
@click.option("--reload", is_flag=True, help="For development: start anew when a file of comfyclient changes.")
@common_options
def command(**options: Any) -> int:
    """Serve a REST API until SIGTERM or Ctrl-C: other programs run workflows by HTTP, without a browser.

    Its URL goes to stdout as soon as it answers; URL/docs shows and tries its calls. It needs comfyclient[api].
    """
    return execute("serve_run:run", ServeOptions(**options))
