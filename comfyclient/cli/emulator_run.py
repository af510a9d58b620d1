"""What ``comfyclient emulator`` does."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from comfyclient.cli.running import run_async, temporary_folder
from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from comfyclient.cli.app import App
    from comfyclient.cli.emulator import EmulatorOptions
    from comfyclient.cli.running import Interrupts
    from comfyclient.emulator import Emulator

__all__ = ["run"]


def run(app: App, options: EmulatorOptions) -> int:
    """Serve until a signal comes.

    Raises:
        ConfigError: It cannot listen there, or the folder cannot be written.
    """

    async def serve(interrupts: Interrupts) -> int:
        with contextlib.ExitStack() as stack:
            try:
                emulator = _make(app, options, stack, interrupts)
                await emulator.start()
            except OSError as error:
                raise _cannot_start(options, error) from None
            try:
                app.print(emulator.url)
                app.flush()
                app.note("pictures that need a model are simulated; Ctrl-C stops it")
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not interrupts.count:
                    raise
            finally:
                await emulator.stop()
        return 0

    return run_async(app, serve)


def _make(app: App, options: EmulatorOptions, stack: contextlib.ExitStack, interrupts: Interrupts) -> Emulator:
    from comfyclient.emulator import Emulator

    if options.base_dir is not None:
        base_dir = app.path(options.base_dir)
    else:
        base_dir = stack.enter_context(temporary_folder(interrupts))
    return Emulator(host=options.host, port=options.port, base_dir=base_dir, step_delay=options.step_delay)


def _cannot_start(options: EmulatorOptions, error: OSError) -> ConfigError:
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    hint = "--port 0 takes a free one" if options.base_dir is None else "choose another --port or --base-dir"
    return ConfigError(f"the emulator cannot start: {reason}", hint=hint)
