"""A ComfyUI that runs anywhere: the protocol for real, the models simulated.

::

    from comfyclient.emulator import Emulator

    async with Emulator() as emulator:
        emulator.url  # "http://127.0.0.1:PORT"

`Emulator` takes the options, `Faults` (``emulator.faults``) makes it misbehave, and the pytest fixture
``comfy_emulator`` of `comfyclient.emulator.pytest_plugin` runs one in the background of a test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from comfyclient.emulator.faults import Faults, Hold
    from comfyclient.emulator.server import Emulator

__all__ = ["Emulator", "Faults", "Hold"]

_HOMES = {"Emulator": "server", "Faults": "faults", "Hold": "faults"}


def __getattr__(name: str) -> Any:
    """Load a public name when it is asked for: aiohttp is not imported before."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
