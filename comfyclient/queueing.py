"""Putting a prompt into an instance's queue exactly once, and taking it out again.

``POST /prompt`` is not idempotent, and an answer that gets lost says nothing about the prompt. So each prompt
carries an id of ours, and after any doubt the server's record is read before anything else happens.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import TYPE_CHECKING, Any, Final

from comfyclient import _json
from comfyclient._http import NeverSentError, refusal
from comfyclient.errors import (
    ComfyClientError,
    ConfigError,
    InstanceUnavailable,
    OutcomeUnknown,
    PromptRejected,
    ProtocolError,
    WorkflowError,
)
from comfyclient.look import find, find_for_sure, is_known
from comfyclient.wire.answers import Accepted, read_rejection
from comfyclient.wire.lifecycle import Where
from comfyclient.wire.records import JobState
from comfyclient.workflow.prompt import is_link

if TYPE_CHECKING:
    from collections.abc import Mapping

    from comfyclient._http import Http, Reply
    from comfyclient.following import Following
    from comfyclient.watch import Watcher
    from comfyclient.workflow.prompt import Prompt

__all__ = ["cancel", "check_prompt_id", "encode_prompt", "new_prompt_id", "refuse_known", "submit"]

_CANONICAL: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SETTLE: Final = 2.0  # a request may still sit in a proxy: so long between two looks that must both miss it
_RETRY: Final = 1.0
_BEGIN: Final = 0.3
# Only these say that the request was not acted upon. ComfyUI answers 500 after queueing in some cases, and a gateway
# gives up waiting for an answer that comes later.
_REFUSED: Final = frozenset({*range(300, 400), 400, 401, 403, 404, 407, 413, 429})


def new_prompt_id() -> str:
    """An id for a job: a UUID in the only form that ComfyUI takes."""
    return str(uuid.uuid4())


def check_prompt_id(prompt_id: str) -> str:
    """Refuse an id that ComfyUI would refuse, or an older one would take and mangle.

    Raises:
        ConfigError: It is no UUID in lower case with hyphens.
    """
    if not _CANONICAL.fullmatch(prompt_id):
        raise ConfigError(f"{prompt_id!r} is no prompt_id: a UUID in lower case with hyphens", hint="leave it out")
    return prompt_id


async def refuse_known(http: Http, prompt_id: str) -> None:
    """Refuse an id that the instance has a job of: if an answer got lost, the old job would be taken for the new.

    Raises:
        ConfigError: It is taken.
    """
    if await is_known(http, prompt_id):
        raise ConfigError(f"prompt_id {prompt_id}: the instance has a job of that id already", hint="use another id")


def encode_prompt(
    prompt: Prompt, *, prompt_id: str, client_id: str, extra_data: Mapping[str, Any], front: bool
) -> bytes:
    """The body of ``POST /prompt``.

    Raises:
        WorkflowError: The prompt holds what JSON cannot (NaN, an infinity), or a link to a node that it lacks.
    """
    _refuse_dangling(prompt)
    extra = dict(extra_data)
    if prompt.workflow is not None:
        # Only if there is one: with null in its place, the server's list of jobs breaks for everybody.
        extra["extra_pnginfo"] = {**extra.get("extra_pnginfo", {}), "workflow": prompt.workflow}
    body: dict[str, Any] = {
        "prompt": {node_id: _node(node) for node_id, node in prompt.nodes.items()},
        "prompt_id": prompt_id,
        "client_id": client_id,
        "extra_data": extra,
    }
    if front:
        body["front"] = True
    try:
        return _json.dumps(body).encode()
    except _json.JSONError as error:
        raise WorkflowError(f"the prompt cannot be sent: {error}") from None


def _refuse_dangling(prompt: Prompt) -> None:
    """ComfyUI 0.33 accepts a link to nowhere and its worker dies of it: nothing runs there until a restart."""
    for node_id, node in prompt.nodes.items():
        for name, value in node.get("inputs", {}).items():
            if is_link(value) and value[0] not in prompt.nodes:
                raise WorkflowError(
                    f"node {node_id} ({prompt.title(node_id)}), input {name}: linked to node {value[0]}, which is not "
                    "in the prompt; sending that can stop the whole server",
                    node_id=node_id,
                )


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    """What a node may have. Without ``inputs`` it can kill the server's worker; the rest misleads its cache."""
    kept = {"inputs": node.get("inputs", {}), "class_type": node["class_type"]}
    return kept | {"_meta": node["_meta"]} if "_meta" in node else kept


async def submit(http: Http, watcher: Watcher, following: Following, body: bytes, prompt: Prompt) -> Accepted:
    """Post a prompt that is followed already.

    Raises:
        PromptRejected: The server refused it.
        InstanceUnavailable: It was not queued.
        ProtocolError: It was not queued, and the answer made no sense; or it named another job.
        OutcomeUnknown: It may have got there, and the server cannot be asked.
    """
    try:
        reply = await http.post("/prompt", body)
    except NeverSentError:
        raise
    except (InstanceUnavailable, ProtocolError) as error:
        return await _recover(http, watcher, following, error)
    if reply.status in _REFUSED:
        raise _refused(reply, prompt)
    try:
        accepted = _read_accepted(reply, prompt)
    except (InstanceUnavailable, ProtocolError) as error:
        return await _recover(http, watcher, following, error)
    if accepted.prompt_id != following.tracker.prompt_id:
        watcher.rename(following, accepted.prompt_id)  # an old server that chooses the id itself
    watcher.accepted(following)
    return accepted


def _read_accepted(reply: Reply, prompt: Prompt) -> Accepted:
    if reply.status != 200:
        raise InstanceUnavailable(str(refusal(reply)))
    return Accepted.from_json(reply.json(), prompt.title)


def _refused(reply: Reply, prompt: Prompt) -> ComfyClientError:
    if reply.status == 400:
        return read_rejection(reply.status, reply.json_or_none(), prompt.title)
    if reply.status == 413:
        return PromptRejected(
            "the prompt is larger than the instance, or a proxy before it, allows (HTTP 413)",
            hint="ComfyUI's limit is --max-upload-size (MB)",
        )
    return refusal(reply)


async def _recover(
    http: Http, watcher: Watcher, following: Following, doubt: InstanceUnavailable | ProtocolError
) -> Accepted:
    """The answer got lost: find out whether the prompt was queued. It is never sent again here."""
    prompt_id = following.tracker.prompt_id
    deadline = asyncio.get_running_loop().time() + 2 * http.timeout
    while True:
        if following.tracker.known:  # the socket has told of it
            watcher.accepted(following)
            return Accepted(prompt_id, 0)
        try:
            look, found = await find_for_sure(http, prompt_id, pause=_SETTLE)
        except ComfyClientError as error:
            closed = isinstance(error, ConfigError)
            if closed or asyncio.get_running_loop().time() > deadline:
                raise OutcomeUnknown(
                    f"job {prompt_id}: the answer to its submission got lost, and now {error}", prompt_id=prompt_id
                ) from None
            await asyncio.sleep(_RETRY)
            continue
        if found is not None:
            watcher.accepted(following)
            watcher.learn(following, look)
            return Accepted(prompt_id, found.number)
        if not following.tracker.known:
            hint = "queue it again; if it happens again, the server's log says why"
            unread = isinstance(doubt, ProtocolError)
            raise type(doubt)(f"{doubt}; the prompt was not queued", hint=doubt.hint if unread else hint)


async def cancel(http: Http, watcher: Watcher, prompt_id: str) -> JobState:
    """Take a job off the queue, or interrupt it if it runs; never anybody else's.

    Returns:
        CANCELLED if it was waiting and is gone; PENDING if it waits still, though the server took the command; RUNNING
        if it was told to stop and will, at the next node or step (it may yet succeed); its state if it had ended;
        LOST if the server does not know it.
    """
    following = watcher.get(prompt_id)
    look, _ = await find(http, prompt_id)
    if look.where is Where.PENDING:
        await http.command("/queue", {"delete": [prompt_id]})
        if following is not None:
            watcher.dequeued(following)
        look, _ = await find(http, prompt_id)
        if following is not None:
            watcher.learn(following, look)
        if look.where is Where.ABSENT:
            return JobState.CANCELLED
    if look.where is Where.RUNNING:
        await http.command("/interrupt", {"prompt_id": prompt_id})
        if following is None or not following.tracker.started:
            # A server that has just taken a job off its queue forgets interrupts when it begins to run it.
            await asyncio.sleep(_BEGIN)
            look, _ = await find(http, prompt_id)
            if look.where is Where.RUNNING:
                await http.command("/interrupt", {"prompt_id": prompt_id})
    if following is not None:
        watcher.look_soon(following)
    if look.where is Where.ENDED and look.record is not None:
        return look.record.state
    states = {Where.RUNNING: JobState.RUNNING, Where.PENDING: JobState.PENDING}
    return states.get(look.where, JobState.LOST)
