"""What the server knows, as the models show it.

What an instance says may be what it was sent: texts that it made up are masked here, or were where they were taken in.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import json
import math
from typing import TYPE_CHECKING, Any

from comfyclient._redact import redact, redact_json
from comfyclient.api import models
from comfyclient.api.plumbing import clean
from comfyclient.api.replies import told

if TYPE_CHECKING:
    from comfyclient.api.jobs import JobBook, JobRecord, Made
    from comfyclient.api.sessions import ApiSession
    from comfyclient.api.workflows import Folder
    from comfyclient.wire.progress import JobProgress

__all__ = ["job_view", "outputs_view", "session_view", "workflows_view"]


def moment(seconds: float) -> str:
    """A time in ISO 8601, UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds")


def session_view(session: ApiSession, book: JobBook) -> models.Session:
    """A session. Nothing of its credential."""
    return models.Session(
        id=session.id,
        url=session.url,
        scheme=session.scheme,
        created_at=moment(session.created),
        default=session.default,
        connected=session.client.connected,
        workflow=session.opened.path if session.opened is not None else None,
        unfinished=len(book.unfinished(session.owner, follower=session.id)),
    )


def job_view(record: JobRecord) -> models.Job:
    """A job."""
    error = record.error
    reason = error.get("message") if error is not None else None
    progress = record.look()
    return models.Job.model_validate(
        clean(
            {
                "id": record.id,
                "prompt_id": record.prompt_id,
                "session_id": record.session_id,
                "url": record.url,
                "workflow": record.workflow,
                "state": record.state,
                "reason": reason if isinstance(reason, str) else None,
                "created_at": moment(record.created),
                "ended_at": moment(record.ended) if record.ended is not None else None,
                "seeds": record.seeds,
                "warnings": record.warnings,
                "progress": _progress(progress) if progress is not None else None,
                "error": told(error) if error is not None else None,
                "webhook": record.told,
            }
        )
    )


def _progress(progress: JobProgress) -> dict[str, Any]:
    about = dataclasses.asdict(progress)
    return about | {name: _finite(about[name]) for name in ("value", "node_value", "node_max")}


def _finite(value: float) -> float:
    """A server may say anything."""
    return value if math.isfinite(value) else 0.0


def outputs_view(job_id: str, made: Made) -> models.OutputList:
    """What a job has produced."""
    files = [
        {
            **output.ref.to_json(),
            "number": number,
            "title": output.title,
            "class_type": output.class_type,
            "url": f"/jobs/{job_id}/outputs/{number}",
        }
        for number, output in enumerate(made.files)
    ]
    return models.OutputList.model_validate(_masked({"outputs": files, "texts": [t.to_json() for t in made.texts]}))


def _masked(said: Any) -> Any:
    """What an instance said, as any program can read it. To look at each text by itself takes long: only if need be."""
    text = json.dumps(said)
    return clean(said if redact(text) == text else redact_json(said, names=False))


async def workflows_view(session: ApiSession, folder: Folder | None) -> models.WorkflowList:
    """The workflows that a session can open.

    Raises:
        ComfyClientError: The instance cannot be asked.
    """
    saved = _masked([{**one.to_json(), "where": "instance"} for one in await session.client.saved_workflows()])
    own = await asyncio.to_thread(folder.listing) if folder is not None else []
    return models.WorkflowList.model_validate(clean({"workflows": saved + [{**one, "where": "server"} for one in own]}))
