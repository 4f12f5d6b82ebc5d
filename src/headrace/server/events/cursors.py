"""Readers of the event log, each with a cursor of its own in the database.  # G8

A reader takes what comes behind its cursor and moves it in the transaction of its effect: after a crash it goes on
where it was, and has handled each event once.

Rows do not become visible in the order of their numbers: on PostgreSQL a transaction may commit later than one that
began after it. So rows are read in the order of the transactions that wrote them, and only up to the oldest that is
still open in this database: nothing can appear behind a cursor any more. `pg_snapshot_xmin` would also wait for those
of other databases of the same PostgreSQL, such as a nightly load that takes an hour. SQLite writes one transaction
after the other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Row, Select, Table, bindparam, column, func, select, text, tuple_

from headrace.server.store.prepared import Prepared
from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import EVENT, EVENT_CURSOR
from headrace.server.store.transaction import Tx

_FORGET = Prepared(text("SELECT pg_stat_clear_snapshot()"))
"""A transaction would see who was active when it looked first."""
_OLDEST_OPEN = Prepared(
    text("""
        SELECT CASE
            WHEN bool_or(activity.query = '<insufficient privilege>') THEN now.xmin
            ELSE least(min(
                now.xmax - ((now.xmax - activity.backend_xid::text::bigint + 6442450944) % 4294967296 - 2147483648)
            ), now.xmax)
        END
        FROM (
            SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin,
                pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xmax
        ) AS now
        LEFT JOIN pg_stat_activity AS activity ON activity.datname = current_database()
        GROUP BY now.xmin, now.xmax
    """).columns(column("open", BigInteger))
)
"""The oldest transaction that is open in this database, or the next one if none is.

The activity has the lower 32 bits of its number, so the distance is taken as signed. Sessions are looked at one after
the other while transactions begin, so that some may be met and older ones missed: whatever began after the snapshot
counts as the first that did. The activity is hidden of users whose sessions ours may not look into; then all that is
open anywhere is waited for.
"""

Place = tuple[int, int]
"""Where a reader is: the transaction and the number of the event it read last."""
Reading = Mapping[str, Select[Any]]
"""How rows are read behind a place, in the words of each database."""


def reading(rows: Select[Any], log: Table) -> Reading:
    """How to read the rows of a log behind a place, in their order; see `read_behind`.

    Args:
        rows: what to read.
        log: a table with the number of each row and of the transaction that wrote it, `seq` and `xid`.
    """
    order, rows = (log.c.xid, log.c.seq), rows.limit(bindparam("most"))
    behind = tuple_(*order) > tuple_(bindparam("xid"), bindparam("seq"))
    return {
        "sqlite": rows.where(log.c.seq > bindparam("seq")).order_by(log.c.seq),
        "postgresql": rows.where(behind, log.c.xid < bindparam("open")).order_by(*order),
    }


_EVENTS = reading(select(EVENT), EVENT)
_CURSOR = select(EVENT_CURSOR.c.xid, EVENT_CURSOR.c.seq).where(EVENT_CURSOR.c.name == bindparam("cursor"))
_LOCK = _CURSOR.with_for_update()
_MOVE = (
    EVENT_CURSOR.update()
    .where(EVENT_CURSOR.c.name == bindparam("cursor"))
    .values(xid=bindparam("new_xid"), seq=bindparam("new_seq"))
)


def _oldest_open(tx: Tx) -> int:
    """The oldest transaction that is open; asked before the rows, of which one that ends in between shows none."""
    tx.send(_FORGET, {})
    found: int = tx.execute(_OLDEST_OPEN).scalar()
    return found


def end_of_log(tx: Tx, log: Table = EVENT) -> Place:
    """The place behind all rows that are there: what is written by transactions that are open comes after it."""
    if tx.dialect == "sqlite":
        return 0, tx.execute(select(func.max(log.c.seq))).scalar() or 0
    return _oldest_open(tx) - 1, 2**63 - 1


def read_behind(tx: Tx, place: Place, limit: int, how: Reading = _EVENTS) -> Sequence[Row[Any]]:
    """The next rows of a log behind a place, in their order; `limit` of them at most."""
    found = {"most": limit, "seq": place[1]}
    if tx.dialect == "postgresql":
        found |= {"xid": place[0], "open": _oldest_open(tx)}
    return tx.execute(how[tx.dialect], found).all()


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
