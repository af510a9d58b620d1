"""Whose certificate is accepted: one that the system trusts, the pinned one, one of a given CA, or any.

Rented machines show self-signed certificates, sometimes expired on purpose and never for their address. Pinning is the
answer that stays safe: the one certificate that somebody looked at, whatever its names and dates, and no other.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from comfyclient.auth.tls.certificate import read_certificate
from comfyclient.auth.tls.pinning import FingerprintMismatch, PinnedContext, fingerprint_of, trust_anything
from comfyclient.errors import ConfigError, InstanceUnavailable

if TYPE_CHECKING:
    import datetime as dt

__all__ = ["TLS", "FingerprintMismatch", "SeenCertificate", "fetch_certificate", "fingerprint_of"]

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_CA_FILE_CAP: Final = 4 * 2**20  # bytes; all public CAs together are a quarter of a MiB


@dataclass(frozen=True, slots=True)
class TLS:
    """Which certificates to accept. Without arguments: those that the system trusts, for the host's name.

    Attributes:
        fingerprint: ``"sha256:…"`` of the one certificate to accept; its names and dates do not matter. Upper case and
            colons are taken, and put straight.
        ca_file: A file of CA certificates (PEM, or one in DER) to trust instead of the system's.
        check_hostname: ``False`` accepts what ``ca_file`` vouches for under any name.
        insecure: Accept anything. Whoever sits in between can read and change everything.

    Raises:
        ConfigError: They contradict each other, or the fingerprint is none.
    """

    fingerprint: str | None = None
    ca_file: str | None = None
    check_hostname: bool = True
    insecure: bool = False

    def __post_init__(self) -> None:
        if (self.fingerprint is not None) + (self.ca_file is not None) + self.insecure > 1:
            raise ConfigError("a TLS fingerprint, a CA file and insecure exclude each other", hint="give one of them")
        if not self.check_hostname and self.ca_file is None:
            raise ConfigError(
                "without a CA file, the name in the certificate must be checked",
                hint="give the CA file as well, or pin the certificate by its fingerprint",
            )
        if self.fingerprint is not None:
            object.__setattr__(self, "fingerprint", _normal(self.fingerprint))

    def context(self) -> ssl.SSLContext:
        """A new context that does so: for aiohttp, websockets and all that rests on asyncio. It reads files.

        Raises:
            ConfigError: The CA file cannot be read, or is none.
        """
        if self.fingerprint is not None:
            return _for_http(PinnedContext.for_pin(self.fingerprint))
        if self.insecure:
            return _for_http(trust_anything(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))
        if self.ca_file is None:
            return _for_http(ssl.create_default_context())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load(context, self.ca_file)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the file may hold an intermediate CA, or just the leaf
        context.check_hostname = self.check_hostname
        return _for_http(context)


@dataclass(frozen=True, slots=True)
class SeenCertificate:
    """The certificate that a server shows, for a person to decide about.

    Attributes:
        fingerprint: ``"sha256:…"``.
        verified: The system trusts it for that host.
        problem: Why not: ``"self-signed certificate"``.
        subject: Whose it says it is.
        issuer: Who it says made it.
        not_before: From when it holds, in UTC.
        not_after: Until when.
    """

    fingerprint: str
    verified: bool
    problem: str | None = None
    subject: str | None = None
    issuer: str | None = None
    not_before: dt.datetime | None = None
    not_after: dt.datetime | None = None


async def fetch_certificate(host: str, port: int, *, timeout: float) -> SeenCertificate:  # noqa: ASYNC109
    """Ask a server for its certificate, without a request: the connection ends after the handshake.

    Args:
        host: Name or address, IPv6 without brackets.
        port: Its port.
        timeout: Seconds for all of it.

    Raises:
        InstanceUnavailable: Nobody is there, or does not speak TLS, or not in time.
        ConfigError: The host's name is none.
    """
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout):
            return await _fetch(host, port)
    except TimeoutError:
        raise InstanceUnavailable(f"cannot see the certificate of {where}: no answer in time") from None
    except ssl.SSLError:
        raise _no_tls(where) from None
    except ConnectionError as error:
        if isinstance(error, ConnectionRefusedError):
            raise InstanceUnavailable(f"cannot connect to {where}: connection refused") from None
        raise _no_tls(where) from None
    except OSError as error:
        raise InstanceUnavailable(f"cannot connect to {where}: {_reason(error)}") from None
    except ValueError:  # UnicodeError too: names that cannot be asked for
        raise ConfigError("the host's name cannot be used", hint="is it right?") from None


async def _fetch(host: str, port: int) -> SeenCertificate:
    problem = None
    try:
        der = await _shown(host, port, TLS())
    except ssl.SSLCertVerificationError as error:
        problem = error.verify_message
        der = await _shown(host, port, TLS(insecure=True))
    try:
        facts = read_certificate(der)
    except ValueError:  # a pin needs no names
        return SeenCertificate(fingerprint_of(der), verified=problem is None, problem=problem)
    return SeenCertificate(
        fingerprint_of(der), problem is None, problem, facts.subject, facts.issuer, facts.not_before, facts.not_after
    )


async def _shown(host: str, port: int, tls: TLS) -> bytes:
    context = await asyncio.to_thread(tls.context)
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    try:
        der: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()  # nothing is under way; a close would wait for the other side
    if der is None:
        raise ssl.SSLError(1, "no certificate")
    return der


def _no_tls(where: str) -> InstanceUnavailable:
    return InstanceUnavailable(f"{where} does not speak TLS", hint="does the url need http, not https?")


def _normal(fingerprint: str) -> str:
    digits = fingerprint.strip().lower().removeprefix("sha256:").replace(":", "")
    if not _HEX.fullmatch(digits):
        raise ConfigError(
            "the TLS fingerprint is no SHA-256 fingerprint",
            hint='it looks like "sha256:" and 64 hexadecimal digits, with or without colons',
        )
    return f"sha256:{digits}"


def _for_http(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])  # for requests and websockets alike
    return context


def _load(context: ssl.SSLContext, path: str) -> None:
    """Read it ourselves: the library would wait for a pipe for ever, and stumble over comments that are not ASCII."""
    try:
        data = _read(path)
    except OSError as error:
        raise ConfigError(f"cannot read the CA file {path}: {_reason(error)}") from None
    except ValueError as error:  # a NUL in the name too
        raise ConfigError(f"cannot read the CA file {path!r}: {error}") from None
    pem = data.decode("ascii", "replace").replace("\ufffd", "?") if b"-----BEGIN" in data else None
    try:
        context.load_verify_locations(cadata=pem or data)
    except (ssl.SSLError, ValueError):
        raise ConfigError(
            f"the CA file {path} holds no certificates, or damaged ones",
            hint='it must be PEM: "-----BEGIN CERTIFICATE-----" and so on',
        ) from None


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no file")
        data = file.read(_CA_FILE_CAP + 1)
    if len(data) > _CA_FILE_CAP:
        raise ValueError(f"it is larger than {_CA_FILE_CAP // 2**20} MiB")
    return data


def _reason(error: OSError) -> str:
    return (os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or "no connection").lower()
