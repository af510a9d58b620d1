"""What the journal keeps of a run, so that another command can go on with it; and the small rules around it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyclient._redact import Secret
from comfyclient.cli.jobs_run import whole_id
from comfyclient.cli.journals import journal_if_possible, journal_if_there, own_journal
from comfyclient.cli.login_options import NO_LOGIN, GivenHeader, LoginOptions
from comfyclient.cli.plans import Outputs, Plan
from comfyclient.cli.resumed import Outcome, Resumed, summary
from comfyclient.errors import ConfigError
from comfyclient.files import PartFile, remove_parts
from comfyclient.journal import Entry, Journal, Phase
from comfyclient.journal.rows import plan_text
from comfyclient.names import alternatives, safe_name
from comfyclient.ownfiles import part_mark, stands_for

from ..cli_support import make_app  # noqa: TID252

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_a_plan_comes_back_as_it_was(tmp_path):
    login = LoginOptions(
        username="me", password_file="p.txt", headers=(GivenHeader("X-Key", file="k.txt"),), insecure=True
    )
    outputs = Outputs(tmp_path / "out", "{node}.{ext}", overwrite=True, metadata=True)
    plan = Plan("/flows/wf.json", outputs, login, {"3.seed": 2**63})
    kept = json.loads(json.dumps(plan.to_json(tmp_path) | {"seeds": plan.seeds}))
    files = {"password_file": str(tmp_path / "p.txt"), "headers": (GivenHeader("X-Key", file=str(tmp_path / "k.txt")),)}
    assert Plan.from_json(kept) == Plan(
        plan.workflow, outputs, LoginOptions(username="me", insecure=True, **files), plan.seeds
    )


def test_a_folder_that_is_no_text_comes_back_too():
    outputs = Outputs(Path("/out/\udcff"))
    assert Outputs.from_json(json.loads(plan_text({"outputs": outputs.to_json()}))["outputs"]) == outputs


def test_no_secret_is_kept(tmp_path):
    secret = Secret("open-sesame-4711")
    login = LoginOptions(
        password=secret, token=secret, password_file="-", headers=(GivenHeader("X", secret), GivenHeader("Y", file="-"))
    )
    assert login.kept(tmp_path) == {}
    assert LoginOptions.of_kept({}) == NO_LOGIN


@given(JSON)
def test_what_makes_no_sense_is_left_out(body):
    assert isinstance(LoginOptions.of_kept(body), LoginOptions)
    assert Outputs.from_json(body) is None or Path(body["folder"]).is_absolute()
    for plan in (
        Plan.from_json(body if isinstance(body, dict) else {}),
        Plan.from_json({"outputs": body, "seeds": body}),
    ):
        assert plan.outputs is None or plan.outputs.folder.is_absolute()
        assert plan.command("http://x").startswith("comfyclient queue ")


@pytest.mark.parametrize("name", ["password", "token"])
def test_a_secret_that_somebody_wrote_into_the_journal_is_not_used(name):
    assert LoginOptions.of_kept({name: "x", "username": 5, "insecure": "yes"}) == NO_LOGIN


@pytest.mark.parametrize(("value", "kept"), [("0", False), ("no", False), ("OFF", False), ("1", True), ("", True)])
def test_the_environment_says_whether_a_journal_is_kept(tmp_path, value, kept):
    app = make_app(tmp_path, environ={"COMFYCLIENT_JOURNAL": value})
    with journal_if_possible(app) as journal:
        assert (journal is not None) is kept


def test_who_has_little_to_write_begins_no_journal(tmp_path):
    app = make_app(tmp_path)
    with journal_if_there(app) as journal:
        assert journal is None
    with journal_if_possible(app), journal_if_there(app) as journal:
        assert journal is not None


@given(st.text(min_size=1).map(safe_name), st.integers(0, 10**6))
def test_a_name_that_stands_for_another_is_known(name, number):
    [found] = [next(alternatives(name, after=number - 1))]
    assert stands_for(found, name)
    assert stands_for(name, name)


@pytest.mark.parametrize(
    "other", ["b.png", "a.png.png", "a (0).png", "a (1).jpg", "a (1) (1).png", "a (x).png", "a (1.png"]
)
def test_other_names_do_not_stand_for_it(other):
    assert not stands_for(other, "a.png")


def test_only_the_parts_of_these_jobs_are_removed(tmp_path):
    class Witness:
        mark = part_mark("job")

    (tmp_path / "sub").mkdir()
    parts = [PartFile(tmp_path, Witness()), PartFile(tmp_path / "sub", Witness()), PartFile(tmp_path)]
    assert remove_parts(tmp_path, {part_mark("other")}, deep=True) == 0
    assert remove_parts(tmp_path, {part_mark("job")}, deep=False) == 1
    assert [part.path.exists() for part in parts] == [False, True, True]
    assert remove_parts(tmp_path, {part_mark("job")}, deep=True) == 1
    assert remove_parts(tmp_path / "nowhere", {part_mark("job")}, deep=True) == 0
    for part in parts:
        part.discard()


@pytest.mark.parametrize(
    ("phase", "state", "before", "code"),
    [
        (Phase.SAVED, "succeeded", Outcome.FINISHED, 0),
        (Phase.ENDED, "failed", Outcome.FAILED, 1),
        (Phase.ENDED, "cancelled", Outcome.CANCELLED, 1),
        (Phase.ENDED, "lost", Outcome.LOST, 6),
        (Phase.REFUSED, None, Outcome.NOT_QUEUED, 6),
        (Phase.GIVEN_UP, None, Outcome.UNKNOWN, 6),
    ],
)
def test_what_was_over_before_counts_as_it_ended(phase, state, before, code):
    entry = Entry("id", "http://x", "c", "run", "digest", phase=phase, state=state)
    job = Resumed(entry, given=Outcome.DONE_BEFORE)
    assert (job.before, job.exit_code) == (before, code)
    assert job.to_json()["state"] == str(before)


def test_the_summary_counts_outcomes():
    entry = Entry("id", "http://x", "c", "run", "digest")
    jobs = [Resumed(entry, given=outcome) for outcome in (Outcome.LOST, Outcome.HELD, Outcome.LOST)]
    assert summary(jobs) == "3 jobs: 2 lost, 1 left to another process"


def test_no_clock_gives_up_what_is_still_to_be_done(tmp_path):
    """Written by a machine that took it for 1970: nothing of it is forgotten when the time is known."""
    app = make_app(tmp_path)
    with Journal.open(app.journal_folder(), clock=lambda: 0.0) as journal:
        run_id = journal.begin(planned=1)
        journal.submitting("a", run_id=run_id, url="http://x", client_id="c", body_digest="d")
        journal.accepted("a")
    with own_journal(app) as journal:
        assert [entry.phase for entry in journal.open_entries()] == [Phase.ACCEPTED]


def test_what_was_given_up_is_looked_for_again_if_it_is_named(tmp_path):
    with Journal.open(tmp_path) as journal:
        run_id = journal.begin()
        for name in ("sent", "renamed", "ended", "lost"):
            journal.submitting(name, run_id=run_id, url="http://x", client_id="c", body_digest="d")
        journal.accepted("renamed", "other")
        journal.ended("ended", "succeeded")
        journal.ended("lost", "lost")
        names = ["sent", "other", "ended", "lost"]
        for name in names:
            journal.give_up(name, "told to stop")
        with Journal.open(tmp_path) as second:  # the first is alive and has them
            assert second.claim(names, given_up=True).entries == ()
    with Journal.open(tmp_path) as journal:
        assert journal.claim(names).entries == ()
        entries = journal.claim(names, given_up=True).entries
        phases = {"sent": Phase.SUBMITTING, "other": Phase.ACCEPTED, "ended": Phase.ENDED}
        assert {entry.prompt_id: entry.phase for entry in entries} == phases
        assert all(entry.reason is None for entry in entries)
        journal.accepted("sent")
        assert journal.entry("sent").phase is Phase.ACCEPTED


def test_an_id_that_is_cut_is_completed_if_only_one_job_has_it():
    assert whole_id("0123456", ["0123456789", "abc"]) == "0123456789"
    with pytest.raises(ConfigError, match="fits 2 jobs"):
        whole_id("0123456", ["0123456789", "0123456780"])
