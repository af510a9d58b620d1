"""What somebody gave to be let in, before it is known which login it is for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from comfyclient._redact import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Credential"]

_SECRETS = ("password", "token", "api_key", "access_secret")


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Credential:
    """A credential of any kind; what is not given is ``None``.

    Attributes:
        username: For basic auth and forms.
        password: For basic auth, forms, and vast.ai's portal.
        token: A bearer token, also that of a link with ``?token=``.
        api_key: For ``X-API-Key``.
        access_id: The Client ID of a Cloudflare Access service token. It goes with any of the others.
        access_secret: Its Client Secret.
        headers: Headers of any name, with every request.
        cookies: A ``Cookie`` header as pasted from a browser, ``a=b; c=d``.
    """

    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    api_key: Secret | None = None
    access_id: str | None = None
    access_secret: Secret | None = None
    headers: Mapping[str, Secret] = field(default_factory=dict)
    cookies: Secret | None = None

    @classmethod
    def of(
        cls, *, username: str | None = None, password: str | None = None, token: str | None = None,
        api_key: str | None = None, access_id: str | None = None, access_secret: str | None = None,
        headers: Mapping[str, str] | None = None, cookies: str | None = None,
    ) -> Self:  # fmt: skip
        """Make one of plain texts."""
        return cls(
            username,
            _secret(password),
            _secret(token),
            _secret(api_key),
            access_id,
            _secret(access_secret),
            {name: Secret(value) for name, value in (headers or {}).items()},
            _secret(cookies),
        )

    def __bool__(self) -> bool:
        return any(getattr(self, spec.name) for spec in dataclasses.fields(self))

    def __repr__(self) -> str:
        given = [spec.name for spec in dataclasses.fields(self) if getattr(self, spec.name)]
        return f"Credential({', '.join(f'{name}=***' for name in given)})"

    def over(self, other: Credential) -> Credential:
        """This one, completed from another. A user name and a password come from the same place."""
        changes = {
            spec.name: getattr(self, spec.name) or getattr(other, spec.name) for spec in dataclasses.fields(self)
        }
        if self.username and self.username != other.username and not self.password:
            changes["password"] = None
        return Credential(**changes)

    def to_json(self) -> dict[str, Any]:
        """The fields that are set, secrets in clear: only for the store."""
        body: dict[str, Any] = {name: secret.reveal() for name in _SECRETS if (secret := getattr(self, name))}
        body |= {name: value for name in ("username", "access_id") if (value := getattr(self, name))}
        if self.headers:
            body["headers"] = {name: secret.reveal() for name, secret in self.headers.items()}
        if self.cookies:
            body["cookies"] = self.cookies.reveal()
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what `to_json` made.

        Raises:
            ValueError: It is something else.
        """
        headers = body.get("headers", {})
        plain = {name: value for name, value in body.items() if name != "headers"}
        known = {spec.name for spec in dataclasses.fields(cls)}
        texts = [*plain.values(), *(headers.values() if isinstance(headers, dict) else [None])]
        if not (plain.keys() <= known) or not all(isinstance(text, str) for text in texts):
            raise ValueError("no credential")
        return cls.of(**plain, headers=headers)


def _secret(value: str | None) -> Secret | None:
    return Secret(value) if value else None
