"""Every way in which the emulator can be told to misbehave."""

import asyncio
import contextlib
import threading

import aiohttp
import pytest

from comfyclient.emulator import Emulator, Faults
from comfyclient.emulator.background import run_in_background

from .emulator_client import emulated, node, picture, txt2img, until


@pytest.fixture
async def comfy():
    async with emulated() as client:
        yield client


@pytest.fixture
def faults(comfy):
    return comfy.emulator.faults


class TestNodes:
    async def test_a_class_that_fails(self, comfy, faults):
        faults.fail("EmptyImage", "out of memory")
        entry = await comfy.run(picture())
        error = entry["status"]["messages"][-1][1]
        assert (error["node_id"], error["exception_type"]) == ("1", "RuntimeError")
        assert error["exception_message"] == "out of memory\n"
        faults.fail("EmptyImage", MemoryError("none left"))
        entry = await comfy.run(picture())
        assert entry["status"]["messages"][-1][1]["exception_type"] == "MemoryError"
        faults.clear_nodes()
        assert (await comfy.run(picture()))["status"]["completed"]

    async def test_a_class_that_blocks_warns_and_the_run_succeeds(self, comfy, faults):
        faults.block("EmptyImage", "nothing to see")
        async with comfy.socket("me") as socket:
            prompt = picture() | {"3": node("PrimitiveString", value="x"), "4": node("PreviewAny", source=["3", 0])}
            prompt_id = await comfy.submit(prompt, client_id="me")
            await socket.until_done(prompt_id)
        warnings = [
            frame["data"] for frame in socket.frames if isinstance(frame, dict) and frame["type"] == "execution_error"
        ]
        assert len(warnings) == 1
        assert warnings[0]["exception_type"] == "ExecutionBlocked"
        assert warnings[0]["exception_message"] == "Execution Blocked: nothing to see"
        assert warnings[0]["node_id"] == "2"
        assert "timestamp" not in warnings[0]
        entry = await comfy.ended(prompt_id)
        assert entry["status"]["status_str"] == "success"
        assert list(entry["outputs"]) == ["4"]
        assert "execution_error" not in dict(entry["status"]["messages"])

    async def test_a_node_that_is_held(self, comfy, faults):
        hold = faults.hold("SaveImage")
        prompt_id = await comfy.submit(picture())
        await hold.reached()
        assert [item[1] for item in (await comfy.get("/queue"))["queue_running"]] == [prompt_id]
        hold.release()
        assert (await comfy.ended(prompt_id))["status"]["completed"]

    async def test_an_interrupt_while_the_last_node_runs_comes_too_late(self, comfy, faults):
        hold = faults.hold("SaveImage")
        prompt_id = await comfy.submit(picture())
        await hold.reached()
        await comfy.call("POST", "/interrupt", json={"prompt_id": prompt_id})
        hold.release()
        assert (await comfy.ended(prompt_id))["status"]["status_str"] == "success"
        assert (await comfy.run(picture(2)))["status"]["status_str"] == "success"

    async def test_an_interrupt_while_another_node_runs(self, comfy, faults):
        hold = faults.hold("EmptyImage")
        prompt_id = await comfy.submit(picture())
        await hold.reached()
        await comfy.call("POST", "/interrupt", json={})
        hold.release()
        kind, data = (await comfy.ended(prompt_id))["status"]["messages"][-1]
        assert (kind, data["node_id"], data["executed"]) == ("execution_interrupted", "2", ["1"])

    @pytest.mark.parametrize("slow", ["slow", "node_delay", "step_delay"])
    async def test_nodes_that_take_longer(self, comfy, faults, slow, monkeypatch):
        waits = []
        sleep = asyncio.sleep

        async def noted(seconds, *result):
            waits.append(seconds)
            await sleep(0, *result)

        monkeypatch.setattr("comfyclient.emulator.faults.asyncio.sleep", noted)
        if slow == "slow":
            faults.slow("KSampler", 7.5)
        else:
            setattr(faults, slow, 7.5)
        assert (await comfy.run(txt2img(steps=3)))["status"]["completed"]
        assert waits.count(7.5) == {"slow": 1, "node_delay": 7, "step_delay": 3}[slow]


class TestHttp:
    async def test_a_500_after_the_prompt_was_queued(self, comfy, faults):
        faults.break_posts("error")
        status, answer = await comfy.call("POST", "/prompt", json={"prompt": picture()})
        assert (status, answer) == (500, b"500 Internal Server Error\n\nServer got itself in trouble")
        await comfy.run(picture(2))
        assert len(await comfy.get("/history")) == 2

    async def test_an_answer_that_never_comes(self, comfy, faults):
        faults.break_posts("drop", times=2)
        for number in range(2):
            with pytest.raises(aiohttp.ClientConnectionError):
                await comfy.submit(picture(number))
        await comfy.run(picture(9))
        assert len(await comfy.get("/history")) == 3

    async def test_a_request_that_never_arrives(self, comfy, faults):
        faults.break_posts("drop_before")
        with pytest.raises(aiohttp.ClientConnectionError):
            await comfy.submit(picture())
        await comfy.run(picture(2))
        assert len(await comfy.get("/history")) == 1

    async def test_canned_answers(self, comfy, faults):
        faults.answer("/queue", 429, headers={"Retry-After": "2"}, body="later", times=2)
        assert (await comfy.call("GET", "/queue"))[0] == 429
        async with comfy.session.get(f"{comfy.emulator.url}/api/queue") as response:
            assert (response.status, response.headers["Retry-After"], await response.text()) == (429, "2", "later")
        assert (await comfy.call("GET", "/queue"))[0] == 200
        faults.answer("*", 503, times=None)
        assert [(await comfy.call("GET", path))[0] for path in ("/prompt", "/history", "/view")] == [503] * 3
        faults.clear_answers()
        assert (await comfy.call("GET", "/prompt"))[0] == 200


class TestSockets:
    async def test_all_sockets_dropped(self, comfy, faults):
        async with comfy.socket("a") as first, comfy.socket("b") as second:
            assert faults.drop_sockets() == 2
            await first.until_closed()
            await second.until_closed()
            assert first.ws.close_code == second.ws.close_code == 1006
        async with comfy.socket("a") as again:
            await again.until_done(await comfy.submit(picture(), client_id="a"))

    async def test_sockets_refused(self, comfy, faults):
        faults.refuse_sockets = 403
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with comfy.socket("a"):
                pass
        assert refused.value.status == 403
        faults.refuse_sockets = None
        async with comfy.socket("a"):
            pass

    async def test_a_stalled_publisher_says_everything_later(self, comfy, faults):
        async with comfy.socket("a") as socket:
            faults.stall_publisher()
            heard = len(socket.frames)
            prompt_id = await comfy.submit(picture(), client_id="a")
            assert (await comfy.ended(prompt_id))["status"]["completed"]
            assert len(socket.frames) == heard
            faults.resume_publisher()
            await socket.until_done(prompt_id)
            assert socket.types()[heard : heard + 3] == ["status", "status", "execution_start"]

    @pytest.mark.parametrize("deafen", [True, False])
    async def test_whether_the_older_socket_makes_the_newer_one_deaf(self, comfy, faults, deafen):
        faults.deafen = deafen
        table = comfy.emulator.core.sockets
        async with contextlib.AsyncExitStack() as stack:
            async with comfy.socket("same"):
                newer = await stack.enter_async_context(comfy.socket("same"))
            await until(lambda: table.open_count == 1)  # the server has noticed that the older one is gone
            heard = len(newer.frames)
            await comfy.run(picture(), client_id="same")
            other = await stack.enter_async_context(comfy.socket("bystander"))
            await other.until_done(await comfy.submit(picture(2), client_id="bystander"))
            assert (len(newer.frames) == heard) is deafen


class TestServer:
    async def test_a_restart_forgets_everything(self, comfy, faults):
        await comfy.run(picture())
        await comfy.run(
            {
                "1": node("EmptyImage", width=8, height=8, batch_size=1, color=2),
                "2": node("PreviewImage", images=["1", 0]),
            }
        )
        hold = faults.hold("SaveImage")
        running = await comfy.submit(picture(3))
        waiting = await comfy.submit(picture(4))
        await hold.reached()
        async with comfy.socket("a") as socket:
            faults.restart()
            await socket.until_closed()
        hold.release()
        assert await comfy.get("/history") == {}
        assert await comfy.get("/queue") == {"queue_running": [], "queue_pending": []}
        assert (await comfy.call("GET", f"/api/jobs/{running}"))[0] == 404
        assert list(comfy.emulator.folders.temp.iterdir()) == []
        _, answer = await comfy.call("POST", "/prompt", json={"prompt": picture(5)})
        assert answer["number"] == 0
        assert (await comfy.ended(answer["prompt_id"]))["status"]["completed"]
        assert await comfy.get(f"/history/{waiting}") == {}

    async def test_nobody_listens_while_it_is_down(self, comfy):
        await comfy.run(picture())
        async with comfy.emulator.down():
            with pytest.raises(aiohttp.ClientConnectionError):
                async with aiohttp.ClientSession() as session, session.get(comfy.emulator.url):
                    pass
        assert await comfy.get("/history") == {}

    async def test_a_wedged_worker(self, comfy, faults):
        hold = faults.hold("SaveImage")
        running = await comfy.submit(picture())
        await hold.reached()
        faults.wedge()
        hold.release()
        waiting = await comfy.submit(picture(2))
        await comfy.call("POST", "/interrupt", json={})
        queue = await comfy.get("/queue")
        assert [item[1] for item in queue["queue_running"]] == [running]
        assert [item[1] for item in queue["queue_pending"]] == [waiting]
        faults.restart()
        assert await comfy.get("/queue") == {"queue_running": [], "queue_pending": []}
        assert (await comfy.run(picture(3)))["status"]["completed"]

    async def test_a_record_that_comes_late(self, comfy, faults):
        gate = asyncio.Event()

        class Waits(float):
            pass

        faults.history_lag = Waits(5)
        sleep = asyncio.sleep

        async def gated(seconds, *result):
            await (gate.wait() if isinstance(seconds, Waits) else sleep(seconds, *result))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("comfyclient.emulator.core.asyncio.sleep", gated)
            async with comfy.socket("a") as socket:
                prompt_id = await comfy.submit(picture(), client_id="a")
                await socket.until("execution_success", prompt_id=prompt_id)
                assert await comfy.get(f"/history/{prompt_id}") == {}
                assert [item[1] for item in (await comfy.get("/queue"))["queue_running"]] == [prompt_id]
                gate.set()
                await socket.until_done(prompt_id)
                assert (await comfy.get(f"/history/{prompt_id}"))[prompt_id]["status"]["completed"]

    async def test_history_that_is_forgotten(self, comfy, faults):
        ids = [await comfy.submit(picture(number)) for number in range(3)]
        await comfy.ended(ids[-1])
        faults.evict_history(keep=1)
        assert list(await comfy.get("/history")) == ids[-1:]
        faults.evict_history()
        assert await comfy.get("/history") == {}


class TestThreads:
    def test_faults_work_from_another_thread(self):
        with run_in_background() as emulator:
            assert emulator.faults.drop_sockets() == 0
            emulator.faults.stall_publisher()
            emulator.faults.resume_publisher()
            emulator.faults.evict_history()
            emulator.faults.restart()

    def test_a_hold_can_be_waited_for_without_an_event_loop(self):
        with run_in_background() as emulator:
            hold = emulator.faults.hold("EmptyImage")

            async def submit():
                url, body = f"{emulator.url}/prompt", {"prompt": picture()}
                async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
                    assert response.status == 200

            asyncio.run(submit())
            assert hold.wait_reached(20)
            assert emulator.core.queue.running
            hold.release()

    def test_without_an_emulator_there_is_nothing_to_break(self):
        faults = Faults()
        with pytest.raises(RuntimeError, match="not running"):
            faults.drop_sockets()

    def test_the_end_of_the_emulator_frees_a_worker_that_is_held(self):
        async def leave_it_held():
            async with Emulator() as emulator, aiohttp.ClientSession() as session:
                hold = emulator.faults.hold()
                async with session.post(f"{emulator.url}/prompt", json={"prompt": picture()}):
                    await hold.reached()

        asyncio.run(leave_it_held())
        assert not [thread for thread in threading.enumerate() if "emulator" in thread.name]
