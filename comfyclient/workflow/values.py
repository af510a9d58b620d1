"""Which values an input takes: typing what a person wrote, refusing what the server would refuse."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from comfyclient import _json
from comfyclient.workflow.catalog import DYNAMIC_COMBO, InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "MISSING",
    "MisfitError",
    "RawValue",
    "fit",
    "initial_value",
    "is_self_checked",
    "offered",
    "unwrap",
    "wrap",
]

MISSING: Final = object()
"""No value at all; ``None`` is one (JSON's null)."""

# Core nodes that check these inputs themselves, so that values outside the declared ones run (ComfyUI 0.33).
# The catalog does not tell. "*" is the whole node. Upload inputs, which do the same, are marked there.
_SELF_CHECKED: Final = frozenset({
    ("LoadLatent", "latent"),  # a file that may have come later
    ("SelectModelDevice", "device"),  # a device that another machine has falls back to the default
    ("SelectCLIPDevice", "device"),
    ("SelectVAEDevice", "device"),
    ("ModelAttentionBackend", "attention"),  # likewise
    ("CustomCombo", "*"),  # its choices are made in the page
    ("Load3D", "*"),
    ("Load3DAdvanced", "*"),
})  # fmt: skip


class MisfitError(ValueError):
    """A value does not fit its input. The text says what it takes; ``close`` are values that may be meant."""

    def __init__(self, expected: str, close: Sequence[str] = ()) -> None:
        super().__init__(expected)
        self.close = tuple(close)


@dataclass(frozen=True, slots=True)
class RawValue:
    """A value as written on a command line; what it means depends on the input that it is for."""

    text: str

    @property
    def json(self) -> Any:
        """The value read as JSON, or the text itself if it is none."""
        try:
            return _json.loads(self.text)
        except _json.JSONError:
            return self.text

    @property
    def string(self) -> str:
        """The value as text: as written, unless it is a JSON string in quotes."""
        if self.text.lstrip().startswith('"'):
            value = self.json
            if isinstance(value, str):
                return value
        return self.text


def is_self_checked(class_type: str, spec: InputSpec) -> bool:
    """Whether the node itself decides which values this input takes: what is declared does not bind."""
    if spec.upload is not None:
        return True
    return (class_type, spec.name) in _SELF_CHECKED or (class_type, "*") in _SELF_CHECKED


def offered(class_type: str, spec: InputSpec) -> tuple[Any, ...] | None:
    """The values of which one must be chosen; ``None`` if there is no such list or it does not bind.

    An empty list does not bind: its choices are made elsewhere, or the catalog's instance has no models.
    """
    choices = spec.choices
    return choices if choices and not is_self_checked(class_type, spec) else None


def wrap(value: Any) -> Any:
    """A literal as a prompt holds it: lists are wrapped, because a bare list is a link there."""
    return {"__value__": list(value)} if isinstance(value, list | tuple) else value


def unwrap(value: Any) -> Any:
    """A prompt's literal as the workflow holds it: the reverse of `wrap`."""
    if isinstance(value, dict) and value.keys() == {"__value__"}:
        return value["__value__"]
    return value


def fit(class_type: str, spec: InputSpec, value: Any) -> Any:
    """The value as the prompt should hold it.

    Args:
        class_type: The node's class.
        spec: The input.
        value: A `RawValue`, read as the input's type wants it, or a JSON value, taken as it is.

    Raises:
        MisfitError: The input does not take it.
    """
    fitter = _FITTERS.get(spec.type)
    if fitter is not None:
        return fitter(class_type, spec, value)
    return wrap(value.json if isinstance(value, RawValue) else value)


def initial_value(spec: InputSpec) -> Any:
    """What the page puts into a new field of that kind; `MISSING` if it has no field."""
    if not spec.is_value:
        return MISSING
    if spec.multi_select:
        return wrap(spec.default or [])
    if spec.type == DYNAMIC_COMBO or (spec.type == "COMBO" and not spec.default):
        return spec.choices[0] if spec.choices else MISSING
    if spec.default is not None:
        return wrap(spec.default)
    if spec.type in {"INT", "FLOAT"}:
        return spec.min if spec.min is not None and spec.min > 0 else 0
    return {"STRING": "", "BOOLEAN": False}.get(spec.type, MISSING)


def _fit_int(class_type: str, spec: InputSpec, value: Any) -> int:
    number = value.json if isinstance(value, RawValue) else value
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not _in_range(class_type, spec, number):
        raise MisfitError("an integer" + _range_text(spec))
    return number


def _fit_float(class_type: str, spec: InputSpec, value: Any) -> int | float:
    number = value.json if isinstance(value, RawValue) else value
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        or not _is_double(number)
        or not _in_range(class_type, spec, number)
    ):
        raise MisfitError("a number" + _range_text(spec))
    return number


def _fit_string(_class_type: str, _spec: InputSpec, value: Any) -> str:
    text = value.string if isinstance(value, RawValue) else value
    if not isinstance(text, str):
        raise MisfitError("a text")
    return text


_TRUTH: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _fit_boolean(_class_type: str, _spec: InputSpec, value: Any) -> bool:
    if isinstance(value, RawValue):
        value = _TRUTH.get(value.string.strip().lower())
    if not isinstance(value, bool):
        raise MisfitError("true or false")
    return value


def _fit_combo(class_type: str, spec: InputSpec, value: Any) -> Any:
    choices = offered(class_type, spec)
    if spec.multi_select:
        return _fit_choices(choices, value)
    return _fit_choice(choices, value)


def _fit_choices(choices: tuple[Any, ...] | None, value: Any) -> Any:
    wanted = unwrap(value.json if isinstance(value, RawValue) else value)
    if isinstance(value, RawValue) and not isinstance(wanted, list):
        wanted = [value]
    if not isinstance(wanted, list | tuple):
        raise MisfitError("a list of choices")
    return wrap([_fit_choice(choices, item) for item in wanted])


def _fit_choice(choices: tuple[Any, ...] | None, value: Any) -> Any:
    # A bare number on a command line may be meant as the choice "8" or the choice 8: the list decides.
    meanings = [value.text, value.string, value.json] if isinstance(value, RawValue) else [value]
    if choices is None:
        if isinstance(value, RawValue):
            return value.string
        if isinstance(value, str | int | float):
            return value
        raise MisfitError("one of its choices")
    for meaning in meanings:
        for choice in choices:
            if choice == meaning and isinstance(choice, bool) == isinstance(meaning, bool):
                return choice
    texts = [str(choice) for choice in choices]
    shown = ", ".join(_shown(text) for text in texts[:_SHOWN_CHOICES])
    more = f", … ({len(texts)} choices)" if len(texts) > _SHOWN_CHOICES else ""
    raise MisfitError(f"one of {shown}{more}", _close(str(meanings[0]), texts))


_SHOWN_CHOICES: Final = 10


def _close(text: str, texts: Sequence[str]) -> list[str]:
    folded = {candidate.casefold(): candidate for candidate in texts}
    return [folded[found] for found in difflib.get_close_matches(text.casefold(), folded, n=5)]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")


def _is_double(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _in_range(class_type: str, spec: InputSpec, number: float) -> bool:
    if is_self_checked(class_type, spec):
        return True
    return (spec.min is None or number >= spec.min) and (spec.max is None or number <= spec.max)


def _range_text(spec: InputSpec) -> str:
    if spec.min is not None and spec.max is not None:
        return f" from {spec.min} to {spec.max}"
    if spec.min is not None:
        return f" of at least {spec.min}"
    return f" of at most {spec.max}" if spec.max is not None else ""


_FITTERS: Final[dict[str, Callable[[str, InputSpec, Any], Any]]] = {
    "INT": _fit_int,
    "FLOAT": _fit_float,
    "STRING": _fit_string,
    "BOOLEAN": _fit_boolean,
    "COMBO": _fit_combo,
    DYNAMIC_COMBO: _fit_combo,
}
