"""`ComfyClient` against a server: queueing, following, the outcome. Runs on the emulator and on a real ComfyUI."""

import asyncio
import json
import uuid

import pytest

from comfyclient import (
    CheckFailed,
    ComfyClient,
    ConfigError,
    EditError,
    Finished,
    JobCancelled,
    JobFailed,
    JobLost,
    JobState,
    NodeFinished,
    NodeStarted,
    OutcomeUnknown,
    OutputReady,
    Prepared,
    Preview,
    Prompt,
    PromptRejected,
    Queued,
    Started,
    Workflow,
    WorkflowError,
)
from comfyclient.wire.lifecycle import Cadence

from .prompts import failing, image, picture, save, slow


@pytest.fixture
async def comfy(server_url):
    async with ComfyClient(server_url) as client:
        yield client


async def test_what_the_instance_says_about_itself(comfy):
    info = await comfy.info()
    assert info.comfyui_version[0].isdigit()
    assert info.devices
    catalog = await comfy.catalog()
    assert catalog.version == info.comfyui_version
    assert catalog["SaveImage"].is_output


async def test_the_catalog_is_read_once(proxy):
    async with ComfyClient(proxy.url) as comfy:
        first, second = await asyncio.gather(comfy.catalog(), comfy.catalog())
        assert first is second
        assert proxy.requests["GET", "/object_info"] == 1
        assert await comfy.catalog(refresh=True) is not first


class TestOneJob:
    async def test_from_the_queue_to_its_outputs(self, comfy):
        job = await comfy.queue(picture())
        told = [event async for event in job.events()]
        assert isinstance(told[0], Queued | Started)
        assert isinstance(told[-1], Finished)
        assert told[-1].state is JobState.SUCCEEDED
        result = await job.result()
        (output,) = result.outputs
        assert (output.node_id, output.title, output.class_type) == ("2", "Save it", "SaveImage")
        assert (output.kind, output.type, output.index) == ("images", "output", 0)
        assert (await output.read()).startswith(b"\x89PNG")
        assert result.duration >= 0
        assert job.state is JobState.SUCCEEDED
        assert job.progress.value == 1.0

    async def test_events_tell_of_nodes_and_outputs(self, comfy):
        # A listener that is there from the start sees every node: the job waits behind another one.
        first = await comfy.queue(slow(steps=6, size=512), check=False)
        job = await comfy.queue(picture())
        told = [event async for event in job.events()]
        assert [e.node_id for e in told if isinstance(e, NodeStarted)] == ["1", "2"]
        assert [e.node_id for e in told if isinstance(e, NodeFinished)] == ["1", "2"]
        assert sum(isinstance(e, Started) for e in told) == 1
        (ready,) = [e for e in told if isinstance(e, OutputReady)]
        assert ready.outputs[0].filename == (await job.result()).outputs[0].filename
        for event in told:
            assert json.loads(json.dumps(event.to_json()))["prompt_id"] == job.id
        await first.result()

    async def test_who_listens_late_gets_the_end_at_once(self, comfy):
        job = await comfy.queue(picture())
        await job.result()
        assert [type(event) for event in [e async for e in job.events()]] == [Finished]

    async def test_two_listeners_hear_the_same_end(self, comfy):
        job = await comfy.queue(picture())

        async def listen():
            return [event async for event in job.events()][-1]

        first, second, _ = await asyncio.gather(listen(), listen(), job.result())
        assert first == second

    async def test_a_cached_rerun_that_is_over_in_a_moment(self, comfy):
        prompt = picture()
        first = await (await comfy.queue(prompt)).result()
        second = await (await comfy.queue(prompt)).result()
        assert set(second.cached_nodes) == {"1", "2"}
        assert [o.filename for o in second.outputs] == [o.filename for o in first.outputs]
        assert second.prompt_id != first.prompt_id

    async def test_texts(self, comfy):
        text = {"class_type": "PrimitiveString", "inputs": {"value": f"héllo {uuid.uuid4()}"}}
        show = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
        result = await (await comfy.queue(Prompt({"1": text, "2": show}))).result()
        assert [t.text for t in result.texts] == [text["inputs"]["value"]]
        assert result.outputs == ()

    async def test_a_batch_in_order(self, comfy):
        result = await (await comfy.queue(picture(batch=3))).result()
        assert [output.index for output in result.outputs] == [0, 1, 2]

    async def test_an_id_of_the_callers_own(self, comfy):
        prompt_id = str(uuid.uuid4())
        job = await comfy.queue(picture(), prompt_id=prompt_id)
        assert job.id == prompt_id
        assert (await job.result()).prompt_id == prompt_id

    @pytest.mark.parametrize(
        "prompt_id", ["", "x", "E0C6A5E2-1111-4000-8000-000000000000", "e0c6a5e2111140008000000000000000"]
    )
    async def test_ids_that_a_server_would_refuse_or_mangle(self, comfy, prompt_id):
        with pytest.raises(ConfigError):
            await comfy.queue(picture(), prompt_id=prompt_id, check=False)

    async def test_waiting_has_an_end_and_the_job_goes_on(self, comfy):
        job = await comfy.queue(slow(steps=8, size=512), check=False)
        with pytest.raises(OutcomeUnknown) as caught:
            await job.result(timeout=0)
        assert caught.value.prompt_id == job.id
        assert (await job.result()).outputs

    async def test_previews_are_for_those_who_ask(self, comfy):
        nodes = {"1": image(), "2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}}
        blocker = await comfy.queue(slow(steps=6, size=512), check=False)
        job = await comfy.queue(Prompt(nodes), previews=True)

        async def listen(previews):
            return [event async for event in job.events(previews=previews) if isinstance(event, Preview)]

        with_pictures, without = await asyncio.gather(listen(previews=True), listen(previews=False))
        assert with_pictures
        assert with_pictures[-1].media_type in {"image/png", "image/jpeg"}
        assert with_pictures[-1].image[:4] in {b"\x89PNG", b"\xff\xd8\xff\xe0"}
        assert without == []
        await blocker.result()


class TestPreparing:
    async def test_edits_and_seeds_are_in_what_is_sent(self, comfy):
        noise = {"class_type": "RandomNoise", "inputs": {"noise_seed": 1}}
        nodes = {**picture().nodes, "9": noise}
        prepared = await comfy.prepare(Prompt(nodes), {"1.width": 32, "SaveImage.filename_prefix": "other"}, seed=77)
        assert prepared.prompt.nodes["1"]["inputs"]["width"] == 32
        assert prepared.prompt.nodes["2"]["inputs"]["filename_prefix"] == "other"
        assert prepared.seeds == {"9.noise_seed": 77}
        random = [(await comfy.prepare(Prompt(nodes), seed="random")).seeds["9.noise_seed"] for _ in range(2)]
        assert random[0] != random[1]
        assert (await comfy.prepare(Prompt(nodes))).seeds == {"9.noise_seed": 1}

    async def test_a_workflow_in_api_format(self, comfy):
        job = await comfy.queue(Workflow.from_json(picture().nodes))
        assert (await job.result()).outputs

    async def test_a_saved_workflow_travels_along(self, comfy):
        empty = {"id": 1, "type": "EmptyImage", "pos": [0, 0], "size": [1, 1], "flags": {}, "order": 0, "mode": 0,
                 "inputs": [], "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
                 "widgets_values": [48, 32, 1, 5]}  # fmt: skip
        end = {"id": 2, "type": "SaveImage", "pos": [0, 0], "size": [1, 1], "flags": {}, "order": 1, "mode": 0,
               "inputs": [{"name": "images", "type": "IMAGE", "link": 1}], "outputs": [],
               "widgets_values": [save()["inputs"]["filename_prefix"]]}  # fmt: skip
        workflow = {"last_node_id": 2, "last_link_id": 1, "nodes": [empty, end], "links": [[1, 1, 0, 2, 0, "IMAGE"]],
                    "groups": [], "config": {}, "extra": {}, "version": 0.4}  # fmt: skip
        job = await comfy.queue(workflow, {"EmptyImage.color": image()["inputs"]["color"]})
        data = await (await job.result()).outputs[0].read()
        again = Workflow.parse(data)
        assert [node["type"] for node in again.data["nodes"]] == ["EmptyImage", "SaveImage"]

    async def test_everything_that_would_not_run_is_told_at_once(self, proxy):
        async with ComfyClient(proxy.url) as comfy:
            bad = Prompt({"1": image(width=-1), "2": save(), "3": {"class_type": "NoSuchNode", "inputs": {}}})
            with pytest.raises(CheckFailed) as caught:
                await comfy.queue(bad)
            assert {problem.node_id for problem in caught.value.problems} == {"1", "3"}
            with pytest.raises(EditError):
                await comfy.queue(picture(), {"1.nope": 5})
        assert proxy.requests["POST", "/prompt"] == 0

    async def test_lists_that_changed_since_are_read_anew(self, proxy, monkeypatch):
        monkeypatch.setattr("comfyclient.client._FRESH", 0.0)
        async with ComfyClient(proxy.url) as comfy:
            await comfy.catalog()
            with pytest.raises(CheckFailed):
                await comfy.queue(Prompt({"1": image(width=-1), "2": save()}))
        assert proxy.requests["GET", "/object_info"] == 2

    async def test_what_json_cannot_hold(self, comfy):
        prompt = picture()
        prompt.nodes["1"]["inputs"]["color"] = float("nan")
        with pytest.raises(WorkflowError, match="cannot be sent"):
            await comfy.queue(prompt, check=False)

    async def test_a_node_without_inputs_is_sent_with_empty_ones(self, proxy):
        # A real server takes a node without them and then dies of it.
        async with ComfyClient(proxy.url) as comfy:
            prompt = picture()
            prompt.nodes["7"] = {"class_type": "EmptyImage", "is_changed": [1.0]}
            job = await comfy.submit(prompt)
            await job.result()
            assert (await comfy.job(job.id)).prompt.nodes["7"] == {"class_type": "EmptyImage", "inputs": {}}


class TestRefusals:
    async def test_the_server_refuses_and_nothing_is_queued(self, comfy):
        before = len(await comfy.jobs())
        with pytest.raises(PromptRejected) as caught:
            await comfy.queue(Prompt({"1": image(width=-1), "2": save()}), check=False)
        (problem,) = caught.value.problems
        assert (problem.code, problem.node_id, problem.input) == ("value_smaller_than_min", "1", "width")
        assert len(await comfy.jobs()) == before

    async def test_outputs_that_the_server_drops_are_warnings(self, comfy):
        nodes = {"1": image(), "2": save(), "3": image(width=-1), "4": save("3", title="Broken")}
        job = await comfy.queue(Prompt(nodes), check=False)
        (warning,) = job.warnings
        assert (warning.code, warning.node_id) == ("value_smaller_than_min", "3")
        assert [output.node_id for output in (await job.result()).outputs] == ["2"]


class TestBadEnds:
    async def test_a_node_that_raises(self, comfy):
        job = await comfy.queue(failing())
        with pytest.raises(JobFailed) as caught:
            await job.result()
        error = caught.value
        assert (error.node_id, error.class_type, error.exception_type) == ("3", "RegexReplace", "re.error")
        assert error.prompt_id == job.id
        assert error.traceback
        assert str(error).startswith("node 3 (RegexReplace) raised re.error: ")
        last = [event async for event in job.events()][-1]
        assert (last.state, last.error.node_id) == (JobState.FAILED, "3")

    async def test_cancel_a_job_that_waits(self, comfy):
        running = await comfy.queue(slow(), check=False)
        waiting = await comfy.queue(picture())
        assert await waiting.cancel() is JobState.CANCELLED
        with pytest.raises(JobCancelled):
            await waiting.result()
        assert await waiting.cancel() is JobState.CANCELLED
        assert not running.state.is_terminal
        await running.cancel()
        await running.wait()

    async def test_cancel_a_job_that_runs(self, comfy):
        job = await comfy.queue(slow(), check=False)
        other = await comfy.queue(picture())
        async for event in job.events():
            if isinstance(event, NodeFinished):
                assert await job.cancel() is JobState.RUNNING
                break
        with pytest.raises(JobCancelled):
            await job.result()
        assert (await other.result()).outputs

    async def test_cancel_by_id(self, comfy, server_url):
        job = await comfy.queue(picture())
        await job.result()
        async with ComfyClient(server_url) as other:
            assert await other.cancel(job.id) is JobState.SUCCEEDED
            assert await other.cancel(str(uuid.uuid4())) is JobState.LOST

    async def test_a_job_that_somebody_else_took_off_the_queue(self, proxy):
        proxy.refuse_sockets = 403
        async with ComfyClient(proxy.url, poll_interval=0.1) as comfy, ComfyClient(proxy.upstream) as other:
            running = await comfy.queue(slow(), check=False)
            waiting = await comfy.queue(picture())
            assert await other.cancel(waiting.id) is JobState.CANCELLED
            with pytest.raises(JobLost):
                await waiting.result()
            await running.cancel()
            await running.wait()


class TestManyJobs:
    async def test_run_yields_each_job_once(self, proxy):
        async with ComfyClient(proxy.url) as comfy:
            queued = []
            prompts = [picture() for _ in range(60)]
            ended = [job async for job in comfy.run(prompts, ahead=16, queued=queued.append)]
            assert sorted(job.id for job in ended) == sorted(job.id for job in queued)
            assert [job.prompt for job in queued] == prompts
            names = {(await job.result()).outputs[0].filename for job in ended}
            assert len(names) == 60
        assert proxy.requests["POST", "/prompt"] == 60

    async def test_run_keeps_so_many_ahead_and_no_more(self, comfy):
        blocker = await comfy.queue(slow(steps=10, size=512), check=False)
        unfinished = set()
        most = 0

        def queued(job):
            nonlocal most
            unfinished.add(job.id)
            most = max(most, len(unfinished))

        async for job in comfy.run([picture() for _ in range(20)], ahead=5, queued=queued):
            unfinished.discard(job.id)
        # What has ended and was not yielded yet counts here, and not there.
        assert 5 <= most <= 10
        await blocker.result()

    async def test_many_ends_are_fetched_together(self, proxy, monkeypatch):
        monkeypatch.setattr("comfyclient.watch._DEAF_AFTER", 3600)  # it is only held up
        async with ComfyClient(proxy.url) as comfy, ComfyClient(proxy.upstream, poll_interval=0.05) as other:
            await (await comfy.submit(picture())).result()
            comfy._watcher._cadence = Cadence(early=3600, hearing=3600)  # on a slow machine they would be looked for
            proxy.requests.clear()
            proxy.flowing.clear()
            jobs = await asyncio.gather(*(comfy.submit(picture()) for _ in range(60)))
            await asyncio.gather(*[(await other.job(job.id)).wait() for job in jobs])
            proxy.flowing.set()
            results = await asyncio.gather(*(job.result() for job in jobs))
            assert len({result.outputs[0].filename for result in results}) == 60
        assert proxy.requests["POST", "/prompt"] == 60
        assert proxy.count("GET", "/history") <= 30

    async def test_run_ends_with_the_error_after_what_was_queued(self, comfy):
        async def prompts():
            yield Prepared(picture(), {"3.seed": 5})
            yield Prompt({"1": image(width=-1), "2": save()})
            yield picture()

        ended = []

        async def follow():
            async for job in comfy.run(prompts()):
                ended.append(await job.result())  # noqa: PERF401 - what came before the error is kept

        with pytest.raises(PromptRejected):
            await follow()
        assert [result.seeds for result in ended] == [{"3.seed": 5}]

    async def test_run_can_be_left(self, comfy):
        jobs = comfy.run(picture() for _ in range(20))
        first = await anext(jobs)
        await jobs.aclose()
        assert first.state is JobState.SUCCEEDED
        assert (await (await comfy.queue(picture())).result()).outputs

    async def test_jobs_of_the_instance(self, comfy):
        done = await comfy.queue(picture())
        await done.result()
        running = await comfy.queue(slow(), check=False)
        waiting = await comfy.queue(picture())
        async for event in running.events():
            if isinstance(event, NodeStarted):
                break
        found = {job.id: job for job in await comfy.jobs(limit=5)}
        assert [found[job.id].state for job in (running, waiting, done)] == [
            JobState.RUNNING, JobState.PENDING, JobState.SUCCEEDED,
        ]  # fmt: skip
        assert (found[done.id].nodes, found[done.id].outputs) == (2, 1)
        assert found[done.id].ended >= found[done.id].started
        assert list(found)[:2] == [running.id, waiting.id]
        await waiting.cancel()
        await running.cancel()
        await running.wait()

    async def test_take_up_a_job_again(self, comfy, server_url):
        job = await comfy.queue(picture())
        await job.result()
        async with ComfyClient(server_url) as other:
            again = await other.job(job.id)
            assert again.prompt.title("2") == "Save it"
            assert (await again.result()).outputs[0].filename == (await job.result()).outputs[0].filename
            with pytest.raises(JobLost):
                await other.job(str(uuid.uuid4()))

    async def test_take_up_a_job_that_another_client_has_running(self, comfy, server_url):
        job = await comfy.queue(slow(steps=10, size=512), check=False)
        async with ComfyClient(server_url, poll_interval=0.1) as other:
            again = await other.job(job.id)
            assert not again.state.is_terminal
            assert (await again.result()).outputs
        await job.result()


class TestCleanliness:
    async def test_closing_leaves_nothing_behind(self, server_url):
        before = asyncio.all_tasks()
        async with ComfyClient(server_url) as comfy:
            job = await comfy.queue(slow(steps=10, size=512), check=False)
            waiter = asyncio.create_task(job.result())
            listener = asyncio.create_task(anext(aiter(job.events())))
            await listener
        with pytest.raises(OutcomeUnknown, match="closed"):
            await waiter
        # The emulator's own tasks are none of ours.
        assert [task for task in asyncio.all_tasks() - before if "web_protocol" not in repr(task)] == []
        async with ComfyClient(server_url) as comfy:
            await (await comfy.job(job.id)).result()

    async def test_closing_twice_and_without_use(self, server_url):
        comfy = ComfyClient(server_url)
        await comfy.close()
        await comfy.close()

    async def test_a_cancelled_wait_does_no_harm(self, comfy):
        job = await comfy.queue(slow(steps=8, size=512), check=False)
        for wait in (job.result(), job.wait(), comfy.catalog(refresh=True), anext(aiter(job.events(previews=True)))):
            task = asyncio.ensure_future(wait)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert (await job.result()).outputs
        assert (await (await comfy.queue(picture())).result()).outputs
