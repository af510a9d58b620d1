"""The client before each kind of login: let in, refused, and told what is there."""

import asyncio
import contextlib
import gzip
import random
import re
import socket

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from comfyclient import (
    TLS,
    ApiKey,
    Auth,
    AuthError,
    AuthRequired,
    BasicAuth,
    BearerToken,
    CloudflareAccess,
    ComfyClient,
    ComfyClientError,
    Cookies,
    Credential,
    CredentialsExpired,
    FormLogin,
    Headers,
    InstanceUnavailable,
    LoginRefused,
)
from comfyclient._transport import Transport
from comfyclient.auth.detect import Kind
from comfyclient.auth.probe import probe

from ..contract.prompts import picture  # noqa: TID252
from . import servers
from .certificates import self_signed
from .raw import exchange
from .servers import ApiKey as KeyServer
from .servers import Basic, Bearer, ComfyUILogin, LoginForm, OAuth2Proxy, Site
from .servers import CloudflareAccess as AccessServer
from .stages import SECONDS, build, carrying, round_trip, until

ACCESS = ("CF-Access-Client-Id", "CF-Access-Client-Secret")
PAIR = {"Modal-Key": "modal-key-0123", "Modal-Secret": "modal-secret-4567"}


class HeaderPair(servers.Keyed):
    """Two headers of its own on every request."""

    def admits(self, request):
        return all(request.headers.get(name) == value for name, value in PAIR.items()) and not self.revoked


class AnsweringPage(LoginForm):
    """The login page in place of every answer."""

    def __init__(self, upstream, **options):
        super().__init__(upstream, **{"answers": "page", **options})


class AnsweringUnauthorized(LoginForm):
    """401 and nothing more; the page is at /login."""

    def __init__(self, upstream, **options):
        super().__init__(upstream, **{"answers": "unauthorized", **options})


class ByToken(OAuth2Proxy):
    """oauth2-proxy that takes tokens."""

    def __init__(self, upstream):
        super().__init__(upstream, token="header.payload.signature")


class OwnScheme(Auth):
    """A scheme of one's own: one header, made of two words."""

    name = "two words"

    def headers(self, url):
        return {"Authorization": f"Bearer {'bearer-token'}-{'0123'}"}


def by_name(server):
    return {"username": server.username, "password": server.password}


def service_token(server):
    return {"access_id": server.client_id, "access_secret": server.client_secret}


def auto(**credential):
    return {"credential": Credential.of(**credential)}


def form(server):
    return FormLogin(server.username, server.password)


def access(server):
    return CloudflareAccess(server.client_id, server.client_secret)


FORMS = {"redirect": LoginForm, "page": AnsweringPage, "unauthorized": AnsweringUnauthorized}
SERVERS = {
    "basic": ([Basic], Kind.BASIC, "basic auth"),
    "bearer": ([Bearer], Kind.BEARER, "wants a token"),
    "key": ([KeyServer], Kind.LOGIN_UNKNOWN, "a login of an unknown kind"),
    "headers": ([HeaderPair], Kind.LOGIN_UNKNOWN, "a login of an unknown kind"),
    "comfyui-login": ([ComfyUILogin], Kind.COMFYUI_LOGIN, "ComfyUI-Login"),
    "access": ([AccessServer], Kind.CLOUDFLARE_ACCESS, "Cloudflare Access"),
    "oauth2-proxy": ([OAuth2Proxy], Kind.OAUTH2_PROXY, "oauth2-proxy"),
    "form-redirect": ([LoginForm], Kind.LOGIN_FORM, "a login page"),
    "form-page": ([AnsweringPage], Kind.LOGIN_FORM, "a login page"),
    "form-unauthorized": ([AnsweringUnauthorized], Kind.LOGIN_FORM, "a login page"),
    "access+basic": ([Basic, AccessServer], Kind.CLOUDFLARE_ACCESS, "Cloudflare Access"),
}

# What opens it: the servers, the innermost first, and what the client is given for them.
RIGHT = {
    "basic": ([Basic], lambda s: {"auth": BasicAuth(s.username, s.password)}),
    "basic-auto": ([Basic], lambda s: auto(**by_name(s))),
    "bearer": ([Bearer], lambda s: {"auth": BearerToken(s.token)}),
    "bearer-auto": ([Bearer], lambda s: auto(token=s.token)),
    "own": ([Bearer], lambda s: {"auth": OwnScheme()}),
    "key": ([KeyServer], lambda s: {"auth": ApiKey(s.key)}),
    "key-auto": ([KeyServer], lambda s: auto(api_key=s.key)),
    "headers": ([HeaderPair], lambda s: {"auth": Headers(PAIR)}),
    "headers-auto": ([HeaderPair], lambda s: auto(headers=PAIR)),
    "comfyui-login": ([ComfyUILogin], lambda s: {"auth": FormLogin(None, s.password)}),
    "comfyui-login-auto": ([ComfyUILogin], lambda s: auto(password=s.password)),
    "comfyui-login-name": ([ComfyUILogin], lambda s: auto(**by_name(s))),
    "comfyui-login-token": ([ComfyUILogin], lambda s: {"auth": BearerToken(s.token)}),
    "comfyui-login-token-auto": ([ComfyUILogin], lambda s: auto(token=s.token)),
    "access": ([AccessServer], lambda s: {"auth": access(s)}),
    "access-auto": ([AccessServer], lambda s: auto(**service_token(s))),
    "access-headers": (
        [AccessServer],
        lambda s: auto(headers=dict(zip(ACCESS, (s.client_id, s.client_secret), strict=True))),
    ),
    "oauth2-proxy": ([OAuth2Proxy], lambda s: {"auth": Cookies(s.grant())}),
    "oauth2-proxy-auto": ([OAuth2Proxy], lambda s: auto(cookies=f"Cookie: {s.grant()}; theme=dark")),
    "oauth2-proxy-token": ([ByToken], lambda s: {"auth": BearerToken(s.token)}),
    "oauth2-proxy-token-auto": ([ByToken], lambda s: auto(token=s.token)),
    **{f"form-{name}": ([make], lambda s: {"auth": form(s)}) for name, make in FORMS.items()},
    **{f"form-{name}-auto": ([make], lambda s: auto(**by_name(s))) for name, make in FORMS.items()},
    "form-named": ([AnsweringUnauthorized], lambda s: {"auth": FormLogin(s.username, s.password, page="/login")}),
    "form-cookies": ([LoginForm], lambda s: {"auth": Cookies({"session": s.new_session()})}),
    "access+basic": ([Basic, AccessServer], lambda s, a: {"auth": [access(a), BasicAuth(s.username, s.password)]}),
    "access+basic-auto": ([Basic, AccessServer], lambda s, a: auto(**by_name(s), **service_token(a))),
    "access+bearer": ([Bearer, AccessServer], lambda s, a: {"auth": [BearerToken(s.token), access(a)]}),
    "access+bearer-auto": ([Bearer, AccessServer], lambda s, a: auto(token=s.token, **service_token(a))),
    "access+comfyui-login": ([ComfyUILogin, AccessServer], lambda s, a: {"auth": [access(a), form(s)]}),
    "access+comfyui-login-auto": (
        [ComfyUILogin, AccessServer],
        lambda s, a: auto(password=s.password, **service_token(a)),
    ),
    **{
        f"access+form-{name}": ([make, AccessServer], lambda s, a: {"auth": [access(a), form(s)]})
        for name, make in FORMS.items()
    },
    **{
        f"access+form-{name}-auto": ([make, AccessServer], lambda s, a: auto(**by_name(s), **service_token(a)))
        for name, make in FORMS.items()
    },
}


def of_access(server):
    """How often a service token was tried. One try may send it twice: first to see what is behind Access."""
    return max(1, carrying(server, *ACCESS) - 1)


# What does not open it, and how often that was tried.
WRONG = {
    "basic": ([Basic], lambda s: {"auth": BasicAuth(s.username, "wrong")}, lambda s: carrying(s, "Authorization")),
    "basic-auto": (
        [Basic],
        lambda s: auto(username="eve", password=s.password),
        lambda s: carrying(s, "Authorization"),
    ),
    "bearer": ([Bearer], lambda s: {"auth": BearerToken("wrong")}, lambda s: carrying(s, "Authorization")),
    "bearer-auto": ([Bearer], lambda s: auto(token="wrong"), lambda s: carrying(s, "Authorization")),
    "key": ([KeyServer], lambda s: {"auth": ApiKey("wrong")}, lambda s: carrying(s, "X-API-Key")),
    "key-auto": ([KeyServer], lambda s: auto(api_key="wrong"), lambda s: carrying(s, "X-API-Key")),
    "headers": (
        [HeaderPair],
        lambda s: {"auth": Headers({**PAIR, "Modal-Key": "wrong"})},
        lambda s: carrying(s, "Modal-Key"),
    ),
    "headers-auto": (
        [HeaderPair],
        lambda s: auto(headers={**PAIR, "Modal-Key": "wrong"}),
        lambda s: carrying(s, "Modal-Key"),
    ),
    "comfyui-login": ([ComfyUILogin], lambda s: {"auth": FormLogin(None, "wrong")}, lambda s: s.attempts),
    "comfyui-login-auto": ([ComfyUILogin], lambda s: auto(password="wrong"), lambda s: s.attempts),
    "comfyui-login-token": (
        [ComfyUILogin],
        lambda s: {"auth": BearerToken("$2b$12$wrong")},
        lambda s: carrying(s, "Authorization"),
    ),
    "comfyui-login-token-auto": (
        [ComfyUILogin],
        lambda s: auto(token="$2b$12$wrong"),
        lambda s: carrying(s, "Authorization"),
    ),
    "access": (
        [AccessServer],
        lambda s: {"auth": CloudflareAccess(s.client_id, "stale")},
        of_access,
    ),
    "access-auto": (
        [AccessServer],
        lambda s: auto(access_id=s.client_id, access_secret="stale"),
        of_access,
    ),
    "oauth2-proxy": (
        [OAuth2Proxy],
        lambda s: {"auth": Cookies("_oauth2_proxy=stale")},
        lambda s: carrying(s, "Cookie"),
    ),
    "oauth2-proxy-auto": (
        [OAuth2Proxy],
        lambda s: auto(cookies="_oauth2_proxy=stale"),
        lambda s: carrying(s, "Cookie"),
    ),
    "oauth2-proxy-token-auto": ([ByToken], lambda s: auto(token="wrong"), lambda s: carrying(s, "Authorization")),
    **{
        f"form-{name}": ([make], lambda s: {"auth": FormLogin(s.username, "wrong")}, lambda s: s.attempts)
        for name, make in FORMS.items()
    },
    **{
        f"form-{name}-auto": ([make], lambda s: auto(username="eve", password=s.password), lambda s: s.attempts)
        for name, make in FORMS.items()
    },
    "access+basic": (
        [Basic, AccessServer],
        lambda s, a: {"auth": [access(a), BasicAuth(s.username, "wrong")]},
        lambda s, a: carrying(s, "Authorization"),
    ),
    "access+basic-auto": (
        [Basic, AccessServer],
        lambda s, a: auto(username=s.username, password="wrong", **service_token(a)),
        lambda s, a: carrying(s, "Authorization"),
    ),
    "stale-access+basic-auto": (
        [Basic, AccessServer],
        lambda s, a: auto(**by_name(s), access_id=a.client_id, access_secret="stale"),
        lambda s, a: of_access(a),
    ),
    "access+form-auto": (
        [LoginForm, AccessServer],
        lambda s, a: auto(username=s.username, password="wrong", **service_token(a)),
        lambda s, a: s.attempts,
    ),
}


def cases(table):
    return pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in table.items()])


@pytest.fixture
def names(monkeypatch):
    """The hosts that were looked up. ``comfy.test``, which is no loopback host, is this machine."""
    asked, real = [], socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        asked.append(host)
        return real("127.0.0.1" if host == "comfy.test" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


# Let in


@cases(RIGHT)
async def test_the_right_credential_opens_everything(serve, emulator, tmp_path, case):
    stack, options = case
    gates = await build(serve, emulator, stack)
    async with ComfyClient(gates[-1].url, **options(*gates)) as comfy:
        session = await comfy.login()
        await round_trip(comfy, emulator, tmp_path)
        assert (session.generation, session.worked) == (0, True)
        assert session.scheme
    for gate in gates:
        assert gate.attempts == gate.logins <= 1
        assert gate.sockets_seen == 1


@pytest.mark.parametrize("secure", [False, True])
async def test_a_cookie_file_of_a_browser_opens_it(serve, emulator, tmp_path, secure):
    server = await serve(OAuth2Proxy(emulator.url, secure_cookie=secure))
    name, _, value = server.grant().partition("=")
    file = tmp_path / "cookies.txt"
    flag = str(secure).upper()
    lines = [
        "# Netscape HTTP Cookie File",
        f"#HttpOnly_127.0.0.1\tFALSE\t/\t{flag}\t0\t{name}\t{value}",
        f"elsewhere.example\tFALSE\t/\tFALSE\t0\t{name}\tsomebody-elses",
    ]
    file.write_text("\n".join(lines) + "\n")
    async with ComfyClient(server.url, auth=Cookies.from_file(file)) as comfy:
        await comfy.login()
        await round_trip(comfy, emulator, tmp_path)
    assert not any("somebody-elses" in str(seen.headers) for seen in server.requests)


async def test_a_cookie_file_without_a_cookie_for_it_says_so(serve, emulator, tmp_path):
    server = await serve(OAuth2Proxy(emulator.url))
    file = tmp_path / "cookies.txt"
    file.write_text("# Netscape HTTP Cookie File\nelsewhere.example\tFALSE\t/\tFALSE\t0\tname\tvalue-of-it\n")
    async with ComfyClient(server.url, auth=Cookies.from_file(file)) as comfy:
        with pytest.raises(AuthError, match="there is no cookie for"):
            await comfy.login()
    assert carrying(server, "Cookie") == 0


async def test_nothing_is_sent_before_it_is_known_what_is_there(serve, emulator):
    server = await serve(Bearer(emulator.url))
    async with ComfyClient(server.url, auth=BearerToken(server.token)) as comfy:
        await comfy.login()
    first, *others = server.requests
    assert (first.path, "Authorization" in first.headers) == ("/prompt", False)
    assert all("Authorization" in seen.headers for seen in others)


@pytest.mark.parametrize("answers", FORMS)
@pytest.mark.parametrize("given", ["class", "auto"])
async def test_a_form_below_a_prefix_over_https_opens_it(serve, emulator, tmp_path, answers, given):
    certificate = await self_signed(tmp_path, names=["IP:127.0.0.1"])
    options = {"answers": answers, "prefix": "/comfy", "secure_cookie": True, "ssl_context": certificate.context()}
    server = await serve(LoginForm(emulator.url, **options))
    login = {"auth": form(server)} if given == "class" else auto(**by_name(server))
    async with ComfyClient(server.url, **login, tls=TLS(ca_file=str(certificate.certificate))) as comfy:
        await comfy.login()
        await round_trip(comfy, emulator, tmp_path)
    assert server.logins == 1


# Refused


@cases(WRONG)
async def test_a_wrong_credential_is_refused(serve, emulator, case):
    stack, options, tries = case
    gates = await build(serve, emulator, stack)
    async with ComfyClient(gates[-1].url, **options(*gates)) as comfy:
        with pytest.raises(LoginRefused) as refused:
            await comfy.login()
        assert refused.value.hint
        assert gates[-1].url in str(refused.value)
    assert tries(*gates) == 1
    assert gates[0].passed == []


@cases(WRONG)
async def test_a_credential_that_was_refused_is_not_sent_again(serve, emulator, case):
    stack, options, tries = case
    gates = await build(serve, emulator, stack)
    async with ComfyClient(gates[-1].url, **options(*gates)) as comfy:
        for ask in (comfy.login, comfy.info, comfy.login, lambda: comfy.submit(picture())):
            with pytest.raises(AuthError):
                await ask()
        assert not comfy.connected
    assert tries(*gates) == 1


@pytest.mark.parametrize("make", [Basic, LoginForm])
async def test_a_websocket_does_not_repeat_what_was_refused(serve, emulator, monkeypatch, make):
    server = await serve(make(emulator.url))
    monkeypatch.setattr("comfyclient.socket._REFUSED_FIRST", 0.0)
    monkeypatch.setattr("comfyclient.socket._BACKOFF_FIRST", 0.0)
    wrong = {Basic: BasicAuth, LoginForm: FormLogin}[make](server.username, "wrong")
    async with ComfyClient(server.url, auth=wrong) as comfy:
        with pytest.raises(LoginRefused):
            await comfy.submit(picture())
        for _ in range(30):  # while others are answered, it would have tried again
            await exchange(server.url, "/queue")
        assert len(server.asked("GET", "/ws")) <= 1
        assert server.attempts <= 1


@cases(SERVERS)
@pytest.mark.parametrize("given", [{}, {"auth": "auto"}])
async def test_without_a_credential_it_says_what_is_there(serve, emulator, tmp_path, monkeypatch, case, given):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    stack, _, words = case
    *_, server = await build(serve, emulator, stack)
    async with ComfyClient(server.url, **given) as comfy:
        for ask in (comfy.login, comfy.info, lambda: comfy.submit(picture())):
            with pytest.raises(AuthRequired, match=re.escape(words)) as required:
                await ask()
            assert server.url in str(required.value)
            assert required.value.hint
            assert "login URL" not in required.value.hint
    assert server.passed == []


@cases(SERVERS)
async def test_what_is_there_is_known_by_its_kind(serve, emulator, case):
    stack, kind, _ = case
    *_, server = await build(serve, emulator, stack)
    transport = Transport(timeout=SECONDS)
    try:
        base, verdict = await probe(transport, URL(server.url))
    finally:
        await transport.close()
    assert (base, verdict.kind) == (URL(server.url), kind)
    assert carrying(server, "Authorization", "Cookie", "X-API-Key", *ACCESS) == 0


@pytest.mark.parametrize(
    "credential",
    [
        {"token": "a-token-of-mine"},
        {"api_key": "a-key-of-mine"},
        {"cookies": "a=b"},
        {"headers": {"X-Mine": "secret-of-it"}},
    ],
    ids=lambda credential: next(iter(credential)),
)
@pytest.mark.parametrize("make", [Basic, LoginForm, ComfyUILogin, AccessServer])
async def test_a_credential_of_another_kind_is_refused(serve, emulator, make, credential):
    server = await serve(make(emulator.url))
    async with ComfyClient(server.url, credential=Credential.of(**credential)) as comfy:
        for _ in range(2):
            with pytest.raises(AuthError) as refused:
                await comfy.login()
    assert refused.value.hint
    assert server.passed == []
    secret = next(iter(credential.values()))
    assert str(secret if isinstance(secret, str) else secret["X-Mine"]) not in str(refused.value)


async def test_a_password_that_fits_nothing_is_not_sent(serve, emulator):
    server = await serve(Bearer(emulator.url))
    async with ComfyClient(server.url, credential=Credential.of(username="ada", password="secret-word")) as comfy:
        with pytest.raises(AuthError, match="does not fit"):
            await comfy.login()
    assert carrying(server, "Authorization") == 0


# ComfyUI-Login


@pytest.mark.parametrize(
    "options",
    [
        {"auth": FormLogin("ada", "my-password")},
        {"credential": Credential.of(username="ada", password="my-password")},
        {"credential": Credential.of(password="my-password")},
    ],
    ids=["class", "auto", "password"],
)
async def test_a_server_without_a_password_is_not_claimed(serve, emulator, options):
    server = await serve(ComfyUILogin(emulator.url, password=None))
    async with ComfyClient(server.url, **options) as comfy:
        for _ in range(2):
            with pytest.raises(AuthError, match="has no password yet") as refused:
                await comfy.login()
            assert "--claim" in refused.value.hint
    assert (server.claimed, server.attempts, server.asked("POST", "/")) == (None, 0, [])


@pytest.mark.parametrize("auto", [False, True])
async def test_a_server_without_a_password_is_claimed_when_told_to(serve, emulator, tmp_path, auto):
    server = await serve(ComfyUILogin(emulator.url, password=None))
    options = {"auth": FormLogin("ada", "my-password", claim=True)}
    if auto:
        options = {"credential": Credential.of(username="ada", password="my-password"), "claim": True}
    async with ComfyClient(server.url, **options) as comfy:
        await comfy.login()
        await round_trip(comfy, emulator, tmp_path)
    assert (server.claimed, server.attempts) == (("ada", "my-password"), 1)


@pytest.mark.parametrize("password", ["p" * 100, "ä" * 37])
async def test_a_password_that_bcrypt_would_cut_is_not_sent(serve, emulator, password):
    server = await serve(ComfyUILogin(emulator.url))
    for options in ({"auth": FormLogin(None, password)}, {"credential": Credential.of(password=password)}):
        async with ComfyClient(server.url, **options) as comfy:
            with pytest.raises(LoginRefused, match="72 bytes"):
                await comfy.login()
    assert (server.attempts, server.asked("POST", "/login")) == (0, [])


@pytest.mark.parametrize(
    "options",
    [
        {"auth": BearerToken("two words")},
        {"credential": Credential.of(token="two words")},
        {"auth": Headers({"Authorization": "one-word"})},
        {"credential": Credential.of(headers={"Authorization": "one-word"})},
    ],
    ids=["token", "token-auto", "header", "header-auto"],
)
async def test_a_token_that_breaks_the_server_is_a_matter_of_the_login(serve, emulator, options):
    server = await serve(ComfyUILogin(emulator.url))
    async with ComfyClient(server.url, **options) as comfy:
        with pytest.raises(LoginRefused) as refused:
            await comfy.login()
    assert refused.value.hint
    assert [seen.status for seen in server.requests if "Authorization" in seen.headers] == [500]


# Cloudflare Access


async def test_the_redirect_of_access_is_not_followed(serve, emulator, names, monkeypatch):
    monkeypatch.setattr("comfyclient.auth.session._PAUSE", 0.0)
    server = await serve(AccessServer(emulator.url))
    async with ComfyClient(server.url) as comfy:
        with pytest.raises(AuthRequired, match="Cloudflare Access") as required:
            await comfy.info()
        assert "service token" in required.value.hint
    async with ComfyClient(server.url, auth=access(server)) as comfy:
        await (await comfy.queue(picture())).result(SECONDS)
        server.expire()
        server.drop_sockets()
        for _ in range(2):
            with pytest.raises(CredentialsExpired, match="Cloudflare Access"):
                await comfy.info()
        await until(server, lambda: server.asked("GET", "/ws")[-1].status == 302)
    assert set(names) <= {"127.0.0.1"}


async def test_the_service_token_goes_with_every_request(serve, emulator, tmp_path):
    server = await serve(AccessServer(emulator.url))
    async with ComfyClient(server.url, auth=access(server)) as comfy:
        await round_trip(comfy, emulator, tmp_path)
        server.sessions.clear()  # the cookie that it gave is over before the token is
        await comfy.info()
    assert all(name in seen.headers for seen in server.requests[1:] for name in ACCESS)


# What a Secure cookie means on plain http


@pytest.mark.parametrize("make", [ComfyUILogin, LoginForm])
@pytest.mark.parametrize("given", ["class", "auto"])
async def test_a_cookie_for_https_alone_is_named_as_the_reason(serve, emulator, names, make, given):
    server = await serve(make(emulator.url, secure_cookie=True))
    options = {"auth": form(server)} if given == "class" else auto(**by_name(server))
    async with ComfyClient(server.url.replace("127.0.0.1", "comfy.test"), **options) as comfy:
        with pytest.raises(AuthError, match="only for https") as refused:
            await comfy.login()
        assert "https" in refused.value.hint
    assert server.attempts == 1
    assert "comfy.test" in names


async def test_a_login_that_does_not_hold_is_not_repeated_without_end(serve, emulator, names):
    server = await serve(ComfyUILogin(emulator.url, secure_cookie=True))
    async with ComfyClient(server.url.replace("127.0.0.1", "comfy.test"), auth=form(server)) as comfy:
        for _ in range(10):
            with pytest.raises(AuthError):
                await comfy.info()
    assert server.attempts <= 4  # the first, and what the limit of renewals allows
    assert "comfy.test" in names


@pytest.mark.parametrize("make", [ComfyUILogin, LoginForm])
async def test_a_cookie_for_https_alone_is_good_on_this_machine(serve, emulator, make, tmp_path):
    server = await serve(make(emulator.url, secure_cookie=True))
    async with ComfyClient(server.url, auth=FormLogin(server.username, server.password)) as comfy:
        await round_trip(comfy, emulator, tmp_path)
    assert server.logins == 1


# A login that is taken and worth nothing


@pytest.mark.parametrize("make", [ComfyUILogin, *FORMS.values()])
@pytest.mark.parametrize("given", ["class", "auto"])
async def test_a_login_that_is_taken_and_refused_ever_after_ends(serve, emulator, make, given):
    server = await serve(make(emulator.url))
    server.deaf = True
    options = {"auth": form(server)} if given == "class" else auto(**by_name(server))
    async with ComfyClient(server.url, **options) as comfy:
        for ask in (comfy.login, comfy.info, comfy.login, lambda: comfy.submit(picture())):
            with pytest.raises(AuthError) as refused:
                await ask()
            assert refused.value.hint
    assert server.logins == 1
    assert server.passed == []


async def test_a_password_that_was_taken_is_not_called_wrong(serve, emulator):
    server = await serve(ComfyUILogin(emulator.url))  # which says it when a password is wrong
    server.deaf = True
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        with pytest.raises(AuthError) as refused:
            await comfy.login()
    assert not isinstance(refused.value, LoginRefused)
    assert "spelled" not in refused.value.hint


async def test_a_proxy_without_comfyui_is_not_logged_in_to_again_and_again(serve, emulator, monkeypatch):
    server = await serve(LoginForm("http://127.0.0.1:9"))
    monkeypatch.setattr("comfyclient.client._READY_FIRST", 0.0)
    monkeypatch.setattr("comfyclient.client._READY_MOST", 0.0)
    async with ComfyClient(server.url, auth=form(server)) as comfy:
        waiting = asyncio.create_task(comfy.wait_ready(SECONDS))
        await until(server, lambda: sum(seen.status == 502 for seen in server.requests) >= 10)
        server.upstream = emulator.url
        await waiting
    assert server.logins <= 4


# Pages that want the password elsewhere


def login_page(form_tag):
    fields = '<input name="account"><input type="password" name="passphrase">'
    return f"<html><title>Sign in</title><body><form {form_tag}>{fields}</form></body></html>"


@contextlib.asynccontextmanager
async def site_with(pages, *, wants="/login"):
    """A site that sends everybody to a page: path to answer."""
    async with Site() as site:
        site.answer("GET", "/prompt", times=1000, status=302, headers={"Location": wants})
        for (method, path), response in pages.items():
            site.answer(method, path, times=1000, **response)
        yield site


PASSWORDS = [
    pytest.param(lambda: {"auth": FormLogin("ada", "secret-word-0123")}, id="class"),
    pytest.param(lambda: auto(username="ada", password="secret-word-0123"), id="auto"),
]
ELSEWHERE = {
    "action": lambda evil: login_page(f'method="post" action="{evil}/take"'),
    "base": lambda evil: login_page('method="post" action="take"').replace("<title>", f'<base href="{evil}/"><title>'),
    "scheme": lambda evil: login_page(f'method="post" action="//{URL(evil).authority}/take"'),
    "get": lambda evil: login_page('method="get" action="/search"'),
    "no-method": lambda evil: login_page('action="/search"'),
}


@pytest.mark.parametrize("options", PASSWORDS)
@pytest.mark.parametrize("where", ELSEWHERE)
async def test_a_form_that_sends_the_password_elsewhere_gets_none(serve, options, where):
    evil = await serve(Site())
    page = {"text": ELSEWHERE[where](evil.url), "content_type": "text/html"}
    site = await serve(site_with({("GET", "/login"): page}))
    async with ComfyClient(site.url, **options()) as comfy:
        with pytest.raises(AuthError, match="it was not sent") as refused:
            await comfy.login()
    assert "secret-word-0123" not in f"{refused.value} {refused.value.hint}"
    assert evil.requests == []
    assert site.asked("POST", "/") == []
    assert not any("secret-word" in seen.target for seen in site.requests)


@pytest.mark.parametrize("options", PASSWORDS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_login_page_that_leads_elsewhere_is_not_followed(serve, options, status):
    evil = await serve(Site())
    away = {"status": status, "headers": {"Location": f"{evil.url}/login", "Set-Cookie": "session=secret-cookie"}}
    site = await serve(site_with({("GET", "/login"): away}))
    async with ComfyClient(site.url, **options()) as comfy:
        with pytest.raises(AuthError) as refused:
            await comfy.login()
    assert refused.value.hint
    assert evil.requests == []
    assert site.asked("POST", "/") == []


@pytest.mark.parametrize("options", PASSWORDS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_an_answer_to_the_password_that_leads_elsewhere_is_not_followed(serve, options, status):
    evil = await serve(Site())
    away = {"status": status, "headers": {"Location": f"{evil.url}/take", "Set-Cookie": "session=secret-cookie"}}
    page = {"text": login_page('method="post" action="/login"'), "content_type": "text/html"}
    site = await serve(site_with({("GET", "/login"): page, ("POST", "/login"): away}))
    async with ComfyClient(site.url, **options()) as comfy:
        for _ in range(2):
            with pytest.raises(AuthError, match=r"not sent|nothing was sent|did not accept"):
                await comfy.login()
    assert evil.requests == []


@pytest.mark.parametrize("options", PASSWORDS)
@pytest.mark.parametrize("status", [307, 308])
async def test_a_password_is_not_sent_on_even_at_home(serve, options, status):
    on = {"status": status, "headers": {"Location": "/elsewhere"}}
    page = {"text": login_page('method="post" action="/login"'), "content_type": "text/html"}
    site = await serve(site_with({("GET", "/login"): page, ("POST", "/login"): on}))
    async with ComfyClient(site.url, **options()) as comfy:
        with pytest.raises(AuthError, match="not sent on"):
            await comfy.login()
    assert [seen.path for seen in site.asked("POST", "/")] == ["/login"]


@pytest.mark.parametrize("options", PASSWORDS)
async def test_a_login_page_on_another_host_gets_nothing(serve, options, names):
    evil = await serve(Site())
    for place in (f"{evil.url}/login", "https://idp.example/login", "//idp.example/login"):
        site = await serve(site_with({}, wants=place))
        async with ComfyClient(site.url, **options()) as comfy:
            with pytest.raises(AuthError) as refused:
                await comfy.login()
        assert refused.value.hint
        assert site.asked("POST", "/") == []
    assert evil.requests == []
    assert "idp.example" not in names


# Login pages that mean harm


class Spiral(Site):
    """Every page leads to one more."""

    async def respond(self, request, seen):
        return web.Response(status=302, headers={"Location": f"/login?step={len(self.requests)}"})


class Endless(Site):
    """A login page that goes on; a short piece of it comes from time to time only."""

    def __init__(self, piece):
        super().__init__()
        self.piece = piece

    async def respond(self, request, seen):
        if seen.path != "/login":
            return web.Response(status=302, headers={"Location": "/login"})
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        while True:
            await response.write(self.piece)
            await asyncio.sleep(0 if len(self.piece) > 100 else 0.05)


HOSTILE = {
    "huge": {"body": b"<html>" + b"<p>x</p>" * 2**20, "content_type": "text/html"},
    "bomb": {
        "body": gzip.compress(bytes(64 * 2**20)),
        "headers": {"Content-Encoding": "gzip", "Content-Type": "text/html"},
    },
    "garbage": {"body": random.Random(7).randbytes(100_000), "content_type": "text/html"},
    "broken": {"body": b"\x1f\x8b no gzip", "headers": {"Content-Encoding": "gzip", "Content-Type": "text/html"}},
    "empty": {"body": b"", "content_type": "text/html"},
    "json": {"text": "{}", "content_type": "application/json"},
    "deep": {"text": "<form method=post>" + "<div>" * 50_000, "content_type": "text/html"},
    "nowhere": {"text": login_page('method="post" action="http://[::1"'), "content_type": "text/html"},
    "script": {"text": login_page('method="post" action="javascript:alert(1)"'), "content_type": "text/html"},
    "nul": {"text": login_page('method="post" action="/\x00\x01login"'), "content_type": "text/html"},
    "self": {"status": 302, "headers": {"Location": "/login"}},
    "blank": {"status": 302, "headers": {"Location": ""}},
    "unreadable": {"status": 302, "headers": {"Location": "http://[::1/login"}},
    "scheme": {"status": 302, "headers": {"Location": "javascript:alert(1)"}},
    "fails": {"status": 500, "text": "500"},
}


@pytest.mark.parametrize("options", PASSWORDS)
@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_login_page_ends_in_a_clear_error(serve, options, what):
    site = await serve(site_with({("GET", "/login"): HOSTILE[what]}))
    async with ComfyClient(site.url, **options()) as comfy:
        with pytest.raises(ComfyClientError) as error:
            await comfy.login()
    assert type(error.value) is not ComfyClientError
    assert len(str(error.value)) < 300
    assert "None" not in str(error.value)
    assert len(site.requests) < 20
    assert "secret-word-0123" not in str(error.value)


async def test_redirects_without_end_come_to_one(serve):
    site = await serve(Spiral())
    async with ComfyClient(site.url, auth=FormLogin("ada", "secret-word-0123")) as comfy:
        with pytest.raises(AuthError, match="redirects without end"):
            await comfy.login()
    assert len(site.requests) < 10
    assert site.asked("POST", "/") == []


@pytest.mark.parametrize(
    "bomb", [(100, 60), (1000, 10), (150, 4000), (3, 100_000)], ids=["some", "many", "large", "huge"]
)
async def test_a_bomb_of_cookies_is_bounded(serve, bomb):
    number, size = bomb
    cookies = [("Set-Cookie", f"c{n}={'x' * size}; Path=/") for n in range(number)]
    page = {
        "text": login_page('method="post" action="/login"'),
        "headers": [*cookies, ("Content-Type", "text/html")],
    }
    site = await serve(site_with({("GET", "/login"): page, ("POST", "/login"): page}))
    async with ComfyClient(site.url, auth=FormLogin("ada", "secret-word-0123")) as comfy:
        with pytest.raises(ComfyClientError) as error:
            await comfy.login()
        assert sum(len(cookie.value) for cookie in comfy._session.cookies) < 2 * 2**20
    assert len(str(error.value)) < 300
    assert len(site.requests) < 20


async def test_a_login_page_that_never_ends_is_given_up(serve):
    site = await serve(Endless(b"<p>and on</p>" * 1000))
    async with ComfyClient(site.url, auth=FormLogin("ada", "secret-word-0123")) as comfy:
        with pytest.raises(ComfyClientError, match="larger than"):
            await comfy.login()


async def test_a_login_page_that_trickles_is_given_up(serve, monkeypatch):
    monkeypatch.setattr("comfyclient.auth.entrance._TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    monkeypatch.setattr("comfyclient.auth.probe._TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    site = await serve(Endless(b"<"))
    async with ComfyClient(site.url, auth=FormLogin("ada", "secret-word-0123")) as comfy:
        with pytest.raises(InstanceUnavailable, match="did not answer in time"):
            await comfy.login()
