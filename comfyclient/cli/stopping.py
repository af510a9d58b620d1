"""Taking jobs off an instance when a run is stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from comfyclient.cli.text import count
from comfyclient.errors import ComfyClientError, InstanceUnavailable
from comfyclient.wire.records import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from comfyclient.cli.app import App
    from comfyclient.client import ComfyClient

__all__ = ["id_lines", "stop_jobs"]

_TIMEOUT: Final = 30.0  # seconds for all of them: they go in a few requests
_A_LINE: Final = 8  # ids: a line that is longer is cut
_STAYS: Final = "the instance keeps it in its queue"
_LOST: Final = "it was never queued, or somebody deleted it, or the instance restarted"


async def stop_jobs(
    app: App,
    client: ComfyClient,
    ids: Sequence[str],
    *,
    states: Callable[[], Mapping[str, JobState]],
    why: str | None = None,
) -> dict[str, JobState | str]:
    """Cancel jobs in a few requests, however many they are, and say what became of them.

    Args:
        app: The application.
        client: The instance.
        ids: The jobs.
        states: Gives where jobs are, as far as the client knows.
        why: What went wrong; ``None`` after a signal.

    Returns:
        For each job how it is now, or why that is unknown.
    """
    if not ids:
        return {}
    again = "Ctrl-C again" if why is None else "Ctrl-C"
    app.tell(f"{why or 'stopping'}: cancelling {count(len(ids), 'job')}; {again} leaves at once")
    try:
        async with asyncio.timeout(_TIMEOUT):
            answers: dict[str, JobState | str] = {**await client.cancel_all(ids)}
    except TimeoutError:
        answers = _as_known(ids, states(), InstanceUnavailable("no answer in time"))
    except ComfyClientError as error:
        answers = _as_known(ids, states(), error)
    _tell(app, answers)
    return answers


def _as_known(ids: Sequence[str], states: Mapping[str, JobState], error: ComfyClientError) -> dict[str, JobState | str]:
    """What is known of jobs of which not all could be cancelled: some of them may have ended by that all the same."""
    answers: dict[str, JobState | str] = {}
    for prompt_id in ids:
        state = states.get(prompt_id)
        if state is not None and state.is_terminal and state is not JobState.UNKNOWN:
            answers[prompt_id] = state
        elif state is JobState.RUNNING and not isinstance(error, InstanceUnavailable):
            answers[prompt_id] = f"not cancelled: {error}"
        else:  # the instance may have done what it was told, though nobody heard of it
            answers[prompt_id] = f"perhaps not cancelled: {error}"
    return answers


def _tell(app: App, answers: Mapping[str, JobState | str]) -> None:
    """One line for all jobs that came to the same end, those first that somebody has to look after."""
    by_answer: dict[JobState | str, list[str]] = {}
    for prompt_id, answer in answers.items():
        by_answer.setdefault(answer, []).append(prompt_id)
    for answer, ids in by_answer.items():
        for line in _lines(answer, ids):
            app.tell(line)
    stopping = len(by_answer.get(JobState.RUNNING, ()))
    if cancelled := len(by_answer.get(JobState.CANCELLED, ())) + stopping:
        app.tell(f"cancelled {count(cancelled, 'job')}" + ("; what runs stops at its next step" if stopping else ""))


def _lines(answer: JobState | str, ids: Sequence[str]) -> list[str]:
    if not isinstance(answer, JobState):
        what, _, reason = answer.partition(": ")
        return id_lines(what, ids, reason)
    if answer is JobState.PENDING:
        return id_lines("not cancelled", ids, _STAYS)
    if answer is JobState.LOST:
        return id_lines("not known to the instance", ids, _LOST)
    if answer is JobState.UNKNOWN:
        return id_lines("ended, but how is unknown", ids, "the instance's record of it makes no sense")
    if answer in {JobState.SUCCEEDED, JobState.FAILED}:
        return [f"{count(len(ids), 'job')} had ended before: {answer}"]
    return []


def id_lines(what: str, ids: Sequence[str], reason: str = "") -> list[str]:
    """``what``: the ids: ``reason``. Many ids get lines of their own, so that none of them is cut off."""
    end = f": {reason}" if reason else ""
    if len(ids) <= _A_LINE:
        return [f"{what}: {' '.join(ids)}{end}"]
    rows = [ids[start : start + _A_LINE] for start in range(0, len(ids), _A_LINE)]
    return [f"{what}: {count(len(ids), 'job')}{end}", *(f"  {' '.join(row)}" for row in rows)]
