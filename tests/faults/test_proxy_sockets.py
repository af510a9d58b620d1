"""Websockets through the proxy, with the websockets library and the emulator: carried, and disturbed by rule."""

import asyncio
import json
import uuid

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from .frames import BINARY, CLOSE, PONG, TEXT, DelayFrame, Later, Message, Repeat, Replace, Swallow, encode
from .http_toxics import Answer
from .proxy import FaultProxy
from .support import HttpServer, raw_client, raw_server, request
from .toxics import LimitData, Slicer, Timeout

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


def open_socket(proxy, **options):
    """No compression, as of our client: a proxy cannot leave out a part of a compressed stream."""
    url = proxy.url.replace("http", "ws", 1) + "/ws"
    return connect(url, max_size=None, **({"compression": None, "proxy": None, "ping_interval": None} | options))


async def said(http, socket, *messages):
    """What of these, and of a last one, the client gets."""
    for message in messages:
        await (http.sockets[-1].send_str(message) if isinstance(message, str) else http.sockets[-1].send_bytes(message))
    await http.sockets[-1].send_str("last")
    received = []
    while (message := await socket.recv()) != "last":
        received.append(message)
    return received


def event(kind, **data):
    return json.dumps({"type": kind, "data": data})


A, B, C = event("a"), event("b"), event("c")


async def run_prompt(url):
    """Run a prompt; the kinds of the messages that came."""
    client_id, kinds = uuid.uuid4().hex, []
    address = f"{url.replace('http', 'ws', 1)}/ws?clientId={client_id}"
    async with connect(address, max_size=None, proxy=None) as socket, aiohttp.ClientSession() as session:
        await socket.recv()
        body = {"prompt": PROMPT, "client_id": client_id}
        async with session.post(url + "/prompt", json=body) as response:
            assert response.status == 200
        while not kinds or kinds[-1] != "execution_success":
            kinds.append(json.loads(await socket.recv())["type"])
    return kinds


async def test_a_prompt_runs_through_the_proxy_as_without(server_url, faults):
    """With compression: without rules nothing is looked into."""
    kinds = await run_prompt(faults.url)
    assert {"execution_start", "executed", "execution_success"} <= set(kinds)
    assert faults.book.sockets == 1
    await faults.book.until(lambda: faults.book.open_sockets == 0)


@pytest.mark.parametrize("ruled", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 2**16 - 1, 2**16, 5 * 10**6])
async def test_messages_of_every_length_in_both_directions(http, proxy, size, ruled):
    if ruled:
        proxy.on_message(Swallow(), "nothing")
    async with open_socket(proxy) as socket:
        data = bytes([7]) * size
        await socket.send(data)
        assert await http.heard.get() == data
        assert await said(http, socket, data, "x" * size) == [data, "x" * size]
        await (await socket.ping())
    assert await http.heard.get() == ("closed", 1000)
    assert ruled or proxy.book.peak < 2 * 2**20


async def test_sliced_messages(http, proxy):
    proxy.on("GET", "/ws", Slicer(3, 2))
    proxy.on_message(Repeat(), "b")
    async with open_socket(proxy) as socket:
        assert await said(http, socket, A, B, C) == [A, B, B, C]


@pytest.mark.parametrize(
    ("toxic", "kinds"),
    [
        (Swallow(), "acac"), (Repeat(3), "abbbcabbbc"), (Later(), "acbacb"), (Later(9), "acac"),
        (DelayFrame(0), "abcabc"), (Replace(lambda message: C), "accacc"),
    ],
)  # fmt: skip
async def test_messages_of_one_kind(http, proxy, toxic, kinds):
    async with open_socket(proxy) as socket:
        assert await said(http, socket, A, B, C) == [A, B, C]
        proxy.on_message(toxic, "b", times=None)
        received = await said(http, socket, A, B, C, A, B, C)
    assert "".join(json.loads(message)["type"] for message in received) == kinds
    assert [entry.where for entry in proxy.log] == ["websocket on connection 1, message 'b'"] * 2


async def test_messages_that_a_function_chooses(http, proxy):
    proxy.on_message(Swallow(), lambda message: message.json == {"type": "a", "data": {"n": 2}}, times=None)
    proxy.on_message(Swallow(), 1)  # a binary message of ComfyUI's kind 1
    preview = b"\x00\x00\x00\x01jpeg"
    async with open_socket(proxy) as socket:
        sent = [event("a", n=1), event("a", n=2), preview, preview, b"\x00\x00\x00\x02x", "[]", b""]
        assert await said(http, socket, *sent) == [sent[0], preview, *sent[4:]]


async def test_seeded_chances_choose_the_same_messages_again(http):
    messages = [event("progress", value=value) for value in range(60)]

    async def received(seed):
        async with FaultProxy(http.url, seed=seed) as proxy, open_socket(proxy) as socket:
            proxy.on_message(Swallow(), "progress", times=None, probability=0.5)
            return await said(http, socket, *messages)

    first = await received(5)
    assert 10 < len(first) < 50
    assert first == await received(5) != await received(6)


async def test_messages_of_the_proxys_own(http, proxy):
    async with open_socket(proxy) as socket:
        await proxy.book.until(lambda: proxy.book.open_sockets == 1)
        await proxy.inject("text")
        await proxy.inject(b"\x00\x00\x00")
        assert await said(http, socket, A) == ["text", b"\x00\x00\x00", A]
        await proxy.inject(Message.make((4000).to_bytes(2) + b"bye", CLOSE))
        with pytest.raises(ConnectionClosedError) as caught:
            await socket.recv()
        assert caught.value.rcvd.code == 4000


async def test_a_message_of_the_proxys_own_waits_for_the_end_of_another():
    head, frame, rest = b"HTTP/1.1 101 Switching Protocols\r\n\r\n", encode(BINARY, bytes(1000)), asyncio.Event()

    async def talk(side):
        await side.until(1)
        await side.send(head, frame[:500])
        await rest.wait()
        await side.send(frame[500:])
        await side.to_end()

    async with raw_server(talk) as (url, _), FaultProxy(url) as proxy, raw_client(proxy.url) as client:
        await client.send(request(path="/ws", Upgrade="websocket"))
        await client.until(len(head) + 500)
        await proxy.inject("x")
        rest.set()
        await client.until(len(head) + 1000 + 4 + 3)
        assert client.received == head + frame + encode(TEXT, b"x")


async def test_a_frame_that_is_none(http, proxy):
    async with open_socket(proxy) as socket:
        await proxy.book.until(lambda: proxy.book.open_sockets == 1)
        await proxy.inject(Message(0, b"", encode(BINARY, b"x")[:1].replace(b"\x82", b"\xf2") + b"\x01x"))
        with pytest.raises(ConnectionClosedError) as caught:
            await socket.recv()
        assert caught.value.sent.code == 1002


async def test_a_frozen_direction_thaws(http, proxy):
    async with open_socket(proxy) as socket:
        await said(http, socket)
        proxy.freeze("down")
        receiving = asyncio.create_task(said(http, socket, A, B))
        await socket.send("up still goes")
        assert await http.heard.get() == "up still goes"
        async with aiohttp.ClientSession() as session, session.get(proxy.url) as response:
            assert response.status == 200  # only websockets are frozen
        assert not receiving.done()
        proxy.thaw("down")
        assert await receiving == [A, B]
        proxy.freeze("up")
        await socket.send("held back")
        assert await said(http, socket, C) == [C]
        assert http.heard.empty()
        proxy.thaw("up")
        assert await http.heard.get() == "held back"


async def test_dropped_sockets(http, proxy):
    async with open_socket(proxy) as first, open_socket(proxy) as second:
        assert proxy.drop_sockets() == 2
        for socket in (first, second):
            with pytest.raises(ConnectionClosedError):
                await socket.recv()
        assert {await http.heard.get(), await http.heard.get()} == {("closed", 1006)}
        await proxy.book.until(lambda: proxy.book.open_sockets == 0)
        async with open_socket(proxy) as third:
            assert await said(http, third, A) == [A]
    assert proxy.book.sockets == 3


async def test_a_server_that_does_not_learn_of_the_end(http, proxy):
    """The way to a deaf socket: the old connection is closed only after the new one is there."""
    async with open_socket(proxy) as first:
        assert proxy.drop_sockets(keep_upstream=True) == 1
        with pytest.raises(ConnectionClosedError):
            await first.recv()
        async with open_socket(proxy) as second:
            await second.send("new")
            assert await http.heard.get() == "new"
            await http.sockets[0].send_str("to nobody")
            await proxy.close_kept()
            assert (await http.heard.get())[0] == "closed"
            assert await said(http, second, A) == [A]


async def test_a_deaf_socket(server_url):
    """With the emulator (or a real server): the close of the first connection makes the second deaf."""
    async with FaultProxy(server_url) as proxy:
        url = f"{proxy.url.replace('http', 'ws', 1)}/ws?clientId={uuid.uuid4().hex}"
        async with connect(url, proxy=None) as first:
            await first.recv()
            proxy.drop_sockets(keep_upstream=True)
            async with connect(url, proxy=None) as second:
                await second.recv()
                await proxy.close_kept()
                async with connect(f"{url}other", proxy=None) as other:
                    assert "feature_flags" in await answers_to_flags(other)
                assert "feature_flags" not in await answers_to_flags(second)


async def answers_to_flags(socket):
    """What kinds of messages come after a client has said what it can do: the answer goes where the id leads."""
    kinds = []

    async def collect():
        kinds.extend([json.loads(message)["type"] async for message in socket])

    collecting = asyncio.create_task(collect())
    await socket.send(json.dumps({"type": "feature_flags", "data": {}}))
    await (await socket.ping())  # messages are dealt with in order, so the answer would be here
    await socket.close()
    await collecting
    return kinds


async def test_half_open(http, proxy):
    """Neither pings nor messages come through, and nobody is told."""
    async with open_socket(proxy) as socket:
        await said(http, socket)
        assert proxy.poison(Timeout()) == 1
        pong = await socket.ping()
        await http.sockets[-1].send_str(A)
        await proxy.book.until(lambda: proxy.book.hung == 2)
        assert not pong.done()
        assert proxy.drop_sockets() == 1
        with pytest.raises(ConnectionClosedError):
            await socket.recv()


async def test_swallowed_pongs(http, proxy):
    proxy.on_message(Swallow(), lambda message: message.opcode == PONG)
    async with open_socket(proxy) as socket:
        pong = await socket.ping()
        later = await socket.ping()
        await later
        assert pong.done()  # a later pong counts for earlier pings
        assert len(proxy.log) == 1


async def test_a_socket_that_is_cut_after_so_many_bytes(http, proxy):
    proxy.on("GET", "/ws", LimitData(2000))
    async with open_socket(proxy) as socket:
        with pytest.raises(ConnectionClosedError):
            await said(http, socket, *["x" * 100] * 100)


async def test_a_handshake_that_is_refused(proxy):
    proxy.on("GET", "/ws", Answer(403, body="no"))
    with pytest.raises(InvalidStatus) as caught:
        async with open_socket(proxy):
            raise AssertionError
    assert (caught.value.response.status_code, caught.value.response.body) == (403, b"no")
    assert proxy.book.sockets == 0
    async with open_socket(proxy):
        assert proxy.book.sockets == 1
