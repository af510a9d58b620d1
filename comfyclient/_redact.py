"""Secrets, and how they are kept out of texts.

Messages are written without secrets in the first place. This is the second line: a server may put into an answer what
it was sent. Every text that leaves for people or logs goes through `redact`, which knows each secret that is in use.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, NoReturn

from comfyclient._disguises import disguises_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from comfyclient._disguises import Disguises

__all__ = ["MASK", "RedactingFilter", "Secret", "redact", "redact_json"]

MASK: Final = "***"

_gate = threading.RLock()  # a signal handler may come in between, and have something to say
_live: weakref.WeakSet[Secret] = weakref.WeakSet()


class Secret:
    """A text that shows itself to nobody but the one who calls `reveal`. It is masked everywhere while it lives."""

    __slots__ = ("__weakref__", "_disguises", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
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
    """Masks secrets in log records, their arguments and tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; it is never dropped."""
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True


def redact(text: str) -> str:
    """The text with every secret in use masked, in whatever guise: see `comfyclient._disguises`."""
    with _gate:
        secrets = tuple(_live)
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


def redact_json(value: Any) -> Any:
    """A copy of a JSON value, however deep, with every text in it masked, the names of fields too."""
    top = [value]
    unmasked: list[Any] = [top]
    while unmasked:
        holder = unmasked.pop()
        for place in tuple(holder) if isinstance(holder, dict) else range(len(holder)):
            item = holder[place] = _masked(holder[place])
            if isinstance(item, dict | list):
                unmasked.append(item)
    return top[0]


def _masked(value: Any) -> Any:
    """The value masked; of a list or a mapping a copy, whose items are left as they are."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {_masked(key): item for key, item in value.items()}
    return list(value) if isinstance(value, list | tuple) else value
