"""Nodes that work on pixels: really executed, in 8 bits (the server computes in floats: values can differ by one)."""

from __future__ import annotations

import math
import random
from typing import Any

from comfyclient.emulator.media import resample
from comfyclient.emulator.nodes.registry import Call, Outcome, node
from comfyclient.emulator.values import Frames, Image

__all__ = ["fit", "scaled", "to_rgb"]

_INVERT = bytes(255 - value for value in range(256))


def scaled(image: Image, width: int, height: int, method: str) -> Image:
    """The image scaled to that size."""
    if (width, height) == image.size:
        return image
    size, channels = image.size, image.channels
    return image.map(
        lambda frame: resample.resize(frame, size, channels, (width, height), method), size=(width, height)
    )


def cut(image: Image, x: int, y: int, width: int, height: int) -> Image:
    """A rectangle of the image, cut where it leaves it."""
    x, y = min(max(x, 0), image.width - 1), min(max(y, 0), image.height - 1)
    width, height = min(width, image.width - x), min(height, image.height - y)
    size, channels = image.size, image.channels
    return image.map(lambda frame: resample.crop(frame, size, channels, x, y, width, height), size=(width, height))


def fit(image: Image, width: int, height: int, method: str, crop: str) -> Image:
    """Scaled to that size; with ``crop="center"`` what is too long of one side is cut off first."""
    if crop == "center":
        x = y = 0
        if image.width * height > width * image.height:
            x = round((image.width - image.height * width / height) / 2)
        elif image.width * height < width * image.height:
            y = round((image.height - image.width * height / width) / 2)
        image = cut(image, x, y, image.width - 2 * x, image.height - 2 * y)
    return scaled(image, width, height, method)


def to_rgb(image: Image, channels: int = 3) -> Image:
    """The image with 3 or 4 channels."""
    if image.channels == channels:
        return image
    old = image.channels
    return image.map(lambda frame: resample.to_channels(frame, old, channels), channels=channels)


def join(images: list[Image]) -> Image:
    """One batch of them all: with the size of the first, and alpha if one has it."""
    first, channels = images[0], max(image.channels for image in images)
    same = [
        fit(to_rgb(image, channels) if channels > 1 else image, *first.size, "bilinear", "center") for image in images
    ]
    flat = [(image, index) for image in same for index in range(len(image.frames))]
    frames = Frames(len(flat), lambda at: flat[at][0].frames[flat[at][1]])
    return Image(*first.size, channels, frames, any(image.simulated for image in images))


@node("EmptyImage")
def _empty(call: Call) -> tuple[Any, ...]:
    width, height, colour = call.inputs["width"], call.inputs["height"], call.inputs["color"]
    frame = bytes([colour >> 16 & 0xFF, colour >> 8 & 0xFF, colour & 0xFF]) * (width * height)
    return (Image(width, height, 3, Frames(call.inputs["batch_size"], lambda _index: frame)),)


@node("ImageScale")
def _scale(call: Call) -> tuple[Any, ...]:
    image, width, height = call.inputs["image"], call.inputs["width"], call.inputs["height"]
    if width == 0 and height == 0:
        return (image,)
    width = width or max(1, round(image.width * height / image.height))
    height = height or max(1, round(image.height * width / image.width))
    return (fit(image, width, height, call.inputs["upscale_method"], call.inputs["crop"]),)


@node("ImageScaleBy")
def _scale_by(call: Call) -> tuple[Any, ...]:
    image, factor = call.inputs["image"], call.inputs["scale_by"]
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return (scaled(image, *size, call.inputs["upscale_method"]),)


@node("ImageScaleToTotalPixels")
def _scale_to_total(call: Call) -> tuple[Any, ...]:
    image, step = call.inputs["image"], call.inputs.get("resolution_steps", 1)
    factor = math.sqrt(call.inputs["megapixels"] * 1024 * 1024 / (image.width * image.height))
    size = [max(step, round(side * factor / step) * step) for side in image.size]
    return (scaled(image, size[0], size[1], call.inputs["upscale_method"]),)


@node("ImageScaleToMaxDimension")
def _scale_to_max(call: Call) -> tuple[Any, ...]:
    image, largest = call.inputs["image"], call.inputs["largest_size"]
    longest = max(image.size)
    size = [max(1, round(side / longest * largest)) for side in image.size]
    return (scaled(image, size[0], size[1], call.inputs["upscale_method"]),)


@node("ImageInvert")
def _invert(call: Call) -> tuple[Any, ...]:
    return (call.inputs["image"].map(lambda frame: frame.translate(_INVERT)),)


@node("ImageCrop")
def _crop(call: Call) -> tuple[Any, ...]:
    return (cut(call.inputs["image"], *(call.inputs[name] for name in ("x", "y", "width", "height"))),)


@node("ImageBatch")
def _batch(call: Call) -> tuple[Any, ...]:
    return (join([call.inputs["image1"], call.inputs["image2"]]),)


@node("BatchImagesNode")
def _batch_many(call: Call) -> tuple[Any, ...]:
    return (join(list(call.group("images").values())),)


@node("RepeatImageBatch")
def _repeat(call: Call) -> tuple[Any, ...]:
    return (join([call.inputs["image"]] * call.inputs["amount"]),)


@node("ImageFromBatch")
def _from_batch(call: Call) -> tuple[Any, ...]:
    image: Image = call.inputs["image"]
    first: int = call.inputs["batch_index"]
    count = len(image.frames)
    first = max(0, min(count - 1, first + count if first < 0 else first))
    return (Image(*image.size, image.channels, image.frames[first : first + call.inputs["length"]], image.simulated),)


@node("ImageFlip")
def _flip(call: Call) -> tuple[Any, ...]:
    image: Image = call.inputs["image"]
    size, channels = image.size, image.channels
    vertically = call.inputs["flip_method"].startswith("x")
    return (image.map(lambda frame: resample.flip(frame, size, channels, vertically=vertically)),)


@node("ImageRotate")
def _rotate(call: Call) -> tuple[Any, ...]:
    image: Image = call.inputs["image"]
    size, channels = image.size, image.channels
    quarters = {"90": 1, "18": 2, "27": 3}.get(call.inputs["rotation"][:2], 0)
    new_size = size if quarters % 2 == 0 else (size[1], size[0])
    return (image.map(lambda frame: resample.rotate(frame, size, channels, quarters), size=new_size),)


@node("ImageBlur")
def _blur(call: Call) -> tuple[Any, ...]:
    image, radius, sigma = call.inputs["image"], call.inputs["blur_radius"], call.inputs["sigma"]
    size, channels = image.size, image.channels
    return (image.map(lambda frame: resample.blur(frame, size, channels, radius, sigma)),)


@node("ImageAddNoise")
def _noise(call: Call) -> tuple[Any, ...]:
    """Gaussian noise; the same seed gives the same noise here, but not torch's."""
    chance = random.Random(call.inputs["seed"])  # noqa: S311 - pixels, not secrets
    strength = call.inputs["strength"] * 255

    def noisy(frame: bytes) -> bytes:
        return bytes([min(max(round(value + chance.gauss(0, strength)), 0), 255) for value in frame])

    return (call.inputs["image"].map(noisy),)


@node("ImagePadForOutpaint")
def _pad(call: Call) -> tuple[Any, ...]:
    """Grey round the picture, and a mask of what was added, which fades into the picture over ``feathering`` pixels."""
    image: Image = call.inputs["image"]
    left, top, right, bottom = (call.inputs[side] for side in ("left", "top", "right", "bottom"))
    size, channels = image.size, image.channels
    new_size = (image.width + left + right, image.height + top + bottom)
    padded = image.map(
        lambda frame: resample.pad(frame, size, channels, (left, top, right, bottom), 127), size=new_size
    )
    inside = _feathered(size, call.inputs["feathering"], left, top, right, bottom)
    mask = resample.pad(inside, size, 1, (left, top, right, bottom), 255)
    return padded, Image(*new_size, 1, (mask,))


def _feathered(size: tuple[int, int], feathering: int, left: int, top: int, right: int, bottom: int) -> bytes:
    """The mask inside the picture: full at the sides that were padded, nothing ``feathering`` pixels further in."""
    width, height = size
    if not 0 < feathering < min(size) / 2:
        return bytes(width * height)
    columns = [min(x if left else width, width - x if right else width) for x in range(width)]
    rows = [min(y if top else height, height - y if bottom else height, feathering) for y in range(height)]
    levels = [int(255 * ((feathering - distance) / feathering) ** 2) for distance in range(feathering)] + [0]
    drawn = {row: bytes(levels[min(row, column, feathering)] for column in columns) for row in set(rows)}
    return b"".join(drawn[row] for row in rows)


@node("GetImageSize")
def _size(call: Call) -> tuple[Any, ...]:
    image: Image = call.inputs["image"]
    batch = len(image.frames)
    call.report.text(f"width: {image.width}, height: {image.height}\n batch size: {batch}")
    return image.width, image.height, batch


@node("RebatchImages")
def _rebatch(call: Call) -> tuple[Any, ...]:
    """Batches of one size; images of another size begin a new one. Takes and gives lists."""
    images: list[Image] = call.inputs["images"]
    singles = [
        Image(*image.size, image.channels, image.frames[index : index + 1], image.simulated)
        for image in images
        for index in range(len(image.frames))
    ]
    limit = call.inputs["batch_size"][0]
    batches: list[list[Image]] = []
    for image in singles:
        if not batches or len(batches[-1]) >= limit or batches[-1][0].size != image.size:
            batches.append([])
        batches[-1].append(image)
    return ([join(batch) for batch in batches],)


@node("CreateList")
def _list(call: Call) -> tuple[Any, ...]:
    """The members one after the other, as a list; takes lists."""
    return ([value for values in call.group("inputs").values() for value in values],)


@node("ImageCropV2")
def _crop_region(call: Call) -> Outcome:
    from comfyclient.emulator.nodes.saves import preview_images

    region = call.inputs["crop_region"]
    image = cut(
        call.inputs["image"],
        *(region.get(name, 0) for name in ("x", "y")),
        *(region.get(name, 512) for name in ("width", "height")),
    )
    return Outcome((image,), preview_images(call, image))
