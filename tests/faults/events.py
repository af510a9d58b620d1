"""The parts of HTTP/1.1 messages, as `framing` finds them. Each has its bytes as ``raw``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto


class Part(Enum):
    """What a piece of a message is."""

    BODY = auto()
    FRAMING = auto()  # a chunk's size, the line end behind its data, a trailer
    END = auto()  # the message is over; often without bytes of its own
    OPAQUE = auto()  # no HTTP, or no longer


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a message behind its head."""

    part: Part
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Head:
    """The first line and the headers, with the empty line behind them."""

    raw: bytes
    headers: tuple[tuple[str, str], ...]  # names in lower case
    method: str = ""
    target: str = ""
    status: int = 0

    def all(self, name: str) -> list[str]:
        """The values of a header, split at commas."""
        return [part.strip() for key, value in self.headers if key == name for part in value.split(",")]

    @property
    def interim(self) -> bool:
        """Whether the answer itself is still to come, as behind a 100."""
        return 100 <= self.status < 200 and self.status != 101

    @property
    def length(self) -> int | None:
        """What Content-Length says, if it says one thing.

        Raises:
            ValueError: It says something else.
        """
        values = set(self.all("content-length"))
        if not values:
            return None
        if len(values) > 1 or not re.fullmatch(r"[0-9]{1,18}", value := values.pop()):
            raise ValueError("Content-Length")
        return int(value)

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return [coding.lower() for coding in self.all("transfer-encoding")][-1:] == ["chunked"]


Event = Head | Piece
