"""The one collection of tables, from which both databases and the migrations are made."""

from typing import Any

from sqlalchemy import Column, MetaData, column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from headrace.server.store.tables.types import Id, Moment

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s__%(column_0_N_name)s",
        "uq": "uq_%(table_name)s__%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def identity() -> tuple["Column[object]", ...]:
    """The columns every object of the API has: id, created, updated."""
    return (
        Column("id", Id, primary_key=True),
        Column("created", Moment, nullable=False),
        Column("updated", Moment, nullable=False),
    )


def of_filled(name: str) -> dict[str, Any]:
    """Options of an index that only has the rows with a value in column `name`; others cost no entry.

    Both databases use it for comparisons with that column, which say by themselves that there is a value.
    """
    return {"sqlite_where": column(name).is_not(None), "info": {"filled": name}}


def use_postgresql() -> None:
    """Give the indexes the options that are PostgreSQL's.

    To name them when the tables are made loads its dialect, which costs 40 ms that a run on SQLite need not pay.
    """
    for table in METADATA.tables.values():
        for index in table.indexes:
            if "filled" in index.info:
                index.dialect_kwargs["postgresql_where"] = column(index.info["filled"]).is_not(None)


class newest_first(FunctionElement[Any]):
    """A column of an index from which the newest rows are read first, and those without a value last."""

    inherit_cache = True
    name = "newest_first"


@compiles(newest_first, "sqlite")
def _newest_sqlite(element: newest_first, compiler: SQLCompiler, **options: Any) -> str:
    return f"{compiler.process(element.clauses, **options)} DESC"  # SQLite's order of NULLs, which it has no words for


@compiles(newest_first, "postgresql")
def _newest_postgresql(element: newest_first, compiler: SQLCompiler, **options: Any) -> str:
    return f"{compiler.process(element.clauses, **options)} DESC NULLS LAST"
