"""The server's record of its jobs: ``GET /queue`` and ``GET /history`` as typed records.

A job's fate is what is written here, never what the socket said.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from comfyclient.errors import ProtocolError
from comfyclient.wire.messages import ExecutionError, read_execution_error, read_milliseconds, read_number
from comfyclient.wire.outputs import MAX_OUTPUTS, OutputRef, TextOutput, find_outputs

__all__ = ["HistoryRecord", "JobState", "OutputRef", "Queue", "QueueItem", "TextOutput", "can_be_sent"]


_HALF: Final = re.compile("[\ud800-\udfff]")


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
    """A job in the queue.

    Attributes:
        number: Its place: the smallest runs next.
        prompt_id: The job.
        prompt_nodes: Its nodes, each with ``class_type`` and ``inputs``; those that are no nodes are left out.
        extra_data: What was sent along.
        create_time: When it was queued, in milliseconds of the server's clock.
        client_id: Whose it is, if the server says.
    """

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

        One job's odd entry must not hide the others: what cannot be read of it is left out, and the entry itself
        if it has no id that could be sent.

        Raises:
            ProtocolError: It is not what ComfyUI answers.
        """
        if not isinstance(body, Mapping):
            raise ProtocolError("GET /queue: the answer is no object")
        pending = sorted(_items(body, "queue_pending"), key=lambda item: (item.number, item.prompt_id))
        return cls(tuple(_items(body, "queue_running")), tuple(pending))

    def find(self, prompt_id: str) -> QueueItem | None:
        """The job's item, running or pending."""
        return next((item for item in (*self.running, *self.pending) if item.prompt_id == prompt_id), None)


def _items(body: Mapping[str, Any], key: str) -> list[QueueItem]:
    listed = body.get(key)
    if not isinstance(listed, list):
        raise ProtocolError(f"GET /queue: {key} is no list")
    return [item for entry in listed if (item := _queue_item(entry)) is not None]


def _queue_item(entry: Any) -> QueueItem | None:
    if not isinstance(entry, list) or len(entry) < 2 or not isinstance(entry[1], str) or not can_be_sent(entry[1]):
        return None
    number, prompt_id, nodes, extra = _prompt_parts(entry)
    return QueueItem(
        number,
        prompt_id,
        nodes,
        extra,
        read_milliseconds(extra.get("create_time")),
        _text(extra.get("client_id")),
    )


def _prompt_parts(entry: list[Any]) -> tuple[float, str, dict[str, Any], Mapping[str, Any]]:
    """The ``[number, prompt_id, prompt, extra_data, outputs]`` that queue and history share, id already checked."""
    number, prompt_id = entry[:2]
    nodes = entry[2] if len(entry) > 2 else None
    extra = entry[3] if len(entry) > 3 else None
    return read_number(number), prompt_id, _nodes(nodes), extra if isinstance(extra, Mapping) else {}


def _nodes(nodes: Any) -> dict[str, Any]:
    """The prompt, every node in the shape that `Prompt` promises; the server adds fields of its own to them."""
    read = {}
    for node_id, node in nodes.items() if isinstance(nodes, Mapping) else ():
        class_type = node.get("class_type") if isinstance(node, Mapping) else None
        if isinstance(class_type, str):
            inputs, meta = node.get("inputs"), node.get("_meta")
            read[str(node_id)] = {"inputs": inputs if isinstance(inputs, dict) else {}, "class_type": class_type}
            if isinstance(meta, dict):
                read[str(node_id)]["_meta"] = meta
    return read


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """A job that has ended, as the server wrote it down.

    ``state`` is SUCCEEDED, FAILED or CANCELLED. Times are milliseconds of the server's clock, since 1970.
    ``outputs`` of a failed job are those of the nodes that finished before; ``prompt_nodes`` is as in `QueueItem`.
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
        number, nodes, extra = _recorded_prompt(entry.get("prompt"))
        classes = {node_id: node["class_type"] for node_id, node in nodes.items()}
        outputs = find_outputs(entry.get("outputs"), meta=entry.get("meta"), classes=classes)
        if len(outputs) > MAX_OUTPUTS:
            raise ProtocolError(f"GET /history: a record names more than {MAX_OUTPUTS} outputs")
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
            create_time=read_milliseconds(extra.get("create_time")),
        )


def _recorded_prompt(entry: Any) -> tuple[float, dict[str, Any], Mapping[str, Any]]:
    if not isinstance(entry, list) or len(entry) < 3:
        raise ProtocolError("GET /history: an entry's prompt is no list of number, id and prompt")
    if not isinstance(entry[1], str) or not isinstance(entry[2], Mapping):
        raise ProtocolError("GET /history: an entry without a prompt_id or a prompt")
    number, _, nodes, extra = _prompt_parts(entry)
    return number, nodes, extra


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
        timestamp = read_milliseconds(data.get("timestamp"))
        if kind == "execution_start":
            self.started_ms = timestamp
        elif kind == "execution_cached":
            nodes = data.get("nodes")
            self.cached_nodes = tuple(n for n in nodes if isinstance(n, str)) if isinstance(nodes, list) else ()
        elif isinstance(kind, str) and kind in {"execution_success", "execution_error", "execution_interrupted"}:
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


def can_be_sent(text: str) -> bool:
    """Whether it can stand in a request. JSON may hold half a character, which no encoding takes."""
    return bool(text) and _HALF.search(text) is None


def _workflow(extra_data: Mapping[str, Any]) -> dict[str, Any] | None:
    info = extra_data.get("extra_pnginfo")
    workflow = info.get("workflow") if isinstance(info, Mapping) else None
    return workflow if isinstance(workflow, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
