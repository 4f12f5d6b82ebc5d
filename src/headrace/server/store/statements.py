"""Statements that both databases know, each in its own dialect's words.

A statement is made once and kept: making one costs ten times as much as running it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Table
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import KeyedColumnElement

from headrace.server.store.prepared import Prepared
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


def _run(tx: Tx, statement: Prepared, rows: Rows, counted: bool) -> int:
    if counted:
        return tx.count(statement, rows)
    tx.send(statement, rows)
    return 0


def insert_ignore(tx: Tx, table: Table, rows: Rows, *, index: Sequence[str] | None = None, counted: bool = True) -> int:
    """Insert rows, passing over those that are there already.

    Args:
        tx: the transaction.
        table: where to.
        rows: one mapping a row, all with the same keys.
        index: the columns of the unique index that says what is there already; any unique index when absent.
        counted: whether the number matters; without, nobody waits for PostgreSQL.

    Returns:
        How many rows were inserted; 0 when that was not to be counted.
    """
    if not rows:
        return 0
    return _run(tx, ignoring(tx.dialect, table, None if index is None else tuple(index)), rows, counted)


@lru_cache(maxsize=256)
def ignoring(dialect: str, table: Table, index: tuple[str, ...] | None = None) -> Prepared:
    """The insert that passes over the rows that are there already, in the words of a database; see `insert_ignore`."""
    return Prepared(_insert(dialect, table).on_conflict_do_nothing(index_elements=index))


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
    return _run(tx, _upserting(tx.dialect, table, tuple(index), tuple(update), where), rows, counted)


@lru_cache(maxsize=256)
def _upserting(
    dialect: str, table: Table, index: tuple[str, ...], update: tuple[str, ...], where: Condition | None
) -> Prepared:
    statement = _insert(dialect, table)
    values = {name: statement.excluded[name] for name in update}
    condition = None if where is None else where(statement.excluded)
    return Prepared(statement.on_conflict_do_update(index_elements=index, set_=values, where=condition))
