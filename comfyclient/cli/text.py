"""Text for people: what a server says made harmless, tables, durations and sizes."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["count", "duration", "message", "one_line", "printable", "size", "table"]

_LINES: Final = 40
_LINE: Final = 500
_CELL: Final = 1000

# Control characters can move the cursor, retitle the window or answer in the user's place; the others turn the
# direction of writing, so that a name reads as another.
_HARMFUL: Final = {
    code: "\ufffd"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\n\t"
}


def printable(text: str) -> str:
    """The text with every character replaced that could steer a terminal; lines and tabs stay."""
    return text.replace("\r\n", "\n").translate(_HARMFUL)


def message(text: str, lines: int = _LINES) -> str:
    """The text as one message: every line but the first indented, so that none of them can pass for another message.

    Lines are cut at 500 characters, and the whole at ``lines`` lines.
    """
    first, *rest = (_cut(line) for line in printable(text).split("\n"))
    shown = [first, *(line if line.startswith("  ") else f"  {line}" for line in rest[: lines - 1])]
    if len(rest) >= lines:
        shown[-1] = f"  … ({count(len(rest) - lines + 2, 'more line')})"
    return "\n".join(shown)


def _cut(line: str) -> str:
    return line if len(line) <= _LINE else line[: _LINE - 1] + "…"


def one_line(text: str, width: int = 60) -> str:
    """The text in one line of at most ``width`` characters."""
    line = " ".join(printable(text[: 4 * width]).split())
    return line if len(line) <= width and len(text) <= 4 * width else line[: width - 1].rstrip() + "…"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of aligned columns. Columns that are empty in every row are left out."""
    cells = [[one_line(cell, _CELL) for cell in row] for row in rows]
    kept = [column for column in range(len(header)) if any(row[column] for row in cells)]
    lines = [[header[column] for column in kept], *([row[column] for column in kept] for row in cells)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(_pad, line, widths)).rstrip() for line in lines]


def duration(seconds: float | None) -> str:
    """``"0.8 s"``, ``"42 s"``, ``"3:05 min"``, ``"1:02:03 h"``; empty if unknown."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def size(octets: int | None) -> str:
    """``"512 B"``, ``"1.5 MB"``, ``"24.3 GB"``; empty if unknown."""
    if octets is None:
        return ""
    amount = float(octets)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TB"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """``"1 file"``, ``"3 files"``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
