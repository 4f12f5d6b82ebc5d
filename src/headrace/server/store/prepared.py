"""Statements that are fixed when a module is loaded and run often: compiled once, and then handed to the driver.

SQLAlchemy takes 50 µs to run a statement on SQLite and 150 µs on PostgreSQL, several times what the driver does. What a
call runs a thousand times a second is therefore `Prepared`; what is composed for a call, such as a filter, is not: see
`composed`.
"""

from collections import namedtuple
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import repeat
from operator import is_
from typing import Any, NamedTuple

from sqlalchemy import Dialect, Executable
from sqlalchemy.sql.selectable import ReturnsRows

from headrace.server.store.tables.types import Columns, column_reader, column_writer

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
    """A parameter: the name or number of the value it takes, or the value it always has, as the database stores it."""

    name: str | int | None
    process: Process | None
    constant: Any
    whole: Columns | None = None
    """What converts many values at once, if there is a quicker way than one after the other."""

    def column(self, values: Sequence[Any]) -> Iterable[Any]:
        """Many values as the database stores them."""
        if self.process is None:
            return values
        if all(map(is_, values, repeat(values[0]))):  # of a batch many things are the same for all
            return repeat(self.process(values[0]), len(values))
        return map(self.process, values) if self.whole is None else self.whole(values)


class Form:
    """A statement in the words of one database.

    Args:
        statement: what to compile.
        dialect: of the database, with parameters in a sequence.
        names: the columns that an INSERT is given.
        as_stored: names of values that are given as the database stores them.
        values: objects in the statement for which others will stand, given by their numbers; known by their identity.
            Its `bindparam`s have values too then, which mean nothing.

    Raises:
        TypeError: its text depends on values that it has not, as that of `IN` with a list does; leave it to SQLAlchemy.
    """

    __slots__ = ("_make", "_readers", "_slots", "sql")

    def __init__(
        self,
        statement: Executable,
        dialect: Dialect,
        names: Sequence[str] | None = None,
        as_stored: Collection[str] = (),
        values: Sequence[Any] | None = None,
    ) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=names)  # type: ignore[attr-defined]
        if values is not None:
            self.sql, self._slots = _expanded(compiled, dialect, values)
        elif compiled.post_compile_params or compiled.literal_execute_params:
            raise TypeError(f"The text of this statement depends on its values: {compiled}")
        else:
            slots = (_slot(compiled.binds[name], name, dialect) for name in compiled.positiontup or ())
            self.sql = str(compiled)
            self._slots = [slot._replace(process=None) if slot.name in as_stored else slot for slot in slots]
        columns = list(statement.exported_columns) if isinstance(statement, ReturnsRows) else []
        self._make = _row_of(tuple(str(column.key) for column in columns))._make
        readers = ((at, _reader(column.type, dialect)) for at, column in enumerate(columns))
        self._readers = [(at, read) for at, read in readers if read is not None]

    @property
    def places(self) -> set[int]:
        """The numbers of the values that others will stand for."""
        return {slot.name for slot in self._slots if isinstance(slot.name, int)}

    def bound(self, values: Mapping[Any, Any]) -> list[Any]:
        """The parameters for some values, as the driver takes them."""
        return [
            constant if name is None else values[name] if process is None else process(values[name])
            for name, process, constant, _ in self._slots
        ]

    def bound_rows(self, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """The parameters for many rows of values, converted column by column, which is several times as fast.

        Args:
            names: what the values of each row are, in their order.
            rows: at least one.
        """
        given: dict[Any, Any] = dict(zip(names, zip(*rows, strict=True), strict=True))
        columns: list[Iterable[Any]] = [
            repeat(slot.constant) if slot.name is None else slot.column(given[slot.name]) for slot in self._slots
        ]
        return list(zip(*columns, strict=False))  # a constant has no end

    def read_all(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Rows of the driver's as named tuples of Python values, converted column by column."""
        if not rows:
            return []
        columns: list[Iterable[Any]] = list(zip(*rows, strict=True))
        for at, read in self._readers:
            column: Any = columns[at]
            if column.count(None) < len(column):
                columns[at] = read(column)
        return list(map(self._make, zip(*columns, strict=True)))


@cache
def _row_of(fields: tuple[str, ...]) -> Any:
    return namedtuple("Row", fields, rename=True)


def _slot(bind: Any, name: str, dialect: Dialect) -> _Slot:
    process = _writer(bind.type, dialect)
    if bind.required:
        return _Slot(name, process, None, column_writer(bind.type, dialect))
    return _Slot(None, None, bind.effective_value if process is None else process(bind.effective_value))


def _expanded(compiled: Any, dialect: Dialect, values: Sequence[Any]) -> tuple[str, list[_Slot]]:
    """A compiled statement with a parameter for each value of its lists; its text, and its parameters."""
    state = compiled.construct_expanded_state()
    places = {id(value): place for place, value in enumerate(values)}
    slots = []
    for name in state.positiontup:
        bind, value = compiled.binds.get(name), state.parameters[name]
        process = state.processors.get(name) if bind is None else _writer(bind.type, dialect)
        if bind is not None and not bind.unique:
            slots.append(_Slot(name, process, None))
        elif id(value) in places:
            slots.append(_Slot(places[id(value)], process, None))
        else:
            slots.append(_Slot(None, None, value if process is None else process(value)))
    return state.statement, slots


def _writer(kind: Any, dialect: Dialect) -> Process | None:
    write: Process | None = kind.dialect_impl(dialect).bind_processor(dialect)
    return write


def _reader(kind: Any, dialect: Dialect) -> Columns | None:
    whole = column_reader(kind, dialect)
    read: Process | None = kind.dialect_impl(dialect).result_processor(dialect, _FLOAT8)
    return whole if whole is not None or read is None else partial(map, read)


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
