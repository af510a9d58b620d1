"""How large an upload may be, by what ComfyUI says and what is known of proxies; and how large an answer. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ANSWER_MOST", "Limit", "answer_limit", "is_dense", "megabytes", "told_limit", "upload_limit"]

ANSWER_MOST: Final = 256 * 2**20
"""Bytes that the largest answers may have when decoded: queues with all their workflows, catalogs."""

_CLOUDFLARE: Final = 100 * 2**20  # https://developers.cloudflare.com/workers/platform/limits/#request-limits
_TUNNEL: Final = ".trycloudflare.com"
_TOLD: Final = re.compile(rb"size ([0-9]{1,15}) exceeded")
_SMALL: Final = 8 * 2**20
_LARGE: Final = 64 * 2**20  # one job with its workflow; the choices of every wrong input; a user's list of files
_ANSWERS: Final = (
    (re.compile(r"/(api/)?(queue|history|object_info)"), ANSWER_MOST),
    (re.compile(r"/(api/)?(history|jobs|object_info)/.+|/(api/)?(prompt|userdata)"), _LARGE),
)
_FEW: Final = 4 * 2**20  # bytes whose values find room, however many they are
_SPARSE: Final = 8  # bytes for each list, and for each half of an object, that honest answers have at least
_AROUND: Final = "copy the file into the instance's input folder in another way, and name it in the workflow"


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit in bytes, who sets it, and what can be done about it."""

    size: int
    whose: str
    hint: str


def upload_limit(host: str, headers: Mapping[str, str], features: Any) -> Limit | None:
    """The smallest limit that is known.

    Args:
        host: The host in the instance's address.
        headers: Those of an answer of the instance.
        features: The JSON of ``GET /features``; anything else if there is none, as with old releases.
    """
    known = [limit for limit in (_own(features), _proxys(host, headers)) if limit is not None]
    return min(known, key=lambda limit: limit.size, default=None)


def told_limit(body: bytes, host: str, headers: Mapping[str, str]) -> Limit | None:
    """The limit that the answer 413 is about, as far as it says."""
    told = _TOLD.search(body)
    return _comfyui(int(told[1])) if told else _proxys(host, headers)


def megabytes(size: int) -> str:
    """``"104.8 MB"``: enough to see which of two sizes is the larger one."""
    return f"{size / 2**20:.1f} MB"


def answer_limit(method: str, path: str) -> int:
    """Bytes that the answer to a call may have when decoded. ``path``: below the prefix, as ``"/queue"``."""
    if method == "POST" and not path.endswith("/prompt"):
        return _SMALL  # commands are answered with next to nothing
    if method == "GET" and path == "/prompt":
        return _SMALL
    return next((most for known, most in _ANSWERS if known.fullmatch(path)), _SMALL)


def is_dense(body: bytes) -> bool:
    """Whether JSON text is nothing but brackets, and would take a multiple of what others of its size take in memory.

    ``[],`` is 3 bytes of text and 60 in memory; ComfyUI's own answers have a list or an object in about 20 bytes.
    """
    return len(body) > _FEW and (body.count(b"[") + 2 * body.count(b"{")) * _SPARSE > len(body)


def _own(features: Any) -> Limit | None:
    size = features.get("max_upload_size") if isinstance(features, Mapping) else None
    if isinstance(size, bool) or not isinstance(size, int | float) or not math.isfinite(size) or size <= 0:
        return None
    return _comfyui(int(size))


def _comfyui(size: int) -> Limit:
    return Limit(size, "the instance", f"start ComfyUI with a larger --max-upload-size (MB), or {_AROUND}")


def _proxys(host: str, headers: Mapping[str, str]) -> Limit | None:
    if "cf-ray" not in headers and not f".{host.lower()}".endswith(_TUNNEL):
        return None
    hint = f"reach the instance past Cloudflare, by its own address or through ssh, or {_AROUND}"
    return Limit(_CLOUDFLARE, "Cloudflare, which stands before the instance,", hint)
