"""The forms of an HTML page and what is in them, as a browser without scripts would send it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from comfyclient.auth.forms.markup import SPACE, Tag

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Control", "Form", "FormReader"]

_BUTTONS: Final = frozenset({"submit", "button", "reset", "image", "file"})
_KNOWN: Final = frozenset({
    "hidden", "text", "search", "tel", "url", "email", "password", "date", "month", "week", "time",
    "datetime-local", "number", "range", "color", "checkbox", "radio",
})  # fmt: skip
_LINES: Final = re.compile(r"[\t\n\r]")


@dataclass(frozen=True, slots=True)
class Control:
    """A field of a form that is not disabled.

    Attributes:
        name: Its name in what is sent; never empty.
        kind: The type of the input, ``"select"`` or ``"textarea"``.
        value: What is sent as it stands; None if that is nothing (a box without its mark, a list without a choice).
        id: The element's id.
        autocomplete: What the browser is told to fill in, in lower case.
    """

    name: str
    kind: str
    value: str | None
    id: str = ""
    autocomplete: str = ""


@dataclass(slots=True)
class Form:
    """A form.

    Attributes:
        action: As it is written, without spaces around it and line ends; empty for the page's own address.
        method: ``"post"`` or ``"get"``.
        about: Its address, id, name and class: what may tell what it is for.
        controls: In the order of the page.
    """

    id: str
    action: str
    method: str
    about: str
    controls: list[Control] = field(default_factory=list)


@dataclass(slots=True)
class _Option:
    value: str | None
    selected: bool
    disabled: bool
    text: list[str] = field(default_factory=list)

    def sent(self) -> str | None:
        if self.disabled:
            return None
        return " ".join("".join(self.text).split()) if self.value is None else self.value


@dataclass(slots=True)
class _List:
    """A ``<select>`` that is open."""

    attributes: Mapping[str, str]
    owner: Form | str | None
    options: list[_Option] = field(default_factory=list)

    def sent(self) -> str | None:
        chosen = [option for option in self.options if option.selected]
        if chosen:
            return chosen[-1].sent()
        if "multiple" in self.attributes:
            return None
        return next((option.sent() for option in self.options if not option.disabled), None)


@dataclass(slots=True)
class _Area:
    """A ``<textarea>`` that is open."""

    attributes: Mapping[str, str]
    owner: Form | str | None
    text: list[str] = field(default_factory=list)


class FormReader:
    """Collects the forms out of the pieces of a page."""

    def __init__(self) -> None:
        self.base: str | None = None
        """The page's ``<base href>``, if it has one."""
        self._forms: list[Form] = []
        self._open: Form | None = None
        self._found: list[tuple[Form | str, Control]] = []  # a text is the id of a form, which may come later
        self._disabled = [False]  # by the fieldsets around
        self._templates = 0
        self._list: _List | None = None
        self._area: _Area | None = None

    def feed(self, piece: Tag | str) -> None:
        """Take the next tag or text."""
        if isinstance(piece, Tag) and piece.name == "template":  # its content is no part of the page
            self._templates = max(0, self._templates + (-1 if piece.closes else 1))
        elif self._templates:
            return
        elif isinstance(piece, str):
            self._take_text(piece)
        elif piece.closes:
            self._take_end(piece.name)
        else:
            self._take_start(piece.name, piece.attributes)

    def close(self) -> list[Form]:
        """The forms of the page, in order."""
        self._end_list()
        self._end_area()
        by_id = {form.id: form for form in reversed(self._forms) if form.id}
        for owner, control in self._found:
            form = by_id.get(owner) if isinstance(owner, str) else owner
            if form is not None:
                form.controls.append(control)
        self._found.clear()
        return self._forms

    def _take_text(self, text: str) -> None:
        if self._area is not None:
            self._area.text.append(text)
        elif self._list is not None and self._list.options:
            self._list.options[-1].text.append(text)

    def _take_start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._end_area()
        match name:
            case "option":
                self._option(attributes)
            case "form":
                self._form(attributes)
            case "input":
                self._input(attributes)
            case "select":
                self._end_list()
                self._list = _List(attributes, self._owner(attributes))
            case "textarea":
                self._end_list()
                self._area = _Area(attributes, self._owner(attributes))
            case "fieldset":
                self._disabled.append(self._disabled[-1] or "disabled" in attributes)
            case "base" if self.base is None and "href" in attributes:
                self.base = _address(attributes["href"])
            case _:
                pass  # the rest of a page takes no part

    def _take_end(self, name: str) -> None:
        self._end_area()
        if name in {"select", "form"}:
            self._end_list()
        if name == "form":
            self._open = None
        if name == "fieldset" and len(self._disabled) > 1:
            self._disabled.pop()

    def _form(self, attributes: Mapping[str, str]) -> None:
        self._end_list()
        if self._open is not None:  # a form in a form is none
            return
        action = _address(attributes.get("action", ""))
        about = " ".join((action.partition("?")[0], *(attributes.get(key, "") for key in ("id", "name", "class"))))
        method = "post" if attributes.get("method", "").lower() == "post" else "get"
        self._open = Form(attributes.get("id", ""), action, method, about)
        self._forms.append(self._open)

    def _input(self, attributes: Mapping[str, str]) -> None:
        self._end_list()
        kind = attributes.get("type", "text").lower()
        if kind in _BUTTONS:
            return
        value: str | None = attributes.get("value", "")
        if kind in {"checkbox", "radio"}:
            value = attributes.get("value", "on") if "checked" in attributes else None
        self._add(attributes, self._owner(attributes), kind if kind in _KNOWN else "text", value)

    def _option(self, attributes: Mapping[str, str]) -> None:
        if self._list is not None:
            option = _Option(attributes.get("value"), "selected" in attributes, "disabled" in attributes)
            self._list.options.append(option)

    def _end_list(self) -> None:
        if self._list is not None:
            self._add(self._list.attributes, self._list.owner, "select", self._list.sent())
            self._list = None

    def _end_area(self) -> None:
        if self._area is not None:
            value = (
                "".join(self._area.text).removeprefix("\r").removeprefix("\n")
            )  # its first line end is no part of it
            self._add(self._area.attributes, self._area.owner, "textarea", value)
            self._area = None

    def _owner(self, attributes: Mapping[str, str]) -> Form | str | None:
        """The form of a field, if it is sent at all."""
        if not attributes.get("name") or "disabled" in attributes or self._disabled[-1]:
            return None
        return attributes.get("form", self._open)

    def _add(self, attributes: Mapping[str, str], owner: Form | str | None, kind: str, value: str | None) -> None:
        if owner is not None:
            told = attributes.get("autocomplete", "").lower()
            self._found.append((owner, Control(attributes["name"], kind, value, attributes.get("id", ""), told)))


def _address(text: str) -> str:
    """As browsers read addresses: without line ends and tabs, and spaces around."""
    return _LINES.sub("", text.strip(SPACE))
