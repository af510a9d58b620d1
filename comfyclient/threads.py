"""Work that blocks, done in a thread and never left there."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_thread"]

_T = TypeVar("_T")


async def in_thread(work: Callable[[], _T]) -> _T:
    """Run it in a thread, to its end even if the caller is cancelled: else its file would be closed under it."""
    context = contextvars.copy_context()  # it says for whom the work is done
    running = asyncio.get_running_loop().run_in_executor(None, lambda: context.run(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):  # once is enough, and it is passed on below
                await asyncio.wait((running,))
        if not running.cancelled():
            running.exception()  # seen
        raise
