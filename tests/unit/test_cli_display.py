"""What is shown while jobs run: lines, bars, JSON."""

import json
from types import SimpleNamespace

import pytest

from comfyclient.cli.display import EventLines, Lines, Warnings, displaying
from comfyclient.cli.follow import Followed
from comfyclient.wire import events
from comfyclient.wire.records import JobState
from comfyclient.workflow.prompt import Prompt

from ..cli_support import Terminal, make_app  # noqa: TID252


def followed(prompt_id="abcdef0123", number=1, total=1, ours=True, nodes=3):
    prompt = Prompt({str(n): {"class_type": "X", "inputs": {}} for n in range(nodes)})
    job = SimpleNamespace(id=prompt_id, state=JobState.RUNNING, seeds={"3.seed": 4}, warnings=(), prompt=prompt)
    return Followed(job, number, total, ours=ours)


def one_run(prompt_id="abcdef0123"):
    """What a job tells, from the queue to its end."""
    return [
        events.Queued(prompt_id, 3),
        events.Queued(prompt_id, 3),
        events.Queued(prompt_id, 1),
        events.Started(prompt_id),
        events.NodeFinished(prompt_id, "1", "Load", True, 0.2),
        events.NodeStarted(prompt_id, "3", "KSampler"),
        events.NodeProgress(prompt_id, "3", "KSampler", 5, 20, 0.4),
        events.NodeFinished(prompt_id, "3", "KSampler", False, 0.8),
        events.OutputReady(prompt_id, "9", "Save", ()),
        events.Finished(prompt_id, JobState.SUCCEEDED),
    ]


def show(app, *, jobs=1, ours=True):
    """Show jobs that run one after the other."""
    with displaying(app, jobs) as display:
        for number in range(1, jobs + 1):
            job = followed(f"job-{number}", number, jobs, ours)
            display.submitted(job)
            for event in one_run(job.id):
                display.event(job, event)
            display.ended(job)
    return app.stderr.getvalue()


class TestWhich:
    @pytest.mark.parametrize(
        ("settings", "kind"),
        [({"events": True}, EventLines), ({"quiet": True}, Warnings), ({}, Lines)],
    )
    def test_the_application_decides(self, settings, kind, tmp_path):
        with displaying(make_app(tmp_path, **settings), 1) as display:
            assert type(display) is kind

    def test_bars_are_for_terminals_that_can_move(self, tmp_path):
        from comfyclient.cli.bars import Bars

        with displaying(terminal(tmp_path), 1) as display:
            assert type(display) is Bars
        with displaying(terminal(tmp_path, environ={"TERM": "dumb"}), 1) as display:
            assert type(display) is Lines


SILENT = "the instance says that it runs, and nothing has moved there for 600 s: see the instance's log"


def hear(display, job, *heard, state=JobState.RUNNING):
    """Have a job hear something, as `follow` does."""
    job.job.state = state
    for event in heard:
        if isinstance(event, events.Resubmitted):
            job.job.id = event.prompt_id
        job.hear(event)
        display.event(job, event)


def stall(display, job, reason=SILENT):
    hear(display, job, events.Stalled(job.id, 600.4, reason), state=JobState.STALLED)


class TestLines:
    def test_one_job(self, tmp_path):
        assert show(make_app(tmp_path)).splitlines() == [
            "job job-1: queued as job-1",
            "job job-1: waiting, 3 jobs before it",
            "job job-1: waiting, 1 job before it",
            "job job-1: running",
            "job job-1: node 3 (KSampler)",
        ]

    def test_verbose(self, tmp_path):
        lines = show(make_app(tmp_path, verbosity=1)).splitlines()
        assert "job job-1: node 1 (Load) is cached" in lines
        assert "job job-1: node 3 (KSampler), step 5 of 20" in lines

    def test_of_many_jobs_only_verbose_tells_the_nodes(self, tmp_path):
        assert show(make_app(tmp_path), jobs=3) == ""
        lines = show(make_app(tmp_path, verbosity=1), jobs=3).splitlines()
        assert "job 2/3: node 3 (KSampler)" in lines

    def test_a_job_that_was_there_already_is_not_said_to_be_queued(self, tmp_path):
        assert "queued" not in show(make_app(tmp_path), ours=False)

    def test_very_many_nodes_are_not_told_one_by_one(self, tmp_path):
        for verbosity, told in ((0, False), (1, True)):
            app = make_app(tmp_path, verbosity=verbosity)
            Lines(app, 1).event(followed(nodes=10_000), events.NodeStarted("x", "3", "KSampler"))
            assert ("KSampler" in app.stderr.getvalue()) is told

    def test_hostile_titles(self, tmp_path):
        app = make_app(tmp_path)
        Lines(app, 1).event(followed(), events.NodeStarted("x", "3", "\x1b]0;evil\x07"))
        assert "\x1b" not in app.stderr.getvalue()


class TestTrouble:
    """Said with one job and with many, and also to who wants to hear of nothing but trouble."""

    @pytest.mark.parametrize("total", [1, 3])
    def test_a_job_that_stalls_is_told_once_and_why_and_what_to_do(self, tmp_path, total):
        app = make_app(tmp_path)
        with displaying(app, total) as display:
            job = followed("job-1", total=total)
            hear(display, job, events.Started("job-1"))
            stall(display, job)
            hear(display, job, events.Started("job-1"), events.NodeStarted("job-1", "3", "KSampler"))
        lines = app.stderr.getvalue().splitlines()
        label = "job job-1" if total == 1 else "job 1/3 (job-1)"
        begin = lines.index(f"warning: {label}: stalled: {SILENT}")
        assert lines[begin + 1].startswith("hint: it is still followed; Ctrl-C cancels it")
        assert [line for line in lines if "moves again" in line] == [f"{label.split(' (', maxsplit=1)[0]}: moves again"]

    def test_the_quiet_hear_of_it_but_for_what_is_no_warning(self, tmp_path):
        app = make_app(tmp_path, quiet=True)
        with displaying(app, 1) as display:
            job = followed("job-1")
            stall(display, job)
            hear(display, job, events.Started("job-1"))
        assert app.stderr.getvalue() == f"warning: job job-1: stalled: {SILENT}\n"

    def test_who_did_not_queue_it_is_not_told_that_ctrl_c_cancels_it(self, tmp_path):
        app = make_app(tmp_path)
        with displaying(app, 1) as display:
            stall(display, followed("job-1", ours=False))
        assert "Ctrl-C stops the waiting, `comfyclient jobs cancel job-1` cancels it" in app.stderr.getvalue()

    def test_those_that_wait_behind_it_are_not_told_one_by_one(self, tmp_path):
        app = make_app(tmp_path)
        with displaying(app, 20) as display:
            jobs = [followed(f"job-{number}", number, 20) for number in range(1, 21)]
            for job in reversed(jobs[1:]):
                stall(display, job, "it waits")
            hear(display, jobs[0], events.Started("job-1"))
            stall(display, jobs[0])
        told = [line for line in app.stderr.getvalue().splitlines() if line.startswith("warning")]
        assert told == [
            "warning: job 20/20 (job-20): stalled: it waits",
            f"warning: job 1/20 (job-1): stalled: {SILENT}",
        ]

    def test_that_it_waits_is_no_move(self, tmp_path):
        """The server is asked on, and says on that it waits."""
        app = make_app(tmp_path)
        with displaying(app, 1) as display:
            job = followed("job-1")
            stall(display, job, "it waits")
            hear(display, job, events.Queued("job-1", 2), state=JobState.STALLED)
            stall(display, job, "it waits")
            assert job.stalled == "it waits"
        assert "moves again" not in app.stderr.getvalue()

    def test_a_job_that_ends_does_not_move_again(self, tmp_path):
        app = make_app(tmp_path)
        with displaying(app, 1) as display:
            job = followed("job-1")
            stall(display, job)
            hear(display, job, events.Finished("job-1", JobState.LOST), state=JobState.LOST)
        assert "moves again" not in app.stderr.getvalue()

    @pytest.mark.parametrize("total", [1, 3])
    def test_a_job_that_is_submitted_once_more(self, tmp_path, total):
        app = make_app(tmp_path)
        with displaying(app, total) as display:
            job = followed("job-1", total=total)
            hear(display, job, events.Started("job-1"), events.Resubmitted("job-2", "job-1"))
        label = "job job-2" if total == 1 else "job 1/3 (job-2)"
        assert f"warning: {label}: the instance had lost it as job-1 (it restarted, or " in app.stderr.getvalue()
        assert (job.lost_id, job.runs, job.to_json()["lost_id"]) == ("job-1", False, "job-1")

    def test_hostile_reasons(self, tmp_path):
        app = make_app(tmp_path)
        with displaying(app, 1) as display:
            stall(display, followed(), "\x1b]0;evil\x07")
        assert "\x1b" not in app.stderr.getvalue()


def test_trouble_is_an_event_like_others(tmp_path):
    app = make_app(tmp_path, events=True)
    with displaying(app, 1) as display:
        job = followed("job-1")
        stall(display, job)
        hear(display, job, events.Resubmitted("job-2", "job-1"))
    assert app.stderr.getvalue() == ""
    assert [json.loads(line) for line in app.stdout.getvalue().splitlines()] == [
        {"event": "stalled", "prompt_id": "job-1", "since": 600.4, "reason": SILENT},
        {"event": "resubmitted", "prompt_id": "job-2", "old_id": "job-1"},
    ]


def test_events_are_one_json_object_a_line(tmp_path):
    app = make_app(tmp_path, events=True)
    assert show(app) == ""
    lines = [json.loads(line) for line in app.stdout.getvalue().splitlines()]
    assert [line["event"] for line in lines] == [
        "submitted", "queued", "queued", "queued", "started", "node_finished", "node_started", "node_progress",
        "node_finished", "output_ready", "finished", "ended",
    ]  # fmt: skip
    assert {line["prompt_id"] for line in lines} == {"job-1"}
    assert lines[0] == {"event": "submitted", "prompt_id": "job-1", "number": 1, "seeds": {"3.seed": 4}}


def terminal(folder, **rest):
    return make_app(folder, stderr=Terminal(), stderr_is_terminal=True, **rest)


class TestBars:
    def test_one_job(self, tmp_path):
        shown = show(terminal(tmp_path))
        assert "queued" in shown
        assert "KSampler 5/20" in shown

    def test_the_cursor_comes_back(self, tmp_path):
        shown = show(terminal(tmp_path))
        assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")

    def test_many_jobs_have_a_bar_of_their_own_for_all(self, tmp_path):
        assert "all jobs" in show(terminal(tmp_path), jobs=3)

    def test_no_color(self, tmp_path):
        assert "\x1b[3" in show(terminal(tmp_path))
        assert "\x1b[3" not in show(terminal(tmp_path, environ={"NO_COLOR": "1"}))

    def test_what_is_said_meanwhile_appears_above(self, tmp_path):
        app = terminal(tmp_path, stdout_is_terminal=True)
        with displaying(app, 1) as display:
            display.submitted(followed())
            app.note("a [bold]note[/bold] with \x1b[31mcolour")
            app.print("out/picture.png")
        assert "a [bold]note[/bold] with �[31mcolour\n" in app.stderr.getvalue()
        assert "out/picture.png\n" in app.stderr.getvalue()
        assert app.stdout.getvalue() == ""
        app.print("afterwards")
        assert app.stdout.getvalue() == "afterwards\n"

    def test_data_for_a_file_does_not_go_to_the_screen(self, tmp_path):
        app = terminal(tmp_path)
        with displaying(app, 1):
            app.print("out/picture.png")
        assert app.stdout.getvalue() == "out/picture.png\n"

    def test_titles_are_no_markup(self, tmp_path):
        app = terminal(tmp_path)
        with displaying(app, 1) as display:
            display.event(followed(), events.NodeStarted("x", "3", "[red]title[/red] \x1b[2J"))
            display.event(followed(), events.NodeProgress("x", "3", "[/nonsense]", 1, 2, 0.5))
        assert "[/nonsense] 1/2" in app.stderr.getvalue()
        assert "\x1b[2J" not in app.stderr.getvalue()

    def test_a_job_that_stalls_and_is_lost_keeps_its_bar(self, tmp_path):
        app = terminal(tmp_path)
        with displaying(app, 1) as display:
            job = followed("job-1")
            display.submitted(job)
            hear(display, job, events.Started("job-1"), events.NodeProgress("job-1", "3", "KSampler", 5, 20, 0.4))
            stall(display, job)
            hear(display, job, events.Queued("job-1", 3), state=JobState.STALLED)
            display._progress.refresh()
            hear(display, job, events.Resubmitted("job-2", "job-1"), events.Queued("job-2", None))
            [task] = display._progress.tasks
            assert (task.description, task.completed, task.fields["what"]) == ("job job-2", 0, "waiting")
            display.ended(job)
            assert display._progress.tasks == []
        shown = app.stderr.getvalue()
        assert "stalled, nothing has moved for 10:00 min" in shown
        assert "waiting, 3 jobs before it" not in shown
        assert "warning: job job-1: stalled: " in shown
        assert "submitted once more" in shown

    def test_closing_twice_is_no_harm(self, tmp_path):
        with displaying(terminal(tmp_path), 1) as display:
            display.close()
