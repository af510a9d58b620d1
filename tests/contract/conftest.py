"""What stands before the server of contract tests."""

import pytest

from .proxy import Proxy


@pytest.fixture
async def proxy(server_url):
    """A proxy before it that can lose, refuse and rewrite; see `Proxy`."""
    async with Proxy(server_url) as running:
        yield running
