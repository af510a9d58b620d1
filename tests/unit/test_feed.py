"""A listener's queue: slow or fast, it misses nothing that counts and holds nothing that does not."""

import asyncio

import pytest

from comfyclient.feed import Feed
from comfyclient.wire.events import (
    Finished,
    NodeProgress,
    NodeStarted,
    OutputReady,
    Preview,
    Queued,
    Resubmitted,
    Stalled,
    Started,
)
from comfyclient.wire.outputs import OutputRef
from comfyclient.wire.records import JobState


def progress(node, value):
    return NodeProgress("job", node, "t", value, 100, value / 100)


async def drained(feed):
    return [event async for event in feed.drain()]


async def test_of_what_shows_progress_the_latest_is_kept():
    feed = Feed(previews=True)
    feed.put(Queued("job", 5))
    feed.put(Queued("job", 4))
    feed.put(Started("job"))
    for value in range(1000):
        feed.put(progress("1", value))
        feed.put(progress("2", value))
        feed.put(Preview("job", "1", bytes([value % 256]) * 1000, "image/jpeg"))
    feed.put(NodeStarted("job", "3", "t"))
    feed.put(progress("1", 1000))
    feed.put(Finished("job", JobState.SUCCEEDED))
    assert await drained(feed) == [
        Queued("job", 4),
        Started("job"),
        progress("1", 1000),
        progress("2", 999),
        Preview("job", "1", bytes([999 % 256]) * 1000, "image/jpeg"),
        NodeStarted("job", "3", "t"),
        Finished("job", JobState.SUCCEEDED),
    ]


async def test_nothing_is_put_before_a_change_of_state_that_came_before_it():
    sent = [
        Queued("a", 3),
        Stalled("a", 600.0, "nothing moves"),
        Queued("a", 2),
        Started("a"),
        progress("1", 9),
        Resubmitted("b", "a"),
        Queued("b", 1),
        Started("b"),
        progress("1", 1),
        Finished("b", JobState.SUCCEEDED),
    ]
    feed = Feed(previews=False)
    for event in sent:
        feed.put(event)
    assert await drained(feed) == sent


async def test_what_is_read_lets_no_later_one_stand_twice():
    feed = Feed(previews=False)
    for event in (Queued("a", 3), Stalled("a", 600.0, "nothing moves"), Queued("a", 2)):
        feed.put(event)
    events = feed.drain()
    assert [await anext(events), await anext(events)] == [Queued("a", 3), Stalled("a", 600.0, "nothing moves")]
    feed.put(Queued("a", 1))
    feed.put(Finished("a", JobState.SUCCEEDED))
    assert [event async for event in events] == [Queued("a", 1), Finished("a", JobState.SUCCEEDED)]


async def test_a_listener_that_keeps_up_gets_everything():
    feed, told = Feed(previews=True), []

    async def listen():
        async for event in feed.drain():
            told.append(event)  # noqa: PERF401 - one by one is the point

    task = asyncio.create_task(listen())
    sent = [Queued("job", 1), Queued("job", 0), progress("1", 1), progress("1", 2), Finished("job", JobState.LOST)]
    for event in sent:
        feed.put(event)
        await asyncio.sleep(0)
    await task
    assert told == sent


async def test_pictures_only_for_those_who_want_them():
    feed = Feed(previews=False)
    feed.put(Preview("job", "1", b"x", "image/png"))
    feed.put(Finished("job", JobState.SUCCEEDED))
    assert len(await drained(feed)) == 1


async def test_memory_is_bounded_and_the_end_still_comes(monkeypatch):
    monkeypatch.setattr("comfyclient.feed._MOST", 10)
    feed = Feed(previews=True)
    for n in range(100):
        feed.put(OutputReady("job", str(n), "t", ()))
    feed.put(Finished("job", JobState.SUCCEEDED))
    told = await drained(feed)
    assert len(told) == 11
    assert isinstance(told[-1], Finished)


@pytest.mark.parametrize(("files", "length"), [(1000, 10), (1, 1_000_000)])
async def test_files_count_and_so_do_their_names(files, length):
    feed = Feed(previews=True)
    for n in range(1000):
        refs = tuple(OutputRef("1", "images", "x" * length, index=index) for index in range(files))
        feed.put(OutputReady("job", str(n), "t", refs))
    feed.put(Started("job"))
    feed.put(Finished("job", JobState.SUCCEEDED))
    told = await drained(feed)
    assert len(told) <= 30
    assert told[-2:] == [Started("job"), Finished("job", JobState.SUCCEEDED)]


async def test_who_catches_up_gets_everything_again():
    feed = Feed(previews=True)
    events = feed.drain()
    for n in range(100):
        sent = OutputReady("job", str(n), "t", tuple(OutputRef("1", "images", "x") for _ in range(1000)))
        feed.put(sent)
        assert await anext(events) is sent
