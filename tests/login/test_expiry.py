"""Sessions that end while there is work to do: one login, nothing lost, nothing done twice."""

import asyncio
import time

import pytest

from comfyclient import (
    ApiKey,
    AuthError,
    BasicAuth,
    BearerToken,
    CloudflareAccess,
    ComfyClient,
    Cookies,
    Credential,
    CredentialsExpired,
    Finished,
    FormLogin,
    InstanceUnavailable,
    JobCancelled,
    JobState,
    LoginRefused,
    NotComfyUI,
    OutcomeUnknown,
    TransferError,
)
from comfyclient.auth.store import StoredLogin

from ..contract.prompts import picture  # noqa: TID252
from .servers import ApiKey as KeyServer
from .servers import Basic, Bearer, ComfyUILogin, LoginForm, OAuth2Proxy
from .servers import CloudflareAccess as AccessServer
from .stages import (
    POST_PROMPT,
    SECONDS,
    Staged,
    all_of,
    answered,
    build,
    carrying,
    meanwhile,
    queued,
    until,
)

MANY = 20
STATS = ("GET", "/system_stats")


class Form(Staged, LoginForm):
    """A login form that is answered when a test wants it."""


class ComfyLogin(Staged, ComfyUILogin):
    """The same for ComfyUI-Login."""


class Proxy(Staged, OAuth2Proxy):
    """The same for oauth2-proxy."""


class Sweeping(Form):
    """Refuses as many do: it takes the cookie of the session back, or gives one of nobody in its place."""

    def __init__(self, upstream, *, leaves="none", **options):
        super().__init__(upstream, **options)
        self.leaves = leaves

    def refuse(self, request):
        answer = super().refuse(request)
        cookie = f"{self.cookie}=; Max-Age=0; Path=/" if self.leaves == "none" else f"{self.cookie}=nobody; Path=/"
        for value in (cookie, "language=en; Path=/"):
            answer.headers.add("Set-Cookie", value)
        return answer


class Rotation(Staged):
    """A mixin: every answer brings a new session.

    Attributes:
        newest: The last one.
        handshakes: For each websocket, the session that it came with and the newest one at that time.
    """

    def __init__(self, upstream, **options):
        super().__init__(upstream, **options)
        self.newest = None
        self.handshakes = []

    def additions(self, request):
        if request.path == "/ws":
            self.handshakes.append((self.session_of(request), self.newest))
        self.newest = self.new_session()
        return [self.set_cookie(self.newest)]

    def forget_others(self):
        self.sessions = {self.newest}


class RotatingForm(Rotation, LoginForm):
    """See `Rotation`."""


class RotatingProxy(Rotation, OAuth2Proxy):
    """See `Rotation`."""


def way(answers):
    return lambda upstream: Form(upstream, answers=answers)


def form(server):
    return FormLogin(server.username, server.password)


def auto(server, **more):
    return {"credential": Credential.of(username=server.username, password=server.password, **more)}


def access(server):
    return CloudflareAccess(server.client_id, server.client_secret)


def behind_access(server, gate):
    return auto(server, access_id=gate.client_id, access_secret=gate.client_secret)


RENEWABLE = {
    "redirect": ([way("redirect")], lambda s: {"auth": form(s)}),
    "redirect-auto": ([way("redirect")], auto),
    "page": ([way("page")], lambda s: {"auth": form(s)}),
    "page-auto": ([way("page")], auto),
    "unauthorized": ([way("unauthorized")], lambda s: {"auth": form(s)}),
    "unauthorized-auto": ([way("unauthorized")], auto),
    "comfyui-login": ([ComfyLogin], lambda s: {"auth": form(s)}),
    "comfyui-login-auto": ([ComfyLogin], auto),
    "access+redirect-auto": ([way("redirect"), AccessServer], behind_access),
    "access+page": ([way("page"), AccessServer], lambda s, a: {"auth": [access(a), form(s)]}),
}
STATIC = {
    "basic": ([Basic], lambda s: {"auth": BasicAuth(s.username, s.password)}),
    "basic-auto": ([Basic], auto),
    "bearer": ([Bearer], lambda s: {"auth": BearerToken(s.token)}),
    "key": ([KeyServer], lambda s: {"auth": ApiKey(s.key)}),
    "access": ([AccessServer], lambda s: {"auth": access(s)}),
    "access-auto": (
        [AccessServer],
        lambda s: {"credential": Credential.of(access_id=s.client_id, access_secret=s.client_secret)},
    ),
    "cookies": ([OAuth2Proxy], lambda s: {"auth": Cookies(s.grant())}),
    "cookies-auto": ([OAuth2Proxy], lambda s: {"credential": Credential.of(cookies=s.grant())}),
    "cookies-page": ([way("page")], lambda s: {"auth": Cookies({"session": s.new_session()})}),
}
WAYS = pytest.mark.parametrize("answers", ["redirect", "page", "unauthorized"])
LEAVES = pytest.mark.parametrize("leaves", ["none", "nobody"])
GIVEN = pytest.mark.parametrize("options", [lambda s: {"auth": form(s)}, auto], ids=["class", "auto"])
AWAY = pytest.mark.parametrize("away", [("GET", "/prompt"), ("GET", "/login"), ("POST", "/login")], ids=" ".join)


def cases(table):
    return pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in table.items()])


# A job under way


@cases(RENEWABLE)
async def test_a_job_outlives_the_login(serve, emulator, tmp_path, case):
    stack, options = case
    server, *_ = gates = await build(serve, emulator, stack)
    hold = emulator.faults.hold("EmptyImage")
    async with ComfyClient(gates[-1].url, **options(*gates)) as comfy:
        job = await comfy.queue(picture())
        await hold.reached()
        server.expire()
        server.drop_sockets()
        await until(server, lambda: server.sockets_seen == 2)
        hold.release()
        result = await job.result(SECONDS)
        assert (await result.outputs[0].save(tmp_path / "got.png")).stat().st_size > 0
    (session,) = server.sessions
    assert session in server.asked("GET", "/ws")[-1].headers["Cookie"]
    assert (server.attempts, server.logins) == (2, 2)
    assert queued(server) == [job.id]


@WAYS
@pytest.mark.parametrize("make", [Form, Sweeping])
async def test_a_websocket_that_is_refused_logs_in_and_comes_back(serve, emulator, answers, make):
    """Nobody asks for anything else meanwhile. The refusal may bring several cookies."""
    server = await serve(make(emulator.url, answers=answers))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await (await comfy.queue(picture())).result(SECONDS)
        server.expire()
        server.drop_sockets()
        async with asyncio.timeout(20):  # it tries within two seconds
            await server.until(lambda: server.sockets_seen == 2)
    (session,) = server.sessions
    assert session in server.asked("GET", "/ws")[-1].headers["Cookie"]
    assert (server.attempts, server.logins) == (2, 2)


@WAYS
async def test_outputs_are_fetched_by_a_new_login(serve, emulator, tmp_path, answers):
    server = await serve(Form(emulator.url, answers=answers))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        result = await (await comfy.queue(picture(batch=4))).result(SECONDS)
        server.expire()
        await result.save(tmp_path)
    assert len(list(tmp_path.rglob("*.png"))) == 4
    assert server.logins == 2


@WAYS
async def test_a_job_without_a_websocket_outlives_the_login(serve, emulator, answers):
    server = await serve(Form(emulator.url, answers=answers))
    server.answer("GET", "/ws", times=10**9, status=404)
    hold = emulator.faults.hold("EmptyImage")
    async with ComfyClient(server.url, auth=form(server), poll_interval=0.05) as comfy:
        job = await comfy.queue(picture())
        await hold.reached()
        server.expire()
        await until(server, lambda: server.logins == 2)
        hold.release()
        await job.result(SECONDS)
    assert server.attempts == 2


@WAYS
async def test_a_websocket_that_is_open_stays_open(serve, emulator, answers):
    server = await serve(Form(emulator.url, answers=answers))
    hold = emulator.faults.hold("EmptyImage")
    async with ComfyClient(server.url, auth=form(server), poll_interval=SECONDS) as comfy:
        job = await comfy.queue(picture())
        await hold.reached()
        server.expire()
        hold.release()
        await job.result(SECONDS)
        assert comfy.connected
    assert (server.sockets_seen, server.logins) == (1, 2)


@WAYS
async def test_a_job_is_cancelled_by_a_new_login(serve, emulator, answers):
    server = await serve(Form(emulator.url, answers=answers))
    hold = emulator.faults.hold("EmptyImage")
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        job = await comfy.queue(picture())
        await hold.reached()
        server.expire()
        cancelling = asyncio.create_task(job.cancel())
        await until(server, lambda: answered(server, "POST", "/interrupt") == 1)
        hold.release()
        await cancelling
        with pytest.raises(JobCancelled):
            await job.result(SECONDS)
    assert server.logins == 2


@GIVEN
@AWAY
async def test_a_job_outlives_an_instance_that_is_away_when_the_login_expires(serve, emulator, options, away):
    server = await serve(Form(emulator.url))
    server.answer("GET", "/ws", times=10**9, status=404)
    hold = emulator.faults.hold("EmptyImage")
    async with ComfyClient(server.url, **options(server), poll_interval=0.05) as comfy:
        job = await comfy.queue(picture())
        await hold.reached()
        server.answer(*away, times=2, status=503)
        server.expire()
        hold.release()
        assert (await job.result(SECONDS)).outputs
    assert server.logins == 2


@GIVEN
@AWAY
async def test_a_login_that_could_not_be_answered_is_tried_again(serve, emulator, options, away):
    server = await serve(Form(emulator.url))
    async with ComfyClient(server.url, **options(server)) as comfy:
        await comfy.login()
        server.expire()
        server.answer(*away, times=2, status=503)
        with pytest.raises(InstanceUnavailable):
            await comfy.info()
        server._rules.clear()
        await comfy.info()
    assert server.logins == 2


# Many at once


async def refused(server, *asks):
    """Begin them all. Each is refused before the first of them can log in, which then waits at the login's gate."""
    wanted = {POST_PROMPT, STATS, ("POST", "/upload/image"), ("GET", "/view")}
    refusals = server.hold(lambda seen: (seen.method, seen.path) in wanted, late=True)
    attempts = server.attempts
    server.login_gate.clear()
    asking = [asyncio.create_task(ask) for ask in asks]
    await until(server, lambda: refusals.waiting == len(asks))
    refusals.go.set()
    await until(server, lambda: server.attempts == attempts + 1)
    return asking


@cases(RENEWABLE)
async def test_twenty_requests_wait_for_one_login(serve, emulator, case):
    stack, options = case
    server, *_ = gates = await build(serve, emulator, stack)
    async with ComfyClient(gates[-1].url, **options(*gates)) as comfy:
        await comfy.login()
        server.expire()
        asking = await refused(server, *(comfy.info() for _ in range(MANY)))
        server.login_gate.set()
        for info in await all_of(*asking):
            assert info.comfyui_version
        assert comfy._session.generation == 1
    assert (server.attempts, server.logins) == (2, 2)


@cases(RENEWABLE)
async def test_twenty_first_requests_wait_for_one_login(serve, emulator, case):
    stack, options = case
    server, *_ = gates = await build(serve, emulator, stack)
    server.login_gate.clear()
    async with ComfyClient(gates[-1].url, **options(*gates)) as comfy:
        asking = [asyncio.create_task(comfy.info()) for _ in range(MANY)]
        await until(server, lambda: server.attempts == 1)
        server.login_gate.set()
        for info in await all_of(*asking):
            assert info.comfyui_version
    assert (server.attempts, server.logins) == (1, 1)


@WAYS
@pytest.mark.parametrize("first_of_all", [False, True])
async def test_the_first_of_twenty_gives_up_while_it_logs_in(serve, emulator, answers, first_of_all):
    server = await serve(Form(emulator.url, answers=answers))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        if not first_of_all:
            await comfy.login()
            server.expire()
        logins = server.logins
        server.login_gate.clear()
        first = asyncio.create_task(comfy.info())
        await until(server, lambda: server.attempts == logins + 1)
        others = [asyncio.create_task(comfy.info()) for _ in range(MANY - 1)]
        await meanwhile(server)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await meanwhile(server)
        server.login_gate.set()
        for info in await all_of(*others):
            assert info.comfyui_version
    assert (server.attempts, server.logins) == (logins + 1, logins + 1)


@pytest.mark.parametrize("behind", [False, True], ids=["form", "access+form"])
async def test_those_who_give_up_do_not_use_up_the_logins_of_the_others(serve, emulator, behind):
    gates = await build(serve, emulator, [Form, AccessServer] if behind else [Form])
    server = gates[0]
    async with ComfyClient(gates[-1].url, **(behind_access(*gates) if behind else auto(server))) as comfy:
        await comfy.login()
        server.expire()
        asking = await refused(server, *(comfy.info() for _ in range(MANY)))
        for _ in range(5):
            asking.pop(0).cancel()  # whoever logs in just now
            await meanwhile(server)
        server.login_gate.set()
        for info in await all_of(*asking):
            assert info.comfyui_version


async def test_a_login_that_nobody_waits_for_any_more_leaves_nothing_behind(serve, emulator):
    server = await serve(Form(emulator.url))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await comfy.login()
        server.expire()
        server.login_gate.clear()
        asking = asyncio.create_task(comfy.info())
        await until(server, lambda: server.attempts == 2)
        asking.cancel()
        await all_of(asking)
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("comfyclient")] == []


@WAYS
async def test_a_refusal_from_before_the_login_comes_after_it(serve, emulator, answers):
    server = await serve(Form(emulator.url, answers=answers))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await comfy.login()
        server.expire()
        refusal = server.hold(lambda seen: seen.path == "/queue", late=True)
        late = [asyncio.create_task(comfy.jobs()) for _ in range(MANY)]
        await until(server, lambda: refusal.waiting == MANY)
        await comfy.info()
        assert server.logins == 2
        refusal.go.set()
        assert await all_of(*late) == [[]] * MANY
        assert comfy._session.generation == 1
    assert server.attempts == 2


@WAYS
@LEAVES
async def test_a_late_refusal_does_not_take_the_new_session_away(serve, emulator, answers, leaves):
    server = await serve(Sweeping(emulator.url, answers=answers, leaves=leaves))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await comfy.login()
        server.expire()
        refusal = server.hold(lambda seen: seen.path == "/queue", late=True)
        late = asyncio.create_task(comfy.jobs())
        await until(server, lambda: refusal.waiting == 1)
        await comfy.info()
        refusal.go.set()
        assert await all_of(late) == [[]]
        await comfy.info()
    assert server.logins == 2


@WAYS
@LEAVES
async def test_a_refusal_in_the_middle_of_a_login_does_not_spoil_it(serve, emulator, answers, leaves):
    server = await serve(Sweeping(emulator.url, answers=answers, leaves=leaves))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await comfy.login()
        server.expire()
        refusal = server.hold(lambda seen: seen.path == "/queue", late=True)
        late = asyncio.create_task(comfy.jobs())
        await until(server, lambda: refusal.waiting == 1)
        # The new session is there, and about to be tried out.
        trying = server.hold(lambda seen: server.logins == 2 and (seen.method, seen.path) == ("GET", "/prompt"))
        asking = asyncio.create_task(comfy.info())
        await until(server, lambda: trying.waiting == 1)
        refusal.go.set()
        await meanwhile(server)
        trying.go.set()
        info, jobs = await all_of(asking, late)
        assert not isinstance(info, Exception)
        assert jobs == []
        await comfy.info()
    assert server.logins == 2


@cases(RENEWABLE)
async def test_twenty_prompts_are_each_queued_once(serve, emulator, case):
    stack, options = case
    server, *_ = gates = await build(serve, emulator, stack)
    async with ComfyClient(gates[-1].url, **options(*gates)) as comfy:
        await (await comfy.queue(picture())).result(SECONDS)
        server.expire()
        asking = await refused(server, *(comfy.submit(picture()) for _ in range(MANY)))
        server.login_gate.set()
        jobs = await all_of(*asking)
        assert [job for job in jobs if isinstance(job, BaseException)] == []
        for job in jobs:
            assert (await job.result(SECONDS)).outputs
    assert (server.attempts, server.logins) == (2, 2)
    assert sorted(queued(server)[1:]) == sorted(job.id for job in jobs)
    assert emulator.core.number == MANY + 1


@cases(RENEWABLE)
async def test_twenty_of_all_kinds_wait_for_one_login(serve, emulator, tmp_path, case):
    stack, options = case
    server, *_ = gates = await build(serve, emulator, stack)
    files = [tmp_path / f"{n}.bin" for n in range(5)]
    for n, file in enumerate(files):
        file.write_bytes(bytes([n]) * 300_000)
    async with ComfyClient(gates[-1].url, **options(*gates)) as comfy:
        (output,) = (await (await comfy.queue(picture())).result(SECONDS)).outputs
        server.expire()
        asks = [comfy.submit(picture()) for _ in range(5)] + [comfy.upload(file) for file in files]
        asks += [comfy.info() for _ in range(5)] + [output.read() for _ in range(5)]
        asking = await refused(server, *asks)
        server.login_gate.set()
        answers = await all_of(*asking)
        assert [answer for answer in answers if isinstance(answer, BaseException)] == []
        jobs, uploads, pictures = answers[:5], answers[5:10], answers[15:]
        for job in jobs:
            await job.result(SECONDS)
    assert (server.attempts, server.logins) == (2, 2)
    assert sorted(queued(server)[1:]) == sorted(job.id for job in jobs)
    for file, uploaded in zip(files, uploads, strict=True):
        assert (emulator.folders.input / uploaded.name).read_bytes() == file.read_bytes()
    assert len(set(pictures)) == 1


async def test_closing_the_client_ends_a_login_and_those_who_wait_for_it(serve, emulator):
    server = await serve(Form(emulator.url))
    comfy = ComfyClient(server.url, auth=form(server))
    await comfy.login()
    server.expire()
    asking = await refused(server, *(comfy.info() for _ in range(MANY)))
    await comfy.close()
    for error in await all_of(*asking):
        assert isinstance(error, Exception)
    assert server.logins == 1


# Prompts and files that meet the login


@WAYS
async def test_a_prompt_that_meets_the_login_is_sent_again_once(serve, emulator, answers):
    server = await serve(Form(emulator.url, answers=answers))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await (await comfy.queue(picture())).result(SECONDS)
        server.expire()
        job = await comfy.submit(picture())
        await job.result(SECONDS)
    first, again = server.asked(*POST_PROMPT)[1:]
    assert first.body == again.body
    assert (first.passed, again.passed) == (False, True)
    assert queued(server)[1:] == [job.id]
    assert server.logins == 2
    assert emulator.core.number == 2


async def test_a_web_page_in_place_of_an_answer_is_looked_into(serve, emulator):
    server = await serve(Form(emulator.url, answers="page"))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await comfy.login()
        server.instead.add(POST_PROMPT)
        job = await comfy.submit(picture())
        assert (await job.result(SECONDS)).outputs
    assert queued(server) == [job.id]
    assert (server.logins, emulator.core.number) == (1, 1)


async def test_a_web_page_of_a_proxy_that_passed_nothing_on_is_looked_into(serve, emulator, monkeypatch):
    monkeypatch.setattr("comfyclient.wire.submission.SETTLE", 0.0)
    server = await serve(Form(emulator.url, answers="page"))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await comfy.login()
        server.answer(*POST_PROMPT, times=10**9, text="<p>maintenance</p>", content_type="text/html")
        with pytest.raises(NotComfyUI, match="not queued"):
            await comfy.submit(picture())
    asked = [(seen.method, seen.path) for seen in server.requests]
    first = asked.index(POST_PROMPT)
    assert asked[first + 1 : first + 3] == [("GET", "/prompt"), ("GET", "/queue")]
    assert asked.count(POST_PROMPT) <= 2
    assert (server.logins, emulator.core.number) == (1, 0)


async def test_a_file_that_is_answered_with_a_web_page_is_not_sent_again(serve, emulator):
    server = await serve(Form(emulator.url))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await comfy.login()
        server.instead.add(("POST", "/upload/image"))
        with pytest.raises(TransferError, match="web page"):
            await comfy.upload(b"some bytes", name="mine.bin")
    assert len(server.asked("POST", "/upload/image")) == 1
    assert server.logins == 1


async def test_a_web_page_after_a_login_of_others_is_looked_into(serve, emulator):
    """The prompt gets through by the old session. Its answer is lost to a page while somebody else logs in."""
    server = await serve(Form(emulator.url, answers="page"))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await comfy.login()
        lost = Lost(server)
        submitting = asyncio.create_task(comfy.submit(picture()))
        await until(server, lambda: lost.waiting)
        server.expire()
        await comfy.info()
        assert comfy._session.generation == 1
        lost.go.set()
        (job,) = await all_of(submitting)
        await job.result(SECONDS)
    assert queued(server) == [job.id]
    assert emulator.core.number == 1


class Lost:
    """The answer to ``POST /prompt``, which is kept until `go`, and replaced by a page then."""

    def __init__(self, server):
        self.server = server
        self.waiting = False
        self.go = asyncio.Event()
        self._stream, server._stream = server._stream, self._keep
        server.instead.add(POST_PROMPT)

    async def _keep(self, request, upstream):
        if (request.method, request.path) == POST_PROMPT:
            self.waiting = True
            await self.server.tell()
            await self.go.wait()
        return await self._stream(request, upstream)


@pytest.mark.parametrize("what", ["prompt", "file"])
async def test_a_login_page_is_known_as_one_at_the_end_of_a_login_too(serve, emulator, what):
    """A POST meets the login page. When that arrives, the new session is there, and about to be tried out."""
    server = await serve(Form(emulator.url, answers="page"))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await (await comfy.queue(picture())).result(SECONDS)
        server.expire()
        posts = {POST_PROMPT, ("POST", "/upload/image")}
        refusal = server.hold(lambda seen: (seen.method, seen.path) in posts, late=True)
        send = comfy.submit(picture()) if what == "prompt" else comfy.upload(b"some bytes", name="mine.bin")
        sending = asyncio.create_task(send)
        await until(server, lambda: refusal.waiting == 1)
        looks = []
        trying = server.hold(
            lambda seen: server.logins == 2 and (seen.method, seen.path) == ("GET", "/prompt") and not looks
        )
        asking = asyncio.create_task(comfy.info())
        await until(server, lambda: trying.waiting == 1)
        looks.append("the first of them waits")
        refusal.go.set()
        await meanwhile(server)
        trying.go.set()
        sent, _ = await all_of(sending, asking)
        assert not isinstance(sent, Exception)
    assert [seen.passed for seen in server.requests if (seen.method, seen.path) in posts] == [True, False, True]
    assert server.logins == 2
    assert emulator.core.number == 1 + (what == "prompt")


# How often


async def test_a_login_is_renewed_three_times_in_five_minutes(serve, emulator, monkeypatch):
    server = await serve(Form(emulator.url))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await comfy.login()
        for _ in range(3):
            server.expire()
            await comfy.info()
        server.expire()
        for error in await all_of(*(comfy.info() for _ in range(MANY))):
            assert isinstance(error, CredentialsExpired)
            assert "4 times within 5 minutes" in str(error)
        assert server.attempts == 4
        monkeypatch.setattr("comfyclient.auth.session._WINDOW", 0.0)
        await comfy.info()
    assert server.logins == 5


@pytest.mark.parametrize("status", [401, 302])
async def test_a_websocket_that_is_always_refused_does_not_log_in_for_ever(serve, emulator, monkeypatch, status):
    monkeypatch.setattr("comfyclient.socket._REFUSED_FIRST", 0.0)
    monkeypatch.setattr("comfyclient.socket._BACKOFF_FIRST", 0.0)
    server = await serve(Form(emulator.url))
    server.answer("GET", "/ws", times=10**9, status=status, headers={"Location": "/login"})
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        job = await comfy.queue(picture())
        await job.result(SECONDS)
        await until(server, lambda: len(server.asked("GET", "/ws")) >= 2 * MANY)
        assert not comfy.connected
        await comfy.info()
    assert server.attempts == 1  # what lets requests in is good


async def test_one_path_that_is_always_refused_does_not_log_in_for_ever(serve, emulator):
    server = await serve(Form(emulator.url))
    server.answer(*STATS, times=10**9, status=401)
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await comfy.login()
        for _ in range(MANY):
            with pytest.raises(AuthError, match="refuses this request all the same"):
                await comfy.info()
        assert (server.attempts, len(server.asked(*STATS))) == (1, MANY)
        assert await comfy.jobs() == []


async def test_what_comfyui_forbids_is_no_matter_of_the_login(serve, emulator):
    server = await serve(Form(emulator.url))
    server.answer(*STATS, status=403)
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        with pytest.raises(AuthError, match="403"):
            await comfy.info()
        await comfy.info()
    assert server.attempts == 1


@cases({name: case for name, case in RENEWABLE.items() if "access" not in name})
async def test_a_login_that_is_taken_and_worth_nothing_is_not_repeated(serve, emulator, monkeypatch, case):
    monkeypatch.setattr("comfyclient.looking._REFUSED_FOR", 0.1)
    stack, options = case
    (server,) = await build(serve, emulator, stack)
    hold = emulator.faults.hold("EmptyImage")
    async with ComfyClient(server.url, **options(server), poll_interval=0.05) as comfy:
        job = await comfy.queue(picture())
        await hold.reached()
        server.expire()
        server.deaf = True
        for _ in range(MANY):
            with pytest.raises(AuthError):
                await comfy.info()
        with pytest.raises(OutcomeUnknown, match="accept"):
            await job.result(SECONDS)
        assert job.state is JobState.UNKNOWN
    assert server.logins == 2


async def test_a_password_that_was_changed_meanwhile_is_tried_once(serve, emulator):
    server = await serve(ComfyLogin(emulator.url))
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        await comfy.login()
        server.password = "another-one"
        server.expire()
        for error in await all_of(*(comfy.info() for _ in range(MANY))):
            assert isinstance(error, LoginRefused | CredentialsExpired)
    assert (server.attempts, server.logins) == (2, 1)


# What cannot be renewed


@cases(STATIC)
async def test_a_job_whose_credential_ends_is_of_unknown_outcome(serve, emulator, monkeypatch, case):
    monkeypatch.setattr("comfyclient.looking._REFUSED_FOR", 0.1)
    stack, options = case
    (server,) = await build(serve, emulator, stack)
    hold = emulator.faults.hold("EmptyImage")
    async with ComfyClient(server.url, **options(server), poll_interval=0.05) as comfy:
        job = await comfy.queue(picture())
        events = asyncio.create_task(listen(job))
        await hold.reached()
        server.expire()
        with pytest.raises(OutcomeUnknown, match="not accepted any more"):
            await job.result(SECONDS)
        assert job.state is JobState.UNKNOWN
        ((*_, last),) = await all_of(events)
        assert isinstance(last, Finished)
        assert last.state is JobState.UNKNOWN
        with pytest.raises(CredentialsExpired, match="not accepted any more") as expired:
            await comfy.info()
        assert "log in again" in expired.value.hint
        with pytest.raises(CredentialsExpired):
            await comfy.submit(picture())
        hold.release()
    assert emulator.core.number == 1


async def listen(job):
    return [event async for event in job.events()]


@cases(STATIC)
async def test_a_job_that_ends_after_its_credential_has_not_failed(serve, emulator, monkeypatch, case):
    monkeypatch.setattr("comfyclient.looking._REFUSED_FOR", 0.1)
    stack, options = case
    (server,) = await build(serve, emulator, stack)
    hold = emulator.faults.hold("EmptyImage")
    async with ComfyClient(server.url, **options(server), poll_interval=SECONDS) as comfy:
        job = await comfy.queue(picture())
        await hold.reached()
        server.expire()
        hold.release()
        with pytest.raises(OutcomeUnknown, match="not accepted any more"):
            await job.result(SECONDS)
        assert job.state is JobState.UNKNOWN


async def test_a_credential_that_is_refused_for_a_moment_costs_no_job(serve, emulator, monkeypatch):
    monkeypatch.setattr("comfyclient.auth.session._PAUSE", 0.02)
    server = await serve(Basic(emulator.url))
    hold = emulator.faults.hold("EmptyImage")
    auth = BasicAuth(server.username, server.password)
    async with ComfyClient(server.url, auth=auth, poll_interval=0.05) as comfy:
        job = await comfy.queue(picture())
        await hold.reached()
        server.revoked = True
        await until(server, lambda: sum(seen.status == 401 for seen in server.requests) >= 3)
        server.revoked = False
        hold.release()
        assert (await job.result(SECONDS)).outputs


@cases(STATIC)
async def test_outputs_behind_a_credential_that_ended_are_named_so(serve, emulator, tmp_path, case):
    stack, options = case
    (server,) = await build(serve, emulator, stack)
    async with ComfyClient(server.url, **options(server)) as comfy:
        (output,) = (await (await comfy.queue(picture())).result(SECONDS)).outputs
        server.expire()
        with pytest.raises(CredentialsExpired, match="not accepted any more"):
            await output.save(tmp_path / "got.png")
    assert list(tmp_path.iterdir()) == []


# Cookies that change on the way


def cookies_of(server):
    return Cookies(f"{server.cookie}={server.new_session()}")


ROTATING = pytest.mark.parametrize(
    ("make", "auth"), [(RotatingForm, form), (RotatingProxy, cookies_of)], ids=["form", "cookies"]
)


@ROTATING
async def test_the_newest_cookie_is_used(serve, emulator, make, auth):
    server = await serve(make(emulator.url))
    async with ComfyClient(server.url, auth=auth(server)) as comfy:
        await comfy.login()
        for _ in range(3):
            server.forget_others()
            await comfy.info()
        server.forget_others()
        job = await comfy.queue(picture())
        await job.result(SECONDS)
        ((sent, newest),) = server.handshakes
        assert sent == newest
    assert (server.logins, comfy._session.generation) == (int(auth is form), 0)


@ROTATING
async def test_the_newest_cookie_opens_the_next_websocket(serve, emulator, make, auth):
    server = await serve(make(emulator.url))
    async with ComfyClient(server.url, auth=auth(server)) as comfy:
        await (await comfy.queue(picture())).result(SECONDS)
        await comfy.info()
        server.forget_others()
        server.drop_sockets()
        await until(server, lambda: server.sockets_seen == 2)
        sent, newest = server.handshakes[1]
        assert sent == newest
    assert (server.logins, comfy._session.generation) == (int(auth is form), 0)


@ROTATING
async def test_the_cookie_that_a_websocket_brings_is_used(serve, emulator, make, auth):
    server = await serve(make(emulator.url))
    async with ComfyClient(server.url, auth=auth(server)) as comfy:
        await comfy.login()
        server.hold(lambda seen: (seen.method, seen.path) == POST_PROMPT)
        submitting = asyncio.create_task(comfy.submit(picture()))
        await until(server, lambda: server.sockets_seen == 1)
        server.forget_others()
        for stage in server._stages:
            stage.go.set()
        (job,) = await all_of(submitting)
        assert not isinstance(job, Exception)
    assert (server.logins, comfy._session.generation) == (int(auth is form), 0)


# A login of another day


def stored(server, *, credential=None, session=None, kind="login_form"):
    """What ``comfyclient login`` has left."""
    cookies = [{"name": server.cookie, "value": session, "path": "/", "expires": None, "secure": False}]
    return StoredLogin(
        url=server.url, kind=kind, credential=credential or {}, cookies=cookies if session else [],
        fingerprint=None, comfy_user=None, username=None, saved_at=time.time(),
    )  # fmt: skip


def password_of(server):
    return {"username": server.username, "password": server.password}


async def test_stored_cookies_that_are_good_cost_no_login(serve, emulator):
    server = await serve(Form(emulator.url))
    login = stored(server, credential=password_of(server), session=server.new_session())
    async with ComfyClient(server.url, auth="auto", stored=login) as comfy:
        await (await comfy.queue(picture())).result(SECONDS)
    assert server.attempts == 0
    assert server.refused == []


@WAYS
async def test_stored_cookies_that_are_over_cost_one_login(serve, emulator, answers):
    server = await serve(Form(emulator.url, answers=answers))
    login = stored(server, credential=password_of(server), session="of-another-day")
    async with ComfyClient(server.url, auth="auto", stored=login) as comfy:
        asking = await refused(server, *(comfy.info() for _ in range(MANY)))
        server.login_gate.set()
        for info in await all_of(*asking):
            assert info.comfyui_version
        await (await comfy.queue(picture())).result(SECONDS)
    assert (server.attempts, server.logins) == (1, 1)


async def test_a_stored_browser_session_that_is_over_says_so(serve, emulator):
    server = await serve(OAuth2Proxy(emulator.url))
    login = stored(server, session="of-another-day", kind="oauth2_proxy")
    async with ComfyClient(server.url, auth="auto", stored=login) as comfy:
        for _ in range(2):
            with pytest.raises(CredentialsExpired) as expired:
                await comfy.info()
            assert "log in again" in expired.value.hint


async def test_a_stored_token_that_was_revoked_is_not_sent_again_and_again(serve, emulator):
    server = await serve(Bearer(emulator.url))
    server.revoked = True
    login = stored(server, credential={"token": server.token}, kind="bearer")
    async with ComfyClient(server.url, auth="auto", stored=login) as comfy:
        for _ in range(MANY):
            with pytest.raises((LoginRefused, CredentialsExpired)):
                await comfy.info()
    assert carrying(server, "Authorization") <= 3  # once as it was stored, once when the login was looked at anew
