"""Pages of lists: how many a caller may ask for, and which ones."""

import logging
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from math import ceil
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Integer, Select, Table, bindparam, func, literal, select, true

from headrace.exceptions import ValidationFailed
from headrace.server.operations.lookups import FEW, Choice, filters_of, run_ids, stand_in_order, way_to
from headrace.server.operations.tagged import narrowed
from headrace.server.store.composed import Question
from headrace.server.store.filters import counted, ordered
from headrace.server.store.plan_hints import row_of, walked
from headrace.server.store.prepared import Prepared
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

RowT = TypeVar("RowT")
StructT = TypeVar("StructT")

logger = logging.getLogger("headrace.server.lists")
_LIMIT, _OFFSET = (bindparam(name, 0, Integer()) for name in ("limit", "offset"))


def page_size(wanted: int | None) -> int:
    """How many items a list holds at most: what the caller wants, or the setting `server.api.default_limit`.

    Raises:
        ValidationFailed: it wants less than none, or more than that setting.
    """
    most = get_settings().server.api.default_limit
    if wanted is None:
        return most
    if not 0 <= wanted <= most:
        raise ValidationFailed(f"Invalid limit {wanted}: it must be from 0 to {most}.")
    return wanted


def listed(rows: Iterable[RowT], read: Callable[[RowT], StructT], what: str) -> list[StructT]:
    """Rows as structs; a row that cannot be read is left out and reported.  # G13

    Args:
        rows: what was selected.
        read: makes a struct of a row.
        what: what the rows are, for the report.
    """
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except (msgspec.ValidationError, msgspec.DecodeError, ValueError, TypeError) as error:
            key = row.id if hasattr(row, "id") else row[0]  # type: ignore[index]
            logger.error("A %s cannot be read and is left out of a list: %s: %s", what, key, error)
    return found


def chosen_rows(
    tx: Tx, what: str, compose: Callable[[], Select[Any]], table: Table, body: Any, limit: int, offset: int = 0
) -> Sequence[Any]:
    """One page of the rows that the filters of a body choose, in its order.

    Args:
        tx: the transaction.
        what: what the rows are; no other list is called so.
        compose: a select of them by the filters of the body.
        table: the table whose columns the order names.
        body: filters and a sort.
        limit: how many.
        offset: how many to pass over.
    """
    question = Question(what, body.sort, filters_of(body))
    return tx.ask(question, lambda: _cut(ordered(compose(), table, body.sort)), {"limit": limit, "offset": offset})


def page_rows(
    tx: Tx, rows: Prepared, choose: Choice, table: Table, body: Any, limit: int, offset: int = 0
) -> list[Any]:
    """One page of the runs that the filters of a body choose, in its order.

    Args:
        tx: the transaction.
        rows: what to select of them, from `by_ids`, with their `id`.
        choose: puts the filters of a body on a select.
        table: FLOW_RUN or TASK_RUN.
        body: filters and a sort.
        limit: how many.
        offset: how many to pass over.
    """
    ids = _page_ids(tx, choose, table, body, limit, offset)
    places = {id: place for place, id in enumerate(ids)}
    found = tx.execute(rows, {"ids": ids}).all() if ids else []
    return sorted(found, key=lambda row: places.get(row.id, 0))


def _page_ids(tx: Tx, choose: Choice, table: Table, body: Any, limit: int, offset: int) -> Sequence[Any]:
    """The ids of a page.

    PostgreSQL knows how often a value occurs.
    SQLite does not: asked for the newest of a few matches it may walk through a million rows in their order, and asked
    for the newest of many it may sort them all. So it is told, unless an index has just what is asked for: when there
    are few they are looked up and sorted, when there are many it walks.
    """
    body = narrowed(tx, body)
    asked = filters_of(body)
    question, page = (table.name, body.sort, asked), {"limit": limit, "offset": offset}
    must_know = tx.dialect == "sqlite" and asked and not stand_in_order(table, body)
    if must_know:
        way = way_to(tx, table, body)
        few = Question("page, if few", way, *question)
        found = tx.ask(few, lambda: _if_few(run_ids(table, body, choose, way), table, body.sort), page)
        if found[0].few:
            return [row.id for row in found if row.id is not None]
    walk = Question("page in order" if must_know else "page", *question)
    return [row.id for row in tx.ask(walk, lambda: _page(table, body, choose, in_order=bool(must_know)), page)]


def _page(table: Table, body: Any, choose: Choice, *, in_order: bool = False) -> Select[Any]:
    """A select of the ids of a page; `in_order` has SQLite walk."""
    ids = choose(select(table.c.id), body)
    if in_order and ids.whereclause is not None:
        ids = select(table.c.id).where(walked(ids.whereclause, table))
    return _cut(ordered(ids, table, body.sort))


def _cut(rows: Select[Any]) -> Select[Any]:
    return rows.limit(_LIMIT).offset(_OFFSET)


def _if_few(ids: Select[Any], table: Table, sort: StrEnum) -> Select[Any]:
    """A select of the page of `ids` if they are `few`; it has a row to say so though there be none.

    They are looked up once, and by the numbers of the rows if they can be: then an index may have all that is asked.
    """
    own = ids.selected_columns[0] is table.c.id
    key: ColumnElement[Any] = row_of(table.c.id) if own else table.c.id
    found = (ids.with_only_columns(key.label("key")) if own else ids).limit(FEW + 1).cte("found")
    few = select(func.count() <= FEW).select_from(found).scalar_subquery()
    rows = select(table.c.id).where(key.in_(select(found.c[0])), few)
    page = _cut(ordered(rows, table, sort, looked_up=True)).subquery()
    return select(few.label("few"), page.c.id).select_from(select(literal(1)).subquery().outerjoin(page, true()))


def count_of(tx: Tx, statement: Select[Any]) -> int:
    """How many rows a statement selects."""
    return int(tx.execute(counted(statement)).scalar_one())


def count_of_runs(tx: Tx, choose: Choice, table: Table, body: Any) -> int:
    """How many runs the filters of a body choose.

    Args:
        tx: the transaction.
        choose: puts the filters of a body on a select.
        table: FLOW_RUN or TASK_RUN.
        body: filters.
    """
    body = narrowed(tx, body)
    way = way_to(tx, table, body)
    question = Question("count", way, table.name, filters_of(body))
    (row,) = tx.ask(question, lambda: counted(run_ids(table, body, choose, way)))
    return int(row[0])


def page_facts(count: int, page: int, limit: int) -> dict[str, int]:
    """The figures of a page: `count` of all, `limit`, `page`, and `pages` in all."""
    return {"count": count, "limit": limit, "page": page, "pages": ceil(count / limit) if limit else 0}
