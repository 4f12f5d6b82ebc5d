"""Readers of the event log, each with a cursor of its own in the database.  # G8

A reader takes what comes behind its cursor and moves it in the transaction of its effect: after a crash it goes on
where it was, and has handled each event once.

Rows do not become visible in the order of their numbers: on PostgreSQL a transaction may commit later than one that
began after it. So rows are read in the order of the transactions that wrote them, and only up to the oldest that is
still open: nothing can appear behind a cursor any more. SQLite writes one transaction after the other.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, bindparam, func, literal_column, select, tuple_

from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import EVENT, EVENT_CURSOR
from headrace.server.store.transaction import Tx

OLDEST_OPEN = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"

_BEHIND = tuple_(EVENT.c.xid, EVENT.c.seq) > tuple_(bindparam("xid"), bindparam("seq"))
_IN_ORDER = select(EVENT).order_by(EVENT.c.xid, EVENT.c.seq).limit(bindparam("most"))
_READ = {
    "sqlite": select(EVENT).where(EVENT.c.seq > bindparam("seq")).order_by(EVENT.c.seq).limit(bindparam("most")),
    "postgresql": _IN_ORDER.where(_BEHIND, EVENT.c.xid < literal_column(OLDEST_OPEN)),
}
_NEWEST = select(func.max(EVENT.c.seq))
_CURSOR = select(EVENT_CURSOR.c.xid, EVENT_CURSOR.c.seq).where(EVENT_CURSOR.c.name == bindparam("cursor"))
_LOCK = _CURSOR.with_for_update()
_MOVE = (
    EVENT_CURSOR.update()
    .where(EVENT_CURSOR.c.name == bindparam("cursor"))
    .values(xid=bindparam("new_xid"), seq=bindparam("new_seq"))
)


Place = tuple[int, int]
"""Where a reader is: the transaction and the number of the event it read last."""


def end_of_log(tx: Tx) -> Place:
    """The place behind all events that are there: what is written by transactions that are open comes after it."""
    if tx.dialect == "sqlite":
        return 0, tx.execute(_NEWEST).scalar() or 0
    return tx.execute(select(literal_column(OLDEST_OPEN))).scalar_one() - 1, 2**63 - 1


def read_behind(tx: Tx, place: Place, limit: int) -> Sequence[Row[Any]]:
    """The next events behind a place, as rows of the log, in their order; `limit` of them at most."""
    found = {"most": limit, "seq": place[1]} | ({} if tx.dialect == "sqlite" else {"xid": place[0]})
    return tx.execute(_READ[tx.dialect], found).all()


def start(tx: Tx, cursor: str) -> None:
    """Make a cursor at the present end of the log, unless it exists.

    Args:
        tx: a writing transaction.
        cursor: its name.
    """
    xid, seq = end_of_log(tx)
    insert_ignore(tx, EVENT_CURSOR, [{"name": cursor, "xid": xid, "seq": seq}], counted=False)


def read_after(tx: Tx, cursor: str, limit: int) -> Sequence[Row[Any]]:
    """The next events behind a cursor, as rows of the log, in their order; locks the cursor.

    A second reader of the same cursor waits for the lock, and then sees where the first one has moved it.

    Args:
        tx: the writing transaction of the reader's effect; `advance` moves the cursor in it.
        cursor: its name; one that does not exist begins before the first event.
        limit: how many at most.
    """
    insert_ignore(tx, EVENT_CURSOR, [{"name": cursor, "xid": 0, "seq": 0}], counted=False)
    at: Any = tx.execute(_LOCK, {"cursor": cursor}).one()
    return read_behind(tx, (at.xid, at.seq), limit)


def advance(tx: Tx, cursor: str, last: Row[Any]) -> None:
    """Move a cursor behind an event that was read by `read_after` in the same transaction."""
    tx.execute(_MOVE, {"cursor": cursor, "new_xid": last.xid, "new_seq": last.seq})


def forget(tx: Tx, cursor: str) -> None:
    """Delete a cursor whose reader is gone for good."""
    tx.execute(EVENT_CURSOR.delete().where(EVENT_CURSOR.c.name == cursor))
