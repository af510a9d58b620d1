"""Compares our conversion with the real frontend's, workflow by workflow.

    python -m tests.browser.harness                                  # all templates of the installed package
    python -m tests.browser.harness --sample 40 --mutations 100 --seed 7
    python -m tests.browser.harness --frontend DIR --release 1.49.6 my-workflows/*.json --catalog object_info.json

``--frontend`` is the ``static`` folder of another version of the PyPI package comfyui-frontend-package.
Differences are printed by node and input; a damaged workflow that differs is reported with the fewest changes that
still make a difference. The last line counts; the exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import random
import sys
from pathlib import Path

from comfyclient.workflow.catalog import Catalog
from comfyclient.workflow.convert import convert

from .differences import differences
from .frontend import Frontend, installed, missing
from .mutations import mutate


def template_files():
    spec = importlib.util.find_spec("comfyui_workflow_templates_json")
    return sorted((Path(spec.submodule_search_locations[0]) / "templates").glob("*.json")) if spec else []


def load(paths):
    """Name and workflow of each file that holds one in UI format."""
    for path in paths:
        workflow = json.loads(path.read_bytes())
        if isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list):
            yield path.stem, workflow


def damaged(workflows, count, rng):
    """``count`` workflows with one to three changes each: name, original, and the state of the dice before them."""
    for _ in range(count):
        name, workflow = rng.choice(workflows)
        seeds = [rng.randrange(2**32) for _ in range(rng.choice([1, 1, 2, 3]))]
        yield name, workflow, seeds


def apply(workflow, seeds):
    names = []
    for seed in seeds:
        workflow, change = mutate(workflow, random.Random(seed))
        names.append(change)
    return workflow, "+".join(names)


class Comparison:
    """Runs workflows through both sides and keeps count."""

    def __init__(self, frontend, catalog, release, out=sys.stdout):
        self.frontend = frontend
        self.catalog = catalog
        self.release = release
        self.out = out
        self.equal = self.refused = 0
        self.different = []

    async def compare(self, workflow):
        """The differences, or None where the frontend gives no prompt."""
        theirs = await self.frontend.prompt(workflow)
        if "output" not in theirs:
            return None
        return differences(convert(workflow, self.catalog, frontend=self.release).nodes, theirs["output"])

    async def whole(self, name, workflow):
        self._count(name, await self.compare(workflow))

    async def changed(self, name, workflow, seeds):
        found = await self.compare(apply(workflow, seeds)[0])
        while found and len(seeds) > 1:
            for fewer in (seeds[:index] + seeds[index + 1 :] for index in range(len(seeds))):
                still = await self.compare(apply(workflow, fewer)[0])
                if still:
                    seeds, found = fewer, still
                    break
            else:
                break
        self._count(f"{name} changed by {apply(workflow, seeds)[1]} {seeds}", found)

    def _count(self, name, found):
        if found is None:
            self.refused += 1
        elif found:
            self.different.append(name)
            print(f"{name}:", *(f"  {line}" for line in found), sep="\n", file=self.out, flush=True)
        else:
            self.equal += 1

    def summary(self):
        compared = self.equal + len(self.different)
        return f"frontend {self.release}: {self.equal} of {compared} equal, {self.refused} refused by the frontend"


async def run(arguments):
    static, release = (arguments.frontend, arguments.release) if arguments.frontend else installed()
    catalog = Catalog.parse(arguments.catalog.read_bytes()) if arguments.catalog else Catalog.bundled()
    rng = random.Random(arguments.seed)
    workflows = list(load(arguments.files or template_files()))
    chosen = rng.sample(workflows, min(arguments.sample, len(workflows))) if arguments.sample else workflows
    async with Frontend(static, catalog) as frontend:
        comparison = Comparison(frontend, catalog, release)
        for name, workflow in chosen:
            await comparison.whole(name, workflow)
        for name, workflow, seeds in damaged(workflows, arguments.mutations, rng):
            await comparison.changed(name, workflow, seeds)
    print(comparison.summary())
    return 1 if comparison.different else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="workflows; default: the installed templates")
    parser.add_argument("--frontend", type=Path, help="static folder of a frontend; default: the installed one")
    parser.add_argument("--release", help="its release, with --frontend")
    parser.add_argument("--catalog", type=Path, help="node definitions; default: the bundled ones")
    parser.add_argument("--sample", type=int, default=0, help="how many workflows, chosen at random; default: all")
    parser.add_argument("--mutations", type=int, default=0, help="how many damaged workflows besides")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if bool(arguments.frontend) != bool(arguments.release):
        parser.error("--frontend and --release go together")
    if (lacking := missing()) is not None:
        parser.error(lacking)
    return asyncio.run(run(arguments))


if __name__ == "__main__":
    sys.exit(main())
