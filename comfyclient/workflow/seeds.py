"""Which seeds each of several runs of one prompt uses, as the page's batch count does it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final, Literal

from comfyclient.workflow.edit import apply_seed, random_seed
from comfyclient.workflow.inputs import find_seeds, seed_bounds

if TYPE_CHECKING:
    from collections.abc import Collection

    from comfyclient.workflow.catalog import Catalog
    from comfyclient.workflow.prompt import Prompt

__all__ = ["Control", "SeedPlan", "control_of"]

Control = Literal["fixed", "increment", "decrement", "randomize"]
_CONTROLS: Final[dict[str, Control]] = {
    "fixed": "fixed",
    "increment": "increment",
    "increment-wrap": "increment",
    "decrement": "decrement",
    "randomize": "randomize",
}


class SeedPlan:
    """The seeds of each iteration, for one prompt that is queued several times.

    With ``random``, each iteration has one new number for all seeds; with a number N, iteration k has N + k. With
    ``keep``, all have what the workflow says. Without any of them the first iteration has what the workflow says,
    and for the others each seed does what its "control after generate" in the workflow says, as on the page; where
    the workflow does not say, it is random.

    Args:
        prompt: The prompt, with everything set that is to be set.
        catalog: The node definitions that say which inputs are seeds.
        seed: What ``--seed`` says; ``None`` without it.
        pinned: Addresses of seeds that were set by hand: ``--seed`` leaves them alone.
        rng: Where random seeds come from.
    """

    def __init__(
        self,
        prompt: Prompt,
        catalog: Catalog,
        seed: int | Literal["random", "keep"] | None,
        *,
        pinned: Collection[str] = (),
        rng: random.Random | None = None,
    ) -> None:
        self._seed = seed
        self._rng = rng or random.SystemRandom()
        self._bounds = seed_bounds(prompt, catalog)
        self._prompt, self._catalog = prompt, catalog
        self.addresses = find_seeds(prompt, catalog)
        self._free = [address for address in self.addresses if address not in pinned]
        self._values = {address: _value(prompt, address) for address in self._free}
        self._controls = {address: control_of(prompt, address) or "randomize" for address in self._free}

    @property
    def varies(self) -> bool:
        """Whether there is a seed that ``--seed`` may change."""
        return bool(self._free)

    @property
    def same_every_time(self) -> bool:
        """Whether all iterations have the same seeds."""
        if not self._free or self._seed == "keep":
            return True
        return self._seed is None and all(control == "fixed" for control in self._controls.values())

    @property
    def guessed(self) -> bool:
        """Whether some seed is random only because nobody says what it should be."""
        return self._seed is None and any(control_of(self._prompt, address) is None for address in self._free)

    def check(self, iterations: int) -> None:
        """See that the last seed fits as the first does.

        Raises:
            EditError: A seed input does not take that number.
        """
        if isinstance(self._seed, int) and self._free:
            for number in (self._seed, self._seed + iterations - 1):
                apply_seed(self._prompt, self._catalog, number)

    def edits(self, iteration: int) -> dict[str, int]:
        """The seeds to be set in an iteration (from 0), by address."""
        if self._seed == "keep" or (self._seed is None and iteration == 0):
            return {}
        if isinstance(self._seed, int):
            return dict.fromkeys(self._free, self._seed + iteration)
        number = random_seed(self._rng, self._bounds)
        if self._seed == "random":
            return dict.fromkeys(self._free, number)
        return {
            address: value
            for address in self._free
            if (value := self._controlled(address, iteration, number)) is not None
        }

    def _controlled(self, address: str, iteration: int, number: int) -> int | None:
        control, value = self._controls[address], self._values[address]
        if control == "randomize":
            return number
        if control == "fixed" or value is None:
            return None
        step = iteration if control == "increment" else -iteration
        return min(max(value + step, self._bounds[0]), self._bounds[1])


def control_of(prompt: Prompt, address: str) -> Control | None:
    """What "control after generate" of a seed says in the UI workflow; ``None`` if it says nothing.

    The page saves it as the value after that of the seed, or under a name of its own.
    """
    node_id, _, name = address.partition(".")
    path = prompt.origins.get(node_id, {}).get(name)
    if not path or prompt.workflow is None:
        return None
    holder: Any = prompt.workflow
    node: Any = None
    for key in path[:-1]:
        node, holder = holder, holder[key]
    if isinstance(node, dict) and node.get("type") in _subgraphs(prompt.workflow):
        return None  # a promoted seed: values of other inputs follow it
    last = path[-1]
    if isinstance(holder, list) and isinstance(last, int):
        said = holder[last + 1] if last + 1 < len(holder) else None
    else:
        said = holder.get("control_after_generate") if isinstance(holder, dict) else None
    return _CONTROLS.get(said) if isinstance(said, str) else None


def _subgraphs(workflow: dict[str, Any]) -> set[str]:
    definitions = workflow.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    found = (entry.get("id") for entry in listed if isinstance(entry, dict)) if isinstance(listed, list) else ()
    return {name for name in found if isinstance(name, str)}


def _value(prompt: Prompt, address: str) -> int | None:
    node_id, _, name = address.partition(".")
    value = prompt.nodes[node_id]["inputs"].get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
