"""``Set-Cookie`` lines as user agents read them: RFC 6265 5.1.1, 5.2 and 5.3, and the prefixes of rfc6265bis."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from comfyclient.auth.cookies.cookie import FAR, MAX_SIZE, SPACE, Cookie, covers, fault, is_sendable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from yarl import URL

__all__ = ["parse_set_cookie", "read_cookie_date"]

_MAX_ATTRIBUTE: Final = 1024  # rfc6265bis 5.6: a longer one is as good as absent
_LONG_AGO: Final = 0.0
_SECONDS: Final = re.compile(r"-?[0-9]+")

_DELIMITERS: Final = re.compile(r"[\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME: Final = re.compile(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?![0-9])")
_DAY: Final = re.compile(r"([0-9]{1,2})(?![0-9])")
_YEAR: Final = re.compile(r"([0-9]{2,4})(?![0-9])")
_MONTH: Final = re.compile(r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)", re.IGNORECASE | re.ASCII)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def parse_set_cookie(text: str, *, url: URL, now: float) -> Cookie | None:
    """Read one ``Set-Cookie`` line.

    Args:
        text: The header's value, verbatim.
        url: What answered.
        now: Unix seconds, which ``Max-Age`` counts from.

    Returns:
        The cookie; one that is to be deleted has an ``expires`` that is past. None for a line to ignore: no name,
        control characters, too long, a ``Domain`` that does not cover the host, a prefix whose promise it breaks.
    """
    if len(text) > MAX_SIZE or not is_sendable(text):
        return None
    pair, *rest = text.split(";")
    name, _, value = (part.strip(SPACE) for part in pair.partition("="))
    found = _attributes(rest)
    domain, path = found.get("domain", "").removeprefix("."), found.get("path", "")
    if "=" not in pair or (domain and not covers(domain, url)) or not _keeps_promise(name, found):
        return None
    if not path.startswith("/"):
        path = url.raw_path.rpartition("/")[0] or "/"
    if fault(name, value, path):
        return None
    return Cookie(name, value, path, _expiry(found, now), "secure" in found)


def read_cookie_date(text: str) -> float | None:
    """Unix seconds of an ``Expires`` (RFC 6265 5.1.1): nearly anything with a day, a month, a year and a time in it."""
    found: dict[re.Pattern[str], re.Match[str]] = {}
    for token in _DELIMITERS.split(text):
        for pattern in (_TIME, _DAY, _MONTH, _YEAR):
            if pattern not in found and (match := pattern.match(token)):
                found[pattern] = match
                break
    if len(found) < 4:
        return None
    year = int(found[_YEAR][1])
    year += 1900 if 70 <= year <= 99 else 2000 if year <= 69 else 0
    month = _MONTHS.index(found[_MONTH][1].lower()) + 1
    hour, minute, second = map(int, found[_TIME].groups())
    try:
        date = datetime(year, month, int(found[_DAY][1]), hour, minute, second, tzinfo=UTC)
    except ValueError:  # no such day
        return None
    return date.timestamp() if year >= 1601 else None


def _attributes(parts: Iterable[str]) -> dict[str, str]:
    """The last valid one of each name, in lower case."""
    found: dict[str, str] = {}
    for part in parts:
        name, _, value = (piece.strip(SPACE) for piece in part.partition("="))
        if len(value) <= _MAX_ATTRIBUTE and _counts(name.lower(), value):
            found[name.lower()] = value
    return found


def _counts(name: str, value: str) -> bool:
    if name == "max-age":
        return _SECONDS.fullmatch(value) is not None
    if name == "expires":
        return read_cookie_date(value) is not None
    return name in {"path", "secure"} or (name == "domain" and bool(value))


def _keeps_promise(name: str, found: dict[str, str]) -> bool:
    """Whether a name with a prefix may be set so (rfc6265bis 4.1.3)."""
    if name.lower().startswith("__host-"):
        return "secure" in found and "domain" not in found and found.get("path") == "/"
    return "secure" in found or not name.lower().startswith("__secure-")


def _expiry(found: dict[str, str], now: float) -> float | None:
    if "max-age" in found:  # it wins over Expires
        age = found["max-age"].lstrip("0")
        if not age or age.startswith("-"):
            return _LONG_AGO
        return min(now + int(age[:16]), FAR)
    return read_cookie_date(found["expires"]) if "expires" in found else None
