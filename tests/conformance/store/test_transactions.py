"""What every store does with a transaction, whatever the database.  # G19"""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectNotFound, ValidationFailed
from headrace.server.store.errors import StoreClosed
from headrace.server.store.tables import CONFIGURATION, FLOW
from headrace.server.store.transaction import Store, Tx


def add(name: str) -> Any:
    """A job that adds a flow."""

    def job(tx: Tx) -> str:
        row = {"id": uuid7(), "created": tx.now, "updated": tx.now, "name": name, "tags": [], "labels": {}}
        tx.execute(FLOW.insert(), row)
        return name

    return job


def names(tx: Tx) -> list[str]:
    """The names of all flows."""
    return list(tx.execute(select(FLOW.c.name).order_by(FLOW.c.name)).scalars())


def test_what_is_written_can_be_read(store: Store) -> None:
    """`write` gives the function's result, and what it wrote is there for the next reader."""
    assert store.write(add("first")) == "first"
    assert store.read(names) == ["first"]


def test_a_transaction_that_raises_leaves_nothing(store: Store) -> None:
    """An error reaches the caller as it was raised, and what was written before it is undone."""

    def fails(tx: Tx) -> None:
        add("lost")(tx)
        raise ObjectNotFound("Flow", "x")

    with pytest.raises(ObjectNotFound):
        store.write(fails)

    assert store.read(names) == []


def test_an_error_of_the_database_reaches_the_caller(store: Store) -> None:
    """A second row of the same name is refused, and the store goes on."""
    store.write(add("one"))

    with pytest.raises(IntegrityError):
        store.write(add("one"))

    assert store.write(add("two")) == "two"


def test_a_reading_transaction_cannot_write(store: Store) -> None:
    """What declares that it only reads is held to it by the database."""
    with pytest.raises(DBAPIError, match=r"(?i)read.?only"):
        store.read(add("sly"))

    assert store.read(names) == []


@pytest.mark.parametrize("value", [2**70, "lone \ud800 surrogate"])
def test_a_value_that_does_not_fit_is_the_callers_fault(store: Store, value: Any) -> None:
    """A number too great and text that is not Unicode are refused in words, on both databases."""

    def plant(tx: Tx) -> None:
        row = {"id": uuid7(), "created": tx.now, "updated": tx.now, "name": value, "tags": [], "labels": {}}
        if isinstance(value, int):
            tx.execute(select(FLOW).limit(value))
        else:
            tx.execute(FLOW.insert(), row)

    with pytest.raises(ValidationFailed, match="cannot be stored"):
        store.write(plant)


def test_callbacks_run_after_the_commit(store: Store) -> None:
    """A callback sees what its transaction wrote; one of a transaction that failed is never called."""
    seen: list[list[str]] = []
    called = threading.Event()

    def with_callback(tx: Tx) -> None:
        add("kept")(tx)
        tx.after_commit(lambda: seen.append(store.read(names)))
        tx.after_commit(called.set)

    def failing(tx: Tx) -> None:
        tx.after_commit(lambda: seen.append(["never"]))
        raise ObjectNotFound

    store.write(with_callback)
    with pytest.raises(ObjectNotFound):
        store.write(failing)

    assert called.wait(10)
    assert seen == [["kept"]]


def test_a_failing_callback_harms_nobody(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A hint that fails is logged; the caller has its answer.  # G17"""

    def job(tx: Tx) -> str:
        tx.after_commit(lambda: {}["missing"])
        return add("kept")(tx)  # type: ignore[no-any-return]

    assert store.write(job) == "kept"
    assert "callback" in caplog.text


def test_a_transaction_has_the_time_of_the_clock(store: Store, clock: ManualClock) -> None:
    """The one time an operation knows is the clock's, at the start of its transaction."""
    before = store.read(lambda tx: tx.now)
    clock.advance(90)

    assert store.write(lambda tx: tx.now) - before == timedelta(seconds=90)


async def _many(store: Store) -> list[Any]:
    async def one(number: int) -> Any:
        if number == 7:
            return await store.write_soon(add("flow 06"))
        await store.write_soon(add(f"flow {number:02}"))
        return await store.read_soon(lambda tx: tx.execute(select(func.count()).select_from(FLOW)).scalar_one())

    return await asyncio.gather(*(one(number) for number in range(40)), return_exceptions=True)


def test_g13_a_bad_job_among_many_harms_only_itself(store: Store) -> None:
    """Of forty writers at once one breaks a rule of the database: it alone fails."""
    answers = asyncio.run(_many(store))

    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [type(failure) for failure in failures] == [IntegrityError]
    assert len(store.read(names)) == 39


def test_a_caller_that_is_cancelled_leaves_the_others_alone(store: Store) -> None:
    """A coroutine cancelled while it waits gets no answer; who waits beside it does."""

    async def scene() -> str:
        gone = asyncio.ensure_future(store.write_soon(add("gone")))
        kept = asyncio.ensure_future(store.write_soon(add("kept")))
        gone.cancel()
        return str(await kept)

    assert asyncio.run(scene()) == "kept"


def test_writers_in_threads_are_all_served(store: Store) -> None:
    """Many threads write at once, each many times; every write is there."""

    def work(number: int) -> None:
        for turn in range(20):
            store.write(add(f"{number}-{turn}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(store.read(names)) == 240


@pytest.mark.parametrize(
    "value", ["text", "", "[1]", "null", 1, 1.5, True, [], [1, "a", None], {"a": {"b": None}}, "ü☃\n"]
)
def test_json_comes_back_as_it_went(store: Store, value: Any) -> None:
    """Any JSON value is the same after it was stored, and so are ids and moments."""

    def keep(tx: Tx) -> Any:
        row = {"id": uuid7(), "created": tx.now, "updated": tx.now, "key": "k", "value": value}
        tx.execute(CONFIGURATION.insert(), row)
        return row

    row = store.write(keep)

    assert store.read(lambda tx: dict(tx.execute(select(CONFIGURATION)).mappings().one())) == row


def test_a_closed_store_says_so(store: Store) -> None:
    """Neither reads nor writes hang on a store that was closed; closing twice is harmless."""
    store.close()
    store.close()

    with pytest.raises(StoreClosed):
        store.read(names)
    with pytest.raises(StoreClosed):
        store.write(add("late"))
