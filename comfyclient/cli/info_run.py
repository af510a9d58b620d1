"""What ``comfyclient info`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfyclient.cli.credentials import given_login
from comfyclient.cli.running import connect, run_async
from comfyclient.cli.text import size, table
from comfyclient.wire.records import JobState

if TYPE_CHECKING:
    from comfyclient.cli.app import App
    from comfyclient.cli.info import InfoOptions
    from comfyclient.wire.answers import SystemInfo

__all__ = ["run"]


def run(app: App, options: InfoOptions) -> int:
    """Ask the instance.

    Raises:
        NotComfyUI: Something else answers there.
        InstanceUnavailable: Nobody answers.
    """
    login = given_login(app, options.login, url=options.url)

    async def ask(_: Any) -> int:
        async with connect(app, login) as client:
            info = await client.info()
            states = [job.state for job in await client.jobs(limit=0)]
            url = str(client.url)
        running, pending = states.count(JobState.RUNNING), states.count(JobState.PENDING)
        if app.json:
            app.print_json({"url": url, **info.to_json(), "queue": {"running": running, "pending": pending}})
            return 0
        facts = [*_facts(info), ("queue", f"{running} running, {pending} waiting")]
        for line in table(("instance", url), facts):
            app.show(line)
        return 0

    return run_async(app, ask)


def _facts(info: SystemInfo) -> list[tuple[str, str]]:
    facts = [("ComfyUI", info.comfyui_version)]
    if info.frontend_version:
        facts.append(("frontend", info.frontend_version))
    if info.python_version:
        facts.append(("Python", info.python_version.split(maxsplit=1)[0]))
    if info.os:
        facts.append(("system", info.os))
    if info.memory_total is not None:
        facts.append(("memory", _memory(info.memory_free, info.memory_total)))
    for device in info.devices:
        memory = _memory(device.memory_free, device.memory_total)
        facts.append(("device", f"{device.name} ({device.type})" + (f", {memory}" if memory else "")))
    return facts


def _memory(free: int | None, total: int | None) -> str:
    return f"{size(free)} of {size(total)} free" if free is not None else size(total)
