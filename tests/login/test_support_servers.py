"""The stand-ins ask, refuse and let through as their originals do."""

import asyncio
import base64
import hashlib
import io
import json
import re
import ssl
from urllib.parse import urlencode

import aiohttp
import pytest
from yarl import URL

from ..browser.frontend import CHROMIUM_FLAGS, chromium  # noqa: TID252
from .certificates import self_signed
from .raw import exchange, handshake
from .servers import (
    ApiKey,
    Basic,
    Bearer,
    CloudflareAccess,
    ComfyUILogin,
    JSLogin,
    LoginForm,
    OAuth2Proxy,
    Site,
)

JSON = {"Accept": "application/json"}
HTML = {"Accept": "text/html,application/xhtml+xml"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def basic(username, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


async def post_form(url, target, fields, *, headers=()):
    return await exchange(url, target, method="POST", headers=FORM | dict(headers), body=urlencode(fields).encode())


def cookie_of(answer):
    return answer.headers["Set-Cookie"].partition(";")[0]


# How each is entered: with a credential, or by a login whose cookie is the credential.


async def with_basic(server):
    return basic(server.username, server.password)


async def with_bearer(server):
    return {"Authorization": f"Bearer {server.token}"}


async def with_key(server):
    return {"X-API-Key": server.key}


async def with_service_token(server):
    return {"CF-Access-Client-Id": server.client_id, "CF-Access-Client-Secret": server.client_secret}


async def with_granted_cookie(server):
    return {"Cookie": server.grant()}


async def with_comfyui_login(server):
    return {"Cookie": cookie_of(await post_form(server.url, "/login", {"password": server.password}))}


async def with_form(server):
    page = await exchange(server.url, "/login", headers=HTML)
    csrf = re.search(r'name="csrf_token" value="([^"]+)"', page.body.decode())[1]
    fields = {"csrf_token": csrf, "account": server.username, "passphrase": server.password, "next": "/prompt"}
    return {"Cookie": cookie_of(await post_form(server.url, "/login", fields, headers={"Cookie": cookie_of(page)}))}


async def with_script(server):
    nonce = json.loads((await exchange(server.url, "/auth/challenge")).body)["nonce"]
    given = {"account": server.username, "passphrase": server.password, "proof": nonce[::-1]}
    return {
        "Cookie": cookie_of(await exchange(server.url, "/auth/session", method="POST", body=json.dumps(given).encode()))
    }


WAYS_IN = [
    (Basic, with_basic),
    (Bearer, with_bearer),
    (ApiKey, with_key),
    (CloudflareAccess, with_service_token),
    (OAuth2Proxy, with_granted_cookie),
    (ComfyUILogin, with_comfyui_login),
    (ComfyUILogin, with_bearer),
    (LoginForm, with_form),
    (JSLogin, with_script),
]
WITH_SESSIONS = [
    (OAuth2Proxy, with_granted_cookie),
    (ComfyUILogin, with_comfyui_login),
    (LoginForm, with_form),
    (JSLogin, with_script),
]


@pytest.mark.parametrize(("kind", "way_in"), WAYS_IN)
async def test_with_its_credential_everything_goes_through(serve, emulator, kind, way_in):
    server = await serve(kind(emulator.url))
    headers = await way_in(server)
    async with aiohttp.ClientSession(server.url, headers=headers, cookie_jar=aiohttp.DummyCookieJar()) as session:
        async with session.ws_connect("/ws?clientId=me", max_msg_size=0) as socket:
            status = await socket.receive_json()
            assert (status["type"], status["data"]["sid"]) == ("status", "me")
            picture = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8000
            form = aiohttp.FormData()
            form.add_field("image", io.BytesIO(picture), filename="ab.png")
            async with session.post("/upload/image", data=form) as uploaded:
                assert (await uploaded.json())["name"] == "ab.png"
            async with session.get("/view", params={"filename": "ab.png", "type": "input"}) as downloaded:
                assert hashlib.sha256(await downloaded.read()).digest() == hashlib.sha256(picture).digest()
        async with session.post("/prompt", json={"prompt": {}}) as refused_by_comfyui:
            assert (refused_by_comfyui.status, "error" in await refused_by_comfyui.json()) == (400, True)
    assert [seen.path for seen in server.passed] == ["/ws", "/upload/image", "/view", "/prompt"]
    assert all(seen.headers[name] == value for seen in server.passed for name, value in headers.items())


@pytest.mark.parametrize(("kind", "way_in"), WAYS_IN)
async def test_without_it_nothing_does(serve, emulator, kind, way_in):
    server = await serve(kind(emulator.url))
    headers = {name: f"x{value}x" for name, value in (await way_in(server)).items()}
    for given in ({}, headers):
        for accept in (JSON, HTML):
            assert (await exchange(server.url, "/prompt", headers={**given, **accept})).status != 200
            assert (await handshake(server.url, headers={**given, **accept})).status != 101
    assert server.passed == []
    assert emulator.core.sockets.open_count == 0


@pytest.mark.parametrize(("kind", "way_in"), WITH_SESSIONS)
async def test_expired_sessions_are_refused_and_open_sockets_stay(serve, emulator, kind, way_in):
    server = await serve(kind(emulator.url))
    headers = await way_in(server)
    async with (
        aiohttp.ClientSession(server.url, headers=headers, cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.ws_connect("/ws?clientId=me") as socket,
    ):
        await socket.receive_json()
        server.expire()
        assert (await exchange(server.url, "/prompt", headers=headers | JSON)).status in {401, 302}
        assert not socket.closed
        await socket.send_json({"type": "feature_flags", "data": {}})
        assert (await socket.receive_json())["type"] == "feature_flags"
        server.drop_sockets()
        assert (await socket.receive()).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
    assert (await exchange(server.url, "/prompt", headers=await way_in(server))).status == 200


@pytest.mark.parametrize(("kind", "way_in"), WITH_SESSIONS)
async def test_a_deaf_server_takes_the_login_and_refuses_all_the_same(serve, emulator, kind, way_in):
    server = await serve(kind(emulator.url))
    server.deaf = True
    headers = await way_in(server)
    assert (await exchange(server.url, "/prompt", headers=headers | JSON)).status in {401, 302}
    assert len(server.sessions) == 1


async def test_a_secure_cookie_over_http_is_a_login_loop(serve, emulator):
    server = await serve(ComfyUILogin(emulator.url, secure_cookie=True))
    async with aiohttp.ClientSession(server.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        for _ in range(2):
            async with session.post("/login", data={"password": server.password}, allow_redirects=False) as right:
                assert right.headers["Set-Cookie"].endswith("; Secure")
            async with session.get("/prompt", headers=JSON) as refused:
                assert refused.status == 401
    assert (server.logins, server.passed) == (2, [])
    cookie = {"Cookie": cookie_of(right)}
    assert (await exchange(server.url, "/prompt", headers=cookie)).status == 200


@pytest.mark.parametrize("kind", [CloudflareAccess, ComfyUILogin, JSLogin, LoginForm, OAuth2Proxy])
def test_session_cookies_are_secure_if_told_so(kind):
    marked = [kind("http://host", secure_cookie=secure).set_cookie("value")[1] for secure in (False, True)]
    assert ["Secure" in cookie for cookie in marked] == [False, True]


@pytest.mark.parametrize("kind", [Basic, Bearer, ApiKey, CloudflareAccess])
async def test_where_there_is_no_session_expiry_ends_the_credential(serve, emulator, kind):
    server = await serve(kind(emulator.url))
    headers = await next(way_in for candidate, way_in in WAYS_IN if candidate is kind)(server)
    assert (await exchange(server.url, "/prompt", headers=headers)).status == 200
    server.expire()
    assert (await exchange(server.url, "/prompt", headers=headers)).status in {401, 302}
    server.revoked = False
    assert (await exchange(server.url, "/prompt", headers=headers)).status == 200


async def test_basic_is_nginxs_with_names_in_utf_8(serve, emulator):
    server = await serve(Basic(emulator.url, username="jö", password="p:ä"))
    refused = await exchange(server.url, "/prompt", headers=JSON)
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="ComfyUI"')
    assert refused.headers["Server"].startswith("nginx")
    assert refused.headers["Content-Type"].startswith("text/html")
    assert (await exchange(server.url, "/prompt", headers=basic("jö", "p:ä"))).status == 200
    latin = {"Authorization": "Basic " + base64.b64encode("jö:p:ä".encode("latin-1")).decode()}
    assert (await exchange(server.url, "/prompt", headers=latin)).status == 401


async def test_bearer_says_whether_the_token_was_missing_or_wrong(serve, emulator):
    server = await serve(Bearer(emulator.url))
    challenges = [
        (await exchange(server.url, "/prompt", headers=headers)).headers["WWW-Authenticate"]
        for headers in ({}, {"Authorization": "Bearer wrong"})
    ]
    assert challenges == ['Bearer realm="ComfyUI"', 'Bearer realm="ComfyUI", error="invalid_token"']


async def test_an_api_key_may_be_wanted_in_the_sockets_url(serve, emulator):
    server = await serve(ApiKey(emulator.url, socket_token=True))
    headers = {"X-API-Key": server.key}
    refused = await exchange(server.url, "/prompt", headers=JSON)
    assert (refused.status, refused.headers["Content-Type"]) == (401, "application/json; charset=utf-8")
    assert (await exchange(server.url, "/prompt", headers=headers)).status == 200
    assert (await exchange(server.url, f"/prompt?token={server.key}")).status == 401
    assert (await handshake(server.url, headers=headers)).status == 401
    assert (await handshake(server.url, f"/ws?clientId=me&token={server.key}")).status == 101


async def test_comfyui_login_redirects_pages_and_answers_json_with_401(serve, emulator):
    server = await serve(ComfyUILogin(emulator.url))
    refused = await exchange(server.url, "/prompt", headers=JSON)
    assert (refused.status, json.loads(refused.body)) == (401, {"error": "Authentication required."})
    assert "WWW-Authenticate" not in refused.headers
    assert "aiohttp" in refused.headers["Server"]
    for answer in (
        await exchange(server.url, "/prompt", headers=HTML),
        await exchange(server.url, "/prompt", method="POST", headers=HTML, body=b"{}"),
        await handshake(server.url, headers=HTML),
    ):
        assert (answer.status, answer.headers["Location"]) == (302, "/login")
    page = await exchange(server.url, "/login", headers=HTML)
    assert b"<title>ComfyUI Login</title>" in page.body
    assert b"username" not in page.body


async def test_comfyui_login_says_right_and_wrong_with_302(serve, emulator):
    server = await serve(ComfyUILogin(emulator.url))
    wrong = await post_form(server.url, "/login", {"password": "wrong"})
    assert (wrong.status, wrong.headers["Location"], "Set-Cookie" in wrong.headers) == (
        302,
        "/login?wrong_password=1",
        False,
    )
    right = await post_form(server.url, "/login", {"username": "whoever", "password": server.password})
    assert (right.status, right.headers["Location"]) == (302, "/")
    assert re.fullmatch(r'AIOHTTP_SESSION="[^"]+"; HttpOnly; Path=/', right.headers["Set-Cookie"])
    assert (server.attempts, server.logins, server.claimed) == (2, 1, None)
    for cookie in (cookie_of(right), cookie_of(right).replace('"', "")):
        assert (await exchange(server.url, "/prompt", headers={"Cookie": cookie})).status == 200
    assert (await exchange(server.url, "/login", headers={"Cookie": cookie})).headers["Location"] == "/"


async def test_comfyui_login_takes_its_hash_as_a_token(serve, emulator):
    server = await serve(ComfyUILogin(emulator.url))
    assert re.fullmatch(r"\$2b\$12\$[./A-Za-z0-9]{53}", server.token)
    assert (await exchange(server.url, f"/prompt?token={server.token}")).status == 200
    assert (await handshake(server.url, f"/ws?clientId=me&token={server.token}")).status == 101
    assert (await exchange(server.url, "/prompt", headers={"Authorization": f"Basic {server.token}"})).status == 401


@pytest.mark.parametrize("header", ["x", "Bearer", "Bearer two words"])
async def test_comfyui_login_breaks_on_a_header_of_other_than_two_words(serve, emulator, header):
    server = await serve(ComfyUILogin(emulator.url))
    assert (await exchange(server.url, "/prompt", headers={"Authorization": header})).status == 500
    logged_in = await with_comfyui_login(server)
    assert (await exchange(server.url, "/prompt", headers={"Authorization": header, **logged_in})).status == 200


@pytest.mark.parametrize("fields", [{}, {"username": "ada"}, {"password": "p" * 73}, {"password": "ä" * 37}])
async def test_comfyui_login_breaks_without_a_password_or_on_a_long_one(serve, emulator, fields):
    server = await serve(ComfyUILogin(emulator.url, password="p" * 72))
    assert (await post_form(server.url, "/login", fields)).status == 500
    assert (await post_form(server.url, "/login", {"password": "p" * 72})).headers["Location"] == "/"


async def test_the_first_post_to_an_unclaimed_comfyui_login_sets_the_password(serve, emulator):
    server = await serve(ComfyUILogin(emulator.url, password=None))
    page = await exchange(server.url, "/login", headers=HTML)
    assert b"For your first login" in page.body
    assert b'name="username"' in page.body
    assert (server.token, server.claimed) == (None, None)
    assert (await exchange(server.url, "/prompt", headers=JSON)).status == 401
    first = await post_form(server.url, "/login", {"username": "ada", "password": "mine now"})
    assert (first.headers["Location"], server.claimed) == ("/", ("ada", "mine now"))
    assert b"first login" not in (await exchange(server.url, "/login", headers=HTML)).body
    assert (await post_form(server.url, "/login", {"password": "other"})).headers["Location"] != "/"


async def test_access_redirects_even_json_to_its_own_host(serve, emulator):
    server = await serve(CloudflareAccess(emulator.url))
    stale = {"CF-Access-Client-Id": server.client_id, "CF-Access-Client-Secret": "stale"}
    for headers in ({}, stale):
        for answer in (
            await exchange(server.url, "/prompt", headers=headers | JSON),
            await handshake(server.url, headers=headers),
        ):
            location = URL(answer.headers["Location"])
            assert (answer.status, location.host) == (302, "team.cloudflareaccess.com")
            assert location.path == f"/cdn-cgi/access/login/{URL(server.url).authority}"
            assert "Cf-Ray" in answer.headers
    good = await with_service_token(server)
    first = await exchange(server.url, "/prompt", headers=good)
    assert cookie_of(first).startswith("CF_Authorization=")
    by_cookie = await exchange(server.url, "/prompt", headers={"Cookie": cookie_of(first)})
    assert (by_cookie.status, "Set-Cookie" in by_cookie.headers) == (200, False)
    assert "CF_Authorization" in (await handshake(server.url, headers=good)).headers["Set-Cookie"]


async def test_two_logins_in_a_row_want_both_credentials(serve, emulator):
    inner = await serve(Basic(emulator.url))
    outer = await serve(CloudflareAccess(inner.url))
    access, own = await with_service_token(outer), await with_basic(inner)
    statuses = []
    for headers in ({}, own, access, access | own):
        answers = await exchange(outer.url, "/prompt", headers=headers), await handshake(outer.url, headers=headers)
        statuses.append(tuple(answer.status for answer in answers))
    assert statuses == [(302, 302), (302, 302), (401, 401), (200, 101)]
    refused = await exchange(outer.url, "/prompt", headers=access)
    assert refused.headers["WWW-Authenticate"].startswith("Basic")
    assert len(inner.passed) == 2


async def test_oauth2_proxy_answers_json_with_401_and_people_with_a_redirect(serve, emulator):
    server = await serve(OAuth2Proxy(emulator.url, token="jwt.jwt.jwt"))
    for_json = await exchange(server.url, "/prompt", headers=JSON)
    for_people = await exchange(server.url, "/prompt", headers=HTML)
    assert (for_json.status, for_people.status) == (401, 302)
    location = URL(for_people.headers["Location"])
    assert (location.host, {"state", "redirect_uri"} <= set(location.query)) == ("idp.example", True)
    for answer in (for_json, for_people):
        assert answer.headers["Set-Cookie"].startswith("_oauth2_proxy_csrf=")
    assert (await exchange(server.url, "/ping")).body == b"OK"
    cookie = {"Cookie": server.grant()}
    statuses = [(await exchange(server.url, "/oauth2/auth", headers=headers)).status for headers in ({}, cookie)]
    assert statuses == [401, 202]
    assert (await exchange(server.url, "/prompt", headers={"Authorization": "Bearer jwt.jwt.jwt"})).status == 200


async def test_oauth2_proxy_may_show_people_a_page_first(serve, emulator):
    server = await serve(OAuth2Proxy(emulator.url, sign_in_page=True))
    page = await exchange(server.url, "/", headers=HTML)
    assert (page.status, b"Sign in" in page.body) == (403, True)
    assert (await exchange(server.url, "/prompt", headers=JSON)).status == 401


@pytest.mark.parametrize(("answers", "status"), [("redirect", 302), ("page", 200), ("unauthorized", 401)])
@pytest.mark.parametrize("kind", [LoginForm, JSLogin])
async def test_a_login_page_stands_in_the_way_in_three_ways(serve, emulator, kind, answers, status):
    server = await serve(kind(emulator.url, answers=answers))
    asked = [
        await exchange(server.url, "/history?max_items=1", headers=JSON),
        await exchange(server.url, "/prompt", method="POST", body=b"{}"),
        await handshake(server.url),
    ]
    assert [answer.status for answer in asked] == [status] * 3
    if answers == "redirect":
        assert asked[0].headers["Location"] == "/login?next=%2Fhistory%3Fmax_items%3D1"
    if answers == "page":
        assert asked[0].headers["Content-Type"].startswith("text/html")
    assert server.passed == []


async def test_the_form_wants_its_token_and_leads_back(serve, emulator):
    server = await serve(LoginForm(emulator.url))
    page = await exchange(server.url, "/login?next=/history%3Fa%3D1%26b%3D2", headers=HTML)
    text = page.body.decode()
    assert 'name="next" value="/history?a=1&amp;b=2"' in text
    csrf = re.search(r'name="csrf_token" value="([^"]+)"', text)[1]
    own = {"Cookie": cookie_of(page)}
    fields = {"csrf_token": csrf, "account": "ada", "passphrase": "wrong", "next": "/history?a=1&b=2"}
    wrong = await post_form(server.url, "/login", fields, headers=own)
    assert (wrong.status, b"Wrong name or password" in wrong.body) == (200, True)
    fields["passphrase"] = server.password
    forged = [
        await post_form(server.url, "/login", fields),
        await post_form(server.url, "/login", fields | {"csrf_token": "other"}, headers=own),
    ]
    assert [answer.status for answer in forged] == [403, 403]
    right = await post_form(server.url, "/login", fields, headers=own)
    assert (right.status, right.headers["Location"]) == (303, "/history?a=1&b=2")
    assert (server.attempts, server.logins) == (4, 1)


async def test_a_session_cookie_must_come_back_as_it_was_set(serve, emulator):
    server = await serve(LoginForm(emulator.url))
    cookie = (await with_form(server))["Cookie"]
    name, _, value = cookie.partition("=")
    assert set("/+,=") <= set(value)
    statuses = [
        (await exchange(server.url, "/prompt", headers={"Cookie": text} | JSON)).status
        for text in (cookie, f'{name}="{value}"', f"other=1; {cookie}")
    ]
    assert statuses == [200, 302, 200]


async def test_a_login_can_be_held_back(serve, emulator):
    server = await serve(ComfyUILogin(emulator.url))
    server.login_gate.clear()
    async with aiohttp.ClientSession(server.url) as session:
        posted = session.post("/login", data={"password": server.password}, allow_redirects=False)
        async with asyncio.TaskGroup() as group:
            login = group.create_task(_status(posted))
            await server.until(lambda: server.attempts == 1)
            assert (server.logins, login.done()) == (0, False)
            server.login_gate.set()
        assert (login.result(), server.logins) == (302, 1)


async def test_a_prefix_covers_all_of_it(serve, emulator):
    server = await serve(LoginForm(emulator.url, prefix="/comfy"))
    assert server.url.endswith("/comfy")
    assert (await exchange(server.url, "/prompt")).status == 404
    refused = await exchange(server.url, "/comfy/prompt", headers=JSON)
    assert refused.headers["Location"] == "/comfy/login?next=%2Fprompt"
    cookie = {"Cookie": f"session={server.new_session()}"}
    assert (await exchange(server.url, "/comfy/prompt", headers=cookie)).status == 200
    assert (await handshake(server.url, "/comfy/ws?clientId=me", headers=cookie)).status == 101


async def test_paths_go_through_undecoded_and_answers_whole(serve, emulator):
    behind = await serve(Site())
    behind.answer(
        "GET",
        "/api/userdata/a%2Fb%20c",
        status=206,
        body=b"part",
        headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Range", "bytes 0-3/9")],
    )
    server = await serve(Bearer(behind.url, token="t"))
    headers = {"Authorization": "Bearer t", "Range": "bytes=0-3", "Cookie": "x=y", "User-Agent": "me/1"}
    answer = await exchange(server.url, "/api/userdata/a%2Fb%20c?x=%26&y=1+2", headers=headers)
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (206, b"part", "4")
    assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
    (seen,) = behind.requests
    assert seen.target == "/api/userdata/a%2Fb%20c?x=%26&y=1+2"
    assert {name: seen.headers[name] for name in headers} == headers
    assert seen.headers["Host"] == URL(behind.url).authority
    assert "Accept-Encoding" not in seen.headers


async def test_a_server_that_is_away_is_a_bad_gateway(serve):
    async with Site() as gone:
        url = gone.url
    server = await serve(Bearer(url, token="t"))
    headers = {"Authorization": "Bearer t"}
    assert (await exchange(server.url, "/prompt", headers=headers)).status == 502
    assert (await handshake(server.url, headers=headers)).status == 502


async def test_https_and_rules_for_single_requests(serve, emulator, tmp_path):
    certificate = await self_signed(tmp_path, names=["IP:127.0.0.1"])
    server = await serve(Bearer(emulator.url, token="t", ssl_context=certificate.context()))
    server.answer("GET", "/prompt", status=302, headers={"Location": "https://elsewhere.example/"})
    trusting = ssl.create_default_context(cafile=certificate.certificate)
    headers = {"Authorization": "Bearer t"}
    statuses = [(await exchange(server.url, "/prompt", headers=headers, context=trusting)).status for _ in range(2)]
    assert (server.url[:8], statuses) == ("https://", [302, 200])
    assert (await handshake(server.url, headers=headers, context=trusting)).status == 101
    assert [(seen.status, seen.passed) for seen in server.asked("GET", "/prompt")] == [(302, False), (200, True)]


async def test_the_scripted_page_is_nothing_without_scripts(serve, emulator):
    server = await serve(JSLogin(emulator.url))
    page = await exchange(server.url, "/login", headers=HTML)
    assert b"<form" not in page.body
    assert b"<input" not in page.body
    guessed = {"account": server.username, "passphrase": server.password, "proof": "0123"}
    answer = await exchange(server.url, "/auth/session", method="POST", body=json.dumps(guessed).encode())
    assert (answer.status, server.logins) == (403, 0)


async def test_a_browser_gets_through_the_scripted_page(serve, emulator):
    playwright_api = pytest.importorskip("playwright.async_api")
    if (path := chromium()) is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    server = await serve(JSLogin(emulator.url))
    playwright = await serve(playwright_api.async_playwright())
    browser = await playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
    try:
        page = await browser.new_page()
        await page.goto(f"{server.url}/")
        await page.fill("#account", server.username)
        await page.fill("#passphrase", "wrong")
        await page.click("button")
        await page.wait_for_selector("text=Wrong name or password")
        assert (server.attempts, server.logins) == (1, 0)
        await page.reload()
        await page.fill("#account", server.username)
        await page.fill("#passphrase", server.password)
        async with page.expect_navigation(url=f"{server.url}/"):
            await page.click("button")
        assert (server.logins, server.passed[0].path) == (1, "/")
        (cookie,) = await page.context.cookies()
        assert (cookie["name"], cookie["value"] in server.sessions) == ("session", True)
    finally:
        await browser.close()


async def _status(posted):
    async with posted as answer:
        return answer.status
