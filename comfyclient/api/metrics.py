"""What the server counts, in Prometheus's text format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric

__all__ = ["CONTENT_TYPE", "OTHER", "Metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""The media type of `Metrics.render`."""
OTHER: Final = "other"
"""Stands for every method and path that the server does not know: callers must not make up labels."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The counters of one server.

    Args:
        sessions: How many sessions there are now.
        jobs: How many jobs there are now in each state.
    """

    def __init__(self, *, sessions: Callable[[], int], jobs: Callable[[], Mapping[str, int]]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "comfyclient_requests",
            "Requests that were answered; status 0: the caller left before.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "comfyclient_request_seconds",
            "From the head of a request to the end of its answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._open = Gauge("comfyclient_requests_in_flight", "Requests under way.", registry=self._registry)
        self._registry.register(_State(sessions, jobs))

    def begin(self) -> None:
        """A request has come; `request` tells its end."""
        self._open.inc()

    def request(self, method: str, route: str | None, status: int, seconds: float, *, stream: bool = False) -> None:
        """A request is over.

        Args:
            method: Its method; ``"WEBSOCKET"`` for those.
            route: The template of its path, ``"/jobs/{id}"``; ``None`` if there is none.
            status: What was answered; 0 for nothing.
            seconds: How long it took.
            stream: It is open for as long as the caller likes, so that its time says nothing.
        """
        self._open.dec()
        method, route = method if method in _METHODS else OTHER, route or OTHER
        self._requests.labels(method, route, str(status)).inc()
        if not stream:
            self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        """All of it, now."""
        return generate_latest(self._registry)


class _State:
    """What is looked up when somebody asks, instead of being counted along."""

    def __init__(self, sessions: Callable[[], int], jobs: Callable[[], Mapping[str, int]]) -> None:
        self._sessions, self._jobs = sessions, jobs

    def describe(self) -> Iterator[Metric]:
        """The names, without their values: registering asks for no state."""
        yield GaugeMetricFamily("comfyclient_sessions", "Sessions.")
        yield GaugeMetricFamily("comfyclient_jobs", "Jobs that are remembered.", labels=("state",))

    def collect(self) -> Iterator[Metric]:
        """The values."""
        yield GaugeMetricFamily("comfyclient_sessions", "Sessions.", value=self._sessions())
        jobs = GaugeMetricFamily("comfyclient_jobs", "Jobs that are remembered.", labels=("state",))
        for state, count in sorted(self._jobs().items()):
            jobs.add_metric((state,), count)
        yield jobs
