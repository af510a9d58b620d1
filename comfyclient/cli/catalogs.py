"""Where node definitions come from: an instance, a file, or what comes with comfyclient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from comfyclient.errors import CatalogError, ConfigError
from comfyclient.workflow.catalog import Catalog
from comfyclient.workflow.convert.releases import release_of

if TYPE_CHECKING:
    from pathlib import Path

    from comfyclient.cli.app import App
    from comfyclient.cli.credentials import GivenLogin
    from comfyclient.cli.options import CatalogSource

__all__ = ["Definitions", "load_definitions"]

_MAX_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Definitions:
    """Node definitions, and the release of the web page that goes with them, if that is known."""

    catalog: Catalog
    frontend: str | None = None


def load_definitions(app: App, source: CatalogSource, *, bundled: bool = True) -> Definitions:
    """Get them from where the command line says, else from the instance that the environment names, else our own.

    Args:
        app: The application.
        source: What the command line says.
        bundled: Whether our own will do; if not, the instance at ComfyUI's usual address is asked.

    Raises:
        CatalogError: The file cannot be read.
        ConfigError: There is a login, and no instance.
        InstanceUnavailable: The instance does not answer.
    """
    if source.file is not None:
        return Definitions(_read(app.path(source.file), str(source.file)))
    named = bool(source.login) or app.settings(url=source.url).url_from != "default"
    if source.offline or (bundled and not named):
        return Definitions(Catalog.bundled())
    from comfyclient.cli.credentials import given_login

    login = given_login(app, source.login, url=source.url)
    if bundled and login.url_from == "default":
        raise ConfigError("there is a login, and no instance to log in at", hint="give --url")
    app.detail(f"node definitions of {login.url}")
    return _fetch(app, login)


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


def _fetch(app: App, login: GivenLogin) -> Definitions:
    import asyncio

    from comfyclient.cli.running import connect, run_for

    async def fetch() -> Definitions:
        async with connect(app, login) as client:
            info, catalog = await asyncio.gather(client.info(), client.catalog())
        return Definitions(catalog, release_of(info.frontend_version))

    return run_for(app, fetch)
