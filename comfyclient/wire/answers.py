"""What the server answers to requests about itself, to prompts and to uploads, as typed records."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from comfyclient._redact import redact
from comfyclient.errors import NotComfyUI, Problem, PromptRejected, ProtocolError
from comfyclient.wire.messages import read_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Titles = Callable[[str], str]

__all__ = ["Accepted", "Device", "SystemInfo", "Uploaded", "read_node_errors", "read_rejection", "read_retry_after"]

_PROMPT_ID: Final = re.compile(r"(?!\.+$)[\w.-]{1,128}", re.ASCII)  # dots alone would be a step in a path
_MAX_TEXT: Final = 2_000  # what a server may put into one line of an error


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server queued a prompt. ``problems`` names outputs that it dropped: the rest will run."""

    prompt_id: str
    number: float
    problems: tuple[Problem, ...] = ()

    @classmethod
    def from_json(cls, body: Any, title: Titles | None = None) -> Accepted:
        """Read the body of a ``POST /prompt`` that was answered with 200.

        Args:
            body: The parsed JSON body.
            title: The title of a node by its id, as `Prompt.title` gives it.

        Raises:
            ProtocolError: It has no prompt_id: whatever answered did not queue anything. Or it has one that no ComfyUI
                gives: it would be shown on terminals and put into paths.
        """
        prompt_id = body.get("prompt_id") if isinstance(body, Mapping) else None
        if not isinstance(prompt_id, str) or not prompt_id:
            raise ProtocolError(
                "POST /prompt: the answer has no prompt_id, so nothing was queued",
                hint="does a proxy between here and ComfyUI redirect requests?",
            )
        if not _PROMPT_ID.fullmatch(prompt_id):
            raise ProtocolError(
                f"POST /prompt: the answer gives the job the id {redact(prompt_id)[:80]!r}, which is none"
            )
        return cls(prompt_id, read_number(body.get("number")), tuple(read_node_errors(body.get("node_errors"), title)))


def read_node_errors(node_errors: Any, title: Titles | None = None) -> Iterator[Problem]:
    """Read ``node_errors`` as problems, with the titles that ``title`` gives the nodes."""
    for node_id, entry in node_errors.items() if isinstance(node_errors, Mapping) else ():
        errors = entry.get("errors") if isinstance(entry, Mapping) else None
        for error in errors if isinstance(errors, list) else ():
            if isinstance(error, Mapping):
                yield _problem(str(node_id), entry.get("class_type"), error, title)


def _problem(node_id: str, class_type: Any, error: Mapping[str, Any], title: Titles | None) -> Problem:
    extra = error.get("extra_info")
    name = _text(extra.get("input_name")) if isinstance(extra, Mapping) else None
    details = _text(error.get("details"))
    return Problem(
        code=_text(error.get("type")) or "unknown",
        message=_text(error.get("message")) or "refused without a reason",
        node_id=redact(node_id),
        title=(title(node_id) or None) if title else None,
        class_type=_text(class_type),
        input=name,
        # Many errors have nothing but the input's name as details.
        details=details if details and details != (name or "").rpartition(".")[2] and details != name else None,
    )


def read_rejection(status: int, body: Any, title: Titles | None = None) -> PromptRejected:
    """The exception for a ``POST /prompt`` that was answered with an error.

    Args:
        status: The HTTP status.
        body: The parsed JSON body; anything else if it was not JSON.
        title: The title of a node by its id, as `Prompt.title` gives it.
    """
    document = body if isinstance(body, Mapping) else {}
    error = document.get("error")
    problems = list(read_node_errors(document.get("node_errors"), title))
    if isinstance(error, Mapping):
        message, details = _text(error.get("message")), _text(error.get("details"))
        if not problems and (problem := _missing_node(error, title)):
            return PromptRejected("the server refused the prompt", [problem], body=document)
        if not problems and details:
            message = f"{message}: {details}" if message else details
    else:
        message = _text(error)
    text = "the server refused the prompt"
    text += f": {message}" if message else f" (HTTP {status})"
    return PromptRejected(text, problems, body=document)


def _missing_node(error: Mapping[str, Any], title: Titles | None) -> Problem | None:
    """An unknown class is reported without node_errors; newer servers say at least which node it is."""
    extra = error.get("extra_info")
    node_id = _text(extra.get("node_id")) if isinstance(extra, Mapping) else None
    if node_id is None or not isinstance(extra, Mapping):
        return None
    return Problem(
        code=_text(error.get("type")) or "unknown",
        message=_text(error.get("message")) or "not found",
        node_id=node_id,
        title=_text(extra.get("node_title")) or ((title(node_id) or None) if title else None),
        class_type=_text(extra.get("class_type")),
    )


def read_retry_after(text: str | None, *, now: float) -> float | None:
    """The seconds that a ``Retry-After`` header asks to wait: a number, or a date (RFC 9110, 10.2.3).

    Args:
        text: The header.
        now: The time, in seconds since 1970.

    Returns:
        ``None`` if it is missing or makes no sense. A date that is past is 0.
    """
    text = (text or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        return max(0.0, date.replace(tzinfo=date.tzinfo or dt.UTC).timestamp() - now)
    except (ValueError, OverflowError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Where the server put an upload."""

    name: str
    subfolder: str
    type: str

    @property
    def value(self) -> str:
        """What an input that loads it must say: ``"name"``, ``"sub/name"``, ``"name [temp]"``."""
        path = f"{self.subfolder}/{self.name}" if self.subfolder else self.name
        return path if self.type == "input" else f"{path} [{self.type}]"

    @classmethod
    def from_json(cls, body: Any) -> Uploaded:
        """Read the body of ``POST /upload/image``.

        Raises:
            ProtocolError: It names no file.
        """
        name = body.get("name") if isinstance(body, Mapping) else None
        if not isinstance(name, str) or not name:
            raise ProtocolError("POST /upload/image: the answer names no file")
        return cls(name, _text(body.get("subfolder")) or "", _text(body.get("type")) or "input")


@dataclass(frozen=True, slots=True)
class Device:
    """A device that the instance computes on; memory in bytes."""

    name: str
    type: str
    index: int | None
    memory_total: int | None
    memory_free: int | None

    def to_json(self) -> dict[str, Any]:
        """The fields, for ``--json``."""
        return {name: getattr(self, name) for name in ("name", "type", "index", "memory_total", "memory_free")}


@dataclass(frozen=True, slots=True)
class SystemInfo:
    """What an instance says about itself; memory in bytes."""

    comfyui_version: str
    frontend_version: str | None
    python_version: str | None
    os: str | None
    devices: tuple[Device, ...]
    memory_total: int | None = None
    memory_free: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields, for ``--json``."""
        names = ("comfyui_version", "frontend_version", "python_version", "os", "memory_total", "memory_free")
        return {name: getattr(self, name) for name in names} | {"devices": [d.to_json() for d in self.devices]}

    @classmethod
    def from_json(cls, body: Any) -> SystemInfo:
        """Read the body of ``GET /system_stats``.

        Raises:
            NotComfyUI: It is not what ComfyUI answers.
        """
        system = body.get("system") if isinstance(body, Mapping) else None
        if not isinstance(system, Mapping):
            raise NotComfyUI("GET /system_stats: the answer is not ComfyUI's")
        devices = body.get("devices")
        return cls(
            comfyui_version=_text(system.get("comfyui_version")) or "unknown",
            frontend_version=_frontend(system),
            python_version=_text(system.get("python_version")),
            os=_text(system.get("os")),
            devices=tuple(map(_device, devices if isinstance(devices, list) else ())),
            memory_total=_whole(system.get("ram_total")),
            memory_free=_whole(system.get("ram_free")),
        )


def _frontend(system: Mapping[str, Any]) -> str | None:
    """The frontend that is installed, or at least the one that this release asks for."""
    packages = system.get("comfy_package_versions")
    for package in packages if isinstance(packages, list) else ():
        if isinstance(package, Mapping) and package.get("name") == "comfyui-frontend-package":
            installed = _text(package.get("installed"))
            if installed:
                return installed
    return _text(system.get("required_frontend_version"))


def _device(entry: Any) -> Device:
    device = entry if isinstance(entry, Mapping) else {}
    return Device(
        name=_text(device.get("name")) or "unknown",
        type=_text(device.get("type")) or "unknown",
        index=_whole(device.get("index")),
        memory_total=_whole(device.get("vram_total")),
        memory_free=_whole(device.get("vram_free")),
    )


def _text(value: Any) -> str | None:
    return redact(value)[:_MAX_TEXT] if isinstance(value, str) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
