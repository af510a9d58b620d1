"""Check a prompt against a catalog before it is sent: everything that the server would refuse, all at once.

The rules are the server's, observed on ComfyUI 0.33: it looks for unknown classes in every node, and at
inputs only in nodes that an output node depends on. Values are converted before they are compared (``"32"`` is
an integer), inputs that the class does not declare are ignored, and types match if they share one of their
names. Where the catalog cannot tell what the server will say, nothing is reported.

Two faults are found here that the server finds too late. A required dynamic combo without a valid option fails
the job when its node is reached (one inside another may lack its option: nodes that gained one still run prompts
from before). And a link to a node that is not there, from an input that the class does not declare, is followed
only when the job starts: ComfyUI 0.33's worker dies of it, and the server runs nothing until it is restarted.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from comfyclient.errors import Problem
from comfyclient.workflow.catalog import DYNAMIC_COMBO, Catalog, InputSpec, NodeSpec
from comfyclient.workflow.prompt import Prompt, is_link
from comfyclient.workflow.values import MISSING, is_self_checked, offered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["check"]


def check(prompt: Prompt, catalog: Catalog) -> list[Problem]:
    """Find what is wrong with a prompt.

    Args:
        prompt: What would be sent.
        catalog: The node definitions of the instance that it would be sent to.

    Returns:
        The problems, node by node, with the server's own codes; empty if all is well.
    """
    return _Check(prompt, catalog).run()


class _Check:
    def __init__(self, prompt: Prompt, catalog: Catalog) -> None:
        self._prompt = prompt
        self._nodes = prompt.nodes
        self._catalog = catalog
        self._declared: dict[str, list[InputSpec]] = {}

    def run(self) -> list[Problem]:
        outputs = [node for node in self._nodes if (spec := self._spec(node)) and spec.is_output]
        unknown = [node for node in self._nodes if self._spec(node) is None]
        if not outputs and not unknown:
            hint = "add a node that saves or previews something"
            return [Problem("prompt_no_outputs", "the prompt produces no output", details=hint)]
        # With no output node known, the unknown ones may be what the rest is for.
        reached, cycles = self._walk(outputs or unknown)
        problems: list[Problem] = []
        for node in self._nodes:
            if self._spec(node) is None:
                problems.append(self._unknown_class(node))
            elif node in reached:
                problems.extend(self._node_problems(node))
        return [*problems, *self._dangling(reached), *cycles]

    def _spec(self, node: str) -> NodeSpec | None:
        return self._catalog.get(self._prompt.class_type(node))

    def _inputs(self, node: str) -> list[InputSpec]:
        """The inputs that the node's class declares, given the values that the node holds."""
        found = self._declared.get(node)
        if found is None:
            spec = self._spec(node)
            found = [] if spec is None else list(spec.live_inputs(self._nodes[node]["inputs"]))
            self._declared[node] = found
        return found

    def _sources(self, node: str) -> Iterator[str]:
        """The nodes that this one depends on."""
        values = self._nodes[node]["inputs"]
        inputs = self._inputs(node)
        names = values if self._spec(node) is None else [spec.name for spec in inputs if spec.type != DYNAMIC_COMBO]
        for name in names:
            value = values.get(name)
            if is_link(value) and value[0] in self._nodes:
                yield value[0]

    def _walk(self, roots: Iterable[str]) -> tuple[set[str], list[Problem]]:
        """Every node that the roots depend on, and the cycles on the way. Chains may be too long to recurse."""
        reached: set[str] = set()
        cycles: list[Problem] = []
        position: dict[str, int] = {}  # of the nodes on the way from the root to where we are
        way: list[tuple[str, Iterator[str]]] = []

        def enter(node: str) -> None:
            reached.add(node)
            position[node] = len(way)
            way.append((node, self._sources(node)))

        for root in roots:
            if root not in reached:
                enter(root)
            while way:
                source = next(way[-1][1], None)
                if source is None:
                    del position[way.pop()[0]]
                elif source not in reached:
                    enter(source)
                elif source in position and len(cycles) < _MAX_CYCLES:
                    cycles.append(self._cycle([node for node, _ in way[position[source] :]]))
        return reached, cycles

    def _node_problems(self, node: str) -> Iterator[Problem]:
        values = self._nodes[node]["inputs"]
        class_type = self._prompt.class_type(node)
        outer = {spec.name for spec in self._catalog[class_type].inputs if spec.required}
        for spec in self._inputs(node):
            value = values.get(spec.name, MISSING)
            if spec.type == DYNAMIC_COMBO and (spec.name not in outer or isinstance(value, list)):
                continue
            if value is MISSING:
                found = _missing(spec) if spec.required else None
            elif isinstance(value, list):
                found = self._link(spec, value)
            else:
                found = _literal(class_type, spec, value)
            if found is not None:
                yield self._problem(node, spec.name, *found)

    def _dangling(self, reached: Iterable[str]) -> Iterator[Problem]:
        """Links to nodes that are not there, from inputs that are followed though they were not checked."""
        checked = set(reached)
        followed, waiting = set(checked), list(checked)
        while waiting:
            for source in _link_targets(self._nodes[waiting.pop()]["inputs"].values()):
                if source in self._nodes and source not in followed:
                    followed.add(source)
                    waiting.append(source)
        for node in self._nodes:
            if node in followed:
                known = {spec.name for spec in self._inputs(node) if spec.type != DYNAMIC_COMBO}
                for name, value in self._nodes[node]["inputs"].items():
                    if not (node in checked and name in known):
                        for source in _link_targets([value]):
                            if source not in self._nodes:
                                yield self._problem(node, name, "bad_linked_input", _not_there(source))

    def _link(self, spec: InputSpec, value: list[Any]) -> _Found | None:
        if len(value) != 2:
            message = f"holds a list of {len(value)} values, where a list means a link [node id, output number]"
            return "bad_linked_input", message, 'a list as a value is written {"__value__": […]}'
        source, slot = value
        if not isinstance(source, str) or source not in self._nodes:
            hint = "node ids are texts" if isinstance(source, int) and str(source) in self._nodes else None
            return "bad_linked_input", _not_there(source), hint
        node = self._spec(source)
        if node is None:
            return None
        # The server looks the output up as Python does: numbers below zero count from the end.
        if not isinstance(slot, int) or not -len(node.outputs) <= slot < len(node.outputs):
            message = f"links to output {_shown(slot)} of {self._name(source)}, which has {len(node.outputs)}"
            return "bad_linked_input", message, None
        received = node.outputs[slot].type
        if _types_match(received, spec.type):
            return None
        return (
            "return_type_mismatch",
            f"wants {spec.type} and is linked to {received} of {self._name(source)}",
            None,
        )

    def _unknown_class(self, node: str) -> Problem:
        class_type = self._prompt.class_type(node)
        message = f"the instance has no node class {class_type!r}" if class_type else "has no node class"
        return self._problem(node, None, "missing_node_type", message, "is its custom node pack installed there?")

    def _cycle(self, nodes: list[str]) -> Problem:
        shown = [self._name(node) for node in (*nodes[:_SHOWN_CYCLE], nodes[0])]
        if len(nodes) > _SHOWN_CYCLE:
            shown.insert(-1, f"… ({len(nodes)} nodes)")
        # Followed from an output to its sources; told in the direction in which data flows.
        message = f"depends on its own output: {' → '.join(reversed(shown))}"
        return self._problem(nodes[0], None, "dependency_cycle", message)

    def _name(self, node: str) -> str:
        return f"node {node} ({self._prompt.title(node)})"

    def _problem(self, node: str, name: str | None, code: str, message: str, details: str | None = None) -> Problem:
        title, class_type = self._prompt.title(node), self._prompt.class_type(node)
        return Problem(code, message, node, title or None, class_type or None, name, details)


_MAX_CYCLES: Final = 10
_SHOWN_CYCLE: Final = 10

_Found = tuple[str, str, str | None]  # code, message, details

_CONVERSIONS: Final[dict[str, tuple[Callable[[Any], Any], str]]] = {
    "INT": (int, "an integer"),
    "FLOAT": (float, "a number"),
    "STRING": (str, "a text"),
    "BOOLEAN": (bool, "true or false"),
}
_ANNOTATIONS: Final = (" [input]", " [output]", " [temp]")


def _link_targets(values: Iterable[Any]) -> Iterator[str]:
    """The node ids that these values link to, for what the server's execution takes for links."""
    for value in values:
        is_pair = isinstance(value, list) and len(value) == 2
        if is_pair and isinstance(value[0], str) and isinstance(value[1], int | float):
            yield value[0]


def _not_there(source: Any) -> str:
    return f"links to node {_shown(source)}, which is not in the prompt"


def _missing(spec: InputSpec) -> _Found:
    wanted = None if spec.is_value else f"a link to an output of type {spec.type}"
    return "required_input_missing", "is required and missing", wanted


def _literal(class_type: str, spec: InputSpec, value: Any) -> _Found | None:
    if isinstance(value, dict) and "__value__" in value:
        value = value["__value__"]
    convert, kind = _CONVERSIONS.get(spec.type, (None, ""))
    if convert is not None:
        try:
            value = convert(value)
        except (ValueError, TypeError, OverflowError):
            return "invalid_input_type", f"{_shown(value)} is not {kind}", None
    if spec.upload in {"image", "audio", "video"} and not isinstance(value, str):
        return "invalid_input_type", f"{_shown(value)} is not the name of a file", None
    if is_self_checked(class_type, spec):
        return None
    return _range(spec, value) or _choice(class_type, spec, value)


def _range(spec: InputSpec, value: Any) -> _Found | None:
    if spec.min is None and spec.max is None:
        return None
    if not isinstance(value, int | float):
        return "invalid_input_type", f"{_shown(value)} is not a number", None
    if spec.min is not None and value < spec.min:
        return "value_smaller_than_min", f"{_shown(value)} is smaller than the minimum {spec.min}", None
    if spec.max is not None and value > spec.max:
        return "value_bigger_than_max", f"{_shown(value)} is bigger than the maximum {spec.max}", None
    return None


def _choice(class_type: str, spec: InputSpec, value: Any) -> _Found | None:
    choices = offered(class_type, spec) if spec.type in {"COMBO", DYNAMIC_COMBO} else None
    if choices is None:
        return None
    wrong = [item for item in value if item not in choices] if spec.multi_select and isinstance(value, list) else []
    if not (spec.multi_select and isinstance(value, list)) and value not in choices:
        wrong = [value]
    # A file named with its folder is known only to nodes that look for it themselves.
    wrong = [item for item in wrong if not (isinstance(item, str) and item.endswith(_ANNOTATIONS))]
    if not wrong:
        return None
    shown = ", ".join(_shown(item) for item in wrong[:5])
    return "value_not_in_list", f"{shown} is not among the choices", _choices_text(wrong[0], choices)


def _choices_text(value: Any, choices: tuple[Any, ...]) -> str:
    if len(choices) <= 10:
        return f"choices: {', '.join(_shown(choice) for choice in choices)}"
    close = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=3)
    return f"{len(choices)} choices" + (f", close: {', '.join(_shown(text) for text in close)}" if close else "")


def _types_match(received: str, wanted: str) -> bool:
    if received == wanted:
        return True
    sent = {name.strip() for name in received.split(",")}
    taken = {name.strip() for name in wanted.split(",")}
    # The page, not the server, watches over generic types.
    return bool(sent & taken) or bool((sent | taken) & {"*", "COMFY_MATCHTYPE_V3"})


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
