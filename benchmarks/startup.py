"""What starting the command costs, in processor time, next to importing click alone.

``python benchmarks/startup.py [--runs N] [--ceiling 2.5]`` prints one JSON line and exits with 1 if ``comfyclient
--version`` or ``--help`` costs more than ``ceiling`` times ``python -c "import click"``.

The three are run in turn, so that whatever else the machine does falls on all of them. The figure is the user and
system time that the system counted for each process (`os.wait4`), the lower quartile of all runs: noise only adds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

COMMANDS = {
    "import click": ["-c", "import click"],
    "--version": ["-m", "comfyclient", "--version"],
    "--help": ["-m", "comfyclient", "--help"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """Run this interpreter once and return the processor time that it took."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, 1)]
        pid = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ, file_actions=actions)
    finally:
        os.close(null)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"{arguments} failed")
    return usage.ru_utime + usage.ru_stime


def measure(runs: int) -> dict[str, float]:
    """Run every command ``runs`` times, in turn; the lower quartile of each, in milliseconds."""
    for arguments in COMMANDS.values():  # the first run writes .pyc files
        cpu_seconds(arguments)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, arguments in COMMANDS.items():
            times[name].append(cpu_seconds(arguments))
    return {name: round(statistics.quantiles(taken, n=4)[0] * 1000, 2) for name, taken in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what starting comfyclient costs.")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--ceiling", type=float, default=2.5)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")])
    )
    costs = measure(max(2, options.runs))
    ratios = {name: round(costs[name] / costs["import click"], 2) for name in ("--version", "--help")}
    ok = max(ratios.values()) <= options.ceiling
    print(json.dumps({"benchmark": "startup", "cpu_ms": costs, "ratio": ratios, "ceiling": options.ceiling, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
