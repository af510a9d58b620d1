"""A job in one line, out of the queue or the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfyclient.wire.outputs import OutputRef
from comfyclient.wire.records import JobState

if TYPE_CHECKING:
    from comfyclient.wire.records import HistoryRecord, QueueItem

__all__ = ["JobSummary"]


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job on an instance, whoever queued it. Times are milliseconds of the server's clock, since 1970."""

    id: str
    state: JobState
    number: float
    nodes: int
    created: int | None = None
    started: int | None = None
    ended: int | None = None
    outputs: int = 0
    error: str | None = None

    @classmethod
    def of_queued(cls, item: QueueItem, state: JobState) -> JobSummary:
        """One that runs or waits."""
        return cls(item.prompt_id, state, item.number, item.nodes, item.create_time)

    @classmethod
    def of_record(cls, record: HistoryRecord) -> JobSummary:
        """One that has ended."""
        files = sum(isinstance(output, OutputRef) for output in record.outputs)
        error = record.error
        return cls(
            record.prompt_id,
            record.state,
            record.number,
            len(record.prompt_nodes),
            record.create_time,
            record.started_ms,
            record.ended_ms,
            files,
            f"{error.exception_type}: {error.exception_message}" if error is not None else None,
        )

    def to_json(self) -> dict[str, Any]:
        """The fields, for ``--json``."""
        names = ("id", "number", "nodes", "created", "started", "ended", "outputs", "error")
        return {"id": self.id, "state": str(self.state)} | {name: getattr(self, name) for name in names[1:]}
