"""The workflows that are saved on an instance: what the page's sidebar lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from comfyclient._http import refusal
from comfyclient.errors import ProtocolError, WorkflowUnreadable
from comfyclient.wire.records import can_be_sent
from comfyclient.workflow.document import Workflow

if TYPE_CHECKING:
    from comfyclient._http import Http

__all__ = ["SavedWorkflow", "list_saved", "read_saved"]

_FOLDER: Final = "workflows"
_MOST: Final = 20_000  # workflows that are listed
_CAP: Final = 64 * 2**20  # bytes of one


@dataclass(frozen=True, slots=True)
class SavedWorkflow:
    """A workflow in the user's folder on an instance.

    Attributes:
        path: Its path in that folder, ``"portraits/fox.json"``.
        size: In bytes, if the instance says so.
        modified: In seconds since 1970, if the instance says so.
    """

    path: str
    size: int | None = None
    modified: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return {"path": self.path, "size": self.size, "modified": self.modified}


async def list_saved(http: Http) -> list[SavedWorkflow]:
    """The workflows of the user, by path.

    Raises:
        ProtocolError: The answer makes no sense.
    """
    params = {"dir": _FOLDER, "recurse": "true", "split": "false", "full_info": "true"}
    reply = await http.request("GET", "/userdata", params=params)
    if reply.status == 404:  # a fresh server has no such folder
        return []
    if reply.status != 200:
        raise refusal(reply)
    listed = reply.json()
    if not isinstance(listed, list):
        raise ProtocolError("GET /userdata: the answer is no list of files")
    found = (_saved(entry) for entry in listed[:_MOST])
    return sorted((one for one in found if one is not None), key=lambda one: one.path)


def _saved(entry: Any) -> SavedWorkflow | None:
    about = entry if isinstance(entry, dict) else {"path": entry}
    path = about.get("path")
    if not isinstance(path, str) or not can_be_sent(path):
        return None
    if not path.lower().endswith(".json") or path.rpartition("/")[2].startswith("."):
        return None
    modified = _number(about.get("modified"))
    if modified is not None and modified > 1e11:  # milliseconds, since 0.33
        modified /= 1000
    size = _number(about.get("size"))
    return SavedWorkflow(path, int(size) if size is not None else None, modified)


def _number(value: Any) -> float | None:
    """A number that can be one of bytes or seconds."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15 else None


async def read_saved(http: Http, path: str) -> Workflow:
    """A workflow of the user.

    Args:
        http: The session of the instance.
        path: Its path, as `list_saved` says it.

    Raises:
        WorkflowUnreadable: There is none of that name, or it is no workflow.
    """
    if not can_be_sent(path):
        raise WorkflowUnreadable(f"{path!a}: no instance has a workflow of that name")
    name = quote(f"{_FOLDER}/{path}", safe="")  # one segment: ComfyUI wants the slashes encoded
    reply = await http.request("GET", f"/userdata/{name}", cap=_CAP)
    if reply.status in {400, 403, 404}:
        raise WorkflowUnreadable(f"{path}: the instance has no workflow of that name")
    if reply.status != 200:
        raise refusal(reply)
    return Workflow.parse(reply.body, source=path)
