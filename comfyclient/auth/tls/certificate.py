"""What a certificate says about itself, so that a person can decide whether to trust it.

The standard library reads only certificates that it has verified; those asked about here are the others. Nothing in
them is proven: it is shown, never decided by. Layout: RFC 5280, 4.1; encoding: X.690.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CertificateFacts", "read_certificate"]

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_COMMON_NAME: Final = bytes.fromhex("550403")
_ORGANISATION: Final = bytes.fromhex("55040a")
_ENCODINGS: Final = {0x0C: "utf-8", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}  # others are ASCII or nearly so
_NAME_CAP: Final = 100


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The names in it (the common name, else the organisation) and the days between which it holds, in UTC."""

    subject: str | None
    issuer: str | None
    not_before: dt.datetime
    not_after: dt.datetime


def read_certificate(der: bytes) -> CertificateFacts:
    """Read the names and dates of an X.509 certificate. No signature is checked.

    Raises:
        ValueError: It is none.
    """
    try:
        (_, certificate), *_ = _elements(der)
        (_, body), *_ = _elements(certificate)
        fields = [value for tag, value in _elements(body) if tag != _VERSION]
        issuer, validity, subject = fields[2:5]  # behind the serial number and the algorithm
        before, after = (_time(tag, value) for tag, value in _elements(validity))
        return CertificateFacts(_name(subject), _name(issuer), before, after)
    except IndexError:
        raise ValueError("the certificate ends early") from None


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (tag, content) pairs that follow each other in DER."""
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            digits = size & 0x7F
            size, at = int.from_bytes(data[at : at + digits]), at + digits
        if at + size > len(data):
            raise ValueError("the certificate ends early")
        yield tag, data[at : at + size]
        at += size


def _name(data: bytes) -> str | None:
    """The common name of a distinguished name, else its organisation, fit for a terminal."""
    found: dict[bytes, str] = {}
    for _, attributes in _elements(data):
        for tag, pair in _elements(attributes):
            if tag == _SEQUENCE:
                (_, kind), (text_tag, text), *_ = _elements(pair)
                found.setdefault(kind, text.decode(_ENCODINGS.get(text_tag, "latin-1"), "replace"))
    name = found.get(_COMMON_NAME) or found.get(_ORGANISATION)
    return "".join(c if c.isprintable() else "?" for c in name[:_NAME_CAP]) if name else None


def _time(tag: int, data: bytes) -> dt.datetime:
    text = data.decode("ascii")
    if tag == _UTC_TIME:  # two digits for the year, the 20th century from 50 on
        text = ("19" if text >= "50" else "20") + text
    return dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC)
