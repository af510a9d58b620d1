"""What a command is let in with: which source counts, what is refused, and that no secret is said."""

import base64
import io
import json
import os
import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from comfyclient.auth.store import StoredLogin
from comfyclient.cli.credentials import given_login
from comfyclient.cli.login_options import NO_LOGIN, LoginOptions
from comfyclient.cli.main import main
from comfyclient.errors import ConfigError

from ..cli_support import make_app, run  # noqa: TID252

URL_HERE = "http://127.0.0.1:8188"
SECRET = "hunter2-secret"
COOKIES = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsid\tcookie-value-1\n"


def parse(*args, command="info", cwd="."):
    """The options of a command line."""
    seen = []
    app = make_app(cwd, execute=lambda run, app, options: seen.append(options) or 0)
    code = main([command, *map(str, args)], app)
    assert code == 0, app.stderr.getvalue()
    return seen[0]


def take(cwd, *args, environ=None, stdin=b"", stored=None, **rest):
    """What `given_login` makes of a command line, and what it warned of."""
    app = make_app(cwd, environ=environ, stdin=stdin)
    if stored is not None:
        app.login_store().save(stored)
    options = parse(*args)
    return given_login(app, options.login, url=options.url, **rest), app.stderr.getvalue()


def credential(cwd, *args, **rest):
    """The credential alone, in clear."""
    found, _ = take(cwd, *args, **rest)
    return found.credential.to_json() if found.credential is not None else None


def refusal(cwd, *args, **rest):
    """Why `given_login` refuses."""
    with pytest.raises(ConfigError) as caught:
        take(cwd, *args, **rest)
    return str(caught.value)


def write(folder, name, text, mode=0o600):
    """A file."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def stored_login(url=URL_HERE, credential=None, **changes):
    """A login that is kept."""
    values = {
        "url": url, "kind": "bearer", "credential": credential or {"token": "kept-token"}, "cookies": [],
        "fingerprint": None, "comfy_user": None, "username": None, "saved_at": time.time(),
    }  # fmt: skip
    return StoredLogin(**{**values, **changes})


# The options themselves


def test_nothing_is_said():
    assert parse().login == NO_LOGIN
    assert not NO_LOGIN


def test_every_option_arrives():
    login = parse(
        "--username", "ada", "--password", "p", "--password-file", "pf", "--token", "t", "--token-file", "tf",
        "--api-key-file", "kf", "--access-id", "id", "--access-secret-file", "sf", "--header", "A=1",
        "--header", "B=@f", "--cookies-file", "cf", "--credentials-file", "xf", "--tls-fingerprint", "sha256:00",
        "--ca-file", "ca", "--no-check-hostname", "--insecure", "--comfy-user", "u", "--wait-ready", "3.5",
    ).login  # fmt: skip
    plain = {
        name: getattr(login, name)
        for name in LoginOptions.__dataclass_fields__
        if name not in {"password", "token", "headers"}
    }
    assert plain == {
        "username": "ada", "password_file": "pf", "token_file": "tf", "api_key_file": "kf", "access_id": "id",
        "access_secret_file": "sf", "cookies_file": "cf", "credentials_file": "xf", "tls_fingerprint": "sha256:00",
        "ca_file": "ca", "no_check_hostname": True, "insecure": True, "comfy_user": "u", "wait_ready": 3.5,
    }  # fmt: skip
    assert (login.password.reveal(), login.token.reveal()) == ("p", "t")
    first, second = login.headers
    assert (first.name, first.value.reveal(), first.file) == ("A", "1", None)
    assert (second.name, second.value, second.file) == ("B", None, "f")


@pytest.mark.parametrize(
    "command",
    [
        ["queue", "wf.json"], ["jobs", "list"], ["jobs", "show", "x"], ["jobs", "wait", "x"], ["jobs", "cancel", "x"],
        ["jobs", "download", "x"], ["info"], ["nodes", "list"], ["nodes", "show", "X"], ["nodes", "snapshot"],
        ["inputs", "wf.json"], ["convert", "wf.json"], ["login", "http://x"], ["doctor", "http://x"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_command_that_talks_to_an_instance_takes_them(command, capsys):
    options = parse(*command[1:], "--token-file", "t.txt", command=command[0])
    login = options.login if hasattr(options, "login") else options.source.login
    assert login.token_file == "t.txt"
    assert main([*command, "--help"]) == 0
    assert "\nLogin:\n" in capsys.readouterr().out


def test_a_secret_is_not_in_the_repr_of_the_options():
    assert SECRET not in repr(parse("--password", SECRET, "--token", SECRET, "--header", f"A={SECRET}"))


@pytest.mark.parametrize("text", ["@@home", "@@", "a=b", "=", ""])
def test_a_headers_value_is_as_it_was_written(text):
    [header] = parse("--header", f"X-Key={text}").login.headers
    assert header.value.reveal() == text.replace("@@", "@", 1)


@pytest.mark.parametrize(
    "text", [f"Authorization: Bearer {SECRET}", SECRET, f"a b={SECRET}", f"={SECRET}", f"ä={SECRET}"]
)
def test_a_header_that_is_none_is_refused_and_not_repeated(text, tmp_path):
    found = run(make_app(tmp_path), "info", "--header", text, "--json")
    assert found.code == 2
    assert "NAME=VALUE" in found.err
    assert SECRET not in found.err + found.out


def test_a_header_is_given_once(tmp_path):
    found = run(make_app(tmp_path), "info", "--header", "X-A=1", "--header", "x-a=2")
    assert (found.code, "given twice" in found.err) == (2, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["queue", "wf.json", "--emulator", "--token", "t"], "--emulator needs no login"),
        (["convert", "wf.json", "--offline", "--token", "t"], "--offline needs no login"),
        (["inputs", "wf.json", "--catalog", "c", "--username", "a"], "--catalog needs no login"),
        (["queue", "--token", "t"], "missing argument 'WORKFLOW'"),
        (["info", "--wait-ready", "0"], "0.0 is not in the range"),
        (["login", "http://x", "--headless"], "--headless goes with --browser"),
        (["login", "http://x", "--browser-path", "x"], "--browser-path goes with --browser"),
        (["login", "http://x", "--allow-host", "x"], "--allow-host goes with --browser"),
    ],
)
def test_options_that_do_not_go_together(args, message, tmp_path):
    found = run(make_app(tmp_path), *args)
    assert found.code == 2
    assert message in found.err


def test_a_login_without_an_instance_is_a_mistake(tmp_path):
    write(tmp_path, "wf.json", '{"1": {"class_type": "PreviewAny", "inputs": {}}}')
    found = run(make_app(tmp_path), "convert", "wf.json", "--username", "ada", "--password", "x")
    assert found.code == 2
    assert "no instance to log in at" in found.err


# Which source counts


def test_nothing_is_given(tmp_path):
    found, said = take(tmp_path)
    assert (found.credential, found.tls, found.comfy_user, found.stored, said) == (None, None, None, None, "")
    assert (str(found.url), found.url_from) == (URL_HERE, "default")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--username", "ada", "--password-file", "p"], {"username": "ada", "password": "from-file"}),
        (["--token-file", "p"], {"token": "from-file"}),
        (["--api-key-file", "p"], {"api_key": "from-file"}),
        (["--access-id", "i", "--access-secret-file", "p"], {"access_id": "i", "access_secret": "from-file"}),
        (["--header", "X-Key=@p"], {"headers": {"X-Key": "from-file"}}),
        (["--cookies-file", "c"], {"cookies": "sid=cookie-value-1"}),
        (["--credentials-file", "f"], {"username": "bob", "password": "pa:ss"}),
        (["--url", "http://u:pw%2F@h:1/x"], {"username": "u", "password": "pw/"}),
        (["--url", "http://h/?token=a%2Fb"], {"token": "a/b"}),
    ],
)
def test_each_option(args, expected, tmp_path):
    write(tmp_path, "p", "from-file\n")
    write(tmp_path, "c", COOKIES)
    write(tmp_path, "f", "bob:pa:ss")
    assert credential(tmp_path, *args) == expected


@pytest.mark.parametrize(
    ("name", "part"),
    [("TOKEN", "token"), ("API_KEY", "api_key"), ("COOKIES", "cookies"), ("PASSWORD", "password")],
)
def test_each_variable(name, part, tmp_path):
    assert credential(tmp_path, environ={f"COMFYCLIENT_{name}": SECRET}) == {part: SECRET}
    assert credential(tmp_path, environ={f"COMFYCLIENT_{name}": ""}) is None


def test_variables_that_name_files_and_go_together(tmp_path):
    write(tmp_path, "t", "file-token")
    environ = {
        "COMFYCLIENT_TOKEN_FILE": "t", "COMFYCLIENT_PASSWORD_FILE": "t", "COMFYCLIENT_USERNAME": "ada",
        "COMFYCLIENT_ACCESS_ID": "id", "COMFYCLIENT_ACCESS_SECRET": "sec",
    }  # fmt: skip
    assert credential(tmp_path, environ=environ) == {
        "token": "file-token", "password": "file-token", "username": "ada", "access_id": "id", "access_secret": "sec"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "environ", "expected"),
    [
        (["--token", "mine"], {"TOKEN": "theirs"}, {"token": "mine"}),
        # The way in that was asked for is the only one.
        (["--token", "mine"], {"PASSWORD": "theirs", "USERNAME": "ada", "COOKIES": "a=b"}, {"token": "mine"}),
        # Half a login is completed.
        (["--username", "ada"], {"PASSWORD": "p"}, {"username": "ada", "password": "p"}),
        (["--password", "p"], {"USERNAME": "ada"}, {"username": "ada", "password": "p"}),
        (["--username", "ada"], {"USERNAME": "ada", "PASSWORD": "p"}, {"username": "ada", "password": "p"}),
        # What goes with every login stays.
        (
            ["--token", "mine"],
            {"ACCESS_ID": "i", "ACCESS_SECRET": "s"},
            {"token": "mine", "access_id": "i", "access_secret": "s"},
        ),
        # A user name alone lets nobody in.
        ([], {"USERNAME": "ada"}, None),
        # The url of the environment counts as the environment, that of an option as an option.
        (["--token", "mine"], {"URL": "http://u:p@h"}, {"token": "mine"}),
        (["--url", "http://h/?token=mine"], {"TOKEN": "theirs"}, {"token": "mine"}),
    ],
)
def test_options_go_before_the_environment(args, environ, expected, tmp_path):
    environ = {f"COMFYCLIENT_{name}": value for name, value in environ.items()}
    assert credential(tmp_path, *args, environ=environ) == expected


def test_a_password_of_the_environment_is_not_another_users(tmp_path):
    environ = {"COMFYCLIENT_USERNAME": "bob", "COMFYCLIENT_PASSWORD": "of-bob"}
    assert "no password" in refusal(tmp_path, "--username", "ada", environ=environ)


@pytest.mark.parametrize(
    ("args", "environ", "both"),
    [
        (["--password", "a", "--password-file", "p"], {}, ("--password", "--password-file")),
        (["--token", "a", "--token-file", "p"], {}, ("--token", "--token-file")),
        (["--username", "a", "--credentials-file", "f"], {}, ("--username", "--credentials-file")),
        (["--url", "http://u:p@h", "--password", "x"], {}, ("--password", "the url")),
        (["--url", "http://h/?token=t", "--token", "x"], {}, ("--token", "the url")),
        ([], {"TOKEN": "t", "TOKEN_FILE": "p"}, ("COMFYCLIENT_TOKEN", "COMFYCLIENT_TOKEN_FILE")),
        ([], {"PASSWORD": "t", "PASSWORD_FILE": "p"}, ("COMFYCLIENT_PASSWORD", "COMFYCLIENT_PASSWORD_FILE")),
        ([], {"TOKEN": "t", "URL": "http://h/?token=x"}, ("COMFYCLIENT_TOKEN", "COMFYCLIENT_URL")),
    ],
)
def test_what_is_given_twice_is_refused(args, environ, both, tmp_path):
    write(tmp_path, "p", "x")
    write(tmp_path, "f", "u:p")
    message = refusal(tmp_path, *args, environ={f"COMFYCLIENT_{name}": value for name, value in environ.items()})
    assert f"by {both[0]} and by {both[1]}" in message


def test_half_an_access_token_is_refused(tmp_path):
    assert "two parts" in refusal(tmp_path, "--access-id", "i")
    assert "two parts" in refusal(tmp_path, environ={"COMFYCLIENT_ACCESS_SECRET": "s"})


# The credentials file


@pytest.mark.parametrize(
    ("text", "url", "workflow"),
    [
        ("ada:pw", None, None),
        ("ada:pw\nhttp://h:1\n", "http://h:1", None),
        ("ada:pw\r\nhttp://h:1\r\nwf.json\r\n", "http://h:1", "wf.json"),
        ("ada:pw\n\nwf.json", None, "wf.json"),
        ("\ufeffada:pw\nhttp://h:1\nwf.json\n\n", "http://h:1", "wf.json"),
    ],
)
def test_a_credentials_file(text, url, workflow, tmp_path):
    write(tmp_path, "f", text)
    found, _ = take(tmp_path, "--credentials-file", "f")
    assert found.credential.to_json() == {"username": "ada", "password": "pw"}
    assert (str(found.url), found.workflow) == (url or URL_HERE, workflow)
    assert found.url_from == ("option" if url else "default")
    here, _ = take(tmp_path, "--credentials-file", "f", "--url", "http://other")
    assert str(here.url) == "http://other"


def test_the_files_url_goes_before_the_environments(tmp_path):
    write(tmp_path, "f", "ada:pw\nhttp://h:1")
    found, _ = take(tmp_path, "--credentials-file", "f", environ={"COMFYCLIENT_URL": "http://e"})
    assert str(found.url) == "http://h:1"


@pytest.mark.parametrize("text", [SECRET, f"{SECRET}:", f"a:{SECRET}\nhttp://h\nwf\nmore", f"\n{SECRET}:b"])
def test_a_file_that_is_no_credentials_file(text, tmp_path):
    write(tmp_path, "f", text)
    message = refusal(tmp_path, "--credentials-file", "f")
    assert "no such file" in message
    assert SECRET not in message


def test_queue_takes_the_workflow_of_the_file(tmp_path):
    write(tmp_path, "f", "ada:pw\nhttp://127.0.0.1:1\nmissing.json")
    found = run(make_app(tmp_path), "queue", "--credentials-file", "f")
    assert (found.code, "missing.json" in found.err) == (3, True)
    found = run(make_app(tmp_path), "queue", "other.json", "--credentials-file", "f")
    assert (found.code, "other.json" in found.err) == (3, True)
    write(tmp_path, "f", "ada:pw")
    found = run(make_app(tmp_path), "queue", "--credentials-file", "f")
    assert (found.code, "names no workflow" in found.err) == (2, True)


# Files with secrets


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"abc", "abc"), (b"abc\n", "abc"), (b"abc\r\n", "abc"), (b" a b ", " a b "), (b"\xef\xbb\xbfabc", "abc"),
        ("pä".encode(), "pä"), (b"a" * 65536, "a" * 65536),
    ],
)  # fmt: skip
def test_a_secret_file_is_taken_without_the_break_at_its_end(data, expected, tmp_path):
    write(tmp_path, "t", data)
    assert credential(tmp_path, "--token-file", "t") == {"token": expected}
    assert credential(tmp_path, "--token-file", "-", stdin=data) == {"token": expected}


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"", "empty"), (b"\n", "empty"), (b"\xff\xfes\0", "no text in UTF-8"), (b"a" * 65537, "larger than 64 KiB")],
)
def test_a_file_that_holds_no_secret(data, why, tmp_path):
    write(tmp_path, "t", data)
    assert refusal(tmp_path, "--token-file", "t").startswith("--token-file: t ")
    assert why in refusal(tmp_path, "--token-file", "t")
    assert why in refusal(tmp_path, "--token-file", "-", stdin=data)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "folder").mkdir()
    assert "no such file" in refusal(tmp_path, "--password-file", "missing")
    assert "directory" in refusal(tmp_path, "--token-file", "folder")
    assert refusal(tmp_path, "--token-file", "nul\0") == "--token-file: nul\0 cannot be read: that is no file"
    assert "no such file" in refusal(tmp_path, environ={"COMFYCLIENT_TOKEN_FILE": "missing"})


def test_a_variable_that_is_not_needed_is_not_read(tmp_path):
    environ = {"COMFYCLIENT_TOKEN_FILE": "missing"}
    assert credential(tmp_path, "--token", "mine", environ=environ) == {"token": "mine"}


@pytest.mark.skipif(os.name == "nt", reason="no such permissions there")
@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o640, True), (0o604, True), (0o400, False)])
def test_a_secret_that_others_can_read_is_warned_of(mode, warns, tmp_path):
    write(tmp_path, "t", SECRET, mode)
    _, said = take(tmp_path, "--token-file", "t")
    assert (said == "warning: --token-file: t can be read by others on this machine; chmod 600 t\n") is warns


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="no process substitution there")  # noqa: PTH110
def test_a_pipe_is_read_like_a_file(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"piped-token\n")
    os.close(writer)
    try:
        assert credential(tmp_path, "--token-file", f"/dev/fd/{reader}") == {"token": "piped-token"}
    finally:
        os.close(reader)


def test_stdin_is_read_once(tmp_path):
    message = refusal(tmp_path, "--token-file", "-", "--password-file", "-", stdin=b"x")
    assert message == "--password-file and --token-file both read stdin"
    found = run(make_app(tmp_path, stdin=b"{}"), "queue", "-", "--token-file", "-")
    assert (found.code, "WORKFLOW and --token-file both read stdin" in found.err) == (2, True)


def test_cookies_of_other_hosts_are_left_alone(tmp_path):
    write(tmp_path, "c", COOKIES)
    assert "no cookie for http://other" in refusal(tmp_path, "--cookies-file", "c", "--url", "http://other:80")
    write(tmp_path, "c", SECRET)
    message = refusal(tmp_path, "--cookies-file", "c")
    assert "cannot be read" in message
    assert SECRET not in message


@pytest.mark.parametrize(
    "args",
    [["--password", SECRET, "--username", "a"], ["--token", SECRET], ["--header", f"X={SECRET}"]],
)
def test_secrets_on_the_command_line_work_and_warn(args, tmp_path):
    found, said = take(tmp_path, *args)
    assert SECRET in str(found.credential.to_json())
    assert said.startswith(f"warning: {args[0]}")
    assert "process list" in said
    assert SECRET not in said


def test_a_secret_in_the_url_warns_where_others_can_see_it(tmp_path):
    _, said = take(tmp_path, "--url", f"http://h/?token={SECRET}")
    assert "warning: the url holds a secret" in said
    _, said = take(tmp_path, environ={"COMFYCLIENT_URL": f"http://h/?token={SECRET}"})
    assert said == ""


# TLS and the rest


def test_tls(tmp_path):
    pin = "sha256:" + "0" * 64
    other = {"COMFYCLIENT_TLS_FINGERPRINT": "sha256:" + "1" * 64}
    assert take(tmp_path, "--tls-fingerprint", pin.upper(), environ=other)[0].tls.fingerprint == pin
    assert take(tmp_path, environ=other)[0].tls.fingerprint == other["COMFYCLIENT_TLS_FINGERPRINT"]
    found = take(tmp_path, "--no-check-hostname", environ={"COMFYCLIENT_CA_FILE": "ca.pem"})[0].tls
    assert (found.ca_file, found.check_hostname) == (str(tmp_path / "ca.pem"), False)
    found, said = take(tmp_path, "--insecure", environ=other)
    assert (found.tls.insecure, found.tls.fingerprint) == (True, None)
    assert "warning: --insecure" in said


@pytest.mark.parametrize(
    "args", [["--no-check-hostname"], ["--insecure", "--ca-file", "x"], ["--tls-fingerprint", "sha256:12"]]
)
def test_tls_options_that_make_no_sense(args, tmp_path):
    with pytest.raises(ConfigError):
        take(tmp_path, *args)


def test_user_and_patience(tmp_path):
    environ = {"COMFYCLIENT_COMFY_USER": "theirs"}
    found, _ = take(tmp_path, "--comfy-user", "mine", "--wait-ready", "7", environ=environ)
    assert (found.comfy_user, found.wait_ready) == ("mine", 7.0)
    assert take(tmp_path, environ=environ)[0].comfy_user == "theirs"


# The stored login


def test_the_stored_login_comes_last(tmp_path):
    found, _ = take(tmp_path, stored=stored_login())
    assert (found.credential, found.stored.credential) == (None, {"token": "kept-token"})
    assert credential(tmp_path, "--token", "mine") == {"token": "mine"}
    assert take(tmp_path, "--url", "http://127.0.0.1:8189")[0].stored is None


def test_what_the_stored_login_holds_already_changes_nothing(tmp_path):
    kept = stored_login(credential={"token": "t", "access_id": "i", "access_secret": "s"})
    environ = {"COMFYCLIENT_ACCESS_ID": "i", "COMFYCLIENT_ACCESS_SECRET": "s"}
    assert credential(tmp_path, environ=environ, stored=kept) is None


def test_headers_complete_the_stored_login(tmp_path):
    assert credential(tmp_path, "--header", "X-A=1234", stored=stored_login()) == {
        "token": "kept-token",
        "headers": {"X-A": "1234"},
    }


def test_the_stored_users_name_may_be_repeated(tmp_path):
    kept = stored_login(credential={"username": "ada", "password": "p"}, username="ada")
    assert credential(tmp_path, "--username", "ada", stored=kept) is None
    assert "no password" in refusal(tmp_path, "--username", "bob")


def test_a_login_that_was_kept_for_https_is_used_for_http(tmp_path):
    found, _ = take(tmp_path, "--url", "http://h:8188/x", stored=stored_login("https://h:8188/x"))
    assert (str(found.url), found.stored is not None) == ("https://h:8188/x", True)
    found, _ = take(tmp_path, "--url", "http://h", stored=stored_login("https://h"))
    assert str(found.url) == "https://h"
    found, _ = take(tmp_path, "--url", "https://g", stored=stored_login("http://g"))
    assert found.stored is None  # never the other way round


def test_a_damaged_login_is_told_and_can_be_replaced(tmp_path):
    app = make_app(tmp_path)
    path = app.login_store().save(stored_login())
    write(tmp_path, path, "{")
    assert "damaged" in refusal(tmp_path)
    assert take(tmp_path, anew=True)[0].stored is None


def test_a_new_login_is_not_the_one_that_is_kept(tmp_path):
    found, _ = take(tmp_path, "--token", "kept-token", stored=stored_login(), anew=True)
    assert found.credential.to_json() == {"token": "kept-token"}
    found, _ = take(tmp_path, "--username", "ada", anew=True)  # the password is asked for
    assert found.credential.to_json() == {"username": "ada"}


# The way back


def test_another_command_is_led_to_the_same_instance_without_secrets(tmp_path):
    write(tmp_path, "t", SECRET)
    args = ["--url", "http://h:1", "--token-file", "t", "--header", f"A={SECRET}", "--header", "B=@t", "--insecure"]
    found, _ = take(tmp_path, *args, "--username", "a", "--password", SECRET)
    words = found.words(URL("https://h:1"))
    assert words == [
        "--url", "https://h:1", "--username", "a", "--token-file", "t", "--insecure", "--header", "B=@t"
    ]  # fmt: skip
    assert take(tmp_path)[0].words(URL(URL_HERE)) == []
    found, _ = take(tmp_path, "--token-file", "-", stdin=b"x")
    assert found.words(URL(URL_HERE)) == []


# What is said


@given(secret=st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=4).filter(str.strip))
def test_what_is_told_holds_no_secret_that_is_in_use(secret, tmp_path_factory):
    app = make_app(tmp_path_factory.getbasetemp(), environ={"COMFYCLIENT_TOKEN": secret})
    found = given_login(app)
    app.stderr = io.StringIO()
    app.tell(f"the server said: {secret}")
    assert secret not in app.stderr.getvalue()
    assert found.credential.token.reveal() == secret
    assert secret not in repr(found)


WAYS = ["--token", "--password", "--header", "--url", "TOKEN", "PASSWORD", "API_KEY", "COOKIES", "--token-file"]
ODD = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(odd=ODD, way=st.sampled_from(WAYS), flags=st.sampled_from([["--json"], ["--debug", "-vv"], ["--nonsense"]]))
def test_no_end_of_a_command_tells_a_secret(odd, way, flags, tmp_path_factory):
    """Nobody listens there; or the options make no sense. Plain, percent-encoded and in base64."""
    secret = f"S3cr-{odd}-3nd"
    args, environ, stdin = ["info", *flags], {"COMFYCLIENT_URL": "http://127.0.0.1:1"}, b""
    if way == "--url":
        args += ["--url", f"http://u:{quote(secret, safe='')}@127.0.0.1:1"]
    elif way == "--token-file":
        args, stdin = [*args, way, "-"], secret.encode()
    elif way.startswith("--"):
        args += [way, f"X-A={secret}" if way == "--header" else secret, *(["--username", "a"] if "pass" in way else [])]
    else:
        environ[f"COMFYCLIENT_{way}"] = secret
    app = make_app(tmp_path_factory.getbasetemp(), environ=environ, stdin=stdin)
    found = run(app, *args)
    assert found.code in {2, 5}
    shown = found.out + found.err
    forms = [secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]]
    forms.append(base64.b64encode(secret.encode()).decode().rstrip("=")[:-1])
    assert not [form for form in forms if form in shown]


@pytest.mark.parametrize(
    ("home", "url", "goes"),
    [
        ("http://h:1", "http://h:1/prefix", True),
        ("https://h", "https://h:443", True),
        ("http://h", "http://other", False),
        ("http://h:1", "http://h:2", False),
        ("http://h", "http://h:443", False),
        ("https://h", "http://h", False),
        ("", "http://anywhere", True),
    ],
)
def test_the_environments_credential_stays_with_the_instance_that_it_names(home, url, goes, tmp_path):
    environ = {"COMFYCLIENT_URL": home, "COMFYCLIENT_TOKEN": SECRET}
    assert credential(tmp_path, "--url", url, environ=environ) == ({"token": SECRET} if goes else None)
    if home:
        assert credential(tmp_path, environ=environ) == {"token": SECRET}
