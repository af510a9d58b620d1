"""What the soak test takes for a failure."""

import argparse
import importlib
from pathlib import Path

import pytest

GOOD = {"jobs": 5, "lost": 0, "doubled": 0, "unknown": 1, "tasks_left": [], "sockets_left": -1, "grown_mb": 2.0}
OPTIONS = argparse.Namespace(jobs=5, unknown=1, growth=2)


@pytest.fixture
def failings(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("soak").failings


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("jobs", 4, "jobs: 4, not 5"),
        ("lost", 1, "lost: 1, not 0"),
        ("doubled", 1, "doubled: 1, not 0"),
        ("unknown", 2, "unknown: 2, not 1"),
        ("tasks_left", ["a"], "tasks_left: 1, not 0"),
        ("sockets_left", 1, "sockets_left: 1, not 0"),
        ("grown_mb", 2.1, "grown_mb: 2.1, not 2"),
    ],
)
def test_each_figure_is_judged(failings, name, value, words):
    assert failings(GOOD, OPTIONS) == []
    assert failings({**GOOD, name: value}, OPTIONS) == [words]
