"""What all tests share."""

import os

import pytest


# No test comes near the keyring of whoever runs it, nor the logins that are stored there.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"


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
