"""Routes of jobs: queue and history seen as one list (/api/jobs)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final

from aiohttp import web

from comfyclient import _json
from comfyclient.emulator.core import Core
from comfyclient.emulator.queue import QueueItem
from comfyclient.emulator.replies import CORE, json_reply
from comfyclient.emulator.validate import ServerTroubleError

__all__ = ["routes"]

routes = web.RouteTableDef()

_STATUSES: Final = ("pending", "in_progress", "completed", "failed", "cancelled")
_SHOWN_KINDS: Final = frozenset({"images", "video", "audio", "3d", "text"})
_3D: Final = (".obj", ".fbx", ".gltf", ".glb", ".usdz")
_TEXT: Final = (".txt", ".md", ".json")
_MAX_TEXT: Final = 1024


def _refusal(text: str) -> web.Response:
    return json_reply({"error": text}, 400)


@routes.get("/api/jobs")
async def get_jobs(request: web.Request) -> web.Response:
    """The jobs that fit the query, a page of them."""
    query = request.query
    statuses = [part.strip().lower() for part in query.get("status", "").split(",") if part.strip()]
    unknown = [status for status in statuses if status not in _STATUSES]
    if unknown:
        return _refusal(f"Invalid status value(s): {', '.join(unknown)}. Valid values: {', '.join(_STATUSES)}")
    sort_by, order = query.get("sort_by", "created_at").lower(), query.get("sort_order", "desc").lower()
    if sort_by not in {"created_at", "execution_duration"}:
        return _refusal("sort_by must be 'created_at' or 'execution_duration'")
    if order not in {"asc", "desc"}:
        return _refusal("sort_order must be 'asc' or 'desc'")
    try:
        limit = int(query["limit"]) if "limit" in query else None
    except ValueError:
        return _refusal("limit must be an integer")
    if limit is not None and limit <= 0:
        return _refusal("limit must be a positive integer")
    try:
        offset = max(0, int(query.get("offset", 0)))
    except ValueError:
        return _refusal("offset must be an integer")
    jobs = [
        job
        for job in _jobs(request.app[CORE])
        if (not statuses or job["status"] in statuses) and query.get("workflow_id") in {None, job.get("workflow_id")}
    ]
    jobs.sort(key=_duration if sort_by == "execution_duration" else _created, reverse=order == "desc")
    page = jobs[offset:] if limit is None else jobs[offset : offset + limit]
    more = limit is not None and offset + limit < len(jobs)
    pagination = {"offset": offset, "limit": limit, "total": len(jobs), "has_more": more}
    return json_reply({"jobs": page, "pagination": pagination})


def _created(job: Mapping[str, Any]) -> Any:
    return job.get("create_time", 0)


def _duration(job: Mapping[str, Any]) -> Any:
    began, ended = job.get("execution_start_time"), job.get("execution_end_time")
    return ended - began if began and ended else 0


def _jobs(core: Core) -> Iterator[dict[str, Any]]:
    yield from (_queued(item, "in_progress") for item in core.queue.running)
    yield from (_queued(item, "pending") for item in core.queue.pending)
    yield from (_ended(prompt_id, entry) for prompt_id, entry in core.queue.history.items())


def _workflow_id(extra_data: Mapping[str, Any]) -> Any:
    """The id of the workflow that travelled along; a null on the way there makes ComfyUI's handler raise."""
    info = extra_data.get("extra_pnginfo", {})
    workflow = info.get("workflow", {}) if isinstance(info, dict) else None
    if not isinstance(workflow, dict):
        raise ServerTroubleError
    return workflow.get("id")


def _without_nulls(job: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in job.items() if value is not None}


def _queued(item: QueueItem, status: str) -> dict[str, Any]:
    return _without_nulls({
        "id": item.prompt_id, "status": status, "priority": item.number,
        "create_time": item.extra_data.get("create_time"),
        "outputs_count": 0, "previewable_outputs_count": 0, "workflow_id": _workflow_id(item.extra_data),
    })  # fmt: skip


def _ended(prompt_id: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    number, _, _, extra_data, _ = entry["prompt"]
    messages = dict(entry["status"]["messages"])
    last = next((kind for kind in _ENDS if kind in messages), None)
    status = "completed"
    if entry["status"]["status_str"] == "error":
        status = "cancelled" if last == "execution_interrupted" else "failed"
    items = list(_items(entry["outputs"]))
    return _without_nulls({
        "id": prompt_id, "status": status, "priority": number, "create_time": extra_data.get("create_time"),
        "execution_start_time": messages.get("execution_start", {}).get("timestamp"),
        "execution_end_time": messages[last]["timestamp"] if last else None,
        "execution_error": messages.get("execution_error"),
        "outputs_count": len(items),
        "previewable_outputs_count": sum(_is_shown(kind, item) for _, kind, item in items),
        "preview_output": _preview(entry["outputs"], items),
        "workflow_id": _workflow_id(extra_data),
    })  # fmt: skip


_ENDS: Final = ("execution_interrupted", "execution_error", "execution_success")


def _items(outputs: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every file of every node, with the bare names of 3D files made entries."""
    for node_id, shown in outputs.items():
        for kind, entries in shown.items():
            if kind == "animated" or not isinstance(entries, list):
                continue
            for entry in map(_as_entry, entries):
                if isinstance(entry, dict):
                    yield node_id, kind, entry


def _as_entry(item: Any) -> Any:
    if isinstance(item, str) and item.lower().endswith(_3D):
        return {"filename": item, "type": "output", "subfolder": "", "mediaType": "3d"}
    return item


def _is_shown(kind: str, item: Mapping[str, Any]) -> bool:
    name, form = str(item.get("filename", "")).lower(), str(item.get("format", ""))
    return kind in _SHOWN_KINDS or form.startswith(("video/", "audio/")) or name.endswith((*_3D, *_TEXT))


def _preview(outputs: Mapping[str, Any], items: list[tuple[str, str, dict[str, Any]]]) -> dict[str, Any] | None:
    """The output to show for the job: a saved picture before a temporary one, before a text file, before text."""
    ranked: list[tuple[int, dict[str, Any]]] = []
    for node_id, kind, item in items:
        if not _is_shown(kind, item):
            continue
        is_text = kind == "text" or str(item.get("filename", "")).lower().endswith(_TEXT)
        rank = 2 if is_text else 0 if item.get("type") == "output" else 1
        ranked.append((rank, {**item, "nodeId": node_id, "mediaType": item.get("mediaType", kind)}))
    for node_id, shown in outputs.items():
        for text in shown.get("text", ()):
            if isinstance(text, str) and _as_entry(text) is text:
                content: dict[str, Any] = {"content": text[:_MAX_TEXT]}
                if len(text) > _MAX_TEXT:
                    content["truncated"] = True
                ranked.append((3, content | {"nodeId": node_id, "mediaType": "text"}))
    return min(ranked, key=lambda entry: entry[0])[1] if ranked else None


def _tidy(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs without nulls, and with the bare names of 3D files made entries."""
    return {
        node_id: {
            kind: [_as_entry(item) for item in entries if item is not None]
            if isinstance(entries, list) and kind != "animated"
            else entries
            for kind, entries in shown.items()
        }
        for node_id, shown in outputs.items()
    }


@routes.get("/api/jobs/{job_id}")
async def get_job(request: web.Request) -> web.Response:
    """One job, with everything about it if it ended."""
    core, job_id = request.app[CORE], request.match_info["job_id"]
    entry = core.queue.history.get(job_id)
    if entry is not None:
        workflow = {"prompt": entry["prompt"][2], "extra_data": entry["prompt"][3]}
        details = {"outputs": _tidy(entry["outputs"]), "execution_status": entry["status"], "workflow": workflow}
        return json_reply(_ended(job_id, entry) | details)
    for status, items in (("in_progress", core.queue.running), ("pending", core.queue.pending)):
        for item in items:
            if item.prompt_id == job_id:
                return json_reply(_queued(item, status))
    return json_reply({"error": "Job not found"}, 404)


@routes.post("/api/jobs/{job_id}/cancel")
async def cancel_job(request: web.Request) -> web.Response:
    """Interrupt or drop one job."""
    return json_reply({"cancelled": request.app[CORE].cancel(request.match_info["job_id"])})


def _is_id(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


@routes.post("/api/jobs/cancel")
async def cancel_jobs(request: web.Request) -> web.Response:
    """Interrupt or drop several."""
    try:
        body = _json.loads(await request.text())
    except _json.JSONError:
        return _refusal("Request body must be valid JSON")
    ids = body.get("job_ids") if isinstance(body, dict) else None
    if not isinstance(ids, list):
        return _refusal("job_ids must be a list")
    wrong = [str(job_id) for job_id in ids if not _is_id(job_id)]
    if wrong:
        return json_reply({"error": "job_ids contains invalid id(s)", "invalid_ids": wrong}, 400)
    cancelled = [request.app[CORE].cancel(job_id) for job_id in ids]
    return json_reply({"cancelled": any(cancelled)})
