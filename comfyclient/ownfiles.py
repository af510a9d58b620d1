"""Files on this machine that are a job's: how they are told from others, and whether they are whole.

All of it blocks; call it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

from comfyclient.names import alternatives

if TYPE_CHECKING:
    from pathlib import Path

    from comfyclient.journal import SavedOutput

__all__ = ["digest", "is_whole", "part_mark", "remove_placeholder", "stands_for", "sync_folder"]


def part_mark(prompt_id: str) -> str:
    """What the unfinished files of a job have in their names: whoever goes on with the job can remove them."""
    return hashlib.sha256(prompt_id.encode()).hexdigest()[:16]


def stands_for(found: str, name: str) -> bool:
    """Whether ``found`` is the name, or what is taken in its place when that is taken: ``"name (7).png"``."""
    if found == name:
        return True
    number = found.rpartition(" (")[2].partition(")")[0]
    return number.isdecimal() and len(number) < 10 and found == next(alternatives(name, after=int(number) - 1))


def is_whole(output: SavedOutput) -> bool:
    """Whether what is at its path is what was written there."""
    try:
        if not output.path.is_file() or output.path.stat().st_size != output.size:
            return False
        return output.sha256 is None or digest(output.path) == output.sha256
    except OSError:
        return False


def remove_placeholder(output: SavedOutput) -> None:
    """Where files cannot be linked, a name is taken with an empty file first. Died then, it is ours, and in the way."""
    if not output.placed and output.size:
        with contextlib.suppress(OSError):
            if output.path.is_file() and not output.path.is_symlink() and output.path.stat().st_size == 0:
                output.path.unlink()


def digest(path: Path) -> str:
    """SHA-256 of its content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Have the name on disk before the journal says that it is there. Not every system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
