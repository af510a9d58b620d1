"""Taking jobs off an instance when a run is stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from comfyclient.cli.text import count
from comfyclient.errors import ComfyClientError
from comfyclient.wire.records import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfyclient.cli.app import App
    from comfyclient.client import ComfyClient

__all__ = ["stop_jobs"]

_PARALLEL: Final = 8
_TIMEOUT: Final = 15.0  # seconds for one job


async def stop_jobs(
    app: App, client: ComfyClient, ids: Sequence[str], *, why: str | None = None
) -> dict[str, JobState | str]:
    """Cancel jobs, the last queued first, so that none begins because the one before it was cancelled.

    Says which could not be cancelled.

    Args:
        app: The application.
        client: The instance.
        ids: The jobs.
        why: What went wrong; ``None`` after a signal.

    Returns:
        For each job how it is now, or why that is unknown.
    """
    if not ids:
        return {}
    again = "Ctrl-C again" if why is None else "Ctrl-C"
    app.tell(f"{why or 'stopping'}: cancelling {count(len(ids), 'job')}; {again} leaves at once")
    gate = asyncio.Semaphore(_PARALLEL)

    async def cancel(prompt_id: str) -> JobState | str:
        async with gate:
            try:
                async with asyncio.timeout(_TIMEOUT):
                    return await client.cancel(prompt_id)
            except TimeoutError:
                return "no answer"
            except ComfyClientError as error:
                return str(error)

    answers = await asyncio.gather(*(cancel(prompt_id) for prompt_id in reversed(ids)))
    said = dict(zip(reversed(ids), answers, strict=True))
    for prompt_id in ids:
        if said[prompt_id] is JobState.PENDING:
            app.tell(f"not cancelled: {prompt_id}: the instance keeps it in its queue")
        elif not isinstance(said[prompt_id], JobState):
            app.tell(f"not cancelled: {prompt_id}: {said[prompt_id]}")
    cancelled = sum(answer in {JobState.CANCELLED, JobState.RUNNING} for answer in answers)
    if cancelled:
        running = any(answer is JobState.RUNNING for answer in answers)
        app.tell(f"cancelled {count(cancelled, 'job')}" + ("; what runs stops at its next step" if running else ""))
    return said
