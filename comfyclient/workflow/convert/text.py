"""What the page does to texts when it makes a prompt: dynamic prompts and ``%…%`` replacement."""

from __future__ import annotations

import datetime as dt
import random
import re
from collections.abc import Iterator
from typing import Any, Final

from comfyclient.workflow.convert.javascript import UNDEFINED, js_string
from comfyclient.workflow.convert.model import Graph, Node

__all__ = ["Replacer", "dynamic_prompt", "format_date"]

_COMMENT: Final = re.compile(r"/\*|//[^\n\r\u2028\u2029]*")
_SPECIAL: Final = re.compile(r"[\\{]")
_MARK: Final = re.compile(r"\\[\s\S]|[{}|]")
_UNESCAPE: Final = re.compile(r"\\([{}|])")


def dynamic_prompt(text: str, rng: random.Random) -> str:
    r"""Remove comments, resolve ``{a|b}`` choices at random, unescape ``\{ \} \|``."""
    return _UNESCAPE.sub(r"\1", _choose(_without_comments(text), rng))


def _without_comments(text: str) -> str:
    """The text without what is between ``/*`` and ``*/``, or after ``//`` on a line; in one pass over it.

    A single pattern would look for the end of each ``/*`` that has none up to the end of the text.
    """
    if "/*" not in text and "//" not in text:
        return text
    result: list[str] = []
    index = 0
    closed = True
    while found := _COMMENT.search(text, index):
        start, end = found.span()
        if text[start + 1] == "*":
            last = text.find("*/", end) if closed else -1
            closed = last >= 0
            if not closed:  # nor is any that opens later: it is no comment
                result.append(text[index:end])
                index = end
                continue
            end = last + 2
        result.append(text[index:start])
        index = end
    result.append(text[index:])
    return "".join(result)


def _choose(text: str, rng: random.Random, depth: int = 0) -> str:
    result: list[str] = []
    index = 0
    while found := _SPECIAL.search(text, index):
        at = found.start()
        result.append(text[index:at])
        if found[0] == "\\":
            # A lone backslash at the end meets JavaScript's undefined character.
            result.append("\\" + (text[at + 1] if at + 1 < len(text) else "undefined"))
            index = at + 2
        else:
            options, index = _options(text, at + 1)
            picked = rng.choice(options)
            result.append(_choose(_without_comments(picked), rng, depth + 1) if depth < 100 else picked)
    result.append(text[index:])
    return "".join(result)


def _options(text: str, start: int) -> tuple[list[str], int]:
    """The options of a choice that opens before ``start``, and the index after its end."""
    options: list[str] = []
    depth = 0
    for found in _MARK.finditer(text, start):
        char, at = found[0], found.start()
        if depth == 0 and char in "|}":
            options.append(text[start:at])
            start = at + 1
            if char == "}":
                return options, start
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
    options.append(text[start:])
    return options, len(text)


_DATE_TOKEN: Final = re.compile(r"d{1,2}|M{1,2}|h{1,2}|m{1,2}|s{1,2}|yyyy|yyy|yy")


def format_date(pattern: str, now: dt.datetime) -> str:
    """``yyyy-MM-dd`` and the page's other letters, wherever they occur."""
    fields = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def field(match: re.Match[str]) -> str:
        token = match[0]
        if token == "yy":  # noqa: S105
            return f"{now.year:04}"[2:]
        if token == "yyyy":  # noqa: S105
            return f"{now.year:04}"
        if token in {"yyy", "y"}:
            return token
        return f"{fields[token[0]]:0{len(token)}}"

    return _DATE_TOKEN.sub(field, pattern)


_TOKEN: Final = re.compile(r"%([^%]+)%")
_UNSAFE: Final = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')


class Replacer:
    """``%date:…%`` and ``%Node.widget%`` in texts, looked up in the whole workflow."""

    def __init__(self, root: Graph, now: dt.datetime) -> None:
        self._root = root
        self._now = now
        self._nodes: list[Node] | None = None

    def replace(self, text: str) -> str:
        """The text with every ``%…%`` that means something replaced."""
        return _TOKEN.sub(self._token, text) if "%" in text else text

    def _token(self, match: re.Match[str]) -> str:
        inside = match[1]
        parts = inside.split(".")
        if len(parts) == 2:
            return self._widget(parts[0], parts[1], match[0])
        if inside.startswith("date:"):
            return format_date(inside[len("date:") :], self._now)
        return match[0]

    def _widget(self, name: str, widget_name: str, whole: str) -> str:
        node = self._find(name)
        widget = node.widget(widget_name) if node is not None else None
        if widget is None:
            return whole
        value: Any = widget.value
        return _UNSAFE.sub("_", "" if value is None or value is UNDEFINED else js_string(value))

    def _find(self, name: str) -> Node | None:
        if self._nodes is None:
            self._nodes = list(_all_nodes(self._root, set()))
        for node in self._nodes:
            if _search_name(node) == name:
                return node
        for node in self._nodes:
            if _title(node) == name:
                return node
        return None


def _search_name(node: Node) -> Any:
    name = node.properties.get("Node name for S&R")
    if name is None and node.kind == "catalog":
        return node.type
    return name


def _title(node: Node) -> str | None:
    if node.title is not None or node.spec is None:
        return node.title
    shown = node.spec.raw.get("display_name")
    return shown if isinstance(shown, str) and shown else node.type


def _all_nodes(root: Graph, seen: set[int]) -> Iterator[Node]:
    """All nodes in search order: a host's inner nodes before the host. A definition used twice is met once."""
    stack: list[tuple[Node | None, Iterator[Node]]] = [(None, iter(root.nodes))]
    while stack:
        host, siblings = stack[-1]
        node = next(siblings, None)
        if node is None:
            stack.pop()
            if host is not None:
                yield host
        elif node.definition is not None and id(node.definition) not in seen:
            seen.add(id(node.definition))
            stack.append((node, iter(node.definition.nodes)))
        else:
            yield node
