"""Texts that would give a secret away, however it was encoded on its way into them, and however often.

Servers repeat what they were sent in JSON, in JSON within JSON, percent-encoded once or twice, in HTML, in what
Python's ``repr`` makes of it, in base64, and in mixtures of these. None of these encodings changes ASCII letters and
digits. So a secret's longest run of them tells at once that a text does not hold it, and the others are looked for,
each in any of its guises, only where that run is.

A secret that is very long, or of very many other characters, would make the server that is to hide it slow: it is
looked for as it is, and in the encodings that are most common, each by itself.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Disguises", "disguises_of"]

_SHORTEST: Final = 4  # a mask for less would blot out innocent text, and hide nothing that cannot be guessed
_BASE64_SHORTEST: Final = 6
_LONGEST: Final = 4096  # of a secret that is looked for in any guise
_MOST_ENCODED: Final = 128  # characters of a text that encodings change; the time that is needed grows with them
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_SAFE: Final = re.compile("[A-Za-z0-9]+")
_PIECES: Final = re.compile(r"[A-Za-z0-9]+|\\+|.", re.DOTALL)
# All repetitions have an end, so that no text takes longer than its length demands.
_MOST: Final = 31  # backslashes before a character: JSON five deep
_BACKSLASH: Final = r"(?:\\|%(?:25){0,6}5[cC])"
_SAME: Final = re.compile(r"%(?:25)*5c", re.IGNORECASE)
_BACKSLASHES: Final = ("\\", "%5c", "%5C", "%255c", "%255C")
_LETTERS: Final = {"\n": "n", "\t": "t", "\r": "r", "\b": "b", "\f": "f", "\v": "v", "\a": "a", "\0": "0"}

_NAMES: Final = {'"': "quot", "&": "amp", "<": "lt", ">": "gt", "'": "apos"}


def _hex(number: int, digits: int) -> str:
    """The number in capital and small letters."""
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{number:0{digits}x}")


def _percent(byte: int) -> str:
    return r"%(?:25){0,7}" if byte == 0x25 else f"%(?:25){{0,6}}{_hex(byte, 2)}"


def _may_be_percent(char: str) -> str:
    return f"(?:{re.escape(char)}|{_percent(ord(char))})"


_AMPERSAND, _NUMBER, _SEMICOLON = map(_may_be_percent, "&#;")


class Disguises:
    """A text in all its guises.

    Args:
        text: The text.
        exactly: It has no guises but itself.

    Attributes:
        core: What every one of them has in it: a text without it has none of them. It may be empty.
    """

    __slots__ = ("_exactly", "_pattern", "_text", "core")

    def __init__(self, text: str, *, exactly: bool = False) -> None:
        self._text = text
        self._pattern: re.Pattern[str] | None = None
        self.core = max(_SAFE.findall(text), key=len, default="")
        self._exactly = exactly or self.core == text or _encoded_characters(text) > _MOST_ENCODED

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where in a text it is."""
        yield from _occurrences(self._text, text)
        if self._exactly:
            return
        if self._pattern is None:
            self._pattern = re.compile(_pattern(self._text))
        for match in self._pattern.finditer(text):
            yield _before(text, match.start()), match.end()


class _Long(Disguises):
    """A long text as it is, or encoded once. What it looks like then is not kept: that is many times its size."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        super().__init__(text, exactly=True)
        self.core = ""

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where in a text it is."""
        if len(text) < len(self._text):  # no encoding makes it shorter
            return
        for form in {self._text} | _once_encoded(self._text) | _in_base64(self._text, once=False):
            yield from _occurrences(form, text)


def disguises_of(value: str) -> tuple[Disguises, ...]:
    """Those of a secret, and of what HTTP makes of it: blanks at its edges are trimmed there. None if it is short."""
    texts = {text for text in (value, value.strip()) if len(text) >= _SHORTEST}
    if len(value) > _LONGEST or _encoded_characters(value) > _MOST_ENCODED:
        return tuple(map(_Long, sorted(texts)))
    if any(len(text.replace("\\", "")) < _SHORTEST for text in texts):  # else others' backslashes would be masked
        return tuple(Disguises(text, exactly=True) for text in sorted(_of_backslashes(texts)))
    encoded = {form for text in texts for form in _in_base64(text)}
    hosts = {text.lower() for text in texts if _HOST.fullmatch(text)}  # as the names of hosts are written
    return tuple(Disguises(text) for text in sorted(texts | encoded | hosts))


def _encoded_characters(text: str) -> int:
    return len(text) - sum(map(len, _SAFE.findall(text)))


def _of_backslashes(texts: set[str]) -> set[str]:
    once = {form for text in texts for form in _once_encoded(text)}
    twice = {form for text in once for form in _once_encoded(text)}
    return texts | once | twice | {form for text in texts for form in _in_base64(text)}


def _occurrences(part: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(part)
    while start >= 0:
        yield start, start + len(part)
        start = text.find(part, start + len(part))


def _before(text: str, start: int) -> int:
    """Where the escape begins whose last character is there."""
    for _ in range(_MOST):
        if not text.endswith(_BACKSLASHES, 0, start):
            break
        start = start - 1 if text[start - 1] == "\\" else text.rindex("%", 0, start)
    return start


def _pattern(text: str) -> str:
    """A regular expression for all guises of a text, but for backslashes before it, which `_before` finds."""
    # A text that holds what stands for a backslash could be read in too many ways.
    escape = r"\\" if _SAME.search(text) else _BACKSLASH
    some, any_number = f"{_BACKSLASH}{{1,{_MOST}}}", f"{escape}{{0,{_MOST}}}"
    parts, before = [], ""
    for piece in _PIECES.findall(text.lstrip("\\")):
        if _SAFE.match(piece):
            parts.append(piece)
        elif piece[0] == "\\":
            parts.append(some)
        else:  # behind backslashes, if they are not part of the text, or the beginning
            parts.append("" if before in {"", "\\"} else any_number)
            parts.append(_any_of(piece, some, any_number))
        before = piece[0]
    return "".join(parts)


def _any_of(char: str, some: str, any_number: str) -> str:
    """A character, as it is or encoded. The other arguments stand for backslashes."""
    guises = [*_guises(char, any_number)]
    raw = char.encode("utf-8", "surrogatepass")
    if len(raw) > 1:  # bytes that somebody took for Latin-1
        guises.append(any_number.join(f"(?:{'|'.join(_guises(chr(byte), any_number))})" for byte in raw))
    if char in _LETTERS:
        guises.append(some + _LETTERS[char])
    return f"(?:{'|'.join(guises)})"


def _guises(char: str, escape: str) -> Iterator[str]:
    """How a character is written: as it is, in JSON, Python, URLs, cookies and HTML; backslashes are left out."""
    code = ord(char)
    if char != "%":
        yield re.escape(char)
    yield "".join(_percent(byte) for byte in char.encode("utf-8", "surrogatepass"))
    yield escape.join(f"u{_hex(unit, 4)}" for unit in _utf16(code))
    yield f"U{_hex(code, 8)}"
    if code < 0x100:
        yield f"x{_hex(code, 2)}|{code:03o}"
    if 0x80 <= code < 0x100:
        yield _percent(code)
    if char == " ":
        yield _may_be_percent("+")
    elif 0xD800 <= code < 0xE000:  # half a character, which some write so
        yield r"\?|\ufffd"
    name = f"{_NAMES[char]}|" if char in _NAMES else ""
    number = f"{_NUMBER}(?:0{{0,6}}{code}|[xX]0{{0,6}}{_hex(code, 1)})"
    yield f"{_AMPERSAND}(?:amp{_SEMICOLON}){{0,6}}(?:{name}{number}){_SEMICOLON}"


def _utf16(code: int) -> tuple[int, ...]:
    if code < 0x10000:
        return (code,)
    return 0xD800 + (code - 0x10000 >> 10), 0xDC00 + (code - 0x10000 & 0x3FF)


def _in_base64(value: str, *, once: bool = True) -> set[str]:
    """What base64 makes of the value, and (``once``) of what other encodings make of it, inside a longer text."""
    forms = set()
    for text in {value} | (_once_encoded(value) if once else set()):
        raw = text.encode("utf-8", "surrogatepass")
        if len(raw) >= _BASE64_SHORTEST:
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                forms |= {_inner_base64(encode, raw, shift) for shift in range(3)}
    return {form for form in forms if len(form) >= _SHORTEST}


def _once_encoded(value: str) -> set[str]:
    raw = value.encode("utf-8", "surrogatepass")
    return {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], quote(raw, safe=""), quote_plus(raw)}


def _inner_base64(encode: Any, raw: bytes, shift: int) -> str:
    """What base64 makes of the bytes inside a longer text, without the digits that neighbours have a part in."""
    digits: str = encode(b"\0" * shift + raw).decode().rstrip("=")
    whole = (shift + len(raw)) % 3 == 0
    return digits[0 if shift == 0 else shift + 1 : None if whole else -1]
