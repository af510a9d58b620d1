"""Following jobs when something is shared, doubled, silent or closed: nobody waits for ever or is told wrongly."""

import asyncio
import contextlib
import json
import threading
import uuid

import pytest

from comfyclient import (
    ComfyClient,
    ConfigError,
    JobCancelled,
    JobState,
    NotComfyUI,
    OutcomeUnknown,
    ProtocolError,
    blocking,
)

from .prompts import picture, slow


@pytest.fixture
async def comfy(server_url):
    async with ComfyClient(server_url) as client:
        yield client


def ours():
    """The tasks that clients have running."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("comfyclient")]


class TestTwoOfOneId:
    async def test_two_who_take_up_a_job_at_once_both_see_its_end(self, comfy, server_url):
        job = await comfy.submit(slow(steps=8, size=512))
        async with ComfyClient(server_url, poll_interval=0.1) as other:
            first, second = await asyncio.gather(other.job(job.id), other.job(job.id))
            results = await asyncio.gather(first.result(), second.result())
            assert [result.prompt_id for result in results] == [job.id, job.id]

    async def test_an_id_that_is_open_here_is_refused(self, comfy):
        blocker = await comfy.submit(slow(steps=8, size=512))
        prompt_id = str(uuid.uuid4())
        answers = await asyncio.gather(
            *(comfy.submit(picture(), prompt_id=prompt_id) for _ in range(2)), return_exceptions=True
        )
        (refused,) = [answer for answer in answers if isinstance(answer, Exception)]
        assert isinstance(refused, ConfigError)
        (job,) = [answer for answer in answers if not isinstance(answer, Exception)]
        assert (await job.result()).prompt_id == prompt_id
        await blocker.wait()

    @pytest.mark.parametrize("recent", [True, False])
    async def test_an_id_that_the_instance_knows_is_refused(self, proxy, recent):
        prompt_id = str(uuid.uuid4())
        if not recent:
            proxy.answer("GET", f"/api/jobs/{prompt_id}", times=9, status=404, text="404: Not Found")
        async with ComfyClient(proxy.url) as comfy:
            await (await comfy.submit(picture(), prompt_id=prompt_id)).result()
            proxy.lose("POST", "/prompt")
            with pytest.raises(ConfigError, match="already"):
                await comfy.submit(picture(), prompt_id=prompt_id)
        assert proxy.requests["POST", "/prompt"] == 1

    async def test_one_id_for_two_prompts_harms_only_the_second(self, proxy):
        async with ComfyClient(proxy.url, poll_interval=0.05) as comfy:
            first = await comfy.submit(slow(steps=8, size=512))
            body = json.dumps({"prompt_id": first.id, "number": 1, "node_errors": {}})
            proxy.answer("POST", "/prompt", text=body, content_type="application/json")
            with pytest.raises(ProtocolError, match="another job"):
                await comfy.submit(picture())
            assert (await first.result()).prompt_id == first.id


class TestRefusedLooks:
    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_refusal_that_passes_ends_nothing(self, proxy, status):
        proxy.refuse_sockets = 502
        async with ComfyClient(proxy.url, poll_interval=0.05) as comfy:
            proxy.answer("GET", "/queue", times=2, status=status)
            job = await comfy.submit(slow(steps=4, size=256))
            assert (await job.result()).outputs

    async def test_a_refusal_that_lasts_ends_what_was_accepted_and_nothing_else(self, proxy, monkeypatch):
        monkeypatch.setattr("comfyclient.looking._REFUSED_FOR", 0.2)
        monkeypatch.setattr("comfyclient.wire.submission.SETTLE", 0.05)
        proxy.refuse_sockets = 502
        async with ComfyClient(proxy.url, poll_interval=0.05) as comfy:
            proxy.answer("GET", "/queue", times=10**9, status=403)
            job = await comfy.submit(picture())
            submitting = comfy._watcher.follow(str(uuid.uuid4()), (), str)
            with pytest.raises(OutcomeUnknown, match="refuses"):
                await job.result()
            assert submitting.tracker.state is JobState.SUBMITTING
        assert proxy.requests["GET", "/queue"] >= 3

    async def test_a_job_given_up_is_not_taken_for_queued(self, proxy, monkeypatch):
        monkeypatch.setattr("comfyclient.wire.submission._LOOK_AGAIN", 0.02)
        proxy.refuse_sockets = 502
        proxy.answer("POST", "/prompt", status=502)
        proxy.answer("GET", "/queue", times=10**9, status=403)
        async with ComfyClient(proxy.url, timeout=0.2) as comfy:
            task = asyncio.create_task(comfy.submit(picture()))
            while not proxy.requests["POST", "/prompt"]:  # noqa: ASYNC110 - there is nothing to wait on
                await asyncio.sleep(0)
            for following in tuple(comfy._watcher._open.values()):
                comfy._watcher._settle(following, following.tracker.give_up("tired"))
            with pytest.raises(OutcomeUnknown):
                await task


@contextlib.asynccontextmanager
async def spoiling(url, answer):
    """A relay that passes everything on, and answers POST /prompt with these bytes when it was acted upon."""
    host, port = url.removeprefix("http://").split(":")

    async def pump(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def relay(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            body = await reader.readexactly(int(fields.get(b"content-length", 0)))
            above, below = await asyncio.open_connection(host, int(port))
            if b"upgrade" not in fields:
                head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            below.write(head + body)
            if head.startswith(b"POST /prompt"):
                await above.read()
                below.close()
                writer.write(answer)
                await writer.drain()
            else:
                await asyncio.gather(pump(above, writer), pump(reader, below))
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


_HUGE = b"x" * (2**20 + 10)


class TestAnswersThatCannotBeRead:
    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nBad Header Line\r\n\r\n",
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\n\r\n%s" % (len(_HUGE), _HUGE),
            b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{"prompt_id": "',
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
            b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nxx",
            b"HTTP/1.1 507 X\r\nContent-Length: 0\r\n\r\n",
        ],
        ids=["garbled", "huge", "cut", "page", "short", "507"],
    )
    async def test_what_was_queued_is_adopted(self, server_url, monkeypatch, answer):
        monkeypatch.setattr("comfyclient.wire.submission.SETTLE", 0.1)
        async with spoiling(server_url, answer) as url, ComfyClient(url, poll_interval=0.1) as comfy:
            job = await comfy.submit(picture())
            assert (await job.result()).prompt_id == job.id

    async def test_and_what_was_not_is_said_to_be_not(self, proxy, monkeypatch):
        monkeypatch.setattr("comfyclient.wire.submission.SETTLE", 0.05)
        proxy.answer("POST", "/prompt", times=2, text="<html>log in</html>", content_type="text/html")
        async with ComfyClient(proxy.url) as comfy:
            with pytest.raises(NotComfyUI, match="was not queued"):
                await comfy.submit(picture())


class TestCancelling:
    async def test_a_command_without_effect(self, proxy):
        async with ComfyClient(proxy.url) as comfy:
            blocker = await comfy.submit(slow(steps=8, size=512))
            job = await comfy.submit(picture())
            proxy.answer("POST", "/queue", status=200)
            assert await job.cancel() is JobState.PENDING
            assert (await job.result()).outputs
            await blocker.wait()

    async def test_a_command_that_was_refused_cancels_nothing(self, proxy):
        async with ComfyClient(proxy.url) as comfy:
            blocker = await comfy.submit(slow())
            job = await comfy.submit(picture())
            proxy.answer("POST", "/queue", status=500)
            with pytest.raises(ProtocolError):
                await job.cancel()
            assert comfy._watcher.get(job.id).tracker._dequeued_at is None
            assert await job.cancel() is JobState.CANCELLED
            with pytest.raises(JobCancelled):
                await job.result()
            await blocker.cancel()
            await blocker.wait()


class TestClosing:
    async def test_a_closed_client_refuses_and_starts_nothing(self, server_url):
        comfy = ComfyClient(server_url)
        await comfy.close()
        for call in (comfy.submit(picture()), comfy.queue(picture(), check=False), comfy.job(str(uuid.uuid4()))):
            with pytest.raises(ConfigError, match="closed"):
                await call
        assert ours() == []

    @pytest.mark.parametrize("steps", [0, 1, 2, 5])
    async def test_a_submission_that_overlaps_leaves_no_task(self, server_url, steps):
        comfy = ComfyClient(server_url)
        task = asyncio.create_task(comfy.submit(picture()))
        for _ in range(steps):
            await asyncio.sleep(0)
        await comfy.close()
        with pytest.raises(ConfigError, match="closed"):
            await task
        assert ours() == []

    async def test_cancelling_the_close_is_heard_and_all_is_closed(self, server_url, monkeypatch):
        comfy = ComfyClient(server_url)
        await comfy.submit(picture())
        reached = asyncio.Event()
        real = asyncio.wait

        async def wait(tasks):
            reached.set()
            return await real(tasks)

        monkeypatch.setattr("comfyclient.socket.asyncio.wait", wait)
        stuck = asyncio.Event()
        tasks = [comfy._socket._task]

        async def clinging():
            with contextlib.suppress(asyncio.CancelledError):
                await stuck.wait()
            await stuck.wait()

        comfy._socket._task = clinger = asyncio.create_task(clinging())
        await asyncio.sleep(0)
        closing = asyncio.create_task(comfy.close())
        await reached.wait()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(ConfigError, match="closed"):
            await comfy.info()
        assert comfy._watcher._task is None
        stuck.set()
        await clinger
        tasks[0].cancel()
        await real(tasks)

    async def test_an_error_nobody_thought_of_does_not_end_the_socket(self, server_url, monkeypatch):
        async def broken(self):
            raise ImportError("connecting through a SOCKS proxy requires python-socks")

        with monkeypatch.context() as patch:
            patch.setattr("comfyclient.socket.EventSocket._connect", broken)
            patch.setattr("comfyclient.socket._REFUSED_FIRST", 0.01)
            comfy = ComfyClient(server_url, poll_interval=0.05)
            assert (await (await comfy.submit(picture())).result()).outputs
            assert "python-socks" in comfy._socket.error
        while not comfy.connected:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        await comfy.close()
        assert ours() == []

    async def test_another_thread_closes_while_one_waits(self, server_url):
        def run():
            comfy = blocking.ComfyClient(server_url)
            outcome = []
            begun = threading.Event()

            async def endless():
                begun.set()
                await asyncio.Event().wait()

            def wait():
                try:
                    comfy._portal.call(endless())
                except ConfigError as error:
                    outcome.append(str(error))

            thread = threading.Thread(target=wait, daemon=True)
            thread.start()
            begun.wait()
            comfy.close()
            thread.join(10)
            assert outcome == ["the client was closed"]
            comfy.close()
            assert not comfy._portal._thread.is_alive()

        await asyncio.to_thread(run)

    async def test_a_callback_that_calls_its_client_is_told_so(self, server_url):
        def run():
            with blocking.ComfyClient(server_url) as comfy:
                jobs = comfy.run([picture()], queued=lambda job: job.progress)
                assert [job.state for job in [next(jobs)]] == [JobState.SUCCEEDED]
                with pytest.raises(RuntimeError, match="callback"):
                    next(jobs)

        await asyncio.to_thread(run)


class TestADeafSocket:
    async def test_it_is_noticed_and_opened_anew(self, proxy):
        async with ComfyClient(proxy.url, poll_interval=0.1) as comfy:
            await (await comfy.submit(picture())).result()
            proxy.flowing.clear()
            job = await comfy.submit(slow(steps=60))
            await proxy.socket_opened(2)
            assert not comfy.connected
            await job.cancel()
            with pytest.raises(JobCancelled):
                await job.result()
            proxy.flowing.set()

    async def test_one_that_tells_is_kept(self, proxy):
        async with ComfyClient(proxy.url) as comfy:
            for _ in range(3):
                await (await comfy.submit(slow(steps=4, size=256))).result()
        assert proxy.requests["GET", "/ws"] == 1

    async def test_a_server_that_is_held_up_for_a_while_is_not_cut_off(self, comfy):
        await (await comfy.submit(picture())).wait()
        assert comfy._socket._connection_open.ping_timeout >= 60

    async def test_frames_of_custom_nodes_are_not_parsed(self, comfy, monkeypatch):
        job = await comfy.submit(slow(steps=8, size=512))
        with monkeypatch.context() as patch:
            patch.setattr("comfyclient.watch.decode", None)
            for kind in ("my_node", "crystools.monitor", "my-node/x"):
                for data in ({"x": [1] * 100}, [1] * 100):
                    comfy._watcher.on_frame(json.dumps({"type": kind, "data": data}))
            comfy._watcher.on_frame(b"\0\0\0\x63" + b"x" * 100)
        await job.wait()
