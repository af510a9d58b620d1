"""Where logins rest between two runs: one file an instance, or the system's keyring for what is secret in it.

    FOLDER/instances/1.2.3.4-40001-0123456789abcdef.json

A login belongs to one address: scheme, host, port and path prefix. All of it blocks, and the keyring may wait for the
user to unlock it: call it in a thread.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from yarl import URL

from comfyclient.auth.store.keychain import SERVICE, KeychainError, find_keychain
from comfyclient.auth.store.private import check_folder, make_folder, read_private, remove_private, write_private
from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from comfyclient.auth.store._record import Record

__all__ = ["LoginStore", "StoredLogin", "StoredSummary"]

_CAP: Final = 2**20  # bytes of a record
_UNFIT: Final = re.compile(r"[^a-z0-9.-]+")

_log = logging.getLogger("comfyclient.auth")


@dataclass(frozen=True, slots=True, repr=False)
class StoredLogin:
    """What a login left, enough to be let in again.

    Attributes:
        url: The address of the instance, as `LoginStore` writes it: no user info, no query, no last slash.
        kind: Which login it is for.
        credential: What was given, as JSON. Secret.
        cookies: What it was exchanged for, as JSON. Secret.
        fingerprint: The pinned certificate, ``"sha256:…"``.
        comfy_user: The user of a ComfyUI with several.
        username: Who it is, for people.
        saved_at: When, in Unix seconds.
    """

    url: str
    kind: str
    credential: dict[str, Any]
    cookies: list[dict[str, Any]]
    fingerprint: str | None
    comfy_user: str | None
    username: str | None
    saved_at: float

    def __repr__(self) -> str:
        return f"StoredLogin(url={self.url!r}, kind={self.kind!r})"


@dataclass(frozen=True, slots=True)
class StoredSummary:
    """What may be shown of a stored login.

    ``problem`` says why it cannot be used and what to do; then only ``path`` is known, and the rest is ``None``.
    """

    path: Path
    url: str | None = None
    kind: str | None = None
    username: str | None = None
    where: Literal["keyring", "file"] | None = None
    saved_at: float | None = None
    problem: str | None = None


class LoginStore:
    """The stored logins below one folder.

    Args:
        folder: The folder of the settings. It is made when something is saved.
        use_keyring: ``None`` takes the keyring if there is one that works, and a file if not. ``True`` insists on it,
            ``False`` leaves it alone.
    """

    def __init__(self, folder: Path, *, use_keyring: bool | None = None) -> None:
        self._root = folder
        self._folder = folder / "instances"
        self._use_keyring = use_keyring

    def load(self, url: URL) -> StoredLogin | None:
        """The login of an instance, or ``None``.

        Raises:
            ConfigError: It is damaged, gone from the keyring, or not safe where it is; the hint says what to do.
        """
        base = _base(url)
        record = self._record(self._path(base))
        if record is None:
            return None
        if record.secrets is None:
            record = self._from_keyring(base)
        return _login(record)

    def save(self, login: StoredLogin) -> str:
        """Store a login over the one that was there. Returns where its secrets are: ``"keyring"`` or the file's path.

        Raises:
            ConfigError: It cannot be stored, and what was there still is.
        """
        base = _base(_parsed(login.url))
        path = self._path(base)
        try:
            record = _record_of(login, base)
            text = record.text()
        except ValueError:  # pydantic's error is one, and shows the values
            raise ConfigError(f"the login at {base} cannot be stored: its fields are not what they must be") from None
        if len(text.encode()) > _CAP:
            raise ConfigError(f"the login at {base} is too large to be stored")
        make_folder(self._folder)
        self._there()
        if self._to_keyring(base, text):
            write_private(path, record.model_copy(update={"secrets": None}).text().encode())
            return "keyring"
        before = self._marked(path)
        write_private(path, text.encode())
        if before:
            self._outdate(base)
        return str(path)

    def delete(self, url: URL) -> bool:
        """Forget a login, wherever it is and whatever state it is in. Whether there was one.

        Raises:
            ConfigError: Something of it stays; the hint says what.
        """
        base = _base(url)
        path = self._path(base)
        marked = self._marked(path)
        removed = remove_private(path)
        if not marked and self._use_keyring is False:
            return removed
        try:
            keychain = find_keychain()
            if keychain is None and marked:
                raise KeychainError("there is none")
            return bool(keychain and keychain.delete(str(base))) or removed
        except KeychainError as error:
            if not marked:  # it was asked to be sure
                _log.debug("the keyring cannot say whether it has a login at %s: %s", base, error)
                return removed
            raise ConfigError(
                f"the login at {base} is not used any more, but the keyring could not remove its entry",
                hint=f"remove it there: service {SERVICE}, user {base}",
            ) from None

    def list(self) -> list[StoredSummary]:
        """All stored logins, by url; those that cannot be used with the reason. The keyring is not asked.

        Raises:
            ConfigError: The folder is not safe.
        """
        if not self._there():
            return []
        found = [self._summary(path) for path in self._folder.glob("*.json")]
        return sorted(found, key=lambda summary: (summary.url or "", summary.path))

    def _summary(self, path: Path) -> StoredSummary:
        try:
            record = self._record(path)
        except ConfigError as error:
            return StoredSummary(path, problem=f"{error} ({error.hint})" if error.hint else str(error))
        if record is None:  # deleted since
            return StoredSummary(path, problem="it is gone")
        where: Literal["keyring", "file"] = "keyring" if record.secrets is None else "file"
        return StoredSummary(path, record.url, record.kind, record.username, where, record.saved_at)

    def _record(self, path: Path) -> Record | None:
        """What a file holds. It must be the login that the file's name says."""
        if not self._there():
            return None
        data = read_private(path, _CAP)
        if data is None:
            return None
        from comfyclient.auth.store._record import Record

        try:
            record = Record.read(data)
            if self._path(_base(_parsed(record.url))) == path:
                return record
        except (ValueError, ConfigError):
            pass
        raise ConfigError(f"the stored login in {path} is damaged", hint="log in again; that replaces it")

    def _marked(self, path: Path) -> bool:
        """Whether the file says that its secrets are in the keyring."""
        try:
            record = self._record(path)
        except ConfigError:  # what cannot be read says nothing
            return False
        return record is not None and record.secrets is None

    def _from_keyring(self, base: URL) -> Record:
        from comfyclient.auth.store._record import Record

        keychain = None if self._use_keyring is False else find_keychain()
        again = f"log in again: comfyclient login {base}"
        if keychain is None:
            raise ConfigError(f"the login at {base} is in the keyring, which is not there or switched off", hint=again)
        try:
            text = keychain.read(str(base))
        except KeychainError as error:
            raise ConfigError(
                f"the login at {base} is in the keyring, which cannot be read ({error})", hint=f"unlock it, or {again}"
            ) from None
        if text is None:
            raise ConfigError(f"the login at {base} is gone from the keyring", hint=again)
        try:
            record = Record.read(text)
            if record.url == str(base) and record.secrets is not None:
                return record
        except ValueError:
            pass
        raise ConfigError(f"the login at {base} is damaged in the keyring", hint=again)

    def _to_keyring(self, base: URL, text: str) -> bool:
        """Whether the keyring took it."""
        if self._use_keyring is False:
            return False
        keychain, reason = find_keychain(), "there is none that keeps secrets"
        try:
            if keychain is not None:
                keychain.write(str(base), text)
                return True
        except KeychainError as error:
            reason = str(error)
        if self._use_keyring:
            raise ConfigError(
                f"the keyring cannot take the login: {reason}",
                hint="pip install comfyclient[keyring], unlock it, or do without",
            )
        _log.debug("the login at %s goes to a file; the keyring: %s", base, reason)
        return False

    def _outdate(self, base: URL) -> None:
        """Remove the entry that a login in a file has taken the place of."""
        keychain = find_keychain()
        try:
            if keychain is not None:
                keychain.delete(str(base))
                return
            reason = "it is not there"
        except KeychainError as error:
            reason = str(error)
        _log.warning("an older login stays in the keyring (service %s, user %s): %s", SERVICE, base, reason)

    def _there(self) -> bool:
        """Whether there may be any. It must be safe to believe them."""
        return check_folder(self._root, readable=True) and check_folder(self._folder)

    def _path(self, base: URL) -> Path:
        host = _UNFIT.sub("_", base.raw_host or "")[:80]
        digest = hashlib.sha256(str(base).encode()).hexdigest()[:16]
        return self._folder / f"{host}-{base.port}-{digest}.json"


def _parsed(url: str) -> URL:
    try:
        return URL(url)
    except ValueError:
        raise ConfigError("that is no url of an instance") from None


def _base(url: URL) -> URL:
    """The address that a login belongs to, in one spelling."""
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError("that is no url of an instance", hint="e.g. https://1.2.3.4:8188")
    port = None if url.is_default_port() else url.explicit_port
    return URL.build(scheme=url.scheme, host=url.host, port=port, path=url.path.rstrip("/"))


def _record_of(login: StoredLogin, base: URL) -> Record:
    from comfyclient.auth.store._record import Record, Secrets

    return Record(
        url=str(base),
        kind=login.kind,
        username=login.username,
        comfy_user=login.comfy_user,
        fingerprint=login.fingerprint,
        saved_at=login.saved_at,
        secrets=Secrets(credential=login.credential, cookies=login.cookies),
    )


def _login(record: Record) -> StoredLogin:
    assert record.secrets is not None
    return StoredLogin(
        url=record.url,
        kind=record.kind,
        credential=record.secrets.credential,
        cookies=record.secrets.cookies,
        fingerprint=record.fingerprint,
        comfy_user=record.comfy_user,
        username=record.username,
        saved_at=record.saved_at,
    )
