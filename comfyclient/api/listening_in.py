"""A job's events over a websocket. The caller has nothing to say there, but may leave."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from starlette.websockets import WebSocketState

from comfyclient.api.streams import events_of

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from comfyclient.api.events import EventLog

__all__ = ["send_events"]

_OVER, _GOING_AWAY = 1000, 1001


async def send_events(websocket: WebSocket, log: EventLog, after: int, closing: asyncio.Event) -> None:
    """Send each as ``{"id": number, "event": …}``, until the job's end; then close.

    Raises:
        WebSocketDisconnect: The caller has left.
    """
    sending = asyncio.ensure_future(_send(websocket, log, after, closing))
    leaving = asyncio.ensure_future(_until_left(websocket))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            return
        sending.result()
        if websocket.application_state is WebSocketState.CONNECTED:
            await websocket.close(_GOING_AWAY if closing.is_set() else _OVER)
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)


async def _send(websocket: WebSocket, log: EventLog, after: int, closing: asyncio.Event) -> None:
    async with contextlib.aclosing(events_of(log, after, closing)) as events:
        async for event in events:
            if event is not None:  # the websocket's own pings say that we are here
                number, body = event
                await websocket.send_text(json.dumps({"id": number, **body}))


async def _until_left(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
