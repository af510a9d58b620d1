"""The calls of the server that this one takes the place of: one session, one open workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import SecretStr

from comfyclient._version import __version__
from comfyclient.api import models
from comfyclient.api.errors import ApiError
from comfyclient.api.leaving import while_awaited
from comfyclient.api.plumbing import REFUSALS, Owner, Server, answer, refusals
from comfyclient.api.queued import queued_done
from comfyclient.api.sessions import Opened, SessionOrder
from comfyclient.api.workflows import find_workflow
from comfyclient.auth.credential import Credential

if TYPE_CHECKING:
    from comfyclient.api.hub import Hub
    from comfyclient.api.replies import Json
    from comfyclient.api.sessions import ApiSession

__all__ = ["router"]

router = APIRouter(tags=["one session"])

_ENDPOINTS = {
    "POST /session/start": "log in at an instance",
    "POST /workflow/open": "open a workflow that is saved there",
    "POST /workflow/queue": "queue it 1 to 100 times",
    "GET /session/status": "what is open",
    "POST /session/stop": "end the session",
    "POST /sessions": "further sessions",
    "GET /workflows": "workflows there are",
    "GET /jobs": "what became of jobs",
    "POST /convert": "the prompt of a workflow",
    "POST /check": "whether it would run",
    "GET /docs": "all of it, to try out",
}


@router.get("/", response_model=models.Index, summary="What this is")
async def index() -> Json:
    """Name, version, and where to go on."""
    return answer(models.Index(name="comfyclient", version=__version__, endpoints=_ENDPOINTS))


@router.post(
    "/session/start",
    response_model=models.Done,
    responses=REFUSALS | refusals(404, 502),
    summary="Start the default session",
)
async def start(body: models.StartRequest, request: Request, hub: Server, owner: Owner) -> Json:
    """Log in at the instance, and open a workflow if one is named.

    A default session that is there already is replaced once that has worked. Its jobs go on. `port` and `headless` have
    no effect: there is no browser. If the caller leaves before the answer, there is no new session.
    """
    given = body.credentials
    credential = Credential.of(username=given.username, password=revealed(given.password))
    order = SessionOrder(given.url, credential, port=body.port)
    opened: dict[str, Any] = {"workflow": None}

    async def prepare(session: ApiSession) -> None:
        if given.workflow_path and body.auto_open_workflow:
            opened.update(await _open(hub, session, given.workflow_path))

    starting = hub.sessions.start(owner, order, default=True, prepare=prepare)
    session = await while_awaited(request, hub.ending, starting, hub.sessions.stop)
    details: dict[str, Any] = {"session_id": session.id, "url": session.url, "scheme": session.scheme}
    details |= {"port": body.port, "headless": body.headless, "replaced": session.replaced, **opened}
    return answer(models.Done(message=f"Session started at {session.url}", details=details))


@router.post(
    "/workflow/open",
    response_model=models.Done,
    responses=REFUSALS | refusals(404, 502),
    summary="Open a workflow in the default session",
)
async def open_workflow(body: models.OpenRequest, hub: Server, owner: Owner) -> Json:
    """By the name that the page's sidebar shows, with or without `workflows/` and `.json`."""
    session = hub.sessions.default(owner)
    with session.at_work():
        details = await _open(hub, session, body.workflow_path)
    return answer(models.Done(message=f"Workflow opened: {details['workflow']}", details=details))


@router.post(
    "/workflow/queue",
    response_model=models.Done,
    responses=REFUSALS | refusals(404, 409, 502),
    summary="Queue the open workflow",
)
async def queue(
    body: models.QueueRequest,
    hub: Server,
    owner: Owner,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> Any:
    """As often as `iterations` says. As with the page's batch count, seeds change as their control says.

    With the same `Idempotency-Key`, the same request is done once, and answered each time.
    """
    session = hub.sessions.default(owner)

    once = hub.once.mark(owner, idempotency_key)

    async def work() -> Json:
        return await queued_done(lambda: hub.queueing.queue_open(session, body.iterations, once), body.iterations)

    return await hub.once.do(owner, idempotency_key, f"queue {session.id} {body.iterations}", work)


@router.get("/session/status", response_model=models.SessionStatus, responses=refusals(401, 403, 429))
async def status(hub: Server, owner: Owner) -> Json:
    """Whether a default session is there, and where. To ask is to use it: it does not end by itself meanwhile."""
    session = hub.sessions.look(owner)
    if session is None:
        return answer(models.SessionStatus(active=False))
    opened = session.opened
    return answer(
        models.SessionStatus(
            active=True,
            port=session.port,
            url=session.url,
            session_id=session.id,
            workflow=opened.path if opened is not None else None,
        )
    )


@router.post(
    "/session/stop",
    response_model=models.Done,
    responses=REFUSALS,
    summary="Stop the default session",
)
async def stop(hub: Server, owner: Owner) -> Json:
    """Its jobs go on; `GET /jobs` tells what becomes of them."""
    session = hub.sessions.default(owner)
    hub.sessions.stop(session)
    return answer(models.Done(message="Session stopped"))


def revealed(secret: SecretStr | None) -> str | None:
    """A secret as text, on its way to where it is kept as one."""
    return secret.get_secret_value() if secret is not None else None


async def _open(hub: Hub, session: ApiSession, path: str) -> dict[str, Any]:
    workflow = await find_workflow(path, session.client, hub.folder)
    if workflow.format == "ui" and not workflow.data.get("nodes"):
        raise ApiError(422, "workflow_empty", f"{path}: there is no node in it")
    session.opened = Opened(workflow, workflow.source)
    return {"workflow": workflow.source, "format": workflow.format}
