"""Interrupts: signals and cancellations end runs in the right state, whatever they hit."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from headrace import flow, get_client, task
from headrace.engine.interrupts import gate, signals_raise
from headrace.exceptions import Abort, CrashedRun, TerminationSignal
from headrace.runtime import flow_run
from headrace.schemas.flow_runs import READ_FLOW_RUN, SET_FLOW_RUN_STATE, SetFlowRunState
from headrace.schemas.states import StateCreate, StateType
from tests.unit.engine import recorded

FOR_EVER = 30.0


def terminate_soon() -> None:
    """Send SIGTERM to this process from another thread, as a worker does."""
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()


def last(run_id: list[Any]) -> Any:
    """The flow run as the API has it."""
    return get_client().call(READ_FLOW_RUN, id=run_id[0])


def test_sigterm_crashes_a_synchronous_flow_and_its_tasks() -> None:
    """The task that it was in is Crashed too, and the caller gets `TerminationSignal`."""
    ids: list[Any] = []

    @task
    def slow() -> None:
        terminate_soon()
        time.sleep(FOR_EVER)

    @flow
    def body() -> None:
        ids.append(flow_run.id)
        slow()

    with pytest.raises(TerminationSignal):
        body()

    assert (last(ids).state_name, last(ids).state.message) == (
        "Crashed",
        "Execution was aborted by a termination signal.",
    )
    assert [run.state_name for run in recorded.task_runs(last(ids).id)] == ["Crashed"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_crashes_an_asynchronous_flow() -> None:
    """Its coroutine is cancelled; what it waits for ends in order."""
    ids: list[Any] = []
    ended = []

    @flow
    async def body() -> None:
        ids.append(flow_run.id)
        terminate_soon()
        try:
            await asyncio.sleep(FOR_EVER)
        finally:
            ended.append("cleanup")

    with pytest.raises(TerminationSignal):
        asyncio.run(body())

    assert last(ids).state_name == "Crashed"
    assert ended == ["cleanup"]


def test_sigterm_stops_submitted_tasks() -> None:
    """Those that run are interrupted, those that wait for a thread never begin."""
    ids: list[Any] = []
    began = threading.Event()

    @task
    def busy() -> None:
        began.set()
        while True:
            time.sleep(0.01)

    @flow
    def body() -> None:
        ids.append(flow_run.id)
        busy.submit()
        began.wait()
        terminate_soon()
        time.sleep(FOR_EVER)

    with pytest.raises(TerminationSignal):
        body()

    assert [run.state_name for run in recorded.task_runs(last(ids).id)] == ["Crashed"]


def test_a_run_that_is_being_cancelled_ends_as_cancelled() -> None:
    """When the API says CANCELLING, the signal means cancelling, and calls the hooks for that."""
    ids: list[Any] = []
    hooks = []

    @flow(on_cancellation=[lambda *_: hooks.append("cancelled")], on_crashed=[lambda *_: hooks.append("crashed")])
    def body() -> None:
        ids.append(flow_run.id)
        state = StateCreate(type=StateType.CANCELLING, name="Cancelling")
        get_client().call(SET_FLOW_RUN_STATE, id=flow_run.id, body=SetFlowRunState(state=state, force=True))
        terminate_soon()
        time.sleep(FOR_EVER)

    with pytest.raises(TerminationSignal):
        body()

    assert last(ids).state_name == "Cancelled"
    assert hooks == ["cancelled"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt, "Execution was aborted by an interrupt signal."),
        (SystemExit, "Execution was aborted by Python system exit call."),
    ],
)
def test_leaving_by_other_ways_is_a_crash(error: type[BaseException], message: str) -> None:
    """^C and `sys.exit` are no failures of the flow; they go on to the caller."""
    ids: list[Any] = []

    @flow
    def body() -> None:
        ids.append(flow_run.id)
        raise error

    with pytest.raises(error):
        body()

    assert (last(ids).state_name, last(ids).state.message) == ("Crashed", message)


def test_a_cancelled_coroutine_is_a_crash_of_its_task() -> None:
    """asyncio's cancellation ends the task run as Crashed and goes on to whoever awaited it."""

    @task
    async def slow() -> None:
        await asyncio.sleep(FOR_EVER)

    @flow
    async def body() -> str:
        running = asyncio.ensure_future(slow())
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return "went on"

    state = asyncio.run(body(return_state=True))

    assert state.result() == "went on"
    (run,) = recorded.task_runs(state.state_details.flow_run_id)
    assert run.state_name == "Crashed"
    assert run.state is not None
    assert isinstance(run.state.result(raise_on_failure=False), CrashedRun)


def test_g4_an_attempt_that_was_replaced_ends_by_abort() -> None:
    """When another attempt has claimed the run, the final state of this one is refused and the caller gets Abort."""
    ids: list[Any] = []
    hooks = []

    @flow(on_completion=[lambda *_: hooks.append(1)])
    def body() -> None:
        ids.append(flow_run.id)
        state = StateCreate(type=StateType.SCHEDULED, name="Scheduled")
        get_client().call(SET_FLOW_RUN_STATE, id=flow_run.id, body=SetFlowRunState(state=state, force=True))
        claim = StateCreate(type=StateType.PENDING, name="Pending")
        get_client().call(SET_FLOW_RUN_STATE, id=flow_run.id, body=SetFlowRunState(state=claim, lease_seconds=30))

    with pytest.raises(Abort):
        body()

    assert last(ids).state_name == "Pending"
    assert hooks == []


def test_a_run_that_another_process_runs_is_not_begun() -> None:
    """RUNNING on a run that is RUNNING under a lease is refused."""
    from headrace.engine import recorder
    from headrace.engine.drivers import drive
    from headrace.engine.flow_run import FlowRunning, run_flow

    outcomes = []

    @flow
    def body() -> None:
        again = FlowRunning(
            body, {}, get_client(), recorder.current(), get_client().call(READ_FLOW_RUN, id=flow_run.id)
        )
        outcomes.append(drive(run_flow(again)))

    body()

    assert isinstance(outcomes[0].error, Abort)


def test_an_interrupt_that_finds_the_gate_shut_waits() -> None:
    """While the core thinks nothing is raised; the next effect raises it."""
    with signals_raise():
        mine = gate()
        mine.open = False
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)

        with pytest.raises(TerminationSignal):
            mine.enter()
        mine.open = True


SCRIPT = """
import time
from headrace import flow, task

@task
def slow():
    print("ready", flush=True)
    time.sleep(30)

@flow(name="signalled")
def body():
    slow()

body()
"""


def test_a_script_that_is_terminated_leaves_a_true_record(tmp_path: Path) -> None:
    """SIGTERM to `python script.py`: flow and task are Crashed, and the process ends with an error."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "HEADRACE_HOME": str(tmp_path / "home")}
    process = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    process.send_signal(signal.SIGTERM)

    assert process.wait(20) != 0
    process.stdout.close()
    from headrace.schemas.flow_runs import READ_FLOW_RUNS, ReadFlowRuns
    from headrace.settings import temporary_settings

    with temporary_settings(home=str(tmp_path / "home")):
        (run,) = get_client().call(READ_FLOW_RUNS, body=ReadFlowRuns())
        assert run.state_name == "Crashed"
        assert [one.state_name for one in recorded.task_runs(run.id)] == ["Crashed"]
