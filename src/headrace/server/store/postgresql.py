"""The store on PostgreSQL: a small fixed pool of connections, each write a transaction of its own.

Writes run READ COMMITTED. Reads run outside a transaction, on connections that refuse to write: each statement sees
what is committed when it starts, as it would in a READ COMMITTED transaction, and two round trips are saved.

A write whose connection is lost before COMMIT was sent, or that PostgreSQL ended because of others (serialisation
failure, deadlock), runs again from the start, with growing random pauses.  # G16
A connection lost after COMMIT was sent, with whatever was sent together with it, leaves it open whether the transaction
holds: the caller is told so, by 503, and may repeat the call, which operations make harmless by keys.
"""

import os
import random
import threading
import time
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import DataError, DBAPIError

from headrace._internal.clock import Clock
from headrace.server.store.errors import StoreClosed, StoreUnavailable, as_told
from headrace.server.store.jobs import Job, JobThreads, hand_out
from headrace.server.store.postgresql_lines import Line, Lines
from headrace.server.store.postgresql_notices import Notices
from headrace.server.store.schema import HEAD, prepare, stored_revision
from headrace.server.store.tables.metadata import use_postgresql
from headrace.server.store.transaction import Tx

use_postgresql()
ResultT = TypeVar("ResultT")
WRITERS, READERS = 8, 4
RETRY_SECONDS = 5.0
"""How long a transaction is tried again before its caller gets a 503."""
_BECAUSE_OF_OTHERS = {"40001", "40P01", "26000"}  # the last: of statements that are not prepared any more
_LOST = ("08", "57P01", "57P02", "57P03")  # the connection is gone, the server stopping or starting
_STANDBY = "25006"  # a write came to a server that only reads, as after a failover
_NO_FAULT_OF_THE_CALLER = (*_LOST, "40", "53", "55P03", "57014", "58")
_SCHEMA_LOCK = 0x6865616472616365  # "headrace"


def state_of(error: DBAPIError) -> str:
    """The SQLSTATE of an error; `08000` when the connection failed before the server could say one."""
    state = getattr(error.orig, "sqlstate", None)
    if state is None and (error.connection_invalidated or type(error.orig).__name__ == "OperationalError"):
        return "08000"
    return state or ""


def worth_repeating(error: DBAPIError) -> bool:
    """Whether the same transaction may well succeed when it is run again."""
    state = state_of(error)
    return error.connection_invalidated or state in _BECAUSE_OF_OTHERS or state.startswith(_LOST)


class DatabaseClock:
    """The database's clock, told without asking each time.

    Its distance from this process's monotonic clock is measured every few seconds, so replicas whose own clocks differ
    agree on what has expired, and a step of this host's clock changes nothing.  # G6

    Args:
        refresh_seconds: how long a measurement is good for.
    """

    def __init__(self, refresh_seconds: float = 5.0) -> None:
        self._refresh_seconds = refresh_seconds
        self._measured: float | None = None
        self._zero = datetime.fromtimestamp(0, UTC)

    def refresh(self, connection: Connection) -> None:
        """Measure again if that is due."""
        before = time.monotonic()
        if self._measured is not None and before - self._measured < self._refresh_seconds:
            return
        moment = connection.scalar(text("SELECT clock_timestamp()"))
        assert isinstance(moment, datetime)
        after = time.monotonic()
        self._zero = moment.astimezone(UTC) - timedelta(seconds=(before + after) / 2)
        self._measured = after

    def now(self) -> datetime:
        """The present moment, as of the newest measurement."""
        return self._zero + timedelta(seconds=time.monotonic())


class PostgresStore:
    """A store on PostgreSQL.

    Args:
        url: of the database, with SQLAlchemy's driver name for psycopg 3.
        clock: tells each transaction its time; the database's own clock when absent.

    Raises:
        StoreUnavailable: the database does not answer.
    """

    def __init__(self, url: URL, clock: Clock | None) -> None:
        self._url = url
        self._measured_clock = DatabaseClock() if clock is None else None
        self._clock: Clock = clock or self._measured_clock or DatabaseClock()
        self._closed = False
        self._notices: list[Notices] = []
        self._reopening = threading.Lock()
        self._open()
        self._again(self._prepare_schema)

    def _open(self) -> None:
        self._writing = Lines(self._url, WRITERS, writes=True)
        self._reading = Lines(self._url, READERS, writes=False)
        self._write_threads = JobThreads("headrace-writer", WRITERS, self._run_write)
        self._read_threads = JobThreads("headrace-reader", READERS, self._run_read)
        self._process = os.getpid()

    def _prepare_schema(self) -> None:
        with self._reading.one() as line:
            if stored_revision(line.connection) == HEAD:
                return
        with self._writing.engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            connection.execute(text("SELECT set_config('statement_timeout', '0', true)"))
            connection.execute(text("SELECT set_config('lock_timeout', '0', true)"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
            prepare(connection, self._url.render_as_string())

    def _check(self) -> None:
        if self._closed:
            raise StoreClosed
        if self._process != os.getpid():
            self._open_after_fork()

    def _open_after_fork(self) -> None:
        with self._reopening:
            if self._process != os.getpid():
                self._writing.forget()
                self._reading.forget()
                self._open()

    def _again(self, attempt: Callable[[], ResultT]) -> ResultT:
        """Call `attempt` again while what fails is worth repeating, for at most `RETRY_SECONDS`."""
        deadline, pause = time.monotonic() + RETRY_SECONDS, 0.005
        while True:
            try:
                return attempt()
            except DBAPIError as error:
                if not worth_repeating(error) or time.monotonic() > deadline:
                    if state_of(error).startswith(_NO_FAULT_OF_THE_CALLER):
                        raise StoreUnavailable(f"The database could not serve the call: {error.orig}") from error
                    raise
            time.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, 0.5)

    def _now(self, connection: Connection) -> datetime:
        if self._measured_clock is not None:
            self._measured_clock.refresh(connection)
        return self._clock.now()

    def _read(self, function: Callable[[Tx], ResultT]) -> ResultT:
        def attempt() -> ResultT:
            with self._reading.one() as line:
                return function(Tx(line.connection, line, self._now(line.connection)))

        return self._again(attempt)

    def _write(self, job: Job[Any]) -> None:
        def attempt() -> None:
            with self._writing.one() as line:
                tx = Tx(line.connection, line, self._now(line.connection))
                line.begin()
                try:
                    job.result = job.function(tx)
                    self._commit(line)
                except BaseException as error:
                    line.rollback()
                    if isinstance(error, DBAPIError) and state_of(error) == _STANDBY:
                        line.close()  # so that the next one goes elsewhere
                        raise StoreUnavailable(
                            "The database only reads at the moment. Try again in a second."
                        ) from error
                    raise
                job.callbacks = tx.callbacks

        self._again(attempt)

    def _commit(self, line: Line) -> None:
        try:
            line.commit()
        except DataError as error:
            raise as_told(error) from error
        except DBAPIError as error:
            if error.connection_invalidated or state_of(error).startswith(_LOST):
                raise StoreUnavailable(
                    "The connection to the database was lost while it committed, so the change may be stored or not. "
                    "Look, or call again."
                ) from error
            raise

    def _run_read(self, job: Job[Any]) -> None:
        try:
            job.result = self._read(job.function)
        except BaseException as error:  # noqa: BLE001  it belongs to the caller
            job.error = error

    def _run_write(self, job: Job[Any]) -> None:
        try:
            self._write(job)
        except BaseException as error:  # noqa: BLE001  it belongs to the caller
            job.error = error

    def read(self, function: Callable[[Tx], ResultT]) -> ResultT:
        """Run `function` on a connection that only reads, in this thread, and return its result."""
        self._check()
        return self._read(function)

    def write(self, function: Callable[[Tx], ResultT]) -> ResultT:
        """Run `function` in a writing transaction, in this thread, and return its result once committed.  # G1"""
        self._check()
        job = Job(function)
        self._write(job)
        hand_out((job,))
        return job.wait()

    def read_soon(self, function: Callable[[Tx], ResultT]) -> Awaitable[ResultT]:
        """The awaitable twin of `read`."""
        self._check()
        job = Job(function, get_running_loop())
        self._read_threads.submit(job)
        assert job.future is not None
        return job.future

    def write_soon(self, function: Callable[[Tx], ResultT]) -> Awaitable[ResultT]:
        """The awaitable twin of `write`."""
        self._check()
        job = Job(function, get_running_loop())
        self._write_threads.submit(job)
        assert job.future is not None
        return job.future

    def hear(self, channel: str, tell: Callable[[], None]) -> Callable[[], None]:
        """Call `tell` when a process says something by NOTIFY, on a connection of its own; returns what ends it."""
        notices = Notices(self._writing.engine, channel, tell)
        self._notices.append(notices)

        def stop() -> None:
            notices.stop()
            self._notices.remove(notices)

        return stop

    def close(self) -> None:
        """Finish what is waiting and let go of the database."""
        if self._closed or self._process != os.getpid():
            return
        self._closed = True
        for notices in self._notices:
            notices.stop()
        self._write_threads.close()
        self._read_threads.close()
        self._writing.drop()
        self._reading.drop()
