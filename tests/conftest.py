"""What all tests share."""

import os
import signal

import pytest

from comfyclient.emulator import Emulator

# No test comes near the keyring of whoever runs it, nor the logins that are stored there.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"

# A shell that runs the tests in the background has Ctrl-C ignored, and the processes that tests start would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _state_of_its_own(tmp_path_factory):
    """Processes that tests start keep no journal among that of whoever runs the tests."""
    os.environ["COMFYCLIENT_STATE_DIR"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture
async def emulator():
    """An emulator of the test's own."""
    async with Emulator() as running:
        yield running


@pytest.fixture
async def server_url():
    """The url of a ComfyUI: the test's own emulator, or the real one that COMFYCLIENT_TEST_URL names."""
    url = os.environ.get("COMFYCLIENT_TEST_URL")
    if url:
        yield url.rstrip("/")
        return
    async with Emulator() as running:
        yield running.url


def pytest_collection_modifyitems(items):
    """Keep the order of files, whatever the number of workers."""
    items.sort(key=lambda item: str(item.path))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a missing tool is a failure: there nothing may be skipped."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {report.longrepr}"
