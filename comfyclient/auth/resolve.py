"""Which schemes fit what was found and what was given: one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfyclient.auth.detect import Kind
from comfyclient.auth.formlogin import FormLogin
from comfyclient.auth.schemes import (
    ApiKey,
    BasicAuth,
    BearerToken,
    CloudflareAccess,
    Cookies,
    Headers,
    for_vast,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfyclient.auth.credential import Credential
    from comfyclient.auth.schemes import Auth

__all__ = ["candidates", "companions"]

_VAST_USER = "vastai"
_BASIC = {Kind.BASIC, Kind.AUTHELIA, Kind.FOREIGN_LOGIN, Kind.LOGIN_UNKNOWN, Kind.FORBIDDEN}  # some take it unasked


def companions(credential: Credential) -> list[Auth]:
    """What goes with any other scheme."""
    found: list[Auth] = []
    if credential.access_id and credential.access_secret:
        found.append(CloudflareAccess(credential.access_id, credential.access_secret.reveal()))
    if credential.headers:
        found.append(Headers({name: value.reveal() for name, value in credential.headers.items()}))
    return found


def candidates(kind: Kind, credential: Credential, *, claim: bool = False) -> list[Auth]:
    """The schemes to try at an instance of that kind, the likeliest first; none if the credential fits none."""
    return list(_candidates(kind, credential, claim))


def _candidates(kind: Kind, credential: Credential, claim: bool) -> Iterator[Auth]:
    username = credential.username
    password = credential.password.reveal() if credential.password else None
    token = credential.token.reveal() if credential.token else None
    key = credential.api_key.reveal() if credential.api_key else None
    if credential.cookies:
        yield Cookies(credential.cookies.reveal())
    if kind in {Kind.OPEN, Kind.CLOUDFLARE_ACCESS}:
        return
    if kind is Kind.VAST:
        # As a bearer both of its secrets are right, however odd their characters; basic costs it a second of bcrypt.
        for secret in dict.fromkeys(for_vast(text) for text in (token, password) if text):
            yield BearerToken(secret)
        if password:
            yield BasicAuth(username or _VAST_USER, for_vast(password))
        return
    if kind in {Kind.COMFYUI_LOGIN, Kind.LOGIN_FORM} and password is not None:
        yield FormLogin(username, password, claim=claim)
    if kind in _BASIC and username and password is not None:
        yield BasicAuth(username, password)
    if kind is Kind.API_KEY:
        if key or token:
            yield ApiKey(key or token or "")
        return
    if token:
        yield BearerToken(token)
    if key:
        yield ApiKey(key)
