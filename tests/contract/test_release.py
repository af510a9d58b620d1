"""A workflow is converted as the frontend that the instance ships would convert it."""

from comfyclient import ComfyClient
from comfyclient.emulator import Emulator

# Values saved as an object: 1.49 loses them, 1.58 takes them in their order.
OBJECT_VALUES = {
    "nodes": [{"id": 1, "type": "EmptyImage", "mode": 0, "widgets_values": {"a": 8, "b": 9, "c": 1, "d": 5}}],
    "links": [],
    "version": 0.4,
}


async def inputs(comfy, **options):
    return (await comfy.prepare(OBJECT_VALUES, check=False, **options)).prompt.nodes["1"]["inputs"]


async def test_the_instances_release_is_the_default(server_url):
    async with ComfyClient(server_url) as comfy:
        release = (await comfy.info()).frontend_version
        assert await inputs(comfy) == await inputs(comfy, frontend=release)


async def test_releases_do_differ():
    async with Emulator() as emulator, ComfyClient(emulator.url) as comfy:
        assert await inputs(comfy, frontend="1.58") == {"width": 8, "height": 9, "batch_size": 1, "color": 5}
        assert await inputs(comfy, frontend="1.49") == {}
