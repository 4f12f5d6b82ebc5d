"""Jobs: functions that wait for a transaction, and how their results get back to who asked.

A caller in a thread waits on a lock that the finisher lets go of; a caller in an event loop awaits a future. Results of
a whole group are handed over to each loop with one wake-up, for waking a loop costs more than a small job.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

from headrace.exceptions import RateLimited
from headrace.server.store.errors import StoreClosed
from headrace.server.store.transaction import Tx

ResultT = TypeVar("ResultT")
LIMIT = 10_000
"""How many jobs may wait at one store."""

logger = logging.getLogger(__name__)


class Job(Generic[ResultT]):
    """A function that waits for its transaction, and then what came of it.

    Args:
        function: what to run.
        loop: the event loop that awaits `future`; None when a thread waits with `wait`.
    """

    __slots__ = ("_done", "callbacks", "error", "function", "future", "loop", "result")

    def __init__(self, function: Callable[[Tx], ResultT], loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.function = function
        self.loop = loop
        self.result: ResultT | None = None
        self.error: BaseException | None = None
        self.callbacks: list[Callable[[], None]] = []
        self.future: asyncio.Future[ResultT] | None = None
        self._done: threading.Lock | None = None
        if loop is None:
            self._done = threading.Lock()
            self._done.acquire()
        else:
            self.future = loop.create_future()

    def wait(self) -> ResultT:
        """Wait in this thread for the result.

        Raises:
            Exception: what the function raised, or why its transaction could not be committed.
        """
        if self._done is not None:
            self._done.acquire()
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # a traceback that holds this frame would keep the job alive in a cycle
        return cast(ResultT, self.result)

    def wake_thread(self) -> None:
        """Let `wait` go on."""
        if self._done is not None:
            self._done.release()

    def settle_future(self) -> None:
        """Give the result to the future; called in its loop."""
        future = self.future
        if future is None or future.done():  # its caller was cancelled meanwhile
            return
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(cast(ResultT, self.result))


def hand_out(jobs: Iterable[Job[Any]]) -> None:
    """Run the callbacks of finished jobs and give each result to its caller."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
    for job in jobs:
        for callback in job.callbacks:
            try:
                callback()
            except Exception:
                logger.exception("A callback after commit failed.")
        if job.loop is None:
            job.wake_thread()
        else:
            by_loop.setdefault(job.loop, []).append(job)
    for loop, waiting in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, waiting)
        except RuntimeError:  # that loop was closed: nobody is left to be told
            logger.debug("An event loop was closed while it waited for the store.")


def _settle(jobs: list[Job[Any]]) -> None:
    for job in jobs:
        job.settle_future()


class JobQueue:
    """The jobs that wait, at most `LIMIT` of them.  # G14

    A thread that comes when it is full waits for room; a coroutine is told to come again, since it must not block.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._room = threading.Condition()
        self._limit = limit
        self._crowded = False
        self._closed = False
        self.get = self._queue.get
        """Wait for the next job; None says that the queue was closed."""
        self.get_nowait = self._queue.get_nowait
        self.empty = self._queue.empty

    def put(self, job: Job[Any]) -> None:
        """Add a job.

        Raises:
            RateLimited: the queue is full and the job belongs to an event loop.
            StoreClosed: the queue was closed.
        """
        if self._closed:
            raise StoreClosed
        if self._queue.qsize() >= self._limit:
            self._wait_for_room(job)
        self._queue.put(job)

    def _wait_for_room(self, job: Job[Any]) -> None:
        if job.loop is not None:
            raise RateLimited(f"{self._limit} calls wait for the database already. Try again in a second.", 1.0)
        with self._room:
            self._crowded = True
            self._room.wait_for(lambda: self._queue.qsize() < self._limit or self._closed)
        if self._closed:
            raise StoreClosed

    def made_room(self) -> None:
        """Say that jobs were taken; wakes threads that wait for room."""
        if self._crowded:
            with self._room:
                self._crowded = False
                self._room.notify_all()

    def close(self, takers: int = 1) -> None:
        """Accept no more jobs; each of `takers` gets a None when those that wait are done."""
        if not self._closed:
            self._closed = True
            for _ in range(takers):
                self._queue.put(None)
            with self._room:
                self._room.notify_all()


class JobThreads:
    """Threads that run jobs one by one, started as they are needed.

    Args:
        name: of the threads, as a debugger shows it.
        count: the most threads there may be.
        run: runs one job and fills in its result or error; never raises.
    """

    def __init__(self, name: str, count: int, run: Callable[[Job[Any]], None]) -> None:
        self._name, self._count, self._run = name, count, run
        self._jobs = JobQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def submit(self, job: Job[Any]) -> None:
        """Have `job` run by the next free thread; see `JobQueue.put` for what it raises."""
        self._jobs.put(job)
        if len(self._threads) < self._count and not self._jobs.empty():
            self._start_one()

    def _start_one(self) -> None:
        with self._lock:
            if len(self._threads) < self._count:
                thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            self._jobs.made_room()
            self._run(job)
            hand_out((job,))

    def close(self) -> None:
        """Finish what waits and end the threads."""
        self._jobs.close(len(self._threads))
        for thread in self._threads:
            thread.join()
