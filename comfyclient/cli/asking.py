"""What a login needs and was not given: asked for at the terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from comfyclient._redact import Secret
from comfyclient.auth.detect.verdicts import Kind
from comfyclient.errors import AuthRequired, ConfigError

if TYPE_CHECKING:
    from yarl import URL

    from comfyclient.auth.credential import Credential
    from comfyclient.auth.detect import Verdict
    from comfyclient.cli.app import App

__all__ = ["ask_password", "complete"]

_BY_TOKEN: Final = frozenset({Kind.BEARER, Kind.OAUTH2_PROXY, Kind.LOGIN_UNKNOWN})
_PASSWORD: Final = "--password-file FILE (- is stdin) or COMFYCLIENT_PASSWORD"  # noqa: S105 - names an option
_TOKEN: Final = "--token-file FILE (- is stdin) or COMFYCLIENT_TOKEN"  # noqa: S105
_MISSING: Final = {
    Kind.VAST: f"give {_PASSWORD}, or {_TOKEN}",
    Kind.BASIC: f"give --username NAME and {_PASSWORD}",
    Kind.AUTHELIA: f"give --username NAME and {_PASSWORD}",
    Kind.LOGIN_FORM: f"give --username NAME and {_PASSWORD}",
    Kind.COMFYUI_LOGIN: f"give {_PASSWORD}",
    Kind.API_KEY: "give --api-key-file FILE or COMFYCLIENT_API_KEY",
    Kind.CLOUDFLARE_ACCESS: "give --access-id ID and --access-secret-file FILE",
} | dict.fromkeys(_BY_TOKEN, f"give {_TOKEN}")


def complete(app: App, credential: Credential, found: Verdict, base: URL, *, claim: bool) -> Credential:
    """A credential with all that the login needs which was found.

    Raises:
        AuthRequired: There is no terminal, or nothing that could be asked for would help.
        ConfigError: The answer is empty.
    """
    where = f"{base.origin()}: {found.name}"
    if found.kind not in _MISSING:
        raise AuthRequired(where, hint=found.hint)
    if not app.stdin_is_terminal:
        raise AuthRequired(f"{where}, and there is no terminal to ask on", hint=_MISSING[found.kind])
    app.note(where)
    if found.kind is Kind.CLOUDFLARE_ACCESS:
        return replace(
            credential,
            access_id=_needed(app.ask("Client ID"), "Client ID"),
            access_secret=_secret(app, "Client Secret"),
        )
    if found.kind is Kind.API_KEY:
        return replace(credential, api_key=_secret(app, "API key"))
    if found.kind in _BY_TOKEN and credential.username is None:
        return replace(credential, token=_secret(app, "token"))
    return ask_password(app, credential, found.kind, claim=claim)


def ask_password(app: App, credential: Credential, kind: Kind, *, claim: bool = False) -> Credential:
    """The credential with a password, and with a user name where that kind of login has one.

    Raises:
        ConfigError: The answer is empty, or a new password is not the same twice.
    """
    name = credential.username
    if name is None and (kind is not Kind.COMFYUI_LOGIN or claim):
        name = app.ask("user name", "vastai" if kind is Kind.VAST else "") or None
    password = _secret(app, "password or token" if kind is Kind.VAST else "new password" if claim else "password")
    if claim and app.ask_secret("new password again") != password.reveal():
        raise ConfigError("that was another password", hint="try again")
    return replace(credential, username=name, password=password)


def _secret(app: App, what: str) -> Secret:
    secret = Secret(_needed(app.ask_secret(what), what))
    app.secrets.append(secret)
    return secret


def _needed(answer: str, what: str) -> str:
    if not answer:
        raise ConfigError(f"no {what} was given")
    return answer
