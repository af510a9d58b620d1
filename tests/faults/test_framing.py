"""Framing of HTTP/1.1 and of websockets: nothing is lost or added, and the parts are what they are."""

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from .events import Head, Part, Piece
from .frames import BINARY, CONTINUATION, PING, TEXT, FrameSplitter, Message, encode
from .framing import HEAD_LIMIT, RequestFramer, ResponseFramer

BODIES = st.binary(max_size=60)


def joined(events):
    return b"".join(event.raw for event in events)


def cut(data, places):
    """The data in pieces."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def merged(events):
    """Events as (part, bytes), neighbours of one kind as one."""
    result = []
    for event in events:
        part = Head if isinstance(event, Head) else event.part
        if result and part is result[-1][0] and part in {Part.BODY, Part.OPAQUE}:
            result[-1] = (part, result[-1][1] + event.raw)
        else:
            result.append((part, event.raw))
    return result


def run(framer, pieces):
    events = [event for piece in pieces for event in framer.feed(piece)]
    return [*events, *framer.eof()]


def bodies(events):
    """The bodies of the messages that came to their end."""
    result, body = [], b""
    for event in events:
        if isinstance(event, Piece) and event.part is Part.BODY:
            body += event.raw
        elif isinstance(event, Piece) and event.part is Part.END:
            result.append(body)
            body = b""
    return result


@st.composite
def framed(draw):
    """A body, and headers and bytes that say it."""
    body = draw(BODIES)
    if draw(st.booleans()):
        return body, f"Content-Length: {len(body)}\r\n".encode(), body
    parts = [part for part in cut(body, draw(st.lists(st.integers(0, 60), max_size=3))) if part]
    extension = draw(st.sampled_from([b"", b";a=b"]))
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts)
    trailer = draw(st.sampled_from([b"", b"X-Sum: 1\r\n"]))
    return body, b"Transfer-Encoding: gzip, Chunked\r\n", chunks + b"0\r\n" + trailer + b"\r\n"


@st.composite
def requests(draw):
    """A request's body and bytes."""
    first = draw(st.sampled_from([b"POST /prompt?a=1", b"PUT /", b"DELETE /x%20y"])) + b" HTTP/1.1\r\nHost: x\r\n"
    if draw(st.booleans()):
        body, header, data = draw(framed())
        return body, first + header + b"\r\n" + data
    return b"", first + b"\r\n"


@st.composite
def responses(draw):
    """The method, the body and the bytes of an answer."""
    status = draw(st.sampled_from([200, 204, 304, 404]))
    method = draw(st.sampled_from(["GET", "HEAD", "POST"]))
    body, header, data = draw(framed())
    if method == "HEAD" or status in {204, 304}:
        body = data = b""
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    return method, body, interim + b"HTTP/1.1 %d\r\n%s\r\n" % (status, header) + data


@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=12))
def test_requests_are_told_apart_however_they_are_cut(sent, places):
    data = b"".join(raw for _, raw in sent)
    events = run(RequestFramer(), cut(data, places))
    assert joined(events) == data
    assert bodies(events) == [body for body, _ in sent]
    assert merged(events) == merged(run(RequestFramer(), [data]))


@given(st.lists(responses(), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=12))
def test_answers_are_told_apart_however_they_are_cut(sent, places):
    data = b"".join(raw for _, _, raw in sent)
    framer = ResponseFramer()
    for method, _, _ in sent:
        framer.expect(method)
    events = run(framer, cut(data, places))
    assert joined(events) == data
    assert bodies(events) == [body for _, body, _ in sent]


@given(
    st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(b"POST / HTTP/1.1\r\n".__add__)),
    st.lists(st.integers(0, 200), max_size=8),
    st.sampled_from([RequestFramer, ResponseFramer]),
)
@example(b"POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\nabc", [], RequestFramer)
@example(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", [40], RequestFramer)
@example(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n", [40], RequestFramer)
@example(b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", [], RequestFramer)
@example(b"\x16\x03\x01", [], RequestFramer)
@example(b"HTTP/1.1 200 OK\r\n\r\nto the end", [30], ResponseFramer)
@example(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x00", [], ResponseFramer)
@example(b"SSH-2.0-x\r\n", [1, 2], ResponseFramer)
def test_whatever_comes_in_comes_out(data, places, framer):
    assert joined(run(framer(), cut(data, places))) == data


def test_an_answer_without_a_length_ends_with_the_connection():
    framer = ResponseFramer()
    before = framer.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert bodies(before) == []
    assert bodies([*before, *framer.eof()]) == [b"abc"]


def test_what_cannot_be_a_head_does_not_wait_for_more():
    assert joined(RequestFramer().feed(b"\x81\x05hello")) == b"\x81\x05hello"
    assert joined(ResponseFramer().feed(b"SSH-2.0-x")) == b"SSH-2.0-x"
    assert joined(RequestFramer().feed(b"HELLO WORLD\n")) == b"HELLO WORLD\n"
    assert len(joined(RequestFramer().feed(b"GET /" + b"x" * HEAD_LIMIT))) == HEAD_LIMIT + 5


def test_of_a_body_nothing_is_held():
    framer = RequestFramer()
    framer.feed(b"PUT / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 10)
    assert framer.held == 0


@st.composite
def streams(draw, pings=True):
    """Messages, and the bytes of a stream that holds them, in fragments and with pings between."""
    messages, data = [], b""
    for _ in range(draw(st.integers(0, 4))):
        payload = draw(st.binary(max_size=20)) * draw(st.sampled_from([1, 1, 30, 5000]))
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        parts = cut(payload, draw(st.lists(st.integers(0, 10**5), max_size=2)))
        for number, part in enumerate(parts):
            frame = bytearray(encode(CONTINUATION if number else opcode, part))
            frame[0] &= 0xFF if number == len(parts) - 1 else 0x7F
            data += frame
            if pings and number < len(parts) - 1 and draw(st.booleans()):
                data += encode(PING, b"p")
                messages.append((PING, b"p"))
        messages.append((opcode, payload))
    return messages, data


def split(data, places, whole):
    splitter = FrameSplitter()
    out = []
    for piece, wanted in zip(cut(data, places), whole, strict=False):
        out.extend(splitter.feed(piece, whole=wanted))
    return out, splitter


@given(streams(), st.lists(st.integers(0, 10**6), max_size=8))
def test_websocket_messages_are_found_however_they_are_cut(stream, places):
    messages, data = stream
    out, splitter = split(data, places, [True] * 10)
    assert [(message.opcode, message.payload) for message in out] == messages
    assert sum(len(message.raw) for message in out) == len(data)
    assert splitter.at_boundary
    assert splitter.held == 0


@given(streams(pings=False), st.lists(st.integers(0, 10**6), max_size=8), st.integers(0, 10))
def test_websocket_messages_can_be_wanted_from_any_moment_on(stream, places, moment):
    messages, data = stream
    out, splitter = split(data, places, [False] * moment + [True] * 10)
    assert b"".join(part.raw if isinstance(part, Message) else part for part in out) == data
    found = [(part.opcode, part.payload) for part in out if isinstance(part, Message)]
    assert found == messages[len(messages) - len(found) :]
    assert splitter.at_boundary


def test_a_large_frame_is_not_held_unless_it_is_wanted():
    frame = encode(BINARY, bytes(10**6))
    splitter = FrameSplitter()
    assert b"".join(splitter.feed(frame[:1000], whole=False)) == frame[:1000]
    assert (splitter.held, splitter.at_boundary) == (0, False)
    assert b"".join(splitter.feed(frame[1000:], whole=True)) == frame[1000:]
    assert splitter.at_boundary
    assert list(splitter.feed(frame[:1000], whole=True)) == []
    assert splitter.held == 1000


def test_what_comfyui_calls_a_message():
    assert Message.make('{"type": "executing", "data": {}}').kind == "executing"
    assert Message.make(b"\x00\x00\x00\x01jpeg").kind == 1
    assert [Message.make(data).kind for data in ("[]", "{", '{"type": 1}', b"abc", b"")] == [None] * 5
