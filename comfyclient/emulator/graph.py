"""Which node runs next, and what makes two nodes the same: order and signatures of a prompt's graph."""

from __future__ import annotations

import bisect
import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from comfyclient.emulator.jsontext import server_json
from comfyclient.emulator.validate import is_link

__all__ = ["Order", "signatures"]


class Order:
    """The nodes that are still to run, dissolved from the leaves.

    Ready nodes are picked as ComfyUI does: outputs first, then what feeds an output, then what feeds that, then
    whatever was noted first. Lazy inputs are no reason to wait until somebody asks for them.

    Args:
        prompt: The graph.
        is_output: Whether a node is an output.
        is_lazy: Whether an input (node id, name) is lazy.
        is_cached: Whether a node's result is there already.
    """

    def __init__(
        self,
        prompt: Mapping[str, Any],
        *,
        is_output: Callable[[str], bool],
        is_lazy: Callable[[str, str], bool],
        is_cached: Callable[[str], bool],
    ) -> None:
        self._prompt = prompt
        self._is_output = is_output
        self._is_lazy = is_lazy
        self._is_cached = is_cached
        self._rank: dict[str, int] = {}
        self._waits_for: dict[str, int] = {}
        self._blocks: dict[str, dict[str, None]] = {}
        self._ready: list[tuple[int, str]] = []

    def __bool__(self) -> bool:
        return bool(self._waits_for)

    def add(self, node_id: str) -> None:
        """Note a node and all that it needs."""
        links = []
        stack = [node_id]
        while stack:
            current = stack.pop()
            if current in self._waits_for:
                continue
            self._rank[current] = len(self._rank)
            self._waits_for[current] = 0
            self._blocks[current] = {}
            bisect.insort(self._ready, (self._rank[current], current))
            for source in self._sources(current):
                if not self._is_cached(source):
                    stack.append(source)
                links.append((source, current))
        for source, target in links:
            self.add_link(source, target)

    def _sources(self, node_id: str) -> Iterator[str]:
        for name, value in self._prompt[node_id]["inputs"].items():
            if is_link(value) and not self._is_lazy(node_id, name):
                yield value[0]

    def add_link(self, source: str, target: str) -> None:
        """Let ``target`` wait for ``source``, unless its result is there."""
        if self._is_cached(source):
            return
        self.add(source)
        if target not in self._blocks[source]:
            self._blocks[source][target] = None
            if self._waits_for[target] == 0:
                self._ready.remove((self._rank[target], target))
            self._waits_for[target] += 1

    def pick(self) -> str | None:
        """The node to run next; ``None`` if all of them wait for each other."""
        ready = [node_id for _, node_id in self._ready]
        for node_id in ready:
            if self._is_output(node_id):
                return node_id
        for node_id in ready:
            if any(map(self._is_output, self._blocks[node_id])):
                return node_id
        for node_id in ready:
            if any(self._is_output(after) for blocked in self._blocks[node_id] for after in self._blocks[blocked]):
                return node_id
        return ready[0] if ready else None

    def complete(self, node_id: str) -> None:
        """The node has run: those behind it wait for one less."""
        self._ready.remove((self._rank[node_id], node_id))
        del self._waits_for[node_id]
        for blocked in self._blocks.pop(node_id):
            self._waits_for[blocked] -= 1
            if self._waits_for[blocked] == 0:
                bisect.insort(self._ready, (self._rank[blocked], blocked))

    def stuck(self) -> str:
        """A node to blame when nothing can run."""
        return next(iter(self._waits_for))


def signatures(prompt: Mapping[str, Any], changed: Mapping[str, Any], own_id: Callable[[str], bool]) -> dict[str, str]:
    """A digest for each node: equal for nodes of the same class, inputs and ancestors.

    Args:
        prompt: The graph. Links to nodes that are not there, and cycles, give a digest that equals no other.
        changed: Fingerprints by node id, for classes that have one; NaN equals nothing.
        own_id: Whether a class's result depends on its node's id.

    Raises:
        KeyError: A node has no ``inputs``.
    """
    found: dict[str, str] = {}
    for root in prompt:
        stack = [root]
        under_way: dict[str, None] = {}
        while stack:
            current = stack[-1]
            if current in found:
                stack.pop()
                continue
            under_way[current] = None
            waiting = [source for source in _linked(prompt, current) if source not in found and source in prompt]
            if any(source in under_way for source in waiting):
                found[current] = uuid.uuid4().hex  # a cycle; only nodes that no output needs can be in one
            elif waiting:
                stack += waiting
                continue
            else:
                found[current] = _sign(prompt, current, found, changed, own_id)
            stack.pop()
            under_way.pop(current, None)
    return found


def _linked(prompt: Mapping[str, Any], node_id: str) -> list[str]:
    return [value[0] for value in prompt[node_id]["inputs"].values() if is_link(value)]


def _sign(
    prompt: Mapping[str, Any],
    node_id: str,
    found: Mapping[str, str],
    changed: Mapping[str, Any],
    own_id: Callable[[str], bool],
) -> str:
    node = prompt[node_id]
    fingerprint = changed.get(node_id, False)
    if fingerprint != fingerprint:  # noqa: PLR0124 - NaN: never the same again
        fingerprint = uuid.uuid4().hex
    parts: list[Any] = [node["class_type"], fingerprint, node_id if own_id(node["class_type"]) else None]
    for name, value in sorted(node["inputs"].items()):
        if is_link(value):
            parts.append([name, "link", found.get(value[0]) or uuid.uuid4().hex, value[1]])
        else:
            parts.append([name, value])
    return hashlib.sha256(server_json(parts).encode()).hexdigest()
