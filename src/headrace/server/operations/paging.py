"""Pages of lists: how many a caller may ask for, and which ones."""

import logging
from collections.abc import Callable, Iterable
from math import ceil
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Row, Select, Table, select

from headrace.exceptions import ValidationFailed
from headrace.server.operations.tagged import Choice, narrowed, run_ids
from headrace.server.store.filters import counted, ordered, walked
from headrace.server.store.long_lists import among_packed, packed
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

RowT = TypeVar("RowT")
StructT = TypeVar("StructT")

logger = logging.getLogger("headrace.server.lists")

FEW = 2_000
"""So many rows are sorted in a few milliseconds."""


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
    tx: Tx,
    statement: Select[Any],
    choose: Choice,
    table: Table,
    body: Any,
    limit: int,
    offset: int = 0,
) -> Iterable[Row[Any]]:
    """One page of the runs that the filters of a body choose, in its order.

    PostgreSQL knows how often a value occurs. SQLite does not: asked for the newest of a few matches it may walk
    through a million rows in their order, and asked for the newest of many it may sort them all. So it is told: when
    there are few they are looked up first and then sorted, and when there are many it walks.

    Args:
        tx: the transaction.
        statement: what to select, not narrowed yet.
        choose: puts the filters of a body on a select.
        table: FLOW_RUN or TASK_RUN.
        body: filters and a sort.
        limit: how many.
        offset: how many to pass over.
    """
    body = narrowed(tx, body)
    chosen, asked = choose(statement, body), choose(select(table.c.id), body).whereclause
    if tx.dialect == "sqlite" and asked is not None:
        keys = run_ids(table, body, choose)
        found = tx.execute(keys.with_only_columns(packed(keys.selected_columns[0])).limit(FEW + 1)).scalars().all()
        few = among_packed(table.c.id, found) if len(found) <= FEW else walked(asked, table)
        page = ordered(select(table.c.id).where(few), table, body.sort).limit(limit).offset(offset)
        chosen, offset = statement.where(table.c.id.in_(page)), 0  # sorted without the whole rows
    return tx.execute(ordered(chosen, table, body.sort).limit(limit).offset(offset))


def count_of(tx: Tx, statement: Select[Any]) -> int:
    """How many rows a statement selects."""
    return int(tx.execute(counted(statement)).scalar_one())


def page_facts(tx: Tx, statement: Select[Any], page: int, limit: int) -> dict[str, int]:
    """The figures of a page: `count` of all, `limit`, `page`, and `pages` in all."""
    count = count_of(tx, statement)
    return {"count": count, "limit": limit, "page": page, "pages": ceil(count / limit) if limit else 0}
