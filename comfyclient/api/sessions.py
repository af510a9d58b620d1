"""The sessions of the REST API: each a client of one instance, owned by the key that began it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from comfyclient._redact import RedactingFilter
from comfyclient.api.attach import Attacher
from comfyclient.api.busy import Busy
from comfyclient.api.errors import no_session, session_gone, too_many
from comfyclient.api.kept import KeptWorkflows
from comfyclient.api.strangers import in_our_words
from comfyclient.auth.credential import Credential
from comfyclient.auth.tls import TLS
from comfyclient.client import ComfyClient
from comfyclient.errors import ComfyClientError
from comfyclient.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from comfyclient.addresses import AddressPolicy
    from comfyclient.api.batch import Batch
    from comfyclient.api.jobs import JobBook
    from comfyclient.api.kept import Kept
    from comfyclient.api.settings import Limits
    from comfyclient.journal import Journal
    from comfyclient.workflow.document import Workflow

__all__ = ["OPEN", "ApiSession", "Opened", "SessionOrder", "Sessions"]

OPEN: Final = "none"
"""The scheme of an instance that lets everybody in."""
_HOPE: Final = 86400.0  # seconds for which an instance that cannot be asked about its jobs is asked again

_log = logging.getLogger("comfyclient.api")
_log.addFilter(RedactingFilter())


@dataclass(frozen=True, slots=True)
class SessionOrder:
    """What a session is to be.

    ``port`` is what a program of an older server gave, to be told again.
    """

    url: str
    credential: Credential = field(default_factory=Credential)
    tls_fingerprint: str | None = None
    comfy_user: str | None = None
    wait_ready: float = 0.0
    port: int | None = None

    def to_json(self) -> dict[str, str]:
        """What of it is needed to begin such a session again, and is no secret: the url may hold one."""
        about = {"tls_fingerprint": self.tls_fingerprint, "comfy_user": self.comfy_user}
        return {name: value for name, value in about.items() if value is not None}

    @classmethod
    def from_json(cls, url: str, about: Any) -> SessionOrder | None:
        """A session at this url, as `to_json` says; ``None`` if that is something else."""
        if not isinstance(about, dict):
            return None

        def text(name: str) -> str | None:
            value = about.get(name)
            return value if isinstance(value, str) else None

        return cls(url, tls_fingerprint=text("tls_fingerprint"), comfy_user=text("comfy_user"))


@dataclass(slots=True)
class Opened:
    """The workflow that is open in a session. As on the page, its seeds go on from one call to the next."""

    workflow: Workflow
    path: str
    batch: Batch | None = None
    iterations: int = 0
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)


class ApiSession:
    """A session.

    Attributes:
        id: Its name, which cannot be guessed.
        owner: The name of the key that began it.
        client: The instance.
        url: The instance's address, without credentials.
        recording: What is written of its jobs.
        scheme: How it is let in.
        default: Whether the calls without an id mean it.
        again: What it takes to begin such a session again after a restart; ``None``: a secret, which is kept nowhere.
        opened: The workflow that is open.
        used: When it was asked for last, on the event loop's clock.
        replaced: Whether another default session ended for it.
        attacher: Finds jobs again that nobody follows.
        ended: Nothing more is queued in it.
        busy: Requests that need its client; ``queueing``: those of them that queue.
    """

    def __init__(
        self,
        owner: str,
        client: ComfyClient,
        recording: Recording | None,
        order: SessionOrder,
        *,
        scheme: str,
        book: JobBook,
        kept: KeptWorkflows,
        default: bool,
    ) -> None:
        self.id = secrets.token_urlsafe(24)
        self.owner, self.client, self.recording, self.default = owner, client, recording, default
        self.port = order.port
        self.url = str(client.url).rstrip("/")
        self.scheme = scheme
        self.again = order.to_json() if scheme == OPEN else None
        self.created = time.time()
        self.opened: Opened | None = None
        self._kept = kept
        self.used = 0.0
        self.ended = self.replaced = False
        self.busy, self.queueing = Busy(), Busy()
        self.attacher = Attacher(owner, self.url, self.id, client, recording, book)

    @contextlib.contextmanager
    def at_work(self, *, queueing: bool = False) -> Iterator[None]:
        """For whoever needs its client for a while: so long it is not closed.

        Raises:
            ApiError: It has ended.
        """
        if self.ended:
            raise session_gone()
        with self.busy, self.queueing if queueing else contextlib.nullcontext():
            yield

    def keep(self, kept: Kept) -> str:
        """Keep an uploaded workflow; the oldest go if there are too many, or they are too large. Returns its id."""
        return self._kept.keep(self.owner, self.id, kept)

    async def uploaded(self, workflow_id: str) -> Workflow | None:
        """The workflow that was uploaded under an id, if it is kept still."""
        found = self._kept.find(self.owner, self.id, workflow_id)
        return await found.workflow() if found is not None else None


class Sessions:
    """All sessions of a server.

    Args:
        limits: How many there may be.
        addresses: Which addresses may be connected to.
        journal: Where jobs are written down.
        book: The jobs.
    """

    def __init__(
        self, *, limits: Limits, addresses: AddressPolicy | None, journal: Journal | None, book: JobBook
    ) -> None:
        self._limits, self._addresses, self._journal, self._book = limits, addresses, journal, book
        self._sessions: dict[str, ApiSession] = {}
        self._default: dict[str, str] = {}
        self._starting: Counter[str] = Counter()
        self._kept = KeptWorkflows(limits)
        self._retiring: dict[asyncio.Task[None], str] = {}  # by what ends them: their owners

    def __len__(self) -> int:
        return len(self._sessions)

    def of(self, owner: str) -> list[ApiSession]:
        """Those of an owner."""
        return [session for session in self._sessions.values() if session.owner == owner]

    def get(self, owner: str, session_id: str) -> ApiSession:
        """One of the owner's.

        Raises:
            ApiError: There is none of that id, or it is another's.
        """
        session = self._sessions.get(session_id)
        if session is None or session.owner != owner:
            raise session_gone()
        return self._use(session)

    def default(self, owner: str) -> ApiSession:
        """The one that calls without an id mean.

        Raises:
            ApiError: There is none.
        """
        session = self.find_default(owner)
        if session is None:
            raise no_session()
        return self._use(session)

    def find_default(self, owner: str) -> ApiSession | None:
        """The same; ``None`` if there is none."""
        return self._sessions.get(self._default.get(owner, ""))

    def look(self, owner: str) -> ApiSession | None:
        """The same, for a caller who asks about it: whoever does so again and again has not forgotten it."""
        found = self.find_default(owner)
        return self._use(found) if found is not None else None

    def at(self, owner: str, url: str, *, preferred: str = "") -> ApiSession | None:
        """A session of the owner at an instance: the ``preferred`` one if it is there still."""
        found = self.find(owner, url, preferred=preferred)
        return self._use(found) if found is not None else None

    def find(self, owner: str, url: str, *, preferred: str = "") -> ApiSession | None:
        """The same, without any effect on when it ends."""
        first = self._sessions.get(preferred)
        if first is not None and first.owner == owner:
            return first
        return next((session for session in self.of(owner) if session.url == url), None)

    async def start(
        self,
        owner: str,
        order: SessionOrder,
        *,
        default: bool = False,
        prepare: Callable[[ApiSession], Awaitable[None]] | None = None,
    ) -> ApiSession:
        """Log in at an instance.

        Args:
            owner: Whose session it is to be.
            order: What it is to be.
            default: Whether calls without an id are to mean it; the one before ends then.
            prepare: Called before it is anybody's; if that raises, there is no session, and the one before stays.

        Raises:
            ApiError: There are too many sessions.
            ComfyClientError: It does not let us in, does not answer, or is none.
        """
        replaces = default and self.find_default(owner) is not None
        ending = sum(one == owner for one in self._retiring.values())  # they hold connections while their jobs run
        if len(self.of(owner)) + self._starting[owner] + ending - replaces >= self._limits.sessions:
            raise too_many("sessions", 60)
        self._starting[owner] += 1
        try:
            session = await self._log_in(owner, order, default=default)
            if prepare is not None:
                await _prepare(session, prepare)
        finally:
            self._starting[owner] -= 1
        if default:
            before = self.find_default(owner)  # which may be another by now
            if before is not None:
                self.stop(before)
                session.replaced = True
            self._default[owner] = session.id
        self._sessions[session.id] = self._use(session)
        session.attacher.wake()
        return session

    def stop(self, session: ApiSession) -> None:
        """End it. What is being queued is not queued further; its jobs go on, and are followed to their end."""
        if self._sessions.pop(session.id, None) is None:
            return
        session.ended = True
        self._kept.forget(session.owner, session.id)
        if self._default.get(session.owner) == session.id:
            del self._default[session.owner]
        task = asyncio.create_task(self._retire(session), name="comfyclient-api-session-end")
        self._retiring[task] = session.owner
        task.add_done_callback(self._retired)

    async def sweep(self) -> None:
        """End those that nobody has used for long, and whose jobs have ended. Runs until it is cancelled."""
        if not self._limits.idle:
            return
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(max(0.05, min(60.0, self._limits.idle / 4)))
            for session in tuple(self._sessions.values()):
                unfinished = self._book.unfinished(session.owner, follower=session.id)
                if session.busy or any(record.task is not None for record in unfinished):
                    self._use(session)
                elif now() - session.used > (max(self._limits.idle, _HOPE) if unfinished else self._limits.idle):
                    self.stop(session)

    async def close(self) -> None:
        """End all, at once. Jobs go on on their instances."""
        retiring = tuple(self._retiring)
        for task in retiring:
            task.cancel()
        await asyncio.gather(*retiring, return_exceptions=True)
        sessions, self._sessions = tuple(self._sessions.values()), {}
        await asyncio.gather(*(_close(session) for session in sessions))

    async def _log_in(self, owner: str, order: SessionOrder, *, default: bool) -> ApiSession:
        recording = None
        if self._journal is not None:
            recording = Recording(self._journal, name="rest api")
        client = ComfyClient(
            order.url,
            auth="auto" if order.credential else None,
            credential=order.credential or None,
            tls=TLS(fingerprint=order.tls_fingerprint) if order.tls_fingerprint else None,
            comfy_user=order.comfy_user,
            addresses=self._addresses,
            journal=recording,
        )
        try:
            scheme = await _reach(client, order.wait_ready)
        except BaseException:
            await client.close()
            raise
        return ApiSession(
            owner, client, recording, order, scheme=scheme, book=self._book, kept=self._kept, default=default
        )

    async def _retire(self, session: ApiSession) -> None:
        def followed() -> list[asyncio.Task[None]]:
            records = self._book.unfinished(session.owner, follower=session.id)
            return [record.task for record in records if record.task is not None]

        try:
            while session.busy or followed():
                await session.busy.over()
                if tasks := followed():
                    await asyncio.wait(tasks)
        finally:
            await _close(session)

    def _retired(self, task: asyncio.Task[None]) -> None:
        del self._retiring[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a session did not end in order", exc_info=error)

    def _use(self, session: ApiSession) -> ApiSession:
        session.used = asyncio.get_running_loop().time()
        return session

    def __iter__(self) -> Iterator[ApiSession]:
        return iter(tuple(self._sessions.values()))


async def _reach(client: ComfyClient, seconds: float) -> str:
    """Log in. Returns how.

    Raises:
        ComfyClientError: That is not possible. See `comfyclient.api.strangers` for what is told of it.
    """
    try:
        if seconds > 0:
            await client.wait_ready(seconds)
        return (await client.login()).scheme or OPEN
    except ComfyClientError as error:
        raise await in_our_words(client, error) from None


async def _prepare(session: ApiSession, prepare: Callable[[ApiSession], Awaitable[None]]) -> None:
    try:
        await prepare(session)
    except BaseException:
        await _close(session)
        raise


async def _close(session: ApiSession) -> None:
    await session.attacher.close()
    with contextlib.suppress(ComfyClientError):  # its journal, which has said so in the log
        await session.client.close()
