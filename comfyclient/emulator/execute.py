"""The worker's part: run one prompt after the other, node by node, with ComfyUI's cache and its order of events."""

from __future__ import annotations

import asyncio
import inspect
import random
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfyclient.emulator.catalog_view import CatalogView
from comfyclient.emulator.faults import Faults
from comfyclient.emulator.folders import Folders
from comfyclient.emulator.graph import Order, signatures
from comfyclient.emulator.jsontext import server_json
from comfyclient.emulator.nodes import Call, Implementation, Outcome, RunContext, simulate
from comfyclient.emulator.progress import Interrupted, NodeReporter, Teller
from comfyclient.emulator.queue import QueueItem, RunResult
from comfyclient.emulator.schema import LiveInput, live_inputs
from comfyclient.emulator.sockets import Sockets
from comfyclient.emulator.validate import is_link
from comfyclient.emulator.values import Blocked
from comfyclient.workflow.catalog import NodeSpec

__all__ = ["Executor", "WorkerDiedError"]

_SIMULATED = Implementation(simulate)


@dataclass(frozen=True, slots=True)
class _Cached:
    """A node's result: a list of values for each output slot, and what it showed."""

    outputs: list[list[Any]]
    ui: dict[str, Any] | None


class WorkerDiedError(Exception):
    """What ComfyUI's worker thread dies of: nothing runs any more until a restart."""


class _NodeFailed(Exception):  # carries the node's own exception
    def __init__(self, node_id: str, error: BaseException, inputs: Mapping[str, list[Any]]) -> None:
        super().__init__(node_id)
        self.node_id = node_id
        self.error = error
        self.inputs = inputs


class Executor:
    """Runs prompts. Results are kept for the nodes that the next prompt shares with the last one.

    Args:
        catalog: The definitions.
        folders: Where files are read and written.
        sockets: Where events go.
        faults: What goes wrong.
        implementations: What nodes do, by class; others are simulated.
        chance: Picks the random parts of names.
        step_delay: Seconds before each sampling step.
        preview_method: What a prompt gets that does not ask for a method of its own.
    """

    def __init__(
        self,
        catalog: CatalogView,
        folders: Folders,
        sockets: Sockets,
        faults: Faults,
        *,
        implementations: Mapping[str, Implementation],
        chance: random.Random,
        step_delay: float = 0.0,
        preview_method: str = "none",
    ) -> None:
        self.catalog = catalog
        self.folders = folders
        self.sockets = sockets
        self.faults = faults
        self.implementations = implementations
        self.chance = chance
        self.step_delay = step_delay
        self.preview_method = preview_method
        self.interrupted = False
        self.teller: Teller | None = None
        self._cache: dict[str, _Cached] = {}
        self._memory: dict[tuple[str, str], dict[str, Any]] = {}

    def free(self) -> None:
        """Forget all results."""
        self._cache.clear()
        self._memory.clear()

    def check_interrupt(self) -> None:
        """Raise if the run is to stop; asked before each node and at each step."""
        if self.interrupted:
            self.interrupted = False
            raise Interrupted

    async def run(self, item: QueueItem) -> RunResult:
        """Run one prompt to its end, whatever that is.

        Raises:
            WorkerDiedError: A node has no ``inputs``.
        """
        self.interrupted = False
        client_id = item.extra_data.get("client_id")
        self.teller = Teller(self.sockets, item.prompt_id, client_id, len(item.prompt))
        run = _Run(self, item, self.teller)
        self.teller.record("execution_start", {"prompt_id": item.prompt_id})
        run.prepare(self._cache, self._memory)
        cached = [node_id for node_id in item.prompt if run.cached(node_id)]
        self.teller.record("execution_cached", {"nodes": cached, "prompt_id": item.prompt_id})
        success = await run.to_the_end()
        self.teller.display_node = None
        outputs = {node_id: shown["output"] for node_id, shown in run.shown.items()}
        meta = {node_id: shown["meta"] for node_id, shown in run.shown.items()}
        return RunResult(outputs, meta, success, self.teller.messages)


class _Run:
    """One prompt under way."""

    def __init__(self, executor: Executor, item: QueueItem, teller: Teller) -> None:
        self.executor = executor
        self.item = item
        self.teller = teller
        # Fingerprints are written into the nodes, as in ComfyUI; the queue's and the history's copies stay clean.
        self.prompt: dict[str, dict[str, Any]] = {node_id: dict(node) for node_id, node in item.prompt.items()}
        self.specs: dict[str, NodeSpec] = {}
        self.live: dict[str, dict[str, LiveInput]] = {}
        self.shown: dict[str, dict[str, Any]] = {}
        self.executed: list[str] = []
        self.signed: dict[str, str] = {}
        self.context = RunContext(
            prompt=self.prompt,
            extra_pnginfo=item.extra_data.get("extra_pnginfo"),
            folders=executor.folders,
            preview_method=self._preview_method(),
            random=executor.chance,
        )

    def _preview_method(self) -> str:
        wanted = self.item.extra_data.get("preview_method")
        return wanted if isinstance(wanted, str) and wanted != "default" else self.executor.preview_method

    def prepare(self, cache: dict[str, _Cached], memory: dict[tuple[str, str], dict[str, Any]]) -> None:
        """Sign all nodes, and forget what none of them uses."""
        for node_id, node in self.prompt.items():
            if "inputs" not in node:
                raise WorkerDiedError(f"node {node_id} has no inputs")
            self.specs[node_id] = self.executor.catalog.spec(node["class_type"])
            self.live[node_id] = live_inputs(self.specs[node_id], node["inputs"])
        self.signed = signatures(self.prompt, self._fingerprints(), self._depends_on_id)
        kept = set(self.signed.values())
        for signature in [signature for signature in cache if signature not in kept]:
            del cache[signature]
        here = {(node_id, node["class_type"]) for node_id, node in self.prompt.items()}
        for key in [key for key in memory if key not in here]:
            del memory[key]
        self._cache, self._memory = cache, memory

    def _fingerprints(self) -> dict[str, Any]:
        """What changes though a node's inputs do not, such as the bytes of a file.

        A prompt can bring its own: then ComfyUI does not look, which is how prompts taken from saved pictures go stale.
        """
        found: dict[str, Any] = {}
        for node_id, node in self.prompt.items():
            if "is_changed" in node:
                found[node_id] = node["is_changed"]
                continue
            own = self.executor.implementations.get(node["class_type"])
            if own is None or own.fingerprint is None:
                continue
            literals = {name: None if is_link(value) else value for name, value in node["inputs"].items()}
            try:
                node["is_changed"] = [own.fingerprint(literals, self.executor.folders)]
            except (OSError, TypeError, ValueError, KeyError):
                node["is_changed"] = float("nan")  # cannot tell: the node will run, and say what is wrong
            found[node_id] = node["is_changed"]
        return found

    def _depends_on_id(self, class_type: str) -> bool:
        section = self.executor.catalog.spec(class_type).raw.get("input")
        hidden = section.get("hidden") if isinstance(section, Mapping) else None
        return isinstance(hidden, Mapping) and "UNIQUE_ID" in hidden.values()

    def cached(self, node_id: str) -> _Cached | None:
        """The node's result, if it is there."""
        return self._cache.get(self.signed[node_id]) if node_id in self.signed else None

    async def to_the_end(self) -> bool:
        """Run what the outputs need; whether all went well."""
        order = Order(
            self.prompt,
            is_output=lambda node_id: self.specs[node_id].is_output,
            is_lazy=self._is_lazy,
            is_cached=lambda node_id: self.cached(node_id) is not None,
        )
        for node_id in self.item.outputs:
            order.add(node_id)
        try:
            while order:
                ready = order.pick()
                if ready is None:
                    raise _NodeFailed(order.stuck(), RuntimeError("Dependency cycle detected"), {})
                needed = await self._node(ready)
                for source in needed:
                    order.add_link(source, ready)
                if not needed:
                    order.complete(ready)
                await asyncio.sleep(0)
        except _NodeFailed as failure:
            self._tell_failure(failure)
            return False
        self._show_intermediate()
        self.teller.record("execution_success", {"prompt_id": self.item.prompt_id})
        return True

    def _is_lazy(self, node_id: str, name: str) -> bool:
        declared = self.live[node_id].get(name)
        return declared is not None and bool(declared.options.get("lazy"))

    async def _node(self, node_id: str) -> list[str]:
        """Run one node or take its result from the cache. Returns the nodes that it must wait for first, if any."""
        cached = self.cached(node_id)
        if cached is not None:
            self._show_cached(node_id, cached)
            self.teller.finished(node_id)
            return []
        self.teller.started(node_id)
        values: dict[str, list[Any]] = {}
        try:
            values = self._values(node_id)
            self.teller.executing(node_id)
            if missing := self._wanted_lazily(node_id, values):
                return missing
            result = await self._call(node_id, values)
        except Exception as error:  # whatever a node raises ends the prompt, not the worker
            raise _NodeFailed(node_id, error, values) from error
        if result.ui:
            self._show(node_id, result.ui)
            self.teller.executed(node_id, result.ui["output"])
        self._cache[self.signed[node_id]] = result
        self.teller.finished(node_id)
        self.executed.append(node_id)
        return []

    def _wanted_lazily(self, node_id: str, values: Mapping[str, list[Any]]) -> list[str]:
        node = self.prompt[node_id]
        own = self.executor.implementations.get(node["class_type"])
        if own is None or own.lazy is None:
            return []
        self.executor.check_interrupt()
        first = {name: entry[0] for name, entry in values.items() if entry}
        links = (node["inputs"].get(name) for name in own.lazy(first))
        return [link[0] for link in links if is_link(link) and self.cached(link[0]) is None]

    def _values(self, node_id: str) -> dict[str, list[Any]]:
        """The declared inputs, each as the list of values that flow in."""
        found: dict[str, list[Any]] = {}
        for name, value in self.prompt[node_id]["inputs"].items():
            if name not in self.live[node_id] and not self._takes_all(node_id):
                continue
            if not is_link(value):
                found[name] = [value]
                continue
            source = self.cached(value[0])
            slot = int(value[1])
            found[name] = source.outputs[slot] if source is not None and slot < len(source.outputs) else [None]
        return found

    def _takes_all(self, node_id: str) -> bool:
        return self.specs[node_id].name == "CustomCombo"

    async def _call(self, node_id: str, values: dict[str, list[Any]]) -> _Cached:
        """Call the node once for each item of its inputs, the last item standing in where a list is too short."""
        spec = self.specs[node_id]
        longest = max((len(entry) for entry in values.values()), default=1)
        outcomes = []
        if spec.is_input_list:
            outcomes.append(await self._call_once(node_id, dict(values)))
        else:
            for index in range(longest):
                picked = {name: entry[min(index, len(entry) - 1)] for name, entry in values.items() if entry}
                outcomes.append(await self._call_once(node_id, picked))
        return self._merge(node_id, outcomes)

    async def _call_once(self, node_id: str, inputs: dict[str, Any]) -> Outcome:
        self.executor.check_interrupt()
        class_type = self.prompt[node_id]["class_type"]
        own = self.executor.implementations.get(class_type, _SIMULATED)
        if (blocked := self._blocked(node_id, inputs)) is not None:
            return blocked
        await self.executor.faults.inside_node(class_type)
        report = NodeReporter(
            self.teller, node_id, self.executor.faults, self.executor.check_interrupt, self.executor.step_delay
        )
        call = Call(
            node_id=node_id,
            class_type=class_type,
            spec=self.specs[node_id],
            inputs=inputs,
            digest=self.signed[node_id],
            run=self.context,
            report=report,
            memory=self._memory.setdefault((node_id, class_type), {}),
        )
        if inspect.iscoroutinefunction(own.function):
            result = await own.function(call)
        elif own.in_thread or call.is_heavy:
            result = await asyncio.to_thread(own.function, call)
        else:
            result = own.function(call)
        return result if isinstance(result, Outcome) else Outcome(result)

    def _blocked(self, node_id: str, inputs: Mapping[str, Any]) -> Outcome | None:
        """A blocked input, or a fault, makes all outputs blocked. A message is told once, where it arrives first."""
        class_type = self.prompt[node_id]["class_type"]
        flat = (one for value in inputs.values() for one in (value if isinstance(value, list) else [value]))
        found = next((value for value in flat if isinstance(value, Blocked)), None)
        if found is None:
            by_fault, message = self.executor.faults.blocked(class_type)
            return Outcome(tuple(Blocked(message) for _ in self.specs[node_id].outputs)) if by_fault else None
        if found.message is not None:
            self.teller.warn_blocked({
                "prompt_id": self.item.prompt_id, "node_id": node_id, "node_type": class_type,
                "executed": list(self.executed), "exception_message": f"Execution Blocked: {found.message}",
                "exception_type": "ExecutionBlocked", "traceback": [], "current_inputs": [], "current_outputs": [],
            })  # fmt: skip
        return Outcome(tuple(Blocked() for _ in self.specs[node_id].outputs))

    def _merge(self, node_id: str, outcomes: list[Outcome]) -> _Cached:
        """The results of all calls, slot by slot; outputs that are lists themselves are joined."""
        declared = self.specs[node_id].outputs
        outputs: list[list[Any]] = []
        for slot in range(max((len(outcome.values) for outcome in outcomes), default=0)):
            merged: list[Any] = []
            for outcome in outcomes:
                value = outcome.values[slot]
                is_list = slot < len(declared) and declared[slot].is_list and isinstance(value, list)
                merged += value if is_list else [value]
            outputs.append(merged)
        shown = [outcome.ui for outcome in outcomes if outcome.ui]
        if not shown:
            return _Cached(outputs, None)
        ui = {kind: [_showable(one) for entry in shown for one in entry.get(kind, ())] for kind in shown[0]}
        return _Cached(outputs, {"output": ui, "meta": self._meta(node_id)})

    @staticmethod
    def _meta(node_id: str) -> dict[str, Any]:
        return {"node_id": node_id, "display_node": node_id, "parent_node": None, "real_node_id": node_id}

    def _show(self, node_id: str, ui: dict[str, Any]) -> None:
        self.shown[node_id] = ui

    def _show_cached(self, node_id: str, cached: _Cached) -> None:
        if cached.ui is not None:
            self.shown[node_id] = cached.ui
        self.teller.executed(node_id, cached.ui["output"] if cached.ui else None)

    def _show_intermediate(self) -> None:
        """Nodes in the middle that show something are shown from the cache too, at the end."""
        for node_id in self.prompt:
            cached = self.cached(node_id)
            if node_id not in self.executed and cached and self.specs[node_id].raw.get("has_intermediate_output"):
                self._show_cached(node_id, cached)

    def _tell_failure(self, failure: _NodeFailed) -> None:
        node_id = failure.node_id
        data: dict[str, Any] = {
            "prompt_id": self.item.prompt_id,
            "node_id": node_id,
            "node_type": self.prompt[node_id]["class_type"],
            "executed": list(self.executed),
        }
        if isinstance(failure.error, Interrupted):
            self.teller.record("execution_interrupted", data, everybody=True)
            return
        self.teller.record(
            "execution_error",
            data
            | {
                "exception_message": f"{failure.error}\n",
                "exception_type": _full_name(type(failure.error)),
                "traceback": traceback.format_tb(failure.error.__traceback__),
                "current_inputs": {name: [_readable(one) for one in entry] for name, entry in failure.inputs.items()},
                "current_outputs": list(self.prompt),
            },
        )


def _full_name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _showable(value: Any) -> Any:
    """The value as JSON can have it (ComfyUI's process exits at anything else)."""
    try:
        server_json(value)
    except (TypeError, ValueError):
        return str(value)
    return value


def _readable(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else str(value)
