"""What is answered when something was queued, or only a part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfyclient.api import models
from comfyclient.api.plumbing import answer
from comfyclient.api.replies import problem, told
from comfyclient.api.views import job_view
from comfyclient.api.work import Partly
from comfyclient.errors import ComfyClientError, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from comfyclient.api.jobs import JobRecord
    from comfyclient.api.replies import Json

__all__ = ["queued_done", "queued_jobs"]


async def queued_jobs(work: Callable[[], Awaitable[list[JobRecord]]]) -> Json:
    """Queue, and answer with the jobs."""
    return await _queue(work, lambda jobs: answer(models.JobsQueued(jobs=[job_view(job) for job in jobs]), 201))


async def queued_done(work: Callable[[], Awaitable[list[JobRecord]]], iterations: int) -> Json:
    """Queue, and answer as the older server did."""

    def done(jobs: list[JobRecord]) -> Json:
        details: dict[str, Any] = {"iterations": len(jobs), "job_ids": [job.id for job in jobs]}
        details["seeds"] = [job.seeds for job in jobs]
        return answer(models.Done(message=f"Queued {len(jobs)} of {iterations}", details=details))

    return await _queue(work, done)


async def _queue(work: Callable[[], Awaitable[list[JobRecord]]], done: Callable[[list[JobRecord]], Json]) -> Json:
    """What went wrong after something was queued, or may have been, is an answer: it must not be done again.

    Raises:
        ComfyClientError: Nothing was queued.
    """
    try:
        return done(await work())
    except Partly as part:
        return _failed(part.error, part.queued)
    except OutcomeUnknown as error:
        return _failed(error, [])


def _failed(error: ComfyClientError, queued: list[JobRecord]) -> Json:
    status = error.http_status if error.http_status >= 400 else 502
    ids = [job.id for job in queued]
    more: dict[str, Any] = {"error": told(error.to_json()), "queued": ids}
    unknown = error.prompt_id if isinstance(error, OutcomeUnknown) else None
    if unknown is not None:
        more["unknown"] = unknown
    text = f"{len(ids)} were queued; then: {error}" if ids else str(error)
    hint = (
        "GET /jobs/{id} tells what became of each; do not simply queue them again"
        if ids or unknown
        else more["error"].get("hint")
    )
    return problem(status, "partly_queued" if ids else error.code, text, hint=hint, more=more)
