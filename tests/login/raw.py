"""One HTTP exchange with every byte as the test wants it, and the answer as it came."""

import asyncio
import http.client
import io
from dataclasses import dataclass

from multidict import CIMultiDict
from yarl import URL

SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """``version`` is 10 or 11; texts are utf-8, and what is not comes as surrogates."""

    version: int
    status: int
    headers: CIMultiDict
    body: bytes


class _Bytes:
    def __init__(self, received):
        self._received = received

    def makefile(self, *_):
        return io.BytesIO(self._received)


async def exchange(url, target, *, method="GET", headers=(), body=b"", context=None):
    """Send one request to the server of ``url`` and read its answer up to the end of the connection.

    Args:
        url: Of the server; its path is not used.
        target: The path and query, sent as it is.
        method: The method.
        headers: Name to value, besides ``Host``, ``Connection`` and ``Content-Length``.
        body: What follows the headers.
        context: For https.
    """
    own = {"Host": URL(url).authority, "Connection": "close"}
    if body:
        own["Content-Length"] = str(len(body))
    return _parsed(await _sent(url, method, target, own | dict(headers), body, context), method)


async def handshake(url, target="/ws?clientId=raw", *, headers=(), context=None):
    """Ask for a websocket, read the answer's head, and hang up."""
    own = {
        "Host": URL(url).authority,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    return _parsed(await _sent(url, "GET", target, own | dict(headers), b"", context, head_only=True), "HEAD")


async def _sent(url, method, target, headers, body, context, *, head_only=False):
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(URL(url).host, URL(url).port, ssl=context)
        try:
            writer.write("\r\n".join(lines).encode("utf-8", "surrogateescape") + body)
            return await (reader.readuntil(b"\r\n\r\n") if head_only else reader.read())
        finally:
            writer.transport.abort()


def _parsed(received, method):
    response = http.client.HTTPResponse(_Bytes(received), method=method)
    response.begin()
    headers = CIMultiDict((name, _text(value)) for name, value in response.getheaders())
    answer = Answer(response.version, response.status, headers, response.read())
    response.close()
    return answer


def _text(value):
    return value.encode("latin-1").decode("utf-8", "surrogateescape")
