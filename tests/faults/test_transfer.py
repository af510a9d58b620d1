"""Downloads: a file is home whole or not at all, whatever happens on its way."""

import asyncio
import contextlib
import errno
import hashlib
import os

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from comfyclient import ComfyClient, ConfigError, OutputExists, OutputRef, TransferError
from comfyclient._http import NeverSentError
from comfyclient.files import PartFile
from comfyclient.patience import Patience

from .files import Chunked, Meanwhile, NoRanges, Stall, Unframed, client, names, noise, put
from .http_toxics import Answer, AnswerAfter, CutResponse, EditHead, Lose, gateway_error
from .toxics import Bandwidth, ResetPeer, Slicer

UNLUCKY = OSError, aiohttp.ClientError


@pytest.fixture(params=["save", "read"])
def fetched(request, tmp_path):
    """Fetch a file: to the disk, or into memory. Nothing else is left behind."""

    async def fetch(comfy, ref):
        if request.param == "read":
            return await comfy.read(ref)
        path = tmp_path / "fetched"
        try:
            await comfy.download(ref, path, overwrite=True)
        except BaseException:
            assert names(tmp_path) == []
            raise
        assert names(tmp_path) == ["fetched"]
        return path.read_bytes()

    return fetch


def views(faults):
    """How often a file was asked for."""
    return faults.book.count("GET", "/view")


def asked_from(faults):
    """Where the last answer was asked to begin."""
    return faults.book.headers["/view"].get("range")


# 37: cut


CUTS = {
    "short": CutResponse(100_000),
    "reset": CutResponse(100_000, "reset"),
    "chunk": Chunked(100_000, "cut"),
    "garbage": Chunked(100_000, "garbage"),
    "no length": Unframed(100_000),
    "no length, reset": Unframed(100_000, "reset"),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_a_cut_file_is_fetched_from_where_it_broke_off(server_url, faults, fetched, cut):
    data = noise()
    ref = await put(server_url, data)
    faults.on("GET", "/view", cut)
    async with client(faults.url) as comfy:
        assert await fetched(comfy, ref) == data
    assert views(faults) == 2
    begin = int(asked_from(faults).removeprefix("bytes=").removesuffix("-"))
    assert 0 < begin <= 100_000


async def test_a_file_that_is_cut_again_and_again(server_url, faults, fetched):
    data = os.urandom(1_500_000)
    ref = await put(server_url, data)
    faults.on("GET", "/view", CutResponse(100_000, "reset"), times=None)
    async with client(faults.url, Patience(idle=20, retries=1, first=0)) as comfy:
        assert await fetched(comfy, ref) == data
    assert views(faults) >= 15


async def test_a_cut_that_leaves_nothing_to_fetch(server_url, faults, fetched):
    ref = await put(server_url, data := noise())
    faults.on("GET", "/view", CutResponse(len(data)))
    async with client(faults.url) as comfy:
        assert await fetched(comfy, ref) == data
    assert views(faults) == 1


@pytest.mark.parametrize("toxic", [CutResponse(0), CutResponse(0, "reset"), Lose(), gateway_error(502), Stall(0)])
async def test_an_instance_that_never_gets_further(server_url, faults, fetched, toxic):
    ref = await put(server_url, noise())
    faults.on("GET", "/view", toxic, times=None)
    idle = 0.2 if isinstance(toxic, Stall) else 20
    async with client(faults.url, Patience(idle=idle, retries=2, first=0)) as comfy:
        with pytest.raises(TransferError, match=r"cannot fetch .*: GET /view: "):
            await fetched(comfy, ref)
    assert views(faults) == (6 if isinstance(toxic, Lose) else 3)  # aiohttp itself repeats what got no answer


async def test_a_gateway_that_is_lost_for_words_for_a_while(server_url, faults, fetched):
    ref = await put(server_url, data := noise())
    faults.on("GET", "/view", CutResponse())
    faults.on("GET", "/view", gateway_error(503))
    faults.on("GET", "/view", Answer(429))
    faults.on("GET", "/view", ResetPeer(0), nth=4)
    async with client(faults.url) as comfy:
        assert await fetched(comfy, ref) == data


async def test_a_server_that_is_away_for_a_while(server_url, faults, fetched):
    ref = await put(server_url, data := noise())
    faults.on("GET", "/view", CutResponse())
    async with contextlib.AsyncExitStack() as away:

        async def first_gone_then_back():
            if faults.book.count("GET", "/view") == 1 and not gone:
                gone.append(await away.enter_async_context(faults.down()))
            else:
                await away.aclose()

        gone = []
        async with client(faults.url, Meanwhile(idle=20, action=first_gone_then_back)) as comfy:
            assert await fetched(comfy, ref) == data
    assert views(faults) == 2


# 37: without a length


async def test_without_a_length_the_end_of_a_picture_is_known(server_url, faults, fetched):
    ref = await put(server_url, data := noise())
    faults.on("GET", "/view", Unframed())
    async with client(faults.url) as comfy:
        assert await fetched(comfy, ref) == data
    assert views(faults) == 1


async def test_a_cut_picture_without_a_length_is_never_taken_for_one(server_url, faults, fetched):
    data = noise()
    ref = await put(server_url, data)
    faults.on("GET", "/view", Unframed(len(data) - 1, without=("ETag", "Last-Modified")), times=None)
    async with client(faults.url) as comfy:
        with pytest.raises(TransferError, match=r"ended before the file did|cannot be had in parts"):
            await fetched(comfy, ref)
    assert 2 <= views(faults) <= 5


@pytest.mark.parametrize("at", [2**60, 70_000], ids=["whole", "cut"])
async def test_without_a_length_more_is_asked_for_of_what_has_no_end_of_its_own(server_url, faults, fetched, at):
    data = b"solid\n" + os.urandom(50_000).hex().encode()
    ref = await put(server_url, data)
    faults.on("GET", "/view", Unframed(at))
    async with client(faults.url, Patience(idle=20, retries=0)) as comfy:
        assert await fetched(comfy, ref) == data
    assert views(faults) == 2
    assert asked_from(faults) is not None


@pytest.mark.parametrize("without", [("ETag", "Last-Modified"), ("Last-Modified",)])
async def test_without_a_length_and_without_ranges_a_clean_end_is_the_end(server_url, faults, fetched, without):
    data = b"solid\n" + os.urandom(50_000).hex().encode()
    ref = await put(server_url, data)
    faults.on("GET", "/view", Unframed(without=without, ranges=False), times=None)
    async with client(faults.url, Patience(idle=20, retries=0)) as comfy:
        assert await fetched(comfy, ref) == data
    assert views(faults) == (1 if "ETag" in without else 2)


async def test_without_a_length_and_without_ranges_a_cut_file_is_not_taken_for_whole(server_url, faults, fetched):
    data = b"solid\n" + os.urandom(50_000).hex().encode()
    ref = await put(server_url, data)
    faults.on("GET", "/view", Unframed(70_000, ranges=False))
    faults.on("GET", "/view", Unframed(ranges=False), times=None)
    async with client(faults.url, Patience(idle=20, retries=0)) as comfy:
        assert await fetched(comfy, ref) == data
    assert views(faults) == 3


async def test_without_a_length_a_reset_is_no_end(server_url, faults, fetched):
    data = b"solid\n" + os.urandom(50_000).hex().encode()
    ref = await put(server_url, data)
    faults.on("GET", "/view", Unframed(70_000, "reset"))
    async with client(faults.url) as comfy:
        assert await fetched(comfy, ref) == data
    assert views(faults) == 2


async def test_without_a_length_and_without_ranges_a_reset_is_no_end_either(server_url, faults, fetched):
    ref = await put(server_url, b"solid\n" + os.urandom(50_000).hex().encode())
    faults.on("GET", "/view", Unframed(70_000, "reset", without=("ETag", "Last-Modified")), times=None)
    async with client(faults.url) as comfy:
        with pytest.raises(TransferError, match="cannot fetch"):
            await fetched(comfy, ref)


async def test_with_the_right_length_a_file_may_be_as_odd_as_it_likes(server_url, faults, fetched):
    data = noise()[:-7]
    ref = await put(server_url, data)
    async with client(faults.url) as comfy:
        assert await fetched(comfy, ref) == data
        faults.on("GET", "/view", Chunked())
        assert await fetched(comfy, ref) == data
    assert views(faults) == 2


async def test_more_than_was_announced(server_url, faults, fetched):
    ref = await put(server_url, noise())
    faults.on("GET", "/view", Answer(200, {"ETag": '"e"', "Content-Length": "100002"}, b"x" * 100_000, then="close"))
    lie = {"Content-Range": "bytes 100000-100001/100002", "ETag": '"e"', "Content-Length": "500000"}
    faults.on("GET", "/view", Answer(206, lie, b"x" * 500_000, then="close"))
    async with client(faults.url) as comfy:
        with pytest.raises(TransferError, match="more came than"):
            await fetched(comfy, ref)


async def test_an_empty_file(server_url, faults, fetched):
    ref = await put(server_url, noise())
    faults.on("GET", "/view", CutResponse(100_000))

    async def replace():
        await put(server_url, b"", name=ref.filename)

    async with client(faults.url, Meanwhile(idle=20, action=replace)) as comfy:
        assert await fetched(comfy, ref) == b""


# 38: another file


@pytest.mark.parametrize("size", [180_000, 60_000, 100_000], ids=["206", "416", "416 just behind its end"])
async def test_a_file_that_was_replaced_meanwhile(server_url, faults, fetched, size):
    old, new = noise(), os.urandom(size)
    ref = await put(server_url, old)
    faults.on("GET", "/view", CutResponse(100_000))

    async def replace():
        await put(server_url, new, name=ref.filename)

    async with client(faults.url, Meanwhile(idle=20, action=replace)) as comfy:
        assert await fetched(comfy, ref) == new
    assert views(faults) == 3
    assert asked_from(faults) is None


async def test_a_file_that_is_gone_meanwhile(server_url, faults, fetched):
    ref = await put(server_url, noise())
    faults.on("GET", "/view", CutResponse())
    faults.on("GET", "/view", Answer(404))
    async with client(faults.url) as comfy:
        with pytest.raises(TransferError, match="no longer has"):
            await fetched(comfy, ref)


async def test_a_file_that_is_replaced_all_the_time(server_url, faults, fetched):
    ref = await put(server_url, noise())
    faults.on("GET", "/view", CutResponse(100_000), times=None)

    async def replace():
        await put(server_url, noise(), name=ref.filename)

    async with client(faults.url, Meanwhile(idle=20, retries=100, action=replace)) as comfy:
        with pytest.raises(TransferError, match="changes all the time"):
            await fetched(comfy, ref)
    assert views(faults) <= 10


async def test_a_server_without_ranges(server_url, faults, fetched):
    ref = await put(server_url, data := noise())
    faults.on("GET", "/view", NoRanges(100_000))
    faults.on("GET", "/view", NoRanges())
    async with client(faults.url) as comfy:
        assert await fetched(comfy, ref) == data
    assert asked_from(faults) is not None
    assert views(faults) == 2


async def test_a_server_without_ranges_that_always_breaks_off(server_url, faults, fetched):
    ref = await put(server_url, noise())
    faults.on("GET", "/view", NoRanges(100_000), times=None)
    async with client(faults.url, Patience(idle=20, retries=100, first=0)) as comfy:
        with pytest.raises(TransferError):
            await fetched(comfy, ref)
    assert views(faults) <= 5


async def test_by_date_and_length_if_there_is_no_etag(server_url, faults, fetched):
    ref = await put(server_url, data := noise())
    old = {"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT"}
    faults.on("GET", "/view", NoRanges(100_000, without=("ETag",), headers=old))
    faults.on("GET", "/view", EditHead(headers={"ETag": 'W/"weak"', **old}))
    async with client(faults.url) as comfy:
        assert await fetched(comfy, ref) == data
    assert views(faults) == 2
    assert asked_from(faults) == "bytes=100000-"


async def test_the_date_of_a_new_file_does_not_stand_for_its_content(server_url, faults, fetched):
    old, new = os.urandom(180_000), os.urandom(180_000)
    ref = await put(server_url, old)
    now = {"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT", "Date": "Wed, 01 Jan 2025 00:00:59 GMT", "ETag": None}
    faults.on("GET", "/view", NoRanges(100_000, headers=now))
    faults.on("GET", "/view", EditHead(headers=now), times=None)

    async def replace():
        await put(server_url, new, name=ref.filename)

    async with client(faults.url, Meanwhile(idle=20, action=replace)) as comfy:
        assert await fetched(comfy, ref) == new
    assert asked_from(faults) is None


async def test_without_etag_and_date_it_begins_anew(server_url, faults, fetched):
    ref = await put(server_url, data := noise())
    faults.on("GET", "/view", NoRanges(100_000, without=("ETag", "Last-Modified")))
    async with client(faults.url) as comfy:
        assert await fetched(comfy, ref) == data
    assert views(faults) == 2
    assert asked_from(faults) is None


@pytest.mark.parametrize(
    "headers",
    [{"ETag": '"another"'}, {"ETag": None}, {"Content-Range": "bytes 5-9/10"}, {"Content-Range": None},
     {"Content-Range": "bytes 99999-180000/180001"}, {"Content-Type": "multipart/byteranges", "Content-Range": None}],
    ids=str,
)  # fmt: skip
async def test_a_206_of_something_else_is_not_glued_on(server_url, faults, fetched, headers):
    ref = await put(server_url, data := noise())
    faults.on("GET", "/view", CutResponse(100_000))
    faults.on("GET", "/view", EditHead(headers=headers))
    async with client(faults.url) as comfy:
        assert await fetched(comfy, ref) == data
    assert views(faults) == 3
    assert asked_from(faults) is None


# 43: slow


async def test_slow_is_not_silent(server_url, faults, fetched):
    ref = await put(server_url, data := os.urandom(40))
    faults.on("GET", "/view", Slicer(1, delay=0.008))
    async with client(faults.url, Patience(idle=2, retries=0)) as comfy:  # the whole takes longer than that
        assert await fetched(comfy, ref) == data
    assert views(faults) == 1


async def test_a_connection_that_falls_silent_is_given_up(server_url, faults, fetched):
    ref = await put(server_url, data := noise())
    faults.on("GET", "/view", Stall(100_000))
    async with client(faults.url, Patience(idle=1, first=0)) as comfy:
        assert await fetched(comfy, ref) == data
    assert views(faults) == 2
    assert asked_from(faults) is not None


# 39: the disk


@contextlib.contextmanager
def without_rights(folder):
    """Nobody may write there; root is somebody else for a while."""
    folder.chmod(0o555)
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if as_root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX")
async def test_a_folder_that_nobody_may_write_to(server_url, tmp_path):
    ref = await put(server_url, noise())
    folder = tmp_path / "closed"
    folder.mkdir()
    tmp_path.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    async with client(server_url) as comfy:
        with without_rights(folder), pytest.raises(TransferError, match="cannot write"):
            await comfy.download(ref, folder / "a.png")
    assert names(folder) == []


@pytest.mark.parametrize("at", [0, 120_000])
async def test_a_disk_that_fills_up(server_url, faults, tmp_path, monkeypatch, at):
    ref = await put(server_url, noise())
    faults.on("GET", "/view", CutResponse(100_000))
    write, room = PartFile.write, [at]

    def write_some(part, data):
        write(part, data[: room[0]])
        room[0] -= len(data)
        if room[0] < 0:
            from comfyclient.files import writing

            with writing(part.path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PartFile, "write", write_some)
    async with client(faults.url) as comfy:
        with pytest.raises(TransferError, match="no space left") as caught:
            await comfy.download(ref, tmp_path / "a.png")
    assert "make room" in caught.value.hint
    assert names(tmp_path) == []


async def test_what_is_there_is_left_alone(server_url, faults, tmp_path):
    ref = await put(server_url, data := noise())
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    async with client(faults.url) as comfy:
        for name in ("kept", "link"):
            faults.on("GET", "/view", CutResponse())
            with pytest.raises(OutputExists):
                await comfy.download(ref, tmp_path / name)
        assert names(tmp_path) == ["kept", "link"]
        await comfy.download(ref, tmp_path / "link", overwrite=True)
    assert (tmp_path / "kept").read_text() == "kept"
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_bytes() == data


# Bounds


async def test_a_file_too_large_for_memory(server_url, faults):
    ref = await put(server_url, noise())
    async with client(faults.url) as comfy:
        comfy._transfers.read_cap = 100_000
        with pytest.raises(TransferError, match="is larger than") as caught:
            await comfy.read(ref)
    assert "save it to a file" in caught.value.hint
    assert views(faults) == 1


async def test_a_file_larger_than_what_may_be_saved(server_url, faults, tmp_path):
    ref = await put(server_url, noise())
    async with ComfyClient(faults.url, max_download=100_000) as comfy:
        with pytest.raises(TransferError, match="larger than") as caught:
            await comfy.download(ref, tmp_path / "a.png")
    assert "max_download" in caught.value.hint
    assert names(tmp_path) == []


def test_what_may_be_saved_is_bounded_unless_somebody_says_otherwise():
    assert ComfyClient()._transfers.save_cap == 64 * 2**30
    assert ComfyClient(max_download=None)._transfers.save_cap is None
    with pytest.raises(ConfigError):
        ComfyClient(max_download=0)


async def test_transfers_keep_no_other_call_waiting():
    """As many as there may be are stuck, and more wait for them."""
    stuck, release = asyncio.Event(), asyncio.Event()
    views = []

    async def view(_):
        views.append(0)
        if len(views) == 100:
            stuck.set()
        await release.wait()
        return web.Response(body=b"file")

    async def prompt(_):
        return web.json_response({"exec_info": {"queue_remaining": 0}})

    app = web.Application()
    app.router.add_get("/view", view)
    app.router.add_get("/prompt", prompt)
    async with TestServer(app) as server, ComfyClient(str(server.make_url("/")), timeout=5) as comfy:
        reads = [asyncio.create_task(comfy.read(OutputRef("1", "images", f"{number}.bin"))) for number in range(101)]
        await stuck.wait()
        await comfy.login()
        assert len(views) == 100
        release.set()
        assert await asyncio.gather(*reads) == [b"file"] * 101


async def test_a_call_that_waits_for_others_was_never_sent():
    asked, full, release = [], asyncio.Event(), asyncio.Event()

    async def prompt(_):
        asked.append(0)
        if len(asked) == 64:
            full.set()
        await release.wait()
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/prompt", prompt)
    async with TestServer(app) as server, ComfyClient(str(server.make_url("/"))) as comfy:
        calls = [asyncio.create_task(comfy._http.get("/prompt")) for _ in range(64)]
        await full.wait()
        with pytest.raises(NeverSentError):
            await comfy._http.request("GET", "/prompt", timeout=aiohttp.ClientTimeout(total=0.05))
        release.set()
        await asyncio.gather(*calls)
        assert len(asked) == 64
        assert (await comfy._http.get("/prompt")).status == 200


async def test_a_compressed_answer_is_decoded_and_begun_anew_if_it_breaks(server_url, faults, fetched):
    import gzip

    ref = await put(server_url, noise())
    data = b"v 1 2 3\n" * 50_000
    packed = gzip.compress(data)
    headers = {"Content-Encoding": "gzip", "ETag": '"e"', "Content-Length": str(len(packed))}
    faults.on("GET", "/view", Answer(200, headers, packed[:-20], then="close"))
    faults.on("GET", "/view", Answer(200, headers, packed))
    async with client(faults.url) as comfy:
        assert await fetched(comfy, ref) == data
    assert faults.book.headers["/view"]["accept-encoding"] == "identity"
    assert asked_from(faults) is None


async def test_a_login_page_in_the_middle_is_no_part_of_a_file(server_url, faults, fetched):
    ref = await put(server_url, noise())
    faults.on("GET", "/view", CutResponse())
    faults.on("GET", "/view", AnswerAfter(200, {"Content-Type": "text/html"}, "<html>Log in</html>"))
    async with client(faults.url) as comfy:
        with pytest.raises(TransferError, match="web page"):
            await fetched(comfy, ref)


# All at once


async def test_random_faults(server_url, faults, tmp_path):
    """Each file comes home as it is, whatever the seed brings; or it is not there."""
    files = {}
    for index in range(12):
        data = os.urandom(200_000) if index % 2 else noise()
        files[await put(server_url, data)] = hashlib.sha256(data).hexdigest()
    for toxic in (
        CutResponse(),
        CutResponse(how="reset"),
        Unframed(90_000),
        Chunked(90_000, "cut"),
        gateway_error(502),
    ):
        faults.on("GET", "/view", toxic, probability=0.15, times=None)
    faults.on("GET", "/view", Bandwidth(5_000_000), probability=0.2, times=None)
    async with client(faults.url, Patience(idle=20, retries=8, first=0)) as comfy:
        for index, (ref, digest) in enumerate(files.items()):
            path = tmp_path / f"{index}"
            await comfy.download(ref, path)
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert names(tmp_path) == sorted(f"{index}" for index in range(12))
