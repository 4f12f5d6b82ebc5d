"""Statements that both databases know, each in its own dialect's words.

A statement is made once and kept: making one costs ten times as much as running it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Executable, Table
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import KeyedColumnElement

from headrace.server.store.transaction import Tx

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql import Insert as PostgresInsert

    AnyInsert = SqliteInsert | PostgresInsert

Rows = Sequence[Mapping[str, Any]]
Columns = ReadOnlyColumnCollection[str, KeyedColumnElement[Any]]
Condition = Callable[[Columns], ColumnElement[bool]]


def _insert(dialect: str, table: Table) -> "AnyInsert":
    if dialect == "sqlite":
        return SqliteInsert(table)
    from sqlalchemy.dialects.postgresql import insert  # costs 40 ms, which a run on SQLite need not pay

    return insert(table)


def _counting(statement: "AnyInsert", table: Table) -> Executable:
    if isinstance(statement, SqliteInsert):
        return statement
    # psycopg counts nothing for a batch; RETURNING makes SQLAlchemy send many rows in one statement, and counts
    return statement.returning(*table.primary_key.columns)


def _run(tx: Tx, statement: Executable, rows: Rows, counted: bool) -> int:
    result = tx.execute(statement, list(rows))
    if not counted:
        return 0
    return result.rowcount if tx.dialect == "sqlite" else len(result.all())


def insert_ignore(tx: Tx, table: Table, rows: Rows, *, index: Sequence[str] | None = None, counted: bool = True) -> int:
    """Insert rows, passing over those that are there already.

    Args:
        tx: the transaction.
        table: where to.
        rows: one mapping a row, all with the same keys.
        index: the columns of the unique index that says what is there already; any unique index when absent.
        counted: whether the number matters; PostgreSQL takes a large batch several times as fast without.

    Returns:
        How many rows were inserted; 0 when that was not to be counted.
    """
    if not rows:
        return 0
    statement = _ignoring(tx.dialect, table, None if index is None else tuple(index), counted)
    return _run(tx, statement, rows, counted)


@lru_cache(maxsize=256)
def _ignoring(dialect: str, table: Table, index: tuple[str, ...] | None, counted: bool) -> Executable:
    statement = _insert(dialect, table).on_conflict_do_nothing(index_elements=index)
    return _counting(statement, table) if counted else statement


def upsert(
    tx: Tx,
    table: Table,
    rows: Rows,
    *,
    index: Sequence[str],
    update: Sequence[str],
    where: Condition | None = None,
    counted: bool = True,
) -> int:
    """Insert rows, or update those that are there already.

    Args:
        tx: the transaction.
        table: where to.
        rows: one mapping a row, all with the same keys; no two may meet in `index`.
        index: the columns of the unique index that says what is there already.
        update: the columns that an existing row takes over from the new one.
        where: a function of a module, which makes a condition from the columns of the new row; an existing row for
            which it does not hold is left as it is. `return TASK_RUN.c.state_timestamp <= new.state_timestamp`
        counted: as for `insert_ignore`.

    Returns:
        How many rows were inserted or updated; 0 when that was not to be counted.
    """
    if not rows:
        return 0
    statement = _upserting(tx.dialect, table, tuple(index), tuple(update), where, counted)
    return _run(tx, statement, rows, counted)


@lru_cache(maxsize=256)
def _upserting(
    dialect: str, table: Table, index: tuple[str, ...], update: tuple[str, ...], where: Condition | None, counted: bool
) -> Executable:
    statement = _insert(dialect, table)
    values = {name: statement.excluded[name] for name in update}
    condition = None if where is None else where(statement.excluded)
    statement = statement.on_conflict_do_update(index_elements=index, set_=values, where=condition)
    return _counting(statement, table) if counted else statement
