"""The journal itself: what is written, when, and by whom."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from comfyclient.errors import ConfigError, ProtocolError
from comfyclient.journal.database import connect, explaining, prepare_file, refuse_newer, transaction
from comfyclient.journal.entries import ENDS, Claim, Entry, Holder, Phase, Run, SavedOutput, is_news, output_key
from comfyclient.journal.owners import OwnerLock, is_alive, tokens
from comfyclient.journal.rows import (
    OPEN,
    REOPEN,
    base_address,
    checked_id,
    kept,
    plan_text,
    read_entries,
    read_standing,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from comfyclient.journal.rows import Standing

__all__ = ["Journal"]


class Journal:
    """What this client has asked of instances, in a file. See the package for what it promises.

    Only who holds a job may write about it: who wrote it down, until its process ends or it says `release`; then who
    gets it by `claim`. No two living journals ever hold the same job.

    Every method raises `ConfigError` if the file cannot be read or written; nothing was changed then. A journal must
    not be carried over a fork.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self.path = path
        self._database: sqlite3.Connection | None = database
        self._clock = clock
        self._lock = threading.Lock()
        self._own: OwnerLock | None = None

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], *, timeout: float = 10.0, clock: Callable[[], float] = time.time
    ) -> Self:
        """Open the journal in a folder, or begin one there.

        Args:
            folder: Where it is. Made if need be, for nobody else to read.
            timeout: Seconds that each call waits for other processes.
            clock: Seconds since 1970.

        Raises:
            ConfigError: What is there is no journal, damaged, or of a newer version, and was left alone; or others
                could change it; or the file system cannot hold one.
        """
        path = prepare_file(Path(folder).absolute())
        return cls(path, connect(path, timeout), clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Journal {self.path}>"

    def close(self) -> None:
        """Close it. What it holds is free for others, as if the process had ended."""
        with self._lock:
            own, self._own = self._own, None
            database, self._database = self._database, None
            if own is not None:
                own.close()
            if database is not None:
                database.close()

    # Runs: the jobs of one command.

    def begin(self, *, planned: int | None = None, name: str | None = None) -> str:
        """Begin a run.

        Args:
            planned: How many jobs it means to queue.
            name: What people call it.

        Returns:
            Its run_id.
        """
        run_id = str(uuid.uuid4())
        with self._transaction() as database:
            database.execute(
                "INSERT INTO runs (run_id, planned, name, created, owner) VALUES (?, ?, ?, ?, ?)",
                (run_id, planned, kept(name), self._clock(), self._owner(database)),
            )
        return run_id

    def finish(self, run_id: str) -> None:
        """Its user has been told how the run went, and what of it was not queued."""
        with self._transaction() as database:
            database.execute("UPDATE runs SET finished = 1 WHERE run_id = ?", (run_id,))

    def interrupted(self) -> list[Run]:
        """The runs whose process ended before it could say `finish`, the oldest first."""
        with self._transaction() as database:
            self._free_the_dead(database)
            rows = database.execute(
                """SELECT run_id, planned, (SELECT count(*) FROM jobs WHERE jobs.run_id = runs.run_id), name, created
                FROM runs WHERE NOT finished AND owner IS NULL ORDER BY rowid"""
            )
            return [Run(*row) for row in rows]

    # What happens to a job, in this order.

    def submitting(
        self,
        prompt_id: str,
        *,
        run_id: str,
        url: str,
        client_id: str,
        body_digest: str,
        plan: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Entry:
        """Write a job down, before anything of it is sent: when this returns, it is on disk.

        For a job that is being submitted already it changes nothing, so that a resend may come this way too.

        Args:
            prompt_id: The id that it is sent with.
            run_id: From `begin`.
            url: The instance; what may be secret in an address is left out.
            client_id: Whose events it sends.
            body_digest: SHA-256 of the body, in hex.
            plan: How its outputs are to be saved. Paths in it should be absolute; secrets do not belong there.
            name: What people call it.

        Raises:
            ConfigError: The id was used before, the run is unknown, or the plan is no JSON.
        """
        values = (base_address(url), kept(client_id), run_id, body_digest, plan_text(plan or {}), kept(name))
        with self._transaction() as database:
            known = read_standing(database, prompt_id)
            if known is not None and (known.phase, known.body_digest) == (Phase.SUBMITTING, body_digest):
                self._held(database, prompt_id)
            else:
                self._insert(database, prompt_id, run_id, values)
            return next(read_entries(database, "WHERE prompt_id = :id", {"id": prompt_id}, self._token))

    def _insert(self, database: sqlite3.Connection, prompt_id: str, run_id: str, values: tuple[Any, ...]) -> None:
        if _is_taken(database, prompt_id):
            raise ConfigError(f"job {prompt_id} is in the journal already", hint="use another id")
        if not database.execute("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)).fetchone():
            raise ConfigError(f"run {run_id} is not in the journal")
        now = self._clock()
        database.execute(
            """INSERT INTO jobs (prompt_id, sent_id, url, client_id, run_id, body_digest, plan, name, phase, created,
            updated, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (prompt_id, prompt_id, *values, Phase.SUBMITTING.value, now, now, self._owner(database)),
        )

    def accepted(self, prompt_id: str, new_id: str | None = None) -> None:
        """The instance has it. ``new_id``: it chose an id of its own, under which the job goes on here.

        Raises:
            ProtocolError: That is another job's id. Nothing was changed.
        """
        with self._transaction() as database:
            self._advance(database, prompt_id, Phase.ACCEPTED)
            if new_id is None or new_id == prompt_id:
                return
            if _is_taken(database, checked_id(new_id)):
                raise ProtocolError(f"the instance gave job {prompt_id} the id {new_id}, which is another job's")
            database.execute("UPDATE jobs SET prompt_id = ? WHERE prompt_id = ?", (new_id, prompt_id))

    def refused(self, prompt_id: str, reason: str | None = None) -> None:
        """It was not queued and will not be: the instance said so, or does not know it, or nothing of it was sent."""
        with self._transaction() as database:
            self._advance(database, prompt_id, Phase.REFUSED, reason=reason)

    def ended(self, prompt_id: str, state: str) -> None:
        """It ended, by the instance's record.

        Raises:
            ConfigError: ``state`` is none of `ENDS`. Of a job that nobody could be asked about, say nothing.
        """
        if state not in ENDS:
            raise ConfigError(f"job {prompt_id}: {state} is no end; the journal knows {', '.join(sorted(ENDS))}")
        with self._transaction() as database:
            self._advance(database, prompt_id, Phase.ENDED, state=state)

    def output_placing(
        self, prompt_id: str, ref: Mapping[str, Any], path: Path, size: int, sha256: str | None = None
    ) -> None:
        """An output was fetched whole and is about to appear at ``path``. See `SavedOutput.placed`."""
        self._write_output(prompt_id, SavedOutput(output_key(ref), path, size, sha256, placed=False))

    def output_saved(
        self, prompt_id: str, ref: Mapping[str, Any], path: Path, size: int, sha256: str | None = None
    ) -> None:
        """An output is on disk, whole.

        Args:
            prompt_id: The job.
            ref: Which output: ``OutputRef.to_json()``.
            path: Where it is.
            size: In bytes.
            sha256: Of its content, in hex.
        """
        self._write_output(prompt_id, SavedOutput(output_key(ref), path, size, sha256))

    def saved(self, prompt_id: str) -> None:
        """All of its outputs that were wanted are on disk; or none were wanted. It must have succeeded."""
        with self._transaction() as database:
            self._advance(database, prompt_id, Phase.SAVED)

    def give_up(self, prompt_id: str, reason: str) -> None:
        """Nobody will look for it again."""
        with self._transaction() as database:
            self._advance(database, prompt_id, Phase.GIVEN_UP, reason=reason)

    # What is left to do, and by whom.

    def open_entries(self, url: str | None = None) -> list[Entry]:
        """The jobs of which something is left to do, in the order of their submission.

        What another living process looks after is among them, with its `Entry.holder`; `claim` does not get it.

        Args:
            url: Only those of this instance.
        """
        address = None if url is None else base_address(url)
        where = f"WHERE {OPEN} AND (:url IS NULL OR url = :url) ORDER BY jobs.number"
        with self._transaction() as database:
            self._free_the_dead(database)
            return list(read_entries(database, where, {"url": address}, self._token))

    def entries(self, limit: int = 100) -> list[Entry]:
        """The last ``limit`` jobs, the latest first."""
        with self._transaction() as database:
            self._free_the_dead(database)
            return list(read_entries(database, "ORDER BY jobs.number DESC LIMIT :limit", {"limit": limit}, self._token))

    def entry(self, prompt_id: str) -> Entry | None:
        """One job; ``None`` if it is not in the journal."""
        with self._transaction() as database:
            self._free_the_dead(database)
            return next(
                read_entries(database, "WHERE prompt_id = :id", {"id": checked_id(prompt_id)}, self._token), None
            )

    def claim(self, ids: Iterable[str], *, given_up: bool = False) -> Claim:
        """Take jobs over, to finish them: those that are open and that no living process looks after.

        Args:
            ids: The jobs.
            given_up: Whether those that were given up are open again.
        """
        mine: list[Entry] = []
        held: dict[str, Holder] = {}
        with self._transaction() as database:
            owner = self._owner(database)
            self._free_the_dead(database)
            for prompt_id in dict.fromkeys(map(checked_id, ids)):
                values = {"id": prompt_id}
                if given_up:
                    database.execute(REOPEN, values)
                for entry in read_entries(database, f"WHERE prompt_id = :id AND {OPEN}", values, self._token):
                    if entry.holder is not None:
                        held[prompt_id] = entry.holder
                        continue
                    database.execute("UPDATE jobs SET owner = ? WHERE prompt_id = ?", (owner, prompt_id))
                    mine.append(entry)
        return Claim(tuple(mine), held)

    def release(self, ids: Iterable[str]) -> None:
        """Let go of jobs, so that others can claim them. What this journal does not hold stays as it is."""
        with self._transaction() as database:
            owner = self._owner(database)
            for prompt_id in map(checked_id, ids):
                database.execute("UPDATE jobs SET owner = NULL WHERE prompt_id = ? AND owner = ?", (prompt_id, owner))

    # Less of it.

    def forget(self, ids: Iterable[str]) -> list[str]:
        """Remove jobs, whatever is left to do of them, but for those that another living process looks after.

        Returns:
            The ids of those that were removed.
        """
        removed = []
        with self._transaction() as database:
            self._free_the_dead(database)
            for prompt_id in dict.fromkeys(ids):
                job = read_standing(database, prompt_id)
                if job is None or job.token not in {None, self._token}:
                    continue
                database.execute(
                    """UPDATE runs SET planned = planned - 1
                    WHERE run_id = (SELECT run_id FROM jobs WHERE number = ?)""",
                    (job.number,),
                )
                database.execute("DELETE FROM jobs WHERE number = ?", (job.number,))
                removed.append(prompt_id)
        return removed

    def prune(self, older_than: float) -> int:
        """Remove runs, with their jobs, of which nothing is left to do and nothing has changed for long.

        Args:
            older_than: The time before which all of it was, in seconds since 1970.

        Returns:
            How many jobs were removed.
        """
        with self._transaction() as database:
            self._free_the_dead(database)
            runs = database.execute(
                f"""SELECT run_id FROM runs WHERE (finished OR owner IS NULL) AND created < :then AND NOT EXISTS (
                SELECT 1 FROM jobs WHERE jobs.run_id = runs.run_id AND ({OPEN} OR updated >= :then))""",  # noqa: S608 - ours
                {"then": older_than},
            ).fetchall()
            removed = sum(database.execute("DELETE FROM jobs WHERE run_id = ?", run).rowcount for run in runs)
            database.executemany("DELETE FROM runs WHERE run_id = ?", runs)
            return removed

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it, or nothing; alone among all threads and processes."""
        with self._lock, explaining(self.path):
            if self._database is None:
                raise ConfigError("the journal is closed")
            with transaction(self._database):
                refuse_newer(self._database, self.path)  # it may have come while this process was at work
                yield self._database

    @property
    def _token(self) -> str | None:
        return self._own.token if self._own is not None else None

    def _owner(self, database: sqlite3.Connection) -> int:
        """This journal as an owner. Within a transaction, so that nobody sees its file without its row."""
        if self._own is None:
            self._own = OwnerLock(self.path.parent)
        database.execute(
            "INSERT OR IGNORE INTO owners (token, pid, host, since) VALUES (?, ?, ?, ?)",
            (self._own.token, os.getpid(), kept(socket.gethostname()), self._clock()),
        )
        [owner] = database.execute("SELECT id FROM owners WHERE token = ?", (self._own.token,)).fetchone()
        return int(owner)

    def _free_the_dead(self, database: sqlite3.Connection) -> None:
        """Remove the owners whose process has ended; their jobs are nobody's then."""
        folder = self.path.parent
        known = {token for (token,) in database.execute("SELECT token FROM owners")}
        for token in known.union(tokens(folder)) - {self._token}:
            if not is_alive(folder, token):
                database.execute("DELETE FROM owners WHERE token = ?", (token,))

    def _held(self, database: sqlite3.Connection, prompt_id: str) -> Standing:
        """A job that this journal holds.

        Raises:
            ConfigError: There is no such job, or somebody else holds it, or nobody.
        """
        job = read_standing(database, prompt_id)
        if job is None:
            raise ConfigError(f"job {prompt_id} is not in the journal")
        if job.token is None or job.token != self._token:
            raise ConfigError(f"job {prompt_id} is looked after by {job.holder or 'nobody'}, not by this journal")
        return job

    def _advance(
        self,
        database: sqlite3.Connection,
        prompt_id: str,
        phase: Phase,
        *,
        state: str | None = None,
        reason: str | None = None,
    ) -> None:
        job = self._held(database, prompt_id)
        state = job.state if state is None else state
        if is_news(prompt_id, job.phase, job.state, phase, state):
            database.execute(
                "UPDATE jobs SET phase = ?, state = ?, reason = ?, updated = ? WHERE number = ?",
                (phase.value, state, kept(reason), self._clock(), job.number),
            )

    def _write_output(self, prompt_id: str, output: SavedOutput) -> None:
        path = os.fsencode(output.path.absolute())
        with self._transaction() as database:
            job = self._held(database, prompt_id)
            if job.phase in {Phase.REFUSED, Phase.GIVEN_UP}:
                raise ConfigError(f"job {prompt_id} is {job.phase} in the journal and has no outputs")
            database.execute(
                "INSERT OR REPLACE INTO outputs (job, key, path, size, sha256, placed) VALUES (?, ?, ?, ?, ?, ?)",
                (job.number, output.key, path, output.size, output.sha256, output.placed),
            )


def _is_taken(database: sqlite3.Connection, prompt_id: str) -> bool:
    query = "SELECT 1 FROM jobs WHERE prompt_id = ? OR sent_id = ?"
    return database.execute(query, (prompt_id, prompt_id)).fetchone() is not None
