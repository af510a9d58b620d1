"""The server that contract tests run against: the emulator, or the one that COMFYCLIENT_TEST_URL names."""

import os

import pytest

from .proxy import Proxy


@pytest.fixture
async def server_url():
    """The url of a ComfyUI: an emulator of the test's own, or a real one."""
    url = os.environ.get("COMFYCLIENT_TEST_URL")
    if url:
        yield url.rstrip("/")
        return
    from comfyclient.emulator import Emulator

    async with Emulator() as emulator:
        yield emulator.url


@pytest.fixture
async def proxy(server_url):
    """A proxy before it that can lose, refuse and rewrite; see `Proxy`."""
    async with Proxy(server_url) as running:
        yield running
