"""Set inputs of a prompt: by address, with values that fit, in the UI workflow that travels along as well."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfyclient.errors import EditError
from comfyclient.workflow.address import NodeIndex, split_assignment
from comfyclient.workflow.catalog import DYNAMIC_COMBO, Catalog, InputSpec
from comfyclient.workflow.inputs import (
    MAX_SEED,
    SettableInput,
    find_seeds,
    find_spec,
    list_inputs,
    seed_bounds,
    seed_specs,
)
from comfyclient.workflow.origins import write_back
from comfyclient.workflow.prompt import Prompt, is_link
from comfyclient.workflow.values import MISSING, MisfitError, RawValue, fit, initial_value, wrap

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "MAX_SEED",
    "RawValue",
    "SettableInput",
    "apply_edits",
    "apply_seed",
    "edited_inputs",
    "find_seeds",
    "list_inputs",
    "parse_assignment",
    "random_seed",
    "seed_bounds",
]


def parse_assignment(text: str) -> tuple[str, RawValue]:
    """Split ``ADDRESS=VALUE`` as written on a command line.

    Returns:
        The address, and the value as written: `apply_edits` reads it as the input's type wants it. For a text
        input, ``42`` is the text ``42``, and so is ``"42"``, a JSON string.

    Raises:
        EditError: There is no ``=``, or nothing before it.
    """
    parts = split_assignment(text)
    if parts is None:
        raise EditError(f"{text!r} sets nothing", hint='write NODE.INPUT=VALUE, as in 6.text="a red fox"')
    return parts[0], RawValue(parts[1])


def apply_edits(prompt: Prompt, edits: Mapping[str, Any], catalog: Catalog) -> Prompt:
    """Set inputs.

    A value is a literal (JSON, or a `RawValue` from a command line), or a link ``[node id, output slot]``.
    Choosing another option of a dynamic combo drops the inputs of the old option and gives those of the new
    one their defaults, unless they are among the edits; links to inputs that both have stay, as in the page.

    Args:
        prompt: It is not changed.
        edits: Address → value. See `comfyclient.workflow.address` for addresses.
        catalog: The node definitions that say what the inputs take.

    Returns:
        A new prompt. Its ``workflow`` has the new values too where ``origins`` says which field they come
        from, so that a picture's embedded workflow makes the same picture again.

    Raises:
        EditError: An address fits nothing or too much, or a value does not fit; nothing was set.
    """
    editor = _Editor(prompt, catalog)
    editor.set_all(edits)
    return editor.result() if edits else prompt


def edited_inputs(prompt: Prompt, addresses: Iterable[str], catalog: Catalog) -> set[str]:
    """The inputs that addresses mean, each by its node's id: ``{"3.seed"}``. What fits nothing is left out.

    Raises:
        EditError: An address fits more than one node.
    """

    def has_input(node_id: str, name: str) -> bool:
        node = prompt.nodes[node_id]
        return name in node["inputs"] or find_spec(node, catalog, name) is not None

    index = NodeIndex(prompt)
    found = (index.resolve(address, has_input) for address in addresses)
    return {f"{place[0]}.{place[1]}" for place in found if place is not None}


def apply_seed(prompt: Prompt, catalog: Catalog, seed: int) -> Prompt:
    """Set every seed that `find_seeds` finds.

    Raises:
        EditError: One of them does not take that number.
    """
    editor = _Editor(prompt, catalog)
    found = seed_specs(prompt, catalog)
    for (node_id, name), spec in found.items():
        editor.set_input(node_id, name, spec, seed, f"{node_id}.{name}")
    return editor.result() if found else prompt


def random_seed(rng: random.Random, bounds: tuple[int, int] = (0, MAX_SEED)) -> int:
    """A random seed within ``bounds`` (both included); `seed_bounds` tells those that fit a prompt."""
    return rng.randint(*bounds)


class _Editor:
    """A prompt while it is edited: the nodes that change are copied when they first do."""

    def __init__(self, prompt: Prompt, catalog: Catalog) -> None:
        self._prompt = prompt
        self._catalog = catalog
        self._nodes = dict(prompt.nodes)
        self._set: dict[tuple[str, str], str] = {}  # what was set, and by which address
        self._reshaped: set[tuple[str, str]] = set()  # dynamic combos with another option than before
        self._names: tuple[set[str], tuple[str, ...]] | None = None

    def set_all(self, edits: Mapping[str, Any]) -> None:
        """Set everything; dynamic combos first, outer before inner, as they decide which inputs exist."""
        for address in edits:
            if not isinstance(address, str):
                raise EditError(f"{address!r} is no address", hint='addresses are texts such as "6.text"')
        index = NodeIndex(self._prompt)
        pending = dict(edits)
        while pending:
            found = dict(self._resolve(index, pending))
            combos = {key: at for key, at in found.items() if (spec := at[2]) and spec.type == DYNAMIC_COMBO}
            outermost = min((at[1].count(".") for at in combos.values()), default=0)
            chosen = {key: at for key, at in combos.items() if at[1].count(".") == outermost} or found
            if not chosen:
                raise index.unknown(next(iter(pending)), self._input_names)
            for address, (node_id, name, spec) in chosen.items():
                self.set_input(node_id, name, spec, pending.pop(address), address)

    def set_input(self, node_id: str, name: str, spec: InputSpec | None, value: Any, address: str) -> None:
        """Set one input.

        Raises:
            EditError: The value does not fit, or the input was set before by another address.
        """
        before = self._set.setdefault((node_id, name), address)
        if before != address:
            raise EditError(f"{before} and {address} are the same input", hint="set it once")
        inputs = self._inputs(node_id)
        link = self._as_link(spec, value, address)
        if link is not None:
            inputs[name] = link
            return
        literal = self._literal(node_id, name, spec, value, address)
        if spec is not None and spec.type == DYNAMIC_COMBO and inputs.get(name) != literal:
            self._reshape(node_id, spec, literal)
        inputs[name] = literal

    def result(self) -> Prompt:
        """The prompt as edited."""
        changes = {key: self._nodes[key[0]]["inputs"][key[1]] for key in self._set}
        edited = replace(self._prompt, nodes=self._nodes)
        return write_back(self._prompt, edited, changes, self._reshaped)

    def _resolve(
        self, index: NodeIndex, addresses: Mapping[str, Any]
    ) -> Iterator[tuple[str, tuple[str, str, InputSpec | None]]]:
        for address in addresses:
            at = index.resolve(address, self._has_input, self._may_be)
            if at is not None:
                yield address, (*at, find_spec(self._nodes[at[0]], self._catalog, at[1]))

    def _has_input(self, node_id: str, name: str) -> bool:
        node = self._nodes[node_id]
        return name in node["inputs"] or find_spec(node, self._catalog, name) is not None

    def _may_be(self, name: str) -> bool:
        """Whether any node may have such an input. A wrong name must not cost a look at each of thousands of nodes."""
        if self._names is None:
            classes = {self._prompt.class_type(node_id) for node_id in self._nodes} & self._catalog.keys()
            specs = [spec for class_type in classes for spec in self._catalog[class_type].inputs]
            held = {held for node in self._nodes.values() for held in node["inputs"]}
            # What grows, or depends on a choice, is called after the input that it belongs to.
            self._names = held | {spec.name for spec in specs}, tuple({f"{spec.name}." for spec in specs})
        known, parents = self._names
        return name in known or ("." in name and name.startswith(parents))

    def _input_names(self, node_id: str) -> list[str]:
        """What can be set there, for messages."""
        one = Prompt({node_id: self._nodes[node_id]})
        return [found.name for found in list_inputs(one, self._catalog)]

    def _inputs(self, node_id: str) -> dict[str, Any]:
        node = self._nodes[node_id]
        if node is self._prompt.nodes[node_id]:
            node = self._nodes[node_id] = {**node, "inputs": dict(node["inputs"])}
        inputs: dict[str, Any] = node["inputs"]
        return inputs

    def _as_link(self, spec: InputSpec | None, value: Any, address: str) -> list[Any] | None:
        """The value as a link ``[node id, slot]``, if it is meant as one."""
        pair = value.json if isinstance(value, RawValue) else value
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            return None
        link = [str(pair[0]) if _is_int(pair[0]) else pair[0], pair[1]]
        if not is_link(link):
            return None
        known = link[0] in self._nodes
        takes_lists = spec is not None and (spec.multi_select or spec.is_value)
        if takes_lists and not (known and isinstance(pair[0], str)):
            return None
        if not known:
            raise EditError(f"{address}: links to node {link[0]}, which is not in the workflow")
        self._check_slot(link[0], link[1], address)
        return link

    def _check_slot(self, node_id: str, slot: int, address: str) -> None:
        class_type = self._prompt.class_type(node_id)
        if class_type in self._catalog:
            outputs = self._catalog[class_type].outputs
            if not 0 <= slot < len(outputs):
                shown = ", ".join(f"{number} {output.name}" for number, output in enumerate(outputs)) or "none"
                raise EditError(
                    f"{address}: node {node_id} ({class_type}) has no output {slot}", hint=f"outputs: {shown}"
                )

    def _literal(self, node_id: str, name: str, spec: InputSpec | None, value: Any, address: str) -> Any:
        held = self._nodes[node_id]["inputs"].get(name, MISSING)
        if spec is None:
            # Unknown to the catalog: a text stays a text, as far as the present value tells.
            if isinstance(value, RawValue):
                value = value.string if isinstance(held, str) else value.json
            return wrap(value)
        if not _takes_literals(spec) and (held is MISSING or is_link(held)):
            raise EditError(
                f"{address}: takes a link to an output of type {spec.type}, not a value",
                hint="write [node id, output number] for a link",
            )
        try:
            return fit(self._prompt.class_type(node_id), spec, value)
        except MisfitError as error:
            close = [f"{found!r}" for found in error.close]
            hint = f"did you mean {' or '.join(close)}?" if close else None
            raise EditError(f"{address}: takes {error}, not {_shown(value)}", hint=hint) from None

    def _reshape(self, node_id: str, spec: InputSpec, option: Any) -> None:
        """Give a dynamic combo another option: its children go, those of the new option come."""
        self._reshaped.add((node_id, spec.name))
        inputs = self._inputs(node_id)
        prefix = f"{spec.name}."
        old = {name: inputs.pop(name) for name in list(inputs) if name.startswith(prefix)}
        inputs[spec.name] = option
        node = self._catalog[self._prompt.class_type(node_id)]
        values = inputs | {name: value for name, value in old.items() if is_link(value)}
        grown = True
        while grown:  # a default may be an option of another dynamic combo, with children of its own
            grown = False
            for child in list(node.live_inputs(values)):
                if child.name.startswith(prefix) and child.name not in inputs:
                    value = values[child.name] if child.name in values else initial_value(child)
                    if value is not MISSING:
                        inputs[child.name] = values[child.name] = value
                        grown = True


def _takes_literals(spec: InputSpec) -> bool:
    """Whether a value makes sense there: a field of the page, or a socket of a type that has literals."""
    kinds = {kind.strip() for kind in spec.type.split(",")}
    return spec.is_value or bool(kinds & {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_MATCHTYPE_V3", "*"})


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = value.text if isinstance(value, RawValue) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
