"""Large JSON is read as the standard library reads it, only in pieces."""

import gc
import json
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfyclient import _bigjson, _json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.sampled_from([None, 0, 3]), st.booleans(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_it_is_read_as_it_is(value, indent, plain, encoding):
    data = json.dumps(value, indent=indent, ensure_ascii=plain).encode(encoding, "surrogatepass")
    assert _bigjson.in_pieces(data) == json.loads(data)


@given(JSON.map(json.dumps), st.data())
@example('{"a":1,}', None)
@example('{"a" 1}', None)
@example("{1:1}", None)
@example("[1 2]", None)
@example("[1,]", None)
@example("[", None)
@example("{", None)
@example('{"a"', None)
@example('{"a":', None)
@example("[[1,2", None)
@example("", None)
@example("[] []", None)
@example('{"a":[NaN,Infinity],"a":[-Infinity]}', None)
def test_what_is_no_json_is_refused(text, data):
    if data is not None:
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(["", ",", '"', "]", "}", ":", "x", "\x00", " "])) + text[at + 1 :]
    try:
        wanted = repr(json.loads(text))
    except ValueError:
        with pytest.raises(_json.JSONError):
            _bigjson.in_pieces(text.encode())
    else:
        assert repr(_bigjson.in_pieces(text.encode())) == wanted


@pytest.mark.parametrize("data", [b"[" * 200_000, b'{"a":' * 200_000, b'["\xff"]', b"\xef\xbb\xbf"])
def test_what_cannot_be_read_at_all(data):
    with pytest.raises(_json.JSONError):
        _bigjson.in_pieces(data)


JOB = [1, "id", {"1": {"class_type": "X", "inputs": {"text": "x" * 1000}}}, {}, []]


@pytest.mark.parametrize(
    "answer",
    [
        {"queue_running": [JOB], "queue_pending": [JOB] * 2000},
        {str(number): JOB for number in range(2000)},
        [JOB] * 2000,
    ],
    ids=["queue", "history", "list"],
)
async def test_a_large_one_is_read_piece_by_piece_in_a_thread(monkeypatch, answer):
    seen = []

    class Decoder:
        def raw_decode(self, text, at):
            value, end = json.JSONDecoder().raw_decode(text, at)
            seen.append((end - at, threading.current_thread() is threading.main_thread(), gc.isenabled()))
            return value, end

    monkeypatch.setattr(_bigjson, "_DECODER", Decoder())
    assert await _bigjson.loads(json.dumps(answer).encode()) == answer
    assert max(size for size, _, _ in seen) < 2000
    assert {(main, collected) for _, main, collected in seen} == {(False, False)}
    assert gc.isenabled()


async def test_garbage_is_not_collected_afterwards_if_it_was_not_before():
    gc.disable()
    try:
        with pytest.raises(_json.JSONError):
            await _bigjson.loads(b"[" + b"1," * 2**20)
        assert not gc.isenabled()
    finally:
        gc.enable()
