"""The door of the REST API, over real connections: who does not come in, and that nothing happens then."""

import asyncio
import json
import resource
import sys

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from comfyclient.api.settings import Limits

from .guarded import KEY, KEYS, OTHER_KEY, guarded, pipelined, raw, request

ROUTES = [
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/static/docs.js"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/session/status"),
    ("POST", "/session/start"),
    ("POST", "/sessions/x/jobs"),
    ("POST", "/sessions/x/files"),
    ("DELETE", "/jobs/x"),
    ("OPTIONS", "/sessions"),
]
HANDSHAKE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
]
SMALL = Limits(body=1000, upload=4000)
SLOW_HEAD, SLOW_BODY = Limits(head_seconds=0.3), Limits(body_seconds=0.3)


async def refused_socket(rig, **headers):
    """The status and the code that the handshake of a websocket is refused with."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(f"ws://127.0.0.1:{rig.port}/jobs/x/events", additional_headers=headers, proxy=None):
            pass
    response = caught.value.response
    return response.status_code, json.loads(response.body)["code"]


# Names and pages


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "localhost", "127.0.0.1:1", "0.0.0.0:{port}", ""]
)
async def test_a_name_that_is_not_ours_is_refused_everywhere(host):
    async with guarded() as rig:
        host = host.format(port=rig.port)
        for method, path in ROUTES:
            answer = await raw(rig, request(rig, method, path, host=host or " ", headers=["Connection: close"]))
            assert (answer.status, answer.code) == (403, "host_refused"), (method, path)
        answer = await raw(rig, request(rig, path="/jobs/x/events", host=host or " ", headers=HANDSHAKE))
        assert (answer.status, answer.code) == (403, "host_refused")
        assert rig.reached == []


async def test_our_own_names_and_those_that_were_configured_are_accepted():
    async with guarded(hosts=frozenset({"comfy.example", "other.example:8443"})) as rig:
        port = rig.port
        good = [f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}", "comfy.example", f"comfy.example:{port}"]
        for host in [*good, "other.example:8443"]:
            assert (await raw(rig, request(rig, host=host, headers=["Connection: close"]))).status == 200, host
        for host in ["other.example", "comfy.example:1"]:
            assert (await raw(rig, request(rig, host=host, headers=["Connection: close"]))).status == 403, host


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", "", "*"])
async def test_pages_of_other_sites_are_refused_everywhere(origin):
    async with guarded() as rig, rig.client(headers={"Origin": origin}) as http:
        for method, path in ROUTES:
            answer = await http.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (403, "origin_refused"), (method, path)
            assert not any(name.startswith("access-control") for name in answer.headers)
        assert await refused_socket(rig, Origin=origin) == (403, "origin_refused")
        assert rig.reached == []


async def test_our_own_pages_may_call_us_and_no_answer_has_cors_headers():
    async with guarded() as rig, rig.client(headers={"Origin": rig.url}) as http:
        answer = await http.get("/session/status")
        assert answer.status_code == 200
        assert not any(name.startswith("access-control") for name in answer.headers)
        async with connect(f"ws://127.0.0.1:{rig.port}/jobs/x/events", origin=rig.url, proxy=None) as socket:
            assert await socket.recv() == "local"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
async def test_a_browser_that_sends_no_origin_says_where_it_comes_from(site):
    async with guarded() as rig, rig.client(headers={"Sec-Fetch-Site": site}) as http:
        link = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert (await http.get("/session/status")).status_code == 403
        assert (await http.get("/session/status", headers=link)).status_code == 403
        assert (await http.get("/docs", headers=link)).status_code == 200  # somebody follows a link to it
        assert (await http.post("/session/stop")).status_code == 403


async def test_a_page_that_is_listed_may_ask_what_it_may_send_and_read_the_answers():
    page = "https://page.example"
    async with guarded(keys=KEYS, origins=frozenset({"https://PAGE.example:443/"})) as rig:
        async with rig.client(headers={"Origin": page}) as http:
            asked = await http.options("/sessions", headers={"Access-Control-Request-Method": "POST"})
            assert asked.status_code == 204
            assert asked.headers["Access-Control-Allow-Origin"] == page
            assert "X-API-Key" in asked.headers["Access-Control-Allow-Headers"]
            assert "Access-Control-Allow-Credentials" not in asked.headers
            assert (await http.get("/sessions")).status_code == 401  # being listed is no key
            answer = await http.get("/sessions", headers={"X-API-Key": KEY})
            assert answer.headers["Access-Control-Allow-Origin"] == page
        async with rig.client(headers={"Origin": "https://evil.example"}) as http:
            asked = await http.options("/sessions", headers={"Access-Control-Request-Method": "POST"})
            assert asked.status_code == 403
            assert "Access-Control-Allow-Origin" not in asked.headers


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None]
)
@pytest.mark.parametrize("path", ["/session/start", "/sessions/x/files", "/sessions/x/workflows", "/workflows"])
async def test_what_any_page_can_post_without_asking_is_refused(kind, path):
    async with guarded() as rig, rig.client() as http:
        answer = await http.post(path, content=b'{"a": 1}', headers={"Content-Type": kind} if kind else {})
        assert (answer.status_code, answer.json()["code"]) == (415, "media_type")
        if kind:
            assert (await http.post(path, headers={"Content-Type": kind})).status_code == 415  # empty as well
        assert rig.reached == []


async def test_json_and_files_and_posts_without_a_body_come_in():
    async with guarded() as rig, rig.client() as http:
        assert (await http.post("/session/start", json={"a": 1})).json()["size"] == 7
        assert (await http.post("/workflows", content=b"x" * 9, headers={"Content-Type": "image/png"})).json()[
            "size"
        ] == 9
        assert (await http.post("/session/stop")).status_code == 200
        kind = {"Content-Type": "Application/JSON ; charset=utf-8"}
        assert (await http.post("/session/start", content=b"{}", headers=kind)).status_code == 200


async def test_every_answer_has_the_headers_that_browsers_need():
    async with guarded(keys=KEYS) as rig, rig.client() as http:
        answers = [await http.get("/"), await http.get("/sessions"), await http.get("/", headers={"Host": "evil"})]
        assert [answer.status_code for answer in answers] == [200, 401, 403]
        for answer in answers:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert len({answer.headers["X-Request-Id"] for answer in answers}) == 3


# Keys


async def test_without_a_key_only_public_pages_can_be_read():
    async with guarded(keys=KEYS) as rig, rig.client() as http:
        for path in ["/", "/docs", "/redoc", "/openapi.json", "/healthz", "/readyz", "/static/x"]:
            assert (await http.get(path)).status_code == 200, path
        rig.reached.clear()
        for method, path in [*ROUTES[5:11], ("POST", "/"), ("DELETE", "/docs"), ("GET", "/docs/")]:
            answer = await http.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (401, "key_required"), (method, path)
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="comfyclient"'
        assert await refused_socket(rig) == (401, "key_required")
        assert rig.reached == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"X-API-Key": "\u00e9" * 20},
        {"X-API-Key": "x" * 8000},
        {"X-API-Key": "wrong", "Authorization": f"Bearer {KEY}"},
    ],
)
async def test_a_wrong_key_is_refused(headers):
    headers = {name: value.encode() for name, value in headers.items()}
    async with guarded(keys=KEYS) as rig, rig.client(headers=headers) as http:
        answer = await http.post("/sessions", json={})
        assert (answer.status_code, answer.json()["code"]) == (401, "key_refused")
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
        assert rig.reached == []


async def test_each_key_is_that_of_its_owner():
    async with guarded(keys=KEYS) as rig, rig.client() as http:
        assert (await http.get("/sessions", headers={"Authorization": f"bearer  {KEY}"})).json()["owner"] == "alice"
        assert (await http.get("/sessions", headers={"X-API-Key": OTHER_KEY})).json()["owner"] == "bob"
        where = f"ws://127.0.0.1:{rig.port}/jobs/x/events"
        async with connect(where, additional_headers={"X-API-Key": KEY}, proxy=None) as socket:
            assert await socket.recv() == "alice"


async def test_a_key_as_a_password_has_to_be_switched_on():
    for basic, status in [(False, 401), (True, 200)]:
        async with guarded(keys=KEYS, basic=basic) as rig, rig.client() as http:
            assert (await http.get("/sessions", auth=("anybody", KEY))).status_code == status
            refused = await http.get("/sessions", auth=("anybody", "wrong"))
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"].startswith("Basic ") is basic
            garbage = await http.get("/sessions", headers={"Authorization": "Basic ?!"})
            assert garbage.status_code == 401


async def test_no_refusal_repeats_a_key(caplog):
    async with guarded(keys=KEYS) as rig, rig.client(headers={"X-API-Key": f"{KEY}-mistyped"}) as http:
        answer = await http.get("/sessions")
        assert KEY not in answer.text
        assert KEY not in caplog.text


# Rates


async def test_ten_thousand_requests_are_told_to_wait_and_cost_no_memory():
    limits = Limits(rate=1.0, burst=50)
    async with guarded(keys=KEYS, limits=limits) as rig, rig.client(headers={"X-API-Key": KEY}) as http:
        for _ in range(200):
            await http.get("/sessions")
        before, statuses, line = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, set(), b""
        many = request(rig, path="/sessions", headers=[f"X-API-Key: {KEY}"]) * 99
        last = request(rig, path="/sessions", headers=[f"X-API-Key: {KEY}", "Connection: close"])
        for _ in range(100):
            for answer in await pipelined(rig, many + last, count=100):
                statuses.add(answer.status)
                line = answer.headers.get("retry-after", line)
        assert statuses <= {200, 429}
        assert 429 in statuses
        assert int(line) >= 1
        assert len(rig.reached) < 300
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 30_000 if sys.platform == "linux" else True
        assert (await http.get("/sessions", headers={"X-API-Key": OTHER_KEY})).status_code == 200  # bob is not to blame


async def test_strangers_who_try_keys_are_slowed_down_and_no_owner_with_them():
    async with guarded(keys=KEYS, limits=Limits(rate=0.01, burst=20)) as rig, rig.client() as http:
        statuses = [(await http.get("/sessions", headers={"X-API-Key": f"guess-{i}"})).status_code for i in range(40)]
        assert statuses == [401] * 20 + [429] * 20
        assert (await http.get("/sessions", headers={"X-API-Key": KEY})).status_code == 200
        assert (await http.get("/healthz")).status_code == 200


async def test_a_server_that_is_about_to_end_takes_no_new_work():
    async with guarded() as rig, rig.client() as http:
        rig.draining = True
        for path in ["/session/start", "/workflow/queue", "/sessions", "/sessions/x/jobs", "/sessions/"]:
            answer = await http.post(path, json={})
            assert (answer.status_code, answer.json()["code"]) == (503, "server_ending"), path
            assert answer.headers["Retry-After"]
        for method, path in [("POST", "/session/stop"), ("GET", "/jobs"), ("DELETE", "/jobs/x")]:
            assert (await http.request(method, path)).status_code == 200


# Bodies


@pytest.mark.parametrize(("path", "kind"), [("/session/start", "application/json"), ("/workflows", "image/png")])
async def test_a_gigabyte_that_is_announced_is_refused_before_it_comes(path, kind):
    async with guarded(limits=SMALL) as rig:
        headers = [f"Content-Type: {kind}", f"Content-Length: {2**30}", "Expect: 100-continue"]
        answer = await raw(rig, request(rig, "POST", path, headers=headers))
        assert (answer.status, answer.code) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"
        assert rig.reached == []


@pytest.mark.parametrize(("path", "kind"), [("/session/start", "application/json"), ("/workflows", "image/png")])
async def test_a_body_without_end_is_cut_off_at_the_limit(path, kind):
    async with guarded(limits=SMALL) as rig:
        headers = [f"Content-Type: {kind}", "Transfer-Encoding: chunked"]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        answer = await raw(rig, request(rig, "POST", path, headers=headers), endless=chunk)
        assert (answer.status, answer.code) == (413, "body_too_large")
        assert rig.reached == []
        if path == "/workflows":
            await rig.cut_off.wait()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000


async def test_bodies_that_wait_for_their_end_share_a_limit():
    async with guarded(limits=SMALL) as rig, rig.client() as http:
        head = request(
            rig, "POST", "/session/start", headers=["Content-Type: application/json", "Content-Length: 1000"]
        )
        writers = []
        for count in range(1, 17):
            _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            writer.write(head + b" " * 999)
            writers.append(writer)
            while rig.guard._holding.size < 999 * count:  # noqa: ASYNC110 - until the server has read it
                await asyncio.sleep(0)
        answer = await raw(rig, head, b" " * 999)
        assert (answer.status, answer.code) == (503, "busy")
        assert answer.headers["retry-after"]
        for writer in writers:
            writer.transport.abort()
        while rig.guard._holding.size:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (await http.post("/session/start", json={})).status_code == 200
        assert len(rig.reached) == 1


async def test_what_is_left_of_a_body_is_not_taken_for_a_request():
    async with guarded() as rig:
        smuggled = request(rig, "DELETE", "/jobs/smuggled")
        headers = ["Content-Type: image/png", f"Content-Length: {len(smuggled) + 1}"]
        answer = await raw(rig, request(rig, "POST", "/unread/files", headers=headers) + smuggled)
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert [path for _, path, *_ in rig.reached] == ["/unread/files"]


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000, b"[[" * 101 + b"]]" * 101]
)
async def test_json_that_is_nested_too_deeply_is_refused(body):
    async with guarded() as rig, rig.client() as http:
        answer = await http.post("/convert", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (400, "too_deep")
        assert rig.reached == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"a": NaN}', "json_constant"),
        (b"[-Infinity]", "json_constant"),
        ('{"a": 1}'.encode("utf-16"), "json_encoding"),
        ('{"a": 1}'.encode("utf-32-le"), "json_encoding"),
    ],
)
async def test_json_that_others_read_otherwise_is_refused(body, code):
    async with guarded() as rig, rig.client() as http:
        answer = await http.post("/session/start", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (400, code)
        assert rig.reached == []


@pytest.mark.parametrize("whole", [True, False])
async def test_a_hundred_thousand_headers_are_refused(whole):
    async with guarded() as rig:
        many = [f"X-{i}: y" for i in range(100_000)]
        head = request(rig, headers=many)
        answer = await raw(rig, head if whole else head[:-2])
        assert (answer.status, answer.code) == (431, "headers_too_large")
        assert rig.reached == []


async def test_a_head_that_comes_in_one_piece_has_its_limit_as_well():
    async with guarded() as rig:
        answer = await raw(rig, request(rig, headers=["X-Long: " + "y" * 40_000, "Connection: close"]))
        assert answer.status == 431
        assert rig.reached == []


async def test_a_head_that_does_not_end_is_not_waited_for():
    async with guarded(limits=SLOW_HEAD) as rig:
        answer = await raw(rig, request(rig)[:-2], b"X-Slow: ")
        assert (answer.status, answer.code) == (408, "head_slow")
        assert answer.headers["connection"] == "close"
        assert rig.reached == []


async def test_the_next_head_of_a_connection_is_not_waited_for_either():
    async with guarded(limits=SLOW_HEAD) as rig:
        answers = await pipelined(rig, request(rig) + b"GET / HT", count=2)
        assert [answer.status for answer in answers] == [200, 408]


async def test_a_head_that_comes_bit_by_bit_does_not_get_more_time_for_it():
    async with guarded(limits=SLOW_HEAD) as rig:
        answer = await raw(rig, request(rig)[:-2], b"X-Slow: ", drip=b"y")
        assert (answer.status, answer.code) == (408, "head_slow")


@pytest.mark.parametrize(("path", "kind"), [("/session/start", "application/json"), ("/workflows", "image/png")])
async def test_a_body_that_does_not_end_is_not_waited_for(path, kind):
    async with guarded(limits=SLOW_BODY) as rig:
        headers = [f"Content-Type: {kind}", "Content-Length: 100"]
        answer = await raw(rig, request(rig, "POST", path, headers=headers), b"{")
        assert (answer.status, answer.code) == (408, "body_slow")
        assert rig.reached == []


async def test_what_is_no_http_is_answered_once():
    async with guarded() as rig:
        answer = await raw(rig, b"\x16\x03\x01 hello\r\n\r\n")
        assert (answer.status, answer.code) == (400, "request_invalid")
