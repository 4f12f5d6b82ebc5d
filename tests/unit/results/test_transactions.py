"""Transactions: order of hooks, nesting, records, isolation; the synchronous and the asynchronous kind alike."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.exceptions import ConfigurationError
from headrace.locking.memory import MemoryLockManager
from headrace.results import ResultStore
from headrace.settings import temporary_settings
from headrace.transactions import (
    CommitMode,
    IsolationLevel,
    Transaction,
    TransactionState,
    atransaction,
    get_transaction,
    transaction,
)

SERIALIZABLE = IsolationLevel.SERIALIZABLE


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[None]:
    """Results of the test go to a folder of its own."""
    with temporary_settings({"home": str(tmp_path), "results.local_storage_path": str(tmp_path / "storage")}):
        yield


@asynccontextmanager
async def in_sync(**options: Any) -> AsyncIterator[Any]:
    """`transaction`, with the face of `atransaction`."""
    with transaction(**options) as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def begin(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`transaction` or `atransaction`, to be used with `async with`."""
    return in_sync if request.param == "sync" else atransaction


def note(said: list[str], name: str, made: Any) -> None:
    """Let the hooks of a transaction say that they ran."""
    made.on_commit_hooks.append(lambda one: said.append(f"commit {name} {one.state.name}"))
    made.on_rollback_hooks.append(lambda one: said.append(f"rollback {name} {one.state.name}"))


def test_children_are_committed_before_their_parent(begin: Callable[..., Any]) -> None:
    """When all goes well, the hooks of inner transactions run first, in their order, when the outer one ends."""
    said: list[str] = []

    async def work() -> list[TransactionState]:
        async with begin(key="outer") as outer:
            note(said, "outer", outer)
            for name in ("one", "two"):
                async with begin(key=name) as inner:
                    note(said, name, inner)
                    inner.stage(name)
                assert inner.is_staged()
            assert said == []
            outer.stage(0)
        return [outer.state, inner.state]

    states = asyncio.run(work())

    assert said == ["commit one STAGED", "commit two STAGED", "commit outer STAGED"]
    assert states == [TransactionState.COMMITTED] * 2


def test_an_error_undoes_the_last_step_first(begin: Callable[..., Any]) -> None:
    """An error inside rolls back the outer transaction, then the inner ones from the last; it reaches the caller."""
    said: list[str] = []

    async def work() -> None:
        async with begin() as outer:
            note(said, "outer", outer)
            for name in ("one", "two"):
                async with begin() as inner:
                    note(said, name, inner)
                    inner.stage(name)
            async with begin(commit_mode=CommitMode.EAGER) as eager:
                note(said, "eager", eager)
            raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        asyncio.run(work())

    assert said == ["commit eager ACTIVE", "rollback outer ACTIVE", "rollback two STAGED", "rollback one STAGED"]


def test_an_error_in_an_inner_transaction_undoes_the_outer_one() -> None:
    """Also when the error is caught in between."""
    said: list[str] = []
    with transaction() as outer:
        note(said, "outer", outer)
        try:
            with transaction() as inner:
                note(said, "inner", inner)
                raise ValueError
        except ValueError:
            pass

    assert said == ["rollback inner ACTIVE", "rollback outer ACTIVE"]
    assert outer.is_rolled_back()


def test_what_was_committed_is_found_by_the_next(begin: Callable[..., Any]) -> None:
    """A key whose record is there means that the work is done: its hooks do not run again."""
    said: list[str] = []

    async def work() -> Any:
        async with begin(key="k") as first:
            assert first.is_active()
            first.stage({"v": 1})
        async with begin(key="k") as second:
            note(said, "second", second)
            assert second.is_committed()
            second.stage({"v": 2})
            record = second.read()
            found = await record if asyncio.iscoroutine(record) else record
            return found.result

    assert asyncio.run(work()) == {"v": 1}
    assert said == []


def test_overwrite_does_the_work_again() -> None:
    """With `overwrite` a record does not count, and is replaced."""
    with transaction(key="k") as first:
        first.stage(1)
    with transaction(key="k", overwrite=True) as second:
        assert second.is_active()
        second.stage(2)

    with transaction(key="k") as third:
        record = third.read()
    assert record is not None
    assert record.result == 2


def test_without_writing_nothing_is_found() -> None:
    """`write_on_commit=False` runs the hooks and leaves no record."""
    with transaction(key="k", write_on_commit=False) as first:
        first.stage(1)

    assert first.is_committed()
    with transaction(key="k") as second:
        assert second.is_active()
        assert second.read() is None


def test_off_means_by_hand() -> None:
    """A transaction whose mode is OFF is rolled back unless it was committed."""
    said: list[str] = []
    with transaction(commit_mode=CommitMode.OFF) as left:
        note(said, "left", left)
        left.stage(1)
    with transaction(commit_mode=CommitMode.OFF) as done:
        note(said, "done", done)
        done.stage(1)
        assert done.commit()

    assert said == ["rollback left STAGED", "commit done STAGED"]
    assert (left.state, done.state) == (TransactionState.ROLLED_BACK, TransactionState.COMMITTED)


def test_a_failing_commit_hook_rolls_back(begin: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and does not raise; nothing is written."""
    said: list[str] = []

    def fail(_: Any) -> None:
        raise RuntimeError("no")

    async def work() -> Any:
        async with begin(key="k", logger=logging.getLogger("test")) as made:
            made.on_commit_hooks.append(fail)
            note(said, "k", made)
            made.stage(1)
        return made.state

    assert asyncio.run(work()) is TransactionState.ROLLED_BACK
    assert said == ["rollback k STAGED"]
    assert "committing transaction 'k'" in caplog.text
    assert not ResultStore().exists("k")


def test_a_result_that_cannot_be_written_rolls_back_itself_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The outer transaction and its other children are committed all the same."""
    with transaction(key="outer") as outer:
        with transaction(key="bad", logger=logging.getLogger("test")) as bad:
            bad.stage(threading.Lock())
        with transaction(key="good") as good:
            good.stage(1)
        outer.stage(0)

    assert [one.state.name for one in (outer, bad, good)] == ["COMMITTED", "ROLLED_BACK", "COMMITTED"]
    assert "'bad' cannot be stored" in caplog.text


def test_a_failing_rollback_hook_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The user's error reaches the caller; the hook's is logged."""

    def fail(_: Any) -> None:
        raise RuntimeError("no")

    made = Transaction(logger=logging.getLogger("test"))
    made.on_rollback_hooks.append(fail)
    with pytest.raises(KeyError), made:
        raise KeyError

    assert made.is_rolled_back()
    assert "rolling back transaction" in caplog.text


def test_coroutine_hooks_run_in_the_loop_of_their_transaction() -> None:
    """A hook that is a coroutine function may use what belongs to the event loop."""
    loops: list[Any] = []

    async def hook(_: Any) -> None:
        loops.append(asyncio.get_running_loop())

    async def work() -> Any:
        async with atransaction() as made:
            made.on_commit_hooks.append(hook)
        return asyncio.get_running_loop()

    assert asyncio.run(work()) in loops


def test_values_are_seen_inside_and_copied() -> None:
    """Inner transactions see the values of outer ones, and cannot change them."""
    with transaction() as outer:
        outer.set("x", [1])
        with transaction() as inner:
            inner.get("x").append(2)
            assert inner.get("x") == [1]
            inner.set("x", [3])
            assert (inner.get("x"), outer.get("x"), outer.get("y", "none")) == ([3], [1], "none")
            with pytest.raises(ValueError, match="'y'"):
                inner.get("y")
        assert get_transaction() is outer
        assert inner.get_parent() is outer
    assert get_transaction() is None


def test_serializable_needs_locks() -> None:
    """Without a lock manager it is refused, with what to do."""
    with pytest.raises(ConfigurationError, match="lock_manager"), transaction(key="k", isolation_level=SERIALIZABLE):
        pass


def test_serializable_work_is_done_once(begin: Callable[..., Any]) -> None:
    """Of several that begin at once, one does the work; the others wait and find it done."""
    store = ResultStore(lock_manager=MemoryLockManager())
    did: list[int] = []

    def run(number: int) -> None:
        async def work() -> None:
            async with begin(key="k", store=store, isolation_level=SERIALIZABLE) as made:
                if not made.is_committed():
                    did.append(number)
                    made.stage(number)

        asyncio.run(work())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(did) == 1
    assert store.read("k").result == did[0]
    assert not store.is_locked("k")


def test_an_error_lets_go_of_the_lock() -> None:
    """A SERIALIZABLE transaction that is rolled back does not keep others waiting."""
    store = ResultStore(lock_manager=MemoryLockManager())
    with pytest.raises(KeyError), transaction(key="k", store=store, isolation_level=SERIALIZABLE):
        raise KeyError

    assert not store.is_locked("k")
