"""The door of the REST API: whoever it does not let in never reaches a route.

In this order: is the server called by a name of its own (DNS rebinding), does a page of another site send this, whose
key is it, has that owner asked too often, does the server still take work, is the body of a type that such pages cannot
send, and within its limits. What is decided is decided by pure functions; here they are put in a row.
"""

from __future__ import annotations

import functools
import re
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal

from starlette.datastructures import Headers
from starlette.responses import Response

from comfyclient.api.bodies import JsonScan, announced, brings_workflow, is_upload, media_type, wrong_media
from comfyclient.api.credentials import challenge, presented_key
from comfyclient.api.exchange import Exchange, too_large
from comfyclient.api.holding import Holding
from comfyclient.api.keys import LOCAL
from comfyclient.api.origins import accepted_hosts, cors_headers, judge_origin, normal_origin, preflight_headers
from comfyclient.api.rate import Rates, retry_after
from comfyclient.api.replies import problem
from comfyclient.wire.limits import is_dense

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from comfyclient.api.bodies import Flaw
    from comfyclient.api.holding import Held
    from comfyclient.api.settings import ApiSettings

__all__ = ["HEAD_CAP", "PUBLIC", "Guard", "is_public"]

PUBLIC: Final = frozenset({"/", "/healthz", "/readyz", "/docs", "/redoc", "/openapi.json"})
"""What may be read without a key, and everything below ``/static/``."""
HEAD_CAP: Final = 32 * 2**10
"""Bytes that the names and values of a request's headers may have together."""

_READS: Final = frozenset({"GET", "HEAD"})
_WORK: Final = re.compile(r"/session/start|/workflow/(open|queue)|/sessions|/sessions/[^/]+/jobs")
_SOON: Final = {"Retry-After": "1"}
_BODIES_EACH: Final = 6  # of one key
_BODIES_AT_ONCE: Final = 16  # as large as they may be; what is read before it is looked at is held in memory
_FIXED: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_FLAWS: Final[dict[Flaw | Literal["dense"], tuple[str, str]]] = {
    "dense": ("too_dense", "the JSON of the body is nothing but brackets, which no workflow is"),
    "too_deep": ("too_deep", "the JSON of the body is nested too deeply"),
    "too_many_fields": ("too_many_fields", "the JSON of the body has more fields than any request needs"),
    "json_constant": ("json_constant", "the body has NaN or Infinity, or is no JSON: JSON has no such numbers"),
    "not_utf8": ("json_encoding", "the JSON of the body must be UTF-8"),
}


class Guard:
    """ASGI middleware. It puts ``owner`` (of the key; ``"local"`` if there are none) and ``request_id`` into the state.

    Args:
        app: What it guards.
        settings: How the server is to be.
        port: Where the server listens, once it does.
        draining: Whether the server is about to end: no new work is taken then.
        clock: Seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ApiSettings,
        *,
        port: Callable[[], int] | int,
        draining: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._settings = settings
        self._limits = settings.limits
        self._port = port
        self._draining = draining
        self._origins = frozenset(map(normal_origin, settings.origins))
        self._rates = Rates(settings.keys.owners, rate=settings.limits.rate, burst=settings.limits.burst, clock=clock)
        most = _BODIES_AT_ONCE * settings.limits.body
        self._holding = Holding(most, _BODIES_EACH * settings.limits.body if settings.keys else most)
        self._uploading: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        upload = is_upload(scope["method"], scope["path"])
        exchange = Exchange(
            scope,
            receive,
            send,
            body=_has_body(headers),
            cap=self._cap(scope),
            seconds=self._limits.body_seconds,
            headers=_FIXED | {"X-Request-Id": _name(scope)} | self._for_page(headers),
        )
        refusal = self._refusal(scope, headers) or self._unfit(scope, headers, upload=upload)
        if refusal is not None:
            await exchange.refuse(refusal)
            return
        if not _has_body(headers):
            await exchange.run(self._app)
            return
        with self._holding.request(scope["state"].get("owner", "")) as held:
            if upload:
                await self._upload(exchange, scope, held)
            else:
                await self._with_body(exchange, scope, media_type(headers.getlist("content-type")), held)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A websocket is refused before its handshake."""
        name = _name(scope)
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        elif "websocket.http.response" in scope.get("extensions", {}):
            refusal.headers.update(_FIXED | {"X-Request-Id": name})
            await refusal(scope, receive, send)
        else:  # the server makes 403 of it
            await send({"type": "websocket.close", "code": 1008, "reason": ""})

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to who may not come in, judged by the head of the request."""
        if sum(len(name) + len(value) for name, value in headers.raw) > HEAD_CAP:
            return problem(431, "headers_too_large", f"the headers of the request are larger than {HEAD_CAP} bytes")
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts(scope):
            return problem(
                403,
                "host_refused",
                "the server does not go by the name that this request calls it",
                hint="call it localhost or by its address, with its port; or start it with --allow-host NAME",
            )
        return self._from_page(scope, headers) or self._stranger(scope, headers) or self._ending(scope)

    def _hosts(self, scope: Scope) -> frozenset[str]:
        port = self._port if isinstance(self._port, int) else self._port()
        server = scope.get("server") or ("", None)
        # The address where this connection came in, if it listens at all of them; no name can stand for that.
        return _hosts_of(self._settings.host, server[0], port, self._settings.hosts)

    def _from_page(self, scope: Scope, headers: Headers) -> Response | None:
        """What pages of other sites are told, and those that are listed and ask what they may send."""
        verdict = judge_origin(
            headers.getlist("origin"),
            fetch_site=headers.get("sec-fetch-site"),
            host=headers["host"],
            scheme=scope.get("scheme", "http"),
            listed=self._origins,
        )
        if verdict == "refused" and not _follows_link(scope, headers):
            return problem(
                403,
                "origin_refused",
                "a web page of another site sends this request",
                hint="if it is yours, start the server with --allow-origin ORIGIN",
            )
        if verdict == "listed" and scope.get("method") == "OPTIONS" and "access-control-request-method" in headers:
            return Response(status_code=204, headers=preflight_headers(headers["origin"], headers))
        return None

    def _for_page(self, headers: Headers) -> dict[str, str]:
        if not self._origins:
            return {}
        origin = headers.get("origin", "")
        return cors_headers(origin) if origin.lower() in self._origins else {"Vary": "Origin"}

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        """Whose key is it, and does that owner ask too often? All strangers together have the patience of one."""
        public = is_public(scope)
        owner, key = LOCAL, None
        if self._settings.keys:
            key = presented_key(headers, basic=self._settings.basic)
            owner = (self._settings.keys.identify(key) if key is not None else None) or ""
        if owner:
            scope["state"]["owner"] = owner
        if public:
            return None
        seconds = self._rates.take(owner or None)
        if seconds:
            return _too_early(seconds)
        return None if owner else self._no_key(refused=key is not None)

    def _no_key(self, *, refused: bool) -> Response:
        detail = "the API key is not one that this server knows" if refused else "this needs an API key"
        return problem(
            401,
            "key_refused" if refused else "key_required",
            detail,
            hint="send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            headers={"WWW-Authenticate": challenge(basic=self._settings.basic, refused=refused)},
        )

    def _ending(self, scope: Scope) -> Response | None:
        if scope.get("method") != "POST" or not _WORK.fullmatch(scope["path"].rstrip("/")) or not self._draining():
            return None
        return problem(503, "server_ending", "the server is about to end and takes no new work", headers=_SOON)

    def _unfit(self, scope: Scope, headers: Headers, *, upload: bool) -> Response | None:
        """The answer to a body that is of the wrong type, or says that it is too large."""
        if "content-length" in headers and "transfer-encoding" in headers:  # which of them a proxy goes by, none knows
            return problem(400, "request_invalid", "Content-Length and Transfer-Encoding do not go together")
        kind = media_type(headers.getlist("content-type"))
        if wrong_media(scope["method"], scope["path"], kind, body=_has_body(headers)):
            hint = "send the file with its own type, or application/octet-stream" if upload else None
            wanted = "a type that is not a web form's" if upload else "application/json"
            return problem(415, "media_type", f"the body must have the Content-Type {wanted}", hint=hint)
        try:
            size = announced(headers)
        except ValueError as error:
            return problem(400, "request_invalid", str(error))
        cap = self._cap(scope)
        return too_large(cap) if size is not None and size > cap else None

    def _cap(self, scope: Scope) -> int:
        """Bytes that the body may have."""
        method, path = scope["method"], scope["path"]
        if is_upload(method, path):
            return self._limits.upload if path.rstrip("/").endswith("/files") else self._limits.body
        if brings_workflow(method, path):
            return self._limits.body
        return min(self._limits.small_body, self._limits.body)

    async def _upload(self, exchange: Exchange, scope: Scope, held: Held) -> None:
        """Let a file through. One that goes to the disk as it comes is not held."""
        owner = scope["state"].get("owner", "")
        if self._uploading[owner] >= self._limits.uploading:
            await exchange.refuse(problem(429, "too_many", "too many uploads at a time", headers=_SOON))
            return
        self._uploading[owner] += 1
        try:
            on_disk = scope["path"].rstrip("/").endswith("/files")
            await exchange.run(self._app if on_disk else _counted(self._app, exchange, held))
        finally:
            self._uploading[owner] -= 1

    async def _with_body(self, exchange: Exchange, scope: Scope, kind: str, held: Held) -> None:
        """Read a body that is no file, look at it, and let it through."""
        parts: list[bytes] = []
        fields = None if brings_workflow(scope["method"], scope["path"]) else self._limits.fields
        scan = JsonScan(self._limits.depth, fields)
        while True:
            message = await exchange.receive()
            if message["type"] != "http.request":  # refused, or gone
                return
            part = message.get("body", b"")
            parts.append(part)
            refusal = self._flawed(scan, part, kind) if held.take(len(part)) else _busy()
            if refusal is not None:
                await exchange.refuse(refusal)
                return
            if not message.get("more_body", False):
                break
        body = b"".join(parts)
        parts.clear()
        if is_dense(body):
            await exchange.refuse(problem(400, *_FLAWS["dense"]))
        else:
            await exchange.run(_replayed(self._app, body))

    def _flawed(self, scan: JsonScan, part: bytes, kind: str) -> Response | None:
        if kind != "application/json":  # of a method that has no body; the application does not read it
            return None
        flaw = scan.feed(part)
        return problem(400, *_FLAWS[flaw]) if flaw is not None else None


def is_public(scope: Scope) -> bool:
    """Whether anybody may read that."""
    path = scope["path"]
    reads = scope["type"] == "http" and scope["method"] in _READS
    return reads and (path in PUBLIC or path.startswith("/static/"))


@functools.lru_cache(maxsize=64)
def _hosts_of(host: str, address: str, port: int, configured: frozenset[str]) -> frozenset[str]:
    return accepted_hosts((host, address), port, configured)


def _name(scope: Scope) -> str:
    """The request's id: ours, so that nobody writes into our log."""
    name: str = scope.setdefault("state", {}).setdefault("request_id", uuid.uuid4().hex)
    return name


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _follows_link(scope: Scope, headers: Headers) -> bool:
    """Whether somebody follows a link on another site to a page of ours, which shows nothing that is private."""
    navigates = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return navigates and "origin" not in headers and is_public(scope)


def _too_early(seconds: float) -> Response:
    wait = retry_after(seconds)
    detail = f"too many requests; the next can come in {wait} s"
    return problem(429, "rate_limited", detail, headers={"Retry-After": wait})


def _busy() -> Response:
    return problem(503, "busy", "the server is reading too much at once", headers=_SOON)


def _counted(app: ASGIApp, exchange: Exchange, held: Held) -> ASGIApp:
    """The application, that keeps in memory what it reads."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        async def next_part() -> Message:
            message = await receive()
            if held.take(len(message.get("body", b""))):
                return message
            await exchange.refuse(_busy())
            return await receive()

        await app(scope, next_part, send)

    return counted


def _replayed(app: ASGIApp, body: bytes) -> ASGIApp:
    """The application, that reads a body which was read already."""
    left = [body]
    del body

    async def replayed(scope: Scope, receive: Receive, send: Send) -> None:
        async def first() -> Message:
            return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

        await app(scope, first, send)

    return replayed
