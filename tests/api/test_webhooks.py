"""Webhooks: signed, sent until they are taken, to nobody else, and not forgotten over a restart."""

import asyncio
import hashlib
import hmac
import json
import time
from dataclasses import dataclass

import pytest
from aiohttp import web

from comfyclient._redact import Secret
from comfyclient.addresses import Addresses

from ..contract.prompts import picture  # noqa: TID252
from .rig import KEY, KEYS, OTHER_KEY, SECONDS, ended, new_session, no, ok, queue, serving

SECRET = "what-we-both-know"
AT_ONCE = (0.0,) * 5


@dataclass
class Delivery:
    path: str
    headers: dict
    body: bytes

    @property
    def id(self):
        return self.headers["X-Comfyclient-Delivery"]

    @property
    def job(self):
        return json.loads(self.body)["job"]

    def is_signed(self, secret=SECRET):
        stamp, _, mac = self.headers["X-Comfyclient-Signature"].partition(",")
        assert abs(int(stamp.removeprefix("t=")) - time.time()) < SECONDS
        signed = stamp.removeprefix("t=").encode() + b"." + self.body
        return hmac.compare_digest(mac, f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}")


class Receiver:
    """Answers deliveries, in turn, with what ``answers`` says, and at last with 204."""

    def __init__(self):
        self.deliveries = []
        self.answers = []
        self._news = asyncio.Condition()

    async def __aenter__(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    async def got(self, count):
        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(lambda: len(self.deliveries) >= count)

    async def _take(self, request):
        delivery = Delivery(request.path, dict(request.headers), await request.read())
        async with self._news:
            self.deliveries.append(delivery)
            self._news.notify_all()
        status, headers = self.answers.pop(0) if self.answers else (204, {})
        return web.Response(status=status, headers=headers)


@pytest.fixture
async def receiver():
    async with Receiver() as running:
        yield running


def hooked(pauses=AT_ONCE, **settings):
    """A server with webhooks that does not wait between attempts."""

    def before(hub):
        hub.webhooks._pauses = pauses

    return serving(before=before, webhook_secret=Secret(SECRET), **settings)


async def settled(served, count):
    """Wait until nothing is left to deliver."""
    async with asyncio.timeout(SECONDS):
        while tasks := tuple(served.hub.webhooks._tasks):
            await asyncio.wait(tasks)
    assert len(list(served.hub.book)) == count


async def test_the_end_of_a_job_is_told_signed_with_what_it_made(emulator, receiver):
    async with hooked() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        [good] = await queue(http, session, picture(), webhook=f"{receiver.url}/done?for=me")
        await receiver.got(1)
        emulator.faults.fail("EmptyImage", "no paint")
        [bad] = await queue(http, session, picture(), webhook=f"{receiver.url}/done")
        await receiver.got(2)
        await settled(served, 2)
        assert ok(await http.get(f"/jobs/{good['id']}"))["webhook"] == "delivered"
        listed = ok(await http.get(f"/jobs/{good['id']}/outputs"))
    first, second = receiver.deliveries
    assert first.is_signed()
    assert not first.is_signed("another-secret")
    assert (first.path, first.id, first.job["state"]) == ("/done", good["id"], "succeeded")
    assert json.loads(first.body)["outputs"] == listed["outputs"]
    assert (second.id, second.job["state"], second.job["error"]["code"]) == (bad["id"], "failed", "job_failed")
    assert second.is_signed()


async def test_what_fails_for_now_is_sent_again_and_what_is_refused_is_not(emulator, receiver):
    async with hooked() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        receiver.answers = [(500, {}), (503, {}), (429, {}), (408, {})]
        [job] = await queue(http, session, picture(), webhook=receiver.url)
        await receiver.got(5)
        assert {delivery.id for delivery in receiver.deliveries} == {job["id"]}
        assert all(delivery.is_signed() for delivery in receiver.deliveries)
        for status, headers in ((404, {}), (401, {}), (302, {"Location": f"{receiver.url}/elsewhere"})):
            before = len(receiver.deliveries)
            receiver.answers = [(status, headers)]
            [job] = await queue(http, session, picture(), webhook=f"{receiver.url}/{status}")
            await receiver.got(before + 1)
            await settled(served, len(list(served.hub.book)))
            assert len(receiver.deliveries) == before + 1
            assert (
                ok(await http.get(f"/jobs/{job['id']}"))["webhook"] == f"given up: it was answered with HTTP {status}"
            )
        receiver.answers = [(500, {})] * 6
        before = len(receiver.deliveries)
        [job] = await queue(http, session, picture(), webhook=receiver.url)
        await receiver.got(before + 6)
        await settled(served, 5)
        assert ok(await http.get(f"/jobs/{job['id']}"))["webhook"] == "given up: it was answered with HTTP 500"
    assert all(delivery.path != "/elsewhere" for delivery in receiver.deliveries)


async def test_addresses_that_are_refused_to_instances_are_so_to_webhooks(emulator, receiver):
    port = int(receiver.url.rpartition(":")[2])
    policy = Addresses(own=[("127.0.0.1", port)])
    async with hooked(addresses=policy) as served, served.client() as http:
        session = await new_session(http, emulator.url)
        urls = [
            "http://169.254.169.254/latest",
            f"http://localhost:{port}/",
            "http://[::ffff:169.254.169.254]/",
            f"http://0x7f.1:{port}/",
        ]
        jobs = [(await queue(http, session, picture(), webhook=url))[0] for url in urls]
        for job in jobs:
            assert (await ended(http, job["id"]))["state"] == "succeeded"
        await settled(served, len(urls))
        told = {ok(await http.get(f"/jobs/{job['id']}"))["webhook"] for job in jobs}
        assert len(told) == 1
        assert told.pop().startswith("given up: ")
    assert receiver.deliveries == []


async def test_receivers_of_one_key_that_never_answer_hold_up_none_of_another(emulator, receiver):
    taken, dropped, open_ones = asyncio.Semaphore(0), [], set()
    all_gone = asyncio.Event()

    async def never(reader, writer):
        open_ones.add(writer)
        taken.release()
        while await reader.read(2**16):
            pass
        dropped.append(receiver.deliveries[:])
        writer.close()
        await writer.wait_closed()
        open_ones.discard(writer)
        if not open_ones:
            all_gone.set()

    silent = await asyncio.start_server(never, "127.0.0.1", 0)
    async with silent, hooked(keys=KEYS) as served, served.client(KEY) as alice, served.client(OTHER_KEY) as bob:
        port = silent.sockets[0].getsockname()[1]
        hers, his = await new_session(alice, emulator.url), await new_session(bob, emulator.url)
        many = await queue(alice, hers, picture(), iterations=40, webhook=f"http://127.0.0.1:{port}/")
        for job in many:
            await ended(alice, job["id"])
        await taken.acquire()
        await queue(bob, his, picture(), webhook=receiver.url)
        await receiver.got(1)
        assert dropped == []  # his did not wait until one of hers was given up
    await asyncio.wait_for(all_gone.wait(), 30)


async def test_what_is_no_webhook_is_refused_before_anything_is_queued(emulator):
    async with hooked() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        for url in (
            "ftp://x/",
            "file:///etc/passwd",
            "not a url",
            "http://",
            "http://user:pw@host/",
            "//host/",
            "http://[::1",
        ):
            answer = await http.post(f"{session}/jobs", json={"workflow": picture().nodes, "webhook": url})
            no(answer, 400, "webhook_refused")
    async with serving() as served, served.client() as http:
        session = await new_session(http, emulator.url)
        answer = await http.post(f"{session}/jobs", json={"workflow": picture().nodes, "webhook": "http://x/"})
        no(answer, 400, "no_webhook_secret")
    assert emulator.core.number == 0


async def test_what_was_not_taken_is_sent_by_the_next_server_and_what_was_is_not(emulator, receiver, tmp_path):
    journal = tmp_path / "journal"
    async with hooked((3600.0,), journal=journal) as served, served.client() as http:
        session = await new_session(http, emulator.url)
        [taken] = await queue(http, session, picture(), webhook=receiver.url)
        await receiver.got(1)
        receiver.answers = [(500, {})] * 2
        [good] = await queue(http, session, picture(), webhook=receiver.url)
        await receiver.got(2)
        emulator.faults.fail("EmptyImage", "no paint")
        [bad] = await queue(http, session, picture(), webhook=receiver.url)
        await receiver.got(3)
    async with hooked(journal=journal) as served, served.client() as http:
        await receiver.got(5)
        await settled(served, 3)
        assert ok(await http.get(f"/jobs/{good['id']}"))["webhook"] == "delivered"
    later = {delivery.id: delivery for delivery in receiver.deliveries[3:]}
    assert {job_id: delivery.job["state"] for job_id, delivery in later.items()} == {
        good["id"]: "succeeded", bad["id"]: "failed",
    }  # fmt: skip
    assert all(delivery.is_signed() for delivery in later.values())
    async with hooked(journal=journal) as served, served.client() as http:
        await settled(served, 3)
        jobs = ok(await http.get("/jobs"))["jobs"]
        assert {job["id"] for job in jobs} == {taken["id"], good["id"], bad["id"]}
    assert len(receiver.deliveries) == 5
