"""What a client's journal learns of how its jobs end, whoever follows them."""

import gc

import pytest

from comfyclient.following import Audience, Following
from comfyclient.journal import Journal, Phase
from comfyclient.recording import Recording
from comfyclient.wire.lifecycle import JobTracker, Look, Where
from comfyclient.wire.messages import ExecutionError
from comfyclient.wire.records import HistoryRecord, JobState

JOB = "89bfa70e-366e-49b1-801c-5461576a5d92"


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path) as opened:
        yield opened


def followed():
    """A job that was accepted."""
    tracker = JobTracker(JOB, ("1",), str, hearing=True)
    tracker.accepted(0.0)
    return Following(tracker, Audience(), own=True)


def end(following, state):
    """The instance's record says how it ended."""
    error = ExecutionError(JOB, "1", "KSampler", "ValueError", "bad") if state is JobState.FAILED else None
    record = HistoryRecord(JOB, state, error, (), 1, 2, (), {}, {})
    following.tell(following.tracker.on_look(Look(Where.ENDED, 1.0, record=record), 1.0))


async def submitted(recording, following):
    async def post():
        return None

    await recording.submit(following, post, url="http://x", client_id="c", body=b"{}", seeds={})


@pytest.mark.parametrize("first", [True, False], ids=["told later", "ended before"])
def test_who_wants_to_know_the_end_is_told_once(first):
    following, told = followed(), []
    if first:
        following.at_end(told.append)
        assert told == []
    end(following, JobState.SUCCEEDED)
    if not first:
        following.at_end(told.append)
    end(following, JobState.SUCCEEDED)
    assert told == [following]


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
async def test_the_end_is_written_and_what_nobody_has_is_not_kept(journal, state):
    recording, following = Recording(journal), followed()
    await submitted(recording, following)
    assert recording.job(JOB) is not None
    end(following, state)
    assert (recording.job(JOB) is not None) is (state is JobState.SUCCEEDED)  # its outputs may still be saved
    del following
    gc.collect()
    assert recording.job(JOB) is None
    await recording.close()
    assert (journal.entry(JOB).phase, journal.entry(JOB).state) == (Phase.ENDED, str(state))


async def test_who_wants_no_outputs_is_done_with_a_job_at_its_end(journal):
    recording, following = Recording(journal, wanted=False), followed()
    await submitted(recording, following)
    end(following, JobState.SUCCEEDED)
    assert recording.job(JOB) is None
    await recording.close()
    assert journal.entry(JOB).phase is Phase.SAVED


async def test_a_job_that_ended_before_its_answer_came_is_known_to_whoever_follows_it(journal):
    recording, following = Recording(journal), followed()
    end(following, JobState.SUCCEEDED)
    await submitted(recording, following)
    assert recording.job(JOB) is not None
    await recording.job(JOB).saved()
    assert journal.entry(JOB).phase is Phase.SAVED
    await recording.close()


async def test_a_job_of_which_nobody_knew_the_end_is_followed_again(journal):
    """The instance was away too long; when it is back, somebody asks for the job."""
    recording, first = Recording(journal), followed()
    await submitted(recording, first)
    first.tell(first.tracker.give_up("nobody answers"))
    await recording.write(lambda: None)
    assert journal.entry(JOB).phase is Phase.ACCEPTED
    second = followed()
    recording.follow(second)
    end(second, JobState.FAILED)
    await recording.close()
    assert (journal.entry(JOB).phase, journal.entry(JOB).state) == (Phase.ENDED, "failed")
