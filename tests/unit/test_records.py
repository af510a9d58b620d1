"""HTTP bodies: recorded ones give the facts in them, and others a clear error."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyclient.errors import NotComfyUI, Problem, ProtocolError
from comfyclient.wire.answers import Accepted, SystemInfo, Uploaded, read_node_errors, read_rejection
from comfyclient.wire.outputs import MAX_OUTPUTS, OutputRef, TextOutput, find_outputs
from comfyclient.wire.records import HistoryRecord, JobState, Queue
from comfyclient.wire.summary import JobSummary

from .oddities import with_something_odd
from .recorded import scenarios

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=9), children, max_size=4),
    max_leaves=16,
)
ENTRIES = [
    (name, prompt_id, entry)
    for name, scenario in scenarios().items()
    for prompt_id, entry in scenario.get("history", {}).items()
]


def record(name, position=0):
    entries = scenarios()[name]["history"]
    prompt_id = list(entries)[position]
    return HistoryRecord.from_json(prompt_id, entries[prompt_id])


@pytest.mark.parametrize(("name", "prompt_id", "entry"), ENTRIES)
def test_every_recorded_history_entry(name, prompt_id, entry):
    found = HistoryRecord.from_json(prompt_id, entry)
    last, data = entry["status"]["messages"][-1]
    expected = {
        "execution_success": JobState.SUCCEEDED,
        "execution_error": JobState.FAILED,
        "execution_interrupted": JobState.CANCELLED,
    }
    assert found.state is expected[last]
    assert (found.error is not None) == (last == "execution_error")
    assert found.ended_ms == data["timestamp"]
    assert found.started_ms <= found.ended_ms
    names = [item["filename"] for kinds in entry["outputs"].values() for items in kinds.values()
             for item in items if isinstance(item, dict) and "filename" in item]  # fmt: skip
    assert [out.filename for out in found.outputs if isinstance(out, OutputRef) and out.kind != "result"] == names
    assert JobSummary.of_record(found).state is found.state


def test_a_failed_run_says_where_and_keeps_what_was_made_before():
    failed = [record("03_runtime_error", n) for n in (0, 1)]
    first = failed[0].error
    assert (first.node_id, first.node_type, first.exception_type) == ("1", "RegexReplace", "re.error")
    assert first.is_terminal
    assert not first.exception_message.endswith("\n")
    assert any(out.filename.endswith(".png") for out in failed[1].outputs)


def kinds_of(class_type):
    """What the recorded run of a node of that class gave."""
    for entry in scenarios()["08_output_kinds"]["history"].values():
        classes = {node_id: node["class_type"] for node_id, node in entry["prompt"][2].items()}
        if class_type in classes.values():
            outputs = HistoryRecord.from_json("x", entry).outputs
            return [out for out in outputs if classes[out.node_id] == class_type]
    raise LookupError(class_type)


@pytest.mark.parametrize(
    ("class_type", "kind", "folder", "count"),
    [
        ("SaveImage", "images", "output", 3),
        ("PreviewImage", "images", "temp", 1),
        ("SaveAnimatedWEBP", "images", "output", 1),
        ("SaveVideo", "images", "output", 1),
        ("SaveAudio", "audio", "output", 1),
        ("PreviewAudio", "audio", "temp", 1),
        ("SaveLatent", "latents", "output", 1),
        ("SaveGLB", "3d", "output", 1),
        ("Preview3D", "result", "output", 1),
        ("Preview3DAdvanced", "result", "temp", 1),
        ("Save3DAdvanced", "result", "output", 1),
    ],
)
def test_every_kind_of_output_is_found(class_type, kind, folder, count):
    found = kinds_of(class_type)
    assert [(out.kind, out.type) for out in found] == [(kind, folder)] * count
    assert [out.index for out in found] == list(range(count))


def test_a_bare_name_is_split_into_folder_and_file():
    (found,) = kinds_of("Save3DAdvanced")
    assert (found.subfolder, found.filename) == ("rec", "m3d_00001.obj")


def test_texts_and_files_of_one_node():
    found = kinds_of("SaveText")
    assert isinstance(found[0], TextOutput)
    assert found[0].text == "hello file"
    assert isinstance(found[1], OutputRef)
    assert (found[1].kind, found[1].index) == ("files", 0)


def test_a_node_that_expanded_is_shown_as_the_one_that_was_sent():
    outputs = [
        out for entry in scenarios()["21_custom_node_behaviour"]["history"].values()
        for out in HistoryRecord.from_json("x", entry).outputs
        if isinstance(out, OutputRef) and out.node_id == "1.0.0.2"
    ]  # fmt: skip
    assert outputs
    assert {out.display_node_id for out in outputs} == {"1"}


@pytest.mark.parametrize(
    "outputs",
    [None, [], {"1": None}, {"1": {"images": [None]}}, {"1": {"images": [{"filename": 7}]}}, {"1": {"value": [1.5]}},
     {"1": {"images": [{"filename": ""}]}}, {"1": {"result": [None, None]}}, {"1": {"result": "x.glb"}}],
)  # fmt: skip
def test_odd_outputs_hold_no_files(outputs):
    assert find_outputs(outputs) == ()


def test_custom_nodes_put_files_anywhere():
    item = {"filename": "x.mp4", "subfolder": "a", "type": "output", "format": "video/h264-mp4"}
    outputs = find_outputs({"9": {"gifs": [item], "deep": [{"more": {"list": [item, 3]}}], "direct": item}})
    assert [(out.kind, out.filename, out.index, out.format) for out in outputs] == [
        ("gifs", "x.mp4", 0, "video/h264-mp4"),
        ("deep", "x.mp4", 1, "video/h264-mp4"),
        ("direct", "x.mp4", 2, "video/h264-mp4"),
    ]


@pytest.mark.parametrize("folder", ["../etc", None, [], {}, ["output"], 5])
def test_odd_fields_of_an_output_fall_back(folder):
    (found,) = find_outputs({"9": {"images": [{"filename": "x.png", "subfolder": None, "type": folder}]}})
    assert (found.subfolder, found.type) == ("", "output")


@given(anything)
def test_outputs_of_any_shape_raise_nothing(outputs):
    find_outputs(outputs, meta=outputs)
    find_outputs({"1": outputs}, meta={"1": outputs})


@pytest.mark.parametrize(
    ("status", "outputs", "state"),
    [
        (None, {"9": {"images": [{"filename": "a.png"}]}}, JobState.SUCCEEDED),
        (None, {}, JobState.FAILED),
        ({"status_str": "success", "completed": True, "messages": []}, {}, JobState.SUCCEEDED),
        ({"status_str": "error", "completed": False, "messages": "?"}, {}, JobState.FAILED),
        ({"status_str": "error", "messages": [["execution_interrupted", {}]]}, {}, JobState.CANCELLED),
        ({"status_str": "error", "messages": [["x"], 3, ["execution_error", {"node_id": 5}]]}, {}, JobState.FAILED),
    ],
)
def test_statuses_that_say_little(status, outputs, state):
    entry = {"prompt": [0, "p", {}, {}, []], "outputs": outputs, "status": status}
    assert HistoryRecord.from_json("p", entry).state is state


@pytest.mark.parametrize("stamp", [None, "1795381258393", -1, 1e300, 253_402_300_799_000, float("nan"), True])
def test_times_that_are_none(stamp):
    status = {"status_str": "success", "messages": [["execution_start", {"timestamp": stamp}]]}
    entry = {"prompt": [0, "p", {}, {"create_time": stamp}], "outputs": {}, "status": status}
    found = HistoryRecord.from_json("p", entry)
    assert found.started_ms is None
    assert found.create_time is None


@given(anything)
def test_history_of_any_shape_is_read_or_refused(body):
    for candidate in (
        body,
        {"prompt": body},
        {"prompt": [0, "p", {}], "status": body, "outputs": body, "meta": body},
    ):
        with contextlib.suppress(ProtocolError):
            HistoryRecord.from_json("p", candidate)


ODD = ([], {}, [{}], None, 10**400)


@pytest.mark.parametrize("kind", ODD)
def test_a_message_whose_kind_is_none_is_passed_over(kind):
    status = {"status_str": "error", "messages": [[kind, {"timestamp": 5}], ["execution_interrupted", {}]]}
    found = HistoryRecord.from_json("p", {"prompt": [0, "p", {}], "outputs": {}, "status": status})
    assert found.state is JobState.CANCELLED


@given(with_something_odd([entry for _, _, entry in ENTRIES]))
def test_a_record_with_something_odd_in_it_is_read_or_refused(entry):
    with contextlib.suppress(ProtocolError):
        found = HistoryRecord.from_json("p", entry)
        assert all(isinstance(node["inputs"], dict) for node in found.prompt_nodes.values())
        assert all(isinstance(node["class_type"], str) for node in found.prompt_nodes.values())
        JobSummary.of_record(found)


@given(with_something_odd([body for scenario in scenarios().values() for body in scenario.get("queues", ())]))
def test_a_queue_with_something_odd_in_it_is_read_or_refused(body):
    with contextlib.suppress(ProtocolError):
        for item in Queue.from_json(body).pending:
            json.dumps(JobSummary.of_queued(item, JobState.PENDING).to_json(), allow_nan=False)


@given(with_something_odd([s["system_stats"] for s in scenarios().values() if "system_stats" in s]))
def test_system_info_with_something_odd_in_it_is_read_or_refused(body):
    with contextlib.suppress(NotComfyUI):
        SystemInfo.from_json(body).to_json()


@given(with_something_odd([post["body"] for s in scenarios().values() for post in s.get("posts", ())]))
def test_an_answer_to_a_prompt_with_something_odd_in_it_is_read_or_refused(body):
    str(read_rejection(400, body))
    with contextlib.suppress(ProtocolError):
        Accepted.from_json(body)


def test_nodes_of_a_record_have_the_shape_of_a_prompt():
    nodes = {"1": {"class_type": "A", "is_changed": [1]}, "2": {"class_type": ["A"]}, "3": None, "4": {"inputs": {}},
             "5": {"class_type": "B", "inputs": [], "_meta": 5},
             "6": {"class_type": "C", "inputs": {"x": 1}, "_meta": {"title": "t"}}}  # fmt: skip
    expected = {
        "1": {"inputs": {}, "class_type": "A"},
        "5": {"inputs": {}, "class_type": "B"},
        "6": {"inputs": {"x": 1}, "class_type": "C", "_meta": {"title": "t"}},
    }
    assert HistoryRecord.from_json("p", {"prompt": [0, "p", nodes]}).prompt_nodes == expected
    assert (
        Queue.from_json({"queue_running": [[0, "p", nodes]], "queue_pending": []}).running[0].prompt_nodes == expected
    )


def test_a_record_that_names_outputs_without_end_is_refused():
    def entry(count):
        return {"prompt": [0, "p", {}], "outputs": {"1": {"images": [{"filename": "a.png"}] * count}}}

    assert len(HistoryRecord.from_json("p", entry(MAX_OUTPUTS)).outputs) == MAX_OUTPUTS
    with pytest.raises(ProtocolError, match="more than 100000 outputs"):
        HistoryRecord.from_json("p", entry(MAX_OUTPUTS + 1))
    assert len(find_outputs({str(n): {"text": ["x"] * MAX_OUTPUTS} for n in range(3)})) == MAX_OUTPUTS + 1


@pytest.mark.parametrize("entry", [None, [], [1], {}, [1, None, {}], [1, [], {}], [1, "", {}], [1, "\ud800"]])
def test_an_entry_of_the_queue_without_an_id_hides_no_other(entry):
    queue = Queue.from_json({"queue_running": [entry], "queue_pending": [entry, [2, "good", {}, {}, []]]})
    assert queue.running == ()
    assert [item.prompt_id for item in queue.pending] == ["good"]


@pytest.mark.parametrize("entry", [[1, "odd"], [1, "odd", None], [[], "odd", 5, 5], [float("inf"), "odd", [], []]])
def test_an_odd_entry_of_the_queue_is_still_a_job(entry):
    queue = Queue.from_json({"queue_running": [], "queue_pending": [[2, "good", {}, {}, []], entry]})
    assert [(item.prompt_id, item.nodes) for item in queue.pending] == [("odd", 0), ("good", 0)]


@pytest.mark.parametrize("prompt_id", ["\x1b]0;pwned\x07", "a b", "../queue", "..", "ü", "x" * 129, "a\n", "a/b"])
def test_an_id_that_no_server_gives_is_refused(prompt_id):
    with pytest.raises(ProtocolError) as caught:
        Accepted.from_json({"prompt_id": prompt_id, "number": 1})
    assert str(caught.value).isprintable()


def test_the_queue_in_the_order_of_execution():
    queue = Queue.from_json(
        {
            "queue_running": [[3, "r", {"1": {"class_type": "A"}}, {"client_id": "c", "create_time": 5}, ["1"]]],
            "queue_pending": [[7, "late", {}, {}, []], [-2, "front", {}, {}, []], [7, "even", {}, {}, []]],
        }
    )
    assert [item.prompt_id for item in queue.pending] == ["front", "even", "late"]
    assert (queue.running[0].client_id, queue.running[0].create_time, queue.running[0].nodes) == ("c", 5, 1)
    assert queue.find("late") is queue.pending[2]
    assert queue.find("no") is None


@pytest.mark.parametrize("name", sorted(name for name, scenario in scenarios().items() if "queues" in scenario))
def test_recorded_queues(name):
    for body in scenarios()[name]["queues"]:
        queue = Queue.from_json(body)
        assert len(queue.running) == len(body["queue_running"])
        assert sorted(item.prompt_id for item in queue.pending) == sorted(item[1] for item in body["queue_pending"])


@given(anything)
def test_queues_of_any_shape_are_read_or_refused(body):
    for candidate in (
        body,
        {"queue_running": body, "queue_pending": []},
        {"queue_running": [], "queue_pending": [body]},
    ):
        with contextlib.suppress(ProtocolError):
            Queue.from_json(candidate)


POSTS = [(name, post) for name, scenario in scenarios().items() for post in scenario.get("posts", ())]


@pytest.mark.parametrize(("name", "post"), POSTS)
def test_every_recorded_answer_to_a_prompt(name, post):
    body = post["body"]
    errors = [error for entry in body.get("node_errors", {}).values() for error in entry["errors"]]
    if post["status"] == 200:
        accepted = Accepted.from_json(body)
        assert accepted.prompt_id == body["prompt_id"]
        problems = accepted.problems
    else:
        rejected = read_rejection(post["status"], body)
        assert rejected.body == body
        problems = rejected.problems
        assert str(rejected).startswith("the server refused the prompt")
    if errors:
        assert [problem.code for problem in problems] == [error["type"] for error in errors]


def test_a_rejection_names_node_title_and_input():
    body = {"error": {"type": "prompt_outputs_failed_validation", "message": "m", "details": ""}, "node_errors": {
        "3": {"class_type": "KSampler", "errors": [
            {"type": "value_not_in_list", "message": "Value not in list", "details": "sampler_name: 'x' not in []",
             "extra_info": {"input_name": "sampler_name"}},
            {"type": "required_input_missing", "message": "Required input is missing", "details": "model",
             "extra_info": {"input_name": "model"}}]}}}  # fmt: skip
    rejected = read_rejection(400, body, {"3": "My sampler"}.get)
    assert rejected.problems == (
        Problem("value_not_in_list", "Value not in list", "3", "My sampler", "KSampler", "sampler_name",
                "sampler_name: 'x' not in []"),
        Problem("required_input_missing", "Required input is missing", "3", "My sampler", "KSampler", "model"),
    )  # fmt: skip
    assert "node 3 (My sampler), input model: Required input is missing" in str(rejected)


def test_an_unknown_class_is_reported_without_node_errors():
    body = {"error": {"type": "missing_node_type", "message": "Node 'Fancy' not found.", "details": "Node ID '#1'",
            "extra_info": {"node_id": "1", "class_type": "NoSuchNode", "node_title": "Fancy"}}}  # fmt: skip
    (problem,) = read_rejection(400, body).problems
    assert (problem.code, problem.node_id, problem.title, problem.class_type) == (
        "missing_node_type", "1", "Fancy", "NoSuchNode",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": "text"}, "text"),
        ({"error": {"message": "Cannot", "details": "because"}}, "Cannot: because"),
        ({"error": {"details": "only"}}, "only"),
        (None, "HTTP 400"),
        ([], "HTTP 400"),
    ],
)
def test_rejections_without_problems_still_say_something(body, words):
    assert words in str(read_rejection(400, body))


@given(anything)
def test_rejections_of_any_shape_are_one_error(body):
    for candidate in (body, {"error": body, "node_errors": body}, {"node_errors": {"1": {"errors": [body]}}}):
        str(read_rejection(400, candidate))
        list(read_node_errors(candidate))


@pytest.mark.parametrize(
    "body", [{}, {"exec_info": {"queue_remaining": 0}}, {"prompt_id": None}, [], None, {"prompt_id": ""}]
)
def test_an_answer_without_a_prompt_id_has_queued_nothing(body):
    with pytest.raises(ProtocolError, match="no prompt_id"):
        Accepted.from_json(body)


@pytest.mark.parametrize("name", sorted(name for name, scenario in scenarios().items() if "uploads" in scenario))
def test_recorded_uploads(name):
    for body in scenarios()[name]["uploads"]:
        uploaded = Uploaded.from_json(body)
        assert (uploaded.name, uploaded.subfolder, uploaded.type) == (body["name"], body["subfolder"], body["type"])


def test_what_an_input_must_say_to_load_an_upload():
    assert Uploaded("a.png", "", "input").value == "a.png"
    assert Uploaded("a.png", "x/y", "input").value == "x/y/a.png"
    assert Uploaded("a.png", "x", "temp").value == "x/a.png [temp]"


def test_system_info():
    info = SystemInfo.from_json(next(s["system_stats"] for s in scenarios().values() if "system_stats" in s))
    assert info.comfyui_version == "0.33.0"
    assert info.frontend_version == "1.49.6"
    assert info.devices[0].type == "cpu"
    assert json.dumps(info.to_json())


@pytest.mark.parametrize("body", [None, [], {}, {"system": []}, "<html>"])
def test_other_servers_have_no_such_info(body):
    with pytest.raises(NotComfyUI):
        SystemInfo.from_json(body)
