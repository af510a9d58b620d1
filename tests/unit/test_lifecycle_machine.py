"""One job against a model of a server that does what servers do, with a network between them that does its worst.

Looks are answered late and out of order, messages are lost, doubled and late, sockets drop, the server restarts,
forgets and dies; and whatever happens, the job ends once, as the server's record says.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from comfyclient.wire.events import Finished, NodeProgress, Queued, Resubmitted, Stalled, Started
from comfyclient.wire.lifecycle import RECORD_LAG, JobTracker, Look, Where
from comfyclient.wire.messages import (
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    Progress,
)
from comfyclient.wire.records import HistoryRecord, JobState

FOREIGN = "somebody else's"
STALL = 40.0


class Server:
    """One worker, a queue, a history: what ComfyUI is to a client. ``said`` are the messages on their way."""

    def __init__(self):
        self.pending, self.running, self.history = [], [], {}
        self.said = []
        self.alive = True
        self.told_end = False

    def knows(self, prompt_id):
        return prompt_id in [*self.pending, *self.running, *self.history]

    def put(self, prompt_id):
        self.pending.append(prompt_id)

    def say(self, *messages):
        self.said += [message for message in messages if message.prompt_id != FOREIGN]

    def step(self, outcome):
        """The next thing that the worker does."""
        if not self.alive:
            return
        if not self.running:
            if self.pending:
                job = self.pending.pop(0)
                self.running.append(job)
                self.told_end = False
                self.say(ExecutionStart(job), ExecutionCached(job, ()), Executing(job, "1"), Progress(job, "1", 1, 4))
        elif not self.told_end:
            (job,) = self.running
            self.told_end = outcome
            self.say({
                JobState.SUCCEEDED: ExecutionSuccess(job),
                JobState.FAILED: ExecutionError(job, "1", "X", "ValueError", "bad"),
                JobState.CANCELLED: ExecutionInterrupted(job),
            }[outcome])  # fmt: skip
        else:
            (job,) = self.running
            error = ExecutionError(job, "1", "X", "ValueError", "bad") if self.told_end is JobState.FAILED else None
            self.history[job] = HistoryRecord(job, self.told_end, error, (), 1, 2, (), {}, {})
            self.running.clear()
            self.say(Executing(job, None))

    def where(self, prompt_id):
        """What GET /queue says; ``None`` if it is not there."""
        if prompt_id in self.running:
            return Where.RUNNING, None
        if prompt_id in self.pending:
            return Where.PENDING, self.pending.index(prompt_id) + len(self.running)
        return None


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.server = Server()
        self.number = 1
        self.told = []
        self.looks = []
        self.unwanted = False
        self.arrived = set()
        self.listening = True
        self.heard_at = 0.0
        self.forgotten = set()  # what the server has known and knows no more
        self.final = None

    @property
    def id(self):
        return self.job.prompt_id

    @initialize(resubmit=st.booleans(), foreign=st.sampled_from([0, 0, 1]), early=st.booleans())
    def submit(self, resubmit, foreign, early):
        self.job = JobTracker("job 1", ("1", "2"), str, hearing=True, stall_timeout=STALL, resubmit=resubmit)
        for _ in range(foreign):
            self.server.put(FOREIGN)
        if early:
            self.arrive()
            self.accept()

    # The client's side

    @precondition(lambda self: self.id not in self.arrived)
    @rule()
    def arrive(self):
        """Its submission reaches the server, once."""
        self.arrived.add(self.id)
        self.server.put(self.id)

    def feed(self, events):
        self.told += events
        if self.job.lost:
            assert not self.unwanted
            assert self.id in self.forgotten
            self.number += 1
            self.told += self.job.resubmitted(f"job {self.number}")
            self.looks.clear()  # they were for the other id
            self.server.said.clear()

    @precondition(lambda self: self.id in self.arrived and self.job._accepted_at is None)
    @rule()
    def accept(self):
        self.feed(self.job.accepted(self.now))

    @rule(seconds=st.sampled_from([0.01, 0.3, 0.6, 2.0, 11.0, 50.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(record_only=st.booleans())
    def ask(self, record_only):
        """A look is sent, and the queue read."""
        place = None if record_only else self.server.where(self.id)
        self.looks.append((self.now, record_only, place, tuple(self.server.running)))

    @precondition(lambda self: self.looks)
    @rule(choice=st.randoms(use_true_random=False))
    def answer(self, choice):
        """Any of the looks that are under way comes to its end: what was not in the queue is sought in the history."""
        asked_at, record_only, place, running = self.looks.pop(choice.randrange(len(self.looks)))
        if place is not None:
            look = Look(place[0], asked_at, position=place[1], running=running)
        elif self.id in self.server.history:
            look = Look(Where.ENDED, asked_at, record=self.server.history[self.id])
        else:
            look = Look(Where.NO_RECORD if record_only else Where.ABSENT, asked_at)
        self.feed(self.job.on_look(look, self.now))

    def take_off(self):
        """This client's own command, at whatever moment."""
        if self.id in self.server.pending:
            self.server.pending.remove(self.id)
            self.forgotten.add(self.id)
        self.unwanted = True
        self.job.unwanted()
        self.job.dequeued(self.now)

    # The network

    @precondition(lambda self: self.server.said)
    @rule(fate=st.sampled_from(["comes", "comes", "comes twice", "is lost"]), place=st.sampled_from([0, 0, 0, 1, 2]))
    def message(self, fate, place):
        message = self.server.said.pop(min(place, len(self.server.said) - 1))
        if fate != "is lost" and self.listening and message.prompt_id == self.id:
            for _ in range(2 if fate == "comes twice" else 1):
                self.heard_at = self.now
                self.feed(self.job.on_message(message, self.now))

    def socket(self, *, up):
        self.listening = up
        self.server.said.clear()
        self.job.on_connection(self.now, hearing=up)

    # The server's side

    @rule(outcome=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]), steps=st.integers(1, 3))
    def work(self, outcome, steps):
        for _ in range(steps):
            self.server.step(outcome)

    def somebody_deletes_it(self):
        if self.id in self.server.pending:
            self.server.pending.remove(self.id)
            self.forgotten.add(self.id)

    def restart(self):
        known = [*self.server.pending, *self.server.running, *self.server.history]
        self.forgotten.update(prompt_id for prompt_id in known if prompt_id != FOREIGN)
        self.server.__init__()

    def history_is_cleared(self):
        self.forgotten.update(self.server.history)
        self.server.history.clear()

    def worker_dies(self):
        self.server.alive = False

    @rule(what=st.sampled_from(["hear", "hear", "deaf", "cancel", "cancel", "delete", "restart", "clear", "die"]))
    def trouble(self, what):
        """One rule for all of it, so that most of what happens is ordinary."""
        if what in {"hear", "deaf"}:
            self.socket(up=what == "hear")
        else:
            {
                "cancel": self.take_off,
                "delete": self.somebody_deletes_it,
                "restart": self.restart,
                "clear": self.history_is_cleared,
                "die": self.worker_dies,
            }[what]()

    # What must hold

    @invariant()
    def it_ends_once_and_as_the_record_says(self):
        if not hasattr(self, "job"):
            return
        ends = [event for event in self.told if isinstance(event, Finished)]
        if not self.job.state.is_terminal:
            assert ends == []
            return
        assert [event.state for event in ends] == [self.job.state]
        assert self.told[-1] is ends[0]
        if self.final is None:
            self.final = self.job.state
            self.judge()
        assert self.job.state is self.final
        assert self.job.wish is None

    def judge(self):
        """The end has just come: is it true?"""
        state = self.job.state
        if self.job.record is not None:
            assert state is self.job.record.state
        elif state is JobState.CANCELLED:
            assert self.unwanted
            assert self.id in self.forgotten
            assert not self.has_run()
        else:
            assert state is JobState.LOST
            assert self.id in self.forgotten
            assert not self.server.knows(self.id)

    def has_run(self):
        """Whether the client was told that it ran, as it is known now."""
        kinds = [type(event) for event in self.told]
        return Started in kinds[kinds.index(Resubmitted) if Resubmitted in kinds else 0 :]

    @invariant()
    def somebody_looks_until_then(self):
        if hasattr(self, "job") and not self.job.state.is_terminal and self.job.claimed is not JobState.SUBMITTING:
            assert self.job.wish is not None or self.job._accepted_at is None

    @invariant()
    def what_is_told_makes_sense(self):
        """States come in order, progress never goes back, and nothing stalls while something was heard."""
        if not hasattr(self, "job"):
            return
        rank, share = 0, 0.0
        for event in self.told:
            if isinstance(event, Resubmitted):
                rank, share = 0, 0.0
            elif isinstance(event, Queued):
                assert rank <= 1
                rank = 1
            elif isinstance(event, Started):
                rank = 2
            elif isinstance(event, NodeProgress):
                assert event.overall >= share
                share = event.overall
            elif isinstance(event, Stalled):
                assert event.since >= STALL
        assert sum(isinstance(event, Resubmitted) for event in self.told) <= 1
        if self.job.state is JobState.STALLED:
            assert self.now - self.heard_at >= STALL or self.job.claimed is JobState.PENDING

    def teardown(self):
        """The faults are over, and the worker alive: it comes to an end, by the looks that it wishes alone."""
        if not hasattr(self, "job"):
            return
        self.looks.clear()
        self.server.alive = True
        steps = 0
        while not self.job.state.is_terminal:
            if self.job._accepted_at is None:
                if self.id not in self.arrived:
                    self.arrive()
                self.accept()
            assert self.job.wish is not None
            self.now = max(self.now, self.job.wish.at)
            self.ask(self.job.wish.record_only)
            self.now += 0.05
            self.answer(_First())
            if self.now > STALL:
                self.server.step(JobState.SUCCEEDED)
            self.now += 1.0
            steps += 1
            assert steps < 400 + RECORD_LAG * 20
        self.it_ends_once_and_as_the_record_says()
        self.what_is_told_makes_sense()


class _First:
    def randrange(self, size):
        return 0


Machine.TestCase.settings = settings(max_examples=400, stateful_step_count=50, deadline=None)
TestMachine = Machine.TestCase
