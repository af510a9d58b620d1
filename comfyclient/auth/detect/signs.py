"""What an answer shows: the marks that the rules of `detect` go by, each read once. Nothing here raises.

Headers, cookies, places and bodies come from whoever answers at an address: every one is optional, may be there
twice, and may be garbage.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from comfyclient import _json
from comfyclient.auth.detect import redirects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL

__all__ = ["Answer", "Signs", "header_values"]

_BODY_CAP: Final = 64 * 1024
_HEADER_CAP: Final = 2048
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_SCHEME: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+(?!\s*=)|\s*$)")
_PASSWORD_FIELD: Final = re.compile(r"<input\b[^<>]{0,2000}?\btype\s*=\s*[\"']?password\b")
_TITLE: Final = re.compile(r"<title[^<>]{0,200}>([^<]{0,200})</title")
_CLOUDFLARE_CODE: Final = re.compile(r'\berror(?:[ _]code"?)?:?\s*(1\d{3})\b')
_NGROK_CODE: Final = re.compile(r"\berr_ngrok_(\d{1,6})\b")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request without redirects. ``body`` is its first 64 KiB; more is not looked at.

    ``headers`` may hold a name several times (a multidict); upper and lower case are the same.
    """

    url: URL
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


def header_values(headers: Mapping[str, str], name: str) -> list[str]:
    """All values of a header, whose ``name`` is given in lower case."""
    return [value for key, value in headers.items() if key.lower() == name]


class Signs:
    """The marks of one answer. Texts are in lower case, and empty if there is none."""

    def __init__(self, answer: Answer) -> None:
        self._headers = answer.headers
        self.url = answer.url
        self.status = answer.status
        self.host = (answer.url.raw_host or "").lower().rstrip(".")
        self.body = answer.body[:_BODY_CAP]
        self.text = self.body.decode("utf-8", "replace").lower()
        self.server = self.header("server").lower()
        self.target = self._read_target()

    def header(self, name: str) -> str:
        """The value of a header; several are joined by commas, as HTTP has it. Cut, so that it is safe to search."""
        return ", ".join(header_values(self._headers, name))[:_HEADER_CAP]

    def on_domain(self, *domains: str) -> bool:
        """Whether the instance's host is one of ``domains`` or below."""
        return any(f".{self.host}".endswith(f".{domain}") for domain in domains)

    @property
    def redirects(self) -> bool:
        """Whether the answer is a redirect, with or without a place to go to."""
        return self.status in redirects.REDIRECTS

    @property
    def html(self) -> bool:
        """Whether the body is a web page."""
        return "html" in self.header("content-type").lower() or self.text.lstrip().startswith("<")

    @property
    def json(self) -> Any:
        """The body as JSON, or ``None``."""
        try:
            return _json.loads(self.body)
        except _json.JSONError:
            return None

    @property
    def challenges(self) -> set[str]:
        """The schemes of ``WWW-Authenticate``: several headers, or several in one (RFC 9110, 11.6.1)."""
        parts = _QUOTED.sub("", self.header("www-authenticate")).split(",")
        return {match[1].lower() for part in parts if (match := _SCHEME.match(part))}

    @property
    def cookie_names(self) -> set[str]:
        """The names of the cookies that the answer sets."""
        return {value.partition("=")[0].strip().lower() for value in header_values(self._headers, "set-cookie")}

    @property
    def has_password_field(self) -> bool:
        """Whether the page asks for a password."""
        return self.html and _PASSWORD_FIELD.search(self.text) is not None

    @property
    def title(self) -> str:
        """The title of the page."""
        match = _TITLE.search(self.text)
        return match[1].strip()[:100] if match else ""

    @property
    def from_cloudflare(self) -> bool:
        """Whether the answer came through Cloudflare."""
        return bool(self.header("cf-ray")) or "cloudflare" in self.server

    @property
    def cloudflare_code(self) -> int | None:
        """Cloudflare's own error number (1000 to 1999), as text, page or JSON has it."""
        match = _CLOUDFLARE_CODE.search(self.text)
        return int(match[1]) if match and (self.from_cloudflare or match.start() == 0) else None

    @property
    def ngrok_code(self) -> int | None:
        """Ngrok's own error number."""
        match = _NGROK_CODE.search(self.header("ngrok-error-code").lower()) or _NGROK_CODE.search(self.text)
        return int(match[1]) if match else None

    @property
    def target_params(self) -> set[str]:
        """The names in the query of the place that the answer points to."""
        return set() if self.target is None else {name.lower() for name in self.target.query}

    def _read_target(self) -> URL | None:
        places = header_values(self._headers, "location")
        return redirects.target(self.url, places[0]) if places else None
