"""A TLS context that accepts one certificate, known by its fingerprint, whatever its names, dates and signer.

The pin is compared inside the handshake, by the context itself: so it holds for every library that is handed the
context, and before a byte of a request leaves.
"""

from __future__ import annotations

import hashlib
import ssl
from typing import Any, NoReturn

__all__ = ["FingerprintMismatch", "PinnedContext", "fingerprint_of", "trust_anything"]


class FingerprintMismatch(ssl.SSLCertVerificationError):
    """The certificate is not the pinned one. Nothing was sent but the handshake.

    ``seen`` is the fingerprint of the certificate that was shown (empty if none was), ``pinned`` the one that was due.
    """

    def __init__(self, seen: str, pinned: str) -> None:
        super().__init__(1, f"the certificate is {seen or 'missing'}, not the pinned {pinned}")
        self.seen = seen
        self.pinned = pinned


def fingerprint_of(der: bytes) -> str:
    """``"sha256:…"`` (lower case, no colons) of a certificate in DER."""
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def trust_anything(context: ssl.SSLContext) -> ssl.SSLContext:
    """Take every check out of a context."""
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _PinnedObject(ssl.SSLObject):
    """One TLS connection. It neither reads nor writes before the certificate was compared with the pin."""

    pin: str = ""  # fits nothing
    _fits = False

    def do_handshake(self) -> None:
        super().do_handshake()
        # A resumed session comes with the certificate of the handshake that began it, so it is compared as well.
        der = self.getpeercert(binary_form=True)
        seen = fingerprint_of(der) if der else ""
        if not self.pin or seen != self.pin:
            raise FingerprintMismatch(seen, self.pin)
        self._fits = True

    def read(self, *args: Any) -> Any:
        self._must_fit()
        return super().read(*args)

    def write(self, data: Any) -> int:
        self._must_fit()
        return super().write(data)

    def _must_fit(self) -> None:
        # OpenSSL itself would do the handshake now, and ask nobody.
        if not self._fits:
            raise ssl.SSLError(1, "no handshake, so the certificate was not compared with the pin")


class PinnedContext(ssl.SSLContext):
    """A context that accepts one certificate. What it cannot compare, it refuses."""

    sslobject_class = _PinnedObject
    pin: str = ""

    @classmethod
    def for_pin(cls, pin: str) -> PinnedContext:
        """One that accepts the certificate whose `fingerprint_of` is ``pin``."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        trust_anything(context)  # the pin replaces names, dates and CAs
        context.options |= ssl.OP_NO_RENEGOTIATION  # no second certificate on a connection whose first one was compared
        context.pin = pin
        return context

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Begin a connection as asyncio does."""
        connection = super().wrap_bio(*args, **options)
        if not isinstance(connection, _PinnedObject):
            raise NotImplementedError("this Python does not let a context check its connections")
        connection.pin = self.pin
        return connection

    def wrap_socket(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise NotImplementedError("a pinned context is for asyncio; sockets of their own would escape its check")
