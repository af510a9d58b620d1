"""Local names for what a server names: safe on every system, inside the chosen folder, made by a template.

A server's names are hostile until proved otherwise: they may climb out of the folder, name a device, hide, or
be too long for the disk.
"""

from __future__ import annotations

import re
import string
import unicodedata
from typing import TYPE_CHECKING, Final

from comfyclient.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["DEFAULT_TEMPLATE", "FIELDS", "Template", "alternatives", "safe_name"]

DEFAULT_TEMPLATE: Final = "{filename}"

FIELDS: Final[Mapping[str, str]] = {
    "filename": "the instance's file name",
    "stem": "the file name without its extension",
    "ext": "the extension, without the dot",
    "subfolder": "the instance's subfolder, as folders",
    "prompt_id": "the job",
    "node": "the node's id",
    "title": "the node's title",
    "class": "the node's class",
    "kind": "images, audio, gifs, …",
    "type": "output or temp",
    "index": "place among the files of its node, from 0; {index:03} pads",
    "number": "place among the files of the job, from 1; {number:03} pads",
    "seed": "the job's first seed, or 'none'",
    "date": "when it was made, 2026-01-31",
    "time": "when it was made, 23-59-59",
}
"""What a template may hold, and what it means."""

_NUMBERS: Final = frozenset({"index", "number", "seed"})
_MAX_BYTES: Final = 200
_MAX_DEPTH: Final = 16
# Not allowed on Windows; ':' would even open another stream of a file.
_FORBIDDEN: Final = re.compile(r'[<>:"|?*/\\]')
_DEVICES: Final = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?$", re.DOTALL)


def safe_name(name: str, *, fallback: str = "unnamed") -> str:
    """One file name out of a text that may hold anything.

    The last part of a path; nothing that any system forbids, hides or takes for an option; at most 200 bytes
    of UTF-8, the extension kept; in NFC. What is safe already stays as it is.
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    text = "".join(map(_visible, unicodedata.normalize("NFC", last)))
    text = _trim(_FORBIDDEN.sub("_", text))
    if not text:
        return fallback
    if text[0] in "-.~" or _DEVICES.match(text):
        text = f"_{text}"
    return _shorten(text, _MAX_BYTES)


def _visible(char: str) -> str:
    # Control and format characters (they can turn the direction of writing), surrogates, line separators.
    return "_" if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} else char


def _trim(text: str) -> str:
    """Spaces around it, and dots at its end: Windows drops them, and two names become one."""
    return text.lstrip().rstrip(". \t\u00a0").rstrip()


def _split(name: str) -> tuple[str, str]:
    """Stem and extension, with its dot. A long tail is no extension."""
    stem, dot, ext = name.rpartition(".")
    return (stem, f".{ext}") if stem and dot and len(ext.encode()) <= 16 else (name, "")


def _shorten(name: str, limit: int) -> str:
    if len(name.encode()) <= limit:
        return name
    stem, ext = _split(name)
    cut = stem.encode()[: limit - len(ext.encode())].decode(errors="ignore")
    return (_trim(cut) or "_") + ext


def alternatives(name: str, *, after: int = -1) -> Iterator[str]:
    """The name, then ``"name (1).ext"``, ``"name (2).ext"``, …, for as long as names are taken.

    Those up to number ``after`` are left out; the name itself is number 0.
    """
    if after < 0:
        yield name
    stem, ext = _split(name)
    count = max(after, 0)
    while True:
        count += 1
        mark = f" ({count})"
        yield _shorten(stem, _MAX_BYTES - len(mark) - len(ext.encode())) + mark + ext


class Template:
    """A pattern for local names, such as ``"{prompt_id}/{node}_{index:03}.{ext}"``.

    Its ``/`` make folders; those in values do not, apart from ``{subfolder}``. The file's own extension is
    added if the pattern does not end in it. See `FIELDS`.

    Raises:
        ConfigError: It is no such pattern.
    """

    def __init__(self, text: str = DEFAULT_TEMPLATE) -> None:
        self.text = text
        self._parts = list(_parse(text))

    def render(self, values: Mapping[str, str | int]) -> tuple[str, ...]:
        """The folders and, last, the file name. Every part is safe.

        Args:
            values: One for each of `FIELDS`.
        """
        text = ""
        for literal, field, spec in self._parts:
            text += literal
            if field is not None:
                text += _insert(field, values[field], spec)
        parts = [safe_name(part) for part in text.split("/") if part.strip()]
        *folders, name = parts[:_MAX_DEPTH] or [safe_name(str(values["filename"]))]
        extension = safe_name(str(values["ext"]), fallback="")
        if extension and not name.lower().endswith(f".{extension}".lower()):
            name = safe_name(f"{name}.{extension}")
        return (*folders, name)

    def __repr__(self) -> str:
        return f"Template({self.text!r})"


def _parse(text: str) -> Iterator[tuple[str, str | None, str]]:
    text = text.replace("\\", "/")
    if text.startswith("/") or re.match(r"[A-Za-z]:", text):
        raise ConfigError(f"the template {text!r} is an absolute path; it must name files inside the output folder")
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ConfigError(f"the template {text!r} cannot be read: {error}") from None
    for literal, field, spec, conversion in parts:
        if ".." in literal.split("/"):
            raise ConfigError(f"the template {text!r} leads out of the output folder")
        if field is not None and (field not in FIELDS or conversion):
            known = ", ".join(f"{{{name}}}" for name in FIELDS)
            raise ConfigError(f"the template {text!r} holds {{{field}}}, which is no field", hint=f"fields: {known}")
        if spec and (field not in _NUMBERS or not re.fullmatch(r"0?[0-9]{1,2}", spec)):
            raise ConfigError(f"the template {text!r}: {{{field}:{spec}}} cannot be; pad numbers as in {{index:03}}")
        yield literal, field, spec or ""


def _insert(field: str, value: str | int, spec: str) -> str:
    if isinstance(value, int):
        return format(value, spec)
    if field == "subfolder":
        return "/".join(safe_name(part) for part in re.split(r"[/\\]", value) if part.strip())
    return re.sub(r"[/\\]", "_", value)
