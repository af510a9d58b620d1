"""What a job tells those who follow it: a small vocabulary, made of the socket's messages and the record.

Events that must not be missed (`Started`, `OutputReady`, `Finished`, …) are kept for a slow follower one by
one; of those that only show how far something is (`Queued`, `NodeProgress`, `Preview`) the latest is enough.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from comfyclient.wire.messages import ExecutionError
    from comfyclient.wire.outputs import OutputRef
    from comfyclient.wire.records import JobState

__all__ = [
    "Finished",
    "JobEvent",
    "NodeFinished",
    "NodeProgress",
    "NodeStarted",
    "OutputReady",
    "Preview",
    "Queued",
    "Resubmitted",
    "Stalled",
    "Started",
    "replaces",
]


@dataclass(frozen=True, slots=True)
class _Event:
    prompt_id: str

    def to_json(self) -> dict[str, Any]:
        """The event as one JSON object, ``{"event": "node_started", "prompt_id": …, …}``."""
        return {"event": _NAMES[type(self)]} | {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in _NOT_JSON
        }


@dataclass(frozen=True, slots=True)
class Queued(_Event):
    """It waits. ``position`` counts the jobs that run or wait before it, ``None`` while that is not known."""

    position: int | None = None


@dataclass(frozen=True, slots=True)
class Started(_Event):
    """It runs; said again when something moves after it had stalled."""


@dataclass(frozen=True, slots=True)
class Stalled(_Event):
    """The server says that it runs or waits, and nothing moves. It is no end: see `Started` and `Queued`.

    ``since`` is how many seconds ago something moved last; ``reason`` is for people: what it looks like, what helps.
    """

    since: float
    reason: str


@dataclass(frozen=True, slots=True)
class Resubmitted(_Event):
    """The server had lost it as ``old_id``, and it is submitted once more, as ``prompt_id``: the job's id from now on.

    Everything begins again; if the server does not take it, the job ends as lost.
    """

    old_id: str


@dataclass(frozen=True, slots=True)
class NodeStarted(_Event):
    """A node runs. ``title`` is its title on the page."""

    node_id: str
    title: str


@dataclass(frozen=True, slots=True)
class NodeProgress(_Event):
    """Steps of a node that reports them: ``value`` of ``max``. ``overall`` is the job's progress, 0 to 1."""

    node_id: str
    title: str
    value: float
    max: float
    overall: float


@dataclass(frozen=True, slots=True)
class NodeFinished(_Event):
    """A node is done, or its result was ``cached``. ``overall`` is the job's progress, 0 to 1."""

    node_id: str
    title: str
    cached: bool
    overall: float


@dataclass(frozen=True, slots=True)
class OutputReady(_Event):
    """A node produced files. They can be fetched already; the job's result names them again."""

    node_id: str
    title: str
    outputs: tuple[OutputRef, ...]

    def to_json(self) -> dict[str, Any]:
        """The event as one JSON object."""
        # No empty super(): a slotted dataclass is made anew, and that would look in the old class.
        return {**_Event.to_json(self), "outputs": [output.to_json() for output in self.outputs]}


@dataclass(frozen=True, slots=True)
class Preview(_Event):
    """A picture of something unfinished, encoded as ``media_type`` says."""

    node_id: str | None
    image: bytes
    media_type: str

    def to_json(self) -> dict[str, Any]:
        """The event as one JSON object, with the size of the picture in its place."""
        return {**_Event.to_json(self), "bytes": len(self.image)}


@dataclass(frozen=True, slots=True)
class Finished(_Event):
    """The end. ``state`` says how; ``error`` is the server's, if a node raised; ``reason`` is for people."""

    state: JobState
    error: ExecutionError | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The event as one JSON object."""
        body: dict[str, Any] = {"event": "finished", "prompt_id": self.prompt_id, "state": str(self.state)}
        if self.reason is not None:
            body["reason"] = self.reason
        if self.error is not None:
            body["error"] = {
                "node_id": self.error.node_id,
                "class_type": self.error.node_type,
                "exception_type": self.error.exception_type,
                "message": self.error.exception_message,
            }
        return body


JobEvent = (
    Queued | Started | Stalled | Resubmitted
    | NodeStarted | NodeProgress | NodeFinished | OutputReady | Preview | Finished
)  # fmt: skip

_NAMES: dict[type[Any], str] = {
    Queued: "queued",
    Started: "started",
    Stalled: "stalled",
    Resubmitted: "resubmitted",
    NodeStarted: "node_started",
    NodeProgress: "node_progress",
    NodeFinished: "node_finished",
    OutputReady: "output_ready",
    Preview: "preview",
    Finished: "finished",
}
_NOT_JSON = frozenset({"image", "outputs"})


def replaces(event: JobEvent) -> tuple[str, str | None] | None:
    """A key for events of which only the latest counts: a new one takes the place of a waiting one.

    Returns:
        ``None`` for an event that must not be lost.
    """
    if isinstance(event, Queued):
        return "queued", None
    if isinstance(event, NodeProgress):
        return "progress", event.node_id
    return ("preview", None) if isinstance(event, Preview) else None
