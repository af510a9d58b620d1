"""An emulator in a thread of its own, for code that has no event loop or must not share one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from comfyclient.emulator.server import Emulator

__all__ = ["run_in_background"]


@contextlib.contextmanager
def run_in_background(emulator: Emulator | None = None) -> Iterator[Emulator]:
    """Run an emulator (a new one by default) until the ``with`` ends.

    Raises:
        OSError: It could not start.
    """
    found = emulator or Emulator()
    started, stop = threading.Event(), asyncio.Event()
    trouble: list[BaseException] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        try:
            async with found:
                started.set()
                await stop.wait()
        except BaseException as error:
            trouble.append(error)
            started.set()
            raise

    def body() -> None:
        with contextlib.suppress(Exception):  # kept in `trouble`, raised in the caller's thread
            asyncio.run(run())

    thread = threading.Thread(target=body, name="comfyclient emulator", daemon=True)
    thread.start()
    started.wait()
    if trouble:
        thread.join()
        raise trouble[0]
    try:
        yield found
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()
        if trouble:
            raise trouble[0]
