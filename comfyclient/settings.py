"""Settings: what the command line says goes before the environment, and that before the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_URL", "Settings"]

DEFAULT_URL: Final = "http://127.0.0.1:8188"
"""Where ComfyUI listens if nobody tells it otherwise."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one run.

    Attributes:
        url: The instance.
        url_from: Who named it: the command line, the environment (``COMFYCLIENT_URL``), or nobody.
    """

    url: str = DEFAULT_URL
    url_from: Literal["option", "environment", "default"] = "default"

    @classmethod
    def resolve(cls, environ: Mapping[str, str], *, url: str | None = None) -> Self:
        """Take each setting from the first place that has it. An empty variable counts as none.

        Args:
            environ: The environment.
            url: What the command line says.
        """
        if url is not None:
            return cls(url, "option")
        if environ.get("COMFYCLIENT_URL"):
            return cls(environ["COMFYCLIENT_URL"], "environment")
        return cls()
