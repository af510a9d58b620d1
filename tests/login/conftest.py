"""A ComfyUI, and whatever stands before it, for the time of a test."""

from contextlib import AsyncExitStack

import pytest

from comfyclient.emulator import Emulator


@pytest.fixture
async def emulator():
    """A running emulator with the bundled catalog; nothing before it."""
    async with Emulator() as running:
        yield running


@pytest.fixture
async def serve():
    """Enter a server for the time of the test: ``server = await serve(Basic(emulator.url))``."""
    async with AsyncExitStack() as stack:
        yield stack.enter_async_context
