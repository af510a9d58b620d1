"""What is at an address: one request without any credential, and a table that reads its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from comfyclient._transport import NeverSentError
from comfyclient.auth.detect import Answer, Kind, classify, confirmed, https_upgrade, tunnel_headers
from comfyclient.errors import CertificateUntrusted, InstanceUnavailable, NotComfyUI, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from comfyclient._transport import Transport
    from comfyclient.auth.detect import Verdict

__all__ = ["probe"]

_TIMEOUT: Final = aiohttp.ClientTimeout(total=20, sock_connect=10)
_CAP: Final = 64 * 2**10


async def probe(transport: Transport, base: URL, headers: Mapping[str, str] | None = None) -> tuple[URL, Verdict]:
    """Find out what is there.

    Args:
        transport: What sends.
        base: The instance's address.
        headers: What has to be sent already, to see what is behind a first login. Never without a probe before.

    Returns:
        The base, with https if the instance wants that and http was given, and the verdict.

    Raises:
        InstanceUnavailable: Nobody answers.
        ProtocolError: The answer is no HTTP.
    """
    try:
        answer = await _ask(transport, base.joinpath("prompt"), headers)
    except (InstanceUnavailable, ProtocolError) as error:
        # TLS where http was asked for looks like this. Never the other way round: that would give secrets away.
        if base.scheme != "http" or headers or isinstance(error, NeverSentError):
            raise
        return await _as_https(transport, base, error)
    verdict = classify(answer)
    if verdict.kind is Kind.USE_HTTPS and base.scheme == "http" and not headers:
        upgraded = https_upgrade(answer)
        if upgraded is not None:
            secure = base.with_scheme("https").with_port(upgraded.explicit_port)
            return secure, (await probe(transport, secure))[1]
    if verdict.confirm is not None:
        verdict = confirmed(verdict, await _ask(transport, base.join(URL(verdict.confirm, encoded=True)), headers))
    return base, verdict


async def _ask(transport: Transport, url: URL, headers: Mapping[str, str] | None) -> Answer:
    """GET it, with these headers and no others of ours."""
    sent = {**tunnel_headers(url.host or ""), **(headers or {})}
    async with transport.send("GET", url, headers=sent, timeout=_TIMEOUT) as response:
        body = bytearray()
        try:
            async for part in response.content.iter_any():
                body += part
                if len(body) >= _CAP:
                    break
        except aiohttp.ClientPayloadError:  # its head is what tells most
            pass
        return Answer(url, response.status, response.headers, bytes(body[:_CAP]))


async def _as_https(transport: Transport, base: URL, first: InstanceUnavailable | ProtocolError) -> tuple[URL, Verdict]:
    secure = base.with_scheme("https").with_port(base.port)
    try:
        return secure, (await probe(transport, secure))[1]
    except CertificateUntrusted:
        raise  # so there is TLS
    except (InstanceUnavailable, NotComfyUI):
        raise first from None
