"""Looking into JSON columns, in the words of each database.

SQLite stores any text in a JSON column; what is no JSON there counts as empty, so that one broken row does not make a
whole statement fail.  # G13
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, String, and_, false, literal, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from headrace.server.store.condition import Condition
from headrace.server.store.long_lists import FEW
from headrace.server.store.tables.types import Json


class json_holds_all(Condition):
    """Whether a JSON array has all of these texts among its elements: `json_holds_all(column, texts)`."""

    inherit_cache = True
    name = "json_holds_all"


class json_holds_any(Condition):
    """Whether a JSON array has one of these texts among its elements: `json_holds_any(column, texts)`."""

    inherit_cache = True
    name = "json_holds_any"


class json_may_hold(Condition):
    """False when a JSON array surely has not this text among its elements: `json_may_hold(column, text)`."""

    inherit_cache = True
    name = "json_may_hold"


class json_text(FunctionElement[str]):
    """A member of a JSON object as text, NULL when it has none: `json_text(column, name)`."""

    type = String()
    inherit_cache = True
    name = "json_text"


class json_contains(Condition):
    """Whether a JSON value has all that another one has; on PostgreSQL alone: `json_contains(column, part)`."""

    inherit_cache = True
    name = "json_contains"


def contains(column: ColumnElement[Any], part: Any) -> ColumnElement[bool]:
    """Whether a JSON value has all that `part` has: of an object its members, of an array its elements; PostgreSQL."""
    return json_contains(column, literal(part, Json()))


def holds_all(column: ColumnElement[Any], texts: Sequence[str]) -> ColumnElement[bool]:
    """Whether a JSON array has all of `texts` among its elements."""
    return and_(
        *(_may_hold(column, text) for text in texts[:FEW]), json_holds_all(column, literal(list(texts), Json()))
    )


def holds_any(column: ColumnElement[Any], texts: Sequence[str]) -> ColumnElement[bool]:
    """Whether a JSON array has one of `texts` among its elements."""
    exact = json_holds_any(column, literal(list(texts), Json()))
    return exact if len(texts) > FEW else and_(or_(false(), *(_may_hold(column, text) for text in texts)), exact)


def _may_hold(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Whether it is worth looking into a JSON array for `text`."""
    return json_may_hold(column, literal(text, Json()))


def member(column: ColumnElement[Any], name: str) -> ColumnElement[str]:
    """The member `name` of a JSON object, as text."""
    return json_text(column, literal(name, String()))


def _two(element: FunctionElement[Any], compiler: SQLCompiler, **options: Any) -> tuple[str, str]:
    first, second = (compiler.process(clause, **options) for clause in element.clauses)
    return first, second


def _elements(column: str) -> str:
    return f"json_each(CASE WHEN json_valid({column}) THEN {column} ELSE '[]' END)"


@compiles(json_holds_all, "sqlite")
def _all_sqlite(element: json_holds_all, compiler: SQLCompiler, **options: Any) -> str:
    column, texts = _two(element, compiler, **options)
    held = f"SELECT held.value FROM {_elements(column)} AS held"  # noqa: S608  compiled SQL, no text of users
    return f"NOT EXISTS (SELECT 1 FROM json_each({texts}) AS wanted WHERE wanted.value NOT IN ({held}))"  # noqa: S608


@compiles(json_holds_any, "sqlite")
def _any_sqlite(element: json_holds_any, compiler: SQLCompiler, **options: Any) -> str:
    column, texts = _two(element, compiler, **options)
    wanted = f"SELECT wanted.value FROM json_each({texts}) AS wanted"  # noqa: S608  compiled SQL, no text of users
    return f"EXISTS (SELECT 1 FROM {_elements(column)} AS held WHERE held.value IN ({wanted}))"  # noqa: S608


@compiles(json_may_hold, "sqlite")
def _may_sqlite(element: json_may_hold, compiler: SQLCompiler, **options: Any) -> str:
    column, text = _two(element, compiler, **options)
    return f"(instr({column}, {text}) > 0)"  # a tenth of the cost of taking the array apart


@compiles(json_may_hold, "postgresql")
def _may_postgresql(element: json_may_hold, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ARG001
    return "true"


@compiles(json_contains, "postgresql")
@compiles(json_holds_all, "postgresql")
def _all_postgresql(element: FunctionElement[bool], compiler: SQLCompiler, **options: Any) -> str:
    column, texts = _two(element, compiler, **options)
    return f"({column} @> {texts})"


@compiles(json_holds_any, "postgresql")
def _any_postgresql(element: json_holds_any, compiler: SQLCompiler, **options: Any) -> str:
    column, texts = _two(element, compiler, **options)
    return f"({column} ?| ARRAY(SELECT jsonb_array_elements_text({texts})))"


@compiles(json_text, "sqlite")
def _text_sqlite(element: json_text, compiler: SQLCompiler, **options: Any) -> str:
    column, name = _two(element, compiler, **options)
    quoted = f"""'$."' || {name} || '"'"""  # or its dots would be steps into what is nested
    return f"CASE WHEN json_valid({column}) THEN json_extract({column}, {quoted}) END"


@compiles(json_text, "postgresql")
def _text_postgresql(element: json_text, compiler: SQLCompiler, **options: Any) -> str:
    column, name = _two(element, compiler, **options)
    return f"({column} ->> {name}::text)"
