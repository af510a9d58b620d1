"""Nodes of text, numbers and logic: really executed, by the rules of the server's own."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable
from typing import Any

from comfyclient import _json
from comfyclient.emulator.nodes.registry import Call, Outcome, node, simple
from comfyclient.emulator.values import Blocked

__all__: list[str] = []


def _flags(case_insensitive: bool, multiline: bool, dotall: bool) -> re.RegexFlag:
    flags = re.RegexFlag(0)
    for wanted, flag in ((case_insensitive, re.IGNORECASE), (multiline, re.MULTILINE), (dotall, re.DOTALL)):
        if wanted:
            flags |= flag
    return flags


def _matches(
    string: str, regex_pattern: str, case_insensitive: bool = True, multiline: bool = False, dotall: bool = False
) -> bool:
    try:
        return re.search(regex_pattern, string, _flags(case_insensitive, multiline, dotall)) is not None
    except re.error:
        return False


def _extract(
    string: str,
    regex_pattern: str,
    mode: str,
    case_insensitive: bool = True,
    multiline: bool = False,
    dotall: bool = False,
    group_index: int = 1,
) -> str:
    try:
        found = list(re.finditer(regex_pattern, string, _flags(case_insensitive, multiline, dotall)))
    except re.error:
        return ""
    if mode == "First Match":
        return found[0].group(0) if found else ""
    if mode == "All Matches":  # with groups, what the first of them caught
        return "\n".join(match.group(1) or "" if match.re.groups else match.group(0) for match in found)
    if mode == "First Group":
        found = found[:1]
    return "\n".join(match.group(group_index) or "" for match in found if match.re.groups >= group_index)


def _replace(
    string: str,
    regex_pattern: str,
    replace: str,
    case_insensitive: bool = True,
    multiline: bool = False,
    dotall: bool = False,
    count: int = 0,
) -> str:
    return re.sub(regex_pattern, replace, string, count=count, flags=_flags(case_insensitive, multiline, dotall))


_CASES = {"UPPERCASE": str.upper, "lowercase": str.lower, "Capitalize": str.capitalize, "Title Case": str.title}
_TRIMS = {"Both": str.strip, "Left": str.lstrip, "Right": str.rstrip}
_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "Equal": operator.eq,
    "Starts With": str.startswith,
    "Ends With": str.endswith,
}


def _compare(string_a: str, string_b: str, mode: str, case_sensitive: bool = True) -> bool:
    if not case_sensitive:
        string_a, string_b = string_a.lower(), string_b.lower()
    return _COMPARISONS[mode](string_a, string_b)


def _contains(string: str, substring: str, case_sensitive: bool = True) -> bool:
    return substring in string if case_sensitive else substring.lower() in string.lower()


def _json_member(json_string: str, key: str) -> str:
    try:
        document = _json.loads(json_string)
    except _json.JSONError:
        return ""
    value = document.get(key) if isinstance(document, dict) else None
    return "" if value is None else str(value)


def _dump(value: Any, indent: int) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent or None)


def _length(string: str) -> int:
    return len(string)


simple({
    "PrimitiveString": lambda value: value,
    "PrimitiveStringMultiline": lambda value: value,
    "PrimitiveInt": lambda value: value,
    "PrimitiveFloat": lambda value: value,
    "PrimitiveBoolean": lambda value: value,
    "PrimitiveBoundingBox": lambda x, y, width, height: {"x": x, "y": y, "width": width, "height": height},
    "SeedNode": lambda seed: seed,
    "StringConcatenate": lambda string_a, string_b, delimiter: delimiter.join((string_a, string_b)),
    "StringSubstring": lambda string, start, end: string[start:end],
    "StringLength": _length,
    "CaseConverter": lambda string, mode: _CASES[mode](string),
    "StringTrim": lambda string, mode: _TRIMS[mode](string),
    "StringReplace": lambda string, find, replace: string.replace(find, replace),
    "StringContains": _contains,
    "StringCompare": _compare,
    "RegexMatch": _matches,
    "RegexExtract": _extract,
    "RegexReplace": _replace,
    "JsonExtractString": _json_member,
    "ConvertDictionaryToString": lambda dictionary, indent=2: _dump(dictionary, indent),
    "ConvertArrayToString": lambda array, indent=2: _dump(array, indent),
    "ComfyNotNode": lambda value: not value,
    # The dataset nodes answer with a list of one text where a text is declared; so does the server.
    "AddTextPrefix": lambda texts, prefix="": [prefix + texts],
    "AddTextSuffix": lambda texts, suffix="": [texts + suffix],
    "ReplaceText": lambda texts, find="", replace="": [texts.replace(find, replace)],
    "StripWhitespace": lambda texts: [texts.strip()],
    "TextToLowercase": lambda texts: [texts.lower()],
    "TextToUppercase": lambda texts: [texts.upper()],
    "TruncateText": lambda texts, max_length=77: [texts[:max_length]],
})  # fmt: skip


@node("StringFormat")
def _format(call: Call) -> tuple[Any, ...]:
    """Python's format fields, except those that would reach into the workings of objects."""
    values = call.group("values")
    text = call.inputs["f_string"]
    if re.search(r"\{[^{}:!]*[.\[]_", text):
        raise ValueError("the emulator formats no private attributes")
    return (text.format(**values),)


@node("ComfyAndNode")
def _and(call: Call) -> tuple[Any, ...]:
    return (all(call.group("values").values()),)


@node("ComfyOrNode")
def _or(call: Call) -> tuple[Any, ...]:
    return (any(call.group("values").values()),)


def _switch_needs(inputs: dict[str, Any]) -> list[str]:
    side = "on_true" if inputs.get("switch") else "on_false"
    return [side] if inputs.get(side) is None else []


@node("ComfySwitchNode", lazy=lambda inputs: _switch_needs(dict(inputs)))
def _switch(call: Call) -> tuple[Any, ...]:
    return (call.inputs["on_true" if call.inputs["switch"] else "on_false"],)


@node("CustomCombo", check=lambda _inputs, _folders: None, checked_inputs=("choice", "index"))
def _custom_combo(call: Call) -> tuple[Any, ...]:
    return call.inputs["choice"], call.inputs.get("index", 0)


@node("ComfyNumberConvert")
def _convert_number(call: Call) -> tuple[Any, ...]:
    value = call.inputs["value"]
    if isinstance(value, str):
        text = value.strip()
        if not text:
            raise ValueError("Cannot convert empty string to number.")
        try:
            number: float = float(text)
        except ValueError:
            raise ValueError(f"Cannot convert string to number: {value!r}") from None
        whole = int(text) if re.fullmatch(r"[+-]?\d+", text) else None
    elif isinstance(value, int | float):
        number, whole = float(value), int(value) if isinstance(value, int) else None
    else:
        raise TypeError(f"Unsupported input type: {type(value).__name__}")
    if not math.isfinite(number):
        raise ValueError(f"Cannot convert non-finite value to number: {number}")
    return number, int(number) if whole is None else whole


@node("ColorToRGBInt")
def _colour_to_int(call: Call) -> tuple[Any, ...]:
    digits = str(call.inputs["color"]).lstrip("#")
    if not re.fullmatch(r"[0-9a-fA-F]{6}(?:[0-9a-fA-F]{2})?", digits):
        raise ValueError("Color must be in format #RRGGBB or #RRGGBBAA")
    alpha = int(digits[6:], 16) / 255 if len(digits) == 8 else 1.0
    return int(digits[:6], 16), f"#{digits[:6].lower()}", alpha


@node("PreviewAny")
def _preview(call: Call) -> Outcome:
    source = call.inputs.get("source")
    if isinstance(source, str):
        text = source
    elif source is None or isinstance(source, int | float | Blocked):
        text = str(source)
    else:
        try:
            text = json.dumps(source, indent=4, ensure_ascii=False)
        except (TypeError, ValueError):
            text = str(source)
    return Outcome((text,), {"text": [text]})


@node("SaveText")
def _save_text(call: Call) -> Outcome:
    text = call.inputs["text"]
    place = call.run.folders.save_place(call.inputs["filename_prefix"])
    name = place.name(0, call.inputs["format"])
    (place.folder / name).write_text(text, encoding="utf-8")
    return Outcome((text,), {"text": [text], "files": [place.entry(name)]})
