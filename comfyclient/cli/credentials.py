"""From options, environment and files to what a client is given to be let in.

Options go before the environment, and both before the stored login of the instance. A secret in the url counts as
given where the url is. Within one of these, nothing may be given twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from comfyclient._redact import Secret
from comfyclient.auth.address import read_address, same_origin
from comfyclient.auth.credential import Credential
from comfyclient.auth.remember import by_https, find_stored, recall
from comfyclient.auth.tls import TLS
from comfyclient.cli.login_options import NO_LOGIN
from comfyclient.cli.secretfiles import SecretFiles
from comfyclient.cli.secretsources import LETS_IN, CredentialsFile, collect
from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from yarl import URL

    from comfyclient.auth.store import StoredLogin
    from comfyclient.cli.app import App
    from comfyclient.cli.login_options import LoginOptions

__all__ = ["GivenLogin", "given_login", "stored_login"]


@dataclass(frozen=True, slots=True, repr=False)
class GivenLogin:
    """What to be let in with, and where.

    Attributes:
        url: The instance, without a credential.
        url_from: Who named it.
        credential: What options and environment give; ``None`` if they give nothing.
        stored: What ``comfyclient login`` keeps for the instance.
        tls: Which certificates options and environment trust.
        comfy_user: The user of an instance that has several.
        wait_ready: Seconds to wait for it.
        workflow: That of the credentials file.
        options: The options that it comes from.
    """

    url: URL
    url_from: Literal["option", "environment", "default"]
    credential: Credential | None
    stored: StoredLogin | None
    tls: TLS | None
    comfy_user: str | None
    wait_ready: float | None
    workflow: str | None
    options: LoginOptions

    def words(self, url: URL) -> list[str]:
        """The options with which another command gets to the same instance; the secrets in them are left out.

        Args:
            url: Its address, as the client found it to be.
        """
        address = [] if self.url_from == "default" else ["--url", str(url)]
        return [*address, *self.options.words()]


def given_login(
    app: App,
    options: LoginOptions = NO_LOGIN,
    *,
    url: str | None = None,
    stdin_taken_by: str | None = None,
    anew: bool = False,
    environment: bool = True,
) -> GivenLogin:
    """Put together what is given. It reads files, stdin and the keyring, so call it outside of an event loop.

    Args:
        app: The application.
        options: What the command line says.
        url: The instance that it names.
        stdin_taken_by: Who reads stdin later, for messages.
        anew: A new login is to take the place of the stored one, and asks for what is missing.
        environment: Whether a credential of the environment is used that is for no instance in particular.

    Raises:
        ConfigError: Something is given twice, cannot be read, or makes no sense.
    """
    files = SecretFiles(app, stdin_taken_by=stdin_taken_by)
    lines = (
        CredentialsFile.read(files, options.credentials_file)
        if options.credentials_file is not None
        else CredentialsFile()
    )
    settings = app.settings(url=url if url is not None else lines.url)
    base, in_url = read_address(settings.url)
    _warn_of_secrets_in_sight(app, options, in_url if url is not None else None)
    base, stored = _stored_if_usable(app, base) if anew else stored_login(app, base)
    url_is_option = settings.url_from == "option"
    environ = _environment_for(app, base, unnamed=environment)
    credential = collect(options, lines, in_url, environ, files, base=base, url_is_option=url_is_option)
    credential = replace(credential, headers=dict(_headers(options, files)))
    _check_access(credential)
    if not (anew and _is_lone_name(credential)):
        named = options.username is not None or (url_is_option and in_url.username is not None)
        credential = _without_lone_name(credential, stored, asked_for=named)
    kept = recall(stored).credential if stored is not None else Credential()
    app.secrets += (credential, kept)  # masked as long as anything can be said
    return GivenLogin(
        url=base,
        url_from=settings.url_from,
        credential=(credential or None) if anew else _beside(credential, kept),
        stored=stored,
        tls=_tls(app, options, environ),
        comfy_user=options.comfy_user or environ.get("COMFYCLIENT_COMFY_USER") or None,
        wait_ready=options.wait_ready,
        workflow=lines.workflow,
        options=options,
    )


def stored_login(app: App, base: URL) -> tuple[URL, StoredLogin | None]:
    """The stored login of an instance, and its address: https, if the login was kept for that in place of http.

    Raises:
        ConfigError: It cannot be used.
    """
    found, stored = find_stored(app.login_store(), base)
    if found != base:
        app.detail(f"the login is for https: using {found}")
    return found, stored


def _stored_if_usable(app: App, base: URL) -> tuple[URL, StoredLogin | None]:
    try:
        found, stored = stored_login(app, base)
        if stored is not None:
            recall(stored)
    except ConfigError as error:
        app.detail(f"the login that is kept is of no use: {error}")
        return base, None
    return found, stored


def _environment_for(app: App, base: URL, *, unnamed: bool) -> Mapping[str, str]:
    """The environment, without its credential if it names an instance, and this is another.

    ``unnamed``: whether it may be used if the environment names none.
    """
    named = app.environ.get("COMFYCLIENT_URL")
    if not named:
        return app.environ if unnamed else {}
    home, _ = read_address(named)
    if same_origin(home, base) or (home.scheme == "http" and same_origin(by_https(home), base)):
        return app.environ
    app.detail("the credential in the environment is for the instance of COMFYCLIENT_URL, and is not sent to another")
    return {}


def _warn_of_secrets_in_sight(app: App, options: LoginOptions, in_url: Credential | None) -> None:
    """What a command line holds, every user of the machine can see."""
    seen = [name for name in ("password", "token") if getattr(options, name) is not None]
    for name in seen:
        app.warn(f"--{name}: others on this machine can see it in the process list; --{name}-file hides it")
    for header in options.headers:
        if header.value is not None and header.value.disguises:  # else too short to be a secret
            app.warn(
                f"--header {header.name}: others on this machine can see its value in the process list; "
                f"{header.name}=@FILE hides it"
            )
    if in_url is not None and (in_url.password or in_url.token):
        app.warn(
            "the url holds a secret, which others on this machine can see in the process list; --password-file and "
            "--token-file hide it"
        )


def _check_access(credential: Credential) -> None:
    if bool(credential.access_id) != bool(credential.access_secret):
        raise ConfigError(
            "a Cloudflare Access service token has two parts",
            hint="give --access-id and --access-secret-file, or COMFYCLIENT_ACCESS_ID and _ACCESS_SECRET",
        )


def _without_lone_name(credential: Credential, stored: StoredLogin | None, *, asked_for: bool) -> Credential:
    """A user name lets nobody in: one that is given alone is that of the stored login, or a mistake."""
    if credential.password is not None:
        return credential
    if asked_for and _is_lone_name(credential) and (stored is None or stored.username != credential.username):
        raise ConfigError(
            "there is a user name, and no password",
            hint="give --password-file FILE, or log in first: comfyclient login URL --username NAME",
        )
    return replace(credential, username=None)


def _is_lone_name(credential: Credential) -> bool:
    return credential.username is not None and not any(getattr(credential, name) for name in LETS_IN)


def _beside(credential: Credential, kept: Credential) -> Credential | None:
    """What is used in place of what is kept; ``None`` if that is all.

    What goes with any other login (headers, Cloudflare Access) completes a kept one, rather than taking its place.
    """
    both = credential.over(kept)
    if both.to_json() == kept.to_json():
        return None
    return credential if any(getattr(credential, name) for name in LETS_IN) else both


def _tls(app: App, options: LoginOptions, environ: Mapping[str, str]) -> TLS | None:
    """The options' word, else the environment's. A CA file of the environment may be used with an option on it."""
    fingerprint, ca_file = options.tls_fingerprint, options.ca_file
    if fingerprint is None and ca_file is None and not options.insecure:
        fingerprint = environ.get("COMFYCLIENT_TLS_FINGERPRINT") or None
        ca_file = environ.get("COMFYCLIENT_CA_FILE") or None
    if options.insecure:
        app.warn(
            "--insecure: no certificate is checked; whoever sits in between can read and change everything, your "
            "credential and your pictures too"
        )
    if fingerprint is None and ca_file is None and not options.insecure and not options.no_check_hostname:
        return None
    return TLS(
        fingerprint=fingerprint,
        ca_file=str(app.path(ca_file)) if ca_file is not None else None,
        check_hostname=not options.no_check_hostname,
        insecure=options.insecure,
    )


def _headers(options: LoginOptions, files: SecretFiles) -> Iterator[tuple[str, Secret]]:
    for header in options.headers:
        if header.file is not None:
            yield header.name, Secret(files.read(header.file, f"--header {header.name}"))
        elif header.value is not None:
            yield header.name, header.value
