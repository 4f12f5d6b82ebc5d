"""`kill -9` of a flow's process, of a worker and of the server, in mid-run, with real processes.

Leases are two seconds here; the guarantee is lease + 5 s.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.crash.processes import PATIENCE, WITHIN, Installation, kill, wait_for, write_script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def held_process(headrace: Installation) -> int:
    """The process of the flow, once it waits in the middle."""
    return int(wait_for(lambda: (headrace.home / "holding").read_text(), message=headrace.summary()))


def let_go(headrace: Installation) -> None:
    """Let the flow go on."""
    (headrace.home / "go").touch()


def deploy(headrace: Installation, options: str = "") -> str:
    """Deploy the held flow to the pool `main` and return the deployment's name."""
    write_script(headrace.home, options)
    headrace.command("work-pool", "create", "main", "--type", "process", "--overwrite")
    headrace.command("deploy", "held.py:held", "--name", "test", "--pool", "main")
    return "held/test"


def seconds_between(earlier: float, run: dict[str, Any]) -> float:
    """From a moment (seconds since 1970) to the run's present state."""
    from datetime import datetime

    return datetime.fromisoformat(run["state"]["timestamp"]).timestamp() - earlier


def test_g6_a_killed_flow_is_crashed(headrace: Installation) -> None:
    """A flow run by hand and killed is CRASHED within its lease and five seconds, with its open task."""
    process = headrace.start_flow(write_script(headrace.home, pause=1.2))
    held_process(headrace)
    run = headrace.wait_for_run("RUNNING")

    killed = time.time()
    kill(process)
    crashed = headrace.wait_for_run("CRASHED", seconds=WITHIN + 1)

    assert seconds_between(killed, crashed) <= WITHIN
    assert "RUNNING" not in headrace.task_states(run["id"])


def test_g11_what_was_recorded_before_a_kill_is_there(headrace: Installation) -> None:
    """Task states and log lines written a second before the kill arrive, once and in order."""
    process = headrace.start_flow(write_script(headrace.home, pause=1.2))
    held_process(headrace)
    kill(process)
    run = headrace.wait_for_run("CRASHED")

    lines = [line for line in headrace.logs(run["id"]) if line.startswith("step ")]
    states = headrace.task_states(run["id"])

    assert lines == [f"step {number}" for number in range(20)]
    assert states.count("COMPLETED") == 20


def test_g6_a_killed_run_of_a_worker_is_crashed_at_once(headrace: Installation) -> None:
    """The worker sees its child die and reports it, long before the lease runs out."""
    name = deploy(headrace)
    headrace.start_worker()
    headrace.command("deployment", "run", name)
    child = held_process(headrace)

    os.kill(child, signal.SIGKILL)
    run = headrace.wait_for_run("CRASHED", seconds=WITHIN)

    assert "9" in run["state"]["message"] or "KILL" in run["state"]["message"].upper()


def test_g2_a_killed_worker_leaves_nothing_behind(headrace: Installation) -> None:
    """Its run ends with it and is CRASHED within lease + 5 s; a new worker carries out what comes next."""
    name = deploy(headrace)
    worker = headrace.start_worker()
    headrace.command("deployment", "run", name)
    child = held_process(headrace)

    killed = time.time()
    kill(worker)
    run = headrace.wait_for_run("CRASHED", seconds=WITHIN + 1)

    assert seconds_between(killed, run) <= WITHIN
    wait_for(lambda: not Path(f"/proc/{child}").exists(), seconds=5, message="the worker's child lives on")
    let_go(headrace)
    headrace.start_worker("second")
    headrace.command("deployment", "run", name)
    headrace.wait_for_run("COMPLETED")


def test_g6_a_killed_server_crashes_nothing(headrace: Installation) -> None:
    """A flow goes on while the server is dead; when it is back everything has been recorded, once and in order."""
    server = headrace.processes[0]
    flow = headrace.start_flow(write_script(headrace.home))
    held_process(headrace)
    run = headrace.wait_for_run("RUNNING")

    kill(server)
    let_go(headrace)
    time.sleep(3.0)  # longer than the lease
    headrace.start_server()
    finished = headrace.wait_for_run("COMPLETED", "CRASHED", "FAILED")
    flow.wait(timeout=PATIENCE)

    assert finished["state_type"] == "COMPLETED", finished["state"]
    assert [line for line in headrace.logs(run["id"]) if line.startswith("step ")] == [f"step {n}" for n in range(40)]
    assert headrace.task_states(run["id"]).count("COMPLETED") == 41


def test_g2_a_worker_survives_its_server(headrace: Installation) -> None:
    """A worker whose server is killed and started again goes on, and its run completes."""
    name = deploy(headrace)
    headrace.start_worker()
    headrace.command("deployment", "run", name)
    held_process(headrace)

    kill(headrace.processes[0])
    time.sleep(1.0)
    headrace.start_server()
    let_go(headrace)
    headrace.wait_for_run("COMPLETED", "CRASHED", "FAILED")
    headrace.command("deployment", "run", name)
    headrace.wait_for_run("COMPLETED")

    assert [run["state_type"] for run in headrace.runs()] == ["COMPLETED", "COMPLETED"]


def test_g12_a_cancelled_run_ends(headrace: Installation) -> None:
    """Cancelling a run of a worker ends its process, and the run is CANCELLED."""
    name = deploy(headrace)
    headrace.start_worker()
    headrace.command("deployment", "run", name)
    child = held_process(headrace)
    run = headrace.wait_for_run("RUNNING")

    headrace.command("flow-run", "cancel", run["id"])
    headrace.wait_for_run("CANCELLED", run_id=run["id"])

    wait_for(lambda: not Path(f"/proc/{child}").exists(), seconds=10, message="the cancelled process lives on")


def test_g4_a_replaced_attempt_stops(headrace: Installation) -> None:
    """A process frozen for longer than its lease is crashed; woken again, it may write nothing more and ends."""
    process = headrace.start_flow(write_script(headrace.home))
    held_process(headrace)
    run = headrace.wait_for_run("RUNNING")

    os.killpg(process.pid, signal.SIGSTOP)
    headrace.wait_for_run("CRASHED", seconds=WITHIN + 1)
    let_go(headrace)
    os.killpg(process.pid, signal.SIGCONT)
    process.wait(timeout=PATIENCE)

    assert headrace.call("GET", f"/flow_runs/{run['id']}")["state_type"] == "CRASHED"


def test_g2_a_worker_drains(headrace: Installation) -> None:
    """A worker told to stop takes nothing more, lets its run finish, and ends."""
    name = deploy(headrace)
    worker = headrace.start_worker()
    headrace.command("deployment", "run", name)
    held_process(headrace)

    worker.send_signal(signal.SIGTERM)
    headrace.command("deployment", "run", name)
    time.sleep(1.0)
    let_go(headrace)
    worker.wait(timeout=PATIENCE)

    assert sorted(run["state_type"] for run in headrace.runs()) == ["COMPLETED", "SCHEDULED"]
