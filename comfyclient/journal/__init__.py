"""What this client has asked of instances, on disk: so that after a crash nothing is lost and nothing is sent twice.

A job is written down before its ``POST`` and again at every step until its outputs are saved. What a ``kill -9`` leaves
is exact: each call that returned is on disk whole, the one under way is there whole or not at all.

A job found in `Phase.SUBMITTING` by another process than its own is ambiguous: it may have been queued or not. It must
be looked up at the instance by its prompt_id, and is never sent again from here: the journal keeps a digest of what
was posted, not the prompt, which may hold keys and belongs to the user. What turns out not to have been queued is
reported, not repeated.

Every call blocks, for a moment only; call it in a thread. One `Journal` may be used by several threads, and one folder
by several processes of one machine. The file is in SQLite's WAL mode, which does not work across machines: a home on a
network drive needs a folder for each.
"""

from __future__ import annotations

from comfyclient.journal.database import FILE_NAME
from comfyclient.journal.entries import ENDS, Claim, Entry, Holder, Phase, Run, SavedOutput, output_key
from comfyclient.journal.store import Journal

__all__ = [
    "ENDS",
    "FILE_NAME",
    "Claim",
    "Entry",
    "Holder",
    "Journal",
    "Phase",
    "Run",
    "SavedOutput",
    "output_key",
]
