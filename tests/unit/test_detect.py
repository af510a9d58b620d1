"""What stands at an address: every row of the table of known proxies, and whatever else may answer."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from comfyclient.auth.detect import (
    Answer,
    Kind,
    classify,
    confirmed,
    https_upgrade,
    is_login_redirect,
    login_wanted,
    tunnel_headers,
)

HERE = "https://comfy.example:8443/prompt"
PLAIN = "http://1.2.3.4:40001/prompt"
HTML = ("Content-Type", "text/html; charset=utf-8")
JSON = ("Content-Type", "application/json")
AIOHTTP = ("Server", "Python/3.12 aiohttp/3.11.8")
CADDY = ("Server", "Caddy")
PORTAL = ("X-Portal-Placeholder", "true")
CF_RAY = ("Cf-Ray", "9a1b2c3d4e5f6789-FRA")
CLOUDFLARE = ("Server", "cloudflare")

QUEUE = b'{"exec_info": {"queue_remaining": 0}}'
LOGIN_PAGE = b"<!DOCTYPE html><form method=post><input name=u><INPUT name='p'\n Type = 'password' required></form>"
COMFYUI_LOGIN_PAGE = b"<html><head><title>ComfyUI Login</title></head><body>" + LOGIN_PAGE + b"</body></html>"
COMFYUI_PAGE = b'<!doctype html><html lang="en"><head><title>ComfyUI</title></head><body></body></html>'
BASIC = ("WWW-Authenticate", 'Basic realm="Private"')
CADDY_BASIC = ("WWW-Authenticate", 'Basic realm="restricted"')
NGROK_PAGE = (
    b'<!DOCTYPE html><html class="h-full"><head><link href="https://cdn.ngrok.com/static/x.woff"></head>'
    b"<body><noscript>Set and send an <code>ngrok-skip-browser-warning</code> request header (ERR_NGROK_6024)"
    b"</noscript></body></html>"
)
LOCALTUNNEL_PAGE = (
    b"<html><body><h1>You are about to visit: a.loca.lt</h1><p>This website is served via a localtunnel.</p>"
    b"<label>Tunnel Password:</label><input type=password><p>Set a <b>bypass-tunnel-reminder</b> header</p></html>"
)
ACCESS_PAGE = (
    b'<html><title>Error</title><a href="https://team.cloudflareaccess.com">Forbidden by Cloudflare Access</a></html>'
)
OAUTH2_PAGE = b'<html><title>Sign In</title><form method="GET" action="/oauth2/start"></form></html>'
TUNNEL_JSON = (
    b'{"title": "Error 1033: Cloudflare Tunnel error", "status": 530, "error_code": 1033, "cloudflare_error": true}'
)


def answer(status, *headers, body=b"", url=HERE):
    return Answer(URL(url), status, CIMultiDict(headers), body)


def redirect(location, status=302, *headers, url=HERE):
    return answer(status, ("Location", location), *headers, url=url)


def access(location="https://team.cloudflareaccess.com/cdn-cgi/access/login/comfy.example?kid=1&redirect_url=%2F"):
    return redirect(location, 302, CF_RAY, CLOUDFLARE)


TABLE = {
    "open": (answer(200, JSON, AIOHTTP, body=QUEUE), Kind.OPEN),
    "open with a type that a proxy made up": (answer(200, ("Content-Type", "text/plain"), body=QUEUE), Kind.OPEN),
    "open and an oauth2-proxy cookie renewed": (
        answer(200, JSON, ("Set-Cookie", "_oauth2_proxy=x; Path=/"), body=QUEUE),
        Kind.OPEN,
    ),
    "caddy, vast or not": (answer(401, CADDY, CADDY_BASIC), Kind.BASIC),
    "ComfyUI-Login": (answer(401, JSON, AIOHTTP, body=b'{"error": "Authentication required."}'), Kind.COMFYUI_LOGIN),
    "ComfyUI-Login or ai-dock for pages": (redirect("/login"), Kind.LOGIN_FORM),
    "ai-dock on the same port": (redirect("/login", 302, CADDY), Kind.LOGIN_FORM),
    "ai-dock on its portal's port": (
        redirect("http://1.2.3.4:41111/login", 302, CADDY, url=PLAIN),
        Kind.FOREIGN_LOGIN,
    ),
    "nginx basic": (answer(401, BASIC, ("Server", "nginx/1.27.4"), HTML, body=b"<h1>401</h1>"), Kind.BASIC),
    "Traefik basic": (answer(401, ("WWW-Authenticate", 'Basic realm="traefik"'), body=b"401 Unauthorized"), Kind.BASIC),
    "bearer": (answer(401, ("WWW-Authenticate", 'Bearer realm="x", error="invalid_token"')), Kind.BEARER),
    "bearer alone": (answer(401, ("WWW-Authenticate", "Bearer")), Kind.BEARER),
    "Comfy Cloud": (
        answer(401, JSON, body=b'{"message":"Unauthorized"}', url="https://cloud.comfy.org/api/prompt"),
        Kind.API_KEY,
    ),
    "Comfy Cloud with a challenge": (
        answer(401, ("WWW-Authenticate", "Bearer"), url="https://stage.cloud.comfy.org/api/prompt"),
        Kind.API_KEY,
    ),
    "Comfy Cloud without a subscription": (answer(429, url="https://cloud.comfy.org/api/prompt"), Kind.FORBIDDEN),
    "Comfy Cloud without credits": (answer(402, url="https://cloud.comfy.org/api/prompt"), Kind.FORBIDDEN),
    "Comfy Cloud's full queue": (
        answer(429, ("Retry-After", "5"), url="https://cloud.comfy.org/api/prompt"),
        Kind.UNAVAILABLE,
    ),
    "Access, for JSON callers too": (access(), Kind.CLOUDFLARE_ACCESS),
    "Access on the host itself": (access("/cdn-cgi/access/login/x?kid=1"), Kind.CLOUDFLARE_ACCESS),
    "Access page": (answer(403, HTML, CF_RAY, body=ACCESS_PAGE), Kind.CLOUDFLARE_ACCESS),
    "Access challenge": (answer(401, ("WWW-Authenticate", "Cloudflare-Access")), Kind.CLOUDFLARE_ACCESS),
    "oauth2-proxy redirect": (
        redirect(
            "https://idp.example/authorize?client_id=c&redirect_uri=https%3A%2F%2Fcomfy.example&state=s",
            302,
            ("Set-Cookie", "_oauth2_proxy_csrf=abc; Path=/; HttpOnly"),
        ),
        Kind.OAUTH2_PROXY,
    ),
    "oauth2-proxy with other cookie names": (
        redirect("https://idp.example/auth?redirect_uri=https%3A%2F%2Fcomfy.example%2Foauth2%2Fcallback&state=s"),
        Kind.OAUTH2_PROXY,
    ),
    "oauth2-proxy behind nginx": (
        redirect("https://sso.example/oauth2/start?rd=https://comfy.example"),
        Kind.OAUTH2_PROXY,
    ),
    "oauth2-proxy for JSON": (
        answer(401, JSON, ("Set-Cookie", "_oauth2_proxy_csrf=abc; Path=/"), body=b"{}"),
        Kind.OAUTH2_PROXY,
    ),
    "oauth2-proxy for JSON, second cookie": (
        answer(401, ("Set-Cookie", "other=1"), ("Set-Cookie", "_oauth2_proxy_1f_csrf=abc"), body=b"{}"),
        Kind.OAUTH2_PROXY,
    ),
    "oauth2-proxy sign-in page": (answer(403, HTML, body=OAUTH2_PAGE), Kind.OAUTH2_PROXY),
    "Authelia": (redirect("https://auth.example/?rd=https%3A%2F%2Fcomfy.example%2Fprompt&rm=GET"), Kind.AUTHELIA),
    "Authelia with 303": (redirect("https://auth.example/?rd=x&rm=POST", 303), Kind.AUTHELIA),
    "Authelia for JSON": (redirect("https://auth.example/?rd=x&rm=GET", 401), Kind.AUTHELIA),
    "Authelia by its cookie": (answer(401, ("Set-Cookie", "authelia_session=x; domain=example")), Kind.AUTHELIA),
    "Authentik": (redirect("/outpost.goauthentik.io/start?rd=%2Fprompt"), Kind.LOGIN_FORM),
    "some identity provider": (redirect("https://login.example/?return_to=x"), Kind.FOREIGN_LOGIN),
    "vast, starting, through Cloudflare": (answer(200, HTML, PORTAL, CF_RAY, body=b"<html>"), Kind.STARTING),
    "vast, starting": (answer(502, HTML, PORTAL, CADDY, body=b"<html>"), Kind.STARTING),
    "502": (answer(502, CADDY), Kind.UNAVAILABLE),
    "503": (answer(503, HTML, body=b"<html>nginx</html>"), Kind.UNAVAILABLE),
    "504": (answer(504), Kind.UNAVAILABLE),
    "Cloudflare 521": (answer(521, HTML, CF_RAY, CLOUDFLARE, body=b"<html>cf-error-details</html>"), Kind.UNAVAILABLE),
    "RunPod's 524": (answer(524, url="https://abc-8188.proxy.runpod.net/prompt"), Kind.UNAVAILABLE),
    "530 of another kind": (answer(530, CF_RAY, body=b"error code: 1000"), Kind.UNAVAILABLE),
    "rate limit": (answer(429, body=b"error code: 1015"), Kind.UNAVAILABLE),
    "tunnel gone": (answer(530, CF_RAY, HTML, body=b"<span>Error</span> <span>1033</span>"), Kind.TUNNEL_DOWN),
    "tunnel gone, text": (answer(530, CF_RAY, body=b"error code: 1033"), Kind.TUNNEL_DOWN),
    "tunnel gone, JSON": (answer(530, CF_RAY, JSON, body=TUNNEL_JSON), Kind.TUNNEL_DOWN),
    "ngrok offline": (
        answer(404, ("Ngrok-Error-Code", "ERR_NGROK_3200"), HTML, url="https://a.ngrok-free.app/prompt"),
        Kind.TUNNEL_DOWN,
    ),
    "localtunnel offline": (
        answer(503, ("x-localtunnel-status", "Tunnel Unavailable"), url="https://a.loca.lt/prompt"),
        Kind.TUNNEL_DOWN,
    ),
    "pod gone": (
        answer(404, HTML, CLOUDFLARE, body=b"<html>404</html>", url="https://abc-8188.proxy.runpod.net/prompt"),
        Kind.POD_GONE,
    ),
    "pod gone, no body": (answer(404, url="https://abc-8188.proxy.runpod.net/prompt"), Kind.POD_GONE),
    "another program in the pod": (
        answer(404, body=b"404: Not Found", url="https://abc-8188.proxy.runpod.net/prompt"),
        Kind.NOT_COMFYUI,
    ),
    "ngrok's warning": (answer(200, HTML, body=NGROK_PAGE, url="https://a.ngrok-free.app/prompt"), Kind.INTERSTITIAL),
    "ngrok's warning by its header": (answer(200, HTML, ("ngrok-error-code", "ERR_NGROK_6024")), Kind.INTERSTITIAL),
    "localtunnel's warning": (answer(200, HTML, body=LOCALTUNNEL_PAGE), Kind.INTERSTITIAL),
    "localtunnel's warning with 401": (answer(401, HTML, body=LOCALTUNNEL_PAGE), Kind.INTERSTITIAL),
    "localtunnel's warning with 511": (answer(511, HTML, body=LOCALTUNNEL_PAGE), Kind.INTERSTITIAL),
    "ComfyUI's origin check": (answer(403, AIOHTTP), Kind.FORBIDDEN),
    "Cloudflare's firewall": (answer(403, CLOUDFLARE, body=b"error code: 1010"), Kind.FORBIDDEN),
    "Cloudflare's firewall, JSON": (answer(403, CF_RAY, body=b'{"error_code": 1010}'), Kind.FORBIDDEN),
    "Cloudflare's browser check": (answer(503, HTML, ("cf-mitigated", "challenge")), Kind.FORBIDDEN),
    "403": (answer(403, HTML, ("Server", "nginx"), body=b"<h1>403 Forbidden</h1>"), Kind.FORBIDDEN),
    "vast with https": (redirect("https://1.2.3.4:40001/prompt", 308, url=PLAIN), Kind.USE_HTTPS),
    "https on the usual ports": (redirect("https://h.example/", 301, url="http://h.example/prompt"), Kind.USE_HTTPS),
    "https before login": (redirect("https://h.example/login", 302, url="http://h.example/prompt"), Kind.USE_HTTPS),
    "Go on a TLS port": (
        answer(400, body=b"Client sent an HTTP request to an HTTPS server.\n", url=PLAIN),
        Kind.USE_HTTPS,
    ),
    "nginx on a TLS port": (
        answer(400, HTML, body=b"<center>The plain HTTP request was sent to HTTPS port</center>", url=PLAIN),
        Kind.USE_HTTPS,
    ),
    "JSON without the number": (answer(200, JSON, body=b'{"exec_info": {}}'), Kind.NOT_COMFYUI),
    "a bool for the number": (answer(200, JSON, body=b'{"exec_info": {"queue_remaining": true}}'), Kind.NOT_COMFYUI),
    "a float for the number": (answer(200, JSON, body=b'{"exec_info": {"queue_remaining": 1.0}}'), Kind.NOT_COMFYUI),
    "a list for the object": (answer(200, JSON, body=b'["exec_info"]'), Kind.NOT_COMFYUI),
    "the right JSON with a wrong status": (answer(203, JSON, body=QUEUE), Kind.NOT_COMFYUI),
    "cut JSON": (answer(200, JSON, body=QUEUE[:-1]), Kind.NOT_COMFYUI),
    "login page with 200": (answer(200, HTML, body=LOGIN_PAGE), Kind.LOGIN_FORM),
    "login page with 401": (answer(401, HTML, body=LOGIN_PAGE), Kind.LOGIN_FORM),
    "login page with 403": (answer(403, HTML, body=LOGIN_PAGE), Kind.LOGIN_FORM),
    "login page without a type": (answer(200, body=b"\r\n " + LOGIN_PAGE), Kind.LOGIN_FORM),
    "ComfyUI-Login's page": (answer(200, HTML, body=COMFYUI_LOGIN_PAGE), Kind.COMFYUI_LOGIN),
    "a page": (answer(200, HTML, body=b"<h1>Welcome to nginx!</h1>"), Kind.NOT_COMFYUI),
    "ComfyUI's page": (answer(200, HTML, body=COMFYUI_PAGE), Kind.NOT_COMFYUI),
    "404": (answer(404, AIOHTTP, body=b"404: Not Found"), Kind.NOT_COMFYUI),
    "moved to another path": (redirect("/comfy/prompt"), Kind.NOT_COMFYUI),
    "moved to another host": (redirect("https://www.example/prompt"), Kind.NOT_COMFYUI),
    "moved to another port": (redirect("https://1.2.3.4:40002/prompt", url=PLAIN), Kind.NOT_COMFYUI),
    "a redirect without a place": (answer(302), Kind.NOT_COMFYUI),
    "not modified": (answer(304, ("Location", "/login")), Kind.NOT_COMFYUI),
    "401 with nothing": (answer(401), Kind.LOGIN_UNKNOWN),
    "401 with {}": (answer(401, JSON, body=b"{}"), Kind.LOGIN_UNKNOWN),
    "401 that only Windows can answer": (answer(401, ("WWW-Authenticate", "Negotiate")), Kind.LOGIN_UNKNOWN),
    "407": (answer(407, ("Proxy-Authenticate", "Basic")), Kind.LOGIN_UNKNOWN),
    "a status that is none": (answer(-7), Kind.NOT_COMFYUI),
}


@pytest.mark.parametrize(("given_answer", "kind"), TABLE.values(), ids=TABLE)
def test_the_answer_tells_what_is_there(given_answer, kind):
    verdict = classify(given_answer)
    assert verdict.kind is kind
    assert verdict.name
    assert verdict.hint or kind is Kind.OPEN


@pytest.mark.parametrize("given_answer", [row[0] for row in TABLE.values()], ids=TABLE)
def test_upper_and_lower_case_of_header_names_are_the_same(given_answer):
    shouted = CIMultiDict((name.upper(), value) for name, value in given_answer.headers.items())
    whispered = [(name.lower(), value) for name, value in given_answer.headers.items()]
    for headers in (shouted, CIMultiDict(whispered)):
        assert classify(Answer(given_answer.url, given_answer.status, headers, given_answer.body)) == classify(
            given_answer
        )


def test_every_kind_but_vast_has_a_row():
    assert {kind for _, kind in TABLE.values()} == set(Kind) - {Kind.VAST}


# -- order: transport, scheme, up or not, login ------------------------------------------------------------------


def test_an_error_page_says_nothing_about_logins():
    page = answer(502, BASIC, HTML, ("Set-Cookie", "_oauth2_proxy_csrf=x"), body=LOGIN_PAGE)
    assert classify(page).kind is Kind.UNAVAILABLE


def test_a_placeholder_is_no_login_page():
    assert classify(answer(200, HTML, PORTAL, body=LOGIN_PAGE)).kind is Kind.STARTING


def test_the_scheme_comes_before_everything():
    moved = redirect("https://1.2.3.4:40001/login", 302, PORTAL, ("Set-Cookie", "_oauth2_proxy_csrf=x"), url=PLAIN)
    assert classify(moved).kind is Kind.USE_HTTPS


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_wants_a_login_or_time_or_neither(kind):
    verdicts = [classify(row) for row, of in TABLE.values() if of is kind] or [confirmed_vast()]
    assert {verdict.wants_login for verdict in verdicts} == {kind in WANTING}
    assert {verdict.waits for verdict in verdicts} == {kind in {Kind.STARTING, Kind.UNAVAILABLE}}


WANTING = {
    Kind.VAST, Kind.BASIC, Kind.BEARER, Kind.API_KEY, Kind.COMFYUI_LOGIN, Kind.LOGIN_FORM, Kind.CLOUDFLARE_ACCESS,
    Kind.OAUTH2_PROXY, Kind.AUTHELIA, Kind.FOREIGN_LOGIN, Kind.LOGIN_UNKNOWN,
}  # fmt: skip


# -- doubts ------------------------------------------------------------------------------------------------------


def confirmed_vast():
    portal = answer(200, CADDY, ("Access-Control-Allow-Origin", "*"), url="http://1.2.3.4:40001/portal-resolver")
    return confirmed(classify(answer(401, CADDY, CADDY_BASIC, url=PLAIN)), portal)


def test_the_portal_of_vast_is_known_by_its_resolver():
    assert classify(answer(401, CADDY, CADDY_BASIC)).confirm == "/portal-resolver"
    assert confirmed_vast().kind is Kind.VAST
    assert confirmed_vast().confirm is None


@pytest.mark.parametrize(
    "resolver",
    [
        answer(401, CADDY, CADDY_BASIC),
        answer(404, ("Access-Control-Allow-Origin", "*")),
        answer(200, ("Access-Control-Allow-Origin", "*"), HTML, body=b"<html>"),
        answer(200),
        answer(200, ("Access-Control-Allow-Origin", "https://one.example")),
        answer(502, PORTAL),
    ],
)
def test_without_the_resolver_it_is_basic_auth(resolver):
    verdict = confirmed(classify(answer(401, CADDY, CADDY_BASIC)), resolver)
    assert (verdict.kind, verdict.confirm) == (Kind.BASIC, None)


@pytest.mark.parametrize(
    ("challenge", "server", "confirm"),
    [
        ('Basic realm="restricted"', "Caddy", "/portal-resolver"),
        ("basic Realm=restricted", "caddy", "/portal-resolver"),
        ('Basic realm="restricted", charset="UTF-8"', "Caddy", "/portal-resolver"),
        ('Basic realm="restricted"', "cloudflare", "/portal-resolver"),
        ('Basic realm="restricted"', "", "/portal-resolver"),
        ('Basic realm="restricted"', "nginx/1.27", None),
        ('Basic realm="Restricted"', "Caddy", None),
        ('Basic realm="restricted area"', "Caddy", None),
        ('Basic realm="private"', "Caddy", None),
    ],
)
def test_only_what_may_be_vast_is_asked_for_its_resolver(challenge, server, confirm):
    assert classify(answer(401, ("WWW-Authenticate", challenge), ("Server", server))).confirm == confirm


@pytest.mark.parametrize(
    ("first", "page", "kind"),
    [
        ("ComfyUI-Login", answer(200, HTML, body=COMFYUI_LOGIN_PAGE), Kind.COMFYUI_LOGIN),
        ("ComfyUI-Login", answer(200, HTML, body=LOGIN_PAGE), Kind.LOGIN_FORM),
        ("ComfyUI-Login", answer(404), Kind.LOGIN_UNKNOWN),
        ("ComfyUI-Login", answer(500), Kind.COMFYUI_LOGIN),
        ("ComfyUI-Login or ai-dock for pages", answer(200, HTML, body=COMFYUI_LOGIN_PAGE), Kind.COMFYUI_LOGIN),
        ("ComfyUI-Login or ai-dock for pages", answer(200, HTML, body=LOGIN_PAGE), Kind.LOGIN_FORM),
        ("ComfyUI-Login or ai-dock for pages", answer(200, HTML, body=b"<script>draw()</script>"), Kind.LOGIN_FORM),
        ("ComfyUI-Login or ai-dock for pages", redirect("https://idp.example/login"), Kind.FOREIGN_LOGIN),
        ("ComfyUI-Login or ai-dock for pages", redirect("/login/"), Kind.LOGIN_FORM),
        ("401 with nothing", answer(200, HTML, body=COMFYUI_LOGIN_PAGE), Kind.COMFYUI_LOGIN),
        ("401 with nothing", answer(200, HTML, body=LOGIN_PAGE), Kind.LOGIN_FORM),
        ("401 with nothing", answer(200, JSON, body=QUEUE), Kind.LOGIN_UNKNOWN),
        ("401 with nothing", answer(401), Kind.LOGIN_UNKNOWN),
        ("401 with {}", answer(200, body=b"OK"), Kind.OAUTH2_PROXY),
        ("401 with {}", answer(401, body=b"{}"), Kind.LOGIN_UNKNOWN),
        ("401 with {}", answer(200, HTML, body=LOGIN_PAGE), Kind.LOGIN_UNKNOWN),
        ("open", answer(401, BASIC), Kind.OPEN),
    ],
)
def test_a_second_answer_settles_the_doubt(first, page, kind):
    verdict = confirmed(classify(TABLE[first][0]), page)
    assert (verdict.kind, verdict.confirm) == (kind, None)


def test_the_page_that_was_found_is_the_place_to_log_in():
    page = answer(200, HTML, body=LOGIN_PAGE, url="https://comfy.example:8443/login?next=x")
    for name in ("ComfyUI-Login or ai-dock for pages", "401 with nothing", "ComfyUI-Login"):
        assert confirmed(classify(TABLE[name][0]), page).location == page.url
    unsaid = confirmed(classify(TABLE["ComfyUI-Login"][0]), answer(500))
    assert unsaid.location == URL("https://comfy.example:8443/login")


@pytest.mark.parametrize(
    ("probed", "login"),
    [
        ("http://h:8188/prompt", "/login"),
        ("http://h:8188/api/prompt", "/login"),
        ("http://h/comfy/one/prompt", "/comfy/one/login"),
        ("http://h/comfy/api/prompt", "/comfy/login"),
        ("http://h/a%20b/prompt", "/a%20b/login"),
        ("http://h//evil.example/prompt", "/evil.example/login"),
        ("http://h/queue", "/login"),
    ],
)
def test_the_login_page_is_below_the_same_prefix(probed, login):
    verdict = classify(answer(401, body=b'{"error": "Authentication required."}', url=probed))
    assert verdict.confirm == login
    assert verdict.location == URL(probed).origin().join(URL(login, encoded=True))


@pytest.mark.parametrize(
    ("location", "confirm"),
    [
        ("/login", "/login"),
        ("login?next=/prompt", "/login?next=/prompt"),
        ("https://comfy.example:8443/a/login?x=%26#top", "/a/login?x=%26"),
        ("http://comfy.example/login", "/login"),  # a server that does not know of the TLS before it
        ("https://user:pass@comfy.example:8443/login", "/login"),
        ("https://comfy.example:8443//evil.example/login", "/evil.example/login"),
    ],
)
def test_a_login_page_of_the_same_origin_is_asked_there(location, confirm):
    verdict = classify(redirect(location))
    assert (verdict.kind, verdict.confirm) == (Kind.LOGIN_FORM, confirm)
    assert verdict.location == URL("https://comfy.example:8443").join(URL(confirm, encoded=True))


# -- challenges and cookies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("challenges", "kind"),
    [
        (["Bearer", 'Basic realm="a"'], Kind.BASIC),
        (['Basic realm="a", Bearer'], Kind.BASIC),
        (['Bearer realm="a", error="x", Basic realm="b"'], Kind.BASIC),
        (["Negotiate", "NTLM", "BEARER"], Kind.BEARER),
        (['Bearer realm="x, Basic realm=y"'], Kind.BEARER),
        (['Bearer realm="a \\", Basic b"'], Kind.BEARER),
        (["Digest realm=x, nonce=y"], Kind.LOGIN_UNKNOWN),
        (["basicrealm=x"], Kind.LOGIN_UNKNOWN),
        (["basic = x"], Kind.LOGIN_UNKNOWN),
        (['"'], Kind.LOGIN_UNKNOWN),
        ([",,, ,"], Kind.LOGIN_UNKNOWN),
        ([""], Kind.LOGIN_UNKNOWN),
        (["\udcff\x00 realm"], Kind.LOGIN_UNKNOWN),
    ],
)
def test_several_challenges_are_all_read(challenges, kind):
    headers = [("WWW-Authenticate", challenge) for challenge in challenges]
    assert classify(answer(401, *headers)).kind is kind


def test_the_words_of_comfyui_login_behind_a_challenge_are_not_its_own():
    body = b'{"error": "Authentication required."}'
    assert classify(answer(401, BASIC, body=body)).kind is Kind.BASIC


# -- https -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "location", "upgraded"),
    [
        ("http://1.2.3.4:40001/prompt", "https://1.2.3.4:40001/prompt", "https://1.2.3.4:40001/prompt"),
        ("http://h/prompt", "https://h/", "https://h/prompt"),
        ("http://h:443/prompt", "https://h/", "https://h/prompt"),
        ("http://H/c/prompt", "https://u:p@h/else?token=t#f", "https://h/c/prompt"),
        ("http://[::1]:8188/prompt", "https://[::1]:8188/", "https://[::1]:8188/prompt"),
        ("http://ü.example/prompt", "https://xn--tda.example/", "https://ü.example/prompt"),
        ("http://h/prompt", "https://h:8443/prompt", None),
        ("http://h:8188/prompt", "https://h/prompt", None),
        ("http://h:40001/prompt", "https://h:40002/prompt", None),
        ("http://h/prompt", "https://evil.example/prompt", None),
        ("http://h/prompt", "https://h.evil.example/prompt", None),
        ("http://h/prompt", "https://h@evil.example/prompt", None),
        ("http://h/prompt", "//h/prompt", None),
        ("http://h/prompt", "/prompt", None),
        ("https://h/prompt", "https://h/", None),
    ],
)
def test_https_is_only_taken_at_the_same_place(asked, location, upgraded):
    found = https_upgrade(redirect(location, 308, url=asked))
    assert found == (None if upgraded is None else URL(upgraded))


def test_a_port_that_speaks_tls_alone_stays_the_port():
    words = b"Client sent an HTTP request to an HTTPS server.\n"
    assert https_upgrade(answer(400, body=words, url="http://h/prompt")) == URL("https://h:80/prompt")
    assert https_upgrade(answer(400, body=words, url=PLAIN)) == URL("https://1.2.3.4:40001/prompt")
    assert https_upgrade(answer(200, body=words, url=PLAIN)) is None
    assert https_upgrade(answer(400, body=words, url=HERE)) is None


# -- redirects ---------------------------------------------------------------------------------------------------

BAD_PLACES = [
    "", " ", "\x00", "http://[::1", "http://h:99999/login", "http://h:port/login", "https:///login", "https:login",
    "javascript:alert(1)", "file:///etc/passwd", "ftp://h/login", "/\\evil.example/login", "\\\\evil.example\\login",
    "/login\r\nSet-Cookie: a=b", "https://xn--/login", "https://\udcff/login", "/" + "login/" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("location", BAD_PLACES)
def test_a_place_that_cannot_be_read_leads_nowhere(location):
    verdict = classify(redirect(location))
    assert verdict.kind is Kind.NOT_COMFYUI
    assert verdict.location is None
    assert not is_login_redirect(URL(HERE), location)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://auth.example/x", "auth.example"),
        ("https://auth.example:9443/x", "auth.example, port 9443"),
        ("//AUTH.example/x", "auth.example"),
        ("https://ü.example/x", "xn--tda.example"),
        ("https://a%0ab.example/x", "another host"),
        ("https://" + "a" * 300 + "/x", "another host"),
    ],
)
def test_of_a_foreign_place_only_the_host_is_shown(location, shown):
    verdict = classify(redirect(location + "?secret=1"))
    assert (verdict.kind, verdict.name) == (Kind.FOREIGN_LOGIN, f"a login page at {shown}")
    assert verdict.location is not None
    assert not verdict.location.query_string


def test_ai_dock_is_told_about_its_token():
    for name in ("ai-dock on the same port", "ai-dock on its portal's port"):
        verdict = classify(TABLE[name][0])
        assert "WEB_TOKEN" in verdict.hint
        assert "WEB_TOKEN" in confirmed(verdict, answer(200, HTML, body=LOGIN_PAGE)).hint
    assert "WEB_TOKEN" not in classify(redirect("/login", 302, AIOHTTP)).hint


@pytest.mark.parametrize(
    ("location", "is_login"),
    [
        ("/login", True),
        ("/login?wrong_password=1", True),
        ("/users/sign_in", True),
        ("/accounts/login/?next=/view", True),
        ("/wp-login.php", True),
        ("/Account/LogOn", True),
        ("/oauth2/start?rd=x", True),
        ("/auth", True),
        ("/session/new", True),
        ("/cdn-cgi/access/login/h", True),
        ("/outpost.goauthentik.io/start", True),
        ("http://h.example:1111/login", True),
        ("https://elsewhere.example/", True),
        ("https://evil.example/api/view?filename=a.png", True),
        ("https://idp.example/sso?SAMLRequest=x&SigAlg=y&Signature=z", True),
        ("https://auth.example/?rd=https%3A%2F%2Fh%2F%3FX-Amz-Signature%3Dx", True),
        ("/api/view/", False),
        ("/", False),
        ("/author/cataloging", False),
        ("https://h.example/api/view", False),
        ("https://h.example:9000/bucket/a.png", False),
        ("https://storage.googleapis.com/b/login.png", False),
        ("https://b.s3.eu-west-1.amazonaws.com/a.png", False),
        ("https://cdn.example/a.png?X-Goog-Signature=s&X-Goog-Expires=1", False),
        ("https://cdn.example/login/a.png?x-amz-signature=s", False),
        ("https://cdn.example/a.png?Policy=p&Signature=s&Key-Pair-Id=k", False),
        ("https://x.blob.core.windows.net/a.png?sig=s&se=2030", False),
        ("http://h.example:9000/auth/a.png?X-Amz-Signature=s", False),
    ],
)
def test_a_login_is_told_from_a_file(location, is_login):
    url = URL("http://h.example/api/view?filename=a.png")
    assert is_login_redirect(url, location) is is_login
    assert login_wanted(url, 302, CIMultiDict({"location": location})) is is_login


def test_a_prefix_that_sounds_like_a_login_is_none():
    url = URL("https://h.example/auth/comfy/prompt")
    assert not is_login_redirect(url, "/auth/comfy/prompt/")
    assert is_login_redirect(url, "/auth/comfy/login")
    assert classify(redirect("/auth/comfy/prompt/", url=str(url))).kind is Kind.NOT_COMFYUI


# -- a running session -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "wanted"),
    [
        (401, [], True),
        (401, [JSON, AIOHTTP], True),
        (302, [("Location", "/login")], True),
        (307, [("LOCATION", "https://team.cloudflareaccess.com/cdn-cgi/access/login/h")], True),
        (200, [HTML], True),
        (200, [("content-type", "Application/XHTML+xml")], True),
        (200, [HTML, PORTAL], False),
        (200, [JSON], False),
        (200, [], False),
        (206, [HTML], False),
        (403, [AIOHTTP], False),
        (403, [HTML, BASIC], False),
        (404, [HTML], False),
        (407, [], False),
        (500, [], False),
        (502, [HTML, PORTAL], False),
        (302, [], False),
        (302, [("Location", "/api/prompt")], False),
        (304, [("Location", "/login")], False),
    ],
)
def test_a_session_knows_when_its_login_is_over(status, headers, wanted):
    assert login_wanted(URL(HERE), status, CIMultiDict(headers)) is wanted


# -- tunnels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("abc.ngrok-free.app", {"ngrok-skip-browser-warning": "1"}),
        ("ABC.NGROK.IO.", {"ngrok-skip-browser-warning": "1"}),
        ("a.ngrok-free.dev", {"ngrok-skip-browser-warning": "1"}),
        ("abc.loca.lt", {"bypass-tunnel-reminder": "1"}),
        ("evilloca.lt", {}),
        ("loca.lt.evil.example", {}),
        ("ngrok.io.example", {}),
        ("127.0.0.1", {}),
        ("", {}),
    ],
)
def test_tunnels_get_their_header_and_nobody_else(host, headers):
    assert tunnel_headers(host) == headers


# -- texts -------------------------------------------------------------------------------------------------------


def test_people_are_told_what_to_do_next():
    cures = {
        Kind.VAST: "`comfyclient login URL`",
        Kind.BASIC: "--username",
        Kind.BEARER: "--token-file",
        Kind.API_KEY: "--token-file",
        Kind.COMFYUI_LOGIN: "`comfyclient login URL`",
        Kind.LOGIN_FORM: "--browser",
        Kind.CLOUDFLARE_ACCESS: "--header CF-Access-Client-Id=",
        Kind.OAUTH2_PROXY: "--cookies-file",
        Kind.AUTHELIA: "--browser",
        Kind.FOREIGN_LOGIN: "--cookies-file",
        Kind.LOGIN_UNKNOWN: "--header NAME=VALUE",
        Kind.STARTING: "--wait-ready SECONDS",
        Kind.UNAVAILABLE: "--wait-ready SECONDS",
        Kind.INTERSTITIAL: "--header ngrok-skip-browser-warning=1",
    }
    found = {kind: classify(row).hint for row, kind in reversed(TABLE.values())} | {Kind.VAST: confirmed_vast().hint}
    found[Kind.INTERSTITIAL] = classify(TABLE["ngrok's warning"][0]).hint
    found[Kind.FOREIGN_LOGIN] = classify(TABLE["some identity provider"][0]).hint
    assert {kind: cure for kind, cure in cures.items() if cure not in found[kind]} == {}


def test_the_number_of_cloudflares_firewall_is_shown_and_its_cure():
    verdict = classify(TABLE["Cloudflare's firewall"][0])
    assert "1010" in verdict.name
    assert "User-Agent" in verdict.hint
    assert "User-Agent" not in classify(answer(403, CF_RAY, body=b"error code: 1020")).hint


def test_a_number_that_is_not_cloudflares_is_not_taken_for_its():
    assert "Cloudflare" not in classify(answer(403, body=b"our error 1010")).name


def test_an_origin_check_is_told_from_a_closed_door():
    assert "ComfyUI" in classify(answer(403, AIOHTTP)).name
    assert "ComfyUI" not in classify(answer(403, AIOHTTP, body=b"Forbidden")).name
    assert "ComfyUI" not in classify(answer(403, ("Server", "nginx"))).name


def test_the_page_of_comfyui_is_called_so():
    assert "ComfyUI's web page" in classify(TABLE["ComfyUI's page"][0]).name


def test_what_an_answer_holds_is_not_in_its_repr():
    shown = repr(answer(401, ("Set-Cookie", "session=SECRET"), body=b"SECRET"))
    assert "SECRET" not in shown


# -- anything at all ---------------------------------------------------------------------------------------------

urls = st.sampled_from([
    HERE, PLAIN, "http://h/prompt", "http://[::1]:8188/c/prompt", "https://cloud.comfy.org/api/prompt",
    "https://a-8188.proxy.runpod.net/prompt", "https://a.ngrok-free.app/prompt", "https://a.loca.lt/prompt",
    "https://ü.example/", "http://h:80/api/prompt",
]).map(URL)  # fmt: skip
statuses = st.sampled_from(sorted({row.status for row, _ in TABLE.values()})) | st.integers()
seen_headers = sorted({pair for row, _ in TABLE.values() for pair in row.headers.items()})
names = st.sampled_from(sorted({name for name, _ in seen_headers})) | st.text(max_size=20)
places = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "http:", "https:", "//", "http://", "https://", "https://u:p@"]),
        st.sampled_from(["", "h", "comfy.example", "1.2.3.4", "evil.example", "[::1]", "ü.example"])
        | st.text(max_size=9),
        st.sampled_from(["", ":443", ":8443", ":40001", ":99999", ":"]),
        st.sampled_from(["", "/", "/login", "//evil.example/login", "/prompt", "/%zz", "/\\x"]) | st.text(max_size=9),
        st.sampled_from(["", "?rd=1&rm=2", "?a=%ff", "?redirect_uri=/oauth2/callback", "#f"]),
    ),
)
values = st.sampled_from(sorted({value for _, value in seen_headers})) | places | st.text(max_size=80)
headers = st.lists(st.sampled_from(seen_headers) | st.tuples(names, values), max_size=6).map(CIMultiDict)
bodies = st.sampled_from(sorted({row.body for row, _ in TABLE.values()})) | st.binary(max_size=200)
answers = st.builds(Answer, urls, statuses, headers, bodies)
redirects = st.builds(redirect, places, st.sampled_from([301, 302, 303, 307, 308]), url=urls.map(str))


@given(answers | redirects, answers)
@example(answer(200, body=b"\xff\xfe\x00<"), answer(200))
@example(answer(200, body=b"[" * 65536), answer(200))
@example(answer(200, JSON, body=b'{"exec_info": {"queue_remaining": ' + b"9" * 5000 + b"}}"), answer(200))
def test_there_is_a_verdict_for_every_answer(first, second):
    verdict = classify(first)
    assert verdict.name
    assert verdict.name.isprintable()
    assert verdict.hint is None or verdict.hint.isprintable()
    assert (verdict.confirm is None) or (verdict.wants_login and verdict.confirm.startswith("/"))
    assert confirmed(verdict, second).confirm is None
    assert isinstance(login_wanted(first.url, first.status, first.headers), bool)


@given(answers | redirects)
def test_no_verdict_leads_a_credential_to_another_host(given_answer):
    verdict, upgraded = classify(given_answer), https_upgrade(given_answer)
    assert (verdict.kind is Kind.USE_HTTPS) == (upgraded is not None)
    if upgraded is not None:
        assert verdict.location == upgraded
        assert (upgraded.scheme, upgraded.raw_host) == ("https", given_answer.url.raw_host)
        assert (given_answer.url.port, upgraded.port) == (80, 443) or upgraded.port == given_answer.url.port
        assert upgraded.raw_path == given_answer.url.raw_path
        assert not upgraded.query_string
    if verdict.confirm is not None:
        origin = given_answer.url.origin()
        assert origin.join(URL(verdict.confirm, encoded=True)).origin() == origin
    if verdict.kind in {Kind.LOGIN_FORM, Kind.COMFYUI_LOGIN}:
        assert verdict.location.origin() == given_answer.url.origin()


SECRETS = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789", min_size=8, max_size=20).map(lambda text: f"S3{text}")


@given(
    secret=SECRETS,
    place=st.sampled_from([
        "https://{0}@idp.example/login", "https://user:{0}@comfy.example:8443/login", "https://{0}:x@comfy.example/",
        "https://idp.example/?state={0}", "/login?token={0}", "/elsewhere?token={0}", "https://h.example/prompt?x={0}",
        "https://team.cloudflareaccess.com/cdn-cgi/access/login/h?kid={0}", "https://auth.example/?rd={0}&rm=GET",
        "/oauth2/start?rd={0}", "https://1.2.3.4:40001/prompt?token={0}", "https://idp.example/#{0}", "/{0}/login",
    ]),
    status=st.sampled_from([301, 302, 303, 307, 308, 401]),
    url=st.sampled_from([HERE, PLAIN]),
)  # fmt: skip
def test_no_text_holds_the_secrets_of_a_place(secret, place, status, url):
    verdict = classify(redirect(place.format(secret), status, url=url))
    assert secret not in verdict.name
    assert secret not in (verdict.hint or "")
    if verdict.location is not None:
        assert verdict.location.user is verdict.location.password is None
        if verdict.location.origin() != URL(url).origin():
            assert not verdict.location.query_string
            assert not verdict.location.fragment


@pytest.mark.parametrize(
    "filling", [b"<", b"<input ", b"<input type ", b"<title", b'"', b"error ", b"\xff", b"type=password ", b"{"]
)
def test_a_huge_body_is_cut(filling):
    body = b"<html>" + filling * (2**20 // len(filling))
    for status in (200, 401, 403, 530):
        assert classify(answer(status, HTML, CF_RAY, body=body)).kind in Kind
    late = answer(200, HTML, body=b"<html>" + b" " * 2**16 + LOGIN_PAGE)
    assert classify(late).kind is Kind.NOT_COMFYUI


def test_huge_headers_are_read_all_the_same():
    challenges = [("WWW-Authenticate", '"\\' * 50_000), ("WWW-Authenticate", "Basic " * 50_000)]
    assert classify(answer(401, *challenges)).kind is Kind.LOGIN_UNKNOWN
    signed = "https://cdn.example/a.png?" + "x" * 3000 + "&X-Amz-Signature=s"
    assert not login_wanted(URL(HERE), 302, CIMultiDict({"Location": signed}))


@given(st.binary(max_size=300), st.sampled_from(["utf-8", "latin-1", "utf-16", "cp1252"]))
def test_a_page_in_any_encoding_is_a_page(noise, encoding):
    page = "<html><p>Passwört</p>".encode(encoding, "replace") + noise
    assert classify(answer(200, HTML, body=page)).kind in {Kind.NOT_COMFYUI, Kind.LOGIN_FORM}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists))
def test_only_an_integer_is_a_queue(value):
    body = json.dumps({"exec_info": {"queue_remaining": value}}).encode()
    is_open = isinstance(value, int) and not isinstance(value, bool)
    assert (classify(answer(200, JSON, body=body)).kind is Kind.OPEN) == is_open


def test_a_title_of_nothing_but_spaces_costs_nothing():
    spaces = b"<html><title>" + b" " * 65_000
    answer = Answer(URL("http://h/prompt"), 200, CIMultiDict({"Content-Type": "text/html"}), spaces)
    for _ in range(100):  # with a pattern that goes back over them, not even one would end
        assert classify(answer).kind is Kind.NOT_COMFYUI
