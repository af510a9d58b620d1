"""One prompt on its way: against every server and network that hypothesis can think of, it runs once or we say so."""

import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyclient.wire.submission import SETTLE, Answer, Do, Outage, Step, Submission

PATIENCE = 60.0
MANY = settings(max_examples=200)

# Sixteenths of a second, so that sums are exact and limits are met as well as missed.
seconds = st.integers(0, 16 * 40).map(lambda n: n / 16)
short = st.integers(0, 16 * 4).map(lambda n: n / 16)
unit = st.floats(0, 1)


@dataclasses.dataclass(frozen=True)
class Fate:
    """What becomes of one POST: the client hears ``answer`` after ``takes``.

    ``arrives``: seconds from the answer (or its absence) to the moment when the server queues it, negative if that was
    before; ``None`` if it never does.
    """

    answer: Answer
    takes: float
    arrives: float | None = None
    retry_after: float | None = None
    spread: float = 0.0


@dataclasses.dataclass(frozen=True)
class Reading:
    """One look: when the server reads its queue, then its history, and when the client has both, in seconds each."""

    answered: bool
    queue: float
    history: float
    back: float


@dataclasses.dataclass
class World:
    """A server and the way to it. ``runs_for`` is how long a job takes until it is in the history."""

    fates: list[Fate]
    readings: list[Reading]
    keeps_ids: bool = True
    known: bool = True
    billed: bool = False
    runs_for: float = 1.0
    patience: float = PATIENCE
    now: float = 0.0
    posts: list = dataclasses.field(default_factory=list)  # when, its fate, and how many looks were before it
    looks: list = dataclasses.field(default_factory=list)
    arrivals: list = dataclasses.field(default_factory=list)
    in_time: bool = True

    def __post_init__(self):
        self._fates, self._readings = again(self.fates), again(self.readings)
        self._held = None

    def post(self):
        fate = next(self._fates)
        self.posts.append((self.now, fate, len(self.looks)))
        self.now += fate.takes
        if fate.arrives is not None:
            arrival = max(self.now + fate.arrives, self.now - fate.takes)
            self.arrivals.append(arrival)
            self._held = arrival
        return fate

    def look(self):
        """Returns what the look found; ``None`` if nobody answered."""
        reading = next(self._readings)
        asked_at = self.now
        queue = asked_at + reading.queue
        history = queue + reading.history
        self.now = history + reading.back
        found = None
        if reading.answered:
            found = self.keeps_ids and any(
                arrival <= queue < arrival + self.runs_for or arrival + self.runs_for <= history
                for arrival in self.arrivals
            )
        self.looks.append((asked_at, found))
        if found is False and self._held is not None:  # the first look that misses it
            self.in_time &= self._held <= asked_at + SETTLE
            self._held = None
        return asked_at, found

    @property
    def runs(self):
        """How often the server ran it, or will."""
        return len(self.arrivals)

    @property
    def doubts(self):
        """The POSTs that left it open."""
        return [number for number, (_, fate, _) in enumerate(self.posts) if fate.answer is Answer.DOUBTFUL]

    def drive(self, outage=None):
        """Do what the machine says, to the end. Returns the last step, and the delays of all."""
        way = Submission(self.now, patience=self.patience, outage=outage or Outage())
        step, steps = Step(Do.POST), []
        while step.do in {Do.POST, Do.LOOK}:
            steps.append(step)
            assert len(steps) < 1000
            assert step.delay >= 0
            self.now += step.delay
            if step.do is Do.POST:
                fate = self.post()
                step = way.answered(fate.answer, self.now, retry_after=fate.retry_after, spread=fate.spread)
            else:
                asked_at, found = self.look()
                step = way.looked(found, asked_at, self.now, keeps_ids=self.known, billed=self.billed)
        return step, steps


def again(items):
    """The items, and the last of them for ever."""
    return itertools.chain(items, itertools.repeat(items[-1]))


accepted = st.builds(Fate, st.just(Answer.ACCEPTED), seconds, seconds.map(lambda n: -n))
lost = st.builds(Fate, st.just(Answer.DOUBTFUL), seconds, seconds.map(lambda n: -n))
gone = st.builds(Fate, st.just(Answer.DOUBTFUL), seconds)
held = st.builds(Fate, st.just(Answer.DOUBTFUL), seconds, short | seconds)
refused = st.builds(Fate, st.just(Answer.REFUSED), seconds)
unsent = st.builds(Fate, st.just(Answer.NEVER_SENT), seconds, spread=unit)
throttled = st.builds(
    Fate,
    st.just(Answer.THROTTLED),
    seconds,
    retry_after=st.none() | seconds | st.floats(0, 1e9),
    spread=unit,
)
fates = st.lists(st.one_of(accepted, lost, gone, held, refused, unsent, throttled, held, gone), min_size=1, max_size=12)
readings = st.lists(st.builds(Reading, st.booleans(), short, short, short), min_size=1, max_size=8)
servers = st.sampled_from([(True, True), (True, True), (True, False), (False, False)])  # keeps ids, is known to


@st.composite
def worlds(draw):
    keeps, known = draw(servers)
    billed = draw(st.sampled_from([False, False, True]))
    return World(
        draw(fates), draw(readings), keeps, known, billed, draw(short), draw(st.sampled_from([0.0, 2.0, 60.0]))
    )


@MANY
@given(worlds())
def test_it_runs_at_most_once_unless_a_request_was_held_beyond_all_looks(world):
    world.drive()
    assert world.runs <= (1 if world.in_time else 2)


@MANY
@given(worlds())
def test_what_it_says_is_true(world):
    step, _ = world.drive()
    _, last, _ = world.posts[-1]
    match step.do:
        case Do.ACCEPT:
            assert last.answer is Answer.ACCEPTED
        case Do.ADOPT:
            assert world.looks[-1][1]
        case Do.REFUSE:
            assert last.answer in {Answer.REFUSED, Answer.THROTTLED}
        case Do.NOT_QUEUED:
            assert last.answer is Answer.NEVER_SENT or len(world.doubts) == 2
    if step.do in {Do.ACCEPT, Do.ADOPT}:
        assert world.runs >= 1
    elif step.do in {Do.REFUSE, Do.NOT_QUEUED} and world.in_time:
        assert world.runs == 0


@MANY
@given(worlds())
def test_it_is_unknown_only_if_nobody_could_tell(world):
    step, _ = world.drive()
    if step.do is not Do.UNKNOWN:
        return
    assert world.posts[-1][1].answer is Answer.DOUBTFUL
    assert all(fate.answer is not Answer.ACCEPTED for _, fate, _ in world.posts)
    assert not any(found for _, found in world.looks)
    if world.looks[-1][1] is None:
        posted_at, fate, _ = world.posts[-1]
        assert world.now >= posted_at + fate.takes + world.patience
    else:
        assert world.billed or not world.known


@MANY
@given(worlds())
def test_where_the_record_can_be_read_the_outcome_is_known(world):
    world.readings = [dataclasses.replace(reading, answered=True) for reading in world.readings]
    world.__post_init__()
    step, _ = world.drive()
    if world.known and not world.billed:
        assert step.do is not Do.UNKNOWN
    if step.do is Do.UNKNOWN and world.keeps_ids and world.in_time:
        assert world.runs == 0


@MANY
@given(worlds())
def test_after_a_doubt_it_is_sent_once_more_at_most_and_only_where_that_costs_nothing(world):
    world.drive()
    certain = {Answer.NEVER_SENT, Answer.THROTTLED}
    assert sum(fate.answer not in certain for _, fate, _ in world.posts) <= 2
    assert len(world.doubts) <= 2
    if world.billed or not world.known:
        assert world.doubts in ([], [len(world.posts) - 1])


@MANY
@given(worlds())
def test_it_is_sent_again_only_after_two_looks_that_missed_it(world):
    world.drive()
    looks_before = [looks for _, _, looks in world.posts]
    for number in world.doubts:
        if number + 1 < len(world.posts):
            between = world.looks[looks_before[number] : looks_before[number + 1]]
            missed = [asked_at for asked_at, found in between if found is False]
            assert missed[-1] - missed[0] >= SETTLE


@MANY
@given(worlds())
def test_it_comes_to_an_end(world):
    _, steps = world.drive()
    answers = [fate.answer for _, fate, _ in world.posts]
    assert answers.count(Answer.NEVER_SENT) <= 5
    assert answers.count(Answer.THROTTLED) <= 6
    assert len(world.looks) <= 2 * (world.patience + 4)
    assert sum(step.delay for step in steps if step.do is Do.LOOK) <= 2 * (world.patience + 1 + SETTLE)
    assert sum(step.delay for step in steps if step.do is Do.POST) <= 2 * world.patience + 7.5


@MANY
@given(worlds())
def test_waits_are_what_was_asked_for_within_bounds(world):
    _, steps = world.drive()
    posts = [step for step in steps if step.do is Do.POST]
    deadline = world.patience
    for (began, fate, _), following in itertools.zip_longest(world.posts, posts[1:]):
        ended = began + fate.takes
        if fate.answer is Answer.DOUBTFUL:
            deadline = ended + world.patience
        if fate.answer is Answer.THROTTLED and following is not None:
            assert fate.retry_after <= following.delay <= 120
            assert ended + following.delay <= deadline + 1e-9


@pytest.mark.parametrize("late", [0.0, SETTLE])
def test_a_request_that_was_held_in_a_proxy_is_adopted(late):
    world = World([Fate(Answer.DOUBTFUL, 1.0, late)], [Reading(True, 0.0, 0.0, 0.0)])
    step, steps = world.drive()
    assert step.do is Do.ADOPT
    assert [s.do for s in steps] == ([Do.POST, Do.LOOK] if late == 0 else [Do.POST, Do.LOOK, Do.LOOK])
    assert world.runs == 1


def test_one_that_was_held_longer_than_any_look_can_wait_runs_twice():
    """The limit of what can be promised: nobody can tell such a request from one that is gone."""
    fates = [Fate(Answer.DOUBTFUL, 1.0, SETTLE + 0.1), Fate(Answer.ACCEPTED, 0.0, 0.0)]
    world = World(fates, [Reading(True, 0.0, 0.0, 0.0)])
    step, _ = world.drive()
    assert (step.do, world.runs, world.in_time) == (Do.ACCEPT, 2, False)


def test_looks_that_fail_do_not_shorten_the_wait():
    readings = [Reading(True, 0, 0, 0), Reading(False, 0, 0, 0), Reading(False, 0, 0, 0), Reading(True, 0, 0, 0)]
    world = World([Fate(Answer.DOUBTFUL, 1.0), Fate(Answer.ACCEPTED, 0.0, 0.0)], readings)
    step, _ = world.drive()
    assert [(asked, found) for asked, found in world.looks] == [(1, False), (3, None), (4, None), (5, False)]
    assert (step.do, len(world.posts)) == (Do.ACCEPT, 2)


def test_if_nobody_ever_answers_it_is_unknown_at_the_deadline():
    world = World([Fate(Answer.DOUBTFUL, 30.0, -10.0)], [Reading(False, 0, 0, 0)])
    step, _ = world.drive()
    assert (step.do, world.now, len(world.posts)) == (Do.UNKNOWN, 30 + PATIENCE, 1)


# What was never sent


def never_sent(outage, at=0.0, takes=0.0, spread=1.0):
    """A submission to an instance that is out of reach: its last step, its delays, and when it ended."""
    world = World([Fate(Answer.NEVER_SENT, takes, spread=spread)], [Reading(False, 0, 0, 0)], now=at)
    step, steps = world.drive(outage)
    assert (world.looks, world.runs) == ([], 0)
    return step.do, [step.delay for step in steps[1:]], world.now


def test_what_was_never_sent_is_sent_again_a_few_times():
    assert never_sent(Outage()) == (Do.NOT_QUEUED, [0.5, 1.0, 2.0, 4.0], 7.5)


@given(unit)
def test_those_who_fail_together_do_not_come_back_together(spread):
    _, delays, _ = never_sent(Outage(), spread=spread)
    assert len(delays) == 4
    for delay, whole in zip(delays, [0.5, 1.0, 2.0, 4.0], strict=True):
        assert delay == whole * (0.5 + spread / 2)


def test_after_a_while_an_outage_is_believed_and_everything_fails_at_once():
    outage = Outage()
    assert never_sent(outage)[2] == 7.5
    assert never_sent(outage, at=7.5) == (Do.NOT_QUEUED, [0.5, 1.0], 9.0)
    assert never_sent(outage, at=10.0) == (Do.NOT_QUEUED, [], 10.0)
    assert never_sent(outage, at=39.0) == (Do.NOT_QUEUED, [], 39.0)
    assert never_sent(outage, at=70.0) == (Do.NOT_QUEUED, [0.5, 1.0, 2.0, 4.0], 77.5)


def test_many_at_once_share_the_time_and_not_the_number_of_tries():
    outage = Outage()
    assert {len(never_sent(outage)[1]) for _ in range(100)} == {4}


def test_connections_that_take_their_time_to_fail_are_tried_twice():
    assert never_sent(Outage(), takes=10.0) == (Do.NOT_QUEUED, [0.5], 20.5)


@pytest.mark.parametrize("answer", [Answer.ACCEPTED, Answer.REFUSED, Answer.THROTTLED, Answer.DOUBTFUL])
def test_any_answer_ends_an_outage(answer):
    outage = Outage()
    never_sent(outage)
    Submission(8.0, patience=PATIENCE, outage=outage).answered(answer, 8.0)
    assert len(never_sent(outage, at=9.0)[1]) == 4


@MANY
@given(st.lists(st.tuples(seconds, st.none() | seconds), min_size=1, max_size=30))
def test_an_outage_lasts_from_the_first_failure_to_an_answer_or_to_a_long_pause(course):
    """``course``: pauses, and behind each a failure (``None``) or an answer."""
    outage, now, since, last = Outage(), 0.0, None, -math.inf
    for pause, answer in course:
        now += pause
        if answer is not None:
            outage.ended()
            since = None
            continue
        if since is None or now - last > 30:
            since = now
        last = now
        assert outage.failed(now) == now - since


# What an instance asks to wait for


@pytest.mark.parametrize("asked", [None, 60.1, 99999.0, math.inf])
def test_a_wait_that_is_too_long_is_refused_at_once(asked):
    way = Submission(0.0, patience=PATIENCE, outage=Outage())
    assert way.answered(Answer.THROTTLED, 0.0, retry_after=asked) == Step(Do.REFUSE)


def test_no_wait_is_longer_than_two_minutes_whatever_the_patience():
    way = Submission(0.0, patience=1e6, outage=Outage())
    assert way.answered(Answer.THROTTLED, 0.0, retry_after=120.0, spread=1.0) == Step(Do.POST, 120.0)
    assert way.answered(Answer.THROTTLED, 0.0, retry_after=120.1) == Step(Do.REFUSE)


def test_nobody_is_asked_to_wait_more_than_five_times():
    way = Submission(0.0, patience=PATIENCE, outage=Outage())
    waits = [way.answered(Answer.THROTTLED, 0.0, retry_after=0.0) for _ in range(6)]
    assert waits == [Step(Do.POST, 0.1)] * 5 + [Step(Do.REFUSE)]


@given(st.floats(0.1, 50), unit)
def test_nobody_comes_back_before_the_time_nor_long_after_it(asked, spread):
    way = Submission(0.0, patience=PATIENCE, outage=Outage())
    step = way.answered(Answer.THROTTLED, 0.0, retry_after=asked, spread=spread)
    assert asked <= step.delay <= asked * 1.2 + 1e-9
