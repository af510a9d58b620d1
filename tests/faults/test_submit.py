"""Submitting a prompt while something is wrong with the way: it runs exactly once, or not at all and we say so.

How often it ran is counted twice: by the proxy, and by the server, which numbers what it gets.
"""

import asyncio
import contextlib
import json
import logging
import random
import uuid
from email.utils import formatdate

import pytest

from comfyclient import (
    AuthError,
    ComfyClient,
    ConfigError,
    FormLogin,
    InstanceUnavailable,
    JobState,
    OutcomeUnknown,
    Problem,
    Prompt,
    PromptRejected,
    ProtocolError,
)
from comfyclient._transport import NeverSentError

from ..contract.prompts import image, picture, save, slow  # noqa: TID252
from ..login.servers import LoginForm  # noqa: TID252
from .http_toxics import Answer, AnswerAfter, CorruptBody, CutRequest, CutResponse, Lose, Stale, gateway_error
from .proxy import FaultProxy
from .submitting import Clock, Tally, WithoutId, WithoutIdAndLost, following, held_up, tasks
from .toxics import ResetPeer, Timeout

PROMPT = ("POST", "/prompt")
QUEUE = ("GET", "/queue")
PAGE = {"Content-Type": "text/html"}
OLD = json.dumps({"system": {"comfyui_version": "0.3.30", "python_version": "3", "os": "x"}, "devices": []})


@pytest.fixture
def clock(monkeypatch):
    fake = Clock()
    fake.install(monkeypatch)
    return fake


@pytest.fixture
async def tally(server_url):
    async with Tally(server_url) as counting:
        yield counting


@pytest.fixture
async def comfy(faults):
    async with ComfyClient(faults.url) as client:
        yield client
        assert following(client) == []
    assert tasks() == []


async def outputs(job):
    return (await job.result(60)).outputs


def ids(toxic):
    return repr(toxic)


# The server has it, and the answer does not come


@pytest.mark.parametrize(
    "toxic",
    [
        Lose("reset"),
        Lose("close"),
        AnswerAfter(500, {"Content-Type": "text/plain"}, "500 Internal Server Error"),
        *map(gateway_error, (502, 503, 504, 520, 524)),
        AnswerAfter(200, PAGE, "<html>Please log in.</html>"),
        AnswerAfter(200, {"Content-Type": "application/json"}, '{"exec_info": {"queue_remaining": 0}}'),
        AnswerAfter(raw=b"SSH-2.0-OpenSSH_9.2\r\n", then="close"),
        CutResponse(),
        CutResponse(unframed=True),
    ],
    ids=ids,
)
async def test_what_was_queued_is_found_there_and_not_sent_again(comfy, faults, tally, clock, toxic):
    async with held_up(comfy, slow()):
        faults.on(*PROMPT, toxic)
        job = await comfy.submit(picture())
        assert job.state is JobState.PENDING
        assert await tally.entries(job.id) == 1
    assert await outputs(job)
    assert [post.prompt_id for post in faults.book.posts][1:] == [job.id]
    assert faults.book.forwarded(job.id) == 1
    assert await tally.received() == 2
    assert clock.waits == []


async def test_it_is_found_as_well_when_it_has_ended_by_then(faults, tally, clock):
    faults.on("GET", "/ws", Answer(403), times=None)
    faults.on(*PROMPT, Lose())
    ended = asyncio.Event()

    async def first_look_fails():
        while not await tally.entries(faults.book.posts[0].prompt_id):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0)
        ended.set()

    faults.on(*QUEUE, Answer(502))
    clock.meanwhile[0] = first_look_fails
    async with ComfyClient(faults.url, poll_interval=0.05) as comfy:
        assert await outputs(await comfy.submit(picture()))
    assert ended.is_set()
    assert await tally.received() == 1


async def test_an_answer_that_is_waited_for_too_long(faults, tally, clock):
    faults.on(*PROMPT, Lose("hang"))
    async with ComfyClient(faults.url, timeout=1.0) as comfy:
        assert await outputs(await comfy.submit(picture()))
    assert await tally.received() == 1


@pytest.mark.parametrize("before", [0, 1])
async def test_an_answer_with_another_id_is_not_believed_if_the_server_has_kept_ours(
    comfy, faults, tally, clock, before
):
    """``before``: how many jobs the server had kept the ids of, when it gave somebody else's answer."""
    for _ in range(before):
        await outputs(await comfy.submit(picture()))
    body = json.dumps({"prompt_id": str(uuid.uuid4()), "number": 1, "node_errors": {}})
    faults.on(*PROMPT, AnswerAfter(200, {"Content-Type": "application/json"}, body))
    job = await comfy.submit(picture())
    assert job.id == faults.book.posts[-1].prompt_id
    assert await outputs(job)
    assert await tally.received() == 1 + before


async def test_nor_if_the_record_cannot_be_read_at_first(comfy, faults, tally, clock):
    for _ in range(2):
        body = json.dumps({"prompt_id": str(uuid.uuid4()), "number": 1, "node_errors": {}})
        faults.on(*PROMPT, AnswerAfter(200, {"Content-Type": "application/json"}, body))
        faults.on(*QUEUE, Answer(502))
        job = await comfy.submit(picture())
        assert job.id == faults.book.posts[-1].prompt_id
        assert await outputs(job)
    assert await tally.received() == len(faults.book.posts) == 2


async def test_nor_is_one_that_begins_to_choose_ids_asked_twice(comfy, faults, tally, clock):
    await outputs(await comfy.submit(picture()))
    faults.on(*PROMPT, WithoutId())
    with pytest.raises(OutcomeUnknown, match="was not sent again"):
        await comfy.submit(picture())
    assert len(faults.book.posts) == 2
    assert await tally.received() == 2


# Nobody knows whether the server has it: it has not


@pytest.mark.parametrize(
    "toxic",
    [
        CutRequest(),
        CutRequest(0.5, "close"),
        CutRequest(0),
        ResetPeer(),
        Answer(500),
        Answer(502, PAGE, "<html>bad gateway"),
        Answer(504),
        Answer(524, PAGE, "<html>A timeout occurred"),
        Answer(200, {"Content-Type": "application/json"}, '{"exec_info": {"queue_remaining": 0}}'),
    ],
    ids=ids,
)
async def test_what_is_missed_twice_is_sent_once_more(comfy, faults, tally, clock, toxic):
    faults.on(*PROMPT, toxic)
    job = await comfy.submit(picture())
    assert await outputs(job)
    assert {post.prompt_id for post in faults.book.posts} <= {job.id, None}
    assert len(faults.book.posts) == 2
    assert faults.book.forwarded(job.id) == 1
    assert (await tally.entries(job.id), await tally.received()) == (1, 1)
    assert clock.waits == [2.0]


@pytest.mark.parametrize("toxic", [CutRequest(), Answer(502), Answer(302, {"Location": "/x"})], ids=ids)
async def test_it_is_sent_no_third_time(comfy, faults, tally, clock, toxic):
    faults.on(*PROMPT, Answer(502))
    faults.on(*PROMPT, toxic, times=None)
    with pytest.raises((InstanceUnavailable, ProtocolError)):
        await comfy.submit(picture())
    assert len(faults.book.posts) == 2
    assert await tally.received() == 0


async def test_a_connection_that_the_server_closed_while_it_was_idle(comfy, faults, tally, clock):
    await comfy.info()
    faults.on(*PROMPT, Stale("close"))
    job = await comfy.submit(picture())
    assert await outputs(job)
    assert [str(fault) for fault in faults.log] == ["POST /prompt no. 1 on connection 1: Stale(how='close')"]
    assert faults.book.forwarded(job.id) == 1
    assert await tally.received() == 1


# It comes late


@pytest.mark.parametrize("after", [0, 1])
async def test_a_request_that_a_proxy_held_back_is_found_when_it_comes(comfy, faults, tally, clock, after):
    """``after``: how many looks have missed it by then."""
    faults.on(*PROMPT, Answer(504))
    if after == 0:
        faults.on(*QUEUE, Answer(502))

    async def comes():
        await tally.send(faults.book.posts[0].body)

    clock.meanwhile[0] = comes
    job = await comfy.submit(picture())
    assert job.id == faults.book.posts[0].prompt_id
    assert await outputs(job)
    assert len(faults.book.posts) == 1
    assert (await tally.entries(job.id), await tally.received()) == (1, 1)


def comes_late(comfy, faults, tally):
    """What a proxy held back arrives, and the socket tells that it runs."""

    async def happens():
        (job,) = comfy._watcher._open.values()
        await tally.send(faults.book.posts[0].body)
        while not job.tracker.known:  # noqa: ASYNC110 - there is nothing to wait on
            await asyncio.sleep(0)

    return happens


async def test_what_the_socket_tells_of_needs_no_look(comfy, faults, tally, clock):
    faults.on(*PROMPT, Answer(504))
    faults.on(*QUEUE, Answer(502), nth=2, times=None)
    clock.meanwhile[0] = comes_late(comfy, faults, tally)
    assert await outputs(await comfy.submit(picture()))
    assert len(faults.book.posts) == 1
    assert await tally.received() == 1


async def test_what_the_socket_tells_of_before_the_second_post_is_not_sent_again(comfy, faults, tally, clock):
    faults.on(*PROMPT, Answer(504))
    faults.on(*PROMPT, Answer(429, {"Retry-After": "5"}))
    clock.meanwhile[1] = comes_late(comfy, faults, tally)
    assert await outputs(await comfy.submit(picture()))
    assert len(faults.book.posts) == 2
    assert await tally.received() == 1


# Nobody can be asked


@pytest.mark.parametrize(
    "toxic", [Answer(502), Answer(200, PAGE, "<html>log in</html>"), Answer(401), ResetPeer(), CutResponse()], ids=ids
)
@pytest.mark.parametrize("lost", [Lose(), gateway_error(524)], ids=ids)
async def test_while_the_record_cannot_be_read_the_outcome_is_unknown(comfy, faults, tally, clock, toxic, lost):
    faults.on("GET", "/ws", Answer(403), times=None)
    faults.on(*PROMPT, lost)
    unread = faults.on(*QUEUE, toxic, times=None)
    with pytest.raises(OutcomeUnknown) as caught:
        await comfy.submit(picture())
    sent = faults.book.posts[0].prompt_id
    assert caught.value.prompt_id == sent
    assert sent in str(caught.value)
    assert sum(clock.waits) == 2 * comfy._http.timeout
    assert following(comfy) == []
    faults.off(unread)
    job = await comfy.job(sent)
    assert await outputs(job)
    assert len(faults.book.posts) == 1
    assert await tally.received() == 1


async def test_a_server_that_does_not_say_what_it_is_for_a_while(comfy, faults, tally, clock):
    faults.on(*PROMPT, Answer(502))
    faults.on("GET", "/system_stats", Answer(502), times=2)
    assert await outputs(await comfy.submit(picture()))
    assert clock.waits == [1.0, 1.0, 2.0]
    assert await tally.received() == 1


# Servers that choose the id themselves


async def test_an_old_server_gives_the_id_and_is_not_asked_twice(comfy, faults, tally, clock):
    rule = faults.on(*PROMPT, WithoutId(), times=None)
    for _ in range(2):
        job = await comfy.submit(picture())
        assert job.id != faults.book.posts[-1].prompt_id
        assert await outputs(job)
    looked_for = [faults.book.requests["GET", f"/history/{post.prompt_id}"] for post in faults.book.posts]
    assert looked_for == [1, 0]
    faults.off(rule)
    faults.on(*PROMPT, WithoutIdAndLost(), times=None)
    with pytest.raises(OutcomeUnknown, match="was not sent again"):
        await comfy.submit(picture())
    assert len(faults.book.posts) == 3
    assert await tally.received() == 3


@pytest.mark.parametrize("toxic", [WithoutIdAndLost(), CutRequest(), Answer(502)], ids=ids)
async def test_nor_one_that_says_it_is_old(comfy, faults, tally, clock, toxic):
    faults.on("GET", "/system_stats", Answer(200, {"Content-Type": "application/json"}, OLD), times=None)
    faults.on(*PROMPT, toxic)
    with pytest.raises(OutcomeUnknown, match="was not sent again"):
        await comfy.submit(picture())
    assert len(faults.book.posts) == 1
    assert await tally.received() == isinstance(toxic, WithoutIdAndLost)


@pytest.mark.parametrize(
    "given",
    [
        "",
        " ",
        "None",
        "null",
        "0123456789abcdef0123456789abcdef",
        "01234567-89AB-CDEF-0123-456789ABCDEF",
        "{01234567-89ab-cdef-0123-456789abcdef}",
        "urn:uuid:01234567-89ab-cdef-0123-456789abcdef",
        "01234567-89ab-cdef-0123-456789abcdef\n",
        "01234567-89ab-cdef-0123-45678\u0669abcdef",
        "../../etc",
    ],
)
async def test_an_id_that_is_not_canonical_goes_nowhere(comfy, faults, given):
    with pytest.raises(ConfigError, match="no prompt_id"):
        await comfy.submit(picture(), prompt_id=given)
    assert faults.book.connections == 0


async def test_without_an_id_one_is_made_up_and_never_null(comfy, faults):
    job = await comfy.submit(picture(), prompt_id=None)
    assert faults.book.posts[0].prompt_id == job.id == str(uuid.UUID(job.id))
    assert await outputs(job)


# Redirects and logins


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_no_success(comfy, faults, tally, status):
    faults.on(*PROMPT, Answer(status, {"Location": "/prompt"}))
    with pytest.raises(ProtocolError, match="redirects"):
        await comfy.submit(picture())
    assert len(faults.book.posts) == 1
    assert await tally.received() == 0


async def test_a_redirect_to_a_login_page_asks_for_a_login(comfy, faults, tally):
    faults.on(*PROMPT, Answer(302, {"Location": "/login?next=/prompt"}))
    with pytest.raises(AuthError):
        await comfy.submit(picture())
    assert await tally.received() == 0


async def test_one_that_somebody_between_has_followed_is_no_success_either(comfy, faults, tally, clock):
    info = json.dumps({"exec_info": {"queue_remaining": 0}})
    faults.on(*PROMPT, Answer(200, {"Content-Type": "application/json"}, info), times=None)
    with pytest.raises(ProtocolError, match="was not queued"):
        await comfy.submit(picture())
    assert await tally.received() == 0


async def test_a_login_page_means_one_more_login_and_one_more_post(server_url, tally, caplog):
    caplog.set_level(logging.DEBUG)
    async with LoginForm(server_url, answers="page") as gate, FaultProxy(gate.url) as faults:
        auth = FormLogin(gate.username, gate.password)
        async with ComfyClient(faults.url, auth=auth) as comfy:
            await outputs(await comfy.submit(picture()))
            gate.expire()
            job = await comfy.submit(picture())
            assert await outputs(job)
        assert [post.prompt_id for post in faults.book.posts][1:] == [job.id] * 2
        assert [seen.passed for seen in gate.requests if (seen.method, seen.path) == PROMPT] == [True, False, True]
        assert gate.logins == 2
    assert await tally.received() == 2
    assert gate.password not in caplog.text


# An instance that asks to wait


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [("3", 3.0, 3.6), ("0", 0.1, 0.12), ("60", 60.0, 60.0), (7.0, 7.0, 8.4), (-3600.0, 0.1, 0.12)],
)
async def test_an_instance_that_asks_to_wait_is_obeyed(comfy, faults, tally, clock, asked, least, most):
    """``asked``: the header, or the seconds to the date in it."""
    text = asked if isinstance(asked, str) else formatdate(clock.now + asked, usegmt=True)
    faults.on(*PROMPT, Answer(429, {"Retry-After": text}))
    job = await comfy.submit(picture())
    (wait,) = clock.waits
    assert least <= wait <= most
    assert await outputs(job)
    assert [post.prompt_id for post in faults.book.posts] == [job.id] * 2
    assert await tally.received() == 1


@pytest.mark.parametrize("asked", [None, "", "61", "99999", "999999999999", "-1", "3.5", "soon", "NaN", "\u0663"])
async def test_an_instance_that_asks_for_too_much_or_nothing_is_not_waited_for(comfy, faults, tally, clock, asked):
    headers = {} if asked is None else {"Retry-After": asked.encode().decode("latin-1")}
    faults.on(*PROMPT, Answer(429, headers))
    with pytest.raises(InstanceUnavailable, match="429") as caught:
        await comfy.submit(picture())
    if asked in {"61", "99999"}:
        assert f"wait {asked} s" in caught.value.hint
    assert clock.waits == []
    assert await tally.received() == 0


@pytest.mark.parametrize(("asked", "times"), [("1", 5), ("25", 2), ("60", 1)])
async def test_an_instance_that_always_asks_to_wait_is_given_up(comfy, faults, tally, clock, asked, times):
    faults.on(*PROMPT, Answer(429, {"Retry-After": asked}), times=None)
    with pytest.raises(InstanceUnavailable, match="429"):
        await comfy.submit(picture())
    assert len(clock.waits) == times
    assert await tally.received() == 0


# What the server refuses


async def test_what_the_server_refuses_is_not_sent_again(comfy, faults, tally):
    with pytest.raises(PromptRejected) as caught:
        await comfy.submit(Prompt({"7": image(width=-5), "9": save("7", title="Save it")}))
    (problem,) = caught.value.problems
    assert (problem.node_id, problem.input) == ("7", "width")
    assert len(faults.book.posts) == 1
    assert await tally.received() == 1


async def test_outputs_that_the_server_drops_are_warned_of_and_the_rest_runs(comfy, faults, tally):
    prompt = Prompt({"1": image(), "2": save("1"), "3": image(width=-5), "4": save("3")})
    job = await comfy.submit(prompt)
    (warning,) = job.warnings
    assert isinstance(warning, Problem)
    assert (warning.node_id, warning.input) == ("3", "width")
    assert {output.node_id for output in await outputs(job)} == {"2"}
    assert await tally.received() == 1


# No connection


async def test_what_was_never_sent_is_sent_when_the_server_is_there_again(comfy, faults, tally, clock):
    await comfy.info()
    async with contextlib.AsyncExitStack() as down:
        await down.enter_async_context(faults.down())
        clock.meanwhile[2] = down.aclose
        job = await comfy.submit(picture())
    assert await outputs(job)
    assert all(least < wait <= 2 * least for least, wait in zip([0.25, 0.5, 1.0], clock.waits, strict=True))
    assert len(faults.book.posts) == 1
    assert await tally.received() == 1


async def test_a_long_outage_makes_submissions_fail_at_once(comfy, faults, tally, clock):
    await comfy.info()
    async with faults.down():
        with pytest.raises(InstanceUnavailable, match="connection refused"):
            await comfy.submit(picture())
        assert len(clock.waits) == 4
        clock.now += 10.0
        for _ in range(5):
            with pytest.raises(InstanceUnavailable, match="connection refused"):
                await comfy.submit(picture())
        assert len(clock.waits) == 4
    assert await outputs(await comfy.submit(picture()))
    async with faults.down():
        with pytest.raises(InstanceUnavailable):
            await comfy.submit(picture())
    assert len(clock.waits) == 8
    assert await tally.received() == 1


BAD = {"DNS": "http://no-such-host.invalid:1", "TLS": "https://127.0.0.1:{port}"}


@pytest.mark.parametrize("url", BAD.values(), ids=BAD)
@pytest.mark.parametrize("tries", [0, 4])
async def test_names_and_handshakes_that_fail(faults, clock, url, tries):
    """Of an instance that was there before they may be a passing trouble; else the address is wrong."""
    async with ComfyClient(url.format(port=faults.url.rpartition(":")[2])) as comfy:
        comfy._session.worked = tries > 0
        with pytest.raises(InstanceUnavailable, match="cannot connect"):
            await comfy.submit(picture())
    assert len(clock.waits) == tries
    assert not faults.book.posts


# What costs money


async def test_a_partner_node_is_not_sent_again_on_doubt(comfy, faults, tally, clock):
    catalog = await comfy.catalog()
    partner = next(name for name in catalog if catalog[name].is_api_node)
    faults.on(*PROMPT, CutRequest())
    with pytest.raises(OutcomeUnknown, match="cost money twice"):
        await comfy.submit(Prompt({"1": {"class_type": partner, "inputs": {}}, "2": save("1")}))
    assert len(faults.book.posts) == 1
    assert await tally.received() == 0


@pytest.mark.parametrize("name", ["api_key_comfy_org", "auth_token_comfy_org"])
async def test_nor_what_comes_with_a_key_that_pays(comfy, faults, tally, clock, name, caplog):
    caplog.set_level(logging.DEBUG)
    key = {name: "comfyui-0123456789abcdef"}
    faults.on(*PROMPT, CutRequest())
    with pytest.raises(OutcomeUnknown) as caught:
        await comfy.submit(picture(), extra_data=key)
    faults.on(*PROMPT, Lose())
    assert await outputs(await comfy.submit(picture(), extra_data=key))
    assert len(faults.book.posts) == 2
    assert await tally.received() == 1
    assert key[name] not in f"{caught.value!r} {caught.value} {caplog.text}"


async def test_what_was_certainly_not_run_is_sent_again_even_if_it_costs_money(comfy, faults, tally, clock):
    faults.on(*PROMPT, Answer(429, {"Retry-After": "1"}))
    assert await outputs(await comfy.submit(picture(), extra_data={"api_key_comfy_org": "k"}))
    assert await tally.received() == 1


# Giving up in the middle

STEPS = {
    "while it is sent": (lambda faults: [faults.on(*PROMPT, Timeout())], lambda book: book.hung, OutcomeUnknown),
    "while it is looked for": (
        lambda faults: [faults.on(*PROMPT, CutRequest()), faults.on(*QUEUE, Lose("hang"))],
        lambda book: book.hung,
        OutcomeUnknown,
    ),
    "between two looks": (
        lambda faults: [faults.on(*PROMPT, CutRequest())],
        lambda book: book.count("GET", "/system_stats"),
        OutcomeUnknown,
    ),
    "before it is sent again": (
        lambda faults: [faults.on(*PROMPT, Answer(429, {"Retry-After": "50"}))],
        lambda book: book.posts,
        (ConfigError, OutcomeUnknown),  # the answer may still be on its way
    ),
}


@pytest.fixture(params=STEPS.values(), ids=STEPS)
async def midway(request, comfy, faults, monkeypatch):
    """A submission that has come to a step at which it waits for long, and how it ends if the client is closed."""
    monkeypatch.setattr("comfyclient.wire.submission.SETTLE", 3600.0)
    rules, reached, end = request.param
    made = rules(faults)
    submitting = asyncio.create_task(comfy.submit(picture()))
    await faults.book.until(lambda: reached(faults.book))
    for rule in made:
        faults.off(rule)
    return submitting, end


async def test_a_submission_that_is_cancelled_leaves_nothing_behind(comfy, midway):
    submitting, _ = midway
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    assert following(comfy) == []
    assert await outputs(await comfy.submit(picture()))


async def test_one_that_is_cancelled_when_the_job_runs_is_followed_to_its_end(comfy, faults, clock):
    faults.on(*PROMPT, Lose("hang"))
    submitting = asyncio.create_task(comfy.submit(picture()))
    await faults.book.until(lambda: faults.book.hung)
    (job,) = comfy._watcher._open.values()
    while not job.tracker.known:  # noqa: ASYNC110 - there is nothing to wait on
        await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    await job.wait()
    assert job.tracker.state is JobState.SUCCEEDED


async def test_a_submission_ends_when_the_client_is_closed(comfy, midway):
    submitting, end = midway
    await comfy.close()
    with pytest.raises(end, match="closed"):
        await submitting
    assert following(comfy) == []
    assert tasks() == []


# All of it


FATES = [
    Lose(),
    Lose("close"),
    CutRequest(),
    CutRequest(0),
    CutResponse(),
    CorruptBody(40),
    Answer(502),
    Answer(500),
    Answer(429, {"Retry-After": "1"}),
    Answer(429),
    Answer(302, {"Location": "/prompt"}),
    AnswerAfter(500),
    gateway_error(524),
    ResetPeer(),
    Stale(),
]


async def test_twenty_at_once_each_with_faults_of_its_own(faults, tally, clock):
    """What came of each, and how often the server got it, agree."""
    chance = random.Random(faults.seed)
    for toxic in FATES:
        faults.on(*PROMPT, toxic, times=None, probability=0.08)
    faults.on(*QUEUE, Answer(502), times=None, probability=0.2)
    async with ComfyClient(faults.url, poll_interval=0.1) as comfy:
        mine = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(20)]
        came = await asyncio.gather(
            *(comfy.submit(picture(), prompt_id=job_id) for job_id in mine), return_exceptions=True
        )
        for job_id, outcome in zip(mine, came, strict=True):
            got = faults.book.forwarded(job_id)
            assert await tally.entries(job_id) == got
            if isinstance(outcome, Exception):
                assert isinstance(outcome, InstanceUnavailable | ProtocolError | OutcomeUnknown), outcome
                assert got <= isinstance(outcome, OutcomeUnknown)
            else:
                assert (outcome.id, got) == (job_id, 1)
                assert await outputs(outcome)
        assert following(comfy) == []
    assert await tally.received() == sum(map(faults.book.forwarded, mine))
    assert tasks() == []


async def test_a_page_in_place_of_the_answer_and_then_no_connection(server_url, monkeypatch):
    async with LoginForm(server_url, answers="page") as gate, FaultProxy(gate.url) as faults:
        async with ComfyClient(faults.url, auth=FormLogin(gate.username, gate.password)) as comfy:
            await outputs(await comfy.submit(picture()))
            faults.on(*PROMPT, AnswerAfter(200, PAGE, "<html>gone</html>"))
            faults.on("GET", "/ws", Answer(403), times=None)
            faults.drop_sockets()
            ask = comfy._session.ask

            async def unreachable(path):
                monkeypatch.setattr(comfy._session, "ask", ask)
                raise NeverSentError("cannot connect")

            monkeypatch.setattr(comfy._session, "ask", unreachable)
            job = await comfy.submit(picture())
            assert await outputs(job)
        assert faults.book.forwarded(job.id) == 1
