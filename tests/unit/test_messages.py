"""Websocket frames: every recorded one is understood, and nothing that a server may send makes the decoder raise."""

import json
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfyclient.wire import messages
from comfyclient.wire.messages import (
    Executed,
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    FeatureFlags,
    Malformed,
    Preview,
    Progress,
    ProgressState,
    ProgressText,
    Status,
    Unknown,
    decode,
    encode_preview,
    encode_progress_text,
    peek,
    text_message,
)
from comfyclient.wire.progress import ProgressTracker

from .oddities import with_something_odd
from .recorded import frames, scenarios

KNOWN = {
    "status": Status,
    "execution_start": ExecutionStart,
    "execution_cached": ExecutionCached,
    "executing": Executing,
    "progress": Progress,
    "progress_state": ProgressState,
    "executed": Executed,
    "execution_success": ExecutionSuccess,
    "execution_error": ExecutionError,
    "execution_interrupted": ExecutionInterrupted,
    "feature_flags": FeatureFlags,
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=12), children, max_size=4),
    max_leaves=20,
)
plausible = st.fixed_dictionaries({
    "type": st.sampled_from(sorted(KNOWN)),
    "data": st.dictionaries(
        st.sampled_from([
            "prompt_id", "node", "display_node", "node_id", "nodes", "value", "max", "output", "timestamp",
            "status", "sid", "exception_type", "traceback",
        ]),
        json_values,
    ),
})  # fmt: skip


@pytest.mark.parametrize("name", sorted(scenarios()))
def test_every_recorded_frame_is_understood(name):
    for frame in frames(scenarios()[name]):
        message = decode(frame)
        if isinstance(frame, str):
            kind = json.loads(frame)["type"]
            assert type(message) is KNOWN.get(kind, Unknown), frame
        else:
            assert isinstance(message, Preview | ProgressText), frame[:60]


@pytest.mark.parametrize("name", sorted(scenarios()))
def test_a_peek_tells_what_decoding_tells(name):
    for frame in frames(scenarios()[name]):
        head = peek(frame)
        if isinstance(frame, bytes):
            assert head is not None
            assert (head.type == "preview") == isinstance(decode(frame), Preview)
            continue
        kind = json.loads(frame)["type"]
        if head is None:
            assert kind not in KNOWN
            continue
        assert head.type == kind
        if head.type == "progress_state":
            assert head.prompt_id == decode(frame).prompt_id
        elif head.prompt_id is not None:
            assert head.prompt_id == json.loads(frame)["data"]["prompt_id"]


def test_the_values_of_a_recorded_run():
    decoded = [decode(frame) for frame in frames(scenarios()["01_success"])]
    prompt_id = "89bfa70e-366e-49b1-801c-5461576a5d92"
    assert decoded[0] == Status(0, "2df53661-ff53-46bb-b3a0-96b79ac8323f")
    assert ExecutionStart(prompt_id, 1795381258393) in decoded
    assert Executing(prompt_id, "2", "2") in decoded
    assert decoded[-1] == Executing(prompt_id, None, None)
    done = next(message for message in reversed(decoded) if isinstance(message, ProgressState))
    assert {node: (seen.state, seen.value, seen.max) for node, seen in done.nodes.items()} == {
        "1": ("finished", 1.0, 1.0),
        "2": ("finished", 1.0, 1.0),
    }


def test_after_a_reconnect_executing_comes_without_a_prompt_id():
    decoded = [decode(frame) for frame in frames(scenarios()["12_reconnect"])]
    assert any(isinstance(message, Executing) and message.prompt_id is None for message in decoded)


def test_a_blocked_execution_is_no_end():
    errors = [
        message
        for frame in frames(scenarios()["21_custom_node_behaviour"])
        if isinstance(message := decode(frame), ExecutionError)
    ]
    assert {error.exception_type: error.is_terminal for error in errors}["ExecutionBlocked"] is False
    assert any(error.is_terminal for error in errors)


ONE_OF_EACH = {
    message["type"]: message
    for scenario in scenarios().values()
    for frame in frames(scenario)
    if isinstance(frame, str) and (message := json.loads(frame))
}


@given(with_something_odd(list(ONE_OF_EACH.values())))
def test_a_message_with_something_odd_in_it_is_read_or_malformed(message):
    decoded = decode(json.dumps(message))
    progress = ProgressTracker("p", {"1", "2"}, str)
    for _ in progress.on_message(decoded):
        progress.snapshot()


@pytest.mark.parametrize("stamp", [253_402_300_799_000, 10**400, float("inf"), -1, [], None])
def test_a_time_that_no_calendar_shows_is_none(stamp):
    assert decode(json.dumps({"type": "execution_start", "data": {"prompt_id": "p", "timestamp": stamp}})) == (
        ExecutionStart("p", None)
    )


@given(st.text() | st.binary() | st.builds(json.dumps, json_values | plausible))
@example("[" * 100_000)
@example('{"type": "progress", "data": {"value": NaN, "max": Infinity, "prompt_id": "a", "node": "1"}}')
@example('{"type": "progress", "data": {"value": 1' + "0" * 400 + ', "prompt_id": "a", "node": "1"}}')
@example(struct.pack(">II", 4, 2**32 - 1) + b"{}")
@example(struct.pack(">I", 1))
@example(struct.pack(">II", 4, 2) + b"[]x")
@example(b"")
def test_the_decoder_takes_anything(frame):
    message = decode(frame)
    assert isinstance(message, messages.Message)
    if isinstance(message, Progress):
        assert abs(message.value) < float("inf")
        assert abs(message.max) < float("inf")
    peek(frame)


@given(st.binary(min_size=1), st.sampled_from(["image/jpeg", "image/png"]))
def test_previews_come_back_as_they_were_sent(image, media_type):
    assert decode(encode_preview(image, media_type)) == Preview(image, media_type)
    ids = {"prompt_id": "p", "node_id": "57:3", "display_node_id": "57"}
    assert decode(encode_preview(image, media_type, ids)) == Preview(image, media_type, "p", "57:3", "57")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_texts_come_back_as_they_were_sent(node_id, text):
    assert decode(encode_progress_text(node_id, text)) == ProgressText(node_id, text)


@given(st.sampled_from(sorted(KNOWN)), st.text(max_size=40))
def test_what_is_written_can_be_read_and_peeked_at(kind, prompt_id):
    frame = text_message(kind, {"prompt_id": prompt_id})
    assert json.loads(frame) == {"type": kind, "data": {"prompt_id": prompt_id}}
    head = peek(frame)
    assert head is not None
    assert head.type == kind


def test_frames_of_unknown_kinds_are_told_apart_from_broken_ones():
    assert decode('{"type": "crystools.monitor", "data": {"cpu": 1}}') == Unknown("crystools.monitor", {"cpu": 1})
    assert isinstance(decode(struct.pack(">II", 99, 0)), Unknown)
    assert isinstance(decode("{}"), Malformed)
    assert isinstance(decode('{"type": "executed", "data": null}'), Malformed)
