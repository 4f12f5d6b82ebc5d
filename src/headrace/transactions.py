"""Transactions: several steps that are kept together or undone together.

    with transaction() as both:      both ends well: hooks on_commit, children first, then results are written
        withdraw(...)                a step raises:   hooks on_rollback, the last step first; nothing is written
        deposit(...)

    PENDING ── begin ──> ACTIVE ── stage ──> STAGED ── commit ──> COMMITTED
       └── a record under its key is there already ─────────────────┘
    any of them before COMMITTED ── error inside ──> ROLLED_BACK

A transaction with a key has a record in a result store: when one is there at its beginning, the work was done before,
and the transaction is committed from the start. An inner transaction that is LAZY (as all are, unless told otherwise)
is committed when its outer one is; an EAGER one when it ends, and then it is not rolled back any more. One that is OFF
is rolled back at its end unless it was committed by hand. A SERIALIZABLE one holds the lock of its key while it lasts.

An error in a hook or in writing rolls back the transaction that it is of, and is logged; it does not raise.
"""

import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from headrace._internal.threads import finished, in_thread
from headrace.context import FlowRunContext, TaskRunContext
from headrace.logging import get_logger, get_run_logger
from headrace.result_records import ResultRecord
from headrace.results import ResultStore
from headrace.unit_of_work import (
    BaseTransaction,
    CommitMode,
    Hook,
    IsolationLevel,
    Logger,
    TransactionState,
    innermost,
)

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = [
    "AsyncTransaction",
    "BaseTransaction",
    "CommitMode",
    "IsolationLevel",
    "Transaction",
    "TransactionState",
    "atransaction",
    "get_transaction",
    "transaction",
]


class Transaction(BaseTransaction):
    """A transaction of synchronous code; used with `with`."""

    def begin(self) -> None:
        """Begin: take the lock, if it is SERIALIZABLE, and look whether the work was done before."""
        self._begin()

    def read(self) -> ResultRecord[Any] | None:
        """The record under its key, if there is one that can be used."""
        return self._read()

    def reset(self) -> None:
        """Stop being the active transaction."""
        self._leave()

    def commit(self) -> bool:
        """Commit now; False when that failed, and it was rolled back."""
        return self._commit()

    def rollback(self) -> bool:
        """Undo now; False when a hook failed, or there is nothing to undo."""
        return self._rollback()

    def run_hook(self, hook: Hook, hook_type: str) -> None:
        """Run one hook and log it."""
        self._hook(hook, hook_type)

    def __enter__(self) -> Self:
        self._begin()
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        self._end(error)


class AsyncTransaction(BaseTransaction):
    """A transaction of asynchronous code; used with `async with`. Its hooks may be coroutine functions."""

    _loop: "AbstractEventLoop"

    async def begin(self) -> None:
        """See `Transaction.begin`."""
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._name_holder()
        await in_thread(self._begin)

    async def read(self) -> ResultRecord[Any] | None:
        """See `Transaction.read`."""
        return await in_thread(self._read)

    async def reset(self) -> None:
        """See `Transaction.reset`."""
        self._leave()

    async def commit(self) -> bool:
        """See `Transaction.commit`."""
        return await in_thread(self._commit)

    async def rollback(self) -> bool:
        """See `Transaction.rollback`."""
        return await in_thread(self._rollback)

    async def run_hook(self, hook: Hook, hook_type: str) -> None:
        """Run one hook and log it."""
        await in_thread(self._hook, hook, hook_type)

    def _finish(self, value: Any) -> None:
        """Let the event loop of the transaction run what a hook returned; it is waited for in a thread."""
        import asyncio

        if inspect.iscoroutine(value):
            asyncio.run_coroutine_threadsafe(value, self._loop).result()
        else:
            finished(value)

    def _name_holder(self) -> None:
        """Locks are held by a thread's name, and each step may run in another thread: so this one's is taken."""
        level = self.isolation_level or (parent.isolation_level if (parent := innermost.get()) is not None else None)
        if level is IsolationLevel.SERIALIZABLE:
            self._holder = f"{ResultStore.generate_default_holder()}:{id(self):x}"

    async def __aenter__(self) -> Self:
        await self.begin()
        self._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        await in_thread(self._end, error)


def get_transaction() -> BaseTransaction | None:
    """The innermost transaction that the code is in; None outside of every one."""
    return innermost.get()


def _logger() -> Logger:
    inside = TaskRunContext.get() is not None or FlowRunContext.get() is not None
    return get_run_logger() if inside else get_logger("transactions")


@contextmanager
def transaction(
    key: str | None = None,
    store: ResultStore | None = None,
    commit_mode: CommitMode | None = None,
    isolation_level: IsolationLevel | None = None,
    overwrite: bool = False,
    write_on_commit: bool = True,
    logger: Logger | None = None,
) -> Iterator[Transaction]:
    """Keep the steps inside together: all are committed, or all are rolled back.

    Args:
        key: identifies the work: when a record is there under it, `is_committed()` is true from the start.
        store: where records are kept; that of the run, or of the settings, when absent.
        commit_mode: when it is committed.
        isolation_level: whether it waits for others with the same key.
        overwrite: do the work although there is a record.
        write_on_commit: write the staged value when it is committed.
        logger: says which hooks run; the run's when absent.

    Yields:
        The transaction.
    """
    with Transaction(
        key=key,
        store=store,
        commit_mode=commit_mode,
        isolation_level=isolation_level,
        overwrite=overwrite,
        write_on_commit=write_on_commit,
        logger=logger or _logger(),
    ) as made:
        yield made


@asynccontextmanager
async def atransaction(
    key: str | None = None,
    store: ResultStore | None = None,
    commit_mode: CommitMode | None = None,
    isolation_level: IsolationLevel | None = None,
    overwrite: bool = False,
    write_on_commit: bool = True,
    logger: Logger | None = None,
) -> AsyncIterator[AsyncTransaction]:
    """The same as `transaction`, for coroutines: `async with atransaction() as ...`."""
    async with AsyncTransaction(
        key=key,
        store=store,
        commit_mode=commit_mode,
        isolation_level=isolation_level,
        overwrite=overwrite,
        write_on_commit=write_on_commit,
        logger=logger or _logger(),
    ) as made:
        yield made
