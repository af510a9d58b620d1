"""Which seeds each iteration of ``queue`` uses."""

import json
import random

import pytest

from comfyclient.errors import EditError
from comfyclient.workflow.catalog import Catalog
from comfyclient.workflow.convert import convert
from comfyclient.workflow.edit import apply_edits
from comfyclient.workflow.prompt import Prompt
from comfyclient.workflow.seeds import SeedPlan, control_of

from ..cli_support import WORKFLOWS  # noqa: TID252

CATALOG = Catalog.bundled()


def workflow(name="quickstart", **controls):
    """A workflow of ours, with other "control after generate" values by node id."""
    document = json.loads((WORKFLOWS / f"{name}.json").read_text())
    for node in document["nodes"]:
        control = controls.get(f"n{node['id']}")
        if control is not None:
            node["widgets_values"][1] = control
    return convert(document, CATALOG)


def two_seeds():
    sampler = {"class_type": "ImageAddNoise", "inputs": {"image": ["1", 0], "seed": 5, "strength": 0.5}}
    second = {**sampler, "inputs": {**sampler["inputs"], "seed": 9}}
    return Prompt({"1": {"class_type": "EmptyImage", "inputs": {}}, "2": sampler, "3": second})


def plan(prompt, seed=None, **rest):
    return SeedPlan(prompt, CATALOG, seed, rng=random.Random(1), **rest)


class TestWhetherSeedsCanVary:
    def test_not_without_any_nor_with_all_set_by_hand(self):
        assert plan(two_seeds()).varies
        assert plan(two_seeds(), pinned=["2.seed"]).varies
        assert not plan(two_seeds(), pinned=["2.seed", "3.seed"]).varies
        assert not plan(Prompt({"1": {"class_type": "EmptyImage", "inputs": {}}})).varies


class TestGiven:
    def test_a_number_counts_up_for_all_seeds(self):
        seeds = plan(two_seeds(), 7)
        assert [seeds.edits(n) for n in range(3)] == [{"2.seed": n, "3.seed": n} for n in (7, 8, 9)]

    def test_random_draws_anew_for_each_iteration(self):
        seeds = plan(two_seeds(), "random")
        drawn = [seeds.edits(n) for n in range(50)]
        assert all(edits["2.seed"] == edits["3.seed"] for edits in drawn)
        assert len({edits["2.seed"] for edits in drawn}) == 50
        assert all(0 <= edits["2.seed"] < 2**53 for edits in drawn)

    def test_keep_keeps(self):
        seeds = plan(workflow(), "keep")
        assert [seeds.edits(n) for n in range(3)] == [{}, {}, {}]
        assert seeds.same_every_time

    def test_what_was_set_by_hand_stays(self):
        assert plan(two_seeds(), 7, pinned={"2.seed"}).edits(1) == {"3.seed": 8}

    def test_the_last_seed_must_fit_too(self):
        seeds = plan(two_seeds(), 2**64 - 1)
        seeds.check(1)
        with pytest.raises(EditError, match="seed"):
            seeds.check(2)

    def test_without_any_seed(self):
        seeds = plan(Prompt({"1": {"class_type": "EmptyImage", "inputs": {}}}), 7)
        seeds.check(10**30)
        assert (seeds.addresses, seeds.edits(0), seeds.same_every_time) == ([], {}, True)


class TestAsTheWorkflowSays:
    @pytest.mark.parametrize(
        ("control", "values"),
        [
            ("fixed", [{}, {}, {}]),
            ("increment", [{}, {"2.seed": 20260132}, {"2.seed": 20260133}]),
            ("decrement", [{}, {"2.seed": 20260130}, {"2.seed": 20260129}]),
        ],
    )
    def test_the_first_has_the_saved_seed_and_then_it_changes(self, control, values):
        seeds = plan(workflow(n2=control))
        assert [seeds.edits(n) for n in range(3)] == values
        assert seeds.same_every_time is (control == "fixed")
        assert not seeds.guessed

    def test_randomize(self):
        seeds = plan(workflow())
        assert seeds.edits(0) == {}
        assert seeds.edits(1) != seeds.edits(2)
        assert not seeds.guessed

    def test_counting_stops_at_the_ends_of_the_range(self):
        prompt = apply_edits(workflow(n2="decrement"), {"2.seed": 1}, CATALOG)
        seeds = plan(prompt)
        assert [seeds.edits(n) for n in (1, 2, 3)] == [{"2.seed": 0}] * 3

    def test_a_value_set_by_hand_stays(self):
        prompt = apply_edits(workflow(), {"2.seed": 77}, CATALOG)
        assert plan(prompt, pinned={"2.seed"}).edits(1) == {}

    def test_a_prompt_does_not_say_so_it_is_random(self):
        seeds = plan(two_seeds())
        assert seeds.edits(0) == {}
        assert set(seeds.edits(1)) == {"2.seed", "3.seed"}
        assert seeds.guessed
        assert not seeds.same_every_time

    def test_seeds_promoted_by_a_subgraph_do_not_say(self):
        prompt = workflow("subgraph")
        assert plan(prompt).addresses == ["2:21.seed", "3:21.seed"]
        assert control_of(prompt, "2:21.seed") is None

    def test_values_saved_by_name(self):
        document = json.loads((WORKFLOWS / "quickstart.json").read_text())
        node = next(node for node in document["nodes"] if node["id"] == 2)
        node["widgets_values"] = {"seed": 3, "control_after_generate": "increment", "strength": 0.1}
        prompt = convert(document, CATALOG)
        assert control_of(prompt, "2.seed") == "increment"

    @pytest.mark.parametrize("odd", [7, None, "sometimes", {}, []])
    def test_anything_else_says_nothing(self, odd):
        assert control_of(workflow(n2=odd) if odd is not None else two_seeds(), "2.seed") is None
