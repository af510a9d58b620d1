"""What the journal keeps of a run so that another command can go on with it. Never a secret."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from comfyclient.cli.login_options import NO_LOGIN, LoginOptions
from comfyclient.names import DEFAULT_TEMPLATE

__all__ = ["Outputs", "Plan"]

_SEEDS: Final = 20  # that a command to be read by people repeats


@dataclass(frozen=True, slots=True)
class Outputs:
    """How outputs are to be saved."""

    folder: Path
    template: str = DEFAULT_TEMPLATE
    overwrite: bool = False
    metadata: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "folder": str(self.folder.absolute()),
            "template": self.template,
            "overwrite": self.overwrite,
            "metadata": self.metadata,
        }

    @classmethod
    def from_json(cls, body: Any) -> Self | None:
        """Read it; ``None`` if nothing was to be saved, or it makes no sense."""
        if not isinstance(body, dict) or not isinstance(body.get("folder"), str):
            return None
        folder, template = Path(body["folder"]), body.get("template")
        if not folder.is_absolute():
            return None
        return cls(
            folder,
            template if isinstance(template, str) else DEFAULT_TEMPLATE,
            overwrite=body.get("overwrite") is True,
            metadata=body.get("metadata") is True,
        )

    def words(self) -> list[str]:
        """The options that say so."""
        words = ["-o", str(self.folder)]
        words += ["--name-template", self.template] if self.template != DEFAULT_TEMPLATE else []
        return words + [f"--{name}" for name in ("overwrite", "metadata") if getattr(self, name)]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job goes on.

    Attributes:
        workflow: What was run: a path, or ``-``.
        outputs: How its outputs are to be saved; ``None``: they are not.
        login: How to get in at its instance.
        seeds: Its seeds, by address.
        known: Whether ``queue`` has written it. Programs may keep a journal too, and then nobody knows what they want.
    """

    workflow: str | None = None
    outputs: Outputs | None = None
    login: LoginOptions = NO_LOGIN
    seeds: Mapping[str, int] = field(default_factory=dict)
    known: bool = True

    def to_json(self, folder: Path) -> dict[str, Any]:
        """As JSON, without the seeds, which are each job's own. ``folder``: the current one."""
        return {
            "workflow": self.workflow,
            "outputs": self.outputs.to_json() if self.outputs is not None else None,
            "login": self.login.kept(folder),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read it. What makes no sense in it is left out."""
        workflow, seeds = body.get("workflow"), body.get("seeds")
        return cls(
            workflow if isinstance(workflow, str) else None,
            Outputs.from_json(body.get("outputs")),
            LoginOptions.of_kept(body.get("login")),
            {str(name): seed for name, seed in seeds.items() if isinstance(seed, int)}
            if isinstance(seeds, dict)
            else {},
            known="outputs" in body,
        )

    def command(self, url: str) -> str:
        """The command that queues such a job, but for values that were set."""
        words = ["comfyclient", "queue", self.workflow or "WORKFLOW", "--url", url]
        if len(self.seeds) <= _SEEDS:
            words += [word for name, seed in self.seeds.items() for word in ("--set", f"{name}={seed}")]
        words += self.outputs.words() if self.outputs is not None else []
        return shlex.join([*words, *self.login.words()])
