"""What the emulator's nodes do.

`registry` holds the functions of the core nodes that are really executed; importing this package fills it. Every other
class is simulated from its definition (`simulate`).
"""

from __future__ import annotations

from comfyclient.emulator.nodes import images, loads, masks, maths, media, saves, text
from comfyclient.emulator.nodes.registry import NODES, Call, Implementation, NodeFunction, Outcome, RunContext
from comfyclient.emulator.nodes.simulate import simulate

__all__ = ["NODES", "Call", "Implementation", "NodeFunction", "Outcome", "RunContext", "simulate"]

_ = (images, loads, masks, maths, media, saves, text)  # imported for what they register
