"""What reading a catalog costs, against `json.loads` of the same text, before the first node is asked for.

Run it with the answer of an instance's /object_info, or without arguments on the bundled catalog:

    python benchmarks/catalog.py [object_info.json] [--ceiling 2.0]
"""

from __future__ import annotations

import argparse
import gzip
import importlib.resources
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from comfyclient.workflow.catalog import BUNDLED_VERSION, Catalog


def bundled_text() -> bytes:
    resource = importlib.resources.files("comfyclient") / "data" / f"catalog-{BUNDLED_VERSION}.json.gz"
    return gzip.decompress(resource.read_bytes())


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="a catalog; default: the bundled one")
    parser.add_argument("--ceiling", type=float, default=2.0, help="the largest ratio that passes")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    text = arguments.file.read_bytes() if arguments.file else bundled_text()
    plain, ours = [], []
    for _ in range(arguments.rounds):  # alternating, so that a busy machine is busy for both
        plain.append(seconds(lambda: json.loads(text)))
        ours.append(seconds(lambda: Catalog.parse(text)))
    ratio = min(ours) / min(plain)
    figures = {"bytes": len(text), "json_ms": min(plain) * 1e3, "catalog_ms": min(ours) * 1e3, "ratio": ratio}
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
    print(f"Catalog.parse costs {ratio:.2f} times json.loads (ceiling {arguments.ceiling})", file=sys.stderr)
    return 0 if ratio <= arguments.ceiling else 1


if __name__ == "__main__":
    sys.exit(main())
