"""Nodes that save or show pictures, with the names and the ui of the server's own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from comfyclient.emulator.folders import SavePlace
from comfyclient.emulator.jsontext import server_json
from comfyclient.emulator.media import exr, png, webp
from comfyclient.emulator.media.picture import NOTICE
from comfyclient.emulator.nodes.images import to_rgb
from comfyclient.emulator.nodes.registry import Call, Outcome, node
from comfyclient.emulator.values import Image

__all__ = ["metadata", "preview_images", "temp_prefix"]

_LETTERS = "abcdefghijklmnopqrstupvxyz"


def metadata(call: Call, *, simulated: bool) -> dict[str, str]:
    """The text of a saved file: prompt and workflow as JSON, and a notice if a model should have made it."""
    texts = {key: server_json(value) for key, value in call.texts().items()}
    return texts | ({"comfyclient": NOTICE} if simulated else {})


def temp_prefix(call: Call) -> str:
    """``ComfyUI_temp_abcde``: five letters of chance."""
    return "ComfyUI_temp_" + "".join(call.run.random.choice(_LETTERS) for _ in range(5))


def preview_images(
    call: Call, image: Image, prefix: str | None = None, *, animated: bool = True
) -> dict[str, list[Any]]:
    """The ui of newer preview nodes: temporary PNGs under a name of chance."""
    place = call.run.folders.save_place(prefix or temp_prefix(call), kind="temp")
    shown: dict[str, list[Any]] = {"images": _write_pngs(call, image, place, level=1)}
    return shown | ({"animated": [False]} if animated else {})


def _write_pngs(call: Call, image: Image, place: SavePlace, *, level: int, underscore: bool = True) -> list[Any]:
    text = metadata(call, simulated=image.simulated)
    shown = to_rgb(image) if image.is_mask else image
    entries = []
    for index, frame in enumerate(shown.frames):
        name = place.name(index, "png", underscore=underscore)
        (place.folder / name).write_bytes(png.encode(*shown.size, shown.channels, frame, text=text, level=level))
        entries.append(place.entry(name))
    return entries


@node("SaveImage")
def _save_image(call: Call) -> Outcome:
    image: Image = call.inputs["images"]
    place = call.run.folders.save_place(call.inputs["filename_prefix"], width=image.width, height=image.height)
    return Outcome((image,), {"images": _write_pngs(call, image, place, level=4)})


@node("PreviewImage")
def _preview_image(call: Call) -> Outcome:
    """The letters of chance last as long as the node does."""
    image: Image = call.inputs["images"]
    prefix = call.memory.setdefault("prefix", temp_prefix(call))
    return Outcome((image,), preview_images(call, image, prefix, animated=False))


@node("MaskPreview")
def _preview_mask(call: Call) -> Outcome:
    return Outcome((call.inputs["mask"],), preview_images(call, call.inputs["mask"]))


@node("ImageCompare")
def _compare(call: Call) -> Outcome:
    letters = call.memory.setdefault("letters", temp_prefix(call)[-5:])
    shown: dict[str, list[Any]] = {}
    for side in ("a", "b"):
        image = call.inputs.get(f"image_{side}")
        if image is not None:
            prefix = f"comfy.compare.{side}_temp_{letters}"
            shown[f"{side}_images"] = preview_images(call, image, prefix, animated=False)["images"]
    return Outcome((), shown or None)


@node("SaveImageAdvanced")
def _save_image_advanced(call: Call) -> Outcome:
    image: Image = call.inputs["images"]
    place = call.run.folders.save_place(call.inputs["filename_prefix"], width=image.width, height=image.height)
    if call.inputs["format"] != "exr":
        return Outcome((image,), {"images": _write_pngs(call, image, place, level=4, underscore=False)})
    entries = []
    for index, frame in enumerate(to_rgb(image).frames):
        name = place.name(index, "exr")
        (place.folder / name).write_bytes(exr.encode(*image.size, frame))
        entries.append(place.entry(name))
    return Outcome((image,), {"images": entries})


def _animation(image: Image, fps: float) -> tuple[Sequence[bytes], int]:
    frames = list(to_rgb(image).frames)
    return frames, max(1, round(1000 / fps))


def _animated(image: Image, place: SavePlace, name: str) -> Mapping[str, list[Any]]:
    shown: dict[str, list[Any]] = {"images": [place.entry(name)]}
    return shown | ({"animated": [True]} if len(image.frames) > 1 else {})


@node("SaveAnimatedWEBP")
def _save_webp(call: Call) -> Outcome:
    image: Image = call.inputs["images"]
    place = call.run.folders.save_place(call.inputs["filename_prefix"], width=image.width, height=image.height)
    frames, delay = _animation(image, call.inputs["fps"])
    name = place.name(0, "webp", underscore=True)
    (place.folder / name).write_bytes(webp.encode_animation(*image.size, 3, frames, delay_ms=delay, text=call.texts()))
    return Outcome((image,), _animated(image, place, name))


@node("SaveAnimatedPNG")
def _save_apng(call: Call) -> Outcome:
    image: Image = call.inputs["images"]
    place = call.run.folders.save_place(call.inputs["filename_prefix"], width=image.width, height=image.height)
    frames, delay = _animation(image, call.inputs["fps"])
    name = place.name(0, "png", underscore=True)
    text = metadata(call, simulated=image.simulated)
    level = call.inputs.get("compress_level", 4)
    data = png.encode_animation(*image.size, 3, frames, delay_ms=delay, text=text, level=level)
    (place.folder / name).write_bytes(data)
    return Outcome((image,), _animated(image, place, name))


@node("SaveImageWebsocket", fingerprint=lambda _inputs, _folders: time.time())
async def _save_to_socket(call: Call) -> Outcome:
    """The pictures go out as previews, whole; nothing is written and nothing shown. Never cached."""
    image = to_rgb(call.inputs["images"])
    for index, frame in enumerate(image.frames):
        data = png.encode(*image.size, 3, frame, level=1)
        await call.report.progress(index, len(image.frames), (data, "image/png"))
    return Outcome()
