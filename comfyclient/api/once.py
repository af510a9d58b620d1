"""Requests that must not be done twice, though they may come twice: those with an ``Idempotency-Key``."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, TypeVar

from comfyclient.api.errors import ApiError, server_ending, too_many

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Once"]

_KEPT: Final = 1000
_LONGEST: Final = 255  # characters of a key

_T = TypeVar("_T")
_Known = OrderedDict[str, tuple[bytes, "asyncio.Task[Any]"]]


class Once:
    """Does what a key stands for once, and gives its outcome to all who ask with the same key.

    What failed is forgotten, so that it can be tried again. The last 1 000 keys of each owner are remembered, while
    the server runs. Of an earlier run of it, only what was queued is known: that is not done again.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._before: dict[tuple[str, str], list[str]] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._stopped = False

    async def do(self, owner: str, key: str | None, what: str, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Do it, or wait for whoever does it.

        It is done to its end, even if the caller leaves.

        Args:
            owner: Whose key it is.
            key: The key; ``None``: it is done each time.
            what: All that the request says: a key stands for one request.
            work: Does it.

        Raises:
            ApiError: The key stands for something else, or is none, or too many are under way; or it was stopped.
        """
        if key is None:
            return await self._outcome(self._begin(work))
        if not (0 < len(key) <= _LONGEST and key.isprintable()):
            raise ApiError(400, "bad_key", "Idempotency-Key must be 1 to 255 printable characters")
        digest = hashlib.sha256(what.encode("utf-8", "surrogatepass")).digest()
        keys = self._known.setdefault(owner, OrderedDict())
        known = keys.get(key)
        if known is None:
            self._refuse_done(owner, key)
            self._make_room(keys)
            known = keys[key] = digest, self._begin(work)
            known[1].add_done_callback(lambda done: self._done(owner, key, done))
        if known[0] != digest:
            raise ApiError(422, "key_reused", "this Idempotency-Key was used for another request")
        return await self._outcome(known[1])

    @staticmethod
    def mark(owner: str, key: str | None) -> str | None:
        """What is kept with the jobs of a request: it tells of the key without saying it."""
        return None if key is None else hashlib.sha256(f"{owner}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()

    def remember(self, owner: str, mark: str, job_id: str) -> None:
        """An earlier run of the server has queued this job, for a request of that mark."""
        self._before.setdefault((owner, mark), []).append(job_id)

    def _refuse_done(self, owner: str, key: str) -> None:
        queued = self._before.get((owner, self.mark(owner, key) or ""))
        if queued is not None:
            raise ApiError(
                409, "key_used", "this Idempotency-Key was used before the server was restarted",
                hint="its jobs are there: GET /jobs/{id}", more={"queued": queued},
            )  # fmt: skip

    async def over(self) -> None:
        """Wait until none is under way."""
        while self._running:
            await asyncio.wait(self._running)

    async def stop(self, seconds: float = 0) -> None:
        """Wait so long for those under way, and stop the others; whoever asked for one is told."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        self._stopped = True
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _outcome(self, task: asyncio.Task[_T]) -> _T:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._stopped and task.cancelled():
                raise server_ending() from None
            raise

    def _begin(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work(), name="comfyclient-api-request")
        self._running.add(task)  # nobody else may hold it, if the caller leaves
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen: whoever waits for it has it, unless all have left

    def _make_room(self, keys: _Known) -> None:
        """Forget the oldest that is over: one that runs would be done twice."""
        if len(keys) < _KEPT:
            return
        oldest = next((key for key, (_, task) in keys.items() if task.done()), None)
        if oldest is None:
            raise too_many("requests with an Idempotency-Key")
        del keys[oldest]

    def _done(self, owner: str, key: str, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._known[owner].pop(key, None)
