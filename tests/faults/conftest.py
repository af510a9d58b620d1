"""The proxy before the server that fault tests run against. A failure shows the seed and what was injected."""

import os

import pytest

from .proxy import FaultProxy


@pytest.fixture
def fault_seed():
    """What decides chances: another number each time, or that of COMFYCLIENT_FAULT_SEED."""
    seed = os.environ.get("COMFYCLIENT_FAULT_SEED")
    return int(seed) if seed else None


@pytest.fixture
async def faults(server_url, fault_seed):
    """A `FaultProxy` before the server: ``faults.url`` is for the client."""
    async with FaultProxy(server_url, seed=fault_seed) as proxy:
        yield proxy


@pytest.fixture
async def proxied(emulator, fault_seed):
    """A `FaultProxy` before the emulator of this test."""
    async with FaultProxy(emulator.url, seed=fault_seed) as proxy:
        yield proxy


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show what was injected."""
    report = yield
    if report.failed:
        proxies = (value for value in getattr(item, "funcargs", {}).values() if isinstance(value, FaultProxy))
        report.sections.extend(("injected faults", proxy.report()) for proxy in proxies)
    return report
