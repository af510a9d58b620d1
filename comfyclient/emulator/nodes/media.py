"""Nodes that make, take apart and save video, sound, 3D models and latents."""

from __future__ import annotations

import uuid
from typing import Any, Final

from comfyclient.emulator.media import models3d, png, sound, video
from comfyclient.emulator.media.picture import NOTICE, colour_of
from comfyclient.emulator.nodes.images import scaled, to_rgb
from comfyclient.emulator.nodes.registry import Call, Outcome, node
from comfyclient.emulator.nodes.saves import metadata, preview_images, temp_prefix
from comfyclient.emulator.values import Audio, Image, Latent, Model3D, Video

__all__: list[str] = []

_MOST_FRAMES: Final = 24  # of a simulated video that are written; the others are left out and the rest shown longer
_VIDEO_SIDE: Final = 320
_TONE_SECONDS: Final = 2.0  # of a simulated sound; what is left is silence, which costs no space


def _filmed(images: Image, fps: float) -> tuple[int, int, list[bytes], int]:
    """Width, height, PNG frames and how long each is shown: whole if real, small and thinned out if simulated."""
    shown, step = to_rgb(images), 1
    if images.simulated:
        longest = max(images.size)
        if longest > _VIDEO_SIDE:
            size = [max(1, round(side * _VIDEO_SIDE / longest)) for side in images.size]
            shown = scaled(shown, size[0], size[1], "area")
        step = -(-len(shown.frames) // _MOST_FRAMES)
    frames = [png.encode(*shown.size, 3, frame) for frame in shown.frames[::step]]
    return shown.width, shown.height, frames, max(1, round(1000 * step / fps))


@node("CreateVideo")
def _create_video(call: Call) -> tuple[Any, ...]:
    return (Video(call.inputs["images"], call.inputs["fps"], call.inputs.get("audio")),)


@node("GetVideoComponents")
def _components(call: Call) -> tuple[Any, ...]:
    film = call.inputs["video"]
    return film.images, film.audio or Audio(44100, 2, 0.1), film.fps, 8, "sRGB"


@node("Video Slice")
def _slice(call: Call) -> tuple[Any, ...]:
    film: Video = call.inputs["video"]
    start, duration = call.inputs["start_time"], call.inputs["duration"]
    images, total = film.images, len(film.images.frames)
    first = min(round(abs(start) * film.fps) if start >= 0 else max(0, total - round(-start * film.fps)), total - 1)
    last = min(total, first + max(1, round(duration * film.fps))) if duration > 0 else total
    part = Image(*images.size, images.channels, images.frames[first:last], images.simulated)
    return (Video(part, film.fps, film.audio),)


def _save_film(
    call: Call, images: Image, fps: float, extension: str, source: bytes | None = None
) -> dict[str, list[Any]]:
    place = call.run.folders.save_place(call.inputs["filename_prefix"], width=images.width, height=images.height)
    name = place.name(0, extension, underscore=True)
    if source is None:
        width, height, frames, delay = _filmed(images, fps)
        write = video.mp4 if extension == "mp4" else video.webm
        source = write(width, height, frames, frame_ms=delay, text=metadata(call, simulated=images.simulated))
    (place.folder / name).write_bytes(source)
    return {"images": [place.entry(name)], "animated": [True]}


@node("SaveVideo")
def _save_video(call: Call) -> Outcome:
    film = call.inputs["video"]
    container = call.inputs.get("format", "auto")
    extension = "mp4" if container == "auto" else container
    return Outcome(
        (film,), _save_film(call, film.images, film.fps, extension, film.source if extension == "mp4" else None)
    )


@node("SaveWEBM")
def _save_webm(call: Call) -> Outcome:
    return Outcome((call.inputs["images"],), _save_film(call, call.inputs["images"], call.inputs["fps"], "webm"))


@node("SAM3_TrackPreview")
def _track_preview(call: Call) -> Outcome:
    """A film of the pictures as they are: the tracks are simulated."""
    images = call.inputs.get("images")
    if images is None:
        return Outcome((), {})
    place = call.run.folders.save_place(temp_prefix(call), kind="temp")
    width, height, frames, delay = _filmed(images, call.inputs["fps"])
    name = place.name(0, "mp4", underscore=True)
    (place.folder / name).write_bytes(video.mp4(width, height, frames, frame_ms=delay))
    return Outcome((), {"images": [place.entry(name)], "animated": [True]})


@node("EmptyAudio")
def _empty_audio(call: Call) -> tuple[Any, ...]:
    return (Audio(call.inputs.get("sample_rate", 44100), call.inputs.get("channels", 2), call.inputs["duration"]),)


def _sound_file(audio: Audio, extension: str) -> bytes:
    if extension == "mp3":
        return sound.mp3(audio.seconds)
    if extension == "opus":
        return sound.opus(audio.seconds)
    heard = min(audio.seconds, _TONE_SECONDS) if audio.frequency else 0.0
    samples = sound.tone(audio.rate, heard, audio.frequency) if heard else b""
    rest = audio.seconds - heard
    samples += sound.tone(audio.rate, rest, 0) if rest > 0 or not samples else b""
    return sound.flac(audio.rate, min(8, max(1, audio.channels)), samples)


def _save_sound(call: Call, prefix: str, kind: str, extension: str) -> Outcome:
    audio: Audio = call.inputs["audio"]
    place = call.run.folders.save_place(prefix, kind=kind)
    name = place.name(0, extension)
    (place.folder / name).write_bytes(_sound_file(audio, extension))
    return Outcome((audio,), {"audio": [place.entry(name)]})


@node("SaveAudio", "SaveAudioMP3", "SaveAudioOpus", "SaveAudioAdvanced")
def _save_audio(call: Call) -> Outcome:
    extension = {"SaveAudioMP3": "mp3", "SaveAudioOpus": "opus"}.get(call.class_type, call.inputs.get("format", "flac"))
    return _save_sound(call, call.inputs["filename_prefix"], "output", extension)


@node("PreviewAudio")
def _preview_audio(call: Call) -> Outcome:
    return _save_sound(call, temp_prefix(call), "temp", "flac")


@node("LatentCompositeMasked", "LatentComposite")
def _composite(call: Call) -> tuple[Any, ...]:
    below: Latent = call.inputs.get("destination") or call.inputs["samples_to"]
    above: Latent = call.inputs.get("source") or call.inputs["samples_from"]
    if above.channels != below.channels:
        raise RuntimeError(
            f"The size of tensor a ({above.channels}) must match the size of tensor b ({below.channels})"
            " at non-singleton dimension 1"
        )
    return (Latent(below.width, below.height, below.batch, call.digest, below.channels),)


@node("SaveLatent")
def _save_latent(call: Call) -> Outcome:
    latent: Latent = call.inputs["samples"]
    place = call.run.folders.save_place(call.inputs["filename_prefix"])
    name = place.name(0, "latent", underscore=True)
    shape = [latent.batch, latent.channels, max(1, latent.height // 8), max(1, latent.width // 8)]
    (place.folder / name).write_bytes(models3d.safetensors(shape, metadata(call, simulated=True)))
    return Outcome((latent,), {"latents": [place.entry(name)]})


@node("CheckpointSave", "CLIPSave", "VAESave", "ModelSave", "ImageOnlyCheckpointSave", "SaveLoRA", "LoraSave")
def _save_model(call: Call) -> Outcome:
    """A safetensors file with metadata and nothing in it; the server shows nothing for it either."""
    place = call.run.folders.save_place(
        str(call.inputs.get("filename_prefix") or call.inputs.get("prefix") or "ComfyUI")
    )
    name = place.name(0, "safetensors", underscore=True)
    (place.folder / name).write_bytes(models3d.safetensors([0], metadata(call, simulated=True)))
    return Outcome(tuple(None for _ in call.spec.outputs))


@node("SaveSVGNode")
def _save_svg(call: Call) -> Outcome:
    drawing: Model3D = call.inputs["svg"]
    place = call.run.folders.save_place(call.inputs["filename_prefix"])
    name = place.name(0, "svg", underscore=True)
    (place.folder / name).write_bytes(drawing.data)
    return Outcome((drawing,), {"images": [place.entry(name)]})


def _as_model(value: Any, digest: str) -> Model3D:
    return (
        value
        if isinstance(value, Model3D)
        else Model3D(models3d.glb(colour_of(digest), {"notice": NOTICE}), "glb", digest)
    )


@node("SaveGLB")
def _save_glb(call: Call) -> Outcome:
    model = _as_model(call.inputs["mesh"], call.digest)
    place = call.run.folders.save_place(call.inputs["filename_prefix"])
    name = place.name(0, model.extension, underscore=True)
    (place.folder / name).write_bytes(model.data)
    return Outcome((), {"3d": [place.entry(name)]})


@node("Save3DAdvanced", "SaveGaussianSplat", "SavePointCloud")
def _save_3d(call: Call) -> Outcome:
    model = _as_model(call.inputs["model_3d"], call.digest)
    place = call.run.folders.save_place(call.inputs["filename_prefix"])
    name = place.name(0, model.extension)
    (place.folder / name).write_bytes(model.data)
    path = f"{place.subfolder}/{name}" if place.subfolder else name
    return _viewed(call, model, path)


@node("Preview3DAdvanced", "PreviewGaussianSplat", "PreviewPointCloud")
def _preview_3d_advanced(call: Call) -> Outcome:
    model = _as_model(call.inputs["model_3d"], call.digest)
    name = f"preview3d_advanced_{_hex(call)}.{model.extension}"
    (call.run.folders.temp / name).write_bytes(model.data)
    return _viewed(call, model, name)


def _viewed(call: Call, model: Model3D, path: str) -> Outcome:
    camera, info = call.inputs.get("camera_info"), call.inputs.get("model_3d_info") or []
    values = (model, info, camera, call.inputs["width"], call.inputs["height"])
    return Outcome(
        values, {"result": [path, camera if isinstance(camera, dict) else None, info if isinstance(info, list) else []]}
    )


def _hex(call: Call) -> str:
    return uuid.UUID(int=call.run.random.getrandbits(128)).hex


@node("Preview3D")
def _preview_3d(call: Call) -> Outcome:
    """A file is shown under a new name in the output folder; a path is shown as it is."""
    source = call.inputs["model_file"]
    name = source
    if isinstance(source, Model3D):
        name = f"preview3d_{_hex(call)}.{source.extension}"
        (call.run.folders.output / name).write_bytes(source.data)
    return Outcome((), {"result": [str(name), None, None]})


@node("LossGraphNode")
def _loss_graph(call: Call) -> Outcome:
    white = Image(800, 480, 3, (b"\xff" * (800 * 480 * 3),), simulated=True)
    return Outcome((), preview_images(call, white))


@node("Painter")
def _painter(call: Call) -> Outcome:
    """The canvas in its colour, or the picture under it; strokes are not painted."""
    width, height = call.inputs["width"], call.inputs["height"]
    digits = str(call.inputs["bg_color"]).lstrip("#").ljust(6, "0")
    image: Image = call.inputs.get("image") or Image(width, height, 3, (bytes.fromhex(digits[:6]) * (width * height),))
    mask = Image(*image.size, 1, (bytes(image.width * image.height),))
    return Outcome((image, mask), preview_images(call, image))


@node("CreateBoundingBoxes")
def _bounding_boxes(call: Call) -> Outcome:
    width, height = call.inputs["width"], call.inputs["height"]
    boxes = call.inputs["editor_state"]
    preview = call.inputs.get("background") or Image(width, height, 3, (bytes(3 * width * height),))
    return Outcome((preview, boxes, boxes), {"dims": [width, height], "input_bboxes": [boxes]})
