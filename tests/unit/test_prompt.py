"""The prompt as data."""

from __future__ import annotations

import pytest

from comfyclient.errors import WorkflowUnreadable
from comfyclient.workflow.prompt import ConversionWarning, Prompt, is_link


def test_titles_and_classes():
    prompt = Prompt.from_json(
        {
            "1": {"class_type": "A", "_meta": {"title": "Mine"}},
            "2": {"class_type": "B", "_meta": {"title": ""}},
            "3": {"class_type": "C", "_meta": {"title": 5}},
            "4": {"inputs": {}, "class_type": None},
        }
    )
    assert [prompt.title(node) for node in "12345"] == ["Mine", "B", "C", "", ""]
    assert [prompt.class_type(node) for node in "1245"] == ["A", "B", "", ""]
    assert prompt.nodes["4"] == {"inputs": {}}


def test_a_prompt_that_is_none():
    for obj in ([], None, "x", {"1": []}, {"1": {"class_type": 5}}, {"1": {"class_type": "A", "inputs": None}}):
        with pytest.raises(WorkflowUnreadable, match="here: "):
            Prompt.from_json(obj, source="here")


def test_the_nodes_are_copied():
    obj = {"1": {"class_type": "A", "inputs": {"x": 1}}}
    Prompt.from_json(obj).nodes["1"]["inputs"]["x"] = 2
    assert obj["1"]["inputs"] == {"x": 1}


@pytest.mark.parametrize("value", [["1", 0], ["57:12", -1], ["1", 0.0], ["1", True]])
def test_links_are_what_comfyui_takes_for_one(value):
    assert is_link(value)


@pytest.mark.parametrize(
    "value", [None, "x", [], ["1"], ["1", 0, 0], [1, 0], ["1", None], ["1", "0"], {"__value__": ["1", 0]}]
)
def test_no_links(value):
    assert not is_link(value)


def test_warnings_say_where():
    assert str(ConversionWarning("c", "is odd", "3", "seed")) == "node 3, input seed: is odd"
    assert str(ConversionWarning("c", "is odd", "3")) == "node 3: is odd"
    assert str(ConversionWarning("c", "all is odd")) == "all is odd"
    assert ConversionWarning("c", "is odd", "3").to_json() == {"code": "c", "message": "is odd", "node_id": "3"}
