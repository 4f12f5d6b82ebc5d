"""Quick reads of SQLite take turns in one thread; slow ones get threads of their own.

Threads that read at the same time fight over Python's lock, for SQLite lets go of it in every call. Measured with 8
clients that read one flow run each: six threads, 18 context switches a read and 4 100 reads a second; one thread,
5 switches and 5 300. But one thread alone would make all wait for a slow query. So a read that finds the lane blocked
for `SLOW` seconds goes to the store's threads, and so do those that wait behind the one that blocks it.

PostgreSQL's reads wait for the network, not for Python's lock: they always go to the store's threads.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from headrace.server.store.transaction import Store, Tx

ResultT = TypeVar("ResultT")
SLOW = 0.005
"""Seconds after which a read is no quick one."""
BATCH = 8
"""So many results at most are handed over with one wake-up of the event loop."""
IDLE = 30.0
"""Seconds without a read after which the thread ends; the next read starts another."""

Step = Callable[[Tx], Any]
Waiting = tuple[Step, "asyncio.Future[Any]"]
Finished = tuple["asyncio.Future[Any]", Any, BaseException | None]


class ReadLane:
    """Reads of one event loop.

    Args:
        store: what to read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: SimpleQueue[Waiting] = SimpleQueue()
        self._finished: deque[Finished] = deque()
        self._sent_round: set[asyncio.Task[None]] = set()
        self._starting = threading.Lock()
        self._runs = False
        self._watched = False
        self._began: float | None = None
        """When the read that is under way began."""
        self._takes_turns = store.read(lambda tx: tx.dialect) == "sqlite"

    async def read(self, function: Callable[[Tx], ResultT]) -> ResultT:
        """Run `function` in a reading transaction and return its result."""
        if not self._takes_turns or self._is_blocked():
            return await self._store.read_soon(function)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()
        with self._starting:
            self._waiting.put((function, future))
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._work, args=(loop,), name="headrace-read-lane", daemon=True).start()
        if not self._watched:
            self._watched = True
            loop.call_later(SLOW, self._watch, loop)
        return await future

    def _is_blocked(self) -> bool:
        began = self._began
        return began is not None and time.monotonic() - began > SLOW

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Free those that wait behind a slow read, and those that were done before it."""
        if self._is_blocked():
            self._hand_over()
            while (waiting := self._next()) is not None:
                task = loop.create_task(self._send_round(*waiting))
                self._sent_round.add(task)
                task.add_done_callback(self._sent_round.discard)
        self._watched = self._began is not None or not self._waiting.empty()
        if self._watched:
            loop.call_later(SLOW, self._watch, loop)

    async def _send_round(self, function: Step, future: "asyncio.Future[Any]") -> None:
        try:
            _settle(future, await self._store.read_soon(function), None)
        except Exception as error:  # noqa: BLE001  it belongs to the caller
            _settle(future, None, error)

    def _next(self) -> Waiting | None:
        try:
            return self._waiting.get_nowait()
        except Empty:
            return None

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                waiting: Waiting | None = self._waiting.get(timeout=IDLE)
            except Empty:
                with self._starting:
                    if self._waiting.empty():
                        self._runs = False
                        return
                continue
            while waiting is not None:
                self._finished.append(self._carry_out(*waiting))
                waiting = self._next() if len(self._finished) < BATCH else None
            self._began = None
            try:
                loop.call_soon_threadsafe(self._hand_over)
            except RuntimeError:  # the loop was closed, and with it all who wait
                return

    def _hand_over(self) -> None:
        """Give the results there are to their callers; called in the loop."""
        while self._finished:
            _settle(*self._finished.popleft())

    def _carry_out(self, function: Step, future: "asyncio.Future[Any]") -> Finished:
        self._began = time.monotonic()
        try:
            return future, self._store.read(function), None
        except Exception as error:  # noqa: BLE001  it belongs to the caller
            return future, None, error


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():  # its caller was cancelled meanwhile
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
