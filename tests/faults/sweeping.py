"""Cancelling a coroutine at each of its waits in turn."""

import asyncio


class Interrupted:
    """A coroutine whose task is cancelled at its wait number ``at``, from 1; ``waits`` counts them."""

    def __init__(self, work, at):
        self.work, self.at = work, at
        self.waits = 0

    def __await__(self):
        steps = self.work.__await__()
        send, value = next, None
        while True:
            try:
                waited = send(steps) if value is None else send(value)
            except StopIteration as end:
                return end.value
            self.waits += 1
            if self.waits == self.at:
                asyncio.current_task().cancel()
            try:
                result = yield waited
                send, value = (lambda steps: steps.send(None)) if result is None else steps.send, result
            except BaseException as error:  # noqa: BLE001 - it is for the work
                send, value = steps.throw, error


async def interrupted(work, at):
    """Run it in a task of its own, cancelled at that wait.

    Returns:
        The task, which is done, and how often it waited.
    """
    cut = Interrupted(work, at)

    async def run():
        return await cut

    task = asyncio.create_task(run(), name="interrupted")
    await asyncio.wait({task})
    return task, cut.waits


async def sweep(once):
    """Call ``once(at)`` for each wait, until it says that there is no such wait any more. Returns how many there were.

    ``once`` sets the scene, calls `interrupted`, looks at what is left, and returns its answer.
    """
    at = 0
    while True:
        at += 1
        task, waits = await once(at)
        if waits < at:
            task.result()  # it came to its end
            return at - 1
        assert task.cancelled(), f"cancelled at wait {at}, and it went on: {task}"
