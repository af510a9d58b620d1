"""The conversion against the real frontend on a sample; `tox -e frontend` runs all of it."""

import asyncio
import io
import random

import pytest

from comfyclient.workflow.catalog import Catalog

from .frontend import Frontend, installed, missing
from .harness import Comparison, damaged, load, template_files

SAMPLE = 25
MUTATIONS = 25
SEED = 20261123


def test_a_sample_of_templates_whole_and_damaged_equals_the_frontends_prompts():
    if (lacking := missing()) is not None:
        pytest.skip(lacking)
    out = io.StringIO()
    comparison = asyncio.run(compare(out))
    assert comparison.equal + len(comparison.different) >= (SAMPLE + MUTATIONS) * 0.9, comparison.summary()
    assert comparison.different == [], out.getvalue()


async def compare(out):
    static, release = installed()
    rng = random.Random(SEED)
    workflows = list(load(template_files()))
    catalog = Catalog.bundled()
    async with Frontend(static, catalog) as frontend:
        comparison = Comparison(frontend, catalog, release, out)
        for name, workflow in rng.sample(workflows, SAMPLE):
            await comparison.whole(name, workflow)
        for name, workflow, seeds in damaged(workflows, MUTATIONS, rng):
            await comparison.changed(name, workflow, seeds)
    return comparison
