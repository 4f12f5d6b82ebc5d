"""Connections to PostgreSQL, each used by one transaction at a time, and how statements travel on them.

What nobody waits for (BEGIN, inserts) is kept until somebody looks at a result, or COMMIT comes, and then sent
together with that: creating a flow run takes two round trips instead of seven. This is libpq's pipeline mode, which
psycopg offers too, but there each statement is sent by itself, and takes several times as long.
https://www.postgresql.org/docs/current/libpq-pipeline-mode.html

Prepared statements go this way; those that SQLAlchemy runs go psycopg's, on the same connection.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

from psycopg import Connection as PsycopgConnection
from psycopg import Cursor, DatabaseError, Error, OperationalError, errors
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus, error_message
from psycopg.pq.abc import PGresult
from psycopg.types.string import TextLoader
from sqlalchemy import URL, Connection, Dialect, create_engine, event
from sqlalchemy.pool import NullPool

from headrace.server.store.errors import StoreUnavailable, as_sqlalchemy
from headrace.server.store.polling import READ, WRITE, poller
from headrace.server.store.transaction import SAVEPOINT

_SETTINGS = {
    "TimeZone": "UTC",
    "default_transaction_isolation": r"read\ committed",  # whatever the database's own: see `events.cursors`  # G8
    "statement_timeout": "5s",
    "lock_timeout": "3s",
    "idle_in_transaction_session_timeout": "30s",
    "jit": "off",  # compiling a plan over the slices of the event log takes seconds, running it a fraction of one
}
_UNSAID = (None,) * 5  # what the DB-API asks of a column beside its name and type, and nobody here
WAIT_SECONDS = 10.0
"""How long a transaction waits for a connection."""
AT_ONCE = 500
"""So many statements are sent together at most: their answers fit into what the sockets hold while nobody reads."""


class LeanCursor(Cursor[Any]):
    """The cursor that SQLAlchemy uses, which describes the columns of a result by their names and types alone.

    psycopg makes an object for each of them, which takes longer than decoding the row.
    """

    @property
    def description(self) -> Any:
        """The columns of the result; None when there is none."""
        result = self.pgresult
        if result is None or not result.nfields:
            return None
        names = ((result.fname(number) or b"").decode() for number in range(result.nfields))
        return [(name, result.ftype(number), *_UNSAID) for number, name in enumerate(names)]


def leave_json(connection: Any, _record: object) -> None:
    """Have a new connection of psycopg leave JSON as text, which the column's type decodes by msgspec."""
    connection.adapters.register_loader("jsonb", TextLoader)


def error_of(result: PGresult) -> Error:
    """The error that a result tells of."""
    state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    try:
        kind = errors.lookup(state)
    except KeyError:  # of an extension, or a newer PostgreSQL
        kind = DatabaseError
    error = kind(error_message(result))
    error.sqlstate = state
    return error


_Sent = tuple[str, Sequence[Any], bool]
"""A statement, its parameters in PostgreSQL's words, and whether to prepare it."""


class Line:
    """One connection; see `headrace.server.store.transaction.Driver` for what runs prepared statements.

    Args:
        connection: SQLAlchemy's, which commits each statement by itself: transactions are ours to begin.
        dialect: with parameters in a sequence, as `$1`.
    """

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self.connection, self.dialect = connection, dialect
        driver = connection.connection.driver_connection
        assert isinstance(driver, PsycopgConnection)
        self._driver, self._pgconn = driver, driver.pgconn
        self._adapter = Transformer(driver)
        self._waiting: list[_Sent] = []
        self._names: dict[str, bytes] = {}
        self._numbers = count()  # no name is given twice, also when its statement could not be prepared
        self._poll = poller()
        self._poll.register(self._pgconn.socket, READ)

    def fetch(self, sql: str, values: Sequence[Any], *, once: bool = False) -> tuple[list[Any], int]:
        """Run a statement, after all that was sent; its rows, and how many it concerned.

        One that is run `once` is not prepared: it is planned anew each time, knowing how often its values occur.
        """
        if self._waiting or not (once or sql in self._names):
            self._add(sql, [values], prepared=not once)
            result = self._exchange()[-1]
        else:
            result = self._alone(sql, values, once)
        self._adapter.set_pgresult(result)
        rows = self._adapter.load_rows(0, result.ntuples, tuple) if result.nfields else []
        return rows, result.command_tuples or 0

    def _alone(self, sql: str, values: Sequence[Any], once: bool) -> PGresult:
        """Run a statement before which nothing waits: libpq then waits for the answer itself, which costs less."""
        pgconn, dumped = self._pgconn, self._dumped(values)
        try:
            if pgconn.status != ConnStatus.OK:
                raise OperationalError("The connection was lost before.")
            if once:
                result = pgconn.exec_params(sql.encode(), dumped)
            else:
                result = pgconn.exec_prepared(self._names[sql], dumped)
            if pgconn.status != ConnStatus.OK:
                raise OperationalError(pgconn.get_error_message())
            if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
                raise self._failure(result)
        except Error as error:
            raise as_sqlalchemy(error, sql, self.dialect, self._driver) from error
        return result

    def _failure(self, result: PGresult) -> Error:
        error = error_of(result)
        if isinstance(error, errors.InvalidSqlStatementName):  # psycopg drops all when it has run DDL
            self._names.clear()
        return error

    def _dumped(self, values: Sequence[Any]) -> Sequence[Any]:
        """Parameters in PostgreSQL's words, as texts."""
        return self._adapter.dump_sequence(values, [PyFormat.TEXT] * len(values))

    def send(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each of some rows, with the next `fetch`, `count`, `settle` or `commit`."""
        self._add(sql, rows, prepared=bool(rows[0]))  # there is nothing to plan of BEGIN and the like

    def _add(self, sql: str, rows: Sequence[Sequence[Any]], *, prepared: bool) -> None:
        self._waiting += [(sql, self._dumped(row), prepared) for row in rows]

    def count(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement for each of some rows; how many rows it concerned."""
        self.settle()
        self.send(sql, rows)
        return sum(result.command_tuples or 0 for result in self._exchange())

    def settle(self) -> None:
        """Wait until all that was sent has been run."""
        if self._waiting:
            self._exchange()

    def begin(self) -> None:
        """Begin a transaction."""
        self.send("BEGIN", [()])

    def commit(self) -> None:
        """Run what was sent, and commit it.

        Raises:
            RuntimeError: the transaction had failed, and whoever met the error has passed over it.
        """
        self.send("COMMIT", [()])
        result = self._exchange()[-1]
        if result.command_status != b"COMMIT":  # G1: PostgreSQL answers ROLLBACK then, and means it
            raise RuntimeError("A statement of this transaction had failed, so that nothing was committed.")

    def rollback(self) -> None:
        """Undo the transaction; a connection that was lost has done that already."""
        self._waiting.clear()
        if self._pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            self.send("ROLLBACK", [()])
            with suppress(Exception):  # then the connection is lost
                self._exchange()

    def undo_part(self) -> None:
        """Go back to the savepoint."""
        waiting = [sql for sql, _, _ in self._waiting]
        kept = len(waiting) - waiting[::-1].index(SAVEPOINT) if SAVEPOINT in waiting else 0
        del self._waiting[kept:]  # the savepoint itself may not have been sent yet
        self.send("ROLLBACK TO SAVEPOINT part", [()])

    def _exchange(self) -> list[PGresult]:
        """Send what waits, and return a result for each statement; that of an error is raised."""
        waiting, self._waiting = self._waiting, []
        results: list[PGresult] = []
        for start in range(0, len(waiting), AT_ONCE):
            part = waiting[start : start + AT_ONCE]
            try:
                results += self._exchanged(part)
            except Error as error:
                sql = part[-1][0]
                raise as_sqlalchemy(error, sql, self.dialect, self._driver) from error
        return results

    def _exchanged(self, part: Sequence[_Sent]) -> list[PGresult]:
        pgconn = self._pgconn
        if pgconn.status != ConnStatus.OK:
            raise OperationalError("The connection was lost before.")
        pgconn.enter_pipeline_mode()
        try:
            new = [self._post(*each) for each in part]
            pgconn.pipeline_sync()
            if pgconn.flush():
                self._flush()
            results = list(self._results())
        finally:
            if pgconn.status == ConnStatus.OK:
                pgconn.exit_pipeline_mode()
        return self._sorted(part, new, results)

    def _post(self, sql: str, values: Sequence[Any], prepared: bool) -> bool:
        """Hand a statement to libpq; whether it had to be prepared first, which is a result more."""
        pgconn, name = self._pgconn, self._names.get(sql)
        if not prepared:
            pgconn.send_query_params(sql.encode(), values or None)
            return False
        new = name is None
        if name is None:
            name = self._names[sql] = b"headrace_%d" % next(self._numbers)
            pgconn.send_prepare(name, sql.encode())
        # as texts of unknown types, which the casts in the statement name: it is prepared once, whatever is None
        pgconn.send_query_prepared(name, values)
        return new

    def _flush(self) -> None:
        """Send the rest of what the socket did not take at once, reading answers meanwhile so that it is taken."""
        pgconn = self._pgconn
        self._poll.modify(pgconn.socket, READ | WRITE)
        try:
            while pgconn.flush():
                self._poll.poll()
                pgconn.consume_input()
        finally:
            self._poll.modify(pgconn.socket, READ)

    def _results(self) -> Iterator[PGresult]:
        """All results up to the end of the pipeline."""
        pgconn = self._pgconn
        while True:
            while pgconn.is_busy():
                self._poll.poll()
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:  # the end of one statement's
                if pgconn.status != ConnStatus.OK:
                    raise OperationalError(pgconn.get_error_message())
            elif result.status == ExecStatus.PIPELINE_SYNC:
                return
            else:
                yield result

    def _sorted(self, part: Sequence[_Sent], new: Sequence[bool], results: Sequence[PGresult]) -> list[PGresult]:
        """The results of the statements without those of preparing them."""
        found, each, failed = [], iter(results), None
        for (sql, _, _), is_new in zip(part, new, strict=True):
            answers = [next(each) for _ in range(1 + is_new)]
            for answer in answers:
                if answer.status == ExecStatus.FATAL_ERROR and failed is None:
                    failed = self._failure(answer)
            if is_new and answers[0].status != ExecStatus.COMMAND_OK:
                del self._names[sql]
            found.append(answers[-1])
        if failed is not None:
            raise failed
        return found

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone."""
        idle = self._pgconn.transaction_status == TransactionStatus.IDLE
        return self.connection.invalidated or self._driver.closed or not idle

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
        event.listen(self.engine, "connect", leave_json)
        dialect = self.engine.dialect
        kind: Any = type(dialect)
        self._dialect: Dialect = kind(paramstyle="numeric_dollar", dbapi=dialect.loaded_dbapi)
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
            line = self._free.pop() if self._free else Line(self.engine.connect(), self._dialect)
            try:
                yield line
            finally:
                if line.is_lost:
                    self.drop()  # the others were most likely lost with it
                    line.close()
                else:
                    self._free.append(line)
        finally:
            self._room.release()

    def drop(self) -> None:
        """Close the connections that nobody uses."""
        while self._free:
            self._free.pop().close()

    def forget(self) -> None:
        """Leave the connections alone after a fork: their sockets are the parent's."""
        _INHERITED.append(self._free)
        self._free = []


_INHERITED: list[list[Line]] = []
