"""How a node's work is written down, and where it is looked up.

A node is a function of a `Call` that returns the tuple of its outputs, or an `Outcome` if it also shows something. It
may be a coroutine function if it reports progress. `NODES` holds those of the core nodes that are really executed;
a class that is not in it is simulated from its definition (see `simulate`).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from comfyclient.emulator.values import Image, Video

if TYPE_CHECKING:
    from comfyclient.emulator.folders import Folders
    from comfyclient.workflow.catalog import NodeSpec

__all__ = [
    "NODES",
    "Call",
    "Implementation",
    "NodeFunction",
    "Outcome",
    "Reporter",
    "RunContext",
    "node",
    "simple",
]

_CHEAP_PIXELS = 128 * 128  # below it, work is done at once; above it in a thread, so that HTTP stays responsive


class Reporter(Protocol):
    """What a running node may tell the clients."""

    async def progress(self, value: int, maximum: int, preview: tuple[bytes, str] | None = None) -> None:
        """One step of a progress bar; ``preview`` is a picture and its media type. Raises if the run is interrupted."""

    def text(self, text: str) -> None:
        """A line of text for everybody."""


@dataclass(slots=True)
class RunContext:
    """What all nodes of one run share."""

    prompt: Mapping[str, Any]
    extra_pnginfo: Any
    folders: Folders
    preview_method: str | None = None
    random: random.Random = field(default_factory=random.Random)


@dataclass(slots=True)
class Call:
    """One call of a node: its inputs (links resolved to single values) and its surroundings.

    ``digest`` depends on everything upstream; ``memory`` lasts as long as the node stays in consecutive prompts.
    """

    node_id: str
    class_type: str
    spec: NodeSpec
    inputs: dict[str, Any]
    digest: str
    run: RunContext
    report: Reporter
    memory: dict[str, Any]

    def group(self, name: str) -> dict[str, Any]:
        """The members of a dynamic input: ``values.a``, ``values.b`` as ``{"a": …, "b": …}``, in the order given."""
        return {key[len(name) + 1 :]: value for key, value in self.inputs.items() if key.startswith(f"{name}.")}

    def texts(self) -> dict[str, Any]:
        """What goes into saved files' metadata: the prompt and each key of ``extra_pnginfo``."""
        extra = self.run.extra_pnginfo
        return {"prompt": self.run.prompt} | (dict(extra) if isinstance(extra, Mapping) else {})

    @property
    def is_heavy(self) -> bool:
        """Whether the pixels among the inputs make this more than a moment's work."""
        work = 0
        for value in self.inputs.values():
            image = value.images if isinstance(value, Video) else value
            if isinstance(image, Image):
                work += image.pixels
        width, height = self.inputs.get("width"), self.inputs.get("height")
        if isinstance(width, int) and isinstance(height, int):
            work = max(work, width * height)
        return work > _CHEAP_PIXELS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a node leaves: its outputs, and what it shows on the page (``{kind: [items]}``)."""

    values: tuple[Any, ...] = ()
    ui: Mapping[str, list[Any]] | None = None


NodeFunction = Callable[[Call], "tuple[Any, ...] | Outcome | Awaitable[tuple[Any, ...] | Outcome]"]
LazyFunction = Callable[[Mapping[str, Any]], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Implementation:
    """A node's function and what the server must know of it.

    Attributes:
        function: Its work.
        lazy: Names the lazy inputs that it needs, given those it has (``None``: not run yet).
        fingerprint: A value that changes when the node must run again though its inputs did not change.
        check: The node's own validation of its literal inputs: a text if they are wrong.
        checked_inputs: The inputs that ``check`` takes; the usual range and choice checks are skipped for them.
        in_thread: Whether it may take long whatever its inputs look like.
    """

    function: NodeFunction
    lazy: LazyFunction | None = None
    fingerprint: Callable[[Mapping[str, Any], Folders], Any] | None = None
    check: Callable[[Mapping[str, Any], Folders], str | None] | None = None
    checked_inputs: tuple[str, ...] = ()
    in_thread: bool = False


NODES: dict[str, Implementation] = {}
"""The core nodes that are really executed, by class."""


def node(*classes: str, **settings: Any) -> Callable[[NodeFunction], NodeFunction]:
    """Register a function for these classes; ``settings`` are the other fields of `Implementation`."""

    def register(function: NodeFunction) -> NodeFunction:
        for name in classes:
            NODES[name] = Implementation(function, **settings)
        return function

    return register


def simple(table: Mapping[str, Callable[..., Any]]) -> None:
    """Register nodes with one output that is a plain function of their inputs by name."""
    for name, function in table.items():

        def run(call: Call, function: Callable[..., Any] = function) -> tuple[Any, ...]:
            return (function(**call.inputs),)

        NODES[name] = Implementation(run)
