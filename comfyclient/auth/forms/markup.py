"""HTML in pieces, in time that grows with its length and no faster.

The standard library's parser needs 25 seconds for 64 KiB of ``<a `` (Python 3.11), and some markup makes it raise.
What a login page is read for is less than a document tree: tags, their attributes, and text, cut as the HTML standard
cuts them (13.2.5), each character looked at a few times at most.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from html.entities import html5
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["SPACE", "Tag", "read_markup"]

SPACE: Final = " \t\n\f\r"
"""What HTML takes for space."""

# In these, '<' is text until their own end tag. <noscript> is not one of them: nothing here runs scripts.
_RAW: Final = frozenset({"iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp"})
_RAW_END: Final = {name: re.compile(rf"</{name}(?=[{SPACE}/>])", re.IGNORECASE | re.ASCII) for name in _RAW}

_OPENING: Final = re.compile(r"</?[A-Za-z]")
_NAME: Final = re.compile(rf"[^{SPACE}/>]+")
_BETWEEN: Final = re.compile(rf"[{SPACE}/]*")
_ATTRIBUTE: Final = re.compile(rf"=?[^{SPACE}/>=]*")
_EQUALS: Final = re.compile(rf"[{SPACE}]*=[{SPACE}]*")
_UNQUOTED: Final = re.compile(rf"[^{SPACE}>]*")
_COMMENT_END: Final = re.compile("--!?>")
# A name without its ';' counts only where no letter, digit or '=' follows: "?a=1&copy=2" holds no copyright sign.
_REFERENCE: Final = re.compile(r"&(?:#([0-9]+|[xX][0-9a-fA-F]+);?|[A-Za-z][A-Za-z0-9]{,40}(?:;|(?![=A-Za-z0-9])))")


@dataclass(frozen=True, slots=True)
class Tag:
    """A start or end tag.

    Attributes:
        name: In lower case.
        attributes: Names in lower case, the first of each; an end tag has none.
        closes: Whether it is an end tag.
    """

    name: str
    attributes: Mapping[str, str]
    closes: bool = False


def read_markup(page: str) -> Iterator[Tag | str]:
    """The tags and texts of a page, in order. Comments are left out, and so is what an unfinished end makes void.

    A text may come in several pieces. Never raises, whatever the page holds.
    """
    at = 0
    while (start := page.find("<", at)) >= 0:
        if start > at:
            yield _decoded(page[at:start])
        if _OPENING.match(page, start):
            found = _tag(page, start)
            if found is None:
                return
            tag, at = found
            yield tag
            if tag.name in _RAW and not tag.closes:
                end = _RAW_END[tag.name].search(page, at)
                text_end = end.start() if end else len(page)
                yield _decoded(page[at:text_end]) if tag.name in {"textarea", "title"} else page[at:text_end]
                at = text_end
        elif page.startswith(("<!", "<?", "</"), start):
            at = _after_comment(page, start)
        else:
            yield "<"
            at = start + 1
    if at < len(page):
        yield _decoded(page[at:])


def _tag(page: str, start: int) -> tuple[Tag, int] | None:
    """The tag that begins there, and where it ends; None if the page ends before."""
    closes = page[start + 1] == "/"
    name = _NAME.match(page, start + 1 + closes)
    assert name is not None  # a letter is there
    attributes: dict[str, str] = {}
    at = name.end()
    while True:
        at = _end(_BETWEEN, page, at)
        if at == len(page):
            return None
        if page[at] == ">":
            return Tag(name[0].lower(), {} if closes else attributes, closes), at + 1
        begin, at = at, _end(_ATTRIBUTE, page, at)
        key = page[begin:at].lower()
        value = ""
        if equals := _EQUALS.match(page, at):
            begin, end, at = _value(page, equals.end())
            value = _decoded(page[begin:end])
        attributes.setdefault(key, value)


def _value(page: str, at: int) -> tuple[int, int, int]:
    """Where an attribute's value begins and ends, and where to go on."""
    quote = page[at : at + 1]
    if quote and quote in "\"'":
        end = page.find(quote, at + 1)
        return (at + 1, end, end + 1) if end >= 0 else (at + 1, len(page), len(page))
    end = _end(_UNQUOTED, page, at)
    return at, end, end


def _after_comment(page: str, start: int) -> int:
    """Where a comment ends, or what is taken for one: a doctype, a processing instruction, ``</`` before no letter."""
    if not page.startswith("<!--", start):
        end = page.find(">", start)
        return end + 1 if end >= 0 else len(page)
    for whole in ("<!-->", "<!--->"):
        if page.startswith(whole, start):
            return start + len(whole)
    found = _COMMENT_END.search(page, start + 4)
    return found.end() if found else len(page)


def _end(pattern: re.Pattern[str], page: str, at: int) -> int:
    """Where a pattern that matches anything, even nothing, ends."""
    found = pattern.match(page, at)
    return found.end() if found else at


def _decoded(text: str) -> str:
    """The text with its character references replaced."""
    return _REFERENCE.sub(_character, text) if "&" in text else text


def _character(reference: re.Match[str]) -> str:
    text, number = reference[0], reference[1]
    if number is None:
        return html5.get(text[1:], text)
    digits = number.lstrip("xX").lstrip("0")
    if len(digits) > 7:  # no character, and maybe more than int() takes
        return "\ufffd"
    return html.unescape(f"&#{'x' if number[0] in 'xX' else ''}{digits or '0'};")
