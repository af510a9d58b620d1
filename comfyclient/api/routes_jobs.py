"""Jobs: what became of them, what they made, and what happens to them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, WebSocket, WebSocketDisconnect
from starlette.responses import Response

from comfyclient._redact import keep_apart
from comfyclient.api import models
from comfyclient.api.errors import ApiError, not_found
from comfyclient.api.listening_in import send_events
from comfyclient.api.plumbing import Id, Owner, Server, answer, hub_of, owner_of, refusals
from comfyclient.api.replies import problem
from comfyclient.api.streams import EventStream, OutputBytes
from comfyclient.api.views import job_view, outputs_view

if TYPE_CHECKING:
    from comfyclient.api.replies import Json

__all__ = ["router"]

router = APIRouter(prefix="/jobs", tags=["jobs"])

_State = Literal[
    "submitting", "pending", "running", "succeeded", "failed", "cancelled", "lost", "unknown", "stalled", "refused"
]
_SERVER_SENT = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "description": "Its number, for `Last-Event-ID`."},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json", "description": "What happened, as JSON."},
    },
}
_Number = Annotated[int, Query(ge=0, lt=2**53)]


@router.get("", response_model=models.JobList, responses=refusals(401, 403, 404, 422, 429))
async def jobs(
    hub: Server,
    owner: Owner,
    session_id: Annotated[str | None, Query(max_length=64)] = None,
    state: Annotated[_State | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(max_length=64, description="The `next` of the page before.")] = None,
) -> Json:
    """Those of this key, the newest first."""
    found = hub.book.of(owner, session_id=session_id)
    if after is not None:
        place = next((number for number, record in enumerate(found) if record.id == after), None)
        if place is None:
            raise not_found("job to go on after")
        found = found[place + 1 :]
    found = [record for record in found if state is None or record.state == state]
    more = found[limit - 1].id if len(found) > limit else None
    return answer(models.JobList(jobs=[job_view(record) for record in found[:limit]], next=more))


@router.get("/{job_id}", response_model=models.Job, responses=refusals(401, 403, 404, 422, 429))
async def job(job_id: Id, hub: Server, owner: Owner) -> Json:
    """One of them. Its state is what the instance's record says."""
    record = hub.book.get(owner, job_id)
    await hub.explain(record)
    return answer(job_view(record))


@router.delete("/{job_id}", response_model=models.Done, responses=refusals(401, 403, 404, 409, 422, 429, 502, 503))
async def cancel(job_id: Id, hub: Server, owner: Owner) -> Json:
    """Take it off the instance's queue, or interrupt it if it runs. No other job is touched.

    `details.state` says what came of that: `cancelled`; `running` if it was told to stop, and may yet succeed; how it
    ended if it had ended.
    """
    record = hub.book.get(owner, job_id)
    if record.over:
        state = record.state
    elif record.job is not None:
        state = str(await record.job.cancel())
    else:
        state = str(await hub.session_for(record).client.cancel(record.prompt_id))
    return answer(models.Done(message=f"Cancelling: the job is {state}", details={"state": state}))


@router.get(
    "/{job_id}/outputs",
    response_model=models.OutputList,
    responses=refusals(401, 403, 404, 409, 422, 429, 502, 503),
)
async def outputs(job_id: Id, hub: Server, owner: Owner) -> Json:
    """What it has produced, once it has succeeded."""
    record = hub.book.get(owner, job_id)
    made = await hub.made(record)
    if made.is_small:
        return answer(outputs_view(record.id, made))
    return await asyncio.to_thread(lambda: answer(outputs_view(record.id, made)))


@router.get(
    "/{job_id}/outputs/{number}",
    response_class=Response,
    responses={
        200: {"content": {"*/*": {}}, "description": "The file."},
        206: {"content": {"*/*": {}}, "description": "A part of it."},
        304: {"description": "It is the one that the caller has."},
        416: {"description": "It has no such part."},
        505: {
            "model": models.Problem,
            "description": "Its length is not known, and HTTP/1.0 could not tell a part of it from the whole.",
        },
        **refusals(401, 403, 404, 409, 422, 429, 502, 503),
    },
)
async def output(job_id: Id, number: int, request: Request, hub: Server, owner: Owner) -> Response:
    """A file's bytes, as the instance gives them; `Range` and `If-Range` are passed on."""
    record = hub.book.get(owner, job_id)
    made = await hub.made(record)
    if not 0 <= number < len(made.files):
        raise not_found("output")
    names = ("Range", "If-Range", "If-None-Match", "If-Modified-Since")
    asked = {name: request.headers[name] for name in names if name in request.headers}
    hub.room_for_stream(owner)
    return OutputBytes(hub, owner, hub.session_for(record), made.files[number].ref, asked)


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {"itemSchema": _SERVER_SENT}}, "description": "The events."},
        204: {"description": "There is nothing after that, and there will not be."},
        **refusals(401, 403, 404, 422, 429),
    },
)
async def events(
    job_id: Id,
    hub: Server,
    owner: Owner,
    last_event_id: Annotated[str | None, Header(max_length=32)] = None,
    after: Annotated[_Number | None, Query(alias="last_event_id")] = None,
) -> Response:
    """What happens to it, as server-sent events, until its end.

    Who was cut off gives the id of the last event that was seen, by the header `Last-Event-ID` or by
    `?last_event_id=`. The same address takes a websocket, with the same events as JSON.
    """
    record = hub.book.get(owner, job_id)
    seen = _number(last_event_id) if last_event_id is not None else after or 0
    if record.log.over and seen == record.log.last:
        return Response(status_code=204)
    hub.room_for_stream(owner)
    return EventStream(hub, owner, record.log, seen)


@router.websocket("/{job_id}/events")
async def socket(websocket: WebSocket, job_id: str) -> None:
    """The same over a websocket."""
    hub, owner = hub_of(websocket), owner_of(websocket)
    given = websocket.query_params.get("last_event_id") or websocket.headers.get("last-event-id")
    keep_apart(owner)
    try:
        record = hub.book.get(owner, job_id)
        with hub.stream(owner):
            await websocket.accept()
            await send_events(websocket, record.log, _number(given) if given else 0, hub.closing)
    except ApiError as error:
        refusal = problem(error.status, error.code, error.detail, hint=error.hint, headers=error.headers)
        await websocket.send_denial_response(refusal)
    except WebSocketDisconnect:
        return


def _number(text: str) -> int:
    """The number of an event; 0 for what is none, so that all is told."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0
