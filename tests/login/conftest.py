"""Whatever stands before a ComfyUI, for the time of a test."""

from contextlib import AsyncExitStack

import pytest


@pytest.fixture
async def serve():
    """Enter a server for the time of the test: ``server = await serve(Basic(emulator.url))``."""
    async with AsyncExitStack() as stack:
        yield stack.enter_async_context
