"""The recorder: takes what the engine and the loggers report, and gives it to the API in batches.  # G11

Reporting puts a record into a queue and returns; that is all a flow waits for. A background thread, the writer, takes
what has come together every quarter of a second (at once when there are 1 000 records or somebody waits in `flush`),
and merges news of the same task run.

- With a server, the writer appends the batch to the spool file (see `spool`) and a second thread, the sender, gives
  the lines of that file to the server in their order. So a batch is on disk within a quarter of a second even while
  the server hangs, and a process that is killed leaves it for a later one to deliver.
- In local mode the writer calls the API, which is the database, itself. Only when that fails or is slow, batches go
  the way over the spool until it is empty again.

While the server is away the sender tries again with growing pauses, and the spool grows. When it has reached its limit
the writer stops, then the queue fills, and then whoever reports waits: nothing is dropped.  # G14
"""

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from functools import partial
from pathlib import Path
from uuid import UUID

from headrace.client import get_client
from headrace.engine import spool
from headrace.engine.delivery import Caller, NotNow, connected, deliver, deliver_with_proposal, lines_of
from headrace.engine.leftovers import deliver_leftovers, destination, spool_folder
from headrace.engine.sender import Sender
from headrace.engine.spool import ProposedState, Spool
from headrace.exceptions import HeadraceError
from headrace.logging.configuration import ensure_logging_setup
from headrace.logging.handlers import set_api_log_sink
from headrace.schemas.flow_runs import SetFlowRunState
from headrace.schemas.recording import LogRecord, Records, TaskRunRecord
from headrace.schemas.states import OrchestrationResult
from headrace.settings import get_settings

QUEUE = 20_000  # records
SLOW = 0.5  # seconds

logger = logging.getLogger("headrace.recorder")


class _Mark:
    """A place in the queue that somebody waits for.

    Args:
        proposed: a state to propose there, if that takes no transaction of its own.
    """

    __slots__ = ("answer", "proposed", "reached")

    def __init__(self, proposed: ProposedState | None = None) -> None:
        self.reached = threading.Event()
        self.proposed = proposed
        self.answer: OrchestrationResult | None = None


class Recorder:
    """Takes records and delivers them in the background.

    Args:
        client: whom to deliver to; the active client when absent.
        folder: where spool files lie; `spool` in the home folder when absent.

    How large and how frequent batches are, and how large the spool may grow, say the settings `recording.*`.
    """

    def __init__(self, client: Caller | None = None, *, folder: Path | None = None) -> None:
        settings = get_settings().recording
        self._interval, self._most = settings.batch_seconds, settings.batch_size
        self._limit = settings.spool_limit_bytes
        self._given = client
        self._folder = folder or spool_folder()
        self._start_clean()
        _recorders.add(self)

    def _start_clean(self) -> None:
        self._queue: deque[TaskRunRecord | LogRecord | ProposedState | _Mark] = deque()
        self._spool = Spool(self._folder, destination())
        self._sender = Sender(self._spool, self._connect, self._folder / "set-aside")
        self._asleep = True  # the writer waits for something to do
        self._room = threading.Condition()
        self._work, self._hurry = threading.Event(), threading.Event()
        self._starting = threading.Lock()
        self._writer: threading.Thread | None = None
        self._slow = False
        self._closing = False

    # What the engine and the loggers call. The first two are on the path of every task run and log line.

    def task_run(self, record: TaskRunRecord) -> None:
        """Report how a task run stands and the states it has been in since the last report.

        The record belongs to the recorder from now on: make a new one for later news.
        """
        self._queue.append(record)
        if self._asleep or len(self._queue) >= self._most:
            self._rouse()

    def log(self, record: LogRecord) -> None:
        """Report a log line."""
        self._queue.append(record)
        if self._asleep or len(self._queue) >= self._most:
            self._rouse()

    def flow_run_state(self, id: UUID, body: SetFlowRunState) -> None:
        """Report a state of a flow run that could not be proposed; it arrives after all that was reported before.

        Args:
            id: the flow run.
            body: the proposal, with the epoch of the attempt: an attempt that was replaced is refused by it.  # G4
        """
        self._queue.append(ProposedState(id=id, body=body))
        self._rouse()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was reported so far is stored by the API.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.

        Returns:
            Whether it is stored. If not, it is in the spool, or will be within a quarter of a second, and will arrive.
        """
        return self._idle() or self._wait_for(_Mark(), timeout)

    def flush_and_propose(
        self, id: UUID, body: SetFlowRunState, timeout: float
    ) -> tuple[bool, OrchestrationResult | None]:
        """Flush, and propose a state in the same transaction, if records wait and the API is this process's database.

        Args:
            id: the flow run.
            body: the proposal.
            timeout: seconds to wait at most.

        Returns:
            Whether all is stored, and the answer to the proposal; None when that is still to be made.
        """
        if self._idle():
            return True, None
        mark = _Mark(ProposedState(id=id, body=body))
        return self._wait_for(mark, timeout), mark.answer

    def _wait_for(self, mark: _Mark, timeout: float | None) -> bool:
        self._queue.append(mark)
        self._rouse()
        self._hurry.set()
        self._sender.hurry()
        return mark.reached.wait(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Flush, stop, and let go of the spool file. What could not be delivered stays there for a later process.

        Args:
            timeout: seconds to wait; half a second when the API is known to be away, unless it is back by then.

        Returns:
            Whether all is stored by the API.
        """
        done = self.flush(min(timeout, 0.5) if self._sender.failing else timeout)
        if not done and not self._sender.failing:  # it came back in that half second
            done = self.flush(timeout)
        self._closing = True
        self._work.set()
        self._hurry.set()
        if self._writer is not None:
            self._writer.join(0.5)
        while self._queue:  # the writer is stuck in a call, or could not be started so late in the life of the process
            self._take_all()
        self._sender.stop(0.5)
        self._spool.close()
        self._start_clean()
        return done

    @property
    def behind(self) -> bool:
        """Whether the API is known to be away, so that a flush would only cost time."""
        return self._sender.failing

    def _idle(self) -> bool:
        return self._asleep and not self._queue and not self._spool.waiting

    def _rouse(self) -> None:
        if self._writer is None:
            self._start_writer()
        if self._asleep:
            self._asleep = False
            self._work.set()
        waiting = len(self._queue)
        if waiting >= self._most and not self._hurry.is_set():
            self._hurry.set()
        if waiting >= QUEUE and not self._own_thread():
            with self._room:
                self._room.wait_for(lambda: len(self._queue) < QUEUE or self._closing)

    def _own_thread(self) -> bool:
        return threading.current_thread() in (self._writer, self._sender.thread)

    def _start_writer(self) -> None:
        with self._starting:
            if self._writer is None and not self._closing:
                writer = threading.Thread(target=self._write, name="headrace-recorder", daemon=True)
                try:
                    writer.start()
                except RuntimeError:  # the interpreter is shutting down: `close` does the work
                    return
                self._writer = writer

    # The writer: from the queue to the spool, or to the database of this process.

    def _write(self) -> None:
        while not self._closing:
            self._work.wait()
            self._work.clear()
            while self._queue:
                if len(self._queue) < self._most and not self._closing:
                    self._hurry.wait(self._interval)
                self._hurry.clear()
                try:
                    self._take_all()
                except Exception:  # whatever it is, what comes next must be recorded
                    logger.exception("A batch of records was lost by an error of headrace's own. Please report it.")
            self._asleep = True
            if self._queue:  # came between the last look and going to sleep
                self._asleep = False
                self._work.set()

    def _take_all(self) -> None:
        """Hand on what is in the queue now."""
        for _ in range(len(self._queue) // self._most + 1):
            records, then = self._next_batch()
            with self._room:
                self._room.notify_all()
            if records is not None and not (isinstance(then, _Mark) and self._end_with(records, then)):
                self._hand_on(records)
            if isinstance(then, _Mark):
                self._sender.notify(self._spool.written, then.reached)
            elif then is not None:
                self._hand_on(then)

    def _next_batch(self) -> tuple[Records | None, _Mark | ProposedState | None]:
        """Up to 1 000 records with the news of each task run merged, and what ended the batch early."""
        queue = self._queue
        task_runs: dict[UUID, TaskRunRecord] = {}
        logs: list[LogRecord] = []
        then = None
        while queue and len(task_runs) + len(logs) < self._most:
            entry = queue.popleft()
            if isinstance(entry, TaskRunRecord):
                earlier = task_runs.get(entry.id)
                if earlier is not None and earlier is not entry:
                    entry.states = earlier.states + entry.states
                task_runs[entry.id] = entry
            elif isinstance(entry, LogRecord):
                logs.append(entry)
            else:
                then = entry
                break
        if not task_runs and not logs:
            return None, then
        return Records(task_runs=list(task_runs.values()), logs=logs), then

    def _end_with(self, records: Records, mark: _Mark) -> bool:
        """Store the last records of a flow run with its final state; False when each has to go its own way."""
        if mark.proposed is None or self._spool.waiting or self._slow:
            return False
        try:
            client = connected(self._connect)
            if client.local:
                mark.answer = deliver_with_proposal(client, records, mark.proposed, self._folder / "set-aside")
        except Exception:  # noqa: BLE001  nothing was done; on its own way each of them meets what is wrong again
            return False
        return mark.answer is not None

    def _hand_on(self, item: Records | ProposedState) -> None:
        if not self._spool.waiting and not self._slow:
            began = time.monotonic()
            try:
                client = connected(self._connect)
                if client.local:
                    deliver(client, item, self._folder / "set-aside")
                    self._slow = time.monotonic() - began > SLOW
                    return
            except NotNow:  # the sender tries again, and says so
                pass
        self._slow = False
        self._to_spool(item)

    def _to_spool(self, item: Records | ProposedState) -> None:
        for line in lines_of(item, self._folder / "set-aside"):
            while not self._fits(line) and not self._closing:
                logger.warning("The spool has reached its limit of %s bytes: the flow waits.", self._limit)
                self._sender.wait_until(partial(self._fits, line), 10.0)
            while not self._append(line):
                if self._closing:
                    return
                self._sender.wait_until(lambda: self._closing, 1.0)
        self._sender.wake()

    def _fits(self, line: bytes) -> bool:
        return not self._spool.waiting or self._spool.waiting + len(line) <= self._limit

    def _append(self, line: bytes) -> bool:
        try:
            self._spool.append(line)
        except OSError as error:
            logger.warning("The spool in %s cannot be written: the flow waits. %s", self._folder, error)
            return False
        return True

    def _connect(self) -> Caller:
        return self._given or get_client()  # asked each time: a server may have started or ended

    def _after_fork(self) -> None:
        self._spool.abandon()
        self._start_clean()


def _deliver_leftovers() -> None:
    try:
        deliver_leftovers(get_client())
    except (HeadraceError, OSError) as error:
        logger.warning("Records of an earlier process cannot be delivered now: %s", error)


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()
_current: Recorder | None = None
_making = threading.Lock()


def current() -> Recorder:
    """The recorder of this process, made at the first call; with it, logging is set up."""
    global _current
    if _current is None:
        with _making:
            if _current is None:
                ensure_logging_setup()
                _current = Recorder()
                atexit.register(_current.close)
                if spool.has_files(spool_folder()):
                    threading.Thread(target=_deliver_leftovers, name="headrace-leftovers", daemon=True).start()
    return _current


def log(record: LogRecord) -> None:
    """Report a log line to the recorder of this process."""
    current().log(record)


set_api_log_sink(log)


def reset() -> None:
    """Close the recorder of this process, so that the next call of `current` makes one for the client then active."""
    global _current
    recorder, _current = _current, None
    if recorder is not None:
        atexit.unregister(recorder.close)
        recorder.close()


def _after_fork() -> None:
    """The records of the parent are the parent's; the child starts with none, and with its own threads and file."""
    global _current, _making
    _making = threading.Lock()
    if _current is not None:
        atexit.unregister(_current.close)
    _current = None
    for recorder in list(_recorders):
        recorder._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
