"""Answers that are made to hurt: what one of them says must not end more than what it is about."""

import asyncio
import errno
import json
import os
import threading
import time
from pathlib import Path

import pytest

from comfyclient import ComfyClient, ConfigError, PromptRejected, TransferError
from comfyclient.auth.address import read_address
from comfyclient.errors import InstanceUnavailable
from comfyclient.files import PartFile
from comfyclient.result import Result
from comfyclient.wire.records import HistoryRecord
from comfyclient.workflow.prompt import Prompt

JOB = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
async def comfy(emulator):
    async with ComfyClient(emulator.url) as client:
        yield client


def picture():
    image = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 3}}
    save = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}
    return Prompt({"1": image, "2": save})


def entry(*, nodes=None, outputs=None, stamp=1_000, extra=None):
    """A history entry of a job that succeeded."""
    messages = [["execution_start", {"timestamp": stamp}], ["execution_success", {"timestamp": stamp}]]
    status = {"status_str": "success", "completed": True, "messages": messages}
    return {"prompt": [1, JOB, nodes or {}, extra or {}, []], "outputs": outputs or {}, "status": status}


def record_of(emulator, told):
    """Let the emulator tell it for the job's record."""
    emulator.faults.answer(f"/history/{JOB}", 200, body=json.dumps({JOB: told}), times=None)


class TestErrors:
    async def test_a_long_error_keeps_its_status(self, emulator, comfy):
        emulator.faults.answer("/queue", 503, body=b"x" * 3 * 2**20)
        with pytest.raises(InstanceUnavailable, match="HTTP 503"):
            await comfy.jobs()

    async def test_a_refusal_may_list_all_choices(self, emulator, comfy):
        errors = [{"type": "value_not_in_list", "message": "no", "details": "", "extra_info": {"input_name": "x"}}]
        choices = [f"model-{n:09}.safetensors" for n in range(100_000)]
        errors[0]["extra_info"]["input_config"] = [choices]
        body = {"error": {"message": "m"}, "node_errors": {"1": {"class_type": "EmptyImage", "errors": errors}}}
        await comfy.login()  # it is known to answer
        emulator.faults.answer("/prompt", 400, body=json.dumps(body))
        with pytest.raises(PromptRejected) as caught:
            await comfy.submit(picture())
        assert [problem.code for problem in caught.value.problems] == ["value_not_in_list"]

    @pytest.mark.parametrize(
        "url",
        ["http://a..b", f"http://{'a' * 64}", "http://exa mple:1", "http://%zz:80", "http://.", "http://\udc80:1"],
    )
    def test_a_url_that_names_no_host(self, url):
        with pytest.raises(ConfigError, match="url") as caught:
            read_address(url)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "url", ["http://my_host:1", "http://[::1]:8188", "http://münchen.example.", "http://10.0.0.1"]
    )
    def test_a_url_that_names_one(self, url):
        assert read_address(url)[0].host

    def test_a_url_without_a_host_is_told_so(self):
        with pytest.raises(ConfigError, match="names no host"):
            read_address("http://")


class TestRecords:
    async def test_one_odd_entry_of_the_queue_hides_no_other(self, emulator, comfy):
        entries = [None, [3], [4, {}], [5, "odd", None], [6, "good", {"1": {"class_type": "A"}}, {}, []]]
        body = json.dumps({"queue_running": [], "queue_pending": entries})
        emulator.faults.answer("/queue", 200, body=body)
        assert [(job.id, job.nodes) for job in await comfy.jobs()] == [("odd", 0), ("good", 1)]

    async def test_one_odd_record_hides_no_other(self, emulator, comfy):
        odd = {"1": {"images": [{"filename": "a.png", "type": ["output"]}]}}
        body = json.dumps({"a": entry(outputs=odd), "b": entry(), "c": 5})
        emulator.faults.answer("/history", 200, body=body)
        assert {job.id for job in await comfy.jobs()} == {"a", "b"}

    async def test_a_node_without_inputs(self, emulator, comfy):
        await comfy.catalog()
        record_of(emulator, entry(nodes={"1": {"class_type": "KSampler"}, "2": {"class_type": 5}, "3": []}))
        job = await comfy.job(JOB)
        assert job.prompt.nodes == {"1": {"class_type": "KSampler", "inputs": {}}}


@pytest.fixture
def east(monkeypatch):
    """A time zone whose clocks are far ahead."""
    monkeypatch.setenv("TZ", "EAST-14")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs POSIX")
class TestSaving:
    @pytest.mark.parametrize("stamp", [253_402_300_799_000, 0])
    async def test_a_time_at_the_edge_of_the_calendar(self, emulator, comfy, tmp_path, east, stamp):
        record_of(emulator, entry(outputs={"1": {"images": [{"filename": "a.png"}]}}, stamp=stamp))
        emulator.faults.answer("/view", 200, body=b"data")
        result = await (await comfy.job(JOB)).result()
        (path,) = await result.save(tmp_path, template="{date} {filename}", metadata=False)
        assert path.read_bytes() == b"data"

    async def test_a_workflow_without_a_bottom(self, emulator, comfy, tmp_path):
        deep = []
        for _ in range(700):
            deep = [deep]
        record_of(emulator, entry(extra={"extra_pnginfo": {"workflow": {"x": deep}}}))
        result = await (await comfy.job(JOB)).result()

        with pytest.raises(TransferError, match="nested too deep"):
            await result.save(tmp_path, metadata=True)

    async def test_a_thousand_outputs_are_fetched_by_a_few(self, tmp_path):
        outputs = {"1": {"images": [{"filename": "same.png"}] * 1000}}
        tasks = []

        class Instance:
            async def save(self, ref, root, parts, **_):
                tasks.append(len(asyncio.all_tasks()))
                await asyncio.sleep(0)
                return root.joinpath(*parts)

        result = Result(Instance(), HistoryRecord.from_json(JOB, entry(outputs=outputs)), Prompt({}), {})
        paths = await result.save(tmp_path)
        assert [path.name for path in paths] == ["same.png", *(f"same ({n}).png" for n in range(1, 1000))]
        assert max(tasks) < 10

    @pytest.mark.parametrize("links", [True, False])
    async def test_cancelled_while_it_is_put_in_place(self, comfy, tmp_path, monkeypatch, links):
        result = await (await comfy.queue(picture())).result()
        whole = await result.outputs[0].read()
        loop, begun, go_on, link = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), os.link

        def slow_link(source, target):
            loop.call_soon_threadsafe(begun.set)
            assert go_on.wait(30)
            if not links:
                raise OSError(errno.ENOTSUP, "no links")
            link(source, target)

        ended, place = threading.Event(), PartFile.place

        def watched_place(*args, **options):
            try:
                return place(*args, **options)
            finally:
                ended.set()

        monkeypatch.setattr(os, "link", slow_link)
        monkeypatch.setattr(PartFile, "place", watched_place)
        task = asyncio.create_task(result.outputs[0].save(tmp_path / "a.png"))
        await begun.wait()
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
            task.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(ended.wait, 30)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] in ([], [("a.png", whole)])


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens and cannot be read")
async def test_a_file_that_cannot_be_read_after_all(comfy):
    with pytest.raises(TransferError, match="cannot read /proc/self/mem"):
        await comfy.upload(Path("/proc/self/mem"))
    with pytest.raises(TransferError, match="cannot read"):
        await comfy.upload(Path("nul\0.png"))
