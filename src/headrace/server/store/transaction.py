"""What an operation works on: a transaction of the store, and the store's interface.

An operation is a plain function `(tx, ...) -> result`. It may be run again from the start (PostgreSQL after a
serialisation failure or a deadlock, SQLite after BUSY), so it must have no effect but through `tx`.  # G16
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar, overload
from uuid import UUID

from sqlalchemy import Connection, CursorResult, Dialect, Executable
from sqlalchemy.exc import DataError

from headrace.server.store.caller import ADMIN, Caller
from headrace.server.store.composed import Question, form_of
from headrace.server.store.errors import as_told
from headrace.server.store.prepared import Prepared, Rows

ResultT = TypeVar("ResultT")
SAVEPOINT = "SAVEPOINT part"
"""How a part of a transaction begins."""


class Place(NamedTuple):
    """A place in line, and the limits before which it is."""

    id: UUID
    limit_ids: tuple[UUID, ...]


class Patience:
    """A caller that would rather be held than told to come back.

    Args:
        place: the place in line it has from its last try.
        holds: whether it is held when it has to wait; not at its last try.
    """

    __slots__ = ("holds", "place", "waits")

    def __init__(self, place: UUID | None, *, holds: bool) -> None:
        self.place = place
        self.holds = holds
        self.waits: Place | datetime | None = None
        """What it has to wait for, as the operation says: a place in line, or a moment; None when it has not to."""


Values = Mapping[str, Any]


class Driver(Protocol):
    """What runs statements that are SQL already; its errors are SQLAlchemy's."""

    dialect: Dialect
    """Whose words it understands, with parameters in a sequence."""

    def fetch(self, sql: str, values: Sequence[Any], *, once: bool = False) -> tuple[list[Any], int]:
        """Run a statement; its rows, and how many it concerned. `once` has it planned for just these values."""
        ...

    def send(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each of some rows; perhaps only before the next `fetch` or `settle`."""
        ...

    def count(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement for each of some rows; how many rows it concerned."""
        ...

    def settle(self) -> None:
        """Wait until all that was sent has been run."""
        ...

    def undo_part(self) -> None:
        """Go back to the savepoint `part`, after an error."""
        ...


class _told:
    """What a caller can mend is raised as such; a class, for a generator would take three times as long."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, DataError | OverflowError | UnicodeEncodeError):
            raise as_told(error) from error


class Tx:
    """One transaction.

    Args:
        connection: SQLAlchemy's connection, inside a transaction.
        driver: runs prepared statements on the same connection.
        now: the moment of this transaction, by the database's clock.
    """

    __slots__ = ("_connection", "_driver", "address", "agent", "callbacks", "caller", "now", "patience", "remote")

    def __init__(self, connection: Connection, driver: Driver, now: datetime) -> None:
        self._connection = connection
        self._driver = driver
        self.now = now
        self.caller: Caller = ADMIN
        """Who it is carried out for: the server itself and local mode are their own masters."""
        self.address = "http://localhost/api"
        """Where the caller reaches the API, for links in answers."""
        self.agent = b""
        """The program that calls, as its User-Agent names it."""
        self.remote: str | None = None
        """Where the call came from; None when it came from this process."""
        self.callbacks: list[Callable[[], None]] = []
        self.patience: Patience | None = None
        """Set when the caller is held until it gets what it asks for."""

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._driver.dialect.name

    @property
    def connection(self) -> Connection:
        """SQLAlchemy's connection, on which all that was sent has been run."""
        with _told():
            self._driver.settle()
        return self._connection

    @overload
    def execute(self, statement: Prepared, parameters: Values | None = None) -> Rows: ...
    @overload
    def execute(
        self, statement: Executable, parameters: Values | Sequence[Values] | None = None
    ) -> CursorResult[Any]: ...
    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement; one that is not prepared runs for each of a sequence of parameters.

        Raises:
            ValidationFailed: a value does not fit into the database: a number too great, text that is not Unicode.
        """
        with _told():
            if not isinstance(statement, Prepared):
                return self.connection.execute(statement, parameters)
            form = statement.form(self._driver.dialect, parameters or ())
            rows, count = self._driver.fetch(form.sql, form.bound(parameters or {}))
        return Rows(form.read_all(rows), count)

    def ask(
        self, question: Question, compose: Callable[[], Executable], parameters: Values | None = None
    ) -> Sequence[Any]:
        """The rows that a composed statement selects.

        Args:
            question: what is asked.
            compose: makes the statement, from what the question tells and from nothing else.
            parameters: for its `bindparam`s.

        Raises:
            ValidationFailed: as for `execute`.
        """
        form = form_of(self._driver.dialect, question, compose)
        if form is None:
            return self.execute(compose(), parameters).all()
        values: dict[Any, Any] = {**dict(enumerate(question.values)), **(parameters or {})}
        with _told():
            rows, _ = self._driver.fetch(form.sql, form.bound(values), once=True)
        return form.read_all(rows)

    def send(self, statement: Prepared, rows: Values | Sequence[Values]) -> None:
        """Run a statement whose result nobody looks at, for one row or for each of some that have the same keys.

        PostgreSQL gets it together with what comes next: it may fail only then, at the latest with COMMIT.

        Raises:
            ValidationFailed: as for `execute`.
        """
        many = [rows] if isinstance(rows, Mapping) else rows
        if many:
            self._run_many(self._driver.send, statement, many)

    def count(self, statement: Prepared, rows: Sequence[Values]) -> int:
        """Run a statement for each of some rows that have the same keys; how many rows it concerned.

        Raises:
            ValidationFailed: as for `execute`.
        """
        return self._run_many(self._driver.count, statement, rows) if rows else 0

    def send_rows(self, statement: Prepared, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """As `send`, for rows that are sequences of values.

        Args:
            statement: what to run for each of them.
            names: what the values are, in their order.
            rows: the values.
        """
        if rows:
            form = statement.form(self._driver.dialect, names)
            with _told():
                one = len(rows) == 1
                bound = [form.bound(dict(zip(names, rows[0], strict=True)))] if one else form.bound_rows(names, rows)
                self._driver.send(form.sql, bound)

    def _run_many(
        self, run: Callable[[str, Sequence[Sequence[Any]]], ResultT], statement: Prepared, rows: Sequence[Values]
    ) -> ResultT:
        form = statement.form(self._driver.dialect, rows[0])
        with _told():
            if len(rows) == 1:
                return run(form.sql, [form.bound(rows[0])])
            names = tuple(rows[0])
            return run(form.sql, form.bound_rows(names, ([row[name] for name in names] for row in rows)))

    @contextmanager
    def part(self) -> Iterator[None]:
        """What is done within it is undone when it raises, and the transaction can go on."""
        self._driver.send(SAVEPOINT, [()])
        try:
            yield
            self._driver.settle()
        except Exception as error:
            self._driver.undo_part()
            self._driver.send("RELEASE SAVEPOINT part", [()])
            raise as_told(error) from error
        self._driver.send("RELEASE SAVEPOINT part", [()])

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once this transaction is committed; never when it is rolled back.

        For hints only (wake a worker, feed a socket): what must happen belongs into the transaction.  # G17
        """
        self.callbacks.append(callback)


class Store(Protocol):
    """The database, as operations and services use it. SQLite and PostgreSQL carry it out.  # G19"""

    def read(self, function: Callable[[Tx], ResultT]) -> ResultT:
        """Run `function` in a reading transaction and return its result."""
        ...

    def write(self, function: Callable[[Tx], ResultT]) -> ResultT:
        """Run `function` in a writing transaction and return its result once that is committed.  # G1"""
        ...

    def read_soon(self, function: Callable[[Tx], ResultT]) -> Awaitable[ResultT]:
        """The awaitable twin of `read`."""
        ...

    def write_soon(self, function: Callable[[Tx], ResultT]) -> Awaitable[ResultT]:
        """The awaitable twin of `write`."""
        ...

    def hear(self, channel: str, tell: Callable[[], None]) -> Callable[[], None]:
        """Call `tell`, from another thread, when a process says something on a channel of the database.

        For hints only, which may be lost; SQLite has none.  # G17

        Returns:
            What ends it.
        """
        ...

    def close(self) -> None:
        """Finish what is waiting and let go of the database."""
        ...
