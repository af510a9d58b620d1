"""The server's record of its jobs: ``GET /queue`` and ``GET /history`` as typed records.

A job's fate is what is written here, never what the socket said.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from comfyclient.errors import ProtocolError
from comfyclient.wire.messages import ExecutionError, read_execution_error
from comfyclient.wire.outputs import OutputRef, TextOutput, find_outputs

__all__ = ["HistoryRecord", "JobState", "OutputRef", "Queue", "QueueItem", "TextOutput", "read_history"]


class JobState(enum.StrEnum):
    """Where a job is. The first six are the server's; the last three only an honest client has."""

    SUBMITTING = "submitting"
    """Not accepted yet."""
    PENDING = "pending"
    """In the queue."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """A node raised."""
    CANCELLED = "cancelled"
    """Interrupted, or taken off the queue by this client."""
    LOST = "lost"
    """The server answers and no longer knows the job: it restarted, or somebody deleted the job."""
    UNKNOWN = "unknown"
    """The server could not be asked for so long that this client gave up following."""
    STALLED = "stalled"
    """The server claims that it runs and nothing moves. A report, not an end."""

    @property
    def is_terminal(self) -> bool:
        """Whether a job that is followed here ends with it."""
        return self in _TERMINAL


_TERMINAL: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.LOST, JobState.UNKNOWN})


@dataclass(frozen=True, slots=True)
class QueueItem:
    """A job in the queue. ``prompt_nodes`` is its prompt, ``create_time`` the server's, in milliseconds."""

    number: float
    prompt_id: str
    prompt_nodes: Mapping[str, Any] = field(repr=False)
    extra_data: Mapping[str, Any] = field(repr=False)
    create_time: int | None = None
    client_id: str | None = None

    @property
    def nodes(self) -> int:
        """How many nodes its prompt has."""
        return len(self.prompt_nodes)

    @property
    def workflow(self) -> dict[str, Any] | None:
        """The UI workflow that travelled along, if any."""
        return _workflow(self.extra_data)


@dataclass(frozen=True, slots=True)
class Queue:
    """What runs and what waits; ``pending`` in the order of execution."""

    running: tuple[QueueItem, ...]
    pending: tuple[QueueItem, ...]

    @classmethod
    def from_json(cls, body: Any) -> Queue:
        """Read the body of ``GET /queue``, whose pending items come in no order.

        Raises:
            ProtocolError: It is not what ComfyUI answers.
        """
        if not isinstance(body, Mapping):
            raise ProtocolError("GET /queue: the answer is no object")
        pending = sorted(_items(body, "queue_pending"), key=lambda item: (item.number, item.prompt_id))
        return cls(tuple(_items(body, "queue_running")), tuple(pending))

    def position(self, prompt_id: str) -> int | None:
        """Jobs that run or wait before it; ``0`` if it runs, ``None`` if it is not in the queue."""
        if any(item.prompt_id == prompt_id for item in self.running):
            return 0
        for index, item in enumerate(self.pending):
            if item.prompt_id == prompt_id:
                return index + len(self.running)
        return None

    def find(self, prompt_id: str) -> QueueItem | None:
        """The job's item, running or pending."""
        return next((item for item in (*self.running, *self.pending) if item.prompt_id == prompt_id), None)


def _items(body: Mapping[str, Any], key: str) -> list[QueueItem]:
    listed = body.get(key)
    if not isinstance(listed, list):
        raise ProtocolError(f"GET /queue: {key} is no list")
    return [_queue_item(entry) for entry in listed]


def _queue_item(entry: Any) -> QueueItem:
    number, prompt_id, nodes, extra = _prompt_tuple(entry, "GET /queue")
    return QueueItem(
        number,
        prompt_id,
        nodes,
        extra,
        _milliseconds(extra.get("create_time")),
        _text(extra.get("client_id")),
    )


def _prompt_tuple(entry: Any, where: str) -> tuple[float, str, Mapping[str, Any], Mapping[str, Any]]:
    """The ``[number, prompt_id, prompt, extra_data, outputs]`` that queue and history share."""
    if not isinstance(entry, list) or len(entry) < 3:
        raise ProtocolError(f"{where}: an entry is no list of number, id and prompt")
    number, prompt_id, nodes = entry[:3]
    extra = entry[3] if len(entry) > 3 else None
    if not isinstance(prompt_id, str) or not isinstance(nodes, Mapping):
        raise ProtocolError(f"{where}: an entry without a prompt_id or a prompt")
    if not isinstance(number, int | float) or number != number:  # noqa: PLR0124 - that is how NaN is told
        number = 0
    return number, prompt_id, nodes, extra if isinstance(extra, Mapping) else {}


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """A job that has ended, as the server wrote it down.

    ``state`` is SUCCEEDED, FAILED or CANCELLED. Times are milliseconds of the server's clock, since 1970.
    ``outputs`` of a failed job are those of the nodes that finished before.
    """

    prompt_id: str
    state: JobState
    error: ExecutionError | None
    outputs: tuple[OutputRef | TextOutput, ...]
    started_ms: int | None
    ended_ms: int | None
    cached_nodes: tuple[str, ...]
    prompt_nodes: Mapping[str, Any] = field(repr=False)
    extra_data: Mapping[str, Any] = field(repr=False)
    number: float = 0
    create_time: int | None = None

    @property
    def workflow(self) -> dict[str, Any] | None:
        """The UI workflow that travelled along, if any."""
        return _workflow(self.extra_data)

    @classmethod
    def from_json(cls, prompt_id: str, entry: Any) -> HistoryRecord:
        """Read one entry of ``GET /history``.

        Raises:
            ProtocolError: It is not what ComfyUI answers.
        """
        if not isinstance(entry, Mapping):
            raise ProtocolError("GET /history: an entry is no object")
        number, _, nodes, extra = _prompt_tuple(entry.get("prompt"), "GET /history")
        classes = {node_id: str(node.get("class_type")) for node_id, node in nodes.items() if isinstance(node, Mapping)}
        outputs = find_outputs(entry.get("outputs"), meta=entry.get("meta"), classes=classes)
        log = _Log(entry.get("status"))
        return cls(
            prompt_id=prompt_id,
            state=log.state(ended_with_outputs=bool(outputs)),
            error=log.error,
            outputs=outputs,
            started_ms=log.started_ms,
            ended_ms=log.ended_ms,
            cached_nodes=log.cached_nodes,
            prompt_nodes=nodes,
            extra_data=extra,
            number=number,
            create_time=_milliseconds(extra.get("create_time")),
        )


class _Log:
    """The ``status`` of a history entry: how it ended, and the messages that were sent on the way."""

    def __init__(self, status: Any) -> None:
        self._status: Mapping[str, Any] = status if isinstance(status, Mapping) else {}
        self.error: ExecutionError | None = None
        self.interrupted = False
        self.started_ms: int | None = None
        self.ended_ms: int | None = None
        self.cached_nodes: tuple[str, ...] = ()
        messages = self._status.get("messages")
        for message in messages if isinstance(messages, list) else ():
            if isinstance(message, list) and len(message) == 2 and isinstance(message[1], Mapping):
                self._read(message[0], message[1])

    def _read(self, kind: Any, data: Mapping[str, Any]) -> None:
        timestamp = _milliseconds(data.get("timestamp"))
        if kind == "execution_start":
            self.started_ms = timestamp
        elif kind == "execution_cached":
            nodes = data.get("nodes")
            self.cached_nodes = tuple(map(str, nodes)) if isinstance(nodes, list) else ()
        elif kind in {"execution_success", "execution_error", "execution_interrupted"}:
            self.ended_ms = timestamp
            self.interrupted = kind == "execution_interrupted"
            self.error = read_execution_error(data) if kind == "execution_error" else None

    def state(self, *, ended_with_outputs: bool) -> JobState:
        """The outcome. An interrupted job's ``status_str`` is "error" too: only the last message tells."""
        if not self._status:  # very old servers write none
            return JobState.SUCCEEDED if ended_with_outputs else JobState.FAILED
        if self._status.get("completed") is True or self._status.get("status_str") == "success":
            return JobState.SUCCEEDED
        return JobState.CANCELLED if self.interrupted else JobState.FAILED


def read_history(body: Any) -> dict[str, HistoryRecord]:
    """Read the body of ``GET /history`` or ``GET /history/{id}``: by prompt_id, in the order of completion.

    Raises:
        ProtocolError: It is not what ComfyUI answers.
    """
    if not isinstance(body, Mapping):
        raise ProtocolError("GET /history: the answer is no object")
    return {str(prompt_id): HistoryRecord.from_json(str(prompt_id), entry) for prompt_id, entry in body.items()}


def _workflow(extra_data: Mapping[str, Any]) -> dict[str, Any] | None:
    info = extra_data.get("extra_pnginfo")
    workflow = info.get("workflow") if isinstance(info, Mapping) else None
    return workflow if isinstance(workflow, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _milliseconds(value: Any) -> int | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # Beyond these bounds it is no time (and no datetime can be made of it).
    return int(value) if 0 <= value < 253_402_300_800_000 else None
