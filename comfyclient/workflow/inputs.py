"""What can be set in a prompt: each input that has a value of its own, its type, range and choices; seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from comfyclient.workflow.prompt import is_link
from comfyclient.workflow.values import offered, unwrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfyclient.workflow.catalog import Catalog, InputSpec
    from comfyclient.workflow.prompt import Prompt

__all__ = ["MAX_SEED", "SettableInput", "find_seeds", "find_spec", "list_inputs", "seed_bounds", "seed_specs"]

MAX_SEED: Final = 2**53 - 1
"""The largest seed made up here: the largest integer that the web page can show exactly (JavaScript)."""


@dataclass(frozen=True, slots=True)
class SettableInput:
    """One input that can be set.

    Attributes:
        node_id: The prompt's node.
        title: The node's title, or its class.
        class_type: The node's class.
        name: The input.
        type: ``INT``, ``FLOAT``, ``STRING``, ``BOOLEAN``, ``COMBO``, …; ``*`` if the catalog lacks it.
        value: The present value; ``None`` if there is none or it is linked.
        link: ``(node id, output slot)`` if it comes from another node: setting it cuts that link.
        required: Whether the node needs it.
        default: What the catalog declares, or ``None``.
        choices: What it must be chosen from, or ``None``.
        min: The smallest number allowed, or ``None``.
        max: The largest number allowed, or ``None``.
        step: The step of the page's number field, or ``None``.
        is_seed: Whether ``--seed`` sets it (if it is not linked).
        upload: ``"image"``, ``"video"``, ``"audio"`` or ``"file"`` if it names an uploaded file.
    """

    node_id: str
    title: str
    class_type: str
    name: str
    type: str
    value: Any = None
    link: tuple[str, int] | None = None
    required: bool = False
    default: Any = None
    choices: tuple[Any, ...] | None = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    is_seed: bool = False
    upload: str | None = None

    @property
    def address(self) -> str:
        """The address by node id, which always means this input."""
        return f"{self.node_id}.{self.name}"

    @property
    def linked(self) -> bool:
        """Whether the value comes from another node."""
        return self.link is not None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON, with ``address`` and ``linked``; the later ones only if they say something."""
        body: dict[str, Any] = {"address": self.address}
        for name in ("node_id", "title", "class_type", "name", "type", "value", "linked", "required"):
            body[name] = getattr(self, name)
        for name in ("link", "default", "choices", "min", "max", "step", "is_seed", "upload"):
            value = getattr(self, name)
            if value is not None and value is not False:
                body[name] = list(value) if isinstance(value, tuple) else value
        return body


def list_inputs(prompt: Prompt, catalog: Catalog) -> list[SettableInput]:
    """Every input that can be set, in the order of the prompt's nodes and of their declarations.

    Inputs that a node holds and the catalog does not know are listed too, unless they are links.
    """
    seeds = set(seed_specs(prompt, catalog))
    return [found for node_id in prompt.nodes for found in _node_inputs(prompt, catalog, node_id, seeds)]


def find_seeds(prompt: Prompt, catalog: Catalog) -> list[str]:
    """Addresses (``"3.seed"``) of every input that the catalog marks as a seed and that is not linked.

    An integer node whose field the page can count up but leaves fixed at first (``PrimitiveInt``) is a seed
    only where it feeds one.
    """
    return [f"{node_id}.{name}" for node_id, name in seed_specs(prompt, catalog)]


def seed_bounds(prompt: Prompt, catalog: Catalog) -> tuple[int, int]:
    """The smallest and largest seed that every seed input of the prompt takes, within 0 and `MAX_SEED`."""
    low, high = 0, MAX_SEED
    for spec in seed_specs(prompt, catalog).values():
        low = max(low, int(spec.min or 0))
        high = min(high, MAX_SEED if spec.max is None else int(spec.max))
    return low, max(low, high)


def seed_specs(prompt: Prompt, catalog: Catalog) -> dict[tuple[str, str], InputSpec]:
    """``(node id, input)`` → spec of what `find_seeds` finds."""
    found: dict[tuple[str, str], InputSpec] = {}
    feeding: set[str] = set()
    for node_id, spec, value in _declared_values(prompt, catalog):
        if spec.is_seed:
            if is_link(value):
                feeding.add(value[0])
            else:
                found[node_id, spec.name] = spec
    return {
        key: spec
        for key, spec in found.items()
        if spec.options.get("control_after_generate") != "fixed" or key[0] in feeding
    }


def find_spec(node: dict[str, Any], catalog: Catalog, name: str) -> InputSpec | None:
    """The declaration of an input of a prompt's node: also one that the node does not hold yet."""
    inputs, class_type = node["inputs"], node.get("class_type")
    if not isinstance(class_type, str) or class_type not in catalog:
        return None
    # Growing lists declare a slot once its name is among the values.
    values = inputs if name in inputs else {**inputs, name: None}
    return next((spec for spec in catalog[class_type].live_inputs(values) if spec.name == name), None)


def _declared_values(prompt: Prompt, catalog: Catalog) -> Iterator[tuple[str, InputSpec, Any]]:
    for node_id, node in prompt.nodes.items():
        if (class_type := prompt.class_type(node_id)) in catalog:
            for spec in catalog[class_type].live_inputs(node["inputs"]):
                if spec.name in node["inputs"]:
                    yield node_id, spec, node["inputs"][spec.name]


def _node_inputs(
    prompt: Prompt, catalog: Catalog, node_id: str, seeds: set[tuple[str, str]]
) -> Iterator[SettableInput]:
    node = prompt.nodes[node_id]
    class_type, inputs = prompt.class_type(node_id), node["inputs"]
    title = prompt.title(node_id)
    declared: set[str] = set()
    for spec in catalog[class_type].live_inputs(inputs) if class_type in catalog else ():
        declared.add(spec.name)
        value = inputs.get(spec.name)
        if spec.is_value or (spec.name in inputs and not is_link(value)):
            yield SettableInput(
                node_id,
                title,
                class_type,
                spec.name,
                spec.type,
                value=None if is_link(value) else unwrap(value),
                link=(value[0], value[1]) if is_link(value) else None,
                required=spec.required,
                default=spec.default,
                choices=offered(class_type, spec),
                min=spec.min,
                max=spec.max,
                step=spec.step,
                is_seed=(node_id, spec.name) in seeds,
                upload=spec.upload,
            )
    for name, value in inputs.items():
        if name not in declared and not is_link(value):
            yield SettableInput(node_id, title, class_type, name, "*", value=unwrap(value))
