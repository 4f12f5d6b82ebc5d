"""Statements that are fixed when a module is loaded and run often: compiled once, and then handed to the driver.

SQLAlchemy takes 50 µs to run a statement on SQLite and 150 µs on PostgreSQL, several times what the driver does. What a
call runs a thousand times a second is therefore `Prepared`; what is composed for a call, such as a filter, is not.
"""

from collections import namedtuple
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from sqlalchemy import Dialect, Executable
from sqlalchemy.sql.selectable import ReturnsRows

Process = Callable[[Any], Any]
_FLOAT8 = 701
"""What PostgreSQL calls the type of our columns of floats; SQLAlchemy converts none that come as such."""


class Rows:
    """What a prepared statement brought: named tuples, and how many rows it concerned.

    Args:
        rows: all of them.
        rowcount: how many rows were selected, inserted, updated or deleted.
    """

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows, self.rowcount = rows, rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> list[Any]:
        """All rows."""
        return self._rows

    def first(self) -> Any:
        """The first row, or None."""
        return self._rows[0] if self._rows else None

    def one_or_none(self) -> Any:
        """The only row, or None.

        Raises:
            LookupError: there are several.
        """
        if len(self._rows) > 1:
            raise LookupError(f"One row was asked for, and {len(self._rows)} were found.")
        return self.first()

    def one(self) -> Any:
        """The only row.

        Raises:
            LookupError: there is none, or there are several.
        """
        if not self._rows:
            raise LookupError("One row was asked for, and none was found.")
        return self.one_or_none()

    def scalar(self) -> Any:
        """The first value of the first row, or None."""
        return self._rows[0][0] if self._rows else None


class _Slot(NamedTuple):
    """A parameter: the name of the value it takes, or the value it always has, as the database stores it."""

    name: str | None
    process: Process | None
    constant: Any


class Form:
    """A statement in the words of one database.

    Args:
        statement: what to compile.
        dialect: of the database, with parameters in a sequence.
        names: the columns that an INSERT is given.
        as_stored: names of values that are given as the database stores them.

    Raises:
        TypeError: its text depends on its values, as that of `IN` with a list does; leave it to SQLAlchemy.
    """

    __slots__ = ("_make", "_readers", "_slots", "sql")

    def __init__(
        self, statement: Executable, dialect: Dialect, names: Sequence[str] | None, as_stored: Collection[str]
    ) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=names)  # type: ignore[attr-defined]
        if compiled.post_compile_params or compiled.literal_execute_params:
            raise TypeError(f"The text of this statement depends on its values: {compiled}")
        self.sql = str(compiled)
        slots = (_slot(compiled.binds[name], name, dialect) for name in compiled.positiontup or ())
        self._slots = [slot._replace(process=None) if slot.name in as_stored else slot for slot in slots]
        columns = list(statement.exported_columns) if isinstance(statement, ReturnsRows) else []
        made: Any = namedtuple("Row", [str(column.key) for column in columns], rename=True)  # type: ignore[misc]
        self._make = made._make
        readers = ((at, _reader(column.type, dialect)) for at, column in enumerate(columns))
        self._readers = [(at, read) for at, read in readers if read is not None]

    def bound(self, values: Mapping[str, Any]) -> list[Any]:
        """The parameters for some values, as the driver takes them."""
        return [
            constant if name is None else values[name] if process is None else process(values[name])
            for name, process, constant in self._slots
        ]

    def bound_rows(self, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """The parameters for many rows of values, converted column by column, which is several times as fast.

        Args:
            names: what the values of each row are, in their order.
            rows: at least one.
        """
        given = dict(zip(names, zip(*rows, strict=True), strict=True))
        columns: list[Iterable[Any]] = [
            repeat(constant) if name is None else given[name] if process is None else map(process, given[name])
            for name, process, constant in self._slots
        ]
        return list(zip(*columns, strict=False))  # a constant has no end

    def read(self, row: Sequence[Any]) -> Any:
        """A row of the driver's as a named tuple of Python values."""
        found = list(row)
        for at, read in self._readers:
            found[at] = read(found[at])
        return self._make(found)


def _slot(bind: Any, name: str, dialect: Dialect) -> _Slot:
    process = bind.type.dialect_impl(dialect).bind_processor(dialect)
    if bind.required:
        return _Slot(name, process, None)
    return _Slot(None, None, bind.effective_value if process is None else process(bind.effective_value))


def _reader(kind: Any, dialect: Dialect) -> Process | None:
    read: Process | None = kind.dialect_impl(dialect).result_processor(dialect, _FLOAT8)
    return read


class Prepared:
    """A statement without values: `_ONE = Prepared(select(FLOW).where(FLOW.c.id == bindparam("id")))`.

    Args:
        statement: a select, insert, update or delete whose values are `bindparam`s; an insert without any takes the
            columns that it is given.
        as_stored: names of values that are given as the database stores them, such as JSON that is text already.
    """

    __slots__ = ("_as_stored", "_forms", "statement")

    def __init__(self, statement: Executable, *, as_stored: Collection[str] = ()) -> None:
        self.statement = statement
        self._as_stored = as_stored
        self._forms: dict[tuple[str, tuple[str, ...] | None], Form] = {}

    def form(self, dialect: Dialect, given: Iterable[str]) -> Form:
        """The statement in the words of a database.

        Args:
            dialect: of the database.
            given: the names of the values it will be run with, which are the columns of an insert.
        """
        names = tuple(given) if getattr(self.statement, "is_insert", False) else None
        found = self._forms.get((dialect.name, names))
        if found is None:
            found = self._forms[dialect.name, names] = Form(self.statement, dialect, names, self._as_stored)
        return found
