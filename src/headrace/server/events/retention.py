"""Taking old events out of the log: on PostgreSQL slice by slice, and elsewhere a piece at a time.

Nobody waits long: a slice is dropped whole, without looking at what it holds, and a piece is small. An event stays
until all of its slice is too old. What lies in no slice is deleted in pieces, and so are events of names that are kept
for a shorter time.

No reader is waited for: one that is further behind than events are kept goes on with the oldest that is left.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from sqlalchemy import Row, and_, bindparam, func, literal_column, select

from headrace.server.events.log import RESOURCE_ID
from headrace.server.store.slices import Slice, slices
from headrace.server.store.tables import EVENT, EVENT_CURSOR, EVENT_RELATED
from headrace.server.store.transaction import Tx

_NEXT = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
DAY = timedelta(days=1)
AHEAD = 3 * DAY
"""How long before it begins a slice is there."""
MOST_SLICES = 30
"""About how many slices hold the events that are kept: a day each, or more when they are kept for longer."""
ROOM = 10
"""The free pages of a SQLite file that are kept for new rows: one in so many of all pages."""

_OLD = (
    select(EVENT.c.seq, EVENT.c.id, EVENT.c.occurred, EVENT.c.related)
    .where(EVENT.c.occurred < bindparam("before"))
    .order_by(EVENT.c.occurred)
    .limit(bindparam("most"))
)
_OLD_OF_NAME = _OLD.where(EVENT.c.event == bindparam("named"))
_NOT_NEWEST = EVENT.c.seq < select(func.max(EVENT.c.seq)).scalar_subquery()
"""SQLite would give the newest one's number again, and readers that are past it would not read what got it.  # G8"""
_DELETE = EVENT.delete().where(EVENT.c.seq == bindparam("number"), EVENT.c.occurred == bindparam("moment"))
_INDEX = EVENT_RELATED.c
_DELETE_RELATED = EVENT_RELATED.delete().where(
    and_(
        _INDEX.resource_id == bindparam("resource"),
        _INDEX.occurred == bindparam("moment"),
        _INDEX.event_id == bindparam("event"),
    )
)


def missing_slices(tx: Tx, kept: timedelta) -> list[Slice]:
    """The slices of PostgreSQL's log to be made now, for all that is kept and what comes soon; none on SQLite.

    They begin behind those that are there: what lies in a gap between them is left where it is.

    Args:
        tx: a transaction.
        kept: how long events are kept.
    """
    if tx.dialect != "postgresql":
        return []
    oldest = (tx.now - kept).replace(hour=0, minute=0, second=0, microsecond=0)
    since = max([oldest, *(one.until for one in slices(tx.connection))])
    width, missing = DAY * ceil(kept / (DAY * MOST_SLICES)), []
    while since <= tx.now + AHEAD:
        missing.append(Slice(since, since + width))
        since += width
    return missing


def old_slices(tx: Tx, before: datetime) -> list[Slice]:
    """The slices of PostgreSQL's log of which all occurred earlier than `before`; none on SQLite."""
    return [one for one in slices(tx.connection) if one.until <= before]


def delete_old(tx: Tx, before: datetime, limit: int, name: str | None = None) -> int:
    """Delete the oldest events, with what the index says of them; without a name only those before the first slice.

    Args:
        tx: a writing transaction.
        before: only events that occurred earlier.
        limit: at most so many.
        name: only events of this name.

    Returns:
        How many were deleted.
    """
    if name is None:
        before = min([before, *(one.since for one in slices(tx.connection)[:1])])
    place = {"before": before, "most": limit}
    chosen = _OLD if name is None else _OLD_OF_NAME
    if tx.dialect == "sqlite":
        chosen = chosen.where(_NOT_NEWEST)
    rows = tx.execute(chosen, place | ({} if name is None else {"named": name})).all()
    related = [key for row in rows for key in _keys(row)]
    if related:
        tx.execute(_DELETE_RELATED, related)
    if rows:
        tx.execute(_DELETE, [{"number": row.seq, "moment": row.occurred} for row in rows])
    return len(rows)


def _keys(row: Row[Any]) -> Iterable[dict[str, Any]]:
    if isinstance(row.related, list):  # what cannot be read has no rows that could be found  # G13
        ids = {labels[RESOURCE_ID] for labels in row.related}
        yield from ({"resource": id, "moment": row.occurred, "event": row.id} for id in ids)


def adopt_restored(tx: Tx) -> None:
    """Make events readable that came from another PostgreSQL, by a dump or a replica, with its numbers of transactions.

    Numbers that this one has yet to give would keep readers waiting for them; such events are the oldest of all here.

    Args:
        tx: a writing transaction.
    """
    if tx.dialect == "postgresql":
        for table in (EVENT, EVENT_CURSOR):
            tx.execute(table.update().where(table.c.xid >= literal_column(_NEXT)).values(xid=0))


def give_back(tx: Tx, pages: int) -> bool:
    """Give free pages of a SQLite file back to the disk, but for some room; whether there may be more.

    Args:
        tx: a writing transaction.
        pages: at most so many.
    """
    if tx.dialect != "sqlite":
        return False
    count, free = (
        int(tx.connection.exec_driver_sql(f"PRAGMA {one}").scalar_one()) for one in ("page_count", "freelist_count")
    )
    surplus = min(free - count // ROOM, pages)
    driver: Any = tx.connection.connection.driver_connection
    for _ in range(surplus):
        driver.execute("PRAGMA incremental_vacuum(1)")  # Python does a single step of it, which frees one page
    return surplus == pages
