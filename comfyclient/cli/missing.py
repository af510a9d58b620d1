"""What to say when an input names a file to be uploaded, and there is none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from comfyclient.errors import CheckFailed, PromptRejected
from comfyclient.workflow.inputs import find_spec

if TYPE_CHECKING:
    from comfyclient.errors import ComfyClientError, Problem
    from comfyclient.workflow.catalog import Catalog
    from comfyclient.workflow.prompt import Prompt

__all__ = ["hint_of_missing"]

_CODES: Final = frozenset({"custom_validation_failed", "value_not_in_list"})
_ANNOTATED: Final = re.compile(r" \[(input|output|temp)\]$")  # a file that is on the instance


def hint_of_missing(error: ComfyClientError, prompt: Prompt, catalog: Catalog, folder: Path) -> str | None:
    """What to do about files that neither the instance has nor ``folder``, the workflow's own.

    Args:
        error: What the check or the instance said.
        prompt: What it said that about.
        catalog: The node definitions that say which inputs take a file.
        folder: Where the workflow's files are looked for.
    """
    if not isinstance(error, CheckFailed | PromptRejected):
        return None
    hints = (_hint(problem, prompt, catalog, folder) for problem in error.problems if problem.code in _CODES)
    return "; ".join(dict.fromkeys(hint for hint in hints if hint is not None)) or None


def _hint(problem: Problem, prompt: Prompt, catalog: Catalog, folder: Path) -> str | None:
    node = prompt.nodes.get(problem.node_id or "")
    if node is None or problem.input is None:
        return None
    value, spec = node["inputs"].get(problem.input), find_spec(node, catalog, problem.input)
    if spec is None or not spec.upload or not isinstance(value, str) or _ANNOTATED.search(value):
        return None
    option = f"--set {problem.node_id}.{problem.input}=PATH uploads a file"
    try:
        path = folder / value
        if path.is_dir() or Path(value).is_dir():
            return f"{value or path} is a folder; {option}"
        where = "" if Path(value).is_absolute() else " beside the workflow"
        return None if path.exists() else f"there is no {value}{where}; {option}"
    except (OSError, ValueError):  # a name that no file can have
        return f"no file can be called {value!r}; {option}"
