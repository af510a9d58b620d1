"""`Emulator`: a ComfyUI that runs anywhere. It speaks the protocol for real; what models would do is simulated."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from comfyclient.emulator.app import build_app
from comfyclient.emulator.catalog_view import DEFAULT_MODELS, CatalogView
from comfyclient.emulator.core import Core
from comfyclient.emulator.faults import Faults
from comfyclient.emulator.folders import Folders
from comfyclient.emulator.media import png
from comfyclient.emulator.media.picture import NOTICE, simulated_picture
from comfyclient.emulator.nodes import NODES, Implementation, NodeFunction
from comfyclient.emulator.queue import MAX_HISTORY
from comfyclient.workflow.catalog import Catalog

__all__ = ["Emulator"]

_log = logging.getLogger("comfyclient.emulator")


class Emulator:
    """An emulated ComfyUI server, as an async context manager or with `start` and `stop`.

    ::

        async with Emulator() as emulator:
            ...  # emulator.url is "http://127.0.0.1:PORT"

    Args:
        host: The address to listen on.
        port: The port; 0 picks a free one, which the emulator then keeps.
        catalog: The node definitions; the bundled ones of ComfyUI 0.33.0 by default. Classes that the emulator does not
            know are simulated from their definition.
        models: File names by model folder, for ``/models`` and the choices of loaders. None of them exists.
        strict_models: Refuse models that ``models`` does not list, as a server without them does. Otherwise loaders
            take any name, since nothing is loaded.
        nodes: What nodes do, by class, before the emulator's own (see `comfyclient.emulator.nodes`).
        base_dir: Where ``input``, ``output``, ``temp`` and ``user`` are; by default a folder that `stop` removes.
        step_delay: Seconds for each step of a sampler.
        preview_method: The default for live previews: ``"none"``, or ``"latent2rgb"`` to send them.
        max_upload_size: The limit of a request's body, in bytes.
        max_history: How many entries the history keeps.
        multi_user: Take ``Comfy-User`` headers, as ``--multi-user`` does.
        seed: Makes ids and temporary names repeat; random by default.
        faults: What goes wrong; nothing by default.
        ssl_context: Serve https with it.
        frontend: A folder with the official web page's files (the ``static`` folder of the PyPI package
            ``comfyui-frontend-package``), to be served at ``/``. Without it there is only a note.

    Attributes:
        faults: See `Faults`.
        core: Queue, history, sockets and folders, for tests that look inside.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        catalog: Catalog | None = None,
        models: Mapping[str, Sequence[str]] | None = None,
        strict_models: bool = False,
        nodes: Mapping[str, NodeFunction | Implementation] | None = None,
        base_dir: str | Path | None = None,
        step_delay: float = 0.0,
        preview_method: str = "none",
        max_upload_size: int = 100 * 1024 * 1024,
        max_history: int = MAX_HISTORY,
        multi_user: bool = False,
        seed: int | None = None,
        faults: Faults | None = None,
        ssl_context: ssl.SSLContext | None = None,
        frontend: str | Path | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.faults = faults or Faults()
        self._catalog = catalog
        self._models = models if models is not None else {} if strict_models else DEFAULT_MODELS
        self._strict_models = strict_models
        self._nodes = dict(nodes or {})
        self._base_dir = Path(base_dir) if base_dir is not None else None
        self._step_delay = step_delay
        self._preview_method = preview_method
        self._max_upload_size = max_upload_size
        self._max_history = max_history
        self._multi_user = multi_user
        self._seed = seed
        self._ssl_context = ssl_context
        self._frontend = Path(frontend) if frontend is not None else None
        self._core: Core | None = None
        self._temporary: Path | None = None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a trailing slash."""
        scheme = "https" if self._ssl_context else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    @property
    def core(self) -> Core:
        """The server without its HTTP.

        Raises:
            RuntimeError: It is not running.
        """
        if self._core is None:
            raise RuntimeError("the emulator is not running")
        return self._core

    @property
    def folders(self) -> Folders:
        """Its folders: ``folders.output`` and so on are paths."""
        return self.core.folders

    async def start(self) -> None:
        """Make the folders, listen, and run.

        Raises:
            OSError: The port is taken, or the folder cannot be written.
        """
        if self._base_dir is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="comfyclient-emulator-"))
        folders = Folders(self._base_dir or self._temporary or Path())
        try:
            await asyncio.to_thread(_fill, folders)
            self._core = self._build_core(folders)
            self._core.drop_connections = self._drop_connections
            app = build_app(self._core, multi_user=self._multi_user, frontend=self._frontend)
            self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handle_signals=False)
            await self._runner.setup()
            await self._listen()
        except BaseException:
            await self.stop()
            raise
        self.faults.attach(self._core, asyncio.get_running_loop())
        self._core.start()
        count = len(self._core.catalog.catalog)
        self._core.logs.write(
            "INFO", f"comfyclient emulator at {self.url}: {count} nodes, no models; pictures are simulated"
        )

    def _build_core(self, folders: Folders) -> Core:
        catalog = self._catalog if self._catalog is not None else _bundled()
        own = {
            name: entry if isinstance(entry, Implementation) else Implementation(entry)
            for name, entry in self._nodes.items()
        }
        return Core(
            CatalogView(catalog, folders, self._models, strict=self._strict_models),
            folders,
            self.faults,
            implementations=NODES | own,
            chance=random.Random(self._seed),  # noqa: S311 - names, not secrets
            step_delay=self._step_delay,
            preview_method=self._preview_method,
            max_history=self._max_history,
            max_upload_size=self._max_upload_size,
        )

    async def _listen(self) -> None:
        assert self._runner is not None
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self._ssl_context)
        await site.start()
        if self.port == 0:
            self.port = self._runner.addresses[0][1]

    def _drop_connections(self) -> None:
        server = self._runner.server if self._runner is not None else None
        for connection in server.connections if server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()

    @contextlib.asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Be away for the time of the ``async with``: nobody listens, and on return everything is forgotten."""
        assert self._runner is not None
        for site in list(self._runner.sites):
            await site.stop()
        self.core.restart()
        try:
            yield
        finally:
            await self._listen()

    async def stop(self) -> None:
        """Close everything; a temporary folder is removed."""
        self.faults.detach()
        if self._core is not None:
            await self._core.stop()
            self._core = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._temporary is not None:
            await asyncio.to_thread(shutil.rmtree, self._temporary, ignore_errors=True)
            self._temporary = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


@functools.cache
def _bundled() -> Catalog:
    """The bundled catalog, read once: nobody changes it."""
    return Catalog.bundled()


def _fill(folders: Folders) -> None:
    """Make the folders, and the example picture that every ComfyUI comes with (here a simulated one)."""
    folders.create()
    example = folders.input / "example.png"
    if not example.exists():
        example.write_bytes(
            png.encode(256, 256, 3, simulated_picture("example", 256, 256), text={"comfyclient": NOTICE})
        )
