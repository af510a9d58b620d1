"""Addresses of inputs: ``6.text``, ``57:12.seed``, ``"Positive Prompt".text``, ``KSampler.seed``.

An address is a node, a dot, and an input. The node is

* an id, or
* a title or a class without quotes, if only one node fits; or
* a title in double quotes, never taken for a class (a backslash before a quote or a backslash in it).

Titles and inputs may hold dots themselves (``5.model.images.image_0``), so every dot is tried, the longest
node name first. A node fits only if it has such an input. Ids go before names, exact case before any case.
"""

from __future__ import annotations

import difflib
import itertools
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from comfyclient.errors import EditError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from comfyclient.workflow.prompt import Prompt

    _Inputs = Callable[[str], Iterable[str]]

__all__ = ["NodeIndex", "split_assignment"]

_MAX_CANDIDATES: Final = 20
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\.', re.DOTALL)


class NodeIndex:
    """A prompt's nodes by id, title and class."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self._titles: dict[str, list[str]] = {}
        self._classes: dict[str, list[str]] = {}
        for node_id in prompt.nodes:
            self._titles.setdefault(prompt.title(node_id), []).append(node_id)
            self._classes.setdefault(prompt.class_type(node_id), []).append(node_id)

    def resolve(
        self, address: str, has_input: Callable[[str, str], bool], may_be: Callable[[str], bool] = lambda _: True
    ) -> tuple[str, str] | None:
        """The node id and the input that an address means; ``None`` if it fits nothing.

        Args:
            address: See the module.
            has_input: Whether the node of that id has an input of that name.
            may_be: Whether any node at all may have one, so that not all need be asked.

        Raises:
            EditError: It fits more than one node.
        """
        readings = [reading for reading in _readings(address) if may_be(reading.input)]
        for lookup in (self._by_id, self._by_name, self._by_folded_name):
            for reading in readings:
                found = [node for node in lookup(reading) if has_input(node, reading.input)]
                if len(found) > 1:
                    raise self._ambiguous(address, found, reading.input)
                if found:
                    return found[0], reading.input
        return None

    def unknown(self, address: str, inputs: _Inputs) -> EditError:
        """The error for an address that fits nothing, with addresses that may be meant.

        Args:
            address: The address.
            inputs: The names of a node's inputs.
        """
        for reading in _readings(address):
            nodes = self._by_id(reading) or self._by_name(reading) or self._by_folded_name(reading)
            if nodes:
                return self._no_such_input(address, nodes, reading.input, inputs)
        if not any(True for _ in _readings(address)):
            return EditError(f"{address!r} is no address", hint='write NODE.INPUT, as in 6.text or "My Title".text')
        return self._no_such_node(address, inputs)

    def _by_id(self, reading: _Reading) -> list[str]:
        return [reading.node] if reading.node in self._prompt.nodes and not reading.quoted else []

    def _by_name(self, reading: _Reading) -> list[str]:
        titled = self._titles.get(reading.node, [])
        if reading.quoted:
            return titled
        return list(dict.fromkeys([*titled, *self._classes.get(reading.node, [])]))

    def _by_folded_name(self, reading: _Reading) -> list[str]:
        wanted = reading.node.casefold()
        names = [self._titles] if reading.quoted else [self._titles, self._classes]
        found = (
            node for index in names for name, nodes in index.items() if name.casefold() == wanted for node in nodes
        )
        return list(dict.fromkeys(found))

    def _ambiguous(self, address: str, nodes: list[str], name: str) -> EditError:
        candidates = [(node, name) for node in nodes]
        shown = self._shown(candidates, _MAX_CANDIDATES)
        message = f"{address} fits {len(nodes)} nodes: {shown}"
        return EditError(message, candidates=_joined(candidates), hint="name the node by its id")

    def _no_such_input(self, address: str, nodes: list[str], name: str, inputs: _Inputs) -> EditError:
        known = [(node, found) for node in nodes[:_MAX_CANDIDATES] for found in inputs(node)]
        close = set(difflib.get_close_matches(name, [found for _, found in known], n=5))
        candidates = [pair for pair in known if pair[1] in close] or known
        if len(nodes) == 1:
            message = f"{address}: node {nodes[0]} ({self._prompt.title(nodes[0])}) has no input {name!r}"
        else:
            message = f"{address}: none of the {len(nodes)} nodes of that name has an input {name!r}"
        return self._with_candidates(message, candidates)

    def _no_such_node(self, address: str, inputs: _Inputs) -> EditError:
        spellings: dict[str, tuple[str, str]] = {}
        # A few thousand nodes are enough for a hint, and keep it fast.
        for node in itertools.islice(self._prompt.nodes, 2000):
            for name in inputs(node):
                for spelling in (node, self._prompt.title(node), self._prompt.class_type(node)):
                    spellings.setdefault(f"{spelling}.{name}", (node, name))
        close = difflib.get_close_matches(address.replace('"', ""), spellings, n=5)
        candidates = dict.fromkeys([spellings[spelling] for spelling in close] or spellings.values())
        return self._with_candidates(f"{address} fits no node", list(candidates))

    def _with_candidates(self, message: str, candidates: list[tuple[str, str]]) -> EditError:
        if not candidates:
            return EditError(message, hint="nothing there can be set")
        hint = f"there is {self._shown(candidates, 5)}; `comfyclient inputs` lists all"
        return EditError(message, candidates=_joined(candidates), hint=hint)

    def _shown(self, candidates: list[tuple[str, str]], most: int) -> str:
        shown = ", ".join(f"{node}.{name} ({self._prompt.title(node)})" for node, name in candidates[:most])
        return f"{shown}, …" if len(candidates) > most else shown


def _joined(candidates: list[tuple[str, str]]) -> list[str]:
    return [f"{node}.{name}" for node, name in candidates[:_MAX_CANDIDATES]]


class _Reading(NamedTuple):
    node: str
    input: str
    quoted: bool


def _readings(address: str) -> Iterator[_Reading]:
    """The ways to read an address, longest node name first."""
    quoted = _QUOTED.match(address)
    if quoted and quoted.end() < len(address):
        yield _Reading(re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), address[quoted.end() :], quoted=True)
    dot = address.rfind(".")
    while dot > 0:
        if dot + 1 < len(address):
            yield _Reading(address[:dot], address[dot + 1 :], quoted=False)
        dot = address.rfind(".", 0, dot)


def split_assignment(text: str) -> tuple[str, str] | None:
    """``ADDRESS=VALUE`` at its first equals sign outside a quoted title; ``None`` if there is none."""
    quoted = _QUOTED.match(text)
    equals = text.find("=", quoted.end() if quoted else 0)
    return None if equals <= 0 else (text[:equals].strip(), text[equals + 1 :])
