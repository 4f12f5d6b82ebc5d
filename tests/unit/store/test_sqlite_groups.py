"""The writer of SQLite: jobs share a commit, and what goes wrong with one or with the commit is put right."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.exceptions import RateLimited
from headrace.server.store.errors import StoreClosed, StoreUnavailable
from headrace.server.store.jobs import Job, JobQueue
from headrace.server.store.sqlite import SqliteStore
from headrace.server.store.tables import FLOW
from headrace.server.store.transaction import Tx


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store's file is."""
    return tmp_path / "headrace.db"


@pytest.fixture
def store(path: Path, clock: ManualClock) -> Iterator[SqliteStore]:
    """A store whose writer a test may look into."""
    opened = SqliteStore(path, clock)
    yield opened
    opened.close()


def add(name: str) -> Callable[[Tx], str]:
    """A job that adds a flow."""

    def job(tx: Tx) -> str:
        row = {"id": uuid7(), "created": tx.now, "updated": tx.now, "name": name, "tags": [], "labels": {}}
        tx.execute(FLOW.insert(), row)
        return name

    return job


def names(path: Path) -> set[str]:
    """The names of all flows, as another program sees them."""
    connection = sqlite3.connect(path)
    try:
        return {name for (name,) in connection.execute("SELECT name FROM flow")}
    finally:
        connection.close()


class Held:
    """A job that holds the writer until it is let go, so that those behind it become one group."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def __call__(self, _tx: Tx) -> None:
        self.entered.set()
        assert self.release.wait(20)


def together(
    store: SqliteStore, *jobs: Callable[[Tx], Any], while_held: Callable[[], None] = lambda: None
) -> list[Any]:
    """Run jobs in one group, behind one that holds the writer; their results, or the errors they met."""

    async def scene() -> list[Any]:
        held = Held()
        first = asyncio.ensure_future(store.write_soon(held))
        await asyncio.to_thread(held.entered.wait, 20)
        rest = [asyncio.ensure_future(store.write_soon(job)) for job in jobs]
        await asyncio.sleep(0)
        while_held()
        held.release.set()
        _, *answers = await asyncio.gather(first, *rest, return_exceptions=True)
        return answers

    return asyncio.run(scene())


def statements(store: SqliteStore) -> list[str]:
    """A list to which everything the writer sends to SQLite is added from now on."""
    sent: list[str] = []
    store._writer._driver.set_trace_callback(sent.append)
    return sent


def fail_commit(store: SqliteStore, code: int, times: int) -> None:
    """Have the next COMMITs fail with a code of SQLite."""
    writer, execute, left = store._writer, store._writer._execute, [times]

    def failing(statement: str) -> Any:
        if statement == "COMMIT" and left[0]:
            left[0] -= 1
            error = sqlite3.OperationalError("planted")
            error.sqlite_errorcode = code
            raise error
        return execute(statement)

    writer._execute = failing


def test_jobs_that_wait_share_a_commit(store: SqliteStore, path: Path) -> None:
    """All that waits behind a job is committed at once."""
    sent = statements(store)

    together(store, *(add(f"flow {number}") for number in range(50)))

    assert sent.count("COMMIT") <= 2
    assert len(names(path)) == 50


def test_g1_no_result_leaves_before_the_commit(store: SqliteStore, path: Path) -> None:
    """A job that is done waits for its group: while another holds the commit up, nothing is stored or answered."""
    held, answered = Held(), threading.Event()

    def writes() -> None:
        store.write(add("early"))
        answered.set()

    def then_hold(tx: Tx) -> None:
        add("first")(tx)
        held(tx)

    holder = threading.Thread(target=store.write, args=(then_hold,))
    holder.start()
    assert held.entered.wait(20)
    writer = threading.Thread(target=writes)
    writer.start()
    before = names(path), answered.is_set()
    held.release.set()
    holder.join()
    writer.join()

    assert before == (set(), False)
    assert names(path) == {"first", "early"}


def test_g13_a_failing_job_undoes_only_itself(store: SqliteStore, path: Path) -> None:
    """What a job wrote before it raised is gone; those before and after it in the group are stored."""

    def bad(tx: Tx) -> None:
        add("half")(tx)
        raise ZeroDivisionError

    answers = together(store, add("before"), bad, add("after"))

    assert isinstance(answers[1], ZeroDivisionError)
    assert [answers[0], answers[2]] == ["before", "after"]
    assert names(path) == {"before", "after"}


def test_g13_a_job_that_ends_the_transaction_harms_only_itself(store: SqliteStore, path: Path) -> None:
    """When the whole transaction is lost under a job (as with a full disk), the others run again."""

    def fatal(tx: Tx) -> None:
        tx.execute(text("ROLLBACK"))
        raise ZeroDivisionError

    answers = together(store, add("before"), fatal, add("after"))

    assert isinstance(answers[1], ZeroDivisionError)
    assert names(path) == {"before", "after"}


def test_g16_a_commit_that_meets_busy_is_done_again(store: SqliteStore, path: Path) -> None:
    """BUSY at COMMIT runs the group again; its callers notice nothing."""
    fail_commit(store, sqlite3.SQLITE_BUSY, 2)

    assert together(store, add("one"), add("two")) == ["one", "two"]
    assert names(path) == {"one", "two"}


def test_g16_a_commit_that_fails_is_a_503_and_the_store_goes_on(store: SqliteStore, path: Path) -> None:
    """A disk that is full at COMMIT gives every caller an error that says so; later writes work."""
    fail_commit(store, sqlite3.SQLITE_FULL, 4)  # that of the group, and of its three jobs when each runs alone

    answers = together(store, add("a"), add("b"))

    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert names(path) == set()
    assert store.write(add("later")) == "later"
    assert names(path) == {"later"}


def test_g16_a_full_disk_is_a_503(store: SqliteStore, path: Path) -> None:
    """When SQLite cannot grow the file, the one who needs the room is told; small jobs beside it are stored."""
    (pages,) = store._writer._driver.execute("PRAGMA page_count").fetchone()
    store._writer._driver.execute(f"PRAGMA max_page_count={pages + 3}")

    answers = together(store, add("small"), add("x" * 100_000), add("tiny"))

    assert isinstance(answers[1], StoreUnavailable)
    assert str(path) in str(answers[1])
    assert names(path) == {"small", "tiny"}


def test_an_exit_in_a_job_does_not_end_the_writer(store: SqliteStore, path: Path) -> None:
    """Even SystemExit belongs to the caller."""

    def leaves(tx: Tx) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        store.write(leaves)

    assert store.write(add("next")) == "next"


def test_a_write_from_the_writer_is_refused(store: SqliteStore) -> None:
    """A job that waits for another write would wait for ever; it gets an error instead."""
    with pytest.raises(RuntimeError, match="cannot wait for another write"):
        store.write(lambda _tx: store.write(add("inner")))


def test_closing_finishes_what_waits(store: SqliteStore, path: Path) -> None:
    """Jobs accepted before the close are stored, later ones refused."""
    closing: list[threading.Thread] = []

    def close() -> None:
        closing.append(threading.Thread(target=store.close))
        closing[0].start()

    answers = together(store, *(add(str(number)) for number in range(600)), while_held=close)
    closing[0].join()

    assert answers == [str(number) for number in range(600)]
    assert len(names(path)) == 600
    with pytest.raises(StoreClosed):
        store.write(add("late"))


def test_g14_a_full_queue_makes_threads_wait_and_coroutines_come_again() -> None:
    """Beyond its limit the queue takes nothing from an event loop, and blocks a thread until there is room."""
    queue = JobQueue(limit=2)
    for _ in range(2):
        queue.put(Job(names))

    async def refused() -> None:
        with pytest.raises(RateLimited):
            queue.put(Job(names, asyncio.get_running_loop()))

    asyncio.run(refused())
    patient = threading.Thread(target=queue.put, args=(Job(names),))
    patient.start()
    taken = [queue.get()]
    queue.made_room()
    patient.join()
    taken += [queue.get(), queue.get()]

    assert len(taken) == 3
    assert queue.empty()


def test_a_forked_child_has_a_store_of_its_own(store: SqliteStore, path: Path) -> None:
    """After a fork, parent and child both write; neither touches the other's connection."""
    store.write(add("parent before"))
    child = os.fork()
    if child == 0:
        try:
            store.write(add("child"))
            assert "parent before" in store.read(lambda tx: list(tx.execute(select(FLOW.c.name)).scalars()))
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    store.write(add("parent after"))

    assert os.waitstatus_to_exitcode(status) == 0
    assert names(path) == {"parent before", "child", "parent after"}


def test_readers_see_one_moment(store: SqliteStore) -> None:
    """What is committed during a reading transaction is not seen by it."""
    count = text("SELECT count(*) FROM flow")

    def read_twice(tx: Tx) -> tuple[int, int]:
        before = tx.execute(count).scalar_one()
        store.write(add("meanwhile"))
        return before, tx.execute(count).scalar_one()

    assert store.read(read_twice) == (0, 0)
    assert store.read(lambda tx: tx.execute(count).scalar_one()) == 1
