"""The slices of time in which PostgreSQL keeps the event log: made ahead, and dropped whole."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import psycopg
import pytest
from msgspec.structs import replace

from headrace._internal.clock import ManualClock
from headrace.server.events.log import append
from headrace.server.services import event_retention, vacuum
from headrace.server.store import open_store, slices
from headrace.server.store.transaction import Store
from headrace.settings import Settings, get_settings
from tests.operations.log_world import START, counts, event, handle, handled
from tests.support import postgresql

DAY = timedelta(days=1)
KILLED = """
import sys
from datetime import datetime
from headrace._internal.clock import ManualClock
from headrace.server.store import open_store, slices

def change(tx):
    one = slices.Slice(*map(datetime.fromisoformat, sys.argv[3:]))
    assert getattr(slices, sys.argv[2])(tx.connection, one)
    print("half", flush=True)
    sys.stdin.read()

open_store(sys.argv[1], ManualClock()).write(change)
"""


@pytest.fixture
def url() -> Iterator[str]:
    """A database without slices."""
    with postgresql.new_database() as fresh:
        yield fresh


@pytest.fixture
def log(url: str, clock: ManualClock) -> Iterator[Store]:
    """A store on it."""
    store = open_store(url, clock)
    yield store
    store.close()


def slices_of(store: Store) -> list[slices.Slice]:
    """The slices there are."""
    return store.read(lambda tx: slices.slices(tx.connection))


def tables(url: str) -> list[str]:
    """The names of all slices' tables."""
    query = "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' ORDER BY relname"
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute(query)]


def write(store: Store, *days: float) -> None:
    """Write events that occur so many days after the start, and are named for them."""
    store.write(lambda tx: append(tx, [event(str(day), -day) for day in days]))


def turn(store: Store, settings: Settings | None = None) -> int:
    """Let the service work once."""
    return event_retention.run_once(store, settings or get_settings())


def test_slices_reach_from_the_oldest_event_kept_to_some_days_ahead(log: Store, url: str) -> None:
    """They follow each other without a gap, a day each, and a second turn finds nothing to do."""
    turn(log)
    made = slices_of(log)
    turn(log)

    assert slices_of(log) == made
    assert (made[0].since, made[-1].until) == (START - 7 * DAY, START + 4 * DAY)
    assert all(before.until == after.since for before, after in pairwise(made))
    assert {one.until - one.since for one in made} == {DAY}
    assert tables(url)[0] == "event_20251225"


def test_an_expired_slice_is_dropped_whole(log: Store, url: str, clock: ManualClock) -> None:
    """Its tables are gone, and with them its events and what the index says of them; the next days stay."""
    turn(log)
    write(log, 1.1, 1.9, 2.1)
    clock.advance(9 * DAY.total_seconds() - 1)
    turn(log)
    assert counts(log) == (3, 3)
    clock.advance(1)

    assert turn(log) == 1
    assert counts(log) == (1, 1)
    assert slices_of(log)[0].since == START + 2 * DAY
    assert not {"event_20260102", "event_related_20260102"} & set(tables(url))
    assert {"event_20260103", "event_related_20260103"} < set(tables(url))


def test_services_of_several_servers_make_and_drop_the_same_slices(
    log: Store, url: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever comes second finds it done; nothing is done twice, and nobody complains."""
    stores = [log, *(open_store(url, clock) for _ in range(2))]
    for days in (0, 10):
        clock.advance(days * DAY.total_seconds())
        threads = [threading.Thread(target=turn, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made = slices_of(log)
        assert (made[0].since, made[-1].until) == (clock.now() - 7 * DAY, clock.now() + 4 * DAY)
        assert len(made) == 11

    assert caplog.messages == []
    for store in stores[1:]:
        store.close()


def test_an_event_dated_ahead_is_kept_aside_until_its_slice_is_made(log: Store, url: str, clock: ManualClock) -> None:
    """One dated far ahead stops no slice from being made: it is moved there, with its place in the log."""
    turn(log)
    write(log, 6.5, 5, 400)
    before = handled(log, 3)
    clock.advance(3 * DAY.total_seconds())
    turn(log)
    write(log, 3)

    assert before == ["6.5", "5", "400"]
    assert handled(log, 1) == ["3"]
    with psycopg.connect(url) as connection:
        where = dict(connection.execute("SELECT event, tableoid::regclass::text FROM event").fetchall())
    assert where == {"3": "event_20260104", "5": "event_20260106", "6.5": "event_20260107", "400": "event_default"}
    assert counts(log) == (4, 4)


def test_events_older_than_all_slices_are_deleted_in_pieces(
    log: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes late lies in no slice, and goes with the next turn; what is young enough stays."""
    monkeypatch.setattr(vacuum, "AT_ONCE", 2)
    write(log, -300, -20, -10, -8, -6.5, 0)

    assert turn(log) == 4
    assert counts(log) == (2, 2)
    assert turn(log) == 0


def test_a_name_that_is_kept_shorter_is_deleted_out_of_the_slices(log: Store) -> None:
    """Only its events, wherever they lie."""
    turn(log)
    write(log, -3, -1)
    settings = get_settings()
    vacuum = replace(settings.server.services.db_vacuum, event_retention_overrides={"-3": 2 * DAY, "-1": 2 * DAY})
    services = replace(settings.server.services, db_vacuum=vacuum)

    assert turn(log, replace(settings, server=replace(settings.server, services=services))) == 1
    assert counts(log) == (1, 1)


def test_g8_an_event_that_comes_again_changes_nothing_wherever_it_lies(log: Store, clock: ManualClock) -> None:
    """In a slice, outside of all, and after it was moved into one."""
    turn(log)
    inside, ahead = event("inside"), event("ahead", -5)
    for days in (0, 0, 3):
        clock.advance(days * DAY.total_seconds())
        turn(log)
        log.write(lambda tx: append(tx, [inside, ahead]))

    assert counts(log) == (2, 2)
    assert handled(log, 2) == ["inside", "ahead"]
    assert handle(log) == []


def test_g8_a_reader_goes_through_all_slices_in_the_order_of_writing(log: Store) -> None:
    """Whatever the moments of the events are, and however few it reads at a time."""
    turn(log)
    days = (2, -300, 0, 1.5, 100, -1, 0.5)
    for day in days:
        write(log, day)

    assert handled(log, len(days), 2) == [str(day) for day in days]
    assert handle(log) == []


def test_g8_a_reader_that_is_slower_than_events_are_kept_goes_on_with_the_oldest_left(
    log: Store, clock: ManualClock
) -> None:
    """No reader is waited for: what it has not read in time it never sees, and it misses nothing of the rest."""
    turn(log)
    write(log, 0)
    write(log, 0.5)
    assert handled(log, 1, 1) == ["0"]
    clock.advance(5 * DAY.total_seconds())
    turn(log)
    write(log, 5)
    clock.advance(3 * DAY.total_seconds())
    turn(log)

    assert handled(log, 1) == ["5"]


def begin(url: str, change: str, *arguments: str) -> "subprocess.Popen[str]":
    """A process that has changed slices and has not committed yet."""
    command = [sys.executable, "-c", KILLED, url, change, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


def test_g18_a_killed_service_leaves_a_slice_whole_or_none(log: Store, url: str, clock: ManualClock) -> None:
    """What it had begun is not there, and the next turn does it."""
    write(log, 0)
    moments = [moment.isoformat() for moment in (START, START + DAY)]
    making = begin(url, "make_slice", *moments)
    making.send_signal(signal.SIGKILL)
    making.communicate()
    assert (slices_of(log), counts(log)) == ([], (1, 1))

    turn(log)
    assert len(slices_of(log)) == 11
    dropping = begin(url, "drop_slice", *moments)
    dropping.send_signal(signal.SIGKILL)
    dropping.communicate()
    assert (len(slices_of(log)), counts(log)) == (11, (1, 1))
    clock.advance(20 * DAY.total_seconds())
    turn(log)
    assert counts(log) == (0, 0)


def test_g16_a_log_in_use_is_not_waited_for(
    log: Store, url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A dump that reads it for hours holds up nobody behind the service, which tries again with its next turn."""
    monkeypatch.setattr(slices, "_LIMITS", "SET LOCAL lock_timeout = '10ms'")
    with psycopg.connect(url) as dump:
        dump.execute("SELECT FROM event")
        turn(log)
        assert slices_of(log) == []
        assert all("left to the next turn" in message for message in caplog.messages)
        assert len(caplog.messages) == 11

    turn(log)
    assert len(slices_of(log)) == 11


def test_slices_are_as_long_as_keeps_them_few(log: Store, clock: ManualClock) -> None:
    """A year is kept in thirty slices; another age holds for the slices that are made from then on."""
    settings = get_settings()
    events = replace(settings.server.events, retention_period=365 * DAY)
    turn(log, replace(settings, server=replace(settings.server, events=events)))
    made = slices_of(log)
    clock.advance(13 * DAY.total_seconds())
    turn(log)
    renewed = slices_of(log)

    assert {one.until - one.since for one in made} == {13 * DAY}
    assert 29 <= len(made) <= 31
    assert renewed[0] in made
    assert all(before.until == after.since for before, after in pairwise(renewed))
    assert renewed[-1].until - renewed[-1].since == DAY


def test_a_log_may_be_kept_for_longer_than_the_calendar_is(log: Store) -> None:
    """A setting of ten thousand years is one of a hundred, and no error."""
    settings = get_settings()
    events = replace(settings.server.events, retention_period=3_650_000 * DAY)
    write(log, -300)

    assert turn(log, replace(settings, server=replace(settings.server, events=events))) == 0
    assert 29 <= len(slices_of(log)) <= 31
    assert counts(log) == (1, 1)


def test_a_log_that_is_kept_for_ever_is_sliced_too(log: Store, clock: ManualClock) -> None:
    """So that it is quick to delete from once that is wanted; until then nothing is dropped."""
    settings = get_settings()
    vacuum = replace(settings.server.services.db_vacuum, enabled=False)
    services = replace(settings.server.services, db_vacuum=vacuum)
    settings = replace(settings, server=replace(settings.server, services=services))
    turn(log, settings)
    write(log, -300, 0)
    clock.advance(1000 * DAY.total_seconds())

    assert turn(log, settings) == 0
    assert counts(log) == (2, 2)
    assert turn(log) > 10
    assert counts(log) == (0, 0)


def test_a_plain_dump_of_the_log_is_what_a_restored_one_holds(log: Store, url: str) -> None:
    """The slices are found by what the database says of them, and not by anything that a dump would lose."""
    turn(log)
    write(log, 0)
    made = slices_of(log)
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("event", "event_related"):
            connection.execute(f"ALTER TABLE {name} DETACH PARTITION {name}_20260101")
            bounds = "FOR VALUES FROM ('2026-01-01 01:00:00+01') TO ('2026-01-02 01:00:00+01')"  # as a dump has it
            connection.execute(f"ALTER TABLE ONLY {name} ATTACH PARTITION {name}_20260101 {bounds}")

    assert slices_of(log) == made
