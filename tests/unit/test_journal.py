"""The journal: what was said is on disk whatever happens, and no two processes look after the same job."""

import contextlib
import functools
import itertools
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from comfyclient.errors import ConfigError, ProtocolError
from comfyclient.journal import ENDS, FILE_NAME, Journal, Phase, database, output_key
from comfyclient.wire.records import JobState

PROCESS = Path(__file__).with_name("journal_process.py")
URL = "http://a:8188"
REF = {"node_id": "9", "kind": "images", "filename": "a.png", "subfolder": "", "type": "output", "index": 0}
RANK = {"submitting": 0, "accepted": 1, "ended": 2, "placing": 3, "output": 4, "saved": 5}


def submit(journal, prompt_id="job", run_id=None, **more):
    values = {"url": URL, "client_id": "client", "body_digest": "digest"} | more
    return journal.submitting(prompt_id, run_id=run_id or journal.begin(), **values)


def opened(folder):
    with Journal.open(folder) as journal:
        return journal.open_entries()


def content(folder):
    """Every file and what is in it, but for the memory that SQLite's processes share; and an empty log is none."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    return {name: data for name, data in files.items() if data or not name.endswith("-wal")}


@contextlib.contextmanager
def process(*words):
    """Another process; it is killed in the end, if it lives."""
    command = [sys.executable, str(PROCESS), *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as child:
        try:
            yield child
        finally:
            child.kill()


def tell(child):
    child.stdin.write("\n")
    child.stdin.flush()


def lines_until(child, last):
    return list(iter(lambda: child.stdout.readline().strip(), last))


# What is written.


def test_a_job_from_before_its_post_to_its_outputs(tmp_path):
    clock = itertools.count(1000.0)
    with Journal.open(tmp_path / "state", clock=lambda: next(clock)) as journal:
        run_id = journal.begin(planned=1, name="flow.json")
        plan = {"folder": "/out", "template": "{filename}", "seeds": {"3.seed": 2**64 + 1}}
        entry = submit(journal, run_id=run_id, plan=plan, name="flow.json")
        assert (entry.phase, entry.ambiguous, entry.open, entry.plan) == (Phase.SUBMITTING, True, True, plan)
        journal.accepted("job")
        [entry] = journal.open_entries()
        assert (entry.phase, entry.ambiguous) == (Phase.ACCEPTED, False)
        journal.ended("job", "succeeded")
        [entry] = journal.open_entries()
        assert (entry.phase, entry.state) == (Phase.ENDED, "succeeded")
        journal.output_placing("job", REF, tmp_path / "a.png", 5, "abc")
        [output] = journal.entry("job").outputs
        assert not output.placed
        journal.output_saved("job", REF, tmp_path / "a.png", 5, "abc")
        journal.saved("job")
        assert journal.open_entries() == []
        journal.finish(run_id)
    with Journal.open(tmp_path / "state") as journal:
        [entry] = journal.entries()
        assert (entry.phase, entry.url, entry.client_id, entry.run_id) == (Phase.SAVED, URL, "client", run_id)
        assert (entry.body_digest, entry.plan, entry.name) == ("digest", plan, "flow.json")
        assert entry.created < entry.updated
        [output] = entry.outputs
        assert (output.key, output.path, output.size) == (output_key(REF), tmp_path / "a.png", 5)
        assert (output.sha256, output.placed) == ("abc", True)
        assert journal.interrupted() == []


@pytest.mark.parametrize("state", sorted(ENDS - {"succeeded"}))
def test_a_job_that_did_not_succeed_leaves_nothing_to_do(tmp_path, state):
    with Journal.open(tmp_path) as journal:
        submit(journal)
        journal.accepted("job")
        journal.ended("job", state)
        assert journal.open_entries() == []
        with pytest.raises(ConfigError, match="cannot become saved"):
            journal.saved("job")


def test_the_ends_are_those_that_a_record_tells():
    assert {str(state) for state in JobState if state.is_terminal} - {"unknown"} == ENDS


@pytest.mark.parametrize("state", ["unknown", "stalled", "running", ""])
def test_what_nobody_knows_is_no_end(tmp_path, state):
    with Journal.open(tmp_path) as journal:
        submit(journal)
        with pytest.raises(ConfigError, match="no end"):
            journal.ended("job", state)
        assert [entry.prompt_id for entry in journal.open_entries()] == ["job"]


def test_a_lost_job_that_turns_up_is_to_be_fetched(tmp_path):
    with Journal.open(tmp_path) as journal:
        submit(journal)
        journal.ended("job", "lost")
        assert journal.open_entries() == []
        journal.ended("job", "succeeded")
        assert [entry.state for entry in journal.open_entries()] == ["succeeded"]


def test_why_it_was_refused_or_given_up_is_kept(tmp_path):
    with Journal.open(tmp_path) as journal:
        run_id = journal.begin()
        submit(journal, "a", run_id)
        submit(journal, "b", run_id)
        journal.refused("a", "value not in list")
        journal.give_up("b", "x" * 5000 + "\udc80")
        assert journal.entry("a").reason == "value not in list"
        assert journal.entry("b").reason == "x" * 1000
        with pytest.raises(ConfigError, match="no outputs"):
            journal.output_saved("a", REF, tmp_path / "a.png", 1)


def test_submitting_again_is_no_news_but_another_job_of_that_id_is_refused(tmp_path):
    with Journal.open(tmp_path) as journal:
        run_id = journal.begin()
        assert submit(journal, run_id=run_id) == submit(journal, run_id=run_id)
        with pytest.raises(ConfigError, match="already"):
            submit(journal, run_id=run_id, body_digest="other")
        journal.accepted("job")
        with pytest.raises(ConfigError, match="already"):
            submit(journal, run_id=run_id)
        assert len(journal.entries()) == 1


def test_a_server_that_chooses_the_id(tmp_path):
    with Journal.open(tmp_path) as journal:
        submit(journal)
        journal.output_saved("job", REF, tmp_path / "a.png", 1)
        journal.accepted("job", "theirs")
        [entry] = journal.open_entries()
        assert (entry.prompt_id, entry.sent_id, entry.phase) == ("theirs", "job", Phase.ACCEPTED)
        assert len(entry.outputs) == 1
        assert journal.entry("job") is None
        journal.ended("theirs", "failed")
        with pytest.raises(ConfigError, match="already"):  # it was used
            submit(journal, "job")


@pytest.mark.parametrize("stolen", ["other", "sent", "renamed"])
def test_a_server_that_gives_the_id_of_another_job(tmp_path, stolen):
    with Journal.open(tmp_path) as journal:
        run_id = journal.begin()
        for prompt_id in ("job", "other", "sent"):
            submit(journal, prompt_id, run_id)
        journal.accepted("sent", "renamed")
        with pytest.raises(ProtocolError, match="another job"):
            journal.accepted("job", stolen)
        assert [entry.phase for entry in journal.open_entries()] == ["submitting", "submitting", "accepted"]


@pytest.mark.parametrize("wrong", ["", "a\nb", "\x1b[2J", "\udc80", "x" * 257])
def test_what_can_be_no_id_is_refused(tmp_path, wrong):
    with Journal.open(tmp_path) as journal:
        submit(journal)
        calls = [
            lambda: submit(journal, wrong),
            lambda: journal.accepted("job", wrong or "\0"),
            lambda: journal.ended(wrong, "failed"),
            lambda: journal.entry(wrong),
            lambda: journal.claim([wrong]),
            lambda: journal.release([wrong]),
            lambda: journal.forget([wrong]),
        ]
        for call in calls:
            with pytest.raises(ConfigError, match="no job's id"):
                call()
        assert [entry.phase for entry in journal.open_entries()] == ["submitting"]


def test_any_path_of_a_file_is_kept_as_it_is(tmp_path):
    odd = tmp_path / os.fsdecode(b"caf\xe9 \xf0\x9f\xa6\x8a\n.png")
    with Journal.open(tmp_path / "state") as journal:
        submit(journal)
        journal.output_saved("job", REF, odd, 1)
        journal.output_saved("job", {**REF, "filename": "\udc80\0"}, odd, 2)
        assert {output.path for output in journal.entry("job").outputs} == {odd}


def test_a_relative_path_is_kept_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Journal.open("state") as journal:
        submit(journal)
        journal.output_saved("job", REF, Path("a.png"), 1)
        monkeypatch.chdir("/")
        assert journal.entry("job").outputs[0].path == tmp_path / "a.png"
        assert journal.path == tmp_path / "state" / FILE_NAME


def test_an_output_is_known_by_all_that_the_record_says_of_it():
    assert output_key(REF) == output_key(dict(reversed(REF.items())))
    assert len({output_key({**REF, name: "x"}) for name in REF} | {output_key(REF)}) == len(REF) + 1
    with pytest.raises(ConfigError, match="named"):
        output_key({"index": float("nan")})


@pytest.mark.parametrize(
    "url",
    ["http://user:hunter2@a:8188/", "http://A:8188?token=hunter2", "http://:hunter2@a:8188/#hunter2", "http://a:8188"],
)
def test_no_credential_is_written(tmp_path, url):
    with Journal.open(tmp_path) as journal:
        submit(journal, url=url)
        assert [entry.url for entry in journal.open_entries(url)] == [URL]
        assert journal.open_entries("http://b:8188") == []
        assert not [name for name, data in content(tmp_path).items() if b"hunter2" in data]


def test_what_is_no_address_is_not_repeated(tmp_path):
    with Journal.open(tmp_path) as journal, pytest.raises(ConfigError, match="cannot be read") as caught:
        submit(journal, url="http://hunter2@[::1")
    assert "hunter2" not in str(caught.value)


def test_plans_that_are_no_json_or_endless_are_refused(tmp_path):
    deep = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with Journal.open(tmp_path) as journal:
        run_id = journal.begin()
        for plan in ({"a": float("nan")}, {"a": object()}, deep, {"a": "x" * 2**20}):
            with pytest.raises(ConfigError, match="plan"):
                submit(journal, run_id=run_id, plan=plan)
        with pytest.raises(ConfigError, match="run"):
            submit(journal, run_id="another")
        assert journal.entries() == []


def test_the_last_jobs_come_first(tmp_path):
    with Journal.open(tmp_path) as journal:
        run_id = journal.begin()
        for number in range(5):
            submit(journal, str(number), run_id)
        assert [entry.prompt_id for entry in journal.entries(limit=2)] == ["4", "3"]
        assert [entry.prompt_id for entry in journal.open_entries()] == list("01234")


# Runs.


def test_a_run_that_was_cut_short_tells_how_many_jobs_were_never_sent(tmp_path):
    with Journal.open(tmp_path) as journal:
        run_id = journal.begin(planned=20, name="flow.json")
        for number in range(3):
            submit(journal, str(number), run_id)
        assert journal.interrupted() == []  # it goes on
        with Journal.open(tmp_path) as other:
            assert other.interrupted() == []
    with Journal.open(tmp_path) as journal:
        [run] = journal.interrupted()
        assert (run.run_id, run.planned, run.recorded, run.name) == (run_id, 20, 3, "flow.json")
        assert journal.forget(["0", "1", "nope"]) == ["0", "1"]
        [run] = journal.interrupted()
        assert run.planned - run.recorded == 17
        journal.finish(run_id)
        assert journal.interrupted() == []


def test_what_is_old_and_done_can_be_removed(tmp_path):
    now = 0.0
    with Journal.open(tmp_path, clock=lambda: now) as journal:
        for run in ("done", "open", "living"):
            run_id = journal.begin()
            for number in range(2):
                submit(journal, f"{run}-{number}", run_id)
                journal.ended(f"{run}-{number}", "failed" if number or run != "open" else "succeeded")
            if run != "living":
                journal.finish(run_id)
        now = 100.0
        run_id = journal.begin()
        submit(journal, "new", run_id)
        journal.refused("new")
        journal.finish(run_id)
        assert journal.prune(0.0) == 0
        assert journal.prune(50.0) == 2
        left = {entry.prompt_id for entry in journal.entries()}
        assert left == {"open-0", "open-1", "living-0", "living-1", "new"}
    with Journal.open(tmp_path) as journal:
        assert journal.prune(50.0) == 2
        assert {entry.prompt_id for entry in journal.entries()} == {"open-0", "open-1", "new"}


# The file.


def test_nobody_else_can_read_it(tmp_path):
    mask = os.umask(0)
    try:
        with Journal.open(tmp_path / "a" / "state") as journal:
            submit(journal)
            paths = list((tmp_path / "a" / "state").iterdir())
            assert len(paths) == 4  # the file, its log, its shared memory, the lock
            assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
            assert stat.S_IMODE((tmp_path / "a" / "state").stat().st_mode) == 0o700
    finally:
        os.umask(mask)
    (tmp_path / "a" / "state" / FILE_NAME).chmod(0o644)
    assert len(opened(tmp_path / "a" / "state")) == 1
    assert stat.S_IMODE((tmp_path / "a" / "state" / FILE_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720])
def test_a_folder_that_others_may_write_into_is_refused(tmp_path, mode):
    tmp_path.chmod(mode)
    with pytest.raises(ConfigError, match="others may write") as caught:
        Journal.open(tmp_path)
    assert caught.value.hint == f"chmod 700 {tmp_path}"


def test_another_users_file_is_refused(tmp_path, monkeypatch):
    opened(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="another user"):
        Journal.open(tmp_path)


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / FILE_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="no file"):
        Journal.open(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot use the journal"):
        Journal.open(tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot use the journal"):
        Journal.open(tmp_path / "file" / "below")


def damage(data):
    """The pages of the tables, but not the first, overwritten."""
    return data[:4096] + b"\xff" * 4096 + data[8192:]


@pytest.mark.parametrize("harm", [lambda _: b"not a database" * 1000, damage, lambda data: data[:8192]])
def test_a_damaged_file_is_named_and_left_alone(tmp_path, harm):
    with Journal.open(tmp_path) as journal:
        submit(journal)
    path = tmp_path / FILE_NAME
    path.write_bytes(harm(path.read_bytes()))
    before = content(tmp_path)
    for _ in range(2):
        with pytest.raises(ConfigError, match="damaged") as caught:
            Journal.open(tmp_path)
        assert str(path) in str(caught.value)
        assert "left alone" in str(caught.value)
        assert "move it away" in caught.value.hint
        assert content(tmp_path) == before


def test_damage_that_a_crash_left_in_the_log_too_is_left_alone(tmp_path):
    source = tmp_path / "source"
    with Journal.open(source) as journal:
        submit(journal)
    with Journal.open(source) as journal:
        journal.claim(["job"])
        crashed = crash(source, tmp_path / "crashed")
    path = crashed / FILE_NAME
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
    before = content(crashed)
    assert len(before[f"{FILE_NAME}-wal"]) > 4096
    with pytest.raises(ConfigError, match="damaged"):
        Journal.open(crashed)
    assert content(crashed) == before


@pytest.mark.parametrize(
    ("column", "value"), [("phase", "sleeping"), ("plan", "[1]"), ("plan", "{"), ("plan", b"\xff"), ("phase", 7)]
)
def test_a_row_that_makes_no_sense_is_damage(tmp_path, column, value):
    with Journal.open(tmp_path) as journal:
        submit(journal)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute(f"UPDATE jobs SET {column} = ?", (value,))
    with Journal.open(tmp_path) as journal, pytest.raises(ConfigError, match="damaged"):
        journal.entries()


def test_what_was_half_done_when_the_journal_was_begun_is_undone(tmp_path):
    source = tmp_path / "source"
    with Journal.open(source) as journal:
        submit(journal)
    with contextlib.closing(sqlite3.connect(source / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # as before it is in WAL mode
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("UPDATE jobs SET plan = zeroblob(1000000)")
        crashed = crash(source, tmp_path / "crashed")
        connection.execute("ROLLBACK")
    assert (crashed / f"{FILE_NAME}-journal").stat().st_size > 0
    assert [entry.prompt_id for entry in opened(crashed)] == ["job"]


def test_it_waits_for_others_who_begin_the_journal_too(tmp_path, monkeypatch):
    (tmp_path / FILE_NAME).touch()
    waits = []
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # both have read and both want to write: SQLite waits for neither

        def sleep(seconds):
            waits.append(seconds)
            if len(waits) == 3:
                other.execute("ROLLBACK")

        monkeypatch.setattr(database.time, "sleep", sleep)
        with Journal.open(tmp_path) as journal:
            submit(journal)
    assert len(waits) == 3


def test_another_programs_database_is_left_alone(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute("CREATE TABLE precious (thing)")
    before = content(tmp_path)
    with pytest.raises(ConfigError, match="another program"):
        Journal.open(tmp_path)
    assert content(tmp_path) == before


@contextlib.contextmanager
def newer(*statements):
    """A comfyclient of the next version of the format."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, statements))
        yield


def test_a_newer_version_is_left_alone(tmp_path):
    with newer("ALTER TABLE jobs ADD COLUMN mood TEXT"):
        opened(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match="newer comfyclient") as caught:
        Journal.open(tmp_path)
    assert "update comfyclient" in caught.value.hint
    assert content(tmp_path) == before


def test_an_older_version_is_brought_up_to_date(tmp_path):
    with Journal.open(tmp_path) as old:
        submit(old)
        with newer("ALTER TABLE jobs ADD COLUMN mood TEXT"), Journal.open(tmp_path) as journal:
            [entry] = journal.open_entries()
            assert (entry.prompt_id, entry.holder.pid) == ("job", os.getpid())
        with pytest.raises(ConfigError, match="newer comfyclient"):  # which wrote it while this one was at work
            old.accepted("job")


def test_a_change_of_version_that_fails_changes_nothing(tmp_path):
    with Journal.open(tmp_path) as journal:
        submit(journal)
    broken = newer("ALTER TABLE jobs ADD COLUMN mood TEXT", "ALTER TABLE nothing ADD COLUMN x")
    with broken, pytest.raises(ConfigError, match="cannot use the journal"):
        Journal.open(tmp_path)
    assert [entry.prompt_id for entry in opened(tmp_path)] == ["job"]


def test_a_full_disk_is_said_and_changes_nothing(tmp_path):
    with Journal.open(tmp_path) as journal:
        run_id = journal.begin()
        submit(journal, run_id=run_id)
        journal._database.execute("PRAGMA max_page_count = 1")  # the pages that are there, that is
        with pytest.raises(ConfigError, match="disk is full") as caught:
            submit(journal, "big", run_id, plan={"x": "x" * 200_000})
        assert "make room" in caught.value.hint
        journal.accepted("job")
        assert [(entry.prompt_id, entry.phase) for entry in journal.open_entries()] == [("job", "accepted")]


def test_a_busy_file_is_waited_for_and_then_said(tmp_path):
    with Journal.open(tmp_path, timeout=0.01) as journal:
        run_id = journal.begin()
        with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(ConfigError, match="busy"):
                submit(journal, run_id=run_id)
            other.execute("ROLLBACK")
        submit(journal, run_id=run_id)


def test_what_is_said_is_on_disk_when_the_call_returns(tmp_path):
    with Journal.open(tmp_path) as journal:
        connection = journal._database
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_closed_it_says_so(tmp_path):
    journal = Journal.open(tmp_path)
    submit(journal)
    journal.close()
    journal.close()
    with pytest.raises(ConfigError, match="closed"):
        journal.open_entries()
    assert {path.name for path in tmp_path.iterdir()} == {FILE_NAME}


# Who looks after a job.


def test_who_does_not_hold_a_job_writes_nothing_about_it(tmp_path):
    with Journal.open(tmp_path) as one, Journal.open(tmp_path) as other:
        submit(one)
        for call in (
            lambda: other.accepted("job"),
            lambda: other.output_saved("job", REF, tmp_path / "a", 1),
            lambda: submit(other),
        ):
            with pytest.raises(ConfigError, match=f"looked after by process {os.getpid()} on"):
                call()
        assert other.forget(["job"]) == []
        one.release(["job"])
        with pytest.raises(ConfigError, match="looked after by nobody"):
            one.accepted("job")
        with pytest.raises(ConfigError, match="not in the journal"):
            one.accepted("nope")


def test_one_claims_what_the_other_let_go(tmp_path):
    with Journal.open(tmp_path) as one, Journal.open(tmp_path) as other:
        run_id = one.begin()
        for prompt_id in ("a", "b", "done"):
            submit(one, prompt_id, run_id)
        one.refused("done")
        claim = other.claim(["a", "b", "done", "nope"])
        assert claim.entries == ()
        assert {prompt_id: holder.pid for prompt_id, holder in claim.held.items()} == dict.fromkeys("ab", os.getpid())
        one.release(["a"])
        claim = other.claim(["a", "b", "a"])
        assert [entry.prompt_id for entry in claim.entries] == ["a"]
        assert set(claim.held) == {"b"}
        other.accepted("a")
        one.close()
        assert [entry.prompt_id for entry in other.claim(["a", "b", "done"]).entries] == ["a", "b"]


def test_a_process_that_was_killed_holds_nothing_and_one_that_was_stopped_keeps_all(tmp_path):
    with Journal.open(tmp_path) as journal:
        submit(journal)
        journal.release(["job"])
        with process("claim", tmp_path) as child:
            assert child.stdout.readline() == "ready\n"
            tell(child)
            assert lines_until(child, "done") == ["job"]
            assert journal.claim(["job"]).held["job"].pid == child.pid
            child.send_signal(signal.SIGSTOP)
            [entry] = journal.open_entries()
            assert (entry.holder.pid, entry.ambiguous) == (child.pid, False)
            child.kill()
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and its number still taken
            [entry] = journal.open_entries()
            assert (entry.holder, entry.ambiguous) == (None, True)
            assert len(journal.claim(["job"]).entries) == 1
        assert len(list(tmp_path.glob("*.lock"))) == 1


def test_of_many_processes_each_job_goes_to_one(tmp_path):
    ids = {str(number) for number in range(40)}
    with Journal.open(tmp_path) as journal:
        run_id = journal.begin()
        for prompt_id in ids:
            submit(journal, prompt_id, run_id)
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(process("claim", tmp_path)) for _ in range(4)]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            tell(child)
        got = [lines_until(child, "done") for child in children]
        assert sorted(itertools.chain(*got)) == sorted(ids)


def test_many_processes_begin_the_journal_at_once(tmp_path):
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(process("first", tmp_path / "state", number)) for number in range(6)]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            tell(child)
        said = [set(child.stdout.read().split()) for child in children]
        assert [child.wait() for child in children] == [0] * 6
    assert {entry.prompt_id for entry in opened(tmp_path / "state")} == set().union(*said)
    assert len(set().union(*said)) == 30


def test_many_threads_use_one_journal(tmp_path):
    with Journal.open(tmp_path) as journal:
        run_id = journal.begin()
        gate = threading.Barrier(8)

        def work(number):
            gate.wait()
            for index in range(10):
                prompt_id = f"{number}-{index}"
                submit(journal, prompt_id, run_id)
                journal.accepted(prompt_id)
                journal.ended(prompt_id, "succeeded")
                journal.output_saved(prompt_id, REF, tmp_path / prompt_id, index)
                journal.saved(prompt_id) if index % 2 else journal.entries(limit=3)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert len(journal.entries(limit=1000)) == 80
        assert len(journal.open_entries()) == 40


# Crashes.


def crash(folder, target):
    """What a kill leaves on disk, taken while the journal is open: the shared memory is gone, nothing is locked."""
    return Path(shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*-shm")))


def reached(entry):
    """The last step of `journal_process` that an entry shows."""
    if entry.phase is Phase.ENDED and entry.outputs:
        return "output" if entry.outputs[0].placed else "placing"
    return str(entry.phase)


def test_killed_at_any_moment_it_has_all_that_was_said(tmp_path):
    chance = random.Random(5)
    known = {}
    for _ in range(20):
        with process("write", tmp_path) as child:
            said = [child.stdout.readline().split() for _ in range(chance.randint(1, 40))]
            child.kill()
            said += [line.split() for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        known |= {prompt_id: step for step, prompt_id in said}
        with Journal.open(tmp_path) as journal:
            found = {entry.prompt_id: reached(entry) for entry in journal.entries(limit=100_000)}
            ahead = {prompt_id for prompt_id in found if found[prompt_id] != known.get(prompt_id)}
            assert set(known) <= set(found)
            assert len(ahead) <= 1  # what was on disk and not yet said
            for prompt_id in ahead:
                assert RANK[found[prompt_id]] == RANK.get(known.get(prompt_id), -1) + 1
            known |= found
            still = {entry.prompt_id for entry in journal.open_entries()}
            assert still == {prompt_id for prompt_id, step in found.items() if step != "saved"}
            assert {entry.prompt_id for entry in journal.claim(still).entries} == still


def test_killed_at_any_step_of_the_database_it_can_be_read(tmp_path):
    with process("die", tmp_path / "counted", 0) as child:
        total = int(child.stdout.read().split()[-1])
    for at in range(1, total, max(1, total // 30)):
        folder = tmp_path / str(at)
        with process("die", folder, at) as child:
            said = child.stdout.read().split()[::2]
            assert child.wait() == -signal.SIGKILL
        with Journal.open(folder) as journal:
            runs, entries = journal.interrupted(), journal.entries()
        found = ["begin"] * len(runs)
        for entry in entries:
            found += list(RANK)[: RANK[reached(entry)] + 1]
        assert said in (found, found[:-1]), at  # what was on disk may not have been said
        assert len(list(folder.glob("*.lock"))) == 0, at


def test_a_log_that_was_cut_anywhere_lacks_only_its_end(tmp_path):
    source = tmp_path / "source"
    log = source / f"{FILE_NAME}-wal"
    with Journal.open(source) as journal:
        run_id = journal.begin()
        moments = [(log.stat().st_size, [])]
        for prompt_id in ("a", "b", "c"):
            for call in (
                functools.partial(submit, journal, prompt_id, run_id),
                functools.partial(journal.accepted, prompt_id),
                functools.partial(journal.ended, prompt_id, "succeeded"),
                functools.partial(journal.output_saved, prompt_id, REF, tmp_path / prompt_id, 1),
                functools.partial(journal.saved, prompt_id),
            ):
                call()
                moments.append((log.stat().st_size, [reached(entry) for entry in journal.entries()]))
        crashed = crash(source, tmp_path / "crashed")
    whole = (crashed / log.name).read_bytes()
    cuts = {cut for size, _ in moments for cut in (size - 1, size, size + 1, size + 5000)}
    for cut in sorted(cut for cut in cuts if moments[0][0] <= cut <= len(whole)):
        folder = crash(crashed, tmp_path / str(cut))
        (folder / log.name).write_bytes(whole[:cut])
        with Journal.open(folder) as journal:
            expected = [then for size, then in moments if size <= cut][-1]
            assert [reached(entry) for entry in journal.entries()] == expected, cut


# All of it, in any order, by two journals, with crashes.

OPEN = {"submitting", "accepted", "succeeded"}
# What a call makes of a job in each phase; where it is not named, it is refused.
MOVES = {
    "accepted": {"submitting": "accepted", "accepted": "accepted", "succeeded": "succeeded", "failed": "failed",
                 "lost": "lost", "saved": "saved"},
    "succeeded": {**dict.fromkeys(("submitting", "accepted", "succeeded", "failed", "lost"), "succeeded"),
                  "saved": "saved"},
    "failed": dict.fromkeys(("submitting", "accepted", "succeeded", "failed", "lost"), "failed"),
    "lost": dict.fromkeys(("submitting", "accepted", "succeeded", "failed", "lost"), "lost"),
    "saved": {"succeeded": "saved", "saved": "saved"},
    "refused": {"submitting": "refused", "refused": "refused"},
    "given up": dict.fromkeys(("submitting", "accepted", "succeeded", "failed", "lost", "given up"), "given up"),
}  # fmt: skip
CALLS = {
    "accepted": lambda journal, prompt_id: journal.accepted(prompt_id),
    "succeeded": lambda journal, prompt_id: journal.ended(prompt_id, "succeeded"),
    "failed": lambda journal, prompt_id: journal.ended(prompt_id, "failed"),
    "lost": lambda journal, prompt_id: journal.ended(prompt_id, "lost"),
    "saved": lambda journal, prompt_id: journal.saved(prompt_id),
    "refused": lambda journal, prompt_id: journal.refused(prompt_id, "no"),
    "given up": lambda journal, prompt_id: journal.give_up(prompt_id, "enough"),
}


def phase_of(entry):
    return entry.state if entry.phase is Phase.ENDED else str(entry.phase).replace("_", " ")


class Machine(RuleBasedStateMachine):
    """``jobs``: phase, holder (0, 1 or none), run and outputs of each; ``runs``: holder, and whether it is finished.

    The ids of runs are random; choices among them go by their order.
    """

    actors = st.sampled_from([0, 1])

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.folders = (self.root / str(number) for number in itertools.count())
        self.names = (f"job-{number}" for number in itertools.count())
        self.jobs, self.runs = {}, {}

    @initialize()
    def begin_both(self):
        self.folder = next(self.folders)
        self.journals = [Journal.open(self.folder), Journal.open(self.folder)]
        self.begin(0)

    def teardown(self):
        for journal in getattr(self, "journals", ()):
            journal.close()
        shutil.rmtree(self.root)

    def drop(self, actors):
        for thing in (*self.jobs.values(), *self.runs.values()):
            if thing["holder"] in actors:
                thing["holder"] = None

    def some_job(self, data):
        return data.draw(st.sampled_from(sorted(self.jobs)))

    @rule(actor=actors)
    def begin(self, actor):
        self.runs[self.journals[actor].begin()] = {"holder": actor, "finished": False}

    @precondition(lambda self: self.runs)
    @rule(actor=actors, data=st.data())
    def submit(self, actor, data):
        prompt_id, run_id = next(self.names), data.draw(st.sampled_from(list(self.runs)))
        submit(self.journals[actor], prompt_id, run_id)
        self.jobs[prompt_id] = {"phase": "submitting", "holder": actor, "run": run_id, "outputs": {}}

    @precondition(lambda self: self.jobs)
    @rule(actor=actors, call=st.sampled_from(sorted(CALLS)), data=st.data())
    def advance(self, actor, call, data):
        prompt_id = self.some_job(data)
        job = self.jobs[prompt_id]
        after = MOVES[call].get(job["phase"])
        if after is None or job["holder"] != actor:
            with pytest.raises(ConfigError):
                CALLS[call](self.journals[actor], prompt_id)
        else:
            CALLS[call](self.journals[actor], prompt_id)
            job["phase"] = after

    @precondition(lambda self: any(job["holder"] == 0 for job in self.jobs.values()))
    @rule(data=st.data())
    def rename(self, data):
        mine = sorted(name for name, job in self.jobs.items() if job["holder"] == 0 and job["phase"] == "submitting")
        if mine:
            old, new = data.draw(st.sampled_from(mine)), next(self.names)
            self.journals[0].accepted(old, new)
            self.jobs[new] = {**self.jobs.pop(old), "phase": "accepted"}

    @precondition(lambda self: self.jobs)
    @rule(index=st.integers(0, 2), placed=st.booleans(), data=st.data())
    def output(self, index, placed, data):
        prompt_id = self.some_job(data)
        job, ref = self.jobs[prompt_id], {**REF, "index": index}
        if job["holder"] is not None and job["phase"] not in {"refused", "given up"}:
            journal = self.journals[job["holder"]]
            (journal.output_saved if placed else journal.output_placing)(prompt_id, ref, Path("/a"), index)
            job["outputs"][output_key(ref)] = placed

    @rule(actor=actors, data=st.data())
    def claim(self, actor, data):
        ids = data.draw(st.lists(st.sampled_from(sorted(self.jobs)), unique=True)) if self.jobs else []
        claim = self.journals[actor].claim(ids)
        wanted = [name for name in ids if self.jobs[name]["phase"] in OPEN]
        assert [entry.prompt_id for entry in claim.entries] == [
            name for name in wanted if self.jobs[name]["holder"] in {None, actor}
        ]
        assert set(claim.held) == {name for name in wanted if self.jobs[name]["holder"] == 1 - actor}
        for entry in claim.entries:
            assert phase_of(entry) == self.jobs[entry.prompt_id]["phase"]
            self.jobs[entry.prompt_id]["holder"] = actor

    @precondition(lambda self: self.jobs)
    @rule(actor=actors, data=st.data())
    def release(self, actor, data):
        prompt_id = self.some_job(data)
        self.journals[actor].release([prompt_id])
        if self.jobs[prompt_id]["holder"] == actor:
            self.jobs[prompt_id]["holder"] = None

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def finish(self, data):
        run_id = data.draw(st.sampled_from(list(self.runs)))
        self.journals[0].finish(run_id)
        self.runs[run_id]["finished"] = True

    @precondition(lambda self: self.jobs)
    @rule(actor=actors, data=st.data())
    def forget(self, actor, data):
        prompt_id = self.some_job(data)
        free = self.jobs[prompt_id]["holder"] in {None, actor}
        assert self.journals[actor].forget([prompt_id]) == ([prompt_id] if free else [])
        if free:
            del self.jobs[prompt_id]

    @rule(actor=actors)
    def prune(self, actor):
        busy = {job["run"] for job in self.jobs.values() if job["phase"] in OPEN}
        over = {
            name for name, run in self.runs.items() if (run["finished"] or run["holder"] is None) and name not in busy
        }
        gone = {name for name, job in self.jobs.items() if job["run"] in over}
        assert self.journals[actor].prune(2**40) == len(gone)
        self.runs = {name: run for name, run in self.runs.items() if name not in over}
        self.jobs = {name: job for name, job in self.jobs.items() if name not in gone}

    @rule(actor=actors)
    def reopen(self, actor):
        self.journals[actor].close()
        self.journals[actor] = Journal.open(self.folder)
        self.drop({actor})

    @rule()
    def crash(self):
        self.folder = crash(self.folder, next(self.folders))
        for actor in (0, 1):
            self.journals[actor].close()
            self.journals[actor] = Journal.open(self.folder)
        self.drop({0, 1})

    @invariant()
    def it_says_what_was_said(self):
        for actor, journal in enumerate(getattr(self, "journals", ())):
            entries = {entry.prompt_id: entry for entry in journal.entries(limit=1000)}
            assert {name: phase_of(entry) for name, entry in entries.items()} == {
                name: job["phase"] for name, job in self.jobs.items()
            }
            for name, entry in entries.items():
                assert {output.key: output.placed for output in entry.outputs} == self.jobs[name]["outputs"]
                assert (entry.holder is not None) == (self.jobs[name]["holder"] == 1 - actor)
            still = {entry.prompt_id for entry in journal.open_entries()}
            assert still == {name for name, job in self.jobs.items() if job["phase"] in OPEN}
            assert still == {name for name, entry in entries.items() if entry.open}
            assert {run.run_id: run.recorded for run in journal.interrupted()} == {
                name: sum(job["run"] == name for job in self.jobs.values())
                for name, run in self.runs.items()
                if not run["finished"] and run["holder"] is None
            }


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
