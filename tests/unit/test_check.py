"""The check before sending says what the server would say, no more and no less."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyclient.errors import Problem
from comfyclient.workflow.catalog import Catalog
from comfyclient.workflow.check import check
from comfyclient.workflow.prompt import Prompt

Node = dict[str, Any]


@pytest.fixture(scope="module")
def core() -> Catalog:
    return Catalog.bundled()


CUSTOM = Catalog.from_json({
    "Source": {"input": {"required": {}}, "output": ["IMAGE", "A,B", "COMFY_MATCHTYPE_V3", "*", ["x", "y"]]},
    "Sink": {
        "input": {
            "required": {"image": ["IMAGE"]},
            "optional": {
                "b": ["B, C"],
                "c": ["C"],
                "any": ["*"],
                "matched": ["COMFY_MATCHTYPE_V3"],
                "lower": ["image"],
                "combo": [["x", "y"]],
                "text": ["STRING"],
                "int": ["INT", {"min": 0, "max": 2**64 - 1}],
                "float": ["FLOAT", {"min": 0.5, "max": 2}],
                "flag": ["BOOLEAN"],
                "many": ["COMBO", {"options": ["x", "y"], "multiselect": True}],
                "number": ["COMBO", {"options": [1, 2.5, "three"]}],
                "empty": [[]],
                "remote": ["COMBO", {"remote": {"route": "/r"}}],
                "upload": [["a.png"], {"image_upload": True}],
                "file": ["COMBO", {"options": ["a"], "file_upload": True}],
                "either": ["INT,FLOAT", {"min": 1}],
            },
        },
        "output": [],
        "output_node": True,
    },
    "Loop": {"input": {"required": {"a": ["*"]}, "optional": {"b": ["*"]}}, "output": ["*"]},
    "Dyn": {
        "input": {
            "required": {
                "mode": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "one", "inputs": {"required": {"n": ["INT", {"max": 5}]}}},
                            {
                                "key": "two",
                                "inputs": {
                                    "required": {
                                        "image": ["IMAGE"],
                                        "inner": ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "k", "inputs": {}}]}],
                                    }
                                },
                            },
                        ]
                    },
                ],
                "images": [
                    "COMFY_AUTOGROW_V3",
                    {"template": {"input": {"required": {"i": ["IMAGE"]}}, "prefix": "i", "min": 2, "max": 4}},
                ],
            },
            "optional": {"late": ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "k", "inputs": {}}]}]},
        },
        "output": ["IMAGE"],
        "output_node": True,
    },
})  # fmt: skip

GOOD: dict[str, Node] = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}, "_meta": {"title": "Flip"}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
}


def altered(**changes: Any) -> dict[str, Node]:
    """The good prompt with ``n1={"width": …}`` for node 1; `None` as value takes the input away."""
    nodes = copy.deepcopy(GOOD)
    for key, inputs in changes.items():
        for name, value in inputs.items():
            if value is None:
                del nodes[key[1:]]["inputs"][name]
            else:
                nodes[key[1:]]["inputs"][name] = value
    return nodes


def found(nodes: dict[str, Node], catalog: Catalog) -> list[tuple[str, str | None, str | None]]:
    before = copy.deepcopy(nodes)
    problems = check(Prompt(nodes), catalog)
    assert nodes == before
    assert all("\n" not in str(problem) for problem in problems)
    return [(problem.code, problem.node_id, problem.input) for problem in problems]


def sink(**inputs: Any) -> list[tuple[str, str | None]]:
    """What the check says about inputs of a `Sink` that is otherwise well."""
    nodes = {
        "s": {"class_type": "Source", "inputs": {}},
        "k": {"class_type": "Sink", "inputs": {"image": ["s", 0], **inputs}},
    }
    return [(code, name) for code, _, name in found(nodes, CUSTOM)]


def test_a_good_prompt(core):
    assert found(GOOD, core) == []


def test_all_problems_at_once_with_where_and_what(core):
    nodes = altered(n1={"width": 0, "height": "tall"}, n2={"image": None}, n3={"filename_prefix": None})
    nodes["4"] = {"class_type": "Missing Pack Node", "inputs": {}, "_meta": {"title": "Fancy"}}
    nodes["5"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "y"}}
    assert found(nodes, core) == [
        ("value_smaller_than_min", "1", "width"),
        ("invalid_input_type", "1", "height"),
        ("required_input_missing", "2", "image"),
        ("required_input_missing", "3", "filename_prefix"),
        ("missing_node_type", "4", None),
    ]
    problems = check(Prompt(nodes), core)
    assert [str(problem) for problem in problems] == [
        "node 1 (EmptyImage), input width: 0 is smaller than the minimum 1",
        "node 1 (EmptyImage), input height: 'tall' is not an integer",
        "node 2 (Flip), input image: is required and missing (a link to an output of type IMAGE)",
        "node 3 (SaveImage), input filename_prefix: is required and missing",
        "node 4 (Fancy): the instance has no node class 'Missing Pack Node' (is its custom node pack installed there?)",
    ]
    assert problems[0] == Problem(
        "value_smaller_than_min", "0 is smaller than the minimum 1", "1", "EmptyImage", "EmptyImage", "width"
    )


def test_no_output(core):
    assert found({}, core) == [("prompt_no_outputs", None, None)]
    assert found({"1": GOOD["1"], "2": GOOD["2"]}, core) == [("prompt_no_outputs", None, None)]


def test_only_what_an_output_depends_on_is_checked_except_for_its_class(core):
    stray = {"7": {"class_type": "ImageInvert", "inputs": {}}, "8": {"class_type": "Gone", "inputs": {"x": ["99", 0]}}}
    assert found(GOOD | stray, core) == [("missing_node_type", "8", None)]


def test_behind_an_unknown_class_the_search_goes_on(core):
    nodes = {
        "1": {"class_type": "EmptyImage", "inputs": {}},
        "2": {"class_type": "Gone", "inputs": {"anything": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 5], "filename_prefix": "x"}},
    }
    codes = found(nodes, core)
    assert ("missing_node_type", "2", None) in codes
    assert ("required_input_missing", "1", "width") in codes
    assert not any(node == "3" for _, node, _ in codes), "what an unknown class gives is not known"
    del nodes["3"]
    assert ("required_input_missing", "1", "width") in found(nodes, core), "it may be the output itself"


def test_a_node_without_any_class(core):
    nodes = GOOD | {"9": {"inputs": {}, "_meta": {"title": "Lost"}}}
    assert [str(problem) for problem in check(Prompt(nodes), core)] == [
        "node 9 (Lost): has no node class (is its custom node pack installed there?)"
    ]


@pytest.mark.parametrize("value", [1, "1", 1.9, True, "18446744073709551615", " 7 ", {"__value__": "7"}, float(2**60)])
def test_integers_that_the_server_takes(value):
    assert sink(int=value) == []


@pytest.mark.parametrize("value", ["1.5", "", "x", None, {}, {"a": 1}, {"__value__": [1]}, float("nan"), float("inf")])
def test_integers_that_it_does_not(value):
    assert sink(int=value) == [("invalid_input_type", "int")]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (-1, "value_smaller_than_min"),
        (2**64, "value_bigger_than_max"),
        ("-1", "value_smaller_than_min"),
        (-0.5, None),  # becomes 0
    ],
)
def test_the_range_is_checked_after_conversion(value, code):
    assert sink(int=value) == ([(code, "int")] if code else [])


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("1.5", None),
        (True, None),
        ("nan", None),  # compares with nothing
        (0.49, "value_smaller_than_min"),
        ("inf", "value_bigger_than_max"),
        (None, "invalid_input_type"),
        ("fast", "invalid_input_type"),
        (10**400, "invalid_input_type"),
    ],
)
def test_numbers(value, code):
    assert sink(float=value) == ([(code, "float")] if code else [])


@pytest.mark.parametrize("value", ["x", 1, None, True, {"a": 1}, {"__value__": [1, 2]}])
def test_any_literal_is_a_text_or_a_truth_value(value):
    assert sink(text=value, flag=value) == []


@pytest.mark.parametrize(
    ("inputs", "codes"),
    [
        ({"combo": "x"}, []),
        ({"combo": "z"}, ["value_not_in_list"]),
        ({"combo": "X"}, ["value_not_in_list"]),
        ({"combo": None}, ["value_not_in_list"]),
        ({"combo": "elsewhere.png [output]"}, []),
        ({"number": 2.5}, []),
        ({"number": 1.0}, []),
        ({"number": "1"}, ["value_not_in_list"]),
        ({"many": {"__value__": ["x", "y"]}}, []),
        ({"many": {"__value__": []}}, []),
        ({"many": {"__value__": ["x", "z"]}}, ["value_not_in_list"]),
        ({"many": "x"}, []),
        ({"many": "z"}, ["value_not_in_list"]),
        ({"empty": "model.safetensors"}, []),
        ({"remote": "whatever"}, []),
        ({"upload": "uploaded since.png"}, []),
        ({"upload": None}, ["invalid_input_type"]),
        ({"file": "uploaded since.glb"}, []),
        ({"either": 1}, []),
        ({"either": 0}, ["value_smaller_than_min"]),
        ({"either": "2"}, ["invalid_input_type"]),
        ({"undeclared": object}, []),
    ],
)
def test_choices_and_other_literals(inputs, codes):
    assert [
        code for code, _ in sink(**{name: "o" if value is object else value for name, value in inputs.items()})
    ] == codes


def test_close_choices_are_named(core):
    nodes = altered()
    nodes["2"] = {
        "class_type": "ImageScale",
        "inputs": {"image": ["1", 0], "upscale_method": "lancos", "width": 1, "height": 1, "crop": "disabled"},
    }
    (problem,) = check(Prompt(nodes), core)
    assert problem.details == "choices: 'nearest-exact', 'bilinear', 'area', 'bicubic', 'lanczos'"


@pytest.mark.parametrize(
    ("name", "slot", "good"),
    [
        ("image", 0, True),
        ("lower", 0, False),
        ("b", 1, True),
        ("c", 1, False),
        ("any", 1, True),
        ("matched", 1, True),
        ("c", 2, True),
        ("c", 3, True),
        ("combo", 4, True),
        ("text", 4, False),
        ("combo", 0, False),
        ("any", -1, True),
        ("any", -5, True),
    ],
)
def test_types_of_links(name, slot, good):
    assert sink(**{name: ["s", slot]}) == ([] if good else [("return_type_mismatch", name)])


@pytest.mark.parametrize(
    "value",
    [["nope", 0], ["s", 5], ["s", -6], ["s", "0"], ["s", None], ["s", 0.0], [1, 0], [[], 0], [], ["s"], ["s", 0, 0]],
)
def test_bad_links(value):
    assert sink(any=value) == [("bad_linked_input", "any")]


def test_a_link_with_a_number_as_node_id_says_so():
    nodes = {"1": {"class_type": "Source", "inputs": {}}, "2": {"class_type": "Sink", "inputs": {"image": [1, 0]}}}
    (problem,) = check(Prompt(nodes), CUSTOM)
    assert problem.details == "node ids are texts"


@pytest.mark.parametrize("slot", [0, 1.5])
def test_a_dangling_link_of_an_undeclared_input_is_found_wherever_the_server_would_follow_it(slot):
    assert sink(undeclared=["nope", slot]) == [("bad_linked_input", "undeclared")]
    nodes = {
        "s": {"class_type": "Source", "inputs": {}},
        "t": {"class_type": "Source", "inputs": {"also": ["gone", slot]}},
        "k": {"class_type": "Sink", "inputs": {"image": ["s", 0], "undeclared": ["t", slot]}},
        "stray": {"class_type": "Source", "inputs": {"also": ["gone", slot]}},
    }
    assert found(nodes, CUSTOM) == [("bad_linked_input", "t", "also")]


def dyn(**inputs: Any) -> list[tuple[str, str | None]]:
    images = {"images.i0": ["s", 0], "images.i1": ["s", 0]}
    nodes = {"s": {"class_type": "Source", "inputs": {}}, "d": {"class_type": "Dyn", "inputs": {**images, **inputs}}}
    return [(code, name) for code, _, name in found(nodes, CUSTOM)]


def test_inputs_of_a_dynamic_combo_depend_on_its_option():
    assert dyn(**{"mode": "one", "mode.n": 5}) == []
    assert dyn(**{"mode": "one", "mode.n": 6}) == [("value_bigger_than_max", "mode.n")]
    assert dyn(mode="one") == [("required_input_missing", "mode.n")]
    assert dyn(**{"mode": "two", "mode.image": ["s", 0], "mode.n": "ignored"}) == []
    assert dyn(**{"mode": "two", "mode.image": ["s", 1]}) == [("return_type_mismatch", "mode.image")]


def test_a_dynamic_combo_without_a_valid_option_fails_only_where_the_node_needs_it():
    assert dyn(mode="three") == [("value_not_in_list", "mode")]
    assert dyn() == [("required_input_missing", "mode")]
    assert dyn(**{"mode": "one", "mode.n": 1, "late": "gone"}) == []
    assert dyn(**{"mode": "two", "mode.image": ["s", 0], "mode.inner": "gone"}) == []
    assert dyn(mode=["s", 0]) == []
    assert dyn(mode=["nope", 0]) == [("bad_linked_input", "mode")]


def test_growing_lists_need_their_minimum():
    nodes = {
        "s": {"class_type": "Source", "inputs": {}},
        "d": {
            "class_type": "Dyn",
            "inputs": {"mode": "one", "mode.n": 1, "images.i1": ["s", 0], "images.i3": ["s", 1]},
        },
    }
    assert found(nodes, CUSTOM) == [
        ("required_input_missing", "d", "images.i0"),
        ("return_type_mismatch", "d", "images.i3"),
    ]


def test_cycles_are_told_in_the_direction_of_the_data():
    nodes = {
        "a": {"class_type": "Loop", "inputs": {"a": ["b", 0]}},
        "b": {"class_type": "Loop", "inputs": {"a": ["c", 0], "b": ["b", 0]}},
        "c": {"class_type": "Loop", "inputs": {"a": ["a", 0]}},
        "k": {"class_type": "Sink", "inputs": {"image": ["a", 0]}},
    }
    assert {str(problem) for problem in check(Prompt(nodes), CUSTOM)} == {
        "node a (Loop): depends on its own output: node a (Loop) → node c (Loop) → node b (Loop) → node a (Loop)",
        "node b (Loop): depends on its own output: node b (Loop) → node b (Loop)",
    }


def test_a_diamond_is_no_cycle():
    nodes = {
        "s": {"class_type": "Source", "inputs": {}},
        "l": {"class_type": "Loop", "inputs": {"a": ["s", 0]}},
        "r": {"class_type": "Loop", "inputs": {"a": ["s", 0], "b": ["l", 0]}},
        "k": {"class_type": "Sink", "inputs": {"image": ["r", 0], "any": ["l", 0]}},
    }
    assert found(nodes, CUSTOM) == []


def chain(length: int) -> dict[str, Node]:
    nodes: dict[str, Node] = {"0": {"class_type": "Source", "inputs": {}}}
    for number in range(1, length):
        nodes[str(number)] = {"class_type": "Loop", "inputs": {"a": [str(number - 1), 0]}}
    nodes["end"] = {"class_type": "Sink", "inputs": {"image": [str(length - 1), 0]}}
    return nodes


def test_long_chains_and_long_cycles():
    nodes = chain(10_000)
    assert found(nodes, CUSTOM) == []
    nodes["1"]["inputs"]["a"] = ["9999", 0]
    (problem,) = check(Prompt(nodes), CUSTOM)
    assert problem.code == "dependency_cycle"
    assert "(9999 nodes)" in problem.message
    assert len(problem.message) < 500


def test_the_work_grows_with_the_prompt_and_not_faster():
    def calls(length: int) -> int:
        """How many calls the check makes."""
        count = 0

        def note(*_: object) -> None:
            nonlocal count
            count += 1

        prompt = Prompt(chain(length))
        sys.setprofile(note)
        try:
            check(prompt, CUSTOM)
        finally:
            sys.setprofile(None)
        return count

    assert calls(4_000) < 2.1 * calls(2_000)


def test_many_cycles_are_not_all_written_out():
    nodes = {str(number): {"class_type": "Loop", "inputs": {"a": [str(number), 0]}} for number in range(100)}
    nodes |= {f"k{number}": {"class_type": "Sink", "inputs": {"image": [str(number), 0]}} for number in range(100)}
    assert len(check(Prompt(nodes), CUSTOM)) == 10


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["a", "b", "x", "one", "two", "1", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["__value__"]), inner, max_size=2),
    max_leaves=4,
)
names = st.sampled_from([
    *CUSTOM["Sink"].raw["input"]["optional"], "image", "a", "mode", "mode.n", "mode.image", "images.i0", "zz",
])  # fmt: skip
nodes_strategy = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.fixed_dictionaries(
        {
            "class_type": st.sampled_from(["Source", "Sink", "Loop", "Dyn", "Gone"]),
            "inputs": st.dictionaries(
                names, values | st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(-1, 4)).map(list), max_size=6
            ),
        }
    ),
    max_size=3,
)


@settings(max_examples=500, deadline=None)
@given(nodes_strategy)
def test_any_prompt_is_checked_without_an_exception(nodes):
    for code, node_id, _name in found(nodes, CUSTOM):
        assert code
        assert node_id is None or node_id in nodes


def test_of_many_choices_the_close_ones_are_told(core):
    nodes = altered()
    inputs = {"channel": "red", "image": "x.png"}
    nodes["2"] = {"class_type": "LoadImageMask", "inputs": inputs}
    nodes["4"] = {"class_type": "MaskToImage", "inputs": {"mask": ["2", 0]}}
    nodes["3"]["inputs"]["images"] = ["4", 0]
    assert found(nodes, core) == []
    catalog = Catalog.from_json(
        {"A": {"input": {"required": {"x": [[f"model_{n}.safetensors" for n in range(40)]]}}, "output_node": True}}
    )
    (problem,) = check(Prompt({"1": {"class_type": "A", "inputs": {"x": "modl_7.safetensors"}}}), catalog)
    assert problem.details is not None
    assert problem.details.startswith("40 choices, close: 'model_7.safetensors'")
