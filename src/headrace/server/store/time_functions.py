"""Reckoning with moments, in the words of each database."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from headrace.server.store.tables.types import Moment


class elapsed(FunctionElement[int]):
    """Whole microseconds from one moment to another: `elapsed(earlier, later)`; NULL when one of them is."""

    type = BigInteger()
    inherit_cache = True
    name = "elapsed"


def moment(value: datetime) -> ColumnElement[datetime]:
    """A moment as a value in a statement."""
    return literal(value, Moment())


def _two(element: elapsed, compiler: SQLCompiler, **options: Any) -> tuple[str, str]:
    earlier, later = (compiler.process(clause, **options) for clause in element.clauses)
    return earlier, later


@compiles(elapsed, "sqlite")
def _elapsed_sqlite(element: elapsed, compiler: SQLCompiler, **options: Any) -> str:
    earlier, later = _two(element, compiler, **options)
    return f"({later} - {earlier})"


@compiles(elapsed, "postgresql")
def _elapsed_postgresql(element: elapsed, compiler: SQLCompiler, **options: Any) -> str:
    earlier, later = _two(element, compiler, **options)
    return f"CAST(EXTRACT(EPOCH FROM ({later} - {earlier})) * 1000000 AS BIGINT)"
