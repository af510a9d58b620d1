"""The folders of an emulated server (input, output, temp, user), and ComfyUI's rules for names in them."""

from __future__ import annotations

import mimetypes
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Folders", "SavePlace", "is_file", "is_there", "split_annotation"]

_EXTRA_TYPES: Final = {
    ".webp": "image/webp", ".avif": "image/avif", ".flac": "audio/flac", ".opus": "audio/opus", ".webm": "video/webm",
    ".mkv": "video/x-matroska", ".glb": "model/gltf-binary", ".gltf": "model/gltf+json", ".obj": "model/obj",
}  # fmt: skip


def is_file(path: Path) -> bool:
    """Whether there is such a file. A name that no file can have (too long, a zero byte) is simply not there."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def split_annotation(name: str) -> tuple[str, str | None]:
    """``"x.png [temp]"`` is ``("x.png", "temp")``. Whatever stands before the bracket is taken for the space."""
    for kind in ("output", "input", "temp"):
        if name.endswith(f"[{kind}]"):
            return name[: -len(kind) - 3], kind
    return name, None


@dataclass(frozen=True, slots=True)
class SavePlace:
    """Where a save node writes: the folder, the name's stem, the first free counter, and the subfolder it reports."""

    folder: Path
    stem: str
    counter: int
    subfolder: str
    type: str

    def name(self, index: int, extension: str, *, underscore: bool = False) -> str:
        """The file name of item ``index``: ``stem_00001.ext``, or ``stem_00001_.ext``."""
        stem = self.stem.replace("%batch_num%", str(index))
        return f"{stem}_{self.counter + index:05}{'_' if underscore else ''}.{extension}"

    def entry(self, name: str) -> dict[str, str]:
        """The item of a ui output that names the file."""
        return {"filename": name, "subfolder": self.subfolder, "type": self.type}


class Folders:
    """The base folder and its children. ``base`` may hold files already; ``temp`` is wiped at every start."""

    def __init__(self, base: Path, *, clock: Callable[[], time.struct_time] = time.localtime) -> None:
        self.base = base.resolve()
        self.input = self.base / "input"
        self.output = self.base / "output"
        self.temp = self.base / "temp"
        self.user = self.base / "user"
        self._clock = clock

    def create(self) -> None:
        """Make the folders that are missing and empty ``temp``."""
        for folder in (self.input, self.output, self.user / "default"):
            folder.mkdir(parents=True, exist_ok=True)
        self.wipe_temp()

    def wipe_temp(self) -> None:
        """What every start does: nothing in ``temp`` outlives the server."""
        shutil.rmtree(self.temp, ignore_errors=True)
        self.temp.mkdir(parents=True)

    def by_type(self, kind: str) -> Path | None:
        """The folder of a ``type`` as clients name it, or ``None`` for an unknown one."""
        return {"input": self.input, "output": self.output, "temp": self.temp}.get(kind)

    def annotated(self, name: str) -> Path:
        """The file that an upload input names: ``"name"``, ``"sub/name"`` or ``"name [temp]"``.

        Raises:
            ValueError: The name leads out of its folder.
        """
        plain, kind = split_annotation(name)
        root = (self.by_type(kind) if kind else None) or self.input
        path = Path(os.path.normpath(root / plain))
        if not path.is_relative_to(root):
            raise ValueError(f"Invalid file path: {name}")
        return path

    def listing(self, *media: str, folder: str = "input", suffix: str | None = None) -> list[str]:
        """Names of files at the top of a folder, sorted: of these kinds (``"image"``), or ending with ``suffix``."""
        root = self.by_type(folder) or self.input
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_file())
        if suffix is not None:
            return [name for name in names if name.endswith(suffix)]
        return [name for name in names if (self.media_type(name) or "").split("/")[0] in media]

    @staticmethod
    def media_type(name: str) -> str | None:
        """The media type that a name suggests."""
        return _EXTRA_TYPES.get(Path(name).suffix.lower()) or mimetypes.guess_type(name)[0]

    def save_place(self, prefix: str, *, kind: str = "output", width: int = 0, height: int = 0) -> SavePlace:
        """Where files with that prefix go: tokens filled in, the counter one above the largest in the folder.

        Raises:
            ValueError: The prefix leads out of the folder.
        """
        root = self.by_type(kind) or self.output
        prefix = os.path.normpath(self._fill(prefix, width, height))
        subfolder, stem = os.path.split(prefix)
        folder = Path(os.path.normpath(root / subfolder))
        if not folder.is_relative_to(root):
            raise ValueError(
                "**** ERROR: Saving image outside the output folder is not allowed."
                f"\n full_output_folder: {folder}\n         output_dir: {root}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        numbered = re.compile(rf"{re.escape(stem)}_([0-9]+)(?:[._]|$)").match
        found = map(numbered, os.listdir(folder))  # noqa: PTH208 - names alone, quickly: a full folder has thousands
        counter = 1 + max((int(match[1]) for match in found if match), default=0)
        return SavePlace(folder, stem, counter, subfolder, kind)

    def _fill(self, prefix: str, width: int, height: int) -> str:
        if "%" not in prefix:
            return prefix
        now = self._clock()
        values = {
            "width": width, "height": height, "year": now.tm_year,
            "month": f"{now.tm_mon:02}", "day": f"{now.tm_mday:02}",
            "hour": f"{now.tm_hour:02}", "minute": f"{now.tm_min:02}", "second": f"{now.tm_sec:02}",
        }  # fmt: skip
        for name, value in values.items():
            prefix = prefix.replace(f"%{name}%", str(value))
        return prefix
