"""A UI workflow turned into the prompt that the web page would send.

The stages, in the page's own order: `normalise` reads the graphs, `load` builds and restores every node, primitives
write their values, `emit` flattens the graphs and resolves the links.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import gc
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from comfyclient.workflow.convert.emit import Emitter
from comfyclient.workflow.convert.load import load
from comfyclient.workflow.convert.primitives import apply_primitives, load_primitives
from comfyclient.workflow.convert.releases import rules_for
from comfyclient.workflow.convert.text import Replacer
from comfyclient.workflow.document import Workflow
from comfyclient.workflow.prompt import ConversionWarning, Prompt

if TYPE_CHECKING:
    from comfyclient.workflow.catalog import Catalog

__all__ = ["convert"]


def convert(
    workflow: Workflow | Mapping[str, Any],
    catalog: Catalog,
    *,
    frontend: str | None = None,
    rng: random.Random | None = None,
    now: dt.datetime | None = None,
) -> Prompt:
    """Make the prompt that the official frontend makes of a workflow.

    Args:
        workflow: A workflow as read; one in API format is checked and passes through.
        catalog: The node definitions of the instance that is to run it.
        frontend: The release of the frontend to follow, ``"1.58"``; by default the newest known one.
        rng: What chooses between the options of dynamic prompts (``{a|b}``).
        now: The local time for ``%date:…%`` in file name prefixes.

    Returns:
        The prompt; what had to be left out or guessed is in its ``warnings``.

    Raises:
        WorkflowError: It is no workflow, or cannot be converted (a subgraph contains itself).
        ConfigError: ``frontend`` is no version number.
    """
    rules = rules_for(frontend)
    if not isinstance(workflow, Workflow):
        workflow = Workflow.from_json(workflow, source="workflow")
    if workflow.format == "api":
        return dataclasses.replace(Prompt.from_json(workflow.data), workflow=workflow.companion)
    warnings: dict[ConversionWarning, None] = {}

    def warn(code: str, message: str, node_id: str | None = None, input: str | None = None) -> None:
        warnings.setdefault(ConversionWarning(code, message, node_id, input))

    with _collector_paused():
        loaded = load(workflow.data, catalog, rules, warn)
        load_primitives(loaded)
        replacer = Replacer(loaded.root, now or dt.datetime.now())  # noqa: DTZ005  # the page uses the local time
        apply_primitives(loaded, replacer)
        emitter = Emitter(loaded, replacer, rng or random.Random())  # noqa: S311
        nodes = emitter.prompt()
        loaded.clear()
    return Prompt(nodes=nodes, workflow=dict(workflow.data), warnings=tuple(warnings), origins=emitter.origins)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Hold the cyclic garbage collector while a graph is built: nothing of it can be freed yet.

    Looking all the same makes large workflows cost half as much again.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
