"""Write edited values back into the UI workflow, so that the workflow in a saved picture makes it again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfyclient.workflow.prompt import ConversionWarning, Origins, Prompt, is_link
from comfyclient.workflow.values import unwrap

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["write_back"]

_Path = tuple[str | int, ...]
_Key = tuple[str, str]  # node id, input


def write_back(before: Prompt, edited: Prompt, changes: Mapping[_Key, Any], reshaped: Collection[_Key]) -> Prompt:
    """The edited prompt with the changes made in its workflow as well, where they can be.

    They cannot where an input was or is linked, where the same field feeds several inputs (a subgraph used
    twice) that differ now, and where a dynamic combo got another option: its saved fields are laid out for
    the old one.

    Args:
        before: The prompt before the edits.
        edited: The prompt after them, still with the workflow of before.
        changes: What was set: ``(node id, input)`` → new value.
        reshaped: Dynamic combos that got another option.

    Returns:
        The prompt with a workflow that shares everything unchanged with the old one, and a warning for each
        edit that is not in it. Fields that no longer hold their input's value are taken out of ``origins``.
    """
    if edited.workflow is None or not before.origins:
        return edited
    feeds = _feeds(before.origins, edited.nodes, {_origin(before.origins, key) for key in changes})
    written: dict[_Path, Any] = {}
    lost: list[_Key] = []
    for key, value in changes.items():
        path = _origin(before.origins, key)
        fixed = is_link(before.nodes[key[0]]["inputs"].get(key[1])) or is_link(value)
        if path is None or fixed or _below(key, reshaped):
            lost.append(key)
        elif all(edited.nodes[node]["inputs"].get(name) == value for node, name in feeds[path]):
            written[path] = unwrap(value)
        else:
            lost.append(key)
    return replace(
        edited,
        workflow=_with_values(edited.workflow, written),
        warnings=(*edited.warnings, *(_warning(key) for key in lost)),
        origins=_without_reshaped(edited.origins, reshaped),
    )


def _origin(origins: Origins, key: _Key) -> _Path | None:
    return origins.get(key[0], {}).get(key[1])


def _feeds(origins: Origins, nodes: Collection[str], paths: Collection[_Path | None]) -> dict[_Path, list[_Key]]:
    """The inputs that each of these fields feeds."""
    found: dict[_Path, list[_Key]] = {}
    for node_id, inputs in origins.items():
        for name, path in inputs.items() if node_id in nodes else ():
            if path in paths:
                found.setdefault(path, []).append((node_id, name))
    return found


def _below(key: _Key, reshaped: Collection[_Key]) -> bool:
    """Whether the input is one of those dynamic combos, or belongs to one."""
    return any(key[0] == node and (key[1] == name or key[1].startswith(f"{name}.")) for node, name in reshaped)


def _without_reshaped(origins: Origins, reshaped: Collection[_Key]) -> Origins:
    if not reshaped:
        return origins
    nodes = {node for node, _ in reshaped}
    return {
        node: {name: path for name, path in inputs.items() if not _below((node, name), reshaped)}
        if node in nodes
        else inputs
        for node, inputs in origins.items()
    }


def _with_values(root: dict[str, Any], values: Mapping[_Path, Any]) -> dict[str, Any]:
    """A copy with other values at some paths; only what lies on those paths is copied."""
    if not values:
        return root
    top: dict[str, Any] = dict(root)
    copied: dict[_Path, Any] = {(): top}
    for path, value in values.items():
        for depth in range(1, len(path)):
            if path[:depth] not in copied:
                parent = copied[path[: depth - 1]]
                below = parent[path[depth - 1]]
                copied[path[:depth]] = parent[path[depth - 1]] = below.copy()
        copied[path[:-1]][path[-1]] = value
    return top


def _warning(key: _Key) -> ConversionWarning:
    message = "was set in the prompt only: the workflow stored in saved pictures keeps the old value"
    return ConversionWarning("workflow_not_updated", message, node_id=key[0], input=key[1])
