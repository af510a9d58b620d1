"""What the client makes of answers that are not what they should be, and of calls that make no sense."""

import pytest

from comfyclient import ComfyClient
from comfyclient.blocking import ComfyClient as BlockingClient
from comfyclient.emulator import Emulator
from comfyclient.errors import ConfigError, EditError, ProtocolError, TransferError
from comfyclient.workflow.prompt import Prompt


def picture(prefix="x"):
    return Prompt(
        {
            "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 3}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
        }
    )


async def test_a_web_page_is_not_saved_as_the_picture(tmp_path):
    async with Emulator() as emulator, ComfyClient(emulator.url) as comfy:
        result = await (await comfy.queue(picture())).result()
        emulator.faults.answer("/view", 200, body=b"<html>log in</html>", headers={"Content-Type": "text/html"})
        with pytest.raises(TransferError, match="web page"):
            await result.save(tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert len(await result.save(tmp_path)) == 1


async def test_a_catalog_that_is_none_is_the_servers_fault():
    async with Emulator() as emulator, ComfyClient(emulator.url) as comfy:
        emulator.faults.answer("/object_info", 200, body=b'{"x": 5}')
        with pytest.raises(ProtocolError, match="/object_info"):
            await comfy.queue(picture())


async def test_half_a_character_travels_as_the_page_sends_it(server_url):
    async with ComfyClient(server_url) as comfy:
        prompt = picture()
        prompt.nodes["2"]["_meta"] = {"title": "half \ud800"}
        job = await comfy.queue(prompt)
        await job.result()
        taken_up = await comfy.job(job.id)
        assert taken_up.prompt.nodes["2"]["_meta"] == {"title": "half \ud800"}


async def test_a_closed_client_says_so():
    async with Emulator() as emulator:
        async with ComfyClient(emulator.url) as comfy:
            pass
        with pytest.raises(ConfigError, match="closed"):
            await comfy.queue(picture())


def test_a_closed_blocking_client_says_so(comfy_emulator):
    with BlockingClient(comfy_emulator.url) as comfy:
        comfy.info()
    with pytest.raises(ConfigError, match="closed"):
        comfy.info()


async def test_an_address_that_is_no_text():
    async with Emulator() as emulator, ComfyClient(emulator.url) as comfy:
        with pytest.raises(EditError, match="no address"):
            await comfy.queue(picture(), {5: 5})
