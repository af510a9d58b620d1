"""The proxy as a carrier of bytes: exact without rules, and each toxic of connections as it says."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyclient.emulator import Emulator

from .proxy import FaultProxy
from .support import HttpServer, answering, listener, ok, raw_client, raw_server, request
from .test_framing import cut, requests, responses
from .toxics import Bandwidth, Corrupt, Latency, LimitData, ResetPeer, Slicer, SlowClose, Timeout
from .wire import RST_ON_CLOSE

PLACES = st.lists(st.integers(0, 2000), max_size=6)
HARMLESS = [Slicer(3, 2), Latency(0), Bandwidth(10**9), Slicer(40, direction="up")]


@pytest.fixture
async def http():
    async with HttpServer() as server:
        yield server


@pytest.fixture
def slept(monkeypatch):
    """How long the proxy wanted to wait; it does not wait."""
    real, delays = asyncio.sleep, []

    async def sleep(seconds):
        delays.append(seconds)
        await real(0)

    monkeypatch.setattr("tests.faults.link.asyncio.sleep", sleep)
    return delays


async def carried(up, down, *, toxics=(), http=True):
    """What server and client receive when these pieces are sent; nothing may be left behind."""
    before = asyncio.all_tasks()
    expected = len(b"".join(up))

    async def talk(side):
        await side.until(expected)
        await side.send(*down)
        if http:
            await side.to_end()

    async with raw_server(talk) as (url, sides), FaultProxy(url, seed=1) as faults:
        for toxic in toxics:
            faults.on_connection(toxic)
        async with raw_client(faults.url) as client:
            await client.send(*up)
            if http:
                await client.until(len(b"".join(down)))
                client.writer.write_eof()
            await client.to_end()
            await sides[0].over.wait()
    assert asyncio.all_tasks() == before
    return sides[0].received, client.received


@settings(max_examples=60)
@given(
    st.lists(st.tuples(requests(), responses()), min_size=1, max_size=4),
    PLACES,
    PLACES,
    st.lists(st.sampled_from(HARMLESS), max_size=2),
)
def test_http_is_carried_byte_by_byte(exchanges, up_cuts, down_cuts, toxics):
    up = b"".join(raw for (_, raw), _ in exchanges)
    down = b"".join(raw for _, (method, _, raw) in exchanges if method != "HEAD")
    received = asyncio.run(carried(cut(up, up_cuts), cut(down, down_cuts), toxics=toxics))
    assert received == (up, down)


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=300), st.binary(max_size=300), PLACES, PLACES)
def test_anything_else_is_carried_byte_by_byte(up, down, up_cuts, down_cuts):
    """The server learns of the end of what it reads, since it may be what it waits for."""

    async def both():
        async def talk(side):
            await side.to_end()
            await side.send(*cut(down, down_cuts))

        async with raw_server(talk) as (url, sides), FaultProxy(url) as faults, raw_client(faults.url) as client:
            await client.send(*cut(up, up_cuts))
            client.writer.write_eof()
            return sides, await client.to_end()

    sides, received = asyncio.run(both())
    assert (sides[0].received, received) == (up, down)


async def test_a_client_that_says_nothing_leaves_nothing_behind(http):
    async with FaultProxy(http.url) as faults:
        async with raw_client(faults.url):
            await faults.book.until(lambda: faults.book.connections == 1)
        async with raw_client(faults.url) as client:
            await client.send(b"GE")
        async with aiohttp.ClientSession() as session, session.get(faults.url) as response:
            assert response.status == 200


async def test_two_hundred_connections_at_once(http):
    async def one(number):
        body = b"%d;" % number * 1000
        async with session.post(faults.url + "/echo", data=body) as response:
            return await response.read() == body

    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with FaultProxy(http.url) as faults, aiohttp.ClientSession(connector=connector) as session:
        assert all(await asyncio.gather(*map(one, range(200))))
        assert faults.book.connections == 200
        assert faults.book.requests["POST", "/echo"] == 200
    assert len(http.requests) == 200


@pytest.mark.parametrize("query", ["", "?chunked"])
async def test_large_bodies_are_not_held_in_memory(http, query):
    size = 64 * 2**20

    async def produce():
        for _ in range(64):
            yield bytes(2**20)

    async with (
        FaultProxy(http.url) as faults,
        aiohttp.ClientSession() as session,
        session.put(faults.url + f"/size/{size}{query}", data=produce()) as response,
    ):
        received = sum([len(data) async for data in response.content.iter_chunked(2**18)])
    assert received == size
    assert http.requests == [("PUT", f"/size/{size}", size)]
    assert 0 < faults.book.peak < 2**20


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_slow_reader_does_not_fill_the_memory(way):
    size = 32 * 2**20
    head = b"PUT / HTTP/1.1" if way == "up" else b"HTTP/1.1 200 OK"
    start = head + b"\r\nContent-Length: %d\r\n\r\n" % size

    async def slowly(side):
        total = 0
        while total < size:
            total += len(await side.reader.read(2**13))
            await asyncio.sleep(0)  # everybody else gets a turn

    async def talk(side):
        if way == "up":
            await slowly(side)
            await side.send(ok(b"x"))
        else:
            await side.until(len(request()))
            await side.send(start, bytes(size))
        await side.to_end()

    async with raw_server(talk) as (url, _), FaultProxy(url) as faults, raw_client(faults.url) as client:
        await client.send(*([start, bytes(size)] if way == "up" else [request()]))
        await (client.until(1) if way == "up" else slowly(client))
    assert 0 < faults.book.peak < 2**20


async def test_a_server_that_is_not_there(unused_tcp_port):
    async with FaultProxy(f"http://127.0.0.1:{unused_tcp_port}") as faults, raw_client(faults.url) as client:
        await client.send(request())
        assert await client.to_end() == b""
        assert client.ended == "reset"


async def test_down_and_up_again_at_the_same_address(http):
    async with FaultProxy(http.url) as faults, aiohttp.ClientSession() as session:
        url = faults.url
        async with session.get(url) as response:
            assert response.status == 200
        async with faults.down():
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(url)
        async with session.get(url) as response:
            assert response.status == 200
    assert len(http.requests) == 2


async def test_a_server_with_tls():
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    async with (
        Emulator(ssl_context=server) as emulator,
        FaultProxy(emulator.url, ssl_context=client) as faults,
        aiohttp.ClientSession() as session,
    ):
        faults.on("GET", "/queue", LimitData(10), nth=2)
        async with session.get(faults.url + "/queue") as response:
            assert await response.json() == {"queue_running": [], "queue_pending": []}
        async with raw_client(faults.url) as raw:
            await raw.send(request(path="/queue"))
            assert await raw.to_end() == b"HTTP/1.1 2"
    async with FaultProxy(emulator.url) as faults, raw_client(faults.url) as raw:
        await raw.send(request())
        assert await raw.to_end() == b""


# Toxics of connections


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("size", [1, 30, 50])
async def test_limit_data_down(how, size):
    answer = ok(b"x" * 100)
    async with raw_server(answering(answer)) as (url, sides), FaultProxy(url) as faults:
        faults.on_connection(LimitData(size, how))
        async with raw_client(faults.url) as client:
            await client.send(request())
            assert await client.to_end() == answer[:size]
            assert client.ended == {"close": "eof", "reset": "reset"}[how]
            await sides[0].over.wait()
    assert sides[0].received == request() + b"|"


async def test_limit_data_up():
    async with raw_server(listener()) as (url, sides), FaultProxy(url) as faults:
        faults.on_connection(LimitData(70, direction="up"))
        async with raw_client(faults.url) as client:
            sent = request("POST", body=b"x" * 100)
            await client.send(sent)
            assert await client.to_end() == b""
            await sides[0].over.wait()
    assert sides[0].received == sent[:70]


async def test_reset_peer_resets_both(http):
    server = raw_server(answering(ok(b"a")))
    async with server as (url, sides), FaultProxy(url) as faults, raw_client(faults.url) as client:
        await client.send(request())
        await client.until(len(ok(b"a")))
        assert faults.poison(ResetPeer(), sockets_only=False) == 1
        await client.to_end()
        await sides[0].over.wait()
    assert (client.ended, sides[0].ended) == ("reset", "reset")


async def test_reset_peer_for_one_connection_of_three(http):
    ends = []
    async with FaultProxy(http.url) as faults:
        faults.on_connection(ResetPeer(), 2)
        for _ in range(3):
            async with raw_client(faults.url) as client:
                try:
                    await client.send(request(Connection="close"))
                    await client.to_end()
                except ConnectionError:
                    client.ended = "reset"
                ends.append(client.ended)
    assert ends == ["eof", "reset", "eof"]
    assert [str(entry) for entry in faults.log] == [f"connection 2: {ResetPeer()!r}"]


async def test_reset_peer_after_a_while_strikes_an_idle_connection(http):
    async with FaultProxy(http.url) as faults:
        faults.on_connection(ResetPeer(0.01))
        async with raw_client(faults.url) as client:
            await client.to_end()
            assert client.ended == "reset"


async def test_timeout_lets_nothing_through_and_keeps_the_connection():
    async with raw_server(listener()) as (url, sides), FaultProxy(url) as faults:
        faults.on_connection(Timeout(direction="up"))
        async with raw_client(faults.url) as client:
            await client.send(request(), request())
            await faults.book.until(lambda: faults.book.hung == 1)
            assert faults.drop_all() == 1  # still open
            assert await client.to_end() == b""
    assert sides == []


async def test_timeout_of_answers_hides_even_the_end_of_the_server():
    async def talk(side):
        await side.until(len(request()))
        await side.send(ok(b"never seen"))

    async with raw_server(talk) as (url, sides), FaultProxy(url) as faults:
        faults.on_connection(Timeout(direction="down"))
        async with raw_client(faults.url) as client:
            await client.send(request())
            await faults.book.until(lambda: faults.book.hung == 1)
            await sides[0].over.wait()
            async with raw_client(faults.url) as other:  # behind it, the proxy has seen the end too
                await other.send(request())
                assert await other.to_end() == ok(b"never seen")
            reading = asyncio.create_task(client.to_end())
            await client.send(request())
            assert faults.drop_all() >= 1
            assert await reading == b""
            assert client.ended == "reset"


async def test_timeout_with_an_end():
    async with raw_server(listener()) as (url, _), FaultProxy(url) as faults:
        faults.on_connection(Timeout(0.01))
        async with raw_client(faults.url) as client:
            await client.send(request())
            assert await client.to_end() == b""
            assert client.ended == "eof"


async def test_a_black_hole_ends_with_the_client(http):
    async with FaultProxy(http.url) as faults:
        faults.on_connection(Timeout())
        async with raw_client(faults.url) as client:
            await client.send(request())
            await faults.book.until(lambda: faults.book.hung == 1)
            (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "fault-proxy-1")
            assert not task.done()
        await task
    assert http.requests == []


async def test_delays_are_waited_for(http, slept):
    async with FaultProxy(http.url) as faults, aiohttp.ClientSession() as session:
        faults.on("POST", "/echo", Latency(3, direction="up"))
        faults.on("POST", "/echo", Bandwidth(1000))
        async with session.post(faults.url + "/echo", data=b"x" * 500) as response:
            assert len(await response.read()) == 500
    assert 3 in slept
    assert sum(seconds for seconds in slept if seconds != 3) > 0.5  # 500 bytes and a head at 1000 a second


async def test_an_answer_that_is_on_its_way_arrives_though_the_server_hung_up(monkeypatch):
    """As when an upload is too large: the rest of it finds nobody, but why can still be read."""
    arrived, sleeping = asyncio.Event(), asyncio.Event()

    async def sleep(_):
        sleeping.set()
        await arrived.wait()

    async def talk(side):
        await side.until(1)
        await side.send(ok(b"too much"))
        sock = side.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
        side.writer.transport.abort()

    monkeypatch.setattr("tests.faults.link.asyncio.sleep", sleep)
    async with raw_server(talk) as (url, sides), FaultProxy(url) as faults, raw_client(faults.url) as client:
        faults.on("PUT", "/", Latency(1))
        await client.send(request("PUT", body=b"x" * 100)[:-50])
        await sleeping.wait()
        await sides[0].over.wait()
        for _ in range(5):
            await client.send(b"more")
            async with raw_client(faults.url) as other:  # behind it, the proxy has dealt with that
                await other.send(request())
                await other.to_end()
        arrived.set()
        assert await client.to_end() == ok(b"too much")


async def test_slow_close(slept):
    async def talk(side):
        await side.until(len(request()))
        await side.send(ok(b"a"))

    async with raw_server(talk) as (url, _), FaultProxy(url) as faults:
        faults.on_connection(SlowClose(7))
        async with raw_client(faults.url) as client:
            await client.send(request())
            assert await client.to_end() == ok(b"a")
            assert client.ended == "eof"
    assert slept == [7]


async def test_corrupt(http):
    async with raw_server(answering(ok(b"a" * 100))) as (url, _), FaultProxy(url) as faults:
        faults.on("GET", None, Corrupt(1))
        async with raw_client(faults.url) as client:
            await client.send(request())
            await client.until(len(ok(b"a" * 100)))
    differing = [one ^ other for one, other in zip(client.received, ok(b"a" * 100), strict=True)]
    assert all(bits.bit_count() == 1 for bits in differing)


# Replay


async def session_of_faults(url, seed):
    """The log of a fixed order of requests, each on a connection of its own."""
    async with FaultProxy(url, seed=seed) as faults:
        faults.on_connection(LimitData((1, 300)), times=None, probability=0.2)
        faults.on(None, "/echo", ResetPeer(), times=None, probability=0.3)
        received = []
        for number in range(30):
            async with raw_client(faults.url) as client:
                await client.send(request("POST", "/echo", body=b"%d" % number, Connection="close"))
                received.append(await client.to_end())
        return faults.report(), [len(data) for data in received], faults.log


async def test_a_seed_gives_the_same_faults_again(http):
    report, sizes, log = await session_of_faults(http.url, 11)
    assert (report, sizes) == (await session_of_faults(http.url, 11))[:2]
    assert sizes != (await session_of_faults(http.url, 12))[1]
    assert len(log) > 5
    assert report.startswith("seed 11;")
    assert report.count("\n") == len(log)


def test_a_failure_shows_seed_and_faults(tmp_path):
    root = Path(__file__).parents[2]
    (tmp_path / "conftest.py").write_text(
        "from tests.conftest import server_url\nfrom tests.faults.conftest import *\n"
    )
    (tmp_path / "test_it.py").write_text(
        "from tests.faults.toxics import ResetPeer\n"
        "async def test_it(faults):\n"
        "    faults.book.note('somewhere', ResetPeer())\n"
        "    assert not faults.url\n"
    )
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    settings = {"PYTHONPATH": path, "COMFYCLIENT_TEST_URL": "http://127.0.0.1:1", "COMFYCLIENT_FAULT_SEED": "1234"}
    options = ["-c", str(root / "pyproject.toml"), "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        env=os.environ | settings, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 1, run.stdout + run.stderr
    assert "injected faults" in run.stdout
    assert "COMFYCLIENT_FAULT_SEED=1234" in run.stdout
    assert "somewhere: ResetPeer(" in run.stdout
