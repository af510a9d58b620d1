"""Work that is of use to its caller only, such as a login: it is given up if nobody waits for it any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from comfyclient.api.errors import ApiError, server_ending

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request

__all__ = ["while_awaited"]

_T = TypeVar("_T")
_LEFT: Final = 499  # as other servers call it in their logs; nobody gets that answer


async def while_awaited(
    request: Request, ending: asyncio.Event, work: Coroutine[Any, Any, _T], undo: Callable[[_T], object]
) -> _T:
    """Do it, unless the caller leaves, or the server is about to end.

    Args:
        request: Whose body was read.
        ending: Set when the server is about to end.
        work: What is to be done. It is cancelled if it is given up.
        undo: Takes it back, if it was done at the moment at which the caller left.

    Raises:
        ApiError: It was given up.
    """
    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    told = asyncio.ensure_future(ending.wait())
    try:
        await asyncio.wait({doing, leaving, told}, return_when=asyncio.FIRST_COMPLETED)
        has_left = leaving.done()
    finally:
        for task in (doing, leaving, told):
            task.cancel()
        await asyncio.gather(doing, leaving, told, return_exceptions=True)
    if doing.cancelled():
        raise ApiError(_LEFT, "caller_left", "the caller has left") if has_left else server_ending()
    if has_left and doing.exception() is None:
        undo(doing.result())
    return doing.result()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
