"""Which of many jobs have ended since a moment, at the cost of those that have, not of those that are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from comfyclient.errors import ProtocolError
from comfyclient.wire.records import HistoryRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from comfyclient._http import Http

__all__ = ["Recent"]

_FIRST: Final = 16  # records that are asked for at once
_MOST: Final = 1024
_MORE: Final = 4  # times as many, as long as they do not reach back far enough


class Recent:
    """What has ended since `begin`.

    The history is kept in the order in which jobs end. So if the newest records reach back to one that was there at the
    beginning, whatever was queued then and is not among them has not ended.
    """

    def __init__(self, http: Http) -> None:
        self._http = http
        self._mark: str | None = None
        self._is_readable = True

    async def begin(self) -> None:
        """From now on. Look at the queue after this, not before.

        Raises:
            InstanceUnavailable: The instance cannot be asked.
        """
        try:
            self._mark = next(iter(await self._newest(1)), None)
        except ProtocolError:  # somebody else's record may spoil the list, and not ours
            self._is_readable = False

    async def read(self, ids: Sequence[str]) -> dict[str, HistoryRecord | ProtocolError] | None:
        """The records of some jobs that were queued after the beginning; ids without one are left out.

        Returns:
            The records, or the error that says why one cannot be understood. ``None``: each has to be asked for, as so
            many have ended, or the list of them cannot be understood.

        Raises:
            InstanceUnavailable: The instance cannot be asked.
        """
        size = _FIRST
        while self._is_readable and size <= _MOST:
            try:
                newest = await self._newest(size)
            except ProtocolError:
                return None
            if self._mark in newest or len(newest) < size:
                return {prompt_id: _record(prompt_id, newest[prompt_id]) for prompt_id in ids if prompt_id in newest}
            size *= _MORE
        return None

    async def _newest(self, size: int) -> Mapping[str, Any]:
        body = await self._http.get_json("/history", params={"max_items": str(size)})
        if not isinstance(body, dict):
            raise ProtocolError("GET /history: the answer is no object")
        return body


def _record(prompt_id: str, entry: Any) -> HistoryRecord | ProtocolError:
    """One entry of the history, or the error that says why it cannot be understood."""
    try:
        return HistoryRecord.from_json(prompt_id, entry)
    except ProtocolError as error:
        return error
