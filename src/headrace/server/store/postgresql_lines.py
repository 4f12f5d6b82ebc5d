"""Connections to PostgreSQL, each used by one transaction at a time, and how statements travel on them.

A connection that writes is always in pipeline mode: what nobody waits for (BEGIN, inserts) is sent together with the
next statement whose result somebody looks at, or with COMMIT: creating a flow run takes two round trips, not seven.
https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from psycopg import Connection as PsycopgConnection
from psycopg import Cursor, Error, Pipeline, RawCursor
from psycopg.pq import TransactionStatus
from psycopg.types.json import set_json_loads
from sqlalchemy import URL, Connection, Dialect, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from headrace.server.store.errors import StoreUnavailable, as_sqlalchemy

_SETTINGS = {
    "TimeZone": "UTC",
    "statement_timeout": "5s",
    "lock_timeout": "3s",
    "idle_in_transaction_session_timeout": "30s",
    "jit": "off",  # compiling a plan over the slices of the event log takes seconds, running it a fraction of one
}
_UNSAID = (None,) * 5  # what the DB-API asks of a column beside its name and type, and nobody here
WAIT_SECONDS = 10.0
"""How long a transaction waits for a connection."""


_PIPELINES: WeakKeyDictionary[PsycopgConnection[Any], Pipeline] = WeakKeyDictionary()
"""The pipelines of connections that are always in pipeline mode."""


class LeanCursor(Cursor[Any]):
    """The cursor that SQLAlchemy uses.

    It describes the columns of a result by their names and types alone: psycopg makes an object for each, which takes
    longer than decoding the row. SQLAlchemy looks for the columns first, so that is when a pipeline is waited for.
    """

    @property
    def description(self) -> Any:
        """The columns of the result; None when there is none."""
        if self.pgresult is None and self.connection.pgconn.pipeline_status:
            _PIPELINES[self.connection].sync()
        result = self.pgresult
        if result is None or not result.nfields:
            return None
        names = ((result.fname(number) or b"").decode() for number in range(result.nfields))
        return [(name, result.ftype(number), *_UNSAID) for number, name in enumerate(names)]


def decode_json(connection: Any, _record: object) -> None:
    """Have a new connection of psycopg decode JSON by msgspec."""
    set_json_loads(msgspec.json.decode, connection)


class Line:
    """One connection; see `headrace.server.store.transaction.Driver` for what runs prepared statements.

    Args:
        connection: SQLAlchemy's, which commits each statement by itself: transactions are ours to begin.
        dialect: with parameters in a sequence, as `$1`.
        writes: whether it writes, and so keeps a pipeline.
    """

    def __init__(self, connection: Connection, dialect: Dialect, *, writes: bool) -> None:
        self.connection, self.dialect = connection, dialect
        driver = connection.connection.driver_connection
        assert isinstance(driver, PsycopgConnection)
        self._driver = driver
        self._pipeline = None
        if writes:
            self._held = driver.pipeline()
            self._pipeline = _PIPELINES[driver] = self._held.__enter__()
        self._sender = RawCursor(driver)

    def fetch(self, sql: str, values: Sequence[Any]) -> tuple[list[Any], int]:
        """Run a statement, after all that was sent; its rows, and how many it concerned."""
        cursor = RawCursor(self._driver)
        try:
            cursor.execute(sql.encode(), values)
            if self._pipeline is not None:
                self._pipeline.sync()
            result = cursor.pgresult
            return (cursor.fetchall() if result is not None and result.nfields else []), cursor.rowcount
        except Error as error:
            raise self._failed(error, sql) from error

    def send(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each of some rows, with the next `fetch`, `settle` or `commit`."""
        try:
            if len(rows) == 1:
                self._sender.execute(sql.encode(), rows[0])
            else:
                self._sender.executemany(sql.encode(), rows)
        except Error as error:
            raise self._failed(error, sql) from error

    def count(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement for each of some rows; how many rows it concerned."""
        cursor = RawCursor(self._driver)
        try:
            cursor.executemany(sql.encode(), rows)
            self._sync()
            return cursor.rowcount
        except Error as error:
            raise self._failed(error, sql) from error

    def settle(self) -> None:
        """Wait until all that was sent has been run."""
        try:
            self._sync()
        except Error as error:
            raise self._failed(error, "what was sent before") from error

    def begin(self) -> None:
        """Begin a transaction."""
        self.send("BEGIN", [()])

    def commit(self) -> None:
        """Run what was sent, and commit it.

        Raises:
            RuntimeError: the transaction had failed, and whoever met the error has passed over it.
        """
        self.send("COMMIT", [()])
        self.settle()
        if self._sender.statusmessage != "COMMIT":  # G1: PostgreSQL answers ROLLBACK then, and means it
            raise RuntimeError("A statement of this transaction had failed, so that nothing was committed.")

    def rollback(self) -> None:
        """Undo the transaction; a connection that was lost has done that already."""
        self._recover()
        with suppress(Error, SQLAlchemyError):
            self.send("ROLLBACK", [()])
            self._sync()

    def undo_part(self) -> None:
        """Go back to the savepoint."""
        self._recover()
        self.send("ROLLBACK TO SAVEPOINT part", [()])

    def _recover(self) -> None:
        """Have done with an error; what was sent after the statement that failed is passed over.

        psycopg may take statements for prepared that were passed over, so no prepared ones are used from here on, and
        the connection is closed at the end of the transaction.
        """
        for _ in range(3):  # the first tells of the error, the second of what was passed over
            with suppress(Error):
                self._sync()
                break
        if self._driver.info.transaction_status != TransactionStatus.INTRANS:
            self._driver.prepare_threshold = None

    def _sync(self) -> None:
        if self._pipeline is not None:
            self._pipeline.sync()

    def _failed(self, error: Error, sql: str) -> Exception:
        return as_sqlalchemy(error, sql, self.dialect, self._driver)

    @property
    def is_spoilt(self) -> bool:
        """Whether the connection must not be used for another transaction."""
        return self._driver.prepare_threshold is None

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone."""
        return self.connection.invalidated or self._driver.closed

    def close(self) -> None:
        """Close the connection."""
        self._driver.close()


class Lines:
    """Connections of one kind, opened as they are needed and then kept.

    Args:
        url: of the database.
        most: how many there may be; who comes when all are in use waits.
        writes: whether they write; the others refuse to.
    """

    def __init__(self, url: URL, most: int, *, writes: bool) -> None:
        settings = _SETTINGS | ({} if writes else {"default_transaction_read_only": "on"})
        self.engine = create_engine(
            url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
            connect_args={
                "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
                "connect_timeout": 5,
                "application_name": "headrace",
                "cursor_factory": LeanCursor,
            },
        )
        event.listen(self.engine, "connect", decode_json)
        dialect = self.engine.dialect
        kind: Any = type(dialect)
        self._dialect: Dialect = kind(paramstyle="numeric_dollar", dbapi=dialect.loaded_dbapi)
        self._writes = writes
        self._room = threading.BoundedSemaphore(most)
        self._free: list[Line] = []

    @contextmanager
    def one(self) -> Iterator[Line]:
        """A connection, for one transaction.

        Raises:
            StoreUnavailable: all were in use for ten seconds.
        """
        if not self._room.acquire(timeout=WAIT_SECONDS):
            raise StoreUnavailable("All connections to the database are busy. Try again in a second.")
        try:
            line = self._free.pop() if self._free else self._open()
            try:
                yield line
            finally:
                if line.is_lost:
                    self.drop()  # the others were most likely lost with it
                if line.is_lost or line.is_spoilt:
                    line.close()
                else:
                    self._free.append(line)
        finally:
            self._room.release()

    def _open(self) -> Line:
        return Line(self.engine.connect(), self._dialect, writes=self._writes)

    def drop(self) -> None:
        """Close the connections that nobody uses."""
        while self._free:
            self._free.pop().close()

    def forget(self) -> None:
        """Leave the connections alone after a fork: their sockets are the parent's."""
        _INHERITED.append(self._free)
        self._free = []


_INHERITED: list[list[Line]] = []
