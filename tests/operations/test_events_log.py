"""The event log itself: its readers' cursors, and how long events are kept."""

import os
import threading
from datetime import timedelta

import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy import make_url, text

from headrace._internal.clock import ManualClock
from headrace.server.events.cursors import advance, forget, read_after, start
from headrace.server.events.log import append
from headrace.server.events.retention import give_back
from headrace.server.services import event_retention, vacuum
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


def test_g8_readers_do_not_wait_for_what_is_open_in_another_database(postgres_url: str, clock: ManualClock) -> None:
    """A load that takes an hour there holds up nobody here; what is open here is waited for."""
    with postgresql.new_database() as other, psycopg.connect(other) as load:
        load.execute("CREATE TABLE loaded (x int)")  # so that its transaction has a number
        store = open_store(postgres_url, clock)
        store.write(lambda tx: append(tx, [event("one")]))
        assert handled(store, 1) == ["one"]

        with psycopg.connect(postgres_url) as here:
            here.execute("CREATE TABLE mine (x int)")
            store.write(lambda tx: append(tx, [event("two")]))
            assert store.write(lambda tx: [len(read_after(tx, "reader", 5)) for _ in range(2)]) == [0, 0]
            here.rollback()
        assert handled(store, 1) == ["two"]
        store.close()
        postgresql.empty(postgres_url)


def test_g8_who_may_not_see_what_others_do_waits_for_all(clock: ManualClock) -> None:
    """A login that PostgreSQL hides the activity of others from reads up to what is open anywhere."""
    role = f"headrace_test_{os.getpid()}"
    with postgresql.new_database() as url, psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN")
        try:
            admin.execute(f"GRANT ALL ON SCHEMA public TO {role}")
            store = open_store(str(make_url(url).set(username=role)), clock)
            store.write(lambda tx: append(tx, [event("one")]))
            with psycopg.connect(url) as hidden:
                hidden.execute("CREATE TABLE mine (x int)")
                store.write(lambda tx: append(tx, [event("two")]))
                assert "two" not in handle(store)
            store.close()
        finally:
            admin.execute(f"DROP OWNED BY {role}")
            admin.execute(f"DROP ROLE {role}")


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
    events = [event("old", 8), event("older", 300), *beats, event("young", 6)]
    store.write(lambda tx: append(tx, events))
    settings = get_settings()
    assert event_retention.run_once(store, settings) == 2
    assert counts(store) == (3, 3)

    vacuum = replace(settings.server.services.db_vacuum, event_retention_overrides={beats[0].event: timedelta(days=2)})
    services = replace(settings.server.services, db_vacuum=vacuum)
    settings = replace(settings, server=replace(settings.server, services=services))
    assert event_retention.run_once(store, settings) == 1
    assert event_retention.run_once(store, settings) == 0


def test_g8_a_reader_misses_nothing_after_all_events_were_too_old(store: Store) -> None:
    """No number is given twice: a reader that is past all events reads the next one."""
    store.write(lambda tx: append(tx, [event("old", 8) for _ in range(3)]))
    assert handled(store, 3) == ["old"] * 3
    event_retention.run_once(store, get_settings())
    store.write(lambda tx: append(tx, [event("new")]))

    assert handled(store, 1) == ["new"]


def test_the_space_of_deleted_events_is_given_back(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite file keeps a tenth of its pages for what comes, and shrinks by the rest."""
    monkeypatch.setattr(vacuum, "AT_ONCE", 50)
    sqlite_store.write(lambda tx: append(tx, [*(event("old" * 100, 8) for _ in range(500)), event("young")]))

    def size() -> int:
        return sqlite_store.read(lambda tx: int(tx.execute(text("PRAGMA page_count")).scalar_one()))

    before = size()
    assert event_retention.run_once(sqlite_store, get_settings()) == 500
    assert size() < before


def test_one_transaction_gives_many_pages_back(sqlite_store: Store) -> None:
    """As many as it is told, as long as there is more than the room that is kept."""
    sqlite_store.write(lambda tx: append(tx, [event("old" * 100, 8) for _ in range(500)]))

    def count() -> int:
        return sqlite_store.read(lambda tx: int(tx.execute(text("PRAGMA page_count")).scalar_one()))

    sqlite_store.write(lambda tx: tx.execute(EVENT.delete()))
    before = count()
    assert sqlite_store.write(lambda tx: give_back(tx, 40))
    assert count() <= before - 40
