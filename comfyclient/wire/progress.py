"""How far a job is: the socket's messages folded into one number, the running nodes, and events.

All of it is decoration. A job's fate is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from comfyclient.wire import events
from comfyclient.wire.messages import (
    Executed,
    Executing,
    ExecutionCached,
    Message,
    Preview,
    Progress,
    ProgressState,
)
from comfyclient.wire.outputs import OutputRef, find_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

__all__ = ["JobProgress", "ProgressTracker"]


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is.

    Attributes:
        value: Overall, 0 to 1; never goes back, unless the job is submitted once more.
        nodes_done: Nodes that finished or were cached.
        nodes_total: Nodes of the prompt.
        node_id: The node that started last and still runs, if any; ``title`` is its title.
        node_value: Its steps, of ``node_max``; both 0 if it reports none.
        queue_position: Jobs that run or wait before this one, as last seen; ``None`` if unknown.
    """

    value: float = 0.0
    nodes_done: int = 0
    nodes_total: int = 0
    node_id: str | None = None
    title: str | None = None
    node_value: float = 0.0
    node_max: float = 0.0
    queue_position: int | None = None


class ProgressTracker:
    """Folds one job's messages. ``nodes`` are the ids of its prompt, ``title`` gives a node's title.

    ``prompt_id`` is the id that its events carry.
    """

    __slots__ = ("_done", "_exact", "_nodes", "_running", "_title", "_value", "prompt_id")

    def __init__(self, prompt_id: str, nodes: Collection[str], title: Callable[[str], str]) -> None:
        self.prompt_id = prompt_id
        self._nodes = nodes
        self._title = title
        self._done: set[str] = set()
        self._running: dict[str, tuple[float, float]] = {}
        # Servers that send progress_state say when a node is done; with others, when the next one starts.
        self._exact = False
        self._value = 0.0

    def restart(self) -> None:
        """Forget what is running: the connection was lost, and with it the messages in between."""
        self._running.clear()

    def forget(self) -> None:
        """Begin anew: the job is sent once more."""
        self._running.clear()
        self._done.clear()
        self._value = 0.0

    def snapshot(self) -> JobProgress:
        """The state now."""
        shown = JobProgress(self._overall(), len(self._done), len(self._nodes))
        if not self._running:
            return shown
        node_id, (value, most) = next(reversed(self._running.items()))
        title = self._title(node_id)
        return replace(shown, node_id=node_id, title=title, node_value=value, node_max=most)

    def situation(self) -> list[events.JobEvent]:
        """The running nodes, in events."""
        return [events.NodeStarted(self.prompt_id, node_id, self._title(node_id)) for node_id in self._running]

    def on_message(self, message: Message) -> Iterator[events.JobEvent]:
        """Fold one message in and tell what it means."""
        if isinstance(message, Executing):
            yield from self._executing(message)
        elif isinstance(message, ProgressState):
            yield from self._progress_state(message)
        elif isinstance(message, Progress):
            yield from self._progress(message)
        elif isinstance(message, ExecutionCached):
            for node_id in message.nodes:
                yield from self._finish(node_id, cached=True)
        elif isinstance(message, Executed):
            yield from self._executed(message)
        elif isinstance(message, Preview):
            shown = message.display_node_id or message.node_id
            yield events.Preview(self.prompt_id, shown, message.image, message.media_type)

    def _executing(self, message: Executing) -> Iterator[events.JobEvent]:
        if message.node is None:  # the end, good or bad: whether the last node finished, the record tells
            self._running.clear()
            return
        if not self._exact:
            for node_id in tuple(self._running):
                yield from self._finish(node_id)
        yield from self._start(message.display_node or message.node)

    def _progress(self, message: Progress) -> Iterator[events.JobEvent]:
        if message.node is not None:
            yield from self._advance(message.node, message.value, message.max)

    def _progress_state(self, message: ProgressState) -> Iterator[events.JobEvent]:
        self._exact = True
        for node_id, node in message.nodes.items():
            if node.state == "finished":
                yield from self._finish(node_id)
            else:
                yield from self._start(node_id)
                yield from self._advance(node_id, node.value, node.max)

    def _executed(self, message: Executed) -> Iterator[events.JobEvent]:
        found = find_outputs({message.node: message.output})
        outputs = tuple(output for output in found if isinstance(output, OutputRef))
        if outputs:
            title = self._title(message.display_node)
            yield events.OutputReady(self.prompt_id, message.display_node, title, outputs)

    # Ids that the prompt lacks belong to nodes that another one expanded into, which reports for itself.

    def _start(self, node_id: str) -> Iterator[events.JobEvent]:
        if node_id in self._nodes and node_id not in self._running and node_id not in self._done:
            self._running[node_id] = (0.0, 0.0)
            yield events.NodeStarted(self.prompt_id, node_id, self._title(node_id))

    def _advance(self, node_id: str, value: float, most: float) -> Iterator[events.JobEvent]:
        # Every node counts 0 of 1 while it runs; that says nothing.
        if most <= 1 or self._running.get(node_id, (value, most)) == (value, most):
            return
        self._running[node_id] = (value, most)
        title = self._title(node_id)
        yield events.NodeProgress(self.prompt_id, node_id, title, value, most, self._overall())

    def _finish(self, node_id: str, *, cached: bool = False) -> Iterator[events.JobEvent]:
        self._running.pop(node_id, None)
        if node_id in self._nodes and node_id not in self._done:
            self._done.add(node_id)
            title = self._title(node_id)
            yield events.NodeFinished(self.prompt_id, node_id, title, cached, self._overall())

    def _overall(self) -> float:
        if not self._nodes:
            return self._value
        parts = sum(min(max(value / most, 0.0), 1.0) for value, most in self._running.values() if most > 0)
        self._value = max(self._value, min((len(self._done) + parts) / len(self._nodes), 1.0))
        return self._value
