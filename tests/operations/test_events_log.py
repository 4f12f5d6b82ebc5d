"""The event log itself: its readers' cursors, and how long events are kept."""

import threading
from datetime import timedelta

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from headrace._internal.clock import ManualClock
from headrace.server.events.cursors import advance, forget, read_after, start
from headrace.server.events.log import append
from headrace.server.services import event_retention
from headrace.server.store import open_store
from headrace.server.store.tables import EVENT, EVENT_CURSOR
from headrace.server.store.transaction import Store, Tx
from headrace.settings import get_settings
from tests.operations.log_world import counts, event, handle, handled
from tests.support import postgresql


def test_g8_a_reader_handles_each_event_once_and_in_order(store: Store) -> None:
    """Its cursor moves with its effect; what is rolled back is handled again."""
    for name in ("one", "two", "three"):
        store.write(lambda tx, name=name: append(tx, [event(name)]))

    assert handled(store, 2, 2) == ["one", "two"]
    with pytest.raises(ZeroDivisionError):
        store.write(lambda tx: ([advance(tx, "reader", row) for row in read_after(tx, "reader", 1)], 1 / 0))
    assert handled(store, 1) == ["three"]
    assert handle(store) == []


def test_a_new_reader_may_begin_at_the_end_of_the_log(store: Store) -> None:
    """`start` passes over what is there; a cursor that was never started or was forgotten begins at the beginning."""
    store.write(lambda tx: append(tx, [event("before")]))
    assert handled(store, 1) == ["before"]
    store.write(lambda tx: forget(tx, "reader"))
    store.write(lambda tx: start(tx, "reader"))
    store.write(lambda tx: append(tx, [event("after")]))

    assert handled(store, 1) == ["after"]
    store.write(lambda tx: forget(tx, "reader"))
    assert handled(store, 2) == ["before", "after"]


def test_g8_events_whose_transactions_commit_in_reverse_order_are_each_read_once(
    postgres_url: str, clock: ManualClock
) -> None:
    """Nothing is read while an older transaction is open, and then all of it, in the order of the transactions."""
    store = open_store(postgres_url, clock)
    written, commit = threading.Event(), threading.Event()

    def slowly(tx: Tx) -> None:
        append(tx, [event("first")])
        assert tx.execute(text("SELECT 1")).scalar() == 1  # so that it has been sent
        written.set()
        commit.wait(20)

    older = threading.Thread(target=lambda: store.write(slowly))
    older.start()
    try:
        assert written.wait(20)
        store.write(lambda tx: append(tx, [event("second")]))
        assert handle(store) == []
    finally:
        commit.set()
        older.join()

    assert handled(store, 2) == ["first", "second"]
    assert handle(store) == []
    store.close()
    postgresql.empty(postgres_url)


def test_g8_events_of_a_restored_database_are_read(postgres_url: str, clock: ManualClock) -> None:
    """Their transactions have numbers that this server has yet to give; nobody waits for those."""
    store = open_store(postgres_url, clock)
    store.write(lambda tx: append(tx, [event("old"), event("older")]))
    assert handled(store, 1, 1) == ["old"]
    store.write(lambda tx: [tx.execute(table.update().values(xid=2**40)) for table in (EVENT, EVENT_CURSOR)])
    store.write(lambda tx: append(tx, [event("new")]))

    event_retention.run_once(store, get_settings())

    assert handled(store, 2) == ["older", "new"]
    store.close()
    postgresql.empty(postgres_url)


def test_g8_an_event_that_comes_again_changes_nothing(store: Store) -> None:
    """Neither in the log nor in its index."""
    once = event("once")
    for _ in range(2):
        store.write(lambda tx: append(tx, [once]))

    assert counts(store) == (1, 1)


def test_an_event_is_known_by_its_id_and_its_moment(store: Store) -> None:
    """With another moment it is another event: PostgreSQL's slices cannot tell, and so SQLite does not.  # G19"""
    once = event("once")
    store.write(lambda tx: append(tx, [once, replace(once, occurred=once.occurred + timedelta(seconds=1))]))

    assert counts(store) == (2, 2)


def test_old_events_are_deleted(store: Store) -> None:
    """Seven days are the default; some names may be kept shorter."""
    beats = [event("prefect.flow-run.heartbeat", days) for days in (1, 3)]
    events = [event("old", 8), event("older", 300), event("young", 6), *beats]
    store.write(lambda tx: append(tx, events))
    settings = get_settings()
    assert event_retention.run_once(store, settings) == 2
    assert counts(store) == (3, 3)

    vacuum = replace(settings.server.services.db_vacuum, event_retention_overrides={beats[0].event: timedelta(days=2)})
    services = replace(settings.server.services, db_vacuum=vacuum)
    settings = replace(settings, server=replace(settings.server, services=services))
    assert event_retention.run_once(store, settings) == 1
    assert event_retention.run_once(store, settings) == 0


def test_the_space_of_deleted_events_is_given_back(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite file keeps a tenth of its pages for what comes, and shrinks by the rest."""
    monkeypatch.setattr(event_retention, "AT_ONCE", 50)
    sqlite_store.write(lambda tx: append(tx, [event("old" * 100, 8) for _ in range(500)]))

    def size() -> int:
        return sqlite_store.read(lambda tx: int(tx.execute(text("PRAGMA page_count")).scalar_one()))

    before = size()
    assert event_retention.run_once(sqlite_store, get_settings()) == 500
    assert size() < before
