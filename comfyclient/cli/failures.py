"""How a run that fails ends: one line on stderr, JSON on stdout if that was asked for, and an exit code.

====  =========================================================================================
code  means
====  =========================================================================================
0     every job succeeded
1     a job failed or was cancelled while running
2     wrong usage
3     the workflow cannot be read or converted, or the server refused it; nothing was queued
4     login failed
5     the instance cannot be reached, or does not speak ComfyUI's protocol
6     the outcome is unknown: lost, or the deadline passed
7     outputs could not be fetched or written
70    comfyclient itself is at fault
130   stopped with Ctrl-C
141   whoever read the output went away
====  =========================================================================================
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from comfyclient._redact import redact_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfyclient.cli.app import App
    from comfyclient.errors import ComfyClientError

__all__ = ["BROKEN_PIPE", "INTERNAL", "STOPPED", "USAGE", "describe", "report", "show_error", "show_stopped"]

USAGE: Final = 2
UNWRITABLE: Final = 7
INTERNAL: Final = 70
_SECRET_IN_URL: Final = re.compile(r"(://)[^\s@]*(?=@)|(?<=[?&]token=)[^\s&')]+")
_TRACEBACK: Final = 1000  # lines
STOPPED: Final = 130
BROKEN_PIPE: Final = 141


def show_error(app: App, error: ComfyClientError, *, prefix: str = "") -> None:
    """Tell people of an error that does not end the run. ``prefix`` says what it is about."""
    app.tell(f"error: {prefix}{error}")
    if error.hint:
        app.tell(f"hint: {error.hint}")


def report(app: App, error: BaseException, arguments: Sequence[str]) -> int:
    """Tell people, and programs that asked for JSON, what ended the run.

    Args:
        app: Where to tell it.
        error: What ended it.
        arguments: The command line: if it could not be read, what was asked for must be guessed from it.

    Returns:
        The exit code.
    """
    if app.debug or "--debug" in arguments:
        _print_traceback(app, error)
    if isinstance(error, BrokenPipeError):
        _silence_stdout(app)
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt | click.Abort):
        # Nothing is under way: run_async sees to signals while it is. One more must not break into the last words.
        if app.owns_process:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        command = next((word for word in arguments if not word.startswith("-")), "")
        show_stopped(app, "stopped; nothing was queued" if command == "queue" else "stopped", arguments)
        return STOPPED
    body, code = describe(error, arguments)
    app.tell(f"error: {body['message_for_people']}")
    if "hint" in body:
        app.tell(f"hint: {body['hint']}")
    del body["message_for_people"]
    _print_json(app, body, arguments)
    return code


def show_stopped(app: App, message: str, arguments: Sequence[str] = ()) -> None:
    """Tell people, and programs that asked for JSON, that the run was stopped by a signal."""
    app.tell(message)
    _print_json(app, {"code": "stopped", "message": message}, arguments)


def describe(error: BaseException, arguments: Sequence[str] = ()) -> tuple[dict[str, Any], int]:
    """An error as data, with ``message_for_people``, and its exit code."""
    from comfyclient.errors import ComfyClientError

    if isinstance(error, ComfyClientError):
        return {**error.to_json(), "message_for_people": str(error)}, error.exit_code
    if isinstance(error, click.ClickException):
        return _usage(error, arguments), USAGE
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # click's own output: help, completion
        text = "cannot write to stdout: no space left on device"
        return {"code": "transfer_failed", "message": text, "message_for_people": text}, UNWRITABLE
    text = f"comfyclient failed unexpectedly: {type(error).__name__}: {error}".rstrip(": ")
    hint = "this is a fault of comfyclient: please report it, with what --debug shows"
    return {"code": "internal_error", "message": text, "hint": hint, "message_for_people": text}, INTERNAL


def _usage(error: click.ClickException, arguments: Sequence[str]) -> dict[str, Any]:
    text = _SECRET_IN_URL.sub(r"\1***", error.format_message().rstrip("."))
    text = text[:1].lower() + text[1:]
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context is not None else "comfyclient"
    body = {"code": "usage", "message": text, "message_for_people": text}
    if "--help" not in arguments:
        body["hint"] = f"{path} --help tells how it is used"
    return body


def _print_json(app: App, body: dict[str, Any], arguments: Sequence[str]) -> None:
    body = redact_json(body)
    try:
        if app.events or "--events" in arguments:
            app.print_event({"event": "error", "error": body})
        elif app.json or "--json" in arguments:
            app.print_json({"error": body})
        app.flush()
    except BrokenPipeError:
        _silence_stdout(app)
    except Exception as error:
        from comfyclient.errors import ComfyClientError

        # The error itself may be that stdout cannot be written; it was told on stderr.
        if not isinstance(error, ComfyClientError):
            raise
        _silence_stdout(app)


def _silence_stdout(app: App) -> None:
    """What still waits to be written must not fail a second time when the interpreter ends."""
    if app.stdout is sys.stdout:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _print_traceback(app: App, error: BaseException) -> None:
    import traceback

    app.tell("".join(traceback.format_exception(error)).rstrip(), _TRACEBACK)
