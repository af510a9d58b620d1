"""Reading what the command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfyclient.workflow.document import Workflow

if TYPE_CHECKING:
    from comfyclient.cli.app import App

__all__ = ["load_workflow"]


def load_workflow(app: App, name: str) -> Workflow:
    """Read a workflow from a file, or from stdin for ``-``.

    Raises:
        WorkflowUnreadable: There is none.
    """
    if name == "-":
        return Workflow.parse(app.read_stdin(), source="stdin")
    return Workflow.load(app.path(name))
