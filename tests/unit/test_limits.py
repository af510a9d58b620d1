"""How large an upload may be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from comfyclient.wire.limits import ANSWER_MOST, answer_limit, is_dense, told_limit, upload_limit

NONE = CIMultiDict()
CLOUDFLARE = CIMultiDict({"CF-RAY": "8f1-FRA"})


@pytest.mark.parametrize(
    ("size", "wanted"), [(104857600, 104857600), (52428800.0, 52428800), (2**40, 2**40), (1048576.5, 1048576)]
)
def test_the_instances_own(size, wanted):
    limit = upload_limit("h", NONE, {"max_upload_size": size})
    assert limit.size == wanted
    assert "--max-upload-size" in limit.hint


@pytest.mark.parametrize("size", [0, -1, True, "100", None, float("nan"), float("inf"), [], {}])
def test_what_is_no_limit(size):
    assert upload_limit("h", NONE, {"max_upload_size": size}) is None


@pytest.mark.parametrize("features", [None, [], "x", 5, {}])
def test_servers_that_do_not_tell(features):
    assert upload_limit("h", NONE, features) is None


@pytest.mark.parametrize(
    ("host", "headers"),
    [("h", CLOUDFLARE), ("some-words.trycloudflare.com", NONE), ("Some.TryCloudflare.com", NONE)],
)
def test_cloudflare(host, headers):
    assert upload_limit(host, headers, {"max_upload_size": 2**33}).size == 100 * 2**20
    assert upload_limit(host, headers, None).size == 100 * 2**20
    assert upload_limit(host, headers, {"max_upload_size": 2**20}).size == 2**20


@pytest.mark.parametrize("host", ["nottrycloudflare.com", "trycloudflare.com.example", "10.0.0.1", ""])
def test_what_is_not_cloudflare(host):
    assert upload_limit(host, NONE, None) is None


def test_what_a_refusal_tells():
    body = b"Maximum request body size 104857600 exceeded."
    assert told_limit(body, "h", CLOUDFLARE).size == 104857600
    assert told_limit(b"<html>413</html>", "h", CLOUDFLARE).whose.startswith("Cloudflare")
    assert told_limit(b"<html>413</html>", "h", NONE) is None


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_whatever_the_refusal_says(before, after):
    told_limit(before + b"size " + after + b" exceeded", "h", NONE)


@pytest.mark.parametrize(
    ("method", "path", "most"),
    [
        ("GET", "/queue", 256),
        ("GET", "/history", 256),
        ("GET", "/object_info", 256),
        ("GET", "/history/id", 64),
        ("GET", "/api/jobs/id", 64),
        ("GET", "/userdata", 64),
        ("POST", "/prompt", 64),
        ("GET", "/prompt", 8),
        ("GET", "/system_stats", 8),
        ("GET", "/features", 8),
        ("GET", "/api/jobs", 8),
        ("POST", "/queue", 8),
        ("POST", "/history", 8),
        ("POST", "/interrupt", 8),
    ],
)
def test_an_answer_may_be_as_large_as_such_answers_are(method, path, most):
    assert answer_limit(method, path) == most * 2**20 <= ANSWER_MOST


@pytest.mark.parametrize("part", [b"[],", b"[0],", b'{"a":{}},', b"{},"])
def test_an_answer_of_brackets_only_is_dense(part):
    assert is_dense(b"[" + part * (5 * 2**20 // len(part)) + b"[]]")


def test_a_small_answer_and_one_like_those_of_comfyui_are_not_dense():
    node = {"id": 1, "type": "X", "pos": [1, 2], "widgets_values": [1, 2, "x"], "inputs": [{"name": "a", "link": 3}]}
    assert not is_dense(b"[]," * 2**20)
    assert not is_dense(json.dumps([node] * 100_000, separators=(",", ":")).encode())
