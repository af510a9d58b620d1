"""What is asked for when a download breaks, and what an answer is worth: against a server that does what it likes."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfyclient.wire.ranges import AnswerHead, ContentRange, Fetch, Take
from comfyclient.wire.tape import Verdict

MIDNIGHT = "Wed, 01 Jan 2025 00:00:00 GMT"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bytes 0-9/10", ContentRange(0, 10, 10)),
        ("Bytes  5-9/10", ContentRange(5, 10, 10)),
        ("bytes 5-9/*", ContentRange(5, 10, None)),
        ("bytes */10", ContentRange(None, None, 10)),
        ("bytes */*", ContentRange(None, None, None)),
        ("bytes 5-4/10", None),
        ("bytes 5-10/10", None),
        ("bytes 5-/10", None),
        ("items 0-9/10", None),
        ("bytes 0-9/-1", None),
        ("bytes ٠-٩/10", None),
        ("bytes 0-" + "9" * 5000 + "/*", None),
        ("", None),
    ],
)
def test_content_range(text, wanted):
    assert ContentRange.parse(text) == wanted


def test_what_a_head_says():
    dates = {"Last-Modified": MIDNIGHT, "Date": "Wed, 01 Jan 2025 00:01:00 GMT"}
    headers = {"Content-Length": "10", "ETag": '"a-b"', "Content-Range": "bytes 0-9/10", **dates}
    assert AnswerHead.read(206, headers) == AnswerHead(206, 10, '"a-b"', MIDNIGHT, ContentRange(0, 10, 10))
    assert AnswerHead.read(200, {}) == AnswerHead(200)


@pytest.mark.parametrize(
    ("modified", "date"),
    [
        (MIDNIGHT, "Wed, 01 Jan 2025 00:00:59 GMT"),
        (MIDNIGHT, "Tue, 31 Dec 2024 00:00:00 GMT"),
        (MIDNIGHT, ""),
        (MIDNIGHT, "now"),
        (MIDNIGHT, "Wed, 01 Jan 99999 00:00:00 GMT"),
        (MIDNIGHT, "Wed, 01 Jan 2025 00:02:00 -0000"),
        ("", "Wed, 01 Jan 2025 00:02:00 GMT"),
        ("yesterday", "Wed, 01 Jan 2025 00:02:00 GMT"),
    ],
)
def test_a_date_that_does_not_stand_for_the_content(modified, date):
    assert AnswerHead.read(200, {"Last-Modified": modified, "Date": date}).modified is None


@pytest.mark.parametrize("etag", ['W/"weak"', "bare", '"two" "of them"', ""])
def test_an_etag_that_does_not_stand_for_the_very_same_bytes(etag):
    assert AnswerHead.read(200, {"ETag": etag}).etag is None


@pytest.mark.parametrize("length", ["", "-1", "1e3", "0x10", "９", "9" * 5000, "1, 1"])
def test_a_length_that_is_none(length):
    assert AnswerHead.read(200, {"Content-Length": length}).length is None


def test_a_length_beside_chunks_is_none():
    assert AnswerHead.read(200, {"Content-Length": "5", "Transfer-Encoding": "chunked"}).length is None


def test_compressed():
    assert AnswerHead.read(200, {"Content-Encoding": "gzip"}).encoded
    assert not AnswerHead.read(200, {"Content-Encoding": "Identity"}).encoded


def begun(head, size):
    """A fetch that has got so far with that answer, and broke."""
    fetch = Fetch(retries=9)
    assert fetch.headers() == {}
    assert fetch.judge(head) is Take.ALL
    fetch.received(size)
    assert fetch.failed()
    return fetch


FIRST = AnswerHead(200, 100, '"e"', "Mon")


def rest(start=40, total=100, **facts):
    return AnswerHead(206, 100 - start, **{"etag": '"e"', "range": ContentRange(start, 100, total), **facts})


@pytest.mark.parametrize("answer", [rest(), rest(total=None), rest(modified="Tue")])
def test_the_rest(answer):
    fetch = begun(FIRST, 40)
    assert fetch.headers() == {"Range": "bytes=40-"}
    assert fetch.judge(answer) is Take.REST
    assert (fetch.at, fetch.total) == (40, 100)


@pytest.mark.parametrize(
    "answer",
    [rest(etag='"other"'), rest(etag=None), rest(total=101), rest(start=39), rest(start=41), rest(range=None),
     rest(encoded=True), AnswerHead(416), AnswerHead(416, range=ContentRange(None, None, 40)),
     AnswerHead(416, range=ContentRange(None, None, 100))],
)  # fmt: skip
def test_what_is_not_the_rest(answer):
    fetch = begun(FIRST, 40)
    assert fetch.judge(answer) is Take.AGAIN
    assert fetch.headers() == {}


def test_all_of_it_in_place_of_the_rest():
    fetch = begun(FIRST, 40)
    assert fetch.judge(AnswerHead(200, 50, '"new"')) is Take.ALL
    assert (fetch.at, fetch.total) == (0, 50)


@pytest.mark.parametrize("status", [201, 204, 206, 302, 304, 400, 404, 412, 416, 500])
def test_other_answers_to_the_first_request(status):
    assert Fetch(retries=1).judge(AnswerHead(status, range=ContentRange(0, 5, 5))) is Take.REFUSED


@pytest.mark.parametrize(
    ("first", "goes_on"),
    [
        (AnswerHead(200, 100, '"e"'), True),
        (AnswerHead(200, None, '"e"'), True),
        (AnswerHead(200, 100, None, "Mon"), True),
        (AnswerHead(200, None, None, "Mon"), False),
        (AnswerHead(200, 100), False),
        (AnswerHead(200, 100, '"e"', encoded=True), False),
    ],
)
def test_what_can_go_on(first, goes_on):
    assert bool(begun(first, 40).headers()) is goes_on


@pytest.mark.parametrize(("date", "total", "same"), [("Mon", 100, True), ("Tue", 100, False), ("Mon", None, False)])
def test_by_date_and_length(date, total, same):
    fetch = begun(AnswerHead(200, 100, None, "Mon"), 40)
    answer = AnswerHead(206, 60, '"suddenly"', date, ContentRange(40, 100, total))
    assert (fetch.judge(answer) is Take.REST) is same


def test_the_length_is_learnt_from_the_rest():
    fetch = begun(AnswerHead(200, None, '"e"'), 40)
    assert fetch.judge(rest()) is Take.REST
    fetch.received(60)
    assert fetch.ended(Verdict.CUT, framed=False, broken=True)


@pytest.mark.parametrize(
    ("verdict", "framed", "broken", "whole"),
    [
        (Verdict.CUT, True, False, True),
        (Verdict.UNKNOWN, True, True, True),
        (Verdict.WHOLE, False, True, True),
        (Verdict.CUT, False, False, False),
        (Verdict.UNKNOWN, False, True, False),
        (Verdict.UNKNOWN, False, False, True),
    ],
)
def test_the_end_without_a_length(verdict, framed, broken, whole):
    fetch = Fetch(retries=1)
    fetch.judge(AnswerHead(200))
    fetch.received(10)
    assert fetch.ended(verdict, framed=framed, broken=broken) is whole
    assert not fetch.in_doubt


@pytest.mark.parametrize(
    ("answer", "take"),
    [
        (AnswerHead(416, range=ContentRange(None, None, 40)), Take.NOTHING),
        (AnswerHead(416, etag='"e"', range=ContentRange(None, None, 40)), Take.NOTHING),
        (AnswerHead(416, etag='"f"', range=ContentRange(None, None, 40)), Take.AGAIN),
        (AnswerHead(416, range=ContentRange(None, None, 39)), Take.AGAIN),
        (AnswerHead(416), Take.AGAIN),
        (rest(), Take.REST),
        (AnswerHead(200, 40, '"e"'), Take.NOTHING),
        (AnswerHead(200, None, '"e"'), Take.ALL),
        (AnswerHead(200, 41, '"e"'), Take.ALL),
        (AnswerHead(200, 40, '"f"'), Take.ALL),
        (AnswerHead(404), Take.REFUSED),
    ],
)
def test_in_doubt_it_asks_for_more(answer, take):
    fetch = Fetch(retries=0)
    fetch.judge(AnswerHead(200, None, '"e"'))
    fetch.received(40)
    assert not fetch.ended(Verdict.UNKNOWN, framed=False, broken=False)
    assert fetch.in_doubt
    assert fetch.headers() == {"Range": "bytes=40-"}
    assert fetch.judge(answer) is take
    assert not fetch.in_doubt


@pytest.mark.parametrize(
    ("lengths", "whole"),
    [((40, 40), True), ((40, 100, 100), True), ((40, 100), False), ((100, 40, 100), False)],
)
def test_without_ranges_the_same_end_twice_is_the_end(lengths, whole):
    fetch = Fetch(retries=0)
    for length in lengths:
        assert fetch.judge(AnswerHead(200, None, '"e"')) is Take.ALL
        fetch.received(length)
        ended = fetch.ended(Verdict.UNKNOWN, framed=False, broken=False)
        assert ended is not fetch.in_doubt
    assert ended is whole


def test_the_same_end_of_another_file_says_nothing():
    fetch = Fetch(retries=0)
    for etag in ('"e"', '"f"'):
        fetch.judge(AnswerHead(200, None, etag))
        fetch.received(40)
        assert not fetch.ended(Verdict.UNKNOWN, framed=False, broken=False)


def test_failures_in_a_row_are_counted_and_progress_makes_up_for_them():
    fetch = Fetch(retries=2)
    fetch.judge(AnswerHead(200, 10**9, '"e"'))
    for _ in range(1000):
        assert [fetch.failed(), fetch.failed()] == [True, True]
        fetch.received(2**16)
    assert [fetch.failed(), fetch.failed(), fetch.failed()] == [True, True, False]


def test_a_drop_at_a_time_is_no_progress():
    fetch = Fetch(retries=5)
    fetch.judge(AnswerHead(200, 10**9, '"e"'))
    failures = 0
    while fetch.failed():
        failures += 1
        fetch.received(1)
    assert failures == 5


class Server:
    """One file, of versions, on a server of a kind."""

    def __init__(self, draw):
        self.draw = draw
        self.ranges = draw(st.booleans())
        self.facts = draw(st.sampled_from(["etag", "date", "both", "none"]))
        self.length = draw(st.booleans())
        self.young = draw(st.booleans())  # so that all versions have the same date
        self.version = 0
        self.replace()

    def replace(self):
        """Another content; of the same length, more often than not."""
        self.version += 1
        size = self.draw(st.sampled_from([300_000, 300_000, 100_000]))
        self.data = bytes([self.version]) * size

    def answer(self, headers):
        """The head and the body."""
        facts = {}
        if self.facts in {"etag", "both"}:
            facts["ETag"] = f'"{self.version}"'
        if self.facts in {"date", "both"}:
            day = 1 if self.young else min(self.version, 28)
            facts["Last-Modified"] = f"Wed, {day:02} Jan 2025 00:00:00 GMT"
            facts["Date"] = f"Wed, 01 {'Jan' if self.young else 'Feb'} 2025 00:00:30 GMT"
        start = int(headers["Range"][6:-1]) if self.ranges and headers else 0
        if start >= len(self.data) > 0:
            return AnswerHead.read(416, {"Content-Range": f"bytes */{len(self.data)}"}), b""
        body = self.data[start:]
        if self.length:
            facts["Content-Length"] = str(len(body))
        if start:
            facts["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        return AnswerHead.read(206 if start else 200, facts), body


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_the_file_is_one_of_the_servers_whole_or_there_is_none(data):
    """Whatever breaks, and whenever the file is replaced. The kind of file shows its end, and every end is clean."""
    server = Server(data.draw)
    fetch, got, requests = Fetch(retries=4), b"", 0
    versions = [server.data]
    while True:
        requests += 1
        assert requests < 100
        if data.draw(st.integers(0, 4)) == 0:
            server.replace()
            versions.append(server.data)
        head, body = server.answer(fetch.headers())
        take = fetch.judge(head)
        assert take is not Take.REFUSED
        if take is Take.NOTHING:
            break
        if take is not Take.AGAIN:
            got = b"" if take is Take.ALL else got
            cut = data.draw(st.sampled_from([None, 0, 1, 50_000, 99_999]))
            got += body[:cut]
            fetch.received(len(body[:cut]))
            verdict = Verdict.WHOLE if got in versions else Verdict.CUT
            whole = cut is None or len(body) <= cut
            if (whole or not server.length) and fetch.ended(verdict, framed=server.length, broken=not whole):
                break
        if take is Take.AGAIN and not fetch.is_hopeless:
            continue
        if not fetch.failed():
            return
    assert got in versions


@given(st.data())
def test_a_server_that_never_breaks_is_asked_once(data):
    server = Server(data.draw)
    fetch = Fetch(retries=0)
    head, body = server.answer(fetch.headers())
    assert fetch.judge(head) is Take.ALL
    fetch.received(len(body))
    assert fetch.ended(Verdict.WHOLE, framed=server.length, broken=False)
