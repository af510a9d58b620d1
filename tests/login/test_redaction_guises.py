"""Secrets that a server repeats in several encodings at once: in saved files, of paid nodes, in the websocket's log."""

import asyncio
import base64
import json
import logging

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from websockets.frames import CloseCode, Frame, Opcode
from yarl import URL

from comfyclient import BearerToken, ComfyClient, JobFailed, Prompt, PromptRejected
from comfyclient import socket as event_socket
from comfyclient._redact import Secret, redact
from comfyclient.auth.way import Way

from .eavesdrop import MARK, Overheard, secrets
from .hurry import hurried
from .parrot import DRESSES, Parrot
from .stages import SECONDS

SMALL = Prompt({"1": {"class_type": "PreviewAny", "inputs": {"source": "x"}}})
OFTEN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
dresses = st.sampled_from(sorted(DRESSES))
overdresses = st.sampled_from(sorted(name for name in DRESSES if "base64" not in name))  # once is enough
keys = st.sampled_from(["api_key_comfy_org", "auth_token_comfy_org"])


@OFTEN
@given(secret=secrets, dress=dresses, again=overdresses)
@example(secret=f'"{MARK}\\', dress="json in json", again="percent, twice")
async def test_no_metadata_file_gives_it_away(tmp_path, secret, dress, again):
    """A job that is taken up has the prompt, the workflow, the names and the texts that the server says."""
    with Overheard() as overheard, hurried(20):
        async with Parrot(dress) as server, ComfyClient(server.url, auth=BearerToken(secret)) as comfy:
            server.fails, once = False, server.dress
            server.dress = lambda words: DRESSES[again](once(words))
            job = await comfy.submit(SMALL)
            await job.wait()
            result = await (await comfy.job(job.id)).result()
            *_, saved = await result.save(tmp_path, metadata=True, overwrite=True)
            text = saved.read_text()
            about = json.loads(text)
            assert about["workflow"]["extra"]["said"]  # the server's words are there
            overheard.texts += [text, *map(str, _leaves(about))]
    assert MARK not in text
    assert overheard.betrays(secret) == []


def _leaves(value):
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in [key, *_leaves(item)]]
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list) else [value]


@OFTEN
@given(secret=secrets, name=keys, dress=dresses, again=overdresses)
@example(secret=f'"{MARK}\\', name="api_key_comfy_org", dress="json in json", again="percent, of json")
async def test_no_answer_gives_away_what_pays_for_a_job(secret, name, dress, again):
    """The server repeats the whole body of the submission, which is JSON already."""
    with Overheard() as overheard, hurried(20):
        async with Parrot(dress) as server, ComfyClient(server.url, auth=BearerToken("another-0123")) as comfy:
            once = server.dress
            server.dress = lambda words: DRESSES[again](once(words))
            job = await comfy.submit(SMALL, extra_data={name: secret})
            with pytest.raises(JobFailed) as failed:
                await job.result(SECONDS)
            overheard.note(failed.value, job, *job.warnings)
            overheard.texts += [json.dumps(warning.to_json()) for warning in job.warnings]
            overheard.texts += [json.dumps(event.to_json()) async for event in job.events()]
            server.plan["POST", "/prompt"] = lambda words: web.json_response({"error": words}, status=400)
            with pytest.raises(PromptRejected) as rejected:
                await comfy.submit(SMALL, extra_data={name: secret})
            overheard.note(rejected.value)
            assert "***" in str(failed.value)
    assert overheard.betrays(secret) == []


def test_cookies_that_were_replaced_are_masked_but_not_for_ever():
    url = URL("http://127.0.0.1:8188/")
    way = Way(url)
    values = [f"rotated-{number:03}-cookie" for number in range(100)]
    for value in values:
        way.absorb(url, CIMultiDict({"Set-Cookie": f"session={value}; Path=/"}))
    assert redact(" ".join(values[-5:])) == " ".join(["***"] * 5)
    assert redact(values[0]) == values[0]
    assert [cookie.value for cookie in way.cookies] == values[-1:]


# The websocket's library logs frames, and cuts them in the middle


@settings(max_examples=300, deadline=None)
@given(
    secret=secrets, before=st.integers(0, 120), after=st.integers(0, 120),
    kind=st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG]),
    level=st.sampled_from([10, 20, 40]),
)  # fmt: skip
def test_no_frame_that_is_cut_gives_half_of_it_away(secret, before, after, kind, level):
    kept = Secret(secret)
    data = b"x" * before + secret.encode("utf-8", "surrogatepass") + b"y" * after
    with Overheard() as overheard:
        event_socket._log.setLevel(logging.DEBUG)  # as a user may
        event_socket._log.log(level, "< %s", Frame(kind, data))
        event_socket._log.log(level, "%s, then %s", Frame(Opcode.CLOSE, b"\x03\xe8" + data[:100]), CloseCode.GOING_AWAY)
    text = "".join(overheard.texts)
    assert f"{kind.name} [{len(data)} bytes]" in text
    assert "CLOSE [" in text
    for size in range(3, len(MARK) + 1):
        assert MARK[:size] not in text
        assert MARK[-size:] not in text
    assert "xxx" not in text
    assert kept


async def test_a_debugged_websocket_shows_no_payload(serve):
    secret = f"begin-{MARK}-" + "0123456789" * 4 + f"-{MARK}-end"
    server = await serve(Parrot())
    with Overheard() as overheard:
        event_socket._log.setLevel(logging.DEBUG)
        async with ComfyClient(server.url, auth=BearerToken(secret)) as comfy:
            await comfy.submit(SMALL)
            (socket,) = server.sockets
            for size in range(60):  # wherever it is cut
                await socket.send_str("{" + " " * size + secret + " " * (59 - size) + "}")
                await socket.send_bytes(b"\0" * size + base64.b64encode(secret.encode()))
            job = await comfy.submit(SMALL)  # what it tells comes behind them
            await asyncio.wait_for(job.wait(), SECONDS)
    text = "".join(overheard.texts)
    assert "< TEXT [" in text
    assert "< BINARY [" in text
    assert "begin-" not in text
    assert "-end" not in text
    assert "012345" not in text
    assert overheard.betrays(secret) == []
