"""What ``comfyclient instances`` and ``comfyclient logout`` do."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from comfyclient.auth.address import read_address
from comfyclient.auth.detect.verdicts import Kind, verdict
from comfyclient.cli.text import table

if TYPE_CHECKING:
    from comfyclient.auth.store import StoredSummary
    from comfyclient.cli.app import App

__all__ = ["in_words", "list_instances", "logout", "name_of"]


def list_instances(app: App, _: None) -> int:
    """List what is kept.

    Raises:
        ConfigError: The folder is not safe.
    """
    found = app.login_store().list()
    if app.json:
        app.print_json([_to_json(summary) for summary in found])
        return 0
    if not found:
        app.note("no login is kept; comfyclient login URL")
        return 0
    for line in table(("URL", "LOGIN", "USER", "KEPT IN", "SINCE", "PROBLEM"), map(_row, found)):
        app.show(line)
    return 0


def _row(summary: StoredSummary) -> tuple[str, ...]:
    return (
        summary.url or "",
        name_of(summary.kind) if summary.kind is not None else "",
        summary.username or "",
        "the keyring" if summary.where == "keyring" else str(summary.path),
        f"{since.astimezone():%Y-%m-%d %H:%M}" if (since := _since(summary)) is not None else "",
        summary.problem or "",
    )


def _to_json(summary: StoredSummary) -> dict[str, Any]:
    body: dict[str, Any] = {"url": summary.url, "kind": summary.kind, "username": summary.username}
    body["kept_in"] = "keyring" if summary.where == "keyring" else str(summary.path)
    body["since"] = since.isoformat() if (since := _since(summary)) is not None else None
    return body | ({"problem": summary.problem} if summary.problem else {})


def _since(summary: StoredSummary) -> dt.datetime | None:
    try:
        return None if summary.saved_at is None else dt.datetime.fromtimestamp(summary.saved_at, dt.UTC)
    except (OverflowError, ValueError, OSError):  # a number that is no time
        return None


def name_of(kind: str) -> str:
    """A kind of login in words; one that is not known, as it is."""
    try:
        return verdict(Kind(kind)).name
    except ValueError:
        return kind


def in_words(kind: str, scheme: str | None) -> str:
    """``"a vast.ai portal, by bearer token"``: what wants the login, and what lets in."""
    name = name_of(kind)
    return name if scheme is None or scheme == name else f"{name}, by {scheme}"


def logout(app: App, url: str) -> int:
    """Forget a login.

    Raises:
        ConfigError: The url makes no sense, or something of the login stays.
    """
    base, _ = read_address(url)
    store = app.login_store()
    addresses = [base]
    if base.scheme == "http":  # it may have been kept for https, which the instance wanted
        addresses.append(base.with_scheme("https").with_port(443 if base.port == 80 else base.port))
    deleted = [address for address in addresses if store.delete(address)]
    gone = deleted[-1] if deleted else None
    if app.json:
        app.print_json({"url": str(gone or base), "removed": gone is not None})
    elif gone is not None:
        app.show(f"logged out of {gone}: nothing is kept of the login")
    else:
        app.show(f"no login was kept for {base}")
    return 0
