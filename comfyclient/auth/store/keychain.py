"""The keyring of the system, where one is installed and works: ``pip install comfyclient[keyring]``.

Backends that write plain text are never used: a file of our own, that others cannot read, is no worse and is expected.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any, Final

__all__ = ["SERVICE", "Keychain", "KeychainError", "find_keychain"]

SERVICE: Final = "comfyclient"
"""What all entries are filed under."""

_log = logging.getLogger("comfyclient.auth")


class KeychainError(Exception):
    """The keyring is locked, or fails. Its own words are not repeated: backends may put anything into them."""


class Keychain:
    """A keyring that can be trusted with secrets. Each call may ask the user to unlock it, and waits until then."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def read(self, user: str) -> str | None:
        """The secret of an entry; ``None`` if there is no such entry.

        Raises:
            KeychainError: Locked, or failing.
        """
        secret = self._call("get_password", user)
        return secret if isinstance(secret, str) else None

    def write(self, user: str, secret: str) -> None:
        """Make or replace an entry, and make sure that it is there.

        Raises:
            KeychainError: Locked, or failing.
        """
        self._call("set_password", user, secret)
        if self.read(user) != secret:
            raise KeychainError("it does not keep what it is given")

    def delete(self, user: str) -> bool:
        """Remove an entry. Whether there was one.

        Raises:
            KeychainError: Locked, or failing.
        """
        if self.read(user) is None:
            return False
        self._call("delete_password", user)
        return True

    def _call(self, method: str, *arguments: str) -> Any:
        try:
            return getattr(self._backend, method)(SERVICE, *arguments)
        except Exception as error:  # noqa: BLE001 - each backend has its own: of D-Bus, of the system, of keyring
            _log.debug("keyring: %s raised %s", method, type(error).__name__)
            raise KeychainError(type(error).__name__) from None


def find_keychain() -> Keychain | None:
    """The keyring that keyring itself would take, if it is one for secrets; ``None`` if there is none."""
    try:
        keyring = importlib.import_module("keyring")
        chosen = keyring.get_keyring()
        # A chain asks one after the other, plain-text ones too. Take the best of it alone.
        chained = type(chosen).__module__ == "keyring.backends.chainer"
        candidates = list(chosen.backends) if chained else [chosen]
    except ImportError:
        return None
    except Exception as error:  # noqa: BLE001 - a backend that is configured and cannot be made raises what it likes
        _log.debug("keyring: no backend (%s)", type(error).__name__)
        return None
    return next((Keychain(backend) for backend in candidates if _keeps_secrets(backend)), None)


def _keeps_secrets(backend: Any) -> bool:
    if any(kind.__module__.startswith("keyrings.alt") for kind in type(backend).__mro__):
        return False
    try:
        return float(backend.priority) > 0  # that of the null and the failing backend is not
    except Exception as error:  # noqa: BLE001 - computed by the backend, which asks the system
        _log.debug("keyring: %s does not work here (%s)", type(backend).__name__, type(error).__name__)
        return False
