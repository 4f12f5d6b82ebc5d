"""Retries, time limits and hooks: what happens when a step does not work at once."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from headrace import flow, task
from headrace.states import Completed, Failed
from headrace.tasks import exponential_backoff


def attempts(*outcomes: Any) -> Iterator[Any]:
    """What a flaky step comes to, attempt by attempt."""
    return iter(outcomes)


def raise_or_return(outcome: Any) -> Any:
    """Raise an exception, return anything else."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def test_a_failing_task_is_tried_again() -> None:
    """A task with retries runs again when it raises; its caller sees only the last result."""
    outcomes = attempts(ConnectionError(), "done")

    @task(retries=1)
    def fetch() -> str:
        return str(raise_or_return(next(outcomes)))

    assert flow(fetch)() == "done"


def test_there_can_be_a_pause_between_attempts() -> None:
    """One delay, a list of delays, or a function that makes them."""
    outcomes = attempts(ConnectionError(), ConnectionError(), "done")

    @task(retries=2, retry_delay_seconds=exponential_backoff(backoff_factor=0.001), retry_jitter_factor=0.5)
    def fetch() -> str:
        return str(raise_or_return(next(outcomes)))

    assert fetch() == "done"


def test_a_condition_can_say_which_errors_are_worth_a_retry() -> None:
    """It sees the failed state, and in it the error."""

    def is_temporary(_task: Any, _run: Any, state: Any) -> bool:
        return isinstance(state.result(raise_on_failure=False), ConnectionError)

    outcomes = attempts(ConnectionError(), KeyError("no such page"), "never reached")

    @task(retries=5, retry_condition_fn=is_temporary)
    def fetch() -> str:
        return str(raise_or_return(next(outcomes)))

    with pytest.raises(KeyError):
        fetch()


def test_a_flow_can_be_tried_again_without_repeating_what_is_done() -> None:
    """Tasks whose results are persisted are not run again when their flow is."""
    loaded = []
    outcomes = attempts(RuntimeError("out of memory"), "report")

    @task(persist_result=True)
    def load(table: str) -> str:
        loaded.append(table)
        return table

    @flow(retries=1)
    def nightly() -> str:
        load("flights")
        load("weather")
        return str(raise_or_return(next(outcomes)))

    assert nightly() == "report"
    assert loaded == ["flights", "weather"]


def test_a_time_limit_ends_what_takes_too_long() -> None:
    """The run fails as TimedOut."""

    @task(timeout_seconds=0.05)
    def slow() -> None:
        time.sleep(30)

    state = slow(return_state=True)

    assert state.name == "TimedOut"
    with pytest.raises(TimeoutError):
        state.result()


def test_a_hook_is_told_how_a_run_ended() -> None:
    """Hooks get the flow, the run and its state."""
    told = []

    def tell(_flow: Any, run: Any, state: Any) -> None:
        told.append((run.parameters, state.name))

    @flow(on_failure=[tell])
    def nightly(day: str) -> None:
        raise RuntimeError(day)

    nightly("monday", return_state=True)

    assert told == [({"day": "monday"}, "Failed")]


def test_a_flow_can_say_itself_how_it_ended() -> None:
    """A flow that returns a state ends in that state."""

    @flow
    def check(rows: int) -> Any:
        return Completed(message=f"{rows} rows", data=rows) if rows else Failed(message="The table is empty.")

    assert check(3) == 3
    assert check(0, return_state=True).message == "The table is empty."
