"""The API without an event loop, against the same servers."""

import asyncio
import contextlib
import signal
import threading

import pytest

from comfyclient import Finished, JobCancelled, JobState, OutcomeUnknown, Prompt, PromptRejected
from comfyclient.blocking import ComfyClient
from comfyclient.errors import ConfigError

from .prompts import image, picture, save, slow


async def test_the_whole_way(server_url, tmp_path):
    def run():
        with ComfyClient(server_url) as comfy:
            assert comfy.info().devices
            assert "SaveImage" in comfy.catalog()
            job = comfy.queue(picture(), {"2.filename_prefix": "blocking"})
            told = list(job.events())
            assert isinstance(told[-1], Finished)
            result = job.result()
            assert result.outputs[0].read().startswith(b"\x89PNG")
            (path,) = result.save(tmp_path)
            assert path.read_bytes() == comfy.read(result.outputs[0].ref)
            assert comfy.job(job.id).result().outputs[0].filename == path.name
            assert comfy.jobs(limit=1)[-1].id == job.id
            assert job.progress.value == 1.0
            ended = [done.result().prompt_id for done in comfy.run([picture() for _ in range(5)])]
            assert len(set(ended)) == 5
            uploaded = comfy.upload(b"text", name="x.txt", subfolder="blocking")
            assert uploaded.subfolder == "blocking"
        assert "comfyclient" not in {thread.name for thread in threading.enumerate()}

    await asyncio.to_thread(run)


async def test_errors_are_the_same(server_url):
    def run():
        with ComfyClient(server_url) as comfy:
            with pytest.raises(PromptRejected):
                comfy.queue(Prompt({"1": image(width=-1), "2": save()}), check=False)
            job = comfy.queue(slow(), check=False)
            with pytest.raises(OutcomeUnknown):
                job.result(timeout=0.01)
            job.cancel()
            with pytest.raises(JobCancelled):
                job.result()

    await asyncio.to_thread(run)


async def test_leaving_early(server_url):
    def run():
        comfy = ComfyClient(server_url)
        events = comfy.queue(picture()).events()
        next(events)
        comfy.close()
        comfy.close()
        events.close()
        with pytest.raises(ConfigError, match="closed"):
            comfy.info()

    await asyncio.to_thread(run)


@contextlib.contextmanager
def in_background(start):
    """Run a server of this module's own in a thread; the main thread is needed for Ctrl-C."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    server = start()
    try:
        yield call(server.__aenter__())
    finally:
        call(server.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_ctrl_c_cancels_the_wait_and_nothing_else():
    from comfyclient.emulator import Emulator

    with in_background(Emulator) as emulator, ComfyClient(emulator.url) as comfy:
        hold = emulator.faults.hold()
        job = comfy.queue(picture())
        assert hold.wait_reached(10)
        main = threading.get_ident()
        waiting = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
        waiting.start()
        with pytest.raises(KeyboardInterrupt):
            job.result()
        assert not job.state.is_terminal
        hold.release()
        assert job.wait() is JobState.SUCCEEDED
        assert job.result().outputs
