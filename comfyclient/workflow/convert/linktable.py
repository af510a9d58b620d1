"""The links table of a node whose slots move while the page loads it, as releases with a links table keep it.

There a link sits on a slot number. When the slots change, the page takes down which slot held which link, and writes
the new numbers back; a link whose slot is gone goes with it, and one that no slot number matches waits for a slot to
come there. At the end links move to the slots of the names that the file gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from comfyclient.workflow.convert.model import Link, Node, Slot

__all__ = ["Layout", "LinkTable"]

Held: TypeAlias = dict[int, str]
"""Link ids by ``id(slot)``."""

Layout: TypeAlias = tuple[list[Slot], Held]
"""The slots at one time and the links that they held."""


class LinkTable:
    """Which link sits on which slot number of one node."""

    __slots__ = ("_at", "_node")

    def __init__(self, node: Node, incoming: Iterable[Link], named: Mapping[str, list[str]]) -> None:
        self._node = node
        self._at: dict[int, str] = {}
        for link in incoming:
            held = self._at.get(link.target_slot)
            # Of two links on one slot the first stays, unless only the second is named by an input.
            if held is None or (held not in named and link.id in named):
                self._at[link.target_slot] = link.id

    def take_down(self) -> Layout:
        """The slots as they are now, and what they hold."""
        inputs = list(self._node.inputs)
        return inputs, {id(slot): self._at[index] for index, slot in enumerate(inputs) if index in self._at}

    def write_back(self, before: Layout, held: Held) -> list[Slot]:
        """Give the node's present slots the links that they are to hold.

        Where another link sits on such a number the page gives up, and the slots stay as they were.

        Returns:
            The slots that are new and hold a link.
        """
        inputs, links = before
        assigned = [(index, held[id(slot)]) for index, slot in enumerate(self._node.inputs) if id(slot) in held]
        moving = {link for _, link in assigned}
        gone = {link for slot in inputs if (link := links.get(id(slot))) is not None}
        waiting = {index: link for index, link in self._at.items() if link not in moving and link not in gone}
        if any(index in waiting for index, _ in assigned):
            self._node.inputs = inputs
            return []
        self._at = waiting | dict(assigned)
        old = {id(slot) for slot in inputs}
        return [slot for slot in self._node.inputs if id(slot) in held and id(slot) not in old]

    def realign(self, named: Mapping[str, list[str]], moved_to: Callable[[int], None]) -> None:
        """Move links to the slots of their names; ``moved_to`` hears of each new slot number."""
        skipped: set[str] = set()
        for _ in range(2 * len(named) + 1):
            places = {link: index for index, link in self._at.items() if link in named}
            moves = {
                link: to for link in places if link not in skipped and (to := self._move(named[link], places[link]))
            }
            if not moves:
                return
            nowhere = {link for link in places if not self._slots(named[link])}
            gone = {link for link in nowhere if places[link] + 1 in moves.values()}
            waiting = {index: link for index, link in self._at.items() if link not in moves and link not in gone}
            blocked = {link for link, to in moves.items() if to - 1 in waiting}
            if blocked or len(set(moves.values())) < len(moves):
                skipped |= blocked or set(moves)
                continue
            self._at = waiting | {to - 1: link for link, to in moves.items()}
            for to in moves.values():
                moved_to(to - 1)

    def _slots(self, names: list[str]) -> list[int]:
        return [index for index, slot in enumerate(self._node.inputs) if slot.name in names]

    def _move(self, names: list[str], place: int) -> int:
        """The number of the slot to move to, plus one; 0 to stay."""
        slots = self._slots(names)
        return 0 if not slots or place in slots else slots[0] + 1

    def settle(self) -> None:
        """Let the slots hold what sits on their numbers."""
        for index, slot in enumerate(self._node.inputs):
            slot.saved_link = self._at.get(index)
