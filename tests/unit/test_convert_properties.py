"""Whatever the file holds, the conversion ends with a prompt that makes sense, or with a WorkflowError."""

import copy
import gzip
import json
import random
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfyclient.errors import WorkflowError
from comfyclient.workflow.catalog import Catalog
from comfyclient.workflow.convert import convert
from comfyclient.workflow.convert.javascript import js_value

CASES = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "conversion_cases.json.gz").read_bytes()))
CATALOG = Catalog.from_json(CASES["object_info"])
WORKFLOWS = [case["workflow"] for case in CASES["cases"]]

HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["-10", "-20", "1", "__proto__", "*", "COMBO", [], {}, [[]], [None], {"a": 1}, [1, 0], -10, -20, 1e400]
    ),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
RELEASE = st.sampled_from(["1.27", "1.49", "1.58"])


def places(value, path=()):
    """Every path in a JSON value."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


@st.composite
def damaged(draw):
    """A real workflow with a few values replaced, removed or doubled."""
    workflow = copy.deepcopy(draw(st.sampled_from(WORKFLOWS)))
    for _ in range(draw(st.integers(1, 4))):
        spots = [path for path in places(workflow) if path]
        path = draw(st.sampled_from(spots))
        parent = workflow
        for step in path[:-1]:
            parent = parent[step]
        action = draw(st.sampled_from(["replace", "remove", "double"]))
        if action == "replace":
            parent[path[-1]] = draw(HOSTILE)
        elif action == "remove":
            del parent[path[-1]]
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[path[-1]]))
    return workflow


def check(workflow, release):
    before = json.dumps(workflow)
    try:
        prompt = convert(workflow, CATALOG, frontend=release, rng=random.Random(1))
    except WorkflowError:
        return
    assert json.dumps(workflow) == before, "the file's data was changed"
    assert prompt.nodes == convert(workflow, CATALOG, frontend=release, rng=random.Random(1)).nodes
    json.dumps(prompt.nodes, allow_nan=False)
    for node in prompt.nodes.values():
        assert isinstance(node["class_type"], str)
        for value in node["inputs"].values():
            if isinstance(value, list):
                assert len(value) == 2
                assert value[0] in prompt.nodes
                assert isinstance(value[1], int)
    if prompt.nodes:
        assert convert(prompt.nodes, CATALOG).nodes == prompt.nodes


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(damaged(), RELEASE)
def test_damaged_workflows(workflow, release):
    check(workflow, release)


NODE_TYPES = [*sorted(CATALOG), "Reroute", "PrimitiveNode", "SetNode", "GetNode", "Note", "NoSuch", "S1", "S2"]


@st.composite
def graphs(draw, depth=2):
    count = draw(st.integers(0, 6))
    kinds = st.sampled_from(NODE_TYPES)
    nodes = [
        {
            "id": draw(st.integers(-1, 8)),
            "type": draw(kinds),
            "mode": draw(st.sampled_from([0, 0, 0, 2, 4, None])),
            "inputs": [
                {
                    "name": draw(st.sampled_from(["image", "n", "seed", "", "mode.img"])),
                    "type": "*",
                    "link": draw(st.integers(0, 9)),
                }
                for _ in range(draw(st.integers(0, 2)))
            ],
            "outputs": [{"name": "o", "type": "*", "links": draw(st.lists(st.integers(0, 9), max_size=3))}],
            "properties": {"proxyWidgets": [[str(draw(st.integers(0, 8))), "n"]]} if draw(st.booleans()) else {},
            "widgets_values": draw(st.lists(st.one_of(st.integers(), st.text(max_size=4), st.none()), max_size=6)),
        }
        for _ in range(count)
    ]
    ends = st.integers(-1, 8) if depth == 2 else st.sampled_from([-10, -20, *range(8)])
    links = [[n, draw(ends), draw(st.integers(0, 2)), draw(ends), draw(st.integers(0, 3)), "*"] for n in range(10)]
    made = {"nodes": nodes, "links": links, "version": 0.4}
    if depth == 2:
        made["definitions"] = {
            "subgraphs": [
                {
                    **draw(graphs(depth=1)),
                    "id": name,
                    "inputs": [{"name": "n", "type": "*", "linkIds": draw(st.lists(st.integers(0, 9), max_size=3))}],
                    "outputs": [{"name": "o", "type": "*", "linkIds": draw(st.lists(st.integers(0, 9), max_size=2))}],
                }
                for name in ("S1", "S2")
            ]
        }
    return made


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), RELEASE)
def test_generated_graphs(workflow, release):
    check(workflow, release)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


@given(JSON)
def test_numbers_and_key_order_settle_after_one_pass(value):
    once = js_value(value)
    assert json.dumps(js_value(once), allow_nan=False) == json.dumps(once, allow_nan=False)
