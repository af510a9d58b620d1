"""The pytest fixture ``comfy_emulator``: an emulator in a thread of its own, for tests of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from comfyclient.emulator.faults import Faults
    from comfyclient.emulator.server import Emulator

__all__ = ["RunningEmulator", "comfy_emulator"]


@dataclass(frozen=True, slots=True)
class RunningEmulator:
    """What the fixture gives. ``faults`` may be used from the test's thread."""

    url: str
    emulator: Emulator

    @property
    def faults(self) -> Faults:
        """The switches for misbehaviour."""
        return self.emulator.faults


@pytest.fixture
def comfy_emulator() -> Iterator[RunningEmulator]:
    """A fresh emulated ComfyUI at ``comfy_emulator.url``, gone after the test."""
    from comfyclient.emulator.background import run_in_background

    with run_in_background() as emulator:
        yield RunningEmulator(emulator.url, emulator)
