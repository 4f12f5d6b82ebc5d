"""A server of several processes that share its address, so that it answers calls on several cores.

One process holds the address and does nothing else but look after the others, which it forks: it starts one anew that
has died, and ends all when it is told to end. They end by themselves when it dies, however it dies. The first of them
runs the services as well, and tells the others how these are.
"""

import logging
import mmap
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from headrace.exceptions import HeadraceError
from headrace.server.events.exchange import Exchange

logger = logging.getLogger("headrace.server")

PAUSE = 1.0
"""Seconds before a process is started anew that has lived for less."""
PATIENCE = 15.0
"""Seconds after which those are killed that were told to end."""
SILENCE = 15.0
"""The services count as ill when nothing was heard of them for so many seconds.  # G15"""
_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT) if hasattr(signal, "SIGCHLD") else ()


class CannotShare(HeadraceError):
    """This system cannot have several processes share an address, or they do not stay alive."""


class Board:
    """What ails the services, written by the process that runs them and read by the others.

    Memory that is made before the processes are forked, and that they share.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def write(self, problems: list[str]) -> None:
        """Say what ails them at this moment; what is too much is left out."""
        for count in range(len(problems), -1, -1):
            text = msgspec.json.encode((time.monotonic(), problems[:count]))
            if len(text) <= mmap.PAGESIZE:
                self._memory[:] = text.ljust(mmap.PAGESIZE)
                return

    def read(self) -> list[str]:
        """What ails them, or that nobody says so."""
        for _ in range(3):  # it may just be written
            with suppress(msgspec.DecodeError):
                moment, problems = msgspec.json.decode(self._memory[:], type=tuple[float, list[str]])
                silent = time.monotonic() - moment
                return problems if silent < SILENCE else [f"the services have not been heard of for {silent:.0f} s"]
        return ["the services have not been heard of"]


@dataclass
class Place:
    """The place of a process in its family.

    Args:
        number: which of the processes it is; 0 runs the services.
        tells: a file descriptor that leads to the one that looks after it.
        exchange: by which it tells the others what may be worth looking at.
        board: where it is said what ails the services.
    """

    number: int
    tells: int
    exchange: Exchange
    board: Board

    def ready(self) -> None:
        """Tell that this process answers calls."""
        os.write(self.tells, bytes([self.number]))


def look_after(count: int, work: Callable[[Place], None], ready: Callable[[], None]) -> None:
    """Have several processes do the same work, until SIGINT or SIGTERM.

    Args:
        count: how many.
        work: what each does, in a process of its own, until SIGTERM.
        ready: called once, when all of them answer calls.

    Raises:
        CannotShare: this system has no `fork`, or a process dies as soon as it begins.
    """
    if not hasattr(os, "fork"):
        raise CannotShare("This system cannot fork processes: leave --workers at 1.")
    with _woken() as wakes:
        _Family(count, work, wakes).run(ready)


@contextmanager
def _woken() -> Iterator[int]:
    """A file descriptor on which the number of each signal arrives; they do nothing else meanwhile."""
    wakes, tells = os.pipe()
    for end in (wakes, tells):
        os.set_blocking(end, False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    before = signal.set_wakeup_fd(tells)
    try:
        yield wakes
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(wakes)
        os.close(tells)


class _Family:
    def __init__(self, count: int, work: Callable[[Place], None], wakes: int) -> None:
        self._work, self._wakes = work, wakes
        self._exchange, self._board = Exchange(count), Board()
        self._life = os.pipe()  # nobody writes: its other end closes when this process dies
        self._hears, self._tells = os.pipe()
        self._waited_for = set(range(count))
        """Those that have never been ready."""
        self._alive: dict[int, tuple[int, float]] = {}
        """By process: its number and when it was started."""

    def run(self, ready: Callable[[], None]) -> None:
        for number in tuple(self._waited_for):
            self._start(number)
        try:
            while True:
                readable, _, _ = select.select([self._wakes, self._hears], [], [])
                if self._hears in readable:
                    self._have_told(set(os.read(self._hears, 256)), ready)
                if self._wakes in readable and {signal.SIGTERM, signal.SIGINT} & set(os.read(self._wakes, 256)):
                    return
                self._replace_the_dead()
        finally:
            self._end()

    def _have_told(self, numbers: set[int], ready: Callable[[], None]) -> None:
        if self._waited_for:
            self._waited_for -= numbers
            if not self._waited_for:
                ready()

    def _start(self, number: int) -> None:
        pid = os.fork()
        if pid == 0:
            self._live(number)
        self._alive[pid] = number, time.monotonic()

    def _live(self, number: int) -> NoReturn:
        """Be a process of the family; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            os.close(self._life[1])
            threading.Thread(target=self._end_with_parent, name="headrace-family", daemon=True).start()
            self._exchange.join(number)
            self._work(Place(number, self._tells, self._exchange, self._board))
            code = 0
        except BaseException:
            logger.exception("A process of the server failed.")
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)  # what was registered to be done at an exit is the parent's

    def _end_with_parent(self) -> None:
        os.read(self._life[0], 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _replace_the_dead(self) -> None:
        for pid, code in self._dead():
            number, started = self._alive.pop(pid)
            if number in self._waited_for:
                raise CannotShare(
                    f"A process of the server ended as soon as it began ({_how(code)}); see its messages."
                )
            logger.error("Process %d of the server died (%s), and is started anew.", pid, _how(code))
            time.sleep(PAUSE if time.monotonic() - started < PAUSE else 0)
            self._start(number)

    def _dead(self) -> Iterator[tuple[int, int]]:
        for pid in tuple(self._alive):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                yield pid, os.waitstatus_to_exitcode(status)

    def _end(self) -> None:
        """End all, by force those that take too long."""
        for how, seconds in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, PATIENCE)):
            for pid in self._alive:
                os.kill(pid, how)
            deadline = time.monotonic() + seconds
            while self._alive and time.monotonic() < deadline:
                for pid, _ in self._dead():
                    del self._alive[pid]
                select.select([self._wakes], [], [], 0.2)
                with suppress(BlockingIOError):
                    os.read(self._wakes, 256)
        self._exchange.close()
        for end in (*self._life, self._hears, self._tells):
            os.close(end)


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
