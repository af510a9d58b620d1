"""Putting a prompt into an instance's queue exactly once.

``POST /prompt`` is not idempotent, and an answer that gets lost says nothing about the prompt. So each prompt
carries an id of ours, and after any doubt the server's record is read before anything else happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from comfyclient._http import NeverSentError, refusal
from comfyclient.errors import (
    CertificateUntrusted,
    ComfyClientError,
    ConfigError,
    InstanceUnavailable,
    OutcomeUnknown,
    PromptRejected,
    ProtocolError,
)
from comfyclient.look import find, is_known
from comfyclient.wire.answers import Accepted, SystemInfo, read_rejection, read_retry_after
from comfyclient.wire.submission import Answer, Do, Outage, Step, Submission

if TYPE_CHECKING:
    from comfyclient._http import Http, Reply
    from comfyclient.following import Following
    from comfyclient.watch import Watcher
    from comfyclient.workflow.prompt import Prompt

__all__ = ["Submitter", "refuse_known"]

# Only these say that the request was not acted upon. ComfyUI answers 500 after queueing in some cases, and a gateway
# gives up waiting for an answer that comes later.
_REFUSED: Final = frozenset({*range(300, 400), 400, 401, 403, 404, 407, 413})
_KEEPS_IDS: Final = (0, 3, 64)  # releases seen to do so: this one, and 0.33.0


async def refuse_known(http: Http, prompt_id: str) -> None:
    """Refuse an id that the instance has a job of: if an answer got lost, the old job would be taken for the new.

    Raises:
        ConfigError: It is taken.
    """
    if await is_known(http, prompt_id):
        raise ConfigError(f"prompt_id {prompt_id}: the instance has a job of that id already", hint="use another id")


class Submitter:
    """Puts prompts into the queue of one instance; the rules are those of `comfyclient.wire.submission`."""

    def __init__(self, http: Http, watcher: Watcher) -> None:
        self._http = http
        self._watcher = watcher
        self._outage = Outage()
        # Whether the instance keeps the ids that we give, as was seen, and as its version says.
        self._kept: bool | None = None
        self._should_keep: bool | None = None

    async def submit(self, following: Following, body: bytes, prompt: Prompt, *, billed: bool) -> Accepted:
        """Post a prompt that is followed already.

        Args:
            following: The job.
            body: What is posted; it holds the job's id.
            prompt: What is in it, for messages.
            billed: Whether a node of it costs money each time it runs: then it is never sent twice.

        Raises:
            PromptRejected: The server refused it.
            InstanceUnavailable: It was not queued.
            ProtocolError: It was not queued, and the answer made no sense; or it named another job.
            AuthError: It was not queued: the instance does not let us in.
            ConfigError: The client was closed before it was sent.
            OutcomeUnknown: It may have got there, and the server cannot be asked.
        """
        way = Submission(_now(), patience=2 * self._http.timeout, outage=self._outage)
        step = Step(Do.POST)
        doubt: ComfyClientError | None = None
        trouble: ComfyClientError | None = None
        while True:
            await _pause(following, step.delay)
            if doubt is not None and following.tracker.known:  # the socket has told of it
                self._watcher.accepted(following)
                return Accepted(following.tracker.prompt_id, 0)
            if step.do is Do.POST:
                came = await self._post(following, body, prompt)
                doubt = came.error or doubt
                step = way.answered(came.answer, _now(), retry_after=came.retry_after, spread=_spread())
                if came.accepted is not None:
                    return came.accepted
            elif step.do is Do.LOOK:
                asked_at = _now()
                found, trouble = await self._look(following)
                if isinstance(found, Accepted):
                    return found
                step = way.looked(found, asked_at, _now(), keeps_ids=self._believed, billed=billed)
            else:
                assert doubt is not None
                raise _end(step.do, doubt, trouble, following.tracker.prompt_id)

    async def keeps_ids(self) -> bool:
        """Whether the instance is known to keep the ids that clients give.

        Raises:
            InstanceUnavailable: It cannot be asked.
        """
        await self._learn_whether_ids_are_kept()
        return self._believed

    @property
    def _believed(self) -> bool:
        return bool(self._should_keep if self._kept is None else self._kept)

    async def _post(self, following: Following, body: bytes, prompt: Prompt) -> _Came:
        try:
            reply = await self._http.post("/prompt", body)
            if reply.status == 429:
                return _throttled(reply)
            if reply.status in _REFUSED:
                return _Came(Answer.REFUSED, _refused(reply, prompt))
            accepted = _read_accepted(reply, prompt)
        except CertificateUntrusted as error:
            return _Came(Answer.REFUSED, error)
        except NeverSentError as error:
            return _Came(Answer.NEVER_SENT, error)
        except (InstanceUnavailable, ProtocolError) as error:
            return _Came(Answer.DOUBTFUL, error)
        return await self._accepted(following, accepted)

    async def _accepted(self, following: Following, accepted: Accepted) -> _Came:
        if accepted.prompt_id == following.tracker.prompt_id:
            self._kept = True
        elif (came := await self._otherwise(following, accepted)) is not None:
            return came
        else:
            self._watcher.rename(following, accepted.prompt_id)
            self._kept = False
        self._watcher.accepted(following)
        return _Came(Answer.ACCEPTED, None, accepted)

    async def _otherwise(self, following: Following, accepted: Accepted) -> _Came | None:
        """What an answer with another id than ours means, unless that an old server has chosen it itself."""
        own, named = following.tracker.prompt_id, accepted.prompt_id
        if self._kept is False or self._watcher.get(named) is not None:
            return None
        doubt = ProtocolError(f"POST /prompt: the server answered with another id, {named}")
        if self._kept:  # so far it has kept ours; now only the record can tell
            self._kept, self._should_keep = None, False
            return _Came(Answer.DOUBTFUL, doubt)
        found, _ = await self._look(following)  # the answer may be to somebody else's prompt, or spoilt
        if found is None:
            return _Came(Answer.DOUBTFUL, doubt)
        return _Came(Answer.ACCEPTED, None, replace(accepted, prompt_id=own)) if found else None

    async def _look(self, following: Following) -> tuple[Accepted | bool | None, ComfyClientError | None]:
        """Whether the record has it: what was accepted, ``False``, or ``None`` and why that cannot be told."""
        try:
            look, found = await find(self._http, following.tracker.prompt_id)
            if found is None:
                await self._learn_whether_ids_are_kept()
                return False, None
        except ConfigError as error:  # the client was closed
            raise OutcomeUnknown(
                _lost(following.tracker.prompt_id, error), prompt_id=following.tracker.prompt_id
            ) from None
        except ComfyClientError as error:
            return None, error
        self._kept = True
        self._watcher.accepted(following)
        if isinstance(found, ProtocolError):  # whatever it says, it is there; whoever waits for the job is told
            return Accepted(following.tracker.prompt_id, 0), None
        self._watcher.learn(following, look)
        return Accepted(following.tracker.prompt_id, found.number), None

    async def _learn_whether_ids_are_kept(self) -> None:
        """Only where the ids that clients give are kept, a prompt that is missed is not there."""
        if self._kept is None and self._should_keep is None:
            try:
                info = SystemInfo.from_json(await self._http.get_json("/system_stats"))
            except ProtocolError:  # it does not say what it is
                return
            self._should_keep = _version(info.comfyui_version) >= _KEEPS_IDS


@dataclass(frozen=True, slots=True)
class _Came:
    """What came of a POST."""

    answer: Answer
    error: ComfyClientError | None
    accepted: Accepted | None = None
    retry_after: float | None = None


def _end(do: Do, doubt: ComfyClientError, trouble: ComfyClientError | None, prompt_id: str) -> ComfyClientError:
    if do is Do.UNKNOWN:
        text = _lost(prompt_id, trouble) if trouble is not None else _not_seen(prompt_id)
        return OutcomeUnknown(text, prompt_id=prompt_id)
    if do is Do.REFUSE or isinstance(doubt, NeverSentError):
        return doubt
    unread = isinstance(doubt, ProtocolError)
    hint = doubt.hint if unread else "queue it again; if it happens again, the server's log says why"
    return type(doubt)(f"{doubt}; the prompt was not queued", hint=hint)


def _lost(prompt_id: str, trouble: ComfyClientError) -> str:
    return f"job {prompt_id}: the answer to its submission got lost, and now {trouble}"


def _not_seen(prompt_id: str) -> str:
    return (
        f"job {prompt_id}: the answer to its submission got lost, and the instance does not list it; it was not sent "
        "again, because it may be there under another id, or cost money twice"
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", text)[:3])


def _now() -> float:
    return asyncio.get_running_loop().time()


def _spread() -> float:
    return random.random()  # noqa: S311 - spreads attempts, hides nothing


async def _pause(following: Following, seconds: float) -> None:
    """Wait, but no longer than the job is followed: that ends when the client is closed.

    Raises:
        Exception: Following it has failed.
    """
    if seconds > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await following.ended.wait()
    if following.failure is not None and not following.tracker.known:
        raise following.failure


def _read_accepted(reply: Reply, prompt: Prompt) -> Accepted:
    if reply.status != 200:
        raise InstanceUnavailable(str(refusal(reply)))
    return Accepted.from_json(reply.json(), prompt.title)


def _throttled(reply: Reply) -> _Came:
    asked = read_retry_after(reply.headers.get("Retry-After"), now=time.time())
    error = refusal(reply)
    if asked:
        error = type(error)(error.message, hint=f"it asks to wait {asked:.0f} s, then try again")
    return _Came(Answer.THROTTLED, error, retry_after=asked)


def _refused(reply: Reply, prompt: Prompt) -> ComfyClientError:
    if reply.status == 400:
        return read_rejection(reply.status, reply.json_or_none(), prompt.title)
    if reply.status == 413:
        return PromptRejected(
            "the prompt is larger than the instance, or a proxy before it, allows (HTTP 413)",
            hint="ComfyUI's limit is --max-upload-size (MB)",
        )
    return refusal(reply)
