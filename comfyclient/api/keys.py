"""Who may use the REST API: keys, each of an owner."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final, Self

from comfyclient._redact import Secret
from comfyclient.auth.store.private import read_private
from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["LOCAL", "SHORTEST", "ApiKeys"]

LOCAL: Final = "local"
"""The owner of everything where no key is asked for."""
SHORTEST: Final = 16
"""Characters that a key must have: less can be guessed."""

_CAP: Final = 64 * 2**10
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.@-]{0,63}", re.ASCII)
_KEY: Final = re.compile(r"[!-9;-~]+")  # visible ASCII, which every client can send; no colon, which ends the name
_EXAMPLE: Final = (
    'one key a line, as "name:key"; make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'
)


class ApiKeys:
    """The keys that are accepted. An owner may have several, so that one can take over from another.

    Args:
        keys: Pairs of an owner's name and a key.

    Raises:
        ConfigError: One is too short, no key, or there twice. No message holds any.
    """

    def __init__(self, keys: Iterable[tuple[str, str]] = ()) -> None:
        self._secrets: list[Secret] = []  # masked in every text while they live
        self._digests: list[tuple[bytes, str]] = []
        for name, key in keys:
            self._add(name, key)

    @classmethod
    def of(cls, keys: Mapping[str, str]) -> Self:
        """Keys by the names of their owners: ``{"alice": "…"}``."""
        return cls(keys.items())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file: a line each, ``name:key`` or ``key``; blank lines and those that begin with ``#`` are none.

        A key without a name belongs to ``key-1`` if it is the first of the file, and so on: name them, if there are
        several, so that each keeps what is its own when the file changes.

        Raises:
            ConfigError: Others can read it, it is no plain file or not the user's, or holds no key or something else.
        """
        data = read_private(path, _CAP, kept="API keys", fix="the key file must be a plain file of your own, mode 600")
        if data is None:
            raise ConfigError(f"there is no key file {path}", hint=_EXAMPLE)
        try:
            keys = cls(_lines(data.decode("utf-8-sig")))
        except UnicodeDecodeError:
            raise ConfigError(f"the key file {path} is no text in UTF-8", hint=_EXAMPLE) from None
        except ConfigError as error:
            raise ConfigError(f"the key file {path}: {error.message}", hint=error.hint) from None
        if not keys:
            raise ConfigError(f"the key file {path} holds no key", hint=_EXAMPLE)
        return keys

    @property
    def owners(self) -> frozenset[str]:
        """The names of the owners; `LOCAL` alone if there are no keys."""
        return frozenset(name for _, name in self._digests) or frozenset({LOCAL})

    def identify(self, presented: str) -> str | None:
        """Whose key that is; ``None`` if it is none. It takes the same time for each, whatever is presented."""
        digest, found = _digest(presented), None
        for known, name in self._digests:
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __repr__(self) -> str:
        return f"<ApiKeys of {', '.join(sorted(self.owners)) if self else 'nobody'}>"

    def _add(self, name: str, key: str) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"the name of key {len(self._digests) + 1} has other characters than a-z 0-9 . _ @ -")
        if name == LOCAL:
            raise ConfigError(f"no key can have the name {LOCAL!r}, which is that of whoever needs no key")
        if not _KEY.fullmatch(key):
            raise ConfigError(f"the key of {name} must be visible ASCII characters without a colon", hint=_EXAMPLE)
        if len(key) < SHORTEST:
            raise ConfigError(f"the key of {name} has less than {SHORTEST} characters", hint=_EXAMPLE)
        if self.identify(key) is not None:
            raise ConfigError(f"the key of {name} is there twice")
        self._secrets.append(Secret(key, user=name))
        self._digests.append((_digest(key), name))


def _lines(text: str) -> Iterable[tuple[str, str]]:
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate((line for line in lines if line and not line.startswith("#")), start=1):
        name, colon, key = line.partition(":")
        yield (name.strip(), key.strip()) if colon else (f"key-{number}", line)


def _digest(key: str) -> bytes:
    """All digests are of one length, so that comparing them tells nothing of the key's."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
