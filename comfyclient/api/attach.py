"""Finding jobs again that nobody follows: after a restart of the server, a long outage, or an answer that got lost."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from comfyclient._redact import RedactingFilter
from comfyclient.api.jobs import REFUSED
from comfyclient.errors import ComfyClientError, InstanceUnavailable, JobLost
from comfyclient.journal import Phase
from comfyclient.wire.submission import SETTLE

if TYPE_CHECKING:
    from comfyclient.api.jobs import JobBook, JobRecord
    from comfyclient.client import ComfyClient
    from comfyclient.job import Job
    from comfyclient.recording import JobRecording, Recording

__all__ = ["Attacher"]

_FIRST, _MOST = 1.0, 60.0  # seconds between looks at an instance that cannot be asked
_NOT_AGAIN: Final = (
    "; it was not queued again: `resubmit` does not outlast a restart of this server, or an outage of many minutes"
)

_log = logging.getLogger("comfyclient.api")
_log.addFilter(RedactingFilter())


class Attacher:
    """Takes up the jobs of one owner at one instance. Nothing is ever queued here.

    Args:
        owner: Whose jobs.
        url: The instance.
        follower: The session that follows them from then on.
        client: That of the session.
        recording: What the session writes down.
        book: The jobs.
    """

    def __init__(
        self,
        owner: str,
        url: str,
        follower: str,
        client: ComfyClient,
        recording: Recording | None,
        book: JobBook,
    ) -> None:
        self._owner, self._url, self._follower = owner, url, follower
        self._client, self._recording, self._book = client, recording, book
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There may be something to do."""
        if (self._task is None or self._task.done()) and self._book.left(self._owner, self._url):
            self._task = asyncio.create_task(self._run(), name="comfyclient-api-attach")

    async def close(self) -> None:
        """Stop it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = _FIRST
        while left := self._book.left(self._owner, self._url):
            for record in left:
                try:
                    await self._take_up(record)
                except InstanceUnavailable:
                    break
                except ComfyClientError as error:
                    _log.warning("job %s cannot be taken up: %s", record.id, error)
            if not self._book.left(self._owner, self._url):
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MOST)

    async def _take_up(self, record: JobRecord) -> None:
        """Follow it, or learn that it is gone.

        Raises:
            ComfyClientError: The instance cannot be asked, or not say.
        """
        if record.over or record.job is not None:  # somebody else has
            return
        written, ambiguous = await self._written(record)
        try:
            job = await self._find(record, settle=ambiguous)
        except JobLost as error:
            await self._gone(record, written, error, ambiguous=ambiguous)
            return
        if ambiguous and written is not None:
            await written.accepted()
        if not record.over and record.job is None:
            self._book.attach(record, job, self._follower)

    async def _written(self, record: JobRecord) -> tuple[JobRecording | None, bool]:
        """What the journal has of it, and whether it is in doubt if it was queued."""
        if self._recording is None:
            return None, record.ambiguous
        found = self._recording.job(record.prompt_id)
        entry = await asyncio.to_thread(self._recording.journal.entry, record.prompt_id)
        if entry is None:
            return found, record.ambiguous
        return found or self._recording.adopt(entry), entry.phase is Phase.SUBMITTING

    async def _find(self, record: JobRecord, *, settle: bool) -> Job:
        try:
            return await self._client.job(record.prompt_id)
        except JobLost:
            if not settle:
                raise
        await asyncio.sleep(SETTLE)  # it may be on its way
        return await self._client.job(record.prompt_id)

    async def _gone(self, record: JobRecord, written: JobRecording | None, error: JobLost, *, ambiguous: bool) -> None:
        if not ambiguous:
            if written is not None:
                await written.ended("lost")
            self._book.gone(record, "lost", _lost(record, str(error)))
            return
        if not await self._client.keeps_ids():  # it may be there under another id: nobody can tell
            return
        if written is not None:
            await written.refused("the instance does not know it")
        text = "it was never queued, or the instance has restarted since"
        self._book.gone(record, REFUSED, _lost(record, text))


def _lost(record: JobRecord, text: str) -> dict[str, Any]:
    """Why, as data; and that this is not what ``resubmit`` was given for: nothing is queued here."""
    if record.resubmit:
        text += _NOT_AGAIN
    return JobLost(text, prompt_id=record.prompt_id).to_json()
