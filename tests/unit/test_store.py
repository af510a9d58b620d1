"""Where logins rest: whole or not at all, for nobody else's eyes, in the keyring if there is one worth the name."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import keyring
import keyring.backend
import keyring.backends.chainer
import keyring.backends.fail
import keyring.backends.null
import keyring.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from comfyclient.auth.store import LoginStore, StoredLogin, private
from comfyclient.errors import ConfigError

SECRET = "do-not-tell-9f2c"
COOKIE = "cookie-value-77aa"
ADDRESS = URL("https://1.2.3.4:40001")
LOGIN = StoredLogin(
    url=str(ADDRESS),
    kind="vast",
    credential={"username": "vastai", "password": SECRET},
    cookies=[{"name": "C.1_auth_token", "value": f'"{COOKIE}"', "path": "/", "expires": None, "secure": True}],
    fingerprint="sha256:" + "ab" * 32,
    comfy_user="default",
    username="vastai",
    saved_at=1_790_000_000.5,
)
posix = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")


class Memory(keyring.backend.KeyringBackend):
    """A keyring that forgets everything with the process."""

    priority = 5

    def __init__(self):
        super().__init__()
        self.entries = {}

    def get_password(self, service, username):
        return self.entries.get((service, username))

    def set_password(self, service, username, password):
        self.entries[service, username] = password

    def delete_password(self, service, username):
        if self.entries.pop((service, username), None) is None:
            raise keyring.errors.PasswordDeleteError("no such entry")


class Plain(Memory):
    """What `keyrings.alt` is: passwords in a file that anybody may read."""

    priority = 9


class DerivedFromPlain(Plain):
    pass


class Unwanted(Memory):
    """Works, and says itself that it is not for this."""

    priority = 0


class Locked(Memory):
    def get_password(self, service, username):
        raise keyring.errors.KeyringLocked("locked")

    set_password = delete_password = lambda self, *_: self.get_password("", "")


class Failing(Memory):
    """Ends with what only its own library knows, and says too much."""

    def set_password(self, service, username, password):
        raise OSError(f"D-Bus went away with {password}")


class Forgetful(Memory):
    def set_password(self, service, username, password):
        pass


class NotHere(Memory):
    @property
    def priority(self):
        raise RuntimeError("no D-Bus")


class Chain(keyring.backends.chainer.ChainerBackend):
    backends = ()


Plain.__module__ = "keyrings.alt.file"
Chain.__module__ = keyring.backends.chainer.__name__
for kind in (Memory, Plain, DerivedFromPlain, Unwanted, Locked, Failing, Forgetful, NotHere, Chain):
    keyring.backend.KeyringBackend._classes.discard(kind)  # to exist is to be found by other tests


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch):
    """No test reaches the keyring of whoever runs it."""
    monkeypatch.setattr(keyring.core, "_keyring_backend", keyring.backends.fail.Keyring())


@pytest.fixture
def memory():
    backend = Memory()
    keyring.set_keyring(backend)
    return backend


@pytest.fixture
def store(tmp_path):
    return LoginStore(tmp_path / "config")


@contextlib.contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def everything_in(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def only_file(tmp_path):
    (path,) = (tmp_path / "config" / "instances").iterdir()
    return path


def test_what_is_saved_is_loaded_by_another_run(store, tmp_path):
    assert store.load(ADDRESS) is None
    assert store.list() == []
    where = store.save(LOGIN)
    assert where == str(only_file(tmp_path))
    assert LoginStore(tmp_path / "config").load(ADDRESS) == LOGIN
    newer = replace(LOGIN, credential={"token": "t2"}, cookies=[], fingerprint=None, username=None, comfy_user=None)
    assert store.save(newer) == where
    assert store.load(ADDRESS) == newer


def test_a_login_belongs_to_one_address(store):
    addresses = [
        "http://h.example",
        "https://h.example",
        "https://h.example:8443",
        "https://h.example/a",
        "https://h.example/A",
        "https://h.example/a/b",
        "https://h.example.",
        "https://[::1]:8188",
        "https://bücher.example",
    ]
    for address in addresses:
        store.save(replace(LOGIN, url=address, kind=address))
    assert [store.load(URL(address)).kind for address in addresses] == addresses
    assert len(store.list()) == len(addresses)
    assert store.load(URL("https://h.example:9000")) is None
    assert store.load(URL("https://h.example/b")) is None


@pytest.mark.parametrize(
    "spelling",
    [
        "HTTPS://H.Example/a",
        "https://h.example:443/a/",
        f"https://me:{SECRET}@h.example/a",
        f"https://h.example/a?token={SECRET}#x",
    ],
)
def test_other_spellings_of_an_address_are_the_same_and_what_is_secret_in_them_is_not_stored(store, tmp_path, spelling):
    store.save(replace(LOGIN, url=spelling, credential={}))
    assert store.load(URL("https://h.example/a")).url == "https://h.example/a"
    assert store.load(URL(spelling)).url == "https://h.example/a"
    assert SECRET.encode() not in everything_in(tmp_path)
    assert SECRET not in str(only_file(tmp_path))
    assert store.delete(URL(spelling))
    assert store.list() == []


@pytest.mark.parametrize(
    "url", ["", "nothing", "/path", "ftp://h.example", "http://", "https://h.example:99999", "https://[::1"]
)
def test_what_is_no_address_is_refused(store, url):
    with pytest.raises(ConfigError):
        store.save(replace(LOGIN, url=url))


@posix
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_files_and_folders_are_the_users_own_whatever_the_umask(tmp_path, mask):
    with umask(mask):
        LoginStore(tmp_path / "home" / "config").save(LOGIN)
        assert LoginStore(tmp_path / "home" / "config").load(ADDRESS) == LOGIN
    (path,) = (tmp_path / "home" / "config" / "instances").iterdir()
    assert mode(path) == 0o600
    for folder in list(path.parents)[:3]:
        assert mode(folder) == 0o700


@posix
@pytest.mark.parametrize("bits", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610])
def test_a_file_that_others_can_open_is_refused_with_the_fix(store, tmp_path, bits):
    store.save(LOGIN)
    path = only_file(tmp_path)
    path.chmod(bits)
    with pytest.raises(ConfigError) as caught:
        store.load(ADDRESS)
    assert str(path) in str(caught.value)
    assert caught.value.hint == f"chmod 600 {path}"
    subprocess.run(caught.value.hint, shell=True, check=True)
    assert store.load(ADDRESS) == LOGIN


@posix
def test_the_fix_is_right_in_a_folder_with_a_space(tmp_path):
    store = LoginStore(tmp_path / "my config")
    Path(store.save(LOGIN)).chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        store.load(ADDRESS)
    subprocess.run(caught.value.hint, shell=True, check=True)
    assert store.load(ADDRESS) == LOGIN


@posix
@pytest.mark.parametrize(
    ("inner", "bits"), [(True, 0o755), (True, 0o710), (True, 0o702), (False, 0o775), (False, 0o702)]
)
def test_a_folder_that_others_could_work_in_is_refused_with_the_fix(store, tmp_path, inner, bits):
    store.save(LOGIN)
    folder = tmp_path / "config" / "instances" if inner else tmp_path / "config"
    folder.chmod(bits)
    for attempt in (lambda: store.load(ADDRESS), store.list, lambda: store.save(LOGIN)):
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert caught.value.hint == f"chmod 700 {folder}"
    subprocess.run(caught.value.hint, shell=True, check=True)
    assert store.load(ADDRESS) == LOGIN


@posix
def test_a_settings_folder_that_others_may_look_into_or_that_is_linked_is_fine(tmp_path):
    (tmp_path / "dotfiles").mkdir(mode=0o755)
    (tmp_path / "config").symlink_to("dotfiles")
    store = LoginStore(tmp_path / "config")
    store.save(LOGIN)
    assert store.load(ADDRESS) == LOGIN
    assert mode(tmp_path / "dotfiles" / "instances") == 0o700


@posix
def test_what_belongs_to_another_user_is_refused(store, tmp_path, monkeypatch):
    store.save(LOGIN)
    somebody = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    for attempt in (lambda: store.load(ADDRESS), store.list, lambda: store.save(LOGIN)):
        with pytest.raises(ConfigError, match="belongs to another user"):
            attempt()
    monkeypatch.setattr(private, "check_folder", lambda *_, **__: True)
    with pytest.raises(ConfigError, match="belongs to another user"):
        private.read_private(only_file(tmp_path), 10**6)


def replaced_by(kind, path, aside):
    """Put something else in the place of ``path``; returns what to close at the end."""
    path.rename(aside)
    if kind == "symlink":
        path.symlink_to(aside)
    elif kind == "dangling symlink":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir(0o700)
    elif kind == "socket":
        listener = socket.socket(socket.AF_UNIX)
        with contextlib.chdir(path.parent):  # the names of sockets are short
            listener.bind(path.name)
        return listener
    return contextlib.nullcontext()


@posix
@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "loop", "pipe", "folder", "socket"])
def test_what_is_no_plain_file_is_refused_and_can_be_forgotten(store, tmp_path, kind):
    store.save(LOGIN)
    path = only_file(tmp_path)
    with replaced_by(kind, path, tmp_path / "aside"):
        with pytest.raises(ConfigError) as caught:
            store.load(ADDRESS)
        assert str(path) in str(caught.value)
        assert caught.value.hint
        (summary,) = store.list()
        assert summary.path == path
        assert str(path) in summary.problem
        if kind == "folder":
            with pytest.raises(ConfigError, match="cannot remove"):
                store.delete(ADDRESS)
            return
        assert store.delete(ADDRESS)
        assert not os.path.lexists(path)
        assert (tmp_path / "aside").exists()


@posix
def test_saving_over_a_symlink_replaces_it_and_leaves_its_target_alone(store, tmp_path):
    store.save(LOGIN)
    path = only_file(tmp_path)
    replaced_by("symlink", path, tmp_path / "aside")
    (tmp_path / "aside").write_text("mine")
    store.save(LOGIN)
    assert not path.is_symlink()
    assert store.load(ADDRESS) == LOGIN
    assert (tmp_path / "aside").read_text() == "mine"


@posix
@pytest.mark.parametrize("kind", ["symlink", "pipe"])
def test_the_folder_itself_must_be_one(store, tmp_path, kind):
    store.save(LOGIN)
    replaced_by(kind, tmp_path / "config" / "instances", tmp_path / "aside")
    for attempt in (lambda: store.load(ADDRESS), store.list, lambda: store.save(LOGIN)):
        with pytest.raises(ConfigError):
            attempt()


@posix
def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "config").write_text("a file")
    with pytest.raises(ConfigError, match="config"):
        LoginStore(tmp_path / "config").save(LOGIN)


DAMAGE = {
    "empty": lambda _: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "no JSON": lambda _: b"\xff\x00{",
    "deep": lambda _: b"[" * 100_000,
    "another shape": lambda _: b"[]",
    "a field too few": lambda data: json.dumps({k: v for k, v in json.loads(data).items() if k != "kind"}).encode(),
    "a field too many": lambda data: json.dumps(json.loads(data) | {"x": 1}).encode(),
    "a wrong type": lambda data: json.dumps(json.loads(data) | {"kind": 7}).encode(),
    "no number": lambda data: json.dumps(json.loads(data) | {"saved_at": float("nan")}).encode(),
    "another version": lambda data: json.dumps(json.loads(data) | {"version": 2}).encode(),
    "the login of another instance": lambda data: data.replace(b":40001", b":40002"),
    "an address that is none": lambda data: data.replace(b"https://1", b"mailto:1"),
    "an unreadable address": lambda data: data.replace(b"https://1.2.3.4", b"https://[::1"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_and_a_new_login_mends_it(store, tmp_path, damage):
    store.save(LOGIN)
    path = only_file(tmp_path)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(ConfigError, match="damaged") as caught:
        store.load(ADDRESS)
    assert str(path) in str(caught.value)
    assert "log in again" in caught.value.hint
    assert SECRET not in str(caught.value) + str(caught.value.hint)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    (summary,) = store.list()
    assert "damaged" in summary.problem
    assert "log in again" in summary.problem
    store.save(LOGIN)
    assert store.load(ADDRESS) == LOGIN
    path.write_bytes(b"damaged once more")
    assert store.delete(ADDRESS)


def test_a_file_of_any_size_is_not_read_whole(store, tmp_path):
    store.save(LOGIN)
    with only_file(tmp_path).open("r+b") as file:
        file.truncate(2**40)  # a terabyte of holes
    with pytest.raises(ConfigError, match="too large"):
        store.load(ADDRESS)


def test_what_could_not_be_read_again_is_not_stored(store, tmp_path):
    store.save(LOGIN)
    for bad in (
        replace(LOGIN, credential={"password": SECRET + "x" * 2**20}),
        replace(LOGIN, credential={"password": object()}),
        replace(LOGIN, credential={"n": float("nan")}),
        replace(LOGIN, credential=[SECRET]),
        replace(LOGIN, cookies=[SECRET]),
        replace(LOGIN, kind=""),
        replace(LOGIN, saved_at="now"),
    ):
        with pytest.raises(ConfigError, match="stored") as caught:
            store.save(bad)
        assert SECRET not in str(caught.value)
    assert store.load(ADDRESS) == LOGIN
    assert len(list((tmp_path / "config" / "instances").iterdir())) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.text(max_size=8), JSON, max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FIELDS, st.lists(FIELDS, max_size=3), st.booleans())
def test_every_credential_comes_back_as_it_was(tmp_path, credential, cookies, in_keyring):
    keyring.set_keyring(Memory() if in_keyring else keyring.backends.null.Keyring())
    store = LoginStore(tmp_path / "config")
    login = replace(LOGIN, credential=credential, cookies=cookies)
    assert (store.save(login) == "keyring") == in_keyring
    assert store.load(ADDRESS) == login


@posix
@pytest.mark.parametrize("moment", ["fchmod", "fsync", "rename"])
def test_killed_while_it_writes_it_leaves_the_old_login_whole(store, tmp_path, moment):
    store.save(LOGIN)
    setup = f"""
        import os, pathlib, signal, sys
        from comfyclient.auth.store import LoginStore, StoredLogin

        def die(*_, **__):
            os.kill(os.getpid(), signal.SIGKILL)

        if {moment!r} == "rename":
            pathlib.Path.replace = die
        else:
            os.{moment} = die
        login = StoredLogin(**{vars_of(replace(LOGIN, kind="second"))!r})
        LoginStore(pathlib.Path(sys.argv[1]), use_keyring=False).save(login)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(setup), str(tmp_path / "config")], check=False)
    assert killed.returncode == -9
    left = [path for path in (tmp_path / "config" / "instances").iterdir() if path.suffix == ".tmp"]
    assert [mode(path) for path in left] == [0o600]
    assert store.load(ADDRESS) == LOGIN
    assert [summary.kind for summary in store.list()] == ["vast"]
    assert store.delete(ADDRESS)  # also what the crash left: it holds secrets
    assert list((tmp_path / "config" / "instances").iterdir()) == []


def vars_of(login):
    return {name: getattr(login, name) for name in StoredLogin.__slots__}


def test_a_disk_that_is_full_leaves_the_old_login_whole(store, tmp_path, monkeypatch):
    store.save(LOGIN)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"cannot write .*no space left") as caught:
        store.save(replace(LOGIN, kind="second"))
    assert str(only_file(tmp_path)) in str(caught.value)  # and no other file is left
    monkeypatch.undo()
    assert store.load(ADDRESS) == LOGIN


@posix
def test_a_file_is_made_and_never_found(store, tmp_path, monkeypatch):
    store.save(LOGIN)
    monkeypatch.setattr(private.secrets, "token_hex", lambda _: "0")
    (tmp_path / "mine").write_text("mine")
    path = only_file(tmp_path)
    path.with_name(f".{path.name}.0.tmp").symlink_to(tmp_path / "mine")
    with pytest.raises(ConfigError, match="cannot write"):
        store.save(replace(LOGIN, kind="second"))
    assert (tmp_path / "mine").read_text() == "mine"
    assert store.load(ADDRESS) == LOGIN


def test_two_processes_that_save_at_once_leave_one_whole_login(tmp_path):
    folder = tmp_path / "config"
    code = """
        import pathlib, sys
        from comfyclient.auth.store import LoginStore, StoredLogin

        name = sys.argv[2]
        login = StoredLogin("https://1.2.3.4:40001", name, {"password": name * 50_000}, [], None, None, name, 1.0)
        store = LoginStore(pathlib.Path(sys.argv[1]), use_keyring=False)
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(40):
            store.save(login)
    """
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(folder), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in "ab"
    ]  # fmt: skip
    store = LoginStore(folder, use_keyring=False)
    seen = set()
    with contextlib.ExitStack() as running:
        for writer in writers:
            running.enter_context(writer)
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        while any(writer.poll() is None for writer in writers):
            if (login := store.load(ADDRESS)) is not None:
                assert login.credential == {"password": login.username * 50_000}
                seen.add(login.kind)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen <= {"a", "b"}
    assert len(list((folder / "instances").iterdir())) == 1
    assert store.load(ADDRESS).kind in {"a", "b"}


def test_deleting_forgets_one_login_and_says_whether_there_was_one(store):
    other = URL("https://1.2.3.4:40002")
    store.save(LOGIN)
    store.save(replace(LOGIN, url=str(other)))
    assert store.delete(ADDRESS)
    assert not store.delete(ADDRESS)
    assert store.load(ADDRESS) is None
    assert store.load(other) is not None


def test_the_list_shows_what_is_stored_and_no_secret(store, tmp_path):
    store.save(LOGIN)
    store.save(replace(LOGIN, url="http://a.example", kind="open", username=None))
    first, second = store.list()
    assert (first.url, first.kind, first.username, first.where) == ("http://a.example", "open", None, "file")
    assert (second.url, second.username, second.saved_at) == (str(ADDRESS), "vastai", LOGIN.saved_at)
    assert first.problem is second.problem is None
    for text in (repr(store.list()), repr(LOGIN), repr(store.load(ADDRESS)), f"{LOGIN}"):
        assert SECRET not in text
        assert COOKIE not in text
    assert repr(LOGIN) == "StoredLogin(url='https://1.2.3.4:40001', kind='vast')"


@posix
def test_the_list_goes_on_after_a_file_that_cannot_be_used(store, tmp_path):
    store.save(LOGIN)
    only_file(tmp_path).chmod(0o644)
    store.save(replace(LOGIN, url="http://a.example"))
    problem, fine = store.list()
    assert problem.url is None
    assert f"chmod 600 {problem.path}" in problem.problem
    assert fine.url == "http://a.example"


def test_with_a_keyring_the_file_holds_no_secret(store, tmp_path, memory):
    assert store.save(LOGIN) == "keyring"
    assert list(memory.entries) == [("comfyclient", str(ADDRESS))]
    kept = everything_in(tmp_path)
    assert SECRET.encode() not in kept
    assert COOKIE.encode() not in kept
    assert LoginStore(tmp_path / "config").load(ADDRESS) == LOGIN
    assert store.delete(ADDRESS)
    assert memory.entries == {}
    assert list((tmp_path / "config" / "instances").iterdir()) == []
    assert not store.delete(ADDRESS)


def test_the_list_never_asks_the_keyring(store, memory):
    store.save(LOGIN)
    keyring.set_keyring(Locked())
    (summary,) = store.list()
    assert (summary.url, summary.where, summary.problem) == (str(ADDRESS), "keyring", None)


def test_gone_from_the_keyring_means_to_log_in_again(store, memory):
    store.save(LOGIN)
    memory.entries.clear()
    with pytest.raises(ConfigError, match="gone from the keyring") as caught:
        store.load(ADDRESS)
    assert caught.value.hint == "log in again: comfyclient login https://1.2.3.4:40001"
    assert store.save(LOGIN) == "keyring"
    assert store.load(ADDRESS) == LOGIN


@pytest.mark.parametrize("backend", [Locked, keyring.backends.fail.Keyring, Plain])
def test_a_keyring_that_does_not_open_again_is_said(store, memory, backend):
    store.save(LOGIN)
    keyring.set_keyring(backend())
    with pytest.raises(ConfigError, match="is in the keyring, which") as caught:
        store.load(ADDRESS)
    assert "log in again" in caught.value.hint
    with pytest.raises(ConfigError, match="could not remove its entry") as caught:
        store.delete(ADDRESS)
    assert "service comfyclient, user https://1.2.3.4:40001" in caught.value.hint
    assert store.load(ADDRESS) is None


@pytest.mark.parametrize("text", ["", "{}", "no JSON", '{"version": 1}'])
def test_a_damaged_entry_means_to_log_in_again(store, memory, text):
    store.save(LOGIN)
    memory.entries["comfyclient", str(ADDRESS)] = text
    with pytest.raises(ConfigError, match="damaged in the keyring") as caught:
        store.load(ADDRESS)
    assert "log in again" in caught.value.hint


def test_the_entry_of_another_instance_is_not_taken(store, memory):
    store.save(LOGIN)
    store.save(replace(LOGIN, url="https://1.2.3.4:40002"))
    memory.entries["comfyclient", str(ADDRESS)] = memory.entries["comfyclient", "https://1.2.3.4:40002"]
    with pytest.raises(ConfigError, match="damaged in the keyring"):
        store.load(ADDRESS)


@pytest.mark.parametrize(
    "backend",
    [
        keyring.backends.fail.Keyring, keyring.backends.null.Keyring, Plain, DerivedFromPlain, Unwanted,
        Locked, Failing, Forgetful, NotHere,
    ],
)  # fmt: skip
def test_without_a_keyring_that_works_a_file_takes_its_place(tmp_path, backend, caplog):
    keyring.set_keyring(chosen := backend())
    store = LoginStore(tmp_path / "config")
    assert store.save(LOGIN) == str(only_file(tmp_path))
    assert store.load(ADDRESS) == LOGIN
    assert getattr(chosen, "entries", {}) == {}
    with pytest.raises(ConfigError, match="the keyring cannot take the login") as caught:
        LoginStore(tmp_path / "config", use_keyring=True).save(LOGIN)
    assert SECRET not in str(caught.value) + caplog.text
    assert store.load(ADDRESS) == LOGIN
    assert store.delete(ADDRESS)


def test_without_the_keyring_package_a_file_takes_its_place(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert store.save(LOGIN) == str(only_file(tmp_path))
    assert store.load(ADDRESS) == LOGIN
    with pytest.raises(ConfigError) as caught:
        LoginStore(tmp_path / "config", use_keyring=True).save(LOGIN)
    assert "comfyclient[keyring]" in caught.value.hint


def test_a_configured_backend_that_does_not_exist_is_no_keyring(store, monkeypatch):
    monkeypatch.setattr(keyring, "get_keyring", lambda: (_ for _ in ()).throw(AttributeError("no class of that name")))
    assert store.save(LOGIN) != "keyring"


def test_of_a_chain_only_the_best_that_keeps_secrets_is_asked(store, monkeypatch):
    members = [Plain(), NotHere(), Memory(), Memory()]

    monkeypatch.setattr(Chain, "backends", members)
    keyring.set_keyring(Chain())
    assert store.save(LOGIN) == "keyring"
    assert [len(member.entries) for member in members] == [0, 0, 1, 0]
    assert store.load(ADDRESS) == LOGIN


def test_switched_off_the_keyring_is_left_alone(tmp_path, memory):
    store = LoginStore(tmp_path / "config", use_keyring=False)
    assert store.save(LOGIN) == str(only_file(tmp_path))
    assert memory.entries == {}
    LoginStore(tmp_path / "config").save(LOGIN)
    with pytest.raises(ConfigError, match="switched off"):
        store.load(ADDRESS)


def test_a_login_that_moves_to_a_file_leaves_no_older_one_in_the_keyring(tmp_path, memory, caplog):
    LoginStore(tmp_path / "config").save(LOGIN)
    LoginStore(tmp_path / "config", use_keyring=False).save(LOGIN)
    assert memory.entries == {}
    LoginStore(tmp_path / "config").save(LOGIN)
    keyring.set_keyring(Locked())
    assert LoginStore(tmp_path / "config").save(LOGIN) == str(only_file(tmp_path))
    assert "an older login stays in the keyring (service comfyclient, user https://1.2.3.4:40001)" in caplog.text


def test_logging_out_removes_an_entry_whose_file_is_lost_or_damaged(store, tmp_path, memory):
    for spoil in (lambda path: path.unlink(), lambda path: path.write_bytes(b"{")):
        store.save(LOGIN)
        spoil(only_file(tmp_path))
        assert store.delete(ADDRESS)
        assert memory.entries == {}


def test_where_there_are_no_modes_they_are_not_asked_for(store, tmp_path, monkeypatch):
    store.save(LOGIN)
    monkeypatch.setattr(private, "_POSIX", False)
    only_file(tmp_path).chmod(0o666)
    (tmp_path / "config" / "instances").chmod(0o777)
    assert store.load(ADDRESS) == LOGIN
    store.save(replace(LOGIN, kind="second"))
    assert store.load(ADDRESS).kind == "second"


def test_a_symlink_is_refused_also_where_the_system_cannot_do_so(store, tmp_path, monkeypatch):
    store.save(LOGIN)
    replaced_by("symlink", only_file(tmp_path), tmp_path / "aside")
    monkeypatch.setattr(private, "_NO_FOLLOW", 0)
    monkeypatch.setattr(private, "_FLAGS", 0)
    with pytest.raises(ConfigError, match="symlink"):
        store.load(ADDRESS)


def test_nothing_heavy_is_imported_where_nothing_is_stored(tmp_path):
    code = """
        import pathlib, sys
        from yarl import URL
        from comfyclient.auth.store import LoginStore

        store = LoginStore(pathlib.Path(sys.argv[1]))
        assert store.load(URL("http://127.0.0.1:8188")) is None and store.list() == []
        print(sorted({"pydantic", "keyring"} & sys.modules.keys()))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
