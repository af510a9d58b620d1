"""Websocket frames, both ways: bytes from a server to typed messages, and the encoders that a server needs.

The decoder never raises. What is not understood becomes `Unknown` (a type that we do not know; custom nodes
send many) or `Malformed` (a frame that is not what its type says), and the reader goes on.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from comfyclient import _json
from comfyclient._redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "CLIENT_FLAGS",
    "Executed",
    "Executing",
    "ExecutionCached",
    "ExecutionError",
    "ExecutionInterrupted",
    "ExecutionStart",
    "ExecutionSuccess",
    "FeatureFlags",
    "FrameHead",
    "Malformed",
    "Message",
    "NodeProgress",
    "Preview",
    "Progress",
    "ProgressState",
    "ProgressText",
    "Status",
    "Unknown",
    "decode",
    "encode_preview",
    "encode_progress_text",
    "peek",
    "read_execution_error",
    "read_milliseconds",
    "read_number",
    "text_message",
]

CLIENT_FLAGS: Final[Mapping[str, Any]] = {"supports_preview_metadata": True}
"""What this client tells a server in its first message: previews may come with the ids they belong to."""

_PREVIEW, _TEXT, _PREVIEW_WITH_METADATA = 1, 3, 4
_FORMATS: Final = {1: "image/jpeg", 2: "image/png"}
_END_OF_TIME: Final = 253_370_764_800_000  # the year 9999, whose last hours some time zones put beyond any datetime


@dataclass(frozen=True, slots=True)
class Status:
    """How many prompts wait or run. ``sid`` is set on the first message of a connection only."""

    queue_remaining: int | None
    sid: str | None = None


@dataclass(frozen=True, slots=True)
class ExecutionStart:
    """A prompt starts to run. Timestamps are the server's, in milliseconds since the epoch."""

    prompt_id: str
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class ExecutionCached:
    """The submitted nodes whose results are taken from the cache."""

    prompt_id: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Executing:
    """A node starts; ``node`` is ``None`` once per prompt, at its very end.

    ``prompt_id`` is missing from the one that a server sends to a client that reconnects.
    """

    prompt_id: str | None
    node: str | None
    display_node: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Steps of the node that runs: ``value`` of ``max``."""

    prompt_id: str | None
    node: str | None
    value: float
    max: float


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """One node in a `ProgressState`: ``state`` is ``"running"`` or ``"finished"``."""

    node_id: str
    state: str
    value: float
    max: float
    display_node_id: str


@dataclass(frozen=True, slots=True)
class ProgressState:
    """Every node of a prompt that has started, the whole map each time."""

    prompt_id: str
    nodes: Mapping[str, NodeProgress]


@dataclass(frozen=True, slots=True)
class Executed:
    """A node produced something for the page: ``{kind: [items]}``, or ``None`` for some cached nodes."""

    prompt_id: str
    node: str
    display_node: str
    output: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class ExecutionSuccess:
    """The prompt ran to its end. Its record may be written a moment later."""

    prompt_id: str
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class ExecutionError:
    """A node raised. Message and traceback are the server's own words, without trailing newlines."""

    prompt_id: str
    node_id: str | None
    node_type: str | None
    exception_type: str
    exception_message: str
    traceback: tuple[str, ...] = ()
    timestamp: int | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the prompt ended with it. ``ExecutionBlocked`` is a warning: the run goes on."""
        return self.exception_type != "ExecutionBlocked"


@dataclass(frozen=True, slots=True)
class ExecutionInterrupted:
    """Somebody interrupted the prompt; ``node_id`` is the node that would have run next."""

    prompt_id: str
    node_id: str | None = None
    node_type: str | None = None
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class FeatureFlags:
    """What the server can do; the answer to the client's own flags."""

    flags: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture of something unfinished. The ids are ``None`` where the server does not say whose it is."""

    image: bytes
    media_type: str
    prompt_id: str | None = None
    node_id: str | None = None
    display_node_id: str | None = None


@dataclass(frozen=True, slots=True)
class ProgressText:
    """A line of text from a node. Servers send it to everybody: it may belong to another client's job."""

    node_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A well-formed message of a type that this client does not know."""

    type: str
    data: Any


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame that is not what its type says, or no message at all."""

    reason: str


Message = (
    Status
    | ExecutionStart
    | ExecutionCached
    | Executing
    | Progress
    | ProgressState
    | Executed
    | ExecutionSuccess
    | ExecutionError
    | ExecutionInterrupted
    | FeatureFlags
    | Preview
    | ProgressText
    | Unknown
    | Malformed
)


@dataclass(frozen=True, slots=True)
class FrameHead:
    """What the first bytes of a frame tell: its type, and the prompt if it stands at the front."""

    type: str
    prompt_id: str | None


# How servers begin their text frames: "type", then "data", which in some messages begins with the prompt_id.
_HEAD: Final = re.compile(r'\{"type": ?"(\w{1,64})", ?"data": ?\{(?:"prompt_id": ?"([^"\\]{1,64})")?')


def peek(frame: str | bytes) -> FrameHead | None:
    """Tell a frame's type without parsing it, so that a busy reader can skip what nobody listens to.

    Returns:
        ``type`` is that of a text message, or ``"preview"`` or ``"text"`` for binary frames; ``None`` if the
        first bytes do not tell: then `decode` it.
    """
    if isinstance(frame, str):
        match = _HEAD.match(frame)
        return FrameHead(match[1], match[2]) if match else None
    event = int.from_bytes(frame[:4])
    if event in {_PREVIEW, _PREVIEW_WITH_METADATA}:
        return FrameHead("preview", None)
    return FrameHead("text", None) if event == _TEXT else None


def decode(frame: str | bytes) -> Message:
    """Read one websocket frame. Never raises: see `Unknown` and `Malformed`."""
    return _decode_text(frame) if isinstance(frame, str) else _decode_binary(frame)


def _decode_text(frame: str) -> Message:
    try:
        message = _json.loads(frame)
    except _json.JSONError as error:
        return Malformed(f"not JSON: {error}")
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return Malformed("a message without a type")
    kind, data = message["type"], message.get("data")
    read = _READERS.get(kind)
    if read is None:
        return Unknown(kind, data)
    if not isinstance(data, dict):
        return Malformed(f"{kind}: data is no object")
    try:
        return read(data)
    except _WrongFieldError as error:
        return Malformed(f"{kind}: {error}")


class _WrongFieldError(Exception):
    """A field that a message cannot do without is missing or of the wrong type."""


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise _WrongFieldError(f"{key} is no text")
    return value


def _masked(data: Mapping[str, Any], name: str) -> str | None:
    """A text of an error: a node may have been told a secret."""
    text = _optional_text(data, name)
    return redact(text) if text is not None else None


def _optional_text(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    return value if isinstance(value, str) else None


def read_number(value: Any, default: float = 0.0) -> float:
    """A finite number, else the default: what only shows or sorts must not end a reader."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return default
    try:
        return value if math.isfinite(value) else default
    except OverflowError:  # an integer beyond a float
        return default


def read_milliseconds(value: Any) -> int | None:
    """A time in milliseconds since 1970, or ``None`` if it is none that every system can show in every time zone."""
    number = read_number(value, -1.0)
    return int(number) if 0 <= number < _END_OF_TIME else None


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _status(data: Mapping[str, Any]) -> Status:
    status = data.get("status")
    info = status.get("exec_info") if isinstance(status, dict) else None
    remaining = info.get("queue_remaining") if isinstance(info, dict) else None
    valid = isinstance(remaining, int) and not isinstance(remaining, bool)
    return Status(remaining if valid else None, _optional_text(data, "sid"))


def _executing(data: Mapping[str, Any]) -> Executing:
    node = data.get("node")
    if node is not None and not isinstance(node, str):
        raise _WrongFieldError("node is neither a text nor null")
    return Executing(_optional_text(data, "prompt_id"), node, _optional_text(data, "display_node"))


def _progress(data: Mapping[str, Any]) -> Progress:
    ids = _optional_text(data, "prompt_id"), _optional_text(data, "node")
    return Progress(*ids, read_number(data.get("value")), read_number(data.get("max")))


def _progress_state(data: Mapping[str, Any]) -> ProgressState:
    nodes = data.get("nodes")
    if not isinstance(nodes, dict):
        raise _WrongFieldError("nodes is no object")
    read = {node_id: _node_progress(node_id, node) for node_id, node in nodes.items() if isinstance(node, dict)}
    return ProgressState(_text(data, "prompt_id"), read)


def _node_progress(node_id: str, node: Mapping[str, Any]) -> NodeProgress:
    shown = _optional_text(node, "display_node_id") or node_id
    state = _optional_text(node, "state") or "running"
    return NodeProgress(node_id, state, read_number(node.get("value")), read_number(node.get("max")), shown)


def _executed(data: Mapping[str, Any]) -> Executed:
    node, output = _text(data, "node"), data.get("output")
    shown = _optional_text(data, "display_node") or node
    return Executed(_text(data, "prompt_id"), node, shown, output if isinstance(output, dict) else None)


def read_execution_error(data: Mapping[str, Any]) -> ExecutionError:
    """Read the data of an ``execution_error``, from the socket or from a history entry: they are the same."""
    return ExecutionError(
        prompt_id=_optional_text(data, "prompt_id") or "",
        node_id=_masked(data, "node_id"),
        node_type=_masked(data, "node_type"),
        exception_type=_masked(data, "exception_type") or "unknown",
        exception_message=(_masked(data, "exception_message") or "").strip(),
        traceback=tuple(redact(line.rstrip("\n")) for line in _texts(data.get("traceback"))),
        timestamp=read_milliseconds(data.get("timestamp")),
    )


def _execution_error(data: Mapping[str, Any]) -> ExecutionError:
    _text(data, "prompt_id")
    return read_execution_error(data)


def _execution_interrupted(data: Mapping[str, Any]) -> ExecutionInterrupted:
    node = _optional_text(data, "node_id"), _optional_text(data, "node_type")
    return ExecutionInterrupted(_text(data, "prompt_id"), *node, read_milliseconds(data.get("timestamp")))


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Message]]] = {
    "status": _status,
    "execution_start": lambda data: ExecutionStart(_text(data, "prompt_id"), read_milliseconds(data.get("timestamp"))),
    "execution_cached": lambda data: ExecutionCached(_text(data, "prompt_id"), _texts(data.get("nodes"))),
    "executing": _executing,
    "progress": _progress,
    "progress_state": _progress_state,
    "executed": _executed,
    "execution_success": lambda data: ExecutionSuccess(
        _text(data, "prompt_id"), read_milliseconds(data.get("timestamp"))
    ),
    "execution_error": _execution_error,
    "execution_interrupted": _execution_interrupted,
    "feature_flags": FeatureFlags,
}


def _decode_binary(frame: bytes) -> Message:
    event = int.from_bytes(frame[:4])
    if len(frame) < 8:
        return Malformed(f"a binary frame of {len(frame)} bytes")
    if event == _PREVIEW:
        media_type = _FORMATS.get(int.from_bytes(frame[4:8]))
        return Preview(frame[8:], media_type) if media_type else Malformed("a preview of an unknown format")
    if event == _PREVIEW_WITH_METADATA:
        return _preview_with_metadata(frame)
    if event == _TEXT:
        return _progress_text(frame)
    return Unknown(f"binary event {event}", None)


def _split(frame: bytes) -> tuple[bytes, bytes] | None:
    """The part whose length stands first, and the rest."""
    end = 8 + int.from_bytes(frame[4:8])
    return (frame[8:end], frame[end:]) if end <= len(frame) else None


def _preview_with_metadata(frame: bytes) -> Message:
    parts = _split(frame)
    if parts is None:
        return Malformed("a preview whose metadata is longer than the frame")
    try:
        data = _json.loads(parts[0])
    except _json.JSONError as error:
        return Malformed(f"a preview's metadata is not JSON: {error}")
    if not isinstance(data, dict):
        return Malformed("a preview's metadata is no object")
    ids = (_optional_text(data, key) for key in ("prompt_id", "node_id", "display_node_id"))
    return Preview(parts[1], _optional_text(data, "image_type") or "image/jpeg", *ids)


def _progress_text(frame: bytes) -> Message:
    parts = _split(frame)
    if parts is None:
        return Malformed("a text whose node id is longer than the frame")
    return ProgressText(parts[0].decode(errors="replace"), parts[1].decode(errors="replace"))


def text_message(kind: str, data: Any) -> str:
    """The text frame of a message: ``{"type": kind, "data": data}``.

    Raises:
        JSONError: ``data`` is no JSON value.
    """
    return _json.dumps({"type": kind, "data": data})


def encode_preview(image: bytes, media_type: str, metadata: Mapping[str, Any] | None = None) -> bytes:
    """The binary frame of a preview.

    Args:
        image: The encoded picture.
        media_type: ``"image/jpeg"`` or ``"image/png"``.
        metadata: ``{"node_id", "prompt_id", "display_node_id", "parent_node_id", "real_node_id"}`` for a
            receiver with the flag ``supports_preview_metadata`` (event 4), ``None`` for others (event 1).
    """
    if metadata is None:
        code = 2 if media_type == "image/png" else 1
        return _PREVIEW.to_bytes(4) + code.to_bytes(4) + image
    text = _json.dumps({**metadata, "image_type": media_type}).encode()
    return _PREVIEW_WITH_METADATA.to_bytes(4) + len(text).to_bytes(4) + text + image


def encode_progress_text(node_id: str, text: str) -> bytes:
    """The binary frame of a node's line of text (event 3)."""
    node = node_id.encode()
    return _TEXT.to_bytes(4) + len(node).to_bytes(4) + node + text.encode()
