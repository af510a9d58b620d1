"""The wire tap finds a secret whatever it is dressed in, and only then."""

import base64
import io
import json
import ssl
from http.cookies import SimpleCookie
from urllib.parse import quote, quote_plus, urlencode

import aiohttp
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from yarl import URL

from .certificates import self_signed
from .raw import exchange, handshake
from .servers import Bearer, Site
from .sniffer import SHORTEST, Sniffer, found

SECRET = 's3cret/+ &pä\\"x'  # nothing that any of the encodings leaves as it is
AROUND = st.binary(max_size=20)


def dressed(secret, user):
    """As clients have been seen to send secrets."""
    cookie = SimpleCookie({"c": secret})
    return {
        "plain": secret.encode(),
        "percent": quote(secret, safe="").encode(),
        "percent, lower case": quote(secret, safe="").lower().encode() if secret.islower() else secret.encode(),
        "percent, twice": quote(quote(secret, safe=""), safe="").encode(),
        "form": quote_plus(secret).encode(),
        "form field": urlencode({"password": secret}).encode(),
        "yarl": str(URL("http://h/").with_query(token=secret)).encode(),
        "json": json.dumps({"password": secret}).encode(),
        "json, utf-8": json.dumps(secret, ensure_ascii=False).encode(),
        "cookie": cookie["c"].OutputString().encode(),
        "base64": base64.b64encode(secret.encode()),
        "base64, url": base64.urlsafe_b64encode(secret.encode()).rstrip(b"="),
        "basic": base64.b64encode(f"{user}:{secret}".encode()),
        "basic, percent": quote(base64.b64encode(f"{user}:{secret}".encode()), safe="").encode(),
    }


@given(secret=st.text(min_size=SHORTEST, max_size=20), user=st.text(max_size=8), before=AROUND, after=AROUND)
@example(secret=SECRET, user="ada", before=b"GET /?", after=b" HTTP/1.1\r\n")
@example(secret="100%+50", user="", before=b"%", after=b"%41")
def test_a_secret_is_found_in_every_dress(secret, user, before, after):
    assume(not any("\ud800" <= character <= "\udfff" for character in secret + user))
    assume(not any(ord(character) < 32 or character == "\x7f" for character in secret))
    # An escape sequence that the surroundings complete is not the secret's.
    before, after = before.replace(b"%", b"") + b" ", b" " + after
    missed = [name for name, text in dressed(secret, user).items() if not found(before + text + after, secret)]
    assert missed == []


@given(secret=st.text(alphabet="abcXYZ019/+= ", min_size=12), wire=st.binary(max_size=200))
def test_what_is_not_there_is_not_found(secret, wire):
    assume(len(set(secret)) > 4)
    assert not found(b"GET /prompt HTTP/1.1\r\nHost: 1.2.3.4\r\n" + wire.hex().encode(), secret, user="ada")


def test_latin_1_is_found_as_well():
    assert found("pässwort".encode("latin-1"), "pässwort")
    assert found(base64.b64encode("ada:pässwort".encode("latin-1")), "pässwort")


def test_a_secret_that_is_in_anything_is_refused():
    with pytest.raises(ValueError, match="fewer than 6 bytes"):
        found(b"", "a b")


async def test_the_relay_keeps_both_directions_and_changes_nothing(serve, emulator):
    server = await serve(Bearer(emulator.url, token="bearer-token-0123"))
    sniffer = await serve(Sniffer(server.url))
    good = {"Authorization": "Bearer bearer-token-0123"}
    answer = await exchange(sniffer.url, "/prompt", headers=good)
    assert (answer.status, answer.body) == (200, b'{"exec_info": {"queue_remaining": 0}}')
    assert (await handshake(sniffer.url, headers=good)).status == 101
    assert [bytes(c.sent[:6]) for c in sniffer.conversations] == [b"GET /p", b"GET /w"]
    assert sniffer.conversations[0].received.endswith(answer.body)
    assert sniffer.contains("bearer-token-0123")
    assert not sniffer.contains("bearer-token-0123", sent=False, received=True)
    assert not sniffer.contains("queue_remaining")
    assert sniffer.contains("queue_remaining", received=True)


async def test_large_bodies_go_through_both_ways(serve):
    site = await serve(Site())
    site.answer("POST", "/big", body=b"y" * 3_000_000)
    sniffer = await serve(Sniffer(site.url))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{sniffer.url}/big", data=io.BytesIO(b"x" * 2_000_000)) as answer,
    ):
        assert await answer.read() == b"y" * 3_000_000
    assert site.requests[0].body == b"x" * 2_000_000


async def test_an_encrypted_connection_shows_nothing(serve, tmp_path):
    certificate = await self_signed(tmp_path, names=["IP:127.0.0.1"])
    site = await serve(Site(ssl_context=certificate.context()))
    sniffer = await serve(Sniffer(site.url))
    trusting = ssl.create_default_context(cafile=certificate.certificate)
    answer = await exchange(sniffer.url, "/?token=plain-secret", context=trusting)
    assert (answer.status, sniffer.contains("plain-secret")) == (200, False)
    assert sniffer.conversations[0].encrypted
    assert sniffer.at("http") == sniffer.url.replace("https", "http")


async def test_a_server_that_is_away_hangs_up(serve):
    async with Site() as gone:
        url = gone.url
    sniffer = await serve(Sniffer(url))
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.post(sniffer.url)  # a GET would be sent twice
    assert len(sniffer.conversations) == 1
