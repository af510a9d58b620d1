"""The ComfyUI behind the server: an emulator, or the one that COMFYCLIENT_TEST_URL names."""

import os

import pytest

from comfyclient.emulator import Emulator


@pytest.fixture
async def emulator():
    """An emulator of the test's own."""
    async with Emulator() as running:
        yield running


@pytest.fixture
async def comfy(request):
    """The url of a ComfyUI, which may be a real one."""
    url = os.environ.get("COMFYCLIENT_TEST_URL")
    if url:
        yield url.rstrip("/")
        return
    async with Emulator() as running:
        yield running.url
