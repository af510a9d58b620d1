"""Numbers, key order and strings as JavaScript has them: the page's prompt has been through all three."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

__all__ = [
    "UNDEFINED",
    "Undefined",
    "is_index_key",
    "js_key_order",
    "js_round",
    "js_string",
    "js_value",
    "node_key",
    "to_fixed",
]

_SAFE: Final = 2**53
_LARGEST_INDEX: Final = 2**32 - 2


class Undefined:
    """JavaScript's ``undefined``: a key with this value vanishes from the JSON text, unlike ``None`` (``null``)."""

    def __repr__(self) -> str:
        return "undefined"

    def __bool__(self) -> bool:
        return False


UNDEFINED: Final = Undefined()


def is_index_key(key: str) -> bool:
    """Whether an object lists this key among its ascending numeric ones (``"0"`` … ``"4294967294"``, canonical)."""
    if not key.isascii() or not key.isdigit() or len(key) > 10 or (key[0] == "0" and key != "0"):
        return False
    return int(key) <= _LARGEST_INDEX


def js_key_order(keys: Iterable[str]) -> list[str]:
    """The order in which an object lists keys that were inserted in the given order."""
    names = list(keys)
    if not any(map(is_index_key, names)):
        return names
    return sorted((k for k in names if is_index_key(k)), key=int) + [k for k in names if not is_index_key(k)]


def js_value(value: Any) -> Any:
    """A JSON value after ``JSON.parse`` and ``JSON.stringify``: doubles, shortest digits, numeric keys first.

    Integers above 2**53 take the double's shortest digits (``18446744073709551615`` → ``18446744073709552000``),
    integral floats below 1e21 become integers, NaN and infinities ``None``.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return value if -_SAFE <= value <= _SAFE else _number(value)
    if kind is float:
        return _number(value)
    return _container(value)


def _container(value: Any) -> Any:
    """Lists and objects, without recursion: the depth is the file's to choose."""
    holder: list[Any] = [value]
    pending: list[tuple[Any, Any, Any]] = [(holder, 0, value)]
    while pending:
        parent, key, item = pending.pop()
        copy: Any
        if isinstance(item, dict):
            copy = dict.fromkeys(js_key_order(item))
            pending.extend((copy, name, item[name]) for name in copy)
        elif isinstance(item, list | tuple):
            copy = [None] * len(item)
            pending.extend((copy, index, entry) for index, entry in enumerate(item))
        elif isinstance(item, int | float) and not isinstance(item, bool):
            copy = js_value(item)
        else:
            copy = item
        parent[key] = copy
    return holder[0]


def _number(value: float) -> float | int | None:
    try:
        double = float(value)
    except OverflowError:
        return None
    if not math.isfinite(double):
        return None
    if abs(double) >= 1e21 or not double.is_integer():
        return double
    return int(double) if abs(double) <= _SAFE else int(Decimal(repr(double)))


def js_string(value: Any) -> str:
    """``String(value)``."""
    if value is None:
        return "null"
    if value is UNDEFINED:
        return "undefined"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ",".join("" if item is None else js_string(item) for item in value)
    if isinstance(value, dict):
        return "[object Object]"
    return number_text(value)


def number_text(value: float) -> str:
    """The digits that JavaScript prints for a number: ``1e21``, ``1e-7``, ``0.5``."""
    shown = _number(value)
    if shown is None:
        return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")  # noqa: PLR0124
    if isinstance(shown, int):
        return str(shown)
    text = repr(shown)
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    power = int(exponent)
    if -7 < power < 0:
        return format(Decimal(text), "f")
    return f"{mantissa}e{'+' if power > 0 else '-'}{abs(power)}"


def node_key(value: Any) -> str:
    """An id as an object key: ``1``, ``1.0`` and ``"1"`` are one node."""
    kind = type(value)
    if kind is str:
        return str(value)
    return str(value) if kind is int and -_SAFE <= value <= _SAFE else js_string(value)


def js_round(value: float) -> float:
    """``Math.round``: halves go toward +∞."""
    return value if not math.isfinite(value) else float(math.floor(value + 0.5))


def to_fixed(value: float, digits: int) -> float:
    """``Number(value.toFixed(digits))``."""
    if not math.isfinite(value):
        return value
    quantum = Decimal(1).scaleb(-digits)
    # toFixed takes the larger of two equally near results; Decimal(value) is the double's exact value.
    exact = Decimal(value)
    return float(((exact / quantum) + Decimal("0.5")).to_integral_value(rounding="ROUND_FLOOR") * quantum)


_LINE_END: Final = re.compile("\r\n|\r|\n")


def unix_lines(text: str) -> str:
    """Text with every line end as LF."""
    return _LINE_END.sub("\n", text)
