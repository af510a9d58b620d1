"""What one caller asks for must not cost the others: fields, mistakes, conversions without end, bodies, uploads."""

import asyncio
import json
import random

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from comfyclient.api.settings import Limits

from .rig import KEY, KEYS, OTHER_KEY, Process, new_session, no, ok, serving

OCTETS = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
SMALL = {"1": {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": 0}}}
ENDLESS = {
    "nodes": [{"id": 1, "type": "CLIPTextEncode", "widgets_values": ["{" * 500_000 + "}" * 500_000]}],
    "links": [],
}


def fields(count, value=1):
    return json.dumps({f"f{number}": value for number in range(count)})


# Mistakes


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sessions", fields(2000)),
        ("/session/start", '{"credentials": ' + fields(2000) + "}"),
        ("/convert", fields(2000)),
        ("/sessions/x/jobs", fields(2000)),
    ],
)
async def test_fields_that_no_request_has_are_not_told_one_by_one(path, body):
    async with serving() as api, api.client() as http:
        no(await http.post(path, content=body, headers=JSON), 400, "too_many_fields")


@pytest.mark.parametrize("path", ["/sessions", "/session/start", "/workflow/open", "/session/stop"])
async def test_only_what_brings_a_workflow_may_be_large(path):
    async with serving() as api, api.client() as http:
        no(await http.post(path, content=json.dumps({"url": "x" * 300_000}), headers=JSON), 413, "body_too_large")
        workflow = {**SMALL, "2": {"class_type": "StringConcatenate", "inputs": {"string_a": "x" * 300_000}}}
        ok(await http.post("/convert", json={"workflow": workflow}))


async def test_of_many_mistakes_the_first_are_told_and_shortened():
    async with serving() as api, api.client() as http:
        body = {"n" * 5000: 1} | {f"f{number}": 1 for number in range(100)}
        answer = await http.post("/sessions", json=body)
        told = answer.json()["detail"]
        assert answer.status_code == 422
        assert len(told) == 20
        assert len(answer.content) < 10_000


async def test_nodes_by_the_thousand_are_no_fields_too_many():
    workflow = {str(number): SMALL["1"] for number in range(3000)}
    async with serving() as api, api.client() as http:
        assert len(ok(await http.post("/convert", json={"workflow": workflow}))["prompt"]) == 3000


async def test_a_body_of_brackets_is_refused():
    body = '{"workflow": {"a": [' + ",".join(["[]"] * 2_000_000) + "]}}"
    async with serving() as api, api.client() as http:
        no(await http.post("/convert", content=body, headers=JSON), 400, "too_dense")


# Work


async def test_a_workflow_without_end_is_stopped_and_others_go_on_meanwhile():
    limits = Limits(work_seconds=3.0)
    async with serving(keys=KEYS, limits=limits) as api, api.client(KEY) as alice, api.client(OTHER_KEY) as bob:
        endless = [asyncio.create_task(alice.post("/convert", json={"workflow": ENDLESS})) for _ in range(3)]
        await asyncio.sleep(0)
        while not any(one.done() for one in endless):
            ok(await bob.post("/convert", json={"workflow": SMALL}))
        codes = sorted((answer.json()["code"], answer.status_code) for answer in await asyncio.gather(*endless))
        assert codes[-1] == ("too_complex", 422)
        assert set(codes) <= {("too_complex", 422), ("busy", 503)}
        ok(await alice.post("/convert", json={"workflow": SMALL}))


@pytest.mark.parametrize("path", ["/convert", "/check", "/jobs"])
async def test_every_way_to_a_conversion_is_limited(emulator, path):
    async with serving(limits=Limits(work_seconds=1.0)) as api, api.client() as http:
        if path == "/jobs":
            path = await new_session(http, emulator.url) + path
        no(await http.post(path, json={"workflow": ENDLESS}), 422, "too_complex")


async def test_a_conversion_that_runs_does_not_hold_up_the_end_of_the_server(tmp_path):
    async with Process(tmp_path, "--drain", "0") as server, server.client() as http:
        endless = asyncio.create_task(http.post("/convert", json={"workflow": ENDLESS}))
        assert not (await asyncio.wait({endless}, timeout=1))[0]
        async with asyncio.timeout(15):
            assert await server.end() == 0
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)


async def test_comments_that_never_end_take_no_longer_than_others():
    text = "/* " * 1_000_000
    workflow = {"nodes": [{"id": 1, "type": "CLIPTextEncode", "widgets_values": [text]}], "links": []}
    async with serving() as api, api.client() as http:
        prompt = ok(await http.post("/convert", json={"workflow": workflow}))["prompt"]
        assert prompt["1"]["inputs"]["text"] == text


async def test_names_that_fit_nothing_are_not_looked_for_in_every_node():
    workflow = {str(number): {"class_type": "KSampler", "inputs": {"seed": 1}} for number in range(20_000)}
    changes = {f"KSampler.sed{number}": 1 for number in range(1000)}
    async with serving() as api, api.client() as http:
        answer = await http.post("/convert", json={"workflow": workflow, "set": changes})
        assert answer.status_code == 422
        assert "KSampler.sed0" in answer.json()["detail"]


# Uploads


async def unfinished(rig, path, data):
    """Send the beginning of an upload, and leave it at that."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {rig.url[7:]}\r\nX-API-Key: {KEY}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(data) + 10}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.settings.port)
    writer.write(head.encode() + data)
    await writer.drain()
    return reader, writer


async def test_uploads_of_workflows_share_a_limit_and_leave_room_for_other_keys(emulator):
    limits = Limits(body=1000, uploading=100)
    async with serving(keys=KEYS, limits=limits) as api, api.client(KEY) as alice, api.client(OTHER_KEY) as bob:
        session = await new_session(alice, emulator.url)
        others = await new_session(bob, emulator.url)
        streams = [await unfinished(api, f"{session}/workflows", b" " * 990) for _ in range(7)]
        async with asyncio.timeout(30):
            refused, _ = await asyncio.wait(
                [asyncio.create_task(reader.readline()) for reader, _ in streams], return_when=asyncio.FIRST_COMPLETED
            )
        assert {task.result().split()[1] for task in refused} == {b"503"}
        ok(await bob.post(f"{others}/workflows", content=json.dumps(SMALL), headers=OCTETS), 201)
        for _, writer in streams:
            writer.transport.abort()


@pytest.mark.parametrize("path", ["workflows", "files?name=a"])
async def test_one_key_has_so_many_uploads_at_a_time(emulator, path):
    async with serving(keys=KEYS, limits=Limits(uploading=2)) as api, api.client(KEY) as http:
        session = await new_session(http, emulator.url)
        streams = [await unfinished(api, f"{session}/{path}", b"x") for _ in range(3)]
        async with asyncio.timeout(30):
            refused, waiting = await asyncio.wait(
                [asyncio.create_task(reader.readline()) for reader, _ in streams], return_when=asyncio.FIRST_COMPLETED
            )
        assert [task.result().split()[1] for task in refused] == [b"429"]
        for _, writer in streams:
            writer.transport.abort()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_uploaded_workflows_are_kept_small_and_the_oldest_of_a_key_go(emulator):
    async with serving(limits=Limits(kept_bytes=3000)) as api, api.client() as http:
        sessions = [await new_session(http, emulator.url) for _ in range(2)]
        wide = {**SMALL, "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0], "a": "x" * 500_000}}}
        told = ok(await http.post(f"{sessions[0]}/workflows", content=json.dumps(wide), headers=OCTETS), 201)
        order = {"workflow_id": told["workflow_id"]}
        ok(await http.post(f"{sessions[0]}/jobs", json=order), 201)
        no(await http.post(f"{sessions[1]}/jobs", json=order), 404, "not_found")
        noise = SMALL | {"2": {"class_type": "X", "inputs": {"a": random.Random(1).randbytes(2500).hex()}}}
        ok(await http.post(f"{sessions[1]}/workflows", content=json.dumps(noise), headers=OCTETS), 201)
        no(await http.post(f"{sessions[0]}/jobs", json=order), 404, "not_found")


async def test_a_file_of_brackets_is_refused(emulator):
    async with serving() as api, api.client() as http:
        session = await new_session(http, emulator.url)
        body = '{"3": {"class_type": "X", "inputs": {"a": [' + ",".join(["[]"] * 2_000_000) + "]}}}"
        no(await http.post(f"{session}/workflows", content=body, headers=OCTETS), 400, "too_dense")


async def test_what_a_killed_server_was_receiving_is_removed_by_the_next(tmp_path, emulator):
    journal = tmp_path / "journal"
    async with serving(journal=journal) as alive, alive.client() as http:
        spool = next(one for one in (journal / "uploads").iterdir() if one.is_dir())
        dead = journal / "uploads" / "0123456789abcdef"
        dead.mkdir()
        (dead / "half").write_bytes(b"x")
        async with serving(journal=journal):
            assert spool.exists()
            assert not dead.exists()
        session = await new_session(http, emulator.url)
        ok(await http.post(f"{session}/files?name=a.png", content=b"picture", headers=OCTETS), 201)
        assert list(spool.iterdir()) == []
    assert list((journal / "uploads").iterdir()) == []


# Odd requests


async def test_two_lengths_of_one_body_are_refused_and_the_connection_closed():
    async with serving() as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.settings.port)
        writer.write(
            f"POST /session/stop HTTP/1.1\r\nHost: {api.url[7:]}\r\nContent-Type: application/json\r\n"
            "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n".encode()
        )
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 400")
        assert answer.count(b"HTTP/1.1") == 1
        assert b"request_invalid" in answer


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
async def test_probes_may_ask_for_the_head_alone(path):
    async with serving(keys=KEYS) as api, api.client() as http:
        answer = await http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0


async def test_a_websocket_to_nowhere_is_not_found():
    async with serving() as api:
        with pytest.raises(InvalidStatus) as refused:
            await connect(api.url.replace("http", "ws") + "/nowhere", proxy=None)
        assert refused.value.response.status_code == 404
        assert json.loads(refused.value.response.body)["code"] == "not_found"


@pytest.mark.parametrize("path", ["/session/start", "/convert"])
async def test_a_number_that_nobody_reads_is_explained(path):
    async with serving() as api, api.client() as http:
        answer = await http.post(path, content='{"x": ' + "1" * 5000 + "}", headers=JSON)
        assert "digits" in no(answer, 400, "json_invalid")["hint"]


@pytest.mark.parametrize(
    ("path", "allowed"), [("/", "GET, HEAD"), ("/sessions", "GET, POST"), ("/convert", "POST"), ("/docs", "GET")]
)
async def test_a_method_that_is_not_taken_is_told_those_that_are(path, allowed):
    async with serving() as api, api.client() as http:
        answer = await http.patch(path, json={})
        no(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed
