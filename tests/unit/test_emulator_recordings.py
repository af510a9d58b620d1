"""The emulator against what a real ComfyUI 0.33.0 did: every answer, and every frame in its order."""

import aiohttp
import pytest

from .emulator_replay import Leave, Replay, new_emulator, scenarios


async def replay(emulator, leave, name):
    async with aiohttp.ClientSession() as session:
        running = Replay(emulator, session, leave)
        try:
            return await running.run(scenarios()[name])
        finally:
            await leave.give(10**9)
            await running.close()


@pytest.mark.parametrize("name", sorted(name for name in scenarios() if name != "02_cached_rerun"))
async def test_a_recorded_scenario(name):
    leave = Leave()
    async with new_emulator(leave) as emulator:
        assert await replay(emulator, leave, name) == []


async def test_the_second_scenario_follows_the_first():
    leave = Leave()
    async with new_emulator(leave) as emulator:
        assert await replay(emulator, leave, "01_success") == []
        assert await replay(emulator, leave, "02_cached_rerun") == []
