"""Setting inputs of a prompt: addresses, values, seeds, and the workflow that travels along."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyclient.errors import EditError
from comfyclient.workflow.catalog import Catalog
from comfyclient.workflow.edit import (
    MAX_SEED,
    RawValue,
    apply_edits,
    apply_seed,
    find_seeds,
    list_inputs,
    parse_assignment,
    random_seed,
    seed_bounds,
)
from comfyclient.workflow.prompt import Prompt

CATALOG = Catalog.from_json({
    "Loader": {"input": {"required": {"ckpt": [["a.safetensors", "b.safetensors"]]}}, "output": ["MODEL", "CLIP"]},
    "Text": {"input": {"required": {"text": ["STRING", {}], "clip": ["CLIP"]}}, "output": ["CONDITIONING"]},
    "Sampler": {
        "input": {
            "required": {
                "model": ["MODEL"],
                "positive": ["CONDITIONING"],
                "seed": ["INT", {"min": 0, "max": 2**64 - 1, "control_after_generate": True}],
                "steps": ["INT", {"default": 20, "min": 1, "max": 10000}],
                "cfg": ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0}],
                "sampler": ["COMBO", {"options": [f"sampler_{number}" for number in range(30)]}],
                "bits": [[8, 16, "auto"]],
                "tiled": ["BOOLEAN", {"default": False}],
            },
            "optional": {"scale": ["FLOAT", {"forceInput": True}], "anything": ["*"], "mix": ["INT,FLOAT"]},
        },
        "output": ["LATENT"],
    },
    "Load": {"input": {"required": {"image": [["x.png"], {"image_upload": True}]}}, "output": ["IMAGE", "MASK"]},
    "PrimitiveInt": {
        "input": {"required": {"value": ["INT", {"control_after_generate": "fixed"}]}},
        "output": ["INT"],
    },
    "Small": {
        "input": {
            "required": {
                "seed": ["INT", {"min": 1, "max": 2000}],
                "noise_seed": ["INT", {"control_after_generate": False}],
            }
        }
    },
    "Many": {
        "input": {
            "required": {
                "tags": ["COMBO", {"options": ["a", "b", "c"], "multiselect": True}],
                "box": ["BOUNDING_BOX", {}],
                "colors": ["COLORS", {}],
                "color": ["COLOR", {}],
                "remote": ["COMBO", {"remote": {"route": "/x"}}],
                "none": [[]],
            }
        }
    },
    "Dyn": {
        "input": {
            "required": {
                "model": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {
                                "key": "one",
                                "inputs": {
                                    "required": {
                                        "size": ["COMBO", {"options": ["s", "m"]}],
                                        "depth": ["INT", {"default": 3, "min": 2, "max": 9}],
                                        "image": ["IMAGE"],
                                    }
                                },
                            },
                            {
                                "key": "two",
                                "inputs": {
                                    "required": {
                                        "depth": ["INT", {"default": 5, "min": 2, "max": 9}],
                                        "mode": [
                                            "COMFY_DYNAMICCOMBO_V3",
                                            {
                                                "options": [
                                                    {"key": "fast", "inputs": {"required": {"n": ["INT", {"min": 4}]}}},
                                                    {"key": "slow", "inputs": {"required": {"t": ["STRING", {}]}}},
                                                ]
                                            },
                                        ],
                                    },
                                    "optional": {"image": ["IMAGE"], "seed": ["INT", {"control_after_generate": True}]},
                                },
                            },
                            {
                                "key": "grow",
                                "inputs": {
                                    "required": {
                                        "images": [
                                            "COMFY_AUTOGROW_V3",
                                            {
                                                "template": {
                                                    "input": {"required": {"image": ["IMAGE"]}},
                                                    "prefix": "image_",
                                                    "min": 1,
                                                    "max": 5,
                                                }
                                            },
                                        ]
                                    }
                                },
                            },
                        ]
                    },
                ]
            }
        },
        "output": ["IMAGE"],
    },
})  # fmt: skip

NODES: dict[str, dict[str, Any]] = {
    "4": {"class_type": "Loader", "inputs": {"ckpt": "a.safetensors"}, "_meta": {"title": "Load Checkpoint"}},
    "6": {"class_type": "Text", "inputs": {"text": "a cat", "clip": ["4", 1]}, "_meta": {"title": "Positive Prompt"}},
    "7": {"class_type": "Text", "inputs": {"text": "bad", "clip": ["4", 1]}, "_meta": {"title": "Negative v1.5"}},
    "57:12": {
        "class_type": "Sampler",
        "inputs": {
            "model": ["4", 0],
            "positive": ["6", 0],
            "seed": 1,
            "steps": 20,
            "cfg": 8,
            "sampler": "sampler_1",
            "bits": 8,
            "tiled": False,
        },
        "_meta": {"title": "KSampler"},
    },
    "8": {
        "class_type": "Custom",
        "inputs": {"words": "x", "count": 2, "in": ["4", 0]},
        "_meta": {"title": 'The "big" one'},
    },
    "9": {"class_type": "Load", "inputs": {"image": "x.png"}, "_meta": {"title": "Load Image"}},
    "5": {
        "class_type": "Dyn",
        "inputs": {"model": "one", "model.size": "m", "model.depth": 7, "model.image": ["9", 0]},
    },
    "10": {"class_type": "Many", "inputs": {"tags": {"__value__": ["a"]}, "remote": "r", "none": "n"}},
}
PROMPT = Prompt(NODES)


def edited(edits: dict[str, Any], prompt: Prompt = PROMPT) -> dict[str, dict[str, Any]]:
    before = copy.deepcopy(prompt.nodes)
    result = apply_edits(prompt, edits, CATALOG)
    assert prompt.nodes == before, "the given prompt is not changed"
    return result.nodes


def value_of(address: str, node_id: str, name: str, value: Any = "new") -> Any:
    return edited({address: value})[node_id]["inputs"][name]


def refused(edits: dict[str, Any], prompt: Prompt = PROMPT) -> EditError:
    with pytest.raises(EditError) as caught:
        apply_edits(prompt, edits, CATALOG)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    return caught.value


# --- addresses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "node_id"),
    [
        ("6.text", "6"),
        ("Positive Prompt.text", "6"),
        ('"Positive Prompt".text', "6"),
        ("positive prompt.text", "6"),
        ("Negative v1.5.text", "7"),
        ('"Negative v1.5".text', "7"),
    ],
)
def test_addresses_of_a_text(address, node_id):
    assert value_of(address, node_id, "text") == "new"


def test_addresses_inside_subgraphs_by_class_and_by_title():
    for address in ("57:12.steps", "Sampler.steps", "KSampler.steps", "ksampler.steps"):
        assert value_of(address, "57:12", "steps", 7) == 7


def test_titles_with_quotes():
    for address in ('The "big" one.words', r'"The \"big\" one".words'):
        assert value_of(address, "8", "words") == "new"


def test_an_input_with_dots_of_its_own():
    assert value_of("5.model.depth", "5", "model.depth", 4) == 4
    assert value_of("Dyn.model.depth", "5", "model.depth", 4) == 4


def test_an_id_goes_before_a_title_that_looks_like_one():
    nodes = {**NODES, "20": {"class_type": "Text", "inputs": {"text": "", "clip": ["4", 1]}, "_meta": {"title": "6"}}}
    assert edited({"6.text": "new"}, Prompt(nodes))["6"]["inputs"]["text"] == "new"
    assert edited({'"6".text': "new"}, Prompt(nodes))["20"]["inputs"]["text"] == "new"


def test_every_listed_address_means_its_own_input_even_beside_a_title_made_to_confuse():
    nodes = {**NODES, "21": {"class_type": "Custom", "inputs": {"depth": 1}, "_meta": {"title": "5.model"}}}
    assert edited({"5.model.depth": 4}, Prompt(nodes))["5"]["inputs"]["model.depth"] == 4
    assert edited({'"5.model".depth': 4}, Prompt(nodes))["21"]["inputs"]["depth"] == 4


def test_a_class_of_two_nodes_is_ambiguous():
    error = refused({"Text.text": "new"})
    assert error.candidates == ("6.text", "7.text")
    assert "fits 2 nodes: 6.text (Positive Prompt), 7.text (Negative v1.5)" in str(error)


def test_a_name_that_is_one_node_s_title_and_another_s_class_is_ambiguous_unless_quoted():
    nodes = {**NODES, "30": {**NODES["57:12"], "_meta": {"title": "Sampler"}}}
    assert refused({"Sampler.steps": 3}, Prompt(nodes)).candidates == ("30.steps", "57:12.steps")
    assert edited({'"Sampler".steps': 3}, Prompt(nodes))["30"]["inputs"]["steps"] == 3


def test_only_nodes_with_that_input_count():
    nodes = {**NODES, "40": {"class_type": "Load", "inputs": {"image": "x.png"}, "_meta": {"title": "Positive Prompt"}}}
    assert edited({"Positive Prompt.text": "new"}, Prompt(nodes))["6"]["inputs"]["text"] == "new"


@pytest.mark.parametrize(
    ("address", "candidate"),
    [
        ("6.txt", "6.text"),
        ("16.text", "6.text"),
        ("Positve Prompt.text", "6.text"),
        ('"Positve Prompt".text', "6.text"),
        ("57:12.step", "57:12.steps"),
        ("Text.txt", "7.text"),
        ("8.wrds", "8.words"),
    ],
)
def test_an_address_that_fits_nothing_lists_close_ones(address, candidate):
    error = refused({address: "new"})
    assert candidate in error.candidates
    assert str(error).startswith(address)


def test_an_address_like_no_other_lists_what_there_is():
    error = refused({"zzz.qqq": 1})
    assert "4.ckpt" in error.candidates
    assert len(error.candidates) <= 20


@pytest.mark.parametrize("address", ["", "6", ".text", "6.", "..", '"', '"x', '"x".'])
def test_what_is_no_address(address):
    assert "no address" in str(refused({address: 1}))


def test_the_same_input_by_two_addresses():
    assert "are the same input" in str(refused({"6.text": "a", "Positive Prompt.text": "b"}))


def test_nothing_is_set_if_one_edit_fails():
    refused({"6.text": "new", "57:12.steps": "x"})
    assert NODES["6"]["inputs"]["text"] == "a cat"


@given(st.text(max_size=12), st.text(max_size=6))
def test_any_text_as_address_is_set_or_refused(node, name):
    """Any other exception is the failure."""
    for address in (f"{node}.{name}", f'"{node}".{name}', node):
        with contextlib.suppress(EditError):
            apply_edits(PROMPT, {address: RawValue("1")}, CATALOG)


@given(st.text(min_size=1).filter(lambda title: title not in {"Text", "Positive Prompt", "Negative v1.5"}))
def test_any_title_can_be_quoted(title):
    nodes = {**NODES, "6": {**NODES["6"], "_meta": {"title": title}}}
    quoted = title.replace("\\", "\\\\").replace('"', '\\"')
    address, value = parse_assignment(f'"{quoted}".text=new')
    assert edited({address: value}, Prompt(nodes))["6"]["inputs"]["text"] == "new"


# --- assignments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address", "value"),
    [
        ("6.text=a fox", "6.text", "a fox"),
        ("6.text=", "6.text", ""),
        ("6.text==", "6.text", "="),
        ('"a=b".text=c=d', '"a=b".text', "c=d"),
        (" 6.text =x ", "6.text", "x "),
        ("6.text=a\nb", "6.text", "a\nb"),
    ],
)
def test_assignments(text, address, value):
    assert parse_assignment(text) == (address, RawValue(value))


@pytest.mark.parametrize("text", ["", "6.text", "=x", '"a=b".text'])
def test_no_assignment(text):
    with pytest.raises(EditError, match="sets nothing"):
        parse_assignment(text)


# --- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "text", "value"),
    [
        ("57:12.steps", "8", 8),
        ("57:12.steps", "8.0", 8),
        ("57:12.steps", "1e3", 1000),
        ("57:12.seed", "18446744073709551615", 2**64 - 1),
        ("57:12.cfg", "7", 7),
        ("57:12.cfg", "7.5", 7.5),
        ("6.text", "42", "42"),
        ("6.text", "true", "true"),
        ("6.text", '"quoted"', "quoted"),
        ("6.text", r'"two\nlines"', "two\nlines"),
        ("6.text", '"a" and "b"', '"a" and "b"'),
        ("6.text", "[1, 2]", "[1, 2]"),
        ("6.text", "", ""),
        ("57:12.tiled", "true", True),
        ("57:12.tiled", "Yes", True),
        ("57:12.tiled", "off", False),
        ("57:12.sampler", "sampler_7", "sampler_7"),
        ("57:12.sampler", '"sampler_7"', "sampler_7"),
        ("57:12.bits", "16", 16),
        ("57:12.bits", "auto", "auto"),
        ("10.tags", '["a", "c"]', {"__value__": ["a", "c"]}),
        ("10.tags", "b", {"__value__": ["b"]}),
        ("10.color", "#ff0000", "#ff0000"),
        ("10.colors", '["#fff", "#000"]', {"__value__": ["#fff", "#000"]}),
        ("10.colors", '["#fff", 3]', {"__value__": ["#fff", 3]}),
        ("10.box", '{"x": 1}', {"x": 1}),
        ("10.remote", "7", "7"),
        ("10.none", "any.safetensors", "any.safetensors"),
        ("9.image", "cat.png", "cat.png"),
        ("9.image", "sub/cat.png [temp]", "sub/cat.png [temp]"),
        ("8.words", "42", "42"),
        ("8.count", "42", 42),
        ("8.count", "many", "many"),
        ("57:12.scale", "2", 2),
        ("57:12.mix", "2.5", 2.5),
        ("57:12.anything", '{"a": 1}', {"a": 1}),
    ],
)
def test_values_from_a_command_line(address, text, value):
    node_id, name = address.rsplit(".", 1)
    found = edited({address: RawValue(text)})[node_id]["inputs"][name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("address", "value", "stored"),
    [
        ("57:12.steps", 8, 8),
        ("57:12.steps", 8.0, 8),
        ("57:12.cfg", 7, 7),
        ("6.text", "42", "42"),
        ("57:12.tiled", True, True),
        ("57:12.bits", "auto", "auto"),
        ("10.tags", ["a"], {"__value__": ["a"]}),
        ("10.tags", {"__value__": ["a", "b"]}, {"__value__": ["a", "b"]}),
        ("10.colors", ["#fff"], {"__value__": ["#fff"]}),
        ("8.count", [1, 2, 3], {"__value__": [1, 2, 3]}),
        ("8.words", None, None),
    ],
)
def test_values_from_python(address, value, stored):
    node_id, name = address.rsplit(".", 1)
    assert edited({address: value})[node_id]["inputs"][name] == stored


@pytest.mark.parametrize(
    ("address", "value", "expected"),
    [
        ("57:12.steps", RawValue("many"), "takes an integer from 1 to 10000, not many"),
        ("57:12.steps", RawValue("8.5"), "an integer from 1 to 10000"),
        ("57:12.steps", RawValue("0"), "an integer from 1 to 10000"),
        ("57:12.steps", RawValue("true"), "an integer"),
        ("57:12.steps", "8", "takes an integer from 1 to 10000, not '8'"),
        ("57:12.steps", True, "an integer"),
        ("57:12.steps", None, "an integer"),
        ("57:12.seed", 2**64, "an integer from 0 to 18446744073709551615"),
        ("57:12.cfg", RawValue("NaN"), "a number from 0.0 to 100.0"),
        ("57:12.cfg", float("inf"), "a number"),
        ("57:12.cfg", 10**400, "a number"),
        ("57:12.cfg", RawValue("high"), "a number"),
        ("57:12.cfg", False, "a number"),
        ("57:12.tiled", RawValue("1"), "true or false"),
        ("57:12.tiled", "true", "true or false"),
        ("57:12.tiled", 1, "true or false"),
        ("6.text", 42, "takes a text, not 42"),
        ("6.text", ["a"], "a text"),
        ("57:12.sampler", "sampler_99", "one of 'sampler_0', 'sampler_1'"),
        ("57:12.bits", "8", "one of '8', '16', 'auto'"),
        ("57:12.bits", True, "one of '8', '16', 'auto'"),
        ("10.tags", ["a", "z"], "one of 'a', 'b', 'c'"),
        ("10.tags", "a", "a list of choices"),
        ("10.remote", {"a": 1}, "one of its choices"),
        ("57:12.model", "x", "takes a link to an output of type MODEL"),
        ("57:12.steps", [1, 2], "an integer"),
    ],
)
def test_values_that_do_not_fit(address, value, expected):
    error = refused({address: value})
    assert expected in str(error)
    assert str(error).startswith(f"{address}: takes ")


def test_long_lists_of_choices_are_cut_and_close_ones_named():
    error = refused({"57:12.sampler": "Sampler_29x"})
    assert "(30 choices)" in str(error)
    assert "sampler_12" not in str(error)
    assert "'sampler_29'" in error.hint


# --- links ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [["4", 0], [4, 0], ("4", 0), RawValue('["4", 0]'), RawValue("[4, 0]")])
def test_a_link_to_a_node_that_exists(value):
    assert edited({"57:12.model": value})["57:12"]["inputs"]["model"] == ["4", 0]


def test_a_link_in_place_of_a_value_and_a_value_in_place_of_a_link():
    nodes = edited({"57:12.steps": ["8", 0]})
    assert nodes["57:12"]["inputs"]["steps"] == ["8", 0]
    again = apply_edits(Prompt(nodes), {"57:12.steps": 3}, CATALOG)
    assert again.nodes["57:12"]["inputs"]["steps"] == 3


def test_links_that_lead_nowhere():
    assert "node 99, which is not in the workflow" in str(refused({"57:12.model": ["99", 0]}))
    error = refused({"57:12.model": ["4", 2]})
    assert "node 4 (Loader) has no output 2" in str(error)
    assert error.hint == "outputs: 0 MODEL, 1 CLIP"


# --- dynamic combos ---------------------------------------------------------------------------------------------


def dyn(edits: dict[str, Any], prompt: Prompt = PROMPT) -> dict[str, Any]:
    inputs: dict[str, Any] = edited(edits, prompt)["5"]["inputs"]
    return inputs


def test_another_option_brings_its_inputs_with_defaults_and_keeps_links_that_both_have():
    assert dyn({"5.model": "two"}) == {
        "model": "two",
        "model.depth": 5,
        "model.mode": "fast",
        "model.mode.n": 4,
        "model.image": ["9", 0],
        "model.seed": 0,
    }
    assert dyn({"5.model": "grow"}) == {"model": "grow"}


def test_the_same_option_changes_nothing():
    assert dyn({"5.model": "one"}) == NODES["5"]["inputs"]


@pytest.mark.parametrize("reverse", [False, True])
def test_inputs_of_the_new_option_can_be_set_at_once_in_any_order(reverse):
    edits = {"5.model": "two", "5.model.mode": "slow", "Dyn.model.mode.t": "word", "5.model.depth": 9}
    if reverse:
        edits = dict(reversed(edits.items()))
    assert dyn(edits) == {
        "model": "two",
        "model.depth": 9,
        "model.mode": "slow",
        "model.mode.t": "word",
        "model.image": ["9", 0],
        "model.seed": 0,
    }


def test_an_input_of_the_old_option_is_gone():
    error = refused({"5.model": "two", "5.model.size": "s"})
    assert "has no input 'model.size'" in str(error)


def test_an_unknown_option():
    assert "takes one of 'one', 'two', 'grow', not 'three'" in str(refused({"5.model": "three"}))


def test_a_growing_list_takes_links_up_to_its_end():
    inputs = dyn({"5.model": "grow", "5.model.images.image_0": ["9", 0], "5.model.images.image_4": ["9", 0]})
    assert inputs == {"model": "grow", "model.images.image_0": ["9", 0], "model.images.image_4": ["9", 0]}
    refused({"5.model": "grow", "5.model.images.image_5": ["9", 0]})


# --- listing ----------------------------------------------------------------------------------------------------


def test_what_can_be_set():
    found = {one.address: one for one in list_inputs(PROMPT, CATALOG)}
    assert [address for address in found if address.startswith(("4.", "6.", "8.", "9."))] == [
        "4.ckpt",
        "6.text",
        "8.words",
        "8.count",
        "9.image",
    ]
    steps = found["57:12.steps"]
    assert (steps.type, steps.value, steps.min, steps.max, steps.default, steps.linked) == (
        "INT",
        20,
        1,
        10000,
        20,
        False,
    )
    assert found["57:12.sampler"].choices == tuple(f"sampler_{number}" for number in range(30))
    assert found["57:12.seed"].is_seed
    assert found["9.image"].upload == "image"
    assert found["9.image"].choices is None, "any file may be named"
    assert found["10.tags"].value == ["a"], "unwrapped"
    assert found["8.words"].type == "*"
    assert found["8.words"].title == 'The "big" one'
    assert "57:12.model" not in found, "a socket"
    assert "57:12.scale" not in found, "a socket without a value"
    assert {"5.model", "5.model.size", "5.model.depth"} <= found.keys()
    assert "5.model.mode" not in found


def test_a_linked_value_is_listed_as_such():
    prompt = apply_edits(PROMPT, {"57:12.steps": ["8", 0]}, CATALOG)
    steps = next(one for one in list_inputs(prompt, CATALOG) if one.address == "57:12.steps")
    assert steps.linked
    assert steps.to_json()["link"] == ["8", 0]
    assert steps.to_json()["value"] is None


def test_the_listing_as_json():
    found = {one.address: one.to_json() for one in list_inputs(PROMPT, CATALOG)}
    assert json.loads(json.dumps(found)) == found
    assert found["57:12.seed"] == {
        "address": "57:12.seed",
        "node_id": "57:12",
        "title": "KSampler",
        "class_type": "Sampler",
        "name": "seed",
        "type": "INT",
        "value": 1,
        "linked": False,
        "required": True,
        "min": 0,
        "max": 2**64 - 1,
        "is_seed": True,
    }


def test_setting_every_listed_value_to_itself_changes_nothing():
    values = {
        one.address: one.value for one in list_inputs(PROMPT, CATALOG) if one.value is not None and not one.linked
    }
    assert edited(values) == NODES


# --- seeds ------------------------------------------------------------------------------------------------------


def test_seeds_are_what_the_catalog_marks_and_not_linked():
    nodes = {
        "1": {"class_type": "PrimitiveInt", "inputs": {"value": 512}},
        "2": {"class_type": "PrimitiveInt", "inputs": {"value": 7}},
        "3": {"class_type": "Sampler", "inputs": {"seed": ["2", 0], "steps": ["1", 0]}},
        "4": {"class_type": "Sampler", "inputs": {"seed": 5}},
        "5": {"class_type": "Small", "inputs": {"seed": 5, "noise_seed": 5}},
        "6": {"class_type": "Dyn", "inputs": {"model": "two", "model.seed": 5}},
        "7": {"class_type": "Sampler", "inputs": {}},
        "8": {"class_type": "Custom", "inputs": {"seed": 1}},
    }
    prompt = Prompt(nodes)
    assert find_seeds(prompt, CATALOG) == ["2.value", "4.seed", "5.seed", "6.model.seed"]
    changed = apply_seed(prompt, CATALOG, 42).nodes
    assert changed["2"]["inputs"]["value"] == changed["6"]["inputs"]["model.seed"] == 42
    assert changed["1"]["inputs"]["value"] == 512
    assert changed["8"]["inputs"]["seed"] == 1


def test_random_seeds_fit_every_seed_of_the_prompt():
    sampler = {"4": {"class_type": "Sampler", "inputs": {"seed": 5}}}
    small = {"5": {"class_type": "Small", "inputs": {"seed": 5}}}
    assert seed_bounds(Prompt({}), CATALOG) == (0, MAX_SEED)
    assert seed_bounds(Prompt(sampler), CATALOG) == (0, MAX_SEED)
    both = Prompt(sampler | small)
    assert seed_bounds(both, CATALOG) == (1, 2000)
    rng = random.Random(0)
    for _ in range(100):
        apply_seed(both, CATALOG, random_seed(rng, seed_bounds(both, CATALOG)))
    assert 0 <= random_seed(rng) <= MAX_SEED


def test_a_seed_that_is_too_large_names_the_input():
    prompt = Prompt({"5": {"class_type": "Small", "inputs": {"seed": 5}}})
    with pytest.raises(EditError, match=r"5\.seed: takes an integer from 1 to 2000"):
        apply_seed(prompt, CATALOG, 2001)


def test_a_prompt_without_seeds_stays_as_it_is():
    prompt = Prompt({"4": NODES["4"]})
    assert apply_seed(prompt, CATALOG, 1) is prompt
    assert apply_edits(prompt, {}, CATALOG) is prompt


# --- the workflow that travels along ----------------------------------------------------------------------------


def with_workflow() -> Prompt:
    workflow = {
        "nodes": [
            {"id": 6, "widgets_values": ["a cat"]},
            {"id": 5, "widgets_values": ["one", "m", 7]},
            {"id": 10, "widgets_values": {"tags": ["a"]}},
        ],
        "definitions": {"subgraphs": [{"nodes": [{"id": 12, "widgets_values": [1, "randomize", 20]}]}]},
        "extra": {"ds": {"scale": 1}},
    }
    inner = ("definitions", "subgraphs", 0, "nodes", 0, "widgets_values")
    nodes = {**NODES, "58:12": copy.deepcopy(NODES["57:12"])}
    origins: dict[str, dict[str, tuple[str | int, ...]]] = {
        "6": {"text": ("nodes", 0, "widgets_values", 0)},
        "5": {
            "model": ("nodes", 1, "widgets_values", 0),
            "model.size": ("nodes", 1, "widgets_values", 1),
            "model.depth": ("nodes", 1, "widgets_values", 2),
        },
        "10": {"tags": ("nodes", 2, "widgets_values", "tags")},
        "57:12": {"seed": (*inner, 0), "steps": (*inner, 2)},
        "58:12": {"seed": (*inner, 0), "steps": (*inner, 2)},
    }
    return Prompt(nodes, workflow=workflow, origins=origins)


def test_edits_reach_the_workflow_and_copy_only_what_they_touch():
    prompt = with_workflow()
    before = copy.deepcopy(prompt.workflow)
    result = apply_edits(prompt, {"6.text": "new", "5.model.depth": 3, "10.tags": ["b", "c"]}, CATALOG)
    assert prompt.workflow == before
    assert prompt.workflow is not None
    assert result.workflow is not None
    values = [node["widgets_values"] for node in result.workflow["nodes"]]
    assert values == [["new"], ["one", "m", 3], {"tags": ["b", "c"]}]
    assert result.workflow["definitions"] is prompt.workflow["definitions"]
    assert result.workflow["extra"] is prompt.workflow["extra"]
    assert result.warnings == ()


def test_a_subgraph_used_twice_is_changed_only_for_both():
    prompt = with_workflow()
    one = apply_edits(prompt, {"57:12.steps": 5}, CATALOG)
    assert one.workflow == prompt.workflow
    assert [(warning.code, warning.node_id, warning.input) for warning in one.warnings] == [
        ("workflow_not_updated", "57:12", "steps")
    ]
    both = apply_seed(apply_edits(one, {"58:12.steps": 5}, CATALOG), CATALOG, 99)
    assert both.workflow is not None
    inner = both.workflow["definitions"]["subgraphs"][0]["nodes"][0]
    assert inner["widgets_values"] == [99, "randomize", 5]


def test_linked_inputs_and_links_leave_the_workflow_alone():
    prompt = with_workflow()
    nodes = {**prompt.nodes, "6": {**NODES["6"], "inputs": {"text": ["8", 0], "clip": ["4", 1]}}}
    linked = replace(prompt, nodes=nodes)
    assert apply_edits(linked, {"6.text": "new"}, CATALOG).workflow == prompt.workflow
    assert apply_edits(prompt, {"6.text": ["8", 0]}, CATALOG).workflow == prompt.workflow


def test_another_option_of_a_dynamic_combo_is_not_written_over_fields_of_the_old_one():
    prompt = with_workflow()
    result = apply_edits(prompt, {"5.model": "two", "5.model.depth": 9}, CATALOG)
    assert result.workflow == prompt.workflow
    assert {warning.input for warning in result.warnings} == {"model", "model.depth"}
    again = apply_edits(result, {"5.model.depth": 8}, CATALOG)
    assert again.workflow == prompt.workflow, "the old place is forgotten"


def test_without_origins_the_workflow_stays_without_a_warning():
    prompt = replace(with_workflow(), origins={})
    result = apply_edits(prompt, {"6.text": "new"}, CATALOG)
    assert result.workflow is prompt.workflow
    assert result.warnings == ()
    assert apply_edits(PROMPT, {"6.text": "new"}, CATALOG).workflow is None


def test_ten_thousand_nodes():
    nodes = {str(number): copy.deepcopy(NODES["6"]) | {"_meta": {"title": f"T{number}"}} for number in range(10_000)}
    nodes["4"] = NODES["4"]
    prompt = Prompt(nodes)
    assert edited({f"T{number}.text": "new" for number in range(5, 10_000)}, prompt)["9999"]["inputs"]["text"] == "new"
    assert len(refused({"Text.text": "new"}, prompt).candidates) == 20
    assert len(list_inputs(prompt, CATALOG)) == 10_000


def test_a_prompt_in_which_nothing_can_be_set():
    error = refused({"1.x": 1}, Prompt({"2": {"class_type": "Custom", "inputs": {}}}))
    assert error.candidates == ()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"min": 1}, "an integer of at least 1"),
        ({"max": 9}, "an integer of at most 9"),
        ({}, "an integer"),
    ],
)
def test_ranges_are_told_as_far_as_they_are_declared(options, text):
    catalog = Catalog.from_json({"A": {"input": {"required": {"n": ["INT", options]}}}})
    with pytest.raises(EditError, match=f"takes {text}, not x$"):
        apply_edits(Prompt({"1": {"class_type": "A", "inputs": {}}}), {"1.n": RawValue("x")}, catalog)


def test_nodes_that_look_after_their_own_values_take_any():
    catalog = Catalog.from_json(
        {
            "Load3D": {"input": {"required": {"width": ["INT", {"max": 9}]}}},
            "LoadLatent": {"input": {"required": {"latent": [["a"]]}}},
        }
    )
    prompt = Prompt({"1": {"class_type": "Load3D", "inputs": {}}, "2": {"class_type": "LoadLatent", "inputs": {}}})
    nodes = apply_edits(prompt, {"1.width": 99, "2.latent": "b.latent"}, catalog).nodes
    assert nodes == {
        "1": {"class_type": "Load3D", "inputs": {"width": 99}},
        "2": {"class_type": "LoadLatent", "inputs": {"latent": "b.latent"}},
    }


def test_a_new_option_with_a_list_of_choices_starts_with_none():
    many = {"required": {"tags": ["COMBO", {"options": ["a"], "multiselect": True}], "file": [[]]}}
    options = [{"key": "x", "inputs": {}}, {"key": "y", "inputs": many}]
    catalog = Catalog.from_json({"A": {"input": {"required": {"m": ["COMFY_DYNAMICCOMBO_V3", {"options": options}]}}}})
    prompt = Prompt({"1": {"class_type": "A", "inputs": {"m": "x"}}})
    inputs = apply_edits(prompt, {"1.m": "y"}, catalog).nodes["1"]["inputs"]
    assert inputs == {"m": "y", "m.tags": {"__value__": []}}
