"""From a session to what is stored of it, and back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfyclient.auth.cookies import CookieJar
from comfyclient.auth.credential import Credential
from comfyclient.auth.detect import Kind
from comfyclient.auth.session import Known
from comfyclient.auth.store import LoginStore, StoredLogin
from comfyclient.auth.tls import TLS
from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from yarl import URL

    from comfyclient.auth.session import Session

__all__ = ["Recalled", "by_https", "default_store", "find_stored", "recall", "remember"]


@dataclass(frozen=True, slots=True, repr=False)
class Recalled:
    """A stored login, ready for a client."""

    credential: Credential
    known: Known
    tls: TLS | None
    comfy_user: str | None


def default_store(folder: Path | None = None) -> LoginStore:
    """Where ``comfyclient login`` keeps logins; by default in the user's config folder."""
    if folder is None:
        import platformdirs

        folder = platformdirs.user_config_path("comfyclient", appauthor=False)
    return LoginStore(folder)


def by_https(base: URL) -> URL:
    """Where an instance is that wants https, if the address says http."""
    return base.with_scheme("https").with_port(None if base.port == 80 else base.port)


def find_stored(store: LoginStore, base: URL) -> tuple[URL, StoredLogin | None]:
    """The stored login of an instance, and its address: https rather than http, if one was kept for that.

    Raises:
        ConfigError: It cannot be used.
    """
    if base.scheme == "http":
        secure = by_https(base)
        stored = store.load(secure)
        if stored is not None:
            return secure, stored
    return base, store.load(base)


def remember(
    session: Session, credential: Credential, *, fingerprint: str | None = None, comfy_user: str | None = None
) -> StoredLogin:
    """What is to be stored of a session that has been entered."""
    return StoredLogin(
        url=str(session.base),
        kind=(session.kind or Kind.OPEN).value,
        credential=credential.to_json(),
        cookies=session.cookies.to_json(),
        fingerprint=fingerprint,
        comfy_user=comfy_user,
        username=credential.username,
        saved_at=time.time(),
    )


def recall(stored: StoredLogin) -> Recalled:
    """Read what was stored.

    Raises:
        ConfigError: It makes no sense.
    """
    from yarl import URL

    try:
        jar = CookieJar.from_json(URL(stored.url).origin(), stored.cookies)
        known = Known(Kind(stored.kind), tuple(jar))
        credential = Credential.from_json(stored.credential)
    except ValueError:
        raise ConfigError(
            f"the stored login for {stored.url} cannot be read", hint=f"log in again: comfyclient login {stored.url}"
        ) from None
    tls = TLS(fingerprint=stored.fingerprint) if stored.fingerprint else None
    return Recalled(credential, known, tls, stored.comfy_user)
