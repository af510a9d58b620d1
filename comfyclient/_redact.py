"""Secrets, and how they are kept out of texts.

Messages are written without secrets in the first place. This is the second line: a server may put into an answer what
it was sent. Every text that leaves for people or logs goes through `redact`, which knows each secret that is in use.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import weakref
from typing import Any, Final, NoReturn
from urllib.parse import quote, quote_plus

__all__ = ["MASK", "RedactingFilter", "Secret", "redact", "redact_json"]

MASK: Final = "***"
_SHORTEST: Final = 4  # a mask for less would blot out innocent text, and hide nothing that cannot be guessed
_BASE64_SHORTEST: Final = 6

_gate = threading.RLock()  # a signal handler may come in between, and have something to say
_live: weakref.WeakSet[Secret] = weakref.WeakSet()


class Secret:
    """A text that shows itself to nobody but the one who calls `reveal`. It is masked everywhere while it lives."""

    __slots__ = ("__weakref__", "_forms", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._forms = _forms_of(value)
        with _gate:
            _live.add(self)

    def reveal(self) -> str:
        """The text itself: only for what is sent to the origin that it belongs to, or stored."""
        return self._value

    @property
    def forms(self) -> tuple[str, ...]:
        """The texts that would give it away, the longest first."""
        return self._forms

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
    """The text with every secret in use masked: as it is, percent-encoded, in JSON, in base64."""
    with _gate:
        secrets = tuple(_live)
    found = {form for secret in secrets for form in secret.forms if form in text}
    for form in sorted(found, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text


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


def _forms_of(value: str) -> tuple[str, ...]:
    """The forms of a secret, and of what HTTP makes of it: blanks at its edges are trimmed there."""
    forms = {form for text in {value, value.strip()} for form in _forms(text)}
    return tuple(sorted(forms, key=len, reverse=True))


def _forms(value: str) -> set[str]:
    if len(value) < _SHORTEST:
        return set()
    raw = value.encode("utf-8", "surrogatepass")
    forms = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    forms |= {repr(value)[1:-1], value.encode("utf-8", "replace").decode("latin-1")}
    for encoded in (quote(raw, safe=""), quote(raw), quote_plus(raw), quote(raw, safe="!$&'()*+,;=:@/?-._~")):
        forms |= {encoded, _lower_escapes(encoded)}
    if len(raw) >= _BASE64_SHORTEST:
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms |= {_inner_base64(encode, raw, shift) for shift in range(3)}
    return {form for form in forms if len(form) >= _SHORTEST}


def _inner_base64(encode: Any, raw: bytes, shift: int) -> str:
    """What base64 makes of the bytes inside a longer text, without the digits that neighbours have a part in."""
    digits: str = encode(b"\0" * shift + raw).decode().rstrip("=")
    whole = (shift + len(raw)) % 3 == 0
    return digits[0 if shift == 0 else shift + 1 : None if whole else -1]


def _lower_escapes(text: str) -> str:
    parts = text.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])
