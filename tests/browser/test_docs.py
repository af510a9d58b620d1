"""``/docs`` and ``/redoc`` in a real Chromium that has nothing but the server."""

import contextlib
import json
import os
import signal

import pytest
from playwright.async_api import async_playwright, expect

from comfyclient.emulator import Emulator

from ..cli_support import ROOT  # noqa: TID252
from ..contract.processes import Process, no_process_stays  # noqa: F401, TID252
from .frontend import CHROMIUM_FLAGS, chromium, missing

KEY = "a-key-that-nobody-guesses"
STATUS = "#operations-one_session-get_session_status"
START = "#operations-one_session-post_session_start"
# It must work although no name can be looked up.
OFFLINE = [*CHROMIUM_FLAGS, "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--no-proxy-server"]


@pytest.fixture(autouse=True)
def _needs_chromium():
    if (lacking := missing()) is not None:
        pytest.skip(lacking)


@contextlib.asynccontextmanager
async def serving(folder, key=None):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COMFYCLIENT_STATE_DIR": str(folder)}
    environment |= {"COMFYCLIENT_SERVE_API_KEY": key} if key else {}
    server = await Process.start("serve", "--port", "0", "--no-access-log", env=environment)
    yield (await server.process.stdout.readline()).decode().strip()
    server.signal(signal.SIGTERM)
    assert (await server.end())[0] == 0


class Watched:
    """A page, and what it does that it should not."""

    def __init__(self, page, url):
        self.page, self.url = page, url
        self.requests, self.complaints = [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def assert_harmless(self):
        elsewhere = [url for url in self.requests if not url.startswith((f"{self.url}/", "data:"))]
        assert elsewhere == []
        assert len(self.requests) >= 4  # the page, a library, a script of ours, the document
        assert self.complaints == []


@pytest.fixture
async def browse():
    """Open pages, each in a browser profile of its own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=OFFLINE)

        async def opened(url, path):
            context = await browser.new_context()
            context.set_default_timeout(60_000)
            watched = Watched(await context.new_page(), url)
            await watched.page.goto(f"{url}{path}")
            return watched

        yield opened
        await browser.close()


async def try_out(page, operation, body=None):
    """Call an operation, and read what the page shows of the answer: its status and its body."""
    await page.click(f"{operation} .opblock-summary-control")
    await page.click(f"{operation} .try-out__btn")
    if body is not None:
        await page.fill(f"{operation} textarea.body-param__text", json.dumps(body))
    await page.click(f"{operation} .execute")
    answer = page.locator(f"{operation} .live-responses-table tbody tr.response")
    await expect(answer).to_be_visible(timeout=60_000)
    status = await answer.locator(".response-col_status").inner_text()
    return int(status.split()[0]), json.loads(await answer.locator("code").first.inner_text())


async def test_docs_shows_the_calls_and_tries_them(tmp_path, browse):
    async with serving(tmp_path) as url, Emulator() as instance:
        watched = await browse(url, "/docs")
        status, answer = await try_out(watched.page, STATUS)
        assert (status, answer["active"]) == (200, False)
        body = {"credentials": {"url": instance.url}}
        status, answer = await try_out(watched.page, START, body)
        assert (status, answer["success"]) == (200, True)
        assert instance.url.rstrip("/") in answer["message"]
        watched.assert_harmless()
        await watched.page.context.close()


async def test_docs_takes_the_key(tmp_path, browse):
    async with serving(tmp_path, KEY) as url:
        watched = await browse(url, "/docs")
        await watched.page.click(".auth-wrapper .authorize")
        await watched.page.locator(".auth-container input").first.fill(KEY)
        await watched.page.locator(".auth-btn-wrapper .authorize").first.click()
        await watched.page.click(".auth-btn-wrapper .btn-done")
        status, answer = await try_out(watched.page, STATUS)
        assert (status, answer["active"]) == (200, False)
        watched.assert_harmless()
        await watched.page.context.close()


async def test_redoc_shows_the_calls(tmp_path, browse):
    async with serving(tmp_path) as url:
        watched = await browse(url, "/redoc")
        await expect(watched.page.locator("h1").first).to_contain_text("comfyclient", timeout=60_000)
        await expect(watched.page.locator("body")).to_contain_text("/session/status")
        watched.assert_harmless()
        await watched.page.context.close()


async def test_a_page_can_neither_load_from_elsewhere_nor_send_there(tmp_path, browse):
    async with serving(tmp_path) as url, Emulator() as elsewhere:
        watched = await browse(url, "/docs")
        blocked = "url => fetch(url).then(() => 'sent', error => String(error))"
        assert "TypeError" in await watched.page.evaluate(blocked, elsewhere.url)
        assert any("Content Security Policy" in text for text in watched.complaints)
        await watched.page.context.close()
