"""Nodes of masks and alpha channels: really executed, in 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfyclient.emulator.media import resample
from comfyclient.emulator.nodes.images import cut, fit, scaled, to_rgb
from comfyclient.emulator.nodes.registry import Call, node
from comfyclient.emulator.values import Frames, Image

__all__: list[str] = []

_INVERT = bytes(255 - value for value in range(256))
_CHANNELS = {"red": 0, "green": 1, "blue": 2, "alpha": 3}


@node("SolidMask")
def _solid(call: Call) -> tuple[Any, ...]:
    width, height = call.inputs["width"], call.inputs["height"]
    level = min(255, max(0, int(call.inputs["value"] * 255)))
    return (Image(width, height, 1, (bytes([level]) * (width * height),)),)


@node("InvertMask")
def _invert(call: Call) -> tuple[Any, ...]:
    return (call.inputs["mask"].map(lambda frame: frame.translate(_INVERT)),)


@node("CropMask")
def _crop(call: Call) -> tuple[Any, ...]:
    return (cut(call.inputs["mask"], *(call.inputs[name] for name in ("x", "y", "width", "height"))),)


@node("MaskToImage")
def _to_image(call: Call) -> tuple[Any, ...]:
    return (to_rgb(call.inputs["mask"]),)


@node("ImageToMask")
def _from_image(call: Call) -> tuple[Any, ...]:
    image, channel = call.inputs["image"], _CHANNELS[call.inputs["channel"]]
    if channel >= image.channels:
        raise IndexError(f"index {channel} is out of bounds for dimension 3 with size {image.channels}")
    step = image.channels
    return (image.map(lambda frame: frame[channel::step], channels=1),)


@node("ImageColorToMask")
def _from_colour(call: Call) -> tuple[Any, ...]:
    image, colour = to_rgb(call.inputs["image"]), call.inputs["color"]
    tables = [bytes(255 if value == (colour >> shift & 0xFF) else 0 for value in range(256)) for shift in (16, 8, 0)]

    def matching(frame: bytes) -> bytes:
        planes = (int.from_bytes(frame[index::3].translate(table)) for index, table in enumerate(tables))
        red, green, blue = planes
        return (red & green & blue).to_bytes(len(frame) // 3)

    return (image.map(matching, channels=1),)


@node("ThresholdMask")
def _threshold(call: Call) -> tuple[Any, ...]:
    limit = call.inputs["value"] * 255
    table = bytes(255 if value > limit else 0 for value in range(256))
    return (call.inputs["mask"].map(lambda frame: frame.translate(table)),)


_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "multiply": lambda below, above: below * above // 255,
    "add": lambda below, above: min(255, below + above),
    "subtract": lambda below, above: max(0, below - above),
    "and": lambda below, above: 255 * (below > 127 and above > 127),
    "or": lambda below, above: 255 * (below > 127 or above > 127),
    "xor": lambda below, above: 255 * ((below > 127) != (above > 127)),
}


@node("MaskComposite")
def _composite(call: Call) -> tuple[Any, ...]:
    below, above = call.inputs["destination"], call.inputs["source"]
    x, y, operate = call.inputs["x"], call.inputs["y"], _OPERATIONS[call.inputs["operation"]]
    width, height = min(above.width, below.width - x), min(above.height, below.height - y)
    if width <= 0 or height <= 0:
        return (below,)

    def put(frame: bytes) -> bytes:
        pixels, other = bytearray(frame), above.frames[0]
        for row in range(height):
            at, source = (y + row) * below.width + x, row * above.width
            line = zip(pixels[at : at + width], other[source : source + width], strict=True)
            pixels[at : at + width] = bytes(operate(under, over) for under, over in line)
        return bytes(pixels)

    return (below.map(put),)


@node("SplitImageWithAlpha")
def _split(call: Call) -> tuple[Any, ...]:
    """The colours, and how transparent each pixel is."""
    image: Image = call.inputs["image"]
    if image.channels < 4:
        return image, Image(*image.size, 1, Frames(len(image.frames), lambda _index: bytes(image.width * image.height)))
    return to_rgb(image), image.map(lambda frame: frame[3::4].translate(_INVERT), channels=1)


@node("JoinImageWithAlpha")
def _join(call: Call) -> tuple[Any, ...]:
    image = to_rgb(call.inputs["image"])
    alpha = scaled(call.inputs["alpha"], *image.size, "bilinear")

    def combined(index: int) -> bytes:
        opacity = alpha.frames[min(index, len(alpha.frames) - 1)].translate(_INVERT)
        return resample.merge([*resample.lanes(image.frames[index], 3), opacity])

    return (Image(*image.size, 4, Frames(len(image.frames), combined), image.simulated),)


@node("ImageCompositeMasked")
def _composite_masked(call: Call) -> tuple[Any, ...]:
    """The source put onto the destination where the mask is; without a mask, everywhere."""
    below: Image = call.inputs["destination"]
    above: Image = call.inputs["source"]
    mask: Image | None = call.inputs.get("mask")
    if call.inputs["resize_source"]:
        above = fit(above, *below.size, "bilinear", "disabled")
    if mask is not None:
        mask = scaled(mask, *above.size, "bilinear")
    x, y = call.inputs["x"], call.inputs["y"]
    width, height = min(above.width, below.width - x), min(above.height, below.height - y)
    if width <= 0 or height <= 0:
        return (below,)
    above = cut(to_rgb(above, below.channels), 0, 0, width, height)
    shape = None if mask is None else cut(mask, 0, 0, width, height)
    channels, full = below.channels, below.width

    def put(frame: bytes) -> bytes:
        pixels, over = bytearray(frame), above.frames[0]
        for row in range(height):
            at, source = ((y + row) * full + x) * channels, row * width * channels
            line = over[source : source + width * channels]
            if shape is not None:
                weights = shape.frames[0][row * width : (row + 1) * width]
                under = pixels[at : at + width * channels]
                line = bytes(
                    (high * weights[index // channels] + low * (255 - weights[index // channels])) // 255
                    for index, (high, low) in enumerate(zip(line, under, strict=True))
                )
            pixels[at : at + width * channels] = line
        return bytes(pixels)

    return (below.map(put),)
