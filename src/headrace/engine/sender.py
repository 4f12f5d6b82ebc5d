"""The sender: the thread of the recorder that gives the lines of the spool to the API, in their order.  # G11"""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from headrace.engine import spool
from headrace.engine.delivery import Caller, NotNow, connected, deliver
from headrace.engine.spool import Spool

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds
TRIES = 5

logger = logging.getLogger("headrace.recorder")


class Sender:
    """Delivers what stands in a spool.

    Args:
        spool: the spool of this process.
        connect: gives the client.
        aside: folder for what the API refuses for good.
    """

    def __init__(self, spool: Spool, connect: Callable[[], Caller], aside: Path) -> None:
        self._spool, self._connect, self._aside = spool, connect, aside
        self.thread: threading.Thread | None = None
        self.failing = False
        self._to_send, self._pause = threading.Event(), threading.Event()
        self._progress = threading.Condition()
        self._waiting: deque[tuple[int, threading.Event]] = deque()
        self._stopping = False

    def wake(self) -> None:
        """There is something to send."""
        if self.thread is None and not self._stopping:
            thread = threading.Thread(target=self._run, name="headrace-sender", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down: it stays in the spool
                return
            self.thread = thread
        self._to_send.set()

    def hurry(self) -> None:
        """Somebody waits: end the pause after a failure."""
        self._pause.set()

    def notify(self, position: int, event: threading.Event) -> None:
        """Set `event` once the spool is acknowledged up to `position`."""
        with self._progress:
            if self._spool.acknowledged >= position:
                event.set()
            else:
                self._waiting.append((position, event))

    def wait_until(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait until `condition` holds, which is looked at after each delivery, at most `timeout` seconds."""
        self.wake()
        with self._progress:
            self._progress.wait_for(lambda: self._stopping or condition(), timeout)

    def stop(self, timeout: float) -> None:
        """End the thread, at most `timeout` seconds later; what is not sent stays in the spool."""
        self._stopping = True
        self._to_send.set()
        self._pause.set()
        with self._progress:
            self._progress.notify_all()
        if self.thread is not None:
            self.thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping:
            self._to_send.wait()
            self._to_send.clear()
            while not self._stopping and (line := self._spool.next_line()) is not None:
                if self._send(line):
                    self._acknowledge(line)

    def _acknowledge(self, line: bytes) -> None:
        with self._progress:
            position = self._spool.acknowledge(line)
            while self._waiting and self._waiting[0][0] <= position:
                self._waiting.popleft()[1].set()
            self._progress.notify_all()

    def _send(self, line: bytes) -> bool:
        """Deliver one line, however long it takes; False when the sender is stopped before."""
        item = spool.read_line(line)
        if item is None:
            logger.warning("A damaged line in the spool is left out: %.80r", line)
            return True
        pause, surprises = FIRST_PAUSE, 0
        while not self._stopping:
            try:
                client = connected(self._connect)
                if isinstance(item, msgspec.Raw) and client.local:
                    item = spool.decode_records(item)
                deliver(client, item, self._aside, patient=surprises < TRIES)
            except NotNow as trouble:
                surprises += not trouble.certain
                self._say(trouble)
                self._pause.wait(trouble.delay or pause * random.uniform(0.5, 1.0))
                self._pause.clear()
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self._say(None)
                return True
        return False

    def _say(self, trouble: NotNow | None) -> None:
        """Tell once when the API goes away, and once when it is back."""
        if trouble is not None and not self.failing:
            logger.warning("The API takes no records now (%s). They are kept in the spool and sent later.", trouble)
        elif trouble is None and self.failing:
            logger.warning("The API takes records again.")
        self.failing = trouble is not None
