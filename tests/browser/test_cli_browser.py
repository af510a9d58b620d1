"""The command line with a real Chromium, on a login page that is nothing without scripts."""

import asyncio

import pytest

from comfyclient.emulator import Emulator

from ..cli_support import make_app, run  # noqa: TID252
from ..login.formpages import JSLogin  # noqa: TID252
from .frontend import chromium, missing
from .loginpages import PASSWORD, USERNAME


@pytest.fixture
async def gateway():
    if (lacking := missing()) is not None:
        pytest.skip(lacking)
    async with Emulator() as emulator, JSLogin(emulator.url, username=USERNAME, password=PASSWORD) as gateway:
        yield gateway


@pytest.fixture
def cli(tmp_path):
    async def call(*args, environ=None):
        found = await asyncio.to_thread(run, make_app(tmp_path, environ=environ), *args)
        assert PASSWORD not in found.out + found.err
        return found

    return call


async def test_the_cookies_of_a_browser_are_kept_and_not_the_password(gateway, cli, tmp_path):
    environ = {"COMFYCLIENT_USERNAME": USERNAME, "COMFYCLIENT_PASSWORD": PASSWORD}
    login = await cli("login", gateway.url, "--browser", "--browser-path", chromium(), "--json", environ=environ)
    assert login.code == 0, login.err
    assert login.json["scheme"] == "browser"
    assert gateway.logins == 1
    [kept] = [path.read_text() for path in (tmp_path / ".comfyclient" / "instances").iterdir()]
    assert PASSWORD not in kept
    assert f'"username":"{USERNAME}"' in kept.replace('": "', '":"')
    assert (await cli("info", "--url", gateway.url)).code == 0
    gateway.expire()
    found = await cli("info", "--url", gateway.url, "--json")
    assert found.code == 4


async def test_a_wrong_password_and_a_browser_that_is_not_there(gateway, cli, tmp_path):
    environ = {"COMFYCLIENT_USERNAME": USERNAME, "COMFYCLIENT_PASSWORD": "wrong", "COMFYCLIENT_BROWSER": chromium()}
    assert (await cli("login", gateway.url, "--browser", "--headless", environ=environ)).code == 4
    assert (
        await cli("login", gateway.url, "--browser", "--browser-path", tmp_path / "none", environ=environ)
    ).code == 2
    assert not (tmp_path / ".comfyclient").exists()
