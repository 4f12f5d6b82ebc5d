"""Time limits: what is interrupted, and what the run says then."""

import asyncio
import threading
import time
from typing import Any

import pytest

from headrace import flow, task
from headrace.engine.timeouts import TimeLimit, TimeLimitReached
from tests.unit.engine import recorded

FOR_EVER = 30.0


def test_a_task_is_interrupted_in_the_main_thread() -> None:
    """A call that blocks is broken off; the run is Failed as TimedOut."""

    @task(timeout_seconds=0.05)
    def slow() -> None:
        time.sleep(FOR_EVER)

    state = slow(return_state=True)

    assert (state.type.value, state.name) == ("FAILED", "TimedOut")
    assert state.message == "Task run exceeded timeout of 0.05 second(s)"
    with pytest.raises(TimeoutError):
        state.result()


def test_a_submitted_task_is_interrupted_in_its_thread() -> None:
    """In other threads Python code is interrupted as soon as it runs."""

    @task(timeout_seconds=0.05)
    def slow() -> None:
        end = time.monotonic() + FOR_EVER
        while time.monotonic() < end:
            threading.Event().wait(0.01)

    @flow
    def body() -> Any:
        return slow.submit(return_state=True).name

    assert body() == "TimedOut"


def test_an_asynchronous_task_is_cancelled() -> None:
    """asyncio cancels what it waits for."""

    @task(timeout_seconds=0.05)
    async def slow() -> None:
        await asyncio.sleep(FOR_EVER)

    @flow
    async def body() -> Any:
        return (await slow(return_state=True)).name

    assert asyncio.run(body()) == "TimedOut"


def test_a_flow_is_interrupted_with_the_task_inside_of_it() -> None:
    """The flow is TimedOut; the task that it was in is Crashed, and not left as Running."""

    @task
    def slow() -> None:
        time.sleep(FOR_EVER)

    state = flow(timeout_seconds=0.05)(lambda: slow())(return_state=True)

    assert (state.type.value, state.name) == ("FAILED", "TimedOut")
    assert state.message == "Flow run exceeded timeout of 0.05 second(s)"
    (run,) = recorded.task_runs(state.state_details.flow_run_id)
    assert run.state_name == "Crashed"


def test_a_flow_that_timed_out_calls_off_its_tasks() -> None:
    """What it had submitted is interrupted, so the flow ends in time."""

    @task
    def busy() -> None:
        end = time.monotonic() + FOR_EVER
        while time.monotonic() < end:
            threading.Event().wait(0.01)

    @flow(timeout_seconds=0.1)
    def body() -> None:
        busy.submit().wait()

    state = body(return_state=True)

    assert state.name == "TimedOut"
    (run,) = recorded.task_runs(state.state_details.flow_run_id)
    assert run.state_name == "Crashed"


def test_a_users_own_timeout_error_is_an_ordinary_failure() -> None:
    """Only the limit makes a run TimedOut."""

    @flow(timeout_seconds=60)
    def body() -> None:
        raise TimeoutError("of mine")

    assert body(return_state=True).name == "Failed"


def test_catching_every_exception_does_not_swallow_the_limit() -> None:
    """What is raised inside is no `Exception`."""

    @flow(timeout_seconds=0.05)
    def body() -> None:
        while True:
            try:
                time.sleep(FOR_EVER)
            except Exception:
                continue

    assert body(return_state=True).name == "TimedOut"


def test_retries_follow_a_timeout() -> None:
    """A task that timed out is tried again like one that raised."""
    attempts = []

    @task(timeout_seconds=0.05, retries=1)
    def slow_once() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            time.sleep(FOR_EVER)
        return "done"

    assert slow_once() == "done"


@pytest.mark.parametrize(("outer", "inner", "first"), [(0.05, FOR_EVER, "outer"), (FOR_EVER, 0.05, "inner")])
def test_of_nested_limits_each_knows_its_own(outer: float, inner: float, first: str) -> None:
    """The limit that is reached is the one that is raised, and the other one is put back as it was."""
    limits = {}
    with pytest.raises(TimeLimitReached) as raised, TimeLimit(outer) as limits["outer"]:  # noqa: SIM117
        with TimeLimit(inner) as limits["inner"]:
            time.sleep(FOR_EVER)

    assert raised.value.limit is limits[first]
