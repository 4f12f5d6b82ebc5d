"""Starting processes for flow runs: through a template process where there is `fork`, else one by one.

A launcher does what it is told and reports what happens, from a thread of its own; it knows nothing of the API.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from headrace.runner.protocol import Ended, Order, Report, Signal, Start, Started, Stop, line_of, reports
from headrace.settings import settings_environment

ENGINE = [sys.executable, "-m", "headrace.engine"]
TEMPLATE_DIED = "the process it was forked from died"
CLOSE_SECONDS = 10.0
Listener = Callable[[Report], None]


class Launcher(Protocol):
    """Starts the processes of flow runs."""

    def start(self, order: Start) -> None:
        """Start a process; `Started` and `Ended` are reported."""
        ...

    def signal(self, run_id: UUID, number: int, *, group: bool = False) -> None:
        """Send a signal to a run's process, or with `group` to all it has started too."""
        ...

    def close(self) -> None:
        """Let go; processes that still run are ended."""
        ...


def make_launcher(listener: Listener) -> Launcher:
    """The launcher for this platform.

    Args:
        listener: called with each report, from another thread.
    """
    return TemplateLauncher(listener) if hasattr(os, "fork") else PlainLauncher(listener)


class TemplateLauncher:
    """Starts processes through a template; see `headrace.runner.template`.

    Args:
        listener: called with each report, from another thread.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.RLock()
        self._alive: dict[UUID, int] = {}  # 0 until the process is reported as started
        self._closed = False
        self._open()

    def _open(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "headrace.runner.template", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **settings_environment()},
                start_new_session=True,
            )
        self._connection = ours
        thread = threading.Thread(target=self._listen, args=(ours,), name="headrace-template", daemon=True)
        thread.start()

    def start(self, order: Start) -> None:
        """Start a process; `Started` and `Ended` are reported."""
        with self._lock:
            self._alive[order.id] = 0
        self._send(order)

    def signal(self, run_id: UUID, number: int, *, group: bool = False) -> None:
        """Send a signal to a run's process, or with `group` to all it has started too."""
        self._send(Signal(run_id, number, group))

    def close(self) -> None:
        """Let go; processes that still run are ended by the template, as when this process died."""
        with self._lock:
            self._closed = True
            done = not self._alive
        if done:
            self._send(Stop())
        else:
            self._connection.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:  # it is stuck; what it has forked goes with it
            self._process.kill()
            self._process.wait()
        self._connection.close()

    def _send(self, order: Order) -> None:
        # When the template is dead this fails, or is lost: the listener, which sees the end of the socket, reports it.
        with contextlib.suppress(OSError):
            self._connection.sendall(line_of(order))

    def _listen(self, connection: socket.socket) -> None:
        heard = b""
        while True:
            try:
                data = connection.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                break
            *lines, heard = (heard + data).split(b"\n")
            for line in lines:
                self._note(reports.decode(line))
        self._replace(connection)

    def _note(self, report: Report) -> None:
        with self._lock:
            if isinstance(report, Started):
                self._alive[report.id] = report.pid
            elif isinstance(report, Ended):
                self._alive.pop(report.id, None)
        self._listener(report)

    def _replace(self, connection: socket.socket) -> None:
        """The template has died: what it forked is ended, and a new one is started."""
        with self._lock:
            if self._closed:
                return
            self._process.wait()
            connection.close()
            lost, self._alive = self._alive, {}
            for pid in filter(None, lost.values()):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            self._open()
        for run_id, pid in lost.items():
            self._listener(Ended(run_id, -signal.SIGKILL, pid, error=TEMPLATE_DIED))


class PlainLauncher:
    """Starts each process anew, with a fresh interpreter: where there is no `fork`.

    Args:
        listener: called with each report, from other threads.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._processes: dict[UUID, subprocess.Popen[bytes]] = {}

    def start(self, order: Start) -> None:
        """Start a process; `Started` and `Ended` are reported."""
        environment = {**os.environ, **settings_environment()}
        for name, value in order.environment.items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
        output = subprocess.DEVNULL if order.quiet else None
        try:
            process = subprocess.Popen(
                order.command or ENGINE,
                cwd=order.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        except OSError as error:
            self._listener(
                Ended(order.id, 127, error=f"{(order.command or ENGINE)[0]!r} cannot be run: {error.strerror}")
            )
            return
        self._processes[order.id] = process
        self._listener(Started(order.id, process.pid))
        threading.Thread(target=self._wait, args=(order.id, process), daemon=True).start()

    def _wait(self, run_id: UUID, process: "subprocess.Popen[bytes]") -> None:
        code = process.wait()
        self._processes.pop(run_id, None)
        self._listener(Ended(run_id, code, process.pid))

    def signal(self, run_id: UUID, number: int, *, group: bool = False) -> None:
        """Send a signal to a run's process; its own children cannot be told."""
        del group
        process = self._processes.get(run_id)
        if process is not None:
            process.send_signal(number)

    def close(self) -> None:
        """End what still runs."""
        for process in list(self._processes.values()):
            process.kill()
            process.wait()
