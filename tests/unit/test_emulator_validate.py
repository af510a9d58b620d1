"""The emulator's validation: any JSON gets an answer, and dynamic inputs are seen as the server sees them."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyclient.emulator.catalog_view import CatalogView
from comfyclient.emulator.folders import Folders
from comfyclient.emulator.jsontext import server_json
from comfyclient.emulator.nodes import NODES
from comfyclient.emulator.schema import live_inputs
from comfyclient.emulator.validate import ServerTroubleError, validate
from comfyclient.workflow.catalog import Catalog

from .emulator_client import emulated, node, picture

CATALOG = Catalog.bundled()
CLASSES = [
    "EmptyImage",
    "SaveImage",
    "ImageScale",
    "LoadImage",
    "KSampler",
    "PreviewAny",
    "ComfyMathExpression",
    "SaveVideo",
    "Nope",
]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
links = st.tuples(st.sampled_from("0123x"), st.integers(-2, 3)).map(list)
names = st.sampled_from(
    [
        "images",
        "image",
        "width",
        "height",
        "color",
        "batch_size",
        "filename_prefix",
        "source",
        "values.a",
        "expression",
        "format",
        "codec",
        "upscale_method",
        "seed",
        "__value__",
    ]
)
wrapped = st.fixed_dictionaries({"__value__": anything})
nodes = st.fixed_dictionaries(
    {},
    optional={
        "class_type": st.sampled_from(CLASSES) | anything,
        "inputs": st.dictionaries(names, links | wrapped | anything, max_size=5) | anything,
        "_meta": st.fixed_dictionaries({"title": anything}) | anything,
    },
)
prompts = st.dictionaries(st.sampled_from("0123"), nodes | anything, max_size=4) | anything


@pytest.fixture(scope="module")
def view(tmp_path_factory):
    folders = Folders(tmp_path_factory.mktemp("emulator"))
    folders.create()
    return CatalogView(CATALOG, folders, {}, strict=True), folders


@settings(max_examples=400, deadline=None)
@given(prompts, st.none() | st.lists(st.sampled_from("0123"), max_size=2) | anything)
def test_any_json_gets_an_answer(view, prompt, targets):
    catalog, folders = view
    try:
        verdict = validate(copy.deepcopy(prompt), targets, catalog, folders, NODES)
    except ServerTroubleError:
        return
    assert (verdict.error is None) == bool(verdict.outputs)
    server_json(verdict)
    for found in verdict.node_errors.values():
        assert found["errors"]
        assert found["dependent_outputs"]


optional = dict.fromkeys(("number", "extra_data", "prompt_id", "front", "client_id"), anything)
bodies = st.fixed_dictionaries({"prompt": prompts}, optional=optional) | anything


@settings(max_examples=60, deadline=None)
@given(st.lists(bodies, max_size=4))
async def test_any_json_sent_gets_an_http_answer(sent):
    async with emulated() as comfy:
        for body in sent:
            status, _ = await comfy.call("POST", "/prompt", data=server_json(body))
            assert status in {200, 400, 500}
        assert (await comfy.call("GET", "/prompt"))[0] == 200


PATHS = ["/queue", "/history", "/interrupt", "/free", "/api/jobs/cancel", "/settings", "/settings/x", "/users"]
wishes = st.dictionaries(
    st.sampled_from(["delete", "clear", "prompt_id", "job_ids", "free_memory", "username"]), anything
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS), wishes | anything), max_size=5))
async def test_any_json_sent_to_any_route_gets_an_http_answer(sent):
    async with emulated() as comfy:
        for path, body in sent:
            status, _ = await comfy.call("POST", path, data=server_json(body))
            assert status in {200, 400, 500}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(max_size=300), max_size=4),
    st.sampled_from(["filename", "subfolder", "type", "preview", "channel"]),
)
async def test_any_name_asked_for_gets_an_http_answer(asked, key):
    async with emulated() as comfy:
        for text in asked:
            query = {"filename": "example.png", "type": "input"} | {key: text}
            status, _ = await comfy.call("GET", "/view", params=query)
            assert status in {200, 400, 403, 404, 500}


class TestDynamicInputs:
    def names(self, class_type, **values):
        return {name: found.required for name, found in live_inputs(CATALOG[class_type], values).items()}

    def test_a_combo_brings_the_inputs_of_its_choice(self):
        found = self.names("SaveImageAdvanced", format="png")
        assert found["format"]
        assert any(name.startswith("format.") for name in found)

    def test_a_combo_without_a_valid_choice_is_no_input(self):
        assert "format" not in self.names("SaveImageAdvanced")
        assert "format" not in self.names("SaveImageAdvanced", format="nope")

    def test_a_list_has_its_least_members_and_those_that_are_there(self):
        assert self.names("ComfyMathExpression") == {"expression": True, "values.a": True}
        assert self.names("ComfyMathExpression", **{"values.c": 1}) == {
            "expression": True,
            "values.a": True,
            "values.c": False,
        }
        assert "values" not in self.names("ComfyMathExpression", values=1)

    def test_choices_inside_choices(self):
        found = self.names("SaveVideo", format="auto", **{"format.codec": "h264", "format.codec.encoding": "re-encode"})
        assert "format.codec.encoding.crf" in found


async def test_ten_thousand_nodes_in_a_row_are_checked(view):
    catalog, folders = view
    prompt = {"0": picture()["1"]} | {str(n): node("ImageInvert", image=[str(n - 1), 0]) for n in range(1, 10_000)}
    prompt["end"] = node("PreviewImage", images=["9999", 0])
    assert validate(prompt, None, catalog, folders, NODES).outputs == ["end"]
    prompt["0"]["inputs"]["width"] = 0
    assert list(validate(prompt, None, catalog, folders, NODES).node_errors) == ["0"]
    prompt["0"] = node("ImageInvert", image=["9999", 0])
    assert len(validate(prompt, None, catalog, folders, NODES).node_errors) == 10_000
