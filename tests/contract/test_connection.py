"""`ComfyClient` when the way to the server is bad, or what answers there is something else."""

import asyncio
import contextlib
import gzip
import json
import socket
import uuid

import pytest
from aiohttp import web

from comfyclient import (
    AuthError,
    AuthRequired,
    BasicAuth,
    ComfyClient,
    ConfigError,
    InstanceUnavailable,
    JobState,
    NodeFinished,
    NotComfyUI,
    OutcomeUnknown,
    ProtocolError,
)
from comfyclient._http import Http
from comfyclient._transport import Transport
from comfyclient.auth.address import read_address
from comfyclient.auth.session import Session

from .prompts import picture, slow
from .proxy import Proxy


@contextlib.asynccontextmanager
async def raw_server(talk):
    """A TCP server; ``talk(reader, writer)`` is one connection. Gives its port."""
    tasks = set()

    async def connection(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await talk(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*tasks)


class TestWithoutEvents:
    @pytest.mark.parametrize("status", [403, 404, 200])
    async def test_a_websocket_that_is_refused(self, proxy, status):
        proxy.refuse_sockets = status
        async with ComfyClient(proxy.url, poll_interval=0.1) as comfy:
            jobs = [await comfy.queue(picture()) for _ in range(3)]
            assert not comfy.connected
            for job in jobs:
                assert (await job.result()).outputs
        assert proxy.requests["GET", "/ws"] == 1

    async def test_a_websocket_that_is_cut_in_the_middle(self, proxy):
        async with ComfyClient(proxy.url) as comfy:
            job = await comfy.queue(slow(steps=12, size=512), check=False)
            async for event in job.events():
                if isinstance(event, NodeFinished):
                    proxy.drop_sockets()
                    break
            assert (await job.result()).outputs

    async def test_it_comes_back_with_the_same_id(self, proxy):
        async with ComfyClient(proxy.url) as comfy:
            await (await comfy.queue(picture())).result()
            proxy.drop_sockets()
            await proxy.socket_opened(2)
            assert (await (await comfy.queue(picture())).result()).outputs

    @pytest.mark.parametrize("lost", ["execution_success", '"node": null', '"executing"', "execution_"])
    async def test_messages_that_get_lost(self, proxy, lost):
        proxy.swallow = lambda frame: lost in frame or lost.replace(": ", ":") in frame
        async with ComfyClient(proxy.url) as comfy:
            assert (await (await comfy.queue(picture())).result()).outputs

    async def test_a_record_that_is_late(self, proxy):
        empty = {"status": 200, "text": "{}", "content_type": "application/json"}
        async with ComfyClient(proxy.url) as comfy:
            prompt_id = str(uuid.uuid4())
            proxy.answer("GET", f"/history/{prompt_id}", times=4, **empty)
            job = await comfy.queue(picture(), prompt_id=prompt_id)
            assert (await job.result()).outputs

    async def test_looks_that_fail_for_a_while(self, proxy):
        prompt_id = str(uuid.uuid4())
        proxy.answer("GET", f"/history/{prompt_id}", times=2, status=502)
        async with ComfyClient(proxy.url) as comfy:
            job = await comfy.queue(picture(), prompt_id=prompt_id)
            assert (await job.result()).outputs

    async def test_a_server_that_cannot_be_asked_any_more(self, proxy, monkeypatch):
        prompt_id = str(uuid.uuid4())
        monkeypatch.setattr("comfyclient.client.new_prompt_id", lambda: prompt_id)
        async with ComfyClient(proxy.url, patience=0.3, poll_interval=0.05) as comfy:
            proxy.refuse_sockets = 502
            for path in ("/queue", f"/api/jobs/{prompt_id}", f"/history/{prompt_id}"):
                proxy.answer("GET", path, times=10**9, status=502)
            job = await comfy.submit(picture())
            with pytest.raises(OutcomeUnknown, match="502"):
                await job.result()
            assert job.state is JobState.UNKNOWN

    async def test_an_error_of_our_own_leaves_nobody_waiting(self, proxy, monkeypatch):
        async def broken(http):
            raise ZeroDivisionError

        proxy.refuse_sockets = 403
        async with ComfyClient(proxy.url, poll_interval=0.05) as comfy:
            job = await comfy.submit(slow(steps=4, size=256))
            with monkeypatch.context() as patch:
                patch.setattr("comfyclient.looking.read_queue", broken)
                with pytest.raises(ZeroDivisionError):
                    await job.result()
            assert (await (await comfy.submit(picture())).result()).outputs


class TestSubmitting:
    async def test_an_answer_that_got_lost(self, proxy, monkeypatch):
        monkeypatch.setattr("comfyclient.wire.submission.SETTLE", 0.1)
        proxy.lose("POST", "/prompt")
        async with ComfyClient(proxy.url) as comfy:
            job = await comfy.queue(picture())
            assert (await job.result()).outputs
            assert [found.id for found in await comfy.jobs(limit=3)].count(job.id) == 1
        assert proxy.requests["POST", "/prompt"] == 1

    async def test_an_answer_that_got_lost_without_a_websocket(self, proxy, monkeypatch):
        monkeypatch.setattr("comfyclient.wire.submission.SETTLE", 0.1)
        proxy.refuse_sockets = 403
        proxy.lose("POST", "/prompt")
        async with ComfyClient(proxy.url) as comfy:
            assert (await (await comfy.queue(picture())).result()).outputs
        assert proxy.requests["POST", "/prompt"] == 1

    @pytest.mark.parametrize("status", [500, 502, 504, 524])
    async def test_an_error_after_which_nothing_is_queued(self, proxy, monkeypatch, status):
        monkeypatch.setattr("comfyclient.wire.submission.SETTLE", 0.05)
        proxy.answer("POST", "/prompt", status=status, text="<html>")
        async with ComfyClient(proxy.url) as comfy:
            job = await comfy.queue(picture())
            assert (await job.result()).outputs
            assert [found.id for found in await comfy.jobs(limit=3)].count(job.id) == 1
        assert proxy.requests["POST", "/prompt"] == 2

    async def test_it_is_sent_again_only_once(self, proxy, monkeypatch):
        monkeypatch.setattr("comfyclient.wire.submission.SETTLE", 0.05)
        proxy.answer("POST", "/prompt", times=2, status=502, text="<html>")
        async with ComfyClient(proxy.url) as comfy:
            with pytest.raises(InstanceUnavailable, match="was not queued"):
                await comfy.queue(picture())
            assert (await (await comfy.queue(picture())).result()).outputs
        assert proxy.requests["POST", "/prompt"] == 3

    @pytest.mark.parametrize("key", ["api_key_comfy_org", "auth_token_comfy_org"])
    async def test_what_costs_money_is_never_sent_again(self, proxy, monkeypatch, key):
        monkeypatch.setattr("comfyclient.wire.submission.SETTLE", 0.05)
        proxy.answer("POST", "/prompt", status=502)
        async with ComfyClient(proxy.url) as comfy:
            with pytest.raises(OutcomeUnknown, match="was not sent again"):
                await comfy.queue(picture(), extra_data={key: "k"})
        assert proxy.requests["POST", "/prompt"] == 1

    async def test_nor_what_a_server_without_our_ids_may_have_taken(self, proxy, monkeypatch):
        monkeypatch.setattr("comfyclient.wire.submission.SETTLE", 0.05)
        proxy.answer("POST", "/prompt", status=502)
        stats = {"system": {"comfyui_version": "0.3.30", "python_version": "3", "os": "x"}, "devices": []}
        proxy.answer("GET", "/system_stats", times=10**9, text=json.dumps(stats), content_type="application/json")
        async with ComfyClient(proxy.url) as comfy:
            with pytest.raises(OutcomeUnknown, match="was not sent again"):
                await comfy.submit(picture())
        assert proxy.requests["POST", "/prompt"] == 1

    async def test_an_instance_that_asks_to_wait(self, proxy):
        proxy.answer("POST", "/prompt", times=2, status=429, headers={"Retry-After": "0"})
        async with ComfyClient(proxy.url) as comfy:
            assert (await (await comfy.submit(picture())).result()).outputs
        assert proxy.requests["POST", "/prompt"] == 3

    async def test_when_nobody_can_say(self, proxy, monkeypatch):
        monkeypatch.setattr("comfyclient.wire.submission._LOOK_AGAIN", 0.02)
        proxy.answer("POST", "/prompt", status=502)
        proxy.answer("GET", "/queue", times=10**9, status=502)
        async with ComfyClient(proxy.url, timeout=0.1) as comfy:
            prompt_id = str(uuid.uuid4())
            with pytest.raises(OutcomeUnknown) as caught:
                await comfy.submit(picture(), prompt_id=prompt_id)
            assert caught.value.prompt_id == prompt_id
        assert proxy.requests["POST", "/prompt"] == 1

    @pytest.mark.parametrize(
        ("response", "error"),
        [
            ({"times": 2, "status": 200, "text": '{"exec_info": {"queue_remaining": 0}}'}, ProtocolError),
            ({"times": 2, "status": 200, "text": "<html>log in</html>", "content_type": "text/html"}, NotComfyUI),
            ({"status": 302, "headers": {"Location": "/login?next=/prompt"}}, AuthRequired),
            ({"status": 307, "headers": {"Location": "https://other.example/prompt?token=s3cret"}}, ProtocolError),
            ({"status": 401}, AuthRequired),
            ({"status": 404}, NotComfyUI),
            ({"status": 429}, InstanceUnavailable),
            ({"status": 429, "headers": {"Retry-After": "soon"}}, InstanceUnavailable),
            ({"status": 429, "headers": {"Retry-After": "99999"}}, InstanceUnavailable),
        ],
    )
    async def test_answers_that_mean_that_nothing_was_queued(self, proxy, monkeypatch, response, error):
        monkeypatch.setattr("comfyclient.wire.submission.SETTLE", 0.05)
        proxy.answer("POST", "/prompt", **response)
        async with ComfyClient(proxy.url) as comfy:
            with pytest.raises(error) as caught:
                await comfy.queue(picture())
            assert "s3cret" not in str(caught.value)
            assert "\n" not in str(caught.value)
        assert proxy.requests["POST", "/prompt"] == response.get("times", 1)

    async def test_an_old_server_that_chooses_the_id_itself(self, proxy):
        theirs = str(uuid.uuid4())
        async with ComfyClient(proxy.url, poll_interval=0.05) as comfy, ComfyClient(proxy.upstream) as other:
            real = await other.submit(picture(), prompt_id=theirs)
            body = json.dumps({"prompt_id": theirs, "number": 1, "node_errors": {}})
            proxy.answer("POST", "/prompt", text=body, content_type="application/json")
            job = await comfy.submit(real.prompt)
            assert job.id == theirs
            # Its events go to another client here; a reconnect is what makes this one look.
            proxy.drop_sockets()
            assert (await job.result()).prompt_id == theirs


class TestTheWay:
    async def test_a_path_prefix(self, server_url):
        async with Proxy(server_url, prefix="/some/comfy") as proxy, ComfyClient(proxy.url + "/") as comfy:
            assert (await (await comfy.queue(picture())).result()).outputs
            assert comfy.connected
            assert str(comfy.url) == proxy.url

    async def test_a_credential_goes_with_every_request(self, proxy):
        async with ComfyClient(proxy.url, auth=BasicAuth("käthe", "päss:wörd")) as comfy:
            await (await (await comfy.queue(picture())).result()).outputs[0].read()
        expected = "Basic a8OkdGhlOnDDpHNzOnfDtnJk"
        assert {path: headers.get("Authorization") for path, headers in proxy.headers.items()} == dict.fromkeys(
            proxy.headers, expected
        )
        assert {"/ws", "/prompt", "/view", "/object_info"} <= set(proxy.headers)

    async def test_what_requests_say_of_themselves(self, proxy):
        async with ComfyClient(proxy.url) as comfy:
            await (await comfy.queue(picture())).result()
        for headers in proxy.headers.values():
            assert headers["User-Agent"].startswith("comfyclient/")
            assert "Origin" not in headers
            assert "Cookie" not in headers
        assert "Sec-WebSocket-Extensions" not in proxy.headers["/ws"]

    async def test_nobody_listens(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            async with ComfyClient(url) as comfy:
                with pytest.raises(InstanceUnavailable) as caught:
                    await comfy.info()
                assert str(caught.value) == f"cannot connect to {url}: connection refused"
                assert "is ComfyUI running there?" in caught.value.hint
                with pytest.raises(InstanceUnavailable):
                    await comfy.submit(picture())

    async def test_a_host_that_is_not_there(self):
        async with ComfyClient("http://user:s3cret@no-such-host.invalid:1") as comfy:
            with pytest.raises(InstanceUnavailable) as caught:
                await comfy.info()
            assert "s3cret" not in f"{caught.value!r} {caught.value} {comfy.url}"

    async def test_a_server_that_never_answers(self):
        async def silent(reader, writer):
            await reader.read()

        async with raw_server(silent) as port, ComfyClient(f"http://127.0.0.1:{port}", timeout=0.1) as comfy:
            with pytest.raises(InstanceUnavailable, match="in time"):
                await comfy.info()

    async def test_a_server_that_speaks_something_else(self):
        async def ssh(reader, writer):
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            await writer.drain()
            await reader.read()

        async with raw_server(ssh) as port:
            for scheme in ("http", "https"):
                async with ComfyClient(f"{scheme}://127.0.0.1:{port}", timeout=5) as comfy:
                    with pytest.raises((NotComfyUI, InstanceUnavailable)) as caught:
                        await comfy.info()
                    assert "\n" not in str(caught.value)


@pytest.fixture
async def serve():
    """Start a web server with one handler; returns its url."""
    runners = []

    async def start(handler):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ({"text": "<!doctype html><title>Hi</title>", "content_type": "text/html"}, NotComfyUI),
        ({"text": "hello"}, ProtocolError),
        ({"text": "{}", "content_type": "application/json"}, NotComfyUI),
        ({"text": "[" * 100_000, "content_type": "application/json"}, ProtocolError),
        ({"status": 404, "text": "nothing"}, NotComfyUI),
        ({"status": 403}, AuthError),
        ({"status": 503, "text": "<html>"}, InstanceUnavailable),
        ({"status": 302, "headers": {"Location": "https://team.cloudflareaccess.com/x"}}, AuthRequired),
        ({"status": 308, "headers": {"Location": "https://127.0.0.1:1/system_stats"}}, ProtocolError),
        ({"status": 302, "headers": {"Location": "http://[bad"}}, ProtocolError),
        ({"status": 302}, ProtocolError),
    ],
)
async def test_servers_that_are_not_comfyui(serve, response, error):
    async def handler(request):
        return web.Response(**response)

    async with ComfyClient(await serve(handler)) as comfy:
        with pytest.raises(error) as caught:
            await comfy.info()
        assert type(caught.value) is error
        assert "\n" not in str(caught.value)


async def test_a_small_answer_that_unpacks_to_a_huge_one(serve):
    bomb = gzip.compress(b" " * (8 << 20))

    async def handler(request):
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    base, _ = read_address(await serve(handler))
    transport = Transport(timeout=5)
    with pytest.raises(ProtocolError, match="larger than 1 MiB"):
        await Http(transport, Session(transport, base)).request("GET", "/queue", cap=1 << 20)
    await transport.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:8188", "needs a scheme, e.g. http://"),
        ("", "needs a scheme"),
        ("ftp://host", "is not http or https"),
        ("http://", "names no host"),
        ("http://host:99999", "cannot be read"),
        ("http://u:s3cret@host:port", "cannot be read"),
        ("http://host/?tokem=s3cret", "must end before"),
        ("http://host/?token=s3cret&x=s3cret", "must end before"),
        ("http://host/?token=", "token is empty"),
        ("http://user:1234/s3cret@host", "has an '@' behind its host"),
        ("http://user:1234#s3cret@host", "must end before"),
        ("http://user:1234?s3cret@host", "must end before"),
        ("http://host/#s3cret", "must end before"),
    ],
)
def test_urls_that_make_no_sense(url, words):
    with pytest.raises(ConfigError) as caught:
        ComfyClient(url)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://host", "http://host"),
        ("https://host:8443/comfy/", "https://host:8443/comfy"),
        ("http://[::1]:8188/", "http://[::1]:8188"),
        ("http://käse.example/ä b", "http://xn--kse-qla.example/%C3%A4%20b"),
        (" http://user:p%40ss@host:1 ", "http://host:1"),
    ],
)
def test_urls(url, base):
    parsed, credential = read_address(url)
    assert str(parsed) == base
    assert bool(credential) == ("user" in url)
    assert "p@ss" not in repr(credential)
