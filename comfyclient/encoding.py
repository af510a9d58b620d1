"""What is posted: a job's id, and a prompt in the form in which it harms no server."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any, Final

from comfyclient import _json
from comfyclient.errors import ConfigError, WorkflowError
from comfyclient.workflow.prompt import is_link

if TYPE_CHECKING:
    from collections.abc import Mapping

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
