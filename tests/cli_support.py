"""Running the command line in a test: its own streams, its own folder, an environment with nothing in it."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

from comfyclient.cli.app import App
from comfyclient.cli.main import main

ROOT = Path(__file__).parent.parent
WORKFLOWS = ROOT / "workflows"


class Terminal(io.StringIO):
    """What a terminal is to a program that asks."""

    def isatty(self):
        return True


@dataclass
class Outcome:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


def make_app(cwd, *, stdin=b"", environ=None, **rest):
    """An application in the folder ``cwd``."""
    streams = {"stdout": io.StringIO(), "stderr": io.StringIO()}
    own = {
        "config_folder": lambda: Path(cwd) / ".comfyclient",
        "state_folder": lambda: Path(cwd) / ".comfyclient-state",
        "use_keyring": False,
    }
    return App(stdin=io.BytesIO(stdin), environ=dict(environ or {}), cwd=Path(cwd), **{**streams, **own, **rest})


def run(app, *args):
    """Run ``comfyclient ARGS``."""
    code = main([str(arg) for arg in args], app)
    return Outcome(code, app.stdout.getvalue(), app.stderr.getvalue())
