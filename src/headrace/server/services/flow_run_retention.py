"""Deletes flow runs that ended longer ago than they are kept, with all that belongs to them."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from headrace.server.operations.expiring import delete_piece, ended_trees, expired_flow_runs
from headrace.server.services.service import Service, each
from headrace.server.services.vacuum import is_deleted, rows_at_once, shrink
from headrace.server.store.errors import StoreUnavailable
from headrace.server.store.transaction import Store
from headrace.settings import Settings, get_settings

logger = logging.getLogger("headrace.server.services")

NAME = "flow_run_retention"
LONGEST = timedelta(days=36_500)
"""How long runs are kept at most, so that the calendar reaches as far back."""
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


def service() -> Service:
    """The service that deletes old flow runs."""
    return Service(NAME, get_settings().server.services.db_vacuum.loop_seconds, run_once)


def run_once(store: Store, settings: Settings) -> int:
    """Delete what is too old and return how many flow runs that were.

    A turn ends when the next one is due: so the server sees that it gets on, however much there is.  # G15
    """
    if not is_deleted(settings, "flow_runs"):
        return 0
    said = settings.server.services.db_vacuum
    began = store.read(lambda tx: tx.now)
    before = began - min(said.retention_period, LONGEST)
    deleted, limit = 0, rows_at_once(settings)
    for ids in _pages(store, before, said.batch_size):
        deleted += _delete_all(store, ids, before, limit)
        if store.read(lambda tx: tx.now) - began > timedelta(seconds=said.loop_seconds):
            break
    if deleted:
        shrink(store)
    return deleted


def _pages(store: Store, before: datetime, size: int) -> Iterator[list[UUID]]:
    """Pages of runs that are too old, each run once, whether or not it has been deleted meanwhile."""
    since, met = BEGINNING, set[UUID]()
    while True:
        rows = store.read(lambda tx: expired_flow_runs(tx, since, before, size + len(met)))  # noqa: B023  run at once
        new = [row for row in rows if row.id not in met][:size]
        if not new:
            return
        yield [row.id for row in new]
        if new[-1].end_time != since:
            since, met = new[-1].end_time, set()
        met.update(row.id for row in new if row.end_time == since)


def _delete_all(store: Store, ids: list[UUID], before: datetime, limit: int) -> int:
    """Delete runs together; if one of them cannot be, each by itself.  # G13"""
    try:
        return _delete(store, ids, before, limit)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001  whichever it is will be named
        logger.warning("%d flow runs cannot be deleted together, so each is deleted by itself: %s", len(ids), error)
        return each(NAME, ids, lambda id: _delete(store, [id], before, limit) > 0)


def _delete(store: Store, ids: list[UUID], before: datetime, limit: int) -> int:
    """Delete runs with those below them, piece by piece; how many there were."""
    runs = store.read(lambda tx: ended_trees(tx, ids, before))
    deleted = 0
    for start in range(0, len(runs), len(ids)):
        part = runs[start : start + len(ids)]
        while (done := store.write(lambda tx: delete_piece(tx, part, limit))) is None:  # noqa: B023
            pass
        deleted += done
    return deleted
