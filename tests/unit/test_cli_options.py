"""How command lines are parsed, apart from what they do."""

from pathlib import Path

import pytest

from comfyclient.cli.convert import ConvertOptions
from comfyclient.cli.emulator import EmulatorOptions
from comfyclient.cli.info import InfoOptions
from comfyclient.cli.inputs import InputsOptions
from comfyclient.cli.jobs import CancelOptions, FollowOptions, ForgetOptions, ListOptions, ResumeOptions, ShowOptions
from comfyclient.cli.login_options import LoginOptions
from comfyclient.cli.main import main
from comfyclient.cli.nodes import ListOptions as NodeList
from comfyclient.cli.nodes import ShowOptions as NodeShow
from comfyclient.cli.nodes import SnapshotOptions
from comfyclient.cli.options import CatalogSource
from comfyclient.cli.queue import QueueOptions
from comfyclient.settings import DEFAULT_URL, Settings

from ..cli_support import make_app  # noqa: TID252


def parse(*args, **rest):
    """The run function's name, the options, and the application."""
    seen = []
    app = make_app(".", execute=lambda run, app, options: seen.append((run.name, options)) or 0, **rest)
    assert main(list(args), app) == 0, app.stderr.getvalue()
    [(name, options)] = seen
    return name, options, app


QUEUE = QueueOptions(
    workflow="wf.json", url=None, emulator=False, output=Path("output"), assignments=(), seed=None, iterations=1,
    wait=True, download=True, check=True, front=False, timeout=None, metadata=False, template=None, overwrite=False,
    frontend=None,
)  # fmt: skip


def changed(options, **values):
    from dataclasses import replace

    return replace(options, **values)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], QUEUE),
        (["--url", "http://x"], changed(QUEUE, url="http://x")),
        (["--emulator"], changed(QUEUE, emulator=True, journal=False)),
        (["-o", "out"], changed(QUEUE, output=Path("out"))),
        (["--set", "6.text=a", "--set", "7.text=b=c"], changed(QUEUE, assignments=("6.text=a", "7.text=b=c"))),
        (["--seed", "0"], changed(QUEUE, seed=0)),
        (["--seed", str(2**64 - 1)], changed(QUEUE, seed=2**64 - 1)),
        (["--seed", "random", "-n", "4"], changed(QUEUE, seed="random", iterations=4)),
        (["--seed", "keep"], changed(QUEUE, seed="keep")),
        (["--no-wait"], changed(QUEUE, wait=False, download=False, fetch_later=True)),
        (["--no-wait", "--no-download"], changed(QUEUE, wait=False, download=False)),
        (["--no-journal"], changed(QUEUE, journal=False)),
        (["--resubmit", "lost"], changed(QUEUE, resubmit="lost")),
        (["--resubmit", "never", "--no-wait"], changed(QUEUE, wait=False, download=False, fetch_later=True)),
        (["--stall-timeout", "0"], changed(QUEUE, stall_timeout=None)),
        (["--stall-timeout", "0.5"], changed(QUEUE, stall_timeout=0.5)),
        (["--no-download"], changed(QUEUE, download=False)),
        (["--no-check", "--front"], changed(QUEUE, check=False, front=True)),
        (["--timeout", "2.5", "--metadata"], changed(QUEUE, timeout=2.5, metadata=True)),
        (["--name-template", "{node}", "--overwrite"], changed(QUEUE, template="{node}", overwrite=True)),
        (["--frontend", "1.49"], changed(QUEUE, frontend="1.49")),
    ],
)
def test_queue(args, expected):
    name, options, _ = parse("queue", "wf.json", *args)
    assert (name, options) == ("queue_run:run", expected)


def test_what_applies_to_every_command_is_on_the_application():
    _, _, app = parse("queue", "wf.json", "--json", "-q", "-vv", "--debug")
    assert (app.json, app.events, app.quiet, app.verbosity, app.debug) == (True, False, True, 2, True)
    _, _, app = parse("queue", "wf.json", "--events")
    assert (app.json, app.events, app.quiet, app.verbosity, app.debug) == (False, True, False, 0, False)


@pytest.mark.parametrize(
    ("args", "name", "expected"),
    [
        (
            "convert a.json b.json --output-dir d --overwrite --catalog c.json --frontend 1.27 --set 1.a=2 --seed 3",
            "convert_run:run",
            ConvertOptions(
                ("a.json", "b.json"), None, Path("d"), True, CatalogSource(file=Path("c.json")), "1.27", ("1.a=2",), 3
            ),
        ),
        (
            "convert - -o p.json --offline",
            "convert_run:run",
            ConvertOptions(("-",), Path("p.json"), None, False, CatalogSource(offline=True), None, (), None),
        ),
        ("inputs a.json --url http://x", "inputs_run:run", InputsOptions("a.json", CatalogSource("http://x"), None)),
        ("info --url http://x", "info_run:run", InfoOptions("http://x")),
        ("jobs list --limit 3", "jobs_run:list_jobs", ListOptions(None, 3)),
        ("jobs show abc", "jobs_run:show", ShowOptions(None, "abc")),
        ("jobs cancel a b a", "jobs_run:cancel", CancelOptions(None, ("a", "b"))),
        (
            "jobs wait a --stall-timeout 0",
            "jobs_run:follow_jobs",
            FollowOptions(None, ("a",), None, stall_timeout=None),
        ),
        ("jobs resume --stall-timeout 9", "resume_run:run", ResumeOptions(None, (), stall_timeout=9.0)),
        ("jobs wait a --timeout 4", "jobs_run:follow_jobs", FollowOptions(None, ("a",), 4.0)),
        (
            "jobs download a -o o --name-template {node} --overwrite --metadata",
            "jobs_run:follow_jobs",
            FollowOptions(None, ("a",), None, Path("o"), "{node}", True, True),
        ),
        ("jobs download a", "jobs_run:follow_jobs", FollowOptions(None, ("a",), None, Path("output"))),
        ("jobs resume", "resume_run:run", ResumeOptions(None, ())),
        ("jobs resume a b a", "resume_run:run", ResumeOptions(None, ("a", "b"))),
        (
            "jobs resume --url http://x --list --timeout 4 --username me",
            "resume_run:run",
            ResumeOptions("http://x", (), True, 4.0, LoginOptions(username="me")),
        ),
        (
            "jobs resume --wait-ready 60",
            "resume_run:run",
            ResumeOptions(None, (), login=LoginOptions(wait_ready=60.0)),
        ),
        ("jobs forget a b", "forget_run:run", ForgetOptions(None, ("a", "b"))),
        ("jobs forget --url http://x", "forget_run:run", ForgetOptions("http://x", ())),
        ("jobs forget --all-ended", "forget_run:run", ForgetOptions(None, (), True)),
        ("nodes list", "nodes_run:list_nodes", NodeList(CatalogSource(), None)),
        ("nodes list Load* --offline", "nodes_run:list_nodes", NodeList(CatalogSource(offline=True), "Load*")),
        ("nodes show KSampler", "nodes_run:show", NodeShow(CatalogSource(), "KSampler")),
        ("nodes snapshot -o s.gz", "nodes_run:snapshot", SnapshotOptions(CatalogSource(), Path("s.gz"))),
        ("emulator", "emulator_run:run", EmulatorOptions("127.0.0.1", 8188, None, 0.0)),
        (
            "emulator --host :: --port 0 --base-dir b --step-delay 0.5",
            "emulator_run:run",
            EmulatorOptions("::", 0, Path("b"), 0.5),
        ),
    ],
)
def test_the_others(args, name, expected):
    assert parse(*args.split())[:2] == (name, expected)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("jobs resume --username me", "need --url"),
        ("jobs forget", "say which"),
        ("jobs forget a --all-ended", "say which"),
        ("jobs forget a --url http://x", "say which"),
    ],
)
def test_what_does_not_go_together(args, says):
    app = make_app(".")
    assert main(args.split(), app) == 2
    assert says in app.stderr.getvalue()


@pytest.mark.parametrize(
    ("environ", "url", "expected"),
    [
        ({}, None, Settings(DEFAULT_URL, "default")),
        ({"COMFYCLIENT_URL": ""}, None, Settings(DEFAULT_URL, "default")),
        ({"COMFYCLIENT_URL": "http://e"}, None, Settings("http://e", "environment")),
        ({"COMFYCLIENT_URL": "http://e"}, "http://o", Settings("http://o", "option")),
    ],
)
def test_the_command_line_goes_before_the_environment(environ, url, expected):
    assert make_app(".", environ=environ).settings(url=url) == expected
