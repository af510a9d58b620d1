"""One job's life: whatever is lost, late or doubled, it ends as the server's record says, and ends once."""

import dataclasses
import itertools
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfyclient.wire import events
from comfyclient.wire.events import Finished, Queued, Resubmitted, Stalled, Started, replaces
from comfyclient.wire.lifecycle import CONFIRM_AFTER, RECORD_LAG, Cadence, JobTracker, Look, Where
from comfyclient.wire.messages import (
    Executed,
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    NodeProgress,
    Progress,
    ProgressState,
    decode,
)
from comfyclient.wire.records import HistoryRecord, JobState

from .recorded import connections, frames, scenarios

JOB = "89bfa70e-366e-49b1-801c-5461576a5d92"


def record(state=JobState.SUCCEEDED, prompt_id=JOB):
    error = ExecutionError(prompt_id, "1", "KSampler", "ValueError", "bad") if state is JobState.FAILED else None
    return HistoryRecord(prompt_id, state, error, (), 1, 2, (), {}, {})


def tracker(*, hearing=True, accepted=True, nodes=("1", "2", "3", "4"), cadence=None, **options):
    found = JobTracker(JOB, nodes, lambda node: f"title of {node}", hearing=hearing, cadence=cadence, **options)
    if accepted:
        found.accepted(0.0)
    return found


def ended(at=0.0, state=JobState.SUCCEEDED):
    return Look(Where.ENDED, at, record=record(state))


class TestTheRecordDecides:
    def test_success(self):
        job = tracker()
        for message in (ExecutionStart(JOB), ExecutionCached(JOB, ()), ExecutionSuccess(JOB), Executing(JOB, None)):
            job.on_message(message, 1.0)
            assert job.state is JobState.RUNNING
        assert job.wish.record_only
        assert job.wish.at == 1.0
        (last,) = job.on_look(ended(1.0), 1.1)
        assert last == Finished(JOB, JobState.SUCCEEDED)
        assert job.wish is None

    @pytest.mark.parametrize("told", [ExecutionSuccess(JOB), ExecutionInterrupted(JOB), Executing(JOB, None)])
    @pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
    def test_whatever_the_message_said(self, told, state):
        job = tracker()
        job.on_message(told, 1.0)
        assert job.on_look(ended(1.0, state), 1.1)[-1].state is state
        assert job.state is state

    def test_the_end_comes_once_and_for_all(self):
        job = tracker()
        job.on_look(ended(state=JobState.FAILED), 1.0)
        assert job.on_look(ended(state=JobState.SUCCEEDED), 2.0) == []
        assert job.on_message(ExecutionStart(JOB), 2.0) == []
        assert job.give_up("tired") == []
        assert job.accepted(3.0) == []
        job.look_soon(3.0)
        job.on_connection(4.0, hearing=True)
        assert (job.state, job.wish) == (JobState.FAILED, None)

    def test_a_blocked_node_does_not_end_it(self):
        job = tracker()
        before = job.wish
        job.on_message(ExecutionError(JOB, "2", "X", "ExecutionBlocked", "blocked"), 1.0)
        assert job.wish == before

    def test_it_may_end_before_the_answer_to_its_submission_came(self):
        job = tracker(accepted=False)
        job.on_message(ExecutionStart(JOB), 0.1)
        job.on_message(Executing(JOB, None), 0.1)
        assert job.wish.record_only
        assert job.on_look(ended(0.1), 0.2)[-1].state is JobState.SUCCEEDED
        assert job.accepted(0.3) == []
        assert job.wish is None


class TestTheRecordIsLate:
    def test_not_there_means_not_yet(self):
        job, now = tracker(), 1.0
        job.on_message(ExecutionSuccess(JOB), now)
        looks = 0
        while now < 1.0 + RECORD_LAG:
            assert job.wish.at <= now + 0.5
            now = max(now, job.wish.at) + 0.01
            where = Where.NO_RECORD if job.wish.record_only else Where.ABSENT
            assert job.on_look(Look(where, now), now) == []
            looks += 1
        assert looks < 100
        assert job.on_look(ended(now), now)[-1].state is JobState.SUCCEEDED

    def test_but_not_for_ever(self):
        job = tracker()
        job.on_message(ExecutionSuccess(JOB), 1.0)
        late = 1.1 + RECORD_LAG
        job.on_look(Look(Where.ABSENT, late), late)
        (last,) = job.on_look(Look(Where.ABSENT, late + CONFIRM_AFTER), late + CONFIRM_AFTER)
        assert last.state is JobState.LOST
        assert "record is gone" in last.reason

    def test_after_a_while_the_queue_is_asked_as_well(self):
        job = tracker()
        job.on_message(Executing(JOB, None), 1.0)
        for n in range(4):
            job.on_look(Look(Where.NO_RECORD, 1.0 + n), 1.0 + n)
        assert not job.wish.record_only


class TestAbsence:
    def test_lost_takes_two_looks_apart(self):
        job = tracker()
        assert job.on_look(Look(Where.ABSENT, 1.0), 1.0) == []
        assert job.wish.at == 1.0 + CONFIRM_AFTER
        assert job.on_look(Look(Where.ABSENT, 1.1), 1.1) == []
        (last,) = job.on_look(Look(Where.ABSENT, 1.6), 1.6)
        assert last.state is JobState.LOST

    def test_a_look_at_the_moment_of_its_acceptance_may_have_been_before_it(self):
        job = tracker()
        job.dequeued(0.0)
        assert job.on_look(Look(Where.ABSENT, 0.0), 0.0) == []
        assert job.state is JobState.PENDING

    @given(st.floats(0, 1e9, exclude_min=True))
    def test_a_look_when_it_was_wished_is_late_enough(self, at):
        job = tracker()
        job.on_look(Look(Where.ABSENT, at), at)
        again = job.wish.at
        assert job.on_look(Look(Where.ABSENT, again), again)[-1].state is JobState.LOST

    def test_a_sighting_between_them_starts_over(self):
        job = tracker()
        job.on_look(Look(Where.ABSENT, 1.0), 1.0)
        job.on_look(Look(Where.RUNNING, 1.2), 1.2)
        assert job.on_look(Look(Where.ABSENT, 2.0), 2.0) == []
        assert job.state is JobState.RUNNING

    def test_a_look_from_before_it_was_accepted_says_nothing(self):
        job = tracker(accepted=False)
        job.accepted(5.0)
        job.on_look(Look(Where.ABSENT, 3.0), 5.1)
        job.on_look(Look(Where.ABSENT, 4.9), 5.9)
        assert job.state is JobState.PENDING

    def test_not_accepted_is_not_absent(self):
        job = tracker(accepted=False)
        job.on_look(Look(Where.ABSENT, 1.0), 1.0)
        job.on_look(Look(Where.ABSENT, 9.0), 9.0)
        assert job.state is JobState.SUBMITTING

    def test_what_this_client_took_off_the_queue_was_cancelled(self):
        job = tracker()
        job.dequeued(1.0)
        assert job.wish.at == 1.0
        (last,) = job.on_look(Look(Where.ABSENT, 1.0), 1.0)
        assert last.state is JobState.CANCELLED

    def test_unless_it_had_begun_by_then(self):
        job = tracker()
        job.dequeued(1.0)
        job.on_look(Look(Where.RUNNING, 1.1), 1.1)
        job.on_look(Look(Where.ABSENT, 2.0), 2.0)
        assert job.on_look(Look(Where.ABSENT, 3.0), 3.0)[-1].state is JobState.LOST

    @pytest.mark.parametrize("message", [ExecutionStart(JOB), Executing(JOB, "1"), ExecutionSuccess(JOB)])
    @pytest.mark.parametrize("told_first", [True, False])
    def test_or_a_message_says_that_it_ran(self, message, told_first):
        job = tracker()
        if told_first:
            job.on_message(message, 0.9)
        job.dequeued(1.0)
        if not told_first:
            job.on_message(message, 1.1)
        for at in (20.0, 21.0, 22.0):
            job.on_look(Look(Where.ABSENT, at), at)
        assert job.state is JobState.LOST

    def test_or_it_waits_still(self):
        job = tracker()
        job.dequeued(1.0)
        job.on_look(Look(Where.PENDING, 1.1, position=0), 1.2)
        for at in (2.0, 3.0):
            job.on_look(Look(Where.ABSENT, at), at)
        assert job.state is JobState.LOST

    def test_but_a_look_from_before_that_says_nothing(self):
        job = tracker()
        job.dequeued(1.0)
        job.on_look(Look(Where.PENDING, 0.9, position=0), 1.2)
        assert job.on_look(Look(Where.ABSENT, 2.0), 2.0)[-1].state is JobState.CANCELLED


class TestLooking:
    def test_rarely_while_messages_arrive(self):
        job = tracker(cadence=Cadence(early=1.0, hearing=15.0))
        assert job.wish.at == 1.0
        job.on_look(Look(Where.PENDING, 1.0, position=3), 1.0)
        assert job.wish.at == 16.0

    def test_often_and_then_less_without(self):
        job = tracker(hearing=False, cadence=Cadence(first=0.1, growth=2.0, most=1.0))
        gaps, now = [], 0.0
        for _ in range(6):
            gaps.append(round(job.wish.at - now, 3))
            now = job.wish.at
            job.on_look(Look(Where.RUNNING, now), now)
        assert gaps == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]

    @pytest.mark.parametrize("hearing", [True, False])
    def test_at_once_when_the_connection_changes(self, hearing):
        job = tracker()
        job.on_connection(7.0, hearing=hearing)
        assert job.wish.at == 7.0
        assert not job.wish.record_only

    def test_soon_while_its_record_is_being_written(self):
        job = tracker()
        job.on_message(Executing(JOB, None), 5.0)
        job.on_look(Look(Where.RUNNING, 5.4), 5.4)
        assert job.wish.at <= 6.0
        job.on_look(Look(Where.RUNNING, 5.0 + RECORD_LAG), 5.0 + RECORD_LAG)
        assert job.wish.at > 6.0 + RECORD_LAG

    def test_movement_that_no_message_told(self):
        job = tracker(cadence=Cadence(early=1.0, hearing=15.0))
        running = Look(Where.RUNNING, 1.0)
        assert job.untold(running)
        job.on_look(running, 1.0)
        assert job.wish.at == 2.0
        assert job.untold(ended(2.0))
        job.on_message(ExecutionStart(JOB), 2.0)
        assert not job.untold(Look(Where.RUNNING, 2.0))
        job.on_look(Look(Where.RUNNING, 2.0), 2.0)
        assert job.wish.at == 17.0
        assert job.untold(ended(17.0))  # that it ended is told before it is recorded
        job.on_message(ExecutionSuccess(JOB), 17.0)
        assert not job.untold(ended(17.0))

    def test_what_may_have_been_told_before_the_connection_is_no_such_movement(self):
        job = tracker()
        job.on_connection(1.0, hearing=True)
        assert not job.untold(Look(Where.RUNNING, 1.1))
        job.on_look(Look(Where.PENDING, 0.9, position=0), 1.2)
        assert not job.untold(Look(Where.RUNNING, 1.3))
        job.on_look(Look(Where.PENDING, 1.3, position=0), 1.4)
        assert job.untold(Look(Where.RUNNING, 1.5))
        assert not tracker(hearing=False).untold(Look(Where.RUNNING, 1.0))
        assert not tracker(accepted=False).untold(Look(Where.RUNNING, 1.0))

    def test_often_after_a_connection_that_has_told_nothing_yet(self):
        job = tracker(cadence=Cadence(most=2.0, hearing=15.0))
        job.on_connection(1.0, hearing=True)
        job.on_look(Look(Where.RUNNING, 1.0), 1.0)
        assert job.wish.at <= 3.0
        job.heard(3.0)
        job.on_look(Look(Where.RUNNING, 3.0), 3.0)
        assert job.wish.at == 18.0

    def test_giving_up_is_unknown_and_says_why(self):
        job = tracker()
        (last,) = job.give_up("no route to host")
        assert (last.state, last.reason) == (JobState.UNKNOWN, "no route to host")


def running(at):
    return Look(Where.RUNNING, at, running=(JOB,))


def waiting(at, position=1, before=("other",), moved_at=-math.inf):
    return Look(Where.PENDING, at, position=position, running=before, moved_at=moved_at)


class TestStalling:
    """The server says that it runs, and nothing moves: a report, no end."""

    def test_it_runs_and_says_nothing(self):
        job = tracker(stall_timeout=60.0)
        job.on_message(ExecutionStart(JOB), 10.0)
        assert job.on_look(running(69.9), 69.9) == []
        (told,) = job.on_look(running(70.0), 70.1)
        assert (told.prompt_id, told.since) == (JOB, 60.0)
        assert "worker" in told.reason
        assert "restart ComfyUI" in told.reason
        assert job.state is JobState.STALLED
        assert job.claimed is JobState.RUNNING
        assert not job.state.is_terminal
        assert job.on_look(running(500.0), 500.0) == []
        assert json.loads(json.dumps(told.to_json())) == {
            "event": "stalled", "prompt_id": JOB, "since": 60.0, "reason": told.reason,
        }  # fmt: skip

    @pytest.mark.parametrize(
        "message",
        [Progress(JOB, "1", 2, 4), Executing(JOB, "2"), ExecutionError(JOB, "2", "X", "ExecutionBlocked", "")],
    )
    def test_until_something_moves(self, message):
        job = tracker(stall_timeout=60.0)
        job.on_message(ExecutionStart(JOB), 0.0)
        job.on_look(running(60.0), 60.0)
        assert job.on_message(message, 61.0)[0] == Started(JOB)
        assert job.state is JobState.RUNNING
        assert job.on_look(running(120.0), 120.0) == []
        assert isinstance(job.on_look(running(121.0), 121.0)[0], Stalled)

    def test_a_frame_that_nobody_read_is_a_sign_of_life_too(self):
        job = tracker(stall_timeout=60.0)
        job.on_message(ExecutionStart(JOB), 0.0)
        job.on_look(running(60.0), 60.0)
        assert job.heard(61.0) == [Started(JOB)]

    def test_and_it_ends_as_recorded(self):
        job = tracker(stall_timeout=60.0)
        job.on_look(running(1.0), 1.0)
        job.on_look(running(100.0), 100.0)
        assert job.state is JobState.STALLED
        assert job.on_look(ended(101.0), 101.0)[-1].state is JobState.SUCCEEDED
        assert job.state is JobState.SUCCEEDED

    def test_a_stalled_job_may_be_lost(self):
        job = tracker(stall_timeout=60.0)
        job.on_look(running(1.0), 1.0)
        job.on_look(running(100.0), 100.0)
        job.on_look(Look(Where.ABSENT, 101.0), 101.0)
        assert job.state is JobState.STALLED
        assert job.on_look(Look(Where.ABSENT, 102.0), 102.0) == [Finished(JOB, JobState.LOST, None, job.reason)]

    @pytest.mark.parametrize(
        "moved",
        [
            waiting(60.0, position=0),  # one before it was taken away
            waiting(60.0, before=("another",)),  # the one before it came to its end
            waiting(60.0, before=()),
            waiting(60.0, moved_at=30.0),  # the one before it told of itself
        ],
    )
    def test_while_it_waits_what_is_before_it_counts(self, moved):
        job = tracker(stall_timeout=60.0)
        job.on_look(waiting(0.0), 0.0)
        assert job.on_look(moved, 60.0) == [Queued(JOB, moved.position)]
        assert job.state is JobState.PENDING

    def test_and_if_nothing_moves_there(self):
        job = tracker(stall_timeout=60.0)
        job.on_look(waiting(0.0), 0.0)
        queued, told = job.on_look(waiting(60.0), 60.0)
        assert queued == Queued(JOB, 1)
        assert "it waits" in told.reason
        assert "takes long" in told.reason
        assert job.state is JobState.STALLED
        assert job.progress.queue_position == 1
        assert job.situation() == [Queued(JOB, 1), told]
        assert job.on_look(waiting(65.0), 65.0) == []
        assert job.on_look(waiting(75.0, moved_at=70.0), 75.0) == [Queued(JOB, 1)]
        assert job.state is JobState.PENDING

    def test_a_stalled_job_that_waits_begins_to_run(self):
        job = tracker(stall_timeout=60.0)
        job.on_look(waiting(0.0), 0.0)
        job.on_look(waiting(60.0), 60.0)
        assert job.on_message(ExecutionStart(JOB), 61.0) == [Started(JOB)]
        assert job.state is JobState.RUNNING

    def test_a_queue_that_nothing_takes_from(self):
        job = tracker(stall_timeout=60.0)
        job.on_look(waiting(0.0, position=0, before=()), 0.0)
        told = job.on_look(waiting(60.0, position=0, before=()), 60.0)[-1]
        assert "takes long" not in told.reason

    def test_without_a_websocket_a_long_node_looks_the_same(self):
        job = tracker(hearing=False, stall_timeout=60.0)
        job.on_look(running(0.0), 0.0)
        assert "websocket" in job.on_look(running(60.0), 60.0)[-1].reason

    def test_a_silence_in_which_nobody_looked_proves_nothing(self):
        job = tracker(stall_timeout=60.0)
        job.on_look(running(1.0), 1.0)
        assert job.on_look(running(200.0), 200.0) == []
        assert isinstance(job.on_look(running(260.0), 260.0)[-1], Stalled)

    def test_never_if_so_wished(self):
        job = tracker(stall_timeout=None)
        for at in range(0, 100_000, 15):
            job.on_look(running(float(at)), float(at))
        assert job.state is JobState.RUNNING

    @given(st.floats(0.01, 1e6), st.booleans())
    def test_the_look_that_finds_it_is_wished_in_time(self, timeout, hearing):
        job, now = tracker(hearing=hearing, stall_timeout=timeout), 0.0
        while job.state is not JobState.STALLED and now < 400.0:
            assert job.wish.at > now or now == 0.0
            assert job.wish.at <= max(timeout, now + 15.0)
            now = max(job.wish.at, now)
            job.on_look(running(now), now)
        assert (job.state is JobState.STALLED) == (timeout <= now)

    @given(st.floats(0.01, 100.0), st.lists(st.floats(0.0, 0.9), min_size=1), st.booleans(), st.booleans())
    def test_it_is_found_however_long_answers_take(self, timeout, takes, hearing, runs):
        """An answer tells of the moment at which it was asked for: one that was asked for too early is no excuse."""
        job, now = tracker(hearing=hearing, stall_timeout=timeout), 0.0
        answers = itertools.cycle(takes)
        while job.state is not JobState.STALLED:
            asked_at = max(job.wish.at, now)
            now = asked_at + next(answers) * timeout
            assert now <= 20.0 + 4 * timeout
            job.on_look(running(asked_at) if runs else Look(Where.PENDING, asked_at, position=1), now)

    def test_who_begins_late_is_told(self):
        job = tracker(stall_timeout=60.0)
        job.on_message(Executing(JOB, "3", "3"), 1.0)
        job.on_look(running(61.0), 61.0)
        assert [type(event).__name__ for event in job.situation()] == ["Started", "NodeStarted", "Stalled"]


def lose(job, at):
    """Two looks miss it."""
    return job.on_look(Look(Where.ABSENT, at), at) + job.on_look(Look(Where.ABSENT, at + 1), at + 1)


class TestSubmittingAgain:
    def test_what_is_lost_begins_anew_under_another_id(self):
        job = tracker(nodes=("1", "2"), resubmit=True)
        job.on_message(ExecutionStart(JOB), 1.0)
        job.on_message(ExecutionCached(JOB, ("1",)), 1.0)
        job.on_look(Look(Where.PENDING, 1.0, position=4), 1.0)
        assert lose(job, 2.0) == []
        assert job.lost
        assert not job.state.is_terminal
        assert job.wish is None
        (told,) = job.resubmitted("new")
        assert told == Resubmitted("new", JOB)
        assert told.to_json() == {"event": "resubmitted", "prompt_id": "new", "old_id": JOB}
        assert (job.prompt_id, job.state, job.lost, job.known) == ("new", JobState.SUBMITTING, False, False)
        assert (job.progress.value, job.progress.nodes_done) == (0.0, 0)
        assert job.on_look(Look(Where.ABSENT, 9.0), 9.0) == []
        assert job.accepted(10.0) == [Queued("new")]
        assert job.on_message(ExecutionStart("new"), 11.0) == [Started("new")]
        assert job.on_look(ended(12.0), 12.0)[-1].prompt_id == "new"

    def test_once_and_no_more(self):
        job = tracker(resubmit=True)
        lose(job, 1.0)
        job.resubmitted("new")
        job.accepted(5.0)
        assert [event.state for event in lose(job, 6.0)] == [JobState.LOST]
        assert not job.lost

    @pytest.mark.parametrize("end", [JobState.FAILED, JobState.CANCELLED, JobState.SUCCEEDED, JobState.UNKNOWN])
    def test_nothing_else_is(self, end):
        job = tracker(resubmit=True)
        told = job.give_up("tired") if end is JobState.UNKNOWN else job.on_look(ended(1.0, end), 1.0)
        assert told[-1].state is end
        assert lose(job, 2.0) == []
        assert not job.lost

    def test_nor_what_its_owner_wanted_to_end(self):
        job = tracker(resubmit=True)
        job.on_message(ExecutionStart(JOB), 1.0)
        job.unwanted()
        assert lose(job, 2.0)[-1].state is JobState.LOST
        taken_off = tracker(resubmit=True)
        taken_off.unwanted()
        taken_off.dequeued(1.0)
        assert lose(taken_off, 1.0)[-1].state is JobState.CANCELLED

    def test_if_it_is_not_taken_it_is_lost(self):
        job = tracker(resubmit=True)
        lose(job, 1.0)
        job.resubmitted("new")
        (told,) = job.not_resubmitted("no such node")
        assert (told.prompt_id, told.state) == ("new", JobState.LOST)
        assert "no such node" in told.reason
        assert job.not_resubmitted("again") == []


MESSAGES = [
    ExecutionStart(JOB), ExecutionCached(JOB, ("1",)), Executing(JOB, "2", "2"), Progress(JOB, "2", 1, 4),
    ProgressState(JOB, {"2": NodeProgress("2", "running", 2, 4, "2")}), Executed(JOB, "2", "2", None),
    ExecutionSuccess(JOB), ExecutionError(JOB, "2", "X", "ValueError", "bad"), ExecutionInterrupted(JOB),
    ExecutionError(JOB, "2", "X", "ExecutionBlocked", "blocked"), Executing(JOB, None),
]  # fmt: skip


@settings(deadline=None)
@given(
    messages=st.lists(st.sampled_from(MESSAGES), max_size=30),
    outcome=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]),
    looks=st.lists(st.integers(0, 30), max_size=4),
    accepted=st.integers(0, 30),
)
def test_any_messages_in_any_order_end_as_the_record_says(messages, outcome, looks, accepted):
    """Even messages that contradict the record, and each other."""
    job, told, shares = tracker(accepted=False), [], []
    for n, message in enumerate([*messages, None]):
        now = float(n)
        told += job.accepted(now) if n == min(accepted, len(messages)) else []
        told += job.on_look(running(now), now) if n in looks and n > accepted else []
        told += job.on_message(message, now) if message is not None else []
        assert not job.state.is_terminal
        shares.append(job.progress.value)
    assert job.wish is not None
    told += job.on_look(ended(job.wish.at, outcome), job.wish.at)
    assert shares == sorted(shares)
    assert [event.state for event in told if isinstance(event, Finished)] == [outcome]
    assert isinstance(told[-1], Finished)
    assert sum(isinstance(event, Started) for event in told) <= 1


class TestEvents:
    def test_of_an_ordinary_run(self):
        job = tracker(accepted=False, nodes=("1", "2"))
        told = job.accepted(0.0)
        told += job.on_look(Look(Where.PENDING, 1.0, position=2), 1.0)
        for message in (
            ExecutionStart(JOB),
            ExecutionCached(JOB, ("1",)),
            Executing(JOB, "2", "2"),
            ProgressState(JOB, {"2": NodeProgress("2", "running", 1, 4, "2")}),
            Progress(JOB, "2", 3, 4),
            Executed(JOB, "2", "2", {"images": [{"filename": "a.png"}]}),
            ProgressState(JOB, {"2": NodeProgress("2", "finished", 4, 4, "2")}),
            Executing(JOB, None),
        ):
            told += job.on_message(message, 2.0)
        told += job.on_look(ended(2.0), 2.1)
        assert [type(event).__name__ for event in told] == [
            "Queued", "Queued", "Started", "NodeFinished", "NodeStarted", "NodeProgress", "NodeProgress",
            "OutputReady", "NodeFinished", "Finished",
        ]  # fmt: skip
        assert told[1].position == 2
        assert told[3].cached
        assert [event.overall for event in told[3:] if hasattr(event, "overall")] == [0.5, 0.625, 0.875, 1.0]
        assert told[7].outputs[0].filename == "a.png"
        assert all(event.to_json()["prompt_id"] == JOB for event in told)

    def test_they_carry_the_id_that_the_server_chose(self):
        job = tracker()
        job.prompt_id = "theirs"
        told = job.on_message(Executing("theirs", "1", "1"), 1.0)
        assert [event.prompt_id for event in told] == ["theirs", "theirs"]

    def test_what_runs_does_not_wait_again(self):
        job = tracker()
        job.on_message(ExecutionStart(JOB), 1.0)
        assert job.on_look(Look(Where.PENDING, 0.9, position=0), 1.1) == []
        assert job.state is JobState.RUNNING

    def test_who_begins_late_is_told_where_it_is(self):
        job = tracker()
        job.on_message(Executing(JOB, "3", "3"), 1.0)
        assert [type(event).__name__ for event in job.situation()] == ["Started", "NodeStarted"]
        job.on_look(ended(1.0), 1.1)
        assert job.situation() == [Finished(JOB, JobState.SUCCEEDED)]

    def test_a_server_without_progress_state(self):
        job = tracker(nodes=("1", "2"))
        told = [*job.on_message(Executing(JOB, "1"), 1.0), *job.on_message(Executing(JOB, "2"), 1.0)]
        assert [type(event).__name__ for event in told] == ["Started", "NodeStarted", "NodeFinished", "NodeStarted"]

    def test_a_lazy_node_starts_once(self):
        job = tracker()
        job.on_message(Executing(JOB, "1"), 1.0)
        assert job.on_message(Executing(JOB, "1"), 1.0) == [] or job.progress.nodes_done == 1

    def test_nodes_of_others_do_not_count(self):
        job = tracker(nodes=("1",))
        foreign = {f"1.0.0.{n}": NodeProgress(f"1.0.0.{n}", "finished", 1, 1, "1") for n in range(50)}
        assert job.on_message(ProgressState(JOB, foreign), 1.0) == [Started(JOB)]
        assert job.progress.nodes_done == 0

    def test_progress_is_complete_when_it_succeeded(self):
        job = tracker()
        job.on_look(ended(1.0), 1.0)
        assert (job.progress.value, job.progress.nodes_done, job.progress.nodes_total) == (1.0, 4, 4)

    def test_only_what_shows_progress_may_be_replaced(self):
        assert replaces(Queued(JOB, 1)) == replaces(Queued(JOB, 2))
        assert replaces(events.Preview(JOB, "1", b"", "image/png")) is not None
        for event in (Started(JOB), Finished(JOB, JobState.FAILED), events.OutputReady(JOB, "1", "t", ())):
            assert replaces(event) is None


RUNS = [
    (name, prompt_id)
    for name, scenario in scenarios().items()
    for prompt_id in scenario.get("history", {})
    if any(prompt_id in frame for frame in frames(scenario) if isinstance(frame, str) and "execution_start" in frame)
]


@pytest.mark.parametrize(("name", "prompt_id"), RUNS)
def test_recorded_runs_end_as_recorded(name, prompt_id):
    scenario = scenarios()[name]
    found = HistoryRecord.from_json(prompt_id, scenario["history"][prompt_id])
    for connection in connections(scenario):
        job = JobTracker(prompt_id, found.prompt_nodes.keys(), str, hearing=True)
        job.accepted(0.0)
        told = []
        for frame in frames(scenario, connection):
            message = decode(frame)
            if getattr(message, "prompt_id", None) == prompt_id:
                told += job.on_message(message, 1.0)
                assert not job.state.is_terminal
        if any(isinstance(event, Started) for event in told) and "execution_start" in str(frames(scenario, connection)):
            assert 0 <= job.progress.value <= 1
        told += job.on_look(Look(Where.ENDED, 2.0, record=found), 2.0)
        assert told[-1].state is found.state
        assert sum(isinstance(event, Finished) for event in told) == 1
        shares = [event.overall for event in told if hasattr(event, "overall")]
        assert shares == sorted(shares)


@dataclasses.dataclass
class Server:
    """What a server does with one job: when it starts, ends, writes the record, forgets."""

    start: float
    end: float
    outcome: JobState
    lag: float
    deleted: bool

    def look(self, at):
        if self.deleted and at >= self.start:
            return Look(Where.ABSENT, at)
        if at < self.start:
            return Look(Where.PENDING, at, position=0)
        # The job leaves the queue and enters the history at once; the message came ``lag`` earlier.
        return (
            Look(Where.RUNNING, at) if at < self.end + self.lag else Look(Where.ENDED, at, record=record(self.outcome))
        )

    def messages(self):
        if self.deleted:
            return []
        last = {
            JobState.SUCCEEDED: ExecutionSuccess(JOB),
            JobState.FAILED: ExecutionError(JOB, "1", "X", "ValueError", "bad"),
            JobState.CANCELLED: ExecutionInterrupted(JOB),
        }[self.outcome]
        middle = (self.start + self.end) / 2
        return [
            (self.start, ExecutionStart(JOB)),
            (self.start, ExecutionCached(JOB, ())),
            (middle, Executing(JOB, "1")),
            (middle, Progress(JOB, "1", 2, 5)),
            (self.end, last),
            (self.end + self.lag, Executing(JOB, None)),
        ]


servers = st.builds(
    Server,
    start=st.floats(0, 30),
    end=st.floats(0, 60),
    outcome=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]),
    lag=st.floats(0, 3),
    deleted=st.booleans(),
).map(lambda server: dataclasses.replace(server, end=server.start + server.end))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    server=servers,
    hearing=st.booleans(),
    accepted_at=st.floats(0, 2),
    fate=st.lists(st.tuples(st.sampled_from(["lost", "once", "twice"]), st.floats(0, 20)), min_size=6, max_size=6),
    slow=st.lists(st.floats(0, 2), min_size=1, max_size=8),
    drops=st.lists(st.floats(0, 60), max_size=3),
)
def test_any_loss_delay_and_duplication_ends_as_the_record_says(server, hearing, accepted_at, fate, slow, drops):
    """The shell does what the tracker wishes; the world loses, delays and doubles messages and answers late."""
    job = JobTracker(JOB, ("1", "2"), str, hearing=hearing)
    arrivals = []
    for (at, message), (kind, delay) in zip(server.messages(), fate, strict=False):
        arrivals += [(at + delay * n, message) for n in range({"lost": 0, "once": 1, "twice": 2}[kind])]
    steps = [(accepted_at, "accepted", None), *((at, "message", message) for at, message in arrivals)]
    steps += [(at, "connection", n % 2 == 0) for n, at in enumerate(drops)]
    steps.sort(key=lambda step: step[0])
    told, now, looks = [], 0.0, 0
    while not job.state.is_terminal:
        assert job.wish is not None or steps
        if steps and (job.wish is None or steps[0][0] <= job.wish.at):
            at, kind, what = steps.pop(0)
            now = max(now, at)
            if kind == "accepted":
                told += job.accepted(now)
            elif kind == "message":
                told += job.on_message(what, now)
            else:
                job.on_connection(now, hearing=what)
        else:
            now = max(now, job.wish.at)
            look = server.look(now)
            if job.wish.record_only and look.where is not Where.ENDED:
                look = Look(Where.NO_RECORD, now)
            now += slow[looks % len(slow)]
            looks += 1
            told += job.on_look(look, now)
        assert looks < 600
    expected = JobState.LOST if server.deleted else server.outcome
    assert job.state is expected
    assert [event.state for event in told if isinstance(event, Finished)] == [expected]
    assert isinstance(told[-1], Finished)
    assert sum(isinstance(event, Started) for event in told) <= 1
