"""A credential goes to its origin and to nobody else, by no way: urls, proxies, cookie jars, the environment."""

import asyncio
import contextlib
import socket
import ssl
from urllib.parse import quote

import pytest
import trustme
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from yarl import URL

from comfyclient import (
    TLS,
    ApiKey,
    Auth,
    AuthError,
    BearerToken,
    ComfyClient,
    ComfyClientError,
    ConfigError,
    Cookies,
    Credential,
    CredentialsExpired,
    FormLogin,
    JobState,
    OutcomeUnknown,
    OutputRef,
)

from ..contract.prompts import picture  # noqa: TID252
from .eavesdrop import MARK, Ear, Overheard, in_another_process, secrets
from .hurry import hurried
from .servers import ApiKey as KeyServer
from .servers import Basic, Bearer, ComfyUILogin, Gateway, LoginForm, Site
from .sniffer import Sniffer
from .stages import SECONDS, round_trip, until

SIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0123456789abcdef"


@pytest.fixture(scope="module")
def nobody():
    """An address where nobody answers."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    return f"127.0.0.1:{port}"


# Urls with a credential in them

WELL_FORMED = {
    "password": lambda secret: f"http://ada:{quote(secret, safe='')}@HOST",
    "password, with a path": lambda secret: f"http://ada:{quote(secret, safe='')}@HOST/prefix/",
    "password alone": lambda secret: f"http://:{quote(secret, safe='')}@HOST",
    "token": lambda secret: f"http://HOST/?token={quote(secret, safe='')}",
    "token of a prefix": lambda secret: f"http://HOST/prefix?token={quote(secret, safe='')}",
    "blanks around": lambda secret: f"  http://ada:{quote(secret, safe='')}@HOST\n",
    "capitals": lambda secret: f"HTTP://ada:{quote(secret, safe='')}@HOST",
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=secrets, form=st.sampled_from(sorted(WELL_FORMED)))
async def test_a_credential_in_the_url_is_taken_out_of_it_whole(nobody, secret, form):
    url = WELL_FORMED[form](secret).replace("HOST", nobody)
    with Overheard() as overheard:
        async with ComfyClient(url, timeout=1) as comfy:
            given = comfy._session._credential
            assert (given.token or given.password).reveal() == secret
            assert str(comfy.url) in {f"http://{nobody}", f"http://{nobody}/", f"http://{nobody}/prefix"}
            for ask in (comfy.login, comfy.info, lambda: comfy.submit(picture())):
                with pytest.raises(ComfyClientError) as error:
                    await ask()
                overheard.note(error.value)
            overheard.note(comfy, comfy.url, comfy._session, comfy._session.cookies, given, comfy._http.base)
    assert overheard.betrays(secret) == []


odd_urls = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["http://", "https://", "HTTP://", "http:/", "http:", "//", "", "ftp://", "ws://", "http:\\\\", " http://"]),
    st.sampled_from(["ada:SECRET@", ":SECRET@", "SECRET@", "SECRET:@", "ada:x:SECRET@", "a@b:SECRET@", "ada:SECRET@@"]),
    st.sampled_from(["HOST", "HOST:", "127.0.0.1:99999", "127.0.0.1:port", "[::1", "[::1]:1", "", "ho st",
                     "host..name", "ä.example", "%", "\x7f"]),
    st.sampled_from(["", "/", "/prefix", "/a b", "/%zz", "\\", "/../.."]),
    st.sampled_from(["", "?token=SECRET", "?token=SECRET&x=1", "?key=SECRET", "#SECRET", "?token=",
                     "?", "#", "?SECRET", "/SECRET@x"]),
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(url=odd_urls, secret=secrets, raw=st.booleans())
@example(url="http://ada:SECRET@HOST", secret="p@Kq7ZxW%2F#", raw=True)
@example(url="http://ada:SECRET@HOST", secret="12Kq7ZxW/34", raw=True)
@example(url="http://ada:SECRET@HOST", secret="12/Kq7ZxW34", raw=True)
@example(url="http://ada:SECRET@HOST", secret="12#Kq7ZxW34", raw=True)
@example(url="http://ada:SECRET@HOST", secret="12?Kq7ZxW34", raw=True)
@example(url="http://ada:SECRET@HOST", secret="1\\Kq7ZxW34", raw=True)
@example(url="http://ada:SECRET@HOST", secret="[Kq7ZxW3456", raw=True)
@example(url="http://ada:SECRET@HOST", secret="Kq7ZxW\ud800ab", raw=True)
@example(url="http://ada:SECRET@HOST", secret="Kq7ZxW\udcffab", raw=True)
@example(url="http://HOST/?token=SECRET", secret="Kq7ZxW\udcffab", raw=True)
@example(url="http://HOST/?token=SECRET", secret="Kq7ZxW%ff%ab", raw=True)
async def test_an_odd_url_is_read_or_refused_and_its_secret_kept(nobody, url, secret, raw):
    text = url.replace("SECRET", secret if raw else quote(secret, safe="", errors="surrogateescape"))
    with Overheard() as overheard:
        try:
            comfy = ComfyClient(text.replace("HOST", nobody), timeout=1)
        except ConfigError as error:
            overheard.note(error)
        else:
            overheard.note(comfy, comfy.url, comfy.url.human_repr(), comfy._session, comfy._session._credential)
            await comfy.close()
    assert overheard.betrays(secret) == []
    assert not any(MARK in text for text in overheard.texts)  # nor a part of it


async def test_what_comes_before_a_slash_is_not_taken_for_the_host(serve):
    """``user:pass/word@host``: the part before the slash looks like a host and its port."""
    ear = await serve(Ear())
    for wrong in ("/", "?", "#", "\\", "/x?", "%"):
        with contextlib.suppress(ComfyClientError):
            async with ComfyClient(f"http://127.0.0.1:{ear.port}{wrong}word@comfy.example", timeout=1) as comfy:
                await comfy.info()
    assert ear.heard == []


# Where the credential is in a request


class Asked(Auth):
    """A scheme of one's own that remembers what it was asked for."""

    name = "of one's own"

    def __init__(self):
        self.urls = []

    def headers(self, url):
        """See `Auth.headers`."""
        self.urls.append(url)
        return {"X-Own": "own-secret-0123"}

    def socket_query(self, url):
        """See `Auth.socket_query`."""
        self.urls.append(url)
        return {}


async def test_a_scheme_is_asked_for_the_instances_origin_only(serve, emulator, tmp_path):
    site = await serve(type("Open", (Gateway,), {"admits": lambda *_: True})(emulator.url))
    ear, own = await serve(Ear()), Asked()
    site.answer("GET", "/view", status=302, headers={"Location": f"{ear.at('https', 'localhost')}/file?{SIGNED}"})
    async with ComfyClient(site.url, auth=own) as comfy:
        with pytest.raises(ComfyClientError):
            await comfy.read(OutputRef("1", "images", "picture.png"))
        await round_trip(comfy, emulator, tmp_path)
    assert len(ear.heard) == 1  # a TLS hello
    assert {url.origin() for url in own.urls} == {URL(site.url).origin()}
    assert {url.path for url in own.urls} >= {"/prompt", "/ws", "/view", "/upload/image"}


doors = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "/", "//", "///", "\\\\", "/\\", "http://", "http:", "https://", "//a@", "http://127.0.0.1:1@",
                     "..//", "?//", "#//"]),
    st.sampled_from(["EAR", "EAR/", "EAR#@", "EAR?x=", "a@EAR", "%2F%2FEAR", "x\\EAR"]),
    st.sampled_from(["", "/login", "/../login"]),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(way=doors, as_url=st.booleans(), method=st.sampled_from(["GET", "POST"]))
async def test_the_door_of_a_login_leads_to_the_instance_only(way, as_url, method):
    async with Ear() as ear, Site() as site:
        site.answer("GET", "/prompt", times=9, text='{"exec_info": {"queue_remaining": 0}}')

        class Wandering(Asked):
            async def login(self, door):
                place = way.replace("EAR", f"127.0.0.1:{ear.port}")
                try:
                    target = URL(place) if as_url else place
                    await door.send(method, target, headers={"X-Form": "form-secret-0123"}, data=b"password=0123")
                except ValueError:  # no url at all
                    raise AuthError("it leads nowhere") from None

        async with ComfyClient(site.url, auth=Wandering()) as comfy:
            with contextlib.suppress(ComfyClientError):
                await comfy.login()
        assert ear.heard == []
        assert len({seen.headers["Host"] for seen in site.requests}) == 1


@pytest.mark.parametrize("way", ["scheme", "credential", "url"])
async def test_a_token_or_key_is_in_no_url(serve, emulator, tmp_path, way):
    if way == "url":
        server = await serve(Bearer(emulator.url))
        comfy = ComfyClient(f"{server.url}/?token={server.token}")
        secret = server.token
    else:
        server = await serve(KeyServer(emulator.url))
        comfy = ComfyClient(
            server.url,
            **({"auth": ApiKey(server.key)} if way == "scheme" else {"credential": Credential.of(api_key=server.key)}),
        )
        secret = server.key
    async with comfy:
        await comfy.login()
        await round_trip(comfy, emulator, tmp_path)
        assert comfy.connected
    assert not any(secret in seen.target for seen in server.requests)


@pytest.fixture
def cloud(monkeypatch):
    """``cloud.comfy.org`` is this machine."""
    real = socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        return real("127.0.0.1" if host == "cloud.comfy.org" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_only_comfy_cloud_gets_the_key_in_the_url_and_only_by_https(serve, emulator, tmp_path, cloud, scheme):
    ca, context, tls = trustme.CA(), None, None
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("cloud.comfy.org").configure_cert(context)
        ca.cert_pem.write_to_path(file := tmp_path / "ca.pem")
        tls = TLS(ca_file=str(file))
    server = await serve(KeyServer(emulator.url, socket_token=True, ssl_context=context))
    url = f"{scheme}://cloud.comfy.org:{server.port}"
    async with ComfyClient(url, auth=ApiKey(server.key), tls=tls) as comfy:
        await comfy.login()
        await comfy._socket.start()
        assert comfy.connected == (scheme == "https")
    in_url = {seen.path for seen in server.requests if server.key in seen.target}
    assert in_url == ({"/ws"} if scheme == "https" else set())


# Cookies are kept by the session alone: aiohttp keeps cookies of names, not of addresses, so the host has one here.


@pytest.mark.parametrize("make", [LoginForm, ComfyUILogin])
async def test_a_cookie_goes_out_once_and_as_it_came(serve, emulator, tmp_path, make):
    server = await serve(make(emulator.url))
    name = f"http://localhost:{server.port}"
    async with ComfyClient(
        name, auth=FormLogin(server.username if make is LoginForm else None, server.password)
    ) as comfy:
        await comfy.login()
        (value,) = [cookie.value for cookie in comfy._session.cookies if cookie.name == server.cookie]
        await round_trip(comfy, emulator, tmp_path)
        await comfy.info()
    for seen in server.passed:
        pairs = [pair.strip() for line in seen.headers.getall("Cookie") for pair in line.split(";")]
        assert [pair for pair in pairs if pair.startswith(f"{server.cookie}=")] == [f"{server.cookie}={value}"]


class Planting(Gateway):
    """Lets everybody in and sets cookies: of all paths, of one, for a while, for others."""

    def admits(self, request):
        """See `Gateway.admits`."""
        return True

    def additions(self, request):
        """See `Gateway.additions`."""
        lines = {
            "/system_stats": [
                "all=1; Path=/",
                "queue=2; Path=/queue",
                "parent=3; Domain=localhost",
                "other=4; Domain=x.org",
            ],
            "/queue": ["all=; Max-Age=0; Path=/", "gone=5; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/"],
        }
        return [("Set-Cookie", line) for line in lines.get(request.path, ())]


async def test_nobody_keeps_cookies_besides_the_session(serve, emulator):
    site, other = await serve(Planting(emulator.url)), await serve(Planting(emulator.url))
    async with (
        ComfyClient(f"http://localhost:{site.port}") as comfy,
        ComfyClient(f"http://localhost:{other.port}") as next_door,
    ):
        await comfy.info()
        await comfy.jobs()
        kept = sorted(f"{cookie.name}={cookie.value}" for cookie in comfy._session.cookies)
        await comfy.info()
        await next_door.info()
    async with ComfyClient(f"http://localhost:{site.port}") as later:
        await later.info()
    asked = [seen.headers.get("Cookie") for seen in site.asked("GET", "/system_stats")]
    assert kept == ["parent=3", "queue=2"]
    assert asked == [None, "parent=3", None]
    assert site.asked("GET", "/queue")[0].headers["Cookie"] == "queue=2; all=1; parent=3"
    assert "Cookie" not in other.requests[0].headers


@pytest.mark.parametrize("make", [LoginForm, ComfyUILogin])
async def test_an_old_session_is_not_taken_along_to_the_new_login(serve, emulator, make):
    server = await serve(make(emulator.url))
    url = f"http://localhost:{server.port}"
    async with ComfyClient(
        url, auth=FormLogin(server.username if make is LoginForm else None, server.password)
    ) as comfy:
        await comfy.login()
        (old,) = server.sessions
        server.expire()
        before = len(server.requests)
        await comfy.info()
        assert server.logins == 2
    asked = [(old in seen.headers.get("Cookie", ""), seen.method) for seen in server.requests[before:]]
    refused = next(number for number, (carries_old, _) in enumerate(asked) if not carries_old)
    assert refused >= 1
    assert not any(carries_old for carries_old, _ in asked[refused:])
    assert "POST" in [method for _, method in asked[refused:]]


# The environment


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Proxies and a ``.netrc`` of the user's; a function that sets the proxy."""
    (file := tmp_path / "netrc").write_text(
        "machine 127.0.0.1 login env password env-0123456\ndefault login env password env-0123456\n"
    )
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(file.read_text())
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def proxies(url):
        for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy", "socks_proxy"):
            monkeypatch.setenv(name, url)
            monkeypatch.setenv(name.upper(), url)

    return proxies


async def test_proxies_and_logins_of_the_environment_are_left_alone(serve, emulator, tmp_path, environment):
    ear = await serve(Ear())
    environment(ear.at("http"))
    server = await serve(Bearer(emulator.url))
    async with ComfyClient(server.url, auth=BearerToken(server.token)) as comfy:
        await comfy.login()
        await round_trip(comfy, emulator, tmp_path)
        assert comfy.connected
    basic = await serve(Basic(emulator.url, username="env", password="env-0123456"))
    async with ComfyClient(basic.url) as comfy:
        with pytest.raises(AuthError):
            await comfy.info()
    assert ear.heard == []
    assert not any("Authorization" in seen.headers for seen in basic.requests)


async def test_with_the_environment_trusted_a_login_of_ones_own_still_counts(serve, emulator, tmp_path, environment):
    server = await serve(Bearer(emulator.url))
    async with ComfyClient(server.url, auth=BearerToken(server.token), trust_env=True) as comfy:
        await comfy.login()
        await round_trip(comfy, emulator, tmp_path)
    carried = {seen.headers.get("Authorization") for seen in server.requests}
    assert carried == {None, f"Bearer {server.token}"}


async def test_with_the_environment_trusted_a_storage_is_still_asked_bare(serve, environment, tmp_path):
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(file := tmp_path / "ca.pem")
    storage = await serve(Site(ssl_context=context))
    site = await serve(Site())
    site.answer("GET", "/prompt", text='{"exec_info": {"queue_remaining": 0}}')
    site.answer("GET", "/view", status=302, headers={"Location": f"{storage.url}/file?{SIGNED}"})
    step = {"url": site.url, "what": "view", "trust_env": True, "bare": True}
    await in_another_process(file, step, NETRC=str(tmp_path / "netrc"))
    assert len(storage.requests) == 1
    assert "Authorization" not in storage.requests[0].headers


# Jobs that are watched when the credential is no longer good


@pytest.mark.parametrize("make", [Bearer, LoginForm])
async def test_a_job_is_given_up_when_nobody_lets_us_look_any_more(serve, emulator, monkeypatch, make):
    monkeypatch.setattr("comfyclient.looking._REFUSED_FOR", 0.2)
    server = await serve(make(emulator.url))
    secret = server.token if make is Bearer else server.password
    scheme = BearerToken(secret) if make is Bearer else FormLogin(server.username, secret)
    hold = emulator.faults.hold("EmptyImage")
    with Overheard(gateway=True) as overheard:
        async with ComfyClient(server.url, auth=scheme, poll_interval=0.05) as comfy:
            job = await comfy.submit(picture())
            await hold.reached()
            server.revoked = server.deaf = True
            server.expire()
            server.drop_sockets()
            with pytest.raises(OutcomeUnknown) as unknown:
                await job.result(SECONDS)
            assert job.state is JobState.UNKNOWN
            assert job.id in str(unknown.value)
            assert "login" in str(unknown.value)
            tries = server.attempts
            with pytest.raises(AuthError) as expired:
                await comfy.info()
            overheard.note(unknown.value, expired.value, job)
            hold.release()
        assert tries <= 4
        assert server.attempts <= 4
    assert overheard.betrays(secret) == []


async def test_one_refusal_does_not_end_a_job_that_is_watched(serve, emulator):
    server = await serve(Bearer(emulator.url))
    hold = emulator.faults.hold("EmptyImage")
    with hurried(20):
        async with ComfyClient(server.url, auth=BearerToken(server.token), poll_interval=0.5) as comfy:
            job = await comfy.submit(picture())
            await hold.reached()
            server.answer("GET", "/queue", status=401)
            server.drop_sockets()
            async with asyncio.timeout(20 * SECONDS):
                await server.until(lambda: any(seen.status == 401 for seen in server.asked("GET", "/queue")))
                looked = len(server.passed)
                await server.until(lambda: any(seen.path == "/queue" for seen in server.passed[looked:]))
            assert not job.state.is_terminal
            hold.release()
            await job.result(20 * SECONDS)


async def test_a_websocket_that_is_refused_does_not_end_the_login(serve, emulator):
    """Jobs can do without it; and what it is refused for, requests may not be."""
    server = await serve(KeyServer(emulator.url, socket_token=True))  # which this client gives to Comfy Cloud only
    async with ComfyClient(server.url, auth=ApiKey(server.key)) as comfy:
        for _ in range(2):
            await (await comfy.submit(picture())).result(SECONDS)
            await comfy.info()
        assert not comfy.connected
    assert {seen.path for seen in server.refused} <= {"/ws", "/prompt", "/login"}


async def test_a_websocket_that_is_refused_is_not_tried_at_once_again(serve, emulator, monkeypatch):
    waited = []
    monkeypatch.setattr("comfyclient.socket._delay", lambda failures, first: waited.append((failures, first)) or 0.0)
    server = await serve(Bearer(emulator.url))
    server.answer("GET", "/ws", times=5, status=403)
    async with ComfyClient(server.url, auth=BearerToken(server.token)) as comfy:
        await comfy.submit(picture())
        async with asyncio.timeout(SECONDS):
            await server.until(lambda: server.sockets_seen == 1)
    refused = waited[:5]
    assert [failures for failures, _ in refused] == [1, 2, 3, 4, 5]
    assert all(first >= 1 for _, first in refused)


# A wire tap on all of it


async def test_before_a_login_is_known_nothing_of_it_is_on_the_wire(serve, emulator):
    """The first request finds out what is there, and carries nothing: in clear, to whoever listens."""
    for options in (
        {"auth": BearerToken("bearer-0123")},
        {"auth": Cookies("a=cookie-0123")},
        {"auth": FormLogin("ada", "form-0123")},
    ):
        gate = await serve(Site())
        sniffer = await serve(Sniffer(gate.url))
        gate.answer("GET", "/prompt", times=9, status=503)
        async with ComfyClient(sniffer.url, **options) as comfy:
            with pytest.raises(ComfyClientError):
                await comfy.login()
        for secret in ("bearer-0123", "cookie-0123", "form-0123"):
            assert not sniffer.contains(secret)


async def test_an_expired_credential_without_a_renewal_says_so(serve, emulator):
    server = await serve(Bearer(emulator.url))
    async with ComfyClient(server.url, auth=BearerToken(server.token)) as comfy:
        await comfy.login()
        server.expire()
        with pytest.raises(CredentialsExpired) as expired:
            await comfy.info()
    assert server.token not in f"{expired.value!r}{expired.value.hint}"
    assert until
    assert web
