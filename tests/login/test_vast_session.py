"""The client before vast.ai's portal over time: ComfyUI that is not up yet or goes away, secrets that change."""

import asyncio

import pytest

from comfyclient import (
    AuthRequired,
    ComfyClient,
    CredentialsExpired,
    InstanceStarting,
    InstanceUnavailable,
    JobLost,
    JobState,
    LoginRefused,
    NodeStarted,
    OutcomeUnknown,
    TransferError,
)

from .caddy import Caddy
from .gateway import Gateway
from .sniffer import Sniffer
from .vast import vast_caddyfile, vast_portal
from .visit import SECONDS, WAYS, attempts, by_every_way, picture, requests, visit

PASSWORD = "web-password-0123"
OTHER = "another-password-4567"

# What a Cloudflare tunnel adds on the way to the portal, which then answers 200 with its waiting page.
TUNNEL = """
{
	admin off
}
:{$PORT} {
	bind {$HOST}
	reverse_proxy %s {
		header_up Cf-Ray 8f0e1d2c3b4a5968-FRA
	}
}
"""


class Witness(Gateway):
    """Lets everything through; it stands behind a portal, and sees what came through that."""

    def admits(self, request):
        """See `Gateway.admits`."""
        return True


@pytest.fixture
async def portal(serve, emulator):
    return await serve(vast_portal(emulator.url, web_password=PASSWORD))


@pytest.fixture(params=["straight", "through Cloudflare"])
async def way_in(request, serve, portal):
    """The url of the portal, whose waiting page is a 502, or behind a tunnel a 200."""
    if request.param == "straight":
        return portal.url
    return (await serve(Caddy(TUNNEL % portal.url.removeprefix("http://")))).url


async def until_connected(comfy):
    """Ask for something again and again until events arrive anew."""
    async with asyncio.timeout(SECONDS):
        while not comfy.connected:
            await comfy.info()


# Not up yet


@by_every_way()
async def test_while_comfyui_starts_the_login_says_so_and_goes_on_when_it_is_up(way_in, emulator, way):
    async with ComfyClient(way_in, **way(PASSWORD)) as comfy:
        async with emulator.down():
            for call in (comfy.login, comfy.info, comfy.catalog, comfy.jobs, lambda: comfy.queue(picture())):
                with pytest.raises(InstanceStarting) as raised:
                    await call()
                assert PASSWORD not in f"{raised.value!r} {raised.value.hint}"
            with pytest.raises(InstanceStarting, match="not up"):
                await comfy.wait_ready(0)
        assert (await visit(comfy, emulator)).kind == "vast"


@by_every_way()
async def test_wait_ready_waits_for_comfyui_and_then_all_works(monkeypatch, way_in, emulator, way):
    monkeypatch.setattr("comfyclient.client._READY_FIRST", 0.01)
    away = emulator.down()
    await away.__aenter__()
    coming, reasons = [], []

    def waiting(reason):
        reasons.append(reason)
        coming.append(asyncio.ensure_future(away.__aexit__(None, None, None)))

    async with ComfyClient(way_in, **way(PASSWORD)) as comfy:
        await comfy.wait_ready(SECONDS, waiting=waiting)
        await asyncio.gather(*coming)
        await visit(comfy, emulator)
    (reason,) = reasons
    assert "not up" in reason
    assert PASSWORD not in reason


async def test_a_wrong_secret_is_not_waited_with(serve, portal, emulator):
    sniffer = await serve(Sniffer(portal.url))
    async with emulator.down():
        for way in WAYS.values():
            async with ComfyClient(sniffer.url, **way(OTHER)) as comfy:
                with pytest.raises(LoginRefused):
                    await comfy.wait_ready(SECONDS)
    assert len(attempts(sniffer)) <= 2 * len(WAYS)


async def test_a_portal_that_is_not_up_either_is_waited_for(monkeypatch, portal, emulator):
    monkeypatch.setattr("comfyclient.client._READY_FIRST", 0.01)
    await portal.stop()
    coming = []
    async with ComfyClient(portal.url, **WAYS["password"](PASSWORD)) as comfy:
        with pytest.raises(InstanceUnavailable, match="cannot connect"):
            await comfy.login()
        await comfy.wait_ready(
            SECONDS,
            waiting=lambda reason: coming.append(asyncio.ensure_future(portal.restart())) if not coming else None,
        )
        await asyncio.gather(*coming)
        await visit(comfy, emulator)


# Gone in the middle


async def test_comfyui_that_goes_away_in_the_middle_is_no_matter_of_logins(monkeypatch, serve, way_in, emulator):
    monkeypatch.setattr("comfyclient.socket._REFUSED_FIRST", 0.05)
    sniffer = await serve(Sniffer(way_in))
    hold = emulator.faults.hold("EmptyImage")
    async with ComfyClient(sniffer.url, **WAYS["token login"](PASSWORD), poll_interval=0.1) as comfy:
        session = await comfy.login()
        job = await comfy.submit(picture())
        await hold.reached()
        async with emulator.down():
            with pytest.raises(InstanceStarting, match="not up"):
                await comfy.info()
            with pytest.raises(InstanceStarting):
                await comfy.queue(picture())
            with pytest.raises(TransferError, match="not up"):
                await comfy.upload(b"data", name="x.bin")
            assert job.state is JobState.RUNNING
        with pytest.raises(JobLost):
            await job.result()
        emulator.faults.clear_nodes()
        await until_connected(comfy)
        assert await visit(comfy, emulator) is session
    assert session.generation == 0
    assert len([request for request in requests(sniffer) if "token=" in request.target]) == 1


async def test_a_waiting_page_is_not_taken_for_an_output(tmp_path, way_in, emulator):
    async with ComfyClient(way_in, **WAYS["token"](PASSWORD), timeout=1) as comfy:
        (output,) = (await (await comfy.queue(picture())).result()).outputs
        wanted = (emulator.folders.output / output.filename).read_bytes()
        async with emulator.down():
            with pytest.raises(TransferError, match="not up"):
                await output.read()
            with pytest.raises(TransferError, match="not up"):
                await output.save(tmp_path / "output.png")
        assert list(tmp_path.iterdir()) == []
        await output.save(tmp_path / "output.png")
    assert (tmp_path / "output.png").read_bytes() == wanted


async def test_a_waiting_page_is_not_taken_for_the_answer_to_a_job_or_a_websocket(monkeypatch, way_in, emulator):
    monkeypatch.setattr("comfyclient.socket._REFUSED_FIRST", 0.05)
    async with ComfyClient(way_in, **WAYS["token"](PASSWORD), timeout=0.2) as comfy:
        await comfy.login()
        async with emulator.down():
            # A proxy answers so as well when the server breaks off, and the job may be queued.
            with pytest.raises((InstanceStarting, OutcomeUnknown), match="not up"):
                await comfy.submit(picture())
        assert await comfy.jobs() == []
        await until_connected(comfy)
        assert (await visit(comfy, emulator)).generation == 0


# Restarts of the portal


@by_every_way()
async def test_a_portal_that_restarts_with_the_same_secret_in_the_middle_of_a_job_costs_nothing(serve, emulator, way):
    witness = await serve(Witness(emulator.url))
    portal = await serve(vast_portal(witness.url, web_password=PASSWORD))
    hold, saving = emulator.faults.hold("EmptyImage"), emulator.faults.hold("SaveImage")
    async with ComfyClient(portal.url, **way(PASSWORD), poll_interval=0.1) as comfy:
        session = await comfy.login()
        job = await comfy.submit(picture())
        await hold.reached()
        await portal.stop()
        with pytest.raises(InstanceUnavailable):
            await comfy.info()
        await portal.restart()
        await until_connected(comfy)
        assert witness.sockets_seen == 2
        hold.release()
        async for event in job.events():
            if isinstance(event, NodeStarted) and event.node_id == "2":  # only the websocket tells of nodes
                saving.release()
        assert len((await job.result()).outputs) == 1
        assert session.generation == 0
    assert len(witness.asked("POST", "/prompt")) == 1


@by_every_way()
async def test_a_secret_that_changes_on_the_server_is_an_expired_login(serve, portal, emulator, way):
    sniffer = await serve(Sniffer(portal.url))
    async with ComfyClient(sniffer.url, **way(PASSWORD)) as comfy:
        await visit(comfy, emulator)
        await portal.restart(vast_caddyfile(emulator.url, web_password=OTHER))
        before = len(attempts(sniffer))
        with pytest.raises(CredentialsExpired) as raised:
            await comfy.info()
        assert "comfyclient login" in raised.value.hint
        assert PASSWORD not in f"{raised.value!r} {raised.value} {raised.value.hint}"
        assert len([one for one in attempts(sniffer)[before:] if not one.is_socket]) <= 3
        with pytest.raises(CredentialsExpired):
            await comfy.submit(picture())
        with pytest.raises(CredentialsExpired):
            await comfy.wait_ready(SECONDS)


@by_every_way()
async def test_a_job_whose_outcome_nobody_may_read_any_more_is_of_unknown_outcome(
    monkeypatch, serve, portal, emulator, way
):
    monkeypatch.setattr("comfyclient.looking._REFUSED_FOR", 0.1)
    monkeypatch.setattr("comfyclient.reach._BACKOFF", (0.1,))
    sniffer = await serve(Sniffer(portal.url))
    hold = emulator.faults.hold("EmptyImage")
    async with ComfyClient(sniffer.url, **way(PASSWORD), poll_interval=0.1) as comfy:
        job = await comfy.submit(picture())
        await hold.reached()
        await portal.restart(vast_caddyfile(emulator.url, web_password=OTHER))
        before = len(attempts(sniffer))
        with pytest.raises(OutcomeUnknown) as raised:
            await job.result(SECONDS)
        assert len(attempts(sniffer)) - before <= 6
        assert job.state is JobState.UNKNOWN
        assert "login" in str(raised.value)
        assert PASSWORD not in f"{raised.value!r} {raised.value} {raised.value.hint}"
        assert not comfy.connected
    hold.release()
    async with ComfyClient(portal.url, **way(OTHER)) as comfy:  # it has run all the same
        assert len((await (await comfy.job(job.id)).result()).outputs) == 1


async def test_without_a_credential_the_waiting_page_is_behind_the_login(way_in, emulator):
    async with emulator.down(), ComfyClient(way_in) as comfy:
        with pytest.raises(AuthRequired):
            await comfy.wait_ready(SECONDS)
