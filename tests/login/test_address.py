"""The client on its way to a portal: the scheme, the form of the address, and what the environment would do to it."""

import asyncio
import logging
import re
import socket
from urllib.parse import quote

import pytest

from comfyclient import (
    TLS,
    BearerToken,
    CertificateUntrusted,
    ComfyClient,
    ComfyClientError,
    ConfigError,
    Credential,
    Headers,
    InstanceUnavailable,
    ProtocolError,
    __version__,
)
from comfyclient.auth.tls import fetch_certificate

from .caddy import Caddy
from .site import Site
from .sniffer import Sniffer
from .vast import vast_portal
from .visit import WAYS, attempts, by_every_way, picture, requests, visit

SECRET = "s3cret/+ &pä"
# What lets in besides: headers that somebody wrote, as a scheme and to be fitted.
HEADERS = ("headers", lambda secret: {"auth": Headers({"Authorization": f"Bearer {secret}", "X-Other": secret})})
AUTO_HEADERS = (
    "headers, found out",
    lambda secret: {"credential": Credential.of(headers={"Authorization": f"Bearer {secret}"})},
)
PREFIX = """
{
	admin off
}
:{$PORT} {
	bind {$HOST}
	handle_path /some/where/* {
		reverse_proxy %s
	}
}
"""


@pytest.fixture
async def portal(serve, emulator):
    return await serve(vast_portal(emulator.url, web_password=SECRET))


@pytest.fixture
async def secure(serve, emulator):
    """A portal that speaks https, with a certificate that nobody knows, and answers 308 to http."""
    return await serve(vast_portal(emulator.url, web_password=SECRET, https=True))


@pytest.fixture
async def tap(serve, secure):
    """What goes to its port, in clear or not."""
    return await serve(Sniffer(secure.url))


def in_clear(sniffer):
    """The connections that were not encrypted."""
    return [talk for talk in sniffer.conversations if not talk.encrypted]


# http and https


@by_every_way(HEADERS, AUTO_HEADERS)
async def test_http_to_a_portal_of_https_becomes_https_before_anything_secret_is_sent(secure, tap, emulator, way):
    async with ComfyClient(tap.at("http"), **way(SECRET), tls=TLS(insecure=True)) as comfy:
        await visit(comfy, emulator)
        assert str(comfy.url) == tap.at("https")
    (plain,) = requests(tap)
    assert (plain.method, plain.target, plain.tries) == ("GET", "/prompt", False)
    assert len(in_clear(tap)) == 1
    assert not tap.contains(SECRET, user="vastai", received=True)


async def test_a_pinned_certificate_is_as_good(secure, tap, emulator):
    seen = await fetch_certificate(secure.host, secure.port, timeout=10)
    for name in ("bearer", "token login", "user name and password"):
        async with ComfyClient(tap.at("http"), **WAYS[name](SECRET), tls=TLS(fingerprint=seen.fingerprint)) as comfy:
            await visit(comfy, emulator)
            assert comfy.url.scheme == "https"
    assert not tap.contains(SECRET, user="vastai")


@by_every_way(HEADERS, AUTO_HEADERS)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_certificate_that_nobody_knows_gets_no_secret(tap, scheme, way):
    for tls in (None, TLS(fingerprint="sha256:" + "0" * 64)):
        async with ComfyClient(tap.at(scheme), **way(SECRET), tls=tls) as comfy:
            for call in (comfy.login, comfy.info, lambda: comfy.wait_ready(60)):
                with pytest.raises(CertificateUntrusted):
                    await call()
    assert not any(request.tries for request in requests(tap))
    assert not tap.contains(SECRET, user="vastai")


@pytest.mark.parametrize("form", ["vastai:{}@{}", "{1}/?token={0}", "{1}?token={0}"])
async def test_a_secret_in_a_url_of_http_is_not_sent_in_clear_either(secure, tap, emulator, form):
    url = "http://" + form.format(quote(SECRET, safe=""), f"{tap.host}:{tap.port}")
    async with ComfyClient(url, tls=TLS(insecure=True)) as comfy:
        await visit(comfy, emulator)
        assert str(comfy.url) == tap.at("https")
    (plain,) = requests(tap)
    assert not plain.tries
    assert not tap.contains(SECRET, user="vastai")


async def test_many_requests_at_once_find_out_the_scheme_once(tap, emulator):
    async with ComfyClient(tap.at("http"), auth=BearerToken(SECRET), tls=TLS(insecure=True)) as comfy:
        await asyncio.gather(*(comfy.info() for _ in range(20)))
    assert [request.target for request in requests(tap)] == ["/prompt"]


@by_every_way(HEADERS, AUTO_HEADERS)
async def test_https_where_http_is_spoken_is_refused_and_never_becomes_http(serve, portal, way):
    sniffer = await serve(Sniffer(portal.url))
    for tls in (None, TLS(insecure=True)):
        async with ComfyClient(sniffer.at("https"), **way(SECRET), tls=tls) as comfy:
            for call in (comfy.login, comfy.info, lambda: comfy.wait_ready(0)):
                with pytest.raises(InstanceUnavailable, match="TLS") as raised:
                    await call()
                assert "http" in raised.value.hint
            assert comfy.url.scheme == "https"
    assert in_clear(sniffer) == []
    assert not sniffer.contains(SECRET, user="vastai")


@pytest.mark.parametrize(
    "place", ["https://127.0.0.1:{}/prompt", "https://localhost:{}/", "http://127.0.0.1:{}/prompt"]
)
@by_every_way(HEADERS)
async def test_another_port_or_host_is_no_upgrade_and_gets_nothing(serve, emulator, way, place):
    other = await serve(Sniffer(emulator.url))
    site = await serve(Site())
    site.answer("GET", "/prompt", times=9, status=308, headers={"Location": place.format(other.port)})
    async with ComfyClient(site.url, **way(SECRET)) as comfy:
        with pytest.raises(ComfyClientError):
            await comfy.login()
        with pytest.raises(ComfyClientError):
            await comfy.wait_ready(0)
    assert other.conversations == []


async def test_without_a_credential_the_redirect_to_https_is_told(tap):
    async with ComfyClient(tap.at("http"), tls=TLS(insecure=True)) as comfy:
        with pytest.raises(ProtocolError) as raised:
            await comfy.info()
        assert "https" in f"{raised.value} {raised.value.hint}"


# Headers


@by_every_way(HEADERS, AUTO_HEADERS)
async def test_neither_requests_nor_websockets_carry_what_browsers_add(serve, portal, emulator, way):
    sniffer = await serve(Sniffer(portal.url))
    async with ComfyClient(sniffer.url, **way(SECRET)) as comfy:
        await visit(comfy, emulator)
        await comfy.upload(b"data", name="visit.bin")
        await comfy.catalog()
    sent = requests(sniffer)
    assert {request.method for request in sent} == {"GET", "POST"}
    assert any(request.is_socket for request in sent)
    names = {name.lower() for request in sent for name in request.headers}
    assert {name for name in names if name in {"origin", "referer"} or name.startswith("sec-fetch-")} == set()
    assert {agent for request in sent for agent in request.headers.getall("User-Agent")} == {
        f"comfyclient/{__version__}"
    }
    assert all(len(request.headers.getall(name)) == 1 for request in sent for name in request.headers)


# The environment


@pytest.fixture
async def proxied(serve, monkeypatch, tmp_path, emulator):
    """An environment that names a proxy for everything, and a login for the host. Gives the proxy."""
    proxy = await serve(Sniffer(emulator.url))  # a server is a proxy for itself
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY"):
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv(name.lower(), proxy.url)
    for name in ("NO_PROXY", "no_proxy", "NETRC", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1\nlogin vastai\npassword netrc-password\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return proxy


@by_every_way()
async def test_proxies_and_logins_of_the_environment_are_left_alone(serve, proxied, portal, emulator, way):
    sniffer = await serve(Sniffer(portal.url))
    async with ComfyClient(sniffer.url, **way(SECRET)) as comfy:
        await visit(comfy, emulator)
    assert proxied.conversations == []
    assert not sniffer.contains("netrc-password", user="vastai")


async def test_an_open_instance_gets_no_login_of_the_environment(serve, proxied, emulator):
    sniffer = await serve(Sniffer(emulator.url))
    async with ComfyClient(sniffer.url) as comfy:
        await visit(comfy, emulator)
    assert attempts(sniffer) == []
    assert proxied.conversations == []


async def test_https_is_not_proxied_either(proxied, secure, emulator):
    async with ComfyClient(secure.url, auth=BearerToken(SECRET), tls=TLS(insecure=True)) as comfy:
        await visit(comfy, emulator)
    assert proxied.conversations == []


async def test_they_are_used_when_the_environment_is_to_be_trusted(proxied, emulator):
    async with ComfyClient(emulator.url, trust_env=True) as comfy:
        assert (await comfy.info()).comfyui_version
        assert (await comfy.queue(picture(), check=False)).id
    asked = requests(proxied)
    assert asked[0].target.startswith(emulator.url)
    assert "CONNECT" in {request.method for request in asked}  # the websocket's way through


async def test_a_credential_that_was_given_comes_before_one_of_the_environment(
    serve, monkeypatch, proxied, portal, emulator
):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    sniffer = await serve(Sniffer(portal.url))
    async with ComfyClient(sniffer.url, auth=BearerToken(SECRET), trust_env=True) as comfy:
        await visit(comfy, emulator)
    assert proxied.conversations == []
    assert not requests(sniffer)[0].tries


# Forms of the address


BELOW = [name for name in WAYS if name != "password"]  # at a path nothing says that it is vast's, nor the user's name


@pytest.mark.parametrize("name", BELOW)
async def test_a_portal_below_a_path(serve, portal, emulator, name):
    front = await serve(Caddy(PREFIX % portal.url.removeprefix("http://")))
    sniffer = await serve(Sniffer(front.url))
    async with ComfyClient(f"{sniffer.url}/some/where/", **WAYS[name](SECRET)) as comfy:
        await visit(comfy, emulator)
        assert str(comfy.url) == f"{sniffer.url}/some/where"
    assert {request.path.startswith("/some/where/") for request in attempts(sniffer)} == {True}


@by_every_way(HEADERS)
async def test_an_address_of_ipv6(serve, emulator, way):
    portal = await serve(vast_portal(emulator.url, web_password=SECRET, host="::1"))
    assert portal.url.startswith("http://[::1]:")
    async with ComfyClient(portal.url, **way(SECRET)) as comfy:
        assert (await visit(comfy, emulator)).kind == "vast"


async def test_https_at_an_address_of_ipv6(serve, emulator):
    portal = await serve(vast_portal(emulator.url, web_password=SECRET, host="::1", https=True))
    tap = await serve(Sniffer(portal.url, host="::1"))
    for name in ("bearer", "token login"):
        async with ComfyClient(f"http://[::1]:{tap.port}", **WAYS[name](SECRET), tls=TLS(insecure=True)) as comfy:
            await visit(comfy, emulator)
            assert str(comfy.url) == f"https://[::1]:{tap.port}"
    assert not any(request.tries for request in requests(tap))
    assert not tap.contains(SECRET, user="vastai")


@pytest.fixture
def names(monkeypatch):
    """Every name is one of this machine. Gives those that were asked for."""
    original, asked = socket.getaddrinfo, []

    def lookup(host, *rest, **options):
        asked.append(host)
        return original("127.0.0.1", *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("localhost", "localhost"),
        ("LocalHost", "localhost"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("MÜNCHEN.Example", "xn--mnchen-3ya.example"),
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("例え.example", "xn--r8jz45g.example"),
        ("my_box.example", "my_box.example"),
        ("box.example.", "box.example."),
    ],
)
@pytest.mark.parametrize("name", ["bearer", "token login", "user name and password"])
async def test_hosts_of_every_kind(serve, names, portal, emulator, host, sent, name):
    sniffer = await serve(Sniffer(portal.url))
    async with ComfyClient(f"http://{host}:{sniffer.port}", **WAYS[name](SECRET)) as comfy:
        await visit(comfy, emulator)
    hosts = {request.headers["Host"] for request in requests(sniffer)}
    assert {host.replace(".:", ":") for host in hosts} == {f"{sent.rstrip('.')}:{sniffer.port}"}
    assert set(names) <= {sent, "127.0.0.1"}


ODD = "p@ss%2F#"


@pytest.mark.parametrize(
    "user_info",
    ["vastai:p%40ss%252F%23@", "vastai:p@ss%252F%23@", ":p%40ss%252F%23@", "va%73tai:{}@"],
)
async def test_an_odd_password_in_the_url_is_read_right_and_kept_to_ourselves(serve, emulator, caplog, user_info):
    caplog.set_level(logging.DEBUG)
    portal = await serve(vast_portal(emulator.url, web_password=ODD))
    url = portal.url.replace("//", f"//{user_info.format(quote(ODD, safe=''))}")
    async with ComfyClient(url) as comfy:
        session = await visit(comfy, emulator)
        shown = f"{comfy.url} {comfy!r} {session!r} {vars(session)} {session.cookies!r} {caplog.text}"
        assert str(comfy.url) == portal.url
    for form in (ODD, quote(ODD, safe=""), quote(ODD), user_info):
        assert form not in shown


@pytest.mark.parametrize(
    "text",
    [
        "http://vastai:p@ss%2F#@{}/",
        "http://vastai:hunter2/pass@{}/",
        "http://vastai:hunter2?pass@{}/",
        "http://vastai:hunter2#pass@{}/",
        "http://vastai:hunter2\\pass@{}/",
        "http://vastai:[hunter2]@{}/",
        "http://{}/?token=",
        "http://{}/?token=hunter2&b=1",
        "http://{}/#token=hunter2",
        "vastai:hunter2@{}",
        "ftp://vastai:hunter2@{}",
    ],
)
async def test_a_url_whose_secret_is_not_encoded_is_refused_without_showing_it(serve, emulator, text):
    sniffer = await serve(Sniffer(emulator.url))
    with pytest.raises(ConfigError) as raised:
        async with ComfyClient(text.format(f"{sniffer.host}:{sniffer.port}")) as comfy:
            await comfy.login()
    shown = f"{raised.value!r} {raised.value} {raised.value.hint} {raised.value.__cause__!r}"
    assert not re.search(r"hunter2|ss%2F|pass@", shown)
    assert sniffer.conversations == []


async def test_a_url_with_a_secret_and_another_credential_is_refused(portal):
    url = portal.url.replace("//", f"//vastai:{quote(SECRET, safe='')}@")
    with pytest.raises(ConfigError, match="two credentials") as raised:
        ComfyClient(url, auth=BearerToken(SECRET))
    assert SECRET not in f"{raised.value!r} {raised.value.hint}"


@pytest.mark.parametrize("name", ["user name and password", "password", "token", "cookies"])
async def test_an_instance_without_a_login_gets_no_credential_that_was_to_be_fitted(serve, emulator, name):
    sniffer = await serve(Sniffer(emulator.url))
    async with ComfyClient(sniffer.url, **WAYS[name](SECRET)) as comfy:
        session = await visit(comfy, emulator)
        assert (session.kind, session.scheme) == ("open", None)
    assert attempts(sniffer) == []
    assert not sniffer.contains(SECRET, user="vastai")
