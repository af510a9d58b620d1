"""Queueing what a request asks for."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from comfyclient.api.batch import Batch, Changes
from comfyclient.api.errors import ApiError, server_ending, too_many
from comfyclient.api.jobs import JobRecord
from comfyclient.errors import ComfyClientError, ConfigError, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from comfyclient.api.jobs import JobBook
    from comfyclient.api.sessions import ApiSession, Opened
    from comfyclient.prepare import Prepared
    from comfyclient.workflow.document import Workflow

__all__ = ["NOTE", "Order", "Partly", "Queueing", "ServerEnding"]

NOTE = "api"
"""Under which name the journal keeps what this server needs to know of a job."""
_NO_MORE: Final = "the server is about to end and queues nothing more"
_IN_DOUBT: Final = "the server ended before the instance had answered; it may have queued one more"
_LOOK: Final = "GET /jobs has all that were queued, once the server is there again, if it keeps a journal"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be queued.

    Attributes:
        workflow: The workflow.
        name: What people call it.
        changes: What is changed in it.
        iterations: How often.
        front: Before all jobs that wait.
        resubmit: As in `comfyclient.ComfyClient.submit`.
        webhook: Where each end is posted.
        once: What is kept with each job of a request that must not be done twice: see `Once.mark`.
    """

    workflow: Workflow
    name: str | None
    changes: Changes
    iterations: int = 1
    front: bool = False
    resubmit: Literal["never", "lost"] = "never"
    webhook: str | None = None
    once: str | None = None


class Partly(Exception):
    """Some were queued before one could not be.

    Attributes:
        queued: Those that were.
        error: Why the others were not.
    """

    def __init__(self, queued: list[JobRecord], error: ComfyClientError) -> None:
        super().__init__(str(error))
        self.queued, self.error = queued, error


class ServerEnding(ComfyClientError):
    """What was to be queued was not, or not all of it: the server was told to end."""

    code = "server_ending"
    http_status = 503
    default_hint = _LOOK


class _Room:
    """Places for jobs that are about to be queued."""

    def __init__(self, coming: Counter[str], owner: str, places: int) -> None:
        self._coming, self._owner, self.left = coming, owner, places
        coming[owner] += places

    def give_back(self, places: int) -> None:
        self.left -= places
        self._coming[self._owner] -= places


class Queueing:
    """Queues into the sessions of a server.

    Args:
        book: Where jobs are remembered.
        most: Unfinished jobs that an owner may have at a time.
        ending: Set when nothing more is to be queued.
    """

    def __init__(self, book: JobBook, *, most: int, ending: asyncio.Event) -> None:
        self._book, self._most, self._ending = book, most, ending
        self._coming: Counter[str] = Counter()

    async def queue(self, session: ApiSession, order: Order) -> list[JobRecord]:
        """Queue a workflow.

        Raises:
            Partly: Some were queued, and then no more.
            ApiError: There are too many already.
            ComfyClientError: Nothing was queued.
        """
        with self._room(session, order.iterations) as room:
            batch = await Batch.of(session.client, order.workflow, order.changes)
            batch.check(order.iterations)
            return await self._all(session, batch, order, 0, room)

    async def queue_open(self, session: ApiSession, iterations: int, once: str | None = None) -> list[JobRecord]:
        """Queue the workflow that is open in a session. Its seeds go on from where the last call left them.

        Raises:
            Partly: Some were queued, and then no more.
            ApiError: None is open, or there are too many jobs already.
            ComfyClientError: Nothing was queued.
        """
        opened = session.opened
        if opened is None:
            raise ApiError(400, "no_workflow", "No workflow is open. Open one first with POST /workflow/open")
        order = Order(opened.workflow, opened.path, Changes({}), iterations, once=once)
        with self._room(session, iterations) as room:
            return await self._all_open(session, opened, order, room)

    async def _all_open(self, session: ApiSession, opened: Opened, order: Order, room: _Room) -> list[JobRecord]:
        async with opened.gate:
            if opened.batch is None:
                opened.batch = await Batch.of(session.client, opened.workflow, order.changes)
            try:
                queued = await self._all(session, opened.batch, order, opened.iterations, room)
            except Partly as part:
                opened.iterations += len(part.queued)
                raise
            opened.iterations += len(queued)
        return queued

    @contextlib.contextmanager
    def _room(self, session: ApiSession, iterations: int) -> Iterator[_Room]:
        """Keep places for jobs that are about to be queued, and the session from being closed meanwhile.

        Raises:
            ApiError: There are too many, or the session has ended, or the server is about to.
        """
        if self._ending.is_set():
            raise server_ending()
        owner = session.owner
        if len(self._book.unfinished(owner)) + self._coming[owner] + iterations > self._most:
            raise too_many("unfinished jobs")
        room = _Room(self._coming, owner, iterations)
        try:
            with session.at_work(queueing=True):
                yield room
        finally:
            room.give_back(room.left)

    async def _all(self, session: ApiSession, batch: Batch, order: Order, first: int, room: _Room) -> list[JobRecord]:
        queued: list[JobRecord] = []
        for iteration in range(first, first + order.iterations):
            try:
                self._go_on(session)
                prepared = await batch.make(iteration)
                queued.append(await self._one(session, prepared, order))
                room.give_back(1)  # it counts as unfinished now
            except asyncio.CancelledError:
                if not self._ending.is_set():
                    raise
                raise Partly(queued, ServerEnding(_IN_DOUBT)) from None
            except ComfyClientError as error:
                if not queued:
                    raise
                raise Partly(queued, error) from None
        return queued

    def _go_on(self, session: ApiSession) -> None:
        """See that one more may be queued.

        Raises:
            ComfyClientError: The session, or the server, has been told to end meanwhile.
        """
        if self._ending.is_set():
            raise ServerEnding(_NO_MORE)
        if session.ended:
            raise ConfigError("the session was ended while its jobs were being queued")

    async def _one(self, session: ApiSession, prepared: Prepared, order: Order) -> JobRecord:
        about: dict[str, Any] = {
            "owner": session.owner, "session": session.id, "workflow": order.name, "webhook": order.webhook,
            "again": session.again, "key": secrets.token_hex(16), "once": order.once, "resubmit": order.resubmit,
        }  # fmt: skip
        try:
            job = await session.client.submit(prepared, front=order.front, resubmit=order.resubmit, note={NOTE: about})
        except OutcomeUnknown as error:  # it may be there: it is looked for
            if error.prompt_id is not None:
                record = remembered(error.prompt_id, session.url, about)
                record.ambiguous, record.error = True, error.to_json()
                record.seeds = dict(prepared.seeds)
                self._book.add(record)
                session.attacher.wake()
            raise
        record = remembered(job.id, session.url, about)
        self._book.add(record, job)
        return record


def remembered(prompt_id: str, url: str, about: Mapping[str, Any], *, created: float | None = None) -> JobRecord:
    """A job, from what the journal keeps of it."""

    def text(name: str) -> str | None:
        value = about.get(name)
        return value if isinstance(value, str) else None

    record = JobRecord(
        prompt_id,
        owner=text("owner") or "",
        session_id=text("session") or "",
        url=url,
        workflow=text("workflow"),
        webhook=text("webhook"),
        created=created,
    )
    record.resubmit = text("resubmit") == "lost"
    return record
