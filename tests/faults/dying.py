"""The command, in a process that kills itself before or after a call: ``dying.py WHEN CALL NTH LINKS ARGS``."""

import errno
import functools
import itertools
import os
import signal
import sys

from comfyclient import files
from comfyclient.cli.main import main
from comfyclient.journal import Journal


def deadly(call, when, nth):
    """The same, once; then it is the last thing that the process does."""
    count = itertools.count(1)

    @functools.wraps(call)
    def calling(*args, **rest):
        last = next(count) == nth
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = call(*args, **rest)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return calling


def no_links(*_):
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


if __name__ == "__main__":
    when, name, nth, links, *args = sys.argv[1:]
    if links == "no-links":
        os.link = no_links
    owner = {"link": os, "_fill_new": files, "replace": files.Path, "unlink": files.Path}.get(name, Journal)
    setattr(owner, name, deadly(getattr(owner, name), when, int(nth)))
    sys.exit(main(args))
