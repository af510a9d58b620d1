"""The conversion against what the official frontend really made."""

import datetime as dt
import gzip
import hashlib
import importlib.util
import json
import random
from pathlib import Path

import pytest

from comfyclient.errors import ConfigError, WorkflowError
from comfyclient.workflow.catalog import Catalog
from comfyclient.workflow.convert import convert
from comfyclient.workflow.convert.releases import RELEASES, rules_for
from comfyclient.workflow.convert.text import dynamic_prompt, format_date

DATA = Path(__file__).parents[1] / "data"
CASES = json.loads(gzip.decompress((DATA / "conversion_cases.json.gz").read_bytes()))
CASE_CATALOG = Catalog.from_json(CASES["object_info"])
BY_NAME = {case["name"]: case for case in CASES["cases"]}


def observed():
    for release in RELEASES:
        for case in CASES["cases"]:
            if "output" in case["expected"].get(release, {}):
                yield pytest.param(release, case, id=f"{release}-{case['name']}")


def unclassed(prompt):
    """A prompt without the class of unknown nodes: the page leaves it out, which no server runs, and we name it."""
    return {
        key: {name: value for name, value in node.items() if name != "class_type" or value in CASE_CATALOG}
        for key, node in prompt.items()
    }


@pytest.mark.parametrize(("release", "case"), list(observed()))
def test_case_equals_the_frontends_prompt_to_the_byte(release, case):
    expected = unclassed(case["expected"][release]["output"])
    actual = unclassed(convert(case["workflow"], CASE_CATALOG, frontend=release).nodes)
    assert actual == expected
    assert json.dumps(actual) == json.dumps(expected)


@pytest.mark.parametrize("release", list(RELEASES))
def test_where_the_frontend_throws_we_convert_and_warn(release):
    threw = [case for case in CASES["cases"] if "error" in case["expected"].get(release, {})]
    assert threw
    for case in threw:
        prompt = convert(case["workflow"], CASE_CATALOG, frontend=release)
        for node in prompt.nodes.values():
            links = [value for value in node["inputs"].values() if isinstance(value, list)]
            assert all(link[0] in prompt.nodes for link in links), case["name"]


# --- the templates that ComfyUI ships ---------------------------------------------------------------------------------


def template_folder():
    found = importlib.util.find_spec("comfyui_workflow_templates_json")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the package comfyui-workflow-templates-json==0.1.50: pip install 'comfyclient[test]'")
    return Path(found.submodule_search_locations[0]) / "templates"


def templates():
    lines = gzip.decompress((DATA / "templates-0.1.50_frontend-1.49.jsonl.gz").read_bytes()).splitlines()
    return {entry["name"]: entry["prompt"] for entry in map(json.loads, lines)}


def digested(value):
    """Long texts as digests, as the golden data has them."""
    if isinstance(value, str) and len(value) > 64:
        return {"$sha256": hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest(), "length": len(value)}
    if isinstance(value, list):
        return [digested(item) for item in value]
    if isinstance(value, dict):
        return {key: digested(item) for key, item in value.items()}
    return value


def as_golden(nodes, catalog):
    golden = {}
    for key, node in nodes.items():
        inputs = {n: v for n, v in node["inputs"].items() if n != "image" or "Load3D" not in node["class_type"]}
        entry = {"inputs": digested(inputs)}
        if node["class_type"] in catalog:
            entry["class_type"] = node["class_type"]
        if "title" in node["_meta"]:
            entry["title"] = digested(node["_meta"]["title"])
        golden[key] = entry
    return golden


def test_all_506_shipped_templates_equal_the_frontends_prompt():
    folder, catalog = template_folder(), Catalog.bundled()
    wrong = []
    expected = templates()
    for name, golden in expected.items():
        workflow = json.loads((folder / f"{name}.json").read_bytes())
        actual = as_golden(convert(workflow, catalog, frontend="1.49").nodes, catalog)
        if json.dumps(actual) != json.dumps(golden):
            wrong.append(name)
    assert len(expected) == 506
    assert wrong == []


def test_origins_lead_to_the_values_in_the_file():
    folder, catalog = template_folder(), Catalog.bundled()
    checked = 0
    for name in list(templates())[::5]:
        workflow = json.loads((folder / f"{name}.json").read_bytes())
        prompt = convert(workflow, catalog, frontend="1.49")
        for node_id, origins in prompt.origins.items():
            for input_name, path in origins.items():
                value = workflow
                for step in path:
                    value = value[step]
                emitted = prompt.nodes[node_id]["inputs"][input_name]
                if isinstance(value, int | float) and not isinstance(value, bool):
                    assert emitted == pytest.approx(value, rel=1e-9), (name, node_id, input_name, path)
                    checked += 1
    assert checked > 500


# --- what the cases do not hold ---------------------------------------------------------------------------------------


def node(node_id, kind, *, inputs=(), outputs=(), values=None, **more):
    return {
        "id": node_id,
        "type": kind,
        "mode": 0,
        "inputs": [{"name": n, "type": t, "link": link} for n, t, link in inputs],
        "outputs": [{"name": t, "type": t, "links": links} for t, links in outputs],
        "properties": {},
        "widgets_values": values or [],
        **more,
    }


def graph(nodes, links, **more):
    return {"last_node_id": 99, "nodes": nodes, "links": links, "version": 0.4, **more}


def image_chain(through):
    """EmptyImage 1 → ``through`` (node 2, IMAGE in and out) → PreviewImage 3."""
    return graph(
        [
            node(1, "EmptyImage", outputs=[("IMAGE", [1])], values=[64, 64, 1, 0]),
            through,
            node(3, "PreviewImage", inputs=[("images", "IMAGE", 2)]),
        ],
        [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
    )


@pytest.mark.parametrize("kind", ["Reroute", "Reroute (rgthree)", "SetNode"])
def test_nodes_of_the_page_pass_their_input_on(kind):
    workflow = image_chain(node(2, kind, inputs=[("", "*", 1)], outputs=[("IMAGE", [2])], values=["name"]))
    prompt = convert(workflow, Catalog.bundled())
    assert prompt.nodes["3"]["inputs"] == {"images": ["1", 0]}
    assert "2" not in prompt.nodes
    assert prompt.warnings == ()


def test_a_get_node_reads_the_set_node_of_its_name():
    workflow = graph(
        [
            node(1, "EmptyImage", outputs=[("IMAGE", [1])], values=[64, 64, 1, 0]),
            node(2, "SetNode", inputs=[("IMAGE", "IMAGE", 1)], outputs=[("*", [])], values=["picture"]),
            node(3, "GetNode", outputs=[("IMAGE", [2])], values=["picture"]),
            node(4, "PreviewImage", inputs=[("images", "IMAGE", 2)]),
            node(5, "GetNode", outputs=[("IMAGE", [3])], values=["nothing"]),
            node(6, "PreviewImage", inputs=[("images", "IMAGE", 3)]),
        ],
        [[1, 1, 0, 2, 0, "IMAGE"], [2, 3, 0, 4, 0, "IMAGE"], [3, 5, 0, 6, 0, "IMAGE"]],
    )
    prompt = convert(workflow, Catalog.bundled())
    assert prompt.nodes["4"]["inputs"] == {"images": ["1", 0]}
    assert prompt.nodes["6"]["inputs"] == {}
    assert [(w.code, w.node_id, w.input) for w in prompt.warnings] == [("unresolved_link", "6", "images")]


def test_use_everywhere_connects_what_it_saved():
    workflow = graph(
        [
            node(1, "EmptyImage", outputs=[("IMAGE", [])], values=[64, 64, 1, 0]),
            node(2, "ImageBlend", inputs=[("image1", "IMAGE", 1)], outputs=[("IMAGE", [])], values=[0.5, "normal"]),
            node(3, "EmptyImage", outputs=[("IMAGE", [1])], values=[64, 64, 1, 7]),
        ],
        [[1, 3, 0, 2, 0, "IMAGE"]],
        extra={
            "ue_links": [
                {"upstream": "1", "upstream_slot": 0, "downstream": 2, "downstream_slot": slot, "type": "IMAGE"}
                for slot in (0, 1, 2, 99)
            ]
        },
    )
    prompt = convert(workflow, Catalog.bundled())
    assert prompt.nodes["2"]["inputs"] == {
        "blend_factor": 0.5,
        "blend_mode": "normal",
        "image1": ["3", 0],
        "image2": ["1", 0],
    }
    assert [(w.code, w.input) for w in prompt.warnings] == [("stale_link", "blend_factor")]


def test_a_set_node_around_two_uses_of_a_subgraph_feeds_both():
    inner = {
        "id": "S",
        "inputs": [],
        "outputs": [],
        "nodes": [
            node(20, "GetNode", outputs=[("IMAGE", [1])], values=["picture"]),
            node(21, "PreviewImage", inputs=[("images", "IMAGE", 1)]),
        ],
        "links": [{"id": 1, "origin_id": 20, "origin_slot": 0, "target_id": 21, "target_slot": 0, "type": "IMAGE"}],
    }
    workflow = graph(
        [
            node(1, "EmptyImage", outputs=[("IMAGE", [1])], values=[64, 64, 1, 0]),
            node(2, "SetNode", inputs=[("IMAGE", "IMAGE", 1)], values=["picture"]),
            node(3, "S"),
            node(4, "S"),
        ],
        [[1, 1, 0, 2, 0, "IMAGE"]],
        definitions={"subgraphs": [inner]},
    )
    prompt = convert(workflow, Catalog.bundled())
    assert prompt.nodes["3:21"]["inputs"] == prompt.nodes["4:21"]["inputs"] == {"images": ["1", 0]}


def test_a_reroute_loop_ends_with_a_warning():
    loop = graph(
        [
            node(1, "Reroute", inputs=[("", "*", 2)], outputs=[("*", [1, 3])]),
            node(2, "Reroute", inputs=[("", "*", 1)], outputs=[("*", [2])]),
            node(3, "PreviewImage", inputs=[("images", "IMAGE", 3)]),
        ],
        [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 1, 0, "*"], [3, 1, 0, 3, 0, "*"]],
    )
    prompt = convert(loop, Catalog.bundled())
    assert prompt.nodes["3"]["inputs"] == {}
    assert [w.code for w in prompt.warnings] == ["unresolved_link"]


def test_unknown_classes_are_named_and_warned_about():
    prompt = convert(image_chain(node(2, "NoSuchNode", inputs=[("image", "IMAGE", 1)], values=[7])), Catalog.bundled())
    assert prompt.nodes["2"]["class_type"] == "NoSuchNode"
    assert [(w.code, w.node_id) for w in prompt.warnings] == [("unknown_class", "2")]


def test_a_subgraph_that_contains_itself_is_an_error():
    inner = {"id": "A", "nodes": [node(5, "B")], "links": [], "inputs": [], "outputs": []}
    other = {"id": "B", "nodes": [node(6, "A")], "links": [], "inputs": [], "outputs": []}
    workflow = graph([node(1, "A")], [], definitions={"subgraphs": [inner, other]})
    with pytest.raises(WorkflowError, match="contains itself"):
        convert(workflow, Catalog.bundled())


def test_subgraphs_that_multiply_are_refused_before_they_fill_the_memory():
    definitions = [
        {"id": f"D{n}", "nodes": [node(100 * n + k, f"D{n + 1}") for k in range(10)], "links": []} for n in range(9)
    ]
    definitions.append({"id": "D9", "nodes": [node(9999, "EmptyImage")], "links": []})
    workflow = graph([node(1, "D0")], [], definitions={"subgraphs": definitions})
    with pytest.raises(WorkflowError, match="expands to more than"):
        convert(workflow, Catalog.bundled())


def test_ten_thousand_nodes_in_a_chain():
    count = 10_000
    nodes = [node(1, "EmptyImage", outputs=[("IMAGE", [1])], values=[8, 8, 1, 0])]
    nodes += [
        node(i, "ImageInvert" if i % 3 else "Reroute", inputs=[("image", "IMAGE", i - 1)], outputs=[("IMAGE", [i])])
        for i in range(2, count)
    ]
    nodes.append(node(count, "PreviewImage", inputs=[("images", "IMAGE", count - 1)]))
    links = [[i, i, 0, i + 1, 0, "IMAGE"] for i in range(1, count)]
    prompt = convert(graph(nodes, links), Catalog.bundled())
    assert len(prompt.nodes) == count - sum(1 for i in range(2, count) if i % 3 == 0)
    assert prompt.nodes[str(count)]["inputs"] == {"images": [str(count - 1 if (count - 1) % 3 else count - 2), 0]}


def test_dates_and_values_in_file_name_prefixes():
    workflow = image_chain(node(2, "ImageInvert", inputs=[("image", "IMAGE", 1)], outputs=[("IMAGE", [2])]))
    workflow["nodes"][2] = node(
        3, "SaveImage", inputs=[("images", "IMAGE", 2)], values=["%date:yyyy-MM-dd%/%EmptyImage.width%_%width%_%No.x%"]
    )
    prompt = convert(workflow, Catalog.bundled(), now=dt.datetime(2026, 3, 4, 5, 6, 7))
    assert prompt.nodes["3"]["inputs"]["filename_prefix"] == "2026-03-04/64_%width%_%No.x%"


@pytest.mark.parametrize(
    ("pattern", "shown"),
    [("d.M.yy", "4.3.26"), ("dd.MM.yyyy", "04.03.2026"), ("h:m:s", "5:6:7"), ("hhmmss", "050607"), ("yyy", "yyy")],
)
def test_date_patterns(pattern, shown):
    assert format_date(pattern, dt.datetime(2026, 3, 4, 5, 6, 7)) == shown


def test_dynamic_prompts_choose_and_a_seeded_choice_repeats():
    text = r"a {red|green|{dark |}blue} \{fox\} // comment"
    picks = {dynamic_prompt(text, random.Random(n)) for n in range(60)}
    assert picks == {f"a {colour} {{fox}} " for colour in ("red", "green", "dark blue", "blue")}
    assert dynamic_prompt(text, random.Random(5)) == dynamic_prompt(text, random.Random(5))


@pytest.mark.parametrize(
    ("asked", "used"),
    [
        (None, "1.58"),
        ("1.58", "1.58"),
        ("1.49.6", "1.49"),
        ("v1.50", "1.49"),
        ("1.99.0", "1.58"),
        ("0.9", "1.27"),
        ("2.0", "1.58"),
    ],
)
def test_an_unknown_release_is_the_nearest_known_one_below(asked, used):
    assert rules_for(asked).release == used


def test_a_release_that_is_no_number_is_an_error():
    with pytest.raises(ConfigError, match="no release"):
        rules_for("newest")


@pytest.mark.parametrize("limits", [{"min": 10**9}, {"max": 10**9}, {"min": 10**9, "max": 10**9}])
def test_a_hostile_definition_cannot_make_a_list_grow_for_ever(limits):
    template = {"input": {"required": {"v": ["STRING", {}]}}, "prefix": "v", **limits}
    definition = {"input": {"required": {"list": ["COMFY_AUTOGROW_V3", {"template": template}]}}, "output": []}
    catalog = Catalog.from_json({"Hostile": definition})
    prompt = convert(graph([node(1, "Hostile")], []), catalog)
    assert len(prompt.nodes["1"]["inputs"]) <= 1001
    assert len(list(catalog["Hostile"].live_inputs({}))) <= 1000
