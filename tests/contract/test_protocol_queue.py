"""ComfyUI's protocol at its lowest level: prompts refused, queued, interrupted and remembered.

Run it against a real server with ``COMFYCLIENT_TEST_URL=http://127.0.0.1:8188``. Others may use that server meanwhile:
the tests look at their own prompts only.
"""

import pytest

from . import protocol_support
from .protocol_support import TROUBLE, chain, empty_image, errors_of, new_id, node, outline, preview, save, wait_for

server, socket = protocol_support.server, protocol_support.socket  # fixtures


REFUSED = [
    ("no image colour", {"1": empty_image(), "2": save()}, "1", {"color": None}, "required_input_missing", "color"),
    ("three in a link", {"1": empty_image(), "2": save()}, "2", {"images": ["1", 0, 0]}, "bad_linked_input", "images"),
    (
        "not a number",
        {"1": empty_image(), "2": save()},
        "1",
        {"width": "abc"},
        "invalid_input_type",
        "width, abc, invalid literal for int() with base 10: 'abc'",
    ),
    ("too small", {"1": empty_image(), "2": save()}, "1", {"width": 0}, "value_smaller_than_min", "width"),
    ("too large", {"1": empty_image(), "2": save()}, "1", {"batch_size": 5000}, "value_bigger_than_max", "batch_size"),
    (
        "a wrong type",
        {"1": node("SolidMask", value=1.0, width=8, height=8), "2": save()},
        "2",
        {},
        "return_type_mismatch",
        "images, received_type(MASK) mismatch input_type(IMAGE)",
    ),
    (
        "no such choice",
        {"1": node("CaseConverter", string="a", mode="nope"), "2": node("PreviewAny", source=["1", 0])},
        "1",
        {},
        "value_not_in_list",
        "mode: 'nope' not in ['UPPERCASE', 'lowercase', 'Capitalize', 'Title Case']",
    ),
    (
        "no such choice of many",
        {"1": node("KSamplerSelect", sampler_name="nope"), "2": node("PreviewAny", source=["1", 0])},
        "1",
        {},
        "value_not_in_list",
        "sampler_name: 'nope' not in (list of length 44)",
    ),
    (
        "no such file",
        {"1": node("LoadImage", image="no_such_file.png"), "2": preview()},
        "1",
        {},
        "custom_validation_failed",
        "image - Invalid image file: no_such_file.png",
    ),
    ("no such node", {"2": save("77")}, "2", {}, "exception_during_validation", "'77'"),
    (
        "no such node further up",
        {"1": node("ImageInvert", image=["77", 0]), "2": save()},
        "1",
        {},
        "exception_during_inner_validation",
        "'77'",
    ),
    (
        "no such slot",
        {"1": empty_image(), "2": save()},
        "2",
        {"images": ["1", 5]},
        "exception_during_validation",
        "tuple index out of range",
    ),
]


class TestRefusing:
    @pytest.mark.parametrize(
        ("prompt", "blamed", "changes", "kind", "details"),
        [row[1:] for row in REFUSED],
        ids=[row[0] for row in REFUSED],
    )
    async def test_a_prompt_that_cannot_run(self, server, prompt, blamed, changes, kind, details):
        inputs = {name: value for name, value in (prompt[blamed]["inputs"] | changes).items() if value is not None}
        prompt = prompt | {blamed: prompt[blamed] | {"inputs": inputs}}
        status, answer = await server.post("/prompt", {"prompt": prompt})
        assert status == 400
        assert answer["error"]["type"] == "prompt_outputs_failed_validation"
        assert answer["error"]["message"] == "Prompt outputs failed validation"
        assert errors_of(answer) == {blamed: {(kind, details)}}
        found = answer["node_errors"][blamed]
        assert (found["class_type"], found["dependent_outputs"]) == (prompt[blamed]["class_type"], ["2"])
        error = found["errors"][0]
        own = f"{error['message']}: {details}" if blamed == "2" else ""  # only outputs speak for themselves at the top
        assert answer["error"]["details"] == own

    async def test_the_definition_is_quoted(self, server):
        prompt = {"1": empty_image(width=0), "2": preview(), "3": preview()}
        _, answer = await server.post("/prompt", {"prompt": prompt})
        found = answer["node_errors"]["1"]
        assert sorted(found["dependent_outputs"]) == ["2", "3"]
        assert found["errors"] == [
            {
                "type": "value_smaller_than_min",
                "message": "Value 0 smaller than min of 1",
                "details": "width",
                "extra_info": {
                    "input_name": "width",
                    "received_value": 0,
                    "input_config": ["INT", {"default": 512, "min": 1, "max": 16384, "step": 1}],
                },
            }
        ]

    async def test_a_circle(self, server):
        prompt = {
            "1": node("ImageInvert", image=["2", 0]),
            "2": node("ImageInvert", image=["1", 0]),
            "3": preview(),
        }
        status, answer = await server.post("/prompt", {"prompt": prompt})
        path = "1 (ImageInvert) -> 2 (ImageInvert) -> 1 (ImageInvert)"
        assert status == 400
        assert errors_of(answer) == {"1": {("dependency_cycle", path)}, "2": {("dependency_cycle", path)}}
        assert answer["node_errors"]["2"]["errors"][0]["extra_info"] == {"node_id": "2", "cycle_nodes": ["1", "2"]}

    async def test_dynamic_inputs_are_named_in_full(self, server):
        prompt = {
            "1": node("ComfyMathExpression", expression="a"),
            "2": node("PreviewAny", source=["1", 0]),
        }
        _, answer = await server.post("/prompt", {"prompt": prompt})
        (error,) = answer["node_errors"]["1"]["errors"]
        assert (error["type"], error["details"]) == ("required_input_missing", "a")
        assert error["extra_info"] == {"input_name": "values.a"}

    @pytest.mark.parametrize(
        ("body", "kind", "message"),
        [
            ({}, "no_prompt", "No prompt provided"),
            ([], "no_prompt", "No prompt provided"),
            ({"prompt": {}}, "prompt_no_outputs", "Prompt has no outputs"),
            ({"prompt": {"1": empty_image()}}, "prompt_no_outputs", "Prompt has no outputs"),
            (
                {"prompt": {"1": empty_image(), "2": preview()}, "partial_execution_targets": ["9"]},
                "prompt_no_outputs",
                "Prompt has no outputs",
            ),
            ({"prompt": {}, "prompt_id": "x"}, "invalid_prompt_id", "prompt_id must be a valid UUID"),
            ({"prompt": {}, "prompt_id": new_id().upper()}, "invalid_prompt_id", "prompt_id must be a valid UUID"),
            ({"prompt": {}, "prompt_id": 5}, "invalid_prompt_id", "prompt_id must be a valid UUID"),
        ],
    )
    async def test_a_body_that_is_no_prompt(self, server, body, kind, message):
        status, answer = await server.post("/prompt", body)
        assert status == 400
        assert (answer["error"]["type"], answer["error"]["message"]) == (kind, message)
        assert answer["node_errors"] == {}

    @pytest.mark.parametrize(
        ("broken", "message", "info"),
        [
            (
                {"class_type": "NoSuch", "inputs": {}},
                "Node 'NoSuch' not found. The custom node may not be installed.",
                {"class_type": "NoSuch", "node_title": "NoSuch"},
            ),
            (
                {"class_type": "NoSuch", "inputs": {}, "_meta": {"title": "Mine"}},
                "Node 'Mine' not found. The custom node may not be installed.",
                {"class_type": "NoSuch", "node_title": "Mine"},
            ),
            (
                {"inputs": {}},
                "Node 'ID #7' has no class_type. The workflow may be corrupted or a custom node is missing.",
                {"class_type": None, "node_title": None},
            ),
        ],
    )
    async def test_an_unknown_class_even_if_nothing_needs_it(self, server, broken, message, info):
        prompt = {"1": empty_image(), "2": preview(), "7": broken}
        status, answer = await server.post("/prompt", {"prompt": prompt})
        assert status == 400
        assert answer == {
            "error": {
                "type": "missing_node_type",
                "message": message,
                "details": "Node ID '#7'",
                "extra_info": {"node_id": "7"} | info,
            },
            "node_errors": {},
        }

    @pytest.mark.parametrize(
        "body",
        [
            b"{not json",
            b"",
            b'{"prompt": null}',
            b'{"prompt": [1, 2]}',
            b'{"prompt": {}, "number": "abc"}',
            b'{"prompt": {"nodes": [], "links": [], "version": 0.4}}',
            b'{"prompt": {"1": null}}',
            b"17",
            b'{"prompt": {"1": {"class_type": "PreviewAny", "inputs": []}}}',
            b'{"prompt": {"1": {"class_type": "PreviewAny", "inputs": {"source": 1}}}, "extra_data": null}',
        ],
    )
    async def test_what_the_server_stumbles_over(self, server, body):
        status, headers, answer = await server.call("POST", "/prompt", data=body)
        assert (status, answer) == (500, TROUBLE)
        assert headers["Content-Type"] == "text/plain; charset=utf-8"

    async def test_a_wrong_output_is_dropped_and_the_others_run(self, server, socket):
        prompt = {"1": empty_image(), "2": preview(), "3": empty_image(width=0), "4": save("3")}
        sid = socket.frames[0]["data"]["sid"]
        status, answer = await server.post("/prompt", {"prompt": prompt, "client_id": sid})
        assert status == 200
        assert errors_of(answer) == {"3": {("value_smaller_than_min", "width")}}
        assert answer["node_errors"]["3"]["dependent_outputs"] == ["4"]
        await socket.until_done(answer["prompt_id"])
        entry = await server.history(answer["prompt_id"])
        assert entry["prompt"][4] == ["2"]
        assert list(entry["outputs"]) == ["2"]

    async def test_only_the_outputs_asked_for_run(self, server, socket):
        prompt = {"1": empty_image(), "2": preview(), "4": save()}
        prompt_id, _ = await server.run(prompt, socket, partial_execution_targets=["2", "1"])
        assert (await server.history(prompt_id))["prompt"][4] == ["2"]

    async def test_literals_take_the_declared_type(self, server, socket):
        inputs = {"width": "32", "height": 32.9, "batch_size": True, "color": 7}
        prompt = {
            "1": node("EmptyImage", **inputs),
            "2": preview(),
            "3": node("PrimitiveBoolean", value="false"),
            "4": node("PrimitiveString", value=12),
            "5": node("StringConcatenate", string_a=["4", 0], string_b={"__value__": "x"}, delimiter=1.5),
            "6": node("PreviewAny", source=["5", 0]),
            "7": node("PreviewAny", source=["3", 0]),
        }
        prompt_id, _ = await server.run(prompt, socket)
        entry = await server.history(prompt_id)
        nodes = entry["prompt"][2]
        assert nodes["1"]["inputs"] == {"width": 32, "height": 32, "batch_size": 1, "color": 7}
        assert nodes["3"]["inputs"] == {"value": True}
        assert nodes["5"]["inputs"] == {"string_a": ["4", 0], "string_b": "x", "delimiter": "1.5"}
        assert entry["outputs"]["6"] == {"text": ["121.5x"]}
        assert entry["outputs"]["7"] == {"text": ["True"]}


class TestQueue:
    async def test_ids_and_numbers(self, server, socket):
        own = new_id()
        prompt = {"1": empty_image(), "2": preview()}
        status, answer = await server.post("/prompt", {"prompt": prompt, "prompt_id": own, "number": -3})
        assert (status, answer) == (200, {"prompt_id": own, "number": -3.0, "node_errors": {}})
        await server.history(own)
        first = (await server.post("/prompt", {"prompt": prompt}))[1]
        await server.post("/prompt", {"prompt": {}})  # refused, and counted all the same
        second = (await server.post("/prompt", {"prompt": prompt, "prompt_id": None}))[1]
        assert second["number"] >= first["number"] + 2
        for answer in (first, second):
            await server.history(answer["prompt_id"])

    async def test_waiting_prompts_and_all_ways_to_drop_them(self, server, socket):
        sid = socket.frames[0]["data"]["sid"]
        quick = {"1": empty_image(), "2": preview()}
        running = await server.submit(chain(), sid)
        await wait_for(socket, "execution_start", prompt_id=running)
        ids = [await server.submit(quick, sid) for _ in range(3)]
        front = (await server.post("/prompt", {"prompt": quick, "client_id": sid, "front": True}))[1]
        assert front["number"] < 0
        assert isinstance(front["number"], int)
        queue = await server.get("/queue")
        assert [item[1] for item in queue["queue_running"]] == [running]
        own = [
            item
            for item in sorted(queue["queue_pending"], key=lambda item: (item[0], item[1]))
            if item[3].get("client_id") == sid
        ]
        assert [item[1] for item in own] == [front["prompt_id"], *ids]
        assert own[1][2] == quick
        assert own[1][4] == ["2"]
        assert (await server.get("/prompt"))["exec_info"]["queue_remaining"] >= 5
        assert await server.get(f"/history/{running}") == {}
        job = await server.get(f"/api/jobs/{running}")
        assert job.keys() == {
            "id",
            "status",
            "priority",
            "create_time",
            "outputs_count",
            "previewable_outputs_count",
        }
        assert job["status"] == "in_progress"
        pending = (await server.get("/api/jobs?status=pending,in_progress"))["jobs"]
        assert {job["id"]: job["status"] for job in pending if job["id"] in {running, ids[0]}} == {
            running: "in_progress",
            ids[0]: "pending",
        }

        assert await server.post("/interrupt", {"prompt_id": ids[0]}) == (200, b"")  # only waits: nothing happens
        assert await server.post("/queue", {"delete": [running, "nope"]}) == (200, b"")  # runs, unknown: nothing
        assert await server.post("/queue", {"delete": [ids[0]]}) == (200, b"")
        assert await server.post(f"/api/jobs/{ids[1]}/cancel") == (200, {"cancelled": True})
        assert await server.post("/api/jobs/cancel", {"job_ids": [ids[2], new_id()]}) == (200, {"cancelled": True})
        assert await server.post("/queue", {"delete": [front["prompt_id"]]}) == (200, b"")
        for gone in (*ids, front["prompt_id"]):
            assert await server.get(f"/history/{gone}") == {}
            assert await server.get(f"/api/jobs/{gone}") == {"error": "Job not found"}
            assert await server.post(f"/api/jobs/{gone}/cancel") == (200, {"cancelled": False})

        assert await server.post(f"/api/jobs/{running}/cancel") == (200, {"cancelled": True})
        frames = await socket.until_done(running)
        assert "execution_interrupted" in outline(frames)
        assert not any(socket.of(gone) for gone in ids)

    async def test_an_interrupt_is_noticed_by_the_next_node(self, server, socket):
        sid = socket.frames[0]["data"]["sid"]
        prompt_id = await server.submit(chain(), sid)
        await wait_for(socket, "executing", node="10", prompt_id=prompt_id)
        assert await server.post("/interrupt", {"prompt_id": prompt_id}) == (200, b"")
        frames = await socket.until_done(prompt_id)
        interrupted = next(frame["data"] for frame in frames if frame["type"] == "execution_interrupted")
        assert interrupted.keys() == {"prompt_id", "node_id", "node_type", "executed", "timestamp"}
        blamed = interrupted["node_id"]
        assert outline(frames)[-4:] == [
            ("progress_state", blamed, "running", 0.0, 1.0),
            ("executing", blamed),
            "execution_interrupted",
            ("executing", None),
        ]
        assert blamed not in interrupted["executed"]
        entry = await server.history(prompt_id)
        assert entry["status"]["status_str"] == "error"
        assert entry["status"]["messages"][-1] == ["execution_interrupted", interrupted]
        assert (await server.get(f"/api/jobs/{prompt_id}"))["status"] == "cancelled"
        _, frames = await server.run({"1": empty_image(), "2": preview()}, socket)  # and the next one is left alone
        assert "execution_success" in outline(frames)

    async def test_an_interrupt_of_what_does_not_run_does_nothing(self, server, socket):
        # Without an id it would stop whatever runs, whosever it is: that is tested on the emulator alone.
        assert await server.post("/interrupt", {"prompt_id": new_id()}) == (200, b"")
        _, frames = await server.run({"1": empty_image(), "2": preview()}, socket)
        assert "execution_success" in outline(frames)

    async def test_history_by_pieces(self, server, socket):
        ids = [(await server.run({"1": empty_image(), "2": preview()}, socket))[0] for _ in range(3)]
        everything = list(await server.get("/history"))
        assert [prompt_id for prompt_id in everything if prompt_id in ids] == ids
        newest = await server.get("/history?max_items=2")
        assert len(newest) == 2
        assert ids[0] not in newest  # three have ended since
        assert len(await server.get("/history?max_items=1&offset=1")) == 1
        assert await server.get("/history?max_items=0") == {}
        assert await server.get("/history?max_items=-1") == {}
        assert await server.get("/history?offset=100000") == {}
        assert await server.post("/history", {"delete": [ids[0], "nope"]}) == (200, b"")
        assert await server.get(f"/history/{ids[0]}") == {}
        status, _, answer = await server.call("GET", "/history?max_items=abc")
        assert (status, answer) == (500, TROUBLE)

    @pytest.mark.parametrize(
        ("query", "error"),
        [
            (
                "status=x",
                "Invalid status value(s): x. Valid values: pending, in_progress, completed, failed, cancelled",
            ),
            ("sort_by=name", "sort_by must be 'created_at' or 'execution_duration'"),
            ("sort_order=up", "sort_order must be 'asc' or 'desc'"),
            ("limit=0", "limit must be a positive integer"),
            ("limit=x", "limit must be an integer"),
            ("offset=x", "offset must be an integer"),
        ],
    )
    async def test_wrong_questions_about_jobs(self, server, query, error):
        status, _, answer = await server.call("GET", f"/api/jobs?{query}")
        assert (status, answer) == (400, {"error": error})

    async def test_jobs_by_pieces(self, server, socket):
        ids = [(await server.run({"1": empty_image(), "2": preview()}, socket))[0] for _ in range(2)]
        answer = await server.get("/api/jobs?status=COMPLETED&limit=1&offset=-5&sort_order=desc")
        assert len(answer["jobs"]) == 1
        assert answer["pagination"].keys() == {"offset", "limit", "total", "has_more"}
        assert answer["pagination"]["has_more"] is True
        listed = [job["id"] for job in (await server.get("/api/jobs?sort_order=asc"))["jobs"]]
        assert [job_id for job_id in listed if job_id in ids] == ids
        assert (await server.get("/api/jobs?workflow_id=nope"))["jobs"] == []

    @pytest.mark.parametrize(
        ("body", "answer"),
        [
            (b"{", {"error": "Request body must be valid JSON"}),
            (b'{"job_ids": "x"}', {"error": "job_ids must be a list"}),
            (b'{"job_ids": ["nope", 5]}', {"error": "job_ids contains invalid id(s)", "invalid_ids": ["nope", "5"]}),
        ],
    )
    async def test_wrong_wishes_to_cancel(self, server, body, answer):
        status, _, found = await server.call("POST", "/api/jobs/cancel", data=body)
        assert (status, found) == (400, answer)

    @pytest.mark.parametrize("path", ["/queue", "/history", "/free"])
    async def test_commands_want_json(self, server, path):
        status, _, answer = await server.call("POST", path, data=b"")
        assert (status, answer) == (500, TROUBLE)
        status, headers, answer = await server.call("POST", path, json={"unknown": 1})
        assert (status, answer) == (200, b"")
        assert "Content-Type" not in headers
