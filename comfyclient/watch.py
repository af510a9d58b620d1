"""The one who looks: follows every open job of a client with one socket and one poll.

Messages from the socket are hints. The record is read for all jobs at once: one ``GET /queue`` tells which
still wait or run, and jobs that ended together are fetched together from the history: see `comfyclient.looking`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from typing import TYPE_CHECKING, Final

from comfyclient.errors import ComfyClientError, ConfigError, OutcomeUnknown, ProtocolError
from comfyclient.following import Audience, Following
from comfyclient.looking import Looker
from comfyclient.wire.lifecycle import Cadence, JobTracker, Look
from comfyclient.wire.messages import Malformed, Preview, Progress, decode, peek

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable

    from comfyclient._http import Http
    from comfyclient.following import Again
    from comfyclient.wire.events import JobEvent

__all__ = ["Watcher"]

_GATHER: Final = 0.1  # seconds to wait for more ends before the history is asked, if many jobs are open
_FEW: Final = 4  # open jobs below which nothing is waited for
_END: Final = re.compile('"node": ?null')
_DEAF_AFTER: Final = 0.9  # seconds in which jobs move and the socket tells of none
_TYPE: Final = re.compile(r'\{"type": ?"([^"\\]{1,200})"')
_OF_JOBS: Final = frozenset({
    "execution_start", "execution_cached", "execution_success", "execution_error", "execution_interrupted",
    "executing", "executed", "progress", "progress_state",
})  # fmt: skip


class Watcher:
    """Follows the open jobs of one client.

    Args:
        http: The session of the instance.
        cadence: How often to look at jobs of which nothing is heard.
        patience: Seconds in which every look for a job fails and no message tells of it, after which it ends as
            UNKNOWN.
        stall_timeout: Seconds in which nothing moves, after which jobs count as STALLED; ``None``: they never do.
        on_deaf: Called when jobs move of which the socket should tell and does not.

    Attributes:
        deaf: How often that was so.
        strange: How many frames were none of which this client knows what they mean, or were spoilt.
    """

    def __init__(
        self,
        http: Http,
        *,
        cadence: Cadence,
        patience: float,
        on_deaf: Callable[[], None],
        stall_timeout: float | None = None,
    ) -> None:
        self._http = http
        self._cadence = cadence
        self._stall_timeout = stall_timeout
        self._on_deaf = on_deaf
        self.deaf = self.strange = 0
        self._untold_since: float | None = None
        self._closed = False
        self._audience = Audience()
        self._open: dict[str, Following] = {}
        self._looker = Looker(http, self._open, patience=patience, learn=self.learn, settle=self._settle)
        self._ended: dict[str, None] = {}  # open jobs whose record should be there by now, in order
        self._ended_first_at = 0.0
        self._hearing = False
        self._progress_of: str | None = None
        self._tells_all = False  # whether the server sends progress_state, which says what executing says
        self._task: asyncio.Task[None] | None = None
        self._submitting_again: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._wake_at = math.inf  # the earliest wish of a job that is not in _ended
        self._asleep_until = math.inf

    # What the client does

    def follow(
        self,
        prompt_id: str,
        nodes: Collection[str],
        title: Callable[[str], str],
        *,
        own: bool = True,
        again: Again | None = None,
    ) -> Following:
        """Follow a job from now on.

        Args:
            prompt_id: The job.
            nodes: The ids of its prompt's nodes.
            title: Gives a node's title.
            own: Whether its messages come to this client's socket.
            again: What submits it once more if it gets lost; ``None``: nothing does.

        Raises:
            ConfigError: A job of that id is followed already, or this was closed.
        """
        if self._closed:
            raise ConfigError("the client is closed", hint="make a new ComfyClient, or do this before it is closed")
        if prompt_id in self._open:
            raise ConfigError(f"job {prompt_id}: this client follows a job of that id already", hint="use another id")
        tracker = JobTracker(
            prompt_id,
            nodes,
            title,
            hearing=self._hearing and own,
            cadence=self._cadence,
            stall_timeout=self._stall_timeout,
            resubmit=again is not None,
        )
        following = self._open[prompt_id] = Following(tracker, self._audience, own=own, again=again)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="comfyclient-watch")
            self._task.add_done_callback(self._stopped)
        return following

    def get(self, prompt_id: str) -> Following | None:
        """The open job of that id."""
        return self._open.get(prompt_id)

    def rename(self, following: Following, prompt_id: str) -> None:
        """The server gave the job another id than ours.

        Raises:
            ProtocolError: It is that of another open job.
        """
        if prompt_id in self._open:
            raise ProtocolError(f"POST /prompt: the server answered with the id of another job, {prompt_id}")
        self._drop(following)
        following.tracker.prompt_id = prompt_id
        self._open[prompt_id] = following

    def begin_again(self, following: Following, prompt_id: str) -> None:
        """A lost job is submitted once more, under this id."""
        self._drop(following)
        self._open[prompt_id] = following
        following.restart(following.tracker.resubmitted(prompt_id))

    def forget(self, following: Following) -> None:
        """Stop following a job that was not queued after all. If it was, it is followed to its end."""
        if following.tracker.known:
            self.accepted(following)
        else:
            self._drop(following)
            following.tell(following.tracker.give_up("its submission did not come to an end"))

    def accepted(self, following: Following) -> None:
        """The server has queued it."""
        self._settle(following, following.tracker.accepted(_now()))

    def learn(self, following: Following, look: Look) -> None:
        """Somebody looked for it."""
        now = _now()
        following.out_of_reach = None
        untold = self._hearing and following.own and following.tracker.untold(look)
        self._settle(following, following.tracker.on_look(look, now))
        if untold:
            self._suspect(now)

    def dequeued(self, following: Following) -> None:
        """This client had it taken off the queue. Whoever did so looks for it, or says `look_soon`."""
        following.tracker.dequeued(_now())

    def look_soon(self, following: Following) -> None:
        """Look at it at once."""
        following.tracker.look_soon(_now())
        self._settle(following, ())

    async def close(self) -> None:
        """End following; whoever still waits is told that the outcome is unknown."""
        self._closed = True
        tasks = {*self._submitting_again, *([self._task] if self._task is not None else [])}
        try:
            for task in tasks:
                if not task.cancelling():  # else an earlier call was cancelled, and this one waits for the same end
                    task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            self._task = None
        finally:
            self._give_up("the client was closed", tuple(self._open.values()))

    # What the socket says

    def on_connection(self, up: bool) -> None:
        """Messages arrive from now on, or no longer."""
        self._hearing = up
        self._untold_since = None
        self._progress_of = None
        for following in tuple(self._open.values()):
            following.tracker.on_connection(_now(), hearing=up and following.own)
            self._settle(following, ())

    def on_frame(self, frame: str | bytes) -> None:
        """A frame from the socket, of which no more is read than somebody needs."""
        if not self._of_jobs(frame):
            return
        self._untold_since = None
        if not self._open or self._skip(frame):
            return
        message = decode(frame)
        self.strange += isinstance(message, Malformed)
        prompt_id: str | None = getattr(message, "prompt_id", None)
        if isinstance(message, Progress):
            self._progress_of = prompt_id
        elif isinstance(message, Preview) and prompt_id is None:
            prompt_id = self._progress_of  # old servers do not say whose it is, but the progress before it does
        following = self._open.get(prompt_id) if prompt_id is not None else None
        now = _now()
        self._looker.told_at = now if prompt_id is not None else self._looker.told_at
        if following is None:
            return
        self._heard(following)
        events = following.tracker.on_message(message, now)
        if (wish := following.tracker.wish) is not None and wish.record_only and wish.at <= now:
            self._ended_first_at = self._ended_first_at if self._ended else now
            self._ended[following.tracker.prompt_id] = None
        self._settle(following, events)

    def _of_jobs(self, frame: str | bytes) -> bool:
        """Whether a frame may tell of a job. Those of custom nodes may be huge, and are not parsed."""
        if isinstance(frame, bytes):
            head = peek(frame)
            self.strange += head is None
            return head is not None and head.type == "preview"
        match = _TYPE.match(frame)
        return match is None or match[1] in _OF_JOBS

    def _skip(self, frame: str | bytes) -> bool:
        head = peek(frame)
        if head is None:
            return False
        if isinstance(frame, bytes):
            return self._audience.preview_listeners == 0
        if head.type == "progress_state" and head.prompt_id is not None:
            self._tells_all = True
            self._looker.told_at = _now()
            following = self._open.get(head.prompt_id)
            if following is None or following.listened:
                return following is None
            self._heard(following)
            following.tell(following.tracker.heard(self._looker.told_at))
            following.put_aside(frame)
            return True
        if head.type == "executing":
            # Where progress_state says the same, and nobody listens, only that the job ended is news.
            return self._tells_all and not self._audience.listeners and not _END.search(frame)
        if head.type == "progress":  # the same
            return self._tells_all and not self._audience.listeners
        return head.type == "executed" and not self._audience.listeners

    @staticmethod
    def _heard(following: Following) -> None:
        if following.out_of_reach is not None:
            following.out_of_reach.heard()

    # The looking

    async def _run(self) -> None:
        while True:
            await self._sleep()
            await self._look()

    async def _sleep(self) -> None:
        while True:
            self._wake.clear()
            self._asleep_until = max(self._next_at(), self._looker.not_before)
            delay = self._asleep_until - _now()
            if delay <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay if delay < math.inf else None):
                    await self._wake.wait()

    def _next_at(self) -> float:
        at = self._wake_at
        if self._untold_since is not None:
            at = min(at, self._untold_since + _DEAF_AFTER)
        if not self._ended:
            return at
        # Ends that come together are fetched together. With few jobs open, or half of them ended, why wait?
        enough = len(self._open) < _FEW or len(self._ended) * 2 >= len(self._open)
        return min(at, self._ended_first_at + (0.0 if enough else _GATHER))

    async def _look(self) -> None:
        """Look at whatever is due."""
        now = _now()
        self._judge(now)
        due = [following for following in self._open.values() if self._looker.due_at(following) <= now]
        by_record = dict.fromkeys(self._ended)
        by_record |= {f.tracker.prompt_id: None for f in due if (w := f.tracker.wish) is not None and w.record_only}
        in_queue = [following for following in due if following.tracker.prompt_id not in by_record]
        self._ended.clear()
        if by_record or in_queue:
            await self._looker.look(by_record, in_queue)
        self._plan()

    def _fail(self, following: Following, error: Exception) -> None:
        following.fail(error)
        self._settle(following, ())

    def _settle(self, following: Following, events: Iterable[JobEvent]) -> None:
        """After a tracker was fed: pass on, let go of what has ended, note when it wants to look."""
        following.tell(events)
        if following.tracker.lost and following.again is not None:
            self._submit_again(following, following.again)
        prompt_id = following.tracker.prompt_id
        if following.over:
            self._drop(following)
        elif self._open.get(prompt_id) is not following:
            return
        elif prompt_id not in self._ended:
            self._wake_at = min(self._wake_at, self._looker.due_at(following))
        self._hurry()

    def _hurry(self) -> None:
        """Wake the one who looks, if there is something to do earlier than it knows."""
        if self._next_at() < self._asleep_until:
            self._wake.set()

    def _drop(self, following: Following) -> None:
        prompt_id = following.tracker.prompt_id
        if self._open.get(prompt_id) is following:
            del self._open[prompt_id]
            self._ended.pop(prompt_id, None)

    def _suspect(self, now: float) -> None:
        """A job moved and the socket did not say so. It may yet do so: see `_judge`."""
        if self._untold_since is None:
            self._untold_since = now
            self._hurry()

    def _judge(self, now: float) -> None:
        """Whether the socket has gone deaf: a job moved long ago, and nothing has been told of any job since.

        Servers forget a socket when an older one of the same client closes late; it stays open and says nothing.
        """
        if self._untold_since is not None and now >= self._untold_since + _DEAF_AFTER:
            self.deaf += 1
            self.on_connection(up=False)
            self._on_deaf()

    def _submit_again(self, following: Following, again: Again) -> None:
        try:
            work = again(following)
        except Exception as error:  # noqa: BLE001 - it was lost, and is; no other job is concerned
            following.tell(following.tracker.not_resubmitted(str(error)))
            return
        task = asyncio.create_task(self._see_through(following, work), name="comfyclient-again")
        following.submission = task
        self._submitting_again.add(task)
        task.add_done_callback(self._submitting_again.discard)

    async def _see_through(self, following: Following, work: Coroutine[None, None, object]) -> None:
        tracker = following.tracker
        try:
            await work
        except ComfyClientError as error:
            if tracker.known:  # the socket has told of it meanwhile
                self.accepted(following)
            elif isinstance(error, OutcomeUnknown):  # it may be there, and is submitted no third time
                self._settle(following, tracker.give_up(str(error)))
            else:
                self._settle(following, tracker.not_resubmitted(str(error)))
        except Exception as error:  # noqa: BLE001 - whoever waits for the job must hear of it
            self._fail(following, error)
        finally:
            following.submission = None

    def _plan(self) -> None:
        """Find the earliest wish anew."""
        wishes = (self._looker.due_at(job) for prompt_id, job in self._open.items() if prompt_id not in self._ended)
        self._wake_at = min(wishes, default=math.inf)

    def _give_up(self, reason: str, followings: Iterable[Following]) -> None:
        for following in followings:
            self._settle(following, following.tracker.give_up(reason))

    def _stopped(self, task: asyncio.Task[None]) -> None:
        """The task ended. If not because it was told to, those who wait must hear of it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._task = None
            for following in tuple(self._open.values()):
                following.fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))
            self._open.clear()


def _now() -> float:
    return asyncio.get_running_loop().time()
