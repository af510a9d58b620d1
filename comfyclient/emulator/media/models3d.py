"""Small files of other kinds: a coloured triangle as GLB, OBJ, PLY and SVG, and a latent as safetensors."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from comfyclient import _json

__all__ = ["glb", "obj", "ply", "safetensors", "svg"]

_CORNERS = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def glb(colour: tuple[int, int, int], extras: Mapping[str, Any] | None = None) -> bytes:
    """A binary glTF 2.0 file: one triangle of that colour. ``extras`` is kept with the asset."""
    positions = b"".join(struct.pack("<3f", *corner) for corner in _CORNERS)
    shade = [round(channel / 255, 4) for channel in colour]
    document = {
        "asset": {
            "version": "2.0",
            "generator": "comfyclient emulator (simulated)",
            "extras": dict(extras or {}),
        },
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": {"baseColorFactor": [*shade, 1.0]}, "doubleSided": True}],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": 5126,
                "count": 3,
                "type": "VEC3",
                "min": [0, 0, 0],
                "max": [1, 1, 0],
            }
        ],
        "bufferViews": [{"buffer": 0, "byteLength": len(positions), "target": 34962}],
        "buffers": [{"byteLength": len(positions)}],
    }
    text = _json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(positions), b"BIN\0") + positions
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def obj(colour: tuple[int, int, int]) -> bytes:
    """A Wavefront OBJ file: one triangle, its colour in a comment."""
    lines = ["# simulated by comfyclient", f"# colour #{bytes(colour).hex()}"]
    lines += ["v " + " ".join(f"{value:g}" for value in corner) for corner in _CORNERS]
    return ("\n".join([*lines, "f 1 2 3"]) + "\n").encode()


def ply(colour: tuple[int, int, int]) -> bytes:
    """An ASCII PLY file: three coloured points."""
    head = ["ply", "format ascii 1.0", "comment simulated by comfyclient", "element vertex 3"]
    head += [f"property float {axis}" for axis in "xyz"] + [
        f"property uchar {name}" for name in ("red", "green", "blue")
    ]
    points = [" ".join(f"{value:g}" for value in (*corner, *colour)) for corner in _CORNERS]
    return ("\n".join([*head, "end_header", *points]) + "\n").encode()


def svg(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """A drawing that says that it is simulated."""
    fill = f"#{bytes(colour).hex()}"
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<rect width="100%" height="100%" fill="{fill}"/>'
        '<text x="8" y="24" font-family="sans-serif">SIMULATED</text></svg>'
    )
    return text.encode()


def safetensors(shape: list[int], metadata: Mapping[str, str]) -> bytes:
    """One tensor of zeros named ``latent_tensor``, with metadata, as safetensors."""
    count = 1
    for side in shape:
        count *= side
    header: dict[str, Any] = {
        "__metadata__": dict(metadata),
        "latent_tensor": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * count]},
        "latent_format_version_0": {"dtype": "F32", "shape": [0], "data_offsets": [4 * count, 4 * count]},
    }
    text = _json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(4 * count)
