"""The client before vast.ai's portal: which secret lets in by which way, and what a wrong one costs."""

import asyncio
import re
from urllib.parse import quote

import pytest

from comfyclient import (
    AuthRequired,
    BasicAuth,
    BearerToken,
    ComfyClient,
    ComfyClientError,
    ConfigError,
    Cookies,
    Credential,
    LoginRefused,
    TokenLogin,
)

from .sniffer import Sniffer
from .vast import vast_portal
from .visit import COOKIE, WAYS, attempts, by_every_way, picture, requests, visit

PASSWORD = "web-password-0123"
TOKEN = "open-button-token-4567"
WRONG = "wrong-secret-8901"

# Secrets that portals have been seen with, and what becomes of the link with each typed behind its `?token=`, where
# some characters mean something else.
SECRETS = {
    "a/b=c": None,
    "a b": None,
    "a,b": None,
    'a"b': None,
    "$2b$x/.": None,
    "a&b#c?d": ConfigError,
    "a+b": LoginRefused,
    "a%2Fb": LoginRefused,
    "pä": None,
    "a\\b": None,
    "a;b": None,
}


@pytest.fixture
async def portal(serve, emulator):
    return await serve(vast_portal(emulator.url, web_password=PASSWORD, open_button_token=TOKEN))


async def outcome(emulator, url, way=dict, *secret, **options):
    """How a whole visit ends: nothing, or the kind of its error."""
    try:
        async with ComfyClient(url, **way(*secret), **options) as comfy:
            session = await visit(comfy, emulator)
            assert session.kind == "vast"
    except ComfyClientError as error:
        return type(error)


@pytest.mark.parametrize("secret", SECRETS)
async def test_every_secret_lets_in_by_every_way(serve, emulator, secret):
    url = (await serve(vast_portal(emulator.url, web_password=secret, open_button_token=secret))).url
    outcomes = {name: await outcome(emulator, url, way, secret) for name, way in WAYS.items()}
    outcomes["link"] = await outcome(emulator, f"{url}/?token={quote(secret, safe='')}")
    outcomes["link as typed"] = await outcome(emulator, f"{url}?token={secret}")
    outcomes["user info"] = await outcome(emulator, url.replace("//", f"//vastai:{quote(secret, safe='')}@"))
    expected = dict.fromkeys(outcomes) | {"link as typed": SECRETS[secret]}
    if "\\" in secret:  # the portal itself writes the cookie so that it does not know it again
        expected["token login"] = LoginRefused
    if ";" in secret:  # which no cookie holds: what a browser has is what the portal made of it
        expected["pasted cookies"] = expected["cookies"] = ConfigError
        assert await outcome(emulator, url, auth=Cookies(f"{COOKIE}={secret.replace(';', '')}")) is None
    assert outcomes == expected


async def test_line_ends_do_not_count_in_a_secret_that_is_found_out_to_be_for_vast(serve, emulator):
    url = (await serve(vast_portal(emulator.url, web_password="secret;\r\n"))).url
    given = [{"password": "secret;\n"}, {"token": "secret\r\n"}, {"username": "vastai", "password": "secret"}]
    assert [await outcome(emulator, url, credential=Credential.of(**one)) for one in given] == [None] * 3


@pytest.mark.parametrize("name", WAYS)
async def test_either_of_two_secrets_lets_in_but_basic_auth_takes_the_password_only(portal, emulator, name):
    assert await outcome(emulator, portal.url, WAYS[name], PASSWORD) is None
    expected = LoginRefused if name == "basic" else None
    assert await outcome(emulator, portal.url, WAYS[name], TOKEN) is expected


async def test_of_a_token_and_a_password_the_one_that_is_right_is_found(portal, emulator):
    right = [{"token": WRONG, "password": PASSWORD}, {"token": TOKEN, "username": "vastai", "password": WRONG}]
    right += [{"cookies": f"{COOKIE}={WRONG}", "token": PASSWORD}]
    assert [await outcome(emulator, portal.url, credential=Credential.of(**one)) for one in right] == [None] * 3


async def test_a_bearer_is_preferred_since_a_password_costs_the_portal_a_second(serve, portal, emulator):
    sniffer = await serve(Sniffer(portal.url))
    async with ComfyClient(sniffer.url, credential=Credential.of(username="vastai", password=PASSWORD)) as comfy:
        assert (await visit(comfy, emulator)).scheme == "bearer token"
    assert {request.headers["Authorization"] for request in attempts(sniffer)} == {f"Bearer {PASSWORD}"}


async def test_the_user_name_may_have_been_changed(serve, emulator):
    url = (await serve(vast_portal(emulator.url, web_password=PASSWORD, username="sömebody"))).url
    assert await outcome(emulator, url, auth=BasicAuth("sömebody", PASSWORD)) is None
    assert await outcome(emulator, url, auth=BasicAuth("vastai", PASSWORD)) is LoginRefused
    for username in ("sömebody", "vastai"):  # the bearer token has none
        given = Credential.of(username=username, password=PASSWORD)
        assert await outcome(emulator, url, credential=given) is None


@pytest.mark.parametrize("label", ["C.999", None])
async def test_the_cookie_is_that_of_the_instances_own_label(serve, emulator, label):
    url = (await serve(vast_portal(emulator.url, web_password=PASSWORD, label=label))).url
    sniffer = await serve(Sniffer(url))
    async with ComfyClient(sniffer.url, auth=TokenLogin(PASSWORD)) as comfy:
        session = await visit(comfy, emulator)
        assert session.cookies.names == [f"{label}_auth_token"]
    by_token, *by_cookie = attempts(sniffer)
    assert by_token.target == f"/prompt?token={PASSWORD}"
    assert {(one.headers.get("Cookie"), "token=" in one.target) for one in by_cookie} == {
        (f"{label}_auth_token={PASSWORD}", False)
    }
    assert await outcome(emulator, url, auth=Cookies(f"{COOKIE}={PASSWORD}")) is LoginRefused
    several = f"{COOKIE}=of-another; {label}_auth_token={PASSWORD}; theme=dark"
    assert await outcome(emulator, url, auth=Cookies(several)) is None


# A wrong secret

# A password may be a bearer token, which is tried first, or one of another user's basic auth.
TRIES = {"user name and password": 2, "password": 2, "token and password": 3}


def both(secret):
    return {"credential": Credential.of(token=f"{secret}-1", password=f"{secret}-2")}


@pytest.mark.parametrize("name", [*WAYS, "token and password"])
async def test_a_wrong_secret_is_said_to_be_wrong_and_sent_once_in_each_way_that_may_be_right(serve, portal, name):
    sniffer = await serve(Sniffer(portal.url))
    given = both(WRONG) if name == "token and password" else WAYS[name](WRONG)
    async with ComfyClient(sniffer.url, **given) as comfy:
        with pytest.raises(LoginRefused, match=re.escape(sniffer.url)) as raised:
            await comfy.login()
    tried = attempts(sniffer)
    assert len(tried) == TRIES.get(name, 1)
    assert len({(one.target, one.headers.get("Authorization")) for one in tried}) == len(tried)
    assert [request.path for request in requests(sniffer)[:2]] == ["/prompt", "/portal-resolver"]
    assert not requests(sniffer)[0].tries
    assert not requests(sniffer)[1].tries
    assert WRONG not in f"{raised.value!r} {raised.value} {raised.value.hint}"


@by_every_way()
async def test_a_wrong_secret_is_not_sent_again_whatever_is_asked_for(serve, portal, way):
    sniffer = await serve(Sniffer(portal.url))
    async with ComfyClient(sniffer.url, **way(WRONG)) as comfy:
        with pytest.raises(LoginRefused):
            await comfy.login()
        tried = len(attempts(sniffer))
        with pytest.raises(LoginRefused):
            await comfy.submit(picture())
        with pytest.raises(LoginRefused):
            await comfy.wait_ready(60)
        with pytest.raises(LoginRefused):
            await comfy.info()
        assert len(attempts(sniffer)) == tried


@by_every_way()
async def test_many_requests_at_once_with_a_wrong_secret_are_one_try(serve, portal, way):
    sniffer = await serve(Sniffer(portal.url))
    async with ComfyClient(sniffer.url, **way(WRONG)) as comfy:
        outcomes = await asyncio.gather(*(comfy.info() for _ in range(20)), return_exceptions=True)
    assert {type(error) for error in outcomes} == {LoginRefused}
    assert len(attempts(sniffer)) <= 2


async def test_a_job_that_a_wrong_secret_keeps_out_is_not_queued_and_the_websocket_not_tried_on(
    serve, portal, emulator
):
    sniffer = await serve(Sniffer(portal.url))
    async with ComfyClient(sniffer.url, auth=BearerToken(WRONG)) as comfy:
        with pytest.raises(LoginRefused):
            await comfy.submit(picture())
        assert not comfy.connected
    assert len(attempts(sniffer)) <= 2
    async with ComfyClient(emulator.url) as direct:
        assert await direct.jobs() == []


async def test_a_portal_that_got_no_credential_is_named_with_what_to_do(serve, portal, emulator):
    async with ComfyClient(portal.url) as comfy:
        with pytest.raises(AuthRequired, match=r"a vast\.ai portal") as raised:
            await comfy.login()
        assert "comfyclient login" in raised.value.hint
        async with emulator.down():  # the portal asks who it is before it says that nothing is there
            with pytest.raises(AuthRequired, match=r"a vast\.ai portal"):
                await comfy.wait_ready(60)


# Instances side by side


@pytest.mark.parametrize("name", ["bearer", "token login", "password", "basic"])
async def test_of_two_instances_at_one_address_neither_gets_anything_of_the_other(serve, emulator, name):
    secrets = ["secret-of-one-0123", "secret-of-two-4567"]
    portals = [
        await serve(vast_portal(emulator.url, web_password=secret, label=f"C.{number}"))
        for number, secret in enumerate(secrets)
    ]
    sniffers = [await serve(Sniffer(portal.url)) for portal in portals]
    one, two = [
        await serve(ComfyClient(sniffer.url, **WAYS[name](secret)))
        for sniffer, secret in zip(sniffers, secrets, strict=True)
    ]
    for comfy in (one, two, one):  # each knows its cookies when the other is asked
        await visit(comfy, emulator)
    for sniffer, own, other in zip(sniffers, secrets, reversed(secrets), strict=True):
        assert sniffer.contains(own, user="vastai")
        assert not sniffer.contains(other, user="vastai")
    for number, sniffer in enumerate(sniffers):
        cookies = {cookie for request in requests(sniffer) for cookie in request.headers.getall("Cookie", [])}
        assert cookies <= {f"C.{number}_auth_token={secrets[number]}"}
