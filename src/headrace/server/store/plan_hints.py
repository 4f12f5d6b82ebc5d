"""Telling SQLite how to find rows: it keeps no statistics, and takes any value to be as rare as any other.

PostgreSQL knows by itself.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import replacement_traverse


class unindexed(FunctionElement[Any]):
    """A value that SQLite may not look up in an index: `unindexed(column)`; https://sqlite.org/optoverview.html#uplus"""

    inherit_cache = True
    name = "unindexed"


@compiles(unindexed, "sqlite")
def _unindexed(element: unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"


@compiles(unindexed, "postgresql")
def _as_it_is(element: unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


class row_of(FunctionElement[int]):
    """The number that SQLite finds a row by, which is in all its indexes: `row_of(TABLE.c.id)`."""

    inherit_cache = True
    name = "row_of"


@compiles(row_of, "sqlite")
def _rowid(element: row_of, compiler: SQLCompiler, **options: Any) -> str:
    return f"{compiler.process(element.clauses, **options).rpartition('.')[0]}.rowid"


def walked(condition: ColumnElement[bool], table: Table) -> ColumnElement[bool]:
    """`condition`, tested on rows of `table` as they come in some order, rather than used to find them.

    Times are left to the database, and so is what has an index in the order of time.
    """
    return tested(condition, table, _IN_ORDER)


def tested(condition: ColumnElement[bool], table: Table, found_by: Collection[str]) -> ColumnElement[bool]:
    """`condition`, for which SQLite looks no columns of `table` up in an index but those of `found_by`."""

    def replace(element: Any, **_: Any) -> Any:
        held_back = getattr(element, "table", None) is table and element.name not in found_by
        return unindexed(element) if held_back else None

    return replacement_traverse(condition, {}, replace)


_IN_ORDER = {"id", "flow_id", "deployment_id", "flow_run_id", "start_time", "end_time", "expected_start_time"}
