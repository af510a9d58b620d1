"""The options by which a command is let in at an instance, the same for every command that talks to one."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import click

from comfyclient._redact import Secret
from comfyclient.cli.sections import SectionOption

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NO_LOGIN", "GivenHeader", "LoginOptions", "login_options"]

_F = TypeVar("_F", bound=Callable[..., Any])

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.1
_SECTION: Final = "Login"
_NOTE: Final = (
    "COMFYCLIENT_USERNAME, _PASSWORD, _PASSWORD_FILE, _TOKEN, _TOKEN_FILE, _API_KEY, _ACCESS_ID, _ACCESS_SECRET, "
    "_COOKIES, _TLS_FINGERPRINT, _CA_FILE and _COMFY_USER do the same, for the instance of COMFYCLIENT_URL; "
    "without that variable, for whatever instance a command talks to. Options go before them, and both before what "
    "`comfyclient login` keeps."
)


@dataclass(frozen=True, slots=True)
class GivenHeader:
    """``NAME=VALUE``, or ``NAME=@FILE``."""

    name: str
    value: Secret | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """What the command line says. Files are as they were given; ``-`` is stdin."""

    username: str | None = None
    password: Secret | None = None
    password_file: str | None = None
    token: Secret | None = None
    token_file: str | None = None
    api_key_file: str | None = None
    access_id: str | None = None
    access_secret_file: str | None = None
    headers: tuple[GivenHeader, ...] = ()
    cookies_file: str | None = None
    credentials_file: str | None = None
    tls_fingerprint: str | None = None
    ca_file: str | None = None
    no_check_hostname: bool = False
    insecure: bool = False
    comfy_user: str | None = None
    wait_ready: float | None = None

    def __bool__(self) -> bool:
        return self != NO_LOGIN

    @property
    def gets_in(self) -> bool:
        """Whether anything was said but how long to wait."""
        return replace(self, wait_ready=None) != NO_LOGIN

    def words(self) -> list[str]:
        """The options again, for a command that does something at the same instance later: files, never secrets.

        What was given on the command line as a secret, or by stdin, is left out.
        """
        found: list[str] = []
        for name, option in _REPEATED.items():
            value = getattr(self, name)
            if value and value != "-":
                found += [option] if value is True else [option, value]
        for header in self.headers:
            if header.file is not None and header.file != "-":
                found += ["--header", f"{header.name}=@{header.file}"]
        return found

    def kept(self, folder: Path) -> dict[str, Any]:
        """The same as JSON, for a command that goes on later, wherever that is called. ``folder``: the current one."""
        found: dict[str, Any] = {}
        for name in _REPEATED:
            value = getattr(self, name)
            if value and value != "-":
                found[name] = str((folder / value).absolute()) if name.endswith("_file") else value
        headers = {header.name: header.file for header in self.headers if header.file is not None}
        files = {name: str((folder / file).absolute()) for name, file in headers.items() if file != "-"}
        return {**found, "headers": files} if files else found

    @classmethod
    def of_kept(cls, body: Any) -> Self:
        """Read what `kept` gave. What makes no sense in it is left out."""
        body = body if isinstance(body, dict) else {}
        flags = {"no_check_hostname", "insecure"}
        values = {name: body[name] for name in _REPEATED if isinstance(body.get(name), bool if name in flags else str)}
        headers = body.get("headers")
        files = headers.items() if isinstance(headers, dict) else ()
        given = tuple(GivenHeader(name, file=file) for name, file in files if isinstance(file, str))
        return cls(headers=given, **values)


NO_LOGIN: Final = LoginOptions()
"""Nothing was said."""

_REPEATED: Final = {
    "username": "--username",
    "password_file": "--password-file",
    "token_file": "--token-file",
    "api_key_file": "--api-key-file",
    "access_id": "--access-id",
    "access_secret_file": "--access-secret-file",
    "cookies_file": "--cookies-file",
    "credentials_file": "--credentials-file",
    "tls_fingerprint": "--tls-fingerprint",
    "ca_file": "--ca-file",
    "no_check_hostname": "--no-check-hostname",
    "insecure": "--insecure",
    "comfy_user": "--comfy-user",
}


def login_options(command: _F) -> Callable[..., Any]:
    """All of them; the command is called with one more argument, ``login``, a `LoginOptions`.

    The command must be a `comfyclient.cli.sections.SectionCommand`.
    """

    @functools.wraps(command)
    def collecting(**values: Any) -> Any:
        given = {field.name: values.pop(f"login_{field.name}") for field in fields(LoginOptions)}
        return command(login=LoginOptions(**given), **values)

    decorated: Callable[..., Any] = collecting
    for option in reversed(_options()):
        decorated = option(decorated)
    decorated.section_notes = {_SECTION: _NOTE}  # type: ignore[attr-defined]
    return decorated


def _option(name: str, metavar: str | None, text: str, **rest: Any) -> Callable[[_F], _F]:
    field = "login_" + name.removeprefix("--").replace("-", "_")
    return click.option(name, field, metavar=metavar, help=text, cls=SectionOption, section=_SECTION, **rest)


def _options() -> list[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    return [
        _option("--username", "NAME", "User name."),
        _option("--password", "TEXT", "Password; others can see it in the process list.", callback=_secret),
        _option("--password-file", "FILE", "Read the password from this file; - is stdin."),
        _option("--token", "TEXT", "Token; others can see it in the process list.", callback=_secret),
        _option("--token-file", "FILE", "Read the token from this file; - is stdin."),
        _option("--api-key-file", "FILE", "Read an API key (X-API-Key) from this file."),
        _option("--access-id", "ID", "Client ID of a Cloudflare Access service token."),
        _option("--access-secret-file", "FILE", "Read its Client Secret from this file."),
        click.option(
            "--header", "login_headers", metavar="NAME=VALUE", multiple=True, callback=_headers,
            cls=SectionOption, section=_SECTION,
            help="Send this header with every request. Repeatable. NAME=@FILE reads the value from a file; @@ is a "
            "plain @.",
        ),
        _option("--cookies-file", "FILE", "Send the cookies of a browser that is logged in (cookies.txt, Netscape)."),
        _option(
            "--credentials-file", "FILE",
            "Three lines: user:password, url, workflow. The last two may be missing; those on the command line win.",
        ),
        _option("--tls-fingerprint", "sha256:...", "Trust the certificate with this fingerprint, and no other."),
        _option("--ca-file", "FILE", "Trust certificates that these CAs made (PEM), and no others."),
        _option("--no-check-hostname", None, "With --ca-file: under any host name.", is_flag=True),
        _option("--insecure", None, "Trust any certificate: anybody in between can read and change all.", is_flag=True),
        _option("--comfy-user", "NAME", "Your user on a ComfyUI that has several (--multi-user)."),
        _option(
            "--wait-ready", "SECONDS", "Wait this long for ComfyUI to come up.",
            type=click.FloatRange(min=0, min_open=True),
        ),
    ]  # fmt: skip


def _secret(_: click.Context, __: click.Parameter, value: str | None) -> Secret | None:
    return None if value is None else Secret(value)


def _headers(_: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[GivenHeader, ...]:
    headers = tuple(_header(text, param) for text in values)
    names = [header.name.lower() for header in headers]
    for header in headers:
        if names.count(header.name.lower()) > 1:
            raise click.BadParameter(f"{header.name} is given twice", param=param)
    return headers


def _header(text: str, param: click.Parameter) -> GivenHeader:
    name, is_there, value = text.partition("=")
    if not is_there or not _NAME.fullmatch(name):  # the text may be all secret: it is not repeated
        raise click.BadParameter("a header is written NAME=VALUE, as in X-My-Key=@key.txt", param=param)
    if value.startswith("@") and not value.startswith("@@"):
        return GivenHeader(name, file=value[1:])
    return GivenHeader(name, Secret(value[1:] if value.startswith("@@") else value))
