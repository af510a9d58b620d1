"""Where a redirect leads: to a login page, to the file that was asked for, or to the same place by https.

No redirect is followed here. A ``Location`` is hostile text until `target` has read it.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Final

from yarl import URL

__all__ = [
    "REDIRECTS",
    "is_login_path",
    "is_login_redirect",
    "is_own",
    "own_path",
    "same_host",
    "target",
    "without_query",
]

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_LONGEST: Final = 8192
_UNREADABLE: Final = re.compile(r"[\x00-\x1f\x7f]|^[^?#]*\\")  # browsers take "/\host" for another host
_LOGIN_PATH: Final = re.compile(
    r"(?:^|[/._-])"
    r"(?:log[_-]?[io]n|sign[_-]?in|sso|o?auth2?|oidc|openid|saml2?|authori[sz]e|authenticat(?:e|ion)"
    r"|sessions?/new|goauthentik)"
    r"(?:$|[/._-])"
)
_STORAGE_HOSTS: Final = (
    ".amazonaws.com",
    ".blob.core.windows.net",
    ".r2.cloudflarestorage.com",
    "storage.googleapis.com",
)
_SIGNATURES: Final = (  # of S3 and what speaks like it, Google, Alibaba, CloudFront, S3's old kind, Azure
    {"x-amz-signature"},
    {"x-goog-signature"},
    {"x-oss-signature"},
    {"signature", "key-pair-id"},
    {"signature", "expires"},
    {"sig", "se"},
)


def target(url: URL, location: str) -> URL | None:
    """The http(s) URL that ``location``, sent in an answer to ``url``, means; ``None`` if it means none.

    User info and fragment are dropped.
    """
    text = location.strip()
    if not text or len(text) > _LONGEST or _UNREADABLE.search(text):
        return None
    try:
        place = URL(text)
        if place.scheme and not place.raw_host:  # "https:x" is read one way here and another by browsers
            return None
        found = url.join(place)
        if found.scheme not in {"http", "https"} or not found.host or not found.port:
            return None
        return found.with_user(None).with_fragment(None)
    except ValueError:  # ports out of range, hosts that are none; its subclass UnicodeError too
        return None


def same_host(one: URL, other: URL) -> bool:
    """Whether both name the same host, whatever the port."""
    return _host(one) == _host(other)


def is_own(url: URL, found: URL) -> bool:
    """Whether ``found`` is on the origin of ``url``.

    A server behind a proxy that ends TLS may not know of it, and name its own address with http.
    """
    if not same_host(url, found):
        return False
    if (found.scheme, found.port) == (url.scheme, url.port):
        return True
    return url.scheme == "https" and found.scheme == "http" and found.port in {80, url.port}


def own_path(found: URL) -> str:
    """Path and query, encoded, that lead nowhere but to the same origin (``//host`` would)."""
    return "/" + found.raw_path_qs.lstrip("/")


def without_query(url: URL) -> URL:
    """Scheme, host, port and path: a query of somebody else's login page is for one visit of one browser."""
    return url.with_user(None).with_query(None).with_fragment(None)


def is_login_path(url: URL, found: URL) -> bool:
    """Whether the path of ``found`` says "login" where it differs from that of ``url``."""
    here, there = url.path.lower().split("/"), found.path.lower().split("/")
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(here, there, strict=False)))
    return _LOGIN_PATH.search("/".join(there[shared:])) is not None


def is_login_redirect(url: URL, location: str) -> bool:
    """Whether an answer to ``url`` that redirects to ``location`` sends to a login.

    Yes for a path that says so and for every foreign host, unless it is a file in a storage (Comfy Cloud's ``/view``
    redirects to a signed url). No for what cannot be read.
    """
    found = target(url, location)
    if found is None or _is_storage(found):
        return False
    return not same_host(url, found) or is_login_path(url, found)


def _is_storage(found: URL) -> bool:
    names = {name.lower() for name in found.query}
    return any(signature <= names for signature in _SIGNATURES) or f".{_host(found)}".endswith(_STORAGE_HOSTS)


def _host(url: URL) -> str:
    return (url.raw_host or "").lower().rstrip(".")
