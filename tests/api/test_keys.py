"""API keys: where they are read from, and how they are compared."""

import hmac
import os
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyclient import ConfigError
from comfyclient.api import keys as module
from comfyclient.api.credentials import presented_key
from comfyclient.api.keys import ApiKeys

ALICE, BOB = "a-key-of-alice-0123456789", "a-key-of-bob-0123456789"


@pytest.fixture
def file(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "keys"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    return write


def refusal(act, *args):
    with pytest.raises(ConfigError) as caught:
        act(*args)
    said = f"{caught.value} {caught.value.hint}"
    assert ALICE not in said
    assert BOB not in said
    return said


def test_a_file_of_keys_is_read(file):
    keys = ApiKeys.read(
        file(f"\ufeff# who may\n\nalice:{ALICE}\r\n  bob : {BOB}  \nalice:{ALICE}2\nan-unnamed-key-0123\n")
    )
    assert keys
    assert keys.owners == {"alice", "bob", "key-4"}
    assert keys.identify(ALICE) == keys.identify(f"{ALICE}2") == "alice"
    assert keys.identify(BOB) == "bob"
    assert keys.identify("an-unnamed-key-0123") == "key-4"


@pytest.mark.parametrize(
    "text", ["", "# alice\n\n", f"alice:{ALICE}\nbob:{ALICE}\n", "alice:short\n", "alice:\n", f":{ALICE}\n"]
)
def test_a_file_that_holds_no_keys_or_something_else_is_refused(file, text):
    assert "the key file" in refusal(ApiKeys.read, file(text))


@pytest.mark.parametrize(
    "line", [f"al ice:{ALICE}", f"alice:{ALICE} {BOB}", "alice:clé-clé-clé-clé-clé", f"local:{ALICE}", f"a:b:{ALICE}"]
)
def test_a_line_that_is_no_key_is_refused(file, line):
    refusal(ApiKeys.read, file(line))


def test_a_file_that_is_no_text_is_refused(file):
    refusal(ApiKeys.read, file(b"\xff\xfe\x00" * 10))
    refusal(ApiKeys.read, file(b"#" * 100_000))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o606])
def test_a_file_that_others_can_read_is_refused_with_the_fix(file, mode):
    path = file(f"alice:{ALICE}", mode)
    said = refusal(ApiKeys.read, path)
    assert "API keys" in said
    assert f"chmod 600 {path}" in said


def test_a_file_of_somebody_else_is_refused(file, monkeypatch):
    path, uid = file(f"alice:{ALICE}"), os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    assert "another user" in refusal(ApiKeys.read, path)


def test_what_is_no_plain_file_is_refused(file, tmp_path):
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(file(f"alice:{ALICE}"))
    os.mkfifo(pipe, 0o600)
    assert "symlink" in refusal(ApiKeys.read, link)
    refusal(ApiKeys.read, pipe)
    refusal(ApiKeys.read, tmp_path)
    assert "there is no key file" in refusal(ApiKeys.read, tmp_path / "missing")


def test_no_keys_are_false():
    assert not ApiKeys.of({})
    assert ApiKeys.of({}).owners == {"local"}
    assert ApiKeys.of({}).identify("") is None


def test_a_key_is_shown_nowhere():
    keys = ApiKeys.of({"alice": ALICE})
    assert ALICE not in repr(keys)
    assert ALICE not in str(vars(keys))
    assert ALICE not in str(ConfigError(f"something with {ALICE}"))


@given(st.text(st.characters()) | st.sampled_from([ALICE, BOB]))
def test_every_key_is_compared_in_constant_time(presented):
    """Whatever is presented: as many comparisons as there are keys, each of texts of one length."""
    keys, compared = ApiKeys.of({"alice": ALICE, "bob": BOB}), []

    def compare(one, other):
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "hmac", SimpleNamespace(compare_digest=compare))
        found = keys.identify(presented)
    assert compared == [(32, 32), (32, 32)]
    assert found == {ALICE: "alice", BOB: "bob"}.get(presented)


@given(st.dictionaries(st.sampled_from(["authorization", "x-api-key"]), st.text()), st.booleans())
def test_whatever_is_presented_is_read_without_an_error(headers, basic):
    key = presented_key(headers, basic=basic)
    assert key is None or isinstance(key, str)
