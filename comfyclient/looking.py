"""Rounds of looks at the server's record, for many jobs at once, and what is made of those that fail.

A request that fails counts against the jobs only that it was for: one record may be too large to be read, and the queue
too, for it comes with every prompt in it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Final

from comfyclient._http import NeverSentError
from comfyclient.errors import AuthError, ComfyClientError, InstanceUnavailable, ProtocolError
from comfyclient.look import HistoryReader, ask_for, places_of, read_queue
from comfyclient.reach import OutOfReach, backoff
from comfyclient.wire.lifecycle import Look, Where
from comfyclient.wire.records import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from comfyclient._http import Http
    from comfyclient.following import Following
    from comfyclient.wire.events import JobEvent
    from comfyclient.wire.records import HistoryRecord

__all__ = ["Looker"]

# The queue comes with every prompt and workflow in it. Beyond so many bytes it is not read at any time: at most so
# many bytes a second, and a third of the time.
_LARGE_QUEUE: Final = 256 * 2**10
_QUEUE_RATE: Final = 4 * 2**20
_ONE_BY_ONE: Final = 32  # jobs that are asked for by themselves at a time, while the queue cannot be read
_IN_A_ROW: Final = 8  # records that cannot be had, behind which the others are left for later
# One refusal may be a proxy's mood, or it reloads. So many looks in a row, over so many seconds, mean that we are not
# let in.
_REFUSALS: Final = 3
_REFUSED_FOR: Final = 30.0


class Looker:
    """Looks at the record for the open jobs of one client.

    Args:
        http: The session of the instance.
        jobs: The open jobs by id, as they are at any time.
        patience: Seconds in which every look for a job fails and no message tells of it, after which it ends as
            UNKNOWN.
        learn: Called with what was seen of a job.
        settle: Called with a job and its events, when it was ended here.

    Attributes:
        told_at: When the server told of any job, ours or not; set by whoever hears that.
        not_before: When the next round may begin.
    """

    def __init__(
        self,
        http: Http,
        jobs: Mapping[str, Following],
        *,
        patience: float,
        learn: Callable[[Following, Look], None],
        settle: Callable[[Following, Iterable[JobEvent]], None],
    ) -> None:
        self._http = http
        self._history = HistoryReader(http)
        self._open = jobs
        self._patience = patience
        self._learn = learn
        self._settle = settle
        self.told_at = -math.inf
        self.not_before = 0.0
        self._answered = False  # whether the round of looks that is under way was of any use
        self._in_vain = 0  # rounds in a row that were of none
        self._queue_failures = 0
        self._queue_not_before = 0.0

    def due_at(self, following: Following) -> float:
        """When to look for it, if its end is not told before."""
        wish, out_of_reach = following.tracker.wish, following.out_of_reach
        if wish is None:
            return math.inf
        at = wish.at if wish.record_only else max(wish.at, self._queue_not_before)
        return at if out_of_reach is None else max(at, out_of_reach.not_before)

    async def look(self, by_record: Collection[str], in_queue: Sequence[Following]) -> None:
        """One round. While all that is asked is asked in vain, the rounds become rare.

        Args:
            by_record: Jobs that have ended, of which there should be a record.
            in_queue: Jobs that are looked for in the queue first.
        """
        self._answered = False
        await self._look_at_history(by_record, Where.NO_RECORD, _now())
        if in_queue:
            await self._look_at_queue(in_queue)
        self._in_vain = 0 if self._answered else self._in_vain + 1
        self.not_before = _now() + backoff(self._in_vain - 1) if self._in_vain else 0.0

    async def _look_at_queue(self, due: Sequence[Following]) -> None:
        asked_at = _now()
        try:
            queue, size = await read_queue(self._http)
        except ComfyClientError as error:
            self._queue_not_before = _now() + backoff(self._queue_failures)
            self._queue_failures += 1
            await self._look_without_queue(due, error)
            return
        self._queue_failures, self._answered = 0, True
        if size > _LARGE_QUEUE:
            now = _now()
            self._queue_not_before = now + max(size / _QUEUE_RATE, 2 * (now - asked_at))
        places = places_of(queue, asked_at, self.told_at)
        for prompt_id, following in tuple(self._open.items()):
            if prompt_id in places:
                self._take(following, places[prompt_id])
        gone = [f.tracker.prompt_id for f in due if f.tracker.prompt_id not in places]
        await self._look_at_history(gone, Where.ABSENT, asked_at)

    async def _look_without_queue(self, due: Sequence[Following], error: ComfyClientError) -> None:
        """It is too large, or takes too long: jobs are asked for by their ids, a few at a time."""
        ids = [following.tracker.prompt_id for following in sorted(due, key=_failures)]
        if isinstance(error, AuthError | NeverSentError):
            self._missed(ids, error)
            return
        for index, prompt_id in enumerate(ids[:_ONE_BY_ONE]):
            try:
                await self._look_for(prompt_id, error)
            except (AuthError, InstanceUnavailable):  # nobody is there, for the others neither
                self._missed((prompt_id,), error)
                self._missed(ids[index + 1 :], error, asked=False)
                return

    async def _look_for(self, prompt_id: str, error: ComfyClientError) -> None:
        """Look for one job without the queue, of which ``error`` says why it cannot be read.

        Raises:
            InstanceUnavailable: Nobody answers.
            AuthError: We are not let in.
        """
        asked_at = _now()
        try:
            where = await ask_for(self._http, prompt_id)
        except ProtocolError:
            where = None
        if where in {Where.PENDING, Where.RUNNING}:
            self._answered = True
            if (following := self._open.get(prompt_id)) is not None:
                self._take(following, Look(where, asked_at))
        elif where is Where.ABSENT:
            await self._look_at_history((prompt_id,), Where.ABSENT, asked_at)
        else:  # if it has ended, there is a record; that there is none says nothing
            await self._look_at_history((prompt_id,), None, asked_at)
            self._missed((prompt_id,), error)

    async def _look_at_history(self, ids: Iterable[str], missing: Where | None, asked_at: float) -> None:
        """Read the records of some jobs.

        Args:
            ids: The jobs.
            missing: What it means that there is no record; ``None``: nothing.
            asked_at: The clock before the first question was sent.
        """
        left = deque(sorted(ids, key=lambda prompt_id: _failures(self._open.get(prompt_id))))
        failed = 0
        while left:
            part = [left.popleft() for _ in range(min(len(left), self._history.batch))]
            try:
                found = await self._history.read(part)
            except ComfyClientError as error:
                nobody = isinstance(error, AuthError | InstanceUnavailable)
                if len(part) > 1 and not nobody:  # one of them may be to blame: the reader's batch is one now
                    left.extendleft(reversed(part))
                    continue
                self._missed(part, error)
                failed += 1
                if nobody or failed == _IN_A_ROW:
                    self._missed(left, error, asked=False)
                    return
            else:
                failed = 0
                self._learn_records(part, found, missing, asked_at)

    def _learn_records(
        self,
        ids: Iterable[str],
        found: Mapping[str, HistoryRecord | ProtocolError],
        missing: Where | None,
        asked_at: float,
    ) -> None:
        self._answered = True
        for prompt_id in ids:
            following, record = self._open.get(prompt_id), found.get(prompt_id)
            if following is None:
                continue
            if isinstance(record, ProtocolError):
                self._end(following, record)
            elif record is not None:
                self._take(following, Look(Where.ENDED, asked_at, record=record))
            elif missing is not None:
                self._take(following, Look(missing, asked_at))

    def _take(self, following: Following, look: Look) -> None:
        """Learn what a look of our own says. A defect that one job shows ends no other."""
        try:
            self._learn(following, look)
        except Exception as error:  # noqa: BLE001 - whoever waits for the job hears of it
            self._end(following, error)

    def _end(self, following: Following, error: Exception) -> None:
        following.fail(error)
        self._settle(following, ())

    def _missed(self, ids: Iterable[str], error: ComfyClientError, *, asked: bool = True) -> None:
        """A look for these jobs failed: the next one later, and after too long none. ``asked``: see `OutOfReach`."""
        now = _now()
        for prompt_id in tuple(ids):
            if (following := self._open.get(prompt_id)) is None:
                continue
            following.out_of_reach = out = following.out_of_reach or OutOfReach()
            out.failed(error, now, asked=asked)
            barred = out.refusals >= _REFUSALS and out.refused_for(now) >= _REFUSED_FOR
            # What is being submitted has somebody who finds out about it.
            accepted = following.tracker.state is not JobState.SUBMITTING
            if accepted and (barred or out.lasts(now) >= self._patience):
                self._settle(following, following.tracker.give_up(str(error)))


def _failures(following: Following | None) -> int:
    return 0 if following is None or following.out_of_reach is None else following.out_of_reach.failures


def _now() -> float:
    return asyncio.get_running_loop().time()
