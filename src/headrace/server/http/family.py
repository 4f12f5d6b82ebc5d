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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import msgspec

from headrace.exceptions import HeadraceError
from headrace.server.events.exchange import Exchange

logger = logging.getLogger("headrace.server")

PAUSE = 1.0
"""Seconds between two starts of the same process at least."""
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


class _Dead(NamedTuple):
    pid: int
    code: int
    number: int
    started: float

    @property
    def how(self) -> str:
        """What it died of."""
        return f"exit code {self.code}" if self.code >= 0 else f"signal {-self.code}: {signal.strsignal(-self.code)}"


class _Family:
    def __init__(self, count: int, work: Callable[[Place], None], wakes: int) -> None:
        self._work, self._wakes = work, wakes
        self._exchange, self._board = Exchange(count), Board()
        self._life = os.pipe()  # nobody writes: its other end closes when this process dies
        self._hears, self._tells = os.pipe()
        os.set_blocking(self._hears, False)
        self._waited_for = set(range(count))
        """Those that have never been ready."""
        self._alive: dict[int, tuple[int, float]] = {}
        """By process: its number and when it was started."""
        self._vacant = dict.fromkeys(range(count), 0.0)
        """By number: when a process is to be started."""

    def run(self, ready: Callable[[], None]) -> None:
        try:
            while True:
                self._fill_vacancies()
                pause = max(min(self._vacant.values()) - time.monotonic(), 0) if self._vacant else None
                select.select([self._wakes, self._hears], [], [], pause)
                signals, dead = _read(self._wakes), self._reap()  # in this order: whoever dies later wakes us again
                self._have_told(_read(self._hears), ready)  # the dead too, before they died
                if {signal.SIGTERM, signal.SIGINT} & signals:
                    return
                self._note(dead)
        finally:
            self._end()

    def _have_told(self, numbers: set[int], ready: Callable[[], None]) -> None:
        if self._waited_for and numbers:
            self._waited_for -= numbers
            if not self._waited_for:
                ready()

    def _fill_vacancies(self) -> None:
        for number in [number for number, due in self._vacant.items() if due <= time.monotonic()]:
            try:
                self._start(number)
            except OSError as error:  # too many processes, too little memory: it may be over soon
                if number in self._waited_for:
                    raise CannotShare(f"No process can be started: {error.strerror}.") from None
                logger.error("No process can be started: %s. It is tried again.", error.strerror)
                self._vacant[number] = time.monotonic() + PAUSE

    def _start(self, number: int) -> None:
        """Start a process; signals wait until it takes them for its own, or it would miss that it is told to end."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._live(number, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        del self._vacant[number]
        self._alive[pid] = number, time.monotonic()

    def _live(self, number: int, signals: Iterable[int]) -> NoReturn:
        """Be a process of the family, with these signals blocked; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
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
        """End with the one that looks after this process, which is not there to use force."""
        os.read(self._life[0], 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)
        os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, dead: Iterable["_Dead"]) -> None:
        for one in dead:
            if one.number in self._waited_for:
                raise CannotShare(f"A process of the server ended as soon as it began ({one.how}); see its messages.")
            logger.error("Process %d of the server died (%s), and is started anew.", one.pid, one.how)
            self._vacant[one.number] = one.started + PAUSE

    def _reap(self) -> list["_Dead"]:
        """Take those that have died off the list: their ids may soon be those of strangers."""
        found = [os.waitpid(pid, os.WNOHANG) for pid in self._alive]
        return [_Dead(pid, os.waitstatus_to_exitcode(status), *self._alive.pop(pid)) for pid, status in found if pid]

    def _end(self) -> None:
        """End all, by force those that take too long."""
        for how, seconds in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, PATIENCE)):
            for pid in self._alive:
                os.kill(pid, how)
            deadline = time.monotonic() + seconds
            while self._alive and time.monotonic() < deadline:
                self._reap()
                select.select([self._wakes], [], [], 0.2)
                _read(self._wakes)
        self._exchange.close()
        for end in (*self._life, self._hears, self._tells):
            os.close(end)


def _read(pipe: int) -> set[int]:
    """The bytes that are in a pipe that does not block."""
    with suppress(BlockingIOError):
        return set(os.read(pipe, 256))
    return set()
