"""Slot types and which of them fit together."""

from __future__ import annotations

from typing import Any

__all__ = ["compatible"]


def compatible(one: Any, other: Any) -> bool:
    """Whether two slot types fit: wildcards, or any pair equal after splitting at commas, ignoring case."""
    if one in {"", "*", 0, None} or other in {"", "*", 0, None}:
        return True
    left, right = str(one).lower(), str(other).lower()
    if left == right:
        return True
    return any(part in right.split(",") for part in left.split(","))
