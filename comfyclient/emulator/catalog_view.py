"""The catalog as an emulated server shows it: with choices that depend on its folders and its models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from comfyclient.emulator.folders import Folders
from comfyclient.workflow.catalog import Catalog, NodeSpec

__all__ = ["DEFAULT_MODELS", "MODEL_FOLDERS", "CatalogView"]

MODEL_FOLDERS: Final = (
    "checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision", "style_models",
    "embeddings", "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models", "latent_upscale_models",
    "custom_nodes", "datasets", "hypernetworks", "photomaker", "classifiers", "model_patches", "audio_encoders",
    "background_removal", "frame_interpolation", "geometry_estimation", "optical_flow", "detection",
)  # fmt: skip
"""The model folders that ComfyUI 0.33.0 names at ``/models``, in its order."""

DEFAULT_MODELS: Final[Mapping[str, tuple[str, ...]]] = {
    "checkpoints": ("sd_xl_base_1.0.safetensors", "v1-5-pruned-emaonly-fp16.safetensors"),
    "loras": ("example_lora.safetensors",),
    "vae": ("ae.safetensors",),
    "text_encoders": ("clip_l.safetensors", "t5xxl_fp16.safetensors"),
    "diffusion_models": ("flux1-dev.safetensors",),
    "clip_vision": ("clip_vision_h.safetensors",),
    "controlnet": ("control_v11p_sd15_canny.safetensors",),
    "upscale_models": ("RealESRGAN_x4plus.safetensors",),
    "embeddings": ("EasyNegative.safetensors",),
}
"""What an emulator pretends to have in its model folders unless it is told otherwise. None of it exists."""

# Which folder fills which input; (class, input) goes before the input's name alone.
_BY_INPUT: Final = {
    "ckpt_name": "checkpoints", "lora_name": "loras", "vae_name": "vae", "clip_name": "text_encoders",
    "clip_name1": "text_encoders", "clip_name2": "text_encoders", "clip_name3": "text_encoders",
    "clip_name4": "text_encoders", "text_encoder": "text_encoders", "unet_name": "diffusion_models",
    "control_net_name": "controlnet", "style_model_name": "style_models", "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks", "photomaker_model_name": "photomaker", "audio_encoder_name": "audio_encoders",
    "bg_removal_name": "background_removal",
}  # fmt: skip
_BY_CLASS: Final = {
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
    ("LatentUpscaleModelLoader", "model_name"): "latent_upscale_models",
    ("DiffusersLoader", "model_path"): "diffusers",
    ("ModelPatchLoader", "name"): "model_patches",
    ("FrameInterpolationModelLoader", "model_name"): "frame_interpolation",
    ("OpticalFlowLoader", "model_name"): "optical_flow",
    ("LoadMoGeModel", "model_name"): "geometry_estimation",
    ("LoadDA3Model", "model_name"): "geometry_estimation",
    ("LoadMediaPipeFaceLandmarker", "model_name"): "detection",
    ("LoadTrainingDataset", "folder_name"): "datasets",
}
_UPLOADS: Final[dict[tuple[str, str], Callable[[Folders], list[str]]]] = {
    ("LoadImage", "image"): lambda folders: folders.listing("image"),
    ("LoadImageMask", "image"): lambda folders: folders.listing("image"),
    ("LoadAudio", "audio"): lambda folders: folders.listing("audio", "video"),
    ("LoadVideo", "file"): lambda folders: folders.listing("video"),
    ("LoadLatent", "latent"): lambda folders: folders.listing(suffix=".latent"),
    ("GeminiInputFiles", "file"): lambda folders: folders.listing("text", "application"),
    ("OpenAIInputFiles", "file"): lambda folders: folders.listing("text", "application"),
    ("Load3D", "model_file"): lambda folders: ["none", *_models_3d(folders)],
    ("Load3DAdvanced", "model_file"): lambda folders: ["none", *_models_3d(folders)],
}


def _models_3d(folders: Folders) -> list[str]:
    root = folders.input / "3d"
    kinds = {".gltf", ".glb", ".obj", ".fbx", ".stl", ".spz", ".splat", ".ply", ".ksplat", ".usdz"}
    return sorted(
        path.relative_to(folders.input).as_posix() for path in root.rglob("*") if path.suffix.lower() in kinds
    )


class CatalogView:
    """A catalog whose file and model choices are the emulator's own.

    Args:
        catalog: The node definitions.
        folders: Where uploads are.
        models: File names by model folder.
        strict: Whether a model that is not in ``models`` is refused. Otherwise any name will do: nothing is loaded.
    """

    def __init__(
        self, catalog: Catalog, folders: Folders, models: Mapping[str, Sequence[str]], *, strict: bool
    ) -> None:
        self.catalog = catalog
        self.models = {folder: list(names) for folder, names in models.items()}
        self.strict = strict
        self._folders = folders
        self._fixed: dict[str, NodeSpec] = {}
        self._moving = {class_type for class_type, _ in _UPLOADS if class_type in catalog}

    def __contains__(self, class_type: object) -> bool:
        return class_type in self.catalog

    def spec(self, class_type: str) -> NodeSpec:
        """The definition as it stands now.

        Raises:
            KeyError: There is no such class.
        """
        if class_type in self._moving:
            return self._build(class_type)
        if class_type not in self._fixed:
            self._fixed[class_type] = self._build(class_type)
        return self._fixed[class_type]

    def takes_any(self, class_type: str, input_name: str) -> bool:
        """Whether any value will do, though the input is a combo: a model, and the emulator is not strict."""
        return not self.strict and self._folder(class_type, input_name) is not None

    def to_json(self) -> dict[str, Any]:
        """All definitions, for ``/object_info``."""
        return {class_type: self.spec(class_type).raw for class_type in self.catalog}

    @staticmethod
    def _folder(class_type: str, input_name: str) -> str | None:
        return _BY_CLASS.get((class_type, input_name)) or _BY_INPUT.get(input_name)

    def _build(self, class_type: str) -> NodeSpec:
        spec = self.catalog[class_type]
        changes = {}
        for declared in spec.inputs:
            if (class_type, declared.name) in _UPLOADS:
                changes[declared.name] = _UPLOADS[class_type, declared.name](self._folders)
            elif declared.type == "COMBO" and (folder := self._folder(class_type, declared.name)):
                changes[declared.name] = [*(declared.choices or ()), *self.models.get(folder, ())]
        return NodeSpec(class_type, _with_choices(spec.raw, changes)) if changes else spec


def _with_choices(raw: Mapping[str, Any], changes: Mapping[str, list[str]]) -> dict[str, Any]:
    definition = copy.deepcopy(dict(raw))
    for section in definition["input"].values():
        for name, choices in changes.items():
            declared = section.get(name) if isinstance(section, dict) else None
            if isinstance(declared, list) and isinstance(declared[0], list):
                declared[0] = choices
            elif isinstance(declared, list) and len(declared) > 1:
                declared[1]["options"] = choices
    return definition
