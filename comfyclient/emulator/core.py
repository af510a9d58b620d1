"""An emulated server without its HTTP: queue, worker, sockets, folders and settings in one place."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from comfyclient.emulator.catalog_view import CatalogView
from comfyclient.emulator.execute import Executor, WorkerDiedError
from comfyclient.emulator.faults import Faults
from comfyclient.emulator.folders import Folders
from comfyclient.emulator.logs import LogBuffer
from comfyclient.emulator.nodes import Implementation
from comfyclient.emulator.queue import MAX_HISTORY, PromptQueue, QueueItem
from comfyclient.emulator.sockets import Sockets

__all__ = ["Core"]

_log = logging.getLogger("comfyclient.emulator.core")

_SECRET_KEYS: Final = ("auth_token_comfy_org", "api_key_comfy_org")


class Core:
    """What the routes work on. Its worker and its publisher run as tasks between `start` and `stop`.

    Attributes:
        drop_connections: Cuts the HTTP connections too when the server restarts; set by whoever serves it.
    """

    def __init__(
        self,
        catalog: CatalogView,
        folders: Folders,
        faults: Faults,
        *,
        implementations: Mapping[str, Implementation],
        chance: random.Random,
        step_delay: float = 0.0,
        preview_method: str = "none",
        max_history: int = MAX_HISTORY,
        max_upload_size: int = 100 * 1024 * 1024,
    ) -> None:
        self.catalog = catalog
        self.folders = folders
        self.faults = faults
        self.implementations = implementations
        self.max_upload_size = max_upload_size
        self.number = 0
        self.queue = PromptQueue(self.announce_queue, max_history=max_history)
        self.sockets = Sockets(faults, greeting=self._greeting, features=self.features)
        self.logs = LogBuffer(self.sockets.say, lambda client: client in self.sockets.table)
        self.executor = Executor(
            catalog,
            folders,
            self.sockets,
            faults,
            implementations=implementations,
            chance=chance,
            step_delay=step_delay,
            preview_method=preview_method,
        )
        self.drop_connections: Callable[[], None] = _nothing
        self._free_wanted = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the worker and the publisher."""
        self._tasks = [asyncio.create_task(self.sockets.publish(), name="emulator publisher")]
        self._start_worker()

    def _start_worker(self) -> None:
        worker = asyncio.create_task(self._work(), name="emulator worker")
        worker.add_done_callback(_report_crash)
        self._tasks.append(worker)

    def _stop_worker(self) -> None:
        self._tasks[-1].cancel()

    async def stop(self) -> None:
        """End them."""
        await self.sockets.close_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def features(self) -> dict[str, Any]:
        """The server's feature flags."""
        return {
            "supports_preview_metadata": True,
            "supports_model_type_tags": True,
            "max_upload_size": self.max_upload_size,
            "extension": {"manager": {"supports_v4": True}},
            "node_replacements": True,
            "assets": False,
        }

    def exec_info(self) -> dict[str, Any]:
        """``{"exec_info": {"queue_remaining": int}}``."""
        return {"exec_info": {"queue_remaining": self.queue.remaining}}

    def announce_queue(self) -> None:
        """Tell everybody how many prompts are left."""
        self.sockets.say("status", {"status": self.exec_info()})

    def _greeting(self, sid: str) -> list[tuple[str, Any]]:
        greeting: list[tuple[str, Any]] = [("status", {"status": self.exec_info(), "sid": sid})]
        teller = self.executor.teller
        if teller is not None and teller.client_id == sid and teller.display_node is not None:
            greeting.append(("executing", {"node": teller.display_node}))
        return greeting

    def next_number(self, *, front: bool) -> float:
        """The next automatic number: a counter, negated to run before all others."""
        number = -self.number if front else self.number
        self.number += 1
        return number

    def submit(
        self, number: float, prompt_id: str | None, prompt: dict[str, Any], extra: dict[str, Any], outputs: list[str]
    ) -> str:
        """Queue a valid prompt and return its id.

        Raises:
            TypeError: See `PromptQueue.put`.
        """
        prompt_id = prompt_id or str(uuid.UUID(int=self.executor.chance.getrandbits(128), version=4))
        sensitive: dict[str, Any] = {key: extra.pop(key) for key in _SECRET_KEYS if key in extra}
        extra["create_time"] = int(time.time() * 1000)
        self.queue.put(QueueItem(number, prompt_id, prompt, extra, outputs, sensitive))
        return prompt_id

    def interrupt(self) -> None:
        """Stop what runs, at the next occasion."""
        self.executor.interrupted = True

    def cancel(self, prompt_id: Any) -> bool:
        """Interrupt the prompt if it runs, drop it if it waits; whether it did either."""
        if self.queue.is_running(prompt_id):
            self.interrupt()
            return True
        return self.queue.delete(prompt_id)

    def free_memory(self) -> None:
        """Drop all results, now or behind the prompt that runs."""
        if self.queue.running:
            self._free_wanted = True
        else:
            self.executor.free()

    def wedge(self) -> None:
        """Let the worker never come back."""
        self.logs.write("ERROR", "the worker is stuck (simulated)")
        self._stop_worker()

    def evict_history(self, keep: int) -> None:
        """Forget the oldest entries."""
        for prompt_id in list(self.queue.history)[: max(0, len(self.queue.history) - keep)]:
            del self.queue.history[prompt_id]

    def restart(self) -> None:
        """Begin anew with empty hands; what clients see of it is that their sockets break."""
        self._stop_worker()
        self.sockets.abort_all()
        self.drop_connections()
        self.sockets.forget()
        self.queue.reset()
        self.executor.free()
        self.executor.teller = None
        self.folders.wipe_temp()
        self.number = 0
        self.logs.entries.clear()
        self._start_worker()

    async def _work(self) -> None:
        while True:
            try:
                item = await self.queue.take()
            except TypeError as error:
                self.logs.write("ERROR", f"the worker died ({error}), as ComfyUI's does; only a restart helps")
                return
            try:
                await self._run(item)
            except WorkerDiedError as error:
                self.logs.write("ERROR", f"the worker died ({error}), as ComfyUI's does; only a restart helps")
                return

    async def _run(self, item: QueueItem) -> None:
        client_id = item.extra_data.get("client_id")
        if isinstance(client_id, list | dict):
            self.logs.write("ERROR", "unhashable client_id: ComfyUI's process exits here, the emulator restarts")
            self.restart()
            return
        began = time.perf_counter()
        result = await self.executor.run(item)
        if self.faults.history_lag:
            await asyncio.sleep(self.faults.history_lag)
        self.queue.finish(item, result)
        if self.executor.teller is not None:
            self.executor.teller.executing(None)
        text = f"Prompt executed in {time.perf_counter() - began:.2f} seconds"
        self.logs.write("INFO", text, colour="\x1b[32m")
        if self._free_wanted:
            self._free_wanted = False
            self.executor.free()


def _nothing() -> None:
    """Without HTTP there is nothing to cut."""


def _report_crash(worker: asyncio.Task[None]) -> None:
    if not worker.cancelled() and (error := worker.exception()) is not None:
        _log.error("the emulator's worker crashed: this is a bug", exc_info=error)
