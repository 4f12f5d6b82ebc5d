"""One SQLite file, opened by many processes: connections, their settings, and taking turns at writing.

SQLite lets one connection write at a time; the others poll with growing pauses, which is neither fair nor quick when a
hundred processes want to write. So a writer first takes a `flock` on a file beside the database: the kernel wakes the
next one at once, and frees the lock when its holder dies, however it dies. SQLite's own lock remains the authority:
whoever writes without ours (the `sqlite3` command, another program) costs time, nothing else.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from headrace.server.store.errors import StoreUnavailable, as_sqlalchemy

try:
    import fcntl
except ImportError:  # Windows: SQLite's own polling must do
    fcntl = None  # type: ignore[assignment]

ResultT = TypeVar("ResultT")
BUSY_SECONDS = 60.0
"""How long to wait for another program's lock before giving up."""
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_UNABLE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}
_PRAGMAS = (
    "PRAGMA auto_vacuum=INCREMENTAL",  # for a file yet to be made; see `events.retention.give_back`
    "PRAGMA synchronous=NORMAL",  # a commit survives the death of the process; the last ones may not survive power loss
    "PRAGMA temp_store=MEMORY",
    "PRAGMA wal_autocheckpoint=4000",
    "PRAGMA journal_size_limit=67108864",
)


def _code(error: BaseException) -> int:
    """SQLite's primary code of an error; 0 when it is not SQLite's."""
    original = getattr(error, "orig", None) or error
    code = getattr(original, "sqlite_errorcode", None) if isinstance(original, sqlite3.DatabaseError) else None
    return 0 if code is None else code & 0xFF


def is_busy(error: BaseException) -> bool:
    """Whether an error of SQLite says that another connection is in the way."""
    return _code(error) in _BUSY


def explained(error: BaseException, path: Path, *, writing: bool = True) -> BaseException:
    """An error as its caller should see it: trouble with the file or its disk is nobody's fault and a 503.  # G16

    Args:
        error: whatever was raised.
        path: the file.
        writing: whether the transaction was meant to write; one that was not, and tried, is at fault itself.
    """
    if _code(error) not in _UNABLE or (_code(error) == sqlite3.SQLITE_READONLY and not writing):
        return error
    told = StoreUnavailable(f"The database {path} cannot be used: {getattr(error, 'orig', error)}. Look at its disk.")
    told.__cause__ = error
    return told


def patiently(function: Callable[[], ResultT], path: Path) -> ResultT:
    """Call `function` again while it fails with BUSY, for at most `BUSY_SECONDS`.

    The busy time-out of SQLite covers most of it; some steps (opening the WAL, recovery) give up at once.

    Raises:
        StoreUnavailable: it was busy all the time.
    """
    deadline, pause = time.monotonic() + BUSY_SECONDS, 0.001
    while True:
        try:
            return function()
        except Exception as error:
            if not is_busy(error):
                raise
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"The database {path} has been locked by another program for {BUSY_SECONDS:.0f} s. "
                    "End that program, or wait until it is done."
                ) from error
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


class Turn:
    """The right to write the file, one process at a time: a context manager, for one thread.

    Args:
        path: the database; the lock is on `<path>-turn`.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(f"{path}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> None:
        if fcntl is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if fcntl is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the lock's file."""
        os.close(self._descriptor)


def engine_for(path: Path) -> Engine:
    """SQLAlchemy's engine of a file; every connection is new and in autocommit mode, transactions are ours to begin."""
    return create_engine(
        "sqlite://",
        creator=lambda: patiently(lambda: _connect(path), path),
        poolclass=NullPool,
        skip_autocommit_rollback=True,
    )


def _connect(path: Path) -> sqlite3.Connection:
    driver = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    try:
        for pragma in _PRAGMAS:
            driver.execute(
                pragma
            )  # the first of them reads the file, which another process may be putting into WAL mode
    except sqlite3.Error:
        driver.close()
        raise
    return driver


def open_connection(engine: Engine, *, pages_kib: int, reads_only: bool) -> Connection:
    """Open a connection.

    Args:
        engine: from `engine_for`.
        pages_kib: most memory its page cache may take, in KiB.
        reads_only: refuse statements that write.
    """
    connection = engine.connect()
    driver = driver_of(connection)
    driver.execute(f"PRAGMA cache_size=-{pages_kib}")
    if reads_only:
        driver.execute("PRAGMA query_only=ON")
    return connection


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The connection of `sqlite3` below SQLAlchemy's."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


class SqliteDriver:
    """Runs prepared statements; see `headrace.server.store.transaction.Driver`."""

    __slots__ = ("_connection", "dialect")

    def __init__(self, connection: Connection) -> None:
        self._connection = driver_of(connection)
        self.dialect = connection.dialect

    def fetch(self, sql: str, values: Sequence[Any], *, once: bool = False) -> tuple[list[Any], int]:  # noqa: ARG002  SQLite plans alike
        """Run a statement; its rows, and how many it concerned."""
        try:
            cursor = self._connection.execute(sql, values)
            return cursor.fetchall(), cursor.rowcount
        except sqlite3.Error as error:
            raise as_sqlalchemy(error, sql, self.dialect, self._connection) from error

    def send(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each of some rows, at once."""
        self.count(sql, rows)

    def count(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement for each of some rows; how many rows it concerned."""
        try:
            if len(rows) == 1:  # also for those that change no rows
                return self._connection.execute(sql, rows[0]).rowcount
            return self._connection.executemany(sql, rows).rowcount
        except sqlite3.Error as error:
            raise as_sqlalchemy(error, sql, self.dialect, self._connection) from error

    def settle(self) -> None:
        """All that was sent has been run already."""

    def undo_part(self) -> None:
        """Go back to the savepoint."""
        self.send("ROLLBACK TO SAVEPOINT part", [()])


def use_wal(connection: Connection, path: Path) -> None:
    """Put the file into WAL mode, in which readers and the writer do not hinder each other."""

    def switch() -> None:
        (mode,) = driver_of(connection).execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise StoreUnavailable(f"The database {path} cannot use a write-ahead log. Put it on a local disk.")

    patiently(switch, path)
