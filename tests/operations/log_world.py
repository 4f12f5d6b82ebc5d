"""Events for tests of the log itself, and a reader of it."""

import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from headrace.schemas.events import Event
from headrace.server.events.cursors import advance, read_after
from headrace.server.store.tables import EVENT, EVENT_RELATED
from headrace.server.store.transaction import Store, Tx

START = datetime(2026, 1, 1, tzinfo=UTC)


def event(name: str, days: float = 0) -> Event:
    """An event that occurred some days before the tests' clock begins, with one related resource."""
    related = [{"prefect.resource.id": "a.flow", "prefect.resource.role": "flow"}]
    resource = {"prefect.resource.id": "a.run"}
    return Event(occurred=START - timedelta(days=days), event=name, resource=resource, related=related)


def handle(store: Store, limit: int = 100) -> list[str]:
    """Read what comes next and move the cursor."""

    def step(tx: Tx) -> list[str]:
        rows = read_after(tx, "reader", limit)
        if rows:
            advance(tx, "reader", rows[-1])
        return [row.event for row in rows]

    return store.write(step)


def handled(store: Store, number: int, limit: int = 100) -> list[str]:
    """The next events, once there are so many: readers wait for what is open beside them."""
    found: list[str] = []
    for _ in range(600):
        found += handle(store, limit)
        if len(found) >= number:
            break
        time.sleep(0.05)
    return found


def counts(store: Store) -> tuple[int, int]:
    """How many rows the log has, and how many its index."""
    tables = (select(func.count()).select_from(table) for table in (EVENT, EVENT_RELATED))
    log, index = (store.read(lambda tx, one=one: int(tx.execute(one).scalar_one())) for one in tables)
    return log, index
