"""Deletes events that are older than they are kept, and sees that restored ones can be read."""

import logging
from collections.abc import Callable, Iterable
from datetime import timedelta

from sqlalchemy import Connection

from headrace.server.events.retention import adopt_restored, delete_old, missing_slices, old_slices
from headrace.server.services.service import Service, each
from headrace.server.services.vacuum import is_deleted, rows_at_once, shrink
from headrace.server.store.errors import StoreUnavailable
from headrace.server.store.slices import Slice, drop_slice, make_slice
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Settings, get_settings

logger = logging.getLogger("headrace.server.services")

NAME = "event_retention"
FOR_EVER = timedelta(days=365)
"""For how long a log is sliced from which nothing is deleted, as that may be wanted one day."""
LONGEST = timedelta(days=36_500)
"""How long events are kept at most, so that the calendar reaches as far back."""
Change = Callable[[Connection, Slice], bool]


def service() -> Service:
    """The service that deletes old events."""
    return Service(NAME, get_settings().server.services.db_vacuum.loop_seconds, run_once)


def run_once(store: Store, settings: Settings) -> int:
    """Delete what is too old and return how many events, or slices of them, that were."""
    store.write(adopt_restored)
    said = settings.server.services.db_vacuum
    deletes, kept = is_deleted(settings, "events"), min(settings.server.events.retention_period, LONGEST)
    _each_slice(store, make_slice, lambda tx: missing_slices(tx, kept if deletes else FOR_EVER))
    if not deletes:
        return 0
    deleted = _each_slice(store, drop_slice, lambda tx: old_slices(tx, tx.now - kept))
    ages: list[tuple[str | None, timedelta]] = [(None, kept)]
    ages += [(name, age) for name, age in said.event_retention_overrides.items() if age < kept]
    most = rows_at_once(settings)

    def delete(age: tuple[str | None, timedelta]) -> bool:
        nonlocal deleted
        while done := store.write(lambda tx: delete_old(tx, tx.now - age[1], most, age[0])):
            deleted += done
        return True

    each(NAME, ages, delete)
    if deleted:
        shrink(store)
    return deleted


def _each_slice(store: Store, change: Change, which: Callable[[Tx], Iterable[Slice]]) -> int:
    """Make or drop slices one by one; how many were. One that cannot be now is left to the next turn."""
    done = 0
    for one in store.read(which):
        try:
            done += store.write(lambda tx, one=one: change(tx.connection, one))  # type: ignore[misc]
        except StoreUnavailable as error:
            logger.warning("The slice of the event log from %s on is left to the next turn: %s", one.since, error)
    return done
