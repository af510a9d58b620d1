"""Bytes that come in pieces, read by generators that wait with ``yield`` for more. No I/O.

::

    def walk(tape: Tape) -> Walk:
        yield from tape.skip(8)
        (size,) = unpack(">I", (yield from tape.take(4)))
        ...
        return Verdict.WHOLE
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Generator

__all__ = ["Tape", "Verdict", "Walk"]


class Verdict(enum.Enum):
    """What can be said of a file whose length nobody told."""

    WHOLE = enum.auto()
    CUT = enum.auto()
    UNKNOWN = enum.auto()
    """Its kind does not show where it ends."""


Walk: TypeAlias = "Generator[None, None, Verdict]"
"""A reader of one kind of file. It returns as soon as it knows, whatever follows."""


class Tape:
    """What came and was not read yet.

    Attributes:
        data: It may be looked at, and bytes at its beginning deleted.
        at_end: The verdict if nothing more comes and ``data`` is empty; otherwise something is missing.
        judge: Gives the verdict, for what is in ``data`` at the end; for a kind that nothing else tells about.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.at_end = Verdict.CUT
        self.judge: Callable[[bytes], Verdict] | None = None
        self._over = 0

    def add(self, data: bytes) -> None:
        """More came."""
        passed = min(self._over, len(data))
        self._over -= passed
        self.data += memoryview(data)[passed:]

    def ended(self) -> Verdict:
        """Nothing more comes."""
        if self.judge is not None:
            return self.judge(bytes(self.data))
        return Verdict.CUT if self.data or self._over else self.at_end

    def take(self, size: int, at_end: Verdict = Verdict.CUT) -> Generator[None, None, bytes]:
        """The next bytes. ``at_end`` is the verdict if there are none at all."""
        self.at_end = at_end
        while len(self.data) < size:
            yield
        self.at_end = Verdict.CUT
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken

    def skip(self, size: int) -> Generator[None, None, None]:
        """Pass over so many bytes, without keeping them."""
        here = min(size, len(self.data))
        del self.data[:here]
        self._over = size - here
        while self._over:
            yield

    def seek(self, pattern: re.Pattern[bytes]) -> Generator[None, None, None]:
        """Pass over everything before a pattern, which matches two bytes."""
        while (found := pattern.search(self.data)) is None:
            del self.data[:-1]
            yield
        del self.data[: found.start()]
