"""The public key of a server whose certificate is pinned: by it, Chromium can be told to accept that one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import TYPE_CHECKING, Final

from comfyclient.auth.tls import TLS, FingerprintMismatch
from comfyclient.errors import CertificateUntrusted, InstanceUnavailable

if TYPE_CHECKING:
    from yarl import URL

__all__ = ["key_of", "public_key"]

_TIMEOUT: Final = 20.0  # seconds
_VERSION: Final = 0xA0


async def public_key(url: URL, fingerprint: str) -> str:
    """Ask a server for the certificate with that fingerprint, and give the hash of its key, see `key_of`.

    Raises:
        CertificateUntrusted: It has another one.
        InstanceUnavailable: It does not answer with one.
        ConfigError: The fingerprint is none.
    """
    context = TLS(fingerprint=fingerprint).context()
    try:
        async with asyncio.timeout(_TIMEOUT):
            _, writer = await asyncio.open_connection(url.host, url.port, ssl=context, server_hostname=url.raw_host)
        try:
            return key_of(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        finally:
            writer.transport.abort()  # nothing is under way
    except FingerprintMismatch as error:
        raise CertificateUntrusted(
            f"cannot connect to {url.origin()}: its certificate is not the pinned one; it has {error.seen}",
            fingerprint=error.seen,
        ) from None
    except (OSError, ValueError):  # no TLS, no time, no certificate
        raise InstanceUnavailable(f"cannot see the certificate of {url.origin()}") from None


def key_of(der: bytes) -> str:
    """The SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 5280, 4.1), in base64 as Chromium takes it.

    Raises:
        ValueError: It is no certificate.
    """
    try:
        _, start, _ = _element(der, 0)
        _, at, end = _element(der, start)
        fields = []
        while at < end:
            tag, _, after = _element(der, at)
            if tag != _VERSION:
                fields.append(der[at:after])
            at = after
        return base64.b64encode(hashlib.sha256(fields[5]).digest()).decode()  # behind the subject
    except IndexError:
        raise ValueError("the certificate ends early") from None


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Of the element that starts there: its tag, where its content starts, and where it ends."""
    tag, size, start = der[at], der[at + 1], at + 2
    if size & 0x80:
        digits = size & 0x7F
        size, start = int.from_bytes(der[start : start + digits]), start + digits
    if start + size > len(der):
        raise ValueError("the certificate ends early")
    return tag, start, start + size
