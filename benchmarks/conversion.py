"""How fast the conversion is, against comfy-cli 1.23's converter on the same files in one run, and how it grows.

    pip install comfyui-workflow-templates-json==0.1.50
    python -m venv peer && peer/bin/pip install comfy-cli==1.23.0
    python benchmarks/conversion.py --peer peer/bin/python

Without --peer only the growth is judged: a chain of 10 000 nodes against one of 1 000, and the peak memory against the
size of its JSON text.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

Convert = Callable[[dict[str, Any]], object]


def ours(info: dict[str, Any]) -> Convert:
    from comfyclient.workflow.catalog import Catalog
    from comfyclient.workflow.convert import convert

    catalog = Catalog.from_json(info)
    return lambda workflow: convert(workflow, catalog)


def theirs(info: dict[str, Any]) -> Convert:
    from comfy_cli.workflow_to_api import convert_ui_to_api

    logging.disable(logging.CRITICAL)
    return lambda workflow: convert_ui_to_api(workflow, info)


def templates() -> list[str]:
    found = importlib.util.find_spec("comfyui_workflow_templates_json")
    if found is None or not found.submodule_search_locations:
        sys.exit("needs comfyui-workflow-templates-json==0.1.50")
    folder = Path(found.submodule_search_locations[0]) / "templates"
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.json"))]
    return [text for text in texts if '"nodes"' in text and isinstance(json.loads(text), dict)]


def run_files(convert: Convert, texts: list[str], rounds: int) -> dict[str, float]:
    """Median and total milliseconds over the files, the best of several rounds."""
    best: list[float] = [float("inf")] * len(texts)
    for _ in range(rounds):
        for index, text in enumerate(texts):
            workflow = json.loads(text)
            start = time.perf_counter()
            convert(workflow)
            best[index] = min(best[index], time.perf_counter() - start)
    return {"files": len(texts), "median_ms": statistics.median(best) * 1e3, "total_ms": sum(best) * 1e3}


def chain(count: int) -> dict[str, Any]:
    def node(number: int, kind: str) -> dict[str, Any]:
        return {
            "id": number,
            "type": kind,
            "mode": 0,
            "inputs": [{"name": "image", "type": "IMAGE", "link": number - 1}] if number > 1 else [],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [number]}],
            "properties": {},
            "widgets_values": [8, 8, 1, 0] if number == 1 else [],
        }

    nodes = [node(1, "EmptyImage"), *(node(number, "ImageInvert") for number in range(2, count + 1))]
    links = [[number, number, 0, number + 1, 0, "IMAGE"] for number in range(1, count)]
    return {"nodes": nodes, "links": links, "version": 0.4}


def growth(convert: Convert) -> dict[str, float]:
    def best(count: int) -> float:
        workflow = chain(count)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            convert(workflow)
            times.append(time.perf_counter() - start)
        return min(times)

    small, large = best(1_000), best(10_000)
    workflow = chain(10_000)
    size = len(json.dumps(workflow))
    tracemalloc.start()
    convert(workflow)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "chain_1000_ms": small * 1e3,
        "chain_10000_ms": large * 1e3,
        "growth": large / small,
        "peak_per_json": peak / size,
    }


def worker(side: str, rounds: int, *, with_growth: bool) -> None:
    sent = json.load(sys.stdin)
    convert = {"ours": ours, "theirs": theirs}[side](sent["object_info"])
    figures = run_files(convert, sent["texts"], rounds)
    print(json.dumps({**figures, **(growth(convert) if with_growth else {})}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with comfy-cli 1.23")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker, arguments.rounds, with_growth=arguments.worker == "ours")
        return 0

    from comfyclient.workflow.catalog import Catalog

    sent = json.dumps({"object_info": Catalog.bundled().to_json(), "texts": templates()})

    def run(python: str, side: str) -> dict[str, float]:
        command = [python, __file__, "--worker", side, "--rounds", str(arguments.rounds)]
        answer = subprocess.run(command, input=sent, capture_output=True, text=True, check=True)
        figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
        return figures

    mine = run(sys.executable, "ours")
    peer = run(arguments.peer, "theirs") if arguments.peer else {}
    print(
        json.dumps(
            {"ours": {k: round(v, 3) for k, v in mine.items()}, "peer": {k: round(v, 3) for k, v in peer.items()}}
        )
    )
    bars = {"growth <= 12": mine["growth"] <= 12, "peak <= 10 x JSON": mine["peak_per_json"] <= 10}
    if peer:
        bars["median <= peer"] = mine["median_ms"] <= peer["median_ms"]
        bars["total <= peer"] = mine["total_ms"] <= peer["total_ms"]
    for name, held in bars.items():
        print(f"{'ok  ' if held else 'MISS'} {name}", file=sys.stderr)
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
