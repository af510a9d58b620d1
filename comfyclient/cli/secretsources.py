"""The sources of a credential: options, files, the url, the environment; and which of them count.

Options go before the environment. Within one of the two, nothing may be given twice.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from comfyclient._redact import Secret
from comfyclient.auth.cookies import read_netscape
from comfyclient.auth.credential import Credential
from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from yarl import URL

    from comfyclient.cli.login_options import LoginOptions
    from comfyclient.cli.secretfiles import SecretFiles

__all__ = ["LETS_IN", "CredentialsFile", "collect"]

_COOKIES_CAP: Final = 4 * 2**20  # of all sites of a browser
_ENVIRONMENT: Final = {
    "username": ("COMFYCLIENT_USERNAME", None),
    "password": ("COMFYCLIENT_PASSWORD", "COMFYCLIENT_PASSWORD_FILE"),
    "token": ("COMFYCLIENT_TOKEN", "COMFYCLIENT_TOKEN_FILE"),
    "api_key": ("COMFYCLIENT_API_KEY", None),
    "access_id": ("COMFYCLIENT_ACCESS_ID", None),
    "access_secret": ("COMFYCLIENT_ACCESS_SECRET", None),
    "cookies": ("COMFYCLIENT_COOKIES", None),
}
"""Part of a credential → the variables that hold it, and that name its file."""
LETS_IN: Final = frozenset({"password", "token", "api_key", "cookies"})
"""The parts that let somebody in; the others go with them."""
_WORDS: Final = {
    "username": "the user name",
    "password": "the password",
    "token": "the token",
    "api_key": "the API key",
    "access_id": "the Client ID",
    "access_secret": "the Client Secret",
    "cookies": "the cookies",
}


class _Source(NamedTuple):
    """Who gives a part of the credential, and how to get it."""

    part: str
    who: str
    read: Callable[[], str]


@dataclass(frozen=True, slots=True, repr=False)
class CredentialsFile:
    """A credentials file. Only the first line must be there."""

    username: str | None = None
    password: str | None = None
    url: str | None = None
    workflow: str | None = None

    @classmethod
    def read(cls, files: SecretFiles, name: str) -> CredentialsFile:
        """Read it: ``user:password``, url, path of a workflow, a line each.

        Raises:
            ConfigError: It is something else.
        """
        text = files.read(name, "--credentials-file")
        first, *rest = (line.removesuffix("\r") for line in text.split("\n"))
        username, colon, password = first.partition(":")
        others = [line.strip() for line in rest]
        if not colon or not password or any(others[2:]):
            raise ConfigError(
                f"--credentials-file: {name} is no such file",
                hint="its lines are: user:password, the url, the workflow; the last two may be missing",
            )
        url, workflow = [*others, "", ""][:2]
        return cls(username or None, password, url or None, workflow or None)


def collect(
    options: LoginOptions,
    lines: CredentialsFile,
    in_url: Credential,
    environ: Mapping[str, str],
    files: SecretFiles,
    *,
    base: URL,
    url_is_option: bool,
) -> Credential:
    """Take each part of the credential, but for headers, from the first place that has it.

    A way in that the options give keeps the environment's other ways out: it is the one that was asked for. A password
    of the environment is that of the user there, if one is named there.

    Args:
        options: What the command line says.
        lines: The credentials file; an empty one if there is none.
        in_url: What the url held.
        environ: The environment.
        files: What reads secrets.
        base: The instance, whose cookies are taken.
        url_is_option: The url is the command line's, or the credentials file's.

    Raises:
        ConfigError: Something is given twice, or cannot be read.
    """
    url = list(_of_url(in_url, "the url" if url_is_option else "COMFYCLIENT_URL"))
    ours = _each_once([*_of_options(options, files, base), *_of_file(lines), *(url if url_is_option else ())])
    texts: dict[str, Any] = {part: _read(source) for part, source in ours.items()}
    theirs = [*_of_environment(environ, files), *(() if url_is_option else url)]
    rest = _each_once([source for source in theirs if source.part not in _covered(texts, theirs)])
    texts |= {part: _read(source) for part, source in rest.items()}
    return Credential.of(**texts)


def _covered(texts: Mapping[str, str], theirs: Sequence[_Source]) -> set[str]:
    """The parts that are not taken from the environment, because of those that the options give."""
    if texts.keys() & LETS_IN:
        return texts.keys() | LETS_IN
    name = texts.get("username")
    another = any(source.part == "username" and source.read() != name for source in theirs)
    return set(texts) | ({"password"} if name is not None and another else set())


def _of_options(options: LoginOptions, files: SecretFiles, base: URL) -> Iterator[_Source]:
    for part in ("username", "password", "token", "access_id"):
        if (value := getattr(options, part)) is not None:
            yield _Source(part, _option(part), functools.partial(_plain, value))
    for part in ("password", "token", "api_key", "access_secret"):
        if (file := getattr(options, f"{part}_file")) is not None:
            option = _option(f"{part}_file")
            yield _Source(part, option, functools.partial(files.read, file, option))
    if options.cookies_file is not None:
        yield _Source("cookies", "--cookies-file", functools.partial(_cookies, files, options.cookies_file, base))


def _of_file(lines: CredentialsFile) -> Iterator[_Source]:
    for part in ("username", "password"):
        if (value := getattr(lines, part)) is not None:
            yield _Source(part, "--credentials-file", functools.partial(_plain, value))


def _of_environment(environ: Mapping[str, str], files: SecretFiles) -> Iterator[_Source]:
    """An empty variable counts as none."""
    for part, (variable, naming_file) in _ENVIRONMENT.items():
        if value := environ.get(variable):
            yield _Source(part, variable, functools.partial(_plain, value))
        if naming_file is not None and (file := environ.get(naming_file)):
            yield _Source(part, naming_file, functools.partial(files.read, file, naming_file))


def _of_url(credential: Credential, who: str) -> Iterator[_Source]:
    for part in ("username", "password", "token"):
        if value := getattr(credential, part):
            yield _Source(part, who, functools.partial(_plain, value))


def _each_once(sources: Iterable[_Source]) -> dict[str, _Source]:
    found: dict[str, _Source] = {}
    for source in sources:
        other = found.setdefault(source.part, source)
        if other is not source:
            raise ConfigError(
                f"{_WORDS[source.part]} is given twice: by {other.who} and by {source.who}", hint="give one of the two"
            )
    return found


def _read(source: _Source) -> str:
    text = source.read()
    if not text:
        raise ConfigError(f"{_WORDS[source.part]} is empty ({source.who})")
    return text


def _plain(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _cookies(files: SecretFiles, name: str, base: URL) -> str:
    text = files.read(name, "--cookies-file", cap=_COOKIES_CAP)
    try:
        cookies = read_netscape(text, base, now=time.time())
    except ValueError as error:
        raise ConfigError(
            f"--cookies-file: {name} cannot be read: {error}", hint="it must be a cookies.txt, in Netscape's format"
        ) from None
    if not cookies:
        raise ConfigError(
            f"--cookies-file: {name} has no cookie for {base.origin()}",
            hint="log in there in the browser, then export its cookies; cookies of https need the https url",
        )
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies)
