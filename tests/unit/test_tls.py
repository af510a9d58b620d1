"""Which certificates are accepted, by both libraries that are handed the context, and what leaves before one is."""

import asyncio
import contextlib
import datetime as dt
import os
import socket
import ssl

import aiohttp
import pytest
import trustme
import websockets
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyclient.auth.tls import TLS, FingerprintMismatch, fetch_certificate, fingerprint_of
from comfyclient.auth.tls.certificate import read_certificate
from comfyclient.auth.tls.pinning import PinnedContext
from comfyclient.errors import ConfigError, InstanceUnavailable

from .tls_servers import DAY, NOW, Recorder, self_signed

SECRET = "do-not-tell-9f2c"
OTHER_PIN = "sha256:" + "ab" * 32


async def by_aiohttp(port, context):
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"https://127.0.0.1:{port}/{SECRET}", headers={"Authorization": SECRET}) as response,
    ):
        assert response.status == 200


async def by_websockets(port, context):
    url = f"wss://127.0.0.1:{port}/{SECRET}"
    async with websockets.connect(url, ssl=context, additional_headers={"Authorization": SECRET}, proxy=None):
        pass


def cause(error):
    """The error of the ssl module inside the one of a library."""
    return getattr(error, "certificate_error", error)


@pytest.fixture(params=[by_aiohttp, by_websockets])
def speak(request):
    """A request with a secret in its path and its headers."""
    return request.param


@pytest.fixture(scope="module")
def ca():
    return trustme.CA()


@pytest.fixture
def ca_file(ca, tmp_path):
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def serve(tmp_path):
    with contextlib.ExitStack() as servers:
        yield lambda pem, **options: servers.enter_context(Recorder(pem, tmp_path, **options))


def issued(ca, name="127.0.0.1", **dates):
    return ca.issue_cert(name, **dates).private_key_and_cert_chain_pem.bytes()


def odd_certificates(ca):
    """What rented machines show, and what must be wrong with each for a careful client."""
    return {
        "self-signed": (self_signed()[1], "self-signed certificate"),
        "of another name": (issued(ca, "other.example"), "IP address mismatch"),
        "expired": (issued(ca, not_before=NOW - 9 * DAY, not_after=NOW - DAY), "expired"),
        "expired, self-signed": (self_signed(not_before=NOW - 9 * DAY, not_after=NOW - DAY)[1], "self-signed|expired"),
        "not yet valid": (issued(ca, not_before=NOW + DAY, not_after=NOW + 9 * DAY), "not yet valid"),
    }


ODD = ("self-signed", "of another name", "expired", "expired, self-signed", "not yet valid")


async def refused(speak, server, context, kind=ssl.SSLCertVerificationError):
    """The reason of the refusal, after making sure that the server was told nothing."""
    with pytest.raises((ssl.SSLError, aiohttp.ClientConnectorCertificateError)) as caught:
        await speak(server.port, context)
    error = cause(caught.value)
    assert isinstance(error, kind)
    assert (await asyncio.to_thread(server.connection)).said == b""
    return error


async def accepted(speak, server, context):
    await speak(server.port, context)
    seen = await asyncio.to_thread(server.connection)
    assert seen.handshake
    assert SECRET.encode() in seen.said


@pytest.mark.parametrize("kind", ODD)
async def test_by_default_an_odd_certificate_is_refused(speak, serve, ca, ca_file, monkeypatch, kind):
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)  # the system trusts this CA
    pem, problem = odd_certificates(ca)[kind]
    error = await refused(speak, serve(pem), TLS().context())
    assert any(word in str(error) for word in problem.split("|"))


async def test_by_default_what_the_system_trusts_is_accepted(speak, serve, ca, ca_file, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    await accepted(speak, serve(issued(ca)), TLS().context())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ODD)
async def test_a_pin_accepts_its_certificate_whatever_is_odd_about_it(speak, serve, ca, kind, version):
    server = serve(odd_certificates(ca)[kind][0], version=version)
    await accepted(speak, server, TLS(fingerprint=fingerprint_of(server.der)).context())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_pin_refuses_a_changed_certificate_before_a_byte_is_sent(speak, serve, version):
    server = serve(self_signed()[1], version=version)
    first = fingerprint_of(server.der)
    context = TLS(fingerprint=first).context()
    await accepted(speak, server, context)
    server.show(self_signed()[1])
    error = await refused(speak, server, context, FingerprintMismatch)
    assert error.seen == fingerprint_of(server.der) != first
    assert error.pinned == first
    assert error.seen in str(error)


async def test_a_pin_refuses_even_what_the_system_trusts(speak, serve, ca, ca_file, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    server = serve(issued(ca))
    error = await refused(speak, server, TLS(fingerprint=OTHER_PIN).context(), FingerprintMismatch)
    assert error.seen == fingerprint_of(server.der)


async def test_a_pin_holds_behind_a_proxy_as_well(serve, proxy):
    server = serve(self_signed()[1])
    for pin, error in ((fingerprint_of(server.der), None), (OTHER_PIN, aiohttp.ClientConnectorCertificateError)):
        connector = aiohttp.TCPConnector(ssl=TLS(fingerprint=pin).context())
        async with aiohttp.ClientSession(connector=connector, proxy=proxy) as session:
            with pytest.raises(error) if error else contextlib.nullcontext():
                async with session.get(f"https://127.0.0.1:{server.port}/{SECRET}") as response:
                    assert response.status == 200
        said = (await asyncio.to_thread(server.connection)).said
        assert (SECRET.encode() in said) == (error is None)


@pytest.fixture
async def proxy():
    """An HTTP proxy that only makes tunnels."""
    tasks = set()

    async def pump(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def tunnel(reader, writer):
        tasks.add(asyncio.current_task())
        host, _, port = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().rpartition(":")
        there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    server = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await asyncio.gather(*tasks)


async def test_a_ca_file_accepts_what_it_vouches_for_and_refuses_the_rest(speak, serve, ca, ca_file):
    await accepted(speak, serve(issued(ca)), TLS(ca_file=ca_file).context())
    for pem, _ in odd_certificates(ca).values():
        await refused(speak, serve(pem), TLS(ca_file=ca_file).context())
    await refused(speak, serve(issued(trustme.CA())), TLS(ca_file=ca_file).context())


async def test_a_ca_file_replaces_what_the_system_trusts(speak, serve, ca, ca_file, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    await refused(speak, serve(issued(ca)), TLS(ca_file=str(other)).context())


async def test_a_ca_file_without_names_accepts_any_name_but_nothing_else(speak, serve, ca, ca_file):
    context = TLS(ca_file=ca_file, check_hostname=False).context()
    for kind, (pem, _) in odd_certificates(ca).items():
        await (accepted if kind == "of another name" else refused)(speak, serve(pem), context)


async def test_a_ca_file_may_hold_just_the_ca_in_the_middle(speak, serve, ca, tmp_path):
    middle = ca.create_child_ca()
    middle.cert_pem.write_to_path(tmp_path / "middle.pem")
    await accepted(speak, serve(issued(middle)), TLS(ca_file=str(tmp_path / "middle.pem")).context())
    await refused(speak, serve(issued(ca)), TLS(ca_file=str(tmp_path / "middle.pem")).context())


async def test_the_self_signed_certificate_itself_may_be_the_ca_file(serve, tmp_path):
    der, pem = self_signed()
    path = tmp_path / "leaf.der"
    path.write_bytes(der)
    await accepted(by_aiohttp, serve(pem), TLS(ca_file=str(path), check_hostname=False).context())
    await refused(by_aiohttp, serve(self_signed()[1]), TLS(ca_file=str(path), check_hostname=False).context())


@pytest.mark.parametrize("kind", ODD)
async def test_insecure_accepts_anything_and_no_other_context_learns_from_it(speak, serve, ca, kind):
    server = serve(odd_certificates(ca)[kind][0])
    before = TLS().context()
    await accepted(speak, server, TLS(insecure=True).context())
    await refused(speak, server, before)
    await refused(speak, server, TLS().context())


def test_each_context_is_one_of_its_own(ca_file):
    for tls in (TLS(), TLS(insecure=True), TLS(fingerprint=OTHER_PIN), TLS(ca_file=ca_file)):
        first, second = tls.context(), tls.context()
        assert first is not second
        first.check_hostname = False
        first.verify_mode = ssl.CERT_NONE
        assert TLS().context().verify_mode == ssl.CERT_REQUIRED
        assert TLS().context().check_hostname
    assert TLS(fingerprint=OTHER_PIN).context().options & ssl.OP_NO_RENEGOTIATION  # would bring another certificate
    assert all(tls.context().minimum_version == ssl.TLSVersion.TLSv1_2 for tls in (TLS(), TLS(insecure=True)))


class Wire:
    """A TLS client and server joined in memory, without asyncio."""

    def __init__(self, client, server, *, session=None):
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(to_client, to_server, session=session)
        self.server = server.wrap_bio(to_server, to_client, server_side=True)

    def shake_hands(self):
        done = [False, False]
        while not all(done):
            for index, end in enumerate((self.client, self.server)):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
                    done[index] = True
        with contextlib.suppress(ssl.SSLWantReadError):
            self.client.read(1)  # the session tickets of TLS 1.3 come after the handshake


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_does_not_skip_the_check(tmp_path, version):
    der, pem = self_signed()
    (tmp_path / "server.pem").write_bytes(pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem")
    server.maximum_version = version
    context = PinnedContext.for_pin(fingerprint_of(der))
    first = Wire(context, server)
    first.shake_hands()

    again = Wire(context, server, session=first.client.session)
    again.shake_hands()
    assert again.client.session_reused
    assert again.client.write(b"x") == 1

    context.pin = OTHER_PIN
    changed = Wire(context, server, session=first.client.session)
    with pytest.raises(FingerprintMismatch, match=OTHER_PIN):
        changed.shake_hands()
    with pytest.raises(ssl.SSLError, match="not compared"):
        changed.client.write(SECRET.encode())


def test_nothing_is_read_or_written_around_the_check(tmp_path):
    wire = Wire(PinnedContext.for_pin(OTHER_PIN), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    for attempt in (lambda: wire.client.write(SECRET.encode()), wire.client.read):
        with pytest.raises(ssl.SSLError, match="not compared"):
            attempt()


def test_where_the_check_cannot_be_made_there_is_no_connection():
    context = PinnedContext.for_pin(OTHER_PIN)
    with socket.socket() as raw, pytest.raises(NotImplementedError, match="asyncio"):
        context.wrap_socket(raw)
    context.sslobject_class = ssl.SSLObject  # as if Python asked nobody which class to use
    with pytest.raises(NotImplementedError, match="does not let"):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())


@pytest.mark.parametrize("pin", [OTHER_PIN, ""])
def test_a_server_without_a_certificate_fits_no_pin(pin):
    context, server = PinnedContext.for_pin(pin), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for end in (context, server):
        end.maximum_version = ssl.TLSVersion.TLSv1_2
        end.set_ciphers("aNULL:@SECLEVEL=0")
    with pytest.raises(FingerprintMismatch, match="missing") as caught:
        Wire(context, server).shake_hands()
    assert caught.value.seen == ""


@pytest.mark.parametrize(
    "options",
    [
        {"insecure": True, "fingerprint": OTHER_PIN},
        {"insecure": True, "ca_file": "ca.pem"},
        {"fingerprint": OTHER_PIN, "ca_file": "ca.pem"},
        {"check_hostname": False},
        {"check_hostname": False, "insecure": True},
        {"check_hostname": False, "fingerprint": OTHER_PIN},
    ],
)
def test_contradictions_are_refused(options):
    with pytest.raises(ConfigError) as caught:
        TLS(**options)
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:xyz", "sha1:" + "ab" * 20, "ab" * 20, "sha256:" + "ab" * 33, "sha256:" + "٣" * 64]
)
def test_a_fingerprint_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="no SHA-256 fingerprint"):
        TLS(fingerprint=text)


def test_a_fingerprint_is_taken_as_tools_print_it():
    for text in (OTHER_PIN, OTHER_PIN.upper(), "SHA256:" + ":".join(["AB"] * 32), ":".join(["ab"] * 32), "AB" * 32):
        assert TLS(fingerprint=text).fingerprint == OTHER_PIN


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        (b"", "no certificates"),
        (b"hello", "no certificates"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "damaged"),
        (b"\x30\x82\x01\x00", "damaged"),
        (b"x" * (4 * 2**20 + 1), "larger than 4 MiB"),
    ],
)
def test_a_ca_file_that_is_none_is_named(tmp_path, content, problem):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=problem) as caught:
        TLS(ca_file=str(path)).context()
    assert str(path) in str(caught.value)


def test_a_ca_file_cut_off_in_the_middle_is_refused_as_a_whole(ca, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(ca.cert_pem.bytes() + trustme.CA().cert_pem.bytes()[:200])
    with pytest.raises(ConfigError, match="damaged"):
        TLS(ca_file=str(path)).context()


def test_a_ca_file_with_comments_in_any_language_is_read(ca, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes("# für uns\n".encode() + ca.cert_pem.bytes() + "# 二\n".encode() + trustme.CA().cert_pem.bytes())
    assert TLS(ca_file=str(path)).context().cert_store_stats()["x509_ca"] == 2


@pytest.mark.parametrize("kind", ["folder", "pipe", "name"])
def test_a_ca_file_that_is_no_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "ca.pem"
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ConfigError, match="cannot read the CA file"):
        TLS(ca_file=str(path) + ("\0" if kind == "name" else "")).context()


async def test_a_certificate_is_shown_without_a_request(serve, ca):
    dates = {"not_before": NOW - 9 * DAY, "not_after": NOW - DAY}
    server = serve(self_signed("vast.example", **dates)[1])
    seen = await fetch_certificate("127.0.0.1", server.port, timeout=30)
    assert seen.fingerprint == fingerprint_of(server.der)
    assert not seen.verified
    assert "self-signed" in seen.problem or "expired" in seen.problem
    assert (seen.subject, seen.issuer) == ("vast.example", "vast.example")
    assert (seen.not_before, seen.not_after) == (dates["not_before"], dates["not_after"])
    for _ in range(2):  # one that verifies, one that only looks
        assert (await asyncio.to_thread(server.connection)).said == b""
    await accepted(by_aiohttp, server, TLS(fingerprint=seen.fingerprint).context())


async def test_a_certificate_that_the_system_trusts_is_shown_as_such(serve, ca, ca_file, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    server = serve(issued(ca))
    seen = await fetch_certificate("127.0.0.1", server.port, timeout=30)
    assert seen.verified
    assert seen.problem is None
    assert seen.fingerprint == fingerprint_of(server.der)
    assert (await asyncio.to_thread(server.connection)).said == b""


async def test_without_tls_there_is_no_certificate(serve, unused_tcp_port):
    server = serve(self_signed()[1], plain=True)
    with pytest.raises(InstanceUnavailable, match="does not speak TLS") as caught:
        await fetch_certificate("127.0.0.1", server.port, timeout=30)
    assert "http" in caught.value.hint
    with pytest.raises(InstanceUnavailable, match="connection refused"):
        await fetch_certificate("127.0.0.1", unused_tcp_port, timeout=30)
    with pytest.raises((InstanceUnavailable, ConfigError)):
        await fetch_certificate("a" * 64 + ".invalid", 443, timeout=30)


async def test_a_silent_server_is_not_waited_for():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,  # the system accepts, nobody answers
        pytest.raises(InstanceUnavailable, match="no answer in time"),
    ):
        await fetch_certificate("127.0.0.1", listener.getsockname()[1], timeout=0.2)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16)  # 64 bytes at most


@settings(deadline=None)
@given(
    NAMES,
    st.datetimes(dt.datetime(1950, 1, 2), dt.datetime(2200, 1, 1)).map(lambda t: t.replace(microsecond=0)),
)
def test_names_and_dates_are_read_as_they_were_written(name, start):
    attributes = x509.Name([
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "a rental"),
        x509.NameAttribute(x509.NameOID.COMMON_NAME, name),
    ])  # fmt: skip
    start = start.replace(tzinfo=dt.UTC)
    der, _ = self_signed(attributes=attributes, not_before=start, not_after=start + DAY)
    facts = read_certificate(der)
    assert facts.subject == facts.issuer == "".join(c if c.isprintable() else "?" for c in name)
    assert (facts.not_before, facts.not_after) == (start, start + DAY)


def test_without_a_common_name_the_organisation_is_shown():
    attributes = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "a rental")])
    assert read_certificate(self_signed(attributes=attributes)[0]).subject == "a rental"
    assert read_certificate(self_signed(attributes=x509.Name([]))[0]).subject is None


SAMPLE = self_signed()[0]


@settings(deadline=None)
@given(st.data())
def test_damaged_certificates_are_read_or_refused_and_nothing_else(data):
    der = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        read_certificate(bytes(der[: data.draw(st.integers(0, len(der)))]))
    with contextlib.suppress(ValueError):
        read_certificate(data.draw(st.binary(max_size=200)))
