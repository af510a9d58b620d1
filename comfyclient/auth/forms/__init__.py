"""Login forms in HTML pages: which form asks for a password, and what a browser would send with it.

What a page says is hostile until checked: the form may send the password to another origin, or put it into a url. It is
returned as it stands, and whoever fills it in decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from yarl import URL

from comfyclient.auth.forms.formreader import Control, Form, FormReader
from comfyclient.auth.forms.markup import Tag, read_markup

__all__ = ["LoginForm", "find_login_form", "is_comfyui_login", "is_unclaimed"]

_MAX_PAGE: Final = 256 * 1024  # real login pages are below 100 KiB; nothing that comes later is read
_TYPED: Final = frozenset({"text", "email", "tel"})
_USERNAME: Final = re.compile(r"user|mail|login|account|uid|uname|nick", re.IGNORECASE | re.ASCII)
_SIGN_UP: Final = re.compile(r"sign[-_]?up|regist|create[-_]?account|forgot|reset", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class LoginForm:
    """A form with a password field.

    Attributes:
        action: Where it is sent, http or https, absolute. It may be another origin.
        method: ``"post"``; ``"get"`` for all else, which puts the password into the url.
        fields: What a browser sends besides the password: hidden fields, what is filled in or chosen already. Buttons
            not. The field of the username is there if it has a value, or none.
        username: The name of the field for it; None if the form asks for a password only.
        password: The name of the field for it.
    """

    action: URL = field(repr=False)
    method: str
    fields: dict[str, str] = field(repr=False)
    username: str | None
    password: str


def find_login_form(page: bytes | str, url: URL) -> LoginForm | None:
    """The form of a page that logs in: the one with one password field, before those that register or reset.

    Args:
        page: HTML of any kind; the first 256 KiB of it count.
        url: Where it is from.

    Returns:
        None if no form asks for a password in a field with a name, or only scripts could send it.
    """
    reader = FormReader()
    for piece in read_markup(_text(page)):
        reader.feed(piece)
    forms = [form for form in reader.close() if _passwords(form)]
    for form in sorted(forms, key=_doubt):
        action = _action(form, reader.base, url)
        if action is not None:
            return _login_form(form, action)
    return None


def is_comfyui_login(page: bytes | str) -> bool:
    """Whether it is the login page of the ComfyUI-Login node: known by its title."""
    return _words(_title(page)) == "comfyui login"


def is_unclaimed(page: bytes | str) -> bool:
    """Whether a ComfyUI-Login page says that it has no password yet: the first one that is posted becomes it.

    The words count wherever they stand: to ask once too often is better than to claim somebody's server.
    """
    return "for your first login" in _words(page.decode("utf-8", "replace") if isinstance(page, bytes) else page)


def _text(page: bytes | str) -> str:
    # Names and tokens are ASCII in every encoding that login pages have.
    page = page[:_MAX_PAGE]
    return page.decode("utf-8", "replace") if isinstance(page, bytes) else page


def _words(text: str) -> str:
    return " ".join(text.split()).casefold()


def _title(page: bytes | str) -> str:
    pieces = read_markup(_text(page))
    for piece in pieces:
        if isinstance(piece, Tag) and piece.name == "title" and not piece.closes:
            text = next(pieces, "")
            return text if isinstance(text, str) else ""
    return ""


def _passwords(form: Form) -> list[Control]:
    return [control for control in form.controls if control.kind == "password"]


def _doubt(form: Form) -> tuple[bool, bool]:
    """What speaks against a form; the lowest wins, the first of equals."""
    passwords = _passwords(form)
    new = any(control.autocomplete == "new-password" for control in passwords)
    return len(passwords) != 1, new or bool(_SIGN_UP.search(form.about))


def _login_form(form: Form, action: URL) -> LoginForm:
    passwords = _passwords(form)
    password = next((one for one in passwords if one.autocomplete == "current-password"), passwords[0])
    before = form.controls[: form.controls.index(password)]
    fields = {control.name: control.value for control in form.controls if control.value is not None}
    fields.pop(password.name, None)
    return LoginForm(action, form.method, fields, _username(before), password.name)


def _username(before: list[Control]) -> str | None:
    typed = [control for control in before if control.kind in _TYPED]
    named = [control for control in typed if _USERNAME.search(f"{control.name} {control.id} {control.autocomplete}")]
    nearest = (named or typed)[-1:]
    return nearest[0].name if nearest else None


def _action(form: Form, base: str | None, url: URL) -> URL | None:
    """Where the form goes; None if that is no web address."""
    try:
        action = url
        if form.action:
            root = url.join(URL(base)) if base else url
            action = (root if root.scheme in {"http", "https"} else url).join(URL(form.action))
        if action.scheme not in {"http", "https"} or not action.host:  # raises for "xn--a" and the like
            return None
        return action.with_fragment(None)
    except ValueError:  # no url at all
        return None
