"""Traffic recorded from real servers: see tests/data/README.md."""

import base64
import functools
import gzip
import json
from pathlib import Path

DATA = Path(__file__).parents[1] / "data" / "recorded_wire.json.gz"


@functools.cache
def scenarios():
    """Scenario name → its traffic."""
    return json.loads(gzip.decompress(DATA.read_bytes()))


def frames(scenario, connection=None):
    """A scenario's frames as a client receives them."""
    return [
        json.dumps(frame["text"]) if "text" in frame else base64.b64decode(frame["b64"])
        for frame in scenario.get("frames", ())
        if connection is None or frame["conn"] == connection
    ]


def connections(scenario):
    """The connections of a scenario."""
    return sorted({frame["conn"] for frame in scenario.get("frames", ())})
