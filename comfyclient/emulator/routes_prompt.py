"""Routes of prompts: /prompt, /queue, /interrupt, /history, /free."""

from __future__ import annotations

import uuid
from typing import Any

from aiohttp import web

from comfyclient import _json
from comfyclient.emulator.replies import CORE, empty, json_reply, read_json, trouble
from comfyclient.emulator.validate import ServerTroubleError, error_body, validate

__all__ = ["routes"]

routes = web.RouteTableDef()


@routes.get("/prompt")
async def get_prompt(request: web.Request) -> web.Response:
    """How many prompts are left."""
    return json_reply(request.app[CORE].exec_info())


def _number(body: Any, request: web.Request) -> float:
    """The priority that the client gave, or the next of the counter, which rejected prompts use up too."""
    core = request.app[CORE]
    if isinstance(body, dict) and "number" in body:
        try:
            return float(body["number"])
        except (TypeError, ValueError):
            raise ServerTroubleError from None
    return core.next_number(front=isinstance(body, dict) and bool(body.get("front")))


def _is_uuid(value: Any) -> bool:
    """Canonical: lower case, with hyphens."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _rejection(error: dict[str, Any], node_errors: dict[str, Any] | None = None) -> web.Response:
    return json_reply({"error": error, "node_errors": node_errors or {}}, 400)


@routes.post("/prompt")
async def post_prompt(request: web.Request) -> web.Response:
    """Check a prompt and queue it."""
    core = request.app[CORE]
    core.logs.write("INFO", "got prompt")
    body = await read_json(request)
    number = _number(body, request)
    fault = core.faults.next_post()
    if fault == "drop_before":
        return _cut(request)
    if not isinstance(body, dict | list | str):
        raise ServerTroubleError
    if "prompt" not in body:
        return _rejection(error_body("no_prompt", "No prompt provided", "No prompt provided"))
    if not isinstance(body, dict):
        raise ServerTroubleError
    prompt_id = body.get("prompt_id")
    if prompt_id is not None and not _is_uuid(prompt_id):
        details = (
            "prompt_id must be a UUID string in canonical lowercase hyphenated form;"
            " omit it to let the server generate one"
        )
        return _rejection(error_body("invalid_prompt_id", "prompt_id must be a valid UUID", details))
    prompt, targets = body["prompt"], body.get("partial_execution_targets")
    verdict = validate(prompt, targets, core.catalog, core.folders, core.implementations)
    extra = _extra_data(body, request)
    if verdict.error is not None:
        core.logs.write("WARNING", f"invalid prompt: {verdict.error}")
        return _rejection(verdict.error, verdict.node_errors)
    try:
        prompt_id = core.submit(number, prompt_id, prompt, extra, verdict.outputs)
    except TypeError:  # the heap had to compare two prompts; this one is in it all the same
        return trouble()
    if fault is not None:
        return trouble() if fault == "error" else _cut(request)
    return json_reply({"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors})


def _extra_data(body: dict[str, Any], request: web.Request) -> dict[str, Any]:
    extra = body.get("extra_data", {})
    if not isinstance(extra, dict):
        raise ServerTroubleError
    if "client_id" in body:
        extra["client_id"] = body["client_id"]
    if "comfy_usage_source" not in extra and request.headers.get("Comfy-Usage-Source"):
        extra["comfy_usage_source"] = request.headers["Comfy-Usage-Source"]
    return extra


def _cut(request: web.Request) -> web.Response:
    """Break the connection instead of answering."""
    if request.transport is not None:
        request.transport.abort()
    return empty()


@routes.get("/queue")
async def get_queue(request: web.Request) -> web.Response:
    """What runs, and what waits in the order of the heap."""
    queue = request.app[CORE].queue
    running, pending = ([item.shown() for item in items] for items in (queue.running, queue.pending))
    return json_reply({"queue_running": running, "queue_pending": pending})


def _ids(body: dict[str, Any]) -> list[Any]:
    found = body.get("delete", [])
    if not isinstance(found, list | str | dict):
        raise ServerTroubleError
    return list(found)


@routes.post("/queue")
async def post_queue(request: web.Request) -> web.Response:
    """Drop all pending prompts, or some."""
    queue, body = request.app[CORE].queue, await read_json(request)
    if isinstance(body, list | str):
        return empty()
    if not isinstance(body, dict):
        raise ServerTroubleError
    if body.get("clear"):
        queue.clear()
    for prompt_id in _ids(body):
        queue.delete(prompt_id)
    return empty()


@routes.post("/interrupt")
async def post_interrupt(request: web.Request) -> web.Response:
    """Stop what runs; with a prompt_id, only if that one runs."""
    core = request.app[CORE]
    try:
        body = _json.loads(await request.text())
    except _json.JSONError:
        body = {}
    if not isinstance(body, dict):
        raise ServerTroubleError
    prompt_id = body.get("prompt_id")
    if not prompt_id or core.queue.is_running(prompt_id):
        core.interrupt()
    return empty()


@routes.post("/free")
async def post_free(request: web.Request) -> web.Response:
    """Drop the results that are kept."""
    body = await read_json(request)
    if not isinstance(body, dict):
        raise ServerTroubleError
    if body.get("free_memory"):
        request.app[CORE].free_memory()
    return empty()


def _integer(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise ServerTroubleError from None


@routes.get("/history")
async def get_history(request: web.Request) -> web.Response:
    """Entries of prompts that ended, oldest first."""
    limit, offset = _integer(request, "max_items"), _integer(request, "offset")
    if limit is not None and limit <= 0:
        return json_reply({})
    return json_reply(request.app[CORE].queue.page(limit, -1 if offset is None else offset))


@routes.get("/history/{prompt_id}")
async def get_history_entry(request: web.Request) -> web.Response:
    """One entry, or an empty object."""
    prompt_id = request.match_info["prompt_id"]
    entry = request.app[CORE].queue.history.get(prompt_id)
    return json_reply({} if entry is None else {prompt_id: entry})


@routes.post("/history")
async def post_history(request: web.Request) -> web.Response:
    """Forget all entries, or some."""
    queue, body = request.app[CORE].queue, await read_json(request)
    if isinstance(body, list | str):
        return empty()
    if not isinstance(body, dict):
        raise ServerTroubleError
    if body.get("clear"):
        queue.history.clear()
    for prompt_id in _ids(body):
        if isinstance(prompt_id, str):
            queue.history.pop(prompt_id, None)
    return empty()
