"""What the guard decides, as plain functions."""

import itertools
import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfyclient import ConfigError
from comfyclient.api.bodies import JsonScan, announced, is_upload, media_type, wrong_media
from comfyclient.api.origins import accepted_hosts, judge_origin, normal_origin
from comfyclient.api.rate import Bucket, Rates, retry_after

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text('[]{}"\\NaI,:'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def depth(value):
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def has_constant(value):
    if isinstance(value, dict):
        return any(map(has_constant, value.values()))
    if isinstance(value, list):
        return any(map(has_constant, value))
    return isinstance(value, float) and not math.isfinite(value)


def scan(text, most, cuts=()):
    looks, found = JsonScan(most), None
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    for start, end in itertools.pairwise(edges):
        found = found or looks.feed(text[start:end])
    return found


# JSON


@given(VALUES, st.integers(0, 6), st.lists(st.integers(0, 10_000), max_size=20), st.booleans())
def test_json_is_judged_as_it_is_however_it_is_cut(value, most, cuts, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    found = scan(text, most, cuts)
    if has_constant(value) or depth(value) > most:
        assert found in {"json_constant", "too_deep"}
    else:
        assert found is None


@given(st.text('[]{}"\\\\aN'), st.integers(0, 3))
@example('\\"[[[[\\\\', 1)
def test_a_cut_within_an_escape_changes_nothing(text, most):
    data = json.dumps([text]).encode()
    assert scan(data, most, range(len(data))) == (None if most else "too_deep")


@given(st.binary(), st.lists(st.integers(0, 1000)))
def test_what_passes_is_read_without_going_too_deep(data, cuts):
    if scan(data, 3, cuts) is None:
        try:
            value = json.loads(data)
        except ValueError:
            return
        assert depth(value) <= 3
        assert not has_constant(value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@given(value=st.lists(st.text()))
def test_no_other_encoding_passes(encoding, value):
    assert scan(json.dumps(value).encode(encoding), 9) is not None


def test_a_deep_body_is_known_before_it_has_come():
    looks = JsonScan(200)
    assert looks.feed(b"[" * 200) is None
    assert looks.feed(b"[") == "too_deep"


# Media types


@pytest.mark.parametrize(
    ("method", "path", "kind", "body", "wrong"),
    [
        ("POST", "/sessions", "application/json", True, False),
        ("POST", "/sessions", "", False, False),
        ("POST", "/sessions", "", True, True),
        ("POST", "/sessions", "text/plain", True, True),
        ("POST", "/sessions", "text/plain", False, True),
        ("PUT", "/sessions", "application/x-www-form-urlencoded", True, True),
        ("PATCH", "/sessions", "text/json", True, True),
        ("POST", "/workflows", "image/png", True, False),
        ("POST", "/workflows", "application/json", True, False),
        ("POST", "/workflows", "multipart/form-data", True, True),
        ("POST", "/workflows", "", True, True),
        ("POST", "/sessions/x/files", "application/octet-stream", True, False),
        ("GET", "/sessions", "text/plain", True, False),
    ],
)
def test_which_media_types_are_wrong(method, path, kind, body, wrong):
    assert wrong_media(method, path, kind, body=body) is wrong


def test_media_types_are_read_as_they_are_written():
    assert media_type(["Application/JSON; charset=utf-8"]) == "application/json"
    assert media_type([]) == media_type(["application/json", "text/plain"]) == ""
    assert is_upload("POST", "/workflows/")
    assert not is_upload("GET", "/workflows")
    assert not is_upload("POST", "/sessions/files/jobs")


def test_the_size_of_a_body_is_announced():
    assert announced({}) == 0
    assert announced({"content-length": "12"}) == 12
    assert announced({"content-length": "12", "transfer-encoding": "chunked"}) is None
    for text in ("-1", "1e3", "", "9" * 30, "\u0663", "1, 1"):
        with pytest.raises(ValueError, match="Content-Length"):
            announced({"content-length": text})


# Names and origins


def test_the_names_of_a_server():
    own = accepted_hosts(["127.0.0.1"], 8000)
    assert own == {"localhost:8000", "127.0.0.1:8000", "[::1]:8000"}
    assert accepted_hosts(["0.0.0.0", "::"], 8000) == own
    assert "192.168.1.5:8000" in accepted_hosts(["0.0.0.0", "192.168.1.5"], 8000)
    assert "[fd00::1]:8000" in accepted_hosts(["FD00:0::1"], 8000)
    assert "localhost" in accepted_hosts(["127.0.0.1"], 80)
    assert accepted_hosts(["127.0.0.1"], 8000, ["Comfy.example", "x.example:443", "fd00::2"]) - own == {
        "comfy.example",
        "comfy.example:8000",
        "x.example:443",
        "[fd00::2]",
        "[fd00::2]:8000",
    }


@given(st.text(), st.integers(1, 65535))
def test_no_name_is_ours_that_was_not_given(name, port):
    names = {"localhost", "127.0.0.1", "[::1]"}
    known = {f"{own}:{port}" for own in names} | (names if port == 80 else set())
    assert (name in accepted_hosts(["127.0.0.1"], port)) is (name in known)


@pytest.mark.parametrize(
    ("origins", "site", "scheme", "verdict"),
    [
        ([], None, "http", "own"),
        ([], "none", "http", "own"),
        ([], "same-origin", "http", "own"),
        ([], "same-site", "http", "refused"),
        ([], "cross-site", "http", "refused"),
        (["http://localhost:8000"], "same-origin", "http", "own"),
        (["https://localhost:8000"], "same-origin", "http", "own"),
        (["http://localhost:8000"], "same-origin", "https", "refused"),
        (["http://localhost:8000"], None, "ws", "own"),
        (["http://localhost:8001"], "same-site", "http", "refused"),
        (["http://127.0.0.1:8000"], "cross-site", "http", "refused"),
        (["null"], None, "http", "refused"),
        (["https://page.example"], "cross-site", "http", "listed"),
        (["https://page.example", "http://localhost:8000"], None, "http", "refused"),
        (["http://localhost:8000.evil.example"], None, "http", "refused"),
        (["ftp://localhost:8000"], None, "http", "refused"),
    ],
)
def test_whose_page_it_is(origins, site, scheme, verdict):
    listed = frozenset({"https://page.example", "null"})
    found = judge_origin(origins, fetch_site=site, host="localhost:8000", scheme=scheme, listed=listed)
    assert found == verdict


def test_listed_origins_are_put_straight_or_refused():
    assert normal_origin(" HTTPS://Page.example:443/ ") == "https://page.example"
    assert normal_origin("http://localhost:3000") == "http://localhost:3000"
    for text in (
        "*",
        "null",
        "page.example",
        "https://page.example/path",
        "https://*.example",
        "https://u@page.example",
    ):
        with pytest.raises(ConfigError, match="not the origin"):
            normal_origin(text)


# Rates


@given(st.floats(0.1, 100), st.integers(1, 50), st.lists(st.floats(0, 10), max_size=200))
def test_a_bucket_gives_no_more_than_it_holds_and_what_runs_in(rate, burst, pauses):
    bucket, now, taken = Bucket(rate, burst, burst, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        taken += wait == 0
        assert 0 <= wait <= 1 / rate + 1e-9
    assert taken <= burst + now * rate + 1e-6


@given(st.floats(0.1, 100), st.integers(1, 5))
def test_who_waits_as_long_as_told_is_served(rate, burst):
    bucket = Bucket(rate, burst, 0.0, 0.0)
    wait = bucket.take(0.0)
    assert bucket.take(wait + 1e-6) == 0


def test_a_clock_that_goes_back_gives_nothing():
    bucket = Bucket(1, 1, 1, 100.0)
    assert bucket.take(100.0) == 0
    assert bucket.take(0.0) > 0


def test_strangers_have_one_bucket_together_and_owners_one_each():
    rates = Rates(["alice", "bob"], rate=1, burst=2, clock=lambda: 0.0)
    assert [rates.take(None) > 0 for _ in range(4)] == [False, False, True, True]
    assert [rates.take("alice") > 0 for _ in range(3)] == [False, False, True]
    assert rates.take("bob") == 0
    assert len(rates._buckets) == 2


@pytest.mark.parametrize(("seconds", "text"), [(0.001, "1"), (1.0, "1"), (1.2, "2"), (59.9, "60")])
def test_retry_after_is_whole_seconds(seconds, text):
    assert retry_after(seconds) == text
