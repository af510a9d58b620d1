"""Routes that describe the server: node definitions, models, versions, features."""

from __future__ import annotations

import platform
import sys
from pathlib import PurePosixPath
from typing import Any, Final

from aiohttp import web

from comfyclient.emulator.catalog_view import MODEL_FOLDERS
from comfyclient.emulator.replies import CORE, empty, json_reply
from comfyclient.workflow.catalog import BUNDLED_VERSION

__all__ = ["routes"]

routes = web.RouteTableDef()

_MEMORY: Final = 16 * 1024**3  # an emulator has as much as it says
_EXTENSIONS: Final = [".bin", ".ckpt", ".pkl", ".pt", ".pt2", ".pth", ".safetensors", ".sft"]


@routes.get("/object_info")
async def get_object_info(request: web.Request) -> web.Response:
    """All node definitions."""
    return json_reply(request.app[CORE].catalog.to_json())


@routes.get("/object_info/{class_type}")
async def get_node(request: web.Request) -> web.Response:
    """One node definition, or an empty object."""
    catalog, class_type = request.app[CORE].catalog, request.match_info["class_type"]
    return json_reply({class_type: catalog.spec(class_type).raw} if class_type in catalog else {})


@routes.get("/models")
async def get_model_folders(_request: web.Request) -> web.Response:
    """The names of the model folders."""
    return json_reply(list(MODEL_FOLDERS))


def _models(request: web.Request) -> list[str] | None:
    folder = request.match_info["folder"]
    known = folder in MODEL_FOLDERS or folder in request.app[CORE].catalog.models
    return request.app[CORE].catalog.models.get(folder, []) if known else None


@routes.get("/models/{folder}")
async def get_models(request: web.Request) -> web.Response:
    """The files in a model folder."""
    found = _models(request)
    return empty(404) if found is None else json_reply(found)


@routes.get("/embeddings")
async def get_embeddings(request: web.Request) -> web.Response:
    """The embeddings' names, without extension."""
    names = request.app[CORE].catalog.models.get("embeddings", [])
    return json_reply([str(PurePosixPath(name).with_suffix("")) for name in names])


@routes.get("/experiment/models")
async def get_model_folders_in_full(_request: web.Request) -> web.Response:
    """The model folders with their paths and extensions."""
    shown = [name for name in MODEL_FOLDERS if name not in {"configs", "custom_nodes"}]
    return json_reply([{"name": name, "folders": [f"models/{name}"], "extensions": _EXTENSIONS} for name in shown])


@routes.get("/experiment/models/{folder}")
async def get_models_in_full(request: web.Request) -> web.Response:
    """The files in a model folder with their sizes (0: none of them exists)."""
    found = _models(request)
    if found is None:
        return empty(404)
    return json_reply([
        {"name": name, "pathIndex": 0, "modified": 0.0, "created": 0.0, "size": 0} for name in found
    ])  # fmt: skip


@routes.get("/view_metadata/{folder}")
async def get_metadata(_request: web.Request) -> web.Response:
    """Model metadata: there are no model files to read it from."""
    return empty(404)


@routes.get("/system_stats")
async def get_system_stats(request: web.Request) -> web.Response:
    """Versions and devices. ``comfyclient_emulator`` tells that nothing here is a real ComfyUI."""
    core = request.app[CORE]
    version = core.catalog.catalog.version or BUNDLED_VERSION
    system = {
        "os": sys.platform,
        "ram_total": _MEMORY,
        "ram_free": _MEMORY // 2,
        "comfyui_version": version,
        "required_frontend_version": "1.49.6",
        "installed_templates_version": None,
        "required_templates_version": None,
        "comfy_package_versions": [],
        "python_version": sys.version,
        "pytorch_version": "none (comfyclient emulator)",
        "embedded_python": False,
        "deploy_environment": "comfyclient-emulator",
        "argv": ["comfyclient", "emulator"],
        "comfyclient_emulator": True,
    }
    device = {
        "name": f"emulated ({platform.machine()})", "type": "cpu", "index": None, "vram_total": _MEMORY,
        "vram_free": _MEMORY // 2, "torch_vram_total": _MEMORY, "torch_vram_free": _MEMORY // 2,
    }  # fmt: skip
    return json_reply({"system": system, "devices": [device]})


@routes.get("/features")
async def get_features(request: web.Request) -> web.Response:
    """Feature flags."""
    return json_reply(request.app[CORE].features())


def _constant(path: str, body: Any) -> None:
    @routes.get(path)
    async def answer(_request: web.Request) -> web.Response:
        return json_reply(body)


for _path, _body in (
    ("/extensions", []), ("/i18n", {}), ("/workflow_templates", {}), ("/global_subgraphs", {}),
    ("/node_replacements", {}),
    ("/global_subgraphs/{id}", None),
):  # fmt: skip
    _constant(_path, _body)

_NO_ASSETS: Final = {
    "error": {
        "code": "SERVICE_DISABLED",
        "message": "Assets system is disabled. Start the server with --enable-assets to use this feature.",
        "details": {},
    }
}


@routes.route("*", "/api/assets")
@routes.route("*", "/api/assets/{tail:.*}")
@routes.route("*", "/api/tags")
async def assets(_request: web.Request) -> web.Response:
    """Assets are switched off, as by default."""
    return json_reply(_NO_ASSETS, 503)
