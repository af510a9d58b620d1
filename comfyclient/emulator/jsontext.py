"""JSON as ComfyUI writes it."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["server_json"]


def server_json(value: Any) -> str:
    """Spaces after separators, ASCII only, and NaN as a bare word.

    Raises:
        TypeError: It is no JSON value.
    """
    return json.dumps(value)
