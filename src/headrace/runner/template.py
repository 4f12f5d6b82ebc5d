"""The template: a process that has imported the engine, and forks one child for each flow run.

A fresh interpreter takes some tenths of a second to import headrace and what a flow needs; a fork takes milliseconds.
For a fork to be safe the template has one thread, no connections and no open database: it imports, waits for orders
on its socket, forks, and reports what became of its children. Nothing else ever runs in it.

A flow's own packages (pandas, ...) take longer still. So the first run of a kind tells, when it ends, which packages
it has imported, and the template forks a specialist: a template of its own that imports these and serves the later
runs of that kind. Orders go to it through the template it came from, and so do its reports. One that is not fit to
fork after its imports, because they have started threads or opened sockets, ends, and its kind is served as before.

Who dies with whom:  # G6
- The worker dies: the socket ends; the template ends its children (TERM, then KILL), its specialists likewise, and
  itself.
- The template dies: the kernel sends TERM to its children (Linux), its specialists see their sockets end, and the
  worker kills the process groups it knows and starts a new template.
- A child dies: the template reaps it and reports its exit code or signal.

Run as `python -m headrace.runner.template FD`, FD being the socket's file descriptor.
"""

import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from uuid import UUID

import msgspec

from headrace.engine.parameters import ParameterValidator
from headrace.engine.signature import FunctionSignature
from headrace.runner import child
from headrace.runner.packages import MOST, fit_to_fork, import_all
from headrace.runner.protocol import Ended, Order, Ready, Report, Signal, Start, Started, Stop, line_of, orders
from headrace.runner.specialists import Specialists, Specialty
from headrace.settings import get_settings

IMPORTED_AHEAD = (
    "headrace.flows",
    "headrace.tasks",
    "headrace.task_runners",
    "headrace.engine.entry",
    "headrace.client.http",
    "headrace.deployments.steps",
    "cloudpickle",
    "encodings.idna",
    "pydantic.json_schema",
    "pydantic.main",
    "zoneinfo",
    "concurrent.futures.thread",
    "asyncio",
)
GRACE = 3.0
"""Seconds that children have to end once the worker is gone."""
NOT_STARTED = 125
UNFIT = 3


@dataclass(slots=True)
class Forked:
    """A child: what it was to do, and the pipe on which it tells what it has imported."""

    order: Start
    tells: int | None = None


class Template:
    """The loop of a template process.

    Args:
        connection: the socket to the launcher, or of a specialist to its template.
        specialises: it may make specialists.
    """

    def __init__(self, connection: socket.socket, *, specialises: bool) -> None:
        self._connection = connection
        self._children: dict[int, Forked] = {}
        self._pids: dict[UUID, int] = {}
        self._heard = b""
        self._stopping = False
        self._specialists = Specialists() if specialises else None
        self._imported = frozenset(sys.modules)

    def serve(self) -> Start | Specialty | None:
        """Carry out orders until the launcher says stop or is gone.

        Returns:
            None in the template itself; in a process forked from it, what that has to become.
        """
        woken, wakes = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wakes, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the launcher decides when the template ends
        self._report(Ready(os.getpid()))
        mine = self._loop(woken)
        signal.set_wakeup_fd(-1)
        os.close(woken)
        os.close(wakes)
        return mine

    def _loop(self, woken: int) -> Start | Specialty | None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            if self._specialists is not None:
                self._specialists.selector = selector
            while not (self._stopping and not self._children and not self._busy_specialists()):
                for key, _ in selector.select():
                    mine: Start | Specialty | None = None
                    if key.fileobj is self._connection:
                        mine = self._listen()
                    elif key.fileobj == woken:
                        with contextlib.suppress(BlockingIOError):
                            os.read(woken, 4096)
                        mine = self._reap()
                    elif self._specialists is not None:
                        for report in self._specialists.listen(key.data):
                            self._report(report)
                    if mine is not None:
                        return mine
        if self._specialists is not None:
            self._specialists.close()
        return None

    def _busy_specialists(self) -> bool:
        return self._specialists is not None and self._specialists.busy

    def _listen(self) -> Start | None:
        try:
            data = self._connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._end_all()
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            try:
                order: Order = orders.decode(line)
            except msgspec.MsgspecError as error:
                sys.stderr.write(f"The template of a worker got an order it does not understand: {error}\n")
                continue
            if isinstance(order, Stop):
                self._stopping = True
            elif self._specialists is not None and self._specialists.take(order, line):
                continue
            elif isinstance(order, Signal):
                self._send(order)
            elif (mine := self._fork(order)) is not None:
                return mine
        return None

    def _fork(self, order: Start) -> Start | None:
        """Fork a child; returns its order in the child, None in the template."""
        parent = os.getpid()
        learns = self._specialists is not None and order.command is None and self._specialists.wants(order.kind)
        pipe = os.pipe() if learns else None
        try:
            pid = os.fork()
        except OSError as error:
            self._report(Ended(order.id, NOT_STARTED, error=f"no process could be made: {error.strerror}"))
            return None
        if pid:
            if pipe is not None:
                os.close(pipe[1])
            self._children[pid] = Forked(order, pipe[0] if pipe else None)
            self._pids[order.id] = pid
            self._report(Started(order.id, pid))
            return None
        self._let_go()
        child.tells_imports = (pipe[1], self._imported) if pipe else None
        try:
            child.become(order, parent)
        except OSError as error:
            os.write(2, f"The run's process could not be set up: {error}\n".encode())
            os._exit(child.NOT_RUN)
        if order.command is not None:
            child.execute(order)
        return order

    def _let_go(self) -> None:
        """In a forked process: close what belongs to the template, so that its end can be seen by others."""
        self._connection.close()
        if self._specialists is not None:
            self._specialists.let_go()
        for other in self._children.values():
            if other.tells is not None:
                os.close(other.tells)

    def _send(self, order: Signal) -> None:
        pid = self._pids.get(order.id)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                (os.killpg if order.group else os.kill)(pid, order.number)

    def _reap(self) -> Specialty | None:
        """Take in what has ended; returns, in a process forked for it, the specialty a child's imports call for."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if not pid:
                return None
            code, ended = os.waitstatus_to_exitcode(status), self._children.pop(pid, None)
            if ended is None:
                if self._specialists is not None:
                    for report in self._specialists.has_ended(pid, unfit=code == UNFIT):
                        self._report(report)
                continue
            del self._pids[ended.order.id]
            self._report(Ended(ended.order.id, code, pid))
            if ended.tells is not None and (mine := self._learn(ended)) is not None:
                return mine

    def _learn(self, ended: Forked) -> Specialty | None:
        assert ended.tells is not None
        assert self._specialists is not None
        os.set_blocking(ended.tells, False)
        try:
            names = os.read(ended.tells, MOST).decode().split()
        except BlockingIOError:  # a process that the run has left behind holds the pipe
            names = []
        os.close(ended.tells)
        mine = self._specialists.make(ended.order, names)
        if mine is not None:
            self._let_go()
        return mine

    def _report(self, report: Report) -> None:
        try:
            self._connection.sendall(line_of(report))
        except OSError:
            self._end_all()

    def _end_all(self) -> None:
        """The launcher is gone: end all children, and then ourselves."""
        if self._specialists is not None:
            self._specialists.close()
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        ends = time.monotonic() + GRACE
        while self._children and time.monotonic() < ends:
            for pid in list(self._children):
                with contextlib.suppress(ChildProcessError):
                    if os.waitpid(pid, os.WNOHANG)[0]:
                        del self._children[pid]
            time.sleep(0.02)
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        os._exit(0)


def _nothing(*_: object) -> None:
    """A handler must exist for a signal to wake the selector."""


def _sample(number: float) -> float:
    return number


def warm_up() -> None:
    """Do what the first run of a process does and later ones find done: import, and fill caches."""
    import_all(IMPORTED_AHEAD)
    ParameterValidator(FunctionSignature(_sample))({"number": "1"})
    get_settings()


def main() -> int:
    """The program of a template process, and of all that is forked from it."""
    warm_up()
    template = Template(socket.socket(fileno=int(sys.argv[1])), specialises=True)
    while True:
        gc.collect()
        gc.freeze()  # what is imported stays shared with the children: the collector does not touch it
        mine = template.serve()
        if mine is None:
            return 0
        if isinstance(mine, Start):
            return child.run()
        child.die_with_parent(mine.parent)
        child.set_environment(mine.environment)
        import_all(mine.modules)
        if not fit_to_fork():
            return UNFIT
        template = Template(mine.connection, specialises=False)


if __name__ == "__main__":
    sys.exit(main())
