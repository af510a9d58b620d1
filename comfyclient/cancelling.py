"""Taking jobs off an instance's queue, and interrupting what runs: one's own, never anybody else's.

What waits is deleted from the queue by its id, any number in one request; what runs is interrupted by its id. Both may
come too late or have no effect, so that afterwards the server's record is read, and only that is believed.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from comfyclient._http import NeverSentError
from comfyclient.errors import CertificateUntrusted, InstanceUnavailable, ProtocolError
from comfyclient.look import HistoryReader, places_of, read_queue
from comfyclient.recent import Recent
from comfyclient.wire.answers import SystemInfo
from comfyclient.wire.lifecycle import Look, Where
from comfyclient.wire.records import JobState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

    from comfyclient._http import Http
    from comfyclient.following import Following
    from comfyclient.watch import Watcher
    from comfyclient.wire.records import HistoryRecord, Queue

__all__ = ["Canceller"]

_T = TypeVar("_T")

_BEGIN: Final = 0.3  # a server that has just taken a job off its queue forgets interrupts when it begins to run it
_AT_ONCE: Final = 1000  # ids in one request
_PAUSES: Final = (0.2, 1.0)  # before a command or a look is tried again: all of them may be repeated
_FEW: Final = 4  # jobs whose records are asked for one by one
_REMEMBERED: Final = 10_000  # jobs that were taken off the queue, for who cancels them twice
_AIMS: Final = (0, 3, 57)  # the release that learned to interrupt one job; older ones interrupt whatever runs


class Canceller:
    """Cancels jobs of one instance."""

    def __init__(self, http: Http, watcher: Watcher) -> None:
        self._http = http
        self._watcher = watcher
        self._history = HistoryReader(http)
        self._taken: dict[str, None] = {}  # what was taken off the queue: the server knows no more of it
        self._version: str | None = None

    async def cancel(self, prompt_id: str) -> JobState:
        """Cancel one job: see `cancel_all`."""
        return (await self.cancel_all((prompt_id,)))[prompt_id]

    async def cancel_all(self, ids: Iterable[str]) -> dict[str, JobState]:
        """Take jobs off the queue, then interrupt those that run. Doing it twice does no harm.

        What is just being submitted is waited for, and cancelled behind that.

        Returns:
            For each: CANCELLED if it was waiting and is gone; PENDING if it waits still, though the server took the
            command; RUNNING if it was told to stop and will, at the next node or step (it may yet succeed); its state
            if it had ended (UNKNOWN if the record of that makes no sense); LOST if the server does not know it.

        Raises:
            InstanceUnavailable: The instance cannot be asked. What was commanded may have been done.
            ProtocolError: It does not answer as ComfyUI does, or could only interrupt whatever runs.
        """
        found = {prompt_id: self._watcher.get(prompt_id) for prompt_id in ids}
        followings = [following for following in found.values() if following is not None]
        await _submitted(followings)
        # Only now each has its id: old servers choose another.
        there = {asked: asked if job is None else job.tracker.prompt_id for asked, job in found.items()}
        try:
            states = await self._cancel(
                tuple(there.values()), {following.tracker.prompt_id: following for following in followings}
            )
        finally:
            for following in followings:
                self._watcher.look_soon(following)
        return {asked: states[prompt_id] for asked, prompt_id in there.items()}

    async def _cancel(self, ids: Sequence[str], followed: Mapping[str, Following]) -> dict[str, JobState]:
        if not ids:
            return {}
        recent = Recent(self._http) if len(ids) > _FEW else None
        if recent is not None:
            await self._patiently(recent.begin)
        places = await self._look(ids)
        waiting = sorted(_at(places, Where.PENDING), key=lambda prompt_id: places[prompt_id].position or 0)
        if waiting:
            await self._take_off(waiting, followed)
            places |= await self._look([*_at(places, Where.RUNNING), *waiting], recent)
        for prompt_id in _at(places, Where.RUNNING):
            places |= await self._stop(prompt_id, followed.get(prompt_id), frozenset(ids))
        taken = {*waiting, *(prompt_id for prompt_id in ids if prompt_id in self._taken)}
        return {prompt_id: _state(place, taken=prompt_id in taken) for prompt_id, place in places.items()}

    async def _take_off(self, waiting: Sequence[str], followed: Mapping[str, Following]) -> None:
        """The last of the queue first, so that none begins because the one before it was cancelled."""
        last_first = waiting[::-1]
        for start in range(0, len(last_first), _AT_ONCE):
            part = last_first[start : start + _AT_ONCE]
            try:
                await self._command("/queue", {"delete": part})
            except (InstanceUnavailable, asyncio.CancelledError) as error:
                if not isinstance(error, NeverSentError):  # then it may have been done
                    self._taken_off(part, followed)
                raise
            self._taken_off(part, followed)

    def _taken_off(self, ids: Sequence[str], followed: Mapping[str, Following]) -> None:
        for prompt_id in ids:
            self._taken[prompt_id] = None
            if prompt_id in followed:
                self._watcher.dequeued(followed[prompt_id])
        while len(self._taken) > _REMEMBERED:
            del self._taken[next(iter(self._taken))]

    async def _stop(self, prompt_id: str, following: Following | None, wanted: Collection[str]) -> dict[str, Look]:
        """Interrupt a job that runs. Returns where it is, if that was seen. ``wanted``: what else is cancelled."""
        if await self._interrupt(prompt_id, wanted):
            if following is not None and following.tracker.started:
                return {}
            await asyncio.sleep(_BEGIN)
        places = await self._look([prompt_id])
        if places[prompt_id].where is Where.RUNNING:
            await self._interrupt(prompt_id, wanted)
        return places

    async def _interrupt(self, prompt_id: str, wanted: Collection[str]) -> bool:
        """Returns whether the command was given: not if another job may be hit by it."""
        if self._version is None:
            body = await self._patiently(lambda: self._http.get_json("/system_stats"))
            self._version = SystemInfo.from_json(body).comfyui_version
        if _numbers(self._version) < _AIMS:
            queue = await self._read_queue()
            if any(item.prompt_id not in wanted for item in queue.pending):
                raise ProtocolError(
                    f"job {prompt_id} runs, and ComfyUI {self._version or 'of unknown version'} can only interrupt "
                    "whatever runs, which may be another by then: jobs that are not to be cancelled wait behind it",
                    hint="update ComfyUI there to 0.3.57 or later, or interrupt it on the web page",
                )
            if any(item.prompt_id not in wanted for item in queue.running):  # it has ended meanwhile
                return False
        await self._command("/interrupt", {"prompt_id": prompt_id})
        return True

    async def _look(self, ids: Sequence[str], recent: Recent | None = None) -> dict[str, Look]:
        """Where jobs are: in the queue or, if not there, in the history. That is asked for each that is not queued.

        Args:
            ids: The jobs.
            recent: Begun before all of them were seen in the queue.
        """
        asked_at = asyncio.get_running_loop().time()
        queued = places_of(await self._read_queue(), asked_at)
        records = await self._records([prompt_id for prompt_id in ids if prompt_id not in queued], recent)
        places = {prompt_id: queued.get(prompt_id) or _place(records.get(prompt_id), asked_at) for prompt_id in ids}
        for prompt_id, place in places.items():
            self._learn(prompt_id, place)
        return places

    async def _records(self, ids: Sequence[str], recent: Recent | None) -> dict[str, HistoryRecord | ProtocolError]:
        if recent is not None and ids and (ended := await self._patiently(lambda: recent.read(ids))) is not None:
            return ended
        found: dict[str, HistoryRecord | ProtocolError] = {}
        size = 1 if recent is not None or len(ids) <= _FEW else self._history.batch
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            found |= await self._patiently(partial(self._history.read, part))
        return found

    def _learn(self, prompt_id: str, place: Look) -> None:
        following = self._watcher.get(prompt_id)
        if place.where is not Where.ABSENT:
            self._taken.pop(prompt_id, None)
        if following is not None and (place.where is not Where.ENDED or place.record is not None):
            self._watcher.learn(following, place)

    async def _read_queue(self) -> Queue:
        return (await self._patiently(lambda: read_queue(self._http)))[0]

    async def _command(self, path: str, body: Mapping[str, Any]) -> None:
        await self._patiently(lambda: self._http.command(path, body))

    async def _patiently(self, work: Callable[[], Awaitable[_T]]) -> _T:
        for pause in _PAUSES:
            try:
                return await work()
            except CertificateUntrusted:
                raise
            except InstanceUnavailable:
                await asyncio.sleep(pause)
        return await work()


async def _submitted(followings: Iterable[Following]) -> None:
    """Let none of them be submitted once more; wait for those that are being submitted, to cancel them behind that."""
    under_way = []
    for following in followings:
        following.tracker.unwanted()
        if following.submission is not None or following.tracker.claimed is JobState.SUBMITTING:
            under_way.append(_queued(following))
    await asyncio.gather(*under_way)


async def _queued(following: Following) -> None:
    """Wait until it is queued, or will not be."""
    once_more = following.submission
    feed = following.subscribe(previews=False)
    try:
        changes = feed.drain()
        while following.tracker.claimed is JobState.SUBMITTING:
            await anext(changes)
    finally:
        following.unsubscribe(feed)
    if once_more is not None:
        await asyncio.wait((once_more,))


def _place(record: HistoryRecord | ProtocolError | None, asked_at: float) -> Look:
    """Where a job is that is not queued."""
    if record is None:
        return Look(Where.ABSENT, asked_at)
    return Look(Where.ENDED, asked_at, record=None if isinstance(record, ProtocolError) else record)


def _state(place: Look, *, taken: bool) -> JobState:
    """What came of it. ``taken``: it was taken off the queue, if it was there still."""
    if place.where is Where.ENDED:
        return place.record.state if place.record is not None else JobState.UNKNOWN
    if place.where is Where.ABSENT:
        return JobState.CANCELLED if taken else JobState.LOST
    return JobState.RUNNING if place.where is Where.RUNNING else JobState.PENDING


def _at(places: Mapping[str, Look], where: Where) -> list[str]:
    return [prompt_id for prompt_id, place in places.items() if place.where is where]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", version)[:3])
