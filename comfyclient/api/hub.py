"""Everything that one server holds, put together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from comfyclient._redact import RedactingFilter
from comfyclient.api.busy import Busy
from comfyclient.api.errors import ApiError, too_many
from comfyclient.api.jobs import JobBook, JobRecord, Made
from comfyclient.api.once import Once
from comfyclient.api.restore import Found, reopen, restore
from comfyclient.api.sessions import Sessions
from comfyclient.api.told import Told
from comfyclient.api.views import job_view, outputs_view
from comfyclient.api.webhooks import Webhooks
from comfyclient.api.work import Queueing
from comfyclient.api.workflows import Folder
from comfyclient.errors import ComfyClientError, InstanceUnavailable, JobFailed, JobLost
from comfyclient.journal import Journal
from comfyclient.wire.records import JobState
from comfyclient.workflow.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from comfyclient.api.sessions import ApiSession
    from comfyclient.api.settings import ApiSettings

__all__ = ["Hub"]

_LINGER: Final = 1.0  # seconds
_LAST_ANSWERS: Final = 2.0  # seconds that an instance has to take what was just sent to it

_log = logging.getLogger("comfyclient.api")
_log.addFilter(RedactingFilter())


class Hub:
    """A server's state. Begin and end it inside one event loop.

    Attributes:
        book: The jobs.
        sessions: The sessions.
        queueing: Queues into them.
        webhooks: Tell of ends.
        folder: The server's own workflows.
        once: The requests that were made with an ``Idempotency-Key``.
        ending: Set when nothing new is to be begun.
        closing: Set when streams are to end.
    """

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self.folder = Folder(settings.workflows) if settings.workflows is not None else None
        self.ending, self.closing = asyncio.Event(), asyncio.Event()
        self.once = Once()
        self.book = JobBook(kept=settings.limits.kept_jobs, on_end=self._ended, on_doubt=self._in_doubt)
        self.queueing = Queueing(self.book, most=settings.limits.jobs, ending=self.ending)
        self.webhooks = Webhooks(settings.webhook_secret, settings.addresses, done=self._settled)
        self._bundled: Catalog | None = None
        self._journal: Journal | None = None
        self._sessions: Sessions | None = None
        self._told: Told | None = None
        self._streams: Counter[str] = Counter()
        self._streaming = Busy()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing: set[asyncio.Task[None]] = set()

    @property
    def sessions(self) -> Sessions:
        """The sessions; there are none before `begin`."""
        assert self._sessions is not None
        return self._sessions

    async def begin(self) -> None:
        """Open the journal, and take up what is in it.

        Raises:
            ConfigError: It cannot be used.
        """
        found = Found()
        if self.settings.journal is not None:
            self._journal = await asyncio.to_thread(Journal.open, self.settings.journal)
            self._told = Told(self.settings.journal)
            found = await asyncio.to_thread(self._restore, self._journal, self._told)
        self._sessions = Sessions(
            limits=self.settings.limits, addresses=self.settings.addresses, journal=self._journal, book=self.book
        )
        self._spawn(self._sessions.sweep())
        for (owner, _), order in found.orders.items():
            self._spawn(reopen(self._sessions, owner, order))
        for owner, mark, job_id in found.once:
            self.once.remember(owner, mark, job_id)
        for record in found.untold:
            self._tell(record)

    async def drain(self, seconds: float) -> None:
        """The server is about to end: begin nothing more, let what is under way end, but not for ever; tell listeners.

        Args:
            seconds: What unfinished jobs have. A request that still queues has a moment more, for its answer.
        """
        self.ending.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.once.over()
                await self.book.over()
        await self.once.stop(_LAST_ANSWERS)
        await self._end_streams()

    async def end(self) -> None:
        """End all sessions. What has not ended on the instances goes on there, and stands in the journal."""
        self.ending.set()
        self.closing.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.once.stop()
        await self.webhooks.close()
        await self.book.close()
        await asyncio.gather(*self._writing)
        if self._sessions is not None:
            await self._sessions.close()
        if self._journal is not None:
            await asyncio.to_thread(self._journal.close)

    def session_for(self, record: JobRecord) -> ApiSession:
        """A session that can be asked about a job.

        Raises:
            ApiError: There is none.
        """
        session = self.sessions.at(record.owner, record.url, preferred=record.follower)
        if session is None:
            raise ApiError(
                409, "session_ended", "the session of this job has ended",
                hint=f"start another at {record.url}, with the same key",
            )  # fmt: skip
        return session

    async def bundled(self) -> Catalog:
        """ComfyUI's own nodes, for work without an instance."""
        if self._bundled is None:
            self._bundled = await asyncio.to_thread(Catalog.bundled)
        return self._bundled

    async def made(self, record: JobRecord) -> Made:
        """What a job has produced. If it ended under an earlier server, or made very much, the instance is asked.

        Raises:
            ApiError: It has not succeeded, or nobody can be asked.
            ComfyClientError: The instance cannot be asked.
        """
        if record.made is not None:
            return record.made
        if record.state != JobState.SUCCEEDED:
            raise ApiError(
                409, "no_outputs", f"the job has produced nothing: it is {record.state}",
                hint="GET /jobs/{id} says why" if record.over else "GET /jobs/{id}/events tells when it ends",
            )  # fmt: skip
        session = self.session_for(record)
        with session.at_work():
            try:
                job = await session.client.job(record.prompt_id)
            except JobLost:
                raise ApiError(404, "not_found", "the instance no longer knows this job") from None
            return record.keep(await job.result())

    async def explain(self, record: JobRecord) -> None:
        """Learn why a job has failed that did so under an earlier server, if there is somebody to ask."""
        session = self.sessions.at(record.owner, record.url, preferred=record.follower)
        if not record.unexplained or session is None:
            return
        record.unexplained = False
        with session.at_work():
            try:
                await (await session.client.job(record.prompt_id)).result()
            except JobFailed as error:
                record.error = error.to_json()
            except ComfyClientError as error:
                record.unexplained = isinstance(error, InstanceUnavailable)

    def room_for_stream(self, owner: str) -> None:
        """See that there may be another listener.

        Raises:
            ApiError: There are too many.
        """
        if self._streams[owner] >= self.settings.limits.streams:
            raise too_many("event streams")

    @contextlib.contextmanager
    def stream(self, owner: str) -> Iterator[None]:
        """A listener to events, one of those that an owner may have.

        Raises:
            ApiError: There are too many.
        """
        self.room_for_stream(owner)
        self._streams[owner] += 1
        try:
            with self._streaming:
                yield
        finally:
            self._streams[owner] -= 1

    async def _end_streams(self) -> None:
        """Before the server ends, so that their listeners learn of it in order; who does not read is not waited for."""
        self.closing.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                await self._streaming.over()

    def _restore(self, journal: Journal, told: Told) -> Found:
        found = restore(journal, self.book, most=self.settings.limits.kept_jobs, told=told.read())
        told.shrink({record.id for record in self.book})
        return found

    def _ended(self, record: JobRecord) -> None:
        if record.webhook is None:
            self._settled(record)
        else:
            self._tell(record)

    def _tell(self, record: JobRecord) -> None:
        body = {"job": job_view(record).model_dump(mode="json")}
        if record.made is not None:
            body |= outputs_view(record.id, record.made).model_dump(mode="json")
        self.webhooks.send(record, body)

    def _settled(self, record: JobRecord) -> None:
        """Nothing is left to do for it."""
        if self._journal is None:
            return
        task = asyncio.get_running_loop().create_task(self._write_settled(self._journal, record))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write_settled(self, journal: Journal, record: JobRecord) -> None:
        try:
            if record.webhook is not None and self._told is not None:
                await asyncio.to_thread(self._told.add, record.id)
            if record.state == JobState.SUCCEEDED:
                await self._write_saved(journal, record)
        except ComfyClientError as error:
            _log.warning("job %s: %s", record.id, error)

    async def _write_saved(self, journal: Journal, record: JobRecord) -> None:
        session = self.sessions.find(record.owner, record.url, preferred=record.follower)
        written = session.recording.job(record.prompt_id) if session is not None and session.recording else None
        if written is not None:
            await written.saved()
            return

        def write() -> None:
            journal.ended(record.prompt_id, JobState.SUCCEEDED)  # whoever followed it may not have come to that yet
            journal.saved(record.prompt_id)

        await asyncio.to_thread(write)

    def _in_doubt(self, record: JobRecord) -> None:
        session = self.sessions.find(record.owner, record.url, preferred=record.follower)
        if session is not None:
            session.attacher.wake()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("something that the server does besides has ended", exc_info=error)
