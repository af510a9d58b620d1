"""Secrets are found in whatever guise a server repeats them, also in several at once, and nothing else is."""

import base64
import html
import json
import re
import urllib.parse

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from comfyclient._disguises import disguises_of
from comfyclient._redact import MASK, Secret, redact, redact_json

MARK = "Kq7ZxW"  # in no encoding of anything else
AWKWARD = (
    "a.*[b]+(c)$", "it's \"so\"", "100%25 %41%zz%", '%5c%255C"', " spaced  out ", "ünïcödé", "日本語🎉", "\\u00e9\\",
    '\\\\"\\', "a+b/c==", "</script>&amp;", "&#39;", "%", "%2", "\\", "\\n", "\n\t\0\x7f\x85", "\u2028", "=;,&",
)  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(AWKWARD)
secrets = st.builds("{}{}{}".format, texts, st.just(MARK), texts)


def around():
    return st.text("abc .:/=&?\"'\\%25nux0", max_size=12)


def in_json(text):
    return json.dumps({"said": text})


def as_latin_1(text):
    """What those make of it who do not know that it is UTF-8."""
    return text.encode().decode("latin-1")


ENCODINGS = {
    "json": in_json,
    "json, in utf-8": lambda text: json.dumps([text], ensure_ascii=False),
    "json, with slashes": lambda text: json.dumps(text).replace("/", "\\/"),
    "percent": lambda text: urllib.parse.quote(text, safe=""),
    "percent, as a path": urllib.parse.quote,
    "percent, as a form": lambda text: urllib.parse.urlencode({"said": text}),
    "percent, small": lambda text: re.sub("%..", lambda found: found[0].lower(), urllib.parse.quote(text)),
    "repr": repr,
    "ascii": ascii,
    "html": html.escape,
}
encodings = st.sampled_from(sorted(ENCODINGS))


@settings(max_examples=1000, deadline=None)
@example(secret='p"w\\rd' + MARK, steps=["json", "json", "percent"], before="", after="")
@example(secret='p"w\\rd' + MARK, steps=["percent", "percent", "json"], before="", after="")
@example(secret=MARK + " ü", steps=["percent, as a form", "percent", "percent"], before="%", after="25")
@given(secret=secrets, steps=st.lists(encodings, max_size=3), before=around(), after=around())
def test_any_mixture_of_encodings_of_a_text_that_holds_it_is_masked(secret, steps, before, after):
    # What stands for a backslash, as a part of the secret itself, is looked for as it is, and in one encoding.
    assume(not re.search("%(25)*5c", secret, re.IGNORECASE) or len(steps) <= 1)
    kept = Secret(secret)
    text = before + secret + after
    for step in steps:
        text = ENCODINGS[step](text)
    masked = redact(text)
    assert MARK not in masked
    assert MASK in masked
    assert kept.is_in(text)
    assert not kept.is_in(masked)


@settings(max_examples=300, deadline=None)
@given(secret=secrets, first=st.sampled_from(["json", "percent", None]), steps=st.lists(encodings, max_size=2))
def test_what_somebody_read_as_latin_1_is_masked(secret, first, steps):
    assume(not re.search("%(25)*5c", secret, re.IGNORECASE))
    kept = Secret(secret)
    text = as_latin_1(ENCODINGS[first](secret) if first else secret)
    for step in steps:
        text = ENCODINGS[step](text)
    assert MARK not in redact(text)
    assert kept


@settings(max_examples=500, deadline=None)
@given(
    secret=secrets, inner=st.sampled_from(["json", "json, in utf-8", "percent", None]), outer=encodings,
    before=around(), after=around(), encode=st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]),
)  # fmt: skip
def test_base64_of_an_encoding_is_masked_within_another(secret, inner, outer, before, after, encode):
    kept = Secret(secret)
    text = before + secret + after
    inside = (ENCODINGS[inner](text) if inner else text).encode()
    told = encode(inside).decode()
    masked = redact(ENCODINGS[outer](told))
    assert MASK in masked
    assert kept
    left = re.sub("[^A-Za-z0-9+/]", " ", urllib.parse.unquote(masked).replace("-", "+").replace("_", "/"))
    whole = told.replace("-", "+").replace("_", "/").rstrip("=")
    for part in left.split():
        place = whole.find(part)  # what is left of it stands where it stood, and says no more than its neighbours
        if len(part) >= 8 and place >= 0:
            digits = whole[-(-place // 4) * 4 : (place + len(part)) // 4 * 4]
            assert MARK.encode() not in base64.b64decode(digits)


@pytest.mark.parametrize("encode", [json.dumps, lambda text: urllib.parse.quote(text, safe="")])
def test_the_texts_of_json_are_masked_in_any_guise(encode):
    secret = Secret('tok"\\en&Kq7ZxW')
    told = encode(encode(secret.reveal()))
    assert MARK not in json.dumps(redact_json({"said": [told, {told: told}]}))


@pytest.mark.parametrize("secret", ["\\\\\\\\", '\\\\\\"', "\\\"\\'", "\\\\ab", "    "])
def test_a_secret_of_backslashes_does_not_blot_out_those_of_others(secret):
    kept = Secret(secret)
    for text in ('{"a": "b\\"c"}', "C:\\ab\\cd", 'it\'s "so"', "x\\ny"):
        assert redact(text) == text
    for told in (secret, json.dumps(secret), json.dumps(json.dumps(secret)), urllib.parse.quote(secret)):
        assert MASK in redact(f"told: {told}") or not secret.strip()
    assert kept


@given(
    secret=secrets, text=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("%25\\u0n&;"), max_size=80)
)
def test_what_is_no_guise_of_it_stays(secret, text):
    assume(MARK not in text)
    assert not any(list(found.spans(text)) for found in disguises_of(secret) if len(found.core) >= len(MARK))


@pytest.mark.parametrize("secret", ['"\\a%', "%%%%", "&&&&a", "%5c%5c%5ca%", "\\%\\%a", 'a"b\\c%d', "äöü?"])
@pytest.mark.parametrize(
    "part", ["\\", "%25", "%5c", "&amp;", "%" + "25" * 9, "a" + "\\" * 9, "&#" + "0" * 9, "25", "%c3"]
)
def test_no_text_takes_longer_than_its_length_demands(secret, part):
    """Steps that multiply would not come to an end here."""
    assert all(len(list(found.spans(part * 20_000))) >= 0 for found in disguises_of(secret))


LONG = ("a&" * 12_000, '"\\' * 2_000, "日本" * 3_000, "a" * 24_000, "%5c" * 8_000, "\\" * 9_000 + "word")


@pytest.mark.parametrize("secret", LONG, ids=lambda secret: secret[:4])
def test_a_long_secret_is_masked_in_the_most_common_encodings(secret):
    """Each of these would be a regular expression of megabytes, which takes minutes to be made."""
    kept = Secret(secret)
    encoded = (json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret))
    for told in (secret, *encoded, base64.b64encode(secret.encode()).decode().rstrip("=")):
        masked = redact(f"told: {told} .")
        assert MASK in masked
        assert len(masked) < 40
    assert redact(secret[:-1]) == secret[:-1]
    assert redact("&%日\\" * 20_000) == "&%日\\" * 20_000
    assert kept


@pytest.mark.parametrize("size", [64, 1000, 4000])
def test_a_long_token_is_found_in_any_guise_if_it_is_as_tokens_are(size):
    kept = Secret("-".join(MARK + "x" * 50 for _ in range(size // 57 + 1)))
    for told in (json.dumps(json.dumps(kept.reveal())), urllib.parse.quote(kept.reveal()).replace("-", "%252D")):
        assert MARK not in redact(told)
