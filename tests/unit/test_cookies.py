"""Cookies: kept verbatim, for one origin, by the rules of RFC 6265."""

import json
import math
import re
from datetime import UTC, datetime

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from yarl import URL

from comfyclient import _json
from comfyclient.auth.cookies import Cookie, CookieJar, parse_set_cookie, read_netscape, read_pasted
from comfyclient.auth.cookies.setcookie import read_cookie_date

NOW = 1_800_000_000.0
HOST = URL("http://1.2.3.4:40001/prompt")
NAMED = URL("https://ui.example.com/a/b")


def parse(text, url=HOST):
    return parse_set_cookie(text, url=url, now=NOW)


def jar_of(*lines, url=HOST):
    jar = CookieJar(url)
    jar.absorb(lines, url=url, now=NOW)
    return jar


def sent(*lines, url=HOST):
    return jar_of(*lines, url=url).header(url, now=NOW)


# What portals set


def test_the_cookie_of_a_vast_portal_on_an_address_is_kept_and_sent():
    line = "C.12345678_auth_token=s3cret; Path=/; Max-Age=604800; HttpOnly; SameSite=lax"
    jar = jar_of(line)
    assert list(jar) == [Cookie("C.12345678_auth_token", "s3cret", "/", NOW + 604800)]
    assert jar.header(HOST, now=NOW) == "C.12345678_auth_token=s3cret"
    assert jar.header(HOST, now=NOW + 604801) is None


def test_the_quoted_session_of_comfyui_login_goes_back_with_its_quotes_until_it_logs_out():
    jar = jar_of('AIOHTTP_SESSION="gAAAAABm=="; HttpOnly; Path=/')
    assert jar.header(HOST, now=NOW) == 'AIOHTTP_SESSION="gAAAAABm=="'
    gone = 'AIOHTTP_SESSION=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Max-Age=0; Path=/'
    assert jar.absorb([gone], url=HOST, now=NOW)
    assert len(jar) == 0


@pytest.mark.parametrize(
    "value",
    ["a/b=c", "a b", "a,b", 'a"b', "$2b$12$Kx/.", "a&b#c?d", "a+b", "a%2Fb", "pä", r"a\b", '"q"', "", "=", "a\tb"],
)
def test_a_value_goes_back_as_it_came(value):
    assert sent(f"t={value}; Path=/") == f"t={value}"


def test_bytes_that_are_no_utf_8_can_be_sent_as_they_came():
    received = b't="p\xe4ss\xff"; Path=/'.decode("utf-8", "surrogateescape")  # as aiohttp reads headers
    header = sent(received)
    assert header.encode("utf-8", "surrogateescape") == b't="p\xe4ss\xff"'
    for_websockets = header.encode("utf-8", "surrogateescape").decode("latin-1")
    assert b'Cookie: t="p\xe4ss\xff"\r\n' in Headers(Cookie=for_websockets).serialize()


def test_a_session_with_such_bytes_outlives_the_program():
    jar = jar_of("t=\udce4\udcff; Path=/")
    stored = _json.loads(_json.dumps(jar.to_json()).encode())
    assert list(CookieJar.from_json(HOST, stored)) == list(jar)


# Attributes


@pytest.mark.parametrize(
    ("attributes", "expires"),
    [
        ("", None),
        ("Max-Age=60", NOW + 60),
        ("max-age = 60", NOW + 60),
        ("Max-Age=00000000000000000000060", NOW + 60),
        ("Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", NOW + 60),
        ("Expires=Thu, 01 Jan 2037 00:00:00 GMT; Max-Age=60", NOW + 60),
        ("Max-Age=10; Max-Age=60", NOW + 60),
        ("Max-Age=60; Max-Age=x", NOW + 60),
        ("Max-Age=6.5", None),
        ("Max-Age=+60", None),
        ("Max-Age=-", None),
        ("Max-Age=", None),
        ("Max-Age=٦٠", None),
        ("Expires=never", None),
        ("Expires=Wed, 09 Jun 2032 10:18:14 GMT", datetime(2032, 6, 9, 10, 18, 14, tzinfo=UTC).timestamp()),
        ("Max-Age=x; Expires=Wed, 09 Jun 2032 10:18:14 GMT", datetime(2032, 6, 9, 10, 18, 14, tzinfo=UTC).timestamp()),
    ],
)
def test_how_long_a_cookie_lives(attributes, expires):
    assert parse(f"a=b; {attributes}").expires == expires


@pytest.mark.parametrize("age", ["0", "-1", "-99999999999999999999", "000"])
def test_an_age_of_nothing_deletes(age):
    jar = jar_of("a=b; Path=/")
    assert jar.absorb([f"a=x; Path=/; Max-Age={age}"], url=HOST, now=NOW)
    assert list(jar) == []


@pytest.mark.parametrize("age", ["9" * 30, "9" * 900, "1" + "0" * 400])
def test_an_endless_age_is_long_and_no_error(age):
    cookie = parse(f"a=b; Max-Age={age}")
    assert NOW < cookie.expires < math.inf


def test_an_attribute_that_is_too_long_is_none():
    assert parse(f"a=b; Path=/{'x' * 1100}", NAMED).path == "/a"
    assert parse(f"a=b; Max-Age={'9' * 5000}").expires is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", (1994, 11, 6, 8, 49, 37)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", (1994, 11, 6, 8, 49, 37)),
        ("Sun Nov  6 08:49:37 1994", (1994, 11, 6, 8, 49, 37)),
        ("6 november 94 8:9:7", (1994, 11, 6, 8, 9, 7)),
        ("06/Nov/2031;23:59:59", (2031, 11, 6, 23, 59, 59)),
        ("Nov 6th 2031 00:00:00am", (2031, 11, 6, 0, 0, 0)),
        ("1 Jan 69 00:00:00", (2069, 1, 1, 0, 0, 0)),
        ("1 Jan 70 00:00:00", (1970, 1, 1, 0, 0, 0)),
        ("29 Feb 2032 00:00:00", (2032, 2, 29, 0, 0, 0)),
        ("1 Jan 1601 00:00:00", (1601, 1, 1, 0, 0, 0)),
        ("08:49:37 12:00:00 Nov 1994", (1994, 11, 12, 8, 49, 37)),  # the second time reads as a day, as the RFC has it
        ("29 Feb 2031 00:00:00", None),
        ("31 Apr 2031 00:00:00", None),
        ("1 Jan 1600 00:00:00", None),
        ("0 Jan 2031 00:00:00", None),
        ("32 Jan 2031 00:00:00", None),
        ("1 Jan 2031 24:00:00", None),
        ("1 Jan 2031 00:60:00", None),
        ("1 Jan 2031 00:00:60", None),
        ("1 Jan 2031 00:00", None),
        ("1 Jan 2031 00:00:000", None),
        ("123 Jan 2031 00:00:00", None),
        ("1 Jan 20311 00:00:00", None),
        ("1 Foo 2031 00:00:00", None),
        ("Jan 2031 00:00:00", None),
        ("1924993814", None),
        ("", None),
    ],
)
def test_dates_are_read_as_leniently_as_the_rfc_says(text, expected):
    assert read_cookie_date(text) == (expected and datetime(*expected, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("answered", "attribute", "path"),
    [
        ("/", "", "/"),
        ("/login", "", "/"),
        ("/a/login", "", "/a"),
        ("/a/b/", "", "/a/b"),
        ("/a/b?next=/x/y", "", "/a"),
        ("/a/b", "Path", "/a"),
        ("/a/b", "Path=", "/a"),
        ("/a/b", "Path=x", "/a"),
        ("/a/b", "Path=/x; Path=", "/a"),
        ("/a/b", 'Path="/"', "/a"),
        ("/a/b", "Path=/", "/"),
        ("/a/b", "Path=/x/", "/x/"),
        ("/a/b", "path = /x ", "/x"),
    ],
)
def test_the_path_of_a_cookie(answered, attribute, path):
    assert parse(f"a=b; {attribute}", URL("http://h:1" + answered)).path == path


@pytest.mark.parametrize(
    ("path", "asked", "goes"),
    [
        ("/", "/", True),
        ("/", "/prompt", True),
        ("/api", "/api", True),
        ("/api", "/api/", True),
        ("/api", "/api/x", True),
        ("/api/", "/api/x", True),
        ("/api/", "/api", False),
        ("/api", "/apix", False),
        ("/api", "/", False),
        ("/api", "/API", False),
    ],
)
def test_where_a_cookie_goes_by_its_path(path, asked, goes):
    jar = CookieJar(HOST, [Cookie("a", "b", path)])
    assert jar.header(HOST.with_path(asked), now=NOW) == ("a=b" if goes else None)


@pytest.mark.parametrize(
    ("url", "domain", "taken"),
    [
        ("https://ui.example.com/", "ui.example.com", True),
        ("https://ui.example.com/", ".ui.example.com", True),
        ("https://ui.example.com/", "UI.Example.COM", True),
        ("https://ui.example.com/", "example.com", True),
        ("https://ui.example.com/", ".example.com", True),
        ("https://ui.example.com/", "", True),
        ("https://ui.example.com/", ".", True),
        ("https://ui.example.com/", "other.com", False),
        ("https://ui.example.com/", "x.ui.example.com", False),
        ("https://ui.example.com/", "i.example.com", False),
        ("https://ui.example.com/", "..example.com", False),
        ("https://ui.example.com/", "ui.example.com.", False),
        ("https://ui.example.com/", "ui.example.com; Domain=other.com", False),
        ("https://ui.example.com/", "other.com; Domain=ui.example.com", True),
        ("https://ui.example.com/", "other.com; Domain=", False),
        ("https://bücher.example/", "bücher.example", True),
        ("https://bücher.example/", "xn--bcher-kva.example", True),
        ("https://bücher.example/", "käse.example", False),
        ("https://bücher.example/", "\udce4", False),
        ("https://bücher.example/", "ä" * 80, False),
        ("http://1.2.3.4:40001/", "1.2.3.4", True),
        ("http://1.2.3.4:40001/", "3.4", False),
        ("http://1.2.3.4:40001/", ".4", False),
        ("http://[2001:db8::1]:8188/", "2001:db8::1", True),
        ("http://[2001:db8::1]:8188/", "[2001:db8::1]", True),
        ("http://[2001:db8::1]:8188/", "1", False),
        ("http://localhost:8188/", "localhost", True),
    ],
)
def test_a_domain_must_cover_the_host(url, domain, taken):
    assert (parse(f"a=b; Domain={domain}; Path=/", URL(url)) == Cookie("a", "b")) is taken


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a",
        ";a=b",
        "=b",
        " =b",
        "; Path=/",
        "a=b\r\nX: y",
        "a=b\x00",
        "a=\x7f",
        "a=b; Path=/\n",
        "\x01a=b",
        "a=\ud800",
    ],
)
def test_lines_that_set_nothing(line):
    assert parse(line) is None


def test_spaces_around_a_name_and_value_are_none_of_theirs_but_others_are():
    assert parse(" \t a b \t=\t c d \t; Path=/ ") == Cookie("a b", "c d")
    assert parse("a=\u00a0b\u2028; Path=/").value == "\u00a0b\u2028"


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ("__Secure-a=b; Secure", True),
        ("__Secure-a=b", False),
        ("__SECURE-a=b", False),
        ("__Host-a=b; Secure; Path=/", True),
        ("__Host-a=b; Secure; Path=/; Domain=", True),
        ("__Host-a=b; Path=/", False),
        ("__Host-a=b; Secure", False),
        ("__Host-a=b; Secure; Path=/a", False),
        ("__Host-a=b; Secure; Path=/; Domain=ui.example.com", False),
        ("__host-a=b; Path=/", False),
    ],
)
def test_a_prefix_must_keep_its_promise(line, taken):
    assert (parse(line, URL("https://ui.example.com/")) is not None) is taken


# Plain http


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_a_secure_cookie_stays_back_on_plain_http_and_is_named(scheme):
    url = URL(f"{scheme}://1.2.3.4:40001/")
    jar = jar_of("s=1; Secure; Path=/", "p=2; Path=/", "__Host-h=3; Secure; Path=/")
    assert jar.header(url, now=NOW) == "p=2"
    assert jar.withheld(url, now=NOW) == ["s", "__Host-h"]


@pytest.mark.parametrize(
    "host",
    [
        "https://ui.example.com",
        "http://localhost:8188",
        "http://comfy.localhost:1",
        "http://127.0.0.1",
        "http://[::1]:8",
    ],
)
def test_a_secure_cookie_goes_over_https_and_on_this_machine(host):
    jar = jar_of("s=1; Secure; Path=/", url=URL(host))
    assert jar.header(URL(host), now=NOW) == "s=1"
    assert jar.withheld(URL(host), now=NOW) == []


@pytest.mark.parametrize(
    "host",
    [
        "http://localhost.example.com",
        "http://notlocalhost",
        "http://127.0.0.1.example.com",
        "http://[2001:db8::1]",
        "http://128.0.0.1",
    ],
)
def test_what_only_looks_like_this_machine_is_another(host):
    jar = jar_of("s=1; Secure; Path=/", url=URL(host))
    assert jar.header(URL(host), now=NOW) is None


def test_a_prefix_alone_keeps_a_pasted_cookie_off_plain_http():
    jar = CookieJar(HOST, read_pasted("__Secure-s=1; p=2"))
    assert jar.header(HOST, now=NOW) == "p=2"
    assert jar.withheld(HOST, now=NOW) == ["__Secure-s"]


# One origin


OTHERS = [
    "http://1.2.3.4:40002/",
    "https://1.2.3.4:40001/",
    "http://1.2.3.5:40001/",
    "http://1.2.3.4/",
    "http://x.1.2.3.4:40001/",
    "ftp://1.2.3.4:40001/",
    "/prompt",
]


@pytest.mark.parametrize("other", OTHERS)
def test_another_origin_neither_gets_nor_sets_a_cookie(other):
    jar = jar_of("a=b; Path=/", "s=b; Path=/; Secure")
    assert jar.header(URL(other), now=NOW) is None
    assert jar.withheld(URL(other), now=NOW) == []
    assert not jar.absorb(["a=evil; Path=/", "new=1", "a=; Path=/; Max-Age=0"], url=URL(other), now=NOW)
    assert [cookie.value for cookie in jar] == ["b", "b"]


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("http://h", "http://H:80/x"),
        ("https://h/a/b?c#d", "https://h:443"),
        ("http://h:8188", "ws://h:8188/ws?clientId=1"),
        ("https://h", "wss://h/ws"),
        ("http://user:pw@h:1", "http://h:1"),
        ("http://[::1]:1", "http://[0:0:0:0:0:0:0:1]:1"),
        ("http://bücher.example", "http://xn--bcher-kva.example"),
    ],
)
def test_one_origin_written_in_two_ways_is_one(origin, same):
    jar = CookieJar(URL(origin), [Cookie("a", "b")])
    assert jar.header(URL(same), now=NOW) == "a=b"
    assert jar.absorb(["c=d; Path=/"], url=URL(same), now=NOW)
    assert CookieJar(URL(same)).origin == jar.origin


def test_the_origin_is_the_web_address_alone():
    assert str(CookieJar(URL("wss://user:pw@h:8188/a?token=x")).origin) == "https://h:8188"


@pytest.mark.parametrize("origin", ["/a", "ftp://h/", "file:///a", "http:///a", "mailto:a@b", ""])
def test_a_jar_needs_a_web_address(origin):
    with pytest.raises(ValueError, match="http or https"):
        CookieJar(URL(origin))


# The jar


def test_the_longest_path_comes_first_then_the_oldest():
    jar = jar_of("a=1; Path=/", "b=2; Path=/api", "c=3; Path=/", "d=4; Path=/api/x", "a=5; Path=/")
    assert jar.header(HOST.with_path("/api/x/y"), now=NOW) == "d=4; b=2; a=5; c=3"
    assert jar.names == ["a", "b", "c", "d"]


def test_absorbing_tells_whether_anything_changed():
    jar = CookieJar(HOST)
    assert not jar.absorb([], url=HOST, now=NOW)
    assert jar.absorb(["a=1; Path=/"], url=HOST, now=NOW)
    assert not jar.absorb(["a=1; Path=/"], url=HOST, now=NOW)
    assert jar.absorb(["a=2; Path=/"], url=HOST, now=NOW)
    assert jar.absorb(["a=2; Path=/; Max-Age=9"], url=HOST, now=NOW)
    assert not jar.absorb(["b=; Path=/; Max-Age=0", "c=1; Domain=other"], url=HOST, now=NOW)
    assert jar.absorb([], url=HOST, now=NOW + 9)
    assert len(jar) == 0


def test_only_the_cookie_of_the_same_path_is_replaced():
    both = ("a=1; Path=/", "a=2; Path=/x")
    assert list(jar_of(*both, "a=; Path=/; Max-Age=0")) == [Cookie("a", "2", "/x")]
    assert list(jar_of(*both, "a=; Path=/x; Max-Age=0")) == [Cookie("a", "1", "/")]


def test_a_full_jar_loses_its_oldest_cookie():
    jar = jar_of(*(f"c{number}=x; Path=/" for number in range(101)))
    assert len(jar) == 100
    assert jar.names[0] == "c1"


def test_expired_cookies_leave_before_others_are_pushed_out():
    jar = CookieJar(HOST, [Cookie("keep", "1"), *(Cookie(f"c{number}", "x", expires=NOW) for number in range(99))])
    jar.absorb(["new=1; Path=/"], url=HOST, now=NOW)
    assert jar.names == ["keep", "new"]


def test_a_cookie_that_is_too_large_is_left_out():
    assert sent(f"a={'x' * 9000}; Path=/") == f"a={'x' * 9000}"
    assert sent(f"a={'x' * 17000}; Path=/") is None
    assert sent(f"a={'ä' * 9000}; Path=/") is None
    assert sent(f"a=b; Path=/{'; x' * 9000}") is None


def test_a_cleared_jar_is_empty():
    jar = jar_of("a=1; Path=/")
    jar.clear()
    assert (len(jar), jar.header(HOST, now=NOW)) == (0, None)


def test_no_repr_shows_a_value():
    jar = jar_of("name=s3cret; Path=/")
    texts = [repr(jar), str(jar), repr(list(jar)), str(next(iter(jar))), f"{next(iter(jar))}"]
    assert not any("s3cret" in text for text in texts)
    assert "'name'" in texts[2]


@pytest.mark.parametrize(
    "cookie",
    [
        {"name": ""},
        {"name": " a"},
        {"name": "a=b"},
        {"name": "a;b"},
        {"name": "a\r\nb"},
        {"value": "s3cret;"},
        {"value": "s3cret\r\nX: y"},
        {"value": "s3cret\x00"},
        {"value": "s3cret\ud800"},
        {"value": "s3cret" * 4000},
        {"path": ""},
        {"path": "a"},
        {"path": "/\n"},
        {"expires": math.nan},
        {"expires": math.inf},
        {"expires": -math.inf},
        {"expires": 10**400},
    ],
)
def test_a_cookie_that_no_header_can_hold_is_none(cookie):
    with pytest.raises(ValueError, match="cookie") as caught:
        Cookie(**{"name": "a", "value": "s3cret"} | cookie)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="cookie"):
        CookieJar.from_json(HOST, [{"name": "a", "value": "s3cret"} | cookie])


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        "a=s3cret",
        [None],
        ["s3cret"],
        [["a", "s3cret"]],
        [{}],
        [{"name": "a"}],
        [{"name": "a", "value": 1}],
        [{"name": 1, "value": "s3cret"}],
        [{"name": "a", "value": "s3cret", "path": None}],
        [{"name": "a", "value": "s3cret", "expires": "1"}],
        [{"name": "a", "value": "s3cret", "expires": True}],
        [{"name": "a", "value": "s3cret", "secure": 1}],
    ],
)
def test_what_was_stored_is_checked(data):
    with pytest.raises(ValueError, match="cookie") as caught:
        CookieJar.from_json(HOST, data)
    assert "s3cret" not in str(caught.value)


def test_a_jar_comes_back_from_json():
    jar = jar_of('a="x, y"; Path=/; Max-Age=60', "b=ä; Path=/x; Secure")
    stored = json.loads(json.dumps(jar.to_json()))
    assert list(CookieJar.from_json(HOST, stored)) == list(jar)
    assert CookieJar.from_json(HOST, [{"name": "a", "value": "b"}]).header(HOST, now=NOW) == "a=b"


# Brought along


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b; c=d", [("a", "b"), ("c", "d")]),
        ("Cookie: a=b; c=d\r\n", [("a", "b"), ("c", "d")]),
        ("cookie:a=b", [("a", "b")]),
        ("  a=b;c=d;  ", [("a", "b"), ("c", "d")]),
        ('a="x=y, z"; b=', [("a", '"x=y, z"'), ("b", "")]),
        ("cookie=1; c=2", [("cookie", "1"), ("c", "2")]),
        ("a=near; a=far", [("a", "near")]),
        ("a=\udce4", [("a", "\udce4")]),
    ],
)
def test_pasted_cookies(text, expected):
    assert [(cookie.name, cookie.value) for cookie in read_pasted(text)] == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "Cookie:",
        ";;",
        "s3cret",
        "a=b; s3cret",
        "=s3cret",
        "a=s3cret\nb=c",
        "a=s3cret\x00",
        "Set-Cookie: a=s3cret; Path=/",
    ],
)
def test_what_is_no_pasted_cookie_is_refused_without_showing_it(text):
    with pytest.raises(ValueError, match=r"cookie|part|Set-Cookie") as caught:
        read_pasted(text)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


FILE = """\
# Netscape HTTP Cookie File
# https://curl.se/docs/http-cookies.html

ui.example.com\tFALSE\t/\tFALSE\t0\thost\t1
.example.com\tTRUE\t/\tTRUE\t1900000000\tdomain\t2
#HttpOnly_ui.example.com\tFALSE\t/\tTRUE\t1900000000.5\tsession\t"a\tb, c"
#ui.example.com\tFALSE\t/\tTRUE\t0\tcomment\t3
example.com\tFALSE\t/\tFALSE\t0\tparent\t4
.other.com\tTRUE\t/\tFALSE\t0\tother\t5
i.example.com\tTRUE\t/\tFALSE\t0\tsuffix\t6
ui.example.com\tFALSE\t/\tFALSE\t1700000000\texpired\t7
ui.example.com\tFALSE\t/comfy/api\tFALSE\t0\tbelow\t8
ui.example.com\tFALSE\t/comfy\tFALSE\t-1\tbase\t9
ui.example.com\tFALSE\t/admin\tFALSE\t0\telsewhere\t10
ui.example.com\tFALSE\t/\tFALSE\t99999999999999999\tfar\t11
ui.example.com\tFALSE\t/\tFALSE\t\tempty
"""


def test_a_cookie_file_gives_what_is_for_this_instance():
    cookies = read_netscape(FILE, URL("https://ui.example.com:8443/comfy"), now=NOW)
    assert [cookie.name for cookie in cookies] == ["host", "domain", "session", "below", "base", "far", "empty"]
    assert cookies[1] == Cookie("domain", "2", "/", 1900000000, secure=True)
    assert cookies[2] == Cookie("session", '"a\tb, c"', "/", 1900000000.5, secure=True)
    assert cookies[4] == Cookie("base", "9", "/comfy")
    assert cookies[6] == Cookie("empty", "")


def test_a_cookie_file_gives_plain_http_nothing_that_is_for_https():
    cookies = read_netscape(FILE.replace("\n", "\r\n"), URL("http://ui.example.com"), now=NOW)
    assert [cookie.name for cookie in cookies] == ["host", "below", "base", "elsewhere", "far", "empty"]


def test_addresses_in_a_cookie_file_are_whole():
    text = "1.2.3.4\tFALSE\t/\tFALSE\t0\ta\tb\u2028c\n3.4\tTRUE\t/\tFALSE\t0\tc\td\n"
    assert read_netscape("\ufeff" + text, HOST, now=NOW) == [Cookie("a", "b\u2028c")]


def test_a_cookie_file_may_be_empty_if_it_says_what_it_is():
    assert read_netscape("# Netscape HTTP Cookie File\n", HOST, now=NOW) == []
    with pytest.raises(ValueError, match="no line"):
        read_netscape("# something else\n", HOST, now=NOW)


@pytest.mark.parametrize(
    "line",
    [
        "a=s3cret; b=c",
        '[{"name": "a", "value": "s3cret"}]',
        "1.2.3.4 FALSE / FALSE 0 a s3cret",
        "1.2.3.4\tFALSE\t/\tFALSE\tsoon\ta\ts3cret",
        "1.2.3.4\tFALSE\t/\tFALSE\tnan\ta\ts3cret",
        "1.2.3.4\tFALSE\t/\tFALSE\t0\ta\ts3cret\x00",
        "1.2.3.4\tFALSE\t/\tFALSE\t0\ta\ts3cret;",
    ],
)
def test_what_is_no_cookie_file_is_refused_without_showing_it(line):
    with pytest.raises(ValueError, match="line 2") as caught:
        read_netscape(f"# HTTP Cookie File\n{line}\n", HOST, now=NOW)
    assert "s3cret" not in str(caught.value)


# Properties


anything = st.text(max_size=200)
linelike = st.text(alphabet=st.sampled_from('ab=;, \t"/.:-019\r\n\x00\x7fä\udce4\ud800İK'), max_size=60)
attribute = st.one_of(
    linelike,
    st.sampled_from(
        ["Secure", "Path=/", "Path=/a", "Domain=1.2.3.4", "Domain=evil", "Max-Age=0", "Max-Age=9", "HttpOnly"]
    ),
    st.builds("Expires={}".format, st.text(alphabet="0123456789: -JanFeb,GMT", max_size=40)),
)
lines = st.one_of(
    anything,
    linelike,
    st.builds(lambda pair, parts: ";".join([pair, *parts]), linelike, st.lists(attribute, max_size=6)),
)
urls = st.builds(
    lambda scheme, host, port, path: URL(f"{scheme}://{host}:{port}{path}"),
    st.sampled_from(["http", "https", "ws", "wss"]),
    st.sampled_from(["1.2.3.4", "1.2.3.5", "localhost", "ui.example.com", "example.com", "[::1]", "xn--a"]),
    st.sampled_from([80, 443, 8188, 40001]),
    st.sampled_from(["", "/", "/a", "/a/b", "/login"]),
)
times = st.floats(min_value=0, max_value=4e9)


def origin_of(url):
    return url.scheme.replace("ws", "http"), url.raw_host, url.port


@given(st.lists(lines, max_size=8), urls, urls, times, times)
def test_no_line_raises_and_no_header_breaks(texts, url, asked, now, later):
    jar = CookieJar(url)
    jar.absorb(texts, url=url, now=now)
    header = jar.header(asked, now=later)
    withheld = jar.withheld(asked, now=later)
    if origin_of(asked) != origin_of(url):
        assert header is None
        assert withheld == []
    if header is not None:
        assert not re.search("[\x00-\x08\x0a-\x1f\x7f]", header)
        header.encode("utf-8", "surrogateescape")
        sent_pairs = header.split("; ")
        assert len(sent_pairs) <= len(texts)


@given(st.lists(lines, max_size=8), urls, times)
def test_what_was_stored_is_what_was_there(texts, url, now):
    jar = CookieJar(url)
    jar.absorb(texts, url=url, now=now)
    again = CookieJar.from_json(url, _json.loads(_json.dumps(jar.to_json())))
    assert list(again) == list(jar)
    assert again.header(url, now=now) == jar.header(url, now=now)


@given(anything | linelike, times)
def test_no_date_raises(text, now):
    date = read_cookie_date(text)
    assert date is None or math.isfinite(date)


@given(
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2069, 12, 31, 23, 59, 59)),
    st.sampled_from(
        ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y", "%H:%M:%S %B %d %y"]
    ),
)
def test_every_date_of_http_is_read(moment, form):
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert read_cookie_date(moment.strftime(form)) == moment.timestamp()


def header_bytes(forbidden):
    allowed = [byte for byte in range(256) if (byte >= 32 or byte == 9) and byte != 127 and byte not in forbidden]
    return st.lists(st.sampled_from(allowed), max_size=60).map(bytes).map(lambda raw: raw.strip(b" \t"))


@given(header_bytes(b";=").filter(bool), header_bytes(b";"), st.booleans())
@example(b"t", b'"p\xe4\xc3\xa4, x"', True)
def test_the_bytes_that_came_are_the_bytes_that_go(name, value, spaced):
    assume(not name.lower().startswith((b"__host-", b"__secure-")))
    line = (b" " * spaced + name + b"=" + b" " * spaced + value + b"; Path=/").decode("utf-8", "surrogateescape")
    assert sent(line).encode("utf-8", "surrogateescape") == name + b"=" + value


texts_of_a_name = st.text(
    alphabet=st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="=; \t"), min_size=1, max_size=12
).filter(lambda name: not name.startswith("#") and not re.match(r"(?i)(set-)?cookie:", name))
texts_of_a_value = st.text(
    alphabet=st.characters(exclude_categories=["Cc", "Cs"], exclude_characters=";") | st.sampled_from("\udc80\udcff"),
    max_size=20,
).map(lambda value: value.strip(" \t"))
cookies = st.lists(
    st.builds(
        Cookie,
        name=texts_of_a_name,
        value=texts_of_a_value,
        path=st.sampled_from(["/", "/a", "/a/b"]),
        expires=st.none() | st.integers(int(NOW) + 1, int(NOW) + 10**9),
        secure=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda cookie: cookie.name,
)


@given(cookies.filter(bool), st.booleans())
def test_a_pasted_header_gives_the_cookies_that_it_was_made_of(held, prefixed):
    url = URL("https://h/a/b")
    header = CookieJar(url, held).header(url, now=NOW)
    again = read_pasted(f"Cookie: {header}" if prefixed else header)
    assert {(cookie.name, cookie.value) for cookie in again} == {(cookie.name, cookie.value) for cookie in held}
    assert CookieJar(url, again).header(url, now=NOW) == header


@given(cookies, st.booleans())
def test_a_cookie_file_gives_the_cookies_that_it_was_made_of(held, windows):
    rows = [
        "\t".join(("h", "FALSE", one.path, str(one.secure).upper(), str(one.expires or 0), one.name, one.value))
        for one in held
    ]
    text = ("\r\n" if windows else "\n").join(["# Netscape HTTP Cookie File", *rows, ""])
    assert read_netscape(text, URL("https://h/a"), now=NOW) == held


@given(anything | linelike | st.text(alphabet="\t#_. 01aTRUEFALSE/\n\r", max_size=200))
def test_what_a_person_brings_is_cookies_or_a_value_error(text):
    for read in (read_pasted, lambda text: read_netscape(text, HOST, now=NOW)):
        try:
            found = read(text)
        except ValueError:
            continue
        header = CookieJar(HOST, found).header(HOST, now=NOW)
        assert header is None or not re.search("[\x00\r\n]", header)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["name", "value", "path", "expires", "secure"]), inner, max_size=5)
), max_leaves=12))  # fmt: skip
def test_stored_data_is_a_jar_or_a_value_error(data):
    try:
        jar = CookieJar.from_json(HOST, data)
    except ValueError:
        return
    jar.header(HOST, now=NOW)
    _json.dumps(jar.to_json())
