"""Which log lines are new, for those who listen to them in whatever server process.

Nobody pays while nobody listens: who listens has a row that says so, with an end that it moves on, and a line gets a
row of its own in `log_news` only when there is such a row. These are read as the event log is, so none is missed and
none comes twice, and are deleted after a minute. Whether there is anything to tell at all is a setting.

A transaction that had looked for listeners before the first of them came has not told its lines: they count as
written before.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, delete, exists, func, select, update

from headrace.server.events import hints
from headrace.server.events.cursors import Place, end_of_log, read_behind, reading
from headrace.server.store.long_lists import Ids, is_among_ids
from headrace.server.store.prepared import Prepared
from headrace.server.store.tables import LOG, LOG_LISTENER, LOG_NEWS
from headrace.server.store.tables.types import Moment
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

LINES = "log-lines"
"""The topic on which this process is told that there are new log lines."""
CHANNEL = "headrace_log_lines"
"""Where PostgreSQL tells other server processes so."""
LEASE = timedelta(seconds=30)
"""For how long one who listens is believed to."""
KEPT = 2 * LEASE
"""How long news are kept: longer than anyone listens without having read them."""
_NEW = reading(select(LOG_NEWS.c.xid, LOG_NEWS.c.seq, LOG).join(LOG, LOG.c.id == LOG_NEWS.c.log_id), LOG_NEWS)
_LISTENER = Prepared(select(LOG_LISTENER.c.id).where(LOG_LISTENER.c.until > bindparam("now")).limit(1))


def tell_of_lines(tx: Tx, ids: Iterable[UUID]) -> None:
    """Tell those who listen to log lines of those that this transaction has written.

    Args:
        tx: the transaction.
        ids: of the lines; those that were there before are not told again.
    """
    if get_settings().server.logs.stream_publishing_enabled and tx.execute(_LISTENER, {"now": tx.now}).first():
        tx.send(_telling(tx.dialect), {"ids": list(ids), "now": tx.now})
        if _hint not in tx.callbacks:
            tx.after_commit(_hint)


@cache
def _telling(dialect: str) -> Prepared:
    now = bindparam("now", type_=Moment())
    written = is_among_ids(LOG.c.id, bindparam("ids", type_=Ids())) & (LOG.c.created == now)
    lines = select(LOG.c.id, now).where(written).order_by(LOG.c.id)
    told = LOG_NEWS.insert().from_select(["log_id", "written"], lines)
    if dialect == "sqlite":
        return Prepared(told)
    seqs = told.returning(LOG_NEWS.c.seq).cte("told")
    return Prepared(select(func.pg_notify(CHANNEL, "")).where(exists(select(seqs.c.seq))))


def _hint() -> None:
    hints.publish(LINES, {})


def end_of_news(tx: Tx) -> Place:
    """The place behind all news that are there."""
    return end_of_log(tx, LOG_NEWS)


def read_news(tx: Tx, place: Place, limit: int) -> Sequence[Row[Any]]:
    """The next new lines behind a place, in the order in which they were written; `limit` of them at most."""
    return read_behind(tx, place, limit, _NEW)


def listen(tx: Tx, id: UUID) -> None:
    """Have lines told from now on.

    Args:
        tx: a writing transaction.
        id: a new one, of the listener.
    """
    tx.execute(LOG_LISTENER.insert(), {"id": id, "until": tx.now + LEASE})


def renew(tx: Tx, id: UUID) -> bool:
    """Go on listening; False when that had ended, so that lines may have been missed.

    Args:
        tx: a writing transaction.
        id: the listener.
    """
    lives = (LOG_LISTENER.c.id == id, LOG_LISTENER.c.until > tx.now)
    return tx.execute(update(LOG_LISTENER).where(*lives).values(until=tx.now + LEASE)).rowcount > 0


def leave(tx: Tx, id: UUID) -> None:
    """Listen no longer."""
    tx.execute(delete(LOG_LISTENER).where(LOG_LISTENER.c.id == id))


def clear(tx: Tx, limit: int) -> int:
    """Delete old news, and listeners that are gone; returns how many news that were, `limit` at most.

    The newest stays: SQLite would give its number again, and nobody would read what got it.
    """
    tx.execute(delete(LOG_LISTENER).where(LOG_LISTENER.c.until < tx.now - KEPT))
    newest = select(func.max(LOG_NEWS.c.seq)).scalar_subquery()
    old = select(LOG_NEWS.c.seq).where(LOG_NEWS.c.written < tx.now - KEPT, LOG_NEWS.c.seq < newest)
    return tx.execute(
        delete(LOG_NEWS).where(LOG_NEWS.c.seq.in_(old.order_by(LOG_NEWS.c.written).limit(limit)))
    ).rowcount
