"""What an operation works on: a transaction of the store, and the store's interface.

An operation is a plain function `(tx, ...) -> result`. It may be run again from the start (PostgreSQL after a
serialisation failure or a deadlock, SQLite after BUSY), so it must have no effect but through `tx`.  # G16
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection, CursorResult, Executable
from sqlalchemy.exc import DataError

from headrace.exceptions import ValidationFailed
from headrace.server.store.caller import ADMIN, Caller

ResultT = TypeVar("ResultT")


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


class Tx:
    """One transaction.

    Args:
        connection: SQLAlchemy's connection, inside a transaction.
        now: the moment of this transaction, by the database's clock.
    """

    __slots__ = ("address", "agent", "callbacks", "caller", "connection", "now", "patience")

    def __init__(self, connection: Connection, now: datetime) -> None:
        self.connection = connection
        self.now = now
        self.caller: Caller = ADMIN
        """Who it is carried out for: the server itself and local mode are their own masters."""
        self.address = "http://localhost/api"
        """Where the caller reaches the API, for links in answers."""
        self.agent = b""
        """The program that calls, as its User-Agent names it."""
        self.callbacks: list[Callable[[], None]] = []
        self.patience: Patience | None = None
        """Set when the caller is held until it gets what it asks for."""

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.connection.dialect.name

    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Run a statement; a sequence of parameters runs it for each.

        Raises:
            ValidationFailed: a value does not fit into the database: a number too great, text that is not Unicode.
        """
        try:
            return self.connection.execute(statement, parameters)
        except (DataError, OverflowError, UnicodeEncodeError) as error:
            cause = getattr(error, "orig", error)
            raise ValidationFailed(f"A value of the call cannot be stored: {cause}. Send another one.") from error

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

    def close(self) -> None:
        """Finish what is waiting and let go of the database."""
        ...
