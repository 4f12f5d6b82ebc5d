"""Threads that carry out submitted runs.

A few threads are started as soon as there is work. More come, up to a limit, when work has been waiting for some
milliseconds while none was taken: then those there are must be waiting for something. Their number doubles each time,
so a thousand tasks that sleep all run within some 30 ms, whereas a thousand that compute do not get a thousand threads
that only fight for the interpreter. A thread that waits for another run does not
count against the limit: were it otherwise, tasks that submit tasks and wait for them could fill the pool with waiting
threads, and nothing would ever go on. The threads are daemons: a task that cannot be stopped does not keep the process
from ending.

A run whose inputs are still being made is not given to a thread before they are (see `when_done`).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from headrace.engine.timeouts import raise_in_thread
from headrace.engine.upstream import RunFuture
from headrace.exceptions import TerminationSignal

IDLE_SECONDS = 5.0
AT_ONCE = 4
PACE = 0.002  # seconds
_here = threading.local()


class Stopped(TerminationSignal):
    """Raised in a thread whose flow run was interrupted."""

    def __init__(self, signal: int = 15) -> None:
        super().__init__(signal)


class WorkerThreads:
    """A pool of threads.

    Args:
        limit: how many may work at once.
        name: what the threads are called.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._jobs: deque[Callable[[], None]] = deque()
        lock = threading.Lock()
        self._change = threading.Condition(lock)  # there is work, or there will be no more
        self._over = threading.Condition(lock)  # all jobs are done
        self._threads: set[threading.Thread] = set()
        self._idle = self._waiting = self._pending = self._taken = 0
        self._closed = self._growing = False

    def run(self, job: Callable[[], None]) -> None:
        """Have a thread call `job`, which must not raise."""
        with self._change:
            self._jobs.append(job)
            self._pending += 1
            self._call_thread()

    def expect(self) -> None:
        """Say that a job will come later, so that `finish` waits for it; `run_expected` brings it."""
        with self._change:
            self._pending += 1

    def run_expected(self, job: Callable[[], None]) -> None:
        """Run a job that was announced."""
        with self._change:
            self._jobs.append(job)
            self._call_thread()

    def _call_thread(self) -> None:
        working = len(self._threads) - self._waiting
        if self._idle >= len(self._jobs):
            self._change.notify()
        elif working < min(AT_ONCE, self._limit):
            self._start_thread()
        elif working < self._limit and not self._growing:
            self._growing = True
            threading.Thread(target=self._grow, name=f"{self._name}-growth", daemon=True).start()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _grow(self) -> None:
        """Start more threads for as long as work waits and nobody takes it."""
        seen = -1
        while True:
            time.sleep(PACE)
            with self._change:
                working = len(self._threads) - self._waiting
                if not self._jobs or self._closed or working >= self._limit:
                    self._growing = False
                    return
                if self._taken == seen:
                    for _ in range(min(len(self._jobs), max(working, 1), self._limit - working)):
                        self._start_thread()
                seen = self._taken

    def finish(self) -> None:
        """Wait until all jobs are done, those that they bring included, and let the threads go."""
        with self._change:
            while self._pending:
                self._over.wait()
            self._closed = True
            self._change.notify_all()

    def call_off(self, seconds: float) -> None:
        """Forget the jobs that have not begun, interrupt those that have, and wait for them for a while.

        Args:
            seconds: how long to wait.
        """
        end = time.monotonic() + seconds
        with self._change:
            self._closed = True
            self._pending -= len(self._jobs)
            self._jobs.clear()
            self._change.notify_all()
            for thread in self._threads - {threading.current_thread()}:
                if thread.ident is not None and getattr(thread, "busy", False):
                    raise_in_thread(thread.ident, Stopped)
            self._over.wait_for(lambda: self._pending <= 0, max(end - time.monotonic(), 0))

    @contextmanager
    def waits(self) -> Iterator[None]:
        """While inside, the calling thread of this pool waits for another run, so one more may work."""
        with self._change:
            self._waiting += 1
            if self._jobs:
                self._call_thread()
        try:
            yield
        finally:
            with self._change:
                self._waiting -= 1

    def _next_job(self) -> Callable[[], None] | None:
        with self._change:
            while not self._jobs:
                if self._closed:
                    return None
                self._idle += 1
                came = self._change.wait(IDLE_SECONDS)
                self._idle -= 1
                if not came and not self._jobs:
                    return None
            self._taken += 1
            return self._jobs.popleft()

    def _work(self) -> None:
        _here.pool = self
        me: Any = threading.current_thread()
        while (job := self._next_job()) is not None:
            try:
                me.busy = True
                job()
                me.busy = False
            except Stopped:  # came just as the job ended
                me.busy = False
            del job  # else the result of the last one lives on
            with self._change:
                self._pending -= 1
                if not self._pending:
                    self._over.notify_all()
        with self._change:
            self._threads.discard(me)
        if (loop := getattr(_here, "loop", None)) is not None:
            loop.close()


@contextmanager
def this_thread_waits() -> Iterator[None]:
    """While inside, the calling thread waits for a run; its pool, if it is of one, may start another in its stead."""
    pool: WorkerThreads | None = getattr(_here, "pool", None)
    if pool is None:
        yield
        return
    with pool.waits():
        yield


def run_coroutine(coroutine: Any, context: Any) -> Any:
    """Run a coroutine to its end in this thread, in an event loop that is kept for the thread's next one."""
    import asyncio

    runner = getattr(_here, "loop", None)
    if runner is None:
        runner = _here.loop = asyncio.Runner()
    return runner.run(coroutine, context=context)


def when_done(futures: Iterable[RunFuture], then: Callable[[], None]) -> None:
    """Call `then` once all of `futures` have ended, in the thread in which the last one did."""
    waiting = [future for future in futures if not future.done()]
    left = len(waiting)
    lock = threading.Lock()

    def one_less(_: Any) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            then()

    if not waiting:
        then()
    for future in waiting:
        future.add_done_callback(one_less)
