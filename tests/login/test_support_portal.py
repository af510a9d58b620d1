"""The portal of the tests is like vast's: what gets in, what does not, and what comes back."""

import base64
import contextlib
import ctypes
import gzip
import json
import os
import socket
import ssl
from urllib.parse import quote

import pytest
from yarl import URL

from .caddy import Caddy
from .raw import exchange, handshake
from .vast import FREE, bcrypt, vast_caddyfile, vast_portal

PASSWORD = "web-password-0123"
TOKEN = "open-button-token-4567"
COOKIE = "C.12345678_auth_token"

# Each secret, and what goes through besides bearer, basic and `?token=` percent-encoded, which all do:
# the cookie as the portal sets it, and `?token=` pasted as a person would.
SECRETS = {
    "a/b=c": (True, True),
    "a b": (True, True),
    "a,b": (True, True),
    'a"b': (True, True),
    "$2b$x/.": (True, True),
    "a&b#c?d": (True, False),
    "a+b": (True, False),
    "a%2Fb": (True, False),
    "pä": (True, True),
    "a\\b": (False, True),
}
UNRULY = [
    "*",
    "{x}",
    "{http.request.uri}",
    "`tick`",
    "a\\",
    '\\"',
    "e{$PORT}",
    "trailing*",
    "雪\N{SNOWMAN}",
    "'single'",
]


def basic(username, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def link(secret, path="/prompt"):
    return f"{path}?token={quote(secret, safe='')}"


def pasted(secret):
    """What a browser or yarl makes of ``…?token=`` with the secret typed behind it."""
    return str(URL(f"http://host/prompt?token={secret}").relative())


def cookie_pair(answer):
    """The cookie that an answer sets, exactly as it came."""
    return answer.headers["Set-Cookie"].partition(";")[0]


async def both(url, *, target="/prompt", headers=()):
    """The status over HTTP, and that of a websocket."""
    http = await exchange(url, target, headers=headers)
    query = target.partition("?")[2]
    socket_answer = await handshake(url, f"/ws?clientId=raw&{query}", headers=headers)
    return http.status, socket_answer.status


@pytest.fixture
async def portal(serve, emulator):
    return await serve(vast_portal(emulator.url, web_password=PASSWORD, open_button_token=TOKEN))


@pytest.mark.parametrize("secret", SECRETS)
async def test_each_awkward_secret_has_the_outcome_of_the_original(serve, emulator, secret):
    as_set, as_pasted = SECRETS[secret]
    url = (await serve(vast_portal(emulator.url, web_password=secret, open_button_token=secret))).url
    tokened = await exchange(url, link(secret))
    pair = cookie_pair(tokened)
    outcomes = {
        "bearer": await both(url, headers=bearer(secret)),
        "basic": await both(url, headers=basic("vastai", secret)),
        "token": await both(url, target=link(secret)),
        "cookie": await both(url, headers={"Cookie": pair}),
        "cookie by hand": await both(url, headers={"Cookie": f"{COOKIE}={secret}"}),
        "quoted cookie": await both(url, headers={"Cookie": f'{COOKIE}="{secret}"'}),
        "pasted": await both(url, target=pasted(secret)),
    }
    yes, no = (200, 101), (401, 401)
    assert outcomes == {
        "bearer": yes,
        "basic": yes,
        "token": yes,
        "cookie": yes if as_set else no,
        "cookie by hand": yes,
        "quoted cookie": no,
        "pasted": yes if as_pasted else no,
    }
    assert json.loads(tokened.body)["exec_info"] == {"queue_remaining": 0}
    assert as_set == (pair == f"{COOKIE}={secret}")


@pytest.mark.parametrize("secret", UNRULY)
async def test_a_secret_means_nothing_to_the_configuration(serve, emulator, secret):
    url = (await serve(vast_portal(emulator.url, web_password=secret, open_button_token=secret))).url
    assert await both(url, headers=bearer(secret)) == (200, 101)
    assert await both(url, target=link(secret)) == (200, 101)
    assert await both(url, headers={"Cookie": f"{COOKIE}={secret}"}) == (200, 101)
    assert await both(url, headers=basic("vastai", secret)) == (200, 101)
    assert await both(url, headers=bearer(f"{secret}x")) == (401, 401)
    assert await both(url, headers=bearer("anything")) == (401, 401)


async def test_semicolons_and_line_ends_are_stripped_from_the_secret(serve, emulator):
    url = (await serve(vast_portal(emulator.url, web_password="a;b\r\n", open_button_token="a;b\r\n"))).url
    typed = [bearer("a;b"), basic("vastai", "a;b"), {"Cookie": f"{COOKIE}=a;b"}]
    assert [await both(url, headers=headers) for headers in typed] == [(401, 401)] * 3
    assert await both(url, target=link("a;b")) == (401, 401)
    assert await both(url, target=pasted("a;b")) == (401, 401)
    stripped = [bearer("ab"), basic("vastai", "ab"), {"Cookie": f"{COOKIE}=ab"}]
    assert [await both(url, headers=headers) for headers in stripped] == [(200, 101)] * 3
    assert await both(url, target=link("ab")) == (200, 101)


async def test_without_a_credential_the_answer_is_the_basic_challenge(portal):
    answer = await exchange(portal.url, "/prompt", headers={"Accept": "application/json"})
    assert (answer.status, answer.body) == (401, b"")
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="restricted"'
    assert answer.headers["Server"] == "Caddy"
    assert "Set-Cookie" not in answer.headers
    assert (await handshake(portal.url)).status == 401


async def test_either_secret_is_a_token_and_a_bearer_and_only_the_password_is_one(portal):
    for secret in (PASSWORD, TOKEN):
        assert await both(portal.url, headers=bearer(secret)) == (200, 101)
        assert await both(portal.url, headers={"Cookie": f"other=1; {COOKIE}={secret}"}) == (200, 101)
        tokened = await exchange(portal.url, link(secret))
        assert cookie_pair(tokened) == f"{COOKIE}={TOKEN}"
    assert await both(portal.url, headers=basic("vastai", TOKEN)) == (401, 401)
    by_password = await exchange(portal.url, "/prompt", headers=basic("vastai", PASSWORD))
    assert (by_password.status, cookie_pair(by_password)) == (200, f"{COOKIE}={PASSWORD}")


async def test_each_secret_stands_in_for_the_other(serve, emulator):
    for given in ({"web_password": PASSWORD}, {"open_button_token": PASSWORD}):
        url = (await serve(vast_portal(emulator.url, label=None, **given))).url
        assert await both(url, headers=basic("vastai", PASSWORD)) == (200, 101)
        assert cookie_pair(await exchange(url, link(PASSWORD))) == f"None_auth_token={PASSWORD}"


async def test_the_cookie_is_sought_anywhere_in_the_header(portal):
    assert await both(portal.url, headers={"Cookie": f"x{COOKIE}={TOKEN}EXTRA"}) == (200, 101)
    assert await both(portal.url, headers={"Cookie": f'{COOKIE}="{TOKEN}"'}) == (401, 401)
    assert await both(portal.url, headers={"Cookie": f"C.1_auth_token={TOKEN}"}) == (401, 401)


async def test_a_bearer_token_must_fit_exactly(portal):
    wrong = [f"bearer {TOKEN}", f"Bearer  {TOKEN}", f"Bearer {TOKEN}x", f"Token {TOKEN}"]
    assert [await both(portal.url, headers={"Authorization": text}) for text in wrong] == [(401, 401)] * 4


@pytest.mark.parametrize("marker", [{"Accept": "text/html,*/*"}, {"Sec-Fetch-Dest": "document"}])
async def test_a_browser_with_a_token_is_redirected_and_a_post_is_lost(portal, marker):
    targets = {
        f"/?token={TOKEN}": "/",
        f"/a%2Fb?token={TOKEN}": "/a%2Fb",
        f"/?a=1&token={TOKEN}": "/?a=1",
        f"/?token={TOKEN}&b=%20": "/?b=%20",
        f"/?a=1&token={TOKEN}&b=2": "/?a=1&b=2",
    }
    for method in ("GET", "POST"):
        for target, location in targets.items():
            answer = await exchange(portal.url, target, method=method, headers=marker, body=b"{}")
            assert (answer.status, answer.headers["Location"]) == (302, location)
            attributes = "; Path=/; Max-Age=604800; HttpOnly; SameSite=lax"
            assert answer.headers["Set-Cookie"] == f"{COOKIE}={TOKEN}{attributes}"
    wrong = await exchange(portal.url, "/?token=wrong", headers=marker)
    assert wrong.status == 401


async def test_a_websocket_by_token_sets_the_cookie(portal):
    answer = await handshake(portal.url, link(PASSWORD, "/ws"))
    assert (answer.status, cookie_pair(answer)) == (101, f"{COOKIE}={TOKEN}")


async def test_some_paths_are_free_for_all(portal):
    statuses = {path: (await exchange(portal.url, path.replace("*", "x"))).status for path in FREE}
    assert statuses.pop("/portal-resolver") == 200
    assert set(statuses.values()) == {404}
    resolver = await exchange(portal.url, "/portal-resolver")
    assert (resolver.body, resolver.headers["Access-Control-Allow-Origin"]) == (b"", "*")


async def test_the_upstream_sees_its_own_host_so_a_foreign_origin_is_refused(portal):
    own = await exchange(portal.url, "/prompt", headers=bearer(TOKEN))
    foreign = await exchange(portal.url, "/prompt", headers={**bearer(TOKEN), "Origin": portal.url})
    assert (own.status, foreign.status) == (200, 403)


async def test_json_comes_compressed_to_who_takes_it(portal):
    answer = await exchange(portal.url, "/object_info", headers={**bearer(TOKEN), "Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Content-Length" not in answer.headers
    assert "KSampler" in json.loads(gzip.decompress(answer.body))


async def test_a_server_that_is_down_is_a_placeholder_and_behind_cloudflare_one_with_200(portal, emulator):
    async with emulator.down():
        placeholder = await exchange(portal.url, "/prompt", headers=bearer(TOKEN))
        tunnelled = await exchange(portal.url, "/prompt", headers={**bearer(TOKEN), "Cf-Ray": "1-FRA"})
        refused = await exchange(portal.url, "/prompt")
    assert (placeholder.status, tunnelled.status, refused.status) == (502, 200, 401)
    for answer in (placeholder, tunnelled):
        assert answer.headers["X-Portal-Placeholder"] == "true"
        assert answer.headers["Content-Type"].startswith("text/html")
        assert b"<html>" in answer.body
    assert "X-Portal-Placeholder" not in refused.headers
    up = await exchange(portal.url, "/prompt", headers={**bearer(TOKEN), "Cf-Ray": "1-FRA"})
    assert (up.status, "X-Portal-Placeholder" in up.headers) == (200, False)


async def test_over_https_plain_http_is_sent_to_it_in_http_1_0(serve, emulator):
    portal = await serve(vast_portal(emulator.url, web_password=PASSWORD, https=True))
    plain = await exchange(portal.url.replace("https", "http", 1), "/prompt?x=1", headers=bearer(PASSWORD))
    assert (plain.version, plain.status) == (10, 308)
    assert plain.headers["Location"] == f"{portal.url}/prompt?x=1"
    trusting = ssl.create_default_context(cafile=portal.certificate.certificate)
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        await exchange(portal.url, "/prompt", context=trusting)
    trusting.check_hostname = False
    assert (await exchange(portal.url, "/prompt", headers=bearer(PASSWORD), context=trusting)).status == 200
    assert (await exchange(portal.url, "/prompt", context=trusting)).status == 401
    assert (await handshake(portal.url, headers=bearer(PASSWORD), context=trusting)).status == 101


async def test_a_restart_with_another_secret_ends_what_was_good(portal, emulator):
    url = portal.url
    await portal.restart(vast_caddyfile(emulator.url, web_password="another-secret"))
    assert portal.url == url
    assert await both(url, headers={"Cookie": f"{COOKIE}={TOKEN}"}) == (401, 401)
    assert await both(url, headers=bearer("another-secret")) == (200, 101)


async def test_it_leaves_nothing_behind(emulator):
    async with vast_portal(emulator.url, web_password=PASSWORD) as portal:
        pid, folder = portal.pid, portal.folder
        assert folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not folder.exists()
    with contextlib.closing(socket.socket()) as again:
        again.bind((portal.host, portal.port))


async def test_a_configuration_that_caddy_refuses_is_reported_and_leaves_nothing_behind():
    caddy = Caddy("{\n\tadmin off\n\tnonsense\n}\n")
    with pytest.raises(RuntimeError, match="nonsense"):
        await caddy.__aenter__()
    assert not caddy.folder.exists()


def test_without_the_c_librarys_hash_there_is_caddys_slow_one(monkeypatch):
    def lacking(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", lacking)
    assert bcrypt("pä", 4).startswith("$2a$14$")
