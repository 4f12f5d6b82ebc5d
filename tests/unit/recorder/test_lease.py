"""Holding the leases of runs: by a process of its own, whatever this one is busy with."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from headrace._internal.ids import uuid7
from headrace.engine import lease
from headrace.settings import temporary_settings

LEASE = 0.6  # seconds; renewed every 0.2

HOLD_AND = """
import sys, time, signal
from uuid import UUID
from headrace.engine import lease

class Client:
    local = False
    url = sys.argv[1]

lease.hold(UUID(sys.argv[2]), 1, {seconds}, Client())
print("held", flush=True)
{then}
"""


class Server:
    """A server that notes renewals and answers as it is told.

    It shows `renewed` (a count) and the leases and headers of the last call.
    """

    def __init__(self) -> None:
        self.answer: dict[str, list[str]] = {"lost": [], "cancelling": []}
        self.status = 200
        self.renewed = 0
        self.leases: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.changed = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.changed:
                    outer.renewed += 1
                    outer.leases, outer.headers = body["leases"], dict(self.headers)
                    outer.path = self.path
                    outer.changed.notify_all()
                content = json.dumps(outer.answer).encode()
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/api"
        self.path = ""
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def wait(self, condition: Callable[[], bool], seconds: float = 20) -> bool:
        """Wait until a renewal makes `condition` true."""
        with self.changed:
            return self.changed.wait_for(condition, seconds)

    def next_renewal(self, seconds: float = 20) -> bool:
        """Wait for one more renewal."""
        before = self.renewed
        return self.wait(lambda: self.renewed > before, seconds)

    # as a client
    local = False

    def call(self, *_: Any, **__: Any) -> None:
        raise AssertionError("the child renews, not this process")


@pytest.fixture
def server() -> Iterator[Server]:
    """A server; afterwards no lease is held any more."""
    made = Server()
    yield made
    lease.close()
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def terminated() -> Iterator[threading.Event]:
    """Set when this process is sent SIGTERM."""
    event = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    yield event
    signal.signal(signal.SIGTERM, before)


def wait_for(event: threading.Event, seconds: float = 20) -> bool:
    """Wait in the main thread, which has to run for signals to be handled."""
    deadline = time.monotonic() + seconds
    while not event.wait(0.05) and time.monotonic() < deadline:
        continue
    return event.is_set()


def run_holding(server: Server, run: UUID, then: str) -> "subprocess.Popen[str]":
    """Another process that holds the lease of a run and then does something; returns once it holds it."""
    program = HOLD_AND.format(seconds=LEASE, then=then)
    process = subprocess.Popen([sys.executable, "-c", program, server.url, str(run)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_g6_a_held_lease_is_renewed_until_it_is_released(server: Server) -> None:
    """The lease is renewed every third of its length, with its epoch; after the release it is not named any more."""
    run, other = uuid7(), uuid7()
    lease.hold(run, 7, LEASE, server)
    assert server.wait(lambda: server.renewed >= 3)
    assert server.path == "/api/flow_runs/leases/renew"
    assert server.leases == [{"id": str(run), "epoch": 7}]

    lease.hold(other, 1, LEASE, server)
    lease.release(run)

    assert server.wait(lambda: [one["id"] for one in server.leases] == [str(other)])
    assert lease.fate(run) == lease.fate(other) == "held"


def test_g6_a_task_that_holds_the_interpreter_is_not_taken_for_dead(server: Server) -> None:
    """While C code keeps every Python thread of the process from running, its lease is renewed."""
    process = run_holding(server, uuid7(), "pow(7, 10**9, 10**9 + 7); sum(range(10**12))")
    before = server.renewed

    assert server.wait(lambda: server.renewed >= before + 6)

    process.kill()
    process.wait()


def test_g6_renewing_ends_when_the_process_dies(server: Server) -> None:
    """After a kill -9 nobody renews any more."""
    process = run_holding(server, uuid7(), "signal.pause()")
    assert server.next_renewal()

    process.kill()
    process.wait()

    server.next_renewal(LEASE / 3)  # one may have been on its way
    assert not server.next_renewal(2 * LEASE)


def test_g4_a_frozen_process_is_not_renewed(server: Server) -> None:
    """A stopped process loses its lease like a dead one; when it goes on, renewing goes on too."""
    process = run_holding(server, uuid7(), "signal.pause()")
    assert server.next_renewal()

    process.send_signal(signal.SIGSTOP)

    server.next_renewal(LEASE / 3)
    assert not server.next_renewal(2 * LEASE)
    process.send_signal(signal.SIGCONT)
    assert server.next_renewal()
    process.kill()
    process.wait()


def test_g4_a_lost_run_is_stopped(server: Server, terminated: threading.Event) -> None:
    """When another attempt has taken a run over, the process is told by SIGTERM, and can ask which run is meant."""
    run, other = uuid7(), uuid7()
    server.answer["lost"] = [str(run)]
    lease.hold(run, 1, LEASE, server)
    lease.hold(other, 1, LEASE, server)

    assert wait_for(terminated)
    assert (lease.fate(run), lease.fate(other)) == ("lost", "held")
    assert server.wait(lambda: [one["id"] for one in server.leases] == [str(other)])


def test_a_run_that_ended_just_now_is_not_taken_for_lost(server: Server, terminated: threading.Event) -> None:
    """A run that is released before it is seen lost for a second time brings no signal."""
    run = uuid7()
    server.answer["lost"] = [str(run)]
    lease.hold(run, 1, LEASE, server)
    assert server.next_renewal()

    lease.release(run)

    assert not wait_for(terminated, 2.0)


def test_g12_a_run_to_be_cancelled_is_told_once(server: Server, terminated: threading.Event) -> None:
    """A run in CANCELLING is still renewed; its process is told by one SIGTERM."""
    run = uuid7()
    server.answer["cancelling"] = [str(run)]
    lease.hold(run, 1, LEASE, server)

    assert wait_for(terminated)
    assert lease.fate(run) == "cancelling"
    terminated.clear()
    assert server.next_renewal()
    assert server.next_renewal()
    assert not terminated.is_set()


def test_g6_a_server_that_is_away_crashes_nothing(server: Server, terminated: threading.Event) -> None:
    """Failed renewals are tried again, and bring no signal."""
    server.status = 503
    lease.hold(uuid7(), 1, LEASE, server)
    assert server.wait(lambda: server.renewed >= 3)
    server.status = 200

    assert server.next_renewal()
    assert not terminated.is_set()


def test_s9_the_login_is_not_in_the_command_line(server: Server) -> None:
    """The child is given the login through its input, and uses it."""
    with temporary_settings({"api.auth_string": "me:canary-1234"}):
        lease.hold(uuid7(), 1, LEASE, server)

    assert server.next_renewal()
    assert server.headers["Authorization"].startswith("Basic ")
    (keeper,) = lease._keepers.values()
    assert isinstance(keeper, lease.ProcessKeeper)
    for place in ("cmdline", "environ"):
        assert b"canary" not in Path(f"/proc/{keeper._process}/{place}").read_bytes()


def test_a_renewer_that_died_is_replaced(server: Server) -> None:
    """If the child is killed, the next hold or release starts another, which knows all leases."""
    first, second = uuid7(), uuid7()
    lease.hold(first, 1, LEASE, server)
    (keeper,) = lease._keepers.values()
    assert isinstance(keeper, lease.ProcessKeeper)
    os.kill(keeper._process, signal.SIGKILL)
    os.waitid(os.P_PID, keeper._process, os.WEXITED | os.WNOWAIT)

    lease.hold(second, 2, LEASE, server)

    assert server.wait(lambda: {one["id"] for one in server.leases} == {str(first), str(second)})


def test_g6_a_forked_child_does_not_keep_a_lease_alive(server: Server) -> None:
    """A process that dies is not renewed for, although a child that it forked lives on."""
    run = uuid7()
    process = run_holding(server, run, "import os\nif os.fork() == 0:\n    signal.alarm(20)\nsignal.pause()")
    assert server.next_renewal()

    process.kill()
    process.wait()

    server.next_renewal(LEASE / 3)
    assert not server.next_renewal(2 * LEASE)
