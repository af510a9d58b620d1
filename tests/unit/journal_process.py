"""Another process that uses a journal: run as a program by the tests of the journal, which stop or kill it.

What it has done it says on stdout, a line each, after the journal's call has returned. It begins, and ends, when told
so on stdin.
"""

import functools
import itertools
import os
import signal
import sys
import uuid
from pathlib import Path

from comfyclient.journal import Journal, database

STEPS = ("submitting", "accepted", "ended", "placing", "output", "saved")


def say(*words):
    print(*words, flush=True)


def wait_for_word():
    say("ready")
    sys.stdin.readline()


def steps(journal, run_id, prompt_id, folder):
    """The life of a job, step by step: name and call."""
    ref = {"node_id": "9", "filename": "a.png", "index": 0}
    path = Path(folder) / "out" / f"{prompt_id}.png"
    submitting = functools.partial(
        journal.submitting, prompt_id, run_id=run_id, url="http://a:8188", client_id="c", body_digest="d"
    )
    calls = (
        submitting,
        functools.partial(journal.accepted, prompt_id),
        functools.partial(journal.ended, prompt_id, "succeeded"),
        functools.partial(journal.output_placing, prompt_id, ref, path, 5),
        functools.partial(journal.output_saved, prompt_id, ref, path, 5),
        functools.partial(journal.saved, prompt_id),
    )
    return zip(STEPS, calls, strict=True)


def write(folder):
    """Write jobs until killed."""
    with Journal.open(folder) as journal:
        run_id = journal.begin()
        for _ in itertools.count():
            prompt_id = str(uuid.uuid4())
            for name, call in steps(journal, run_id, prompt_id, folder):
                call()
                say(name, prompt_id)


def die(folder, at):
    """Begin a journal, write one job, and be killed at step ``at`` of SQLite's machine; 0 counts the steps."""
    count = itertools.count(1)

    def step():
        if next(count) == int(at):
            os.kill(os.getpid(), signal.SIGKILL)

    real = database._open

    def watched(*args):
        connection = real(*args)
        connection.set_progress_handler(step, 1)
        return connection

    database._open = watched
    with Journal.open(folder) as journal:
        run_id = journal.begin(planned=1)
        say("begin", run_id)
        for name, call in steps(journal, run_id, "job", folder):
            call()
            say(name, "job")
    say("steps", next(count))


def first(folder, number):
    """Open a journal that may not be there yet, and write jobs."""
    wait_for_word()
    with Journal.open(folder) as journal:
        run_id = journal.begin()
        for index in range(5):
            prompt_id = f"{number}-{index}"
            for _, call in itertools.islice(steps(journal, run_id, prompt_id, folder), 2):
                call()
            say(prompt_id)


def claim(folder):
    """Claim all that is open, one by one, and hold it until told to end."""
    with Journal.open(folder) as journal:
        ids = [entry.prompt_id for entry in journal.open_entries()]
        wait_for_word()
        for prompt_id in ids:
            for entry in journal.claim([prompt_id]).entries:
                say(entry.prompt_id)
        say("done")
        sys.stdin.readline()


if __name__ == "__main__":
    {"write": write, "die": die, "first": first, "claim": claim}[sys.argv[1]](*sys.argv[2:])
