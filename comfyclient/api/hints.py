"""The client's hints are for those at a command line; callers of the REST API have other words for the same."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["for_callers"]

_AGAIN: Final = "start another session: POST /sessions"
_COOKIES: Final = "log in with a browser, and give its cookies as `credentials.cookies`"
_PASSWORD: Final = "give `credentials.username` and `credentials.password`"  # noqa: S105 - words
_WHOLE: Final = (
    ("vast's Open button",
     (f"{_PASSWORD}, the user being vastai unless it was changed, or the instance's token as `credentials.token`; or "
     "the link of vast's Open button as `url`")),
    ("put the token into a file", "give `credentials.token`"),
    ("put the API key into a file", "give `credentials.api_key`"),
    ("The token that ComfyUI prints",
     "give `credentials.password`, or the token that ComfyUI prints when it starts as `credentials.token`"),
    ("if the page needs JavaScript", f"{_PASSWORD}; if the page needs JavaScript, {_COOKIES}"),
    ("CF-Access-Client-Secret",
     ("give a service token that is valid as `credentials.access_id` and `credentials.access_secret` (the action of "
     f"its policy must be Service Auth), or {_COOKIES}")),
    ("WEB_TOKEN", f"if this is an ai-dock image, give its WEB_TOKEN as `credentials.token`; else {_COOKIES}"),
    ("the header that it wants",
     ("is there a token for it? give it as `credentials.token`, or the header that it wants as `credentials.headers`; "
     f"else {_COOKIES}")),
    ("it asks for the password", _PASSWORD),
    ("--token-file", f"{_COOKIES}; if it accepts tokens, `credentials.token`"),
    ("--browser-path", _COOKIES),
    ("--allow-host", _COOKIES),
    ("log in there by hand", _COOKIES),
    ("--claim", "if the server is yours, set its password on its page first"),
    ("--browser", f"this server has no browser: {_COOKIES}; or give a token or a key"),
    ("--cookies-file", _COOKIES),
    ("--tls-fingerprint", "if it is yours, give its fingerprint as `tls_fingerprint` of POST /sessions"),
    ("--no-check", 'fix the workflow, set the inputs with `set`, or send it anyway with `"check": false`'),
    ("comfyclient login", _AGAIN),
    ("comfyclient jobs wait", "it may still run: GET /jobs/{id} tells what becomes of it"),
)  # fmt: skip
"""What tells a hint, and the one that takes its place."""
_WORDS: Final = (
    (re.compile(r"--wait-ready SECONDS"), "`wait_ready` of POST /sessions"),
    (re.compile(r"--header NAME=VALUE"), "`credentials.headers`"),
    (re.compile(r"--header ([\w-]+)=(\w+)"), r"`credentials.headers` (\1: \2)"),
    (re.compile(r"--username( NAME)?"), "`credentials.username` and `credentials.password`"),
    (re.compile(r"--set( ADDRESS=VALUE)?(?![\w-])"), "`set`"),
    (re.compile(r"[:;]? *`?comfyclient (doctor [^\s`]+|nodes \w+|inputs|jobs list)`?( (show|list|make)s[^;]*)?"), ""),
)  # fmt: skip
"""Words that have others in their place, whatever is around them."""


def for_callers(hint: str) -> str:
    """A hint of the client, in words of the REST API; another is as it was."""
    for sign, theirs in _WHOLE:
        if sign in hint:
            return theirs
    for ours, words in _WORDS:
        hint = ours.sub(words, hint)
    return hint
