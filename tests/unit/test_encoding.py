"""What is sent: never what stops a server."""

import json

import pytest

from comfyclient.encoding import encode_prompt
from comfyclient.errors import ConfigError, WorkflowError
from comfyclient.workflow.prompt import Prompt


def encode(nodes, workflow=None, *, client_id="c", extra_data=None):
    prompt, extra = Prompt(nodes, workflow), {} if extra_data is None else extra_data
    return json.loads(encode_prompt(prompt, prompt_id="x", client_id=client_id, extra_data=extra, front=False))


@pytest.mark.parametrize("slot", [0, 0.0, 1.5, True, False])
def test_a_link_to_a_node_that_is_not_there_is_not_sent(slot):
    nodes = {"1": {"class_type": "EmptyImage", "inputs": {"width": 8, "undeclared": ["2", slot]}}}
    with pytest.raises(WorkflowError, match=r"node 1 \(EmptyImage\), input undeclared: linked to node 2") as caught:
        encode(nodes)
    assert caught.value.node_id == "1"
    assert encode(nodes | {"2": {"class_type": "EmptyImage", "inputs": {}}})["prompt"]["1"] == nodes["1"]


def test_every_node_has_inputs_and_nothing_that_misleads_the_cache():
    sent = encode({"1": {"class_type": "A", "is_changed": [1], "_meta": {"title": "T"}}})
    assert sent["prompt"] == {"1": {"inputs": {}, "class_type": "A", "_meta": {"title": "T"}}}


def test_what_only_looks_like_a_link():
    for value in ([2, 0], ["2", "0"], ["2", None], ["2"], ["2", 0, 0], {"__value__": ["2", 0]}):
        assert encode({"1": {"class_type": "A", "inputs": {"a": value}}})["prompt"]["1"]["inputs"] == {"a": value}


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ({"1": {"inputs": {}}}, "node 1 cannot be sent: it has no class_type"),
        ({"1": {"class_type": ["A"], "inputs": {}}}, "it has no class_type"),
        ({"1": {"class_type": "A", "inputs": None}}, r"node 1 \(A\) cannot be sent: its inputs are no object"),
        ({"1": {"class_type": "A", "inputs": [1]}}, "its inputs are no object"),
        ({"1": None}, "node '1' cannot be sent: an id is a text, and a node an object"),
        ({1: {"class_type": "A", "inputs": {}}}, "node 1 cannot be sent: an id is a text"),
        ({"1": {"class_type": "A", "inputs": {"a": {1, 2}}}}, "the prompt cannot be sent"),
    ],
)
def test_what_is_no_node_is_not_sent(nodes, words):
    with pytest.raises(WorkflowError, match=words):
        encode(nodes)


NODES = {"1": {"class_type": "A", "inputs": {}}}


@pytest.mark.parametrize("info", [None, 5, [], {"workflow": None}, {"workflow": "x"}])
@pytest.mark.parametrize("workflow", [None, {"id": "a"}])
def test_what_breaks_the_list_of_jobs_is_not_sent_along(info, workflow):
    with pytest.raises(ConfigError, match="extra_pnginfo must be an object, and so must a workflow in it"):
        encode(NODES, workflow, extra_data={"extra_pnginfo": info})


def test_what_travels_along_is_an_object():
    for extra in ([], "x", 5):
        with pytest.raises(ConfigError, match="extra_data must be an object"):
            encode(NODES, extra_data=extra)
    with pytest.raises(WorkflowError, match="the workflow that travels along must be an object"):
        encode(NODES, ["workflow"])
    sent = encode(NODES, {"id": "a"}, extra_data={"extra_pnginfo": {"workflow": {"id": "b"}, "c": 1}})
    assert sent["extra_data"] == {"extra_pnginfo": {"workflow": {"id": "a"}, "c": 1}}


@pytest.mark.parametrize("client_id", [["a"], None, 5, {}])
def test_a_client_id_is_a_text(client_id):
    with pytest.raises(ConfigError, match="client_id must be a text"):
        encode(NODES, client_id=client_id)


def test_a_title_that_is_none_is_left_out():
    assert encode({"1": {"class_type": "A", "inputs": {}, "_meta": "T"}})["prompt"]["1"] == NODES["1"]
