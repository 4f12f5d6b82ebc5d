"""The store on one SQLite file: one writer thread with group commit, and a pool of readers on its write-ahead log.

Several processes may open the same file (a server, flows in local mode); see `sqlite_file` for how they take turns.
After a fork the child opens the file anew: connections and threads do not survive one.
"""

import os
import threading
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from headrace._internal.clock import Clock
from headrace.server.store.errors import StoreClosed
from headrace.server.store.jobs import Job, JobThreads
from headrace.server.store.schema import HEAD, prepare, stored_revision
from headrace.server.store.sqlite_file import (
    SqliteDriver,
    driver_of,
    engine_for,
    explained,
    open_connection,
    patiently,
    use_wal,
)
from headrace.server.store.sqlite_writer import SqliteWriter
from headrace.server.store.transaction import Tx

ResultT = TypeVar("ResultT")
READERS = 8
"""How many readers may be at work at once; each holds a connection."""


class SqliteStore:
    """A store on one SQLite file.

    Args:
        path: the file; it and its folder are made when they are missing.
        clock: tells each transaction its time.

    Raises:
        StoreUnavailable: another program kept the file locked for a minute.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._closed = False
        self._reopening = threading.Lock()
        self._open()

    def _open(self) -> None:
        self._engine = engine_for(self._path)
        self._free: list[tuple[Connection, SqliteDriver]] = []
        self._room = threading.BoundedSemaphore(READERS)
        self._threads = JobThreads("headrace-reader", READERS - 2, self._run_read)
        self._writer = SqliteWriter(self._engine, self._path, self._clock)
        use_wal(self._writer.connection, self._path)
        if patiently(lambda: stored_revision(self._writer.connection), self._path) != HEAD:
            self._writer.run_alone(lambda tx: prepare(tx.connection, str(self._path)))
        self._process = os.getpid()

    def _check(self) -> None:
        if self._closed:
            raise StoreClosed
        if self._process != os.getpid():
            self._open_after_fork()

    def _open_after_fork(self) -> None:
        with self._reopening:
            if self._process != os.getpid():
                _INHERITED.append((self._engine, self._writer, self._free))
                self._open()

    def read(self, function: Callable[[Tx], ResultT]) -> ResultT:
        """Run `function` in a reading transaction in this thread and return its result."""
        self._check()
        with self._room:
            connection, reader = free = self._free.pop() if self._free else self._new_reader()
            driver = driver_of(connection)
            try:
                patiently(lambda: driver.execute("BEGIN"), self._path)
                try:
                    return patiently(lambda: function(Tx(connection, reader, self._clock.now())), self._path)
                except DatabaseError as error:
                    raise explained(error, self._path, writing=False) from error.__cause__
                finally:
                    if driver.in_transaction:  # SQLite ends it by itself when the disk fails
                        driver.rollback()
            finally:
                self._free.append(free)

    def _new_reader(self) -> tuple[Connection, SqliteDriver]:
        connection = open_connection(self._engine, pages_kib=4_096, reads_only=True)
        return connection, SqliteDriver(connection)

    def _run_read(self, job: Job[Any]) -> None:
        try:
            job.result = self.read(job.function)
        except BaseException as error:  # noqa: BLE001  it belongs to the caller
            job.error = error

    def write(self, function: Callable[[Tx], ResultT]) -> ResultT:
        """Run `function` in a writing transaction and return its result once that is committed.  # G1"""
        self._check()
        job = Job(function)
        self._writer.submit(job)
        return job.wait()

    def read_soon(self, function: Callable[[Tx], ResultT]) -> Awaitable[ResultT]:
        """The awaitable twin of `read`."""
        self._check()
        job = Job(function, get_running_loop())
        self._threads.submit(job)
        assert job.future is not None
        return job.future

    def write_soon(self, function: Callable[[Tx], ResultT]) -> Awaitable[ResultT]:
        """The awaitable twin of `write`."""
        self._check()
        job = Job(function, get_running_loop())
        self._writer.submit(job)
        assert job.future is not None
        return job.future

    def hear(self, channel: str, tell: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002  it has no channels
        """Do nothing: no other process says anything; returns what ends that."""
        return lambda: None

    def close(self) -> None:
        """Finish what is waiting and let go of the file."""
        if self._closed or self._process != os.getpid():
            return
        self._closed = True
        self._threads.close()
        self._writer.close()
        while self._free:
            self._free.pop()[0].close()
        self._engine.dispose()


_INHERITED: list[Any] = []
"""What a forked child got from its parent and must neither use nor close: closing would act on the parent's file."""
