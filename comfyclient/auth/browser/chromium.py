"""A Chromium of its own for one login: started and ended whatever happens, its errors put into our words.

Playwright is optional, and imported only here and when it is needed. Its exceptions stop here: their texts hold urls
with queries, and logs of what was done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from comfyclient.errors import AuthError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping
    from types import TracebackType

    from playwright.async_api import Browser, BrowserContext, Playwright

__all__ = ["Chromium", "Settings", "network_error", "translated"]

_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
_PROGRAM_VARIABLE: Final = "COMFYCLIENT_BROWSER"
_START_TIMEOUT: Final = 60.0  # seconds
_END_TIMEOUT: Final = 45.0  # Playwright itself kills a browser that does not end after 30 s
_LOOKS, _LOOK_PAUSE = 20, 0.1
_INSTALL: Final = "`playwright install chromium` installs one; or name one with --browser-path, or $COMFYCLIENT_BROWSER"

_log = logging.getLogger("comfyclient.auth")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to start it.

    Attributes:
        headless: Without a window.
        executable_path: Its program; by default ``$COMFYCLIENT_BROWSER``, Playwright's own, or one that is installed.
        any_certificate: Accept every certificate, of every host.
        public_key: Accept certificates of this key: the SHA-256 of its SubjectPublicKeyInfo, in base64.
        service_workers: Whether pages may have them.
        headers: What it sends besides, to every host.
    """

    headless: bool
    executable_path: str | None = None
    any_certificate: bool = False
    public_key: str | None = None
    service_workers: bool = True
    headers: Mapping[str, str] | None = None


class Chromium:
    """For the time of an ``async with``, which gives a context: a browser without history that keeps all in memory.

    Raises:
        ConfigError: Playwright or a browser is missing, or there is no screen for its window.
        AuthError: It does not start.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._starting: asyncio.Task[BrowserContext] | None = None
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        self._profile: Path | None = None

    async def __aenter__(self) -> BrowserContext:
        _check_screen(self._settings)
        self._starting = asyncio.create_task(self._start())
        try:
            return await asyncio.shield(self._starting)
        except BaseException:
            await _to_the_end(self._end())
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _to_the_end(self._end())

    async def _start(self) -> BrowserContext:
        async_playwright = _load()
        with translated("the browser does not start"):
            self._playwright = await async_playwright().start()
            self._browser = await self._launch(self._playwright)
            self._profile = await _profile_of(self._browser)
            return await self._browser.new_context(
                accept_downloads=False,
                ignore_https_errors=self._settings.any_certificate,
                no_viewport=not self._settings.headless,
                service_workers="allow" if self._settings.service_workers else "block",
                extra_http_headers=dict(self._settings.headers or {}),
            )

    async def _launch(self, playwright: Playwright) -> Browser:
        from playwright.async_api import Error

        options: dict[str, Any] = {
            "headless": self._settings.headless,
            "executable_path": _program(self._settings.executable_path, playwright.chromium.executable_path),
            "args": _switches(self._settings),
            "timeout": _START_TIMEOUT * 1000,
            "handle_sigint": False,  # Ctrl-C reaches Playwright's process too; we end it, in our order
        }
        if not _is_root():
            try:
                return await playwright.chromium.launch(**options, chromium_sandbox=True)
            except Error as error:
                if "sandbox" not in error.message.lower():
                    raise
            _log.warning("this system has no sandbox for the browser; it runs without one")
        return await playwright.chromium.launch(**options, chromium_sandbox=False)

    async def _end(self) -> None:
        """End what was started. What is half started has to be there first, or it would stay."""
        if self._starting is not None:
            await asyncio.wait({self._starting})
            if not self._starting.cancelled():
                self._starting.exception()
        try:
            async with asyncio.timeout(_END_TIMEOUT):
                await self._close()
        except TimeoutError:
            _log.warning("the browser does not end; please close it")

    async def _close(self) -> None:
        if self._playwright is None:
            return
        from playwright.async_api import Error

        if self._browser is not None:
            broken = not self._browser.is_connected()
            with contextlib.suppress(Error):  # it is gone already
                await self._browser.close()
            if broken and self._profile is not None:  # Playwright is deleting its folders, and stops at once when told
                await _gone(self._profile)
        await self._playwright.stop()
        if self._profile is not None:
            await _remove(self._profile)


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """The border of Playwright: its errors become ours, without their texts.

    Raises:
        AuthError: ``what``, and why as far as that can be told.
    """
    from playwright.async_api import Error

    try:
        yield
    except Error as error:
        reason = network_error(error) or _known_reason(error.message)
        raise AuthError(f"{what}: {reason}" if reason else what) from None


def network_error(error: Exception) -> str | None:
    """Chromium's name of what went wrong with a connection, as in ``ERR_CONNECTION_REFUSED``; ``None`` if none did."""
    found = re.search(r"net::(ERR_[A-Z0-9_]{1,60})", str(error))
    return found[1] if found else None


def _known_reason(text: str) -> str | None:
    """Some of what Playwright says, in words that are ours."""
    if "Missing X server" in text or "Missing X display" in text:
        return "there is no screen to show its window on"
    if "Failed to launch" in text:
        return "its program ends at once; is it a Chromium, and are the libraries there that it needs?"
    if "has been closed" in text:
        return "it was closed, or broke down"
    if "Timeout" in text:
        return "it took too long"
    return None


async def _profile_of(browser: Browser) -> Path | None:
    """The temporary folder that Playwright made for it. A browser that breaks down may leave it behind."""
    session = await browser.new_browser_cdp_session()
    command = str((await session.send("SystemInfo.getInfo")).get("commandLine"))
    await session.detach()
    found = re.search(r"--user-data-dir=(.*?[/\\]playwright_\w+-\w+)", command)
    return Path(found[1]) if found else None


async def _gone(folder: Path) -> bool:
    """Whether somebody else deletes it within a moment."""
    for _ in range(_LOOKS):
        if not await asyncio.to_thread(folder.exists):
            return True
        await asyncio.sleep(_LOOK_PAUSE)
    return False


async def _remove(folder: Path) -> None:
    """Delete it, if it is still there. What is left of a browser may write into it for a moment."""
    for _ in range(_LOOKS):
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if not await asyncio.to_thread(folder.exists):
            return
        await asyncio.sleep(_LOOK_PAUSE)
    _log.warning("the browser's folder cannot be deleted: %s", folder)


def _load() -> Any:
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        raise ConfigError(
            "logging in with a browser needs Playwright, which is not installed",
            hint="pip install 'comfyclient[browser]' && playwright install chromium",
        ) from None
    return async_playwright


def _check_screen(settings: Settings) -> None:
    if settings.headless or not sys.platform.startswith("linux"):
        return
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ConfigError(
            "there is no screen here to show a browser's window on",
            hint="give user name and password, which are filled in without a window; or log in where there is a "
            "screen, and give the cookies with --cookies-file",
        )


def _program(wanted: str | None, playwrights: str) -> str | None:
    """The program to start; ``None`` for Playwright's own."""
    wanted = wanted or os.environ.get(_PROGRAM_VARIABLE)
    if wanted:
        found = shutil.which(os.path.expanduser(wanted))  # noqa: PTH111 - a bare name must stay one
        if found is None:
            raise ConfigError(f"there is no browser at {wanted}, or it cannot be executed", hint=_INSTALL)
        return found
    if os.path.exists(playwrights):  # noqa: PTH110 - of a path that Playwright gives as text
        return None
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None:
        raise ConfigError("no Chromium was found to log in with", hint=_INSTALL)
    return found


def _switches(settings: Settings) -> list[str]:
    if settings.public_key is None:
        return []
    return [f"--ignore-certificate-errors-spki-list={settings.public_key}"]


def _is_root() -> bool:
    """Chromium has no sandbox for root, and does not start with one."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for it through every cancellation, which counts afterwards."""
    task = asyncio.ensure_future(work)
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted
    task.result()
