"""The unmodified official frontend in headless Chromium, served by the emulator: what it makes of a workflow."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import json
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

from comfyclient.emulator import Emulator

# Without these, Chromium keeps asking for hosts on the internet.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY = """() => window.app && window.app.graph && window.app.extensionManager && window.LiteGraph
    && Object.keys(window.LiteGraph.registered_node_types).length > 60"""
GRAPH_TO_PROMPT = """async (workflow) => {
    try {
        await window.app.loadGraphData(workflow, true, false, null);
        // As text: that is how it travels, and NaN becomes null in it.
        return { output: JSON.stringify((await window.app.graphToPrompt()).output) };
    } catch (error) {
        return { error: String(error) };
    }
}"""
SECONDS = 60


def missing():
    """What the harness needs and this machine lacks, as a sentence; None if all is there."""
    if chromium() is None:
        return "needs Chromium: apt-get install chromium"
    for package in ("playwright", "comfyui_frontend_package"):
        if importlib.util.find_spec(package) is None:
            return f"needs {package}: pip install 'comfyclient[test]'"
    return None


def chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def installed():
    """The installed frontend's files and its release."""
    spec = importlib.util.find_spec("comfyui_frontend_package")
    return Path(spec.submodule_search_locations[0]) / "static", importlib.metadata.version("comfyui-frontend-package")


class Frontend:
    """The frontend, loaded once; `prompt` hands it one workflow after another."""

    def __init__(self, static, catalog):
        self._static = static
        self._catalog = catalog
        self._stack = AsyncExitStack()
        self._browser = None
        self._page = None
        self._url = ""

    async def __aenter__(self):
        from playwright.async_api import async_playwright

        async with AsyncExitStack() as stack:
            emulator = await stack.enter_async_context(
                Emulator(catalog=self._catalog, frontend=self._static, strict_models=True)
            )
            playwright = await stack.enter_async_context(async_playwright())
            self._browser = await playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
            stack.push_async_callback(self._browser.close)
            self._url = emulator.url
            await self._open()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error):
        await self._stack.aclose()

    async def _open(self):
        if self._page is not None:
            await self._page.close()
        self._page = await self._browser.new_page()
        await self._page.goto(self._url)
        await self._page.wait_for_function(READY, timeout=SECONDS * 1000)

    async def prompt(self, workflow):
        """``{"output": prompt}``, or ``{"error": text}`` where the frontend throws or never ends."""
        try:
            answer = await asyncio.wait_for(self._page.evaluate(GRAPH_TO_PROMPT, workflow), SECONDS)
        except TimeoutError:
            await self._open()
            return {"error": f"no prompt within {SECONDS} s"}
        return {"output": json.loads(answer["output"])} if "output" in answer else answer
