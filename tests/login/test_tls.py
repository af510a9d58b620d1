"""Certificates: the client shows its credential to the one that it trusts, by HTTP and websocket, and to no other."""

import asyncio
import contextlib
import ssl

import pytest
import trustme
from yarl import URL

from comfyclient import (
    TLS,
    BasicAuth,
    BearerToken,
    CertificateUntrusted,
    ComfyClient,
    ComfyClientError,
    ConfigError,
    Cookies,
    FormLogin,
    InstanceUnavailable,
    TokenLogin,
)
from comfyclient.auth.store import StoredLogin
from comfyclient.auth.tls import fetch_certificate, fingerprint_of

from ..contract.prompts import picture  # noqa: TID252
from ..unit.tls_servers import DAY, NOW, Recorder, der_of, self_signed  # noqa: TID252
from .eavesdrop import in_another_process
from .servers import Bearer, LoginForm, Site
from .sniffer import Sniffer, found
from .stages import SECONDS

TOKEN = "bearer-token-0123"
OTHER_PIN = "sha256:" + "ab" * 32


@pytest.fixture(scope="module")
def ca():
    return trustme.CA()


@pytest.fixture
def ca_file(ca, tmp_path):
    ca.cert_pem.write_to_path(path := tmp_path / "ca.pem")
    return str(path)


def issued(ca, name="127.0.0.1", **dates):
    return ca.issue_cert(name, **dates).private_key_and_cert_chain_pem.bytes()


# What a server may show, and why nobody should believe it. The CA is one that the system trusts, where there is one.
ODD = {
    "self-signed": lambda ca: self_signed()[1],
    "self-signed, of that name": lambda ca: self_signed("127.0.0.1")[1],
    "wrong host": lambda ca: issued(ca, "other.example"),
    "expired": lambda ca: issued(ca, not_before=NOW - 9 * DAY, not_after=NOW - DAY),
    "not yet valid": lambda ca: issued(ca, not_before=NOW + DAY, not_after=NOW + 9 * DAY),
    "of another CA": lambda ca: issued(trustme.CA()),
}


@pytest.fixture
def record(tmp_path):
    """Enter a `Recorder`: ``server = record(pem)``."""
    with contextlib.ExitStack() as servers:
        yield lambda pem: servers.enter_context(Recorder(pem, tmp_path))


def context_of(pem, folder):
    """For a server that shows it."""
    (file := folder / "shown.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def pinned(pem):
    return TLS(fingerprint=fingerprint_of(der_of(pem)))


async def heard(recorder):
    """What it was told over the next connection."""
    return (await asyncio.to_thread(recorder.connection)).said


async def listens(comfy):
    """Do something that needs HTTP and the websocket."""
    job = await comfy.submit(picture())
    await job.result(SECONDS)
    return comfy.connected


CREDENTIALS = {
    "bearer": lambda: {"auth": BearerToken(TOKEN)},
    "basic": lambda: {"auth": BasicAuth("ada", TOKEN)},
    "form": lambda: {"auth": FormLogin("ada", TOKEN)},
    "token": lambda: {"auth": TokenLogin(TOKEN)},
    "cookies": lambda: {"auth": Cookies(f"session={TOKEN}")},
    "url": dict,
    "stored": lambda: {"stored": stored()},
    "stored-form": lambda: {"stored": stored("login_form", {"username": "ada", "password": TOKEN})},
}


def stored(kind="bearer", credential=None, fingerprint=None):
    """What an earlier login left: with it, nothing is asked before the credential is sent."""
    cookies = [{"name": "session", "value": TOKEN}]
    return StoredLogin(
        url="https://127.0.0.1", kind=kind, credential=credential or {"token": TOKEN}, cookies=cookies,
        fingerprint=fingerprint, comfy_user=None, username=None, saved_at=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("given", CREDENTIALS)
@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_certificate_is_refused_before_a_byte_is_sent(record, ca, odd, given):
    server = record(ODD[odd](ca))
    user = f"ada:{TOKEN}@" if given == "url" else ""
    async with ComfyClient(f"https://{user}127.0.0.1:{server.port}", **CREDENTIALS[given]()) as comfy:
        for ask in (comfy.login, comfy.info, lambda: comfy.submit(picture()), lambda: comfy.wait_ready(SECONDS)):
            with pytest.raises(CertificateUntrusted) as refused:
                await ask()
            assert await heard(server) == b""
            assert refused.value.hint
            assert str(server.port) in str(refused.value)
        assert not comfy.connected


@pytest.mark.parametrize("odd", ODD)
async def test_the_websocket_refuses_by_itself(record, ca, ca_file, odd):
    server = record(ODD[odd](ca))
    for tls in (None, TLS(fingerprint=OTHER_PIN), TLS(ca_file=ca_file)):
        async with ComfyClient(f"https://127.0.0.1:{server.port}", stored=stored(), tls=tls) as comfy:
            assert not await comfy._socket.start()  # asks for nothing first: the stored login is good until refused
            assert await heard(server) == b""


async def test_with_a_ca_file_the_name_and_the_dates_still_count(record, ca, ca_file):
    for make in ODD.values():
        server = record(make(ca))
        async with ComfyClient(
            f"https://127.0.0.1:{server.port}", auth=BearerToken(TOKEN), tls=TLS(ca_file=ca_file)
        ) as c:
            with pytest.raises(CertificateUntrusted):
                await c.login()
        assert await heard(server) == b""


async def test_what_the_system_trusts_is_trusted_and_its_odd_ones_are_not(
    serve, emulator, record, ca, ca_file, tmp_path
):
    good = await serve(Bearer(emulator.url, token="bearer-0123", ssl_context=context_of(issued(ca), tmp_path)))
    bad = {odd: record(make(ca)) for odd, make in ODD.items()}
    steps = [{"url": good.url, "what": "job"}]
    steps += [{"url": f"https://127.0.0.1:{server.port}", "what": "job"} for server in bad.values()]
    connected, *refused = await in_another_process(ca_file, *steps)
    assert connected == {"connected": True}
    assert [outcome["code"] for outcome in refused] == ["certificate_untrusted"] * len(ODD)
    for server in bad.values():
        assert await heard(server) == b""


# Pins


@pytest.mark.parametrize("odd", ODD)
async def test_a_pinned_certificate_is_accepted_whatever_is_odd_about_it(serve, emulator, ca, tmp_path, odd):
    pem = ODD[odd](ca)
    server = await serve(Bearer(emulator.url, ssl_context=context_of(pem, tmp_path)))
    async with ComfyClient(server.url, auth=BearerToken(server.token), tls=pinned(pem)) as comfy:
        assert await listens(comfy)
    assert len(server.asked("GET", "/ws")) == 1


@pytest.mark.parametrize("given", CREDENTIALS)
async def test_another_certificate_than_the_pinned_one_is_told_nothing(record, given):
    server = record(self_signed()[1])
    user = f"ada:{TOKEN}@" if given == "url" else ""
    url = f"https://{user}127.0.0.1:{server.port}"
    async with ComfyClient(url, **CREDENTIALS[given](), tls=TLS(fingerprint=OTHER_PIN)) as comfy:
        for ask in (comfy.login, lambda: comfy.submit(picture())):
            with pytest.raises(CertificateUntrusted) as refused:
                await ask()
            assert refused.value.fingerprint == fingerprint_of(server.der)
            assert fingerprint_of(server.der) in str(refused.value)
            assert refused.value.to_json()["fingerprint"] == fingerprint_of(server.der)
            assert await heard(server) == b""


async def test_a_certificate_that_the_system_trusts_is_not_the_pinned_one(serve, ca, ca_file, tmp_path, record):
    server = record(issued(ca))
    step = {"url": f"https://127.0.0.1:{server.port}", "tls": {"fingerprint": OTHER_PIN}, "what": "login"}
    (outcome,) = await in_another_process(ca_file, step)
    assert outcome["code"] == "certificate_untrusted"
    assert await heard(server) == b""


async def test_a_stored_pin_is_used_and_another_certificate_refused(serve, emulator, record, tmp_path):
    _, pem = self_signed()
    server = await serve(Bearer(emulator.url, token=TOKEN, ssl_context=context_of(pem, tmp_path)))
    login = stored(fingerprint=fingerprint_of(der_of(pem)))
    async with ComfyClient(server.url, stored=login) as comfy:
        assert await listens(comfy)
    impostor = record(self_signed()[1])
    async with ComfyClient(f"https://127.0.0.1:{impostor.port}", stored=login) as comfy:
        with pytest.raises(CertificateUntrusted):
            await comfy.info()
    assert await heard(impostor) == b""


async def switched(sniffer, server):
    """Have those who come from now on meet another server, and cut those who are there."""
    sniffer.upstream = URL(f"https://127.0.0.1:{server.port}")
    for task in tuple(sniffer._tasks):
        task.cancel()
    await asyncio.gather(*sniffer._tasks, return_exceptions=True)


@pytest.mark.parametrize("trust", ["pin", "ca"])
async def test_whoever_takes_the_place_of_the_server_hears_nothing_by_http(
    serve, emulator, record, ca, ca_file, tmp_path, trust
):
    pem = self_signed()[1] if trust == "pin" else issued(ca)
    server = await serve(Bearer(emulator.url, token=TOKEN, ssl_context=context_of(pem, tmp_path)))
    sniffer, impostor = await serve(Sniffer(server.url)), record(self_signed()[1])
    tls = pinned(pem) if trust == "pin" else TLS(ca_file=ca_file)
    async with ComfyClient(sniffer.url, auth=BearerToken(TOKEN), tls=tls) as comfy:
        await comfy.login()
        await switched(sniffer, impostor)
        with contextlib.suppress(InstanceUnavailable):  # which may find its connection cut
            await comfy.info()
        with pytest.raises(CertificateUntrusted):
            await comfy.info()
    assert await heard(impostor) == b""
    assert not found(b"".join(bytes(talk.sent) for talk in sniffer.conversations), TOKEN)


@pytest.mark.parametrize("trust", ["pin", "ca"])
async def test_whoever_takes_its_place_hears_nothing_by_websocket(
    serve, emulator, record, ca, ca_file, tmp_path, monkeypatch, trust
):
    monkeypatch.setattr("comfyclient.socket._BACKOFF_FIRST", 0.0)
    pem = self_signed()[1] if trust == "pin" else issued(ca)
    server = await serve(Bearer(emulator.url, token=TOKEN, ssl_context=context_of(pem, tmp_path)))
    sniffer, impostor = await serve(Sniffer(server.url)), record(self_signed()[1])
    tls = pinned(pem) if trust == "pin" else TLS(ca_file=ca_file)
    async with ComfyClient(sniffer.url, auth=BearerToken(TOKEN), tls=tls) as comfy:
        await comfy.login()
        await comfy.info()  # its connection stays open, and is used again
        sniffer.upstream = URL(f"https://127.0.0.1:{impostor.port}")
        job = await comfy.submit(picture())  # by that connection, but for the websocket
        for _ in range(3):
            assert await heard(impostor) == b""
        assert not comfy.connected
        sniffer.upstream = URL(server.url)
        await job.result(SECONDS)
    assert len(server.asked("POST", "/prompt")) == 1


# What one client trusts, another does not


async def test_insecure_is_the_matter_of_one_client(serve, emulator, record, tmp_path):
    _, pem = self_signed()
    context = context_of(pem, tmp_path)
    server = await serve(Bearer(emulator.url, token=TOKEN, ssl_context=context))
    sniffer = await serve(Sniffer(server.url))
    async with (
        ComfyClient(sniffer.url, auth=BearerToken(TOKEN), tls=TLS(insecure=True)) as careless,
        ComfyClient(sniffer.url, auth=BearerToken(TOKEN)) as careful,
        ComfyClient(sniffer.url, auth=BearerToken(TOKEN), tls=TLS(fingerprint=OTHER_PIN)) as pinning,
    ):
        for _ in range(2):
            assert await listens(careless)
            asked = len(server.requests)
            for other in (careful, pinning):
                with pytest.raises(CertificateUntrusted):
                    await other.login()
                with pytest.raises(CertificateUntrusted):
                    await other.submit(picture())
                assert not other.connected
            assert len(server.requests) == asked
    async with ComfyClient(sniffer.url, auth=BearerToken(TOKEN)) as later:
        with pytest.raises(CertificateUntrusted):
            await later.login()


async def test_a_certificate_is_looked_at_without_a_request(record):
    server = record(self_signed()[1])
    seen = await fetch_certificate("127.0.0.1", server.port, timeout=SECONDS)
    assert seen.fingerprint == fingerprint_of(server.der)
    assert not seen.verified
    for _ in range(2):  # once as the system does, once without its checks
        assert await heard(server) == b""


# Not by http instead


async def test_https_is_never_given_up_for_http(serve):
    site = await serve(Site())  # speaks http where https is asked for
    for tls in (None, TLS(insecure=True), TLS(fingerprint=OTHER_PIN)):
        async with ComfyClient(site.url.replace("http", "https"), auth=BearerToken(TOKEN), tls=tls) as comfy:
            for ask in (comfy.login, comfy.info, lambda: comfy.submit(picture())):
                with pytest.raises(InstanceUnavailable):
                    await ask()
    assert site.requests == []


@pytest.mark.parametrize("given", [name for name in CREDENTIALS if "stored" not in name])
async def test_http_that_turns_out_to_be_tls_sends_nothing_in_clear_nor_to_an_odd_certificate(serve, tmp_path, given):
    """The probe goes out in clear, without the credential; then TLS is tried, and its certificate does not fit."""
    _, pem = self_signed()
    site = await serve(LoginForm("http://127.0.0.1:9", ssl_context=context_of(pem, tmp_path)))
    sniffer = await serve(Sniffer(site.url))
    user = f"ada:{TOKEN}@" if given == "url" else ""
    async with ComfyClient(f"http://{user}127.0.0.1:{sniffer.port}", **CREDENTIALS[given]()) as comfy:
        with pytest.raises(CertificateUntrusted):
            await comfy.login()
    assert not sniffer.contains(TOKEN, user="ada")
    assert site.requests == []
    assert any(talk.encrypted for talk in sniffer.conversations)


async def test_a_redirect_of_a_secured_instance_to_http_is_not_followed(serve, emulator, tmp_path):
    _, pem = self_signed()
    server = await serve(Bearer(emulator.url, token=TOKEN, ssl_context=context_of(pem, tmp_path)))
    plain = await serve(Site())
    server.answer("GET", "/system_stats", times=9, status=308, headers={"Location": f"{plain.url}/system_stats"})
    async with ComfyClient(server.url, auth=BearerToken(TOKEN), tls=pinned(pem)) as comfy:
        await comfy.login()
        with pytest.raises(ComfyClientError):
            await comfy.info()
    assert plain.requests == []


async def test_a_file_of_another_kind_is_no_ca_file(tmp_path):
    (file := tmp_path / "notes.txt").write_text(f"the token is {TOKEN}")
    with pytest.raises(ConfigError) as refused:
        ComfyClient("https://127.0.0.1", auth=BearerToken(TOKEN), tls=TLS(ca_file=str(file)))
    assert TOKEN not in f"{refused.value!r} {refused.value.hint}"
