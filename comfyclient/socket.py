"""The websocket to one instance: kept open, always drained, never believed.

A client that stops reading stalls every other client of that server, so the reader hands each frame to a
function that must not wait, and takes the next. What is lost while the socket is down, the record tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING, Any, Final

from multidict import CIMultiDict
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import Frame

from comfyclient._http import USER_AGENT
from comfyclient._redact import RedactingFilter
from comfyclient._sockets import connected
from comfyclient.auth.detect import login_wanted
from comfyclient.errors import ComfyClientError
from comfyclient.wire.messages import CLIENT_FLAGS, Status, decode, text_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.asyncio.client import ClientConnection
    from yarl import URL

    from comfyclient._http import Http

__all__ = ["EventSocket"]

_MAX_FRAME: Final = 256 * 2**20  # nodes may send whole pictures through the socket
_OPEN_TIMEOUT: Final = 10.0
_REGISTER_TIMEOUT: Final = 5.0
_PATIENCE: Final = 5.0  # for the first attempt: some proxies swallow handshakes, and jobs can do without
_BACKOFF_FIRST, _BACKOFF_MOST = 0.5, 30.0
_REFUSED_FIRST: Final = 5.0  # a server that answered and refused will not change its mind soon
_HEALTHY: Final = 60.0  # seconds that a connection must have lasted for the next to be tried soon


class _WithoutPayloads(logging.Filter):
    """Frames by their kind and size only: the library shortens them in the middle, and half a secret is not masked."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_named(arg) if isinstance(arg, Frame) else arg for arg in record.args)
        return True


def _named(frame: Frame) -> str:
    return f"{frame.opcode.name} [{len(frame.data)} bytes]"


# Its own level, so that a program that logs everything does not log the headers of the handshake.
_log = logging.getLogger("comfyclient.socket")
_log.setLevel(logging.INFO)
_log.addFilter(_WithoutPayloads())  # before what they say is looked at
_log.addFilter(RedactingFilter())


class _Connect(connect):
    """Redirects are answers here, not instructions: they may lead the credential to another host."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class EventSocket:
    """Keeps a socket open from `start` to `close`, reconnecting with the same client id.

    Args:
        http: The session of the instance; it knows the address and the credential.
        client_id: The address of this client's events.
        on_frame: Called with each frame. It must return at once.
        on_connection: Called with ``True`` when the server has registered the socket, with ``False`` when
            it is lost.
    """

    def __init__(
        self,
        http: Http,
        client_id: str,
        *,
        on_frame: Callable[[str | bytes], None],
        on_connection: Callable[[bool], None],
    ) -> None:
        self._http = http
        self._client_id = client_id
        self._on_frame = on_frame
        self._on_connection = on_connection
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._connection_open: ClientConnection | None = None
        self._generation, self._in_vain = 0, -1
        self._closed = False
        self._registered_at = 0.0
        self.connected = False
        self.error: str | None = None

    async def start(self) -> bool:
        """Open the socket if it is not, and wait until the first attempt has come to something.

        Returns:
            Whether events arrive. If not, the attempts go on in the background, unless it was closed.
        """
        if self._closed:
            return False
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="comfyclient-socket")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._settled.wait()
        return self.connected

    async def close(self) -> None:
        """Close the socket and end the attempts."""
        self._closed = True
        self._settled.set()  # for those who wait in `start`
        task = self._task
        if task is not None:
            if not task.cancelling():  # else an earlier call was cancelled, and this one waits for the same end
                task.cancel()
            await asyncio.wait({task})

    def reconnect(self) -> None:
        """Drop the connection that is open, if any; the next attempt follows."""
        if self._connection_open is not None:
            self._connection_open.transport.abort()

    async def _run(self) -> None:
        failures = 0
        try:
            while True:
                try:
                    refused = await self._connection()
                except Exception as error:  # noqa: BLE001 - an answer nobody thought of must not end the attempts
                    self.error, refused = _explain(error), True
                lasted = self.connected and asyncio.get_running_loop().time() - self._registered_at >= _HEALTHY
                failures = 0 if lasted else failures + 1
                self._set_connected(up=False)
                await asyncio.sleep(_delay(failures, _REFUSED_FIRST if refused else _BACKOFF_FIRST))
        finally:
            self._set_connected(up=False)

    async def _connection(self) -> bool:
        """One connection from its handshake to its end. Returns whether the server refused it."""
        try:
            async with await self._connect() as connection:
                self._connection_open = connection
                self._absorb(connection)
                await self._serve(connection)
            self.error = "the server closed the websocket"
        except Exception as error:  # noqa: BLE001 - whatever it is, jobs can do without the socket
            self.error = _explain(error)
            if isinstance(error, InvalidStatus):
                return not await self._renewed(error)
            return not isinstance(error, WebSocketException | OSError)
        finally:
            self._connection_open = None
        return False

    def _absorb(self, connection: ClientConnection) -> None:
        """Some logins change their cookie with any answer, the one to the handshake too."""
        if connection.response is not None:
            headers = CIMultiDict(connection.response.headers.raw_items())
            self._http.session.absorb(self._http.url("/ws"), headers, self._generation)

    async def _renewed(self, refusal: InvalidStatus) -> bool:
        """Log in anew, if that is what the refusal of a handshake asks for. Returns whether that was done."""
        session, response = self._http.session, refusal.response
        if self._generation == self._in_vain or not session.active:
            return False
        if not login_wanted(self._http.url("/ws"), response.status_code, CIMultiDict(response.headers.raw_items())):
            return False
        try:
            renewed = await session.renew(self._generation)
        except ComfyClientError as error:
            self.error = str(error)
            return False
        if not renewed:
            return False
        self._in_vain = session.generation  # if that is refused as well, another login will not help
        return True

    async def _connect(self) -> connect:
        session = self._http.session
        self._generation = await session.enter()
        url = self._http.url("/ws")
        secure = url.scheme == "https"
        query = {**session.socket_query(url), "clientId": self._client_id}
        headers = {name: _as_sent(value) for name, value in session.headers(url).items()}
        checked = await self._checked(url)  # nothing may fail between here and who closes it
        return _Connect(
            str(url.with_scheme("wss" if secure else "ws").with_query(query)),
            additional_headers=headers,
            ssl=(self._http.tls_context or True) if secure else None,
            user_agent_header=USER_AGENT,
            compression=None,  # the server would spend its event loop on it
            max_size=_MAX_FRAME,
            open_timeout=_OPEN_TIMEOUT,
            ping_interval=15,  # the server sends none itself
            ping_timeout=60,  # a node that loads a model may hold up the whole server
            close_timeout=1,
            proxy=True if self._http.trust_env else None,
            logger=_log,
            **checked,
        )

    async def _checked(self, url: URL) -> dict[str, Any]:
        """The TCP connection, if there are addresses that must not be connected to."""
        if self._http.addresses is None:
            return {}
        async with asyncio.timeout(_OPEN_TIMEOUT):
            return {"sock": await connected(url.raw_host or "", url.port or 0, self._http.addresses)}

    async def _serve(self, connection: ClientConnection) -> None:
        await connection.send(text_message("feature_flags", dict(CLIENT_FLAGS)))
        async with asyncio.timeout(_REGISTER_TIMEOUT):
            while True:  # the first message with a sid says that the server knows where to send our events
                frame = await connection.recv()
                message = decode(frame)
                if isinstance(message, Status) and message.sid is not None:
                    break
        self._in_vain = -1
        self._registered_at = asyncio.get_running_loop().time()
        self._set_connected(up=True)
        on_frame = self._on_frame
        async for frame in connection:
            on_frame(frame)

    def _set_connected(self, *, up: bool) -> None:
        changed, self.connected = self.connected is not up, up
        self._settled.set()
        if changed:
            self._on_connection(up)


def _as_sent(value: str) -> str:
    """A header's value for this library, which writes Latin-1, so that the bytes are those of UTF-8, as over HTTP."""
    return value.encode("utf-8", "surrogateescape").decode("latin-1")


def _delay(failures: int, first: float) -> float:
    """Seconds to the next attempt: full jitter under a growing limit."""
    limit = min(_BACKOFF_MOST, first * 2 ** min(failures, 10))
    return random.uniform(limit / 4, limit)  # noqa: S311 - spreads attempts, hides nothing


def _explain(error: Exception) -> str:
    if isinstance(error, ComfyClientError):
        return str(error)
    if isinstance(error, InvalidStatus):
        return f"the websocket was refused with HTTP {error.response.status_code}"
    if isinstance(error, TimeoutError):
        return "the websocket was not answered in time"
    if isinstance(error, ImportError):  # a proxy of a kind that needs another package
        return f"the websocket cannot be opened: {error}"
    if isinstance(error, OSError):
        return "the websocket cannot be opened"
    return "the websocket broke" if isinstance(error, WebSocketException) else f"the websocket: {type(error).__name__}"
