"""A workflow that is queued several times, as the page's batch count does it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from comfyclient.prepare import aside
from comfyclient.workflow.convert import convert
from comfyclient.workflow.convert.releases import release_of
from comfyclient.workflow.edit import apply_edits, edited_inputs
from comfyclient.workflow.seeds import SeedPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from comfyclient.client import ComfyClient
    from comfyclient.prepare import Prepared
    from comfyclient.workflow.catalog import Catalog
    from comfyclient.workflow.document import Workflow
    from comfyclient.workflow.prompt import Prompt

__all__ = ["Batch", "Changes"]


@dataclass(frozen=True, slots=True)
class Changes:
    """What is changed in a workflow before it is queued. ``seed`` is as in `SeedPlan`."""

    edits: Mapping[str, Any]
    seed: int | Literal["random", "keep"] | None = None
    check: bool = True


class Batch:
    """Makes the prompt of each iteration: converted anew, so that ``{a|b}`` is chosen anew; set, seeded, checked."""

    def __init__(
        self, client: ComfyClient, workflow: Workflow, changes: Changes, catalog: Catalog, release: str | None
    ) -> None:
        self._client, self._workflow, self._changes = client, workflow, changes
        self._catalog, self._release = catalog, release
        self._unchecked = 0
        self._prompt = self._convert(None)
        edited = apply_edits(self._prompt, changes.edits, catalog) if changes.edits else self._prompt
        pinned = edited_inputs(edited, changes.edits, catalog)
        self._plan = SeedPlan(edited, catalog, changes.seed, pinned=pinned)

    @classmethod
    async def of(cls, client: ComfyClient, workflow: Workflow, changes: Changes) -> Batch:
        """See that it can be done, and that the changes fit.

        Raises:
            WorkflowError: They do not.
            ComfyClientError: The instance cannot be asked.
        """
        catalog = await client.catalog()
        release = release_of((await client.info()).frontend_version) if workflow.format == "ui" else None
        return await aside(workflow, lambda: cls(client, workflow, changes, catalog, release))

    def check(self, iterations: int) -> None:
        """Have `make` see, before it makes the first, that the seeds of all iterations fit."""
        self._unchecked = iterations

    async def make(self, iteration: int) -> Prepared:
        """The prompt of one iteration, from 0.

        Raises:
            WorkflowError: It would not run, or the seeds of another that is to be made do not fit.
        """
        if self._unchecked:
            await aside(self._workflow, lambda: self._plan.check(self._unchecked))
            self._unchecked = 0
        seeds = self._plan.edits(iteration)
        if iteration or seeds:
            chance = next(iter(seeds.values()), None)
            self._prompt = await aside(self._workflow, lambda: self._convert(chance))
        edits = {**self._changes.edits, **seeds}
        return await self._client.prepare(self._prompt, edits, check=self._changes.check)

    def _convert(self, chance: int | None) -> Prompt:
        rng = random.Random(chance)  # noqa: S311 - chooses words; a given seed repeats them
        return convert(self._workflow, self._catalog, frontend=self._release, rng=rng)
