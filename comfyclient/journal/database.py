"""The journal's file: private, whole, of a version that this client knows, and explained in one line when it is not.

A file that is damaged, another program's or of a newer version is looked at through a read-only connection first, so
that it is left as it was found.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
import stat
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from comfyclient.errors import ConfigError, JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "FILE_NAME",
    "MIGRATIONS",
    "UnsoundRow",
    "connect",
    "explaining",
    "prepare_file",
    "refuse_newer",
    "transaction",
]

FILE_NAME: Final = "journal.sqlite3"

_PAUSE: Final = 0.01
_APPLICATION_ID: Final = 0x436F6D66  # "Comf": tells a journal from any other SQLite file

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE owners (
            id INTEGER PRIMARY KEY,
            token TEXT NOT NULL UNIQUE,
            pid INTEGER NOT NULL,
            host TEXT NOT NULL,
            since REAL NOT NULL)""",
        """CREATE TABLE runs (
            run_id TEXT PRIMARY KEY,
            planned INTEGER,
            name TEXT,
            created REAL NOT NULL,
            finished INTEGER NOT NULL DEFAULT 0,
            owner INTEGER REFERENCES owners (id) ON DELETE SET NULL)""",
        """CREATE TABLE jobs (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            prompt_id TEXT NOT NULL UNIQUE,
            sent_id TEXT NOT NULL UNIQUE,
            url TEXT NOT NULL,
            client_id TEXT NOT NULL,
            run_id TEXT NOT NULL REFERENCES runs (run_id),
            body_digest TEXT NOT NULL,
            plan TEXT NOT NULL,
            name TEXT,
            phase TEXT NOT NULL,
            state TEXT,
            reason TEXT,
            created REAL NOT NULL,
            updated REAL NOT NULL,
            owner INTEGER REFERENCES owners (id) ON DELETE SET NULL)""",
        "CREATE INDEX jobs_by_run ON jobs (run_id)",
        "CREATE INDEX jobs_by_owner ON jobs (owner) WHERE owner IS NOT NULL",
        "CREATE INDEX jobs_by_phase ON jobs (phase, state)",
        """CREATE TABLE outputs (
            job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
            key TEXT NOT NULL,
            path BLOB NOT NULL,
            size INTEGER NOT NULL,
            sha256 TEXT,
            placed INTEGER NOT NULL,
            PRIMARY KEY (job, key)) WITHOUT ROWID""",
    ),
)
"""What makes each version of the schema out of the one before; the first out of nothing. Only ever added to."""

# In one statement: another process may be making the tables at this moment.
_IDENTITY: Final = """
    SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master)
    FROM pragma_user_version, pragma_application_id"""

_SETTINGS: Final = (
    "PRAGMA synchronous = FULL",  # on disk when a call returns: what follows a call cannot be taken back
    "PRAGMA fullfsync = ON",  # macOS: through the drive's cache too
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",  # no function runs because a file says so
)
# Closing any descriptor of a file ends all of the process's locks on it, SQLite's included; so while one thread makes
# the file, no other may open it.
_MAKING: Final = threading.Lock()

_REASONS: Final = {
    sqlite3.SQLITE_BUSY: ("another process keeps it busy", "try again; if it stays so, end the other comfyclient"),
    sqlite3.SQLITE_LOCKED: ("another process keeps it busy", "try again; if it stays so, end the other comfyclient"),
    sqlite3.SQLITE_FULL: ("the disk is full", "make room on that disk"),
    sqlite3.SQLITE_READONLY: ("it cannot be written", "the folder and the file must be yours, and writable"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "the folder and the file must be yours, and writable"),
    sqlite3.SQLITE_PERM: ("it cannot be opened", "the folder and the file must be yours, and writable"),
    sqlite3.SQLITE_IOERR: ("the disk or its driver fails", "the journal needs a folder on a sound, local disk"),
}


class UnsoundRow(sqlite3.DatabaseError):
    """A row does not hold what it should. For `explaining`."""


def prepare_file(folder: Path) -> Path:
    """Make the folder and an empty file, unless they are there, for nobody else to read.

    Raises:
        ConfigError: They cannot be made, or are not safe: a symlink, another user's, or writable for others.
    """
    path = folder / FILE_NAME
    try:
        with _MAKING:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.touch(mode=0o600, exist_ok=False)
        _check_safe(folder, path)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "the system refuses"
        raise ConfigError(
            f"cannot use the journal {path}: {reason}", hint="the folder must be yours, and writable"
        ) from None
    return path


def _check_safe(folder: Path, path: Path) -> None:
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode):
        raise ConfigError(f"cannot use the journal {path}: it is no file", hint="move it away")
    if os.name != "posix":
        return  # elsewhere the user's folders are private by themselves
    around = folder.stat()
    if around.st_mode & 0o022:
        raise ConfigError(
            f"cannot use the journal {path}: others may write into its folder",
            hint=f"chmod 700 {shlex.quote(str(folder))}",
        )
    user = os.geteuid()
    if user != 0 and (about.st_uid != user or around.st_uid not in {0, user}):
        raise ConfigError(f"cannot use the journal {path}: it belongs to another user", hint="work as that user")
    if about.st_mode & 0o077:
        for name in (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"):
            with contextlib.suppress(FileNotFoundError):
                (folder / name).chmod(0o600)


def connect(path: Path, timeout: float) -> sqlite3.Connection:
    """Open the file, in autocommit mode, for use by several threads in turn.

    Args:
        path: The file, which is there.
        timeout: Seconds to wait for other processes.

    Raises:
        ConfigError: It is damaged, another program's, or of a newer version; it was left alone then. Or it cannot be
            opened.
    """
    deadline = time.monotonic() + timeout
    with explaining(path):
        while True:
            try:
                return _connect(path, timeout)
            except sqlite3.OperationalError as error:
                # Where others begin the journal at this moment, SQLite does not wait by itself.
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE)


def _connect(path: Path, timeout: float) -> sqlite3.Connection:
    try:
        with contextlib.closing(_open(path, "ro", timeout)) as database:
            _inspect(database, path)
    except sqlite3.OperationalError as error:
        # A process was killed while it began the journal. What it had half done is undone by the first who may write.
        if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
    database = _open(path, "rw", timeout)
    try:
        _set_up(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _open(path: Path, mode: str, timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )


def _inspect(database: sqlite3.Connection, path: Path) -> None:
    _version(database, path)
    found = _value(database, "PRAGMA quick_check (1)")
    if found != "ok":
        raise _damaged(path, str(found))


def _version(database: sqlite3.Connection, path: Path) -> int:
    """The version of the schema; 0 if the file is new.

    Raises:
        ConfigError: It is no journal, or of a newer version.
    """
    version, application, tables = database.execute(_IDENTITY).fetchone()
    if application != _APPLICATION_ID and (version, application, tables) != (0, 0, 0):
        raise ConfigError(
            f"{path} is another program's database, not comfyclient's journal; it was left alone", hint="move it away"
        )
    refuse_newer(database, path)
    return int(version)


def refuse_newer(database: sqlite3.Connection, path: Path) -> None:
    """Leave alone what a newer comfyclient has made of the file.

    Raises:
        ConfigError: It has.
    """
    version = int(_value(database, "PRAGMA user_version"))
    if version > len(MIGRATIONS):
        raise ConfigError(
            f"the journal {path} was written by a newer comfyclient (version {version} of its format; this one knows "
            f"{len(MIGRATIONS)}); it was left alone",
            hint="update comfyclient, or move the file away to begin a new one",
        )


def _set_up(database: sqlite3.Connection, path: Path) -> None:
    _version(database, path)
    mode = _value(database, "PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise ConfigError(
            f"cannot use the journal {path}: its file system cannot share memory",
            hint="the journal needs a folder on a local disk",
        )
    for setting in _SETTINGS:
        database.execute(setting)
    if _version(database, path) < len(MIGRATIONS):
        _migrate(database, path)


def _migrate(database: sqlite3.Connection, path: Path) -> None:
    """Bring the file to this version: all of it, or nothing."""
    with transaction(database):
        for statements in MIGRATIONS[_version(database, path) :]:  # asked again: another process may have done it
            for statement in statements:
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Do it as a whole, alone among all processes, and on disk when it is done; or not at all."""
    try:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Translate SQLite's errors into one line each."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explained(path, error) from None


def _damaged(path: Path, what: str) -> JournalError:
    return JournalError(
        f"the journal {path} is damaged ({what}); it was left alone",
        hint="move it away to begin a new one; `comfyclient jobs list` shows what the instance knows",
    )


def _explained(path: Path, error: sqlite3.Error) -> JournalError:
    code = _code(error)
    if isinstance(error, UnsoundRow) or code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return _damaged(path, str(error))
    reason, hint = _REASONS.get(code, (str(error), None))
    return JournalError(f"cannot use the journal {path}: {reason}", hint=hint)


def _code(error: sqlite3.Error) -> int:
    """SQLite's code, without the detail. Errors of the Python module itself have none."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def _value(database: sqlite3.Connection, statement: str) -> Any:
    return database.execute(statement).fetchone()[0]
