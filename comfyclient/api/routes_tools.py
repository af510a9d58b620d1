"""Workflows there are, and what can be said about one without queueing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request

from comfyclient.api import models
from comfyclient.api.plumbing import REFUSALS, Owner, Server, answer, clean, refusals
from comfyclient.api.routes_sessions import take_workflow
from comfyclient.api.taking import WORKFLOW_BODY
from comfyclient.api.views import workflows_view
from comfyclient.prepare import aside, build, seeds_of
from comfyclient.workflow.check import check as check_prompt
from comfyclient.workflow.convert.releases import release_of
from comfyclient.workflow.document import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfyclient.api.hub import Hub
    from comfyclient.api.replies import Json
    from comfyclient.workflow.catalog import Catalog
    from comfyclient.workflow.prompt import Prompt

__all__ = ["router"]

router = APIRouter(tags=["workflows"])


@router.get(
    "/workflows", response_model=models.WorkflowList, responses=refusals(400, 401, 403, 404, 422, 429, 502, 503)
)
async def workflows(hub: Server, owner: Owner, session_id: Annotated[str | None, Query(max_length=64)] = None) -> Json:
    """Those saved on the instance of a session (by default, of the default session), and the server's own."""
    sessions = hub.sessions
    session = sessions.get(owner, session_id) if session_id is not None else sessions.default(owner)
    return answer(await workflows_view(session, hub.folder))


@router.post(
    "/workflows",
    status_code=201,
    response_model=models.Uploaded,
    responses=REFUSALS | refusals(404),
    openapi_extra=WORKFLOW_BODY,
)
async def upload(
    request: Request, hub: Server, owner: Owner, name: Annotated[str | None, Query(max_length=200)] = None
) -> Json:
    """Give the default session a workflow: JSON in UI or API format, or a picture that ComfyUI saved."""
    return await take_workflow(hub, hub.sessions.default(owner), request, name)


@router.post("/convert", response_model=models.ConvertAnswer, responses=REFUSALS | refusals(404, 502))
async def convert(body: models.ConvertRequest, hub: Server, owner: Owner) -> Json:
    """The prompt that the page would send. Nothing is queued."""

    def converted(prompt: Prompt, catalog: Catalog) -> Json:
        about = {
            "prompt": clean(prompt.nodes),
            "warnings": _warnings(prompt),
            "seeds": clean(seeds_of(prompt, catalog)),
        }
        return answer(models.ConvertAnswer.model_validate(about))

    return await _answered(body, hub, owner, converted)


@router.post("/check", response_model=models.CheckAnswer, responses=REFUSALS | refusals(404, 502))
async def check(body: models.CheckRequest, hub: Server, owner: Owner) -> Json:
    """Whether it would run there, as far as that can be told without running it."""

    def checked(prompt: Prompt, catalog: Catalog) -> Json:
        found = check_prompt(prompt, catalog)
        problems = [models.Trouble.model_validate(clean(problem.to_json())) for problem in found]
        return answer(models.CheckAnswer(ok=not problems, problems=problems, warnings=_warnings(prompt)))

    return await _answered(body, hub, owner, checked)


def _warnings(prompt: Prompt) -> list[str]:
    return [clean(str(warning)) for warning in prompt.warnings]


async def _answered(body: models.ConvertRequest, hub: Hub, owner: str, tell: Callable[[Prompt, Catalog], Json]) -> Json:
    """The answer about a prompt. All that depends on its size is done aside, and the answer written there as well."""
    release: str | None = None
    if body.session_id is not None:
        client = hub.sessions.get(owner, body.session_id).client
        catalog = await client.catalog()
        release = release_of((await client.info()).frontend_version)
    else:
        catalog = await hub.bundled()

    def work() -> Json:
        workflow = Workflow.from_json(body.workflow, source="workflow")
        prompt = build(workflow, catalog, edits=body.set, seed=body.seed, frontend=release)[1]
        return tell(prompt, catalog)

    return await aside(body.workflow, work)
