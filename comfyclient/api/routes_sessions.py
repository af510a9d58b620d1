"""Any number of sessions, and what is done in one: workflows, files, jobs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from comfyclient.api import models
from comfyclient.api.batch import Changes
from comfyclient.api.errors import ApiError, not_found
from comfyclient.api.leaving import while_awaited
from comfyclient.api.plumbing import REFUSALS, Id, Owner, Server, answer, refusals
from comfyclient.api.queued import queued_jobs
from comfyclient.api.routes_default import revealed
from comfyclient.api.sessions import SessionOrder
from comfyclient.api.taking import FILE_BODY, WORKFLOW_BODY, read_upload, spool
from comfyclient.api.views import session_view, workflows_view
from comfyclient.api.work import Order
from comfyclient.api.workflows import find_workflow
from comfyclient.auth.credential import Credential
from comfyclient.names import safe_name
from comfyclient.workflow.document import Workflow

if TYPE_CHECKING:
    from comfyclient.api.hub import Hub
    from comfyclient.api.replies import Json
    from comfyclient.api.sessions import ApiSession

__all__ = ["router", "take_workflow"]

router = APIRouter(prefix="/sessions", tags=["sessions"])


@router.post("", status_code=201, response_model=models.Session, responses=REFUSALS | refusals(502))
async def start(body: models.SessionRequest, request: Request, hub: Server, owner: Owner) -> Json:
    """Log in at an instance. The scheme is found out; the credential is kept in memory, for that instance alone.

    If the caller leaves before the answer, there is no session.
    """
    given = body.credentials or models.Credentials()
    credential = Credential.of(
        username=given.username,
        password=revealed(given.password),
        token=revealed(given.token),
        api_key=revealed(given.api_key),
        access_id=given.access_id,
        access_secret=revealed(given.access_secret),
        headers={name: value.get_secret_value() for name, value in (given.headers or {}).items()},
        cookies=revealed(given.cookies),
    )
    order = SessionOrder(body.url, credential, body.tls_fingerprint, body.comfy_user, body.wait_ready)
    session = await while_awaited(request, hub.ending, hub.sessions.start(owner, order), hub.sessions.stop)
    headers = {"Location": f"/sessions/{session.id}"}
    return answer(session_view(session, hub.book), 201, headers)


@router.get("", response_model=models.SessionList, responses=refusals(401, 403, 429))
async def sessions(hub: Server, owner: Owner) -> Json:
    """Those of this key."""
    return answer(models.SessionList(sessions=[session_view(one, hub.book) for one in hub.sessions.of(owner)]))


@router.get("/{session_id}", response_model=models.Session, responses=refusals(401, 403, 404, 422, 429))
async def session(session_id: Id, hub: Server, owner: Owner) -> Json:
    """One of them."""
    return answer(session_view(hub.sessions.get(owner, session_id), hub.book))


@router.delete("/{session_id}", response_model=models.Done, responses=refusals(401, 403, 404, 422, 429, 502, 503))
async def stop(
    session_id: Id,
    hub: Server,
    owner: Owner,
    cancel_jobs: Annotated[bool, Query(description="Cancel those of its jobs that have not ended.")] = False,
) -> Json:
    """End it. Its jobs go on, and are followed to their end, unless they are to be cancelled."""
    found = hub.sessions.get(owner, session_id)
    details = {"cancelled": await _cancel_all(hub, found)} if cancel_jobs else None
    hub.sessions.stop(found)
    return answer(models.Done(message="Session stopped", details=details))


async def _cancel_all(hub: Hub, session: ApiSession) -> dict[str, str]:
    """Cancel the jobs of a session that is about to end; what each is then.

    Raises:
        ComfyClientError: That is not possible, and the session goes on.
    """
    with session.at_work():
        session.ended = True  # nothing more is queued meanwhile
        try:
            await session.queueing.over()
            left = {record.prompt_id: record.id for record in hub.book.unfinished(session.owner, follower=session.id)}
            states = await session.client.cancel_all(left)
        except BaseException:
            session.ended = False
            raise
    return {job_id: str(states.get(prompt_id, "unknown")) for prompt_id, job_id in left.items()}


@router.get(
    "/{session_id}/workflows",
    response_model=models.WorkflowList,
    responses=refusals(401, 403, 404, 422, 429, 502, 503),
)
async def workflows(session_id: Id, hub: Server, owner: Owner) -> Json:
    """Those saved on the instance, then those in the server's own folder."""
    return answer(await workflows_view(hub.sessions.get(owner, session_id), hub.folder))


@router.post(
    "/{session_id}/workflows",
    status_code=201,
    response_model=models.Uploaded,
    responses=REFUSALS | refusals(404),
    openapi_extra=WORKFLOW_BODY,
)
async def upload_workflow(
    session_id: Id,
    request: Request,
    hub: Server,
    owner: Owner,
    name: Annotated[str | None, Query(max_length=200)] = None,
) -> Json:
    """Give the session a workflow: JSON in UI or API format, or a picture that ComfyUI saved. The body is the file."""
    return await take_workflow(hub, hub.sessions.get(owner, session_id), request, name)


@router.post(
    "/{session_id}/files",
    status_code=201,
    response_model=models.FilePlaced,
    responses=REFUSALS | refusals(404, 502),
    openapi_extra=FILE_BODY,
)
async def upload_file(
    session_id: Id,
    request: Request,
    hub: Server,
    owner: Owner,
    name: Annotated[str, Query(min_length=1, max_length=200, description="The file's name.")],
) -> Json:
    """Send a file to the instance, for nodes that load one. The body is the file.

    It is named by its content there, so that the same file is not sent twice.
    """
    found = hub.sessions.get(owner, session_id)
    with found.at_work(), request.app.state.spool.folder() as folder:
        path = Path(folder) / safe_name(name)
        await spool(request, path)
        placed = await found.client.upload(path)
    return answer(
        models.FilePlaced(value=placed.value, name=placed.name, subfolder=placed.subfolder, type=placed.type), 201
    )


@router.post(
    "/{session_id}/jobs",
    status_code=201,
    response_model=models.JobsQueued,
    responses=REFUSALS | refusals(404, 409, 502),
)
async def queue(
    session_id: Id,
    body: models.JobRequest,
    hub: Server,
    owner: Owner,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> Response:
    """Queue a workflow, with changes, once or several times.

    If some were queued before one could not be, the answer is an error with `queued`: the ids of those that were. With
    the same `Idempotency-Key`, the same request is done once, and answered each time.
    """
    found = hub.sessions.get(owner, session_id)
    if body.webhook is not None:
        hub.webhooks.check(body.webhook)

    once = hub.once.mark(owner, idempotency_key)

    async def work() -> Json:
        order = await _order(hub, found, body)
        if order is None:
            return await queued_jobs(lambda: hub.queueing.queue_open(found, body.iterations, once))
        return await queued_jobs(lambda: hub.queueing.queue(found, replace(order, once=once)))

    what = f"jobs {session_id} {json.dumps(body.model_dump(mode='python'), sort_keys=True)}" if idempotency_key else ""
    done: Response = await hub.once.do(owner, idempotency_key, what, work)
    return done


async def _order(hub: Hub, session: ApiSession, body: models.JobRequest) -> Order | None:
    """What is to be queued; ``None`` for the workflow that is open, as it is.

    Raises:
        ApiError: There is none such, or several are named.
        WorkflowError: It is no workflow.
    """
    given = [name for name in ("workflow", "workflow_path", "workflow_id") if getattr(body, name) is not None]
    if len(given) > 1:
        raise ApiError(422, "two_workflows", f"{' and '.join(given)}: give one of them")
    changed = body.set or body.seed is not None or body.front or not body.check or body.webhook
    if not given and not changed and body.resubmit == "never":
        return None
    workflow, name = await _workflow(hub, session, body)
    changes = Changes(body.set, body.seed, body.check)
    return Order(workflow, name, changes, body.iterations, body.front, body.resubmit, body.webhook)


async def _workflow(hub: Hub, session: ApiSession, body: models.JobRequest) -> tuple[Workflow, str | None]:
    if body.workflow is not None:
        return Workflow.from_json(body.workflow, source="workflow"), None
    if body.workflow_path is not None:
        found = await find_workflow(body.workflow_path, session.client, hub.folder)
        return found, found.source
    if body.workflow_id is not None:
        kept = await session.uploaded(body.workflow_id)
        if kept is None:
            raise not_found("uploaded workflow")
        return kept, kept.name
    if session.opened is None:
        raise ApiError(400, "no_workflow", "No workflow is given, and none is open in the session")
    return session.opened.workflow, session.opened.path


async def take_workflow(hub: Hub, session: ApiSession, request: Request, name: str | None) -> Json:
    """An uploaded workflow.

    Raises:
        WorkflowError: It is none.
        ApiError: It is too large.
    """
    workflow, kept = await read_upload(request, name, hub.settings.limits.body)
    workflow_id = session.keep(kept)
    nodes: Any = workflow.data.get("nodes") if workflow.format == "ui" else workflow.data
    count = len(nodes) if isinstance(nodes, list | dict) else 0
    return answer(
        models.Uploaded(workflow_id=workflow_id, format=workflow.format, nodes=count, name=workflow.name), 201
    )
