"""Secrets are masked in every form that gives them away, and nothing else is."""

import asyncio
import base64
import contextvars
import gc
import io
import json
import logging
import pickle
import urllib.parse

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from comfyclient._redact import MASK, RedactingFilter, Secret, keep_apart, redact, redact_json
from comfyclient.errors import AuthError, CheckFailed, JobFailed, Problem
from comfyclient.threads import in_thread

secrets = st.text(st.characters(exclude_categories=["Cs"]), min_size=6, max_size=40)
long_secrets = st.text(st.characters(exclude_categories=["Cs"]), min_size=12, max_size=40)
around = st.text("abc .:/=&?\"'", max_size=20)


def encodings(value):
    """How a secret turns up in texts."""
    raw = value.encode()
    return [
        value,
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        repr(value),
        urllib.parse.quote(value, safe=""),
        urllib.parse.quote(value).replace("%2F", "%2f"),
        urllib.parse.quote_plus(value),
        urllib.parse.urlencode({"token": value}),
        raw.decode("latin-1"),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
    ]


@given(value=secrets, before=around, after=around)
def test_no_form_of_a_secret_survives(value, before, after):
    assume(value.strip() == value)
    assume(not any(form in before + after for form in encodings(value)))
    secret = Secret(value)
    for form in encodings(value)[:-2]:
        masked = redact(before + form + after)
        assert value not in masked
        assert urllib.parse.quote(value, safe="") not in masked
        assert MASK in masked
    assert secret.reveal() == value


@given(value=long_secrets, before=st.binary(max_size=12), after=st.binary(max_size=12), safe=st.booleans())
def test_base64_of_anything_around_a_secret_gives_none_of_it_away(value, before, after, safe):
    secret = Secret(value)
    encode, decode = (
        (base64.urlsafe_b64encode, base64.urlsafe_b64decode) if safe else (base64.b64encode, base64.b64decode)
    )
    masked = redact("Basic " + encode(before + value.encode() + after).decode())
    assert MASK in masked
    for part in masked.removeprefix("Basic ").split(MASK):
        digits = part.rstrip("=")
        known = decode(digits[: len(digits) // 4 * 4])
        assert value.encode() not in known
    assert secret


def test_a_secret_shows_itself_to_nobody():
    secret = Secret("hunter2hunter2")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>30}", f"{secret!r}", str([secret]), str({"a": secret})]
    assert not any("hunter2" in text for text in shown)
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_what_is_no_secret_any_more_is_not_masked():
    secret = Secret("no-longer-needed")
    assert redact("no-longer-needed") == MASK
    del secret
    gc.collect()
    assert redact("no-longer-needed") == "no-longer-needed"


def test_texts_that_only_resemble_it_stay():
    secret = Secret("correct horse")
    assert redact("correct house, horse correct") == "correct house, horse correct"
    assert secret


def test_a_text_too_short_to_hide_anything_blots_nothing_out():
    secret = Secret("a")
    assert redact("a banana") == "a banana"
    assert secret


def test_errors_mask_what_a_server_put_into_its_answer():
    secret = Secret("tok-123456")
    error = AuthError("no: tok-123456", hint="not tok-123456")
    problems = CheckFailed([Problem("x", "bad tok-123456", details="tok%2D123456 tok-123456")])
    failed = JobFailed("raised tok-123456", prompt_id="p", traceback=["tok-123456"], exception_type="tok-123456")
    for raised in (error, problems, failed):
        for text in (str(raised), repr(raised), json.dumps(raised.to_json()), str(raised.args), str(raised.hint)):
            assert "tok-123456" not in text
    assert secret


def test_json_is_masked_throughout():
    secret = Secret("tok-123456")
    assert redact_json({"tok-123456": ["tok-123456", {"a": "x tok-123456"}, 5, None]}) == {
        MASK: [MASK, {"a": f"x {MASK}"}, 5, None]
    }
    assert secret


def test_json_without_a_bottom_is_masked():
    secret, deep = Secret("tok-123456"), "tok-123456"
    for _ in range(5000):
        deep = [deep]
    masked = redact_json(deep)
    while isinstance(masked, list):
        masked = masked[0]
    assert masked == MASK
    assert secret


def test_log_records_are_masked_with_their_arguments_and_tracebacks():
    secret = Secret("tok-123456")
    log, stream = logging.getLogger("comfyclient.test"), io.StringIO()
    log.addFilter(RedactingFilter())
    log.addHandler(logging.StreamHandler(stream))
    log.warning("sent %s and %r", "tok-123456", {"a": "tok-123456"})
    try:
        raise ValueError("tok-123456")
    except ValueError:
        log.exception("it failed")
    assert "it failed" in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert "tok-123456" not in stream.getvalue()
    assert secret


def working_for(user, work):
    """What comes of some work for a user."""

    def begin():
        keep_apart(user)
        return work()

    return contextvars.copy_context().run(begin)


def test_in_texts_for_one_user_the_secrets_of_others_are_left_alone():
    alices = working_for("alice", lambda: Secret("tok-of-alice"))
    nobodys, bobs = Secret("tok-of-nobody"), Secret("tok-of-bob", user="bob")
    text = "tok-of-alice tok-of-bob tok-of-nobody"
    assert working_for("alice", lambda: redact(text)) == f"{MASK} tok-of-bob {MASK}"
    assert working_for("bob", lambda: str(AuthError(text))) == f"tok-of-alice {MASK} {MASK}"
    assert redact(text) == f"{MASK} {MASK} {MASK}"
    assert all((alices, bobs, nobodys))


async def test_what_a_user_has_begun_goes_on_for_him_in_tasks_and_threads():
    async def mask():
        return redact("tok-of-bob"), await in_thread(lambda: redact("tok-of-bob"))

    async def begin():
        keep_apart("alice")
        return await asyncio.create_task(mask())

    secret = Secret("tok-of-bob", user="bob")
    assert await asyncio.create_task(begin()) == ("tok-of-bob", "tok-of-bob")
    assert await mask() == (MASK, MASK)
    assert secret


def test_a_log_shows_no_secret_whoever_it_is_written_for():
    secret = Secret("tok-of-bob", user="bob")
    record = logging.LogRecord("x", logging.INFO, "x", 1, "sent %s", ("tok-of-bob",), None)
    working_for("alice", lambda: RedactingFilter().filter(record))
    assert record.getMessage() == f"sent {MASK}"
    assert secret


def test_the_names_of_fields_of_an_error_stay_what_they_are():
    words = [Secret(word) for word in ("code", "message", "problems", "check_failed", "node_id")]
    told = CheckFailed([Problem("bad", "the message", node_id="3")]).to_json()
    assert told.keys() >= {"code", "message", "problems", "hint"}
    assert told["code"] == "check_failed"
    assert told["problems"] == [{"code": "bad", "message": f"the {MASK}", "node_id": "3"}]
    assert words
