"""Futures: what stands for a run that was started and may not have ended yet.

`task.submit`, `flow.submit` and `map` give them. `result()` waits and gives the run's result; a future that is handed
to another task is waited for and replaced by its result there.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from headrace.client import get_client
from headrace.engine import worker_threads
from headrace.engine.ended import Ended
from headrace.engine.outcomes import futures_to_states
from headrace.engine.upstream import Resolver, RunFuture, RunInput, search, wait_for_all
from headrace.exceptions import FlowRunWaitTimeout
from headrace.schemas.flow_runs import READ_FLOW_RUN
from headrace.schemas.states import State, StateType
from headrace.schemas.task_runs import FlowRunResult, TaskRunResult

R = TypeVar("R")
F = TypeVar("F", bound="PrefectFuture[Any]")

_lock = threading.Lock()
"""Guards the ends and callbacks of all futures: one lock, held for a few instructions, is cheaper than one for each."""


class PrefectFuture(RunFuture, Generic[R]):
    """A run that was started.

    Args:
        task_run_id: the task run it stands for, if it is one.
    """

    def __init__(self, task_run_id: UUID | None = None) -> None:
        self._id = task_run_id

    @property
    def task_run_id(self) -> UUID:
        """The task run."""
        assert self._id is not None
        return self._id


class PrefectTaskRunFuture(PrefectFuture[R]):
    """A task run that was started."""


class PrefectWrappedFuture(PrefectTaskRunFuture[R]):
    """A task run that something else carries out."""


class PrefectConcurrentFuture(PrefectWrappedFuture[R]):
    """A task run or flow run that this process carries out.

    Args:
        run: the engine's record of the run.
        as_input: the run, as an input of another one.
    """

    def __init__(self, run: Any, as_input: Callable[[Any], RunInput]) -> None:
        self._run = run
        self._as_input = as_input
        self._ended: Ended | None = None
        self._callbacks: list[Callable[[Any], None]] = []

    @property
    def task_run_id(self) -> UUID:
        """The task run; of a flow run, the one that stands for it in its parent."""
        run = self._run
        found: UUID = run.task_run.id if hasattr(run, "task_run") and run.task_run is not None else run.id
        return found

    @property
    def flow_run_id(self) -> UUID:
        """The flow run; of a task run, the one that it belongs to."""
        run = self._run
        found: UUID = run.flow.id if hasattr(run, "task") else run.id
        return found

    @property
    def state(self) -> State:
        """The state the run is in now; the final one holds its result."""
        if self._ended is not None:
            return self._ended.state
        state: State | None = self._run.state
        return state if state is not None else State(type=StateType.PENDING, name="Pending")

    def as_input(self) -> RunInput:
        """The run, as an input of another one."""
        return self._as_input(self._run)

    def done(self) -> bool:
        """Whether the run has ended."""
        return self._ended is not None

    def end(self, ended: Ended) -> None:
        """Say that the run has ended; whoever waits goes on. For task runners."""
        with _lock:
            self._ended = ended
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call `fn` with this future once the run has ended; at once when it has."""
        with _lock:
            if self._ended is None:
                self._callbacks.append(fn)
                return
        fn(self)

    def wait(self, timeout: float | None = None) -> None:
        """Return once the run has ended, or after `timeout` seconds."""
        if self._ended is None:
            over = threading.Event()
            self.add_done_callback(lambda _: over.set())
            with worker_threads.this_thread_waits():
                over.wait(timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """The run's result, waited for.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.
            raise_on_failure: raise what the run raised; otherwise return it.

        Raises:
            TimeoutError: the run has not ended in time.
            Exception: the run's own.
        """
        self.wait(timeout)
        ended = self._ended
        if ended is None:
            raise TimeoutError(f"The run did not end within {timeout} second(s).")
        if ended.error is None:
            value: R = ended.value
            return value
        if raise_on_failure or not ended.recorded.is_final():
            raise ended.error
        found: R = ended.state.result(raise_on_failure=False)
        return found

    def __await__(self) -> Generator[Any, Any, R]:
        return self._finished().__await__()

    async def _finished(self) -> R:
        import asyncio

        return await asyncio.to_thread(self.result)


class PrefectFlowRunFuture(PrefectFuture[R]):
    """A flow run that runs elsewhere; its state is asked of the API.

    Args:
        flow_run_id: the flow run.
        poll_seconds: how long to wait between two questions.
    """

    def __init__(self, flow_run_id: UUID, poll_seconds: float = 0.5) -> None:
        self._flow_run_id = flow_run_id
        self._poll = poll_seconds
        self._final: State | None = None

    @property
    def flow_run_id(self) -> UUID:
        """The flow run."""
        return self._flow_run_id

    @property
    def state(self) -> State:
        """The state the run is in now."""
        if self._final is not None:
            return self._final
        state = get_client().call(READ_FLOW_RUN, id=self._flow_run_id).state
        state = state or State(type=StateType.PENDING, name="Pending")
        if state.is_final():
            self._final = state
        return state

    def as_input(self) -> RunInput:
        """The run, as an input of another one."""
        return FlowRunResult(id=self._flow_run_id)

    def done(self) -> bool:
        """Whether the run has ended."""
        return self.state.is_final()

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call `fn` with this future once the run has ended, from a thread that waits for it."""

        def watch() -> None:
            self.wait()
            fn(self)

        threading.Thread(target=watch, name=f"headrace-watch-{self._flow_run_id}", daemon=True).start()

    def wait(self, timeout: float | None = None) -> None:
        """Return once the run has ended, or after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.done() and (end is None or time.monotonic() < end):
            left = self._poll if end is None else min(self._poll, max(end - time.monotonic(), 0))
            time.sleep(left)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """The run's result, waited for; see `PrefectConcurrentFuture.result`.

        Raises:
            FlowRunWaitTimeout: the run has not ended in time.
        """
        self.wait(timeout)
        if self._final is None:
            raise FlowRunWaitTimeout(f"Flow run {str(self._flow_run_id)!r} did not end within {timeout} second(s).")
        value: R = self._final.result(raise_on_failure=raise_on_failure)
        return value


class PrefectFutureList(list[PrefectFuture[R]]):
    """The futures that `map` gives."""

    def wait(self, timeout: float | None = None) -> None:
        """Return once all runs have ended, or after `timeout` seconds."""
        wait(self, timeout=timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[R]:
        """The results, in order.

        Args:
            timeout: seconds to wait at most, for all together.
            raise_on_failure: raise what the first failed run raised; otherwise put it in the place of its result.

        Raises:
            TimeoutError: not all have ended in time.
        """
        end = None if timeout is None else time.monotonic() + timeout
        try:
            return [
                future.result(None if end is None else max(end - time.monotonic(), 0), raise_on_failure)
                for future in self
            ]
        except TimeoutError as error:
            if all(future.done() for future in self):
                raise
            raise TimeoutError(f"Timed out waiting for all futures to complete within {timeout} seconds") from error


class DoneAndNotDoneFutures(NamedTuple, Generic[F]):
    """What `wait` gives: which have ended and which have not."""

    done: set[F]
    not_done: set[F]


def wait(futures: Iterable[F], timeout: float | None = None) -> DoneAndNotDoneFutures[F]:
    """Wait until all have ended.

    Args:
        futures: what to wait for.
        timeout: seconds to wait at most.

    Returns:
        Which have ended and which have not.
    """
    everyone = list(futures)
    end = None if timeout is None else time.monotonic() + timeout
    for future in everyone:
        future.wait(None if end is None else max(end - time.monotonic(), 0))
    done = {future for future in everyone if future.done()}
    return DoneAndNotDoneFutures(done, set(everyone) - done)


def as_completed(futures: Iterable[F], timeout: float | None = None) -> Iterator[F]:
    """The futures, each as soon as it has ended.

    Args:
        futures: what to wait for.
        timeout: seconds to wait at most, for all together.

    Raises:
        TimeoutError: not all have ended in time.
    """
    everyone = list(dict.fromkeys(futures))
    over: SimpleQueue[F] = SimpleQueue()
    for future in everyone:
        future.add_done_callback(over.put)
    end = None if timeout is None else time.monotonic() + timeout
    for number in range(len(everyone)):
        try:
            yield over.get(timeout=None if end is None else max(end - time.monotonic(), 0))
        except Empty:
            raise TimeoutError(f"{len(everyone) - number} (of {len(everyone)}) futures unfinished") from None


def task_run_input(run: Any) -> RunInput:
    """A task run, as an input of another run."""
    return TaskRunResult(id=run.id)


def flow_run_input(run: Any) -> RunInput:
    """A flow run, as an input of another run: the task run that stands for it, if it has one."""
    return TaskRunResult(id=run.task_run.id) if run.task_run is not None else FlowRunResult(id=run.id)


def resolve_futures_to_results(expr: Any) -> Any:
    """`expr` with the futures in it waited for and replaced by their results."""

    wait_for_all(search([expr])[0])
    return Resolver(None).resolve(expr)


def resolve_futures_to_states(expr: Any) -> Any:
    """`expr` with the futures in it waited for and replaced by the states they ended in."""

    return futures_to_states(expr)
