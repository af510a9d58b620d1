"""A result, and what is left of it when saving is stopped."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from comfyclient import result as module
from comfyclient.result import Result
from comfyclient.wire.records import HistoryRecord
from comfyclient.workflow.prompt import Prompt

ENTRY = {
    "prompt": [1, "a-job", {}, {}, []],
    "outputs": {"9": {"text": ["grüße"]}},
    "status": {"status_str": "success", "completed": True, "messages": []},
}


async def test_saving_that_is_cancelled_leaves_no_thread_and_no_part(tmp_path, monkeypatch):
    """The text is written to its end before the cancellation is told of."""
    begun, go = threading.Event(), threading.Event()

    class Slow(module.PartFile):
        def write(self, data):
            begun.set()
            go.wait(30)
            super().write(data)

    monkeypatch.setattr(module, "PartFile", Slow)
    result = Result(SimpleNamespace(instance="x"), HistoryRecord.from_json("a-job", ENTRY), Prompt({}), {})
    saving = asyncio.create_task(result.save(tmp_path, texts=True))
    await asyncio.to_thread(begun.wait, 30)
    for _ in range(2):
        saving.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    still = not saving.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert still
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("9_0.txt", "grüße")]
