"""One file on its way, as a state machine: what to ask for next, and what an answer is worth. No I/O.

ComfyUI takes no notice of ``If-Range`` with an ETag and answers 206 whatever it says, so a file that was replaced
meanwhile would be glued to the beginning of the old one. What a 206 holds is therefore compared here.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from comfyclient.wire.tape import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AnswerHead", "ContentRange", "Fetch", "Take"]

_RANGE: Final = re.compile(r"bytes\s+(?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18}|\*)", re.ASCII | re.IGNORECASE)
_SETTLED: Final = dt.timedelta(seconds=60)
_STRIDE: Final = 2**16
_RESTARTS: Final = 3


@dataclass(frozen=True, slots=True)
class ContentRange:
    """A Content-Range header. ``start`` and ``stop`` (exclusive) are ``None`` in that of a 416."""

    start: int | None
    stop: int | None
    total: int | None

    @classmethod
    def parse(cls, text: str) -> ContentRange | None:
        """Read the header; ``None`` if it makes no sense."""
        found = _RANGE.fullmatch(text.strip())
        if found is None:
            return None
        first, last, whole = found.groups()
        total = None if whole == "*" else int(whole)
        if first is None:
            return cls(None, None, total)
        start, stop = int(first), int(last) + 1
        sound = start < stop and (total is None or stop <= total)
        return cls(start, stop, total) if sound else None


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What the head of an answer says about the file behind it.

    Attributes:
        status: The HTTP status.
        length: Bytes of the body; ``None`` if the head does not say.
        etag: The ETag, if it is a strong one: only that stands for the very same bytes.
        modified: Last-Modified, as text, if by then the file had long been as it is. It tells seconds only: of one that
            has just been written there may be two contents with the same date (RFC 9110, 8.8.2.2).
        range: Content-Range, if it makes sense.
        encoded: Whether the body is compressed. Places in it are then not those in the file.
    """

    status: int
    length: int | None = None
    etag: str | None = None
    modified: str | None = None
    range: ContentRange | None = None
    encoded: bool = False

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str]) -> AnswerHead:
        """Read the headers, whose names are looked up as HTTP writes them."""
        length, etag = headers.get("Content-Length", ""), headers.get("ETag", "").strip()
        counted = re.fullmatch(r"[0-9]{1,18}", length, re.ASCII) and "Transfer-Encoding" not in headers
        return cls(
            status,
            int(length) if counted else None,
            etag if re.fullmatch(r'"[^"]*"', etag) else None,
            _settled(headers.get("Last-Modified", ""), headers.get("Date", "")),
            ContentRange.parse(headers.get("Content-Range", "")),
            headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"},
        )


def _settled(modified: str, now: str) -> str | None:
    """A date of change that stands for the content: it was well before the answer, by the server's own clock."""
    try:
        age = email.utils.parsedate_to_datetime(now) - email.utils.parsedate_to_datetime(modified)
    except (ValueError, TypeError, OverflowError):  # neither dates, nor of one kind
        return None
    return modified if age >= _SETTLED else None


class Take(enum.Enum):
    """What an answer is worth."""

    ALL = enum.auto()
    """Its body is the file from the first byte on: what came before is of no use any more."""
    REST = enum.auto()
    """Its body goes on where the last one broke off."""
    NOTHING = enum.auto()
    """There is nothing left to fetch."""
    AGAIN = enum.auto()
    """Its body is of no use, nor is what came before: ask for the whole file."""
    REFUSED = enum.auto()
    """Its status says why there is no file."""


class Fetch:
    """The state. Ask with `headers`, tell `judge` the answer's head and `received` its bytes; `failed` if it broke.

    Args:
        retries: How often in a row it may fail without getting any further.

    Attributes:
        at: Bytes of the file that came.
        total: Bytes that it has; ``None`` while nobody said so.
        in_doubt: The body ended, and whether the file did is known only when more of it was asked for.
    """

    def __init__(self, *, retries: int) -> None:
        self.at = 0
        self.total: int | None = None
        self.in_doubt = False
        self._first = AnswerHead(0)
        self._seen: tuple[str | None, int] | None = None  # what ended at which length, and nobody said whether whole
        self._retries = retries
        self._failures = 0
        self._restarts = 0
        self._mark = _STRIDE

    @property
    def failures(self) -> int:
        """How often in a row it failed."""
        return self._failures

    def headers(self) -> dict[str, str]:
        """What the next request has to say."""
        return {"Range": f"bytes={self.at}-"} if self._goes_on() else {}

    def judge(self, head: AnswerHead) -> Take:
        """The head of the answer to a request with these `headers`."""
        in_doubt, self.in_doubt = self.in_doubt, False
        if head.status == 200 and in_doubt and self._is_this(head):
            return Take.NOTHING
        if head.status == 200:
            self._begin(head)
            return Take.ALL
        if not self._goes_on() or head.status not in {206, 416}:
            return Take.REFUSED
        if head.status == 416 and self._has_all(head):
            return Take.NOTHING
        if head.status == 206 and self._is_rest(head):
            if self.total is None and head.range is not None:
                self.total = head.range.total
            return Take.REST
        self._drop()
        return Take.AGAIN

    def received(self, size: int) -> None:
        """So many bytes came. Those that are new make up for earlier failures."""
        self.at += size
        if self.at >= self._mark:
            self._mark = self.at + _STRIDE
            self._failures = 0

    def ended(self, verdict: Verdict, *, framed: bool, broken: bool) -> bool:
        """The body came to its end. Returns whether that is the end of the file.

        Args:
            verdict: What the file itself says.
            framed: Whether the answer was of a kind whose end cannot be missed.
            broken: Whether the connection ended in a way that no server ends an answer.
        """
        if self.total is not None:
            return self.at == self.total
        if framed or verdict is not Verdict.UNKNOWN:
            return framed or verdict is Verdict.WHOLE
        if broken:
            return False
        # Sent twice by a server without ranges, and with the same end: nothing speaks against it any more.
        seen, self._seen = self._seen, (self._first.etag, self.at)
        self.in_doubt = self._goes_on() and seen != self._seen
        return not self.in_doubt

    def failed(self) -> bool:
        """The body broke off, or no answer came. Returns whether to ask again."""
        self._failures += 1
        if not self._goes_on():
            self._drop()
        return self._failures <= self._retries and not self.is_hopeless

    @property
    def is_hopeless(self) -> bool:
        """Whether it had to begin anew too often: the file changes, or can be had in one go only."""
        return self._restarts > _RESTARTS

    def _goes_on(self) -> bool:
        if not self.at or self._first.encoded or (self.total is not None and self.at >= self.total):
            return False
        return self._first.etag is not None or (self._first.modified is not None and self.total is not None)

    def _begin(self, head: AnswerHead) -> None:
        self._drop()
        self._first = head
        self.total = None if head.encoded else head.length

    def _drop(self) -> None:
        if self.at:
            self._restarts += 1
        self.at, self.total = 0, None

    def _is_rest(self, head: AnswerHead) -> bool:
        part = head.range
        if part is None or part.start != self.at or head.encoded:
            return False
        if self._first.etag is not None:
            return head.etag == self._first.etag and (self.total is None or part.total in {None, self.total})
        return head.modified == self._first.modified and part.total == self.total

    def _has_all(self, head: AnswerHead) -> bool:
        """A file whose length was not known came whole: there is nothing behind what came."""
        part = head.range
        whole = self.total is None and part is not None and part.total == self.at
        return whole and head.etag in {None, self._first.etag}

    def _is_this(self, head: AnswerHead) -> bool:
        """A server without ranges: what it would send now is as long as what came."""
        return head.length == self.at and head.etag == self._first.etag
