"""Who lets us in: logins in front of an instance, found out, passed, and renewed when they expire.

::

    address  ─▶ probe ─▶ verdict ─▶ scheme ─▶ login ─▶ session: headers and cookies of every request
               (no credential)    (of the credential)

A credential belongs to one origin (scheme, host, port). It is sent there only, and only after a request without any
has found out what is there.
"""

from __future__ import annotations

from comfyclient.auth.cookies import Cookie
from comfyclient.auth.credential import Credential
from comfyclient.auth.formlogin import FormLogin
from comfyclient.auth.schemes import (
    ApiKey,
    Auth,
    BasicAuth,
    BearerToken,
    CloudflareAccess,
    Cookies,
    Door,
    Headers,
    TokenLogin,
)
from comfyclient.auth.tls import TLS

__all__ = [
    "TLS",
    "ApiKey",
    "Auth",
    "BasicAuth",
    "BearerToken",
    "CloudflareAccess",
    "Cookie",
    "Cookies",
    "Credential",
    "Door",
    "FormLogin",
    "Headers",
    "TokenLogin",
]
