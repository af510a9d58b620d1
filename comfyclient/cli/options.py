"""Options that several commands share, and the way from a parsed command line to its run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import click

from comfyclient.cli.login_options import NO_LOGIN, LoginOptions

if TYPE_CHECKING:
    from comfyclient.cli.app import App

__all__ = [
    "SEED",
    "STALL_TIMEOUT",
    "CatalogSource",
    "catalog_options",
    "common_options",
    "events_option",
    "execute",
    "frontend_option",
    "json_option",
    "set_option",
    "stall_option",
    "url_option",
]

STALL_TIMEOUT: Final = 600.0
"""Seconds without a move that are too many, unless the command line says otherwise."""

_F = TypeVar("_F", bound=Callable[..., Any])


def execute(run: str, options: Any) -> int:
    """Run a command with its options.

    Args:
        run: ``"module:function"`` in this package, imported only now: what a command needs to run is not needed to
            parse its options or to show its help. The function takes the application and the options.
        options: The command's options.

    Returns:
        The exit code.
    """
    app: App = click.get_current_context().obj.app
    if app.json and app.events:
        raise click.UsageError("--json and --events exclude each other")
    return app.execute(_Lazily(run), app, options)


class _Lazily:
    """A function of this package that is imported when it is called. ``name`` says which it is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, app: App, options: Any) -> int:
        import importlib

        module, _, function = self.name.partition(":")
        run: Callable[[App, Any], int] = getattr(importlib.import_module(f"comfyclient.cli.{module}"), function)
        return run(app, options)


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that stores an option's value on the application."""

    def store(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        if value and ctx.obj is not None:
            setattr(ctx.obj.app, name, value)

    return store


@dataclass(frozen=True, slots=True)
class CatalogSource:
    """Where the command line says that node definitions come from. ``login`` is for the instance, if it is one."""

    url: str | None = None
    file: Path | None = None
    offline: bool = False
    login: LoginOptions = NO_LOGIN

    @classmethod
    def of(cls, url: str | None, file: Path | None, offline: bool, login: LoginOptions = NO_LOGIN) -> Self:
        """Take the options; at most one of the first three may be given."""
        options = {"--url": url is not None, "--catalog": file is not None, "--offline": offline}
        given = [name for name, is_given in options.items() if is_given]
        if len(given) > 1:
            raise click.UsageError(f"{' and '.join(given)} exclude each other")
        if login and (file is not None or offline):
            raise click.UsageError(f"{given[0]} needs no login: it asks no instance")
        return cls(url, file, offline, login)


def common_options(command: _F) -> _F:
    """``--quiet``, ``--verbose``, ``--debug``."""
    quiet = click.option(
        "-q", "--quiet", is_flag=True, expose_value=False, callback=_remember("quiet"),
        help="Say nothing on stderr but warnings and errors.",
    )  # fmt: skip
    verbose = click.option(
        "-v", "--verbose", count=True, expose_value=False, callback=_remember("verbosity"), help="Say more on stderr."
    )
    debug = click.option(
        "--debug", is_flag=True, expose_value=False, callback=_remember("debug"), help="Show tracebacks of errors."
    )
    return quiet(verbose(debug(command)))


def json_option(command: _F) -> _F:
    """``--json``."""
    return click.option(
        "--json", is_flag=True, expose_value=False, callback=_remember("json"),
        help="Print one JSON document on stdout.",
    )(command)  # fmt: skip


def events_option(command: _F) -> _F:
    """``--events``."""
    return click.option(
        "--events", is_flag=True, expose_value=False, callback=_remember("events"),
        help="Print what happens on stdout while it happens, one JSON object a line.",
    )(command)  # fmt: skip


def url_option(command: _F) -> _F:
    """``--url``."""
    return click.option(
        "--url", metavar="URL", help="The instance. Default: $COMFYCLIENT_URL, else http://127.0.0.1:8188."
    )(command)


def stall_option(command: _F) -> _F:
    """``--stall-timeout``: seconds, or ``None`` for never."""

    def read(_: click.Context, __: click.Parameter, value: float) -> float | None:
        return value or None

    return click.option(
        "--stall-timeout", metavar="SECONDS", type=click.FloatRange(min=0), default=STALL_TIMEOUT, callback=read,
        help="Warn when nothing has moved for so long at a job that is said to run or wait; 0: never. It is still "
        "followed. Default: 600; loading a model may take minutes.",
    )(command)  # fmt: skip


def catalog_options(command: _F) -> _F:
    """``--url``, ``--catalog`` and ``--offline``: where node definitions come from."""
    url = click.option("--url", metavar="URL", help="Take the node definitions of this instance ($COMFYCLIENT_URL).")
    catalog = click.option(
        "--catalog", metavar="FILE", type=click.Path(path_type=Path), help="Take them from this file: object_info.json."
    )
    offline = click.option(
        "--offline", is_flag=True, help="Take those of ComfyUI's core that come with comfyclient (the default)."
    )
    return url(catalog(offline(command)))


def frontend_option(command: _F) -> _F:
    """``--frontend``."""
    return click.option(
        "--frontend", metavar="RELEASE",
        help="Convert as this release of the web page does, as in 1.58. Default: the instance's, else the newest.",
    )(command)  # fmt: skip


def set_option(command: _F) -> _F:
    """``--set``."""
    return click.option(
        "--set", "assignments", metavar="ADDR=VALUE", multiple=True,
        help='Set an input: 6.text="a red fox", KSampler.steps=8, 6.text=@prompt.txt, 10.image=photo.png. '
        "Repeatable. `comfyclient inputs` lists addresses. @@ is a plain @.",
    )(command)  # fmt: skip


if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # generic only in newer releases of click
    _ParamType = click.ParamType


class _Seed(_ParamType):
    name = "seed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int) or value in {"random", "keep"}:
            return value
        try:
            number = int(value)
        except ValueError:
            number = -1
        if not 0 <= number < 2**64:
            self.fail(f"{value!r} is no seed: a number from 0 to 2^64-1, random or keep", param, ctx)
        return number


SEED = _Seed()
