"""The access log: a line of JSON for each request, with nothing secret in it."""

import asyncio
import io
import json
import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from comfyclient._redact import Secret
from comfyclient.api.accesslog import LOGGER, AccessLog
from comfyclient.api.logs import logging_to
from comfyclient.api.metrics import Metrics

FIELDS = {"time", "id", "method", "path", "status", "ms", "bytes", "owner", "client"}


async def hello(request):
    request.scope["state"].update(owner="alice", request_id="an-id")
    return PlainTextResponse("hello")


async def broken(request):
    raise RuntimeError("on purpose")


async def endless(request):
    async def body():
        yield b"data: 1\n\n"
        await asyncio.Event().wait()

    return StreamingResponse(body(), media_type="text/event-stream")


async def silent(request):
    await request.receive()


async def echo(websocket):
    await websocket.accept()
    await websocket.send_text("ä")
    await websocket.close()


async def refusing(websocket):
    await websocket.close()


ROUTES = [
    Route("/hello/{name}", hello),
    Route("/broken", broken),
    Route("/endless", endless),
    Route("/silent", silent),
    WebSocketRoute("/echo", echo),
    WebSocketRoute("/refusing", refusing),
]


@pytest.fixture
def log():
    stream = io.StringIO()
    with logging_to(stream):
        yield stream


@pytest.fixture
def metrics():
    return Metrics(sessions=lambda: 0, jobs=dict)


@pytest.fixture
def app(metrics):
    return AccessLog(Starlette(routes=ROUTES), metrics=metrics)


def lines(log):
    return [json.loads(line) for line in log.getvalue().splitlines()]


def scope(path, *, query="", kind="http", headers=()):
    return {
        "type": kind,
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": list(headers),
        "client": ("192.0.2.7", 50000),
        "server": ("127.0.0.1", 8000),
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
        "state": {},
    }


async def call(app, path, **options):
    """Call it; what it answered."""
    sent = []
    begin = {"type": "websocket.connect"} if options.get("kind") == "websocket" else {"type": "http.request"}
    incoming = asyncio.Queue()
    incoming.put_nowait(begin)

    async def send(message):
        sent.append(message)

    await app(scope(path, **options), incoming.get, send)
    return sent


async def call_and_leave(app, path, *, after):
    """Call it, and go away after it has asked for more of the request, or sent some of the answer."""
    seen = asyncio.Event()

    async def receive():
        if after == "asking":
            seen.set()
        await asyncio.Event().wait()

    async def send(message):
        if message["type"] == after:
            seen.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(app(scope(path), receive, send))
        await seen.wait()
        task.cancel()


def counted(metrics):
    families = text_string_to_metric_families(metrics.render().decode())
    return [
        (sample.labels["method"], sample.labels["route"], sample.labels["status"])
        for family in families
        for sample in family.samples
        if sample.name == "comfyclient_requests_total"
    ]


async def test_a_request_is_one_line_of_json(app, log):
    await call(app, "/hello/x")
    (line,) = lines(log)
    assert set(line) == FIELDS
    told = {name: line[name] for name in FIELDS - {"time", "ms"}}
    assert told == {
        "id": "an-id",
        "method": "GET",
        "path": "/hello/x",
        "status": 200,
        "bytes": 5,
        "owner": "alice",
        "client": "192.0.2.7",
    }
    assert line["time"].endswith("+00:00")
    assert line["ms"] >= 0


async def test_neither_query_nor_header_is_in_it(app, log):
    headers = [(b"authorization", b"Bearer sesame-in-the-head"), (b"cookie", b"c=sesame-in-the-head")]
    await call(app, "/hello/x", query="token=sesame-in-the-query", headers=headers)
    assert len(lines(log)) == 1
    assert "sesame" not in log.getvalue()


@pytest.mark.parametrize("key", ['sesame-"quoted"-\\', "sesame-ünïcode", "sesame-plain-4711"])
async def test_a_key_in_the_path_is_masked(app, log, key):
    secret = Secret(key)
    await call(app, f"/hello/{key}")
    (line,) = lines(log)
    assert line["path"] == "/hello/***"
    assert secret.reveal() == key


async def test_a_path_cannot_begin_a_line_of_its_own(app, log):
    await call(app, '/hello/a\n{"status":200}\r\x1b[2J\u2028')
    assert len(log.getvalue().splitlines()) == 1
    assert lines(log)[0]["path"] == '/hello/a\n{"status":200}\r\x1b[2J\u2028'
    assert "\x1b" not in log.getvalue()


async def test_a_long_path_is_cut(app, log):
    await call(app, "/hello/" + "x" * 60_000)
    assert len(lines(log)[0]["path"]) == 512


async def test_a_fault_of_ours_is_a_500_and_goes_on_its_way(app, log, metrics):
    with pytest.raises(RuntimeError, match="on purpose"):
        await call(app, "/broken")
    assert lines(log)[0]["status"] == 500
    assert counted(metrics) == [("GET", "/broken", "500")]


async def test_who_leaves_before_the_answer_is_logged_without_a_status(app, log, metrics):
    await call_and_leave(app, "/silent", after="asking")
    assert lines(log)[0]["status"] is None
    assert counted(metrics) == [("GET", "/silent", "0")]


async def test_a_stream_is_logged_when_it_ends_and_is_no_latency(app, log, metrics):
    await call_and_leave(app, "/endless", after="http.response.body")
    (line,) = lines(log)
    assert (line["status"], line["bytes"]) == (200, 9)
    assert counted(metrics) == [("GET", "/endless", "200")]
    assert b"comfyclient_request_seconds_count" not in metrics.render()


async def test_a_websocket_is_logged_too(app, log, metrics):
    await call(app, "/echo", kind="websocket")
    (line,) = lines(log)
    assert (line["method"], line["status"], line["bytes"]) == ("WEBSOCKET", 101, 2)
    assert counted(metrics) == [("WEBSOCKET", "/echo", "101")]


async def test_a_websocket_that_is_refused_was_forbidden(app, log):
    await call(app, "/refusing", kind="websocket")
    assert lines(log)[0]["status"] == 403


async def test_requests_are_counted_by_the_template_of_their_path(app, metrics):
    await call(app, "/hello/one")
    await call(app, "/hello/two")
    await call(app, "/nowhere")
    assert sorted(counted(metrics)) == [("GET", "/hello/{name}", "200"), ("GET", "other", "404")]


async def test_it_can_be_switched_off(app):
    stream = io.StringIO()
    with logging_to(stream, access=False):
        await call(app, "/hello/x")
        logging.getLogger("comfyclient.api").warning("something else")
    assert stream.getvalue().count("\n") == 1
    assert "something else" in stream.getvalue()


async def test_tracebacks_of_other_libraries_are_masked(log):
    secret = Secret("sesame-in-a-traceback")
    try:
        raise ValueError(f"Authorization: Bearer {secret.reveal()}")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    assert "ValueError: Authorization: Bearer ***" in log.getvalue()
    assert "sesame" not in log.getvalue()


async def test_other_libraries_say_no_more_when_comfyclient_does(log):
    with logging_to(log, verbosity=2):
        logging.getLogger("comfyclient.feed").debug("ours")
        logging.getLogger("websockets.server").debug("> Authorization: Bearer something")
    assert "ours" in log.getvalue()
    assert "something" not in log.getvalue()


async def test_afterwards_logging_is_as_it_was():
    loggers = [logging.getLogger(name) for name in (None, "comfyclient", LOGGER)]
    before = [(each.level, each.propagate, list(each.handlers)) for each in loggers]
    with logging_to(io.StringIO(), verbosity=2):
        pass
    assert [(each.level, each.propagate, list(each.handlers)) for each in loggers] == before
