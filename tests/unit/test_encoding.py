"""What is sent: never what stops a server."""

import json

import pytest

from comfyclient.encoding import encode_prompt
from comfyclient.errors import WorkflowError
from comfyclient.workflow.prompt import Prompt


def encode(nodes):
    return json.loads(encode_prompt(Prompt(nodes), prompt_id="x", client_id="c", extra_data={}, front=False))


def test_a_link_to_a_node_that_is_not_there_is_not_sent():
    nodes = {"1": {"class_type": "EmptyImage", "inputs": {"width": 8, "undeclared": ["2", 0]}}}
    with pytest.raises(WorkflowError, match=r"node 1 \(EmptyImage\), input undeclared: linked to node 2") as caught:
        encode(nodes)
    assert caught.value.node_id == "1"
    assert encode(nodes | {"2": {"class_type": "EmptyImage", "inputs": {}}})["prompt"]["1"] == nodes["1"]


def test_every_node_has_inputs_and_nothing_that_misleads_the_cache():
    sent = encode({"1": {"class_type": "A", "is_changed": [1], "_meta": {"title": "T"}}})
    assert sent["prompt"] == {"1": {"inputs": {}, "class_type": "A", "_meta": {"title": "T"}}}
