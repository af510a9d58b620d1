"""The same API without an event loop, for scripts and notebooks.

::

    from comfyclient.blocking import ComfyClient

    with ComfyClient("http://127.0.0.1:8188") as comfy:
        job = comfy.queue(Workflow.load("wf.json"), seed=42)
        for event in job.events():
            print(event)
        job.result().save("out/")

One background thread runs the event loop of `comfyclient.ComfyClient`; each call here waits for a call there. Ctrl-C
cancels the call that waits, and the client stays usable. Arguments and errors are those of the async classes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

from comfyclient import client as _async
from comfyclient import job as _job
from comfyclient import result as _result
from comfyclient.errors import ConfigError
from comfyclient.names import DEFAULT_TEMPLATE, Template
from comfyclient.transfer import SAVE_CAP

if TYPE_CHECKING:
    import datetime as dt
    import os
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from yarl import URL

    from comfyclient.addresses import AddressPolicy
    from comfyclient.auth import Auth
    from comfyclient.auth.credential import Credential
    from comfyclient.auth.session import Session
    from comfyclient.auth.store import StoredLogin
    from comfyclient.auth.tls import TLS
    from comfyclient.errors import Problem
    from comfyclient.journal import Journal
    from comfyclient.prepare import Prepared
    from comfyclient.recording import Recording
    from comfyclient.wire.answers import SystemInfo, Uploaded
    from comfyclient.wire.events import JobEvent
    from comfyclient.wire.outputs import OutputRef, TextOutput
    from comfyclient.wire.progress import JobProgress
    from comfyclient.wire.records import JobState
    from comfyclient.wire.summary import JobSummary
    from comfyclient.workflow.catalog import Catalog
    from comfyclient.workflow.document import Workflow
    from comfyclient.workflow.prompt import ConversionWarning, Prompt

__all__ = ["ComfyClient", "Job", "Output", "Result"]

_T = TypeVar("_T")
_TICK: Final = 0.5  # a thread that waits without end cannot be interrupted on Windows


class _Portal:
    """An event loop in a thread, and the way into it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._gate = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="comfyclient", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do it there and wait. If the wait is interrupted, it is cancelled, and has ended when this returns.

        Raises:
            ConfigError: This is closed, or was while it waited.
            RuntimeError: The calling thread is the one that would have to do it.
        """
        outcome: futures.Future[_T] = futures.Future()
        tasks: list[asyncio.Task[_T]] = []

        def start() -> None:
            task = self._loop.create_task(work)
            tasks.append(task)
            task.add_done_callback(lambda done: _copy(done, outcome))

        try:
            self._refuse_own_thread()
            self._schedule(start)
        except BaseException:
            work.close()
            raise
        try:
            _wait(outcome)
        except BaseException:
            with contextlib.suppress(ConfigError):  # closed: then it was cancelled already
                self._schedule(lambda: [task.cancel() for task in tasks])
            _wait(outcome)
            raise
        try:
            return outcome.result()
        except asyncio.CancelledError:
            if self._closing:
                raise ConfigError("the client was closed", hint="close it when no call waits any more") from None
            raise

    def iterate(self, items: AsyncIterator[_T]) -> Iterator[_T]:
        """The items of an asynchronous iterator, which is closed at the end."""
        try:
            while (item := self.call(_next(items))) is not None:
                yield item[0]
        finally:
            if not self.closed:
                with contextlib.suppress(ConfigError):  # closed in this moment, and with it the iterator
                    self.call(_aclose(items))

    @property
    def closed(self) -> bool:
        """Whether the loop ends or has ended."""
        return self._closing

    def close(self) -> None:
        """End the loop and the thread. Calls that wait get a ConfigError.

        Raises:
            RuntimeError: The calling thread is that thread.
        """
        self._refuse_own_thread()
        with contextlib.suppress(ConfigError):  # another thread was first
            self._schedule(self._loop.stop, last=True)
        self._thread.join()

    def _refuse_own_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("a callback of this client cannot call it: it would wait for itself")

    def _schedule(self, work: Callable[[], object], *, last: bool = False) -> None:
        """Have the loop call it. What was scheduled before the last is called before it."""
        with self._gate:
            if self._closing:
                raise ConfigError("the client is closed", hint="make a new ComfyClient, or do this before it is closed")
            self._closing = last
            self._loop.call_soon_threadsafe(work)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(_cancel_all())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()


async def _cancel_all() -> None:
    """End what still runs, so that nobody waits for it in another thread."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _copy(task: asyncio.Task[_T], outcome: futures.Future[_T]) -> None:
    if task.cancelled():
        outcome.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


def _wait(outcome: futures.Future[Any]) -> None:
    while not outcome.done():
        futures.wait([outcome], timeout=_TICK)


async def _next(items: AsyncIterator[_T]) -> tuple[_T] | None:
    try:
        return (await anext(items),)
    except StopAsyncIteration:
        return None


async def _aclose(items: AsyncIterator[Any]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()


class ComfyClient:
    """One instance of ComfyUI. See `comfyclient.ComfyClient`."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8188",
        *,
        auth: Auth | Sequence[Auth] | Literal["auto"] | None = None,
        credential: Credential | None = None,
        stored: StoredLogin | None = None,
        claim: bool = False,
        tls: TLS | None = None,
        comfy_user: str | None = None,
        client_id: str | None = None,
        timeout: float = 30.0,
        trust_env: bool = False,
        addresses: AddressPolicy | None = None,
        poll_interval: float = 2.0,
        patience: float = 120.0,
        stall_timeout: float | None = 600.0,
        journal: Journal | Recording | None = None,
        max_download: int | None = SAVE_CAP,
    ) -> None:
        self._client = _async.ComfyClient(
            url,
            auth=auth,
            credential=credential,
            stored=stored,
            claim=claim,
            tls=tls,
            comfy_user=comfy_user,
            client_id=client_id,
            timeout=timeout,
            trust_env=trust_env,
            addresses=addresses,
            poll_interval=poll_interval,
            patience=patience,
            stall_timeout=stall_timeout,
            journal=journal,
            max_download=max_download,
        )
        self._portal = _Portal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the session, the socket and the thread. Jobs on the instance go on."""
        try:
            with contextlib.suppress(ConfigError):  # it is closed already
                self._portal.call(self._client.close())
        finally:
            self._portal.close()

    @property
    def url(self) -> URL:
        """The base of the instance's address, without credentials."""
        return self._client.url

    @property
    def client_id(self) -> str:
        """The address of this client's events."""
        return self._client.client_id

    @property
    def connected(self) -> bool:
        """Whether events arrive over the websocket."""
        return self._client.connected

    def login(self) -> Session:
        """Log in now, and see that ComfyUI answers."""
        return self._portal.call(self._client.login())

    def wait_ready(self, seconds: float, *, waiting: Callable[[str], None] | None = None) -> None:
        """Wait until ComfyUI answers. ``waiting`` is called in the background thread."""
        self._portal.call(self._client.wait_ready(seconds, waiting=waiting))

    def info(self) -> SystemInfo:
        """What the instance says about itself."""
        return self._portal.call(self._client.info())

    def catalog(self, *, refresh: bool = False) -> Catalog:
        """The instance's node definitions."""
        return self._portal.call(self._client.catalog(refresh=refresh))

    def queue(
        self,
        workflow: Workflow | Prompt | Mapping[str, Any],
        edits: Mapping[str, Any] | None = None,
        *,
        seed: int | Literal["random"] | None = None,
        check: bool = True,
        front: bool = False,
        prompt_id: str | None = None,
        extra_data: Mapping[str, Any] | None = None,
        previews: bool = False,
        upload_dir: str | os.PathLike[str] | None = None,
        frontend: str | None = None,
        resubmit: Literal["never", "lost"] = "never",
    ) -> Job:
        """Queue a workflow."""
        prepared = self.prepare(workflow, edits, seed=seed, check=check, upload_dir=upload_dir, frontend=frontend)
        return self.submit(
            prepared,
            front=front,
            prompt_id=prompt_id,
            extra_data=extra_data,
            previews=previews,
            resubmit=resubmit,
        )

    def prepare(
        self,
        workflow: Workflow | Prompt | Mapping[str, Any],
        edits: Mapping[str, Any] | None = None,
        *,
        seed: int | Literal["random"] | None = None,
        check: bool = True,
        upload_dir: str | os.PathLike[str] | None = None,
        frontend: str | None = None,
    ) -> Prepared:
        """Make the prompt that is to be sent."""
        return self._portal.call(
            self._client.prepare(workflow, edits, seed=seed, check=check, upload_dir=upload_dir, frontend=frontend)
        )

    def submit(
        self,
        prompt: Prompt | Prepared,
        *,
        front: bool = False,
        prompt_id: str | None = None,
        extra_data: Mapping[str, Any] | None = None,
        previews: bool = False,
        resubmit: Literal["never", "lost"] = "never",
    ) -> Job:
        """Send a prompt as it is."""
        submitted = self._client.submit(
            prompt,
            front=front,
            prompt_id=prompt_id,
            extra_data=extra_data,
            previews=previews,
            resubmit=resubmit,
        )
        return Job(self._portal, self._portal.call(submitted))

    def run(
        self,
        prompts: Iterable[Prompt | Prepared],
        *,
        ahead: int = 32,
        queued: Callable[[Job], None] | None = None,
        extra_data: Mapping[str, Any] | None = None,
        previews: bool = False,
        resubmit: Literal["never", "lost"] = "never",
    ) -> Iterator[Job]:
        """Submit many, keeping the instance's queue filled, and yield each job when it has ended.

        ``prompts`` and ``queued`` are used in the background thread, and must not call this client.
        """

        def tell(job: _job.Job) -> None:
            if queued is not None:
                queued(Job(self._portal, job))

        jobs = self._client.run(
            prompts, ahead=ahead, queued=tell, extra_data=extra_data, previews=previews, resubmit=resubmit
        )
        for job in self._portal.iterate(jobs):
            yield Job(self._portal, job)

    def job(self, prompt_id: str) -> Job:
        """Take up a job that is on the instance already."""
        return Job(self._portal, self._portal.call(self._client.job(prompt_id)))

    def keeps_ids(self) -> bool:
        """Whether a job that the instance does not know by its id is certainly not there under another."""
        return self._portal.call(self._client.keeps_ids())

    def jobs(self, *, limit: int = 100) -> list[JobSummary]:
        """The jobs on the instance."""
        return self._portal.call(self._client.jobs(limit=limit))

    def cancel(self, prompt_id: str) -> JobState:
        """Take a job off the queue, or interrupt it if it runs."""
        return self._portal.call(self._client.cancel(prompt_id))

    def cancel_all(self, ids: Iterable[str]) -> dict[str, JobState]:
        """Cancel many jobs in a few requests."""
        return self._portal.call(self._client.cancel_all(ids))

    def upload(
        self,
        source: str | os.PathLike[str] | bytes,
        *,
        name: str | None = None,
        subfolder: str = "",
        type: Literal["input", "temp", "output"] = "input",
        overwrite: bool = False,
    ) -> Uploaded:
        """Send a file to the instance."""
        return self._portal.call(
            self._client.upload(source, name=name, subfolder=subfolder, type=type, overwrite=overwrite)
        )

    def read(self, output: OutputRef) -> bytes:
        """Fetch a file of the instance into memory."""
        return self._portal.call(self._client.read(output))

    def download(
        self, output: OutputRef, dest: str | os.PathLike[str], *, overwrite: bool = False, job: Job | None = None
    ) -> Path:
        """Fetch a file of the instance into the file ``dest``."""
        its = job._job if job is not None else None  # noqa: SLF001 - of this module
        return self._portal.call(self._client.download(output, dest, overwrite=overwrite, job=its))


class Job:
    """A prompt that is queued. See `comfyclient.Job`."""

    def __init__(self, portal: _Portal, job: _job.Job) -> None:
        self._portal = portal
        self._job = job

    @property
    def id(self) -> str:
        """The prompt_id."""
        return self._job.id

    @property
    def prompt(self) -> Prompt:
        """What was sent."""
        return self._job.prompt

    @property
    def seeds(self) -> dict[str, int]:
        """The seeds it was sent with, by address."""
        return self._job.seeds

    @property
    def warnings(self) -> tuple[Problem | ConversionWarning, ...]:
        """What the conversion had to say, and outputs that the server dropped."""
        return self._job.warnings

    @property
    def state(self) -> JobState:
        """Where it is, as far as this client knows."""
        return self._job.state

    @property
    def progress(self) -> JobProgress:
        """How far it is."""
        return self._portal.call(_value(lambda: self._job.progress))

    def __repr__(self) -> str:
        return repr(self._job)

    def events(self, *, previews: bool = False) -> Iterator[JobEvent]:
        """What happens to it, until its end."""
        return self._portal.iterate(self._job.events(previews=previews))

    def wait(self) -> JobState:
        """Wait for its end, however it ends, and say how."""
        return self._portal.call(self._job.wait())

    def result(self, timeout: float | None = None) -> Result:
        """Wait for its end, as the server's record tells it."""
        return Result(self._portal, self._portal.call(self._job.result(timeout)))

    def cancel(self) -> JobState:
        """Take it off the queue, or interrupt it if it runs."""
        return self._portal.call(self._job.cancel())


class Result:
    """What a job that succeeded has produced. See `comfyclient.Result`."""

    def __init__(self, portal: _Portal, result: _result.Result) -> None:
        self._portal = portal
        self._result = result
        self.prompt_id: str = result.prompt_id
        self.outputs: tuple[Output, ...] = tuple(Output(portal, output) for output in result.outputs)
        self.files: tuple[Output, ...] = tuple(Output(portal, output) for output in result.files)
        self.texts: tuple[TextOutput, ...] = result.texts
        self.seeds: dict[str, int] = result.seeds
        self.started: dt.datetime | None = result.started
        self.ended: dt.datetime | None = result.ended
        self.duration: float | None = result.duration
        self.cached_nodes: tuple[str, ...] = result.cached_nodes

    def __repr__(self) -> str:
        return repr(self._result)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        template: str | Template = DEFAULT_TEMPLATE,
        overwrite: bool = False,
        texts: bool = False,
        metadata: bool = False,
    ) -> list[Path]:
        """Fetch its files into a folder."""
        return self._portal.call(
            self._result.save(folder, template=template, overwrite=overwrite, texts=texts, metadata=metadata)
        )

    def to_json(self) -> dict[str, Any]:
        """What it is, for ``--json``."""
        return self._result.to_json()


class Output:
    """A file that a job produced, still on the instance. See `comfyclient.Output`."""

    def __init__(self, portal: _Portal, output: _result.Output) -> None:
        self._portal = portal
        self._output = output
        self.ref: OutputRef = output.ref
        self.title: str = output.title
        self.class_type: str = output.class_type
        self.node_id: str = output.node_id
        self.kind: str = output.kind
        self.filename: str = output.filename
        self.subfolder: str = output.subfolder
        self.type: str = output.type
        self.index: int = output.index

    def __repr__(self) -> str:
        return repr(self._output)

    def read(self) -> bytes:
        """Fetch it into memory."""
        return self._portal.call(self._output.read())

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Fetch it into a file."""
        return self._portal.call(self._output.save(path, overwrite=overwrite))

    def to_json(self) -> dict[str, Any]:
        """The fields, for ``--json`` and metadata files."""
        return self._output.to_json()


async def _value(get: Callable[[], _T]) -> _T:
    """Read something in the thread that changes it."""
    return get()
