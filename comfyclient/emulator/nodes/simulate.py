"""Nodes that need a model: simulated from their definition.

Every output gets a value of its type that depends on a digest of everything upstream. Sizes, lengths and step counts
are taken from the inputs and carried along, so that what comes out at the end has the size that was asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from comfyclient.emulator.media import jpeg, models3d
from comfyclient.emulator.media.picture import colour_of, simulated_picture
from comfyclient.emulator.nodes.registry import Call, Outcome
from comfyclient.emulator.values import Audio, Frames, Image, Latent, Model3D, Token, Video

__all__ = ["audio_of", "hints_of", "simulate"]

_DEFAULT_SIDE: Final = 512
_MAX_SIDE: Final = 16384
_PREVIEW_SIDE: Final = 256
_PREVIEWS: Final = frozenset({"auto", "latent2rgb", "taesd"})
# What a node's own inputs say about what it makes, by input name.
_OWN_HINTS: Final = {
    "width": "width", "height": "height", "batch_size": "batch", "length": "frames", "frames": "frames",
    "num_frames": "frames",
    "steps": "steps", "fps": "fps", "frame_rate": "fps", "seconds": "seconds", "duration": "seconds", "amount": "batch",
}  # fmt: skip
_ENLARGES: Final = {"ImageUpscaleWithModel": 4.0}


async def simulate(call: Call) -> Outcome:
    """Do what a node of this class would do, as far as its definition tells."""
    hints = hints_of(call)
    if steps := _sampling_steps(call, hints):
        await _sample(call, steps, hints)
    values = []
    for slot, output in enumerate(call.spec.outputs):
        digest = hashlib.sha256(f"{call.digest}/{slot}".encode()).hexdigest()
        value = _make(output.type, output.name, digest, hints, call)
        values.append([value] if output.is_list else value)
    return Outcome(tuple(values), {} if call.spec.is_output else None)


def hints_of(call: Call) -> dict[str, float]:
    """Size, number of frames, steps and the like: from the inputs, the node's own numbers before what they carry."""
    hints: dict[str, float] = {}
    for value in _flat(call.inputs.values()):
        for name, number in _carried(value).items():
            hints.setdefault(name, number)
    own = {name: value for name, value in call.inputs.items() if isinstance(value, int | float) and value > 0}
    for name, hint in _OWN_HINTS.items():
        if name in own:
            hints[hint] = own[name]
    if "frames" in own or "length" in own:
        hints["batch"] = hints["frames"] * own.get("batch_size", 1)
    factor = own.get("scale_by") or _ENLARGES.get(call.class_type)
    if factor:
        for side in ("width", "height"):
            hints[side] = max(1, round(hints.get(side, _DEFAULT_SIDE) * factor))
    return hints


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        yield from value if isinstance(value, list) else (value,)


def _carried(value: Any) -> Mapping[str, float]:
    match value:
        case Token(hints=hints):
            return hints
        case Image(width=width, height=height, channels=channels, frames=frames) if channels > 1:
            return {"width": width, "height": height, "batch": len(frames)}
        case Latent(width=width, height=height, batch=batch, seconds=seconds):
            return {"width": width, "height": height, "batch": batch, "seconds": seconds}
        case Video(images=images, fps=fps):
            return {"width": images.width, "height": images.height, "batch": len(images.frames), "fps": fps}
        case Audio(seconds=seconds):
            return {"seconds": seconds}
        case _:
            return {}


def _sampling_steps(call: Call, hints: Mapping[str, float]) -> int:
    """How many steps the node reports: samplers only, which turn a latent into a latent step by step."""
    types = {value.kind for value in call.inputs.values() if isinstance(value, Token)}
    takes_steps = "steps" in call.inputs and "MODEL" in types
    if not any(output.type == "LATENT" for output in call.spec.outputs) or not (takes_steps or "SIGMAS" in types):
        return 0
    steps = int(hints.get("steps", 20))
    first, last = call.inputs.get("start_at_step"), call.inputs.get("end_at_step")
    if isinstance(first, int) and isinstance(last, int):
        steps = min(steps, last) - first
    return max(0, min(steps, 10_000))


async def _sample(call: Call, steps: int, hints: Mapping[str, float]) -> None:
    with_previews = call.run.preview_method in _PREVIEWS
    width, height = _size(hints)
    shrink = max(width, height, _PREVIEW_SIDE) / _PREVIEW_SIDE
    small = max(1, round(width / shrink)), max(1, round(height / shrink))
    for step in range(1, steps + 1):
        preview = None
        if with_previews:
            data = await asyncio.to_thread(_preview, f"{call.digest}/{step}", small)
            preview = (data, "image/jpeg")
        await call.report.progress(step, steps, preview)


def _preview(digest: str, size: tuple[int, int]) -> bytes:
    return jpeg.encode(*size, 3, simulated_picture(digest, *size))


def _size(hints: Mapping[str, float]) -> tuple[int, int]:
    width, height = (min(_MAX_SIDE, max(1, int(hints.get(side, _DEFAULT_SIDE)))) for side in ("width", "height"))
    return width, height


def audio_of(digest: str, seconds: float) -> Audio:
    """Sound that stands for that digest: a tone between 220 and 880 Hz."""
    return Audio(44100, 2, seconds, 220.0 + int(digest[:4], 16) % 660)


def _image(digest: str, hints: Mapping[str, float]) -> Image:
    width, height = _size(hints)
    frames = Frames(
        max(1, int(hints.get("batch", 1))), lambda index: simulated_picture(f"{digest}/{index}", width, height)
    )
    return Image(width, height, 3, frames, simulated=True)


def _mask(digest: str, hints: Mapping[str, float]) -> Image:
    """A disc of the middle third."""
    width, height = _size(hints)
    shift = int(digest[:2], 16) % max(1, width // 3)
    inside = b"\0" * shift + b"\xff" * (width // 2) + b"\0" * width
    rows = (inside[:width] if height // 4 <= y < height - height // 4 else bytes(width) for y in range(height))
    return Image(width, height, 1, (b"".join(rows),), simulated=True)


def _latent(digest: str, hints: Mapping[str, float], call: Call) -> Latent:
    width, height = _size(hints)
    channels = next((value.channels for value in call.inputs.values() if isinstance(value, Latent)), None)
    if channels is None:
        channels = 4 if call.class_type == "EmptyLatentImage" else 16
    return Latent(width, height, max(1, int(hints.get("batch", 1))), digest, channels, hints.get("seconds", 0.0))


def _number(kind: str, name: str, digest: str, hints: Mapping[str, float], call: Call) -> Any:
    given = call.inputs.get(name, hints.get(name))
    if isinstance(given, int | float):
        return {"INT": int, "FLOAT": float, "BOOLEAN": bool}[kind](given)
    chance = int(digest[:6], 16)
    return {"INT": chance % 1000, "FLOAT": chance % 1000 / 1000, "BOOLEAN": chance % 2 == 1}[kind]


def _passed_on(digest: str, kind: str, hints: dict[str, float], call: Call) -> Any:
    """The value of an output of any type: the first input that is not a plain number or text."""
    for value in _flat(call.inputs.values()):
        if not isinstance(value, int | float | str | None):
            return value
    return next(iter(call.inputs.values()), Token(kind, digest, hints))


_MODELS: Final[dict[str, tuple[str, Callable[[tuple[int, int, int]], bytes]]]] = {
    "FILE_3D_OBJ": ("obj", models3d.obj),
    "FILE_3D_PLY": ("ply", models3d.ply),
    "FILE_3D_SPLAT_ANY": ("ply", models3d.ply),
    "FILE_3D_POINT_CLOUD_ANY": ("ply", models3d.ply),
    "SPLAT": ("ply", models3d.ply),
}


def _model(kind: str, digest: str) -> Model3D:
    extension, write = _MODELS.get(kind, ("glb", models3d.glb))
    return Model3D(write(colour_of(digest)), extension, digest)


def _make(kind: str, name: str, digest: str, hints: dict[str, float], call: Call) -> Any:
    if kind == "IMAGE":
        return _image(digest, hints)
    if kind == "MASK":
        return _mask(digest, hints)
    if kind == "LATENT":
        return _latent(digest, hints, call)
    if kind == "AUDIO":
        return audio_of(digest, hints.get("seconds") or 2.0)
    if kind == "VIDEO":
        images = _image(digest, {"batch": hints.get("fps", 16.0) * (hints.get("seconds") or 2.0)} | hints)
        return Video(images, hints.get("fps", 16.0))
    if kind in {"INT", "FLOAT", "BOOLEAN"}:
        return _number(kind, name, digest, hints, call)
    if kind == "STRING":
        return f"simulated by {call.class_type}: {digest[:16]}"
    if kind == "SVG":
        return Model3D(models3d.svg(*_size(hints), colour_of(digest)), "svg", digest)
    if kind.startswith("FILE_3D") or kind in {"MESH", "SPLAT", "VOXEL"}:
        return _model(kind, digest)
    if kind == "BOUNDING_BOX":
        width, height = _size(hints)
        return {"x": 0, "y": 0, "width": width // 2, "height": height // 2}
    if kind in {"ARRAY", "DICT"}:
        return [] if kind == "ARRAY" else {}
    if kind in {"*", "COMFY_MATCHTYPE_V3"} or "," in kind:
        return _passed_on(digest, kind, hints, call)
    return Token(kind, digest, hints)
