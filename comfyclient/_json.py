"""JSON in one place: the standard library, because real servers send what faster parsers refuse or change.

ComfyUI's catalogs hold integers above 64 bits and its answers may hold bare ``NaN``; both must be read as they are.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["JSONError", "dumps", "loads"]

JSONError = ValueError

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def loads(data: str | bytes) -> Any:
    """Read JSON text.

    Raises:
        JSONError: The text is not JSON, not UTF-8/16/32, or nested too deep to be read.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise JSONError("nested too deep") from None


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Write JSON text that every parser reads: compact unless ``indent`` is given, non-ASCII kept.

    Raises:
        JSONError: The value holds NaN or an infinity, is nested too deep, or is no JSON value.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    try:
        text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise JSONError("nested too deep") from None
    except TypeError as error:
        raise JSONError(str(error)) from None
    # Half a character, which no encoding takes, is written as JSON's own escape.
    return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text) if _SURROGATE.search(text) else text
