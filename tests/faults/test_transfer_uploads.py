"""Uploads: there once, under the name that came back, or refused with a reason before more is sent than need be."""

import asyncio
import contextlib
import gc
import hashlib
import json
import os
import threading

import pytest

from comfyclient import AuthRequired, ConfigError, OutputRef, TransferError
from comfyclient.emulator import Emulator
from comfyclient.patience import Patience
from comfyclient.sources import Source

from .files import Meanwhile, client, noise
from .http_toxics import Answer, AnswerAfter, CutRequest, EditHead, HttpToxic, Lose, gateway_error
from .proxy import FaultProxy
from .toxics import Bandwidth, Hang, ResetPeer, Send

# aiohttp's server, in this process, forgets the temporary file of an upload that is cut.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Unclosed file <tempfile:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedRandom:ResourceWarning"),
]
FOLDER = "comfyclient-tests"
LARGE = 4 * 2**20


def posts(faults):
    return faults.book.count("POST", "/upload/image")


def at(uploaded):
    """The upload as something to fetch."""
    return OutputRef("1", "images", uploaded.name, uploaded.subfolder, uploaded.type)


@pytest.fixture
def sparse(tmp_path):
    """A file of that many bytes that takes no room."""

    def make(size, name="large.safetensors"):
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate(size)
        return path

    return make


@pytest.fixture
async def comfy(faults):
    async with client(faults.url) as running:
        yield running


@pytest.fixture(autouse=True)
def swept():
    """No other test inherits what the server forgot in this one."""
    yield
    gc.collect()


# 42: lost answers


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "toxic", [Lose(), Lose("close"), CutRequest(), gateway_error(524), gateway_error(502), ResetPeer(0)], ids=str
)
async def test_an_upload_whose_answer_is_lost_is_there_once(faults, comfy, toxic, overwrite):
    data = noise()
    faults.on("POST", "/upload/image", toxic, times=2)
    uploaded = await comfy.upload(data, subfolder=FOLDER, overwrite=overwrite)
    assert uploaded.name == f"upload-{hashlib.sha256(data).hexdigest()[:12]}"
    assert await comfy.read(at(uploaded)) == data
    assert posts(faults) == 3
    with pytest.raises(TransferError, match="no longer has"):  # the name that the server gives to a second one
        await comfy.read(OutputRef("", "", f"{uploaded.name} (1)", FOLDER, "input"))


@pytest.mark.parametrize("toxic", [Lose(), gateway_error(503), Answer(429), ResetPeer(0)], ids=str)
async def test_an_upload_that_never_gets_an_answer(faults, comfy, toxic):
    faults.on("POST", "/upload/image", toxic, times=None)
    with pytest.raises(TransferError, match=r"cannot upload mine\.png: POST /upload/image: "):
        await comfy.upload(noise(), name="mine.png", subfolder=FOLDER)
    assert posts(faults) == 3


async def test_a_server_that_is_away_for_a_while(faults, tmp_path):
    down = faults.down()
    await down.__aenter__()

    async def up():
        await down.__aexit__(None, None, None)

    async with client(faults.url, Meanwhile(action=up)) as comfy:
        uploaded = await comfy.upload(data := noise(), subfolder=FOLDER)
        assert await comfy.read(at(uploaded)) == data


async def test_what_a_repetition_would_not_change_is_not_repeated(faults, comfy):
    for status, kind in ((400, TransferError), (500, TransferError), (401, AuthRequired)):
        faults.on("POST", "/upload/image", Answer(status))
        with pytest.raises(kind):
            await comfy.upload(noise(), subfolder=FOLDER)
    assert posts(faults) == 3


# 40: too large


REFUSALS = {
    "ComfyUI": (Answer(413, {}, "Maximum request body size 104857600 exceeded."), "the instance allows, 100.0 MB"),
    "nginx": (Answer(413, {"Content-Type": "text/html"}, "<html>413 Request Entity Too Large</html>"), "or a proxy"),
    "Cloudflare": (Answer(413, {"CF-RAY": "8f-FRA"}, "<html>413 Payload Too Large</html>"), "Cloudflare, .*, 100.0 MB"),
}


@pytest.mark.parametrize("then", ["keep", "close", "reset"])
@pytest.mark.parametrize("whose", REFUSALS)
async def test_a_refusal_in_the_middle_is_read(faults, comfy, sparse, whose, then):
    answer, words = REFUSALS[whose]
    refusal = Answer(413, answer.headers, answer.body, after=300_000, then=then)
    faults.on("POST", "/upload/image", refusal, times=None)
    for number in range(5):
        with pytest.raises(TransferError, match=f"with 4.0 MB it is larger than .*{words}") as caught:
            await comfy.upload(sparse(LARGE + number))
        assert caught.value.hint


async def test_a_refusal_that_is_cut_off_is_asked_for_before_the_body(faults, comfy, sparse):
    class Proxy(HttpToxic):
        """Resets the connection in the middle of a body. Asked first, it says why."""

        def begin(self):
            self.seen = 0
            self.asked = False

        def request(self, event):
            raw = event.raw
            if getattr(event, "method", ""):
                self.asked = b"100-continue" in raw
                return Answer(413, {}, "Too large").fresh(self.chance).give() if self.asked else [Send(raw)]
            self.seen += len(raw)
            return ResetPeer(0).fresh(self.chance).start() if self.seen > 300_000 else [Send(raw)]

    faults.on("POST", "/upload/image", Proxy(), times=None)
    with pytest.raises(TransferError, match="larger than the instance, or a proxy before it, allows"):
        await comfy.upload(sparse(LARGE))
    assert posts(faults) == 2


@pytest.mark.parametrize(
    "answer",
    [Answer(417, after=0), Answer(after=2**60), Answer(raw=b"no HTTP", after=0)],
    ids=["417", "never", "garbage"],
)
async def test_a_proxy_that_does_not_know_how_to_be_asked(faults, comfy, answer):
    comfy._transfers.patience = Patience(idle=2, first=0)
    data = os.urandom(LARGE)
    faults.on("POST", "/upload/image", CutRequest())
    faults.on("POST", "/upload/image", answer)
    assert await comfy.read(at(await comfy.upload(data, subfolder=FOLDER))) == data
    assert posts(faults) == 3


async def test_asked_and_allowed(faults, comfy):
    data = os.urandom(LARGE)
    faults.on("POST", "/upload/image", CutRequest())
    assert await comfy.read(at(await comfy.upload(data, subfolder=FOLDER))) == data
    assert posts(faults) == 2
    assert faults.book.headers["/upload/image"]["expect"] == "100-continue"


async def test_the_limit_of_the_instance_is_known_before_anything_is_sent(faults, comfy, sparse):
    limit = 100 * 2**20  # ComfyUI's default
    for _ in range(2):
        with pytest.raises(TransferError, match=r"has 101\.0 MB, and the instance takes at most 100") as caught:
            await comfy.upload(sparse(limit + 2**20))
    assert "--max-upload-size" in caught.value.hint
    assert posts(faults) == 0
    assert faults.book.count("GET", "/features") == 1


async def test_the_limit_of_one_that_takes_more_or_less():
    for limit in (2**21, 2**23):
        async with Emulator(max_upload_size=limit) as emulator, client(emulator.url) as comfy:
            assert await comfy.upload(bytes(limit - 2000))
            with pytest.raises(TransferError, match="takes at most"):
                await comfy.upload(bytes(limit + 1))
            with pytest.raises(TransferError, match="larger than the instance allows"):  # with the form around it
                await comfy.upload(bytes(limit))


@pytest.mark.parametrize("status", [200, 404])
async def test_the_limit_of_cloudflare(faults, comfy, sparse, status):
    features = json.dumps({"max_upload_size": 2**33})
    faults.on("GET", "/features", AnswerAfter(status, {"CF-Ray": "8f1-FRA", "Server": "cloudflare"}, features))
    with pytest.raises(TransferError, match=r"101\.0 MB, and Cloudflare, .* takes at most 100\.0 MB") as caught:
        await comfy.upload(sparse(101 * 2**20))
    assert "ssh" in caught.value.hint
    assert posts(faults) == 0


@pytest.mark.parametrize(
    "features",
    [Answer(404), Answer(200, {}, "[]"), Answer(200, {}, "<html>"), Answer(200, {}, '{"max_upload_size": "much"}'),
     Answer(200, {}, '{"max_upload_size": NaN}'), Answer(200, {}, '{"max_upload_size": -1}'), Answer(500), Lose()],
    ids=str,
)  # fmt: skip
async def test_without_a_limit_that_is_told_it_is_tried(faults, comfy, features):
    faults.on("GET", "/features", features, times=None)
    data = os.urandom(LARGE)
    assert await comfy.read(at(await comfy.upload(data, subfolder=FOLDER))) == data


async def test_of_what_every_server_takes_no_limit_is_asked_for(faults, comfy):
    await comfy.upload(noise(), subfolder=FOLDER)
    assert faults.book.count("GET", "/features") == 0


# Slow, and silent


@pytest.mark.parametrize("kind", ["bytes", "file"])
async def test_a_slow_upload_is_not_silent(faults, tmp_path, kind):
    data = os.urandom(4 * LARGE)
    (tmp_path / "data").write_bytes(data)
    faults.on("POST", "/upload/image", Bandwidth(4_000_000, direction="up"))
    async with client(faults.url, Patience(idle=1.5, repeats=0)) as comfy:  # the whole takes longer
        uploaded = await comfy.upload(data if kind == "bytes" else tmp_path / "data", subfolder=FOLDER)
    async with client(faults.url) as comfy:
        assert await comfy.read(at(uploaded)) == data


@pytest.mark.parametrize("kind", ["bytes", "file"])
async def test_a_server_that_stops_taking_it_is_given_up(faults, sparse, kind):
    class Full(HttpToxic):
        def request(self, event):
            return [Hang()]

    class Deaf(HttpToxic):
        """Takes nothing more, and so the client's buffers fill up."""

        def request(self, event):
            return [Send(event.raw, 3600.0)]

    faults.on("POST", "/upload/image", Full())
    faults.on("POST", "/upload/image", Deaf(), times=None)
    async with client(faults.url, Patience(idle=0.2, repeats=1, first=0)) as comfy:
        with pytest.raises(TransferError, match="nothing was taken or answered for too long"):
            await comfy.upload(bytes(32 * 2**20) if kind == "bytes" else sparse(32 * 2**20))
    assert posts(faults) == 2


async def test_an_upload_that_is_cancelled_leaves_a_usable_client(faults, comfy):
    data = os.urandom(LARGE)
    faults.on("POST", "/upload/image", Bandwidth(100_000, direction="up"))
    task = asyncio.create_task(comfy.upload(data, subfolder=FOLDER))
    await faults.book.until(lambda: posts(faults) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await comfy.read(at(await comfy.upload(data, subfolder=FOLDER))) == data


# 41: names


ODD = [
    *("ü ñ 日本 🦊.png", 'quo"te.png', "a;b=c.png", "../up.png", "sub/x.png", "x\r\ny.png", "%41.png", "é.png"),
    *("e\u0301.png", "n" * 300 + ".png", "日" * 200, ".hidden", "CON.png", "a\\b.png", "   ", "", "..", "a.png\0b"),
    *("-rf.png", "name.", "\u202egnp.exe", "a..b.png", "x [temp]", "x [input].png"),
]


@pytest.mark.parametrize("name", ODD)
async def test_odd_names(comfy, tmp_path, name):
    data = noise(20, 10)
    uploaded = await comfy.upload(data, name=name, subfolder=FOLDER)
    assert await comfy.read(at(uploaded)) == data
    assert "/" not in uploaded.name
    try:
        path = tmp_path / (name.replace("/", "_") or "x")
        path.write_bytes(data + b"!")
    except (OSError, ValueError):
        return  # no file can have that name
    by_content = await comfy.upload(path, subfolder=FOLDER)
    assert await comfy.read(at(by_content)) == data + b"!"


@pytest.mark.parametrize("subfolder", ["a/b c/ü", "", "%41", "a&b=c"])
async def test_folders(comfy, subfolder):
    data = noise(20, 10)
    uploaded = await comfy.upload(data, subfolder=subfolder)
    assert uploaded.subfolder == subfolder
    assert await comfy.read(at(uploaded)) == data


async def test_a_folder_outside_is_refused(comfy):
    with pytest.raises(TransferError, match="HTTP 400"):
        await comfy.upload(noise(20, 10), subfolder="../../outside")


@pytest.mark.parametrize("explicit", [True, False])
async def test_fifty_at_once_of_one_name(comfy, tmp_path, explicit):
    name = f"{os.urandom(6).hex()}.bin"
    contents = [os.urandom(3000) for _ in range(50)]
    paths = []
    for index, data in enumerate(contents):
        (tmp_path / str(index)).mkdir()
        paths.append(tmp_path / str(index) / name)
        paths[-1].write_bytes(data)
    given = {"name": name} if explicit else {}
    sent = await asyncio.gather(*(comfy.upload(path, subfolder=FOLDER, **given) for path in paths))
    assert await asyncio.gather(*(comfy.read(at(uploaded)) for uploaded in sent)) == contents
    assert len({uploaded.name for uploaded in sent}) == 50


async def test_the_same_content_at_once_is_sent_once(faults, comfy):
    data = noise()
    sent = await asyncio.gather(*(comfy.upload(bytes(bytearray(data)), subfolder=FOLDER) for _ in range(20)))
    assert len(set(sent)) == 1
    assert posts(faults) == 1


# What is there already


async def test_what_was_sent_and_is_there_is_not_sent_again(faults, comfy, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(noise(20, 10))
    sent = [await comfy.upload(path, subfolder=FOLDER) for _ in range(3)]
    assert len(set(sent)) == 1
    assert posts(faults) == 1
    assert (await comfy.upload(path, subfolder=FOLDER, overwrite=True)) == sent[0]
    assert posts(faults) == 2


async def test_a_name_that_was_given_to_other_bytes_since(comfy):
    """A file is not taken for the one that had its name before."""
    first, second = noise(20, 10), noise(20, 10)
    name = f"{os.urandom(6).hex()}.png"
    for data, overwrite in ((first, False), (second, True), (first, False), (second, False)):
        uploaded = await comfy.upload(data, name=name, subfolder=FOLDER, overwrite=overwrite)
        assert await comfy.read(at(uploaded)) == data
    by_content = await comfy.upload(first, subfolder=FOLDER)
    await comfy.upload(second[::-1], name=by_content.name, subfolder=FOLDER, overwrite=True)
    again = await comfy.upload(first, subfolder=FOLDER)
    assert again != by_content
    assert await comfy.read(at(again)) == first


async def test_an_instance_that_was_set_up_anew(tmp_path):
    async with Emulator(base_dir=tmp_path) as emulator, client(emulator.url) as comfy:
        data = noise(20, 10)
        uploaded = await comfy.upload(data)
        for spoil in (lambda path: path.unlink(), lambda path: path.write_bytes(b"cut")):
            spoil(tmp_path / "input" / uploaded.name)
            uploaded = await comfy.upload(data)
            assert await comfy.read(at(uploaded)) == data


async def test_what_is_there_at_a_storage(faults, comfy):
    data = noise(20, 10)
    await comfy.upload(data, subfolder=FOLDER)
    faults.on("HEAD", "/view", Answer(302, {"Location": "https://storage.example/x?X-Goog-Signature=y"}))
    await comfy.upload(data, subfolder=FOLDER)
    assert posts(faults) == 1


@pytest.mark.parametrize("answer", [Answer(405), Answer(500), Lose()], ids=str)
async def test_who_does_not_say_whether_it_is_there_gets_it_again(faults, comfy, answer):
    data = noise(20, 10)
    sent = await comfy.upload(data, subfolder=FOLDER)
    faults.on("HEAD", "/view", answer, times=None)
    assert await comfy.upload(data, subfolder=FOLDER) == sent
    assert posts(faults) == 2


# What is sent


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
async def test_what_is_no_file_is_not_waited_for(comfy, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(TransferError, match="it is no file"):
            await comfy.upload(path)


async def test_a_file_that_is_being_written_is_not_sent_under_the_name_of_its_old_content(faults, comfy, tmp_path):
    path = tmp_path / "growing.bin"
    path.write_bytes(b"x" * 1000)
    faults.on("POST", "/upload/image", Lose())

    async def grow():
        with path.open("ab") as file:
            file.write(b"more")

    comfy._transfers.patience = Meanwhile(action=grow)
    with pytest.raises(TransferError, match="being changed"):
        await comfy.upload(path, subfolder=FOLDER)
    assert (await comfy.upload(path, subfolder=FOLDER)).name.startswith("growing-")


async def test_a_file_that_is_changed_while_it_is_sent(comfy, tmp_path, monkeypatch):
    """What the server has is not what its name says: so it is not said to be there, and not taken for it later."""
    path = tmp_path / "changing.bin"
    path.write_bytes(b"A" * LARGE)
    opened, overwrites = Source.opened, [True]

    @contextlib.contextmanager
    def changing(source, on_read):
        def read():
            on_read()
            if overwrites and seen.append(None) is None and len(seen) == 2:
                overwrites.pop()
                with path.open("r+b") as file:
                    file.write(b"B" * LARGE)
                os.utime(path, ns=(0, 0))  # whatever the clock of the system shows

        seen = []
        with opened(source, read) as file:
            yield file

    monkeypatch.setattr(Source, "opened", changing)
    with pytest.raises(TransferError, match="being changed"):
        await comfy.upload(path, subfolder=FOLDER)
    assert not overwrites
    for byte in (b"A", b"B"):
        path.write_bytes(byte * LARGE)
        assert await comfy.read(at(await comfy.upload(path, subfolder=FOLDER))) == byte * LARGE


async def test_a_file_that_another_takes_the_place_of_while_it_is_sent(comfy, tmp_path, monkeypatch):
    """The old one is sent, whole."""
    path = tmp_path / "replaced.bin"
    path.write_bytes(b"A" * LARGE)
    opened = Source.opened

    @contextlib.contextmanager
    def replacing(source, on_read):
        with opened(source, on_read) as file:
            (tmp_path / "new").write_bytes(b"B" * LARGE)
            (tmp_path / "new").replace(path)
            yield file

    monkeypatch.setattr(Source, "opened", replacing)
    assert await comfy.read(at(await comfy.upload(path, subfolder=FOLDER))) == b"A" * LARGE


async def test_a_closed_client(faults):
    async with client(faults.url) as comfy:
        pass
    with pytest.raises((ConfigError, TransferError), match="closed"):
        await comfy.upload(b"x")
    assert not [thread for thread in threading.enumerate() if "upload" in thread.name]


async def test_a_head_of_an_answer_that_says_nothing(faults, comfy):
    faults.on("POST", "/upload/image", EditHead(status=204))
    with pytest.raises(TransferError):
        await comfy.upload(noise(), subfolder=FOLDER)


async def test_two_proxies_in_a_row(server_url):
    async with FaultProxy(server_url) as outer, FaultProxy(outer.url) as inner, client(inner.url) as comfy:
        outer.on("POST", "/upload/image", Lose())
        inner.on("POST", "/upload/image", gateway_error(504), nth=2)
        data = noise()
        assert await comfy.read(at(await comfy.upload(data, subfolder=FOLDER))) == data
