"""Whether a file came whole when nobody told its length: by how its kind ends. Nothing is decoded or kept.

A connection that simply ends looks the same for a file that is over and for one that is cut. Most media say inside
where they end: a last chunk, a last page, or a length at their beginning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from comfyclient.wire import containers
from comfyclient.wire.flac import flac
from comfyclient.wire.tape import Tape, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from comfyclient.wire.tape import Walk

__all__ = ["Trailer", "Verdict"]

_KINDS: Final[Mapping[bytes, Callable[[Tape], Walk]]] = {
    b"\x89PNG\r\n\x1a\n": containers.png,
    b"\xff\xd8\xff": containers.jpeg,
    b"GIF87a": containers.gif,
    b"GIF89a": containers.gif,
    b"RIFF": containers.riff,
    b"\x1a\x45\xdf\xa3": containers.ebml,
    b"OggS": containers.ogg,
    b"glTF": containers.glb,
    b"fLaC": flac,
}
_SNIFFED: Final = 12


class Trailer:
    """Watches a file go by, told apart by its first bytes: names may lie."""

    def __init__(self) -> None:
        self._tape = Tape()
        self._walk: Walk | None = None
        self._verdict: Verdict | None = None

    def feed(self, data: bytes) -> None:
        """The next piece of the file."""
        if self._verdict is not None:
            return
        self._tape.add(data)
        if self._walk is None:
            if len(self._tape.data) < _SNIFFED:
                return
            self._begin()
        self._go_on()

    def verdict(self) -> Verdict:
        """What can be said if the file ends here."""
        if self._verdict is not None:
            return self._verdict
        if self._walk is not None:
            return self._tape.ended()
        start = bytes(self._tape.data)  # shorter than any of the kinds
        begun = start[4:8] == b"ftyp" or any(known.startswith(start[: len(known)]) for known in _KINDS)
        return Verdict.CUT if begun else Verdict.UNKNOWN

    def _begin(self) -> None:
        walk = _kind(bytes(self._tape.data[:_SNIFFED]))
        if walk is None:
            self._settle(Verdict.UNKNOWN)
        else:
            self._walk = walk(self._tape)

    def _go_on(self) -> None:
        try:
            if self._walk is not None:
                next(self._walk)
        except StopIteration as stop:
            self._settle(stop.value)

    def _settle(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self._tape = Tape()  # forget what it holds


def _kind(head: bytes) -> Callable[[Tape], Walk] | None:
    for magic, walk in _KINDS.items():
        if head.startswith(magic):
            return walk
    if head[4:8] == b"ftyp":
        return containers.boxes
    return containers.safetensors if containers.is_safetensors(head) else None
