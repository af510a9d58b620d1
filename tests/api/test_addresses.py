"""What a server connects to on behalf of others: the address of each connection is judged, and no other thing."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from comfyclient import AddressRefused, AuthError, ComfyClient, ConfigError, OutputRef, TransferError
from comfyclient.addresses import Addresses
from comfyclient.auth import BearerToken
from comfyclient.emulator import Emulator

from ..contract.prompts import picture  # noqa: TID252
from ..faults.http_toxics import Answer  # noqa: TID252
from ..faults.proxy import FaultProxy  # noqa: TID252

# The messages of refusals must not differ, else they tell what is there.
MESSAGE = "the server does not connect to that address"
METADATA = [
    "169.254.169.254",
    "169.254.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::",
    "fe80::1",
    "fe80::1%lo",
    "fd00:ec2::254",
    "fd20:ce::254",
    "ff02::1",
    "100::1",
    "4000::1",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
]
PRIVATE = [
    "127.0.0.1",
    "127.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fd12::1",
    "::ffff:10.0.0.1",
    "2002:0a00:0001::1",
]
SAID = set()
PUBLIC = ["1.1.1.1", "142.250.0.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1", "2002:101:101::1"]


def admits(policy, host, port=8188):
    try:
        policy.admit(host, port)
    except AddressRefused as error:
        SAID.add(repr(error.to_json()))
        return False
    return True


def test_a_refusal_says_nothing_of_what_was_refused():
    for host in (*METADATA, "127.0.0.1", "no address"):
        assert not admits(Addresses(own=[("127.0.0.1", 1)]), host, 1)
    assert len(SAID) == 1


# The policy


@pytest.mark.parametrize("address", METADATA)
def test_what_gives_secrets_away_is_refused(address):
    assert not admits(Addresses(), address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_networks_are_refused_if_they_are_to_be(address):
    assert admits(Addresses(), address)
    assert not admits(Addresses(deny_private=True), address)


@pytest.mark.parametrize("address", PUBLIC)
def test_everything_else_is_admitted(address):
    assert admits(Addresses(deny_private=True), address)


@pytest.mark.parametrize("text", ["metadata.google.internal", "localhost", "", "1", "0x7f.1", "127.1", "[::1]"])
def test_a_text_that_is_no_address_is_refused(text):
    assert not admits(Addresses(), text)


def test_what_is_allowed_is_admitted_in_every_form():
    policy = Addresses(allow=["10.1.0.0/16", "169.254.7.7", "[fd00::1]", "192.168.1.7/24"], deny_private=True)
    assert admits(policy, "10.1.2.3")
    assert admits(policy, "::ffff:10.1.2.3")
    assert admits(policy, "169.254.7.7")
    assert admits(policy, "fd00::1")
    assert admits(policy, "192.168.1.200")
    assert not admits(policy, "10.2.0.1")
    assert not admits(policy, "169.254.7.8")


@pytest.mark.parametrize("text", ["example.com", "10.0.0.0/33", "", "10.0.0.1:80"])
def test_what_is_allowed_must_be_addresses(text):
    with pytest.raises(ConfigError, match="no address and no network"):
        Addresses(allow=[text])


@pytest.mark.parametrize("own", ["127.0.0.1", "0.0.0.0", "::", "::1"])
@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "::127.0.0.1"]
)
def test_the_server_does_not_connect_to_itself(own, address):
    policy = Addresses(own=[(own, 8000)], allow=["0.0.0.0/0", "::/0"])
    assert not admits(policy, address, 8000)
    assert admits(policy, address, 8001)


def test_a_server_that_listens_everywhere_knows_all_its_addresses():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        address = probe.getsockname()[0]
    assert not admits(Addresses(own=[("0.0.0.0", 8000)]), address, 8000)
    assert not admits(Addresses(own=[(address, 8000)]), f"::ffff:{address}", 8000)
    assert admits(Addresses(own=[("0.0.0.0", 8000)]), "192.0.2.1", 8000)


@given(st.ip_addresses(v=4), st.booleans())
def test_an_address_in_the_clothes_of_another_family_is_judged_as_itself(address, deny_private):
    policy = Addresses(deny_private=deny_private)
    number = int(address)
    for dressed in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80 | 1):
        assert admits(policy, str(ipaddress.IPv6Address(dressed))) == admits(policy, str(address))


@given(st.text() | st.ip_addresses().map(str), st.integers(0, 65535))
def test_a_policy_admits_or_refuses_and_does_nothing_else(host, port):
    admits(Addresses(deny_private=True, own=[("0.0.0.0", 1)]), host, port)


# Its connections


class Listener:
    """Counts connections and answers none."""

    def __init__(self, host="127.0.0.1", port=0):
        self._at = host, port
        self.connections = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, *self._at)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    def _accept(self, _, writer):
        self.connections += 1
        writer.transport.abort()


class Only:
    """Admits one address, and remembers what it was asked."""

    def __init__(self, address="127.0.0.1"):
        self.address = address
        self.asked = []

    def admit(self, host, port):
        self.asked.append((host, port))
        if host != self.address:
            raise AddressRefused(MESSAGE)


@pytest.fixture
def names(monkeypatch):
    """Names that stand for addresses: a list, of which each look-up takes the first, and the last stays."""
    known, real = {}, socket.getaddrinfo

    def look_up(host, *args, **options):
        if host not in known:
            return real(host, *args, **options)
        left = known[host]
        return real(left.pop(0) if len(left) > 1 else left[0], *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


async def refusal(url, policy, **options):
    """What a client says that is refused before it sends anything."""
    async with ComfyClient(url, addresses=policy, **options) as comfy:
        with pytest.raises(AddressRefused) as caught:
            await comfy.info()
        with pytest.raises(AddressRefused):
            await comfy.submit(picture())
        return caught.value.to_json()


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[::ffff:a9fe:a9fe]",
        "[::ffff:169.254.169.254]",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "0.0.0.0:{own}",
        "0:{own}",
        "[::]:{own}",
        "127.0.0.1:{own}",
        "0x7f.1:{own}",
        "2130706433:{own}",
        "localhost:{own}",
        "[::ffff:7f00:1]:{own}",
    ],
)
async def test_metadata_services_and_the_server_itself_are_never_connected_to(host):
    async with Listener() as own:
        policy = Addresses(own=[("127.0.0.1", own.port)])
        said = await refusal(f"http://{host.format(own=own.port)}/", policy)
        assert said["message"] == MESSAGE
        assert said["code"] == "address_refused"
        assert own.connections == 0


async def test_this_machine_is_refused_in_every_form_if_it_is_to_be():
    async with Listener() as here:
        for host in ("127.0.0.1", "0x7f.1", "localhost", "127.1", "[::ffff:127.0.0.1]"):
            await refusal(f"http://{host}:{here.port}", Addresses(deny_private=True))
            await refusal(f"https://{host}:{here.port}", Addresses(deny_private=True))
        assert here.connections == 0


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gopher://127.0.0.1:70/_x", "ftp://127.0.0.1", "dict://127.0.0.1"]
)
def test_no_other_scheme_is_a_url(url):
    with pytest.raises(ConfigError, match="http"):
        ComfyClient(url, addresses=Addresses())


async def test_a_credential_does_not_open_another_way():
    from comfyclient import Credential
    from comfyclient._redact import Secret

    async with Listener() as own:
        policy = Addresses(own=[("127.0.0.1", own.port)])
        given = Credential(username="user", password=Secret("password"))
        await refusal(f"http://127.0.0.1:{own.port}", policy, credential=given)
        assert own.connections == 0


async def test_an_instance_that_is_admitted_works_as_ever():
    async with Emulator() as emulator, ComfyClient(emulator.url, addresses=Addresses(own=[("127.0.0.1", 1)])) as comfy:
        job = await comfy.submit(picture())
        await job.result()
        assert comfy.connected


async def test_a_name_that_changes_between_two_connections_is_judged_at_each(names):
    """As a name server can answer: the first look-up is for whoever checks, the next for whoever connects."""
    async with Emulator() as emulator:
        port = int(emulator.url.rpartition(":")[2])
        names["flips.example"] = ["127.0.0.1", "127.0.0.2"]
        policy = Only()
        async with Listener("127.0.0.2", port) as elsewhere:
            async with ComfyClient(f"http://flips.example:{port}", addresses=policy, poll_interval=0.05) as comfy:
                await comfy.info()
                job = await comfy.submit(picture())  # its websocket looks the name up again
                await job.result()
                assert not comfy.connected
                assert comfy._socket.error == MESSAGE
            await refusal(f"http://flips.example:{port}", policy)
            assert elsewhere.connections == 0
        assert ("127.0.0.2", port) in policy.asked


async def test_a_name_with_several_addresses_is_reached_by_those_that_are_admitted(names, monkeypatch):
    async with Emulator() as emulator, Listener("127.0.0.2", int(emulator.url.rpartition(":")[2])) as elsewhere:
        real = socket.getaddrinfo

        def both(host, *args, **options):
            hosts = ["127.0.0.2", "127.0.0.1"] if host == "two.example" else [host]
            return [info for name in hosts for info in real(name, *args, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        async with ComfyClient(f"http://two.example:{elsewhere.port}", addresses=Only()) as comfy:
            job = await comfy.submit(picture())
            await job.result()
            assert comfy.connected
        await refusal(f"http://two.example:{elsewhere.port}", Only("192.0.2.1"))
        assert elsewhere.connections == 0


async def test_a_websocket_that_is_opened_again_is_judged_again():
    async with Emulator() as emulator:
        policy = Only()
        async with ComfyClient(emulator.url, addresses=policy, poll_interval=0.05) as comfy:
            job = await comfy.submit(picture())
            await job.result()
            assert comfy.connected
            policy.address, lost = None, asyncio.Event()
            monitored = comfy._socket._on_connection
            comfy._socket._on_connection = lambda up: (monitored(up), None if up else lost.set())
            comfy._socket.reconnect()
            await lost.wait()
            before = len(policy.asked)
            while len(policy.asked) == before:  # noqa: ASYNC110 - the next attempt, after its pause
                await asyncio.sleep(0.01)
            assert not comfy.connected


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:a9fe:a9fe]", "127.0.0.2:{port}", "0x7f.2:{port}"])
@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_no_redirect_leads_to_what_is_refused(host, scheme):
    async with Listener("127.0.0.2") as secret:
        location = f"{scheme}://{host.format(port=secret.port)}/object?X-Amz-Signature=1"
        async with Emulator() as emulator, FaultProxy(emulator.url) as instance:
            instance.on("GET", "/view", Answer(302, {"Location": location}), times=None)
            async with ComfyClient(instance.url, auth=BearerToken("x" * 20), addresses=Only()) as comfy:
                await comfy.info()
                with pytest.raises((AuthError, TransferError)) as caught:
                    await comfy.read(OutputRef("1", "images", "x.png"))
        assert (MESSAGE in str(caught.value)) is (scheme == "https")  # of http nothing is fetched in any case
        assert secret.connections == 0


async def test_tls_is_checked_for_the_name_and_not_for_the_address(names, tmp_path):
    from comfyclient import TLS

    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("named.example").configure_cert(context)
    names["named.example"] = ["127.0.0.1"]
    async with Emulator() as emulator:
        port = int(emulator.url.rpartition(":")[2])

        async def relay(reader, writer):
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))

        async def copy(reader, writer):
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    writer.write(data)
            writer.close()

        server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
        secure = server.sockets[0].getsockname()[1]
        tls = TLS(ca_file=str(tmp_path / "ca.pem"))
        async with ComfyClient(f"https://named.example:{secure}", tls=tls, addresses=Only()) as comfy:
            job = await comfy.submit(picture())
            await job.result()
            assert comfy.connected
        server.close()
        await server.wait_closed()


def test_proxies_and_a_policy_exclude_each_other():
    with pytest.raises(ConfigError, match="proxies"):
        ComfyClient("http://127.0.0.1:8188", addresses=Addresses(), trust_env=True)
