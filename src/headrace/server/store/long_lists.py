"""Asking for the rows whose value is in a list, however long the list is.

A parameter for each value is best for a few: the plan is the plainest. But a database takes only so many parameters
(SQLite 32 766), and each costs time in every layer; so a long list travels as one: an array to PostgreSQL, and to
SQLite JSON text, or for ids their bytes end to end, which it takes apart again.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ARRAY, ColumnElement, Dialect, LargeBinary, Select, Text, Uuid, bindparam, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from headrace.server.store.condition import Condition
from headrace.server.store.prepared import Prepared

FEW = 100
_encode = msgspec.json.Encoder().encode


class Ids(TypeDecorator[Sequence[UUID]]):
    """Many ids as one parameter."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(Uuid()) if dialect.name == "postgresql" else LargeBinary())

    def bind_processor(self, dialect: Dialect) -> Any:
        if dialect.name == "postgresql":  # as text, which is made in a third of the time that psycopg takes
            return lambda value: "{" + ",".join([f"{id.int:032x}" for id in value]) + "}"
        return lambda value: b"".join([id.int.to_bytes(16) for id in value])


class Texts(TypeDecorator[Sequence[str]]):
    """Many texts as one parameter."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(Text()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return list(value) if dialect.name == "postgresql" else _encode(value).decode()


class is_among_ids(Condition):
    """Whether a column's id is in a list: `is_among_ids(column, ids)`."""

    inherit_cache = True
    name = "is_among_ids"


class is_among_texts(Condition):
    """Whether a column's text is in a list: `is_among_texts(column, texts)`."""

    inherit_cache = True
    name = "is_among_texts"


def among(column: ColumnElement[Any], values: Sequence[UUID] | Sequence[str]) -> ColumnElement[bool]:
    """Whether the column's value is one of `values`; of none, when there are none.

    Args:
        column: of ids or of texts.
        values: what is looked for, all ids or all texts.
    """
    if len(values) <= FEW:
        return column.in_(values)
    if isinstance(values[0], UUID):
        return is_among_ids(column, literal(values, Ids()))
    return is_among_texts(column, literal(values, Texts()))


def by_ids(rows: Select[Any], ids: ColumnElement[Any]) -> Prepared:
    """A select, prepared for those of its rows whose id is in a list, which it takes as `ids`.

    Args:
        rows: the select.
        ids: its column of ids.
    """
    return Prepared(rows.where(is_among_ids(ids, bindparam("ids", type_=Ids()))))


def _two(element: FunctionElement[Any], compiler: SQLCompiler, **options: Any) -> tuple[str, str]:
    first, second = (compiler.process(clause, **options) for clause in element.clauses)
    return first, second


@compiles(is_among_ids, "sqlite")
def _ids_sqlite(element: is_among_ids, compiler: SQLCompiler, **options: Any) -> str:
    column, ids = _two(element, compiler, **options)
    places = f"SELECT 1 UNION ALL SELECT place + 16 FROM places WHERE place + 16 < length({ids})"  # noqa: S608  compiled
    found = f"WITH RECURSIVE places(place) AS ({places}) SELECT substr({ids}, place, 16) FROM places"  # noqa: S608
    return f"({column} IN ({found}))"


@compiles(is_among_texts, "sqlite")
def _texts_sqlite(element: is_among_texts, compiler: SQLCompiler, **options: Any) -> str:
    column, texts = _two(element, compiler, **options)
    return f"({column} IN (SELECT value FROM json_each({texts})))"  # noqa: S608  compiled SQL, no text of users


@compiles(is_among_ids, "postgresql")
@compiles(is_among_texts, "postgresql")
def _any_postgresql(element: FunctionElement[bool], compiler: SQLCompiler, **options: Any) -> str:
    column, values = _two(element, compiler, **options)
    return f"({column} = ANY ({values}))"
