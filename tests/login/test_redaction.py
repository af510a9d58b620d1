"""Secrets in texts: whatever a server repeats, and whatever goes wrong, nobody reads a credential off it."""

import asyncio
import base64
import contextlib
import gc
import json
import logging
import pprint
import secrets as secrets_module
import socket
import ssl
from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from yarl import URL

from comfyclient import (
    TLS,
    ApiKey,
    Auth,
    BasicAuth,
    BearerToken,
    CloudflareAccess,
    ComfyClient,
    ComfyClientError,
    ConfigError,
    Cookies,
    Credential,
    FormLogin,
    Headers,
    JobFailed,
    OutputRef,
    Prompt,
    PromptRejected,
    TokenLogin,
    blocking,
)
from comfyclient._redact import redact
from comfyclient.auth import Cookie
from comfyclient.auth.store import LoginStore, StoredLogin
from comfyclient.journal import Journal

from ..unit.tls_servers import self_signed  # noqa: TID252
from .eavesdrop import MARK, Overheard, secrets
from .hurry import hurried
from .parrot import DRESSES, PAGE, Parrot
from .stages import SECONDS

FILE = OutputRef("1", "images", "picture.png")
SMALL = Prompt({"1": {"class_type": "PreviewAny", "inputs": {"source": "x"}}})
JOB = "01234567-89ab-4def-8123-456789abcdef"
OFTEN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SELDOM = settings(OFTEN, max_examples=25)
dresses = st.sampled_from(sorted(DRESSES))


def in_cookie(secret):
    """What of it a cookie can hold."""
    return secret.replace(";", "").strip(" \t")


def stored(url, **credential):
    cookies = credential.pop("in_cookies", [])
    return StoredLogin(
        url=url, kind=credential.pop("kind", "bearer"), credential=credential, cookies=cookies, fingerprint=None,
        comfy_user=None, username=None, saved_at=0.0,
    )  # fmt: skip


def by_scheme(make):
    return lambda url, secret, **options: ComfyClient(url, auth=make(secret), **options)


def by_credential(**names):
    def make(url, secret, **options):
        given = {name: value.replace("SECRET", secret) if value else secret for name, value in names.items()}
        return ComfyClient(url, credential=Credential.of(**given), **options)

    return make


# Every way to give a client a secret.
KINDS = {
    "basic": by_scheme(lambda secret: BasicAuth("ada", secret)),
    "basic, an odd name": by_scheme(lambda secret: BasicAuth("ädä lovelace", secret)),
    "bearer": by_scheme(BearerToken),
    "key": by_scheme(ApiKey),
    "key, own header": by_scheme(lambda secret: ApiKey(secret, header="X-Own-Key")),
    "headers": by_scheme(lambda secret: Headers({"X-First": "first-of-two", "X-Second": secret})),
    "access": by_scheme(lambda secret: CloudflareAccess("0123.access", secret)),
    "access, its id": by_scheme(lambda secret: CloudflareAccess(secret, "access-secret-0123")),
    "cookies": by_scheme(lambda secret: Cookies({"theme": "dark", "session": in_cookie(secret)})),
    "cookies, pasted": by_scheme(lambda secret: Cookies(f"Cookie: a=1; session={in_cookie(secret)}")),
    "cookies, made": by_scheme(lambda secret: Cookies([Cookie("session", in_cookie(secret))])),
    "form": by_scheme(lambda secret: FormLogin("ada", secret)),
    "form at a page": by_scheme(lambda secret: FormLogin("ada", secret, page="/login")),
    "token login": by_scheme(TokenLogin),
    "several": by_scheme(lambda secret: [BearerToken(secret), ApiKey(secret), Cookies({"s": in_cookie(secret)})]),
    "a user and a password": by_credential(username="ada", password=""),
    "a token": by_credential(token=""),
    "an api key": by_credential(api_key=""),
    "access and basic": by_credential(username="ada", password="", access_id="id", access_secret="x-SECRET"),
    "in the url": lambda url, secret, **options: ComfyClient(
        url.replace("://", f"://ada:{quote(secret, safe='')}@"), **options
    ),
    "a token in the url": lambda url, secret, **options: ComfyClient(
        f"{url}/?token={quote(secret, safe='')}", **options
    ),
    "given headers": lambda url, secret, **options: ComfyClient(
        url, credential=Credential.of(headers={"X-Own": secret}), **options
    ),
    "given cookies": lambda url, secret, **options: ComfyClient(
        url, credential=Credential.of(cookies=f"session={in_cookie(secret)}"), **options
    ),
    "stored": lambda url, secret, **options: ComfyClient(url, stored=stored(url, token=secret), **options),
    "stored, a form": lambda url, secret, **options: ComfyClient(
        url, stored=stored(url, kind="login_form", username="ada", password=secret), **options
    ),
    "stored cookies": lambda url, secret, **options: ComfyClient(
        url, stored=stored(url, in_cookies=[{"name": "session", "value": in_cookie(secret)}]), **options
    ),
}  # fmt: skip
kinds = st.sampled_from(sorted(KINDS))


def of(kind, secret):
    """The secret as that kind can carry it."""
    return in_cookie(secret) if "cookies" in kind else secret


async def ask_everything(comfy, overheard, folder):
    """Every call of the client, and what is to be seen of each."""
    calls = [
        comfy.login,
        comfy.info,
        comfy.catalog,
        comfy.jobs,
        lambda: comfy.wait_ready(0),
        lambda: comfy.submit(SMALL),
        lambda: comfy.job(JOB),
        lambda: comfy.cancel(JOB),
        lambda: comfy.upload(b"a picture", name="a.png"),
        lambda: comfy.read(FILE),
        lambda: comfy.download(FILE, folder / "got.png", overwrite=True),
        lambda: comfy.queue({"1": {"class_type": "PreviewAny", "inputs": {}}}),
    ]
    for call in calls:
        try:
            overheard.note(await call())
        except ComfyClientError as error:
            overheard.note(error)
    look_at(comfy, overheard)


def look_at(comfy, overheard):
    """What there is of the client to be printed."""
    session = comfy._session
    parts = [comfy, comfy.url, session, session.base, session.scheme, session.cookies, list(session.cookies)]
    parts += [part for part in vars(session).values() if not isinstance(part, str | dict)]
    overheard.note(*parts, *session.cookies)
    overheard.texts += [pprint.pformat(part) for part in parts]


# A server that repeats what it hears


@OFTEN
@given(
    secret=secrets, kind=kinds, dress=dresses, door=st.booleans(),
    status=st.sampled_from([200, 302, 307, 400, 401, 403, 404, 407, 413, 418, 429, 500, 502, 503, 504, 530]),
)  # fmt: skip
async def test_no_answer_of_any_status_gives_it_away(tmp_path, secret, kind, dress, door, status):
    with Overheard() as overheard, hurried(200):
        async with Parrot(dress, status=status, door=door) as server:
            async with KINDS[kind](server.url, secret) as comfy:
                await ask_everything(comfy, overheard, tmp_path)
            assert server.said
    assert overheard.betrays(of(kind, secret)) == []


@SELDOM
@given(secret=secrets, kind=kinds, dress=dresses)
async def test_a_loop_that_debugs_tells_nothing(tmp_path, secret, kind, dress):
    loop = asyncio.get_running_loop()
    with Overheard() as overheard, hurried(20):
        async with Parrot(dress) as server:
            loop.set_debug(True)
            loop.slow_callback_duration = 0.0  # each callback is worth a line, with its arguments
            async with KINDS[kind](server.url, secret) as comfy:
                await ask_everything(comfy, overheard, tmp_path)
            loop.set_debug(False)
    assert any("Executing <" in text for text in overheard.texts)
    assert overheard.betrays(of(kind, secret)) == []


def rejection(where):
    """A refused prompt with the words in one place."""

    def answer(words):
        problem = {"type": "custom", "message": "no", "details": "", "extra_info": {}}
        node = {"class_type": "X", "errors": [problem], "dependent_outputs": []}
        error = {"type": "custom", "message": "no", "details": "", "extra_info": {}}
        body = {"error": error, "node_errors": {"1": node}}
        if where == "node id":
            body["node_errors"] = {words: node}
        elif where == "error":
            body["error"], body["node_errors"] = words, []
        elif where == "class":
            node["class_type"] = words
        elif where == "input":
            problem["extra_info"]["input_name"] = words
        elif where == "node title":
            error["extra_info"], body["node_errors"] = {"node_id": "1", "node_title": words, "class_type": words}, {}
        else:
            (problem if where.startswith("node ") else error)[where.removeprefix("node ")] = words
        return web.json_response(body, status=400)

    return answer


REJECTED = (
    "message",
    "details",
    "type",
    "node message",
    "node details",
    "node type",
    "node id",
    "node title",
    "error",
    "class",
    "input",
)
ANSWERS = {
    **{f"rejected, {where}": rejection(where) for where in REJECTED},
    "an id": lambda words: web.json_response({"prompt_id": words, "number": 0}),
    "no id": lambda words: web.json_response({"id": words}),
    "a list": lambda words: web.json_response([words]),
    "text": lambda words: web.Response(text=words),
    "a page": lambda words: web.Response(text=f"<html>{words}", content_type="text/html"),
    "broken json": lambda words: web.Response(text=f'{{"prompt_id": "{words}'),
    "waiting": lambda words: web.Response(text=words, headers={"X-Portal-Placeholder": words}),
    "throttled": lambda words: web.Response(status=429, text=words, headers={"Retry-After": words}),
}


@OFTEN
@given(secret=secrets, kind=kinds, dress=dresses, what=st.sampled_from(sorted(ANSWERS)))
@example(secret=f"ñ{MARK}", kind="bearer", dress="json", what="an id")
@example(secret=f"it's {MARK}", kind="bearer", dress="json", what="an id")
@example(secret=f" a/{MARK} ", kind="bearer", dress="percent", what="rejected, message")
@example(secret=f" a/{MARK} ", kind="bearer", dress="base64", what="rejected, message")
@example(secret=f" a/{MARK} ", kind="key", dress="percent, as a form", what="rejected, message")
@example(secret=f"ä/{MARK}\t", kind="headers", dress="percent", what="rejected, node message")
@example(secret=f"~?>{MARK}?~>>", kind="bearer", dress="base64, for urls", what="rejected, message")
@example(secret=f"a{MARK}0123456789", kind="bearer", dress="base64, behind more", what="rejected, message")
@example(secret=f"ü/{MARK}/ü", kind="bearer", dress="percent, in small letters", what="rejected, message")
@example(secret=f"two words {MARK}", kind="bearer", dress="percent, as a form", what="rejected, message")
@example(secret=f"{MARK}=", kind="basic", dress="percent", what="rejected, node message")
async def test_no_answer_to_a_prompt_gives_it_away(secret, kind, dress, what):
    with Overheard() as overheard, hurried(200):
        async with Parrot(dress) as server, KINDS[kind](server.url, secret) as comfy:
            server.plan["POST", "/prompt"] = ANSWERS[what]
            with pytest.raises(ComfyClientError) as error:
                await comfy.submit(SMALL)
            overheard.note(error.value)
            look_at(comfy, overheard)
    assert overheard.betrays(of(kind, secret)) == []


@SELDOM
@given(secret=secrets, kind=kinds, dress=dresses)
async def test_no_failure_of_a_job_gives_it_away(tmp_path, secret, kind, dress):
    """By websocket and in the record: in the message, the traceback, and wherever else there are words."""
    with Overheard() as overheard, hurried(20), Journal.open(tmp_path / secrets_module.token_hex()) as journal:
        async with Parrot(dress) as server, KINDS[kind](server.url, secret, journal=journal) as comfy:
            job = await comfy.submit(SMALL)
            with pytest.raises(JobFailed) as error:
                await job.result(SECONDS)
            overheard.note(error.value, job, job.progress)
            look_at(comfy, overheard)
        written = [file.read_bytes().decode("latin-1") for file in journal.path.parent.glob("**/*") if file.is_file()]
        overheard.texts += written
    assert overheard.betrays(of(kind, secret)) == []


@OFTEN
@given(
    secret=secrets,
    kind=kinds,
    dress=dresses,
    what=st.sampled_from(sorted(ANSWERS)),
    path=st.sampled_from(["/upload/image", "/view"]),
)
async def test_no_transfer_gives_it_away(tmp_path, secret, kind, dress, what, path):
    with Overheard() as overheard, hurried(200):
        async with Parrot(dress) as server, KINDS[kind](server.url, secret) as comfy:
            server.plan["GET" if path == "/view" else "POST", path] = ANSWERS[what]
            with contextlib.suppress(ComfyClientError):
                await comfy.login()
            for call in (lambda: comfy.upload(b"a picture", name="a.png"), lambda: comfy.read(FILE)):
                try:
                    await call()
                except ComfyClientError as error:
                    overheard.note(error)
            look_at(comfy, overheard)
    assert overheard.betrays(of(kind, secret)) == []


STORAGES = {
    "nobody": "https://127.0.0.1:{port}/file?X-Amz-Signature=1&said={words}",
    "said as a user": "https://{words}:{words}@127.0.0.1:{port}/file?X-Amz-Signature=1",
    "said as a host": "https://{words}.invalid/file?X-Amz-Signature=1",
    "said as a path": "https://127.0.0.1:{port}/{words}?X-Amz-Signature={words}",
    "a login": "https://{words}/login?{words}",
    "nonsense": "https://[{words}",
    "http": "http://127.0.0.1:{port}/{words}?X-Amz-Signature=1",
}


@OFTEN
@given(secret=secrets, kind=kinds, dress=dresses, where=st.sampled_from(sorted(STORAGES)))
async def test_no_storage_gives_it_away(nobody, nowhere, secret, kind, dress, where):
    def away(words):
        place = STORAGES[where].format(port=nobody.rpartition(":")[2], words=words)
        return web.Response(status=302, headers={"Location": place})

    with Overheard() as overheard, hurried(200):
        async with Parrot(dress) as server, KINDS[kind](server.url, secret) as comfy:
            server.plan["GET", "/view"] = away
            with pytest.raises(ComfyClientError) as error:
                await comfy.read(FILE)
            overheard.note(error.value)
    assert overheard.betrays(of(kind, secret)) == []


@SELDOM
@given(secret=secrets, kind=kinds, dress=dresses, status=st.sampled_from([404, 403, 302, 416]))
@example(secret=f"it's {MARK}\\", kind="bearer", dress="json", status=404)
@example(secret=MARK, kind="stored cookies", dress="plain", status=404)  # another cookie took its place
async def test_no_name_of_a_file_gives_it_away(secret, kind, dress, status):
    """The names of outputs are a server's words, and messages say which of them could not be fetched."""
    with Overheard() as overheard, hurried(200):
        async with Parrot(dress) as server, KINDS[kind](server.url, secret) as comfy:
            with contextlib.suppress(ComfyClientError):
                await comfy.login()
            server.plan["GET", "/view"] = lambda words: web.Response(status=status, text=words)
            known = of(kind, secret)
            for name in {server.dress(text) for text in (known, f'the "{known}"', f"'s {known}")}:
                with pytest.raises(ComfyClientError) as error:
                    await comfy.read(OutputRef("1", "images", name, subfolder=name))
                overheard.note(error.value)
    assert overheard.betrays(of(kind, secret)) == []


# What a job says and leaves, in the server's words


@SELDOM
@given(secret=secrets, kind=kinds, dress=dresses)
async def test_no_warning_of_a_job_gives_it_away(secret, kind, dress):
    """What the server dropped from a prompt that it took is in its own words."""
    with Overheard() as overheard, hurried(20):
        async with Parrot(dress) as server, KINDS[kind](server.url, secret) as comfy:
            job = await comfy.submit(SMALL)
            overheard.note(job, *job.warnings)
            overheard.texts += [json.dumps(warning.to_json()) for warning in job.warnings]
            assert job.warnings
    assert overheard.betrays(of(kind, secret)) == []


@SELDOM
@given(secret=secrets, kind=kinds, dress=dresses, fails=st.booleans())
async def test_no_event_of_a_job_gives_it_away(secret, kind, dress, fails):
    with Overheard() as overheard, hurried(20):
        async with Parrot(dress) as server, KINDS[kind](server.url, secret) as comfy:
            server.fails = fails
            job = await comfy.submit(SMALL)
            events = [event async for event in job.events()]
            overheard.note(*events)
            overheard.texts += [json.dumps(event.to_json()) for event in events]
    assert overheard.betrays(of(kind, secret)) == []


@SELDOM
@given(secret=secrets, kind=kinds, dress=dresses)
async def test_no_summary_of_a_job_gives_it_away(secret, kind, dress):
    with Overheard() as overheard, hurried(20):
        async with Parrot(dress) as server, KINDS[kind](server.url, secret) as comfy:
            await comfy.submit(SMALL)
            (summary,) = await comfy.jobs()
            overheard.note(summary)
            overheard.texts.append(json.dumps(summary.to_json()))
    assert overheard.betrays(of(kind, secret)) == []


# Where a server points to is in messages as well, by its host


POINTERS = {
    "a login page": ("GET", 302, lambda place: place),
    "a login": ("POST", 302, lambda place: place),
    "a password sent on": ("POST", 307, lambda place: place),
    "a form": ("GET", 200, lambda place: PAGE.replace("/login", place)),
}


@pytest.mark.parametrize("secret", ["s3cret-of-a-host", "S3cret-Of-A-Host"])
@pytest.mark.parametrize("what", POINTERS)
async def test_no_host_that_is_made_of_it_gives_it_away(tmp_path, nowhere, what, secret):
    method, status, write = POINTERS[what]
    place = write(f"http://{secret}.example/sso")
    with Overheard() as overheard, hurried(100):
        async with Parrot(login="/login") as server:
            server.plan[method, "/login"] = lambda words: web.Response(
                status=status, text=place, content_type="text/html", headers={"Location": place} if status > 200 else {}
            )
            async with ComfyClient(server.url, auth=FormLogin("ada", secret)) as comfy:
                await ask_everything(comfy, overheard, tmp_path)
            assert server.asked(method, "/login")
    assert not any(secret.lower() in text.lower() for text in overheard.texts)


# Logins


LOGIN_ANSWERS = {
    "the page again": lambda words: web.Response(text=f"{PAGE}{words}", content_type="text/html"),
    "no page": lambda words: web.Response(status=404, text=words),
    "an error": lambda words: web.Response(status=500, text=words, reason=words[:200]),
    "a redirect with it": lambda words: web.Response(
        status=302, headers={"Location": f"/welcome/{words}?said={words}"}
    ),
    "a redirect elsewhere": lambda words: web.Response(
        status=302, headers={"Location": f"http://{words}.example/{words}"}
    ),
    "wrong_password": lambda words: web.Response(status=302, headers={"Location": f"/login?wrong_password={words}"}),
    "nonsense": lambda words: web.Response(status=302, headers={"Location": f"http://[{words}"}),
    "a form elsewhere": lambda words: web.Response(
        text=PAGE.replace("/login", f"http://{words}.example/"), content_type="text/html"
    ),
}


@OFTEN
@given(
    secret=secrets, dress=dresses, answer=st.sampled_from(sorted(LOGIN_ANSWERS)),
    kind=st.sampled_from(["form", "form at a page", "a user and a password", "in the url", "stored, a form"]),
)  # fmt: skip
async def test_no_login_page_gives_it_away(tmp_path, nowhere, secret, dress, answer, kind):
    with Overheard() as overheard, hurried(200):
        async with Parrot(dress, login="/login") as server:
            server.plan["POST", "/login"] = LOGIN_ANSWERS[answer]
            async with KINDS[kind](server.url, secret) as comfy:
                await ask_everything(comfy, overheard, tmp_path)
            assert server.asked("POST", "/login")
    assert overheard.betrays(secret) == []


@OFTEN
@given(secret=secrets, kind=kinds, dress=dresses)
async def test_a_cookie_that_a_server_gives_is_a_secret_as_well(tmp_path, secret, kind, dress):
    granted = in_cookie(secret)
    with Overheard() as overheard, hurried(200):
        async with Parrot(dress) as server:
            server.grant = granted
            async with KINDS[kind](server.url, "another-secret-0123") as comfy:
                for path in ("/system_stats", "/prompt", "/upload/image"):
                    server.plan["POST", path] = server.plan["GET", path] = rejection("message")
                del server.plan["GET", "/prompt"]
                await ask_everything(comfy, overheard, tmp_path)
                if "cookies" not in kind:
                    assert granted in [cookie.value for cookie in comfy._session.cookies]
    assert overheard.betrays(granted) == []


# No answer, or none that makes sense


@pytest.fixture(scope="module")
def nobody():
    """An address where nobody answers."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def nowhere(monkeypatch):
    """Other hosts than this one cannot be found, and nobody is asked for them."""
    real = socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        if host not in {"127.0.0.1", "localhost", None}:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# | is the end of a line.
NONSENSE = {
    "no status line": "WORDS||",
    "another protocol": "HTTP/9.9 WORDS||",
    "a word for a status": "HTTP/1.1 WORDS WORDS||",
    "no colon": "HTTP/1.1 200 OK|WORDS||",
    "a name that is none": "HTTP/1.1 200 OK|A (b) WORDS: c||",
    "a length that is none": "HTTP/1.1 200 OK|Content-Length: WORDS||",
    "two lengths": "HTTP/1.1 200 OK|Content-Length: 1|Content-Length: WORDS||x",
    "a chunk that is none": "HTTP/1.1 200 OK|Transfer-Encoding: chunked||WORDS|WORDS|",
    "a coding that is none": "HTTP/1.1 200 OK|Transfer-Encoding: WORDS||",
    "another coding": "HTTP/1.1 200 OK|Content-Encoding: WORDS|Content-Length: 2||{}",
    "no gzip": "HTTP/1.1 200 OK|Content-Encoding: gzip|Content-Length: 200||WORDS",
    "cut": "HTTP/1.1 200 OK|Content-Length: 99999||WORDS",
    "too long": f"HTTP/1.1 200 OK|X: WORDS{'x' * 20_000}WORDS||",
    "a type that is none": "HTTP/1.1 200 OK|Content-Type: WORDS; charset=WORDS|Content-Length: 5||WORDS",
    "a redirect that is none": "HTTP/1.1 302 Found|Location: http://[WORDS|Content-Length: 0||",
    "cookies that are none": "HTTP/1.1 200 OK|Set-Cookie: WORDS|Set-Cookie: a\x01=WORDS|Content-Length: 2||{}",
    "no websocket": "HTTP/1.1 101 WORDS|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Accept: WORDS||",
    "an extension": "HTTP/1.1 101 X|Upgrade: WORDS|Connection: Upgrade|Sec-WebSocket-Extensions: WORDS||",
    "a nul": "HTTP/1.1 200 OK|X: \x00WORDS||",
    "a part": "HTTP/1.1 206 X|Content-Range: bytes WORDS/WORDS|ETag: WORDS|Content-Length: 2||xx",
}
FITTING = 'HTTP/1.1 200 OK|Content-Length: 39||{"exec_info": {"queue_remaining":   0}}'
CREDENTIALS = {b"authorization", b"cookie", b"cf-access-client-id", b"cf-access-client-secret"}


@contextlib.asynccontextmanager
async def babbling(template):
    """A server that fits what it hears into a text that is no HTTP; without a credential it is an open ComfyUI."""

    async def attend(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                target, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
                headers = [line.partition(b": ")[::2] for line in lines]
                told = [value for name, value in headers if name.lower() in CREDENTIALS or name[:2].lower() == b"x-"]
                told += [target.split(b" ")[1]] if b"token=" in target else []
                answer = (template if told else FITTING).replace("|", "\r\n").encode()
                writer.write(answer.replace(b"WORDS", b" ".join(told)))
                await writer.drain()
                if told:
                    break
        writer.close()

    server = await asyncio.start_server(attend, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@OFTEN
@given(secret=secrets, kind=kinds, what=st.sampled_from(sorted(NONSENSE)))
@example(secret=MARK, kind="several", what="cookies that are none")  # a cookie whose name it is
async def test_nothing_that_is_no_http_gives_it_away(tmp_path, secret, kind, what):
    with Overheard() as overheard, hurried(1000):
        async with babbling(NONSENSE[what]) as url, KINDS[kind](url, secret) as comfy:
            await ask_everything(comfy, overheard, tmp_path)
    assert overheard.betrays(of(kind, secret)) == []


@contextlib.asynccontextmanager
async def silent(context=None, *, hang=True):
    """A server that takes requests, and says nothing or hangs up."""

    async def attend(reader, writer):
        with contextlib.suppress(OSError):
            await reader.read(65536)
            if hang:
                await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(attend, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    "where", ["nobody", "no such host", "silent", "hangs up", "no tls", "odd certificate", "tls for http"]
)
@settings(SELDOM, max_examples=15)
@given(secret=secrets, kind=kinds)
async def test_no_missing_answer_gives_it_away(tmp_path, nobody, nowhere, where, secret, kind):
    _, pem = CERTIFICATE
    (file := tmp_path / "odd.pem").write_bytes(pem)
    (context := ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).load_cert_chain(file)
    async with contextlib.AsyncExitStack() as servers:
        overheard = Overheard()
        if where in {"silent", "hangs up", "no tls"}:
            url = await servers.enter_async_context(silent(hang=where == "silent"))
            url = url.replace("http:", "https:") if where == "no tls" else url
        elif where in {"odd certificate", "tls for http"}:
            url = await servers.enter_async_context(silent(context))
            url = url.replace("https:", "http:") if where == "tls for http" else url
        else:
            url = nobody if where == "nobody" else "http://nowhere.example"
        with overheard, hurried(5000 if where == "silent" else 500):
            async with KINDS[kind](url, secret) as comfy:
                await ask_everything(comfy, overheard, tmp_path)
    assert overheard.betrays(of(kind, secret)) == []


CERTIFICATE = self_signed()


# A proxy of the environment, with a password of its own


@contextlib.asynccontextmanager
async def proxying(answer):
    """A proxy that answers each request so: a function of what it is told in ``Proxy-Authorization``."""

    async def attend(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            told = b" ".join(line for line in head if b"roxy-" in line or b"uthoriz" in line)
            writer.write(answer.replace("|", "\r\n").encode().replace(b"WORDS", told))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(attend, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


PROXIES = {
    "wants another": "HTTP/1.1 407 WORDS|Proxy-Authenticate: Basic realm=WORDS|Content-Length: 0||",
    "forbids": "HTTP/1.1 403 Forbidden|Content-Length: 5||WORDS",
    "no proxy": "WORDS||",
    "hangs up": "",
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("secret", [f"{MARK}0123456789", f"p@{MARK}%/ü"])
@pytest.mark.parametrize("what", [*PROXIES, "nobody"])
async def test_no_proxy_gives_its_password_away(tmp_path, monkeypatch, nobody, what, secret, scheme):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with contextlib.AsyncExitStack() as servers:
        place = nobody.removeprefix("http://")
        if what != "nobody":
            place = await servers.enter_async_context(proxying(PROXIES[what]))
        for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://ada:{quote(secret, safe='')}@{place}")
        with Overheard() as overheard, hurried(200):
            async with ComfyClient(
                f"{scheme}://comfy.example", auth=BearerToken("bearer-0123"), trust_env=True
            ) as comfy:
                await ask_everything(comfy, overheard, tmp_path)
    assert overheard.betrays(secret, "bearer-0123") == []


@pytest.mark.parametrize(
    "proxy",
    ["http://ada:12/SECRET@127.0.0.1:9", "http://ada:SECRET@[::1", "ada:SECRET@127.0.0.1:port", "ftp://ada:SECRET@x"],
)
async def test_a_proxy_that_is_none_is_refused_in_words_without_its_password(tmp_path, monkeypatch, proxy):
    secret = f"{MARK}0123456789"
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy.replace("SECRET", secret))
    with Overheard() as overheard, hurried(200):
        async with ComfyClient("http://comfy.example", auth=BearerToken("bearer-0123"), trust_env=True) as comfy:
            await ask_everything(comfy, overheard, tmp_path)
    assert overheard.betrays(secret, "bearer-0123") == []


# Credentials that are none


WILD = st.builds(
    "{}{}{}".format,
    st.text(st.characters(), max_size=5) | st.sampled_from(["", "\n", "\r\n", "\0", "\t", "\x7f", "\udc80", "\ud800",
                                                                     "=", ":", ";", " "]),
    st.just(MARK),
    st.text(st.characters(), max_size=5) | st.sampled_from(["", "\n", "\0", "\x85", "\udcff", "\udfff",
                                                                     ";a", ": b", "\u2028"]),
)  # fmt: skip


@settings(OFTEN, max_examples=150)
@given(secret=WILD, kind=st.sampled_from(sorted(set(KINDS) - {"in the url", "a token in the url", "cookies, made"})))
async def test_a_credential_that_cannot_be_sent_is_refused_in_words_without_it(tmp_path, secret, kind):
    with Overheard() as overheard, hurried(200):
        async with Parrot() as server:
            try:
                client = KINDS[kind](server.url, secret)
            except ConfigError as error:
                overheard.note(error)
            else:
                async with client as comfy:
                    await ask_everything(comfy, overheard, tmp_path)
    assert overheard.betrays(of(kind, secret)) == []


NOT_CREDENTIALS = {
    "a header with its value in its name": lambda secret: Headers({f"X-Key: {secret}": ""}),
    "a header with a blank in its name": lambda secret: Headers({f"X-Key {secret}": "value"}),
    "a key with its value in its header": lambda secret: ApiKey("key-0123", header=f"X-Key: {secret}"),
    "cookies without a name": Cookies,
    "a line of an answer": lambda secret: Cookies(f"Set-Cookie: a={secret}"),
    "cookies with a nul": lambda secret: Cookies(f"a={secret}\x00"),
    "a colon in a user name": lambda secret: BasicAuth(f"ada:{secret}", "x"),
    "a line break behind a password": lambda secret: BasicAuth("ada", f"{secret}\n"),
    "a line break behind a token": lambda secret: BearerToken(f"{secret}\r"),
    "a nul behind an access secret": lambda secret: CloudflareAccess("id", f"{secret}\x00"),
    "a nul before a token": lambda secret: TokenLogin(f"\x00{secret}"),
    "a cookie with a = in its name": lambda secret: Cookie(f"a={secret}", "b"),
    "a cookie with a ;": lambda secret: Cookie("a", f"{secret};"),
    "a scheme and a token": lambda secret: ComfyClient(
        "http://127.0.0.1:1", auth=BearerToken(secret), credential=Credential.of(token=secret)
    ),
    "a scheme and a password in the url": lambda secret: ComfyClient(
        f"http://a:{secret}@127.0.0.1:1", auth=BearerToken(secret)
    ),
    "more behind a token in the url": lambda secret: ComfyClient(f"http://127.0.0.1:1/?token={secret}&x={secret}"),
    "an unknown kind of stored login": lambda secret: ComfyClient(
        "http://127.0.0.1:1", stored=stored("http://127.0.0.1:1", kind=secret, token=secret)
    ),
    "a stored list": lambda secret: ComfyClient(
        "http://127.0.0.1:1", stored=stored("http://127.0.0.1:1", token=[secret])
    ),
    "a stored name": lambda secret: ComfyClient(
        "http://127.0.0.1:1", stored=stored("http://127.0.0.1:1", **{secret: secret})
    ),
    "a stored cookie": lambda secret: ComfyClient(
        "http://127.0.0.1:1", stored=stored("http://127.0.0.1:1", in_cookies=[{secret: secret}])
    ),
    "a fingerprint": lambda secret: TLS(fingerprint=secret),
}


@pytest.mark.parametrize("make", NOT_CREDENTIALS.values(), ids=NOT_CREDENTIALS)
def test_a_credential_that_is_none_is_refused_in_words_without_it(make):
    secret = "hunter2-hunter2"
    with Overheard() as overheard:
        with pytest.raises((ConfigError, ValueError)) as error:
            make(secret)
        overheard.note(error.value)
    assert overheard.betrays(secret) == []


async def test_two_credentials_for_one_header_are_refused_in_words_without_them(serve):
    server = await serve(Parrot())
    with Overheard() as overheard:
        async with ComfyClient(
            server.url, auth=[BearerToken("first-0123456"), BasicAuth("ada", "second-0123456")]
        ) as comfy:
            with pytest.raises(ConfigError) as error:
                await comfy.info()
            overheard.note(error.value, comfy)
    assert overheard.betrays("first-0123456", "second-0123456") == []


@pytest.mark.parametrize(
    "line",
    [
        "SECRET",
        "a\tb\tSECRET",
        "127.0.0.1\tFALSE\t/\tFALSE\tSECRET\tn\tv",
        "127.0.0.1\tFALSE\t/\tFALSE\t0\tn\tSECRET\x00",
    ],
)
async def test_a_cookie_file_that_is_none_is_refused_in_words_without_it(serve, tmp_path, line):
    server = await serve(Parrot())
    (file := tmp_path / "cookies.txt").write_text(
        f"# Netscape HTTP Cookie File\n{line.replace('SECRET', 'secret-0123456')}\n"
    )
    with Overheard() as overheard:
        async with ComfyClient(server.url, auth=Cookies.from_file(file)) as comfy:
            with pytest.raises(ComfyClientError) as error:
                await comfy.login()
            overheard.note(error.value, comfy)
    assert overheard.betrays("secret-0123456") == []


# Things that hold one


@given(secret=secrets)
@settings(max_examples=50, deadline=None)
def test_nothing_that_holds_a_secret_shows_it(secret):
    url = "https://127.0.0.1:1"
    login = stored(url, token=secret, in_cookies=[{"name": "a", "value": in_cookie(secret)}])
    given = Credential.of(
        username="ada", password=secret, token=secret, api_key=secret, access_id=secret, access_secret=secret,
        headers={"X-Own": secret}, cookies=secret,
    )  # fmt: skip
    things = [
        given, given.over(Credential.of(token="other")), login,
        Cookie("a", in_cookie(secret)), BasicAuth("ada", secret),
        BearerToken(secret), ApiKey(secret), Headers({"X-Own": secret}), CloudflareAccess(secret, secret),
        Cookies({"a": in_cookie(secret)}), FormLogin(secret, secret), TokenLogin(secret), given.password,
    ]  # fmt: skip
    with Overheard() as overheard:
        overheard.note(*things, things, {"a": things}, dict.fromkeys(["a"], given))
        overheard.texts += [pprint.pformat(thing) for thing in things]
        overheard.texts += [f"{thing:>40}" for thing in things if type(thing).__format__ is not object.__format__]
        logging.getLogger("comfyclient").warning("%s %r", given, things)
    assert overheard.betrays(secret) == []
    assert overheard.betrays(in_cookie(secret)) == []


def test_a_stored_login_is_listed_without_its_secrets(tmp_path):
    secret = "secret-0123456"
    store = LoginStore(tmp_path / "config", use_keyring=False)
    url = "https://127.0.0.1:1"
    with Overheard() as overheard:
        place = store.save(stored(url, token=secret, in_cookies=[{"name": "a", "value": secret}]))
        overheard.note(store, store.list(), *store.list(), store.load(URL(url)), place)
        file = next((tmp_path / "config").glob("**/*.json"))
        file.write_text(file.read_text().replace('"version"', f'"{secret}"'))
        overheard.note(*store.list())
        with pytest.raises(ConfigError) as error:
            store.load(URL(url))
        overheard.note(error.value)
    assert overheard.betrays(secret) == []


class TwoWords(Auth):
    """A scheme of somebody's own, whose secret is a plain text."""

    name = "two words"

    def headers(self, url):
        """See `Auth.headers`."""
        return {"Authorization": "Words of-their-own-0123", "X-Own": "own-word-0123"}


# The websocket's library logs the headers of a handshake


@pytest.mark.parametrize("kind", [*KINDS, "own scheme", "short cookie", "short password"])
async def test_a_debugged_websocket_shows_no_credential(serve, kind):
    secret = "s3cret/wörd+=%"
    make = {
        "own scheme": by_scheme(lambda _: TwoWords()),
        "short cookie": by_scheme(lambda _: Cookies("pin=0o7; id=x9")),
        "short password": by_scheme(lambda _: BasicAuth("ada", "0o7")),
    }
    shown = {"own scheme": ["of-their-own-0123", "own-word-0123"], "short cookie": [], "short password": []}.get(
        kind, [of(kind, secret)]
    )
    server = await serve(Parrot(login="/login" if "form" in kind else None))
    logging.getLogger("comfyclient.socket").setLevel(logging.DEBUG)  # as a user may
    with Overheard() as overheard:
        async with (make.get(kind) or KINDS[kind])(server.url, secret) as comfy:
            await comfy.submit(SMALL)
            assert comfy.connected
            sent = server.asked("GET", "/ws")[0].headers
    text = "".join(overheard.texts)
    assert "GET /ws?clientId=" in text  # it was logged
    assert overheard.betrays(*shown) == []
    carried = [sent[name] for name in ("Authorization", "Cookie", "X-API-Key", "X-Own", "X-Own-Key") if name in sent]
    assert carried or "access" in kind
    assert not any(value in text for value in carried)


# What a message keeps when the client is gone


@pytest.mark.parametrize("what", ["rejected, node message", "rejected, message", "rejected, node id", "failed"])
async def test_an_error_that_outlives_its_client_still_shows_nothing(what):
    secret = "s3cret-of-a-client"

    async def fail():
        async with Parrot() as server, ComfyClient(server.url, auth=BearerToken(secret)) as comfy:
            if what != "failed":
                server.plan["POST", "/prompt"] = ANSWERS[what]
            try:
                await (await comfy.submit(SMALL)).result(SECONDS)
            except ComfyClientError as error:
                return error.with_traceback(None)

    error = await fail()
    error.__context__ = None
    gc.collect()
    assert redact(secret) == secret  # nobody holds it any more
    with Overheard() as overheard:
        overheard.note(error)
    assert overheard.betrays(secret) == []


# What travels in a body


# Texts that are cut short


JWT = f"{MARK}." + base64.urlsafe_b64encode(bytes(range(150))).decode()


@pytest.mark.parametrize("where", ["an id", "rejected, message", "rejected, node details", "rejected, details"])
async def test_no_text_is_cut_in_the_middle_of_a_secret(serve, where):
    server = await serve(Parrot())
    with Overheard() as overheard, hurried(20):
        async with ComfyClient(server.url, auth=BearerToken(JWT)) as comfy:
            for fill in (0, 60, 1950, 1985):
                server.plan["POST", "/prompt"] = lambda words, fill=fill: ANSWERS[where]("." * fill + words)
                with pytest.raises(ComfyClientError) as error:
                    await comfy.submit(SMALL)
                overheard.note(error.value)
    assert not any(MARK in text for text in overheard.texts)


# Without a loop of one's own


async def test_the_client_for_scripts_says_no_more(serve):
    server, secret = await serve(Parrot()), "s3cret-of-a-script"
    server.plan["POST", "/prompt"] = ANSWERS["rejected, node message"]

    def script(overheard):
        with blocking.ComfyClient(server.url, auth=BearerToken(secret)) as comfy:
            overheard.note(comfy, comfy.login(), comfy.url)
            with pytest.raises(PromptRejected) as error:
                comfy.submit(SMALL)
            overheard.note(error.value)

    with Overheard() as overheard:
        await asyncio.to_thread(script, overheard)
    assert overheard.betrays(secret) == []
