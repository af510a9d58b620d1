"""The ways to be let in: what each sends with every request, and how it logs in first if it has to.

Sources of the rules: the servers themselves, observed (vast.ai's portal, ComfyUI-Login), and the documentation of
Cloudflare Access and Comfy Cloud.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from comfyclient._redact import Secret
from comfyclient.auth.cookies import Cookie, read_netscape, read_pasted
from comfyclient.auth.detect import Kind
from comfyclient.errors import AuthError, ConfigError, InstanceUnavailable, LoginRefused

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from yarl import URL

    from comfyclient._transport import Reply
    from comfyclient.auth.cookies import CookieJar
    from comfyclient.auth.detect import Verdict

__all__ = [
    "ApiKey",
    "Auth",
    "BasicAuth",
    "BearerToken",
    "CloudflareAccess",
    "Cookies",
    "Door",
    "Headers",
    "TokenLogin",
    "check_header",
    "check_text",
    "for_vast",
    "together",
]

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.1
_RESERVED: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "cookie"})
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CLOUD: Final = "cloud.comfy.org"
_FILE_CAP: Final = 4 * 2**20


class Door(Protocol):
    """What a scheme logs in through: requests to the one origin, with its cookies, redirects not followed."""

    @property
    def base(self) -> URL:
        """The instance's address."""

    @property
    def cookies(self) -> CookieJar:
        """The cookies of the instance."""

    async def send(
        self, method: str, url: URL | str, *, headers: Mapping[str, str] | None = None, data: bytes | None = None
    ) -> Reply:
        """Send a request; cookies of the answer are kept.

        Args:
            method: ``"GET"`` or ``"POST"``.
            url: A path below the base (``"/login"``), or a URL of the same origin.
            headers: Sent besides cookies and what other schemes send.
            data: The body.

        Raises:
            AuthError: The URL is of another origin: nothing is sent there.
            InstanceUnavailable: No answer.
        """


class Auth:
    """A way to be let in. Subclass it for one of your own, and override what it needs.

    Attributes:
        name: What messages call it.
        renewable: Whether `login` may be repeated when the session has expired.
        sure: Whether the last `login` is known to have been accepted.
    """

    name: str = "login"
    renewable: bool = False
    sure: bool = False

    def headers(self, url: URL) -> Mapping[str, str]:  # noqa: ARG002 - for subclasses
        """What every request to ``url`` carries. It is asked for anew for each, and for the instance's origin only."""
        return {}

    def socket_query(self, url: URL) -> Mapping[str, str]:  # noqa: ARG002 - for subclasses
        """What the websocket's URL carries, where headers do not let in."""
        return {}

    async def login(self, door: Door) -> None:
        """Log in, once for a session; cookies stay in the door.

        Raises:
            LoginRefused: The credential is wrong.
            AuthError: It cannot be done, and why.
        """

    def adapted(self, verdict: Verdict) -> Auth:  # noqa: ARG002 - for subclasses
        """This, as the instance that was found needs it."""
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"


class _Header(Auth):
    """One secret in one header."""

    def __init__(self, header: str, value: str) -> None:
        check_header(value)
        self._header = header
        self._value = Secret(value)

    def headers(self, url: URL) -> Mapping[str, str]:  # noqa: ARG002
        """See `Auth.headers`."""
        return {self._header: self._value.reveal()}


class BasicAuth(_Header):
    """HTTP Basic: user name and password, UTF-8, with every request.

    Raises:
        ConfigError: A ``:`` in the user name, or a control character.
    """

    name = "basic auth"

    def __init__(self, username: str, password: str) -> None:
        if ":" in username:
            raise ConfigError("basic auth: a user name cannot hold a ':'")
        check_header(username + password)
        self.username = username
        self._password = Secret(password)
        super().__init__("Authorization", "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode())

    def adapted(self, verdict: Verdict) -> Auth:
        """See `Auth.adapted`."""
        return BasicAuth(self.username, for_vast(self._password.reveal())) if verdict.kind is Kind.VAST else self


class BearerToken(_Header):
    """``Authorization: Bearer …`` with every request: vast.ai's portal, reverse proxies, tokens of ComfyUI-Login.

    Raises:
        ConfigError: A control character in it, or nothing.
    """

    name = "bearer token"

    def __init__(self, token: str) -> None:
        _require(token, "the token")
        self._token = Secret(token)
        super().__init__("Authorization", f"Bearer {token}")

    def adapted(self, verdict: Verdict) -> Auth:
        """See `Auth.adapted`."""
        return BearerToken(for_vast(self._token.reveal())) if verdict.kind is Kind.VAST else self


class ApiKey(_Header):
    """A key in a header, by default ``X-API-Key``, which is Comfy Cloud's.

    Raises:
        ConfigError: A control character in it, or nothing.
    """

    name = "API key"

    def __init__(self, key: str, *, header: str = "X-API-Key") -> None:
        _require(key, "the key")
        _check_name(header)
        super().__init__(header, key)

    def socket_query(self, url: URL) -> Mapping[str, str]:
        """Comfy Cloud's websocket takes the key in its URL only."""
        return {"token": self._value.reveal()} if url.host == _CLOUD and url.scheme == "https" else {}


class Headers(Auth):
    """Headers of any name with every request, for example ``{"Modal-Key": …, "Modal-Secret": …}``.

    Raises:
        ConfigError: A name that is none, or that HTTP itself needs; a control character.
    """

    name = "headers"

    def __init__(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            _check_name(name)
            check_header(value)
        self._headers = {name: Secret(value) for name, value in headers.items()}

    def headers(self, url: URL) -> Mapping[str, str]:  # noqa: ARG002
        """See `Auth.headers`."""
        return {name: value.reveal() for name, value in self._headers.items()}

    def __repr__(self) -> str:
        return f"Headers({', '.join(f'{name}=***' for name in self._headers)})"


class CloudflareAccess(Headers):
    """A service token of Cloudflare Access. The application needs a policy with the action Service Auth.

    Raises:
        ConfigError: A control character in it, or nothing.
    """

    name = "Cloudflare Access"

    def __init__(self, client_id: str, client_secret: str) -> None:
        _require(client_id, "the Client ID")
        _require(client_secret, "the Client Secret")
        super().__init__({"CF-Access-Client-Id": client_id, "CF-Access-Client-Secret": client_secret})


class Cookies(Auth):
    """Cookies of a session that somebody logged in to in a browser.

    Args:
        cookies: ``"a=b; c=d"`` as copied from the browser's developer tools, a mapping, or cookies.

    Raises:
        ConfigError: It cannot be read.
    """

    name = "cookies"

    def __init__(self, cookies: str | Mapping[str, str] | Iterable[Cookie]) -> None:
        self._file: Path | None = None
        if isinstance(cookies, str):
            self._cookies = _pasted(cookies)
        elif isinstance(cookies, Mapping):
            self._cookies = _named(cookies)
        else:
            self._cookies = list(cookies)
        self._secrets = [Secret(cookie.value) for cookie in self._cookies]

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Cookies:
        """A Netscape cookie file (``cookies.txt``), as browser extensions and curl write it.

        It is read when the client logs in; cookies of other hosts in it are left alone.
        """
        auth = cls([])
        auth._file = Path(path)
        return auth

    async def login(self, door: Door) -> None:
        """See `Auth.login`."""
        cookies = self._cookies
        if self._file is not None:
            cookies = await asyncio.to_thread(_from_file, self._file, door.base, time.time())
            self._secrets = [Secret(cookie.value) for cookie in cookies]
        if not cookies:
            raise AuthError(f"there is no cookie for {door.base.origin()}", hint="log in there in the browser first")
        for cookie in cookies:
            door.cookies.add(cookie)


class TokenLogin(Auth):
    """The cookie that vast.ai's portal gives for a token, as a browser gets it through the link behind Open."""

    name = "token login"
    renewable = True

    def __init__(self, token: str) -> None:
        _require(token, "the token")
        self._token = Secret(token)

    def adapted(self, verdict: Verdict) -> Auth:
        """See `Auth.adapted`."""
        return TokenLogin(for_vast(self._token.reveal())) if verdict.kind is Kind.VAST else self

    async def login(self, door: Door) -> None:
        """See `Auth.login`."""
        url = door.base.joinpath("prompt").with_query({"token": self._token.reveal()})
        reply = await door.send("GET", url, headers={"Accept": "application/json"})
        if reply.status in {401, 403}:
            raise LoginRefused(f"{door.base.origin()}: the token is wrong (HTTP {reply.status})", hint="is it current?")
        if any(name.endswith("_auth_token") for name in door.cookies.names):
            return
        if reply.status == 429 or reply.status >= 500:
            raise InstanceUnavailable(
                f"{door.base.origin()}: the login answered HTTP {reply.status}", hint="try again in a moment"
            )
        raise AuthError(
            f"{door.base.origin()} gave no cookie for the token (HTTP {reply.status})",
            hint="is it a vast.ai portal? BearerToken sends a token with every request",
        )


def for_vast(secret: str) -> str:
    """A secret as vast.ai's portal has it: it drops these characters from its own."""
    return re.sub(r"[\r\n;]", "", secret)


def together(schemes: Sequence[Auth]) -> Auth:
    """Several schemes at once, for example Cloudflare Access in front of a portal.

    Raises:
        ConfigError: Two of them need the same header.
    """
    return schemes[0] if len(schemes) == 1 else _Together(schemes)


class _Together(Auth):
    def __init__(self, schemes: Sequence[Auth]) -> None:
        self.schemes = tuple(schemes)
        self.name = " and ".join(scheme.name for scheme in schemes) or "login"
        self.renewable = any(scheme.renewable for scheme in schemes)

    def headers(self, url: URL) -> Mapping[str, str]:
        merged: dict[str, str] = {}
        taken: set[str] = set()
        for scheme in self.schemes:
            headers = scheme.headers(url)
            if twice := taken & {name.lower() for name in headers}:
                raise ConfigError(f"two credentials need the header {min(twice)}", hint="give one of them only")
            taken |= {name.lower() for name in headers}
            merged |= headers
        return merged

    def socket_query(self, url: URL) -> Mapping[str, str]:
        return {key: value for scheme in self.schemes for key, value in scheme.socket_query(url).items()}

    async def login(self, door: Door) -> None:
        for scheme in self.schemes:
            await scheme.login(door)
        self.sure = any(scheme.sure for scheme in self.schemes)

    def adapted(self, verdict: Verdict) -> Auth:
        return _Together([scheme.adapted(verdict) for scheme in self.schemes])


def check_header(value: str) -> None:
    """Refuse what no header can carry.

    Raises:
        ConfigError: It holds a control character, or bytes that are no UTF-8.
    """
    if _CONTROL.search(value):
        raise ConfigError("the credential holds a control character", hint="a line break at its end, perhaps?")
    check_text(value)


def check_text(value: str) -> None:
    """Refuse what has no UTF-8.

    Raises:
        ConfigError: It holds lone surrogates: bytes of an argument, a file or a variable that are no text.
    """
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise ConfigError("the credential is not UTF-8", hint="save its file, or set its variable, as UTF-8")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name.lower() in _RESERVED:
        raise ConfigError(
            "that cannot be the name of a header of yours",
            hint="a name is letters, digits and -; for cookies there is Cookies",
        )


def _require(value: str, what: str) -> None:
    if not value.strip():
        raise ConfigError(f"{what} is empty")
    check_header(value)


def _pasted(text: str) -> list[Cookie]:
    try:
        return read_pasted(text)
    except ValueError as error:
        raise ConfigError(
            f"the cookies cannot be read: {error}", hint="they look like NAME=VALUE; NAME=VALUE"
        ) from None


def _named(cookies: Mapping[str, str]) -> list[Cookie]:
    try:
        return [Cookie(name, value) for name, value in cookies.items()]
    except ValueError as error:
        raise ConfigError(f"the cookies cannot be sent: {error}") from None


def _from_file(path: Path, url: URL, now: float) -> list[Cookie]:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_CAP + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "the system refuses"
        raise ConfigError(f"cannot read {path}: {reason.lower()}") from None
    if len(data) > _FILE_CAP:
        raise ConfigError(f"{path} is too large for a cookie file")
    try:
        return read_netscape(data.decode("utf-8", "surrogateescape"), url, now=now)
    except ValueError as error:
        raise ConfigError(f"{path} is no Netscape cookie file: {error}") from None
