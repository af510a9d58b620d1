"""Where node definitions come from: an instance, a file, or what comes with comfyclient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from comfyclient.errors import CatalogError
from comfyclient.workflow.catalog import Catalog
from comfyclient.workflow.convert.releases import release_of

if TYPE_CHECKING:
    from pathlib import Path

    from comfyclient.cli.app import App
    from comfyclient.cli.options import CatalogSource
    from comfyclient.cli.running import Interrupts

__all__ = ["Definitions", "load_definitions"]

_MAX_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Definitions:
    """Node definitions, and the release of the web page that goes with them, if that is known."""

    catalog: Catalog
    frontend: str | None = None


def load_definitions(app: App, source: CatalogSource) -> Definitions:
    """Get them from where the command line says, else from the instance that the environment names, else our own.

    Raises:
        CatalogError: The file cannot be read.
        InstanceUnavailable: The instance does not answer.
    """
    if source.file is not None:
        return Definitions(_read(app.path(source.file), str(source.file)))
    settings = app.settings(url=source.url)
    if source.offline or settings.url_from == "default":
        return Definitions(Catalog.bundled())
    app.detail(f"node definitions of {settings.url}")
    return _fetch(app, settings.url)


def _read(path: Path, name: str) -> Catalog:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise CatalogError(f"{name}: cannot be read: {reason.lower()}") from None
    if len(data) > _MAX_BYTES:
        raise CatalogError(f"{name}: larger than {_MAX_BYTES >> 20} MiB")
    return Catalog.parse(data, source=name)


def _fetch(app: App, url: str) -> Definitions:
    import asyncio

    from comfyclient.cli.running import connect, run_async

    found: list[Definitions] = []

    async def fetch(_: Interrupts) -> int:
        async with connect(app, url=url) as client:
            info, catalog = await asyncio.gather(client.info(), client.catalog())
            found.append(Definitions(catalog, release_of(info.frontend_version)))
        return 0

    if run_async(app, fetch) or not found:
        raise KeyboardInterrupt
    return found[0]
