"""Task runners: where submitted tasks run. A flow has one, given by `@flow(task_runner=...)`; threads by default."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextvars import copy_context
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from headrace.context import current_tags
from headrace.engine.drivers import drive, drive_async
from headrace.engine.ended import Ended
from headrace.engine.mapping import calls_of_map
from headrace.engine.steps import Steps
from headrace.engine.task_run import run_task
from headrace.engine.task_running import TaskRunning
from headrace.engine.upstream import RunFuture, RunInput, is_simple, search
from headrace.engine.worker_threads import WorkerThreads, run_coroutine, when_done
from headrace.futures import PrefectConcurrentFuture, PrefectFuture, PrefectFutureList, task_run_input
from headrace.schemas.states import State, StateType
from headrace.settings import get_settings

F = TypeVar("F", bound=PrefectFuture[Any])
MOST_THREADS = 1000
STOP_SECONDS = 3.0


class TaskRunner(ABC, Generic[F]):
    """What runs the tasks that a flow submits. It is entered with `with` while the flow runs."""

    @property
    def name(self) -> str:
        """Its name, for logs."""
        return type(self).__name__.lower().replace("taskrunner", "")

    @abstractmethod
    def duplicate(self) -> Self:
        """A new one with the same options, for one flow run."""

    @abstractmethod
    def submit(self, task: Any, parameters: dict[str, Any], wait_for: Any = None, dependencies: Any = None) -> F:
        """Start a task run.

        Args:
            task: the task.
            parameters: its parameters by name.
            wait_for: what must have completed before.
            dependencies: inputs of the run that are known already, by parameter.

        Returns:
            Its future.
        """

    def map(self, task: Any, parameters: dict[str, Any], wait_for: Any = None) -> PrefectFutureList[Any]:
        """Start one run for each element of the lists among the parameters.

        Args:
            task: the task.
            parameters: by name; lists are taken element by element.
            wait_for: what must have completed before.
        """
        futures: PrefectFutureList[Any] = PrefectFutureList()
        for args, kwargs in calls_of_map(task.signature, (), parameters):
            futures.append(self.submit(task, task.signature.bind(args, kwargs), wait_for))
        return futures

    def cancel_all(self) -> None:
        """Call off what has not ended."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class ThreadPoolTaskRunner(TaskRunner[PrefectConcurrentFuture[Any]]):
    """Runs tasks in threads of this process. Asynchronous tasks get an event loop of their thread's own.

    Args:
        max_workers: how many may run at once; by default the setting `tasks.runner.thread_pool_max_workers`, or 1000.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        self._max_workers = max_workers
        self._threads: WorkerThreads | None = None

    def duplicate(self) -> Self:
        """A new one with the same limit."""
        return type(self)(max_workers=self._max_workers)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._max_workers == other._max_workers

    def __hash__(self) -> int:
        return hash((type(self), self._max_workers))

    def submit(
        self, task: Any, parameters: dict[str, Any], wait_for: Any = None, dependencies: Any = None
    ) -> PrefectConcurrentFuture[Any]:
        """Start a task run in a thread, once what it needs has ended; see `TaskRunner.submit`."""
        run = TaskRunning(task, parameters, wait_for, current_tags())
        if dependencies:
            run.inputs.update(dependencies)
        simple = wait_for is None and is_simple(parameters.values())
        needs, to_replace = ([], False) if simple else search((*parameters.values(), wait_for))
        if not to_replace and not dependencies:
            run.announce()
        return self.start(run, run_task(run), task.isasync, task_run_input, needs)

    def start(
        self,
        run: Any,
        steps: Steps[Ended],
        asynchronous: bool,
        as_input: Callable[[Any], RunInput],
        needs: Iterable[RunFuture] = (),
    ) -> PrefectConcurrentFuture[Any]:
        """Have a thread carry out a run.

        Args:
            run: the engine's record of it.
            steps: its core.
            asynchronous: whether it wants an event loop.
            as_input: how it becomes an input of another run.
            needs: the runs it waits for; it takes no thread before they have ended.
        """
        if self._threads is None:
            limit = self._max_workers or get_settings().tasks.runner.thread_pool_max_workers or MOST_THREADS
            self._threads = WorkerThreads(limit, "headrace-task")
        future: PrefectConcurrentFuture[Any] = PrefectConcurrentFuture(run, as_input)
        context = copy_context()

        def job() -> None:
            try:
                if asynchronous:
                    ended = run_coroutine(drive_async(steps), context)
                else:
                    ended = context.run(drive, steps)
            except BaseException as error:  # noqa: BLE001 - a fault of the engine's: whoever waits must not wait for ever
                ended = Ended(State(type=StateType.CRASHED, name="Crashed", message=repr(error)), None, error)
            future.end(ended)

        threads = self._threads
        if needs and any(not need.done() for need in needs):
            threads.expect()
            when_done(needs, lambda: threads.run_expected(job))
        else:
            threads.run(job)
        return future

    def cancel_all(self) -> None:
        """Call off what has not begun, interrupt what has, and wait for that for a few seconds."""
        if self._threads is not None:
            self._threads.call_off(STOP_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads is not None:
            self._threads.finish()


ConcurrentTaskRunner = ThreadPoolTaskRunner
"""An older name of the thread pool."""
