"""What can go wrong with a stream of bytes, named as toxiproxy names it. No I/O: a toxic answers with steps.

Sizes are bytes, times are seconds. Where a number may be a range, ``(low, high)``, it is drawn for each use.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Direction = Literal["up", "down"]
"""``"up"`` is to the server, ``"down"`` to the client."""

How = Literal["reset", "close"]
"""How a connection ends: with RST, or with FIN."""

Range = float | tuple[float, float]


@dataclass(frozen=True, slots=True)
class Send:
    """Send this on, after so many seconds."""

    data: bytes
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this to the client, after the answers to its earlier requests."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """End the connection on both sides."""

    how: How = "reset"


@dataclass(frozen=True, slots=True)
class CutLater:
    """End the connection so many seconds from now, whatever happens meanwhile."""

    seconds: float
    how: How = "reset"


@dataclass(frozen=True, slots=True)
class Hang:
    """From here on nothing goes through in this direction, not even the end of the connection."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Send this to the server on a second connection too."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Settle:
    """Wait for the answer on the second connection."""


Step = Send | Reply | Cut | CutLater | Hang | Copy | Settle


class Toxic:
    """The base: lets everything through. Its copies (see `fresh`) may keep state, for one direction of one stream."""

    direction: Direction | Literal["both"] = "down"
    only_reused = False  # for connections that have answered a request before
    chance: random.Random

    def fresh(self, chance: random.Random):
        """The same for one stream: with its own state, and its ranges drawn."""
        twin = copy.copy(self)
        twin.chance = chance
        twin.begin()
        return twin

    def begin(self) -> None:
        """Set the state."""

    def draw(self, value: Range) -> float:
        """The number, or one out of its range."""
        if not isinstance(value, tuple):
            return value
        low, high = value
        whole = isinstance(low, int) and isinstance(high, int)
        return self.chance.randint(low, high) if whole else self.chance.uniform(low, high)

    def start(self) -> Iterable[Step]:
        """What happens at once."""
        return ()

    def end(self) -> Iterable[Step]:
        """What happens before the end of the stream is passed on."""
        return ()

    def pieces(self, data: bytes) -> Iterable[Step]:
        """What becomes of these bytes."""
        return [Send(data)]

    def pass_on(self, step: Step) -> Iterable[Step]:
        """What becomes of a step of the toxic before this one."""
        if not isinstance(step, Send) or not step.data:
            return [step]
        first, *others = list(self.pieces(step.data)) or [Send(b"")]
        if isinstance(first, Send):
            return [replace(first, delay=first.delay + step.delay), *others]
        return [Send(b"", step.delay), first, *others]


@dataclass
class Latency(Toxic):
    """Each piece that is read comes later. What arrives meanwhile comes with the next piece."""

    seconds: float
    jitter: float = 0.0
    direction: Direction = "down"

    def pieces(self, data):
        return [Send(data, max(0.0, self.seconds + self.chance.uniform(-self.jitter, self.jitter)))]


@dataclass
class Bandwidth(Toxic):
    """So many bytes a second."""

    rate: float
    direction: Direction = "down"

    def pieces(self, data):
        size = max(1, int(self.rate / 20))
        parts = (data[start : start + size] for start in range(0, len(data), size))
        return [Send(part, len(part) / self.rate) for part in parts]


@dataclass
class Slicer(Toxic):
    """Small pieces instead of large ones."""

    average: int
    variation: int = 0
    delay: float = 0.0
    direction: Direction = "down"

    def pieces(self, data):
        steps, start = [], 0
        while start < len(data):
            size = max(1, self.average + self.chance.randint(-self.variation, self.variation))
            steps.append(Send(data[start : start + size], self.delay))
            start += size
        return steps


@dataclass
class LimitData(Toxic):
    """The connection ends behind so many bytes."""

    size: Range
    how: How = "close"
    direction: Direction = "down"

    def begin(self):
        self.left = int(self.draw(self.size))

    def pieces(self, data):
        sent = data[: self.left]
        self.left -= len(sent)
        return [Send(sent), Cut(self.how)] if self.left == 0 else [Send(sent)]


@dataclass
class Timeout(Toxic):
    """A black hole: nothing gets through, and the connection stays open; if there are ``seconds``, for so long."""

    seconds: Range | None = None
    direction: Direction | Literal["both"] = "both"

    def start(self):
        return [] if self.seconds is None else [CutLater(self.draw(self.seconds), "close")]

    def pieces(self, data):
        return [Hang()]

    def end(self):
        return [Hang()]


@dataclass
class ResetPeer(Toxic):
    """The connection is reset, so many seconds after it was opened or the request was seen."""

    seconds: Range = 0.0
    direction: Direction | Literal["both"] = "both"

    def start(self):
        seconds = self.draw(self.seconds)
        return [CutLater(seconds)] if seconds else [Cut()]


@dataclass
class SlowClose(Toxic):
    """The end of the connection is passed on so many seconds late."""

    seconds: float
    direction: Direction = "down"

    def end(self):
        return [Send(b"", self.seconds)]


@dataclass
class Corrupt(Toxic):
    """One bit is wrong in one of about so many bytes; in each, if ``every`` is 1.

    Which ones depends on the seed and the place in the stream, not on the pieces it comes in.
    """

    every: int
    direction: Direction = "down"

    def begin(self):
        self.skip = self._gap()

    def _gap(self):
        return self.chance.randrange(2 * self.every - 1)

    def flip(self, data: bytes) -> bytes:
        """These bytes with what is wrong in them."""
        spoiled = bytearray(data)
        place = self.skip
        while place < len(data):
            spoiled[place] ^= 1 << self.chance.randrange(8)
            place += 1 + self._gap()
        self.skip = place - len(data)
        return bytes(spoiled)

    def pieces(self, data):
        return [Send(self.flip(data))]
