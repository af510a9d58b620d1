"""Between a client and its journal: what is written down of each job, and when.

Before a job's ``POST`` its entry is on disk, or the ``POST`` is not sent. What comes after that is written as it
happens, in order, in a thread; that it cannot be written is logged, and changes nothing about the job.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from comfyclient.errors import ComfyClientError, OutcomeUnknown, ProtocolError
from comfyclient.journal import ENDS, output_key
from comfyclient.ownfiles import digest, is_whole, part_mark, remove_placeholder, stands_for, sync_folder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from pathlib import Path

    from comfyclient.following import Following
    from comfyclient.journal import Entry, Journal, SavedOutput

__all__ = ["JobRecording", "Recording"]

_T = TypeVar("_T")
_SUCCEEDED: Final = "succeeded"
_NOTHING: Final[Mapping[str, SavedOutput]] = {}
# It may be queued: an answer that makes no sense, or names another job, does not say that it is not.
_DOUBTFUL: Final = (OutcomeUnknown, ProtocolError)
_log = logging.getLogger("comfyclient.journal")


class Recording:
    """What one client writes into a journal: the jobs of one run, and those of earlier runs that it has claimed.

    Args:
        journal: The journal, which stays open until the client is closed.
        name: What people call the run.
        planned: How many jobs it is to queue.
        plan: What is kept with each job, to go on with it; its seeds are added. No secrets.
        wanted: Whether outputs are to be fetched: else a job that succeeded leaves nothing to do.
        required: Whether a job that cannot be written down is not sent either. Otherwise that is logged.
        told: Whether whoever runs it learns how its jobs end. Else `comfyclient jobs resume` says so.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        name: str | None = None,
        planned: int | None = None,
        plan: Mapping[str, Any] | None = None,
        wanted: bool = True,
        required: bool = True,
        told: bool = True,
    ) -> None:
        self.journal = journal
        self._name = name
        self._planned = planned
        self._plan = dict(plan or {})
        self._wanted = wanted
        self._required = required
        self._told = told
        self._runs: dict[bool, str] = {}  # what is submitted once more is none of the jobs that were planned
        self._jobs: dict[str, JobRecording] = {}
        # What succeeded is known as long as somebody could still save it: nobody may ever want to.
        self._succeeded: weakref.WeakValueDictionary[str, JobRecording] = weakref.WeakValueDictionary()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._said: set[str] = set()
        self._thread: ThreadPoolExecutor | None = None

    def job(self, prompt_id: str) -> JobRecording | None:
        """What is written of a job; ``None`` if it is none of ours, or over.

        One that succeeded is over when nobody has its `Job` or its `Result` any more; the journal keeps it open.
        """
        return self._jobs.get(prompt_id) or self._succeeded.get(prompt_id)

    def adopt(self, entry: Entry, *, wanted: bool = True) -> JobRecording:
        """Go on with a job that this journal has claimed. Files of it that are whole are not fetched again.

        Args:
            entry: The job.
            wanted: Whether outputs are to be fetched.
        """
        job = JobRecording(self, wanted=wanted, found=entry.outputs)
        job.goes_by(entry.prompt_id, entry.sent_id)
        self._jobs[entry.prompt_id] = job
        return job

    async def submit(
        self,
        following: Following,
        post: Callable[[], Awaitable[_T]],
        *,
        url: str,
        client_id: str,
        body: bytes,
        seeds: Mapping[str, int],
        note: Mapping[str, Any] | None = None,
        before: str | None = None,
    ) -> _T:
        """Write a job down, post it, and write what came of that.

        Args:
            following: The job.
            post: Sends it.
            url: The instance.
            client_id: Whose events it sends.
            body: What is posted.
            seeds: Its seeds, by address.
            note: What is kept with it besides the plan.
            before: The id under which it was lost, if it is submitted once more.

        Returns:
            What ``post`` returned.

        Raises:
            ConfigError: It could not be written, and has to be; nothing was sent. Or what ``post`` raised.
        """
        sent_id = following.tracker.prompt_id
        lost = self._jobs.get(before) if before is not None else None
        if lost is not None:
            self.later(self.journal.ended, before, "lost")
        body_digest = hashlib.sha256(body).hexdigest()
        about = {"url": url, "client_id": client_id, "body_digest": body_digest, "name": self._name}
        plan = {**self._plan, **(note or {}), "seeds": dict(seeds)}
        if not await self._write_down(sent_id, once_more=before is not None, plan=plan, **about):
            return await post()
        job = lost or JobRecording(self, wanted=self._wanted)
        try:
            answer = await post()
        except BaseException as error:
            if following.tracker.known:  # whoever submitted it was stopped; it is followed all the same
                self._accepted(job, sent_id, following)
            elif isinstance(error, ComfyClientError) and not isinstance(error, _DOUBTFUL):
                self.later(self.journal.refused, sent_id, str(error))
            raise
        await asyncio.shield(self._accepted(job, sent_id, following))
        return answer

    async def _write_down(self, prompt_id: str, **values: Any) -> bool:
        """The entry. Returns whether it is on disk.

        Raises:
            ConfigError: It is not, and has to be.
        """
        write = self._run(functools.partial(self._submit, prompt_id, **values))
        try:
            await asyncio.shield(write)
        except asyncio.CancelledError:
            self._keep(asyncio.ensure_future(self._take_back(prompt_id, write)))
            raise
        except ComfyClientError as error:
            if self._required:
                raise
            self.trouble(error)
            return False
        return True

    def _submit(self, prompt_id: str, *, once_more: bool, **values: Any) -> None:
        if once_more not in self._runs:
            planned = None if once_more else self._planned
            self._runs[once_more] = self.journal.begin(planned=planned, name=self._name)
        self.journal.submitting(prompt_id, run_id=self._runs[once_more], **values)

    async def _take_back(self, prompt_id: str, write: asyncio.Future[None]) -> None:
        """Who submits it was stopped before anything was sent; it may be written down nevertheless."""
        await asyncio.wait((write,))
        if not write.cancelled() and write.exception() is None:
            await self.write(self.journal.refused, prompt_id, "stopped before it was sent")

    def _accepted(self, job: JobRecording, sent_id: str, following: Following) -> asyncio.Future[None]:
        """The instance has it. How it ends is written when that is known."""
        self._jobs.pop(job.prompt_id, None)
        job.goes_by(following.tracker.prompt_id, sent_id)
        self._jobs[job.prompt_id] = job
        written = self.later(self.journal.accepted, sent_id, job.prompt_id)
        self.follow(following)
        return written

    def follow(self, following: Following) -> None:
        """Write how a job of ours ends, once the instance's record says so."""
        job = self._jobs.get(following.tracker.prompt_id)
        if job is not None and not job.followed:
            job.followed = True
            following.at_end(job.over)

    async def close(self) -> None:
        """Write what is still to be written: the run is over."""
        while self._tasks:
            done, _ = await asyncio.wait(self._tasks)
            self._tasks -= done
        for run_id in self._runs.values() if self._told else ():
            await self.later(self.journal.finish, run_id)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown()

    def trouble(self, error: ComfyClientError) -> None:
        """Something could not be written: say so, once."""
        if str(error) not in self._said:
            self._said.add(str(error))
            hint = f" ({error.hint})" if error.hint else ""
            _log.warning("%s%s; `comfyclient jobs resume` will not know all of this run", error, hint)

    def drop(self, job: JobRecording) -> None:
        """Nothing is left to write of it."""
        self._jobs.pop(job.prompt_id, None)
        self._succeeded.pop(job.prompt_id, None)

    def let_go(self, job: JobRecording) -> None:
        """It succeeded, and what is left to write of it is up to whoever has it."""
        if self._jobs.pop(job.prompt_id, None) is not None:
            self._succeeded[job.prompt_id] = job

    async def write(self, call: Callable[..., Any], *args: Any) -> None:
        """Do it after what was to be written before; a failure is logged. It is done even if this is cancelled."""
        await asyncio.shield(self.later(call, *args))

    def later(self, call: Callable[..., Any], *args: Any) -> asyncio.Future[None]:
        """The same, without waiting for it."""

        def work() -> None:
            try:
                call(*args)
            except ComfyClientError as error:
                self.trouble(error)

        return self._run(work)

    def _run(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        """One thread, so that what is said first is written first."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="comfyclient-journal")
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._keep(future)
        return future

    def _keep(self, task: asyncio.Future[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: who waits for it has it


class JobRecording:
    """What is written of one job: one of this run, or a claimed one. There are as many as open jobs: it is small.

    Args:
        recording: Where.
        wanted: Whether its outputs are to be fetched.
        found: What a claimed one has on disk.

    Attributes:
        prompt_id: The job.
        followed: Whether its end will be written.
        files: Its outputs that are worth keeping; set by whoever knows its record.
    """

    __slots__ = (
        "__weakref__", "_found", "_given_up", "_have", "_recording", "_sent_id", "_wanted", "files", "followed",
        "prompt_id",
    )  # fmt: skip

    def __init__(self, recording: Recording, *, wanted: bool, found: Collection[SavedOutput] = ()) -> None:
        self._recording = recording
        self._wanted = wanted
        self._found = {output.key: output for output in found} if found else _NOTHING
        self._have: frozenset[str] = frozenset()
        self._given_up = False
        self.prompt_id = self._sent_id = ""
        self.followed = False
        self.files: tuple[Mapping[str, Any], ...] = ()

    def goes_by(self, prompt_id: str, sent_id: str) -> None:
        """Its id, and the one that it was posted with."""
        self.prompt_id, self._sent_id = prompt_id, sent_id

    @property
    def mark(self) -> str:
        """What begins the tokens of its unfinished files: see `part_mark`."""
        return part_mark(self._sent_id)

    def over(self, following: Following) -> None:
        """It is followed no further. Where nobody knows how it ended, somebody may follow it again."""
        state = str(following.tracker.state)
        self.followed = state in ENDS
        self._end(state)

    async def ended(self, state: str) -> None:
        """How it ended. What is no end by the instance's record is not written: the job stays open."""
        written = self._end(state)
        if written is not None:
            await asyncio.shield(written)

    def _end(self, state: str) -> asyncio.Future[None] | None:
        if state not in ENDS or self._given_up:
            return None
        if state == _SUCCEEDED and self._wanted:
            self._recording.let_go(self)
            return self._recording.later(self._journal.ended, self.prompt_id, state)
        self._recording.drop(self)
        if state == _SUCCEEDED:
            return self._recording.later(self._save)
        return self._recording.later(self._journal.ended, self.prompt_id, state)

    @property
    def _journal(self) -> Journal:
        return self._recording.journal

    async def accepted(self) -> None:
        """A claimed one was found at the instance."""
        await self._recording.write(self._journal.accepted, self.prompt_id)

    async def refused(self, reason: str) -> None:
        """A claimed one was never queued."""
        await self._recording.write(self._journal.refused, self.prompt_id, reason)
        self._recording.drop(self)

    async def given_up(self, reason: str) -> None:
        """Nobody looks for it again."""
        self._given_up = True
        await self._recording.write(self._journal.give_up, self.prompt_id, reason)
        self._recording.drop(self)

    async def saved(self) -> None:
        """All that was wanted of it is on disk. It succeeded."""
        await self._recording.write(self._save)
        self._recording.drop(self)

    def _save(self) -> None:
        self._journal.ended(self.prompt_id, _SUCCEEDED)  # the one who follows it may not have come to that yet
        self._journal.saved(self.prompt_id)

    async def saved_one(self) -> None:
        """One of its files was saved. If that was the last, it is done."""
        if self.files and all(output_key(ref) in self._have for ref in self.files):
            await self.saved()

    def witness(self, ref: Mapping[str, Any]) -> _Witness:
        """Writes where an output goes, as it is put there."""
        return _Witness(self, ref)

    def whole(self, ref: Mapping[str, Any], folder: Path, name: str) -> Path | None:
        """An output that is there already, whole, in ``folder`` and under this name or one that stands for it.

        It blocks.
        """
        output = self._found.get(output_key(ref))
        if output is None or output.path.parent != folder.absolute() or not stands_for(output.path.name, name):
            return None
        if not is_whole(output):
            remove_placeholder(output)
            return None
        if not output.placed:
            self.write_output(ref, output.path, output.size, output.sha256, placed=True)
        self._have |= {output.key}
        return output.path

    def write_output(self, ref: Mapping[str, Any], path: Path, size: int, sha256: str | None, *, placed: bool) -> None:
        """An output is about to be at ``path``, or is. A failure is logged. It blocks."""
        call = self._journal.output_saved if placed else self._journal.output_placing
        try:
            call(self.prompt_id, ref, path, size, sha256)
        except ComfyClientError as error:
            self._recording.trouble(error)
        if placed:
            self._have |= {output_key(ref)}


class _Witness:
    """Writes where one output goes: see `comfyclient.files.Witness`."""

    def __init__(self, job: JobRecording, ref: Mapping[str, Any]) -> None:
        self._job = job
        self._ref = ref
        self._size = 0
        self._sha256: str | None = None

    @property
    def mark(self) -> str:
        return self._job.mark

    def placing(self, part: Path, target: Path) -> None:
        if self._sha256 is None:
            self._size, self._sha256 = part.stat().st_size, digest(part)
        self._job.write_output(self._ref, target, self._size, self._sha256, placed=False)

    def placed(self, target: Path) -> None:
        sync_folder(target.parent)
        self._job.write_output(self._ref, target, self._size, self._sha256, placed=True)
