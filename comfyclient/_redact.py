"""Secrets, and how they are kept out of texts.

Messages are written without secrets in the first place. This is the second line: a server may put into an answer what
it was sent. Every text that leaves for people or logs goes through `redact`, which knows each secret that is in use.
"""

from __future__ import annotations

import logging
import threading
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NoReturn

from comfyclient._disguises import disguises_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from comfyclient._disguises import Disguises

__all__ = ["MASK", "RedactingFilter", "Secret", "keep_apart", "redact", "redact_json"]

MASK: Final = "***"

_gate = threading.RLock()  # a signal handler may come in between, and have something to say
_live: weakref.WeakSet[Secret] = weakref.WeakSet()
_user: ContextVar[str | None] = ContextVar("comfyclient_user", default=None)


def keep_apart(user: str) -> None:
    """From here on, this task and what it starts work for this user.

    Secrets that are made there are this user's. Texts that are made there are masked of them, and of secrets that are
    nobody's; not of other users'.
    """
    _user.set(user)


class Secret:
    """A text that shows itself to nobody but the one who calls `reveal`. It is masked everywhere while it lives.

    Args:
        value: The text.
        user: Whose it is: in texts for others it is not masked. By default that of the task, if it has one.
    """

    __slots__ = ("__weakref__", "_disguises", "_user", "_value")

    def __init__(self, value: str, *, user: str | None = None) -> None:
        self._value = value
        self._user = user if user is not None else _user.get()
        self._disguises = disguises_of(value)
        with _gate:
            _live.add(self)

    def reveal(self) -> str:
        """The text itself: only for what is sent to the origin that it belongs to, or stored."""
        return self._value

    @property
    def disguises(self) -> tuple[Disguises, ...]:
        """What would give it away; nothing if it is too short to be told from innocent text, and to be masked."""
        return self._disguises

    def concerns(self, user: str | None) -> bool:
        """Whether it is to be masked in texts for a user; ``None``: for anybody."""
        return user is None or self._user is None or self._user == user

    def is_in(self, text: str) -> bool:
        """Whether a text gives it away."""
        return any(d.core in text and any(d.spans(text)) for d in self._disguises)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class RedactingFilter(logging.Filter):
    """Masks secrets in log records, their arguments and tracebacks: those of all users, as all go into one log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; it is never dropped."""
        record.msg, record.args = _redact(record.getMessage(), None), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = _redact(record.exc_text, None)
        return True


def redact(text: str) -> str:
    """The text with every secret in use masked, in whatever guise: see `comfyclient._disguises`.

    In a task that works for a user, the secrets of others are left alone: see `keep_apart`.
    """
    return _redact(text, _user.get())


def _redact(text: str, user: str | None) -> str:
    with _gate:
        secrets = tuple(secret for secret in _live if secret.concerns(user))
    found = [d for secret in secrets for d in secret.disguises if d.core in text]
    spans = sorted(span for disguises in found for span in disguises.spans(text))
    return _mask(text, spans) if spans else text


def _mask(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """One mask for each span, and for all that overlap."""
    parts, end = [], 0
    for start, stop in spans:
        if start >= end:
            parts += [text[end:start], MASK]
        end = max(end, stop)
    return "".join([*parts, text[end:]])


def redact_json(value: Any, *, names: bool = True) -> Any:
    """A copy of a JSON value, however deep, with every text in it masked.

    Args:
        value: The value.
        names: Whether the names of fields are masked too; not if they are all ours.
    """
    top = [value]
    unmasked: list[Any] = [top]
    while unmasked:
        holder = unmasked.pop()
        for place in tuple(holder) if isinstance(holder, dict) else range(len(holder)):
            item = holder[place] = _masked(holder[place], names=names)
            if isinstance(item, dict | list):
                unmasked.append(item)
    return top[0]


def _masked(value: Any, *, names: bool) -> Any:
    """The value masked; of a list or a mapping a copy, whose items are left as they are."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(key) if names and isinstance(key, str) else key: item for key, item in value.items()}
    return list(value) if isinstance(value, list | tuple) else value
