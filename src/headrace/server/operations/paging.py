"""Pages of lists: how many a caller may ask for, and which ones."""

import logging
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from math import ceil
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Select, Table, func, literal, select, true

from headrace.exceptions import ValidationFailed
from headrace.server.operations.lookups import FEW, Choice, run_ids, stand_in_order
from headrace.server.operations.tagged import narrowed
from headrace.server.store.filters import counted, ordered
from headrace.server.store.plan_hints import row_of, walked
from headrace.server.store.prepared import Prepared
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

RowT = TypeVar("RowT")
StructT = TypeVar("StructT")

logger = logging.getLogger("headrace.server.lists")


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
    ids = select(table.c.id)
    asked = choose(ids, body).whereclause
    if asked is not None and tx.dialect == "sqlite" and not stand_in_order(table, body):
        few = _if_few(run_ids(tx, table, body, choose), table, body.sort, limit, offset)
        found = tx.execute(few).all()
        if found[0].few:
            return [row.id for row in found if row.id is not None]
        asked = walked(asked, table)
    chosen = ids if asked is None else ids.where(asked)
    return tx.execute(ordered(chosen, table, body.sort).limit(limit).offset(offset)).scalars().all()


def _if_few(ids: Select[Any], table: Table, sort: StrEnum, limit: int, offset: int) -> Select[Any]:
    """A select of the page of `ids` if they are `few`; it has a row to say so though there be none.

    They are looked up once, and by the numbers of the rows if they can be: then an index may have all that is asked.
    """
    own = ids.selected_columns[0] is table.c.id
    key: ColumnElement[Any] = row_of(table.c.id) if own else table.c.id
    found = (ids.with_only_columns(key.label("key")) if own else ids).limit(FEW + 1).cte("found")
    few = select(func.count() <= FEW).select_from(found).scalar_subquery()
    rows = select(table.c.id).where(key.in_(select(found.c[0])), few)
    page = ordered(rows, table, sort, looked_up=True).limit(limit).offset(offset).subquery()
    return select(few.label("few"), page.c.id).select_from(select(literal(1)).subquery().outerjoin(page, true()))


def count_of(tx: Tx, statement: Select[Any]) -> int:
    """How many rows a statement selects."""
    return int(tx.execute(counted(statement)).scalar_one())


def page_facts(tx: Tx, statement: Select[Any], page: int, limit: int) -> dict[str, int]:
    """The figures of a page: `count` of all, `limit`, `page`, and `pages` in all."""
    count = count_of(tx, statement)
    return {"count": count, "limit": limit, "page": page, "pages": ceil(count / limit) if limit else 0}
