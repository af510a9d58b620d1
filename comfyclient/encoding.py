"""What is posted: a job's id, and a prompt in the form in which it harms no server."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from comfyclient import _json
from comfyclient.errors import ConfigError, WorkflowError
from comfyclient.workflow.prompt import is_link

if TYPE_CHECKING:
    from comfyclient.workflow.prompt import Prompt

__all__ = ["check_prompt_id", "encode_prompt", "new_prompt_id"]

_CANONICAL: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def new_prompt_id() -> str:
    """An id for a job: a UUID in the only form that ComfyUI takes."""
    return str(uuid.uuid4())


def check_prompt_id(prompt_id: str) -> str:
    """Refuse an id that ComfyUI would refuse, or an older one would take and mangle.

    Raises:
        ConfigError: It is no UUID in lower case with hyphens.
    """
    if not isinstance(prompt_id, str) or not _CANONICAL.fullmatch(prompt_id):
        raise ConfigError(f"{prompt_id!r} is no prompt_id: a UUID in lower case with hyphens", hint="leave it out")
    return prompt_id


def encode_prompt(
    prompt: Prompt, *, prompt_id: str, client_id: str, extra_data: Mapping[str, Any], front: bool
) -> bytes:
    """The body of ``POST /prompt``.

    Raises:
        WorkflowError: The prompt holds what is no node, what JSON cannot (NaN, an infinity), or a link to a node that
            it lacks.
        ConfigError: ``extra_data`` or ``client_id`` is not what ComfyUI takes.
    """
    nodes = {node_id: _node(node_id, node) for node_id, node in prompt.nodes.items()}
    _refuse_dangling(prompt)
    if not isinstance(client_id, str):
        raise ConfigError(f"client_id must be a text, not {client_id!r}")
    body: dict[str, Any] = {
        "prompt": nodes,
        "prompt_id": prompt_id,
        "client_id": client_id,
        "extra_data": _extra(extra_data, prompt.workflow),
    }
    if front:
        body["front"] = True
    try:
        return _json.dumps(body).encode()
    except _json.JSONError as error:
        raise WorkflowError(f"the prompt cannot be sent: {error}") from None


def _node(node_id: str, node: Any) -> dict[str, Any]:
    """What a node may have. Without ``inputs`` it can kill the server's worker; the rest misleads its cache."""
    if not isinstance(node_id, str) or not isinstance(node, Mapping):
        raise WorkflowError(f"node {node_id!r} cannot be sent: an id is a text, and a node an object")
    class_type, inputs, meta = node.get("class_type"), node.get("inputs", {}), node.get("_meta")
    if not isinstance(class_type, str):
        raise WorkflowError(f"node {node_id} cannot be sent: it has no class_type", node_id=node_id)
    if not isinstance(inputs, Mapping):
        raise WorkflowError(f"node {node_id} ({class_type}) cannot be sent: its inputs are no object", node_id=node_id)
    kept = {"inputs": inputs, "class_type": class_type}
    return kept | {"_meta": meta} if isinstance(meta, Mapping) else kept


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


def _extra(extra_data: Any, workflow: Any) -> dict[str, Any]:
    """What travels along. With anything but an object in these places, the server's list of jobs breaks for all."""
    if not isinstance(extra_data, Mapping):
        raise ConfigError("extra_data must be an object")
    extra = dict(extra_data)
    info = extra.get("extra_pnginfo", {})
    if not isinstance(info, Mapping) or not isinstance(info.get("workflow", {}), Mapping):
        raise ConfigError("extra_data: extra_pnginfo must be an object, and so must a workflow in it")
    if workflow is not None:
        if not isinstance(workflow, Mapping):
            raise WorkflowError("the workflow that travels along must be an object")
        extra["extra_pnginfo"] = {**info, "workflow": workflow}
    return extra
