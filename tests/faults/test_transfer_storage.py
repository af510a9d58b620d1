"""Files that the instance keeps in an object storage: fetched with signed addresses, each for one request."""

import functools
import os
import ssl

import pytest
import trustme
from aiohttp import web

from comfyclient import OutputRef, TransferError, storage
from comfyclient._transport import Transport
from comfyclient.auth import BearerToken
from comfyclient.auth.tls import TLS
from comfyclient.client import ComfyClient
from comfyclient.emulator import Emulator
from comfyclient.patience import Patience

from .http_toxics import Answer
from .proxy import FaultProxy

REF = OutputRef("1", "images", "kept elsewhere.bin")
DATA = os.urandom(300_000)


class Storage:
    """An https server of one file, whose address is good for one request.

    Attributes:
        cuts: How many answers break off behind 100 000 bytes.
        requests: The headers of each request.
        status: Given instead of the file, if not 200.
    """

    def __init__(self, folder):
        self.cuts = 0
        self.status = 200
        self.requests = []
        self.used = set()
        self._ca = trustme.CA()
        self._path = folder / "object"
        self._path.write_bytes(DATA)
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca_file)

    async def __aenter__(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        app = web.Application()
        app.router.add_get("/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.url = f"https://localhost:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    async def _answer(self, request):
        self.requests.append(request.headers.copy())
        signature = request.query.get("X-Amz-Signature")
        if request.path == "/round":
            other = "127.0.0.1" if request.url.host == "localhost" else "localhost"
            return web.Response(
                status=302, headers={"Location": f"https://{other}:{request.url.port}/round?X-Amz-Signature=0"}
            )
        if signature in self.used or self.status != 200:
            return web.Response(status=403 if self.status == 200 else self.status)
        self.used.add(signature)
        if not self.cuts:
            return web.FileResponse(self._path)
        self.cuts -= 1
        whole = web.StreamResponse(headers={"Content-Length": str(len(DATA)), "ETag": self._etag()})
        await whole.prepare(request)
        await whole.write(DATA[:100_000])
        request.transport.close()
        return whole

    def _etag(self):
        about = self._path.stat()
        return f'"{about.st_mtime_ns:x}-{about.st_size:x}"'


@pytest.fixture
async def stored(tmp_path, monkeypatch):
    async with Storage(tmp_path) as running:
        tls = TLS(ca_file=str(running.ca_file))
        monkeypatch.setattr(storage, "Transport", functools.partial(Transport, tls=tls))
        yield running


@pytest.fixture
async def instance(stored):
    """A `FaultProxy` that redirects to the storage, with another signature each time."""

    class Redirect(Answer):
        count = 0

        def give(self):
            Redirect.count += 1
            location = f"{stored.url}/object?X-Amz-Signature={Redirect.count}"
            return Answer(302, {"Location": location}).fresh(self.chance).give()

    async with Emulator() as emulator, FaultProxy(emulator.url) as proxy:
        proxy.on("GET", "/view", Redirect(), times=None)
        yield proxy


@pytest.fixture
async def comfy(instance):
    async with ComfyClient(instance.url, auth=BearerToken("the secret")) as client:
        client._transfers.patience = Patience(idle=20, retries=2, first=0)
        yield client


async def test_a_broken_transfer_goes_on_with_a_new_address(instance, stored, comfy, tmp_path):
    stored.cuts = 1
    path = await comfy.download(REF, tmp_path / "got.bin")
    assert path.read_bytes() == DATA
    assert instance.book.count("GET", "/view") == len(stored.requests) == 2
    assert stored.requests[1]["Range"] == "bytes=100000-"
    for headers in stored.requests:
        assert not {"Authorization", "Cookie"} & set(headers)
        assert headers["Accept-Encoding"] == "identity"
    assert instance.book.headers["/view"]["authorization"] == "Bearer the secret"


@pytest.mark.parametrize(("status", "times"), [(503, 3), (429, 3), (403, 1), (404, 1), (500, 3)])
async def test_a_storage_that_refuses(stored, comfy, status, times):
    stored.status = status
    with pytest.raises(TransferError) as caught:
        await comfy.read(REF)
    assert "Signature" not in str(caught.value)
    assert len(stored.requests) == times


async def test_a_storage_that_sends_on_and_on(instance, stored, comfy):
    for rule in tuple(instance.rules.requests):
        instance.off(rule)
    instance.on("GET", "/view", Answer(302, {"Location": f"{stored.url}/round?X-Amz-Signature=0"}), times=None)
    with pytest.raises(TransferError, match="redirects without end"):
        await comfy.read(REF)
    assert len(stored.requests) == 3
