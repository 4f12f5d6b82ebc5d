"""The one thread that writes a SQLite file.

It takes all the jobs that wait, runs each in a savepoint, and commits once; only then does anyone get a result.  # G1
A job that fails undoes its own savepoint and harms nobody else.  # G13

What may go wrong, and what is done:
- a job raises: its savepoint is rolled back, its caller gets the error, the group goes on;
- SQLite ends the whole transaction below us (disk full, I/O error): each job of the group runs again, alone;
- COMMIT says BUSY: the whole group runs again, as jobs are free of effects but through their transaction;  # G16
- COMMIT fails otherwise: nobody in the group was committed; each job runs again, alone, and meets its own fate.
"""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import Any

from sqlalchemy import Engine

from headrace._internal.clock import Clock
from headrace.server.store.jobs import Job, JobQueue, hand_out
from headrace.server.store.sqlite_file import (
    SqliteDriver,
    Turn,
    driver_of,
    explained,
    is_busy,
    open_connection,
    patiently,
)
from headrace.server.store.transaction import Tx

GROUP_JOBS = 256
GROUP_SECONDS = 0.02
"""A group ends with whichever comes first, so that nobody waits long: neither its callers nor other processes."""


class TransactionLost(Exception):
    """SQLite rolled the group's transaction back by itself."""


class SqliteWriter:
    """The writer of one file.

    Args:
        engine: of the file.
        path: the file.
        clock: tells each transaction its time.
    """

    def __init__(self, engine: Engine, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._turn = Turn(path)
        self.connection = open_connection(engine, pages_kib=16_384, reads_only=False)
        self.driver = SqliteDriver(self.connection)
        self._driver = driver_of(self.connection)
        self._execute = self._driver.execute
        self._jobs = JobQueue()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()

    def submit(self, job: Job[Any]) -> None:
        """Have `job` run in the next group; see `JobQueue.put` for what it raises.

        Raises:
            RuntimeError: the caller is the writer itself, which would wait for itself for ever.
        """
        if self._thread is None:
            self._start_thread()
        elif job.loop is None and threading.current_thread() is self._thread:
            raise RuntimeError("A job or callback of the store's writer cannot wait for another write.")
        self._jobs.put(job)

    def _start_thread(self) -> None:
        with self._start:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="headrace-writer", daemon=True)
                thread.start()
                self._thread = thread

    def _work(self) -> None:
        while not self._closing:
            first = self._jobs.get()
            if first is None:
                return
            group = [first]
            try:
                with self._turn:
                    self._run_group(group)
            except BaseException as error:  # noqa: BLE001  whatever it is, callers must hear of it and the thread live on
                self._give_up(group, error)
            self._jobs.made_room()
            hand_out(group)

    def _give_up(self, group: list[Job[Any]], error: BaseException) -> None:
        if self._driver.in_transaction:
            self._driver.rollback()
        for job in group:
            job.error, job.callbacks = explained(error, self._path), []

    def _run_group(self, group: list[Job[Any]]) -> None:
        """Run and commit the jobs of `group` and those that come meanwhile, which are appended to it."""
        jobs: Iterator[Job[Any]] = self._arriving(group)
        while True:
            try:
                self._begin()
                for number, job in enumerate(jobs):
                    self._run_job(job, alone=number == 0)
                self._execute("COMMIT")
                return
            except Exception as error:  # noqa: BLE001  sorted below
                if self._driver.in_transaction:
                    self._driver.rollback()
                if not is_busy(error):
                    self._run_singly(group)
                    return
            jobs = iter(list(group))

    def _arriving(self, group: list[Job[Any]]) -> Iterator[Job[Any]]:
        yield group[0]
        deadline = time.monotonic() + GROUP_SECONDS
        while len(group) < GROUP_JOBS and time.monotonic() < deadline:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return
            if job is None:
                self._closing = True
                return
            group.append(job)
            yield job

    def _begin(self) -> None:
        patiently(self._begin_immediate, self._path)

    def _begin_immediate(self) -> None:
        self._execute("BEGIN IMMEDIATE")

    def _run_job(self, job: Job[Any], *, alone: bool) -> None:
        """Run one job in its savepoint; the first of a group needs none, to undo it is to begin again."""
        if not alone:
            self._execute("SAVEPOINT job")
        tx = Tx(self.connection, self.driver, self._clock.now())
        try:
            job.result, job.error = job.function(tx), None
            job.callbacks = tx.callbacks
        except BaseException as error:  # noqa: BLE001  it belongs to the caller
            job.error, job.callbacks = explained(error, self._path), []
            self._undo(alone=alone)
        else:
            if not alone:
                self._execute("RELEASE job")

    def _undo(self, *, alone: bool) -> None:
        if not self._driver.in_transaction:
            raise TransactionLost
        if alone:
            self._execute("ROLLBACK")
            self._begin()
        else:
            self._execute("ROLLBACK TO job")
            self._execute("RELEASE job")

    def _run_singly(self, group: list[Job[Any]]) -> None:
        """Run each job in a transaction of its own, after the group's failed."""
        for job in group:
            try:
                self._begin()
                self._run_job(job, alone=True)
                self._execute("COMMIT")
            except TransactionLost:
                continue  # the job has its error already
            except Exception as error:  # noqa: BLE001  each caller hears of its own
                if self._driver.in_transaction:
                    self._driver.rollback()
                job.error, job.callbacks = explained(error, self._path), []

    def run_alone(self, function: Callable[[Tx], None]) -> None:
        """Run `function` in a transaction of its own in the calling thread, before the writer's thread was started."""
        with self._turn:
            self._begin()
            try:
                function(Tx(self.connection, self.driver, self._clock.now()))
            except BaseException:
                if self._driver.in_transaction:
                    self._driver.rollback()
                raise
            self._execute("COMMIT")

    def close(self) -> None:
        """Finish what waits, end the thread and close the connection."""
        self._jobs.close()
        if self._thread is not None:
            self._thread.join()
        self.connection.close()
        self._turn.close()
