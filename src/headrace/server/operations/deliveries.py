"""Rows that wait to be handed to some client, each to one at a time, until it is done with them.

Such a row is written with what it follows from, so nothing that waits is lost with a server process (G2). Whoever takes
it is its `holder` and has it until `due`: a holder that lives renews that, and after a dead one the row is taken again.
So each is handed out at least once. `since` is when it was due first; that is the order.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Table, func, select, update

from headrace.server.store.transaction import Tx


def next_due(tx: Tx, rows: Table, *which: ColumnElement[bool]) -> datetime | None:
    """When the next of these rows is due; None when there is none."""
    moment: datetime | None = tx.execute(select(func.min(rows.c.due)).where(*which)).scalar()
    return moment


def take_first(
    tx: Tx,
    rows: Table,
    *which: ColumnElement[bool],
    holder: UUID,
    lease: timedelta,
    first: ColumnElement[bool] | None = None,
    **more: Any,
) -> Row[Any] | None:
    """Take the row that has waited longest.

    Args:
        tx: a writing transaction.
        rows: their table.
        which: those that may be taken, if they are due.
        holder: who takes it.
        lease: for how long.
        first: those that come before the others.
        more: further columns to set.

    Returns:
        The row as it is now; None when none is due.
    """
    (key,) = rows.primary_key
    order = [] if first is None else [first.desc()]
    waiting = select(key).where(rows.c.due <= tx.now, *which).order_by(*order, rows.c.since, key).limit(1)
    chosen = waiting.with_for_update(skip_locked=True).scalar_subquery()
    taken = update(rows).where(key == chosen).values(holder=holder, due=tx.now + lease, **more).returning(rows)
    return tx.execute(taken).one_or_none()


def give_back(tx: Tx, rows: Table, *which: ColumnElement[bool]) -> int:
    """Let these rows be taken by another at once, before those that came after them; returns how many."""
    return tx.execute(update(rows).where(*which).values(holder=None, due=rows.c.since)).rowcount


def renew(tx: Tx, rows: Table, *which: ColumnElement[bool], lease: timedelta) -> int:
    """Renew the leases of these rows; returns how many."""
    return tx.execute(update(rows).where(*which).values(due=tx.now + lease)).rowcount
