"""What ``comfyclient emulator`` does."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from comfyclient.cli.running import run_async
from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from comfyclient.cli.app import App
    from comfyclient.cli.emulator import EmulatorOptions
    from comfyclient.cli.running import Interrupts

__all__ = ["run"]


def run(app: App, options: EmulatorOptions) -> int:
    """Serve until a signal comes.

    Raises:
        ConfigError: It cannot listen there, or the folder cannot be written.
    """

    async def serve(interrupts: Interrupts) -> int:
        from comfyclient.emulator import Emulator

        base_dir = app.path(options.base_dir) if options.base_dir is not None else None
        emulator = Emulator(host=options.host, port=options.port, base_dir=base_dir, step_delay=options.step_delay)
        try:
            await emulator.start()
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            hint = "--port 0 takes a free one" if base_dir is None else "choose another --port or --base-dir"
            raise ConfigError(f"the emulator cannot start: {reason}", hint=hint) from None
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
