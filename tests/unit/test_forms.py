"""Login forms: found in any markup, filled as a browser would, in time that grows with the page and no faster."""

import html

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from yarl import URL

from comfyclient.auth.forms import LoginForm, find_login_form, is_comfyui_login, is_unclaimed
from comfyclient.auth.forms.markup import Tag, read_markup

PAGE = URL("https://ui.example.com:8443/comfy/login?next=%2F")
PASSWORD = "<input type=password name=pw>"
CURRENT = "<input type=password name=pw autocomplete=current-password>"


def find(page, url=PAGE):
    return find_login_form(page, url)


def fields(controls):
    """What is sent besides the password by a form with these controls."""
    return find(f"<form method=post>{controls}{PASSWORD}</form>").fields


def username(controls):
    return find(f"<form>{controls}</form>").username


# Pages as they are


def comfyui_login(*, first=False, username=False, guests=False):
    """The page of ComfyUI-Login in its parts that matter."""
    told = "For your first login, please enter a new username and password." if first else "🌈 Welcome back!"
    named = '<label>Username:</label><input type="text" id="username" name="username" required><br>'
    guest = '<input type="hidden" id="guest_mode" name="guest_mode">'
    return f"""<!DOCTYPE html>
        <html lang="en"><head><meta charset="UTF-8"><title>ComfyUI Login</title>
        <style>body {{text-align: center;}}</style></head>
        <body><div id="feedback"><p>{told}</p></div>
        <form action="/login" method="post" id="form_login">
            {guest if guests else ""}
            {named if first or username else ""}
            <label>🗝️ Password:</label><input type="password" id="password" name="password" required>
            <input type="submit" value="Login" class="comfy-btn">
            <input type="button" value="Guest Mode" onclick="go()">
        </form>
        <script>document.write("<form><input type=password name=x></form>")</script></body></html>"""


@pytest.mark.parametrize("encode", [str, str.encode])
def test_the_page_of_comfyui_login(encode):
    page = encode(comfyui_login(guests=True))
    action = URL("https://ui.example.com:8443/login")
    assert find(page) == LoginForm(action, "post", {"guest_mode": ""}, None, "password")
    assert is_comfyui_login(page)
    assert not is_unclaimed(page)


def test_the_first_page_of_comfyui_login_has_no_owner():
    page = comfyui_login(first=True)
    assert find(page).username == "username"
    assert is_comfyui_login(page)
    assert is_unclaimed(page)


def test_a_comfyui_login_that_lacks_only_a_name_has_an_owner():
    page = comfyui_login(username=True)
    assert find(page).username == "username"
    assert not is_unclaimed(page)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<TITLE lang=en>\n ComfyUI\n Login </TITLE>", True),
        ("<title>comfyui login", True),
        ("<title>ComfyUI</title>", False),
        ("<title>ComfyUI Login - proxy</title>", False),
        ("<!-- <title>ComfyUI Login</title> --><title>Login</title>", False),
        ("<title>Login</title><title>ComfyUI Login</title>", False),
        ("<p>ComfyUI Login</p>", False),
        ("<script><title>ComfyUI Login</title></script>", False),
        ("<title></title>ComfyUI Login", False),
        ("<title>", False),
        ("", False),
    ],
)
def test_comfyui_login_is_known_by_its_title(page, expected):
    assert is_comfyui_login(page) is expected
    assert is_comfyui_login(page.encode()) is expected


@pytest.mark.parametrize(
    "text", ["for your FIRST\n  login", "<!-- For your first login -->", "x" * 300_000 + "For your first login"]
)
def test_a_page_that_may_claim_is_told_wherever_it_says_so(text):
    assert is_unclaimed(text)
    assert is_unclaimed(text.encode())


def test_a_django_login():
    page = """<form method="post" action="?next=/admin/">
        <input type='hidden' name='csrfmiddlewaretoken' value='t&amp;k"1'>
        <input type="text" name="username" autofocus maxlength="150" required id="id_username">
        <input type="password" name="password" autocomplete="current-password" required id="id_password">
        <input type="hidden" name="next" value="/admin/"><button type="submit" name="go" value="1">Log in</button>
        </form>"""
    form = find(page)
    assert form.action == URL("https://ui.example.com:8443/comfy/login?next=/admin/")
    assert form.fields == {"csrfmiddlewaretoken": 't&k"1', "username": "", "next": "/admin/"}
    assert (form.username, form.password) == ("username", "password")


# Which form


SEARCH = "<form id=search><input name=q><input type=hidden name=x value=search></form>"
REGISTER = (
    "<form id=new action=/join><input name=login><input type=password name=p1><input type=password name=p2></form>"
)
LOGIN = "<form id=in method=post action=/in><input name=user><input type=password name=pw></form>"


@pytest.mark.parametrize(
    ("page", "action"),
    [
        (SEARCH + LOGIN, "/in"),
        (REGISTER + LOGIN, "/in"),
        (LOGIN + REGISTER, "/in"),
        ("<form action=/signup><input type=password name=p></form>" + LOGIN, "/in"),
        ('<form action=/x class="form-register"><input type=password name=p></form>' + LOGIN, "/in"),
        ("<form action=/x><input type=password name=p autocomplete=New-Password></form>" + LOGIN, "/in"),
        ('<form action="/login?then=/register"><input type=password name=p></form>' + LOGIN, "/login?then=/register"),
        (LOGIN + "<form action=/other><input type=password name=p></form>", "/in"),
        ("<form action=javascript:go()><input type=password name=p></form>" + LOGIN, "/in"),
        (REGISTER, "/join"),
        (f"<form action=/1><form action=/2>{PASSWORD}</form>", "/1"),
        ("<form id=f action=/1></form><form id=f action=/2></form><input type=password name=p form=f>", "/1"),
        ('<FORM ACTION="/A"><INPUT NAME="P" TYPE="PassWord"></FORM>', "/A"),
    ],
)
def test_the_form_that_logs_in(page, action):
    assert find(page).action.path_qs == action


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<html>",
        SEARCH,
        PASSWORD,
        "<form><input type=password></form>",
        "<form><input type=password name=''></form>",
        "<form><input type=password name=p disabled></form>",
        f"<form><fieldset disabled>{PASSWORD}</fieldset></form>",
        f"<form><fieldset disabled><fieldset>{PASSWORD}</fieldset></fieldset></form>",
        f"<form></form>{PASSWORD}",
        f"<form>{PASSWORD[:-1]}",
        f"<!-- <form>{PASSWORD}</form> -->",
        f"<!-- <form>{PASSWORD}</form>",
        f"<script>'<form>{PASSWORD}</form>'</script>",
        f"<textarea><form>{PASSWORD}</form></textarea>",
        f"<template><form>{PASSWORD}</form></template>",
        "<form><input type=password name=p form=none></form>",
        "<form id=''><input type=password name=p form=''></form>",
        "<form action='javascript:void(0)'><input type=password name=p></form>",
        "<form action='ftp://ui.example.com/in'><input type=password name=p></form>",
        "<form action='mailto:a@b'><input type=password name=p></form>",
        "<form action='http://[::1'><input type=password name=p></form>",
        "<form action='http://h:99999'><input type=password name=p></form>",
        "<form action='http:///x'><input type=password name=p></form>",
        "<form action='http://xn--a/x'><input type=password name=p></form>",
    ],
)
def test_a_page_without_a_login_form(page):
    assert find(page) is None


@pytest.mark.parametrize(
    "page",
    [
        f"<form>{PASSWORD}",
        f"</form></p><form><div><form>{PASSWORD}</form>",
        f"<form/>{PASSWORD}",
        f"<noscript><form>{PASSWORD}</form></noscript>",
        f"<form><fieldset disabled></fieldset>{PASSWORD}</form>",
        f"</fieldset><form>{PASSWORD}</form>",
        f"</template><form>{PASSWORD}</form>",
        f"<form><template><template></template></form></template>{PASSWORD}</form>",
        f"<title><form></title><form>{PASSWORD}",
        f"<!-->--><form>{PASSWORD}",
        f"<!---><form>{PASSWORD}",
        f"<!--a--!><form>{PASSWORD}",
        f"<!doctype html><?php ?></><![CDATA[x]]></ form><form>{PASSWORD}",
        f"a < b <3 & c <form>{PASSWORD}",
        f"<script>a </scripty></SCRIPT ><form>{PASSWORD}",
        "<form><input\ntype = 'password'\tname\n=\n\"pw\"/ value=x>",
        "<form><input name=pw name=x type=password type=text>",
        "<form><input =x 'y name=pw type=password>",
        "<input type=password name=pw form=f><form id=f></form>",
        "<form id=f></form><form id=f></form><div><input type=password name=pw form=f></div>",
        f"<form><select name=a><option>1{PASSWORD}</form>",
        f"<form><input name=a value='>'>{PASSWORD}</form>",
    ],
)
def test_a_login_form_in_careless_markup(page):
    form = find(page)
    assert form.password == "pw"
    assert form.method == "get"


@pytest.mark.parametrize(
    ("attributes", "method"),
    [
        ("", "get"),
        ("method", "get"),
        ("method=get", "get"),
        ("method=POST", "post"),
        ("method=dialog", "get"),
        ("method=put", "get"),
    ],
)
def test_the_method(attributes, method):
    assert find(f"<form {attributes}>{PASSWORD}</form>").method == method


# Where it goes


@pytest.mark.parametrize(
    ("head", "action", "expected"),
    [
        ("", None, str(PAGE)),
        ("", "", str(PAGE)),
        ("", " \n", str(PAGE)),
        ("", "in", "https://ui.example.com:8443/comfy/in"),
        ("", "/in", "https://ui.example.com:8443/in"),
        ("", "../in", "https://ui.example.com:8443/in"),
        ("", "?a=1&amp;b=2", "https://ui.example.com:8443/comfy/login?a=1&b=2"),
        ("", "/in?a=1&copy=2&region=3", "https://ui.example.com:8443/in?a=1&copy=2&region=3"),
        ("", " /i\nn#top ", "https://ui.example.com:8443/in"),
        ("", "https://ui.example.com:8443/in", "https://ui.example.com:8443/in"),
        ("", "http://ui.example.com:8443/in", "http://ui.example.com:8443/in"),
        ("", "https://evil.example/in", "https://evil.example/in"),
        ("", "//evil.example/in", "https://evil.example/in"),
        ("<base href=/base/>", "in", "https://ui.example.com:8443/base/in"),
        ("<base href=/base/>", None, str(PAGE)),
        ("<base target=x><base href=/1/><base href=/2/>", "in", "https://ui.example.com:8443/1/in"),
        ("<base href=https://evil.example/>", "in", "https://evil.example/in"),
        ("<base href='javascript:x'>", "in", "https://ui.example.com:8443/comfy/in"),
        ("<base href='data:text/html,x'>", "/in", "https://ui.example.com:8443/in"),
        ("<base href=''>", "in", "https://ui.example.com:8443/comfy/in"),
    ],
)
def test_where_the_form_goes(head, action, expected):
    attribute = "" if action is None else f'action="{action}"'
    assert find(f"{head}<form {attribute}>{PASSWORD}</form>").action == URL(expected)


def test_a_base_below_the_form_counts():
    assert find(f"<form action=in>{PASSWORD}</form><base href=/b/>").action.path == "/b/in"


# What is sent


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        ("<input type=hidden name=csrf value='a b'>", {"csrf": "a b"}),
        ("<input type=hidden name=csrf>", {"csrf": ""}),
        ("<input type=hidden value=x>", {}),
        ("<input type=hidden name=a value=1 disabled>", {}),
        ("<input type=hidden name=a value=1 readonly>", {"a": "1"}),
        ("<input type=hidden name=a value=1><input type=hidden name=a value=2>", {"a": "2"}),
        ("<input type=hidden name=pw value=x>", {}),
        ("<input type=checkbox name=remember>", {}),
        ("<input type=checkbox name=remember checked>", {"remember": "on"}),
        ("<input type=checkbox name=remember value=1 checked=''>", {"remember": "1"}),
        ("<input type=hidden name=r value=0><input type=checkbox name=r value=1>", {"r": "0"}),
        ("<input type=hidden name=r value=0><input type=checkbox name=r value=1 checked>", {"r": "1"}),
        (
            "<input type=radio name=r value=1><input type=radio name=r value=2 checked><input type=radio name=r>",
            {"r": "2"},
        ),
        ("<input type=submit name=s value=1><input type=image name=i><input type=reset name=r>", {}),
        ("<button name=b value=1>x</button><button type=submit name=c>x</button>", {}),
        ("<input type=file name=f><input type=button name=b value=x>", {}),
        ("<input name=user value=admin>", {"user": "admin"}),
        ("<input type=number name=n value=3><input type=url name=u>", {"n": "3", "u": ""}),
        ("<select name=d><option value=1>one<option value=2>two</select>", {"d": "1"}),
        ("<select name=d><option value=1>one<option value=2 selected>two</select>", {"d": "2"}),
        ("<select name=d><option disabled>-<option> a\n <b>b</b> </option></select>", {"d": "a b"}),
        ("<select name=d><option selected disabled>-<option>a</select>", {}),
        ("<select name=d multiple><option>a</select>", {}),
        ("<select name=d></select>", {}),
        ("<select name=d disabled><option>a</select>", {}),
        ("<select name=d><optgroup label=x><option>a</optgroup></select>", {"d": "a"}),
        ("<select name=d><option>a<select name=e><option>b</select>", {"d": "a", "e": "b"}),
        ("<textarea name=t>\n a&lt;\nb</textarea>", {"t": " a<\nb"}),
        ("<textarea name=t></textarea><p>x</p>", {"t": ""}),
        ("<fieldset disabled><input name=a value=1></fieldset><input name=b value=2>", {"b": "2"}),
        ("<template><input name=a value=1>x</template>", {}),
        ("<input name=a value='&#x26;&#38;&quot;&eacute;&nosuch;&amp'>", {"a": '&&"é&nosuch;&'}),
        (f"<input name=a value='&#{'1' * 5000};&#x{'1' * 5000}&#{'0' * 5000}65;'>", {"a": "\ufffd\ufffdA"}),
        ("<input name=a value=1&lt;2&lt>", {"a": "1<2<"}),
        ("<input name=über value=ß>", {"über": "ß"}),
    ],
)
def test_what_is_sent_besides_the_password(controls, expected):
    assert fields(controls) == expected


def test_fields_elsewhere_in_the_page_that_name_the_form_are_sent_in_the_pages_order():
    above, below = "<input name=user form=f value=a>", "<input type=hidden name=csrf form=f value=1>"
    form = find(f"{above}<form id=f><input name=x>{PASSWORD}</form>{below}")
    assert form.fields == {"user": "a", "x": "", "csrf": "1"}
    assert form.username == "user"


def test_bytes_that_are_no_utf_8_spoil_nothing():
    page = "<p>ä</p><form><input type=hidden name=t value=tök>".encode("latin-1") + PASSWORD.encode()
    assert find(page).fields == {"t": "t\ufffdk"}


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        (PASSWORD, None),
        (f"<input name=user>{PASSWORD}", "user"),
        (f"<input type=email name=e>{PASSWORD}", "e"),
        (f"<input type=tel name=t>{PASSWORD}", "t"),
        (f"<input type=unheard-of name=t>{PASSWORD}", "t"),
        (f"<input type='' name=t>{PASSWORD}", "t"),
        (f"<input name=a><input name=b>{PASSWORD}", "b"),
        (f"<input name=user><input name=realm>{PASSWORD}", "user"),
        (f"<input name=a><input name=Login_Email><input name=c>{PASSWORD}", "Login_Email"),
        (f"<input name=a autocomplete=username><input name=b>{PASSWORD}", "a"),
        (f"<input name=a id=userName><input name=b>{PASSWORD}", "a"),
        (f"<input name=user1><input name=user2>{PASSWORD}", "user2"),
        (f"<input type=hidden name=user><input name=a>{PASSWORD}", "a"),
        (f"<input type=checkbox name=user><input type=search name=q>{PASSWORD}", None),
        (f"<input name=user disabled>{PASSWORD}", None),
        (f"{PASSWORD}<input name=user>", None),
        (f"<input name=user><input type=password name=a><input name=b>{CURRENT}", "user"),
    ],
)
def test_the_field_of_the_username(controls, expected):
    assert username(controls) == expected


def test_of_several_passwords_the_current_one_then_the_first():
    several = "<form><input type=password name=a><input type=password name=b {}></form>"
    assert find(several.format("")).password == "a"
    form = find(several.format("autocomplete=current-password value=x"))
    assert (form.password, form.fields) == ("b", {"a": ""})


def test_no_repr_shows_a_token():
    text = repr(find("<form action='/in?ticket=s3cret'><input type=hidden name=csrf value=s3cret>" + PASSWORD))
    assert "s3cret" not in text
    assert "'pw'" in text


# The cut of the page


def test_only_the_beginning_of_a_huge_page_is_read():
    form = f"<form>{PASSWORD}</form>"
    assert find(" " * (256 * 1024 - len(form)) + form) is not None
    assert find(" " * (256 * 1024) + form) is None
    assert find(b" " * (256 * 1024) + form.encode()) is None


SLOW = [
    *(
        "<a ",
        "<a x='",
        '<a x="',
        "<!--",
        "<![",
        "<![CDATA[",
        "<?",
        "</",
        "<",
        "&",
        "&#",
        "&a",
        "<a =",
        "<a/",
        "<a  =  ",
    ),
    *("<script>", "<title>", "<textarea>", "<form>", "<select><option>", "<fieldset disabled>", "<template>", "< "),
    *("<input form=a name=b>", "<input type=password name=p>", "<form id=a><input type=password name=p form=a>"),
]


@pytest.mark.parametrize("unit", SLOW)
@pytest.mark.parametrize("before", ["", "<a x"])
def test_a_page_made_to_be_slow_is_read_to_its_end(unit, before):
    """A reader that looks at the rest again with every piece would be at it for minutes: html.parser is."""
    find(before + unit * (256 * 1024 // len(unit)))


# Properties


scraps = st.sampled_from([
    *("<", ">", "</", "<!--", "-->", "--!>", "<!", "<?", "'", '"', "=", "/", " ", "\n", "\x00"),
    *("&", "&amp", "&#", "&#x110000;", "&#0;", "É", "İ", "ſ", "K", "ComfyUI Login", "\ud800", "\udcff"),
    *("<form", "</form>", "<form id=a>", " action=", "//[", "http://", "javascript:", "?", "#", ":99999", "xn--a"),
    *("<input", " type=password", " name=p", " name=", " form=a", " value=", " checked", " disabled", " selected"),
    *("<select name=s>", "<option", "</select>", "<textarea name=t>", "</textarea>"),
    *("<fieldset disabled>", "</fieldset>", "<title>", "</title>", "<script>", "</script>", "<template>"),
    *("</template>", "<form>", "<form action='", "'>", "<base href='", "<input name=user>"),
    "<input type=password name=p>",
])  # fmt: skip
mess = st.lists(scraps | st.text(max_size=3), max_size=8).map("".join)
around = st.tuples(
    mess, st.just("<form action='"), mess, st.just("'>"), mess, st.just("<input type=password name=p>"), mess
)
markup = st.one_of(st.text(max_size=300), st.lists(mess, max_size=8).map("".join), around.map("".join))
web = st.sampled_from([PAGE, URL("http://1.2.3.4:8188/"), URL("http://[::1]/a"), URL("/relative"), URL("")])


@settings(max_examples=500, deadline=None)
@given(markup | markup.map(lambda page: page.encode("utf-8", "surrogatepass")) | st.binary(max_size=300), web)
@example("<form action='http://xn--a/'><input type=password name=p>", PAGE)
@example("<form action='\ud800'><input type=password name=p>", PAGE)
@example("<base href='http://\udcff/'><form action=x><input type=password name=p>", PAGE)
def test_no_page_raises_and_what_is_found_can_be_used(page, url):
    form = find_login_form(page, url)
    assert isinstance(is_comfyui_login(page), bool)
    assert isinstance(is_unclaimed(page), bool)
    if form is not None:
        assert form.action.scheme in {"http", "https"}
        assert form.action.host  # yarl decodes it, and raises for what it cannot decode
        assert form.action.origin()
        assert form.method in {"get", "post"}
        assert form.password
        assert form.password not in form.fields
        assert form.username is None or form.username in form.fields
        assert all(form.fields)


@settings(max_examples=300, deadline=None)
@given(markup)
def test_no_more_comes_out_of_a_page_than_went_in(page):
    pieces = list(read_markup(page))
    tags = [piece for piece in pieces if isinstance(piece, Tag)]
    assert len(pieces) <= len(page)
    assert len(tags) <= page.count("<")
    assert sum(1 + len(tag.attributes) for tag in tags) <= len(page)


values = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


@given(st.dictionaries(values.filter(bool), values, max_size=5), values.filter(bool), values, st.sampled_from("'\""))
def test_fields_come_back_as_they_were_escaped(hidden, name, comment, quote):
    def quoted(text):
        return quote + html.escape(text) + quote

    inputs = "".join(f"<input type=hidden name={quoted(key)} value={quoted(value)}>" for key, value in hidden.items())
    page = f"<p>{html.escape(comment)}</p><form>{inputs}<input type=password name={quoted(name)}></form>"
    form = find(page)
    assert form.password == name
    assert form.fields == {key: value for key, value in hidden.items() if key != name}
