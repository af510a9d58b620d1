"""Where the workflows come from that requests name: the instance's own, then the server's folder."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from comfyclient.api.errors import ApiError, not_found
from comfyclient.workflow.document import Workflow

if TYPE_CHECKING:
    from comfyclient.client import ComfyClient

__all__ = ["Folder", "find_workflow", "names_of"]

_CAP: Final = 64 * 2**20  # bytes of a file
_MOST: Final = 10_000  # files that are listed
_DEEPEST: Final = 8  # folders
_PREFIX: Final = "workflows/"


def names_of(path: str) -> list[str]:
    """The names below a folder of workflows that a ``workflow_path`` may mean, the likelier first.

    ``workflows/`` before it and ``.json`` behind it may be there or not, as in the page's own links.
    """
    names = [path.removeprefix(_PREFIX), path] if path.startswith(_PREFIX) else [path]
    return [name if name.lower().endswith(".json") else f"{name}.json" for name in names]


def _is_plain(name: str) -> bool:
    """Whether it is a path that stays in its folder, on any system, with nothing hidden in it."""
    parts = name.split("/")
    odd = any(part in {"", ".", ".."} or part != part.strip() or part.startswith(".") for part in parts)
    return not (odd or "\\" in name or ":" in name or not name.isprintable() or len(name) > 1000)


async def find_workflow(path: str, client: ComfyClient, folder: Folder | None) -> Workflow:
    """The workflow that a request names.

    Raises:
        ApiError: There is none.
        WorkflowError: It is no workflow.
        ComfyClientError: The instance cannot be asked.
    """
    names = names_of(path)
    saved = {one.path for one in await client.saved_workflows()}
    for name in names:
        if name in saved:  # as the instance lists it, so it is a file of its own, whatever it is called
            return await client.saved_workflow(name)
    if folder is not None:
        for name in filter(_is_plain, names):
            data = await asyncio.to_thread(folder.read, name)
            if data is not None:
                return Workflow.parse(data, source=name)
    raise _missing()


def _missing() -> ApiError:
    return not_found("workflow", hint="GET /workflows lists those there are")


class Folder:
    """The server's own folder of workflows. Nothing outside of it is read, and nothing that is no plain file.

    It blocks; call it in a thread.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def listing(self) -> list[dict[str, Any]]:
        """The workflows in it, by path: ``{"path", "size", "modified"}``."""
        found: list[dict[str, Any]] = []
        for place, folders, files in os.walk(self._root):
            depth = len(Path(place).relative_to(self._root).parts) + 1
            folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < _DEEPEST else []
            for name in sorted(files):
                path = os.path.join(place, name)  # noqa: PTH118 - os.walk gives texts
                try:
                    about = os.lstat(path)
                except OSError:  # it has gone meanwhile
                    continue
                if not name.lower().endswith(".json") or name.startswith(".") or not stat.S_ISREG(about.st_mode):
                    continue
                shown = os.path.relpath(path, self._root).replace(os.sep, "/")
                found.append({"path": shown, "size": about.st_size, "modified": about.st_mtime})
                if len(found) >= _MOST:
                    return found
        return found

    def read(self, name: str) -> bytes | None:
        """A file's content; ``None`` if there is no such file, or nothing that may be read, or it is no workflow's."""
        try:
            handle = self._open(name.split("/"))
        except (OSError, ValueError):
            return None
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or about.st_size > _CAP:
            os.close(handle)
            return None
        with os.fdopen(handle, "rb") as file:
            return file.read(_CAP)

    def _open(self, parts: list[str]) -> int:
        """Open it step by step; a link anywhere below the root, or a pipe, is not followed or waited for.

        Raises:
            OSError: It cannot be opened, or leads out.
        """
        if os.open not in os.supports_dir_fd:
            return self._open_by_path(parts)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        here = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                if part in {"", ".", ".."}:
                    raise OSError(errno.ENOENT, "no such folder")
                below = os.open(part, flags | os.O_DIRECTORY, dir_fd=here)
                os.close(here)
                here = below
            return os.open(parts[-1], flags, dir_fd=here)
        finally:
            os.close(here)

    def _open_by_path(self, parts: list[str]) -> int:
        """The same on Windows, which has no such steps.

        Raises:
            OSError: It cannot be opened, or leads out.
        """
        path = self._root.joinpath(*parts)
        # What is no plain file, or has another real path than it says, is not opened at all.
        if path.resolve(strict=True) != self._root.resolve().joinpath(*parts) or not path.is_file():
            raise OSError(errno.ENOENT, "no such file")
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
