"""Leases with real processes: only the dead lose them.  # G4, G6"""

import signal
from pathlib import Path

import pytest

from tests.crash.processes import LEASE, WITHIN, Installation, kill, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

BUSY = """
import time
from headrace import flow, task

@task
def hold_the_interpreter():
    until = time.time() + {seconds}
    while time.time() < until:
        sum(range(40_000_000))  # C code: no other Python thread runs meanwhile

@flow
def busy():
    hold_the_interpreter()

busy()
"""

WAITING = """
import time
from pathlib import Path
from headrace import flow

@flow
def waiting():
    Path("began").touch()
    for _ in range(600):
        time.sleep(0.1)

waiting()
"""


def script(headrace: Installation, name: str, text: str) -> Path:
    """A file with a program."""
    path = headrace.home / f"{name}.py"
    path.write_text(text)
    return path


def test_g6_a_task_that_holds_the_interpreter_completes(headrace: Installation) -> None:
    """A flow whose C code lets no thread run for several leases is not taken for dead."""
    process = headrace.start_flow(script(headrace, "busy", BUSY.format(seconds=3 * LEASE)))

    run = headrace.wait_for_run("COMPLETED", "CRASHED", "FAILED")

    assert run["state_type"] == "COMPLETED", headrace.summary()
    assert process.wait(30) == 0


def test_g4_a_frozen_process_loses_its_run_and_stops(headrace: Installation) -> None:
    """A process that was stopped for longer than its lease is crashed; when it goes on, it ends and changes nothing."""
    process = headrace.start_flow(script(headrace, "waiting", WAITING))
    wait_for(lambda: (headrace.home / "began").exists(), message=headrace.summary())

    process.send_signal(signal.SIGSTOP)
    crashed = headrace.wait_for_run("CRASHED", seconds=WITHIN + LEASE)
    process.send_signal(signal.SIGCONT)

    assert process.wait(30) != 0
    again = headrace.wait_for_run("CRASHED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
    assert again["state_id"] == crashed["state_id"]
    kill(process)
