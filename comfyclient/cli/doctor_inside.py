"""Checks of ``comfyclient doctor`` behind the login: version, clock, websocket, limits, users."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import re
import uuid
from typing import TYPE_CHECKING, Any, Final

from comfyclient.cli.text import count, duration, one_line, size
from comfyclient.errors import ComfyClientError
from comfyclient.socket import EventSocket
from comfyclient.wire.answers import SystemInfo
from comfyclient.wire.messages import FeatureFlags, decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from comfyclient._http import Http
    from comfyclient._transport import Reply
    from comfyclient.cli.app import App
    from comfyclient.cli.checks import Findings

__all__ = ["check_all"]

_OLDEST: Final = (0, 3, 64)
_CLOCK: Final = 60.0  # seconds
_ECHO: Final = 5.0
_NAMES: Final = 10
_CAUSES: Final = {
    "400": "a proxy in between does not pass the Upgrade and Connection headers on; it must, for websockets",
    "401": "the proxy's login lets requests in, but not the websocket: it must be told to",
    "403": "a proxy in between, or ComfyUI, refuses websockets from here",
    "404": "a proxy in between passes other paths on, but not /ws",
}
_NO_ANSWER: Final = "a proxy in between may swallow websockets: look at its settings"


async def check_all(app: App, findings: Findings, http: Http, user: str | None) -> None:
    """Check them all; one that fails does not stop the others."""
    await _check_system(app, findings, http)
    await _check_socket(findings, http)
    await _check_limits(findings, http)
    await _check_users(findings, http, user)


async def _check_system(app: App, findings: Findings, http: Http) -> None:
    try:
        reply = await http.get("/system_stats")
        info = SystemInfo.from_json(reply.json())
    except ComfyClientError as error:
        findings.error("version", error)
        return
    version = f"ComfyUI {info.comfyui_version}"
    numbers = re.match(r"\D*(\d+)\.(\d+)\.(\d+)", info.comfyui_version)
    if numbers is not None and tuple(map(int, numbers.groups())) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        findings.warning("version", f"{version}; nothing older than {oldest} is tested with", "update ComfyUI there")
    else:
        findings.ok("version", version)
    _check_clock(app, findings, reply)


def _check_clock(app: App, findings: Findings, reply: Reply) -> None:
    try:
        theirs = email.utils.parsedate_to_datetime(reply.headers["Date"])
        ahead = (theirs - app.now()).total_seconds()
    except (KeyError, ValueError, TypeError, OverflowError):  # no date, none that is one, or one without a zone
        return
    if abs(ahead) <= _CLOCK:
        findings.ok("clock", "the same as here")
        return
    way = "ahead of" if ahead > 0 else "behind"
    findings.warning(
        "clock", f"{duration(abs(ahead))} {way} that of this machine", "set the wrong one: logins end by the clock"
    )


async def _check_socket(findings: Findings, http: Http) -> None:
    echo: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()

    def on_frame(frame: str | bytes) -> None:
        message = decode(frame)
        if isinstance(message, FeatureFlags) and not echo.done():
            echo.set_result(message.flags)

    events = EventSocket(http, str(uuid.uuid4()), on_frame=on_frame, on_connection=lambda _: None)
    try:
        if not await events.start():
            _say_refused(findings, events.error or "it does not open")
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(echo), _ECHO)
    finally:
        await events.close()
    findings.ok(
        "websocket", "opens" + (", and answers feature flags" if echo.done() else "; an old one, without flags")
    )


def _say_refused(findings: Findings, reason: str) -> None:
    status = re.search(r"HTTP (\d{3})", reason)
    cause = _CAUSES.get(status[1], _NO_ANSWER) if status is not None else _NO_ANSWER
    findings.warning("websocket", f"{reason}; jobs are followed by asking instead", cause)


async def _check_limits(findings: Findings, http: Http) -> None:
    try:
        reply = await http.request("GET", "/features")
    except ComfyClientError as error:
        findings.error("limits", error)
        return
    flags = reply.json_or_none() if reply.status == 200 else None
    limit = flags.get("max_upload_size") if isinstance(flags, dict) else None
    known = isinstance(limit, int) and not isinstance(limit, bool)
    uploads = f"uploads up to {size(limit)}" if known else "it does not say how large uploads may be"
    if "Cf-Ray" in reply.headers or reply.headers.get("Server", "").lower() == "cloudflare":
        findings.warning(
            "limits",
            f"{uploads}; and Cloudflare is in between: 100 MB for an upload, 100 s for an answer",
            "for more, use a way without Cloudflare: a port of the machine, or an SSH tunnel",
        )
    else:
        findings.ok("limits", uploads)


async def _check_users(findings: Findings, http: Http, user: str | None) -> None:
    try:
        reply = await http.request("GET", "/users")
    except ComfyClientError as error:
        findings.error("users", error)
        return
    body = reply.json_or_none() if reply.status == 200 else None
    users = body.get("users") if isinstance(body, dict) else None
    if not isinstance(users, dict):
        if user is not None:
            findings.warning("users", "there is only one, so --comfy-user changes nothing")
        return
    if user in users:
        findings.ok("users", f"{user} is one of {count(len(users), 'user')}")
        return
    names = ", ".join(one_line(str(name), 60) for name in list(users)[:_NAMES])
    wrong = "it has several, and a request must say whose it is" if user is None else f"it has no user {user}"
    findings.warning("users", wrong, f"give --comfy-user, one of: {names}" if users else "make a user in the web page")
