"""The proxy's faults of single requests, each seen from the client and from the server."""

import asyncio
import re
import uuid

import aiohttp
import pytest

from comfyclient.emulator import Emulator

from .http_toxics import (
    Answer,
    AnswerAfter,
    CorruptBody,
    CutRequest,
    CutResponse,
    Duplicate,
    EditHead,
    Lose,
    Stale,
    gateway_error,
    login_page,
)
from .proxy import FaultProxy
from .support import HttpServer, answering, listener, ok, raw_client, raw_server, request

PROMPT = {"1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
          "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}  # fmt: skip


@pytest.fixture
async def http():
    async with HttpServer() as server:
        yield server


@pytest.fixture
async def proxy(http):
    async with FaultProxy(http.url, seed=1) as running:
        yield running


@pytest.fixture
async def session(proxy):
    """Relative urls go through the proxy."""
    async with aiohttp.ClientSession(proxy.url) as opened:
        yield opened


async def get(session, path, **options):
    async with session.get(path, **options) as response:
        return response.status, await response.text()


async def post(session, path="/prompt", **options):
    async with session.post(path, allow_redirects=False, **({"json": {"prompt_id": "a"}} | options)) as response:
        return response.status, await response.text()


# Losing


@pytest.mark.parametrize(
    ("how", "error"), [("reset", aiohttp.ClientOSError), ("close", aiohttp.ServerDisconnectedError)]
)
async def test_a_lost_answer_is_one_that_the_server_gave(proxy, session, http, how, error):
    proxy.on("POST", "/prompt", Lose(how))
    with pytest.raises(error):
        await post(session)
    assert [(method, path) for method, path, _ in http.requests] == [("POST", "/prompt")]
    (sent,) = proxy.book.posts
    assert (sent.prompt_id, sent.forwarded, sent.status) == ("a", 1, 200)
    assert (await post(session))[0] == 200
    assert proxy.book.forwarded("a") == 2


async def test_a_lost_answer_that_the_client_waits_for(proxy, session):
    proxy.on("POST", "/prompt", Lose("hang"))
    waiting = asyncio.create_task(post(session))
    await proxy.book.until(lambda: proxy.book.hung == 1)
    assert not waiting.done()
    assert proxy.book.posts[0].status == 200
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await post(session))[0] == 200


async def test_a_client_that_gives_up_waiting_frees_the_connection_to_the_server():
    async def talk(side):
        await side.until(1)
        await side.send(ok(b"lost"))
        await asyncio.Event().wait()  # whatever comes

    async with raw_server(talk) as (url, _), FaultProxy(url) as faults:
        faults.on("GET", "/", Lose("hang"))
        async with raw_client(faults.url) as client:
            await client.send(request())
            await faults.book.until(lambda: faults.book.hung == 1)
            (link,) = (task for task in asyncio.all_tasks() if task.get_name() == "fault-proxy-1")
        await link


async def test_a_lost_handshake(proxy, session, http):
    proxy.on("GET", "/ws", Lose())
    async with raw_client(proxy.url) as client:
        key = {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version": "13"}
        await client.send(request(path="/ws", Upgrade="websocket", Connection="Upgrade", **key))
        assert await client.to_end() == b""
    assert await http.heard.get() == ("closed", 1006)
    assert proxy.book.sockets == 0
    async with session.ws_connect("/ws"):
        assert proxy.book.sockets == 1


@pytest.mark.parametrize(("at", "part"), [(0.5, 50), (7, 7), (0, 0)])
async def test_a_body_that_is_cut_on_its_way_to_the_server(at, part):
    sent = request("POST", "/prompt", b"x" * 100)
    async with raw_server(listener()) as (url, sides), FaultProxy(url) as faults, raw_client(faults.url) as client:
        faults.on("POST", "/prompt", CutRequest(at, "close"))
        await client.send(sent)
        assert await client.to_end() == b""
        await sides[0].over.wait()
    assert sides[0].received == sent[: len(sent) - 100 + part]
    assert faults.book.forwarded(None) == 0


async def test_a_chunked_body_that_is_cut(proxy, session, http):
    async def body():
        yield b"x" * 100
        yield b"y" * 100

    proxy.on("PUT", "/", CutRequest())
    with pytest.raises(aiohttp.ClientOSError):
        await session.put("/echo", data=body())
    assert http.requests == []


@pytest.mark.parametrize(("chunked", "framing"), [("", b""), ("?chunked", b"1388\r\n")])
async def test_an_answer_that_is_cut(proxy, session, chunked, framing):
    proxy.on("GET", "/size", CutResponse(1000), times=2)
    with pytest.raises(aiohttp.ClientPayloadError):
        await get(session, "/size/5000" + chunked)
    async with raw_client(proxy.url) as client:
        await client.send(request(path="/size/5000" + chunked))
        _, _, body = (await client.to_end()).partition(b"\r\n\r\n")
    assert (body, client.ended) == (framing + bytes(1000), "eof")


async def test_an_answer_that_is_cut_and_does_not_tell(proxy, session):
    proxy.on("GET", "/size", CutResponse(0.25, unframed=True))
    async with session.get("/size/5000") as response:
        assert "Content-Length" not in response.headers
        assert len(await response.read()) == 1250


# Answering


async def test_an_answer_without_asking_needs_no_server(unused_tcp_port):
    answer = Answer(503, {"Retry-After": "3"}, "busy")
    async with FaultProxy(f"http://127.0.0.1:{unused_tcp_port}") as faults, raw_client(faults.url) as client:
        faults.on(None, "/a", answer, times=None)
        await client.send(request("HEAD", "/a"))
        head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\n"
        await client.until(len(head))
        assert client.received == head
        await client.send(request("POST", "/a", b"x" * 10**5))  # on the same connection
        await client.until(2 * len(head) + 4)
        assert client.received == head + head + b"busy"
        assert (faults.book.connections, faults.book.upstreams) == (1, 0)


async def test_the_server_knows_nothing_of_what_was_answered_for_it(proxy, session, http):
    proxy.on("POST", "/prompt", Answer(429, {"Retry-After": "3"}))
    proxy.on("POST", "/prompt", login_page("/login?to=x"))
    assert (await post(session))[0] == 429
    assert await post(session) == (302, "<html>Please log in.</html>")
    assert http.requests == []
    assert proxy.book.forwarded("a") == 0
    assert (await post(session))[0] == 200
    assert [sent.forwarded for sent in proxy.book.posts] == [0, 0, 1]


async def test_an_answer_in_the_middle_of_an_upload_can_be_read():
    async with raw_server(listener()) as (url, sides), FaultProxy(url) as faults, raw_client(faults.url) as client:
        faults.on("POST", "/upload/image", Answer(413, body="too much", after=1000, then="reset"))
        await client.send(request("POST", "/upload/image", b"x" * 2000)[:-500])
        assert (await client.to_end()).endswith(b"\r\n\r\ntoo much")
        assert client.ended == "reset"
    assert sides == []


async def test_raw_answers(proxy):
    proxy.on("GET", None, Answer(raw=b"nonsense", then="close"))
    async with raw_client(proxy.url) as client:
        await client.send(request())
        assert await client.to_end() == b"nonsense"


async def test_an_answer_of_its_own_after_the_server_has_done_it(proxy, session, http):
    proxy.on("POST", "/prompt", gateway_error(524))
    proxy.on("POST", "/prompt", AnswerAfter(500, body="no"))
    status, page = await post(session)
    assert (status, page[:9]) == (524, "<!DOCTYPE")
    assert await post(session) == (500, "no")
    assert (await post(session))[0] == 200
    assert len(http.requests) == 3
    assert proxy.book.forwarded("a") == 3
    assert [sent.status for sent in proxy.book.posts] == [200, 200, 200]
    assert proxy.book.connections == 1


async def test_pipelined_answers_keep_their_order():
    answers = [ok(b"one."), ok(b"three.")]

    async def talk(side):
        await side.until(len(request(path="/1")))
        await side.send(answers[0])
        await side.until(2 * len(request(path="/1")))
        await side.send(answers[1])
        await side.to_end()

    async with raw_server(talk) as (url, sides), FaultProxy(url) as faults, raw_client(faults.url) as client:
        faults.on("GET", "/2", Answer(raw=ok(b"two.")))
        await client.send(b"".join(request(path=f"/{number}") for number in (1, 2, 3)))
        expected = ok(b"one.") + ok(b"two.") + ok(b"three.")
        await client.until(len(expected))
        assert client.received == expected
    assert sides[0].received == request(path="/1") + request(path="/3")


async def test_another_status_and_other_headers(proxy, session):
    proxy.on("GET", "/size", EditHead(206, {"ETag": '"two"', "X-New": "1"}))
    async with session.get("/size/10") as response:
        assert (response.status, response.headers["ETag"], response.headers["X-New"]) == (206, '"two"', "1")
        assert await response.read() == bytes(10)
    async with session.get("/size/10") as response:
        assert (response.status, response.headers["ETag"]) == (200, '"one"')


# Repeating, spoiling, closing


async def test_a_request_that_comes_twice():
    sent = request("POST", "/prompt", b'{"prompt_id": "a"}.')
    async with raw_server(answering(ok(b"x"))) as (url, sides), FaultProxy(url) as faults:
        faults.on("POST", "/prompt", Duplicate())
        async with raw_client(faults.url) as client:
            await client.send(sent[:-3])
            await client.send(sent[-3:])
            await client.until(len(ok(b"x")))
            assert client.received == ok(b"x")
            await sides[1].over.wait()
    assert [side.received for side in sides] == [sent + b"|"] * 2
    assert faults.book.posts[0].forwarded == 2


async def test_a_prompt_that_comes_twice_is_queued_twice_under_one_id():
    """The second comes behind the first, and the client has the first answer."""
    prompt_id = str(uuid.uuid4())
    async with Emulator() as emulator, FaultProxy(emulator.url) as faults, aiohttp.ClientSession() as session:
        hold = emulator.faults.hold()
        faults.on("POST", "/prompt", Duplicate())
        body = {"prompt": PROMPT, "prompt_id": prompt_id}
        async with session.post(faults.url + "/prompt", json=body) as response:
            assert (await response.json())["number"] == 0
        await hold.reached()
        async with session.get(emulator.url + "/queue") as response:
            queue = await response.json()
        hold.release()
    assert [job[1] for part in ("queue_running", "queue_pending") for job in queue[part]] == [prompt_id] * 2
    assert faults.book.forwarded(prompt_id) == 2


@pytest.mark.parametrize("chunked", ["", "?chunked"])
async def test_wrong_bits_in_a_body(proxy, session, chunked):
    proxy.on("GET", "/size", CorruptBody(100), times=2)
    async with session.get("/size/5000" + chunked) as response:
        first = await response.read()
    async with session.get("/size/5000" + chunked) as response:
        second = await response.read()
    assert len(first) == len(second) == 5000
    assert 10 < sum(byte != 0 for byte in first) < 250
    assert first != second


async def test_wrong_bits_on_the_way_up(proxy, session):
    proxy.on("POST", "/echo", CorruptBody(1, direction="up"))
    status, text = await post(session, "/echo", data=b"a" * 9, json=None)
    assert (status, len(text)) == (200, 9)
    assert "a" not in text


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_connection_that_is_stale(proxy, http, how):
    """An idempotent request is silently repeated by many libraries; here nothing hides it."""
    proxy.on(None, None, Stale(how))
    async with raw_client(proxy.url) as client:
        await client.send(request(path="/first"))
        await client.until(1)
        await client.send(request("POST", "/prompt", b"{}"))
        await client.to_end()
    assert client.ended == {"reset": "reset", "close": "eof"}[how]
    assert [path for _, path, _ in http.requests] == ["/first"]
    assert [sent.forwarded for sent in proxy.book.posts] == [0]


# What else is carried


async def test_a_hundred_continue(proxy, session):
    assert await post(session, "/echo", data=b"abc", json=None, expect100=True) == (200, "abc")


async def test_a_path_prefix_is_kept_from_rules_and_counters():
    server = raw_server(answering(ok(b"x")))
    async with server as (url, sides), FaultProxy(url + "/a/b/") as faults, raw_client(faults.url) as client:
        assert faults.url.endswith("/a/b")
        await client.send(request(path="/a/b/api/queue?x=1"))
        await client.until(1)
    assert sides[0].received == request(path="/a/b/api/queue?x=1") + b"|"
    assert faults.book.requests == {("GET", "/api/queue"): 1}
    assert faults.book.count("GET", "/queue") == 1
    assert faults.book.headers["/api/queue"] == {"host": "x"}


# Rules and counters


async def test_rules_of_one_path_follow_each_other(proxy, session):
    proxy.on("GET", "/a", Answer(401), nth=2)
    proxy.on("GET", "/a", Answer(502), times=2)
    last = proxy.on("GET", re.compile("^/[ab]$"), Answer(404), times=None)
    assert [(await get(session, path))[0] for path in ("/a", "/a", "/a", "/a", "/b", "/c")] == [
        502, 401, 502, 404, 404, 200
    ]  # fmt: skip
    proxy.off(last)
    assert (await get(session, "/a"))[0] == 200
    assert (last.hits, len(proxy.log)) == (2, 5)


async def test_what_was_posted(proxy, session):
    for body in (b'{"prompt_id": "b", "prompt": {}}', b"[1]", b"not JSON"):
        await post(session, data=body, json=None)
    await post(session, "/api/prompt")
    await get(session, "/prompt")
    assert [sent.body for sent in proxy.book.posts] == [
        {"prompt_id": "b", "prompt": {}},
        None,
        None,
        {"prompt_id": "a"},
    ]
    assert proxy.book.count("POST", "/prompt") == 4
    assert proxy.book.requests["POST", "/prompt"] == 3


async def test_waiting_for_a_count(proxy, session):
    waiting = asyncio.create_task(proxy.book.until(lambda: proxy.book.requests["GET", "/x"] == 2))
    await get(session, "/x")
    assert not waiting.done()
    await get(session, "/x")
    await waiting


async def test_nothing_secret_is_reported(proxy, session):
    proxy.on("GET", None, Answer(401), times=None)
    await get(session, "/queue?token=hidden", headers={"Authorization": "Bearer hidden"})
    assert "hidden" not in proxy.report()


async def test_an_error_of_the_proxy_itself_is_not_hidden(http):
    faults = await FaultProxy(http.url).__aenter__()
    faults.on("GET", None, EditHead(headers="no mapping"))
    async with raw_client(faults.url) as client:
        await client.send(request())
        assert await client.to_end() == b""
    with pytest.raises(ExceptionGroup) as caught:
        await faults.__aexit__(None, None, None)
    assert isinstance(caught.value.exceptions[0], AttributeError)
