"""What the server counts."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from comfyclient.api.metrics import CONTENT_TYPE, Metrics


@pytest.fixture
def jobs():
    return {"running": 2, "succeeded": 5}


@pytest.fixture
def metrics(jobs):
    return Metrics(sessions=lambda: 3, jobs=lambda: jobs)


def samples(metrics):
    """What Prometheus would read: name and labels → value."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def answer(metrics, *args, **options):
    metrics.begin()
    metrics.request(*args, **options)


def test_a_request_is_counted_by_method_route_and_status(metrics):
    answer(metrics, "GET", "/jobs/{job_id}", 200, 0.02)
    answer(metrics, "GET", "/jobs/{job_id}", 200, 0.02)
    answer(metrics, "GET", "/jobs/{job_id}", 404, 0.02)
    labels = [("method", "GET"), ("route", "/jobs/{job_id}")]
    found = samples(metrics)
    assert found["comfyclient_requests_total", *labels, ("status", "200")] == 2
    assert found["comfyclient_requests_total", *labels, ("status", "404")] == 1
    assert found["comfyclient_request_seconds_count", *labels] == 3
    assert found["comfyclient_request_seconds_sum", *labels] == pytest.approx(0.06)


def test_sessions_and_jobs_are_looked_up_when_somebody_asks(metrics, jobs):
    before = samples(metrics)
    jobs.update(running=1, failed=1)
    after = samples(metrics)
    assert before[("comfyclient_sessions",)] == 3
    assert [before.get(("comfyclient_jobs", ("state", name))) for name in ("running", "failed")] == [2, None]
    assert [after.get(("comfyclient_jobs", ("state", name))) for name in ("running", "failed")] == [1, 1]


def test_making_it_asks_for_no_state():
    def not_yet():
        raise AssertionError("there is no state yet")

    Metrics(sessions=not_yet, jobs=not_yet)


def test_requests_under_way_are_counted_up_and_down(metrics):
    metrics.begin()
    metrics.begin()
    metrics.request("GET", "/", 200, 0.1)
    assert samples(metrics)[("comfyclient_requests_in_flight",)] == 1


def test_callers_cannot_make_up_labels(metrics):
    for number in range(100):
        answer(metrics, f"METHOD{number}", None, 404, 0.1)
    requests = [key for key in samples(metrics) if key[0] == "comfyclient_requests_total"]
    assert requests == [
        ("comfyclient_requests_total", ("method", "other"), ("route", "other"), ("status", "404")),
    ]


def test_how_long_somebody_listens_is_no_latency(metrics):
    answer(metrics, "GET", "/jobs/{job_id}/events", 200, 3600.0, stream=True)
    assert not [key for key in samples(metrics) if key[0].startswith("comfyclient_request_seconds")]


def test_two_servers_of_a_process_count_apart(metrics):
    other = Metrics(sessions=lambda: 0, jobs=dict)
    answer(metrics, "GET", "/", 200, 0.1)
    assert not [key for key in samples(other) if key[0] == "comfyclient_requests_total"]


def test_the_format_is_that_of_prometheus():
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")
