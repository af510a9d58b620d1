"""Redirects: whatever leads away from the instance, no credential goes along, and mostly nothing at all does."""

import asyncio
import contextlib
import json
import re
import ssl

import pytest
import trustme
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfyclient import (
    TLS,
    ApiKey,
    AuthError,
    BearerToken,
    CloudflareAccess,
    ComfyClient,
    ComfyClientError,
    Cookies,
    Credential,
    FormLogin,
    Headers,
    OutputRef,
    TokenLogin,
    TransferError,
)
from comfyclient.auth.tls import fingerprint_of

from ..contract.prompts import picture  # noqa: TID252
from ..unit.tls_servers import Recorder, der_of, self_signed  # noqa: TID252
from .eavesdrop import Ear, in_another_process
from .hurry import hurried
from .servers import Basic, Bearer, ComfyUILogin, Gateway, LoginForm, Site
from .servers import CloudflareAccess as AccessServer
from .stages import SECONDS, build

STATUSES = (301, 302, 303, 307, 308)
SIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=60&X-Amz-Signature=0123456789abcdef"
COMFY_KEY = "comfyui-key-in-the-body"
FILE = OutputRef("1", "images", "picture.png")
PLACES = {
    "another port": lambda ear: ear.at("http"),
    "another host": lambda ear: ear.at("http", "localhost"),
    "another scheme": lambda ear: ear.at("https"),
    "another host, by https": lambda ear: ear.at("https", "localhost"),
    "no scheme": lambda ear: f"//127.0.0.1:{ear.port}",
    "a websocket": lambda ear: ear.at("ws"),
    "a websocket, by https": lambda ear: ear.at("wss"),
    "a user": lambda ear: f"http://somebody@127.0.0.1:{ear.port}",
}


def everything():
    """All that can go with a request."""
    return {
        "auth": [
            BearerToken("bearer-0123"),
            ApiKey("api-key-0123"),
            CloudflareAccess("access-id-0123", "access-secret-0123"),
            Headers({"X-Own": "own-header-0123"}),
            Cookies("session=cookie-0123"),
        ],
        "comfy_user": "ada",
    }


SENT = {"Authorization", "X-API-Key", "CF-Access-Client-Id", "CF-Access-Client-Secret", "X-Own", "Cookie", "Comfy-User"}


class Moved(Gateway):
    """Lets everybody in, but sends those requests away that are to ``go``.

    Attributes:
        go: Called with each request.
        answer_by: The status and the ``Location`` that they get.
        sent_away: How many did.
    """

    def __init__(self, upstream, **options):
        super().__init__(upstream, **options)
        self.go = lambda seen: False
        self.answer_by = (302, "/")
        self.sent_away = 0

    def admits(self, request):
        """See `Gateway.admits`."""
        return True

    async def respond(self, request, seen):
        """See `Site.respond`."""
        if not self.go(seen):
            return await super().respond(request, seen)
        self.sent_away += 1
        status, location = self.answer_by
        return web.Response(status=status, headers={"Location": location})


async def submit(comfy):
    """Queue a prompt with a key in its body."""
    return await comfy.submit(picture(), extra_data={"api_key_comfy_org": COMFY_KEY})


async def submit_and_wait(comfy):
    """The same, to its end."""
    await (await submit(comfy)).result(SECONDS)


# What is asked for: which requests are sent away, and how the client comes to send them.
ASKED = {
    "get": (lambda seen: seen.path == "/system_stats", lambda comfy: comfy.info()),
    "post": (lambda seen: seen.method == "POST", submit),
    "command": (lambda seen: seen.method == "POST" and seen.path != "/prompt", None),
    "websocket": (lambda seen: seen.path == "/ws", submit_and_wait),
    "upload": (lambda seen: seen.path == "/upload/image", lambda comfy: comfy.upload(b"a picture", name="mine.png")),
    "view": (lambda seen: seen.path == "/view", lambda comfy: comfy.read(FILE)),
}


async def cancel_one(comfy, emulator):
    """Have the client send commands."""
    hold = emulator.faults.hold("EmptyImage")
    job = await submit(comfy)
    await hold.reached()
    try:
        await job.cancel()
    finally:
        hold.release()


# A file may be at a storage, by https on another port: see below.
AWAY = [(asked, place) for asked in ASKED for place in PLACES if (asked, place) != ("view", "another scheme")]


@pytest.mark.parametrize(("asked", "place"), AWAY)
async def test_what_leads_elsewhere_gets_nothing_at_all(serve, emulator, asked, place):
    ear, site = await serve(Ear()), await serve(Moved(emulator.url))
    goes, ask = ASKED[asked]
    for status in STATUSES:
        async with ComfyClient(site.url, **everything()) as comfy:
            site.go = lambda seen: False
            await comfy.login()
            site.answer_by = (status, f"{PLACES[place](ear)}/prompt")
            before = site.sent_away
            site.go = goes
            with contextlib.suppress(ComfyClientError) if asked == "websocket" else pytest.raises(ComfyClientError):
                await (ask(comfy) if ask else cancel_one(comfy, emulator))
            assert site.sent_away > before
    assert ear.heard == []


@pytest.mark.parametrize("asked", [name for name in ASKED if name != "command"])
async def test_another_name_of_the_same_server_is_another_origin(serve, emulator, asked):
    site = await serve(Moved(emulator.url))
    goes, ask = ASKED[asked]
    for status in STATUSES:
        async with ComfyClient(site.url, **everything()) as comfy:
            site.go = lambda seen: False
            await comfy.login()
            site.answer_by = (status, f"http://localhost:{site.port}/elsewhere")
            site.go = goes
            with contextlib.suppress(ComfyClientError):
                await ask(comfy)
    assert {seen.headers["Host"] for seen in site.requests} == {f"127.0.0.1:{site.port}"}
    assert site.asked("GET", "/elsewhere") == site.asked("POST", "/elsewhere") == []


@pytest.mark.parametrize("status", STATUSES)
async def test_a_websocket_follows_no_redirect_even_at_home(serve, emulator, status):
    site = await serve(Moved(emulator.url))
    site.go = lambda seen: seen.path == "/ws"
    site.answer_by = (status, f"{site.url.replace('http', 'ws')}/socket")
    async with ComfyClient(site.url, **everything()) as comfy:
        await submit_and_wait(comfy)
        assert not comfy.connected
    assert site.asked("GET", "/socket") == []
    assert site.sent_away >= 1


async def test_what_was_not_sent_away_carried_it_all(serve, emulator):
    site = await serve(Moved(emulator.url))
    async with ComfyClient(site.url, **everything()) as comfy:
        await submit_and_wait(comfy)
        await comfy.upload(b"a picture", name="mine.png")
    assert all(set(seen.headers) >= SENT for seen in site.requests[1:])
    assert SENT.isdisjoint(site.requests[0].headers)
    assert any(COMFY_KEY in seen.body.decode() for seen in site.asked("POST", "/prompt"))


# The login itself


class Leaving(Gateway):
    """A mixin: one request, or all from it on, is sent away instead of what it would get.

    Attributes:
        at: Its number, from 0.
        on: All from it on.
        answer_by: The status and the ``Location``, in which ``HOME`` is the server itself.
    """

    at, on, answer_by = -1, False, (302, "/")

    async def respond(self, request, seen):
        """See `Site.respond`."""
        number = len(self.requests) - 1
        if number == self.at or (self.on and number > self.at >= 0):
            status, location = self.answer_by
            location = location.replace("HOME", f"{self.host}:{self.port}")
            cookie = {"Set-Cookie": "planted=by-the-redirect; Path=/"}
            return web.Response(status=status, headers={"Location": location, **cookie})
        return await super().respond(request, seen)


class TokenPage(Gateway):
    """Gives a cookie for ``?token=``, as vast.ai's portal does."""

    def __init__(self, upstream, **options):
        super().__init__(upstream, cookie="C.1_auth_token", **options)

    def refuse(self, request):
        """See `Gateway.refuse`."""
        if request.query.get("token") != "token-0123456":
            return web.Response(status=401)
        return web.Response(status=302, headers=[self.set_cookie(self.new_session()), ("Location", "/prompt")])


def both(server, access):
    return {"access_id": access.client_id, "access_secret": access.client_secret, "password": server.password}


LOGINS = {
    "bearer": ([Bearer], lambda s: {"credential": Credential.of(token=s.token)}),
    "basic": ([Basic], lambda s: {"credential": Credential.of(username=s.username, password=s.password)}),
    "form": ([LoginForm], lambda s: {"auth": FormLogin(s.username, s.password)}),
    "form-auto": ([LoginForm], lambda s: {"credential": Credential.of(username=s.username, password=s.password)}),
    "comfyui-login": ([ComfyUILogin], lambda s: {"credential": Credential.of(password=s.password)}),
    "token": ([TokenPage], lambda s: {"auth": TokenLogin("token-0123456")}),
    "everything": ([Gateway], lambda s: everything()),
    "access+basic": (
        [Basic, AccessServer],
        lambda s, a: {"credential": Credential.of(username=s.username, **both(s, a))},
    ),
    "access+form": (
        [LoginForm, AccessServer],
        lambda s, a: {"credential": Credential.of(username=s.username, **both(s, a))},
    ),
    "access+comfyui-login": ([ComfyUILogin, AccessServer], lambda s, a: {"credential": Credential.of(**both(s, a))}),
}


async def login(serve, emulator, case, **leaving):
    """One login; returns the outermost server."""
    stack, options = LOGINS[case]
    *inner, outer = stack
    gates = await build(serve, emulator, [*inner, type(f"Leaving{outer.__name__}", (Leaving, outer), {})])
    vars(gates[-1]).update(leaving)
    async with ComfyClient(gates[-1].url, **options(*gates)) as comfy:
        with contextlib.suppress(ComfyClientError):
            await comfy.login()
            await comfy.info()
    return gates[-1]


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("case", LOGINS)
async def test_whatever_step_of_a_login_leads_elsewhere_nothing_goes_there(serve, emulator, case, status):
    ear = await serve(Ear())
    steps = len((await login(serve, emulator, case)).requests)
    assert steps >= 2
    for place in (
        "http://127.0.0.1:{}/login",
        "http://localhost:{}/prompt",
        "//127.0.0.1:{}/",
        "https://127.0.0.1:{}/",
    ):
        for at in range(steps):
            for on in (False, True):
                away = (status, place.format(ear.port))
                server = await login(serve, emulator, case, at=at, on=on, answer_by=away)
                assert len(server.requests) > at
    assert ear.heard == []


# Where no reader of urls agrees with the next, "elsewhere" must not be taken for home.
spellings = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "http:", "https:", "HTTP:", "http:/", "ws:", " http:", "\thttp:", "http:\\"]),
    st.sampled_from(["//", "/\\", "\\\\", "\\/", "/", "///", "////", "/%2F", "//@", "//a@", "//127.0.0.1@", "//a:b@"]),
    st.sampled_from(["{ear}", "{ear}#@{home}", "{ear}\\@{home}", "{home}@{ear}", "{ear}%23@{home}", "{ear}?@{home}"]),
    st.sampled_from(["", "/", "/login", "/login?next=/", "\\login", ";/login", "/../login", "/%2e%2e/login"]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spelling=spellings, status=st.sampled_from(STATUSES), at=st.integers(0, 4), case=st.sampled_from(["form", "token"])
)
async def test_no_spelling_of_elsewhere_is_taken_for_home(spelling, status, at, case):
    async with Ear() as ear, contextlib.AsyncExitStack() as servers:
        upstream = await servers.enter_async_context(Site())
        upstream.answer("GET", "/prompt", times=100, text='{"exec_info": {"queue_remaining": 0}}')
        kind, options = LOGINS[case]
        site = await servers.enter_async_context(type("Leaving", (Leaving, *kind), {})(upstream.url))
        home, stranger = f"127.0.0.1:{site.port}", f"127.0.0.1:{ear.port}"
        site.at, site.answer_by = at, (status, spelling.replace("{ear}", stranger).replace("{home}", home))
        async with ComfyClient(site.url, **options(site)) as comfy:
            with contextlib.suppress(ComfyClientError):
                await comfy.login()
                await comfy.info()
        assert ear.heard == []


@pytest.mark.parametrize("case", ["form", "token", "access+form"])
async def test_a_redirect_names_no_user_to_log_in_as(serve, emulator, case):
    steps = len((await login(serve, emulator, case)).requests)
    for at in range(steps):
        away = {"at": at, "answer_by": (302, "http://mallory:planted@HOME/login")}
        server = await login(serve, emulator, case, **away)
        assert not any("Authorization" in seen.headers for seen in server.requests)


@pytest.mark.parametrize("at", range(5))
async def test_a_redirect_that_names_a_user_does_not_break_a_login_with_a_header_of_its_own(serve, emulator, at):
    server = await serve(type("LeavingForm", (Leaving, LoginForm), {})(emulator.url))
    server.at, server.answer_by = at, (302, "http://mallory:planted@HOME/login")
    own = Headers({"Authorization": "Bearer of-my-own-0123"})
    async with ComfyClient(server.url, auth=[own, FormLogin(server.username, server.password)]) as comfy:
        with contextlib.suppress(ComfyClientError):
            await comfy.login()
    assert len(server.requests) > at
    assert {seen.headers.get("Authorization") for seen in server.requests} <= {None, "Bearer of-my-own-0123"}


# Files that are at a storage


class Stored(Site):
    """An instance whose files are elsewhere: ``/view`` leads to ``place``."""

    def __init__(self, place="", *, status=302, **options):
        super().__init__(**options)
        self.place = place
        self.status = status

    async def respond(self, request, seen):
        """See `Site.respond`."""
        if seen.path == "/view":
            cookie = "planted=by-the-redirect; Path=/; Domain=127.0.0.1"
            return web.Response(status=self.status, headers={"Location": self.place, "Set-Cookie": cookie})
        return web.json_response({"exec_info": {"queue_remaining": 0}})


class Storage(Site):
    """Gives what is asked for, or leads on to ``place``."""

    def __init__(self, place=None, **options):
        super().__init__(**options)
        self.place = place

    async def respond(self, request, seen):
        """See `Site.respond`."""
        cookie = {"Set-Cookie": "planted=by-the-storage; Path=/"}
        if self.place is not None:
            return web.Response(status=302, headers={"Location": self.place, **cookie})
        return web.Response(body=b"the file", headers=cookie)


@pytest.fixture(scope="module")
def ca():
    return trustme.CA()


@pytest.fixture
def ca_file(ca, tmp_path):
    ca.cert_pem.write_to_path(path := tmp_path / "ca.pem")
    return str(path)


def shown(ca, *names):
    """For a server that shows a certificate of that CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
    return context


BARE = {"Host", "User-Agent", "Accept", "Accept-Encoding"}


def signed(site, path="/bucket/picture.png", scheme="https", host="127.0.0.1"):
    return f"{scheme}://{host}:{site.port}{path}?{SIGNED}"


@pytest.mark.parametrize("tls", ["http", "pinned", "insecure", "ca_file", "system"])
async def test_a_file_at_a_storage_is_fetched_bare_by_the_systems_trust(serve, ca, ca_file, tmp_path, tls):
    storage = await serve(Storage(ssl_context=shown(ca)))
    _, pem = self_signed()
    (own := tmp_path / "own.pem").write_bytes(pem)
    context = None
    if tls == "system":
        context = shown(ca)
    elif tls != "http":
        (context := ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).load_cert_chain(own)
    site = await serve(Stored(signed(storage), ssl_context=context))
    trust = {
        "pinned": {"fingerprint": fingerprint_of(der_of(pem))},
        "insecure": {"insecure": True},
        "ca_file": {"ca_file": str(own), "check_hostname": False},
    }.get(tls)
    (outcome,) = await in_another_process(ca_file, {"url": site.url, "tls": trust, "what": "view"})
    assert outcome == {"read": "the file"}
    (seen,) = storage.requests
    assert (seen.method, seen.target, seen.body) == ("GET", f"/bucket/picture.png?{SIGNED}", b"")
    assert set(seen.headers) == BARE
    assert set(site.asked("GET", "/view")[0].headers) >= SENT


@pytest.mark.parametrize("status", STATUSES)
async def test_every_kind_of_redirect_leads_to_a_storage(serve, ca, ca_file, status):
    storage = await serve(Storage(ssl_context=shown(ca)))
    site = await serve(Stored(signed(storage), status=status))
    (outcome,) = await in_another_process(ca_file, {"url": site.url, "what": "view"})
    assert outcome == {"read": "the file"}
    assert set(storage.requests[0].headers) == BARE


@pytest.mark.parametrize("trust", ["pinned", "insecure", "ca_file"])
async def test_what_is_trusted_of_the_instance_is_not_trusted_of_a_storage(serve, tmp_path, trust):
    _, pem = self_signed()
    (file := tmp_path / "own.pem").write_bytes(pem)
    (context := ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).load_cert_chain(file)
    tls = {
        "pinned": TLS(fingerprint=fingerprint_of(der_of(pem))),
        "insecure": TLS(insecure=True),
        "ca_file": TLS(ca_file=str(file), check_hostname=False),
    }[trust]
    with Recorder(pem, tmp_path) as storage:
        site = await serve(Stored(signed(storage), ssl_context=context))
        async with ComfyClient(site.url, tls=tls, **everything()) as comfy:
            with pytest.raises(TransferError, match="not trusted") as refused:
                await comfy.read(FILE)
        assert (await asyncio.to_thread(storage.connection)).said == b""
    assert "Signature" not in f"{refused.value} {refused.value.hint}"


async def test_a_storage_leads_on_three_times_at_most_and_bare_each_time(serve, ca, ca_file):
    last = await serve(Storage(ssl_context=shown(ca)))
    chain = [last]
    for _ in range(4):
        chain.insert(0, await serve(Storage(signed(chain[0]), ssl_context=shown(ca))))
    site = await serve(Stored(""))
    asked = []
    for hops in (1, 2, 3, 4, 5):
        site.place = signed(chain[-hops])
        (outcome,) = await in_another_process(ca_file, {"url": site.url, "what": "view"})
        asked.append((outcome.get("read"), [len(storage.requests) for storage in chain]))
        for storage in chain:
            assert all(set(seen.headers) == BARE for seen in storage.requests)
            storage.requests.clear()
    assert asked == [
        ("the file", [0, 0, 0, 0, 1]),
        ("the file", [0, 0, 0, 1, 1]),
        ("the file", [0, 0, 1, 1, 1]),
        (None, [0, 1, 1, 1, 0]),
        (None, [1, 1, 1, 0, 0]),
    ]


NOT_FOLLOWED = {
    "http": lambda ear: f"http://127.0.0.1:{ear.port}/file?{SIGNED}",
    "http, another host": lambda ear: f"http://localhost:{ear.port}/file?{SIGNED}",
    "no scheme": lambda ear: f"//127.0.0.1:{ear.port}/file?{SIGNED}",
    "a login page": lambda ear: f"https://127.0.0.1:{ear.port}/login?next=/view",
    "a login page elsewhere": lambda ear: f"https://localhost:{ear.port}/sso/authorize?client_id=1",
    "unsigned": lambda ear: f"https://localhost:{ear.port}/picture.png",
    "unreadable": lambda ear: f"https://localhost:{ear.port}/login\\picture.png",
    "ftp": lambda ear: f"ftp://127.0.0.1:{ear.port}/file?{SIGNED}",
    "a websocket": lambda ear: f"wss://127.0.0.1:{ear.port}/file?{SIGNED}",
}


@pytest.mark.parametrize("where", NOT_FOLLOWED)
async def test_what_is_no_storage_is_not_asked_for_a_file(serve, where):
    ear = await serve(Ear())
    site = await serve(Stored(NOT_FOLLOWED[where](ear)))
    with hurried(50):
        async with ComfyClient(site.url, **everything()) as comfy:
            with pytest.raises((TransferError, AuthError)):
                await comfy.read(FILE)
    assert ear.heard == []


@pytest.mark.parametrize("where", [name for name in NOT_FOLLOWED if name != "no scheme"])
async def test_a_storage_does_not_lead_to_what_is_none(serve, ca, ca_file, where):
    ear = await serve(Ear())
    storage = await serve(Storage(NOT_FOLLOWED[where](ear), ssl_context=shown(ca)))
    site = await serve(Stored(signed(storage)))
    (outcome,) = await in_another_process(ca_file, {"url": site.url, "what": "view", "hurried": 50})
    assert "read" not in outcome
    assert len(storage.requests) >= 1
    assert ear.heard == []


async def test_a_storage_that_leads_back_to_the_instance_gets_nothing_from_us_there(serve, ca, ca_file):
    site = await serve(Stored("", ssl_context=shown(ca)))
    storage = await serve(Storage(signed(site, "/secret-file"), ssl_context=shown(ca)))
    site.place = signed(storage)
    await in_another_process(ca_file, {"url": site.url, "what": "view"})
    assert len(storage.requests) == 1
    for seen in site.asked("GET", "/secret-file"):
        assert set(seen.headers) == BARE
    assert len(site.asked("GET", "/view")) == 1


async def test_a_user_in_the_address_of_a_storage_is_left_out(serve, ca, ca_file):
    storage = await serve(Storage(ssl_context=shown(ca)))
    site = await serve(Stored(signed(storage).replace("https://", "https://mallory:planted@")))
    await in_another_process(ca_file, {"url": site.url, "what": "view"})
    assert all(set(seen.headers) == BARE for seen in storage.requests)


REFUSALS = (401, 403, 404, 407, 410, 429, 500, 503)


class Breaking(Site):
    """A storage that hangs up, or answers what is no HTTP."""

    async def respond(self, request, seen):
        """See `Site.respond`."""
        if "nonsense" in seen.path:
            request.transport.write(f"{seen.target} {SIGNED}\r\n\r\n".encode())
        request.transport.abort() if "nonsense" not in seen.path else request.transport.close()
        return web.Response()


async def refusals(serve, storage):
    """One step for each of them."""
    sites = [await serve(Stored(signed(storage, f"/bucket/{status}.png"))) for status in REFUSALS]
    return [{"url": site.url, "what": "view", "hurried": 200} for site in sites]


async def test_the_signature_of_a_storage_is_in_no_message(serve, ca, ca_file):
    storage = await serve(Site(ssl_context=shown(ca)))
    for status in REFUSALS:
        echo = {"status": status, "text": f"denied: {SIGNED}", "headers": {"WWW-Authenticate": f'Own realm="{SIGNED}"'}}
        path = f"/bucket/{status}.png"
        storage.answer("GET", path, times=99, **echo)
    outcomes = await in_another_process(ca_file, *await refusals(serve, storage))
    assert len(storage.requests) >= len(REFUSALS)
    for outcome in outcomes:
        assert outcome["error"]
        assert not re.search("0123456789abcdef|Amz|bucket", json.dumps(outcome))


@pytest.mark.parametrize("path", ["/bucket/hangs-up.png", "/bucket/nonsense.png"])
async def test_the_signature_of_a_storage_that_breaks_is_in_no_message(serve, ca, ca_file, path):
    storage = await serve(Breaking(ssl_context=shown(ca)))
    site = await serve(Stored(signed(storage, path)))
    (outcome,) = await in_another_process(ca_file, {"url": site.url, "what": "view", "hurried": 200})
    assert outcome["error"] == "TransferError"
    assert storage.requests
    assert not re.search("0123456789abcdef|Amz", json.dumps(outcome))


async def test_a_storage_that_refuses_is_no_matter_of_logins(serve, ca, ca_file):
    storage = await serve(Site(ssl_context=shown(ca)))
    for status in REFUSALS:
        storage.answer("GET", f"/bucket/{status}.png", times=99, status=status, text="the link has expired")
    outcomes = await in_another_process(ca_file, *await refusals(serve, storage))
    assert [outcome["error"] for outcome in outcomes] == ["TransferError"] * len(REFUSALS)
    assert not any("ComfyUI, which" in outcome["said"] for outcome in outcomes)
