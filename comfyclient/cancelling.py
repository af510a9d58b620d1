"""Taking jobs off an instance's queue, and interrupting what runs: one's own, never anybody else's.

What waits is deleted from the queue by its id, any number in one request; what runs is interrupted by its id. Both may
come too late or have no effect, so that afterwards the server's record is read, and only that is believed.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from comfyclient._http import NeverSentError
from comfyclient.errors import CertificateUntrusted, InstanceUnavailable, ProtocolError
from comfyclient.look import HistoryReader, places_of, read_queue
from comfyclient.wire.answers import SystemInfo
from comfyclient.wire.lifecycle import Look, Where
from comfyclient.wire.records import JobState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from comfyclient._http import Http
    from comfyclient.following import Following
    from comfyclient.watch import Watcher
    from comfyclient.wire.records import Queue

__all__ = ["Canceller"]

_T = TypeVar("_T")

_BEGIN: Final = 0.3  # a server that has just taken a job off its queue forgets interrupts when it begins to run it
_AT_ONCE: Final = 1000  # ids in one request
_PAUSES: Final = (0.2, 1.0)  # before a command or a look is tried again: all of them may be repeated
_MISSES: Final = 3  # jobs in a row without a record, behind which none is looked for
_REMEMBERED: Final = 10_000
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

        Returns:
            For each: CANCELLED if it was waiting and is gone; PENDING if it waits still, though the server took the
            command; RUNNING if it was told to stop and will, at the next node or step (it may yet succeed); its state
            if it had ended (UNKNOWN if the record of that makes no sense); LOST if the server does not know it.

        Raises:
            InstanceUnavailable: The instance cannot be asked. What was commanded may have been done.
            ProtocolError: It does not answer as ComfyUI does, or could only interrupt whatever runs.
        """
        wanted = dict.fromkeys(ids)
        followed = {prompt_id: found for prompt_id in wanted if (found := self._watcher.get(prompt_id)) is not None}
        await _submitted(followed.values())
        try:
            places = await self._cancel(list(wanted), followed)
        finally:
            for following in followed.values():
                self._watcher.look_soon(following)
        return {prompt_id: self._state(prompt_id, places[prompt_id]) for prompt_id in wanted}

    async def _cancel(self, ids: list[str], followed: Mapping[str, Following]) -> dict[str, Look]:
        places = _as_told(followed)
        if not _at(places, Where.PENDING):  # else there is a look behind the command anyway
            places.clear()
        unsure = [prompt_id for prompt_id in ids if prompt_id not in places]
        places |= await self._look(unsure, asked=unsure) if unsure else {}
        waiting = sorted(_at(places, Where.PENDING), key=lambda prompt_id: places[prompt_id].position or 0)
        if waiting:
            await self._take_off(waiting, followed)
            running = _at(places, Where.RUNNING)
            places |= await self._look([*running, *waiting], asked=running)
        for prompt_id in _at(places, Where.RUNNING):
            places |= await self._stop(prompt_id, followed.get(prompt_id))
        return places

    async def _take_off(self, waiting: Sequence[str], followed: Mapping[str, Following]) -> None:
        """The last of the queue first, so that none begins because the one before it was cancelled."""
        last_first = waiting[::-1]
        for start in range(0, len(last_first), _AT_ONCE):
            part = last_first[start : start + _AT_ONCE]
            try:
                await self._command("/queue", {"delete": part})
            except InstanceUnavailable as error:
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

    async def _stop(self, prompt_id: str, following: Following | None) -> dict[str, Look]:
        """Interrupt a job that runs. Returns where it is, if that was seen."""
        await self._interrupt(prompt_id)
        if following is not None and following.tracker.started:
            return {}
        await asyncio.sleep(_BEGIN)
        places = await self._look([prompt_id], asked=[prompt_id])
        if places[prompt_id].where is Where.RUNNING:
            await self._interrupt(prompt_id)
        return places

    async def _interrupt(self, prompt_id: str) -> None:
        if self._version is None:
            body = await self._patiently(lambda: self._http.get_json("/system_stats"))
            self._version = SystemInfo.from_json(body).comfyui_version
        if _numbers(self._version) < _AIMS:
            queue = await self._read_queue()
            if any(item.prompt_id != prompt_id and self._watcher.get(item.prompt_id) is None for item in queue.pending):
                raise ProtocolError(
                    f"job {prompt_id} runs, and ComfyUI {self._version or 'of unknown version'} can only interrupt "
                    "whatever runs, which may be another by then: jobs that are not of this client wait behind it",
                    hint="update ComfyUI there to 0.3.57 or later, or interrupt it on the web page",
                )
        await self._command("/interrupt", {"prompt_id": prompt_id})

    async def _look(self, ids: Sequence[str], *, asked: Iterable[str]) -> dict[str, Look]:
        """Where jobs are: in the queue or, if not there, in the history.

        Args:
            ids: The jobs, in the order of the queue.
            asked: Those of which the history is asked in any case. The others were waiting: behind some that have not
                run, none has.
        """
        asked_at = asyncio.get_running_loop().time()
        queued = places_of(await self._read_queue(), asked_at)
        places = {prompt_id: queued[prompt_id] for prompt_id in ids if prompt_id in queued}
        surely, misses = set(asked), 0
        for prompt_id in ids:
            if prompt_id in places:
                continue
            places[prompt_id] = Look(Where.ABSENT, asked_at)
            if prompt_id in surely or misses < _MISSES:
                places[prompt_id] = await self._in_history(prompt_id, asked_at)
                if prompt_id not in surely:
                    misses = misses + 1 if places[prompt_id].where is Where.ABSENT else 0
        for prompt_id, place in places.items():
            self._learn(prompt_id, place)
        return places

    async def _in_history(self, prompt_id: str, asked_at: float) -> Look:
        found = (await self._patiently(lambda: self._history.read((prompt_id,)))).get(prompt_id)
        if found is None:
            return Look(Where.ABSENT, asked_at)
        return Look(Where.ENDED, asked_at, record=None if isinstance(found, ProtocolError) else found)

    def _learn(self, prompt_id: str, place: Look) -> None:
        following = self._watcher.get(prompt_id)
        if place.where is not Where.ABSENT:
            self._taken.pop(prompt_id, None)
        if following is not None and (place.where is not Where.ENDED or place.record is not None):
            self._watcher.learn(following, place)

    def _state(self, prompt_id: str, place: Look) -> JobState:
        if place.where is Where.ENDED:
            return place.record.state if place.record is not None else JobState.UNKNOWN
        if place.where is Where.ABSENT:
            return JobState.CANCELLED if prompt_id in self._taken else JobState.LOST
        return JobState.RUNNING if place.where is Where.RUNNING else JobState.PENDING

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
    """Let none of them be submitted once more; wait for those that are being so, to cancel them behind that."""
    under_way = set()
    for following in followings:
        following.tracker.unwanted()
        if following.submission is not None:
            under_way.add(following.submission)
    if under_way:
        await asyncio.wait(under_way)


def _as_told(followed: Mapping[str, Following]) -> dict[str, Look]:
    """Where jobs were when the server was asked last; without those of which too little is known."""
    places = {}
    for prompt_id, following in followed.items():
        tracker = following.tracker
        if tracker.claimed is JobState.RUNNING:
            places[prompt_id] = Look(Where.RUNNING, 0.0)
        elif tracker.claimed is JobState.PENDING and tracker.position is not None:
            places[prompt_id] = Look(Where.PENDING, 0.0, position=tracker.position)
    return places


def _at(places: Mapping[str, Look], where: Where) -> list[str]:
    return [prompt_id for prompt_id, place in places.items() if place.where is where]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", version)[:3])
