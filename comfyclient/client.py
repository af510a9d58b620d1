"""`ComfyClient`: one ComfyUI instance, asynchronously."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from comfyclient import _json
from comfyclient._http import Http
from comfyclient._redact import Secret
from comfyclient._transport import Transport
from comfyclient.ahead import run_ahead
from comfyclient.auth.address import read_address
from comfyclient.auth.remember import default_store, find_stored, recall
from comfyclient.auth.schemes import Auth, together
from comfyclient.auth.session import Session
from comfyclient.cancelling import Canceller
from comfyclient.catalogs import read_catalog
from comfyclient.encoding import check_prompt_id, encode_prompt, new_prompt_id
from comfyclient.errors import (
    CertificateUntrusted,
    CheckFailed,
    ConfigError,
    InstanceUnavailable,
    JobLost,
    NotComfyUI,
)
from comfyclient.job import Instance, Job
from comfyclient.look import HistoryReader, find_for_sure, read_queue
from comfyclient.prepare import (
    Prepared,
    aside,
    build,
    find_local_files,
    not_yet_there,
    seeds_of,
    upload_all,
)
from comfyclient.queueing import Submitter, refuse_known
from comfyclient.relay import Relayed, relay
from comfyclient.socket import EventSocket
from comfyclient.transfer import SAVE_CAP, Transfers
from comfyclient.userdata import SavedWorkflow, list_saved, read_saved
from comfyclient.watch import Watcher
from comfyclient.wire.answers import SystemInfo
from comfyclient.wire.lifecycle import Cadence
from comfyclient.wire.records import JobState, can_be_sent
from comfyclient.wire.summary import JobSummary
from comfyclient.workflow.check import check as check_prompt
from comfyclient.workflow.convert.releases import release_of
from comfyclient.workflow.prompt import Prompt

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
    from types import TracebackType

    from yarl import URL

    from comfyclient.addresses import AddressPolicy
    from comfyclient.auth.credential import Credential
    from comfyclient.auth.store import StoredLogin
    from comfyclient.auth.tls import TLS
    from comfyclient.errors import Problem
    from comfyclient.following import Following
    from comfyclient.journal import Journal
    from comfyclient.prepare import LocalFile
    from comfyclient.recording import Recording
    from comfyclient.wire.answers import Accepted, Uploaded
    from comfyclient.wire.outputs import OutputRef
    from comfyclient.workflow.catalog import Catalog
    from comfyclient.workflow.document import Workflow
    from comfyclient.workflow.prompt import ConversionWarning

__all__ = ["ComfyClient"]

_PAYS: Final = frozenset({"api_key_comfy_org", "auth_token_comfy_org"})
_READY_FIRST, _READY_MOST = 0.5, 5.0
_FRESH: Final = 2.0  # seconds for which a catalog's lists of files are taken for current


class ComfyClient:
    """One instance of ComfyUI: one session, one websocket, any number of jobs.

    ::

        async with ComfyClient("http://127.0.0.1:8188") as comfy:
            job = await comfy.queue(Workflow.load("wf.json"), {"6.text": "a red fox"}, seed=42)
            result = await job.result()
            await result.save("out/")

    Use it in one event loop, and close it, or use it as a context manager. Nothing is sent before the first call.

    Args:
        url: Where the instance is, with its scheme; a path prefix is kept. A credential in it (``user:password@``, or
            ``?token=``) is taken out of it, and used as ``credential``.
        auth: How to be let in: a scheme, or several that go together (`CloudflareAccess` with another). ``"auto"``: the
            scheme is found out, for ``credential``, or the login that ``comfyclient login`` stored. ``None`` for an
            instance without a login.
        credential: For ``"auto"``, which it implies.
        stored: A login that `comfyclient.auth.store.LoginStore` keeps, for ``"auto"``.
        tls: Which certificates are trusted, if not those that the system trusts.
        comfy_user: The user of an instance that has several (``--multi-user``).
        client_id: The address of this client's events. Never give two clients the same at the same time.
        timeout: Seconds that an HTTP call may take; transfers of files are bounded by silence instead.
        trust_env: Whether proxies named in the environment are used.
        addresses: Which addresses may be connected to, for programs that are given the url by others; every connection
            is judged by it, those of logins, websockets and downloads too. Not those of `BrowserLogin`: a browser
            connects to what it likes.
        poll_interval: Seconds between looks at the server's record while nothing is heard over the websocket.
        patience: Seconds in which the server cannot be asked, after which a job's outcome counts as unknown.
        stall_timeout: Seconds in which nothing moves though the server says that a job runs, after which the job
            counts as STALLED until something does; ``None``: it never does. Loading a model may take minutes.
        journal: Where each job is written down, from before its submission to its outputs: a journal, for a run of its
            own, or a `comfyclient.recording.Recording`. Keep it open until the client is closed.
        max_download: Bytes that a file which is saved may have, 64 GiB by default: who offers more is not trusted to
            end. ``None``: as many as the disk takes.

    Raises:
        ConfigError: The url or another argument makes no sense, or two credentials exclude each other.
    """

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
        if stall_timeout is not None and not stall_timeout > 0:
            raise ConfigError("stall_timeout must be more than 0 seconds, or None")
        if max_download is not None and not max_download > 0:
            raise ConfigError("max_download must be more than 0 bytes, or None")
        base, in_url = read_address(url)
        given = credential.over(in_url) if credential is not None else in_url
        scheme = _scheme(auth, given)
        if auth == "auto" and not given and stored is None:
            base, stored = find_stored(default_store(), base)
        recalled = recall(stored) if stored is not None else None
        known = None
        if recalled is not None:
            tls, comfy_user = tls or recalled.tls, comfy_user or recalled.comfy_user
            if scheme is None and not given:
                given, known = recalled.credential, recalled.known
        transport = Transport(timeout=timeout, trust_env=trust_env, tls=tls, addresses=addresses)
        self._session = Session(
            transport, base, auth=scheme, credential=given, user=comfy_user, known=known, claim=claim
        )
        self.client_id = client_id or str(uuid.uuid4())
        self._http = Http(transport, self._session)
        cadence = Cadence(first=min(0.1, poll_interval), most=poll_interval)
        self._watcher = Watcher(
            self._http, cadence=cadence, patience=patience, stall_timeout=stall_timeout, on_deaf=self._reconnect
        )
        self._socket = EventSocket(
            self._http,
            self.client_id,
            on_frame=self._watcher.on_frame,
            on_connection=self._watcher.on_connection,
        )
        self._keys: dict[str, Secret] = {}
        self._submitter = Submitter(self._http, self._watcher)
        self._transfers = Transfers(self._http, save_cap=max_download)
        self._recording = _recording(journal)
        self._canceller = Canceller(self._http, self._watcher)
        self._instance = Instance(self._canceller, self._transfers)
        self._catalog: Catalog | None = None
        self._frontend: str | None = None
        self._catalog_at = 0.0
        self._catalog_gate = asyncio.Lock()
        self._closed = False

    @property
    def url(self) -> URL:
        """The base of the instance's address, without credentials."""
        return self._http.base

    @property
    def connected(self) -> bool:
        """Whether events arrive over the websocket. Without it jobs are followed by polling."""
        return self._socket.connected

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session and the socket. Jobs on the instance go on; who still waits here gets OutcomeUnknown."""
        self._closed = True
        try:
            await self._socket.close()
        finally:
            try:
                await self._watcher.close()
            finally:
                try:
                    await self._http.close()
                finally:
                    if self._recording is not None:
                        await self._recording.close()

    # The instance

    async def info(self) -> SystemInfo:
        """What the instance says about itself.

        Raises:
            NotComfyUI: Something else answers there.
            InstanceUnavailable: Nobody answers.
        """
        return SystemInfo.from_json(await self._http.get_json("/system_stats"))

    async def catalog(self, *, refresh: bool = False) -> Catalog:
        """The instance's node definitions; read once, unless ``refresh`` is set.

        Raises:
            ProtocolError: The answer is no catalog.
            InstanceUnavailable: Nobody answers.
        """
        async with self._catalog_gate:
            if self._catalog is None or refresh:
                info = await self.info()
                reply = await self._http.get("/object_info")
                self._catalog = await read_catalog(reply, version=info.comfyui_version, source=f"catalog of {self.url}")
                self._frontend = release_of(info.frontend_version)
                self._catalog_at = asyncio.get_running_loop().time()
            return self._catalog

    # Getting in

    async def login(self) -> Session:
        """Log in now, rather than with the first request, and see that ComfyUI answers.

        Returns:
            The session: its ``kind`` and ``scheme`` say what was found there and what lets us in.

        Raises:
            AuthError: The instance does not let us in.
            CertificateUntrusted: Its certificate is not one that we trust; nothing was sent.
            InstanceUnavailable: Nobody answers, or ComfyUI is not up.
            NotComfyUI: Something else answers there.
        """
        await self._session.enter()
        body = await self._http.get_json("/prompt")
        info = body.get("exec_info") if isinstance(body, dict) else None
        if not isinstance(info, dict):
            raise NotComfyUI(f"{self._http.origin}: something answers, but not as ComfyUI does")
        return self._session

    async def wait_ready(self, seconds: float, *, waiting: Callable[[str], None] | None = None) -> None:
        """Wait until ComfyUI answers: a rented machine takes minutes to come up.

        Args:
            seconds: How long at most.
            waiting: Called with the reason, each time that it changes.

        Raises:
            InstanceUnavailable: It did not come up in that time.
            CertificateUntrusted: Waiting would not help.
            AuthError: The same.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        reason, pause = None, _READY_FIRST
        while True:
            try:
                async with asyncio.timeout_at(deadline if seconds > 0 else None):
                    await self.login()
            except TimeoutError:
                raise InstanceUnavailable(reason or f"{self._http.origin} did not answer in time") from None
            except CertificateUntrusted:
                raise
            except InstanceUnavailable as error:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    raise
                if waiting is not None and str(error) != reason:
                    waiting(str(error))
                reason = str(error)
                await asyncio.sleep(min(pause, left))
                pause = min(pause * 1.5, _READY_MOST)
            else:
                return

    # Queueing

    async def queue(
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
        """Queue a workflow: `prepare` it, then `submit` it. See there for arguments and errors."""
        self._check_open()
        if prompt_id is not None:
            check_prompt_id(prompt_id)
        prepared = await self.prepare(workflow, edits, seed=seed, check=check, upload_dir=upload_dir, frontend=frontend)
        return await self.submit(
            prepared,
            front=front,
            prompt_id=prompt_id,
            extra_data=extra_data,
            previews=previews,
            resubmit=resubmit,
        )

    async def prepare(
        self,
        workflow: Workflow | Prompt | Mapping[str, Any],
        edits: Mapping[str, Any] | None = None,
        *,
        seed: int | Literal["random"] | None = None,
        check: bool = True,
        upload_dir: str | os.PathLike[str] | None = None,
        frontend: str | None = None,
    ) -> Prepared:
        """Make the prompt that is to be sent. Nothing is queued; files are uploaded only if all else is well.

        Args:
            workflow: A workflow in UI or API format, its JSON, or a prompt.
            edits: Values by address, ``{"6.text": "a red fox"}``.
            seed: A number for every seed input, ``"random"`` for one made up here, ``None`` to keep them.
            check: Whether to look for what would not run.
            upload_dir: Where local input files are looked for, usually the workflow's folder. An upload input
                that names a file there gets the name under which the instance received it. ``None``: nothing is
                uploaded.
            frontend: The frontend release whose conversion to follow; by default the one that the instance names.

        Raises:
            WorkflowError: It cannot be read or converted, or an edit does not fit (EditError).
            CheckFailed: It would not run; all problems at once.
            TransferError: An input file could not be uploaded.
        """
        if isinstance(workflow, Prompt) and not edits and seed is None and not check and upload_dir is None:
            return Prepared(workflow)
        catalog = await self.catalog()
        before, prompt = await aside(
            workflow,
            lambda: build(workflow, catalog, edits=edits, seed=seed, frontend=frontend or self._frontend),
        )
        files: list[LocalFile] = []
        if upload_dir is not None:
            files = await asyncio.to_thread(find_local_files, before, prompt, catalog, Path(upload_dir))
        if check:
            await self._check(prompt, files)
        if files:
            prompt = await upload_all(prompt, files, self._transfers)
        return Prepared(prompt, await aside(prompt, lambda: seeds_of(prompt, catalog)))

    async def submit(
        self,
        prompt: Prompt | Prepared,
        *,
        front: bool = False,
        prompt_id: str | None = None,
        extra_data: Mapping[str, Any] | None = None,
        previews: bool = False,
        resubmit: Literal["never", "lost"] = "never",
        note: Mapping[str, Any] | None = None,
    ) -> Job:
        """Send a prompt as it is. It is queued at most once, whatever happens to the connection.

        Args:
            prompt: What `prepare` made, or a prompt.
            front: Before all other waiting jobs.
            prompt_id: The job's id, a UUID that the instance has not seen; made up by default.
            extra_data: What else travels with it. Everybody who can reach the instance can read it.
            previews: Ask the instance for pictures of what is unfinished, for `Job.events`.
            resubmit: ``"lost"``: if the server no longer knows the job, because it restarted or somebody deleted the
                job, submit it exactly once more, under another id, which ``job.id`` is from then on. It may have run,
                and cost money, before it was lost.
            note: What the journal is to keep with the job: `comfyclient.journal.Entry.plan`. No secrets.

        Returns:
            The job. ``job.warnings`` names outputs that the server dropped because they cannot run.

        Raises:
            ConfigError: ``prompt_id`` is no such UUID or is taken, or the client is closed.
            PromptRejected: The server refused it.
            InstanceUnavailable: It was not queued.
            ProtocolError: It was not queued, and the answer made no sense.
            OutcomeUnknown: The answer got lost and the server cannot be asked; it may be queued.
        """
        self._check_open()
        if resubmit not in {"never", "lost"}:
            raise ConfigError("resubmit must be 'never' or 'lost'")
        prepared = prompt if isinstance(prompt, Prepared) else Prepared(prompt)
        sent = prepared.prompt
        job_id = new_prompt_id() if prompt_id is None else check_prompt_id(prompt_id)
        extra = {"preview_method": "auto" if previews else "none", **(extra_data or {})}
        billed = self._is_billed(sent, extra)
        for name in _PAYS & extra.keys():  # masked in texts from now on
            self._keys.setdefault(str(extra[name]), Secret(str(extra[name])))

        note = dict(note) if note is not None else None
        body = encode_prompt(sent, prompt_id=job_id, client_id=self.client_id, extra_data=extra, front=front)

        def again(following: Following) -> Coroutine[None, None, object]:
            before, once_more = following.tracker.prompt_id, new_prompt_id()
            renamed = _renamed(body, once_more)  # as it was sent, whatever became of the caller's prompt
            self._watcher.begin_again(following, once_more)
            return post(following, renamed, before)

        async def post(following: Following, body: bytes, before: str | None = None) -> Accepted:
            def send() -> Coroutine[None, None, Accepted]:
                return self._submitter.submit(following, body, sent, billed=billed)

            if self._recording is None:
                return await send()
            about: dict[str, Any] = {"url": str(self.url), "client_id": self.client_id, "seeds": prepared.seeds}
            about["note"] = note
            return await self._recording.submit(following, send, body=body, before=before, **about)

        if not self._session.worked:
            await self._reach()
        await self._socket.start()
        if prompt_id is not None:
            await refuse_known(self._http, prompt_id)
        self._check_open()
        following = self._watcher.follow(
            job_id, sent.nodes.keys(), sent.title, again=again if resubmit == "lost" else None
        )
        try:
            accepted = await post(following, body)
        except BaseException:
            self._watcher.forget(following)
            raise
        warnings: tuple[ConversionWarning | Problem, ...] = (*sent.warnings, *accepted.problems)
        return self._job(following, sent, seeds=prepared.seeds, warnings=warnings)

    async def run(
        self,
        prompts: Iterable[Prompt | Prepared] | AsyncIterable[Prompt | Prepared],
        *,
        ahead: int = 32,
        queued: Callable[[Job], None] | None = None,
        extra_data: Mapping[str, Any] | None = None,
        previews: bool = False,
        resubmit: Literal["never", "lost"] = "never",
    ) -> AsyncIterator[Job]:
        """Submit many, keeping up to ``ahead`` of them in the instance's queue, and yield each when it has ended.

        Args:
            prompts: What to submit, in this order; taken one by one as there is room.
            ahead: How many may be unfinished at a time.
            queued: Called with each job when it has been queued.
            extra_data: As in `submit`.
            previews: As in `submit`.
            resubmit: As in `submit`.

        Raises:
            PromptRejected: As `submit` does, after what was queued before has ended and was yielded.
        """

        async def send(prompt: Prompt | Prepared) -> Job:
            return await self.submit(prompt, extra_data=extra_data, previews=previews, resubmit=resubmit)

        async with contextlib.aclosing(run_ahead(prompts, send, ahead=ahead, queued=queued)) as jobs:
            async for job in jobs:
                yield job

    # Jobs

    async def job(self, prompt_id: str) -> Job:
        """Take up a job that is on the instance already, whoever queued it.

        Raises:
            JobLost: The instance does not know it.
        """
        self._check_open()
        if not can_be_sent(prompt_id):
            raise JobLost(f"job {prompt_id!a}: no instance has one of that id", prompt_id=prompt_id)
        look, found = await find_for_sure(self._http, prompt_id)
        if found is None:
            raise JobLost(f"job {prompt_id}: the instance does not know it", prompt_id=prompt_id)
        nodes = {node_id: dict(node) for node_id, node in found.prompt_nodes.items() if isinstance(node, dict)}
        prompt = Prompt(nodes, found.workflow)
        following = self._watcher.get(prompt_id)
        if following is None:
            own = found.extra_data.get("client_id") == self.client_id
            following = self._watcher.follow(prompt_id, nodes.keys(), prompt.title, own=own)
        if not following.tracker.known:
            self._watcher.learn(following, look)
        seeds = seeds_of(prompt, self._catalog) if self._catalog is not None else {}
        return self._job(following, prompt, seeds=seeds)

    async def keeps_ids(self) -> bool:
        """Whether a job that the instance does not know by its id is certainly not there under another.

        Raises:
            InstanceUnavailable: Nobody answers.
        """
        return await self._submitter.keeps_ids()

    async def jobs(self, *, limit: int = 100) -> list[JobSummary]:
        """The jobs on the instance, whoever queued them.

        Returns:
            What runs, what waits in its order, then up to ``limit`` that have ended, the newest first.
        """
        queue, _ = await read_queue(self._http)
        records = await HistoryReader(self._http).newest(limit)
        ended = {record.prompt_id for record in records}  # also those that were still queued a moment ago
        return [
            *(JobSummary.of_queued(item, JobState.RUNNING) for item in queue.running if item.prompt_id not in ended),
            *(JobSummary.of_queued(item, JobState.PENDING) for item in queue.pending if item.prompt_id not in ended),
            *(JobSummary.of_record(record) for record in reversed(records)),
        ]

    async def cancel(self, prompt_id: str) -> JobState:
        """Take a job off the queue, or interrupt it if it runs. No other job is touched.

        Returns:
            CANCELLED if it had not begun, RUNNING if it was told to stop (it may yet succeed), PENDING if it waits
            still because the command had no effect, its state if it had ended, LOST if the instance does not know it.
        """
        return await self._canceller.cancel(prompt_id)

    async def cancel_all(self, ids: Iterable[str]) -> dict[str, JobState]:
        """Cancel many jobs in a few requests: those that wait, the last of the queue first, then those that run.

        Returns:
            For each what `cancel` returns.

        Raises:
            InstanceUnavailable: The instance cannot be asked; what it was told before that, it may have done.
        """
        return await self._canceller.cancel_all(ids)

    # Files

    async def saved_workflows(self) -> list[SavedWorkflow]:
        """The workflows that the user has saved on the instance, as the page's sidebar lists them.

        Raises:
            ProtocolError: The answer makes no sense.
            InstanceUnavailable: Nobody answers.
        """
        return await list_saved(self._http)

    async def saved_workflow(self, path: str) -> Workflow:
        """One of them, by the path that `saved_workflows` says: ``"portraits/fox.json"``.

        Raises:
            WorkflowUnreadable: There is none of that name, or it is no workflow.
            InstanceUnavailable: Nobody answers.
        """
        return await read_saved(self._http, path)

    async def upload(
        self,
        source: str | os.PathLike[str] | bytes,
        *,
        name: str | None = None,
        subfolder: str = "",
        type: Literal["input", "temp", "output"] = "input",
        overwrite: bool = False,
    ) -> Uploaded:
        """Send a file to the instance; ``.value`` of the answer is what an input that loads it must say.

        Args:
            source: A file, or its bytes.
            name: Its name there. By default one made of its own and its content, so that no file is sent twice.
            subfolder: Folder there.
            type: Which of the instance's folders.
            overwrite: Replace a file of that name, rather than find a free one.

        Raises:
            TransferError: It cannot be read, or the instance did not take it.
        """
        data = source if isinstance(source, bytes) else Path(source)
        return await self._transfers.upload(data, name=name, subfolder=subfolder, kind=type, overwrite=overwrite)

    async def read(self, output: OutputRef) -> bytes:
        """Fetch a file of the instance into memory.

        Raises:
            TransferError: It cannot be fetched.
        """
        return await self._transfers.read(output)

    async def download(
        self, output: OutputRef, dest: str | os.PathLike[str], *, overwrite: bool = False, job: Job | None = None
    ) -> Path:
        """Fetch a file of the instance into the file ``dest``, which appears whole or not at all.

        Args:
            output: The file.
            dest: Where to.
            overwrite: Replace a file there.
            job: Whose output it is, for the journal.

        Raises:
            OutputExists: It is there already, and ``overwrite`` is not set.
            TransferError: It cannot be fetched or written.
        """
        path = Path(dest)
        recording = job.recording if job is not None else None
        witness = recording.witness(output.to_json()) if recording is not None else None
        saved = await self._transfers.save(
            output, path.parent, (path.name,), overwrite=overwrite, rename=False, witness=witness
        )
        if recording is not None:
            await recording.saved_one()
        return saved

    def relay(self, output: OutputRef, asked: Mapping[str, str]) -> contextlib.AbstractAsyncContextManager[Relayed]:
        """An output as the instance answers a request for it, to be handed on: see `comfyclient.relay`."""
        return relay(self._http, output, asked)

    def _job(
        self,
        following: Following,
        prompt: Prompt,
        *,
        seeds: Mapping[str, int],
        warnings: Iterable[Problem | ConversionWarning] = (),
    ) -> Job:
        recording = None
        if self._recording is not None:
            self._recording.follow(following)
            recording = self._recording.job(following.tracker.prompt_id)
        return Job(self._instance, following, prompt, seeds=seeds, warnings=warnings, recording=recording)

    async def _reach(self) -> None:
        """See that ComfyUI answers, before anything is sent whose fate could be in doubt."""
        try:
            await self._http.get("/prompt")
        except InstanceUnavailable:
            self._check_open()
            raise

    def _is_billed(self, prompt: Prompt, extra: Mapping[str, Any]) -> bool:
        """Whether partner nodes are in it, as far as that is known, or the key that pays for them."""
        if not _PAYS.isdisjoint(extra):
            return True
        catalog = self._catalog
        classes = {str(node.get("class_type")) for node in prompt.nodes.values()}
        return catalog is not None and any(catalog[name].is_api_node for name in classes if name in catalog)

    def _reconnect(self) -> None:
        self._socket.reconnect()

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigError("the client is closed", hint="make a new ComfyClient, or do this before it is closed")

    async def _check(self, prompt: Prompt, files: list[LocalFile]) -> None:
        """Refuse what would not run. Lists of files change: before that, they are read anew."""
        catalog = await self.catalog()
        problems = await self._problems(prompt, catalog, files)
        if problems and asyncio.get_running_loop().time() - self._catalog_at > _FRESH:
            catalog = await self.catalog(refresh=True)
            problems = await self._problems(prompt, catalog, files)
        if problems:
            raise CheckFailed(problems)

    async def _problems(self, prompt: Prompt, catalog: Catalog, files: list[LocalFile]) -> list[Problem]:
        found = await aside(prompt, lambda: check_prompt(prompt, catalog))
        return [problem for problem in found if not not_yet_there(problem, files)]


def _renamed(body: bytes, prompt_id: str) -> bytes:
    """What was posted, to be posted under another id."""
    return _json.dumps({**_json.loads(body), "prompt_id": prompt_id}).encode()


def _recording(journal: Journal | Recording | None) -> Recording | None:
    if journal is None:
        return None
    from comfyclient.recording import Recording

    return journal if isinstance(journal, Recording) else Recording(journal)


def _scheme(auth: Auth | Sequence[Auth] | Literal["auto"] | None, credential: Credential) -> Auth | None:
    """The scheme that is given outright; ``None`` if it has to be found out, or there is no login.

    Raises:
        ConfigError: There is a credential besides.
    """
    if auth is None or isinstance(auth, str):
        if auth not in {None, "auto"}:
            raise ConfigError("auth must be a scheme, several, 'auto' or None")
        return None
    if credential:
        raise ConfigError("there are two credentials: a scheme, and one that is to be detected or is in the url")
    return auth if isinstance(auth, Auth) else together(list(auth))
