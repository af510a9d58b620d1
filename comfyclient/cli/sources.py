"""Reading what the command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfyclient.errors import ConfigError
from comfyclient.workflow.convert.releases import rules_for
from comfyclient.workflow.document import Workflow

if TYPE_CHECKING:
    from comfyclient.cli.app import App

__all__ = ["load_workflow", "release_of"]


def load_workflow(app: App, name: str) -> Workflow:
    """Read a workflow from a file, or from stdin for ``-``.

    Raises:
        WorkflowUnreadable: There is none.
    """
    if name == "-":
        return Workflow.parse(app.read_stdin(), source="stdin")
    return Workflow.load(app.path(name))


def release_of(version: str | None) -> str | None:
    """The frontend's release that an instance names, if it is one: what a server says is not the user's mistake."""
    try:
        rules_for(version)
    except ConfigError:
        return None
    return version
