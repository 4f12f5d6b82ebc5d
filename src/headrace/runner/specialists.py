"""Specialists: templates that have also imported the packages of one kind of run. See `headrace.runner.template`.

Here is the template's side: which kinds have one, which orders go there, and what they report.
"""

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from headrace.runner.packages import stamp
from headrace.runner.protocol import Ended, Order, Ready, Report, Signal, Start, Started, Stop, line_of, reports

MOST = 8
"""Specialists at the same time; the one that has been idle longest gives way."""
DIED = "the process it was forked from died"
WORTH_IT = 5
"""Modules that must be gained by a specialist."""


@dataclass(frozen=True, slots=True)
class Specialty:
    """What a process forked from the template becomes: a specialist.

    Args:
        connection: its socket to the template.
        modules: what it imports.
        environment: of its kind of runs; what is imported may read it.
        parent: the template.
    """

    connection: socket.socket
    modules: list[str]
    environment: dict[str, str | None]
    parent: int


@dataclass(slots=True)
class Specialist:
    """A specialist, as its template sees it."""

    kind: str
    pid: int
    connection: socket.socket
    ready: bool = False
    used: float = 0.0
    heard: bytes = b""
    runs: dict[UUID, int] = field(default_factory=dict)


class Specialists:
    """The specialists of a template."""

    def __init__(self) -> None:
        self.selector: selectors.BaseSelector | None = None
        self._by_kind: dict[str, Specialist] = {}
        self._by_run: dict[UUID, Specialist] = {}
        self._leaving: dict[int, Specialist] = {}
        self._unfit: set[str] = set()
        self._stamp = stamp()

    @property
    def busy(self) -> bool:
        """Whether runs of specialists are still going on."""
        return bool(self._by_run)

    def wants(self, kind: str) -> bool:
        """Whether a run of this kind should tell what it imports."""
        return bool(kind) and kind not in self._by_kind and kind not in self._unfit

    def take(self, order: Order, line: bytes) -> bool:
        """Pass an order on to the specialist whose it is; False when it is the template's own."""
        if isinstance(order, Signal):
            specialist: Specialist | None = self._by_run.get(order.id)
        elif isinstance(order, Start) and order.command is None:
            specialist = self._fitting(order.kind)
        else:
            specialist = None
        if specialist is None:
            return False
        try:
            specialist.connection.sendall(line + b"\n")
        except OSError:  # it has just died: its end is taken in when it is reaped
            return False
        if isinstance(order, Start):
            specialist.used = time.monotonic()
            specialist.runs[order.id] = 0
            self._by_run[order.id] = specialist
        return True

    def _fitting(self, kind: str) -> Specialist | None:
        if (now := stamp()) != self._stamp:  # packages were installed or removed: all is learnt anew
            self._stamp = now
            self._unfit.clear()
            for outdated in list(self._by_kind.values()):
                self._retire(outdated)
        specialist = self._by_kind.get(kind)
        return specialist if specialist is not None and specialist.ready else None

    def make(self, order: Start, modules: list[str]) -> Specialty | None:
        """Fork a specialist; returns, in the new process, what it has to become, and None in the template.

        Args:
            order: a run of the kind, which has ended.
            modules: what it has imported.
        """
        if not self.wants(order.kind):
            return None
        if len(modules) < WORTH_IT:
            self._unfit.add(order.kind)
            return None
        if len(self._by_kind) >= MOST:
            self._retire(min(self._by_kind.values(), key=lambda one: one.used))
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            ours.close()
            return Specialty(theirs, modules, environment_of_kind(order), parent)
        theirs.close()
        specialist = Specialist(order.kind, pid, ours, used=time.monotonic())
        self._by_kind[order.kind] = specialist
        if self.selector is not None:
            self.selector.register(ours, selectors.EVENT_READ, specialist)
        return None

    def listen(self, specialist: Specialist) -> Iterator[Report]:
        """What a specialist reports, to be passed on."""
        try:
            data = specialist.connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._unregister(specialist)
            return
        *lines, specialist.heard = (specialist.heard + data).split(b"\n")
        for line in lines:
            report: Report = reports.decode(line)
            if isinstance(report, Ready):
                specialist.ready = True
                continue
            if isinstance(report, Started):
                specialist.runs[report.id] = report.pid
            elif isinstance(report, Ended):
                specialist.runs.pop(report.id, None)
                self._by_run.pop(report.id, None)
            yield report

    def has_ended(self, pid: int, *, unfit: bool) -> list[Report]:
        """A specialist's process has ended; its runs, if any, are ended with it.

        Args:
            pid: of the process.
            unfit: it found that it cannot be forked; its kind is not tried again.
        """
        specialist = next((one for one in self._by_kind.values() if one.pid == pid), self._leaving.get(pid))
        if specialist is None:
            return []
        self._leaving.pop(pid, None)
        if self._by_kind.get(specialist.kind) is specialist:
            del self._by_kind[specialist.kind]
        if unfit:
            self._unfit.add(specialist.kind)
        rest = list(self.listen(specialist)) if specialist.connection.fileno() >= 0 else []
        self._unregister(specialist)
        for run_id, run in specialist.runs.items():
            self._by_run.pop(run_id, None)
            if run:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(run, signal.SIGKILL)
        return [*rest, *(Ended(run_id, -9, run, error=DIED) for run_id, run in specialist.runs.items())]

    def _retire(self, specialist: Specialist) -> None:
        """Have it end when its runs have ended, and give it no more."""
        del self._by_kind[specialist.kind]
        self._leaving[specialist.pid] = specialist
        with contextlib.suppress(OSError):
            specialist.connection.sendall(line_of(Stop()))

    def _unregister(self, specialist: Specialist) -> None:
        if specialist.connection.fileno() >= 0:
            if self.selector is not None:
                self.selector.unregister(specialist.connection)
            specialist.connection.close()

    def let_go(self) -> None:
        """In a forked process: close the sockets, which are the template's."""
        for specialist in (*self._by_kind.values(), *self._leaving.values()):
            specialist.connection.close()

    def close(self) -> None:
        """Let all specialists end; their sockets end with this."""
        for specialist in (*self._by_kind.values(), *self._leaving.values()):
            specialist.connection.close()


def environment_of_kind(order: Start) -> dict[str, str | None]:
    """The variables of an order that all runs of its kind have: not those that name the run."""
    return {name: value for name, value in order.environment.items() if "__" not in name}


def kind_of(place: str, environment: dict[str, str | None]) -> str:
    """The kind of a run: the same flow with the same variables.

    Args:
        place: names the flow and its code.
        environment: variables of the job.
    """
    return f"{place}|{sorted(environment.items(), key=repr)!r}"
