"""PostgreSQL's troubles: lost connections, deadlocks, waits that take too long, and its clock."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.exc import IntegrityError

from headrace._internal.ids import uuid7
from headrace.server.store import open_store, postgresql_lines
from headrace.server.store.errors import StoreUnavailable
from headrace.server.store.polling import Selecting
from headrace.server.store.postgresql import DatabaseClock, PostgresStore
from headrace.server.store.prepared import Prepared
from headrace.server.store.tables import FLOW
from headrace.server.store.transaction import Tx
from tests.support import postgresql

_ADD = Prepared(FLOW.insert())
_COUNT = Prepared(select(func.count()).select_from(FLOW))
_NAMES = Prepared(select(FLOW.c.name))


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    """An empty store on PostgreSQL, with the database's clock."""
    opened = open_store(postgres_url)
    assert isinstance(opened, PostgresStore)
    yield opened
    opened.close()
    postgresql.empty(postgres_url)


def add(tx: Tx, name: str) -> str:
    """Add a flow."""
    row = {"id": uuid7(), "created": tx.now, "updated": tx.now, "name": name, "tags": [], "labels": {}}
    tx.execute(FLOW.insert(), row)
    return name


def names(tx: Tx) -> list[str]:
    """The names of all flows."""
    return list(tx.execute(select(FLOW.c.name).order_by(FLOW.c.name)).scalars())


def test_transactions_read_what_is_committed_whatever_the_database_says() -> None:
    """G8: readers of the log ask what is open, and then what is written."""
    with postgresql.new_database() as url:
        with psycopg.connect(url, autocommit=True) as admin:
            name = sql.Identifier(admin.info.dbname)
            admin.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'").format(name))
        opened = open_store(url)
        shown = text("SHOW transaction_isolation")
        for how in (opened.read, opened.write):
            assert how(lambda tx: tx.execute(shown).scalar()) == "read committed"
        opened.close()


def kill_backend(url: str, tx: Tx) -> None:
    """End the server's process behind a transaction, as a restart of the server would."""
    number = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", (number,))


def test_g16_a_connection_lost_before_commit_is_made_up_for(store: PostgresStore, postgres_url: str) -> None:
    """The function runs again from the start on a new connection; its rows are there once."""
    runs: list[int] = []

    def job(tx: Tx) -> str:
        runs.append(1)
        add(tx, "once")
        if len(runs) == 1:
            kill_backend(postgres_url, tx)
        add(tx, "twice")
        return "done"

    assert store.write(job) == "done"
    assert len(runs) == 2
    assert store.read(names) == ["once", "twice"]


def test_g16_a_reader_whose_connection_is_lost_reads_again(store: PostgresStore, postgres_url: str) -> None:
    """A read is repeated too."""
    runs: list[int] = []

    def job(tx: Tx) -> list[str]:
        runs.append(1)
        if len(runs) == 1:
            kill_backend(postgres_url, tx)
        return names(tx)

    assert store.read(job) == []
    assert len(runs) == 2


def test_g16_every_pooled_connection_lost_at_once(store: PostgresStore, postgres_url: str) -> None:
    """After a restart of the server, which ends all connections, the next calls work."""
    store.write(lambda tx: add(tx, "before"))
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    assert store.read(names) == ["before"]
    assert store.write(lambda tx: add(tx, "after")) == "after"


def test_g16_a_connection_lost_while_committing_is_told_and_not_repeated(store: PostgresStore) -> None:
    """Nobody can know whether that commit holds, so the caller gets a 503 that says so, and no second attempt."""
    runs: list[int] = []

    def job(tx: Tx) -> None:
        runs.append(1)
        tx.execute(text("CREATE TEMPORARY TABLE doomed (x INTEGER)"))
        tx.execute(
            text(
                "CREATE FUNCTION pg_temp.die() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NULL; END $$"
            )
        )
        tx.execute(
            text(
                "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON doomed DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION pg_temp.die()"
            )
        )
        tx.execute(text("INSERT INTO doomed VALUES (1)"))

    with pytest.raises(StoreUnavailable, match="stored or not"):
        store.write(job)

    assert len(runs) == 1


def test_g16_a_deadlock_reaches_nobody(store: PostgresStore) -> None:
    """Two transactions that lock two rows in opposite orders both succeed, one of them at its second attempt."""
    store.write(lambda tx: [add(tx, name) for name in ("a", "b")])
    both_hold = threading.Barrier(2, timeout=20)
    runs: list[str] = []

    def locker(first: str, second: str) -> Any:
        def job(tx: Tx) -> None:
            runs.append(first)
            tx.execute(update(FLOW).where(FLOW.c.name == first).values(updated=tx.now))
            if len(runs) <= 2:
                both_hold.wait()
            tx.execute(update(FLOW).where(FLOW.c.name == second).values(updated=tx.now))

        return job

    threads = [threading.Thread(target=store.write, args=(locker(*pair),)) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(runs) == 3


@pytest.mark.parametrize(
    ("setting", "statement"),
    [("statement_timeout", "SELECT pg_sleep(10)"), ("lock_timeout", "LOCK TABLE flow IN ACCESS EXCLUSIVE MODE")],
)
def test_g16_what_takes_too_long_is_a_503(
    store: PostgresStore, postgres_url: str, setting: str, statement: str
) -> None:
    """A statement or a lock that takes longer than it may ends in a 503, and the store goes on."""

    def job(tx: Tx) -> None:
        tx.execute(text(f"SET LOCAL {setting} = '50ms'"))
        tx.execute(text(statement))

    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE flow IN ACCESS SHARE MODE")
        with pytest.raises(StoreUnavailable, match="could not serve"):
            store.write(job)

    assert store.write(lambda tx: add(tx, "next")) == "next"


def test_g16_an_error_of_the_caller_is_not_repeated(store: PostgresStore) -> None:
    """A broken rule of the database is the caller's to handle, at the first attempt."""
    runs: list[int] = []

    def job(tx: Tx) -> None:
        runs.append(1)
        add(tx, "same")
        add(tx, "same")

    with pytest.raises(IntegrityError):
        store.write(job)

    assert len(runs) == 1


def test_a_transaction_has_the_time_of_the_database(store: PostgresStore) -> None:
    """The time a transaction is told is the database's, to within the round trip that measured it."""

    def apart(tx: Tx) -> timedelta:
        moment = tx.execute(text("SELECT clock_timestamp()")).scalar_one()
        return abs(cast(datetime, moment) - tx.now)

    assert store.write(apart) < timedelta(seconds=2)


class CountingConnection:
    """A connection whose database is an hour ahead, and which counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def scalar(self, _statement: object) -> datetime:
        """The time there."""
        self.asked += 1
        return datetime.now(UTC) + timedelta(hours=1)


def test_the_databases_clock_is_asked_rarely() -> None:
    """One measurement serves many transactions, and shows the database's time, not this host's."""
    connection, clock = CountingConnection(), DatabaseClock(refresh_seconds=3600)

    for _ in range(100):
        clock.refresh(cast(Connection, connection))
    ahead = clock.now() - datetime.now(UTC)

    assert connection.asked == 1
    assert timedelta(minutes=59) < ahead < timedelta(minutes=61)


def test_a_database_that_does_not_answer_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a store where no server listens ends in words, within the time for retries."""
    monkeypatch.setattr("headrace.server.store.postgresql.RETRY_SECONDS", 0.1)
    with pytest.raises(StoreUnavailable, match="could not serve"):
        open_store("postgresql://nobody@127.0.0.1:1/none")


def test_lines_work_where_there_is_no_poll(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: short answers, and more at once than a socket holds, both ways."""
    monkeypatch.setattr(postgresql_lines, "poller", Selecting)
    store = open_store(postgres_url)
    long = "x" * 30_000
    rows = [{"id": uuid7(), "name": f"{number}{long}", "tags": [], "labels": {}} for number in range(600)]
    try:
        store.write(lambda tx: tx.send(_ADD, [{**row, "created": tx.now, "updated": tx.now} for row in rows]))
        assert store.read(lambda tx: tx.execute(_COUNT).scalar()) == 600
        assert {len(row.name) - len(long) for row in store.read(lambda tx: tx.execute(_NAMES))} == {1, 2, 3}
    finally:
        store.close()
        postgresql.empty(postgres_url)
