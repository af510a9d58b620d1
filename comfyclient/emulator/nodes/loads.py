"""Nodes that read files of the input folder."""

from __future__ import annotations

import hashlib
import io
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from comfyclient.emulator.folders import Folders, is_file
from comfyclient.emulator.media import png, resample
from comfyclient.emulator.media.picture import simulated_picture
from comfyclient.emulator.media.sniff import media_type, size_of
from comfyclient.emulator.nodes.registry import Call, Outcome, node
from comfyclient.emulator.nodes.simulate import audio_of
from comfyclient.emulator.values import Audio, Frames, Image, Latent, Model3D, Video

__all__: list[str] = []

_INVERT = bytes(255 - value for value in range(256))


def _present(name: str, message: str) -> Callable[[Mapping[str, Any], Folders], str | None]:
    """The validation of nodes with an upload input: the file must be there."""

    def check(inputs: Mapping[str, Any], folders: Folders) -> str | None:
        value = inputs.get(name)
        if value is None or value == "none":
            return None
        try:
            found = isinstance(value, str) and is_file(folders.annotated(value))
        except ValueError:
            found = False
        return None if found else f"{message}: {value}"

    return check


def _digest(name: str) -> Callable[[Mapping[str, Any], Folders], Any]:
    """A changed file makes the node run again, though its name is the same."""

    def fingerprint(inputs: Mapping[str, Any], folders: Folders) -> str:
        return hashlib.sha256(folders.annotated(inputs[name]).read_bytes()).hexdigest()

    return fingerprint


def read_picture(data: bytes) -> Image:
    """A picture file as RGB or RGBA.

    PNG is decoded. What needs a codec (JPEG, WebP, GIF) becomes a simulated picture of the same size, which depends on
    the file's bytes.

    Raises:
        ValueError: It is no picture at all.
    """
    if media_type(data) == "image/png":
        try:
            found = png.decode(data)
        except png.PictureUnreadable:
            pass  # interlaced or damaged: the header still says how large it is
        else:
            channels = max(3, found.channels)
            return Image(
                found.width, found.height, channels, (resample.to_channels(found.pixels, found.channels, channels),)
            )
    size = size_of(data)
    if size is None:
        raise ValueError("cannot identify image file")
    frame = simulated_picture(hashlib.sha256(data).hexdigest(), *size)
    return Image(*size, 3, (frame,), simulated=True)


def _split_alpha(image: Image) -> tuple[Image, Image]:
    """Colours, and a mask of what is transparent; a black mask of 64 by 64 where there is no alpha channel."""
    if image.channels == 3:
        return image, Image(64, 64, 1, (bytes(64 * 64),))
    frame = image.frames[0]
    colours = Image(*image.size, 3, (resample.to_channels(frame, 4, 3),), image.simulated)
    return colours, Image(*image.size, 1, (frame[3::4].translate(_INVERT),))


_IMAGE: dict[str, Any] = {
    "check": _present("image", "Invalid image file"),
    "checked_inputs": ("image",),
    "fingerprint": _digest("image"),
    "in_thread": True,
}


@node("LoadImage", "LoadImageOutput", **_IMAGE)
def _load_image(call: Call) -> tuple[Any, ...]:
    return _split_alpha(read_picture(call.run.folders.annotated(call.inputs["image"]).read_bytes()))


@node("LoadImageMask", **_IMAGE)
def _load_mask(call: Call) -> tuple[Any, ...]:
    image = read_picture(call.run.folders.annotated(call.inputs["image"]).read_bytes())
    channel = call.inputs["channel"]
    if channel == "alpha":
        return (_split_alpha(image)[1],)
    index = ("red", "green", "blue").index(channel)
    return (Image(*image.size, 1, (image.frames[0][index :: image.channels],)),)


@node(
    "LoadAudio", check=_present("audio", "Invalid audio file"), checked_inputs=("audio",), fingerprint=_digest("audio")
)
def _load_audio(call: Call) -> tuple[Any, ...]:
    """A WAV file's rate, channels and length; anything else counts as two seconds of stereo."""
    data = call.run.folders.annotated(call.inputs["audio"]).read_bytes()
    found = audio_of(hashlib.sha256(data).hexdigest(), 2.0)
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        try:
            with wave.open(io.BytesIO(data)) as file:
                rate, channels = file.getframerate(), file.getnchannels()
                seconds = file.getnframes() / rate
        except (wave.Error, EOFError, ZeroDivisionError) as error:
            raise ValueError(f"cannot read the audio file: {error}") from None
        found = Audio(rate, channels, seconds, found.frequency)
    return (Audio(found.rate, found.channels, found.seconds, found.frequency, data),)


@node("LoadVideo", check=_present("file", "Invalid video file"), checked_inputs=("file",), fingerprint=_digest("file"))
def _load_video(call: Call) -> tuple[Any, ...]:
    """The file is kept as it is; its frames, if somebody looks at them, are simulated."""
    data = call.run.folders.annotated(call.inputs["file"]).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    frames = Frames(16, lambda index: simulated_picture(f"{digest}/{index}", 512, 512))
    return (Video(Image(512, 512, 3, frames, simulated=True), 16.0, audio_of(digest, 1.0), data),)


@node(
    "LoadLatent",
    check=_present("latent", "Invalid latent file"),
    checked_inputs=("latent",),
    fingerprint=_digest("latent"),
)
def _load_latent(call: Call) -> tuple[Any, ...]:
    data = call.run.folders.annotated(call.inputs["latent"]).read_bytes()
    return (Latent(512, 512, 1, hashlib.sha256(data).hexdigest()),)


def _load_model(call: Call) -> Model3D:
    path: Path = call.run.folders.annotated(call.inputs["model_file"])
    data = path.read_bytes()
    return Model3D(data, path.suffix.lstrip(".") or "glb", hashlib.sha256(data).hexdigest())


@node("Load3DAdvanced", check=_present("model_file", "Invalid 3D file"), checked_inputs=("model_file",))
def _load_3d(call: Call) -> Outcome:
    model = None if call.inputs["model_file"] == "none" else _load_model(call)
    return Outcome((model, [], None, call.inputs["width"], call.inputs["height"]))


@node("Load3D", check=_present("model_file", "Invalid 3D file"), checked_inputs=("model_file",))
def _load_3d_rendered(call: Call) -> Outcome:
    """The page renders the views in a browser; here they are simulated."""
    model = None if call.inputs["model_file"] == "none" else _load_model(call)
    width, height = call.inputs["width"], call.inputs["height"]
    view = Image(
        width, height, 3, Frames(1, lambda _index: simulated_picture(call.digest, width, height)), simulated=True
    )
    mask = Image(width, height, 1, (b"\xff" * (width * height),))
    return Outcome((view, mask, call.inputs["model_file"], view, None, None, model, []))
