"""Looks at the server's record: which jobs wait or run, and how others ended."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from comfyclient._http import NeverSentError, refusal
from comfyclient.errors import AuthError, ComfyClientError, ProtocolError
from comfyclient.wire.lifecycle import CONFIRM_AFTER, Look, Where
from comfyclient.wire.records import HistoryRecord, Queue, QueueItem, can_be_sent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from comfyclient._http import Http

__all__ = ["HistoryReader", "ask_for", "find", "find_for_sure", "is_known", "places_of", "read_queue"]

_BATCH_BYTES: Final = 16 * 2**20
_FIRST_BATCH: Final = 32
_FEW: Final = 4  # records that are asked for one by one
_ALONE_FOR: Final = 60.0  # seconds in which every record is, after many at once could not be had: one may be to blame
_NO_SUCH_JOB: Final = {"error": "Job not found"}
_WHERE: Final = {"pending": Where.PENDING, "in_progress": Where.RUNNING}


async def read_queue(http: Http) -> tuple[Queue, int]:
    """``GET /queue``, and how many bytes the answer had: it holds every waiting prompt and workflow."""
    reply = await http.get("/queue")
    return Queue.from_json(await reply.parsed()), len(reply.body)


def places_of(queue: Queue, asked_at: float, told_at: float = -math.inf) -> dict[str, Look]:
    """What a look at the queue says of every job in it. ``told_at``: when the server last told of any job."""
    running = tuple(item.prompt_id for item in queue.running)
    places = {prompt_id: Look(Where.RUNNING, asked_at, running=running) for prompt_id in running}
    for index, item in enumerate(queue.pending, start=len(running)):
        if item.prompt_id not in places:
            places[item.prompt_id] = Look(Where.PENDING, asked_at, position=index, running=running, moved_at=told_at)
    return places


class HistoryReader:
    """Reads records out of the history, many at once where that is cheaper."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._entry_bytes = 0
        self._alone_until = -math.inf

    @property
    def batch(self) -> int:
        """How many records to ask for at once, by what they weighed last time."""
        if _now() < self._alone_until:
            return 1
        return max(1, _BATCH_BYTES // self._entry_bytes) if self._entry_bytes else _FIRST_BATCH

    async def read(self, ids: Sequence[str]) -> dict[str, HistoryRecord | ProtocolError]:
        """Read the records of some jobs; ids without one are left out.

        A record that cannot be understood is given as the error that says so.

        Raises:
            ComfyClientError: They cannot be had. If they were many, one of them may be to blame: ask for each by
                itself, as ``batch`` says from now on.
        """
        if len(ids) == 1:
            return _records(ids, await self._get(_path(ids[0])))
        try:
            return await self._read_many(ids)
        except ComfyClientError as error:
            if not isinstance(error, NeverSentError | AuthError):
                self._alone_until = _now() + _ALONE_FOR
            raise

    async def _read_many(self, ids: Sequence[str]) -> dict[str, HistoryRecord | ProtocolError]:
        # The newest as many: if nobody else uses the instance, these are the ones, or those right before them.
        found: dict[str, HistoryRecord | ProtocolError] = {}
        for size in (len(ids), max(len(ids), min(4 * len(ids), self.batch))):
            newest = await self._get("/history", max_items=str(size))
            found |= _records(ids, newest)
            if len(newest) < size:  # that was the whole history
                return found
            if len(ids) - len(found) <= _FEW:
                break
        for prompt_id in ids:
            if prompt_id not in found:
                found |= _records((prompt_id,), await self._get(_path(prompt_id)))
        return found

    async def newest(self, limit: int) -> list[HistoryRecord]:
        """The newest records, oldest of them first."""
        if limit <= 0:
            return []
        body = await self._get("/history", max_items=str(limit))
        return [record for record in _records(tuple(body), body).values() if isinstance(record, HistoryRecord)]

    async def _get(self, path: str, **params: str) -> Mapping[str, Any]:
        reply = await self._http.get(path, params=params)
        body = await reply.parsed()
        if not isinstance(body, dict):
            raise ProtocolError("GET /history: the answer is no object")
        if body:
            self._entry_bytes = max(1, len(reply.body) // len(body))
        return body


def _path(prompt_id: str) -> str:
    return f"/history/{quote(prompt_id, safe='')}"


def _records(ids: Sequence[str], body: Mapping[str, Any]) -> dict[str, HistoryRecord | ProtocolError]:
    wanted = (prompt_id for prompt_id in ids if prompt_id in body and can_be_sent(prompt_id))
    return {prompt_id: _record(prompt_id, body[prompt_id]) for prompt_id in wanted}


def _record(prompt_id: str, entry: Any) -> HistoryRecord | ProtocolError:
    try:
        return HistoryRecord.from_json(prompt_id, entry)
    except ProtocolError as error:
        return error


async def find(http: Http, prompt_id: str) -> tuple[Look, QueueItem | HistoryRecord | ProtocolError | None]:
    """Find one job: first the queue, then the history, because that is the way jobs go.

    Returns:
        Where it is, and what the server has of it: the error that says so, if that cannot be understood.
    """
    asked_at = _now()
    queue, _ = await read_queue(http)
    item = queue.find(prompt_id)
    if item is not None:
        return places_of(queue, asked_at)[prompt_id], item
    found = (await HistoryReader(http).read((prompt_id,))).get(prompt_id)
    if found is None:
        return Look(Where.ABSENT, asked_at), None
    return Look(Where.ENDED, asked_at, record=found if isinstance(found, HistoryRecord) else None), found


async def find_for_sure(
    http: Http, prompt_id: str, *, pause: float = CONFIRM_AFTER
) -> tuple[Look, QueueItem | HistoryRecord | None]:
    """`find`, but what is absent must be so twice, ``pause`` seconds apart.

    Raises:
        ProtocolError: What the server has of it cannot be understood.
    """
    look, found = await find(http, prompt_id)
    if look.where is Where.ABSENT:
        await asyncio.sleep(pause)
        look, found = await find(http, prompt_id)
    if isinstance(found, ProtocolError):
        raise found
    return look, found


async def ask_for(http: Http, prompt_id: str) -> Where | None:
    """Where one job is. Recent servers say so without sending their whole queue; ``None``: this one does not."""
    reply = await http.request("GET", f"/api/jobs/{quote(prompt_id, safe='')}")
    body = reply.json_or_none()
    if reply.status == 404 and body == _NO_SUCH_JOB:  # any other 404 may be that of a server without such a path
        return Where.ABSENT
    if reply.status == 200 and isinstance(body, dict) and body.get("id") == prompt_id:
        status = body.get("status")
        return _WHERE.get(status, Where.ENDED) if isinstance(status, str) else Where.ENDED
    if 300 <= reply.status < 400 or reply.status in {401, 403, 407}:
        raise refusal(reply)
    return None


async def is_known(http: Http, prompt_id: str) -> bool:
    """Whether the instance has a job of that id, in its queue or its history."""
    where = await ask_for(http, prompt_id)
    if where is None:  # an older one, or one whose jobs cannot be listed
        where = (await find(http, prompt_id))[0].where
    return where is not Where.ABSENT


def _now() -> float:
    return asyncio.get_running_loop().time()
