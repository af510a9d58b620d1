"""The default titles of node classes: the frontend's own English names and the server's."""

from __future__ import annotations

import gzip
import importlib.resources
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from comfyclient import _json

if TYPE_CHECKING:
    from comfyclient.workflow.convert.nodes import NodeModel
    from comfyclient.workflow.convert.releases import Rules

__all__ = ["bundled_titles", "class_title"]


@cache
def _all_titles() -> Mapping[str, Mapping[str, str]]:
    resource = importlib.resources.files("comfyclient") / "data" / "titles.json.gz"
    titles: Mapping[str, Mapping[str, str]] = _json.loads(gzip.decompress(resource.read_bytes()))
    return titles


def bundled_titles(release: str) -> Mapping[str, str]:
    """The English names that a release of the frontend ships, by class."""
    return _all_titles()[release]


def class_title(class_type: str, model: NodeModel | None, rules: Rules) -> str:
    """The title of a node that has none of its own: by the release's order of preference, else the class name."""
    for origin in rules.title_order:
        if origin == "server":
            shown = model.raw.get("display_name") if model is not None else None
        else:
            shown = bundled_titles(rules.release).get(class_type)
        if isinstance(shown, str) and shown:
            return shown
    return class_type
