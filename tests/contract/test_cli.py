"""The command line against a server. Runs on the emulator and on a real ComfyUI."""

import asyncio
import contextlib
import json
import os
import resource
import shlex
import signal
import sys
from pathlib import Path

import pytest
from aiohttp import web

from comfyclient import ComfyClient, JobState

from ..cli_support import ROOT, WORKFLOWS, make_app, run  # noqa: TID252
from .processes import Process, StuckProxy, no_process_stays, write  # noqa: F401 - a fixture for all tests here
from .prompts import failing, picture, save, slow
from .proxy import Proxy

QUICKSTART = WORKFLOWS / "quickstart.json"


@pytest.fixture
def cli(server_url, tmp_path):
    """Run a command in ``tmp_path`` with the server as its instance; beside the event loop that serves it."""

    async def call(*args, url=server_url, stdin=b"", **rest):
        app = make_app(tmp_path, stdin=stdin, environ={"COMFYCLIENT_URL": url} if url else {}, **rest)
        return await asyncio.to_thread(run, app, *args)

    return call


async def state_of(url, prompt_id):
    """How a job ended."""
    async with ComfyClient(url) as comfy:
        job = await comfy.job(prompt_id)
        await job.wait()
        return job.state


class TestQueue:
    async def test_a_saved_workflow_leaves_its_picture(self, cli, tmp_path):
        found = await cli("queue", QUICKSTART, "--set", f"4.filename_prefix={save()['inputs']['filename_prefix']}")
        assert found.code == 0, found.err
        [path] = map(Path, found.out.splitlines())
        assert path.parent == tmp_path / "output"
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert "succeeded" in found.err
        assert "seed 20260131" in found.err

    async def test_the_picture_carries_the_workflow_as_it_was_set(self, cli, tmp_path):
        found = await cli("queue", QUICKSTART, "--set", "2.strength=0.5", "--seed", "11", "-q")
        assert (found.code, found.err) == (0, "")
        again = await cli("convert", found.out.strip(), "--offline")
        assert again.json["2"]["inputs"] == {"image": ["1", 0], "seed": 11, "strength": 0.5}

    @pytest.mark.parametrize("name", ["subgraph", "api"])
    async def test_our_other_workflows_run(self, cli, name):
        found = await cli("queue", WORKFLOWS / f"{name}.json")
        assert (found.code, len(found.out.splitlines())) == (0, 1)

    async def test_from_stdin(self, cli, tmp_path):
        found = await cli("queue", "-", stdin=json.dumps(picture().nodes).encode())
        assert (found.code, len(found.out.splitlines())) == (0, 1)

    async def test_as_json(self, cli, tmp_path, server_url):
        found = await cli("queue", write(tmp_path, picture()), "--json", "-o", "out", "--seed", "keep")
        [job] = found.json["jobs"]
        assert found.json["instance"] == server_url
        assert found.json["exit_code"] == found.code == 0
        assert (job["state"], job["number"], job["seeds"]) == ("succeeded", 1, {})
        assert job["duration"] >= 0
        assert [Path(path).parent for path in job["files"]] == [tmp_path / "out"]
        assert job["outputs"][0]["title"] == "Save it"

    async def test_as_events(self, cli, tmp_path):
        found = await cli("queue", write(tmp_path, slow(steps=5)), "--events")
        names = [line["event"] for line in found.lines]
        assert names[0] == "submitted"
        assert names[-3:] == ["finished", "ended", "summary"]
        assert "node_started" in names
        assert found.lines[-1]["jobs"][0]["files"]
        assert found.lines[-1]["exit_code"] == 0

    async def test_iterations_count_their_seeds_up(self, cli, tmp_path):
        found = await cli("queue", QUICKSTART, "-n", "3", "--seed", "100", "--json")
        assert [job["seeds"] for job in found.json["jobs"]] == [{"2.seed": n} for n in (100, 101, 102)]
        files = [Path(path) for job in found.json["jobs"] for path in job["files"]]
        assert len({path.read_bytes() for path in files}) == 3
        assert found.err.splitlines()[-1].startswith("3 jobs: 3 succeeded; 3 files in ")

    async def test_iterations_as_the_workflow_says(self, cli):
        found = await cli("queue", QUICKSTART, "-n", "3", "--json", "--no-download")
        seeds = [job["seeds"]["2.seed"] for job in found.json["jobs"]]
        assert seeds[0] == 20260131
        assert len(set(seeds)) == 3

    async def test_a_seed_that_is_set_is_left_alone(self, cli):
        found = await cli("queue", QUICKSTART, "--set", "2.seed=4", "--seed", "random", "--json", "--no-download")
        assert found.json["jobs"][0]["seeds"] == {"2.seed": 4}

    async def test_what_cannot_vary_is_said(self, cli, tmp_path):
        found = await cli("queue", write(tmp_path, picture()), "-n", "2", "--no-download")
        assert "the workflow has no seed: all 2 jobs are the same" in found.err
        assert "--seed random" not in found.err
        found = await cli("queue", QUICKSTART, "-n", "2", "--seed", "keep", "--no-download")
        assert "all 2 jobs have the same seeds, and the same outputs; --seed random varies them" in found.err
        found = await cli("queue", QUICKSTART, "-n", "2", "--set", "2.seed=4", "--no-download")
        assert "--set sets every seed: all 2 jobs have the same seeds" in found.err
        found = await cli("queue", write(tmp_path, picture()), "--seed", "3", "--no-download")
        assert "--seed changes nothing" in found.err

    async def test_more_jobs_than_are_queued_ahead(self, cli, tmp_path):
        found = await cli("queue", write(tmp_path, picture()), "-n", "70", "-q", "--json")
        assert found.code == 0
        assert [job["state"] for job in found.json["jobs"]] == ["succeeded"] * 70
        assert len({path for job in found.json["jobs"] for path in job["files"]}) == 70

    async def test_names_metadata_and_no_silent_overwriting(self, cli, tmp_path):
        workflow = write(tmp_path, picture())
        args = ["queue", workflow, "-o", "o", "--name-template", "{node}/{title}.{ext}", "-q"]
        assert (await cli(*args, "--metadata")).code == 0
        assert (await cli(*args)).code == 0
        assert {path.name for path in (tmp_path / "o/2").iterdir()} == {"Save it.png", "Save it (1).png"}
        [about] = (tmp_path / "o").glob("*.json")
        assert json.loads(about.read_text())["prompt"]["2"]["class_type"] == "SaveImage"
        assert (await cli(*args, "--overwrite")).code == 0
        assert len(list((tmp_path / "o/2").iterdir())) == 2

    async def test_texts_come_home_too(self, cli, tmp_path):
        nodes = {
            "1": {"class_type": "PrimitiveString", "inputs": {"value": f"said {os.urandom(4).hex()}"}},
            "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        }
        (tmp_path / "wf.json").write_text(json.dumps(nodes))
        found = await cli("queue", "wf.json")
        [path] = map(Path, found.out.splitlines())
        assert path.read_text() == nodes["1"]["inputs"]["value"]
        assert nodes["1"]["inputs"]["value"] in found.err

    async def test_a_value_out_of_a_file(self, cli, tmp_path):
        (tmp_path / "p.txt").write_text("from a file\n")
        nodes = {
            "1": {"class_type": "PrimitiveString", "inputs": {"value": "x"}},
            "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        }
        (tmp_path / "wf.json").write_text(json.dumps(nodes))
        found = await cli("queue", "wf.json", "--set", "1.value=@p.txt", "--json")
        assert found.json["jobs"][0]["texts"][0]["text"] == "from a file"


class TestInputFiles:
    async def test_beside_the_workflow(self, cli):
        found = await cli("queue", WORKFLOWS / "filter.json", "--json")
        assert (found.code, found.json["jobs"][0]["state"]) == (0, "succeeded")

    @pytest.mark.parametrize("value", ["photo.png", "@photo.png"])
    async def test_set_on_the_command_line(self, cli, tmp_path, value):
        (tmp_path / "photo.png").write_bytes((WORKFLOWS / "input.png").read_bytes())
        found = await cli("queue", WORKFLOWS / "filter.json", "--set", f"1.image={value}", "-q")
        assert found.code == 0
        again = await cli("convert", found.out.strip(), "--offline")
        assert again.json["1"]["inputs"]["image"].startswith("photo")

    async def test_one_that_is_nowhere(self, cli):
        found = await cli("queue", WORKFLOWS / "filter.json", "--set", "1.image=@photo.png")
        assert (found.code, found.out) == (3, "")

    @pytest.mark.parametrize(
        ("value", "hint"),
        [
            ("nowhere.png", "there is no nowhere.png beside the workflow; --set 1.image=PATH uploads a file"),
            ("folder", "folder is a folder; --set 1.image=PATH uploads a file"),
        ],
    )
    @pytest.mark.parametrize("set_by_hand", [True, False])
    async def test_what_is_missing_is_said(self, cli, tmp_path, value, hint, set_by_hand):
        (tmp_path / "folder").mkdir()
        written = value if not set_by_hand else "example.png"
        nodes = {"1": {"class_type": "LoadImage", "inputs": {"image": written}}, "2": save()}
        (tmp_path / "wf.json").write_text(json.dumps(nodes))
        found = await cli("queue", "wf.json", *(["--set", f"1.image={value}"] if set_by_hand else []))
        assert (found.code, found.out) == (3, "")
        assert found.err.splitlines()[-1] == f"hint: {hint}"


class TestHowItEnds:
    async def test_a_job_that_fails(self, cli, tmp_path):
        found = await cli("queue", write(tmp_path, failing()), "--json")
        [job] = found.json["jobs"]
        assert found.code == found.json["exit_code"] == 1
        assert (job["state"], job["error"]["code"], job["error"]["node_id"]) == ("failed", "job_failed", "3")
        assert "Traceback" not in found.err

    async def test_verbose_shows_the_servers_traceback(self, cli, tmp_path):
        found = await cli("queue", write(tmp_path, failing()), "-v")
        assert 'File "' in found.err

    async def test_the_time_is_up(self, cli, tmp_path, server_url):
        found = await cli("queue", write(tmp_path, slow()), "--timeout", "0.2", "--json")
        [job] = found.json["jobs"]
        assert found.code == 6
        assert job["error"]["code"] == "outcome_unknown"
        assert job["prompt_id"] in found.err
        cancelled = await cli("jobs", "cancel", job["prompt_id"])
        assert cancelled.code == 0
        assert await state_of(server_url, job["prompt_id"]) in {JobState.CANCELLED, JobState.SUCCEEDED}

    async def test_when_the_time_is_up_nothing_more_is_queued(self, cli, tmp_path, proxy):
        found = await cli("queue", write(tmp_path, slow()), "-n", "40", "--timeout", "0.5", "--json", url=proxy.url)
        ids = [job["prompt_id"] for job in found.json["jobs"]]
        assert (found.code, len(ids) + found.json["not_queued"]) == (6, 40)
        assert proxy.requests["POST", "/prompt"] == len(ids) < 40
        assert f"the time is up: {40 - len(ids)} jobs not queued" in found.err
        assert (await cli("jobs", "cancel", *reversed(ids))).code == 0

    async def test_the_worst_counts(self, cli, tmp_path, proxy):
        proxy.answer("GET", "/view", times=1, status=404)
        found = await cli("queue", write(tmp_path, picture()), "-n", "2", "--json", url=proxy.url)
        assert found.code == 7
        assert all(job["prompt_id"] in found.err for job in found.json["jobs"])
        assert sorted("error" in job for job in found.json["jobs"]) == [False, True]
        assert [job["state"] for job in found.json["jobs"]] == ["succeeded"] * 2

    @pytest.mark.parametrize("quiet", [[], ["-q"]])
    async def test_what_could_not_be_fetched_can_be_later(self, cli, tmp_path, proxy, quiet):
        proxy.answer("GET", "/view", times=1, status=404)
        found = await cli("queue", write(tmp_path, picture()), "-o", "my out", "--overwrite", *quiet, url=proxy.url)
        assert found.code == 7
        error, hint, *rest = found.err.splitlines()[-2 if quiet else -3 :]
        assert rest == ([] if quiet else ["to finish what is left: comfyclient jobs resume"])
        prompt_id = error.partition(":")[2].split()[1].rstrip(":")
        assert error.startswith(f"error: job {prompt_id}: ")
        command = f"comfyclient jobs download {prompt_id} -o 'my out' --overwrite --url {proxy.url}"
        assert hint == f"hint: the outputs are still on the instance: {command}"
        again = await cli(*shlex.split(command)[1:], url=None)
        assert (again.code, len(again.out.splitlines())) == (0, 1)

    async def test_what_cannot_be_queued_later_does_not_stop_the_waiting(self, cli, tmp_path, proxy):
        seen = iter([False, True, True, True])
        answers = web.Response

        def answer_second(request_rule=proxy._rule):
            def rule(method, path):
                if (method, path) == ("POST", "/prompt") and next(seen):
                    return [method, path, 1, lambda: answers(status=400, text='{"error": "no more"}')]
                return request_rule(method, path)

            return rule

        proxy._rule = answer_second()
        found = await cli("queue", write(tmp_path, picture()), "-n", "3", "--json", url=proxy.url)
        assert found.code == 3
        assert [job["state"] for job in found.json["jobs"]] == ["succeeded"]
        assert found.json["error"]["code"] == "prompt_rejected"
        assert "job 2/3 was not queued" in found.err
        assert found.json["not_queued"] == 2

    async def test_without_the_check_the_server_says_what_is_wrong(self, cli, tmp_path):
        prompt = picture()
        prompt.nodes["1"]["inputs"]["width"] = 0
        checked = await cli("queue", write(tmp_path, prompt))
        refused = await cli("queue", write(tmp_path, prompt), "--no-check")
        assert checked.code == refused.code == 3
        for found in (checked, refused):
            assert "node 1 (EmptyImage), input width" in found.err.splitlines()[0]

    async def test_outputs_that_the_server_drops_are_told(self, cli, tmp_path):
        prompt = picture()
        prompt.nodes["9"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
        found = await cli("queue", write(tmp_path, prompt), "--no-check", "-q")
        assert found.code == 0
        assert found.err.startswith("warning: the server dropped an output: node 9 (SaveImage), input filename_prefix")


@pytest.mark.skipif(sys.platform == "win32", reason="a file-size limit is POSIX's")
class TestDisks:
    async def test_a_full_disk_is_noticed_before_anything_is_queued(self, proxy, tmp_path):
        code, out, err = await self.limited(1000, "queue", write(tmp_path, picture()), "--url", proxy.url, cwd=tmp_path)
        assert (code, out) == (7, "")
        assert err.splitlines()[0] == "error: cannot write into output: file too large"
        assert proxy.requests["POST", "/prompt"] == 0

    async def test_a_disk_that_fills_up_leaves_no_half_file(self, proxy, tmp_path):
        code, out, err = await self.limited(8192, "queue", QUICKSTART, "--url", proxy.url, cwd=tmp_path)
        assert (code, out) == (7, "")
        assert "error: " in err
        assert list((tmp_path / "output").iterdir()) == []

    async def limited(self, octets, *args, cwd):
        """Run in a process that may write so many bytes into a file, and no more."""

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (octets, octets))

        env = {**os.environ, "PYTHONPATH": str(ROOT), "COMFYCLIENT_JOURNAL": "0"}
        process = await Process.start(*args, cwd=cwd, env=env, preexec_fn=limit)
        code, out = await process.end()
        return code, out, process.err


class TestNothingIsQueued:
    @pytest.mark.parametrize(
        ("args", "code", "says"),
        [
            (["missing.json"], 3, "missing.json: no such file"),
            (["empty.json"], 3, "empty.json: empty"),
            (["text.json"], 3, "not JSON"),
            (["list.json"], 3, "not a workflow"),
            (["cut.json"], 3, "breaks off"),
            (["plain.png"], 3, "without a workflow"),
            (["unknown.json"], 3, "node 1 (Base colour): the instance has no node class 'NoSuchNode'"),
            (["good.json", "--set", "99.text=x"], 3, "99.text fits no node"),
            (["good.json", "--set", "1.width=wide"], 3, "1.width: takes an integer"),
            (["good.json", "--set", "1.width"], 3, "'1.width' sets nothing"),
            (["good.json", "--set", "2.seed=1", "--set", "Clouds.seed=2"], 3, "are the same input"),
            (["good.json", "--seed", str(2**64 - 1), "-n", "2"], 3, "2.seed: takes an integer"),
            (["good.json", "-o", "plain.png"], 7, "is a file, not a folder"),
            (["good.json", "-o", "plain.png/x"], 7, "not a directory"),
            (["good.json", "-o", "/proc/nowhere"], 7, "no such file or directory"),
            (["good.json", "--name-template", "../{filename}"], 2, "leads out of the output folder"),
            (["good.json", "--name-template", "{nothing}"], 2, "is no field"),
            (["good.json", "--frontend", "new"], 2, "is no release"),
        ],
    )
    async def test_and_one_line_says_why(self, cli, proxy, tmp_path, args, code, says):
        good = QUICKSTART.read_bytes()
        files = {
            "good.json": good, "empty.json": b"", "text.json": b"hello", "list.json": b"[1, 2]", "cut.json": good[:900],
            "plain.png": (WORKFLOWS / "input.png").read_bytes(),
            "unknown.json": good.replace(b'"EmptyImage"', b'"NoSuchNode"'),
        }  # fmt: skip
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        found = await cli("queue", *args, "--json", url=proxy.url)
        error, *hints = found.err.splitlines()
        assert found.code == code
        assert error.startswith("error: ")
        assert says in error
        assert [hint[:6] for hint in hints] in ([], ["hint: "])
        assert found.json["error"]["message"]
        assert proxy.requests["POST", "/prompt"] == 0

    @pytest.mark.parametrize(
        ("url", "code", "says"),
        [
            ("127.0.0.1:8188", 2, "needs a scheme"),
            ("ftp://127.0.0.1", 2, "scheme"),
            ("http://", 2, "host"),
            ("http://127.0.0.1:1", 5, "connection refused"),
            ("http://nobody.invalid", 5, "no such host"),
        ],
    )
    @pytest.mark.parametrize("command", [["queue", QUICKSTART], ["info"], ["jobs", "list"], ["convert", QUICKSTART]])
    async def test_where_nobody_is(self, cli, url, code, says, command):
        found = await cli(*command, "--url", url)
        assert (found.code, found.out) == (code, "")
        assert says in found.err.splitlines()[0]

    @pytest.mark.parametrize(
        "response",
        [
            {"status": 404, "text": "nothing here"},
            {"text": "<html>welcome</html>", "content_type": "text/html"},
            {"text": "{}", "content_type": "application/json"},
            {"text": "[]", "content_type": "application/json"},
            {"text": '{"system": 1', "content_type": "application/json"},
        ],
    )
    async def test_where_something_else_is(self, cli, response):
        async with something_else(response) as url:
            for command in (["queue", QUICKSTART], ["info"]):
                found = await cli(*command, "--url", url)
                assert (found.code, found.out) == (5, "")
                assert len(found.err.splitlines()) <= 2


@contextlib.asynccontextmanager
async def something_else(response):
    """A server that gives one answer to everything."""
    app = web.Application()

    async def handle(_):
        return web.Response(**response)

    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class TestCtrlC:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    async def test_it_cancels_what_was_queued(self, server_url, tmp_path, number):
        process = await Process.start(
            "queue", write(tmp_path, slow()), "--url", server_url, "-n", "3", "-v", cwd=tmp_path
        )
        await process.says("job 3/3: queued as")
        await process.says("job 1/3: node")
        process.signal(number)
        assert await process.end() == (130, "")
        assert "stopping: cancelling 3 jobs" in process.err
        assert "cancelled 3 jobs" in process.err
        assert "Traceback" not in process.err
        ids = [line.split()[-1] for line in process.err.splitlines() if "queued as" in line]
        async with ComfyClient(server_url) as comfy:
            open_jobs = {job.id for job in await comfy.jobs(limit=0) if job.state is JobState.PENDING}
        assert not open_jobs & set(ids)
        assert await state_of(server_url, ids[0]) is JobState.CANCELLED

    async def test_other_peoples_jobs_go_on(self, server_url, tmp_path):
        async with ComfyClient(server_url) as comfy:
            before = await comfy.submit(slow(steps=8))
            process = await Process.start("queue", write(tmp_path, slow()), "--url", server_url, cwd=tmp_path)
            await process.says("queued as")
            after = await comfy.submit(picture())
            process.signal(signal.SIGINT)
            assert (await process.end())[0] == 130
            await asyncio.gather(before.wait(), after.wait())
            assert (before.state, after.state) == (JobState.SUCCEEDED, JobState.SUCCEEDED)

    async def test_programs_are_told_too(self, server_url, tmp_path):
        process = await Process.start("queue", write(tmp_path, slow()), "--url", server_url, "--json", cwd=tmp_path)
        await process.says("node")
        process.signal(signal.SIGINT)
        code, out = await process.end()
        assert (code, json.loads(out)["exit_code"], json.loads(out)["error"]["code"]) == (130, 130, "stopped")

    async def test_before_anything_is_queued(self, server_url, tmp_path):
        async with StuckProxy(server_url, "/object_info") as proxy:
            process = await Process.start("queue", QUICKSTART, "--url", proxy.url, "--json", cwd=tmp_path)
            await proxy.asked.wait()
            process.signal(signal.SIGINT)
            code, out = await process.end()
        assert (code, process.err, json.loads(out)["error"]["code"]) == (
            130,
            "stopped; nothing was queued\n",
            "stopped",
        )

    @pytest.mark.parametrize("times", [1, 2])
    async def test_while_outputs_are_fetched(self, cli, server_url, tmp_path, times):
        async with StuckProxy(server_url, "/view") as proxy:
            args = ["queue", write(tmp_path, picture()), "-n", times, "-v", "--url", proxy.url, "-o", "o"]
            process = await Process.start(*args, cwd=tmp_path)
            ids = [(await process.says("queued as")).split()[-1] for _ in range(times)]
            for prompt_id in ids:
                assert await state_of(server_url, prompt_id) is JobState.SUCCEEDED
            await proxy.asked.wait()
            process.signal(signal.SIGINT)
            assert await process.end() == (130, "")
        line, last = process.err.splitlines()[-2:]
        assert last == "to finish what is left: comfyclient jobs resume"
        if times == 1:
            assert line == (
                f"1 job ended but not fetched; to fetch it: comfyclient jobs download {ids[0]} -o o --url {proxy.url}"
            )
        assert ids[0] in line
        found = await cli("jobs", "download", ids[0], "-o", "o")
        assert (found.code, len(found.out.splitlines())) == (0, 1)

    async def test_while_jobs_are_waited_for_or_fetched(self, server_url, tmp_path):
        async with StuckProxy(server_url, "/view") as proxy, ComfyClient(server_url) as comfy:
            job = await comfy.submit(slow())
            process = await Process.start("jobs", "wait", job.id, "--url", proxy.url, cwd=tmp_path)
            await process.says("running")
            process.signal(signal.SIGINT)
            assert await process.end() == (130, "")
            assert process.err.splitlines()[-1] == "stopped waiting; the job goes on"
            await job.cancel()
            job = await comfy.submit(picture())
            process = await Process.start("jobs", "download", job.id, "--url", proxy.url, cwd=tmp_path)
            await proxy.asked.wait()
            process.signal(signal.SIGINT)
            assert await process.end() == (130, "")
            command = f"comfyclient jobs download {job.id} -o output --url {proxy.url}"
            assert process.err.splitlines()[-1] == f"1 job ended but not fetched: {command}"

    async def test_while_jobs_are_resumed(self, cli, server_url, tmp_path):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COMFYCLIENT_STATE_DIR": str(tmp_path / "state")}
        async with StuckProxy(server_url, "/view") as proxy:
            environ = {"COMFYCLIENT_STATE_DIR": "state", "COMFYCLIENT_URL": proxy.url}
            queued = make_app(tmp_path, environ=environ)
            await asyncio.to_thread(run, queued, "queue", write(tmp_path, picture()), "--no-wait", "-o", "o")
            process = await Process.start("jobs", "resume", cwd=tmp_path, env=env)
            await proxy.asked.wait()
            process.signal(signal.SIGINT)
            assert await process.end() == (130, "")
            last = "stopped; the jobs go on, and `comfyclient jobs resume` goes on with them"
            assert process.err.splitlines()[-1] == last
        assert list((tmp_path / "o").iterdir()) == []

    async def test_a_second_one_leaves_at_once(self, server_url, tmp_path):
        async with StuckProxy(server_url) as proxy:
            process = await Process.start("queue", write(tmp_path, slow()), "--url", proxy.url, cwd=tmp_path)
            prompt_id = (await process.says("queued as")).split()[-1]
            await process.says("node")
            process.signal(signal.SIGINT)
            await proxy.asked.wait()
            process.signal(signal.SIGINT)
            assert await process.end() == (130, "")
            last = ["to finish what is left: comfyclient jobs resume"]
            assert process.err.splitlines()[-2:] == [f"not cancelled: {prompt_id}", *last]
        async with ComfyClient(server_url) as comfy:
            await comfy.cancel(prompt_id)
        assert await state_of(server_url, prompt_id) in {JobState.CANCELLED, JobState.SUCCEEDED}

    async def test_what_could_not_be_cancelled_is_said(self, server_url, tmp_path):
        async with Proxy(server_url) as proxy:
            process = await Process.start("queue", write(tmp_path, slow()), "--url", proxy.url, cwd=tmp_path)
            prompt_id = (await process.says("queued as")).split()[-1]
            await process.says("node")
            proxy.answer("POST", "/interrupt", times=100, status=403, text="forbidden")
            process.signal(signal.SIGINT)
            assert (await process.end())[0] == 130
            assert f"not cancelled: {prompt_id}: " in process.err
        async with ComfyClient(server_url) as comfy:
            await comfy.cancel(prompt_id)
        assert await state_of(server_url, prompt_id) in {JobState.CANCELLED, JobState.SUCCEEDED}

    async def test_a_reader_that_goes_away_stops_the_run(self, server_url, tmp_path):
        process = await Process.start("queue", write(tmp_path, slow()), "--url", server_url, "--events", cwd=tmp_path)
        prompt_id = json.loads(await process.process.stdout.readline())["prompt_id"]
        process.process.stdout._transport.close()
        err = (await process.process.stderr.read()).decode()
        assert await process.process.wait() == 141
        assert err.startswith("cannot write to stdout: cancelling 1 job; Ctrl-C leaves at once\n")
        assert await state_of(server_url, prompt_id) is JobState.CANCELLED

    async def test_a_reader_that_goes_away_ends_the_resuming(self, cli, server_url, tmp_path):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COMFYCLIENT_STATE_DIR": str(tmp_path / "state")}
        app = make_app(tmp_path, environ={"COMFYCLIENT_STATE_DIR": "state", "COMFYCLIENT_URL": server_url})
        await asyncio.to_thread(run, app, "queue", write(tmp_path, slow(steps=5)), "--no-wait", "-n", "2")
        process = await Process.start("jobs", "resume", "--events", cwd=tmp_path, env=env)
        await process.process.stdout.readline()
        process.process.stdout._transport.close()
        err = (await process.process.stderr.read()).decode()
        assert (await process.process.wait(), err) == (141, "")


class TestJobs:
    async def test_queue_now_and_fetch_later(self, cli, tmp_path):
        queued = await cli("queue", write(tmp_path, picture()), "--no-wait", "-n", "2")
        ids = queued.out.split()
        assert (queued.code, len(ids)) == (0, 2)
        waited = await cli("jobs", "wait", *ids)
        assert (waited.code, waited.out) == (0, "")
        fetched = await cli("jobs", "download", *ids, "-o", "o", "--json")
        assert fetched.code == 0
        assert [job["prompt_id"] for job in fetched.json["jobs"]] == ids
        assert all(Path(path).parent == tmp_path / "o" for job in fetched.json["jobs"] for path in job["files"])

    async def test_no_wait_as_json(self, cli, tmp_path, server_url):
        queued = await cli("queue", QUICKSTART, "--no-wait", "--json", "--seed", "9", "-n", "2", "-q")
        jobs = queued.json["jobs"]
        assert [job["seeds"] for job in jobs] == [{"2.seed": 9}, {"2.seed": 10}]
        assert {job["state"] for job in jobs} <= {"pending", "running", "succeeded"}
        for job in jobs:
            assert await state_of(server_url, job["prompt_id"]) is JobState.SUCCEEDED

    async def test_list_and_show(self, cli, tmp_path):
        done = await cli("queue", QUICKSTART, "--json", "--seed", "12")
        prompt_id = done.json["jobs"][0]["prompt_id"]
        listed = await cli("jobs", "list", "--json", "--limit", "1000")
        [job] = [job for job in listed.json if job["id"] == prompt_id]
        assert (job["state"], job["nodes"], job["outputs"]) == ("succeeded", 4, 1)
        assert prompt_id in (await cli("jobs", "list", "--limit", "1000")).out
        shown = (await cli("jobs", "show", prompt_id, "--json")).json
        assert (shown["state"], shown["seeds"], len(shown["prompt"])) == ("succeeded", {"2.seed": 12}, 4)
        assert "2.seed = 12" in (await cli("jobs", "show", prompt_id)).out

    async def test_the_beginning_of_an_id_will_do(self, cli, tmp_path):
        queued = await cli("queue", QUICKSTART, "--no-wait", "--seed", "13", "-q")
        prompt_id = queued.out.strip()
        for args in (["wait"], ["download", "-o", "o"]):
            found = await cli("jobs", *args, prompt_id[:13], prompt_id, "--json")
            [job] = found.json["jobs"]
            assert (found.code, job["prompt_id"], job["seeds"]) == (0, prompt_id, {"2.seed": 13})
        assert prompt_id in (await cli("jobs", "show", prompt_id[:13])).out
        assert prompt_id in (await cli("jobs", "cancel", prompt_id[:13])).out
        found = await cli("jobs", "show", prompt_id[:3])
        assert (found.code, found.err.splitlines()[-1]) == (2, "hint: give the whole id, or 6 characters")

    async def test_an_id_that_begins_as_two_jobs_do(self, cli, server_url):
        common = os.urandom(4).hex()
        async with ComfyClient(server_url) as comfy:
            for n in (1, 2):
                await (await comfy.submit(picture(), prompt_id=f"{common}-0000-4000-8000-00000000000{n}")).wait()
        found = await cli("jobs", "show", common)
        assert (found.code, found.err) == (2, f"error: {common} fits 2 jobs\nhint: give the whole id\n")

    async def test_a_failed_one(self, cli, tmp_path):
        queued = await cli("queue", write(tmp_path, failing()), "--no-wait", "-q")
        waited = await cli("jobs", "wait", queued.out.strip(), "--json")
        assert (waited.code, waited.json["jobs"][0]["state"]) == (1, "failed")
        shown = await cli("jobs", "show", queued.out.strip(), "--json")
        assert (shown.code, shown.json["error"]["code"]) == (0, "job_failed")

    async def test_cancel_one_that_waits_and_one_that_runs(self, cli, tmp_path, server_url):
        queued = await cli("queue", write(tmp_path, slow()), "--no-wait", "-n", "2", "-q")
        first, second = queued.out.split()
        cancelled = await cli("jobs", "cancel", second, first, "--json")
        assert cancelled.code == 0
        assert cancelled.json["jobs"][0] == {"prompt_id": second, "state": "cancelled"}
        assert await state_of(server_url, first) is JobState.CANCELLED
        again = await cli("jobs", "cancel", first)
        assert (again.code, again.out) == (0, f"{first}  cancelled\n")

    @pytest.mark.parametrize("command", ["wait", "download", "cancel", "show"])
    async def test_one_that_nobody_knows(self, cli, command):
        found = await cli("jobs", command, "00000000-0000-4000-8000-000000000000", "--json")
        assert found.code == 6
        assert "does not know it" in found.err or command == "cancel"
        assert "lost" in found.out

    async def test_one_that_nobody_knows_does_not_stop_the_others(self, cli, tmp_path):
        queued = await cli("queue", write(tmp_path, picture()), "--no-wait", "-q")
        found = await cli("jobs", "download", "unknown", queued.out.strip(), "--json")
        assert found.code == 6
        assert [job["state"] for job in found.json["jobs"]] == ["succeeded", "lost"]
        assert found.json["jobs"][0]["files"]


class TestInstance:
    async def test_info(self, cli, server_url):
        found = await cli("info")
        assert found.code == 0
        assert f"instance  {server_url}" in found.out
        body = (await cli("info", "--json")).json
        assert body["url"] == server_url
        assert set(body["queue"]) == {"running", "pending"}
        assert body["comfyui_version"]

    async def test_its_node_definitions(self, cli, tmp_path):
        assert "SaveImage" in (await cli("nodes", "list", "save", "--json")).out
        found = await cli("nodes", "snapshot", "-o", "s.json.gz")
        assert found.code == 0
        assert (await cli("nodes", "show", "SaveImage", "--catalog", "s.json.gz", url=None)).code == 0
        converted = await cli("convert", QUICKSTART, "--catalog", "s.json.gz", url=None)
        assert converted.json == (await cli("convert", QUICKSTART)).json
        assert (await cli("inputs", QUICKSTART, "--json")).json[0]["address"] == "1.width"

    async def test_node_definitions_of_an_instance_that_is_gone(self, cli):
        found = await cli("nodes", "list", url="http://127.0.0.1:1")
        assert (found.code, found.out) == (5, "")


def with_temporary(folder):
    """An environment whose temporary folder is one in ``folder``, new and empty."""
    (folder / "temporary").mkdir()
    return {**os.environ, "TMPDIR": str(folder / "temporary"), "PYTHONPATH": str(ROOT)}


class TestOwnEmulator:
    """Commands that bring their own server."""

    @pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
    def test_each_of_our_workflows_runs(self, tmp_path, path):
        found = run(make_app(tmp_path), "queue", path, "--emulator")
        assert found.code == 0, found.err
        assert [Path(line).is_file() for line in found.out.splitlines()] == [True]
        assert "simulated" in found.err

    def test_any_model_will_do_but_nothing_else(self, tmp_path):
        args = ["queue", WORKFLOWS / "txt2img.json", "--emulator", "-q", "--json"]
        found = run(make_app(tmp_path), *args, "--set", "4.ckpt_name=my_own.safetensors")
        assert (found.code, found.json["simulated"]) == (0, True)
        wrong = json.loads((WORKFLOWS / "txt2img.json").read_text())
        next(n for n in wrong["nodes"] if n["id"] == 3)["widgets_values"][4] = "no_such_sampler"
        (tmp_path / "w.json").write_text(json.dumps(wrong))
        found = run(make_app(tmp_path), "queue", "w.json", "--emulator", "-q", "--json")
        assert (found.code, found.json["error"]["problems"][0]["input"]) == (3, "sampler_name")

    def test_ten_thousand_nodes(self, tmp_path):
        nodes = {"1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 1}}}
        for n in range(2, 10_000):
            nodes[str(n)] = {"class_type": "ImageInvert", "inputs": {"image": [str(n - 1), 0]}}
        nodes["10000"] = {"class_type": "SaveImage", "inputs": {"images": ["9999", 0], "filename_prefix": "big"}}
        (tmp_path / "big.json").write_text(json.dumps(nodes))
        found = run(make_app(tmp_path), "queue", "big.json", "--emulator", "-q")
        assert (found.code, found.err, len(found.out.splitlines())) == (0, "", 1)

    @pytest.mark.parametrize("times", [1, 2])
    async def test_ctrl_c_leaves_nothing_behind(self, tmp_path, times):
        process = await Process.start(
            "queue", write(tmp_path, slow(500)), "--emulator", cwd=tmp_path, env=with_temporary(tmp_path)
        )
        await process.says("running")
        process.signal(signal.SIGINT)
        if times == 2:
            await process.says("stopping")
            process.signal(signal.SIGINT)
        assert await process.end() == (130, "")
        assert "Traceback" not in process.err
        assert "not cancelled" not in process.err
        assert list((tmp_path / "temporary").iterdir()) == []

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
    async def test_a_servers_own_folder_goes_with_it(self, tmp_path, number):
        process = await Process.start("emulator", "--port", "0", env=with_temporary(tmp_path))
        assert await process.process.stdout.readline()
        assert len(list((tmp_path / "temporary").iterdir())) == 1
        process.signal(number)
        assert (await process.end())[0] == 0
        assert list((tmp_path / "temporary").iterdir()) == []

    async def test_nohup(self, tmp_path):
        def nohup():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

        process = await Process.start("emulator", "--port", "0", preexec_fn=nohup)
        url = (await process.process.stdout.readline()).decode().strip()
        process.signal(signal.SIGHUP)
        found = await asyncio.to_thread(run, make_app(tmp_path), "info", "--url", url)
        assert found.code == 0
        process.signal(signal.SIGTERM)
        assert (await process.end())[0] == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    async def test_as_a_server(self, tmp_path, number):
        process = await Process.start(
            "emulator", "--port", "0", "--base-dir", tmp_path / "base", "--step-delay", "0.01"
        )
        url = (await process.process.stdout.readline()).decode().strip()
        found = await asyncio.to_thread(run, make_app(tmp_path), "queue", QUICKSTART, "--url", url, "-q")
        assert found.code == 0
        again = await Process.start("emulator", "--port", url.rpartition(":")[2])
        assert (await again.end())[0] == 2
        assert again.err.splitlines()[0] == "error: the emulator cannot start: address already in use"
        process.signal(number)
        assert (await process.end())[0] == 0
        assert len(list((tmp_path / "base/output").glob("*.png"))) == 1
