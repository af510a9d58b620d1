"""Cookies that a person brings along from a browser: pasted, or in a cookie file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from comfyclient.auth.cookies.cookie import FAR, SPACE, Cookie, covers, is_alive, is_plain, path_matches, wants_https

if TYPE_CHECKING:
    from yarl import URL

__all__ = ["read_netscape", "read_pasted"]

_PREFIX: Final = re.compile(r"(set-)?cookie[ \t]*:", re.IGNORECASE | re.ASCII)
_MAGIC: Final = re.compile(r"# (Netscape )?HTTP Cookie File", re.IGNORECASE | re.ASCII)
_HTTP_ONLY: Final = "#HttpOnly_"
_TIME: Final = re.compile(r"(-?[0-9]{1,20}(\.[0-9]{1,20})?)?")


def read_pasted(text: str) -> list[Cookie]:
    """Read a ``Cookie`` header as a browser's developer tools show it: ``a=b; c=d``, with or without ``Cookie:``.

    Of two with one name the first counts: browsers put the closer one first.

    Raises:
        ValueError: It is no such text. The message does not hold any of it.
    """
    text = text.strip(f"{SPACE}\r\n")
    if prefix := _PREFIX.match(text):
        if prefix[1]:
            raise ValueError("it is the Set-Cookie line of an answer; the Cookie line of a request is needed")
        text = text[prefix.end() :]
    found: dict[str, Cookie] = {}
    for number, part in enumerate(text.split(";"), 1):
        name, _, value = (piece.strip(SPACE) for piece in part.partition("="))
        if "=" in part:
            found.setdefault(name, Cookie(name, value))
        elif name:
            raise ValueError(f"part {number} has no '='")
    if not found:
        raise ValueError("it holds no cookie")
    return list(found.values())


def read_netscape(text: str, url: URL, *, now: float) -> list[Cookie]:
    """Read a ``cookies.txt`` as browser extensions, curl and wget write it: seven fields a line, tabs between them.

    Args:
        text: The file.
        url: The base url of the instance. Left out are cookies of other hosts, of https for plain http, expired ones,
            and those that no path above or below it would get. The file knows no ports: the user says whose they are.
        now: Unix seconds.

    Raises:
        ValueError: It is no such file. The message names the line and does not hold any of it.
    """
    lines = text.removeprefix("\ufeff").split("\n")  # not splitlines(): a value may hold what that takes for an end
    rows = [(number, row) for number, line in enumerate(lines, 1) if (row := _row(line))]
    if not rows and not any(map(_MAGIC.match, lines)):
        raise ValueError("it holds no line of a cookie file")
    cookies = [_cookie(number, row, url) for number, row in rows]
    return [cookie for cookie in cookies if cookie and is_alive(cookie, now)]


def _row(line: str) -> str | None:
    """What a line holds besides a comment."""
    row = line.rstrip("\r").removeprefix(_HTTP_ONLY)
    return row if row.strip() and not row.startswith("#") else None


def _cookie(number: int, row: str, url: URL) -> Cookie | None:
    """The cookie of a line; None if it is not for this url."""
    fields = row.split("\t", 6)
    if len(fields) == 6:  # an empty value, and an editor that trims lines
        fields.append("")
    if len(fields) != 7 or not _TIME.fullmatch(fields[4]):
        raise ValueError(f"line {number} is not seven fields with tabs between them, the fifth a time")
    domain, below, path, secure, expires, name, value = fields
    if not _is_for(url, domain, below=below.upper() == "TRUE") or not _is_near(url, path) or not name:
        return None
    try:
        cookie = Cookie(name, value, path, min(max(float(expires or 0), 0), FAR) or None, secure.upper() == "TRUE")
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None
    return None if wants_https(cookie) and is_plain(url) else cookie


def _is_for(url: URL, domain: str, *, below: bool) -> bool:
    name = domain.removeprefix(".")
    return covers(name, url) if below else name.lower() == (url.raw_host or "").lower()


def _is_near(url: URL, path: str) -> bool:
    """Whether some path of the instance would get it."""
    return path_matches(url.raw_path, path) or path_matches(path, url.raw_path)
