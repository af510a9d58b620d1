"""What toxics answer, without any connection: sizes and delays are exact, chances follow from the seed."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .book import Book
from .frames import DelayFrame, Later, Message, Repeat, Replace, Swallow
from .http_toxics import answer_bytes, edit_head
from .rules import Rules
from .toxics import (
    Bandwidth,
    Corrupt,
    Cut,
    CutLater,
    Hang,
    Latency,
    LimitData,
    ResetPeer,
    Send,
    Slicer,
    SlowClose,
    Timeout,
)

DATA = st.binary(max_size=300)


def fresh(toxic, seed=1):
    return toxic.fresh(random.Random(seed))


def sent(steps):
    return b"".join(step.data for step in steps if isinstance(step, Send))


def seconds(steps):
    return sum(step.delay for step in steps if isinstance(step, Send))


@given(DATA, st.sampled_from([Latency(1, jitter=2), Bandwidth(90), Slicer(5, 3, 0.1), Timeout(5), SlowClose(1)]))
def test_toxics_of_time_change_no_byte(data, toxic):
    steps = list(fresh(toxic).pass_on(Send(data)))
    assert sent(steps) == (b"" if isinstance(toxic, Timeout) and data else data)


def test_latency_is_added_to_what_was_late_before():
    (step,) = fresh(Latency(2)).pass_on(Send(b"abc", 1))
    assert step == Send(b"abc", 3)
    delays = {seconds(fresh(Latency(2, jitter=1), seed).pass_on(Send(b"x"))) for seed in range(50)}
    assert len(delays) == 50
    assert all(1 <= delay <= 3 for delay in delays)


def test_bandwidth_takes_its_time_in_small_steps():
    steps = list(fresh(Bandwidth(100)).pass_on(Send(bytes(250))))
    assert seconds(steps) == pytest.approx(2.5)
    assert max(len(step.data) for step in steps) == 5


def test_slices_have_the_size_they_are_told():
    steps = list(fresh(Slicer(10, 4, 0.5)).pass_on(Send(bytes(1000))))
    assert {len(step.data) for step in steps[:-1]} <= set(range(6, 15))
    assert len({len(step.data) for step in steps}) > 1
    assert seconds(steps) == pytest.approx(0.5 * len(steps))


@given(st.lists(DATA, min_size=1, max_size=5), st.integers(1, 900))
def test_a_limit_is_exact_whatever_the_pieces(pieces, size):
    toxic = fresh(LimitData(size))
    out, over = b"", False
    for piece in pieces:
        steps = list(toxic.pass_on(Send(piece))) if not over else []
        out += sent(steps)
        over = over or Cut("close") in steps
    assert out == b"".join(pieces)[:size]
    assert over == (len(b"".join(pieces)) >= size)


def test_what_happens_without_any_byte():
    assert list(fresh(ResetPeer()).start()) == [Cut("reset")]
    assert list(fresh(ResetPeer(3)).start()) == [CutLater(3, "reset")]
    assert list(fresh(Timeout(3)).start()) == [CutLater(3, "close")]
    assert list(fresh(Timeout()).start()) == []
    assert list(fresh(Timeout()).end()) == [Hang()]
    assert list(fresh(SlowClose(3)).end()) == [Send(b"", 3)]


@given(st.lists(DATA, max_size=5), st.integers(1, 50))
def test_what_is_corrupt_depends_on_the_place_alone(pieces, every):
    data = b"".join(pieces)
    parts, whole = fresh(Corrupt(every)), fresh(Corrupt(every))
    spoiled = b"".join(parts.flip(piece) for piece in pieces)
    assert spoiled == whole.flip(data)
    wrong = [one ^ other for one, other in zip(spoiled, data, strict=True) if one != other]
    assert all(bits.bit_count() == 1 for bits in wrong)
    assert every > 1 or len(wrong) == len(data)


def test_ranges_are_drawn_for_each_use():
    sizes = {fresh(LimitData((10, 20)), seed).left for seed in range(99)}
    assert sizes == set(range(10, 21))
    assert {fresh(ResetPeer((1.0, 5.0)), seed).start()[0].seconds > 3 for seed in range(20)} == {True, False}


def texts(toxic, *messages):
    toxic = fresh(toxic)
    out = [after for text in messages for after in toxic.change(Message.make(text), hit=text.startswith("!"))]
    return [message.payload.decode() for message in out]


def test_messages():
    assert texts(Swallow(), "a", "!b", "c") == ["a", "c"]
    assert texts(Repeat(3), "a", "!b", "c") == ["a", "!b", "!b", "!b", "c"]
    assert texts(Later(), "a", "!b", "c", "d") == ["a", "c", "!b", "d"]
    assert texts(Later(2), "!a", "!b", "c", "d", "e") == ["c", "d", "!a", "!b", "e"]
    assert texts(Replace(lambda message: message.payload.upper()), "a", "!b") == ["a", "!B"]
    (late,) = fresh(DelayFrame(2)).change(Message.make("x"), hit=True)
    assert late.delay == 2


def test_heads():
    assert answer_bytes(524, {"A": "b"}, b"xy") == b"HTTP/1.1 524 Unknown\r\nA: b\r\nContent-Length: 2\r\n\r\nxy"
    assert answer_bytes(302, {}, b"xy", bodiless=True) == b"HTTP/1.1 302 Found\r\nContent-Length: 2\r\n\r\n"
    assert answer_bytes(200, {"connection": "close"}, b"x") == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nx"
    head = b'HTTP/1.1 206 Partial Content\r\nETag: "a"\r\nLength: 1\r\n\r\n'
    edited = edit_head(head, status=200, headers={"etag": '"b"', "length": None})
    assert edited == b'HTTP/1.1 200 Edited\r\netag: "b"\r\n\r\n'


def decisions(seed, requests, **facts):
    """Which requests a rule strikes, by number."""
    book = Book()
    rules = Rules(seed, book)
    rules.add(rules.requests, LimitData((1, 10**6)), **({"times": None} | facts))
    found = []
    for number, (method, path) in enumerate(requests, start=1):
        _, toxics = rules.for_request(number, method, path, reused=False)
        found.extend((number, toxic.left) for toxic in toxics)
    return found


def struck(*requests, **facts):
    return [number for number, _ in decisions(1, requests, **facts)]


GET, POST = ("GET", "/a/b"), ("POST", "/a")


def test_rules_choose_by_method_path_number_and_connection():
    assert struck(GET, POST, GET, method="GET") == [1, 3]
    assert struck(GET, POST, GET, ("GET", "/ab"), path="/a") == [1, 2, 3]
    assert struck(GET, ("GET", "/api/a"), ("GET", "/api/api/a"), path="/a") == [1, 2]
    assert struck(GET, POST, GET, path=re.compile("b$")) == [1, 3]
    assert struck(GET, GET, GET, connection=2) == [2]
    assert struck(GET, GET, GET, GET, nth=2, times=2) == [2, 3]


@given(st.integers(0, 2**32))
def test_chances_follow_from_the_seed_and_the_order(seed):
    requests = [GET, POST] * 50
    first = decisions(seed, requests, probability=0.5)
    assert first == decisions(seed, requests, probability=0.5)
    assert 20 < len(first) < 80
    assert first != decisions(seed + 1, requests, probability=0.5)
    # Requests that a rule is not for change nothing for the others.
    assert [left for _, left in decisions(seed, requests, method="GET")] == [
        left for _, left in decisions(seed, [GET] * 50)
    ]


def test_chances_of_one_rule_do_not_depend_on_another():
    def log(*, other):
        book = Book()
        rules = Rules(7, book)
        rules.add(rules.requests, LimitData(5), method="GET", probability=0.5, times=None)
        if other:
            rules.add(rules.requests, LimitData(6), probability=0.5, times=None)
        for number in range(40):
            rules.for_request(1, "GET", f"/{number}", reused=False)
        return [entry.where for entry in book.log if "size=5" in entry.what]

    assert log(other=True) == log(other=False)
